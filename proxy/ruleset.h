// Ruleset: ServiceMap -> nftables, as text for `nft -f`. Pure; golden files in tests/golden/nft.
//
// One table. There is no chain per Service: a packet's (daddr . proto . dport) is looked up in one verdict
// map, which sends it to the chain of its *endpoint count* (vip_5); that chain's single rule draws numgen
// random mod 5 and looks (daddr . proto . dport . number) up in the endpoint map. So 5,000 Services are map
// elements (hash look-ups) and a handful of chains, and a change is a few elements deleted and added in one
// transaction.
//
// Session affinity ClientIP: kAffinityBuckets numbers by jhash of the client address instead of numgen,
// buckets handed out by rendezvous hashing, so that a removed endpoint moves only its own clients. It has no
// memory and no table clients can fill; the price is that affinity does not end after timeoutSeconds.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "net/address.h"
#include "proxy/service_map.h"

namespace keelson::proxy {

inline constexpr uint32_t kAffinityBuckets = 128;
// Elements written per `add element` line; bounds nft's parser memory.
inline constexpr size_t kElementsPerCommand = 2000;

struct RulesetOptions {
  std::string table = "keelson";
  bool v6 = false;                        // table ip6 instead of ip
  std::vector<net::Cidr> node_pod_cidrs;  // addresses of this node's pods
  std::vector<net::Cidr> cluster_cidrs;   // addresses of all pods: not masqueraded towards them
  std::vector<net::Cidr> service_cidrs;   // what is not served in here is refused
  bool masquerade_pods = true;            // pods' traffic to the outside leaves with the node's address
  bool node_ports_on_localhost = true;    // IPv4 only; needs route_localnet (sysctls.h)
};

// What becomes of a new connection. count == 0: dropped (a policy is Local and no endpoint is here).
struct Balance {
  enum Kind : uint8_t { kRandom, kAffinity };
  Kind kind = kRandom;
  uint16_t count = 0;   // numbers drawn; kAffinity: kAffinityBuckets
  uint16_t offset = 0;  // added to the number
  friend auto operator<=>(const Balance&, const Balance&) = default;
};

// Where connections are addressed to; `ip` unspecified: a node port.
struct Front {
  net::IpAddress ip;
  Protocol protocol = Protocol::kTcp;
  uint16_t port = 0;
  friend bool operator==(const Front&, const Front&) = default;
  friend std::strong_ordering operator<=>(const Front& a, const Front& b);
};

// The changing part of the table as sorted values. Everything else follows from RulesetOptions.
struct Ruleset {
  struct Slot {
    Front front;
    uint16_t number = 0;
    net::IpAddress ip;
    uint16_t port = 0;
    friend bool operator==(const Slot&, const Slot&) = default;
  };
  struct Dispatch {
    Front front;
    Balance balance;
    friend bool operator==(const Dispatch&, const Dispatch&) = default;
  };
  std::vector<Slot> slots;         // by front, number
  std::vector<Dispatch> dispatch;  // by front
  std::vector<Dispatch>
      dispatch_outside;                 // externalTrafficPolicy Local, for clients outside the node; by front
  std::vector<Front> refused;           // no endpoint anywhere: the client is told at once
  std::vector<net::IpAddress> hairpin;  // endpoints of this node
  std::vector<Balance> balances_vip, balances_port;  // chains needed, sorted
  uint64_t conflicts = 0;  // fronts claimed by two services; the first by name has it
  friend bool operator==(const Ruleset&, const Ruleset&) = default;
};

Ruleset BuildRuleset(const ServiceMap& map, const RulesetOptions& options);

// One transaction that replaces the whole table, whatever was there: no moment without rules.
std::string RenderFull(const Ruleset& ruleset, const RulesetOptions& options);
// The transaction that turns `from` into `to`: elements only; "" when they are equal. nullopt: `to` needs a
// chain that is not there, load everything (nft 1.0.6 cannot add such a rule to a table it reads back from
// the kernel: "conflicting protocols specified: ip vs. th"). That happens once per number of endpoints in the
// life of the table.
std::optional<std::string> RenderChange(const Ruleset& from, const Ruleset& to,
                                        const RulesetOptions& options);
// What the kernel has after that transaction: `to`, and the chains of `from`, which stay until the next full
// load.
Ruleset AfterChange(const Ruleset& from, Ruleset to);
// Removes the table; succeeds when there is none.
std::string RenderCleanup(const RulesetOptions& options);

}  // namespace keelson::proxy
