// CheckpointContainer, CheckpointPod, RestorePod: refused with the reason.
#include "base/status.h"
#include "cri/server/runtime_server.h"

namespace keelson::cri {

namespace {
constexpr char kWhyNot[] =
    "checkpoint and restore need criu, which this runtime does not drive (Debian's crun is built without it)";
}

Task<absl::StatusOr<v1::CheckpointContainerResponse>> RuntimeServer::CheckpointContainer(
    v1::CheckpointContainerRequest request) {
  CO_RETURN_IF_ERROR_SYNC(FindContainer(request.container_id()).status());
  co_return absl::UnimplementedError(kWhyNot);
}

Task<absl::StatusOr<v1::CheckpointPodResponse>> RuntimeServer::CheckpointPod(
    v1::CheckpointPodRequest request) {
  CO_RETURN_IF_ERROR_SYNC(FindSandbox(request.pod_sandbox_id()).status());
  co_return absl::UnimplementedError(kWhyNot);
}

Task<absl::StatusOr<v1::RestorePodResponse>> RuntimeServer::RestorePod(v1::RestorePodRequest request) {
  co_return absl::UnimplementedError(kWhyNot);
}

}  // namespace keelson::cri
