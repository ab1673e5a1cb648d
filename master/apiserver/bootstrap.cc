#include "api/core/v1/config.pb.h"
#include "api/core/v1/namespace.pb.h"
#include "api/scheduling/v1/scheduling.pb.h"
#include "api/status_error.h"
#include "master/admission/admission.h"
#include "master/apiserver/api_server.h"
#include "master/system_namespaces.h"

namespace keelson::master {
namespace {

namespace core = ::k8s::core::v1;
using client::ApiClient;

constexpr int32_t kSystemCriticalPriority = 2'000'000'000;

Task<absl::Status> CreateMissing(ApiClient& client, std::shared_ptr<const api::Message> object) {
  const api::TypeInfo& type = api::TypeOf(*object);
  const std::string ns = api::Meta(*object).namespace_();
  Task<absl::StatusOr<api::ObjectPtr>> create = client.Create(type.gvr(), ns, object, "", "");
  absl::StatusOr<api::ObjectPtr> created = co_await std::move(create);
  if (created.ok() || api::IsAlreadyExists(created.status())) co_return absl::OkStatus();
  co_return created.status();
}

}  // namespace

Task<absl::Status> Bootstrap(ApiClient& client) {
  for (const char* name : kSystemNamespaces) {
    auto ns = std::make_shared<core::Namespace>();
    ns->mutable_metadata()->set_name(name);
    Task<absl::Status> create = CreateMissing(client, ns);
    absl::Status status = co_await std::move(create);
    if (!status.ok()) co_return status;
    // A controller makes it in all the others; here the first pod does not have to wait for it.
    auto account = std::make_shared<core::ServiceAccount>();
    account->mutable_metadata()->set_namespace_(name);
    account->mutable_metadata()->set_name(kDefaultServiceAccount);
    Task<absl::Status> create_account = CreateMissing(client, account);
    status = co_await std::move(create_account);
    // A namespace that ends takes no account, and is not to keep the server from starting.
    if (!status.ok() && !api::IsForbidden(status) && !api::IsNotFound(status)) co_return status;
  }
  for (bool node : {false, true}) {
    auto c = std::make_shared<::k8s::scheduling::v1::PriorityClass>();
    c->mutable_metadata()->set_name(node ? "system-node-critical" : "system-cluster-critical");
    c->set_value(kSystemCriticalPriority + (node ? 1000 : 0));
    c->set_description(node ? "For pods a node cannot do without."
                            : "For pods the cluster cannot do without.");
    c->set_preemption_policy("PreemptLowerPriority");
    Task<absl::Status> create = CreateMissing(client, c);
    absl::Status status = co_await std::move(create);
    if (!status.ok()) co_return status;
  }
  co_return absl::OkStatus();
}

}  // namespace keelson::master
