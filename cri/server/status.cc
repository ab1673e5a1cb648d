#include "base/status.h"

#include "cri/server/runtime_server.h"
#include "cri/server/verbose_info.h"

namespace keelson::cri {

namespace {

void AddHandler(const std::string& name, const oci::RuntimeFeatures& features, bool user_namespaces,
                v1::StatusResponse* response) {
  v1::RuntimeHandler* handler = response->add_runtime_handlers();
  handler->set_name(name);
  handler->mutable_features()->set_recursive_read_only_mounts(features.recursive_read_only);
  handler->mutable_features()->set_user_namespaces(user_namespaces);
}

}  // namespace

Task<absl::StatusOr<v1::StatusResponse>> RuntimeServer::Status(v1::StatusRequest request) {
  v1::StatusResponse response;
  v1::RuntimeCondition* runtime = response.mutable_status()->add_conditions();
  runtime->set_type("RuntimeReady");
  runtime->set_status(true);
  v1::RuntimeCondition* network = response.mutable_status()->add_conditions();
  network->set_type("NetworkReady");
  Task<absl::Status> ask = deps_.cni->AskStatus();
  absl::Status ready = co_await std::move(ask);
  network->set_status(ready.ok());
  if (!ready.ok()) {
    network->set_reason("NetworkPluginNotReady");
    network->set_message(std::string(ready.message()));
  }
  // The default handler is also known by its empty name.
  AddHandler("", deps_.runtimes.at(options_.default_handler)->features(), options_.user_namespaces,
             &response);
  for (const auto& [name, runtime_of] : deps_.runtimes)
    AddHandler(name, runtime_of->features(), options_.user_namespaces, &response);
  response.mutable_features()->set_supplemental_groups_policy(true);
  response.mutable_features()->set_mount_options(true);
  if (request.verbose()) {
    std::map<std::string, std::vector<std::string>> vulnerabilities;
    for (const auto& [name, runtime_of] : deps_.runtimes) {
      vulnerabilities[name] = oci::KnownVulnerabilities(name, runtime_of->version());
    }
    (*response.mutable_info())["config"] =
        RuntimeInfoJson(options_.state_dir, options_.run_dir, options_.default_handler, vulnerabilities);
  }
  co_return response;
}

}  // namespace keelson::cri
