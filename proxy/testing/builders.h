// Short forms of ServiceInfo and SliceInfo for tests.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "proxy/service_map.h"

namespace keelson::proxy {

inline std::pair<const std::string, ServiceInfo> Service(std::string ns, std::string name,
                                                         std::string cluster_ip,
                                                         std::vector<ServicePortInfo> ports) {
  ServiceInfo info{.ns = ns, .name = name, .ports = std::move(ports)};
  if (!cluster_ip.empty()) info.cluster_ips.push_back(std::move(cluster_ip));
  return {ns + "/" + name, std::move(info)};
}

// Endpoints as {address, node}; all ready. TCP.
inline SliceInfo Slice(std::string ns, std::string service, std::string port_name, uint16_t port,
                       std::vector<std::pair<std::string, std::string>> endpoints) {
  SliceInfo out{.ns = std::move(ns), .name = service + "-1", .service = service};
  out.ports.push_back({.name = std::move(port_name), .port = port});
  for (auto& [address, node] : endpoints) {
    EndpointInfo info;
    info.addresses = {address};
    info.terminating = false;
    info.node = node;
    out.endpoints.push_back(std::move(info));
  }
  return out;
}

}  // namespace keelson::proxy
