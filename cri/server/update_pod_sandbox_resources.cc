#include "base/status.h"
#include "base/strings.h"
#include "cri/server/runtime_server.h"

namespace keelson::cri {

absl::Status CheckPodResources(const v1::UpdatePodSandboxResourcesRequest& request,
                               const oci::HostFacts& host) {
  std::vector<std::string> warnings;  // nothing is set here
  RETURN_IF_ERROR(Annotate(oci::GenerateResources(request.overhead(), host, &warnings).status(), "overhead"));
  return Annotate(oci::GenerateResources(request.resources(), host, &warnings).status(), "resources");
}

// The pod's cgroup is the kubelet's, and so are its limits. The runtime keeps what it is told (KEP-5135) for
// those who ask (PodSandboxStatus with verbose); no container gets other limits by it.
Task<absl::StatusOr<v1::UpdatePodSandboxResourcesResponse>> RuntimeServer::UpdatePodSandboxResources(
    v1::UpdatePodSandboxResourcesRequest request) {
  CO_ASSIGN_OR_RETURN_SYNC(std::shared_ptr<Sandbox> sandbox, FindSandbox(request.pod_sandbox_id()));
  CO_RETURN_IF_ERROR_SYNC(CheckPodResources(request, deps_.host));
  if (PluginsListen()) CO_RETURN_IF_ERROR(TellUpdate(sandbox, request));
  Task<AsyncMutex::Guard> lock = sandbox->mutex.Lock();
  AsyncMutex::Guard guard = co_await std::move(lock);
  if (sandbox->removed || sandbox->record.state() != records::SANDBOX_RUNNING) {
    co_return absl::FailedPreconditionError(StrCat("pod sandbox ", sandbox->record.id(), " is not running"));
  }
  auto* linux = sandbox->record.mutable_config()->mutable_linux();
  if (request.has_overhead()) *linux->mutable_overhead() = request.overhead();
  if (request.has_resources()) *linux->mutable_resources() = request.resources();
  CO_RETURN_IF_ERROR_SYNC(Save(*sandbox));
  if (PluginsListen()) {
    Task<void> tell = TellUpdated(sandbox);
    co_await std::move(tell);
  }
  co_return v1::UpdatePodSandboxResourcesResponse();
}

}  // namespace keelson::cri
