// rtnetlink through libmnl: links, addresses and routes of the calling thread's network namespace. Calls are
// synchronous (the kernel answers within microseconds). Idempotent: adding what is there and deleting what is
// gone succeed.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "net/address.h"

struct mnl_socket;

namespace keelson::net {

struct Link {
  int index = 0;
  std::string name;
  bool up = false, loopback = false;
  uint32_t mtu_bytes = 0;
};

struct InterfaceAddress {
  int link_index = 0;
  std::string link_name;
  Cidr cidr;  // address with the prefix of its network
};

struct Route {
  std::optional<Cidr> destination;  // nullopt: default route
  std::optional<IpAddress> gateway;
  std::string link_name;
  std::optional<IpAddress> preferred_source;
  uint32_t metric = 0;
  bool v6 = false;  // of a default route without gateway
};

class Netlink {
 public:
  static absl::StatusOr<Netlink> Open();
  Netlink(Netlink&& other) noexcept;
  Netlink& operator=(Netlink&&) = delete;
  ~Netlink();

  absl::StatusOr<std::vector<Link>> ListLinks();
  absl::StatusOr<std::vector<InterfaceAddress>> ListAddresses();
  // Main table only.
  absl::StatusOr<std::vector<Route>> ListRoutes();
  // NotFound: no such link. PermissionDenied: not root.
  absl::Status SetLinkUp(const std::string& link);
  absl::Status AddAddress(const std::string& link, const Cidr& address);
  absl::Status DeleteAddress(const std::string& link, const Cidr& address);
  absl::Status AddRoute(const Route& route);  // replaces one to the same destination and metric
  absl::Status DeleteRoute(const Route& route);

 private:
  explicit Netlink(mnl_socket* socket) : socket_(socket) {}
  mnl_socket* socket_ = nullptr;
  uint32_t sequence_ = 0;
};

// The address this node is known by: on the default route's link (its preferred source, else the first global
// address of the link), else the first global address of any link. Pure; NotFound when there is none.
absl::StatusOr<IpAddress> ChooseNodeAddress(const std::vector<Link>& links,
                                            const std::vector<InterfaceAddress>& addresses,
                                            const std::vector<Route>& routes, bool v6 = false);
// The same from the kernel.
absl::StatusOr<IpAddress> NodeAddress(bool v6 = false);

}  // namespace keelson::net
