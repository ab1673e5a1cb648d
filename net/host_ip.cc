#include "net/host_ip.h"

namespace keelson::net {

namespace {

constexpr std::string_view kAllV6 = "::";

}  // namespace

IpAddress Unmapped(const IpAddress& address) {
  constexpr std::string_view kPrefix("\0\0\0\0\0\0\0\0\0\0\xff\xff", 12);
  std::string bytes = address.ToBytes();
  if (bytes.size() != 16 || std::string_view(bytes).substr(0, kPrefix.size()) != kPrefix) return address;
  return *IpAddress::FromBytes(std::string_view(bytes).substr(kPrefix.size()));
}

std::string CanonicalHostIp(std::string_view host_ip) {
  if (host_ip.empty()) return "";
  absl::StatusOr<IpAddress> parsed = IpAddress::Parse(host_ip);
  if (!parsed.ok()) return std::string(host_ip);
  IpAddress address = Unmapped(*parsed);
  return address.is_v4() && address.is_unspecified() ? "" : address.ToString();
}

bool HostIpsOverlap(std::string_view a, std::string_view b) {
  if (a == b || a.empty() || b.empty()) return true;
  auto is_v6 = [](std::string_view ip) { return ip.find(':') != std::string_view::npos; };
  return (a == kAllV6 && is_v6(b)) || (b == kAllV6 && is_v6(a));
}

}  // namespace keelson::net
