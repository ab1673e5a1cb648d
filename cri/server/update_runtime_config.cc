#include "base/status.h"
#include "cri/server/runtime_server.h"

namespace keelson::cri {

Task<absl::StatusOr<v1::UpdateRuntimeConfigResponse>> RuntimeServer::UpdateRuntimeConfig(
    v1::UpdateRuntimeConfigRequest request) {
  const std::string& cidr = request.runtime_config().network_config().pod_cidr();
  if (!cidr.empty()) CO_RETURN_IF_ERROR_SYNC(deps_.cni->SetPodCidr(cidr));
  co_return v1::UpdateRuntimeConfigResponse();
}

}  // namespace keelson::cri
