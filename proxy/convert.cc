#include "proxy/convert.h"

#include "api/core/v1/service.pb.h"
#include "api/discovery/v1/discovery.pb.h"

namespace keelson::proxy {
namespace {

constexpr char kServiceNameLabel[] = "kubernetes.io/service-name";
constexpr char kProxyNameLabel[] = "service.kubernetes.io/service-proxy-name";

Protocol ProtocolOf(const std::string& text) {
  if (text == "UDP") return Protocol::kUdp;
  if (text == "SCTP") return Protocol::kSctp;
  return Protocol::kTcp;
}

// 0 for what is no port.
uint16_t PortOf(int32_t value) { return value > 0 && value <= 65535 ? static_cast<uint16_t>(value) : 0; }

}  // namespace

ServiceInfo ServiceInfoOf(const ::k8s::core::v1::Service& service) {
  const auto& spec = service.spec();
  ServiceInfo out{.ns = service.metadata().namespace_(), .name = service.metadata().name()};
  if (spec.type() == "ExternalName") out.external_name = spec.external_name();
  out.cluster_ips.assign(spec.cluster_ips().begin(), spec.cluster_ips().end());
  if (out.cluster_ips.empty() && !spec.cluster_ip().empty()) out.cluster_ips.push_back(spec.cluster_ip());
  out.external_ips.assign(spec.external_ips().begin(), spec.external_ips().end());
  if (spec.load_balancer_source_ranges().empty()) {
    // With source ranges the addresses stay unserved here: open to all would be wrong
    // (docs/compatibility.md).
    for (const auto& ingress : service.status().load_balancer().ingress()) {
      if (!ingress.ip().empty() && ingress.ip_mode() != "Proxy") out.external_ips.push_back(ingress.ip());
    }
  }
  for (const auto& port : spec.ports()) {
    out.ports.push_back({.name = port.name(),
                         .protocol = ProtocolOf(port.protocol()),
                         .port = PortOf(port.port()),
                         .node_port = PortOf(port.node_port())});
  }
  out.client_ip_affinity = spec.session_affinity() == "ClientIP";
  if (spec.session_affinity_config().client_ip().has_timeout_seconds()) {
    out.affinity_timeout_s = spec.session_affinity_config().client_ip().timeout_seconds();
  }
  out.internal_local = spec.internal_traffic_policy() == "Local";
  out.external_local = spec.external_traffic_policy() == "Local";
  out.publish_not_ready = spec.publish_not_ready_addresses();
  return out;
}

bool IsOurs(const ::k8s::core::v1::Service& service) {
  return !service.metadata().labels().contains(kProxyNameLabel);
}

SliceInfo SliceInfoOf(const ::k8s::discovery::v1::EndpointSlice& slice) {
  SliceInfo out{.ns = slice.metadata().namespace_(), .name = slice.metadata().name()};
  auto label = slice.metadata().labels().find(kServiceNameLabel);
  if (label != slice.metadata().labels().end()) out.service = label->second;
  if (slice.address_type() == "FQDN") return out;
  for (const auto& endpoint : slice.endpoints()) {
    EndpointInfo info;
    info.addresses.assign(endpoint.addresses().begin(), endpoint.addresses().end());
    const auto& conditions = endpoint.conditions();
    // Unset means ready; serving follows ready (discovery/v1 EndpointConditions).
    info.ready = !conditions.has_ready() || conditions.ready();
    info.serving = conditions.has_serving() ? conditions.serving() : info.ready;
    info.terminating = conditions.has_terminating() && conditions.terminating();
    info.hostname = endpoint.hostname();
    info.node = endpoint.node_name();
    out.endpoints.push_back(std::move(info));
  }
  for (const auto& port : slice.ports()) {
    out.ports.push_back(
        {.name = port.name(), .protocol = ProtocolOf(port.protocol()), .port = PortOf(port.port())});
  }
  return out;
}

}  // namespace keelson::proxy
