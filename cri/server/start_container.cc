#include <signal.h>

#include <utility>

#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"
#include "cri/server/runtime_server.h"

namespace keelson::cri {

namespace {

constexpr int kStartErrorExitCode = 128;  // containerd's, with reason StartError
constexpr char kStartError[] = "StartError";

oci::MonitorOptions MonitorOptionsOf(const records::Container& record, const std::string& dir) {
  oci::MonitorOptions options;
  options.id = record.id();
  options.name = record.config().metadata().name();
  options.bundle_dir = dir;
  options.log_path = record.log_path();
  options.stdin_open = record.config().stdin();
  options.stdin_once = record.config().stdin_once();
  options.tty = record.config().tty();
  return options;
}

}  // namespace

Task<absl::StatusOr<v1::StartContainerResponse>> RuntimeServer::StartContainer(
    v1::StartContainerRequest request) {
  return StartContainerOf(std::move(request), /*pod_is_restoring=*/false);
}

Task<absl::StatusOr<v1::StartContainerResponse>> RuntimeServer::StartContainerOf(
    v1::StartContainerRequest request, bool pod_is_restoring) {
  CO_ASSIGN_OR_RETURN_SYNC(std::shared_ptr<Container> container, FindContainer(request.container_id()));
  Task<AsyncMutex::Guard> lock = container->mutex.Lock();
  AsyncMutex::Guard guard = co_await std::move(lock);
  records::Container& record = container->record;
  const std::string& id = record.id();
  const bool restore = record.from_checkpoint();
  if (container->removed || record.removing() || record.state() != records::CONTAINER_CREATED) {
    co_return absl::FailedPreconditionError(StrCat("start container ", id, ": it is in state ",
                                                   v1::ContainerState_Name(StateOf(*container)),
                                                   ", only a created one can be started"));
  }
  CO_ASSIGN_OR_RETURN_SYNC(std::shared_ptr<Sandbox> sandbox, FindSandbox(record.sandbox_id()));
  if (sandbox->record.state() != records::SANDBOX_RUNNING) {
    co_return absl::FailedPreconditionError(
        StrCat("start container ", id, ": pod sandbox ", record.sandbox_id(), " is not running"));
  }
  if (!pod_is_restoring) CO_RETURN_IF_ERROR_SYNC(CheckNotRestoring(sandbox->record));
  CO_ASSIGN_OR_RETURN_SYNC(oci::OciRuntime * runtime, RuntimeFor(record.runtime_handler()));
  attach_warmer_.Warm();
  std::shared_ptr<void> block;  // until it runs
  if (deps_.nri != nullptr) {
    Task<std::shared_ptr<void>> take = BlockPluginSync();
    block = co_await std::move(take);
    if (PluginsListen()) {
      Task<absl::Status> tell = TellStart(container);
      absl::Status told = co_await std::move(tell);
      if (!told.ok()) co_return Annotate(told, StrCat("start container ", id));
      // Whoever stops the pod from here on sees that a start is under way.
      if (sandbox->record.state() != records::SANDBOX_RUNNING) {
        co_return absl::FailedPreconditionError(
            StrCat("start container ", id, ": pod sandbox ", record.sandbox_id(), " is not running"));
      }
    }
  }
  // Written first: a restart between here and the end looks what became of it.
  record.set_state(records::CONTAINER_STARTING);
  Task<absl::Status> prepare = PrepareStart(container, sandbox);
  absl::Status status = co_await std::move(prepare);
  if (!status.ok()) {
    record.set_state(records::CONTAINER_CREATED);
    absl::Status saved = Save(*container);
    if (!saved.ok()) LogError("container record not written", {{"container", id}, {"error", saved}});
    co_return Annotate(status, StrCat("start container ", id));
  }
  OpenOomLedger(record);
  oci::MonitorOptions monitoring = MonitorOptionsOf(record, ContainerDir(id));
  if (restore) monitoring.restore_from = RestoreDir(id);
  Task<absl::StatusOr<oci::MonitoredProcess>> create = deps_.monitor->Create(runtime, std::move(monitoring));
  absl::StatusOr<oci::MonitoredProcess> process = co_await std::move(create);
  status = process.status();
  if (status.ok()) {
    record.mutable_init()->set_pid(process->pid);
    record.mutable_init()->set_start_ticks(process->pid_start_ticks);
    record.mutable_monitor()->set_pid(process->monitor_pid);
    record.mutable_monitor()->set_start_ticks(process->monitor_start_ticks);
    // A restart tells by this whether it was started or never can be: a monitor whose caller dies before it
    // has its answer ends.
    status = Save(*container);
  }
  if (status.ok() && restore) status = CheckRestored(*sandbox, *container);
  if (status.ok() && !restore) {
    Task<absl::Status> start = runtime->Start(id);
    status = co_await std::move(start);
  }
  // crun does not say which program it could not execute.
  if (!status.ok() && !restore && record.config().command_size() > 0) {
    status = Annotate(status, StrCat("command \"", record.config().command(0), "\""));
  }
  if (!status.ok()) {
    Task<void> fail = FailStart(container, status);
    co_await std::move(fail);
    if (PluginsListen()) {
      Task<void> tell = TellStopped(container);
      co_await std::move(tell);
    }
    co_return Annotate(status, StrCat("start container ", id));
  }
  record.set_state(records::CONTAINER_RUNNING);
  record.set_started_at_ns(NowNs());
  absl::Status saved = Save(*container);
  if (!saved.ok()) LogError("container record not written", {{"container", id}, {"error", saved}});
  scope_.Spawn("watch monitor", WatchMonitor(container));
  Publish(v1::CONTAINER_STARTED_EVENT, id, record.sandbox_id());
  Task<void> tell = TellSystemd(container);
  co_await std::move(tell);
  // The pod was stopped meanwhile: nothing runs in a stopped pod.
  if (sandbox->record.state() != records::SANDBOX_RUNNING) {
    absl::Status killed = SignalInit(*container, SIGKILL);
    if (!killed.ok()) LogWarning("container of a stopped pod", {{"container", id}, {"error", killed}});
  }
  if (restore) {
    Task<void> drop = DropRestoreImages(id);
    co_await std::move(drop);
  }
  block = nullptr;
  if (PluginsListen()) {
    Task<void> tell = TellMade(Made::kStarted, container);
    co_await std::move(tell);
  }
  co_return v1::StartContainerResponse();
}

Task<void> RuntimeServer::FailStart(std::shared_ptr<Container> container, absl::Status why) {
  records::Container exited = container->record;
  const std::string id = exited.id();
  exited.set_state(records::CONTAINER_EXITED);
  exited.set_finished_at_ns(NowNs());
  exited.set_exit_code(kStartErrorExitCode);
  exited.set_reason(kStartError);
  exited.set_message(std::string(why.message()));
  // Written before it is deleted: a restart in between would find nothing of it, and take it for one that
  // never ran.
  absl::Status saved = store_.Put(exited);
  if (!saved.ok()) LogError("container record not written", {{"container", id}, {"error", saved}});
  // crun leaves the cgroup of some failed creates.
  Task<absl::Status> remove = DeleteInRuntime(id, exited.runtime_handler(), exited.cgroup_path());
  absl::Status removed = co_await std::move(remove);
  if (!removed.ok()) {
    LogWarning("failed container not deleted", {{"container", id}, {"error", removed}});
    // RemoveContainer tries again; but it must not run on meanwhile.
    absl::Status killed = exited.has_init() ? SignalInit(*container, SIGKILL) : absl::OkStatus();
    if (!killed.ok() && !absl::IsNotFound(killed))
      LogError("failed container not killed", {{"container", id}, {"error", killed}});
    // Said to have ended only when it has.
    Task<void> end = AwaitEnd(exited.init());
    co_await std::move(end);
  }
  container->record = exited;
  container->exit.Set();
  Publish(v1::CONTAINER_STOPPED_EVENT, id, exited.sandbox_id());
  if (exited.from_checkpoint()) {
    Task<void> drop = DropRestoreImages(id);
    co_await std::move(drop);
  }
}

// Looks at what was true at its creation and the start relies on, makes the log, and writes the record,
// beside each other where they can be.
Task<absl::Status> RuntimeServer::PrepareStart(std::shared_ptr<Container> container,
                                               std::shared_ptr<Sandbox> sandbox) {
  const records::Container& record = container->record;
  const v1::NamespaceOption& namespaces = NamespacesOf(record.config());
  // The specification names their PID namespaces by pid, and pids are used again.
  if (namespaces.pid() == v1::POD && !deps_.kernel->IsAlive(sandbox->record.pause())) {
    co_return absl::FailedPreconditionError("the pod's pause process has ended");
  }
  if (namespaces.pid() == v1::TARGET) {
    CO_RETURN_IF_ERROR_SYNC(FindRunningContainer(namespaces.target_id()).status());
  }
  if (record.log_path().empty()) co_return Save(*container);
  auto prepare = [directory = sandbox->record.config().log_directory(), path = record.config().log_path()] {
    return PrepareLog(directory, path);
  };
  BlockingJob<absl::Status> preparing(env_, prepare);
  absl::Status saved = Save(*container);
  Task<absl::Status> wait = preparing.Wait();
  absl::Status prepared = co_await std::move(wait);
  co_return saved.ok() ? prepared : saved;
}

}  // namespace keelson::cri
