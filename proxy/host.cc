#include "proxy/host.h"

#include <fcntl.h>

#include <algorithm>
#include <set>

#include "base/fd.h"
#include "base/status.h"
#include "base/strings.h"

namespace keelson::proxy {
namespace {

// Writes only what differs: /proc/sys may be read-only and right already.
absl::Status SetSysctl(const std::string& proc_sys, const std::string& name, std::string_view value) {
  std::string path = StrCat(proc_sys, "/", name);
  absl::StatusOr<std::string> now = ReadFile(path, 64);
  if (now.ok() && StrCat(value, "\n") == *now) return absl::OkStatus();
  absl::StatusOr<Fd> fd = OpenFile(path, O_WRONLY);
  if (!fd.ok()) return Annotate(fd.status(), StrCat("set sysctl ", name, "=", value));
  return Annotate(WriteAll(fd->get(), value), StrCat("set sysctl ", name, "=", value));
}

std::string RouteLocalnet(std::string_view link) { return StrCat("net/ipv4/conf/", link, "/route_localnet"); }

}  // namespace

std::vector<std::string> PodLinks(const std::vector<net::Route>& routes,
                                  const std::vector<net::Cidr>& pod_cidrs) {
  std::set<std::string> links;
  for (const net::Route& route : routes) {
    if (!route.destination.has_value() || route.link_name.empty() || route.link_name == "lo") continue;
    for (const net::Cidr& cidr : pod_cidrs) {
      if (cidr.Contains(*route.destination)) links.insert(route.link_name);
    }
  }
  return {links.begin(), links.end()};
}

absl::Status ApplyHostSettings(const HostSettings& s, const std::vector<std::string>& pod_links) {
  if (s.v6) return SetSysctl(s.proc_sys, "net/ipv6/conf/all/forwarding", "1");
  RETURN_IF_ERROR(SetSysctl(s.proc_sys, "net/ipv4/ip_forward", "1"));
  if (!s.node_ports_on_localhost) return absl::OkStatus();
  RETURN_IF_ERROR(SetSysctl(s.proc_sys, RouteLocalnet("default"), "1"));
  for (const std::string& link : pod_links) {
    absl::Status set = SetSysctl(s.proc_sys, RouteLocalnet(link), "1");
    // A pod may leave at any moment, and its link with it.
    if (!set.ok() && !absl::IsNotFound(set)) return set;
  }
  return absl::OkStatus();
}

void RevertHostSettings(const HostSettings& s, const std::vector<std::string>& pod_links) {
  if (s.v6) return;
  SetSysctl(s.proc_sys, RouteLocalnet("default"), "0").IgnoreError();
  for (const std::string& link : pod_links) SetSysctl(s.proc_sys, RouteLocalnet(link), "0").IgnoreError();
}

}  // namespace keelson::proxy
