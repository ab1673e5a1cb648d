// ServiceMap: what the node's dataplane has to serve, as plain values. Built from Services and
// EndpointSlices, it decides once which endpoints of a service port are used and in which order; ruleset.h
// only writes that down.
//
// Pure: no I/O, no clock. Source: Service and EndpointSlice API, KEP-1669 (serving and terminating endpoints
// as a fallback), KEP-2086 (internalTrafficPolicy).
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "net/address.h"
#include "net/conntrack.h"

namespace keelson::proxy {

enum class Protocol : uint8_t { kTcp, kUdp, kSctp };
// "tcp", "udp", "sctp": the names nft and SRV records use.
std::string_view ProtocolName(Protocol protocol);

// Endpoints used of one service port; more are left out (and counted in ServiceMap::endpoints_left_out).
inline constexpr size_t kMaxEndpointsPerPort = 4096;

// One address of an EndpointSlice.
struct EndpointInfo {
  std::vector<std::string> addresses;  // upstream uses the first only, so do we
  bool ready = true, serving = true, terminating = false;
  std::string hostname;  // "": none
  std::string node;      // "": unknown
};

struct EndpointPortInfo {
  std::string name;
  Protocol protocol = Protocol::kTcp;
  uint16_t port = 0;
};

// What the proxy keeps of an EndpointSlice.
struct SliceInfo {
  std::string ns, name;
  std::string service;  // label kubernetes.io/service-name
  std::vector<EndpointInfo> endpoints;
  std::vector<EndpointPortInfo> ports;
};

struct ServicePortInfo {
  std::string name;
  Protocol protocol = Protocol::kTcp;
  uint16_t port = 0;
  uint16_t node_port = 0;  // 0: none
};

// What the proxy keeps of a Service.
struct ServiceInfo {
  std::string ns, name;
  std::vector<std::string> cluster_ips;   // empty or {"None"}: headless
  std::vector<std::string> external_ips;  // spec.externalIPs and the load balancer's addresses
  std::string external_name;              // type ExternalName
  std::vector<ServicePortInfo> ports;
  bool client_ip_affinity = false;
  int affinity_timeout_s = 10800;
  bool internal_local = false;  // internalTrafficPolicy: Local
  bool external_local = false;  // externalTrafficPolicy: Local
  bool publish_not_ready = false;

  bool headless() const { return external_name.empty() && (cluster_ips.empty() || cluster_ips[0] == "None"); }
};

// Key "namespace/name".
using ServiceInfos = std::map<std::string, ServiceInfo>;
using SliceInfos = std::map<std::string, SliceInfo>;

// An address and port that takes connections.
struct Target {
  net::IpAddress ip;
  uint16_t port = 0;
  bool local = false;  // on this node
  friend bool operator==(const Target&, const Target&) = default;
  // By address, then port: the order of the map, so that equal inputs give equal rulesets.
  friend std::strong_ordering operator<=>(const Target& a, const Target& b);
};

// One port of one Service with the endpoints chosen for it.
struct ServicePort {
  std::string ns, name, port_name;
  Protocol protocol = Protocol::kTcp;
  uint16_t port = 0;
  uint16_t node_port = 0;
  std::vector<net::IpAddress> cluster_ips, external_ips;
  bool client_ip_affinity = false;
  int affinity_timeout_s = 0;
  bool internal_local = false, external_local = false;
  // Everyone's choice: the ready endpoints, local ones first; if none is ready, those that still serve while
  // terminating.
  std::vector<Target> cluster;
  // The same choice among this node's endpoints. A prefix of `cluster`, or, when only terminating endpoints
  // are left here and ready ones elsewhere, disjoint from it. Filled only where a policy is Local.
  std::vector<Target> local;
  friend bool operator==(const ServicePort&, const ServicePort&) = default;
};

struct ServiceMap {
  // Sorted by namespace, name, port name, protocol.
  std::vector<ServicePort> ports;
  uint64_t endpoints_left_out = 0;  // over kMaxEndpointsPerPort
  friend bool operator==(const ServiceMap&, const ServiceMap&) = default;
};

// `node`: this node's name, which makes endpoints local. Headless and ExternalName services are DNS' business
// and not in the map. `reserved`: addresses no rule may touch (the DNS server's own). Addresses that do not
// parse are left out.
ServiceMap BuildServiceMap(const ServiceInfos& services, const SliceInfos& slices, std::string_view node,
                           const std::vector<net::IpAddress>& reserved);

// UDP flows whose endpoint is gone keep their conntrack entry and so a dead destination; these name them.
using net::StaleFlow;
std::vector<StaleFlow> StaleUdpFlows(const ServiceMap& before, const ServiceMap& after);

}  // namespace keelson::proxy
