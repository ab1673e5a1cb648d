// Proxy: one node's Service dataplane and cluster DNS (`keelson proxy`).
//
// Informers of Services and EndpointSlices feed one Reconciler with one key, "node": it builds the
// ServiceMap, turns it into nft (a full table the first time, after somebody else changed it and after an
// error; elements otherwise), and gives the DNS server a new snapshot. Changes are gathered for `gather`
// first. Nothing is touched before both informers have synced, and a full load replaces the table in one
// transaction, so a restart, also by kill -9, leaves no gap: the old rules serve until the new ones are
// there.
//
// One loop. Needs CAP_NET_ADMIN (and CAP_NET_BIND_SERVICE for port 53).
#pragma once

#include <absl/status/status.h>
#include <absl/time/time.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/env.h"
#include "client/api_client.h"
#include "net/address.h"
#include "net/http_server.h"

namespace keelson::proxy {

struct ProxyOptions {
  std::string node_name;          // makes endpoints local
  std::string table = "keelson";  // nft table `ip <table>`; another name per instance on one machine
  // Addresses of this node's pods. Empty: spec.podCIDRs of the Node object is watched and used.
  std::vector<net::Cidr> node_pod_cidrs;
  std::vector<net::Cidr> cluster_cidrs;  // addresses of all pods (--pod-cidr)
  std::vector<net::Cidr> service_cidrs;  // --service-cidr
  bool masquerade_pods = true;           // pods reach the outside with the node's address
  bool node_ports_on_localhost = true;   // IPv4

  bool dns = true;
  net::IpAddress dns_address;  // put on `lo` as /32
  uint16_t dns_port = 53;
  std::string cluster_domain = "cluster.local";
  std::string resolv_conf = "/etc/resolv.conf";
  // Who may ask besides this node's own addresses and the cluster's pods.
  std::vector<net::Cidr> dns_allow;

  std::string nft = "nft";
  std::string proc_sys = "/proc/sys";
  // False in tests without a network namespace: no sysctls, no address on lo, no netlink watch, no conntrack.
  bool manage_host = true;
  absl::Duration gather = absl::Milliseconds(20);  // between a change and its load
  absl::Duration restore_interval =
      absl::Milliseconds(200);  // least time between two restores after foreign changes
  // Loads everything again this often; catches what no event told. Zero: never.
  absl::Duration full_sync_interval = absl::Minutes(30);
};

// "10.96.0.10" for 10.96.0.0/12: the address Kubernetes installers give DNS.
absl::StatusOr<net::IpAddress> DefaultDnsAddress(const net::Cidr& service_cidr);

class Proxy {
 public:
  // `env` and `client` outlive Stop().
  Proxy(Env& env, client::ApiClient& client, ProxyOptions options);
  ~Proxy();

  // InvalidArgument: options contradict each other (named). Otherwise starts and returns; what fails later is
  // retried and shows in healthz. A DNS address that cannot be bound is an error here.
  absl::Status Start();
  // Leaves rules, settings and the DNS address in place: Services go on working.
  Task<void> Stop();
  // Removes table, DNS address and route_localnet. For `keelson down`; needs no Start(); a running Proxy
  // loads nothing after it. Twice is fine.
  Task<absl::Status> Cleanup();

  // True once the rules of this process are in the kernel.
  bool synced() const;
  // OK, or what keeps the dataplane from being current for more than a minute.
  absl::Status Health() const;
  // GET /healthz, /livez, /readyz (200 or 503), /metrics, /proxyMode. Serve it with a net::HttpServer on
  // 127.0.0.1:10249 (metrics) and :10256 (healthz), upstream's ports.
  net::HttpHandler& http_handler();

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace keelson::proxy
