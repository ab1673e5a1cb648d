#include "api/validation.h"

#include <absl/container/flat_hash_map.h>
#include <absl/container/flat_hash_set.h>
#include <absl/strings/ascii.h>
#include <google/protobuf/util/message_differencer.h>

#include <algorithm>

#include "api/codec.h"
#include "api/coordination/v1/coordination.pb.h"
#include "api/core/v1/config.pb.h"
#include "api/core/v1/endpoints.pb.h"
#include "api/core/v1/event.pb.h"
#include "api/core/v1/namespace.pb.h"
#include "api/core/v1/node.pb.h"
#include "api/core/v1/pod.pb.h"
#include "api/core/v1/replication_controller.pb.h"
#include "api/core/v1/service.pb.h"
#include "api/discovery/v1/discovery.pb.h"
#include "api/labels.h"
#include "api/node/v1/node.pb.h"
#include "api/object.h"
#include "api/quantity.h"
#include "api/validation_internal.h"
#include "base/strings.h"

namespace keelson::api {

namespace corev1 = ::k8s::core::v1;
namespace discoveryv1 = ::k8s::discovery::v1;
using google::protobuf::util::MessageDifferencer;
using validation::Child;
using validation::Errors;
using validation::Index;
using validation::KeyOf;

namespace {

constexpr size_t kMaxConfigBytes = 1 << 20;  // ConfigMap and Secret data together
constexpr int32_t kMaxClientIpTimeoutS = 86400;

std::vector<std::string> AnyName(std::string_view name) {
  if (name == "." || name == ".." || name.find('/') != std::string_view::npos ||
      name.find('%') != std::string_view::npos) {
    return {"may not be '.', '..' or contain '/' or '%'"};
  }
  return {};
}

validation::NameRule NameRuleOf(const TypeInfo& type) {
  const std::string& kind = type.gvk.kind;
  if (kind == "Namespace") return IsDns1123Label;
  if (kind == "Service") return IsDns1035Label;
  if (type.gvk.group == "rbac.authorization.k8s.io") return AnyName;
  return IsDns1123Subdomain;
}

// ---- per kind ----

void CheckReplicationController(const corev1::ReplicationController& controller, Errors& errors) {
  const auto& spec = controller.spec();
  errors.NonNegative("spec.minReadySeconds", spec.min_ready_seconds());
  if (spec.selector().empty()) errors.Required("spec.selector");
  if (!spec.has_replicas()) {
    errors.Required("spec.replicas");
  } else {
    errors.NonNegative("spec.replicas", spec.replicas());
  }
  if (!spec.has_template_()) return errors.Required("spec.template");
  const auto& labels = spec.template_().metadata().labels();
  errors.Labels("spec.template.labels", labels);
  if (!spec.selector().empty() && !SelectsNonEmpty(spec.selector(), labels)) {
    ::k8s::meta::v1::ObjectMeta only_labels;
    *only_labels.mutable_labels() = labels;
    std::string json = EncodeJson(only_labels);  // {"labels":{...}}
    size_t start = json.find("{\"labels\":");
    std::string shown = start == std::string::npos ? "null" : json.substr(10, json.size() - 11);
    errors.Invalid("spec.template.metadata.labels", shown, "`selector` does not match template `labels`");
  }
  validation::PodSpec(spec.template_().spec(), "spec.template.spec", errors);
  const std::string& restart = spec.template_().spec().restart_policy();
  if (restart == "Never" || restart == "OnFailure") {
    errors.NotSupported("spec.template.spec.restartPolicy", restart, {"Always"});
  }
  if (spec.template_().spec().has_active_deadline_seconds()) {
    errors.Forbidden("spec.template.spec.activeDeadlineSeconds",
                     "activeDeadlineSeconds in ReplicationController is not Supported");
  }
}

void CheckServicePort(const corev1::ServicePort& port, bool needs_name, const std::string& path,
                      absl::flat_hash_set<std::string>* names, Errors& errors) {
  if (needs_name && port.name().empty()) {
    errors.Required(Child(path, "name"));
  } else if (!port.name().empty()) {
    errors.Messages(Child(path, "name"), port.name(), IsDns1123Label(port.name()));
    if (!names->insert(port.name()).second) errors.Duplicate(Child(path, "name"), port.name());
  }
  errors.Port(Child(path, "port"), port.port());
  errors.OneOf(Child(path, "protocol"), port.protocol(), {"SCTP", "TCP", "UDP"});
  const auto& target = port.target_port();
  if (target.type() == 0) {
    errors.Port(Child(path, "targetPort"), target.int_val());
  } else {
    errors.PortName(Child(path, "targetPort"), target.str_val());
  }
}

void CheckService(const corev1::Service& service, Errors& errors) {
  const auto& spec = service.spec();
  bool headless = spec.cluster_ip() == "None";
  if (spec.ports().empty() && !headless && spec.type() != "ExternalName") errors.Required("spec.ports");
  errors.OneOf("spec.type", spec.type(), {"ClusterIP", "ExternalName", "LoadBalancer", "NodePort"});
  if (spec.type() == "ExternalName") {
    if (!spec.cluster_ip().empty() && !headless) {
      errors.Forbidden("spec.clusterIPs[0]", "may not be set for ExternalName services");
    }
    if (spec.external_name().empty()) {
      errors.Required("spec.externalName");
    } else {
      errors.Messages("spec.externalName", spec.external_name(), IsDns1123Subdomain(spec.external_name()));
    }
  }
  if (headless && (spec.type() == "NodePort" || spec.type() == "LoadBalancer")) {
    errors.InvalidText("spec.clusterIPs[0]", "None",
                       StrCat("may not be set to 'None' for ", spec.type(), " services"));
  }
  absl::flat_hash_set<std::string> names, ports, node_ports;
  for (int i = 0; i < spec.ports_size(); ++i) {
    const auto& port = spec.ports(i);
    std::string here = Index("spec.ports", static_cast<size_t>(i));
    CheckServicePort(port, spec.ports_size() > 1, here, &names, errors);
    if (!ports.insert(StrCat(port.protocol(), "/", port.port())).second) {
      errors.Duplicate(here, StrCat(port.protocol(), "/", port.port()));
    }
    if (port.node_port() == 0) continue;
    errors.NonNegative(Child(here, "nodePort"), port.node_port());
    if (spec.type() == "ClusterIP" || spec.type() == "ExternalName") {
      errors.Forbidden(Child(here, "nodePort"), StrCat("may not be used when `type` is '", spec.type(), "'"));
    }
    if (!node_ports.insert(StrCat(port.protocol(), "/", port.node_port())).second) {
      errors.Duplicate(Child(here, "nodePort"), StrCat(port.node_port()));
    }
  }
  errors.Labels("spec.selector", spec.selector());
  errors.OneOf("spec.sessionAffinity", spec.session_affinity(), {"ClientIP", "None"});
  if (spec.session_affinity() == "ClientIP") {
    int32_t timeout_s = spec.session_affinity_config().client_ip().timeout_seconds();
    if (timeout_s <= 0 || timeout_s > kMaxClientIpTimeoutS) {
      errors.InvalidNumber("spec.sessionAffinityConfig.clientIP.timeoutSeconds", timeout_s,
                           StrCat("must be greater than 0 and less than ", kMaxClientIpTimeoutS));
    }
  }
  if (!spec.external_traffic_policy().empty()) {
    errors.OneOf("spec.externalTrafficPolicy", spec.external_traffic_policy(), {"Cluster", "Local"});
  }
  if (spec.has_internal_traffic_policy()) {
    errors.OneOf("spec.internalTrafficPolicy", spec.internal_traffic_policy(), {"Cluster", "Local"});
  }
}

void CheckServiceUpdate(const corev1::Service& service, const corev1::Service& old, Errors& errors) {
  // The address may only come or go with the type.
  bool keeps = service.spec().type() != "ExternalName" && old.spec().type() != "ExternalName";
  if (keeps && !old.spec().cluster_ip().empty() && service.spec().cluster_ip() != old.spec().cluster_ip()) {
    errors.Invalid("spec.clusterIPs[0]", StrCat("[\"", service.spec().cluster_ip(), "\"]"),
                   "may not change once set");
  }
}

template <class Config, class Size>
void CheckConfigData(const Config& object, Size total, Errors& errors) {
  auto key = [&](const std::string& field, const std::string& name) {
    bool bad = name.empty() || name.size() > 253 || name == "." || name.starts_with("..");
    for (char c : name)
      bad |= !absl::ascii_isalnum(static_cast<unsigned char>(c)) && c != '-' && c != '_' && c != '.';
    if (bad) {
      errors.InvalidText(
          KeyOf(field, name), name,
          "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name', "
          " or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')");
    }
  };
  for (const auto& [name, value] : object.data()) {
    key("data", name);
    total += value.size();
  }
  if constexpr (std::is_same_v<Config, corev1::ConfigMap>) {
    for (const auto& [name, value] : object.binary_data()) {
      key("binaryData", name);
      if (object.data().contains(name)) {
        errors.InvalidText(KeyOf("data", name), name, "duplicate of key present in binaryData");
      }
      total += value.size();
    }
  }
  if (total > kMaxConfigBytes) errors.TooLong("data", kMaxConfigBytes);
}

void CheckSecret(const corev1::Secret& secret, Errors& errors) {
  CheckConfigData(secret, size_t{0}, errors);
  auto need = [&](const char* key) {
    if (!secret.data().contains(key)) errors.Required(KeyOf("data", key));
  };
  if (secret.type() == "kubernetes.io/dockerconfigjson") need(".dockerconfigjson");
  if (secret.type() == "kubernetes.io/tls") {
    need("tls.crt");
    need("tls.key");
  }
  if (secret.type() == "kubernetes.io/ssh-auth") need("ssh-privatekey");
}

// Messages without their metadata.
template <class T>
bool SameContent(const T& a, const T& b) {
  T x = a, y = b;
  x.clear_metadata();
  y.clear_metadata();
  return MessageDifferencer::Equals(x, y);
}

template <class T>
void CheckImmutable(const T& object, const T& old, Errors& errors) {
  if (!old.immutable()) return;
  if (!object.immutable()) errors.Forbidden("immutable", "field is immutable when `immutable` is set");
  T same = object;
  same.set_immutable(true);
  if (!SameContent(same, old)) errors.Forbidden("data", "field is immutable when `immutable` is set");
}

void CheckNode(const corev1::Node& node, Errors& errors) {
  for (int i = 0; i < node.spec().taints_size(); ++i) {
    const auto& taint = node.spec().taints(i);
    std::string here = Index("spec.taints", static_cast<size_t>(i));
    errors.Messages(Child(here, "key"), taint.key(), IsQualifiedName(taint.key()));
    errors.Messages(Child(here, "value"), taint.value(), IsValidLabelValue(taint.value()));
    errors.OneOf(Child(here, "effect"), taint.effect(), {"NoExecute", "NoSchedule", "PreferNoSchedule"});
  }
}

void CheckNodeUpdate(const corev1::Node& node, const corev1::Node& old, Errors& errors) {
  if (!old.spec().pod_cidr().empty() && node.spec().pod_cidr() != old.spec().pod_cidr()) {
    errors.Forbidden("spec.podCIDRs", "node updates may not change podCIDR except from \"\" to valid");
  }
  if (!old.spec().provider_id().empty() && node.spec().provider_id() != old.spec().provider_id()) {
    errors.Forbidden("spec.providerID", "node updates may not change providerID except from \"\" to valid");
  }
}

void CheckEndpointSlice(const discoveryv1::EndpointSlice& slice, Errors& errors) {
  errors.OneOf("addressType", slice.address_type(), {"FQDN", "IPv4", "IPv6"});
  constexpr int kMaxEndpoints = 1000;
  if (slice.endpoints_size() > kMaxEndpoints) {
    errors.Invalid("endpoints", StrCat(slice.endpoints_size()),
                   StrCat("must have at most ", kMaxEndpoints, " items"));
  }
  for (int i = 0; i < slice.endpoints_size(); ++i) {
    if (slice.endpoints(i).addresses().empty()) {
      errors.Required(Child(Index("endpoints", static_cast<size_t>(i)), "addresses"),
                      "must contain at least 1 address");
    }
  }
}

void CheckEndpoints(const corev1::Endpoints& endpoints, Errors& errors) {
  for (int i = 0; i < endpoints.subsets_size(); ++i) {
    const auto& subset = endpoints.subsets(i);
    std::string here = Index("subsets", static_cast<size_t>(i));
    if (subset.addresses().empty() && subset.not_ready_addresses().empty()) {
      errors.Required(here, "must specify `addresses` or `notReadyAddresses`");
    }
    for (int k = 0; k < subset.ports_size(); ++k) {
      std::string port = Index(Child(here, "ports"), static_cast<size_t>(k));
      errors.Port(Child(port, "port"), subset.ports(k).port());
      errors.OneOf(Child(port, "protocol"), subset.ports(k).protocol(), {"SCTP", "TCP", "UDP"});
    }
  }
}

void CheckEvent(const corev1::Event& event, Errors& errors) {
  const std::string& ns = event.involved_object().namespace_();
  if (ns.empty() ? event.metadata().namespace_() != "default" : ns != event.metadata().namespace_()) {
    errors.InvalidText("involvedObject.namespace", ns, "does not match event.namespace");
  }
}

void CheckLease(const ::k8s::coordination::v1::Lease& lease, Errors& errors) {
  if (lease.spec().has_lease_duration_seconds() && lease.spec().lease_duration_seconds() <= 0) {
    errors.InvalidNumber("spec.leaseDurationSeconds", lease.spec().lease_duration_seconds(),
                         "must be greater than 0");
  }
  if (lease.spec().has_lease_transitions()) {
    errors.NonNegative("spec.leaseTransitions", lease.spec().lease_transitions());
  }
}

void CheckRuntimeClass(const ::k8s::node::v1::RuntimeClass& c, Errors& errors) {
  errors.Messages("handler", c.handler(), IsDns1123Label(c.handler()));
  for (const auto& [name, quantity] : c.overhead().pod_fixed()) {
    if (Quantity::Of(quantity).Sign() < 0) {
      errors.InvalidText(validation::KeyOf("overhead.podFixed", name), quantity.string(),
                         "must be greater than or equal to 0");
    }
  }
  errors.Labels("scheduling.nodeSelector", c.scheduling().node_selector());
}

void CheckKind(const google::protobuf::Message& object, Errors& errors) {
  if (const auto* pod = As<corev1::Pod>(object)) return validation::PodSpec(pod->spec(), "spec", errors);
  if (const auto* rc = As<corev1::ReplicationController>(object))
    return CheckReplicationController(*rc, errors);
  if (const auto* service = As<corev1::Service>(object)) return CheckService(*service, errors);
  if (const auto* config = As<corev1::ConfigMap>(object)) return CheckConfigData(*config, size_t{0}, errors);
  if (const auto* secret = As<corev1::Secret>(object)) return CheckSecret(*secret, errors);
  if (const auto* node = As<corev1::Node>(object)) return CheckNode(*node, errors);
  if (const auto* slice = As<discoveryv1::EndpointSlice>(object)) return CheckEndpointSlice(*slice, errors);
  if (const auto* endpoints = As<corev1::Endpoints>(object)) return CheckEndpoints(*endpoints, errors);
  if (const auto* event = As<corev1::Event>(object)) return CheckEvent(*event, errors);
  if (const auto* lease = As<::k8s::coordination::v1::Lease>(object)) return CheckLease(*lease, errors);
  if (const auto* c = As<::k8s::node::v1::RuntimeClass>(object)) return CheckRuntimeClass(*c, errors);
}

}  // namespace

FieldErrors Validate(const google::protobuf::Message& object) {
  Errors errors;
  const TypeInfo& type = TypeOf(object);
  if (HasMeta(object)) {
    validation::ObjectMetadata(Meta(object), type.namespaced, NameRuleOf(type), "metadata", errors);
  }
  CheckKind(object, errors);
  return errors.Take();
}

FieldErrors ValidateUpdate(const google::protobuf::Message& object, const google::protobuf::Message& old) {
  Errors errors;
  const TypeInfo& type = TypeOf(object);
  if (HasMeta(object)) {
    validation::ObjectMetadata(Meta(object), type.namespaced, NameRuleOf(type), "metadata", errors);
    validation::ObjectMetadataUpdate(Meta(object), Meta(old), "metadata", errors);
  }
  if (const auto* pod = As<corev1::Pod>(object)) {
    // The spec was valid when it came in and may hardly change; its rules may have become stricter since.
    validation::PodUpdate(*pod, static_cast<const corev1::Pod&>(old), errors);
    return errors.Take();
  }
  CheckKind(object, errors);
  if (const auto* service = As<corev1::Service>(object)) {
    CheckServiceUpdate(*service, static_cast<const corev1::Service&>(old), errors);
  } else if (const auto* config = As<corev1::ConfigMap>(object)) {
    CheckImmutable(*config, static_cast<const corev1::ConfigMap&>(old), errors);
  } else if (const auto* secret = As<corev1::Secret>(object)) {
    const auto& before = static_cast<const corev1::Secret&>(old);
    if (secret->type() != before.type()) errors.InvalidText("type", secret->type(), "field is immutable");
    CheckImmutable(*secret, before, errors);
  } else if (const auto* node = As<corev1::Node>(object)) {
    CheckNodeUpdate(*node, static_cast<const corev1::Node&>(old), errors);
  } else if (const auto* slice = As<discoveryv1::EndpointSlice>(object)) {
    if (slice->address_type() != static_cast<const discoveryv1::EndpointSlice&>(old).address_type()) {
      errors.InvalidText("addressType", slice->address_type(), "field is immutable");
    }
  } else if (const auto* c = As<::k8s::node::v1::RuntimeClass>(object)) {
    if (c->handler() != static_cast<const ::k8s::node::v1::RuntimeClass&>(old).handler()) {
      errors.InvalidText("handler", c->handler(), "field is immutable");
    }
  }
  return errors.Take();
}

std::vector<UnimplementedField> UnimplementedFields(const google::protobuf::Message& object) {
  if (const auto* pod = As<corev1::Pod>(object)) return UnimplementedPodFields(pod->spec(), "spec");
  if (const auto* rc = As<corev1::ReplicationController>(object)) {
    return UnimplementedPodFields(rc->spec().template_().spec(), "spec.template.spec");
  }
  std::vector<UnimplementedField> out;
  const auto* account = As<corev1::ServiceAccount>(object);
  if (account != nullptr && account->automount_service_account_token()) {
    out.push_back({"automountServiceAccountToken"});
  }
  if (const auto* service = As<corev1::Service>(object)) {
    const auto& spec = service->spec();
    if (spec.type() == "LoadBalancer") out.push_back({"spec.type=LoadBalancer"});
    if (spec.has_load_balancer_class()) out.push_back({"spec.loadBalancerClass"});
    if (!spec.load_balancer_source_ranges().empty()) out.push_back({"spec.loadBalancerSourceRanges"});
    if (spec.health_check_node_port() != 0) out.push_back({"spec.healthCheckNodePort"});
    if (spec.has_traffic_distribution()) out.push_back({"spec.trafficDistribution"});
  }
  return out;
}

}  // namespace keelson::api
