// Who listens on a port, from /proc/net/{tcp,tcp6,udp,udp6} and /proc/<pid>/fd.
#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "net/address.h"

namespace keelson::net {

struct ListeningSocket {
  bool udp = false;
  IpAddress address;
  uint16_t port = 0;
  uint64_t inode = 0;
};

struct PortOwner {
  ListeningSocket socket;
  int pid = 0;          // 0: unknown (not root, or another pid namespace)
  std::string command;  // comm of the pid
  // "nginx (pid 12)", "an unknown process" when pid is 0.
  std::string ToString() const;
};

// Every listening TCP and bound UDP socket of the network namespace that `proc_root` shows.
absl::StatusOr<std::vector<ListeningSocket>> ListListeningSockets(const std::string& proc_root = "/proc");
// Who holds `socket`; pid 0 when nobody visible does.
PortOwner OwnerOf(const ListeningSocket& socket, const std::string& proc_root = "/proc");
// nullopt: the port is free.
absl::StatusOr<std::optional<PortOwner>> FindPortOwner(uint16_t port, bool udp = false,
                                                       const std::string& proc_root = "/proc");

}  // namespace keelson::net
