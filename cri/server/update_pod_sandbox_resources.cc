#include "base/status.h"
#include "cri/server/runtime_server.h"

namespace keelson::cri {

// The pod's cgroup is the kubelet's, and so are its limits; the runtime keeps what it is told (KEP-5135), for
// the containers it makes later and for those who ask.
Task<absl::StatusOr<v1::UpdatePodSandboxResourcesResponse>> RuntimeServer::UpdatePodSandboxResources(
    v1::UpdatePodSandboxResourcesRequest request) {
  CO_ASSIGN_OR_RETURN_SYNC(std::shared_ptr<Sandbox> sandbox, FindSandbox(request.pod_sandbox_id()));
  auto* linux = sandbox->record.mutable_config()->mutable_linux();
  if (request.has_overhead()) *linux->mutable_overhead() = request.overhead();
  if (request.has_resources()) *linux->mutable_resources() = request.resources();
  CO_RETURN_IF_ERROR_SYNC(Save(*sandbox));
  co_return v1::UpdatePodSandboxResourcesResponse();
}

}  // namespace keelson::cri
