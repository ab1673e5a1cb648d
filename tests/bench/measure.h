// What the loaders measure with: percentiles, the CPU time of a process, and one JSON line per figure on
// stdout.
#pragma once

#include <absl/time/time.h>

#include <string>
#include <string_view>
#include <vector>

#include "base/env.h"

namespace keelson::bench {

// The p-th part (0..1) of the samples, 0 without any. Sorts.
double Percentile(std::vector<double>& samples, double p);

// Seconds of CPU all threads that live have used (/proc/PID/task/*/schedstat, nanoseconds). 0 when it is
// gone.
double ProcessCpuSeconds(int pid);
// Seconds of CPU the whole machine has used (/proc/stat, ticks of 10 ms).
double MachineCpuSeconds();

// CPU used between construction and End(): by the server, by us, and by others. Others disturb the figures.
class CpuWindow {
 public:
  CpuWindow(Env* env, int server_pid);
  void End();
  double wall_s() const { return wall_s_; }
  double server_cpu_s() const { return server_s_; }
  double loader_cpu_s() const { return loader_s_; }
  double others_cpu_s() const { return others_s_; }

 private:
  Env* env_;
  int server_pid_;
  double wall_s_, server_s_, loader_s_, others_s_;
};

// One figure. Printed as one JSON object; the key "row" is its name.
class Row {
 public:
  explicit Row(std::string_view name) { Set("row", name); }
  Row& Set(std::string_view key, std::string_view text);
  Row& Set(std::string_view key, const std::string& text) { return Set(key, std::string_view(text)); }
  Row& Set(std::string_view key, const char* text) { return Set(key, std::string_view(text)); }
  // Three significant decimals are kept.
  Row& Set(std::string_view key, double number);
  Row& Set(std::string_view key, size_t number) { return Set(key, static_cast<double>(number)); }
  Row& Set(std::string_view key, int number) { return Set(key, static_cast<double>(number)); }
  // CPU of the server per request in ms, of the loader in ms, and what part of a core others used.
  Row& SetCpu(const CpuWindow& window, size_t requests);
  // p50_ms, p99_ms and max_ms.
  Row& SetLatencies(std::vector<double>& ms);
  void Print() const;

 private:
  std::string text_;
};

// "--key value" pairs after the command; a missing value is "".
class Flags {
 public:
  Flags(int argc, char** argv, int first);
  std::string Get(std::string_view key, std::string otherwise = "") const;
  int GetInt(std::string_view key, int otherwise) const;

 private:
  std::vector<std::string> words_;
};

}  // namespace keelson::bench
