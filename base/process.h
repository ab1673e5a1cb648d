// Other processes of this machine, as /proc tells of them (proc(5)).
#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"

namespace keelson {

struct ProcessFacts {
  int pid = 0, parent = 0;
  int session = 0;           // the pid of its leader
  uint64_t start_ticks = 0;  // clock ticks after boot; with the pid, who it is
  bool dead = false;         // not yet reaped
  bool stopped = false;      // by a signal, or traced
};

// `stat` as /proc/PID/stat. InvalidArgument. Pure.
absl::StatusOr<ProcessFacts> ParseProcessFacts(std::string_view stat);
// NotFound when it is gone.
absl::StatusOr<ProcessFacts> ProcessFactsOf(int pid, const std::string& proc_root = "/proc");
// Its start_ticks, also of the dead. NotFound when it is gone.
absl::StatusOr<uint64_t> ProcessStartTicks(int pid);

// All that are there, in no order. With "/proc/PID/task": the threads of one.
std::vector<int> ProcessIds(const std::string& proc_root = "/proc");
// The words of its command line; none when it is gone, dead or a thread of the kernel.
std::vector<std::string> CommandLineOf(int pid);

// Lets this process open as many files as it may at all: the soft RLIMIT_NOFILE, 1024 on most systems for the
// sake of programs that call select(2), becomes the hard one. Programs it starts inherit that.
absl::Status RaiseOpenFilesLimit();

// A pidfd of whoever has the pid now. NotFound when nobody has.
absl::StatusOr<Fd> OpenProcess(int pid);

}  // namespace keelson
