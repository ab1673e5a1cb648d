#include "base/process.h"

#include <absl/strings/ascii.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_split.h>
#include <dirent.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <memory>

#include "base/status.h"
#include "base/strings.h"

namespace keelson {

namespace {

constexpr size_t kMaxStatBytes = 4096;
constexpr size_t kMaxCommandLineBytes = 256 << 10;

}  // namespace

absl::StatusOr<ProcessFacts> ParseProcessFacts(std::string_view stat) {
  // The command, field 2, may contain anything: fields are counted from the last ')'.
  size_t paren = stat.rfind(')');
  if (paren == std::string_view::npos) return absl::InvalidArgumentError("/proc/PID/stat: no command");
  std::vector<absl::string_view> fields =
      absl::StrSplit(absl::StripAsciiWhitespace(Av(stat.substr(paren + 1))), ' ');
  constexpr size_t kState = 0, kParent = 1, kSession = 3, kStartTime = 19;  // fields 3, 4, 6, 22
  if (fields.size() <= kStartTime) return absl::InvalidArgumentError("/proc/PID/stat: no start time");
  ProcessFacts facts;
  std::string_view pid = stat.substr(0, stat.find(' '));
  if (!absl::SimpleAtoi(Av(pid), &facts.pid) || !absl::SimpleAtoi(fields[kParent], &facts.parent) ||
      !absl::SimpleAtoi(fields[kSession], &facts.session) ||
      !absl::SimpleAtoi(fields[kStartTime], &facts.start_ticks)) {
    return absl::InvalidArgumentError("/proc/PID/stat: a field is no number");
  }
  facts.dead = fields[kState] == "Z" || fields[kState] == "X";
  facts.stopped = fields[kState] == "T" || fields[kState] == "t";
  return facts;
}

absl::StatusOr<ProcessFacts> ProcessFactsOf(int pid, const std::string& proc_root) {
  auto stat = ReadFile(StrCat(proc_root, "/", pid, "/stat"), kMaxStatBytes);
  // Between open and read it may go: ESRCH.
  if (!stat.ok()) return absl::NotFoundError(StrCat("process ", pid, ": ", Sv(stat.status().message())));
  return ParseProcessFacts(*stat);
}

absl::StatusOr<uint64_t> ProcessStartTicks(int pid) {
  ASSIGN_OR_RETURN(ProcessFacts facts, ProcessFactsOf(pid));
  return facts.start_ticks;
}

std::vector<int> ProcessIds(const std::string& proc_root) {
  std::vector<int> pids;
  std::unique_ptr<DIR, int (*)(DIR*)> proc(::opendir(proc_root.c_str()), ::closedir);
  while (dirent* entry = proc != nullptr ? ::readdir(proc.get()) : nullptr) {
    int pid = 0;
    if (absl::SimpleAtoi(entry->d_name, &pid)) pids.push_back(pid);
  }
  return pids;
}

std::vector<std::string> CommandLineOf(int pid) {
  auto line = ReadFile(StrCat("/proc/", pid, "/cmdline"), kMaxCommandLineBytes);
  if (!line.ok()) return {};
  return absl::StrSplit(*line, '\0', absl::SkipEmpty());
}

absl::Status RaiseOpenFilesLimit() {
  rlimit limit;
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return ErrnoStatus(errno, "read the limit of open files");
  limit.rlim_cur = limit.rlim_max;
  if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) return ErrnoStatus(errno, "raise the limit of open files");
  return absl::OkStatus();
}

absl::StatusOr<Fd> OpenProcess(int pid) {
  Fd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (process.valid()) return process;
  // EINVAL before Linux 6.9: it is gone, its number still names a session or group of others.
  if (errno == ESRCH || errno == EINVAL) return absl::NotFoundError(StrCat("process ", pid, " has ended"));
  return ErrnoStatus(errno, StrCat("open process ", pid));
}

}  // namespace keelson
