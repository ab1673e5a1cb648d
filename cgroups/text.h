// Splitting and number reading for kernel files, on std::string_view; internal to cgroups/.
#pragma once

#include <charconv>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace keelson::cgroups {

inline constexpr std::string_view kSliceSuffix = ".slice";  // systemd's cgroups of cgroups

enum class Empty { kKeep, kSkip };

inline std::vector<std::string_view> Split(std::string_view text, char separator,
                                           Empty empty = Empty::kKeep) {
  std::vector<std::string_view> parts;
  while (true) {
    size_t at = text.find(separator);
    std::string_view part = text.substr(0, at);
    if (empty == Empty::kKeep || !part.empty()) parts.push_back(part);
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + 1);
  }
}

// What is before and after the first `separator`; the second part is empty without one.
inline std::pair<std::string_view, std::string_view> SplitOnce(std::string_view text, char separator) {
  size_t at = text.find(separator);
  if (at == std::string_view::npos) return {text, {}};
  return {text.substr(0, at), text.substr(at + 1)};
}

inline std::string_view StripSpace(std::string_view text) {
  size_t first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

// The whole text, in decimal; false and *value untouched otherwise.
template <class Number>
bool ParseWhole(std::string_view text, Number* value) {
  Number parsed{};
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), parsed);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) return false;
  *value = parsed;
  return true;
}

}  // namespace keelson::cgroups
