#include <signal.h>
#include <sys/wait.h>

#include <utility>

#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"
#include "cri/server/cgroup_names.h"
#include "cri/server/runtime_server.h"
#include "oci/signals.h"

namespace keelson::cri {

namespace {

// After SIGKILL: a process in an uninterruptible wait can outlast it.
constexpr absl::Duration kKillLimit = absl::Minutes(2);
// For a monitor to end after its container: it writes one small file.
constexpr absl::Duration kEndLimit = absl::Seconds(20);
constexpr int kLostExitCode = 255;  // containerd's for a container whose end nobody saw
constexpr int kSignalExitBase = 128;
// What was killed needs a moment to leave its cgroup.
constexpr int kCgroupAttempts = 100;
constexpr absl::Duration kCgroupInterval = absl::Milliseconds(20);
constexpr char kOomKilled[] = "OOMKilled", kCompleted[] = "Completed", kError[] = "Error";

// Whether it exited within `limit`.
Task<bool> WaitExited(Env* env, std::shared_ptr<Container> container, absl::Duration limit) {
  std::shared_ptr<AsyncEvent> either = container->exit.Watch();
  LoopTimer timer(env, limit, [either] { either->Set(); });
  Task<void> wait = either->Wait();
  co_await std::move(wait);
  co_return container->exit.is_set();
}

}  // namespace

Task<absl::StatusOr<v1::StopContainerResponse>> RuntimeServer::StopContainer(
    v1::StopContainerRequest request) {
  absl::StatusOr<std::shared_ptr<Container>> container = FindContainer(request.container_id());
  if (absl::IsNotFound(container.status())) co_return v1::StopContainerResponse();
  if (!container.ok()) co_return container.status();
  absl::Duration grace = absl::Seconds(std::max<int64_t>(request.timeout(), 0));
  CO_RETURN_IF_ERROR(StopRunningContainer(*container, grace));
  co_return v1::StopContainerResponse();
}

Task<absl::Status> RuntimeServer::StopRunningContainer(std::shared_ptr<Container> container,
                                                       absl::Duration grace) {
  if (container->record.state() == records::CONTAINER_STARTING) {
    // Until the start has ended one way or the other.
    Task<AsyncMutex::Guard> lock = container->mutex.Lock();
    AsyncMutex::Guard guard = co_await std::move(lock);
    // Still: an earlier server began it, and Recover() could not tell what became of it. It may run.
    CO_RETURN_IF_ERROR(ResolveAndWatch(container));
  }
  if (container->record.state() != records::CONTAINER_RUNNING) co_return absl::OkStatus();
  const std::string& id = container->record.id();
  if (grace > absl::ZeroDuration()) {
    absl::StatusOr<int> number = oci::ParseSignal(container->record.stop_signal());
    absl::Status sent = SignalInit(*container, number.ok() ? *number : SIGTERM);
    if (!sent.ok() && !absl::IsNotFound(sent)) co_return Annotate(sent, StrCat("stop container ", id));
    Task<bool> wait = WaitExited(&env_, container, grace);
    bool exited = co_await std::move(wait);
    if (exited) co_return absl::OkStatus();
  }
  absl::Status killed = SignalInit(*container, SIGKILL);
  if (!killed.ok() && !absl::IsNotFound(killed)) co_return Annotate(killed, StrCat("kill container ", id));
  Task<bool> wait = WaitExited(&env_, container, kKillLimit);
  bool exited = co_await std::move(wait);
  if (exited) co_return absl::OkStatus();
  co_return absl::DeadlineExceededError(
      StrCat("container ", id, " still runs ", absl::FormatDuration(kKillLimit), " after SIGKILL"));
}

absl::Status RuntimeServer::SignalInit(const Container& container, int signal) {
  const records::Container& record = container.record;
  RETURN_IF_ERROR(deps_.kernel->Signal(record.init(), signal));
  // Without a PID namespace of its own the kernel does not take the rest along.
  if (signal == SIGKILL && !record.own_pid_namespace()) {
    absl::Status rest = deps_.cgroups->KillAll(record.cgroup_path());
    if (!rest.ok() && !absl::IsNotFound(rest)) return rest;
  }
  return absl::OkStatus();
}

void RuntimeServer::OnExit(const std::string& id, const oci::ContainerExit& exit) {
  auto container = containers_.find(id);
  if (container != containers_.end()) {
    scope_.Spawn("container exit", HandleExit(container->second, exit));
    return;
  }
  auto sandbox = sandboxes_.find(id);
  if (sandbox != sandboxes_.end()) scope_.Spawn("pause exit", HandlePauseExit(sandbox->second));
}

void RuntimeServer::MarkExited(Container* container, const oci::ContainerExit& exit) {
  records::Container& record = container->record;
  record.set_state(records::CONTAINER_EXITED);
  record.set_finished_at_ns(absl::ToUnixNanos(exit.finished_at));
  // A container seen to end before its start was: never the other way round.
  if (record.started_at_ns() > record.finished_at_ns()) record.set_finished_at_ns(record.started_at_ns());
  record.set_exit_code(exit.exit_code);
  bool oom_killed = exit.oom_killed;
  // The monitor's notice can come after the end; the counters know. Those of slices want to be kept.
  const bool asks = (!oom_killed && exit.exit_code != 0) || !ScopeParent(record.cgroup_path()).empty();
  if (asks && record.boot_id() == boot_id_ && SettleOom(record) && exit.exit_code != 0) oom_killed = true;
  record.set_reason(oom_killed ? kOomKilled : exit.exit_code == 0 ? kCompleted : kError);
  absl::Status saved = Save(*container);
  if (!saved.ok()) LogError("container record not written", {{"container", record.id()}, {"error", saved}});
}

std::optional<uint64_t> RuntimeServer::OomKills(const std::string& cgroup_path) const {
  absl::StatusOr<cgroups::Stats> stats = deps_.cgroups->ReadStats(cgroup_path, cgroups::StatsDetail::kFull);
  if (!stats.ok() || !stats->memory.has_value()) return std::nullopt;
  return stats->memory->oom_kills;
}

std::optional<uint64_t> RuntimeServer::OomKillsOfOthers(const records::Container& record) const {
  std::optional<uint64_t> sum;
  for (const auto& [id, other] : containers_) {
    if (id == record.id() || (other->record.state() != records::CONTAINER_RUNNING &&
                              other->record.state() != records::CONTAINER_STARTING)) {
      continue;
    }
    if (ScopeParent(other->record.cgroup_path()) != ScopeParent(record.cgroup_path())) continue;
    sum = sum.value_or(0) + OomKills(other->record.cgroup_path()).value_or(0);
  }
  return sum;
}

void RuntimeServer::OpenOomLedger(const records::Container& record) {
  const std::string slice = ScopeParent(record.cgroup_path());
  if (slice.empty()) return;
  // The slice first: kills in between are the living's, and none that could be laid on another.
  const uint64_t total = OomKills(slice).value_or(0);
  oom_ledger_.Open(slice, total,
                   OomKillsOfOthers(record).value_or(0) + OomKills(record.cgroup_path()).value_or(0));
}

bool RuntimeServer::SettleOom(const records::Container& record) {
  const std::string slice = ScopeParent(record.cgroup_path());
  if (slice.empty()) return OomKills(record.cgroup_path()).value_or(0) > 0;
  const uint64_t total = OomKills(slice).value_or(0);
  std::optional<uint64_t> others = OomKillsOfOthers(record);
  bool killed = oom_ledger_.Settle(slice, total, others.value_or(0), OomKills(record.cgroup_path()));
  if (!others.has_value()) oom_ledger_.Close(slice);
  return killed;
}

Task<void> RuntimeServer::HandleExit(std::shared_ptr<Container> container, oci::ContainerExit exit) {
  Task<AsyncMutex::Guard> lock = container->mutex.Lock();
  AsyncMutex::Guard guard = co_await std::move(lock);
  const std::string id = container->record.id();
  // A failed start marks the container itself.
  if (container->removed || container->record.state() != records::CONTAINER_RUNNING) co_return;
  MarkExited(container.get(), exit);
  // What it left running goes before anybody hears of the end.
  KillRest(*container);
  container->exit.Set();
  Publish(v1::CONTAINER_STOPPED_EVENT, id, container->record.sandbox_id());
  Task<absl::Status> release = ReleaseExited(container);
  absl::Status released = co_await std::move(release);
  if (!released.ok()) LogWarning("ended container not deleted", {{"container", id}, {"error", released}});
  if (PluginsListen()) {
    Task<void> tell = TellStopped(container);
    co_await std::move(tell);
  }
}

void RuntimeServer::KillRest(const Container& container) {
  // Without a PID namespace of its own the kernel does not do it.
  if (container.record.own_pid_namespace()) return;
  absl::Status rest = deps_.cgroups->KillAll(container.record.cgroup_path());
  if (!rest.ok() && !absl::IsNotFound(rest)) {
    LogWarning("processes left", {{"container", container.record.id()}, {"error", rest}});
  }
}

Task<absl::Status> RuntimeServer::ReleaseExited(std::shared_ptr<Container> container) {
  KillRest(*container);
  const records::Container& record = container->record;
  Task<absl::Status> remove = DeleteInRuntime(record.id(), record.runtime_handler(), record.cgroup_path());
  absl::Status removed = co_await std::move(remove);
  co_return removed;
}

Task<absl::Status> RuntimeServer::DeleteInRuntime(std::string id, std::string handler,
                                                  std::string cgroup_path) {
  CO_ASSIGN_OR_RETURN_SYNC(oci::OciRuntime * runtime, RuntimeFor(handler));
  Task<absl::Status> remove = runtime->Delete(id, /*force=*/true);
  absl::Status status = co_await std::move(remove);
  if (!status.ok()) co_return status;
  for (int attempt = 0; attempt < kCgroupAttempts; ++attempt) {
    // Not asked whether it exists: a runtime that was killed may have made it in some hierarchies only.
    status = deps_.cgroups->Destroy(cgroup_path);
    if (status.ok()) break;
    (void)deps_.cgroups->KillAll(cgroup_path);
    // Until the killed are gone.
    Task<void> nap = env_.clock().Sleep(kCgroupInterval);
    co_await std::move(nap);
  }
  co_return Annotate(status, StrCat("remove the cgroup of ", id));
}

Task<void> RuntimeServer::WatchMonitor(std::shared_ptr<Container> container) {
  const std::string id = container->record.id();
  const records::Process monitor = container->record.monitor(), init = container->record.init();
  absl::StatusOr<std::unique_ptr<ChildProcess>> process = env_.subprocess().Adopt(monitor.pid());
  if (process.ok() && deps_.kernel->IsAlive(monitor)) {
    Task<int> wait = (*process)->Wait();
    co_await std::move(wait);
  }
  std::optional<oci::ContainerExit> exit = deps_.monitor->ReadExit(id);
  if (!exit.has_value() && container->record.state() == records::CONTAINER_RUNNING) {
    LogWarning("a container's monitor is gone; its log ends",
               {{"container", id}, {"monitor", monitor.pid()}});
    exit.emplace();
    exit->exit_code = kLostExitCode;
    absl::StatusOr<std::unique_ptr<ChildProcess>> orphan = env_.subprocess().Adopt(init.pid());
    if (orphan.ok() && deps_.kernel->IsAlive(init)) {
      // It became our child when its monitor died, or an earlier server's: only a parent reads the status.
      bool ours = deps_.kernel->IsOwnChild(init.pid());
      Task<int> wait = (*orphan)->Wait();
      int status = co_await std::move(wait);
      if (ours)
        exit->exit_code = WIFSIGNALED(status) ? kSignalExitBase + WTERMSIG(status) : WEXITSTATUS(status);
    }
    exit->finished_at = env_.clock().Now();
  }
  if (!exit.has_value()) co_return;
  Task<void> handle = HandleExit(container, *exit);
  co_await std::move(handle);
}

Task<void> RuntimeServer::AwaitEnd(records::Process process) {
  if (process.pid() == 0) co_return;
  absl::StatusOr<std::unique_ptr<ChildProcess>> adopted = env_.subprocess().Adopt(process.pid());
  if (!adopted.ok() || !deps_.kernel->IsAlive(process)) co_return;
  ChildProcess* child = adopted->get();
  LoopTimer timer(&env_, kEndLimit, [child, pid = process.pid()] {
    LogWarning("a process outlasts its container, it is killed", {{"pid", pid}});
    (void)child->Signal(SIGKILL);
  });
  Task<int> wait = child->Wait();
  co_await std::move(wait);
}

Task<void> RuntimeServer::HandlePauseExit(std::shared_ptr<Sandbox> sandbox) {
  Task<AsyncMutex::Guard> lock = sandbox->mutex.Lock();
  AsyncMutex::Guard guard = co_await std::move(lock);
  if (sandbox->removed || sandbox->record.state() != records::SANDBOX_RUNNING) co_return;
  LogWarning("pause process ended, the pod is stopped", {{"sandbox", sandbox->record.id()}});
  Task<absl::Status> stop = StopSandboxLocked(sandbox);
  absl::Status stopped = co_await std::move(stop);
  if (!stopped.ok()) LogError("pod not stopped", {{"sandbox", sandbox->record.id()}, {"error", stopped}});
}

}  // namespace keelson::cri
