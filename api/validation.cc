#include "api/validation.h"

#include <absl/container/flat_hash_set.h>
#include <absl/functional/function_ref.h>
#include <absl/strings/ascii.h>
#include <google/protobuf/util/message_differencer.h>

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
#include "api/json_text.h"
#include "api/labels.h"
#include "api/node/v1/node.pb.h"
#include "api/object.h"
#include "api/quantity.h"
#include "api/scheduling/v1/scheduling.pb.h"
#include "api/validation_internal.h"
#include "base/strings.h"

namespace keelson::api {

namespace corev1 = ::k8s::core::v1;
namespace discoveryv1 = ::k8s::discovery::v1;
namespace schedulingv1 = ::k8s::scheduling::v1;
using google::protobuf::util::MessageDifferencer;
using validation::Child;
using validation::Errors;
using validation::Index;
using validation::KeyOf;

namespace {

constexpr size_t kMaxConfigBytes = 1 << 20;  // ConfigMap and Secret data together
constexpr int32_t kMaxUserPriority = 1000000000;
constexpr int32_t kSystemCriticalPriority = 2000000000;
constexpr int32_t kUsualClientIpTimeoutS = 10800;
constexpr int kMaxSecretJsonDepth = 1000;

std::vector<std::string> AnyName(std::string_view name) {
  if (name == "." || name == ".." || name.find('/') != std::string_view::npos ||
      name.find('%') != std::string_view::npos) {
    return {"may not be '.', '..' or contain '/' or '%'"};
  }
  return {};
}

validation::NameRule NameRuleOf(const TypeInfo& type) {
  const std::string& kind = type.gvk.kind;
  // A Service's may begin with a digit (RelaxedServiceNameValidation).
  if (kind == "Namespace" || kind == "Service") return IsDns1123Label;
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
    errors.Invalid("spec.template.metadata.labels", validation::MapJson(labels),
                   "`selector` does not match template `labels`");
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
  if (!spec.template_().spec().ephemeral_containers().empty()) {
    errors.Forbidden("spec.template.spec.ephemeralContainers",
                     "ephemeral containers not allowed in pod template");
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

// Why `text` is none, in the words of Go's decoder where it is well-formed; empty: it is one.
std::string NoJsonObject(std::string_view text) {
  JsonTextError error;
  if (!CheckJson(text, kMaxSecretJsonDepth, &error)) return error.message;
  const size_t first = text.find_first_not_of(" \t\r\n");
  const char c = first == std::string_view::npos ? '{' : text[first];
  if (c == '{' || c == 'n') return "";  // Go takes null for an empty one
  const std::string_view kind = c == '['               ? "array"
                                : c == '"'             ? "string"
                                : c == 't' || c == 'f' ? "bool"
                                                       : "number";
  return StrCat("json: cannot unmarshal ", kind, " into Go value of type map[string]interface {}");
}

void CheckSecret(const corev1::Secret& secret, Errors& errors) {
  CheckConfigData(secret, size_t{0}, errors);
  auto need = [&](const char* key) {
    if (!secret.data().contains(key)) errors.Required(KeyOf("data", key));
  };
  auto need_json_object = [&](const char* key) {
    auto value = secret.data().find(key);
    if (value == secret.data().end()) return errors.Required(KeyOf("data", key));
    const std::string why = NoJsonObject(value->second);
    if (!why.empty()) errors.InvalidText(KeyOf("data", key), "<secret contents redacted>", why);
  };
  const std::string& type = secret.type();
  if (type == "kubernetes.io/service-account-token") {
    auto account = secret.metadata().annotations().find("kubernetes.io/service-account.name");
    if (account == secret.metadata().annotations().end() || account->second.empty()) {
      errors.Required("metadata.annotations[kubernetes.io/service-account.name]");
    }
  }
  if (type == "kubernetes.io/dockercfg") need_json_object(".dockercfg");
  if (type == "kubernetes.io/dockerconfigjson") need_json_object(".dockerconfigjson");
  if (type == "kubernetes.io/basic-auth" && !secret.data().contains("username") &&
      !secret.data().contains("password")) {
    need("username");
    need("password");
  }
  if (type == "kubernetes.io/ssh-auth") {
    auto key = secret.data().find("ssh-privatekey");
    if (key == secret.data().end() || key->second.empty()) errors.Required(KeyOf("data", "ssh-privatekey"));
  }
  if (type == "kubernetes.io/tls") {
    need("tls.crt");
    need("tls.key");
  }
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
  validation::Taints(node.spec().taints(), "metadata.taints", errors);  // so upstream
  const auto& cidrs = node.spec().pod_cidrs();
  bool valid = true;
  for (int i = 0; i < cidrs.size(); ++i) {
    valid &= errors.Cidr(Index("spec.podCIDRs", static_cast<size_t>(i)), cidrs[i]);
  }
  auto family = [](const std::string& cidr) { return validation::FamilyOf(cidr.substr(0, cidr.find('/'))); };
  if (valid && (cidrs.size() > 2 || (cidrs.size() == 2 && family(cidrs[0]) == family(cidrs[1])))) {
    errors.Invalid("spec.podCIDRs", validation::ListJson(cidrs),
                   "may specify no more than one CIDR for each IP family");
  }
  if (cidrs.empty() && !node.spec().pod_cidr().empty())
    errors.Cidr("spec.podCIDRs[0]", node.spec().pod_cidr());
}

void CheckNodeUpdate(const corev1::Node& node, const corev1::Node& old, Errors& errors) {
  if (!old.spec().pod_cidr().empty() && node.spec().pod_cidr() != old.spec().pod_cidr()) {
    errors.Forbidden("spec.podCIDRs", "node updates may not change podCIDR except from \"\" to valid");
  }
  if (!old.spec().provider_id().empty() && node.spec().provider_id() != old.spec().provider_id()) {
    errors.Forbidden("spec.providerID", "node updates may not change providerID except from \"\" to valid");
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

void CheckPriorityClass(const schedulingv1::PriorityClass& c, Errors& errors) {
  const std::string& name = c.metadata().name();
  if (name.starts_with("system-")) {
    const bool node = name == "system-node-critical";
    const int32_t value = kSystemCriticalPriority + (node ? 1000 : 0);
    std::string why;
    if (!node && name != "system-cluster-critical") {
      why = StrCat(name, " is not a known system priority class");
    } else if (c.value() != value) {
      why = StrCat("value of ", name, " PriorityClass must be ", value);
    } else if (c.global_default()) {
      why = StrCat("globalDefault of ", name, " PriorityClass must be false");
    }
    if (!why.empty()) {
      errors.Forbidden(
          "metadata.name",
          StrCat("priority class names with 'system-' prefix are reserved for system use only. error: ",
                 why));
    }
  } else if (c.value() > kMaxUserPriority) {
    errors.Forbidden("value",
                     StrCat("maximum allowed value of a user defined priority is ", kMaxUserPriority));
  }
  if (c.has_preemption_policy()) {
    errors.OneOf("preemptionPolicy", c.preemption_policy(), {"PreemptLowerPriority", "Never"});
  }
}

void CheckPriorityClassUpdate(const schedulingv1::PriorityClass& c, const schedulingv1::PriorityClass& old,
                              Errors& errors) {
  if (c.value() != old.value()) errors.Forbidden("value", "may not be changed in an update.");
  // Older ones were stored without the default.
  const std::string before = old.has_preemption_policy() ? old.preemption_policy() : "PreemptLowerPriority";
  if (c.preemption_policy() != before) {
    errors.InvalidText("preemptionPolicy", c.preemption_policy(), "field is immutable");
  }
}

// `old`: null on create.
void CheckKind(const google::protobuf::Message& object, const google::protobuf::Message* old,
               Errors& errors) {
  if (const auto* pod = As<corev1::Pod>(object)) return validation::PodSpec(pod->spec(), "spec", errors);
  if (const auto* rc = As<corev1::ReplicationController>(object))
    return CheckReplicationController(*rc, errors);
  if (const auto* service = As<corev1::Service>(object)) {
    return validation::Service(*service, static_cast<const corev1::Service*>(old), errors);
  }
  if (const auto* config = As<corev1::ConfigMap>(object)) return CheckConfigData(*config, size_t{0}, errors);
  if (const auto* secret = As<corev1::Secret>(object)) return CheckSecret(*secret, errors);
  if (const auto* node = As<corev1::Node>(object)) return CheckNode(*node, errors);
  if (const auto* s = As<discoveryv1::EndpointSlice>(object)) return validation::EndpointSlice(*s, errors);
  if (const auto* endpoints = As<corev1::Endpoints>(object)) return validation::Endpoints(*endpoints, errors);
  if (const auto* event = As<corev1::Event>(object)) return CheckEvent(*event, errors);
  if (const auto* lease = As<::k8s::coordination::v1::Lease>(object)) return CheckLease(*lease, errors);
  if (const auto* c = As<::k8s::node::v1::RuntimeClass>(object)) return CheckRuntimeClass(*c, errors);
  if (const auto* c = As<schedulingv1::PriorityClass>(object)) return CheckPriorityClass(*c, errors);
}

FieldErrors KindErrors(const google::protobuf::Message& object, const google::protobuf::Message* old) {
  Errors errors;
  CheckKind(object, old, errors);
  return errors.Take();
}

// What `old` has wrong already (a rule may be younger than the object) does not stand in the way of a change.
FieldErrors NewErrors(FieldErrors errors, absl::FunctionRef<FieldErrors()> of_old) {
  if (errors.empty()) return errors;
  absl::flat_hash_set<std::string> known;
  for (const FieldError& error : of_old()) known.insert(error.ToString());
  std::erase_if(errors, [&](const FieldError& error) { return known.contains(error.ToString()); });
  return errors;
}

}  // namespace

FieldErrors Validate(const google::protobuf::Message& object) {
  Errors errors;
  const TypeInfo& type = TypeOf(object);
  if (HasMeta(object)) {
    validation::ObjectMetadata(Meta(object), type.namespaced, NameRuleOf(type), "metadata", errors);
  }
  CheckKind(object, nullptr, errors);
  if (const auto* pod = As<corev1::Pod>(object)) validation::PodCreate(pod->spec(), errors);
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
    const auto& before = static_cast<const corev1::Pod&>(old);
    // Most updates leave the spec alone.
    if (SameBytes(pod->spec(), before.spec())) return errors.Take();
    errors.Add(NewErrors(KindErrors(object, nullptr), [&] { return KindErrors(old, nullptr); }));
    validation::PodUpdate(*pod, before, errors);
    return errors.Take();
  }
  errors.Add(NewErrors(KindErrors(object, &old), [&] { return KindErrors(old, nullptr); }));
  if (const auto* config = As<corev1::ConfigMap>(object)) {
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
  } else if (const auto* c = As<schedulingv1::PriorityClass>(object)) {
    CheckPriorityClassUpdate(*c, static_cast<const schedulingv1::PriorityClass&>(old), errors);
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
    if (!spec.load_balancer_ip().empty()) out.push_back({"spec.loadBalancerIP"});
    if (!spec.load_balancer_source_ranges().empty()) out.push_back({"spec.loadBalancerSourceRanges"});
    if (spec.health_check_node_port() != 0) out.push_back({"spec.healthCheckNodePort"});
    if (spec.has_traffic_distribution()) out.push_back({"spec.trafficDistribution"});
    // The default is upstream's and nobody asked for it.
    const auto& client_ip = spec.session_affinity_config().client_ip();
    if (client_ip.has_timeout_seconds() && client_ip.timeout_seconds() != kUsualClientIpTimeoutS) {
      out.push_back({"spec.sessionAffinityConfig.clientIP.timeoutSeconds"});
    }
  }
  return out;
}

}  // namespace keelson::api
