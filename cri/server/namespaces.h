// Namespaces of a pod sandbox, kept alive by bind mounts instead of a process: dir/net, dir/ipc, dir/uts. And
// what has to be done inside one: sysctls, dialling a port of the pod, reading its interface counters.
//
// A process with threads may move a single thread into another network, IPC or UTS namespace; so every call
// here does its work on a short-lived thread of its own, which ends with it. All calls block: Env::Blocking.
// Nothing here makes an abstract unix socket (a pod on the host's network would reach it: CVE-2020-15257).
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"

namespace keelson::cri {

inline constexpr char kNetNamespace[] = "net", kIpcNamespace[] = "ipc", kUtsNamespace[] = "uts",
                      kUserNamespace[] = "user";
inline constexpr size_t kMaxSysctls = 1000;
inline constexpr size_t kMaxSysctlValueBytes = 4096;

// Name in the form of sysctl(8) -> value: "net.ipv4.ip_unprivileged_port_start" -> "0". When the first
// separator is a slash, slashes separate and dots are part of names ("net/ipv4/conf/eth0.100/rp_filter").
using Sysctls = std::map<std::string, std::string>;

// One line of /proc/PID/uid_map.
struct IdMapping {
  uint32_t container_id = 0, host_id = 0, length = 0;
};

struct PinRequest {
  std::string dir;  // made when missing; its parents exist
  bool network = false, ipc = false, uts = false;
  std::string hostname;  // needs uts; empty: the host's
  Sysctls
      sysctls;  // those WaitsForInterfaces() names are left out; all others need the namespace they are of
  // Both given: a user namespace (dir/user) that owns the others.
  std::vector<IdMapping> uid_mappings, gid_mappings;
};

// Makes the namespaces, `lo` up in the new network; nothing stays on failure. AlreadyExists: dir holds one
// already. InvalidArgument: a sysctl that is not safe, or of a namespace the sandbox does not own.
absl::Status PinNamespaces(const PinRequest& request);

// Lifts what PinNamespaces made, removes dir when it is empty then. Missing is success.
absl::Status UnpinNamespaces(const std::string& dir);

// "net.ipv4.tcp_syncookies" -> "net/ipv4/tcp_syncookies". InvalidArgument for a name that is none. Pure.
absl::StatusOr<std::string> SysctlPath(const std::string& name);
// InvalidArgument unless the sysctl belongs to a namespace that `request` makes (net.*; kernel.shm*,
// kernel.msg*, kernel.sem, fs.mqueue.*; kernel.hostname, kernel.domainname). Pure.
absl::Status CheckSysctls(const PinRequest& request);
// Sysctls of one interface ("net.ipv4.conf.eth0.rp_filter") exist once the CNI plugins have made it: to be
// written with WriteSysctls after ADD. Pure.
Sysctls WaitsForInterfaces(const Sysctls& sysctls);
// Inside the namespaces that are pinned in dir. NotFound names the sysctl this kernel does not have.
absl::Status WriteSysctls(const std::string& dir, const Sysctls& sysctls);

// A TCP connection to a port of the pod: 127.0.0.1, then ::1. Non-blocking, close-on-exec. Unavailable:
// refused. DeadlineExceeded.
absl::StatusOr<Fd> ConnectInNamespace(const std::string& netns_path, uint16_t port, absl::Duration timeout);

struct InterfaceCounters {
  std::string name;
  uint64_t rx_bytes = 0, rx_packets = 0, rx_errors = 0, rx_dropped = 0;
  uint64_t tx_bytes = 0, tx_packets = 0, tx_errors = 0, tx_dropped = 0;
};
// As the pod sees them, `lo` left out.
absl::StatusOr<std::vector<InterfaceCounters>> ReadInterfaceCounters(const std::string& netns_path);
// Many on one thread, in the order of the paths; cheaper than one by one.
std::vector<absl::StatusOr<std::vector<InterfaceCounters>>> ReadInterfaceCountersOf(
    const std::vector<std::string>& netns_paths);
// Text of /proc/net/dev. Pure.
absl::StatusOr<std::vector<InterfaceCounters>> ParseNetDev(std::string_view text);

}  // namespace keelson::cri
