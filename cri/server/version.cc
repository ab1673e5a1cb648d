#include "cri/server/runtime_server.h"

namespace keelson::cri {

Task<absl::StatusOr<v1::VersionResponse>> RuntimeServer::Version(v1::VersionRequest request) {
  v1::VersionResponse response;
  response.set_version("0.1.0");  // of the kubelet's runtime API; upstream never moved it
  response.set_runtime_name(kRuntimeName);
  response.set_runtime_version(KEELSON_VERSION);
  response.set_runtime_api_version(kRuntimeApiVersion);
  co_return response;
}

}  // namespace keelson::cri
