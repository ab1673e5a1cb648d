#include "api/quantity.h"

#include <array>
#include <charconv>
#include <cmath>
#include <limits>

#include "base/strings.h"

namespace keelson::api {
namespace {

using Int = __int128;

constexpr int kNanoExponent = -9;
constexpr Int kNano = 1'000'000'000;
constexpr Int kMaxNanos = static_cast<Int>(std::numeric_limits<int64_t>::max()) * kNano;
// Far above the cap; keeps intermediate products inside 128 bits.
constexpr Int kHuge = kMaxNanos * 1'000'000;
constexpr size_t kMaxQuantityBytes = 256;

constexpr char kErrorFormat[] =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
constexpr char kErrorNumeric[] = "unable to parse numeric part of quantity";
constexpr char kErrorSuffix[] = "unable to parse quantity's suffix";

struct Suffix {
  int base = 10;
  int exponent = 0;
  Quantity::Format format = Quantity::Format::kDecimalSI;
};

bool ParseSuffix(std::string_view text, Suffix* out) {
  struct Named {
    std::string_view name;
    int base;
    int exponent;
  };
  static constexpr std::array<Named, 17> kNamed = {{{"n", 10, -9},
                                                    {"u", 10, -6},
                                                    {"m", 10, -3},
                                                    {"", 10, 0},
                                                    {"k", 10, 3},
                                                    {"M", 10, 6},
                                                    {"G", 10, 9},
                                                    {"T", 10, 12},
                                                    {"P", 10, 15},
                                                    {"E", 10, 18},
                                                    {"Ki", 2, 10},
                                                    {"Mi", 2, 20},
                                                    {"Gi", 2, 30},
                                                    {"Ti", 2, 40},
                                                    {"Pi", 2, 50},
                                                    {"Ei", 2, 60},
                                                    {"K", 0, 0}}};
  for (const Named& named : kNamed) {
    if (named.name != text) continue;
    if (named.base == 0) return false;
    *out = {named.base, named.exponent,
            named.base == 2 ? Quantity::Format::kBinarySI : Quantity::Format::kDecimalSI};
    return true;
  }
  if (text.size() < 2 || (text[0] != 'e' && text[0] != 'E')) return false;
  text.remove_prefix(1);
  if (text[0] == '+') text.remove_prefix(1);
  int exponent = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), exponent);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) return false;
  *out = {10, exponent, Quantity::Format::kDecimalExponent};
  return true;
}

struct Parts {
  bool negative = false;
  std::string digits;  // integer and fraction digits without leading zeros
  int fraction_digits = 0;
  Suffix suffix;
};

absl::Status Split(std::string_view text, Parts* parts) {
  if (text.empty() || text.size() > kMaxQuantityBytes) return absl::InvalidArgumentError(kErrorFormat);
  size_t pos = 0;
  if (text[0] == '+' || text[0] == '-') {
    parts->negative = text[0] == '-';
    ++pos;
  }
  const size_t number_start = pos;
  bool point = false;
  size_t seen = 0;
  for (; pos < text.size(); ++pos) {
    const char c = text[pos];
    if (c == '.') {
      if (point) return absl::InvalidArgumentError(kErrorFormat);
      point = true;
      continue;
    }
    if (c < '0' || c > '9') break;
    ++seen;
    if (point) ++parts->fraction_digits;
    if (c != '0' || !parts->digits.empty()) parts->digits += c;
  }
  if (pos == number_start) return absl::InvalidArgumentError(kErrorFormat);
  if (seen == 0) return absl::InvalidArgumentError(kErrorNumeric);
  const std::string_view suffix = text.substr(pos);
  if (suffix.find_first_not_of("eEinumkKMGTP+-0123456789") != std::string_view::npos) {
    return absl::InvalidArgumentError(kErrorFormat);
  }
  if (!ParseSuffix(suffix, &parts->suffix)) return absl::InvalidArgumentError(kErrorSuffix);
  return absl::OkStatus();
}

// digits * 10^exponent10 * 2^exponent2 in billionths, away from zero; capped.
Int ToNanos(const Parts& parts) {
  int exponent10 =
      (parts.suffix.base == 10 ? parts.suffix.exponent : 0) - parts.fraction_digits - kNanoExponent;
  const int exponent2 = parts.suffix.base == 2 ? parts.suffix.exponent : 0;
  Int value = 0;
  bool sticky = false;  // something nonzero was cut off
  for (char c : parts.digits) {
    if (value >= kHuge) {  // more digits than the cap can have: count them as scale
      ++exponent10;
      sticky = sticky || c != '0';
      continue;
    }
    value = value * 10 + (c - '0');
  }
  if (value == 0) return 0;
  // The power of two first, in steps, so that nothing is lost before dividing.
  int twos = exponent2;
  while (twos > 0) {
    if (value > kHuge * 1000) {
      if (exponent10 >= 0) return kMaxNanos;
      sticky = sticky || value % 10 != 0;
      value /= 10;
      ++exponent10;
      continue;
    }
    value *= 2;
    --twos;
  }
  while (exponent10 > 0) {
    if (value > kMaxNanos) return kMaxNanos;
    value *= 10;
    --exponent10;
  }
  while (exponent10 < 0 && value != 0) {
    sticky = sticky || value % 10 != 0;
    value /= 10;
    ++exponent10;
  }
  if (sticky) ++value;
  return value > kMaxNanos ? kMaxNanos : value;
}

std::string Int128ToString(Int value) {
  if (value == 0) return "0";
  const bool negative = value < 0;
  unsigned __int128 u =
      negative ? -static_cast<unsigned __int128>(value) : static_cast<unsigned __int128>(value);
  std::string out;
  while (u != 0) {
    out += static_cast<char>('0' + static_cast<int>(u % 10));
    u /= 10;
  }
  if (negative) out += '-';
  return {out.rbegin(), out.rend()};
}

Int Saturate(Int value) { return value > kMaxNanos ? kMaxNanos : value < -kMaxNanos ? -kMaxNanos : value; }

// value / unit, away from zero.
Int DivideUp(Int value, Int unit) {
  Int result = value / unit;
  if (value % unit != 0) result += value > 0 ? 1 : -1;
  return result;
}

int64_t ToInt64(Int value) {
  if (value > std::numeric_limits<int64_t>::max()) return std::numeric_limits<int64_t>::max();
  if (value < std::numeric_limits<int64_t>::min()) return std::numeric_limits<int64_t>::min();
  return static_cast<int64_t>(value);
}

}  // namespace

Quantity Quantity::FromValue(int64_t value, Format format) {
  Quantity q;
  q.nanos_ = static_cast<Int>(value) * kNano;
  q.format_ = format;
  return q;
}

Quantity Quantity::FromMilli(int64_t milli, Format format) {
  Quantity q;
  q.nanos_ = static_cast<Int>(milli) * (kNano / 1000);
  q.format_ = format;
  return q;
}

absl::StatusOr<Quantity> Quantity::Parse(std::string_view text) {
  Parts parts;
  absl::Status status = Split(text, &parts);
  if (!status.ok()) return status;
  Quantity q;
  q.nanos_ = ToNanos(parts);
  q.format_ = parts.suffix.format;
  // Upstream changes a binary amount below one to decimal, where it can be said exactly.
  if (q.format_ == Format::kBinarySI && q.nanos_ < kNano && q.nanos_ > 0) q.format_ = Format::kDecimalSI;
  if (parts.negative) q.nanos_ = -q.nanos_;
  return q;
}

Quantity Quantity::Of(const ::k8s::api::resource::Quantity& q) {
  absl::StatusOr<Quantity> parsed = Parse(q.string());
  return parsed.ok() ? *parsed : Quantity();
}

std::string Quantity::ToString() const {
  if (nanos_ == 0) return "0";
  Format format = format_;
  if (format == Format::kBinarySI) {
    const bool small = nanos_ > -1024 * kNano && nanos_ < 1024 * kNano;
    if (small || nanos_ % kNano != 0) format = Format::kDecimalSI;
  }
  if (format == Format::kBinarySI) {
    Int value = nanos_ / kNano;
    size_t power = 0;
    while (value % 1024 == 0 && power < 6) {
      value /= 1024;
      ++power;
    }
    static constexpr std::array<std::string_view, 7> kSuffixes = {"", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"};
    return StrCat(Int128ToString(value), kSuffixes[power]);
  }
  Int value = nanos_;
  int exponent = kNanoExponent;
  while (value % 1000 == 0 && exponent < 18) {
    value /= 1000;
    exponent += 3;
  }
  if (format == Format::kDecimalExponent) {
    return exponent == 0 ? Int128ToString(value) : absl::StrCat(Int128ToString(value), "e", exponent);
  }
  static constexpr std::array<std::string_view, 10> kSuffixes = {"n", "u", "m", "",  "k",
                                                                 "M", "G", "T", "P", "E"};
  return StrCat(Int128ToString(value), kSuffixes[static_cast<size_t>((exponent + 9) / 3)]);
}

::k8s::api::resource::Quantity Quantity::ToProto() const {
  ::k8s::api::resource::Quantity q;
  q.set_string(ToString());
  return q;
}

int64_t Quantity::Value() const { return ToInt64(DivideUp(nanos_, kNano)); }
int64_t Quantity::MilliValue() const { return ToInt64(DivideUp(nanos_, kNano / 1000)); }
double Quantity::ToDouble() const { return static_cast<double>(nanos_) / static_cast<double>(kNano); }

Quantity& Quantity::Add(const Quantity& other) {
  if (nanos_ == 0) format_ = other.format_;
  nanos_ = Saturate(nanos_ + other.nanos_);
  return *this;
}

Quantity& Quantity::Sub(const Quantity& other) {
  if (nanos_ == 0) format_ = other.format_;
  nanos_ = Saturate(nanos_ - other.nanos_);
  return *this;
}

Quantity& Quantity::Neg() {
  nanos_ = -nanos_;
  return *this;
}

Quantity& Quantity::RoundUpToMilli() {
  constexpr Int kMilli = kNano / 1000;
  nanos_ = DivideUp(nanos_, kMilli) * kMilli;
  return *this;
}

absl::StatusOr<std::string> NormalizeQuantityText(std::string_view text) {
  Parts parts;
  absl::Status status = Split(text, &parts);
  if (!status.ok()) return status;
  // Mirrors which inputs upstream reads without its arbitrary-precision path: those keep their text.
  constexpr int kMaxDigits = 18;
  const int digits = static_cast<int>(parts.digits.size());
  bool kept;
  if (parts.suffix.base == 2) {
    kept = parts.fraction_digits == 0 && 15 - digits - parts.suffix.exponent * 3 / 10 - 1 >= 0;
  } else {
    kept = digits <= kMaxDigits && parts.suffix.exponent - parts.fraction_digits >= kNanoExponent;
  }
  if (kept) return std::string(text);
  absl::StatusOr<Quantity> q = Quantity::Parse(text);
  if (!q.ok()) return q.status();
  return q->ToString();
}

}  // namespace keelson::api
