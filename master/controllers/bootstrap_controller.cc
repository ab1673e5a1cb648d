#include "master/controllers/bootstrap_controller.h"

#include <absl/strings/strip.h>
#include <google/protobuf/util/message_differencer.h>

#include "api/core/v1/namespace.pb.h"
#include "api/object.h"
#include "api/status_error.h"
#include "base/status.h"
#include "base/strings.h"
#include "master/controllers/service_endpoints.h"
#include "master/system_namespaces.h"
#include "net/address.h"

namespace keelson::master {

namespace corev1 = ::k8s::core::v1;
using client::ObjectPtr;
using google::protobuf::util::MessageDifferencer;
using Slice = ::k8s::discovery::v1::EndpointSlice;

namespace {

constexpr char kServiceName[] = "kubernetes";
constexpr char kServiceKey[] = "default/kubernetes";
constexpr char kNamespacePrefix[] = "namespace/";
constexpr char kPortName[] = "https";
constexpr int32_t kServicePort = 443;

void SetServiceMeta(::k8s::meta::v1::ObjectMeta* meta) {
  meta->set_namespace_("default");
  meta->set_name(kServiceName);
}

// Each makes `current` right and says whether it was.
bool AdjustService(const corev1::Service& wanted, corev1::Service* current) {
  bool right =
      current->spec().ports_size() == 1 && current->spec().ports(0).name() == kPortName &&
      current->spec().ports(0).port() == kServicePort &&
      current->spec().ports(0).target_port().int_val() == wanted.spec().ports(0).target_port().int_val();
  if (!right) *current->mutable_spec()->mutable_ports() = wanted.spec().ports();
  return right;
}

bool AdjustEndpoints(const corev1::Endpoints& wanted, corev1::Endpoints* current) {
  bool right =
      current->subsets_size() == 1 && MessageDifferencer::Equals(wanted.subsets(0), current->subsets(0));
  if (!right) *current->mutable_subsets() = wanted.subsets();
  return right;
}

bool AdjustSlice(const Slice& wanted, Slice* current) {
  bool right = current->ports_size() == 1 && MessageDifferencer::Equals(wanted.ports(0), current->ports(0)) &&
               current->endpoints_size() == 1 &&
               MessageDifferencer::Equals(wanted.endpoints(0), current->endpoints(0));
  if (!right) *current->mutable_endpoints() = wanted.endpoints();
  if (!right) *current->mutable_ports() = wanted.ports();
  return right;
}

}  // namespace

absl::StatusOr<corev1::Service> KubernetesService(const BootstrapOptions& options) {
  ASSIGN_OR_RETURN(net::Cidr cidr, net::Cidr::Parse(options.service_cidr));
  ASSIGN_OR_RETURN(net::IpAddress address, cidr.Nth(1));
  corev1::Service service;
  SetServiceMeta(service.mutable_metadata());
  (*service.mutable_metadata()->mutable_labels())["component"] = "apiserver";
  (*service.mutable_metadata()->mutable_labels())["provider"] = "kubernetes";
  service.mutable_spec()->set_type("ClusterIP");
  service.mutable_spec()->set_session_affinity("None");
  service.mutable_spec()->set_cluster_ip(address.ToString());
  corev1::ServicePort* port = service.mutable_spec()->add_ports();
  port->set_name(kPortName);
  port->set_protocol("TCP");
  port->set_port(kServicePort);
  port->mutable_target_port()->set_int_val(options.secure_port);
  return service;
}

corev1::Endpoints KubernetesEndpoints(const BootstrapOptions& options) {
  corev1::Endpoints endpoints;
  SetServiceMeta(endpoints.mutable_metadata());
  (*endpoints.mutable_metadata()->mutable_labels())["endpointslice.kubernetes.io/skip-mirror"] = "true";
  corev1::EndpointSubset* subset = endpoints.add_subsets();
  subset->add_addresses()->set_ip(options.advertise_address);
  corev1::EndpointPort* port = subset->add_ports();
  port->set_name(kPortName);
  port->set_port(options.secure_port);
  port->set_protocol("TCP");
  return endpoints;
}

Slice KubernetesEndpointSlice(const BootstrapOptions& options) {
  Slice slice;
  SetServiceMeta(slice.mutable_metadata());
  (*slice.mutable_metadata()->mutable_labels())[kServiceNameLabel] = kServiceName;
  auto address = net::IpAddress::Parse(options.advertise_address);
  slice.set_address_type(address.ok() && address->is_v6() ? "IPv6" : "IPv4");
  auto* endpoint = slice.add_endpoints();
  endpoint->add_addresses(options.advertise_address);
  endpoint->mutable_conditions()->set_ready(true);
  auto* port = slice.add_ports();
  port->set_name(kPortName);
  port->set_port(options.secure_port);
  port->set_protocol("TCP");
  return slice;
}

BootstrapController::BootstrapController(ControllerContext context, BootstrapOptions options)
    : context_(context),
      options_(std::move(options)),
      namespaces_(context.informers.For<corev1::Namespace>()),
      services_(context.informers.For<corev1::Service>()),
      endpoints_(context.informers.For<corev1::Endpoints>()),
      slices_(context.informers.For<Slice>()),
      loop_(context.env, name(), *this) {
  namespaces_.AddHandler([this](const ObjectPtr& before, const ObjectPtr& after) {
    if (after != nullptr) return;
    for (const char* name : kSystemNamespaces) {
      if (api::Meta(*before).name() == name) loop_.queue().Add(StrCat(kNamespacePrefix, name));
    }
  });
  for (client::Informer* informer : {&services_, &endpoints_, &slices_}) {
    informer->AddHandler([this](const ObjectPtr& before, const ObjectPtr& after) {
      if (api::NamespacedName(after != nullptr ? *after : *before) == kServiceKey)
        loop_.queue().Add(kServiceKey);
    });
  }
}

void BootstrapController::Start() {
  for (const char* name : kSystemNamespaces) loop_.queue().Add(StrCat(kNamespacePrefix, name));
  loop_.queue().Add(kServiceKey);
  loop_.Start(1);
}

Task<void> BootstrapController::Stop() { return loop_.Stop(); }

Task<absl::Status> BootstrapController::KeepNamespace(std::string name) {
  if (namespaces_.GetByKey(name) != nullptr) co_return absl::OkStatus();
  corev1::Namespace ns;
  ns.mutable_metadata()->set_name(name);
  Task<absl::StatusOr<std::shared_ptr<const corev1::Namespace>>> create =
      context_.client.Create<corev1::Namespace>(std::move(ns));
  absl::StatusOr<std::shared_ptr<const corev1::Namespace>> created = co_await std::move(create);
  co_return api::IsAlreadyExists(created.status()) ? absl::OkStatus() : created.status();
}

template <class T>
Task<absl::Status> BootstrapController::CreateOrUpdate(T wanted,
                                                       bool (*adjust)(const T& wanted, T* current)) {
  std::shared_ptr<const T> current = context_.informers.For<T>().template Get<T>(kServiceKey);
  if (current == nullptr) {
    Task<absl::StatusOr<std::shared_ptr<const T>>> create = context_.client.Create<T>(std::move(wanted));
    absl::StatusOr<std::shared_ptr<const T>> created = co_await std::move(create);
    co_return api::IsAlreadyExists(created.status()) ? absl::OkStatus() : created.status();
  }
  T updated = *current;
  if (adjust(wanted, &updated)) co_return absl::OkStatus();
  Task<absl::StatusOr<std::shared_ptr<const T>>> update = context_.client.Update<T>(std::move(updated));
  absl::StatusOr<std::shared_ptr<const T>> result = co_await std::move(update);
  co_return result.status();
}

Task<absl::Status> BootstrapController::KeepService() {
  if (options_.advertise_address.empty()) co_return absl::OkStatus();
  CO_ASSIGN_OR_RETURN_SYNC(corev1::Service service, KubernetesService(options_));
  CO_RETURN_IF_ERROR(CreateOrUpdate<corev1::Service>(std::move(service), AdjustService));
  CO_RETURN_IF_ERROR(CreateOrUpdate<corev1::Endpoints>(KubernetesEndpoints(options_), AdjustEndpoints));
  CO_RETURN_IF_ERROR(CreateOrUpdate<Slice>(KubernetesEndpointSlice(options_), AdjustSlice));
  co_return absl::OkStatus();
}

Task<absl::StatusOr<client::Requeue>> BootstrapController::Reconcile(std::string key) {
  absl::string_view name = key;
  if (absl::ConsumePrefix(&name, kNamespacePrefix)) {
    CO_RETURN_IF_ERROR(KeepNamespace(std::string(name)));
  } else {
    CO_RETURN_IF_ERROR(KeepService());
  }
  co_return client::Requeue();
}

}  // namespace keelson::master
