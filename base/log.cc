#include "base/log.h"

#include <absl/strings/escaping.h>
#include <spdlog/sinks/rotating_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>

namespace keelson {
namespace {

struct State {
  std::shared_ptr<spdlog::logger> logger;
  std::string component;
};

std::mutex mutex;
std::shared_ptr<State> state;  // replaced whole under the mutex
std::atomic<LogLevel> threshold{LogLevel::kInfo};

std::shared_ptr<State> Current() {
  std::lock_guard lock(mutex);
  if (state == nullptr) {
    state = std::make_shared<State>();
    state->logger = std::make_shared<spdlog::logger>("", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    state->logger->set_pattern("%Y-%m-%dT%H:%M:%S.%fZ %v", spdlog::pattern_time_type::utc);
    state->logger->set_level(spdlog::level::trace);
  }
  return state;
}

bool NeedsQuotes(std::string_view value) {
  if (value.empty()) return true;
  for (unsigned char c : value) {
    if (c <= ' ' || c == '"' || c == '=' || c == '\\' || c == 0x7f) return true;
  }
  return false;
}

void AppendValue(std::string* out, std::string_view value) {
  if (NeedsQuotes(value)) {
    StrAppend(out, "\"", absl::Utf8SafeCEscape(Av(value)), "\"");
  } else {
    out->append(value);
  }
}

char Letter(LogLevel level) { return "DIWE"[static_cast<int>(level)]; }

}  // namespace

void InitLog(const LogOptions& options) {
  auto next = std::make_shared<State>();
  next->component = options.component;
  spdlog::sink_ptr sink;
  if (options.file.empty()) {
    sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
  } else {
    sink = std::make_shared<spdlog::sinks::rotating_file_sink_mt>(options.file, options.max_file_bytes,
                                                                  static_cast<size_t>(options.max_files));
  }
  next->logger = std::make_shared<spdlog::logger>("", std::move(sink));
  next->logger->set_pattern("%Y-%m-%dT%H:%M:%S.%fZ %v", spdlog::pattern_time_type::utc);
  next->logger->set_level(spdlog::level::trace);
  next->logger->flush_on(spdlog::level::trace);
  threshold.store(options.level, std::memory_order_relaxed);
  std::lock_guard lock(mutex);
  state = std::move(next);
}

bool LogEnabled(LogLevel level) { return level >= threshold.load(std::memory_order_relaxed); }

void Log(LogLevel level, std::string_view message, LogFields fields) {
  if (!LogEnabled(level)) return;
  auto current = Current();
  std::string line(1, Letter(level));
  if (!current->component.empty()) StrAppend(&line, " ", current->component);
  StrAppend(&line, " ");
  AppendValue(&line, message);
  for (const LogField& field : fields) {
    StrAppend(&line, " ", field.key, "=");
    AppendValue(&line, field.value);
  }
  current->logger->log(spdlog::level::info, spdlog::string_view_t(line.data(), line.size()));
}

void CheckFailed(const char* file, int line, const char* condition, const std::string& message) {
  Log(LogLevel::kError, "CHECK failed",
      {{"at", StrCat(file, ":", line)}, {"check", condition}, {"detail", message}});
  std::fflush(nullptr);
  std::abort();
}

}  // namespace keelson
