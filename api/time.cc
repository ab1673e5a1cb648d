#include "api/time.h"

#include <array>
#include <limits>

#include "base/strings.h"

namespace keelson::api {
namespace {

constexpr int64_t kNanosPerSecond = 1'000'000'000;
constexpr int64_t kSecondsPerDay = 86400;

// Civil date of a day number counted from 1970-01-01 (proleptic Gregorian calendar).
void CivilFromDays(int64_t days, int64_t* year, int* month, int* day) {
  days += 719468;  // to 0000-03-01
  const int64_t era = (days >= 0 ? days : days - 146096) / 146097;
  const int64_t day_of_era = days - era * 146097;
  const int64_t year_of_era =
      (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
  const int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  const int64_t shifted_month = (5 * day_of_year + 2) / 153;
  *day = static_cast<int>(day_of_year - (153 * shifted_month + 2) / 5 + 1);
  *month = static_cast<int>(shifted_month < 10 ? shifted_month + 3 : shifted_month - 9);
  *year = year_of_era + era * 400 + (*month <= 2 ? 1 : 0);
}

int64_t DaysFromCivil(int64_t year, int month, int day) {
  year -= month <= 2 ? 1 : 0;
  const int64_t era = (year >= 0 ? year : year - 399) / 400;
  const int64_t year_of_era = year - era * 400;
  const int64_t day_of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
  const int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
  return era * 146097 + day_of_era - 719468;
}

int DaysInMonth(int64_t year, int month) {
  constexpr std::array<int, 12> kDays = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  const bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
  return month == 2 && leap ? 29 : kDays[static_cast<size_t>(month - 1)];
}

void AppendDigits(int64_t value, int width, std::string& out) {
  std::array<char, 20> digits;
  for (int i = width - 1; i >= 0; --i) {
    digits[static_cast<size_t>(i)] = static_cast<char>('0' + value % 10);
    value /= 10;
  }
  out.append(digits.data(), static_cast<size_t>(width));
}

void AppendDateTime(int64_t seconds, std::string& out) {
  int64_t days = seconds / kSecondsPerDay;
  int64_t rest = seconds % kSecondsPerDay;
  if (rest < 0) {
    rest += kSecondsPerDay;
    --days;
  }
  int64_t year;
  int month, day;
  CivilFromDays(days, &year, &month, &day);
  if (year < 0 || year > 9999) year = year < 0 ? 0 : 9999;  // RFC 3339 has four digits
  AppendDigits(year, 4, out);
  out += '-';
  AppendDigits(month, 2, out);
  out += '-';
  AppendDigits(day, 2, out);
  out += 'T';
  AppendDigits(rest / 3600, 2, out);
  out += ':';
  AppendDigits(rest / 60 % 60, 2, out);
  out += ':';
  AppendDigits(rest % 60, 2, out);
}

struct Instant {
  int64_t seconds = 0;
  int32_t nanos = 0;
};

// Reads `width` digits at *pos.
bool TakeDigits(std::string_view text, size_t* pos, int width, int* value) {
  if (*pos + static_cast<size_t>(width) > text.size()) return false;
  int result = 0;
  for (int i = 0; i < width; ++i) {
    const char c = text[*pos + static_cast<size_t>(i)];
    if (c < '0' || c > '9') return false;
    result = result * 10 + (c - '0');
  }
  *pos += static_cast<size_t>(width);
  *value = result;
  return true;
}

bool TakeChar(std::string_view text, size_t* pos, char want) {
  if (*pos >= text.size() || text[*pos] != want) return false;
  ++*pos;
  return true;
}

absl::StatusOr<Instant> ParseInstant(std::string_view text) {
  auto bad = [&](const char* what) {
    return absl::InvalidArgumentError(
        StrCat("parsing time \"", text.substr(0, 64), "\": ", what, "; want e.g. 2006-01-02T15:04:05Z"));
  };
  size_t pos = 0;
  int year, month, day, hour, minute, second;
  if (!TakeDigits(text, &pos, 4, &year) || !TakeChar(text, &pos, '-') || !TakeDigits(text, &pos, 2, &month) ||
      !TakeChar(text, &pos, '-') || !TakeDigits(text, &pos, 2, &day)) {
    return bad("no date");
  }
  if (!TakeChar(text, &pos, 'T')) return bad("no T after the date");
  if (!TakeDigits(text, &pos, 2, &hour) || !TakeChar(text, &pos, ':') ||
      !TakeDigits(text, &pos, 2, &minute) || !TakeChar(text, &pos, ':') ||
      !TakeDigits(text, &pos, 2, &second)) {
    return bad("no time of day");
  }
  if (month < 1 || month > 12) return bad("month out of range");
  if (day < 1 || day > DaysInMonth(year, month)) return bad("day out of range");
  if (hour > 23) return bad("hour out of range");
  if (minute > 59) return bad("minute out of range");
  if (second > 59) return bad("second out of range");
  Instant out;
  if (pos < text.size() && (text[pos] == '.' || text[pos] == ',')) {
    ++pos;
    const size_t start = pos;
    int64_t scale = kNanosPerSecond;
    for (; pos < text.size() && text[pos] >= '0' && text[pos] <= '9'; ++pos) {
      scale /= 10;
      out.nanos += static_cast<int32_t>((text[pos] - '0') * scale);
    }
    if (pos == start) return bad("no digits after the point");
  }
  int64_t offset_s = 0;
  if (pos < text.size() && text[pos] == 'Z') {
    ++pos;
  } else {
    if (pos >= text.size() || (text[pos] != '+' && text[pos] != '-')) return bad("no time zone");
    const int sign = text[pos++] == '-' ? -1 : 1;
    int offset_h, offset_m;
    if (!TakeDigits(text, &pos, 2, &offset_h) || !TakeChar(text, &pos, ':') ||
        !TakeDigits(text, &pos, 2, &offset_m) || offset_h > 24 || offset_m > 60) {
      return bad("bad time zone");
    }
    offset_s = sign * (offset_h * 3600 + offset_m * 60);
  }
  if (pos != text.size()) return bad("extra text");
  out.seconds =
      DaysFromCivil(year, month, day) * kSecondsPerDay + hour * 3600 + minute * 60 + second - offset_s;
  return out;
}

template <typename T>
absl::Time AbslFrom(const T& t) {
  if (IsZero(t)) return absl::InfinitePast();
  return absl::FromUnixSeconds(t.seconds()) + absl::Nanoseconds(t.nanos());
}

}  // namespace

absl::Time ToAbsl(const ::k8s::meta::v1::Time& t) { return AbslFrom(t); }
absl::Time ToAbsl(const ::k8s::meta::v1::MicroTime& t) { return AbslFrom(t); }
absl::Duration ToAbsl(const ::k8s::meta::v1::Duration& d) { return absl::Nanoseconds(d.duration()); }

::k8s::meta::v1::Time ToApiTime(absl::Time t) {
  ::k8s::meta::v1::Time out;
  if (t == absl::InfinitePast()) return out;
  out.set_seconds(absl::ToUnixSeconds(t));
  return out;
}

::k8s::meta::v1::MicroTime ToApiMicroTime(absl::Time t) {
  ::k8s::meta::v1::MicroTime out;
  if (t == absl::InfinitePast()) return out;
  const int64_t micros = absl::ToUnixMicros(t);
  int64_t seconds = micros / 1'000'000;
  int64_t rest = micros % 1'000'000;
  if (rest < 0) {
    rest += 1'000'000;
    --seconds;
  }
  out.set_seconds(seconds);
  out.set_nanos(static_cast<int32_t>(rest * 1000));
  return out;
}

::k8s::meta::v1::Duration ToApiDuration(absl::Duration d) {
  ::k8s::meta::v1::Duration out;
  out.set_duration(absl::ToInt64Nanoseconds(d));
  return out;
}

void AppendRfc3339(int64_t seconds, std::string& out) {
  AppendDateTime(seconds, out);
  out += 'Z';
}

void AppendRfc3339Micro(int64_t seconds, int32_t nanos, std::string& out) {
  AppendDateTime(seconds, out);
  out += '.';
  AppendDigits(nanos < 0 ? 0 : nanos / 1000, 6, out);
  out += 'Z';
}

std::string FormatTime(const ::k8s::meta::v1::Time& t) {
  std::string out;
  if (!IsZero(t)) AppendRfc3339(t.seconds(), out);
  return out;
}

std::string FormatMicroTime(const ::k8s::meta::v1::MicroTime& t) {
  std::string out;
  if (!IsZero(t)) AppendRfc3339Micro(t.seconds(), t.nanos(), out);
  return out;
}

absl::StatusOr<absl::Time> ParseRfc3339(std::string_view text) {
  absl::StatusOr<Instant> instant = ParseInstant(text);
  if (!instant.ok()) return instant.status();
  return absl::FromUnixSeconds(instant->seconds) + absl::Nanoseconds(instant->nanos);
}

// JSON times have whole seconds upstream: a fraction is cut when written, so it is cut when read.
absl::StatusOr<::k8s::meta::v1::Time> ParseTime(std::string_view text) {
  absl::StatusOr<Instant> instant = ParseInstant(text);
  if (!instant.ok()) return instant.status();
  ::k8s::meta::v1::Time out;
  out.set_seconds(instant->seconds);
  return out;
}

absl::StatusOr<::k8s::meta::v1::MicroTime> ParseMicroTime(std::string_view text) {
  absl::StatusOr<Instant> instant = ParseInstant(text);
  if (!instant.ok()) return instant.status();
  ::k8s::meta::v1::MicroTime out;
  out.set_seconds(instant->seconds);
  out.set_nanos(instant->nanos / 1000 * 1000);
  return out;
}

std::string FormatGoDuration(int64_t nanoseconds) {
  if (nanoseconds == 0) return "0s";
  const bool negative = nanoseconds < 0;
  uint64_t u = negative ? ~static_cast<uint64_t>(nanoseconds) + 1 : static_cast<uint64_t>(nanoseconds);
  std::string out = negative ? "-" : "";
  auto fraction = [&](uint64_t value, uint64_t unit, const char* suffix) {
    absl::StrAppend(&out, value / unit);
    uint64_t rest = value % unit;
    if (rest != 0) {
      std::string digits;
      for (uint64_t scale = unit / 10; scale != 0; scale /= 10)
        digits += static_cast<char>('0' + rest / scale % 10);
      while (digits.back() == '0') digits.pop_back();
      out += '.';
      out += digits;
    }
    out += suffix;
  };
  if (u < kNanosPerSecond) {
    if (u < 1000) {
      fraction(u, 1, "ns");
    } else if (u < 1'000'000) {
      fraction(u, 1000, "\xc2\xb5s");
    } else {
      fraction(u, 1'000'000, "ms");
    }
    return out;
  }
  const uint64_t seconds = u / kNanosPerSecond;
  if (seconds >= 3600) absl::StrAppend(&out, seconds / 3600, "h");
  if (seconds >= 60) absl::StrAppend(&out, seconds / 60 % 60, "m");
  fraction(u % (60 * static_cast<uint64_t>(kNanosPerSecond)), kNanosPerSecond, "s");
  return out;
}

absl::StatusOr<int64_t> ParseGoDuration(std::string_view text) {
  auto bad = [&](const char* what) {
    return absl::InvalidArgumentError(StrCat("time: ", what, " in duration \"", text.substr(0, 64), "\""));
  };
  std::string_view rest = text;
  bool negative = false;
  if (!rest.empty() && (rest[0] == '-' || rest[0] == '+')) {
    negative = rest[0] == '-';
    rest.remove_prefix(1);
  }
  if (rest == "0") return 0;
  if (rest.empty()) return bad("no number");
  __int128 total = 0;
  while (!rest.empty()) {
    __int128 whole = 0, part = 0, scale = 1;
    size_t digits = 0, i = 0;
    for (; i < rest.size() && rest[i] >= '0' && rest[i] <= '9'; ++i, ++digits) {
      whole = whole * 10 + (rest[i] - '0');
      if (whole > std::numeric_limits<int64_t>::max()) return bad("number too large");
    }
    if (i < rest.size() && rest[i] == '.') {
      for (++i; i < rest.size() && rest[i] >= '0' && rest[i] <= '9'; ++i, ++digits) {
        if (scale >= 1'000'000'000'000'000) continue;
        part = part * 10 + (rest[i] - '0');
        scale *= 10;
      }
    }
    if (digits == 0) return bad("no number");
    rest.remove_prefix(i);
    size_t unit_size = 0;
    while (unit_size < rest.size() && rest[unit_size] != '.' &&
           (rest[unit_size] < '0' || rest[unit_size] > '9')) {
      ++unit_size;
    }
    const std::string_view unit = rest.substr(0, unit_size);
    rest.remove_prefix(unit_size);
    int64_t factor = 0;
    if (unit == "ns") factor = 1;
    if (unit == "us" || unit == "\xc2\xb5s" || unit == "\xce\xbcs") factor = 1000;
    if (unit == "ms") factor = 1'000'000;
    if (unit == "s") factor = kNanosPerSecond;
    if (unit == "m") factor = 60 * kNanosPerSecond;
    if (unit == "h") factor = 3600 * kNanosPerSecond;
    if (unit.empty()) return bad("missing unit");
    if (factor == 0) return bad("unknown unit");
    total += whole * factor + part * factor / scale;
    if (total > std::numeric_limits<int64_t>::max()) return bad("number too large");
  }
  return static_cast<int64_t>(negative ? -total : total);
}

}  // namespace keelson::api
