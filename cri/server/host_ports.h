// HostPorts: hostPort mappings of the sandboxes on this node, as nftables rules in a table of our own.
// Debian's portmap plugin shells out to iptables. Pure state -> ruleset; loading is thin.
#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/env.h"
#include "net/conntrack.h"
#include "net/netlink.h"
#include "net/proc_ports.h"

namespace keelson::cri {

struct HostPort {
  std::string protocol;  // "tcp", "udp", "sctp"
  std::string host_ip;   // "" : every address of the node
  uint16_t host_port = 0, container_port = 0;
};

struct HostPortSandbox {
  std::string pod_name;          // namespace/name, for messages and comments
  std::vector<std::string> ips;  // of the pod; a mapping goes to the address of its own family
  std::vector<HostPort> ports;
};

// By sandbox ID.
using HostPortState = std::map<std::string, HostPortSandbox>;

// The whole table (family inet) as an nft script that replaces the one before in one transaction. Nothing to
// do (no port, no block, no link): the script removes the table. Only packets to an address of this node are
// caught (fib daddr type local), never another pod's traffic to the same port or the host's own to other
// hosts (CVE-2025-67499); of 127.0.0.0/8 only 127.0.0.1, and not ::1, from where no packet can leave. What
// does not parse is left out. `masquerade_cidrs`: HostPortsOptions. `localnet_links`: links whose
// route_localnet was switched on for us; while there is one, the guard that keeps wires and pods off the
// host's loopback (CVE-2020-8558) stays, and the names are remembered in the table itself, over our own
// restarts.
std::string RenderHostPorts(const std::string& table, const HostPortState& state,
                            const std::vector<std::string>& masquerade_cidrs = {},
                            const std::set<std::string>& localnet_links = {});
// The transaction that turns the table of `from` into that of `to`, both not empty: elements only. "" when
// equal.
std::string RenderHostPortsChange(const std::string& table, const HostPortState& from,
                                  const HostPortState& to, const std::set<std::string>& links_from = {},
                                  const std::set<std::string>& links_to = {});
// AlreadyExists naming pod and port when `wanted` collides with a mapping in `state`. InvalidArgument: bad
// protocol, port or address.
absl::Status CheckHostPorts(const HostPortState& state, const HostPortSandbox& wanted);
// The first of `sockets` that a mapping of `wanted` would take the connections from; nullptr: none. Pure.
const net::ListeningSocket* FindShadowed(const HostPortSandbox& wanted,
                                         const std::vector<net::ListeningSocket>& sockets);

// One loop; calls may overlap, those that wait together are loaded in one transaction.
class HostPorts {
 public:
  virtual ~HostPorts() = default;
  // Replaces what the kernel has: at start, with the state recovered from the records. From then on the table
  // is watched and put back within a second when somebody flushes it (HostPortsOptions.watch).
  virtual Task<absl::Status> Sync(HostPortState state) = 0;
  // After CNI ADD: the pod's link must be there (route_localnet, for 127.0.0.1). AlreadyExists: another
  // sandbox holds a port, or a process of the host listens on it. Nothing is held on failure. Same sandbox
  // again: replaced.
  virtual Task<absl::Status> Add(std::string sandbox_id, HostPortSandbox sandbox) = 0;
  // Unknown is success. Best after CNI DEL.
  virtual Task<absl::Status> Remove(std::string sandbox_id) = 0;
  // Ends the watch; the rules stay. To be awaited before destruction.
  virtual Task<void> Stop() { co_return; }
};

struct HostPortsOptions {
  std::string table = "keelson_cri";
  // Traffic from these pod blocks to elsewhere leaves with the node's address; empty: somebody else does it.
  std::vector<std::string> masquerade_cidrs;
  bool watch = true;
  std::string nft = "nft";          // looked up in PATH
  std::string proc_root = "/proc";  // listening sockets, sys/net/ipv4/conf
  // The kernel's own unless a test brings others. All block.
  std::function<absl::StatusOr<std::vector<net::Route>>()> list_routes;
  std::function<absl::StatusOr<std::vector<net::InterfaceAddress>>()> list_addresses;
  std::function<absl::StatusOr<size_t>(const std::vector<net::StaleFlow>&)> delete_flows;
};
std::unique_ptr<HostPorts> NewHostPorts(Env& env, HostPortsOptions options);

}  // namespace keelson::cri
