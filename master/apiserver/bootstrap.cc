#include "api/core/v1/endpoints.pb.h"
#include "api/core/v1/namespace.pb.h"
#include "api/core/v1/service.pb.h"
#include "api/discovery/v1/discovery.pb.h"
#include "api/scheduling/v1/scheduling.pb.h"
#include "api/status_error.h"
#include "base/strings.h"
#include "master/apiserver/api_server.h"

namespace keelson::master {
namespace {

namespace core = ::k8s::core::v1;
namespace discovery = ::k8s::discovery::v1;
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

// Creates the object, or makes the existing one equal in what `same` compares.
template <class T>
Task<absl::Status> CreateOrUpdate(ApiClient& client, T wanted, bool (*same)(const T& a, const T& b)) {
  Task<absl::StatusOr<std::shared_ptr<const T>>> get =
      client.Get<T>(wanted.metadata().namespace_(), wanted.metadata().name());
  absl::StatusOr<std::shared_ptr<const T>> current = co_await std::move(get);
  if (!current.ok() && !api::IsNotFound(current.status())) co_return current.status();
  if (!current.ok()) {
    Task<absl::Status> create = CreateMissing(client, std::make_shared<const T>(std::move(wanted)));
    absl::Status status = co_await std::move(create);
    co_return status;
  }
  if (same(**current, wanted)) co_return absl::OkStatus();
  *wanted.mutable_metadata() = (*current)->metadata();
  wanted.mutable_metadata()->clear_resource_version();
  Task<absl::StatusOr<std::shared_ptr<const T>>> update = client.Update<T>(std::move(wanted));
  absl::StatusOr<std::shared_ptr<const T>> updated = co_await std::move(update);
  co_return updated.status();
}

core::Service KubernetesService(const std::string& cluster_ip, uint16_t target_port) {
  core::Service s;
  s.mutable_metadata()->set_name("kubernetes");
  s.mutable_metadata()->set_namespace_("default");
  (*s.mutable_metadata()->mutable_labels())["component"] = "apiserver";
  (*s.mutable_metadata()->mutable_labels())["provider"] = "kubernetes";
  s.mutable_spec()->set_type("ClusterIP");
  s.mutable_spec()->set_cluster_ip(cluster_ip);
  auto* port = s.mutable_spec()->add_ports();
  port->set_name("https");
  port->set_protocol("TCP");
  port->set_port(443);
  port->mutable_target_port()->set_int_val(target_port);
  return s;
}

core::Endpoints KubernetesEndpoints(const std::string& address, uint16_t port) {
  core::Endpoints e;
  e.mutable_metadata()->set_name("kubernetes");
  e.mutable_metadata()->set_namespace_("default");
  (*e.mutable_metadata()->mutable_labels())["endpointslice.kubernetes.io/skip-mirror"] = "true";
  auto* subset = e.add_subsets();
  subset->add_addresses()->set_ip(address);
  auto* p = subset->add_ports();
  p->set_name("https");
  p->set_port(port);
  p->set_protocol("TCP");
  return e;
}

discovery::EndpointSlice KubernetesSlice(const std::string& address, uint16_t port) {
  discovery::EndpointSlice e;
  e.mutable_metadata()->set_name("kubernetes");
  e.mutable_metadata()->set_namespace_("default");
  (*e.mutable_metadata()->mutable_labels())["kubernetes.io/service-name"] = "kubernetes";
  e.set_address_type("IPv4");
  auto* endpoint = e.add_endpoints();
  endpoint->add_addresses(address);
  endpoint->mutable_conditions()->set_ready(true);
  auto* p = e.add_ports();
  p->set_name("https");
  p->set_port(port);
  p->set_protocol("TCP");
  return e;
}

bool SameService(const core::Service& a, const core::Service& b) {
  return a.spec().ports_size() == 1 && a.spec().ports(0).port() == b.spec().ports(0).port() &&
         a.spec().ports(0).target_port().int_val() == b.spec().ports(0).target_port().int_val();
}
bool SameEndpoints(const core::Endpoints& a, const core::Endpoints& b) {
  return a.subsets_size() == 1 && a.subsets(0).SerializeAsString() == b.subsets(0).SerializeAsString();
}
bool SameSlice(const discovery::EndpointSlice& a, const discovery::EndpointSlice& b) {
  return a.endpoints_size() == 1 && a.ports_size() == 1 &&
         a.endpoints(0).SerializeAsString() == b.endpoints(0).SerializeAsString() &&
         a.ports(0).SerializeAsString() == b.ports(0).SerializeAsString();
}

Task<absl::Status> KeepKubernetesService(Pipeline& pipeline, ApiClient& client, std::string address,
                                         uint16_t port) {
  core::Service service = KubernetesService(pipeline.allocator().FirstAddress(), port);
  Task<absl::Status> a = CreateOrUpdate<core::Service>(client, std::move(service), SameService);
  absl::Status status = co_await std::move(a);
  if (!status.ok()) co_return status;
  Task<absl::Status> b =
      CreateOrUpdate<core::Endpoints>(client, KubernetesEndpoints(address, port), SameEndpoints);
  status = co_await std::move(b);
  if (!status.ok()) co_return status;
  Task<absl::Status> c =
      CreateOrUpdate<discovery::EndpointSlice>(client, KubernetesSlice(address, port), SameSlice);
  status = co_await std::move(c);
  co_return status;
}

}  // namespace

Task<absl::Status> Bootstrap(Pipeline& pipeline, ApiClient& client, std::string advertise_address,
                             uint16_t advertise_port) {
  for (const char* name : {"default", "kube-node-lease", "kube-public", "kube-system"}) {
    auto ns = std::make_shared<core::Namespace>();
    ns->mutable_metadata()->set_name(name);
    Task<absl::Status> create = CreateMissing(client, ns);
    absl::Status status = co_await std::move(create);
    if (!status.ok()) co_return status;
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
  if (advertise_address.empty()) co_return absl::OkStatus();
  Task<absl::Status> keep =
      KeepKubernetesService(pipeline, client, std::move(advertise_address), advertise_port);
  absl::Status status = co_await std::move(keep);
  co_return status;
}

}  // namespace keelson::master
