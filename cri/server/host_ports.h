// HostPorts: hostPort mappings of the sandboxes on this node, as nftables rules in a table of our own.
// Debian's portmap plugin shells out to iptables. Pure state -> ruleset; loading is thin.
#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/env.h"

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

// The whole table as an nft script that replaces the one before in one transaction. An empty state: the
// script removes the table. Only packets to an address of this node are caught (fib daddr type local), never
// another pod's traffic to the same port (CVE-2025-67499).
std::string RenderHostPorts(const std::string& table, const HostPortState& state);
// AlreadyExists naming pod and port when `wanted` collides with a mapping in `state`. InvalidArgument: bad
// protocol, port or address.
absl::Status CheckHostPorts(const HostPortState& state, const HostPortSandbox& wanted);

class HostPorts {
 public:
  virtual ~HostPorts() = default;
  // Replaces what the kernel has: at start, with the state recovered from the records.
  virtual Task<absl::Status> Sync(HostPortState state) = 0;
  // AlreadyExists: another sandbox holds a port, or a process of the host listens on it.
  virtual Task<absl::Status> Add(std::string sandbox_id, HostPortSandbox sandbox) = 0;
  // Unknown is success.
  virtual Task<absl::Status> Remove(std::string sandbox_id) = 0;
};

struct HostPortsOptions {
  std::string table = "keelson_cri";
  // Traffic from these pod blocks to elsewhere leaves with the node's address; empty: somebody else does it.
  std::vector<std::string> masquerade_cidrs;
};
std::unique_ptr<HostPorts> NewHostPorts(Env& env, HostPortsOptions options);

}  // namespace keelson::cri
