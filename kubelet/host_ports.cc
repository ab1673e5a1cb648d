#include "kubelet/host_ports.h"

#include <absl/strings/str_join.h>

#include <nlohmann/json.hpp>

#include "base/strings.h"
#include "kubelet/pod_network.h"
#include "net/host_ip.h"

namespace keelson::kubelet {
namespace {

constexpr size_t kMaxCniConfigBytes = 1 << 20;

const char* ProtocolName(criv1::Protocol protocol) {
  return protocol == criv1::UDP ? "UDP" : protocol == criv1::SCTP ? "SCTP" : "TCP";
}

std::string Describe(const criv1::PortMapping& m) {
  return StrCat(m.host_port(), "/", ProtocolName(m.protocol()));
}

bool TakesHostPorts(const nlohmann::json& plugin) {
  auto network = plugin.find("Network");
  if (network == plugin.end() || !network->is_object()) return false;
  auto capabilities = network->find("capabilities");
  if (capabilities == network->end() || !capabilities->is_object()) return false;
  auto declared = capabilities->find("portMappings");
  return declared != capabilities->end() && declared->is_boolean() && declared->get<bool>();
}

}  // namespace

bool HostPortsConflict(const corev1::Pod& pod, const corev1::Pod& other) {
  const std::vector<criv1::PortMapping> taken = MakePortMappings(other);
  if (taken.empty()) return false;
  for (const criv1::PortMapping& m : MakePortMappings(pod)) {
    for (const criv1::PortMapping& t : taken) {
      if (m.host_port() == t.host_port() && m.protocol() == t.protocol() &&
          net::HostIpsOverlap(net::CanonicalHostIp(m.host_ip()), net::CanonicalHostIp(t.host_ip())))
        return true;
    }
  }
  return false;
}

std::vector<std::string> NodePortConflicts(
    const corev1::Pod& pod, const std::vector<std::shared_ptr<const corev1::Service>>& services) {
  std::vector<std::string> out;
  const std::vector<criv1::PortMapping> mappings = MakePortMappings(pod);
  if (mappings.empty()) return out;
  for (const auto& service : services) {
    for (const auto& port : service->spec().ports()) {
      const std::string protocol = port.protocol().empty() ? "TCP" : port.protocol();
      for (const criv1::PortMapping& m : mappings) {
        if (port.node_port() == 0 || port.node_port() != m.host_port() ||
            protocol != ProtocolName(m.protocol()))
          continue;
        out.push_back(StrCat("hostPort ", Describe(m), " is also the node port of the service ",
                             service->metadata().namespace_(), "/", service->metadata().name(),
                             ": only one of them gets the connections"));
      }
    }
  }
  return out;
}

std::string HostPortsWithoutEffect(const corev1::Pod& pod, std::string_view cni_config_json) {
  if (pod.spec().host_network() || cni_config_json.empty() || cni_config_json.size() > kMaxCniConfigBytes)
    return "";
  const std::vector<criv1::PortMapping> mappings = MakePortMappings(pod);
  if (mappings.empty()) return "";
  nlohmann::json config = nlohmann::json::parse(cni_config_json.begin(), cni_config_json.end(), nullptr,
                                                /*allow_exceptions=*/false);
  if (!config.is_object()) return "";
  auto networks = config.find("Networks");
  if (networks == config.end() || !networks->is_array() || networks->empty()) return "";
  std::vector<std::string> names;
  for (const nlohmann::json& network : *networks) {
    if (!network.is_object()) return "";
    auto of = network.find("Config");
    if (of == network.end() || !of->is_object()) return "";
    auto plugins = of->find("Plugins");
    if (plugins == of->end() || !plugins->is_array()) return "";
    for (const nlohmann::json& plugin : *plugins) {
      if (plugin.is_object() && TakesHostPorts(plugin)) return "";
    }
    auto name = of->find("Name");
    if (name != of->end() && name->is_string()) names.push_back(name->get<std::string>());
  }
  std::vector<std::string> ports;
  for (const criv1::PortMapping& m : mappings) ports.push_back(Describe(m));
  return StrCat("hostPort ", absl::StrJoin(ports, ", "),
                " has no effect: no plugin of the runtime's network configuration (",
                absl::StrJoin(names, ", "),
                ") has the capability portMappings; add the portmap plugin to it");
}

}  // namespace keelson::kubelet
