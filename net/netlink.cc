#include "net/netlink.h"

#include <absl/functional/function_ref.h>
#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <time.h>

#include <cstring>

#include "base/status.h"
#include "base/strings.h"

namespace keelson::net {

namespace {

constexpr size_t kReceiveBytes = 32 << 10;  // the kernel's own largest dump message
constexpr size_t kRequestBytes = 1 << 10;

using Each = absl::FunctionRef<void(const nlmsghdr*)>;

int CallEach(const nlmsghdr* message, void* data) {
  (*static_cast<Each*>(data))(message);
  return MNL_CB_OK;
}

struct Attributes {
  std::array<const nlattr*, 64> at{};
  const nlattr* operator[](size_t type) const { return type < at.size() ? at[type] : nullptr; }
};

int CollectAttribute(const nlattr* attribute, void* data) {
  auto* out = static_cast<Attributes*>(data);
  uint16_t type = mnl_attr_get_type(attribute);
  if (type < out->at.size()) out->at[type] = attribute;
  return MNL_CB_OK;
}

Attributes ParseAttributes(const nlmsghdr* message, size_t header_bytes) {
  Attributes out;
  mnl_attr_parse(message, static_cast<unsigned>(header_bytes), &CollectAttribute, &out);
  return out;
}

std::optional<IpAddress> AddressOf(const nlattr* attribute) {
  if (attribute == nullptr) return std::nullopt;
  auto address = IpAddress::FromBytes(std::string_view(
      static_cast<const char*>(mnl_attr_get_payload(attribute)), mnl_attr_get_payload_len(attribute)));
  if (!address.ok()) return std::nullopt;
  return *address;
}

void PutAddress(nlmsghdr* message, uint16_t type, const IpAddress& address) {
  std::string bytes = address.ToBytes();
  mnl_attr_put(message, type, bytes.size(), bytes.data());
}

std::string LinkName(int index) {
  char name[IF_NAMESIZE];
  return ::if_indextoname(static_cast<unsigned>(index), name) == nullptr ? StrCat("#", index)
                                                                         : std::string(name);
}

absl::StatusOr<int> LinkIndex(const std::string& name) {
  unsigned index = ::if_nametoindex(name.c_str());
  if (index == 0) return absl::NotFoundError(StrCat("no network link \"", name, "\""));
  return static_cast<int>(index);
}

// One request and its answers, on `socket`.
absl::Status Transact(mnl_socket* socket, nlmsghdr* request, Each each) {
  if (mnl_socket_sendto(socket, request, request->nlmsg_len) < 0) return ErrnoStatus(errno, "netlink send");
  std::string buffer(kReceiveBytes, '\0');
  unsigned port = mnl_socket_get_portid(socket);
  while (true) {
    ssize_t n = mnl_socket_recvfrom(socket, buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoStatus(errno, "netlink receive");
    int result =
        mnl_cb_run(buffer.data(), static_cast<size_t>(n), request->nlmsg_seq, port, &CallEach, &each);
    if (result < 0) return ErrnoStatus(errno, "netlink");
    if (result == MNL_CB_STOP) return absl::OkStatus();
  }
}

}  // namespace

absl::StatusOr<Netlink> Netlink::Open() {
  mnl_socket* socket = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
  if (socket == nullptr) return ErrnoStatus(errno, "open netlink socket");
  if (mnl_socket_bind(socket, 0, MNL_SOCKET_AUTOPID) < 0) {
    absl::Status status = ErrnoStatus(errno, "bind netlink socket");
    mnl_socket_close(socket);
    return status;
  }
  return Netlink(socket);
}

Netlink::Netlink(Netlink&& other) noexcept
    : socket_(std::exchange(other.socket_, nullptr)), sequence_(other.sequence_) {}

Netlink::~Netlink() {
  if (socket_ != nullptr) mnl_socket_close(socket_);
}

namespace {

// A request message in `buffer` with a zeroed family header.
template <class Header>
Header* StartMessage(char* buffer, uint16_t type, uint16_t flags, uint32_t sequence, nlmsghdr** message) {
  *message = mnl_nlmsg_put_header(buffer);
  (*message)->nlmsg_type = type;
  (*message)->nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | flags);
  (*message)->nlmsg_seq = sequence;
  return static_cast<Header*>(mnl_nlmsg_put_extra_header(*message, sizeof(Header)));
}

}  // namespace

absl::StatusOr<std::vector<Link>> Netlink::ListLinks() {
  char buffer[kRequestBytes];
  nlmsghdr* message;
  StartMessage<ifinfomsg>(buffer, RTM_GETLINK, NLM_F_DUMP, ++sequence_, &message);
  std::vector<Link> out;
  absl::Status status = Transact(socket_, message, [&](const nlmsghdr* answer) {
    const auto* info = static_cast<const ifinfomsg*>(mnl_nlmsg_get_payload(answer));
    Attributes attributes = ParseAttributes(answer, sizeof *info);
    Link link;
    link.index = info->ifi_index;
    link.up = (info->ifi_flags & IFF_UP) != 0;
    link.loopback = (info->ifi_flags & IFF_LOOPBACK) != 0;
    if (attributes[IFLA_IFNAME] != nullptr) link.name = mnl_attr_get_str(attributes[IFLA_IFNAME]);
    if (attributes[IFLA_MTU] != nullptr) link.mtu_bytes = mnl_attr_get_u32(attributes[IFLA_MTU]);
    out.push_back(std::move(link));
  });
  if (!status.ok()) return Annotate(status, "list links");
  return out;
}

absl::StatusOr<std::vector<InterfaceAddress>> Netlink::ListAddresses() {
  char buffer[kRequestBytes];
  nlmsghdr* message;
  StartMessage<ifaddrmsg>(buffer, RTM_GETADDR, NLM_F_DUMP, ++sequence_, &message);
  std::vector<InterfaceAddress> out;
  absl::Status status = Transact(socket_, message, [&](const nlmsghdr* answer) {
    const auto* info = static_cast<const ifaddrmsg*>(mnl_nlmsg_get_payload(answer));
    Attributes attributes = ParseAttributes(answer, sizeof *info);
    // On point-to-point links IFA_ADDRESS is the peer's.
    std::optional<IpAddress> address = AddressOf(attributes[IFA_LOCAL]);
    if (!address.has_value()) address = AddressOf(attributes[IFA_ADDRESS]);
    if (!address.has_value()) return;
    auto cidr = Cidr::Make(*address, info->ifa_prefixlen);
    if (cidr.ok())
      out.push_back({static_cast<int>(info->ifa_index), LinkName(static_cast<int>(info->ifa_index)), *cidr});
  });
  if (!status.ok()) return Annotate(status, "list addresses");
  return out;
}

absl::StatusOr<std::vector<Route>> Netlink::ListRoutes() {
  char buffer[kRequestBytes];
  nlmsghdr* message;
  StartMessage<rtmsg>(buffer, RTM_GETROUTE, NLM_F_DUMP, ++sequence_, &message);
  std::vector<Route> out;
  absl::Status status = Transact(socket_, message, [&](const nlmsghdr* answer) {
    const auto* info = static_cast<const rtmsg*>(mnl_nlmsg_get_payload(answer));
    if (info->rtm_family != AF_INET && info->rtm_family != AF_INET6) return;
    Attributes attributes = ParseAttributes(answer, sizeof *info);
    uint32_t table =
        attributes[RTA_TABLE] == nullptr ? info->rtm_table : mnl_attr_get_u32(attributes[RTA_TABLE]);
    if (table != RT_TABLE_MAIN || info->rtm_type != RTN_UNICAST) return;
    Route route;
    route.v6 = info->rtm_family == AF_INET6;
    std::optional<IpAddress> destination = AddressOf(attributes[RTA_DST]);
    if (destination.has_value()) {
      auto cidr = Cidr::Make(*destination, info->rtm_dst_len);
      if (cidr.ok()) route.destination = *cidr;
    }
    route.gateway = AddressOf(attributes[RTA_GATEWAY]);
    route.preferred_source = AddressOf(attributes[RTA_PREFSRC]);
    if (attributes[RTA_OIF] != nullptr)
      route.link_name = LinkName(static_cast<int>(mnl_attr_get_u32(attributes[RTA_OIF])));
    if (attributes[RTA_PRIORITY] != nullptr) route.metric = mnl_attr_get_u32(attributes[RTA_PRIORITY]);
    out.push_back(std::move(route));
  });
  if (!status.ok()) return Annotate(status, "list routes");
  return out;
}

absl::Status Netlink::SetLinkUp(const std::string& link) {
  ASSIGN_OR_RETURN(int index, LinkIndex(link));
  char buffer[kRequestBytes];
  nlmsghdr* message;
  auto* info = StartMessage<ifinfomsg>(buffer, RTM_NEWLINK, NLM_F_ACK, ++sequence_, &message);
  info->ifi_index = index;
  info->ifi_flags = IFF_UP;
  info->ifi_change = IFF_UP;
  return Annotate(Transact(socket_, message, [](const nlmsghdr*) {}), StrCat("set link ", link, " up"));
}

namespace {

absl::Status ChangeAddress(mnl_socket* socket, uint32_t sequence, const std::string& link,
                           const Cidr& address, bool add) {
  ASSIGN_OR_RETURN(int index, LinkIndex(link));
  char buffer[kRequestBytes];
  nlmsghdr* message;
  uint16_t flags = NLM_F_ACK | (add ? NLM_F_CREATE | NLM_F_EXCL : 0);
  auto* info = StartMessage<ifaddrmsg>(buffer, add ? RTM_NEWADDR : RTM_DELADDR, flags, sequence, &message);
  info->ifa_family = address.is_v4() ? AF_INET : AF_INET6;
  info->ifa_prefixlen = static_cast<uint8_t>(address.prefix_length());
  info->ifa_index = static_cast<uint32_t>(index);
  // Without duplicate address detection an IPv6 address is usable at once.
  if (!address.is_v4() && add) info->ifa_flags = IFA_F_NODAD;
  PutAddress(message, IFA_LOCAL, address.address());
  PutAddress(message, IFA_ADDRESS, address.address());
  return Transact(socket, message, [](const nlmsghdr*) {});
}

absl::Status ChangeRoute(mnl_socket* socket, uint32_t sequence, const Route& route, bool add) {
  char buffer[kRequestBytes];
  nlmsghdr* message;
  uint16_t flags = NLM_F_ACK | (add ? NLM_F_CREATE | NLM_F_REPLACE : 0);
  auto* info = StartMessage<rtmsg>(buffer, add ? RTM_NEWROUTE : RTM_DELROUTE, flags, sequence, &message);
  bool v4 = route.destination.has_value() ? route.destination->is_v4()
                                          : (route.gateway.has_value() ? route.gateway->is_v4() : !route.v6);
  info->rtm_family = v4 ? AF_INET : AF_INET6;
  info->rtm_table = RT_TABLE_MAIN;
  info->rtm_protocol = add ? RTPROT_STATIC : RTPROT_UNSPEC;
  info->rtm_scope = static_cast<unsigned char>(!add                               ? RT_SCOPE_NOWHERE
                                               : route.gateway.has_value() || !v4 ? RT_SCOPE_UNIVERSE
                                                                                  : RT_SCOPE_LINK);
  info->rtm_type = add ? RTN_UNICAST : RTN_UNSPEC;
  if (route.destination.has_value()) {
    info->rtm_dst_len = static_cast<unsigned char>(route.destination->prefix_length());
    PutAddress(message, RTA_DST, route.destination->network());
  }
  if (route.gateway.has_value()) PutAddress(message, RTA_GATEWAY, *route.gateway);
  if (route.preferred_source.has_value()) PutAddress(message, RTA_PREFSRC, *route.preferred_source);
  if (!route.link_name.empty()) {
    ASSIGN_OR_RETURN(int index, LinkIndex(route.link_name));
    mnl_attr_put_u32(message, RTA_OIF, static_cast<uint32_t>(index));
  }
  if (route.metric != 0) mnl_attr_put_u32(message, RTA_PRIORITY, route.metric);
  return Transact(socket, message, [](const nlmsghdr*) {});
}

std::string RouteName(const Route& route) {
  return route.destination.has_value() ? route.destination->Masked().ToString() : std::string("default");
}

}  // namespace

absl::Status Netlink::AddAddress(const std::string& link, const Cidr& address) {
  absl::Status status = ChangeAddress(socket_, ++sequence_, link, address, true);
  if (absl::IsAlreadyExists(status)) return absl::OkStatus();
  return Annotate(status, StrCat("add ", address.ToString(), " to ", link));
}

absl::Status Netlink::DeleteAddress(const std::string& link, const Cidr& address) {
  if (!LinkIndex(link).ok()) return absl::OkStatus();
  errno = 0;
  absl::Status status = ChangeAddress(socket_, ++sequence_, link, address, false);
  if (!status.ok() && errno == EADDRNOTAVAIL) return absl::OkStatus();
  return Annotate(status, StrCat("delete ", address.ToString(), " from ", link));
}

absl::Status Netlink::AddRoute(const Route& route) {
  return Annotate(ChangeRoute(socket_, ++sequence_, route, true), StrCat("add route ", RouteName(route)));
}

absl::Status Netlink::DeleteRoute(const Route& route) {
  errno = 0;
  absl::Status status = ChangeRoute(socket_, ++sequence_, route, false);
  if (!status.ok() && (errno == ESRCH || absl::IsNotFound(status))) return absl::OkStatus();
  return Annotate(status, StrCat("delete route ", RouteName(route)));
}

namespace {

bool IsGlobal(const InterfaceAddress& entry, bool v6) {
  const IpAddress& address = entry.cidr.address();
  return address.is_v6() == v6 && !address.is_loopback() && !address.is_link_local() &&
         !address.is_unspecified();
}

}  // namespace

absl::StatusOr<IpAddress> ChooseNodeAddress(const std::vector<Link>& links,
                                            const std::vector<InterfaceAddress>& addresses,
                                            const std::vector<Route>& routes, bool v6) {
  const Route* best = nullptr;
  for (const Route& route : routes) {
    bool route_v6 = route.gateway.has_value() ? route.gateway->is_v6() : route.v6;
    bool is_default = !route.destination.has_value() || route.destination->prefix_length() == 0;
    if (is_default && route_v6 == v6 && (best == nullptr || route.metric < best->metric)) best = &route;
  }
  if (best != nullptr) {
    if (best->preferred_source.has_value()) return *best->preferred_source;
    for (const InterfaceAddress& entry : addresses) {
      if (entry.link_name == best->link_name && IsGlobal(entry, v6)) return entry.cidr.address();
    }
  }
  for (const InterfaceAddress& entry : addresses) {
    for (const Link& link : links) {
      if (link.index == entry.link_index && link.up && !link.loopback && IsGlobal(entry, v6))
        return entry.cidr.address();
    }
  }
  return absl::NotFoundError(
      StrCat("this host has no global ", v6 ? "IPv6" : "IPv4", " address; name one with --node-ip"));
}

absl::StatusOr<IpAddress> NodeAddress(bool v6) {
  ASSIGN_OR_RETURN(Netlink netlink, Netlink::Open());
  ASSIGN_OR_RETURN(std::vector<Link> links, netlink.ListLinks());
  ASSIGN_OR_RETURN(std::vector<InterfaceAddress> addresses, netlink.ListAddresses());
  ASSIGN_OR_RETURN(std::vector<Route> routes, netlink.ListRoutes());
  return ChooseNodeAddress(links, addresses, routes, v6);
}

}  // namespace keelson::net
