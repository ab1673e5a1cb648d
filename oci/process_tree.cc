#include "oci/process_tree.h"

#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <set>
#include <utility>

#include "base/fd.h"
#include "base/status.h"
#include "base/strings.h"

namespace keelson::oci {

namespace {

// Each finds what was forked before all known ones had stopped.
constexpr int kMaxRounds = 100;
constexpr int kRoundMs = 1;  // between two that found nothing new

std::vector<ProcessFacts> AllProcesses() {
  std::vector<ProcessFacts> all;
  for (int pid : ProcessIds()) {
    auto facts = ProcessFactsOf(pid);
    if (facts.ok()) all.push_back(*std::move(facts));
  }
  return all;
}

// A descriptor of exactly this process; invalid when it is gone.
Fd OpenExactly(const ProcessFacts& process) {
  absl::StatusOr<Fd> fd = OpenProcess(process.pid);
  if (!fd.ok() || ProcessStartTicks(process.pid).value_or(0) != process.start_ticks) return Fd();
  return *std::move(fd);
}

// Whether none of its threads runs. Between the signal and the stop a fork under way comes to its end, and
// its child is there a moment later.
bool StandsStill(const ProcessFacts& process) {
  const std::string tasks = StrCat("/proc/", process.pid, "/task");
  for (int tid : ProcessIds(tasks)) {
    auto thread = ProcessFactsOf(tid, tasks);
    if (thread.ok() && !thread->stopped && !thread->dead) return false;
  }
  return true;
}

bool Send(const Fd& process, int signal) {
  return ::syscall(SYS_pidfd_send_signal, process.get(), signal, nullptr, 0) == 0 || errno == ESRCH;
}

}  // namespace

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
  struct Stopped {
    ProcessFacts process;
    Fd fd;
  };
  std::map<std::pair<int, uint64_t>, Stopped> stopped;
  if (session == ::getsid(0)) session = 0;
  for (int round = 0; round < kMaxRounds; ++round) {
    // Looked at before the search: what they had begun to fork by then is found.
    const bool still = std::all_of(stopped.begin(), stopped.end(),
                                   [](const auto& entry) { return StandsStill(entry.second.process); });
    bool news = false;
    for (const ProcessFacts& process : TreeOf(root, session, AllProcesses())) {
      std::pair<int, uint64_t> key(process.pid, process.start_ticks);
      if (process.dead || process.pid == ::getpid() || stopped.contains(key)) continue;
      Fd fd = OpenExactly(process);
      if (!fd.valid() || !Send(fd, SIGSTOP)) continue;
      stopped.emplace(key, Stopped{process, std::move(fd)});
      if (killed != nullptr) killed->push_back(process);
      news = true;
    }
    if (!news && still) break;
    if (!news) ::poll(nullptr, 0, kRoundMs);
  }
  if (stopped.empty()) return absl::NotFoundError(StrCat("process ", root, " has ended"));
  for (const auto& [key, entry] : stopped) {
    if (!Send(entry.fd, SIGKILL)) return ErrnoStatus(errno, StrCat("kill process ", key.first));
  }
  return absl::OkStatus();
}

}  // namespace keelson::oci
