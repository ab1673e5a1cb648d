#include <unistd.h>

#include <utility>

#include "base/fd.h"
#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"
#include "cri/server/cgroup_names.h"
#include "cri/server/namespaces.h"
#include "cri/server/runtime_server.h"

namespace keelson::cri {

namespace {

// Mounts, pins and files of a sandbox; any may be missing. Blocking.
absl::Status RemoveSandboxFiles(HostKernel* kernel, const std::string& dir) {
  RETURN_IF_ERROR(kernel->UnpinNamespaces(dir + "/ns"));
  RETURN_IF_ERROR(kernel->Unmount(dir + "/shm"));
  return RemoveTree(dir);
}

}  // namespace

Task<absl::StatusOr<v1::StopPodSandboxResponse>> RuntimeServer::StopPodSandbox(
    v1::StopPodSandboxRequest request) {
  absl::StatusOr<std::shared_ptr<Sandbox>> sandbox = FindSandbox(request.pod_sandbox_id());
  if (absl::IsNotFound(sandbox.status())) co_return v1::StopPodSandboxResponse();
  if (!sandbox.ok()) co_return sandbox.status();
  Task<AsyncMutex::Guard> lock = (*sandbox)->mutex.Lock();
  AsyncMutex::Guard guard = co_await std::move(lock);
  CO_RETURN_IF_ERROR(StopSandboxLocked(*sandbox));
  co_return v1::StopPodSandboxResponse();
}

Task<absl::Status> RuntimeServer::StopSandboxLocked(std::shared_ptr<Sandbox> sandbox) {
  if (sandbox->removed || sandbox->record.state() == records::SANDBOX_STOPPED) co_return absl::OkStatus();
  const std::string& id = sandbox->record.id();
  // From here on nothing is started in it, and a restart goes on.
  sandbox->record.set_state(records::SANDBOX_STOPPING);
  CO_RETURN_IF_ERROR_SYNC(Save(*sandbox));
  std::vector<std::shared_ptr<Container>> containers = ContainersOf(id);
  // All of them get the signal before the first is waited for.
  for (const auto& container : containers) {
    if (container->record.state() != records::CONTAINER_RUNNING) continue;
    absl::Status killed = SignalInit(*container, SIGKILL);
    if (!killed.ok())
      LogWarning("container not killed", {{"container", container->record.id()}, {"error", killed}});
  }
  for (const auto& container : containers) {
    CO_RETURN_IF_ERROR(StopRunningContainer(container, absl::ZeroDuration()));
  }
  if (PluginsListen()) {
    for (const auto& container : containers) {
      // Whoever saw it end tells of that first.
      Task<AsyncMutex::Guard> lock = container->mutex.Lock();
      AsyncMutex::Guard guard = co_await std::move(lock);
    }
    Task<void> tell = TellStopped(sandbox);
    co_await std::move(tell);
  }
  CO_RETURN_IF_ERROR(TearDownSandbox(sandbox));
  sandbox->record.set_state(records::SANDBOX_STOPPED);
  CO_RETURN_IF_ERROR_SYNC(Save(*sandbox));
  Publish(v1::CONTAINER_STOPPED_EVENT, id, id);
  co_return absl::OkStatus();
}

Task<absl::Status> RuntimeServer::TearDownSandbox(std::shared_ptr<Sandbox> sandbox) {
  const std::string& id = sandbox->record.id();
  std::string what = StrCat("tear down pod sandbox ", id);
  if (sandbox->record.network_attached()) {
    Task<absl::Status> del = deps_.cni->Del(AttachmentOf(*sandbox));
    absl::Status status = co_await std::move(del);
    if (!status.ok()) co_return Annotate(status, what);
    // After the link is gone: with the last one the guard of the host's loopback goes, too.
    Task<absl::Status> ports = deps_.host_ports->Remove(id);
    status = co_await std::move(ports);
    if (!status.ok()) co_return Annotate(status, what);
    sandbox->record.set_network_attached(false);
  }
  std::string dir = SandboxDir(id);
  if (sandbox->record.has_pause() || ::access((dir + "/pause").c_str(), F_OK) == 0) {
    // A server that was killed while it made the process left a monitor that would go on making it.
    if (!sandbox->record.has_pause()) CO_RETURN_IF_ERROR(deps_.monitor->KillInterrupted(id));
    std::string cgroup = ContainerCgroupPath(sandbox->record.config().linux().cgroup_parent(),
                                             options_.default_cgroup_parent, id);
    Task<absl::Status> remove = DeleteInRuntime(id, sandbox->record.runtime_handler(), cgroup);
    absl::Status status = co_await std::move(remove);
    if (!status.ok()) co_return Annotate(status, what);
    Task<void> monitor = AwaitEnd(sandbox->record.pause_monitor());
    co_await std::move(monitor);
    deps_.monitor->Forget(id);
    sandbox->record.clear_pause();
    sandbox->record.clear_pause_monitor();
  }
  auto files = [kernel = deps_.kernel, dir] { return RemoveSandboxFiles(kernel, dir); };
  Task<absl::Status> removed = env_.Blocking<absl::Status>(files);
  absl::Status status = co_await std::move(removed);
  if (!status.ok()) co_return Annotate(status, what);
  co_return absl::OkStatus();
}

}  // namespace keelson::cri
