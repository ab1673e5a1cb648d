// Host settings the dataplane needs besides its rules: forwarding and route_localnet.
#pragma once

#include <absl/status/status.h>

#include <string>
#include <vector>

#include "net/address.h"
#include "net/netlink.h"

namespace keelson::proxy {

// Links that lead to this node's pods: those with a route into `pod_cidrs` (one veth per pod with the ptp
// plugin, the bridge with the bridge plugin). Sorted, each once. Pure.
std::vector<std::string> PodLinks(const std::vector<net::Route>& routes,
                                  const std::vector<net::Cidr>& pod_cidrs);

struct HostSettings {
  std::string proc_sys = "/proc/sys";
  bool v6 = false;
  bool node_ports_on_localhost = true;
};

// net.ipv4.ip_forward = 1, and for NodePorts on 127.0.0.1 route_localnet = 1 on the pod links and in
// conf/default.
//
// Why these: a packet from 127.0.0.1 that a NodePort rule sent to a pod leaves through the pod's link, and
// the kernel drops a loopback source there unless route_localnet is set on *that* link (it asks conf/LINK or
// conf/all). With the ptp plugin links come with the pods, so conf/default is set for those to come and the
// links that are already there one by one. conf/all would open the uplinks too; `lo` needs nothing. What
// route_localnet opens the other way (packets from a pod to 127.0.0.0/8 would reach the host's loopback
// services, CVE-2020-8558) the table's guard_localhost chain closes for every link but lo; so call this only
// after the rules are loaded.
absl::Status ApplyHostSettings(const HostSettings& settings, const std::vector<std::string>& pod_links);

// route_localnet back to 0 there. Forwarding stays: others may rely on it.
void RevertHostSettings(const HostSettings& settings, const std::vector<std::string>& pod_links);

}  // namespace keelson::proxy
