#include "proxy/ruleset.h"

#include <absl/strings/str_join.h>

#include <algorithm>
#include <set>
#include <string_view>
#include <tuple>

#include "base/log.h"
#include "base/strings.h"

namespace keelson::proxy {
namespace {

// Seeds jhash, so that buckets stay the same over full loads.
constexpr uint32_t kAffinitySeed = 0x6b65656c;
// nft's names for hook priorities are not valid in every hook, numbers are.
constexpr int kRawPriority = -300, kDstNatPriority = -100, kFilterPriority = 0, kSrcNatPriority = 100;

bool IsNodePort(const Front& front) { return front.ip.is_unspecified(); }

// FNV-1a, 64 bits, finished with a multiply-xor so that neighbouring addresses spread.
uint64_t RendezvousWeight(const Target& target, uint32_t bucket) {
  uint64_t hash = 14695981039346656037ull;
  auto mix = [&hash](uint8_t byte) { hash = (hash ^ byte) * 1099511628211ull; };
  for (char c : target.ip.ToBytes()) mix(static_cast<uint8_t>(c));
  for (int shift : {0, 8}) mix(static_cast<uint8_t>(target.port >> shift));
  for (int shift : {0, 8}) mix(static_cast<uint8_t>(bucket >> shift));
  hash ^= hash >> 33;
  hash *= 0xff51afd7ed558ccdull;
  return hash ^ (hash >> 33);
}

class Builder {
 public:
  Builder(const ServiceMap& map, const RulesetOptions& options) : options_(options) {
    for (const ServicePort& port : map.ports) AddPort(port);
    Finish();
  }
  Ruleset Take() { return std::move(out_); }

 private:
  // Targets of this table's family.
  std::vector<Target> Family(const std::vector<Target>& targets) const {
    std::vector<Target> out;
    for (const Target& target : targets) {
      if (target.ip.is_v6() == options_.v6) out.push_back(target);
    }
    return out;
  }

  void AddPort(const ServicePort& port) {
    const std::vector<Target> cluster = Family(port.cluster), local = Family(port.local);
    for (const Target& target : cluster) NoteHairpin(target);
    for (const Target& target : local) NoteHairpin(target);
    for (const net::IpAddress& ip : port.cluster_ips)
      AddFront(port, ip, cluster, local, /*from_outside=*/false);
    for (const net::IpAddress& ip : port.external_ips)
      AddFront(port, ip, cluster, local, /*from_outside=*/true);
    if (port.node_port != 0) {
      net::IpAddress any = options_.v6 ? *net::IpAddress::Parse("::") : net::IpAddress();
      AddFront(port, any, cluster, local, /*from_outside=*/true);
    }
  }

  void NoteHairpin(const Target& target) {
    if (target.local) hairpin_.insert(target.ip);
  }

  // `from_outside`: an address clients outside the cluster use, to which externalTrafficPolicy applies.
  void AddFront(const ServicePort& port, const net::IpAddress& ip, const std::vector<Target>& cluster,
                const std::vector<Target>& local, bool from_outside) {
    if (ip.is_v6() != options_.v6) return;
    Front front{
        .ip = ip, .protocol = port.protocol, .port = ip.is_unspecified() ? port.node_port : port.port};
    if (!claimed_.insert(front).second) {
      ++out_.conflicts;
      LogWarning("service address claimed twice, the first service keeps it",
                 {{"service", absl::StrCat(port.ns, "/", port.name)},
                  {"address", ip.ToString()},
                  {"port", front.port}});
      return;
    }
    if (cluster.empty()) {
      out_.refused.push_back(front);
      return;
    }
    bool internal_local = !from_outside && port.internal_local,
         outside_local = from_outside && port.external_local;
    uint16_t used = 0;  // numbers taken in this front's slots
    Balance everyone;
    if (!internal_local) everyone = AddSlots(port, front, cluster, &used);
    if (internal_local) everyone = AddSlots(port, front, local, &used);
    out_.dispatch.push_back({front, everyone});
    if (outside_local) {
      bool prefix = !port.client_ip_affinity && local.size() <= cluster.size() &&
                    std::equal(local.begin(), local.end(), cluster.begin());
      Balance outside = prefix ? Balance{Balance::kRandom, static_cast<uint16_t>(local.size()), 0}
                               : AddSlots(port, front, local, &used);
      out_.dispatch_outside.push_back({front, outside});
    }
  }

  Balance AddSlots(const ServicePort& port, const Front& front, const std::vector<Target>& targets,
                   uint16_t* used) {
    Balance balance{.offset = *used};
    if (targets.empty()) return Balance{};
    if (port.client_ip_affinity && targets.size() > 1) {
      balance.kind = Balance::kAffinity;
      balance.count = kAffinityBuckets;
      for (uint32_t bucket = 0; bucket < kAffinityBuckets; ++bucket) {
        const Target* best = &targets[0];
        for (const Target& target : targets) {
          if (RendezvousWeight(target, bucket) > RendezvousWeight(*best, bucket)) best = &target;
        }
        AddSlot(front, used, *best);
      }
    } else {
      balance.count = static_cast<uint16_t>(targets.size());
      for (const Target& target : targets) AddSlot(front, used, target);
    }
    return balance;
  }

  void AddSlot(const Front& front, uint16_t* used, const Target& target) {
    out_.slots.push_back({.front = front, .number = (*used)++, .ip = target.ip, .port = target.port});
  }

  void Finish() {
    auto by_front = [](const auto& a, const auto& b) { return a.front < b.front; };
    std::stable_sort(out_.slots.begin(), out_.slots.end(), by_front);
    std::sort(out_.dispatch.begin(), out_.dispatch.end(), by_front);
    std::sort(out_.dispatch_outside.begin(), out_.dispatch_outside.end(), by_front);
    std::sort(out_.refused.begin(), out_.refused.end());
    out_.hairpin.assign(hairpin_.begin(), hairpin_.end());
    std::set<Balance> vip, port;
    for (const auto* list : {&out_.dispatch, &out_.dispatch_outside}) {
      for (const Ruleset::Dispatch& d : *list) {
        if (d.balance.count != 0) (IsNodePort(d.front) ? port : vip).insert(d.balance);
      }
    }
    out_.balances_vip.assign(vip.begin(), vip.end());
    out_.balances_port.assign(port.begin(), port.end());
  }

  const RulesetOptions& options_;
  Ruleset out_;
  std::set<Front> claimed_;
  std::set<net::IpAddress> hairpin_;
};

// ---- text ----

std::string_view Family(const RulesetOptions& o) { return o.v6 ? "ip6" : "ip"; }
std::string Table(const RulesetOptions& o) { return StrCat(Family(o), " ", o.table); }

std::string FrontKey(const Front& f) {
  std::string tail = StrCat(ProtocolName(f.protocol), " . ", f.port);
  return IsNodePort(f) ? tail : StrCat(f.ip.ToString(), " . ", tail);
}
std::string SlotKey(const Ruleset::Slot& s) { return StrCat(FrontKey(s.front), " . ", s.number); }
std::string SlotValue(const Ruleset::Slot& s) { return StrCat(s.ip.ToString(), " . ", s.port); }

std::string ChainName(bool node_port, const Balance& b) {
  std::string name = StrCat(node_port ? "port_" : "vip_", b.kind == Balance::kAffinity ? "affinity" : "");
  if (b.kind == Balance::kRandom) StrAppend(&name, b.count);
  if (b.offset != 0) StrAppend(&name, "_at_", b.offset);
  return name;
}
std::string Verdict(const Front& front, const Balance& b) {
  return b.count == 0 ? "drop" : StrCat("goto ", ChainName(IsNodePort(front), b));
}
std::string ChainRule(bool node_port, const Balance& b, const RulesetOptions& o) {
  std::string number = b.kind == Balance::kAffinity ? StrCat("jhash ", Family(o), " saddr mod ",
                                                             kAffinityBuckets, " seed ", kAffinitySeed)
                                                    : StrCat("numgen random mod ", b.count);
  if (b.offset != 0) StrAppend(&number, " offset ", b.offset);
  if (node_port) return StrCat("dnat to meta l4proto . th dport . ", number, " map @port_endpoints");
  return StrCat("dnat to ", Family(o), " daddr . meta l4proto . th dport . ", number, " map @vip_endpoints");
}

std::string CidrSet(const std::vector<net::Cidr>& cidrs, bool v6) {
  std::vector<std::string> parts;
  for (const net::Cidr& cidr : cidrs) {
    if (cidr.is_v4() != v6) parts.push_back(cidr.Masked().ToString());
  }
  if (parts.empty()) return "";
  return parts.size() == 1 ? parts[0] : StrCat("{ ", absl::StrJoin(parts, ", "), " }");
}

// Collects elements and writes them as commands of bounded size, grouped by set.
class ElementWriter {
 public:
  ElementWriter(std::string verb, const RulesetOptions& options)
      : verb_(std::move(verb)), options_(options) {}
  void Add(std::string_view set, std::string element) {
    if (set != set_ || pending_.size() >= kElementsPerCommand) Flush();
    set_ = set;
    pending_.push_back(std::move(element));
  }
  std::string Take() {
    Flush();
    return std::move(text_);
  }

 private:
  void Flush() {
    if (pending_.empty()) return;
    StrAppend(&text_, verb_, " element ", Table(options_), " ", set_, " {\n  ",
              absl::StrJoin(pending_, ",\n  "), "\n}\n");
    pending_.clear();
  }
  std::string verb_;
  const RulesetOptions& options_;
  std::string set_;
  std::vector<std::string> pending_;
  std::string text_;
};

std::string_view SlotMap(const Ruleset::Slot& s) {
  return IsNodePort(s.front) ? "port_endpoints" : "vip_endpoints";
}
std::string_view DispatchMap(const Front& f, bool outside) {
  if (outside) return IsNodePort(f) ? "ports_outside" : "vips_outside";
  return IsNodePort(f) ? "ports" : "vips";
}
std::string_view RefusedSet(const Front& f) { return IsNodePort(f) ? "refused_ports" : "refused_vips"; }

// Walks two sorted lists; gone(a) for what only `from` has, come(b) for what only `to` has, both for a
// changed value.
template <class T, class Key, class Gone, class Come>
void Diff(const std::vector<T>& from, const std::vector<T>& to, Key key, Gone gone, Come come) {
  size_t i = 0, j = 0;
  while (i < from.size() || j < to.size()) {
    if (j == to.size() || (i < from.size() && key(from[i]) < key(to[j]))) {
      gone(from[i++]);
    } else if (i == from.size() || key(to[j]) < key(from[i])) {
      come(to[j++]);
    } else {
      if (!(from[i] == to[j])) {
        gone(from[i]);
        come(to[j]);
      }
      ++i, ++j;
    }
  }
}

// Deletes come before adds in one transaction; maps of verdicts before the maps they lead to does not matter,
// because the kernel switches to the new generation as a whole.
std::string RenderElements(const Ruleset& from, const Ruleset& to, const RulesetOptions& o) {
  ElementWriter del("delete", o), add("add", o);
  Diff(
      from.slots, to.slots, [](const auto& s) { return std::tie(s.front, s.number); },
      [&](const auto& s) { del.Add(SlotMap(s), SlotKey(s)); },
      [&](const auto& s) { add.Add(SlotMap(s), StrCat(SlotKey(s), " : ", SlotValue(s))); });
  for (bool outside : {false, true}) {
    const auto& before = outside ? from.dispatch_outside : from.dispatch;
    const auto& after = outside ? to.dispatch_outside : to.dispatch;
    Diff(
        before, after, [](const auto& d) { return d.front; },
        [&](const auto& d) { del.Add(DispatchMap(d.front, outside), FrontKey(d.front)); },
        [&](const auto& d) {
          add.Add(DispatchMap(d.front, outside),
                  StrCat(FrontKey(d.front), " : ", Verdict(d.front, d.balance)));
        });
  }
  Diff(
      from.refused, to.refused, [](const auto& f) { return f; },
      [&](const auto& f) { del.Add(RefusedSet(f), FrontKey(f)); },
      [&](const auto& f) { add.Add(RefusedSet(f), FrontKey(f)); });
  Diff(
      from.hairpin, to.hairpin, [](const auto& ip) { return ip; },
      [&](const auto& ip) { del.Add("hairpin", StrCat(ip.ToString(), " . ", ip.ToString())); },
      [&](const auto& ip) { add.Add("hairpin", StrCat(ip.ToString(), " . ", ip.ToString())); });
  std::string text = del.Take();
  return text + add.Take();
}

std::string RenderMaps(const RulesetOptions& o) {
  std::string address = o.v6 ? "ipv6_addr" : "ipv4_addr";
  std::string family(Family(o)), out;
  auto set = [&out](std::string_view kind, std::string_view name, std::string_view type) {
    StrAppend(&out, "  ", kind, " ", name, " {\n    ", type, "\n  }\n");
  };
  std::string vip_key = StrCat("type ", address, " . inet_proto . inet_service");
  // `th` and not `tcp`: a typeof with tcp makes nft 1.0.6 put a match on TCP before the first rule that uses
  // the map.
  std::string_view port_key = "type inet_proto . inet_service";
  set("map", "vips", vip_key + " : verdict");
  set("map", "vips_outside", vip_key + " : verdict");
  set("map", "vip_endpoints",
      StrCat("typeof ", family, " daddr . meta l4proto . th dport . numgen random mod 2 : ", family,
             " daddr . th dport"));
  set("map", "ports", StrCat(port_key, " : verdict"));
  set("map", "ports_outside", StrCat(port_key, " : verdict"));
  set("map", "port_endpoints",
      StrCat("typeof meta l4proto . th dport . numgen random mod 2 : ", family, " daddr . th dport"));
  set("set", "refused_vips", vip_key);
  set("set", "refused_ports", port_key);
  set("set", "hairpin", StrCat("type ", address, " . ", address));
  return out;
}

class ChainWriter {
 public:
  void Chain(std::string_view name, const std::vector<std::string>& rules) { Write(name, "", 0, "", rules); }
  void Base(std::string_view name, std::string_view type, int priority, std::string_view hook,
            const std::vector<std::string>& rules) {
    Write(name, type, priority, hook, rules);
  }
  std::string Take() { return std::move(text_); }

 private:
  void Write(std::string_view name, std::string_view type, int priority, std::string_view hook,
             const std::vector<std::string>& rules) {
    StrAppend(&text_, "  chain ", name, " {\n");
    if (!type.empty()) {
      StrAppend(&text_, "    type ", type, " hook ", hook, " priority ", priority, "; policy accept;\n");
    }
    for (const std::string& rule : rules) StrAppend(&text_, "    ", rule, "\n");
    text_ += "  }\n";
  }
  std::string text_;
};

void WriteRefusal(const RulesetOptions& o, ChainWriter* w) {
  std::string f(Family(o));
  std::vector<std::string> rules{
      StrCat(f, " daddr . meta l4proto . th dport @refused_vips goto refuse_now"),
      "fib daddr type local meta l4proto . th dport @refused_ports goto refuse_now"};
  if (std::string services = CidrSet(o.service_cidrs, o.v6); !services.empty()) {
    rules.push_back(StrCat(f, " daddr ", services, " fib daddr type != local goto refuse_now"));
  }
  // A reset, because an ICMP error that comes back while connect() still holds the socket counts for nothing,
  // and the client would learn only from its second SYN, a second later.
  w->Chain("refuse_now",
           {"meta l4proto tcp reject with tcp reset",
            o.v6 ? "reject with icmpv6 port-unreachable" : "reject with icmp port-unreachable"});
  w->Chain("refuse", rules);
}

void WriteNatChains(const RulesetOptions& o, ChainWriter* w) {
  std::string f(Family(o)), node_pods = CidrSet(o.node_pod_cidrs, o.v6),
                            all_pods = CidrSet(o.cluster_cidrs, o.v6);
  std::string not_localhost = o.v6 || o.node_ports_on_localhost ? "" : "ip daddr != 127.0.0.0/8 ";
  w->Chain("dispatch", {StrCat(f, " daddr . meta l4proto . th dport vmap @vips"),
                        StrCat(not_localhost, "fib daddr type local meta l4proto . th dport vmap @ports")});
  w->Chain("dispatch_outside", {StrCat(f, " daddr . meta l4proto . th dport vmap @vips_outside"),
                                "fib daddr type local meta l4proto . th dport vmap @ports_outside"});
  std::string not_pod = node_pods.empty() ? "" : StrCat(f, " saddr != ", node_pods, " ");
  w->Base("nat_prerouting", "nat", kDstNatPriority, "prerouting",
          {StrCat(not_pod, "fib saddr type != local jump dispatch_outside"), "jump dispatch"});
  w->Base("nat_output", "nat", kDstNatPriority, "output", {"jump dispatch"});

  std::vector<std::string> translated{StrCat(f, " saddr . ", f, " daddr @hairpin masquerade")};
  if (!o.v6) translated.push_back("ip saddr 127.0.0.0/8 masquerade");
  if (!node_pods.empty()) {
    translated.push_back(StrCat(f, " daddr ", node_pods, " return"));
    translated.push_back(StrCat(f, " saddr ", node_pods, " return"));
  }
  translated.push_back("fib saddr type local return");
  translated.push_back("masquerade");
  std::vector<std::string> post{"ct status dnat jump translated"};
  if (o.masquerade_pods && !node_pods.empty()) {
    std::string inside = all_pods.empty() ? node_pods : all_pods;
    std::string multicast = o.v6 ? "ff00::/8" : "224.0.0.0/4";
    post.push_back(StrCat(f, " saddr ", node_pods, " ", f, " daddr != ", inside, " ", f,
                          " daddr != ", multicast, " masquerade"));
  }
  w->Chain("translated", translated);
  w->Base("nat_postrouting", "nat", kSrcNatPriority, "postrouting", post);
}

std::string RenderChains(const Ruleset& r, const RulesetOptions& o) {
  ChainWriter w;
  for (const Balance& b : r.balances_vip) w.Chain(ChainName(false, b), {ChainRule(false, b, o)});
  for (const Balance& b : r.balances_port) w.Chain(ChainName(true, b), {ChainRule(true, b, o)});
  if (!o.v6) {
    // What arrives from a wire or a pod has no business with the host's loopback; route_localnet would let it
    // in.
    w.Base("guard_localhost", "filter", kRawPriority, "prerouting",
           {"iifname != \"lo\" ip daddr 127.0.0.0/8 drop", "iifname != \"lo\" ip saddr 127.0.0.0/8 drop"});
  }
  WriteNatChains(o, &w);
  WriteRefusal(o, &w);
  std::vector<std::string> forward{"ct state new jump refuse"};
  if (std::string pods = CidrSet(o.node_pod_cidrs, o.v6); !pods.empty()) {
    // Not translated back, so it would reach the client from an address it never called and be answered with
    // a reset.
    forward.push_back(StrCat(Family(o), " saddr ", pods, " ct state invalid drop"));
  }
  w.Base("filter_input", "filter", kFilterPriority, "input", {"ct state new jump refuse"});
  w.Base("filter_forward", "filter", kFilterPriority, "forward", forward);
  std::vector<std::string> output{"ct state new jump refuse"};
  if (std::string services = CidrSet(o.service_cidrs, o.v6); !services.empty()) {
    // The one local address in there is that of DNS. "Nobody listens" is what a client hears for the moment a
    // proxy is started again, and resolvers take it for an answer: unsaid, they ask once more.
    output.push_back(StrCat(
        Family(o), " saddr ", services,
        o.v6 ? " icmpv6 type destination-unreachable drop" : " icmp type destination-unreachable drop"));
  }
  w.Base("filter_output", "filter", kFilterPriority, "output", output);
  return w.Take();
}

}  // namespace

std::strong_ordering operator<=>(const Front& a, const Front& b) {
  if (auto c = a.ip <=> b.ip; c != 0) return c;
  if (auto c = a.protocol <=> b.protocol; c != 0) return c;
  return a.port <=> b.port;
}

Ruleset BuildRuleset(const ServiceMap& map, const RulesetOptions& options) {
  return Builder(map, options).Take();
}

std::string RenderFull(const Ruleset& ruleset, const RulesetOptions& o) {
  std::string text = RenderCleanup(o);
  StrAppend(&text, "table ", Table(o), " {\n", RenderMaps(o), RenderChains(ruleset, o), "}\n");
  return text + RenderElements(Ruleset{}, ruleset, o);
}

std::optional<std::string> RenderChange(const Ruleset& from, const Ruleset& to, const RulesetOptions& o) {
  auto covers = [](const std::vector<Balance>& have, const std::vector<Balance>& need) {
    return std::includes(have.begin(), have.end(), need.begin(), need.end());
  };
  if (!covers(from.balances_vip, to.balances_vip) || !covers(from.balances_port, to.balances_port)) {
    return std::nullopt;
  }
  return RenderElements(from, to, o);
}

Ruleset AfterChange(const Ruleset& from, Ruleset to) {
  to.balances_vip = from.balances_vip;
  to.balances_port = from.balances_port;
  return to;
}

std::string RenderCleanup(const RulesetOptions& o) {
  return StrCat("add table ", Table(o), "\ndelete table ", Table(o), "\n");
}

}  // namespace keelson::proxy
