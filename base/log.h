// Structured log lines: time, level, component, message, key=value pairs (CONTRIBUTING 9). logfmt on stderr
// or in a size-bounded, rotated file. Thread-safe.
//   LogInfo("pod started", {{"pod", "default/web"}, {"attempt", 2}});
#pragma once

#include <absl/status/status.h>

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <type_traits>

#include "base/strings.h"

namespace keelson {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

struct LogField {
  std::string_view key;
  std::string value;
  LogField(std::string_view k, std::string_view v) : key(k), value(v) {}
  LogField(std::string_view k, const char* v) : key(k), value(v) {}
  LogField(std::string_view k, const std::string& v) : key(k), value(v) {}
  LogField(std::string_view k, const absl::Status& s) : key(k), value(s.ToString()) {}
  LogField(std::string_view k, bool v) : key(k), value(v ? "true" : "false") {}
  template <class N, class = std::enable_if_t<std::is_arithmetic_v<N> && !std::is_same_v<N, bool>>>
  LogField(std::string_view k, N v) : key(k), value(StrCat(v)) {}
};
using LogFields = std::initializer_list<LogField>;

struct LogOptions {
  std::string component;  // "master", "kubelet", ...
  LogLevel level = LogLevel::kInfo;
  std::string file;                 // "" : stderr
  size_t max_file_bytes = 8 << 20;  // then rotated
  int max_files = 3;
};
void InitLog(const LogOptions& options);
bool LogEnabled(LogLevel level);
void Log(LogLevel level, std::string_view message, LogFields fields);

inline void LogDebug(std::string_view message, LogFields fields = {}) {
  if (LogEnabled(LogLevel::kDebug)) Log(LogLevel::kDebug, message, fields);
}
inline void LogInfo(std::string_view message, LogFields fields = {}) {
  Log(LogLevel::kInfo, message, fields);
}
inline void LogWarning(std::string_view message, LogFields fields = {}) {
  Log(LogLevel::kWarning, message, fields);
}
inline void LogError(std::string_view message, LogFields fields = {}) {
  Log(LogLevel::kError, message, fields);
}

// Logs and aborts; for what only a bug can break (CONTRIBUTING 10).
[[noreturn]] void CheckFailed(const char* file, int line, const char* condition, const std::string& message);
#define KEELSON_CHECK(condition, ...)                                                         \
  do {                                                                                        \
    if (!(condition)) [[unlikely]]                                                            \
      ::keelson::CheckFailed(__FILE__, __LINE__, #condition, ::keelson::StrCat(__VA_ARGS__)); \
  } while (false)

}  // namespace keelson
