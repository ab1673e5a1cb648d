#include "oci/process_tree.h"

#include <absl/strings/ascii.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_split.h>
#include <dirent.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include "base/fd.h"
#include "base/status.h"
#include "base/strings.h"
#include "oci/io.h"

namespace keelson::oci {

namespace {

constexpr size_t kMaxStatBytes = 4096;
// Each finds what was forked before all known ones were stopped.
constexpr int kMaxRounds = 32;

std::vector<ProcessFacts> AllProcesses() {
  std::vector<ProcessFacts> all;
  std::unique_ptr<DIR, int (*)(DIR*)> proc(::opendir("/proc"), ::closedir);
  while (dirent* entry = proc != nullptr ? ::readdir(proc.get()) : nullptr) {
    int pid = 0;
    if (!absl::SimpleAtoi(entry->d_name, &pid)) continue;
    auto facts = ProcessFactsOf(pid);
    if (facts.ok()) all.push_back(*std::move(facts));
  }
  return all;
}

// A descriptor of exactly this process; invalid when it is gone.
Fd OpenProcess(const ProcessFacts& process) {
  Fd fd(static_cast<int>(::syscall(SYS_pidfd_open, process.pid, 0)));
  if (fd.valid() && ProcessStartTicks(process.pid).value_or(0) != process.start_ticks) fd.reset();
  return fd;
}

bool Send(const Fd& process, int signal) {
  return ::syscall(SYS_pidfd_send_signal, process.get(), signal, nullptr, 0) == 0 || errno == ESRCH;
}

}  // namespace

absl::StatusOr<ProcessFacts> ParseProcessFacts(std::string_view stat) {
  // The command, field 2, may contain anything: fields are counted from the last ')'.
  size_t paren = stat.rfind(')');
  if (paren == std::string_view::npos) return absl::InvalidArgumentError("/proc/PID/stat: no command");
  std::vector<absl::string_view> fields =
      absl::StrSplit(absl::StripAsciiWhitespace(Av(stat.substr(paren + 1))), ' ');
  constexpr size_t kState = 0, kParent = 1, kSession = 3;  // fields 3, 4, 6
  ProcessFacts facts;
  ASSIGN_OR_RETURN(facts.start_ticks, ParseStartTicks(stat));
  std::string_view pid = stat.substr(0, stat.find(' '));
  if (!absl::SimpleAtoi(Av(pid), &facts.pid) || !absl::SimpleAtoi(fields[kParent], &facts.parent) ||
      !absl::SimpleAtoi(fields[kSession], &facts.session)) {
    return absl::InvalidArgumentError("/proc/PID/stat: a field is no number");
  }
  facts.dead = fields[kState] == "Z" || fields[kState] == "X";
  return facts;
}

absl::StatusOr<ProcessFacts> ProcessFactsOf(int pid) {
  auto stat = ReadFile(StrCat("/proc/", pid, "/stat"), kMaxStatBytes);
  // Between open and read it may go: ESRCH.
  if (!stat.ok()) return absl::NotFoundError(StrCat("process ", pid, ": ", stat.status().message()));
  return ParseProcessFacts(*stat);
}

std::vector<ProcessFacts> TreeOf(int root, int session, const std::vector<ProcessFacts>& all) {
  auto in_session = [&](const ProcessFacts& process) {
    return process.pid == root && session != 0 && process.session == session;
  };
  // A number that nothing else has: the root holds it.
  if (std::none_of(all.begin(), all.end(), in_session)) session = root;
  std::multimap<int, const ProcessFacts*> children;
  std::vector<const ProcessFacts*> found;
  for (const ProcessFacts& process : all) {
    children.emplace(process.parent, &process);
    if (process.pid == root || process.session == root || process.session == session)
      found.push_back(&process);
  }
  std::set<int> seen;
  std::vector<ProcessFacts> out;
  while (!found.empty()) {
    const ProcessFacts* process = found.back();
    found.pop_back();
    if (!seen.insert(process->pid).second) continue;
    out.push_back(*process);
    auto [begin, end] = children.equal_range(process->pid);
    for (auto it = begin; it != end; ++it) found.push_back(it->second);
  }
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.pid < b.pid; });
  return out;
}

absl::Status KillProcessTree(int root, int session, std::vector<ProcessFacts>* killed) {
  if (root <= 1 || root == ::getpid()) return absl::InvalidArgumentError(StrCat("kill the tree of ", root));
  std::map<std::pair<int, uint64_t>, Fd> stopped;
  if (session == ::getsid(0)) session = 0;
  for (int round = 0; round < kMaxRounds; ++round) {
    bool news = false;
    for (const ProcessFacts& process : TreeOf(root, session, AllProcesses())) {
      std::pair<int, uint64_t> key(process.pid, process.start_ticks);
      if (process.dead || process.pid == ::getpid() || stopped.contains(key)) continue;
      Fd fd = OpenProcess(process);
      if (!fd.valid() || !Send(fd, SIGSTOP)) continue;
      stopped.emplace(key, std::move(fd));
      if (killed != nullptr) killed->push_back(process);
      news = true;
    }
    if (!news) break;
  }
  if (stopped.empty()) return absl::NotFoundError(StrCat("process ", root, " has ended"));
  for (const auto& [key, fd] : stopped) {
    if (!Send(fd, SIGKILL)) return ErrnoStatus(errno, StrCat("kill process ", key.first));
  }
  return absl::OkStatus();
}

}  // namespace keelson::oci
