#include <utility>

#include "base/status.h"
#include "cri/server/runtime_server.h"

namespace keelson::cri {

Task<absl::StatusOr<v1::RemovePodSandboxResponse>> RuntimeServer::RemovePodSandbox(
    v1::RemovePodSandboxRequest request) {
  absl::StatusOr<std::shared_ptr<Sandbox>> sandbox = FindSandbox(request.pod_sandbox_id());
  if (absl::IsNotFound(sandbox.status())) co_return v1::RemovePodSandboxResponse();
  if (!sandbox.ok()) co_return sandbox.status();
  Task<AsyncMutex::Guard> lock = (*sandbox)->mutex.Lock();
  AsyncMutex::Guard guard = co_await std::move(lock);
  CO_RETURN_IF_ERROR(RemoveSandboxLocked(*sandbox));
  co_return v1::RemovePodSandboxResponse();
}

Task<absl::Status> RuntimeServer::RemoveSandboxLocked(std::shared_ptr<Sandbox> sandbox) {
  if (sandbox->removed) co_return absl::OkStatus();
  CO_RETURN_IF_ERROR(StopSandboxLocked(sandbox));
  std::string id = sandbox->record.id();
  // Those that are just being made find the pod stopped, and undo what they have.
  const std::map<std::string, std::shared_ptr<Container>> creating = sandbox->creating;
  for (const auto& [container_id, container] : creating) {
    Task<AsyncMutex::Guard> lock = container->mutex.Lock();
    AsyncMutex::Guard guard = co_await std::move(lock);
  }
  for (const auto& container : ContainersOf(id)) {
    CO_RETURN_IF_ERROR(StopRunningContainer(container, absl::ZeroDuration()));
    Task<AsyncMutex::Guard> lock = container->mutex.Lock();
    AsyncMutex::Guard guard = co_await std::move(lock);
    CO_RETURN_IF_ERROR(RemoveContainerLocked(container));
  }
  std::shared_ptr<void> block;
  if (deps_.nri != nullptr) {
    Task<std::shared_ptr<void>> take = BlockPluginSync();
    block = co_await std::move(take);
    Task<void> tell = TellRemoved(sandbox);
    co_await std::move(tell);
  }
  CO_RETURN_IF_ERROR_SYNC(store_.RemoveSandbox(id));
  sandbox->removed = true;
  // While its status can still be told: who hears of it knows pods by their UID.
  Publish(v1::CONTAINER_DELETED_EVENT, id, id);
  sandboxes_.erase(id);
  FreeName(&sandbox_names_, SandboxNameKey(sandbox->record.config().metadata()), id);
  co_return absl::OkStatus();
}

}  // namespace keelson::cri
