#include "base/status.h"
#include "base/strings.h"
#include "cri/server/runtime_server.h"
#include "cri/server/verbose_info.h"

namespace keelson::cri {

v1::PodSandboxStatus RuntimeServer::SandboxStatusOf(const Sandbox& sandbox) const {
  const records::Sandbox& record = sandbox.record;
  v1::PodSandboxStatus status;
  status.set_id(record.id());
  *status.mutable_metadata() = record.config().metadata();
  status.set_state(StateOf(record));
  status.set_created_at(record.created_at_ns());
  auto* network = status.mutable_network();
  for (int i = 0; i < record.ips_size(); ++i) {
    if (i == 0) {
      network->set_ip(record.ips(0));
    } else {
      network->add_additional_ips()->set_ip(record.ips(i));
    }
  }
  *status.mutable_linux()->mutable_namespaces()->mutable_options() = NamespacesOf(record.config());
  *status.mutable_labels() = record.config().labels();
  *status.mutable_annotations() = record.config().annotations();
  status.set_runtime_handler(record.runtime_handler());
  return status;
}

Task<absl::StatusOr<v1::PodSandboxStatusResponse>> RuntimeServer::PodSandboxStatus(
    v1::PodSandboxStatusRequest request) {
  CO_ASSIGN_OR_RETURN_SYNC(std::shared_ptr<Sandbox> sandbox, FindSandbox(request.pod_sandbox_id()));
  v1::PodSandboxStatusResponse response;
  *response.mutable_status() = SandboxStatusOf(*sandbox);
  for (const auto& container : ContainersOf(sandbox->record.id())) {
    *response.add_containers_statuses() = ContainerStatusOf(*container);
  }
  response.set_timestamp(NowNs());
  if (request.verbose()) {
    (*response.mutable_info())["info"] =
        SandboxInfoJson(sandbox->record, SandboxDir(sandbox->record.id()) + "/ns");
  }
  co_return response;
}

}  // namespace keelson::cri
