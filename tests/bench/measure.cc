#include "tests/bench/measure.h"

#include <absl/strings/numbers.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "base/fd.h"
#include "base/strings.h"

namespace keelson::bench {

double Percentile(std::vector<double>& samples, double p) {
  if (samples.empty()) return 0;
  std::sort(samples.begin(), samples.end());
  return samples[std::min(samples.size() - 1, static_cast<size_t>(p * static_cast<double>(samples.size())))];
}

double ProcessCpuSeconds(int pid) {
  double total_s = 0;
  std::error_code gone;
  for (const auto& task : std::filesystem::directory_iterator(StrCat("/proc/", pid, "/task"), gone)) {
    absl::StatusOr<std::string> text = ReadFile(task.path().string() + "/schedstat", 4096);
    unsigned long long run_ns = 0;
    if (text.ok() && std::sscanf(text->c_str(), "%llu", &run_ns) == 1)
      total_s += static_cast<double>(run_ns) * 1e-9;
  }
  return total_s;
}

double MachineCpuSeconds() {
  absl::StatusOr<std::string> text = ReadFile("/proc/stat", 1 << 20);
  unsigned long long user = 0, nice = 0, system = 0, idle = 0, iowait = 0, irq = 0, softirq = 0;
  if (!text.ok() || std::sscanf(text->c_str(), "cpu %llu %llu %llu %llu %llu %llu %llu", &user, &nice,
                                &system, &idle, &iowait, &irq, &softirq) != 7) {
    return 0;
  }
  return static_cast<double>(user + nice + system + irq + softirq) /
         static_cast<double>(::sysconf(_SC_CLK_TCK));
}

CpuWindow::CpuWindow(Env* env, int server_pid)
    : env_(env),
      server_pid_(server_pid),
      wall_s_(-absl::ToDoubleSeconds(env->clock().Monotonic())),
      server_s_(-ProcessCpuSeconds(server_pid)),
      loader_s_(-ProcessCpuSeconds(::getpid())),
      others_s_(-MachineCpuSeconds()) {}

void CpuWindow::End() {
  wall_s_ += absl::ToDoubleSeconds(env_->clock().Monotonic());
  server_s_ += ProcessCpuSeconds(server_pid_);
  loader_s_ += ProcessCpuSeconds(::getpid());
  others_s_ = std::max(0.0, others_s_ + MachineCpuSeconds() - server_s_ - loader_s_);
}

Row& Row::Set(std::string_view key, std::string_view text) {
  StrAppend(&text_, text_.empty() ? "" : ",", "\"", key, "\":\"");
  for (char c : text) {
    if (c == '"' || c == '\\') text_.push_back('\\');
    text_.push_back(static_cast<unsigned char>(c) < 0x20 ? ' ' : c);
  }
  text_.push_back('"');
  return *this;
}

Row& Row::Set(std::string_view key, double number) {
  char digits[64];
  std::snprintf(digits, sizeof digits, number < 10 ? "%.3f" : "%.1f", number);
  if (number == static_cast<double>(static_cast<int64_t>(number))) {
    std::snprintf(digits, sizeof digits, "%lld", static_cast<long long>(number));
  }
  StrAppend(&text_, text_.empty() ? "" : ",", "\"", key, "\":", std::string_view(digits));
  return *this;
}

Row& Row::SetCpu(const CpuWindow& window, size_t requests) {
  double count = static_cast<double>(std::max<size_t>(requests, 1));
  Set("server_cpu_ms", window.server_cpu_s() * 1e3 / count);
  Set("loader_cpu_ms", window.loader_cpu_s() * 1e3 / count);
  return Set("others_cpu_percent", window.others_cpu_s() * 100 / window.wall_s());
}

Row& Row::SetLatencies(std::vector<double>& ms) {
  Set("p50_ms", Percentile(ms, 0.5));
  Set("p99_ms", Percentile(ms, 0.99));
  return Set("max_ms", Percentile(ms, 1));
}

void Row::Print() const {
  std::printf("{%s}\n", text_.c_str());
  std::fflush(stdout);
}

Flags::Flags(int argc, char** argv, int first) {
  for (int i = first; i < argc; ++i) words_.push_back(argv[i]);
}

std::string Flags::Get(std::string_view key, std::string otherwise) const {
  for (size_t i = 0; i < words_.size(); ++i) {
    if (words_[i] == key) return i + 1 < words_.size() ? words_[i + 1] : "";
  }
  return otherwise;
}

int Flags::GetInt(std::string_view key, int otherwise) const {
  int number = 0;
  return absl::SimpleAtoi(Get(key), &number) ? number : otherwise;
}

}  // namespace keelson::bench
