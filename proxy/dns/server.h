// DnsServer: the cluster's DNS over UDP and TCP on one address of this node. Names of the cluster are
// answered from the snapshot last given; all others go to the resolvers of a resolv.conf.
//
// One loop. It answers only clients inside `allow`; everything else is dropped unread. Same questions asked
// while one is under way upstream share it, which is also what stops a forwarding loop from growing; answers
// are kept as cache.h says.
#pragma once

#include <absl/status/status.h>
#include <absl/time/time.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/env.h"
#include "net/address.h"
#include "proxy/dns/records.h"

namespace keelson::proxy::dns {

struct DnsServerOptions {
  net::IpAddress listen;
  uint16_t port = 53;            // 0: any (tests)
  std::vector<net::Cidr> allow;  // clients; the listen address itself is always allowed
  std::string resolv_conf = "/etc/resolv.conf";
  uint16_t upstream_port = 53;                         // tests
  absl::Duration upstream_timeout = absl::Seconds(2);  // each try
  int upstream_tries = 2;                              // rounds over all upstreams
  size_t max_forwards = 512;                           // under way; then SERVFAIL
  size_t max_forwards_per_client = 64;
  size_t max_waiters_per_forward = 64;  // same question, many askers
  size_t max_tcp_connections = 128;
  size_t max_tcp_connections_per_client = 16;
  absl::Duration tcp_idle_timeout = absl::Seconds(10);
};

struct DnsServerStats {
  uint64_t queries = 0, answered = 0, forwarded = 0, dropped = 0, failed = 0;
  uint64_t from_cache = 0;  // of the forwarded ones, those that did not need to be
};

class DnsServer {
 public:
  DnsServer(Env& env, DnsServerOptions options);
  ~DnsServer();  // after Stop()
  // Binds both sockets and starts to answer (SERVFAIL for cluster names until SetRecords). NotFound: the
  // address is on no link of this node; AlreadyExists: the port is in use.
  absl::Status Start();
  void SetRecords(std::shared_ptr<const DnsRecords> records);
  Task<void> Stop();
  uint16_t port() const;  // bound
  DnsServerStats stats() const;

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace keelson::proxy::dns
