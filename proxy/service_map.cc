#include "proxy/service_map.h"

#include <algorithm>
#include <set>
#include <tuple>

namespace keelson::proxy {
namespace {

struct Candidate {
  bool ready = false, serving_terminating = false;
  bool local = false;
};
// Sorted by address and port, each once.
using Candidates = std::map<Target, Candidate>;

// Slices of each service, key "namespace/name".
using SlicesByService = std::map<std::string, std::vector<const SliceInfo*>>;

std::vector<net::IpAddress> ParseAddresses(const std::vector<std::string>& texts,
                                           const std::vector<net::IpAddress>& reserved) {
  std::vector<net::IpAddress> out;
  for (const std::string& text : texts) {
    absl::StatusOr<net::IpAddress> ip = net::IpAddress::Parse(text);
    if (!ip.ok() || ip->is_unspecified() || ip->is_loopback() || ip->is_multicast()) continue;
    if (std::find(reserved.begin(), reserved.end(), *ip) != reserved.end()) continue;
    if (std::find(out.begin(), out.end(), *ip) == out.end()) out.push_back(*ip);
  }
  return out;
}

Candidates CollectCandidates(const std::vector<const SliceInfo*>& slices, const ServicePortInfo& port,
                             std::string_view node) {
  Candidates out;
  for (const SliceInfo* slice : slices) {
    for (const EndpointPortInfo& slice_port : slice->ports) {
      if (slice_port.name != port.name || slice_port.protocol != port.protocol || slice_port.port == 0)
        continue;
      for (const EndpointInfo& endpoint : slice->endpoints) {
        if (endpoint.addresses.empty()) continue;
        absl::StatusOr<net::IpAddress> ip = net::IpAddress::Parse(endpoint.addresses[0]);
        if (!ip.ok()) continue;
        Candidate& candidate = out[Target{.ip = *ip, .port = slice_port.port}];
        candidate.ready |= endpoint.ready;
        candidate.serving_terminating |= endpoint.serving && endpoint.terminating;
        candidate.local |= !node.empty() && endpoint.node == node;
      }
    }
  }
  return out;
}

// Ready ones; if there is none, those that serve while terminating.
std::vector<Target> Choose(const Candidates& candidates, bool local_only) {
  std::vector<Target> ready, fallback;
  for (const auto& [target, candidate] : candidates) {
    if (local_only && !candidate.local) continue;
    Target chosen = target;
    chosen.local = candidate.local;
    if (candidate.ready) ready.push_back(chosen);
    if (candidate.serving_terminating) fallback.push_back(chosen);
  }
  return ready.empty() ? fallback : ready;
}

}  // namespace

std::string_view ProtocolName(Protocol protocol) {
  switch (protocol) {
    case Protocol::kTcp:
      return "tcp";
    case Protocol::kUdp:
      return "udp";
    case Protocol::kSctp:
      return "sctp";
  }
  return "tcp";
}

std::strong_ordering operator<=>(const Target& a, const Target& b) {
  if (auto c = a.ip <=> b.ip; c != 0) return c;
  return a.port <=> b.port;
}

ServiceMap BuildServiceMap(const ServiceInfos& services, const SliceInfos& slices, std::string_view node,
                           const std::vector<net::IpAddress>& reserved) {
  SlicesByService by_service;
  for (const auto& [key, slice] : slices) {
    if (!slice.service.empty()) by_service[slice.ns + "/" + slice.service].push_back(&slice);
  }
  ServiceMap map;
  static const std::vector<const SliceInfo*> kNoSlices;
  for (const auto& [key, service] : services) {
    if (service.headless() || !service.external_name.empty()) continue;
    std::vector<net::IpAddress> cluster_ips = ParseAddresses(service.cluster_ips, reserved);
    std::vector<net::IpAddress> external_ips = ParseAddresses(service.external_ips, reserved);
    auto found = by_service.find(key);
    const auto& its_slices = found == by_service.end() ? kNoSlices : found->second;
    for (const ServicePortInfo& port : service.ports) {
      if (port.port == 0 || (cluster_ips.empty() && external_ips.empty() && port.node_port == 0)) continue;
      ServicePort out{.ns = service.ns,
                      .name = service.name,
                      .port_name = port.name,
                      .protocol = port.protocol,
                      .port = port.port,
                      .node_port = port.node_port,
                      .cluster_ips = cluster_ips,
                      .external_ips = external_ips,
                      .client_ip_affinity = service.client_ip_affinity,
                      .affinity_timeout_s = service.client_ip_affinity ? service.affinity_timeout_s : 0,
                      .internal_local = service.internal_local,
                      .external_local = service.external_local};
      Candidates candidates = CollectCandidates(its_slices, port, node);
      out.cluster = Choose(candidates, /*local_only=*/false);
      std::stable_partition(out.cluster.begin(), out.cluster.end(), [](const Target& t) { return t.local; });
      if (out.cluster.size() > kMaxEndpointsPerPort) {
        map.endpoints_left_out += out.cluster.size() - kMaxEndpointsPerPort;
        out.cluster.resize(kMaxEndpointsPerPort);
      }
      if (service.internal_local || service.external_local) {
        out.local = Choose(candidates, /*local_only=*/true);
        if (out.local.size() > kMaxEndpointsPerPort) out.local.resize(kMaxEndpointsPerPort);
      }
      map.ports.push_back(std::move(out));
    }
  }
  std::sort(map.ports.begin(), map.ports.end(), [](const ServicePort& a, const ServicePort& b) {
    return std::tie(a.ns, a.name, a.port_name, a.protocol) < std::tie(b.ns, b.name, b.port_name, b.protocol);
  });
  return map;
}

std::vector<StaleFlow> StaleUdpFlows(const ServiceMap& before, const ServiceMap& after) {
  using Key = std::tuple<std::string_view, std::string_view, std::string_view>;
  std::map<Key, const ServicePort*> now;
  for (const ServicePort& port : after.ports) {
    if (port.protocol == Protocol::kUdp) now[Key(port.ns, port.name, port.port_name)] = &port;
  }
  std::map<Key, const ServicePort*> then;
  for (const ServicePort& port : before.ports) {
    if (port.protocol == Protocol::kUdp) then[Key(port.ns, port.name, port.port_name)] = &port;
  }
  std::vector<StaleFlow> out;
  auto add = [&out](const ServicePort& port, const net::IpAddress& endpoint) {
    for (const net::IpAddress& vip : port.cluster_ips) out.push_back({vip, port.port, endpoint});
    for (const net::IpAddress& vip : port.external_ips) out.push_back({vip, port.port, endpoint});
    if (port.node_port != 0) out.push_back({net::IpAddress(), port.node_port, endpoint});
  };
  for (const auto& [key, old_port] : then) {
    auto found = now.find(key);
    std::set<net::IpAddress> kept;
    if (found != now.end()) {
      for (const Target& target : found->second->cluster) kept.insert(target.ip);
      for (const Target& target : found->second->local) kept.insert(target.ip);
    }
    std::set<net::IpAddress> gone;
    for (const Target& target : old_port->cluster) {
      if (!kept.contains(target.ip)) gone.insert(target.ip);
    }
    for (const net::IpAddress& ip : gone) add(*old_port, ip);
  }
  // Flows that began while the port had no endpoint were never translated; they must be looked at again.
  for (const auto& [key, new_port] : now) {
    auto found = then.find(key);
    if (new_port->cluster.empty() || (found != then.end() && !found->second->cluster.empty())) continue;
    add(*new_port, net::IpAddress());
  }
  return out;
}

}  // namespace keelson::proxy
