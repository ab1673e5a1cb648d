#include "cri/server/runtime_server.h"

namespace keelson::cri {

Task<absl::StatusOr<v1::RuntimeConfigResponse>> RuntimeServer::RuntimeConfig(
    v1::RuntimeConfigRequest request) {
  v1::RuntimeConfigResponse response;
  response.mutable_linux()->set_cgroup_driver(deps_.host.systemd_cgroup ? v1::SYSTEMD : v1::CGROUPFS);
  co_return response;
}

}  // namespace keelson::cri
