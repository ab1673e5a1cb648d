// What of the host's network stands in a cluster's way: blocks of addresses in use, firewalls that drop what
// pods send. Pure; check.cc and packet_check.cc ask the kernel.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "net/address.h"
#include "net/netlink.h"

namespace keelson {

struct HostNetwork {
  std::vector<net::InterfaceAddress> addresses;
  std::vector<net::Route> routes;
};

struct Overlap {
  std::string with;  // "10.244.1.1/24, an address of br0", "the route 10.0.0.0/8 via 192.0.2.1 on eth0"
  std::string free;  // a block of the same length that is free here; "" when none of those tried is
};

// What of the host overlaps `block`. Left out: default routes, and the halves of them that VPN clients set;
// what lies in one of `own` without a gateway (a running cluster's links to its pods); the network route of
// an address that is named already. `other`: the cluster's other block, which the suggestion must leave
// alone.
std::vector<Overlap> FindOverlaps(const HostNetwork& host, const net::Cidr& block,
                                  const std::vector<net::Cidr>& own, const net::Cidr& other);

struct FirewallSuspect {
  std::string owner;  // "docker", "ufw", "firewalld", "nftables"
  std::string chain;  // "chain FORWARD of table ip filter (policy drop)"
  friend bool operator==(const FirewallSuspect&, const FirewallSuspect&) = default;
};

// Base chains of `hook` ("forward", "input", "output") that drop or reject what no rule of theirs accepted,
// with the program that made them by the names it gives. `ruleset`: the output of `nft -s list ruleset`,
// which has the rules of iptables-nft too.
std::vector<FirewallSuspect> SuspectsInNft(std::string_view ruleset, std::string_view hook);
// The same from the output of iptables-legacy-save.
std::vector<FirewallSuspect> SuspectsInIptables(std::string_view rules, std::string_view hook);

// What to do about it, for pods in `pods`.
std::string FirewallFix(const FirewallSuspect& suspect, std::string_view hook, std::string_view pods);

}  // namespace keelson
