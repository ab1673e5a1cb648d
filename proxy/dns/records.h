// DnsRecords: the cluster's names as one immutable snapshot, built from Services and EndpointSlices.
// Source: Kubernetes DNS-based service discovery, specification 1.1.0.
#pragma once

#include <absl/container/flat_hash_map.h>
#include <absl/container/flat_hash_set.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "net/address.h"
#include "proxy/service_map.h"

namespace keelson::proxy::dns {

// TTLs: a cluster IP keeps its meaning for the life of its Service, an endpoint does not.
inline constexpr uint32_t kClusterIpTtl_s = 30;
inline constexpr uint32_t kEndpointTtl_s = 5;
inline constexpr uint32_t kNegativeTtl_s = 5;

struct DnsOptions {
  std::string domain = "cluster.local";  // lower case, no trailing dot
  net::IpAddress server;                 // address of ns.dns.<domain>
  // Reverse names in here are ours to deny; all others are forwarded.
  std::vector<net::Cidr> own_cidrs;
};

// One pod behind a headless Service.
struct DnsEndpoint {
  std::string label;  // spec.hostname, or the address with dashes
  net::IpAddress ip;
  std::vector<std::pair<size_t, uint16_t>> ports;  // index into DnsService::ports, port number here
};

struct DnsService {
  std::vector<net::IpAddress> cluster_ips;  // empty: headless or ExternalName
  std::string external_name;                // CNAME target, lower case, no trailing dot
  std::vector<ServicePortInfo> ports;
  std::vector<DnsEndpoint> endpoints;  // headless only
};

struct DnsRecords {
  DnsOptions options;
  uint32_t serial = 1;
  absl::flat_hash_map<std::string, DnsService> services;  // key "name.namespace"
  absl::flat_hash_set<std::string> namespaces;
  absl::flat_hash_map<net::IpAddress, std::string>
      reverse;  // without the cluster domain: "mysql.default.svc"
};

// Pure. `serial`: grows with every change.
DnsRecords BuildDnsRecords(const ServiceInfos& services, const SliceInfos& slices, const DnsOptions& options,
                           uint32_t serial);

// "10.244.0.5" -> "10-244-0-5", "fd00::5" -> "fd00--5"
std::string DashedAddress(const net::IpAddress& ip);

}  // namespace keelson::proxy::dns
