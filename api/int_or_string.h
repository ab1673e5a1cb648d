// util.intstr.IntOrString: a number, a name ("http") or a percentage ("25%").
#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "api/util/intstr/int_or_string.pb.h"

namespace keelson::api {

using ::k8s::util::intstr::IntOrString;

inline constexpr int64_t kIntOrStringInt = 0;
inline constexpr int64_t kIntOrStringString = 1;

IntOrString FromInt(int32_t value);
IntOrString FromString(std::string_view value);
// "80" is an int, everything else a string.
IntOrString ParseIntOrString(std::string_view text);

inline bool IsInt(const IntOrString& v) { return v.type() == kIntOrStringInt; }
std::string ToString(const IntOrString& v);
// The number; of a string its decimal value, 0 when it has none (as upstream's IntValue).
int32_t IntValue(const IntOrString& v);
// The int itself, or the percentage of `total`, rounded up or down. InvalidArgument for another string.
absl::StatusOr<int32_t> ScaledValue(const IntOrString& v, int32_t total, bool round_up);

}  // namespace keelson::api
