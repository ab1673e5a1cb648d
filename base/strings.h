// Debian's abseil has a string_view of its own, not std::string_view. StrCat and StrAppend here take both;
// Av() turns a std::string_view into abseil's where an absl function wants one.
#pragma once

#include <absl/strings/str_cat.h>
#include <absl/strings/string_view.h>

#include <string>
#include <string_view>
#include <type_traits>

namespace keelson {

inline absl::string_view Av(std::string_view s) { return absl::string_view(s.data(), s.size()); }
inline std::string_view Sv(absl::string_view s) { return std::string_view(s.data(), s.size()); }

namespace internal {
template <class T>
decltype(auto) ToAbsl(const T& value) {
  if constexpr (std::is_same_v<T, std::string_view>) {
    return Av(value);
  } else {
    return (value);
  }
}
}  // namespace internal

template <class... Args>
std::string StrCat(const Args&... args) {
  return absl::StrCat(internal::ToAbsl(args)...);
}

template <class... Args>
void StrAppend(std::string* out, const Args&... args) {
  absl::StrAppend(out, internal::ToAbsl(args)...);
}

}  // namespace keelson
