// Services and where they lead: Endpoints, EndpointSlices. The service network is IPv4 only.
#include <absl/strings/ascii.h>
#include <absl/strings/match.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_split.h>

#include <algorithm>

#include "api/labels.h"
#include "api/validation_internal.h"
#include "base/strings.h"

namespace keelson::api::validation {

namespace corev1 = ::k8s::core::v1;
namespace discoveryv1 = ::k8s::discovery::v1;

namespace {

constexpr int32_t kMaxClientIpTimeoutS = 86400;
constexpr size_t kMaxEndpoints = 1000;
constexpr size_t kMaxAddresses = 100;
constexpr size_t kMaxPorts = 20000;
const std::vector<std::string> kPolicies = {"Cluster", "Local"};

void ServicePort(const corev1::ServicePort& port, bool needs_name, const std::string& path, StringSet* names,
                 Errors& errors) {
  if (needs_name && port.name().empty()) {
    errors.Required(Child(path, "name"));
  } else if (!port.name().empty()) {
    errors.Messages(Child(path, "name"), port.name(), IsDns1123Label(port.name()));
    if (!names->insert(port.name()).second) errors.Duplicate(Child(path, "name"), port.name());
  }
  errors.Port(Child(path, "port"), port.port());
  errors.OneOf(Child(path, "protocol"), port.protocol(), kProtocols);
  if (port.has_app_protocol()) {
    errors.Messages(Child(path, "appProtocol"), port.app_protocol(), IsQualifiedName(port.app_protocol()));
  }
  const auto& target = port.target_port();
  if (target.type() == 0) {
    errors.Port(Child(path, "targetPort"), target.int_val());
  } else {
    errors.PortName(Child(path, "targetPort"), target.str_val());
  }
}

// clusterIP and clusterIPs follow one another (a client may know the first alone).
void ClusterIps(const corev1::ServiceSpec& spec, const corev1::ServiceSpec* old, Errors& errors) {
  const auto& ips = spec.cluster_ips();
  const std::string path = "spec.clusterIPs";
  // Only clusterIP is new: CheckChange tells about that one.
  const bool follows = old != nullptr && ListJson(ips) == ListJson(old->cluster_ips());
  if (spec.cluster_ip().empty() && !ips.empty()) {
    errors.Invalid(path, ListJson(ips), "must be empty when `clusterIP` is not specified");
  } else if (!ips.empty() && ips[0] != spec.cluster_ip() && !follows) {
    errors.Invalid(path, ListJson(ips), "first value must match `clusterIP`");
  }
  google::protobuf::RepeatedPtrField<std::string> all = ips;
  if (all.empty() && !spec.cluster_ip().empty()) *all.Add() = spec.cluster_ip();
  bool valid = true;
  for (int i = 0; i < all.size(); ++i) {
    if (i == 0 && all[i] == "None") {
      if (all.size() > 1) errors.Invalid(path, ListJson(all), "'None' must be the first and only value");
      valid &= all.size() == 1;
    } else {
      valid &= errors.Ip(Index(path, static_cast<size_t>(i)), all[i]);
    }
  }
  if (all.size() > 2) errors.Invalid(path, ListJson(all), "may only hold up to 2 values");
  if (!valid) return;
  if (all.size() == 2 && FamilyOf(all[0]) == FamilyOf(all[1])) {
    errors.Invalid(path, ListJson(all), "may specify no more than one IP for each IP family");
  }
  for (int i = 0; i < all.size(); ++i) {
    if (all[i] == "None") break;
    const std::string family = StrCat("IPv", FamilyOf(all[i]));
    const std::string here = Index(path, static_cast<size_t>(i));
    if (i >= spec.ip_families_size()) {
      if (family == "IPv6") errors.Invalid(here, ListJson(all), "IPv6 is not configured on this cluster");
    } else if (spec.ip_families(i) != family) {
      errors.InvalidText(
          here, all[i],
          StrCat("expected an ", spec.ip_families(i), " value as indicated by `ipFamilies[", i, "]`"));
    }
  }
}

void IpFamilies(const corev1::ServiceSpec& spec, Errors& errors) {
  // Whoever writes the endpoints of such a service himself may give it any family.
  const bool any_family = spec.cluster_ip() == "None" && spec.selector().empty();
  StringSet seen;
  for (int i = 0; i < spec.ip_families_size(); ++i) {
    const std::string& family = spec.ip_families(i);
    const std::string here = Index("spec.ipFamilies", static_cast<size_t>(i));
    errors.Supported(here, family, {"IPv4", "IPv6"});
    if (!seen.insert(family).second) errors.Duplicate(here, family);
    if (family == "IPv6" && !any_family) {
      errors.InvalidText(here, family, "not configured on this cluster");
    }
  }
  const std::string& policy = spec.ip_family_policy();
  const std::string path = "spec.ipFamilyPolicy";
  if (spec.has_ip_family_policy()) {
    errors.Supported(path, policy, {"PreferDualStack", "RequireDualStack", "SingleStack"});
  }
  if (policy == "RequireDualStack" && !any_family) {
    errors.InvalidText(path, policy, "this cluster is not configured for dual-stack services");
  }
  // Without a policy, addresses of nobody's choosing may be of both.
  if ((policy.empty() && !any_family) || policy == "SingleStack") {
    const char* what = spec.cluster_ips_size() == 2   ? "cluster IPs"
                       : spec.ip_families_size() == 2 ? "IP families"
                                                      : nullptr;
    if (what != nullptr) {
      errors.Invalid(
          path, policy.empty() ? "null" : StrCat("\"", policy, "\""),
          StrCat("must be 'RequireDualStack' or 'PreferDualStack' when multiple ", what, " are specified"));
    }
  }
}

void External(const corev1::ServiceSpec& spec, const corev1::ServiceSpec* old, Errors& errors) {
  if (!spec.cluster_ips().empty() || !spec.cluster_ip().empty()) {
    errors.Forbidden("spec.clusterIPs", "may not be set for ExternalName services");
  }
  // What is left of another type goes with the write.
  if (old == nullptr || old->type() == "ExternalName") {
    if (!spec.ip_families().empty()) {
      errors.Forbidden("spec.ipFamilies", "may not be set for ExternalName services");
    }
    if (spec.has_ip_family_policy()) {
      errors.Forbidden("spec.ipFamilyPolicy", "may not be set for ExternalName services");
    }
  }
  std::string name = spec.external_name();
  if (name.ends_with('.')) name.pop_back();
  if (name.empty()) errors.Required("spec.externalName");
  errors.Name("spec.externalName", name, IsDns1123Subdomain);
}

void ServicePorts(const corev1::ServiceSpec& spec, Errors& errors) {
  StringSet names, ports, node_ports;
  for (int i = 0; i < spec.ports_size(); ++i) {
    const auto& port = spec.ports(i);
    std::string here = Index("spec.ports", static_cast<size_t>(i));
    ServicePort(port, spec.ports_size() > 1, here, &names, errors);
    if (!ports.insert(StrCat(port.protocol(), "/", port.port())).second) {
      errors.Duplicate(here, StrCat(port.protocol(), "/", port.port()));
    }
    if (port.node_port() == 0) continue;
    errors.NonNegative(Child(here, "nodePort"), port.node_port());
    if (spec.type() == "ClusterIP" || spec.type() == "ExternalName") {
      errors.Forbidden(Child(here, "nodePort"), StrCat("may not be used when `type` is '", spec.type(), "'"));
    }
    if (!node_ports.insert(StrCat(port.protocol(), "/", port.node_port())).second) {
      errors.DuplicateValue(Child(here, "nodePort"), StrCat(port.node_port()));
    }
  }
}

// The address may only come or go with the type.
void ClusterIpChange(const corev1::ServiceSpec& spec, const corev1::ServiceSpec& old, Errors& errors) {
  const bool keeps = spec.type() != "ExternalName" && old.type() != "ExternalName";
  if (keeps && !old.cluster_ip().empty() && spec.cluster_ip() != old.cluster_ip()) {
    errors.Invalid("spec.clusterIPs[0]", StrCat("[\"", spec.cluster_ip(), "\"]"), "may not change once set");
  }
}

void Fqdn(const std::string& field, const std::string& text, Errors& errors) {
  if (text.empty()) return errors.Required(field);
  const std::string name = text.ends_with('.') ? text.substr(0, text.size() - 1) : text;
  const std::vector<std::string> messages = IsDns1123Subdomain(name);
  if (!messages.empty()) return errors.InvalidText(field, name, absl::StrJoin(messages, ","));
  if (name.find('.') == std::string::npos) {
    errors.InvalidText(field, name, "should be a domain with at least two segments separated by dots");
  }
}

bool IsApiServer(const ::k8s::meta::v1::ObjectMeta& meta) {
  return meta.namespace_() == "default" && meta.name() == "kubernetes";
}

// A cluster for one machine alone may have it on a loopback address: its API server, and the pods in its own
// network, which their node and its controller speak for.
template <class Endpoint>  // EndpointAddress or Endpoint of a slice
bool MayBeLoopback(const Endpoint& endpoint, const ::k8s::meta::v1::ObjectMeta& meta) {
  return IsApiServer(meta) || (endpoint.target_ref().kind() == "Pod" && !endpoint.node_name().empty());
}

void EndpointAddress(const std::string& field, const std::string& ip, bool may_be_loopback, Errors& errors) {
  if (may_be_loopback) {
    errors.Ip(field, ip);
  } else {
    errors.EndpointIp(field, ip);
  }
}

}  // namespace

void Service(const corev1::Service& service, const corev1::Service* old_service, Errors& errors) {
  const corev1::ServiceSpec& spec = service.spec();
  const corev1::ServiceSpec* old = old_service == nullptr ? nullptr : &old_service->spec();
  const bool headless = spec.cluster_ip() == "None";
  if (spec.ports().empty() && !headless && spec.type() != "ExternalName") errors.Required("spec.ports");
  errors.OneOf("spec.type", spec.type(), {"ClusterIP", "ExternalName", "LoadBalancer", "NodePort"});
  if (spec.type() == "ExternalName") {
    External(spec, old, errors);
  } else {
    ClusterIps(spec, old, errors);
    IpFamilies(spec, errors);
  }
  if (headless && (spec.type() == "NodePort" || spec.type() == "LoadBalancer")) {
    errors.InvalidText("spec.clusterIPs[0]", "None",
                       StrCat("may not be set to 'None' for ", spec.type(), " services"));
  }
  ServicePorts(spec, errors);
  errors.Labels("spec.selector", spec.selector());
  errors.OneOf("spec.sessionAffinity", spec.session_affinity(), {"ClientIP", "None"});
  const std::string affinity = "spec.sessionAffinityConfig";
  if (spec.session_affinity() == "ClientIP") {
    const int32_t timeout_s = spec.session_affinity_config().client_ip().timeout_seconds();
    if (timeout_s <= 0 || timeout_s > kMaxClientIpTimeoutS) {
      errors.InvalidNumber(affinity + ".clientIP.timeoutSeconds", timeout_s,
                           StrCat("must be greater than 0 and less than ", kMaxClientIpTimeoutS));
    }
  } else if (spec.has_session_affinity_config()) {
    errors.Forbidden(affinity, "must not be set when session affinity is None");
  }
  for (int i = 0; i < spec.external_ips_size(); ++i) {
    errors.EndpointIp(Index("spec.externalIPs", static_cast<size_t>(i)), spec.external_ips(i));
  }
  const auto& ranges = spec.load_balancer_source_ranges();
  const std::string ranges_path = "spec.LoadBalancerSourceRanges";  // so upstream
  if (!ranges.empty() && spec.type() != "LoadBalancer") {
    errors.Forbidden(ranges_path, "may only be used when `type` is 'LoadBalancer'");
  }
  for (int i = 0; i < ranges.size(); ++i) {
    errors.Cidr(Index(ranges_path, static_cast<size_t>(i)),
                std::string(absl::StripAsciiWhitespace(ranges[i])));
  }
  if (!spec.external_traffic_policy().empty()) {
    errors.OneOf("spec.externalTrafficPolicy", spec.external_traffic_policy(), kPolicies);
  }
  if (spec.has_internal_traffic_policy()) {
    errors.OneOf("spec.internalTrafficPolicy", spec.internal_traffic_policy(), kPolicies);
  }
  if (old != nullptr) ClusterIpChange(spec, *old, errors);
}

void Endpoints(const corev1::Endpoints& endpoints, Errors& errors) {
  for (int i = 0; i < endpoints.subsets_size(); ++i) {
    const auto& subset = endpoints.subsets(i);
    const std::string here = Index("subsets", static_cast<size_t>(i));
    if (subset.addresses().empty() && subset.not_ready_addresses().empty()) {
      errors.Required(here, "must specify `addresses` or `notReadyAddresses`");
    }
    auto addresses = [&](const auto& list, const char* field) {
      for (int k = 0; k < list.size(); ++k) {
        const std::string address = Index(Child(here, field), static_cast<size_t>(k));
        EndpointAddress(Child(address, "ip"), list[k].ip(), MayBeLoopback(list[k], endpoints.metadata()),
                        errors);
        errors.Name(Child(address, "hostname"), list[k].hostname(), IsDns1123Label);
        if (!list[k].has_node_name()) continue;
        errors.Messages(Child(address, "nodeName"), list[k].node_name(),
                        IsDns1123Subdomain(list[k].node_name()));
      }
    };
    addresses(subset.addresses(), "addresses");
    addresses(subset.not_ready_addresses(), "notReadyAddresses");
    for (int k = 0; k < subset.ports_size(); ++k) {
      const corev1::EndpointPort& port = subset.ports(k);
      const std::string path = Index(Child(here, "ports"), static_cast<size_t>(k));
      if (port.name().empty() && subset.ports_size() > 1) errors.Required(Child(path, "name"));
      errors.Name(Child(path, "name"), port.name(), IsDns1123Label);
      errors.Port(Child(path, "port"), port.port());
      errors.OneOf(Child(path, "protocol"), port.protocol(), kProtocols);
      if (!port.has_app_protocol()) continue;
      errors.Messages(Child(path, "appProtocol"), port.app_protocol(), IsQualifiedName(port.app_protocol()));
    }
  }
}

namespace {

void SlicePorts(const discoveryv1::EndpointSlice& slice, Errors& errors) {
  if (slice.ports_size() > static_cast<int>(kMaxPorts)) {
    return errors.TooMany("ports", static_cast<size_t>(slice.ports_size()), kMaxPorts);
  }
  StringSet names;
  for (int i = 0; i < slice.ports_size(); ++i) {
    const discoveryv1::EndpointPort& port = slice.ports(i);
    const std::string here = Index("ports", static_cast<size_t>(i));
    errors.Name(Child(here, "name"), port.name(), IsDns1123Label);
    if (!names.insert(port.name()).second) errors.Duplicate(Child(here, "name"), port.name());
    errors.OneOf(Child(here, "protocol"), port.protocol(), kProtocols);
    if (!port.has_app_protocol()) continue;
    errors.Messages(Child(here, "appProtocol"), port.app_protocol(), IsQualifiedName(port.app_protocol()));
  }
}

void SliceAddresses(const discoveryv1::Endpoint& endpoint, const std::string& type, bool may_be_loopback,
                    const std::string& path, Errors& errors) {
  if (endpoint.addresses().empty()) {
    errors.Required(path, "must contain at least 1 address");
  } else if (endpoint.addresses_size() > static_cast<int>(kMaxAddresses)) {
    errors.TooMany(path, static_cast<size_t>(endpoint.addresses_size()), kMaxAddresses);
  }
  for (int i = 0; i < endpoint.addresses_size(); ++i) {
    const std::string& address = endpoint.addresses(i);
    const std::string here = Index(path, static_cast<size_t>(i));
    if (type == "FQDN") {
      Fqdn(here, address, errors);
    } else if (type == "IPv4" || type == "IPv6") {
      EndpointAddress(here, address, may_be_loopback, errors);
      const int family = FamilyOf(address);
      if (family != 0 && StrCat("IPv", family) != type) {
        errors.InvalidText(path, address, StrCat("must be an ", type, " address"));
      }
    }
  }
}

}  // namespace

void EndpointSlice(const discoveryv1::EndpointSlice& slice, Errors& errors) {
  errors.OneOf("addressType", slice.address_type(), {"FQDN", "IPv4", "IPv6"});
  SlicePorts(slice, errors);
  if (slice.endpoints_size() > static_cast<int>(kMaxEndpoints)) {
    return errors.TooMany("endpoints", static_cast<size_t>(slice.endpoints_size()), kMaxEndpoints);
  }
  for (int i = 0; i < slice.endpoints_size(); ++i) {
    const discoveryv1::Endpoint& endpoint = slice.endpoints(i);
    const std::string here = Index("endpoints", static_cast<size_t>(i));
    SliceAddresses(endpoint, slice.address_type(), MayBeLoopback(endpoint, slice.metadata()),
                   Child(here, "addresses"), errors);
    if (endpoint.has_node_name()) {
      errors.Messages(Child(here, "nodeName"), endpoint.node_name(),
                      IsDns1123Subdomain(endpoint.node_name()));
    }
    if (endpoint.has_hostname()) {
      errors.Messages(Child(here, "hostname"), endpoint.hostname(), IsDns1123Label(endpoint.hostname()));
    }
  }
}

}  // namespace keelson::api::validation
