#include "api/int_or_string.h"

#include <charconv>

#include "base/strings.h"

namespace keelson::api {
namespace {

bool ParseInt32(std::string_view text, int32_t* value) {
  if (!text.empty() && text[0] == '+') text.remove_prefix(1);
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *value);
  return error == std::errc() && end == text.data() + text.size() && !text.empty();
}

}  // namespace

IntOrString FromInt(int32_t value) {
  IntOrString out;
  out.set_int_val(value);
  return out;
}

IntOrString FromString(std::string_view value) {
  IntOrString out;
  out.set_type(kIntOrStringString);
  out.set_str_val(std::string(value));
  return out;
}

IntOrString ParseIntOrString(std::string_view text) {
  int32_t value;
  return ParseInt32(text, &value) ? FromInt(value) : FromString(text);
}

std::string ToString(const IntOrString& v) { return IsInt(v) ? absl::StrCat(v.int_val()) : v.str_val(); }

int32_t IntValue(const IntOrString& v) {
  if (IsInt(v)) return v.int_val();
  int32_t value;
  return ParseInt32(v.str_val(), &value) ? value : 0;
}

absl::StatusOr<int32_t> ScaledValue(const IntOrString& v, int32_t total, bool round_up) {
  if (IsInt(v)) return v.int_val();
  std::string_view text = v.str_val();
  int32_t percent;
  if (text.empty() || text.back() != '%') {
    return absl::InvalidArgumentError(
        StrCat("invalid value for IntOrString: invalid type: string is not a percentage: \"", text, "\""));
  }
  text.remove_suffix(1);
  if (!ParseInt32(text, &percent)) {
    return absl::InvalidArgumentError(
        StrCat("invalid value for IntOrString: invalid value \"", v.str_val(), "\""));
  }
  const int64_t product = static_cast<int64_t>(percent) * total;
  int64_t result = product / 100;
  if (round_up && product % 100 > 0) ++result;
  if (!round_up && product % 100 < 0) --result;
  return static_cast<int32_t>(result);
}

}  // namespace keelson::api
