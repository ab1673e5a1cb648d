// After a start of the server: records against the kernel.
#include <signal.h>

#include <algorithm>
#include <set>
#include <utility>

#include "base/fd.h"
#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"
#include "cri/server/namespaces.h"
#include "cri/server/runtime_server.h"

namespace keelson::cri {

namespace {

// Between questions what became of an interrupted start.
constexpr absl::Duration kMinResolvePause = absl::Seconds(1), kMaxResolvePause = absl::Minutes(1);
constexpr int kLostExitCode = 255;  // containerd's for a container whose end nobody saw

// Names below `dir` that are not in `known`, sorted.
std::vector<std::string> UnknownEntries(const std::string& dir, const std::set<std::string>& known) {
  auto names = FolderNames(dir);
  if (!names.ok()) {
    if (!absl::IsNotFound(names.status()))
      LogError("leftovers are not looked for", {{"folder", dir}, {"error", names.status()}});
    return {};
  }
  std::erase_if(*names, [&](const std::string& name) { return known.contains(name); });
  return *std::move(names);
}

}  // namespace

Task<absl::Status> RuntimeServer::Recover() {
  std::vector<std::string> broken;
  CO_ASSIGN_OR_RETURN_SYNC(std::vector<records::Sandbox> sandboxes, store_.LoadSandboxes(&broken));
  CO_ASSIGN_OR_RETURN_SYNC(std::vector<records::Container> containers, store_.LoadContainers(&broken));
  for (const std::string& path : broken)
    LogError("a record cannot be read and was set aside", {{"record", path}});
  // What is only half made reserves no name.
  for (records::Sandbox& record : sandboxes) {
    auto sandbox = std::make_shared<Sandbox>();
    sandbox->record = std::move(record);
    if (sandbox->record.state() != records::SANDBOX_CREATING) {
      sandbox_names_[SandboxNameKey(sandbox->record.config().metadata())] = sandbox->record.id();
    }
    sandboxes_[sandbox->record.id()] = std::move(sandbox);
  }
  for (records::Container& record : containers) {
    auto container = std::make_shared<Container>();
    container->record = std::move(record);
    auto sandbox = sandboxes_.find(container->record.sandbox_id());
    if (sandbox != sandboxes_.end() && container->record.state() != records::CONTAINER_CREATING) {
      container_names_[ContainerNameKey(container->record.config().metadata(),
                                        sandbox->second->record.config().metadata())] =
          container->record.id();
    }
    containers_[container->record.id()] = std::move(container);
  }
  // From here on no exit is missed; one that comes before its container was looked at waits for the mutex.
  CO_RETURN_IF_ERROR_SYNC(deps_.monitor->WatchExits(
      [this](const std::string& id, const oci::ContainerExit& exit) { OnExit(id, exit); }));
  std::vector<std::shared_ptr<Container>> all_containers;
  for (const auto& [id, container] : containers_) all_containers.push_back(container);
  for (const auto& container : all_containers) {
    Task<AsyncMutex::Guard> lock = container->mutex.Lock();
    AsyncMutex::Guard guard = co_await std::move(lock);
    Task<absl::Status> recover = RecoverContainer(container);
    absl::Status status = co_await std::move(recover);
    if (!status.ok())
      LogError("container not recovered", {{"container", container->record.id()}, {"error", status}});
  }
  std::vector<std::shared_ptr<Sandbox>> all_sandboxes;
  for (const auto& [id, sandbox] : sandboxes_) all_sandboxes.push_back(sandbox);
  HostPortState ports;
  for (const auto& sandbox : all_sandboxes) {
    Task<AsyncMutex::Guard> lock = sandbox->mutex.Lock();
    AsyncMutex::Guard guard = co_await std::move(lock);
    Task<absl::Status> recover = RecoverSandbox(sandbox);
    absl::Status status = co_await std::move(recover);
    if (!status.ok())
      LogError("pod sandbox not recovered", {{"sandbox", sandbox->record.id()}, {"error", status}});
    if (!sandbox->removed && sandbox->record.state() == records::SANDBOX_RUNNING) {
      HostPortSandbox held = HostPortsOf(sandbox->record);
      if (!held.ports.empty()) ports[sandbox->record.id()] = std::move(held);
    }
  }
  Task<absl::Status> sync = deps_.host_ports->Sync(ports);
  absl::Status synced = co_await std::move(sync);
  if (!synced.ok()) LogError("host ports not restored", {{"error", synced}});
  Task<absl::Status> leftovers = RemoveLeftovers();
  absl::Status removed = co_await std::move(leftovers);
  if (!removed.ok()) LogError("leftovers not removed", {{"error", removed}});
  if (deps_.systemd_units != nullptr) scope_.Spawn("tell systemd", TellSystemdOf(std::move(all_containers)));
  LogInfo("recovered", {{"sandboxes", sandboxes_.size()}, {"containers", containers_.size()}});
  co_return absl::OkStatus();
}

Task<absl::Status> RuntimeServer::RecoverContainer(std::shared_ptr<Container> container) {
  records::Container& record = container->record;
  const std::string id = record.id();
  if (record.state() == records::CONTAINER_CREATING || record.removing() ||
      !sandboxes_.contains(record.sandbox_id())) {
    if (record.state() == records::CONTAINER_RUNNING) {
      // Its pod's record is lost: it cannot be reached any more by anyone.
      absl::Status killed = SignalInit(*container, SIGKILL);
      if (!killed.ok() && !absl::IsNotFound(killed)) co_return killed;
    }
    CO_RETURN_IF_ERROR(TearDownContainer(container));
    container->removed = true;
    containers_.erase(id);
    absl::erase_if(container_names_, [&](const auto& entry) { return entry.second == id; });
    co_return store_.RemoveContainer(id);
  }
  if (record.state() == records::CONTAINER_STARTING) {
    Task<absl::Status> resolve = ResolveInterruptedStart(container);
    absl::Status resolved = co_await std::move(resolve);
    if (!resolved.ok()) {
      container->unresolved = true;
      scope_.Spawn("resolve start", ResolveLater(container));
      co_return resolved;
    }
  }
  if (record.state() == records::CONTAINER_EXITED) {
    container->exit.Set();
    // Between its end and its clean-up: the cgroup goes last.
    if (record.boot_id() != boot_id_) co_return absl::OkStatus();
    // Of a start that failed the record is written first: it must not run on when it cannot be deleted.
    absl::Status killed = record.has_init() ? SignalInit(*container, SIGKILL) : absl::OkStatus();
    if (!killed.ok() && !absl::IsNotFound(killed)) co_return killed;
    Task<absl::Status> release = ReleaseExited(container);
    absl::Status released = co_await std::move(release);
    co_return released;
  }
  if (record.state() == records::CONTAINER_CREATED) {
    if (record.boot_id() == boot_id_) co_return absl::OkStatus();
    // Its mounts went with the boot.
    oci::ContainerExit exit;
    exit.exit_code = kLostExitCode;
    exit.finished_at = env_.clock().Now();
    MarkExited(container.get(), exit);
    container->exit.Set();
    co_return absl::OkStatus();
  }
  bool alive = record.boot_id() == boot_id_ && deps_.kernel->IsAlive(record.init());
  if (record.checkpointing()) {
    CO_ASSIGN_OR_RETURN_SYNC(oci::OciRuntime * runtime, RuntimeFor(record.runtime_handler()));
    Task<absl::Status> thaw = Thaw(container, runtime);
    (void)co_await std::move(thaw);  // goes on by itself
  }
  std::optional<oci::ContainerExit> exit;
  if (!alive) exit = deps_.monitor->ReadExit(id);
  // Alive, or its monitor is about to write how it ended: OnExit comes.
  if (alive ||
      (!exit.has_value() && record.boot_id() == boot_id_ && deps_.kernel->IsAlive(record.monitor()))) {
    OpenOomLedger(record);
    scope_.Spawn("watch monitor", WatchMonitor(container));
    co_return absl::OkStatus();
  }
  if (!exit.has_value()) {
    exit.emplace();
    exit->exit_code = kLostExitCode;
    exit->finished_at = env_.clock().Now();
    record.set_message("how it ended was not seen: its monitor is gone");
  }
  MarkExited(container.get(), *exit);
  container->exit.Set();
  if (record.boot_id() != boot_id_) co_return absl::OkStatus();
  Task<absl::Status> release = ReleaseExited(container);
  absl::Status released = co_await std::move(release);
  co_return released;
}

Task<void> RuntimeServer::TellSystemdOf(std::vector<std::shared_ptr<Container>> containers) {
  for (const std::shared_ptr<Container>& container : containers) {
    Task<AsyncMutex::Guard> lock = container->mutex.Lock();
    AsyncMutex::Guard guard = co_await std::move(lock);
    if (container->removed || container->record.state() != records::CONTAINER_RUNNING) continue;
    Task<void> tell = TellSystemd(container);
    co_await std::move(tell);
  }
}

// The server ended between the start's first record and its last. What was created is started, so that no
// program runs twice; what was not is as if StartContainer had never been called.
Task<absl::Status> RuntimeServer::ResolveInterruptedStart(std::shared_ptr<Container> container) {
  records::Container& record = container->record;
  const std::string id = record.id();
  CO_ASSIGN_OR_RETURN_SYNC(oci::OciRuntime * runtime, RuntimeFor(record.runtime_handler()));
  if (record.boot_id() == boot_id_ && record.has_monitor()) {
    Task<absl::StatusOr<oci::RuntimeState>> look = runtime->State(id);
    absl::StatusOr<oci::RuntimeState> state = co_await std::move(look);
    // Whether it runs is not known: it must not be taken for one that does not. Somebody asks again.
    if (!state.ok() && !absl::IsNotFound(state.status())) co_return state.status();
    const Sandbox& sandbox = *sandboxes_.at(record.sandbox_id());
    if (state.ok() && state->status == "created" && deps_.kernel->IsAlive(record.monitor()) &&
        sandbox.record.state() == records::SANDBOX_RUNNING) {
      Task<absl::Status> start = runtime->Start(id);
      absl::Status started = co_await std::move(start);
      if (!started.ok()) {
        // It may have run all the same: never a second time.
        LogWarning("an interrupted start failed", {{"container", id}, {"error", started}});
        Task<void> fail = FailStart(container, started);
        co_await std::move(fail);
        co_return absl::OkStatus();
      }
      state->status = "running";
    }
    bool ended = deps_.monitor->ReadExit(id).has_value() || (state.ok() && state->status == "stopped");
    if (state.ok() && (state->status == "running" || ended)) {
      const absl::Status placed =
          record.from_checkpoint() ? CheckRestored(sandbox, *container) : absl::OkStatus();
      if (!placed.ok()) {
        Task<void> fail = FailStart(container, placed);
        co_await std::move(fail);
        co_return absl::OkStatus();
      }
      record.set_state(records::CONTAINER_RUNNING);
      record.set_started_at_ns(NowNs());
      co_return Save(*container);
    }
  }
  CO_RETURN_IF_ERROR(deps_.monitor->KillInterrupted(id));
  if (record.from_checkpoint()) {
    // Its processes may have gone on for a moment: never a second time from the same images.
    Task<void> fail = FailStart(container, absl::AbortedError("the server ended while it was restored"));
    co_await std::move(fail);
    co_return absl::OkStatus();
  }
  CO_RETURN_IF_ERROR(DeleteInRuntime(id, record.runtime_handler(), record.cgroup_path()));
  deps_.monitor->Forget(id);
  record.clear_init();
  record.clear_monitor();
  record.set_state(records::CONTAINER_CREATED);
  co_return Save(*container);
}

Task<absl::Status> RuntimeServer::ResolveAndWatch(std::shared_ptr<Container> container) {
  if (container->removed || container->record.removing() ||
      container->record.state() != records::CONTAINER_STARTING) {
    co_return absl::OkStatus();
  }
  CO_RETURN_IF_ERROR(ResolveInterruptedStart(container));
  container->unresolved = false;
  if (container->record.state() == records::CONTAINER_RUNNING) {
    OpenOomLedger(container->record);
    scope_.Spawn("watch monitor", WatchMonitor(container));
  } else if (container->record.state() == records::CONTAINER_EXITED && PluginsListen()) {
    Task<void> tell = TellStopped(container);
    co_await std::move(tell);
  }
  co_return absl::OkStatus();
}

Task<void> RuntimeServer::ResolveLater(std::shared_ptr<Container> container) {
  absl::Status resolved = absl::UnknownError("not yet");
  for (absl::Duration pause = kMinResolvePause; !resolved.ok();
       pause = std::min(pause * 2, kMaxResolvePause)) {
    Task<void> nap = env_.clock().Sleep(pause);
    co_await std::move(nap);
    Task<AsyncMutex::Guard> lock = container->mutex.Lock();
    AsyncMutex::Guard guard = co_await std::move(lock);
    Task<absl::Status> resolve = ResolveAndWatch(container);
    resolved = co_await std::move(resolve);
    if (!resolved.ok()) {
      LogWarning("not known yet whether a container runs",
                 {{"container", container->record.id()}, {"error", resolved}});
    }
  }
}

Task<absl::Status> RuntimeServer::RecoverSandbox(std::shared_ptr<Sandbox> sandbox) {
  records::Sandbox& record = sandbox->record;
  const std::string id = record.id();
  if (record.state() == records::SANDBOX_CREATING) {
    Task<absl::Status> undo = TearDownSandbox(sandbox);
    absl::Status undone = co_await std::move(undo);
    if (!undone.ok()) {
      // Shown as a pod that is not ready: whoever stops or removes it tries again.
      record.set_state(records::SANDBOX_STOPPING);
      sandbox_names_.try_emplace(SandboxNameKey(record.config().metadata()), id);
      CO_RETURN_IF_ERROR_SYNC(Save(*sandbox));
      co_return undone;
    }
    sandbox->removed = true;
    sandboxes_.erase(id);
    co_return store_.RemoveSandbox(id);
  }
  if (record.restoring()) {
    Task<absl::Status> undo = RemoveSandboxLocked(sandbox);
    absl::Status undone = co_await std::move(undo);
    co_return undone;
  }
  if (record.state() == records::SANDBOX_STOPPED) co_return absl::OkStatus();
  if (record.state() == records::SANDBOX_STOPPING) {
    Task<absl::Status> finish = StopSandboxLocked(sandbox);
    absl::Status finished = co_await std::move(finish);
    co_return finished;
  }
  std::string ns = SandboxDir(id) + "/ns/";
  bool intact = record.boot_id() == boot_id_ &&
                (HostNetwork(record.config()) || deps_.kernel->IsPinned(ns + kNetNamespace)) &&
                (HostIpc(record.config()) || deps_.kernel->IsPinned(ns + kIpcNamespace)) &&
                (!record.has_pause() || deps_.kernel->IsAlive(record.pause()));
  if (intact) co_return absl::OkStatus();
  LogWarning("a pod was being stopped, or its namespaces are gone: it is stopped", {{"sandbox", id}});
  Task<absl::Status> stop = StopSandboxLocked(sandbox);
  absl::Status stopped = co_await std::move(stop);
  co_return stopped;
}

// Whatever has this name and no record: monitor and container, of whichever runtime.
Task<absl::Status> RuntimeServer::KillUnknown(std::string name) {
  CO_RETURN_IF_ERROR(deps_.monitor->KillInterrupted(name));
  for (const auto& [handler, runtime] : deps_.runtimes) {
    Task<absl::Status> remove = runtime->Delete(name, /*force=*/true);
    absl::Status removed = co_await std::move(remove);
    if (!removed.ok()) LogWarning("unknown container not deleted", {{"container", name}, {"error", removed}});
  }
  deps_.monitor->Forget(name);
  co_return absl::OkStatus();
}

Task<absl::Status> RuntimeServer::RemoveLeftovers() {
  std::set<std::string> sandbox_ids, container_ids;
  for (const auto& [id, sandbox] : sandboxes_) sandbox_ids.insert(id);
  for (const auto& [id, container] : containers_) {
    container_ids.insert(id);
    for (const std::string& key : container->record.image_mount_keys()) container_ids.insert(key);
  }
  for (const std::string& key : deps_.images->RootfsKeys()) {
    if (container_ids.contains(key)) continue;
    CO_RETURN_IF_ERROR(deps_.images->RemoveRootfs(key, ContainerDir(key) + "/rootfs"));
  }
  for (const std::string& name : UnknownEntries(options_.run_dir + "/containers", container_ids)) {
    CO_RETURN_IF_ERROR(KillUnknown(name));
    CO_RETURN_IF_ERROR(deps_.images->RemoveRootfs(name, ContainerDir(name) + "/rootfs"));
    auto remove = [dir = ContainerDir(name)] {
      absl::Status unmounted = UnmountVolumes(dir);
      return unmounted.ok() ? RemoveTree(dir) : unmounted;
    };
    Task<absl::Status> removal = env_.Blocking<absl::Status>(remove);
    absl::Status removed = co_await std::move(removal);
    if (!removed.ok()) co_return removed;
  }
  for (const std::string& name : UnknownEntries(options_.run_dir + "/sandboxes", sandbox_ids)) {
    CO_RETURN_IF_ERROR(KillUnknown(name));
    auto unknown = std::make_shared<Sandbox>();
    unknown->record.set_id(name);
    CO_RETURN_IF_ERROR(TearDownSandbox(unknown));
  }
  for (const std::string& name : UnknownEntries(options_.state_dir + "/volumes", container_ids)) {
    CO_RETURN_IF_ERROR_SYNC(RemoveTree(VolumesDir(name)));
  }
  // criu's images are for a start that is still to come.
  for (const auto& [id, container] : containers_) {
    const records::ContainerState state = container->record.state();
    if (state != records::CONTAINER_CREATED && state != records::CONTAINER_STARTING) container_ids.erase(id);
  }
  for (const std::string& name : UnknownEntries(options_.state_dir + "/restores", container_ids)) {
    CO_RETURN_IF_ERROR_SYNC(RemoveTree(RestoreDir(name)));
  }
  std::vector<std::string> valid(sandbox_ids.begin(), sandbox_ids.end());
  CO_RETURN_IF_ERROR(deps_.cni->GarbageCollect(valid));
  co_return absl::OkStatus();
}

}  // namespace keelson::cri
