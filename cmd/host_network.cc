#include "cmd/host_network.h"

#include <absl/strings/ascii.h>
#include <absl/strings/str_split.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/strings.h"

namespace keelson {
namespace {

// Where a suggestion comes from, in this order.
constexpr const char* kCandidates[] = {"10.244.0.0", "10.96.0.0",  "10.128.0.0", "10.200.0.0",
                                       "172.16.0.0", "172.24.0.0", "192.168.0.0"};
constexpr int kShortestPrefixNamed = 2;  // 0.0.0.0/0, 0.0.0.0/1 and 128.0.0.0/1 are ways out, not networks

bool InUse(const HostNetwork& host, const net::Cidr& block) {
  for (const net::InterfaceAddress& entry : host.addresses) {
    if (block.Overlaps(entry.cidr)) return true;
  }
  for (const net::Route& route : host.routes) {
    if (route.destination.has_value() && route.destination->prefix_length() >= kShortestPrefixNamed &&
        block.Overlaps(*route.destination)) {
      return true;
    }
  }
  return false;
}

std::string FreeBlock(const HostNetwork& host, const net::Cidr& block, const net::Cidr& other) {
  if (!block.is_v4()) return "";
  for (const char* candidate : kCandidates) {
    auto start = net::IpAddress::Parse(candidate);
    auto free = net::Cidr::Make(*start, block.prefix_length());
    if (!free.ok() || free->network() != *start || free->Overlaps(other) || InUse(host, *free)) continue;
    return free->ToString();
  }
  return "";
}

bool IsOwn(const net::Cidr& what, const std::vector<net::Cidr>& own) {
  return std::any_of(own.begin(), own.end(),
                     [&what](const net::Cidr& block) { return block.Contains(what); });
}

std::string Describe(const net::Route& route) {
  std::string text = StrCat("the route ", route.destination->Masked().ToString());
  if (route.gateway.has_value()) StrAppend(&text, " via ", route.gateway->ToString());
  if (!route.link_name.empty()) StrAppend(&text, " on ", route.link_name);
  return text;
}

// One table's base chain with the hook asked for.
struct BaseChain {
  std::string table;  // "ip filter"
  std::string name;
  std::string verdict;  // "policy drop", or the rule that ends it; "" when it lets through what is left
};

// Who names chains like this; the table's own name counts too.
std::set<std::string> OwnersOf(std::string_view table, const std::set<std::string>& chains) {
  std::set<std::string> owners;
  absl::string_view name = Av(table.substr(table.rfind(' ') + 1));
  if (name == "firewalld") owners.insert("firewalld");
  if (Sv(name).starts_with("docker")) owners.insert("docker");
  for (const std::string& chain : chains) {
    if (chain.starts_with("ufw-") || chain.starts_with("ufw6-")) owners.insert("ufw");
    if (chain.starts_with("DOCKER")) owners.insert("docker");
    if (chain == "FORWARD_direct" || chain == "FORWARD_IN_ZONES") owners.insert("firewalld");
  }
  if (owners.empty()) owners.insert("nftables");
  return owners;
}

std::vector<FirewallSuspect> ToSuspects(const std::vector<BaseChain>& bases,
                                        const std::map<std::string, std::set<std::string>>& chains) {
  std::vector<FirewallSuspect> suspects;
  for (const BaseChain& base : bases) {
    if (base.verdict.empty()) continue;
    for (const std::string& owner : OwnersOf(base.table, chains.at(base.table))) {
      suspects.push_back(
          {owner, StrCat("chain ", base.name, " of table ", base.table, " (", base.verdict, ")")});
    }
  }
  return suspects;
}

// The rule when it takes every packet that comes to it.
std::string FinalVerdict(absl::string_view rule) {
  std::string_view text = Sv(rule);
  if (text.starts_with("counter ")) text.remove_prefix(8);
  bool refuses = text == "drop" || text == "reject" || text.starts_with("reject with ");
  return refuses ? std::string(text) : std::string();
}

}  // namespace

std::vector<Overlap> FindOverlaps(const HostNetwork& host, const net::Cidr& block,
                                  const std::vector<net::Cidr>& own, const net::Cidr& other) {
  std::vector<Overlap> found;
  std::set<std::pair<std::string, std::string>> named;  // network and link
  for (const net::InterfaceAddress& entry : host.addresses) {
    if (!block.Overlaps(entry.cidr) || IsOwn(entry.cidr, own)) continue;
    found.push_back({StrCat(entry.cidr.ToString(), ", an address of ", entry.link_name), ""});
    named.emplace(entry.cidr.Masked().ToString(), entry.link_name);
  }
  for (const net::Route& route : host.routes) {
    if (!route.destination.has_value() || route.destination->prefix_length() < kShortestPrefixNamed) continue;
    if (!block.Overlaps(*route.destination)) continue;
    if (!route.gateway.has_value() && IsOwn(*route.destination, own)) continue;
    if (named.contains({route.destination->Masked().ToString(), route.link_name})) continue;
    found.push_back({Describe(route), ""});
  }
  if (!found.empty()) {
    std::string free = FreeBlock(host, block, other);
    for (Overlap& overlap : found) overlap.free = free;
  }
  return found;
}

std::vector<FirewallSuspect> SuspectsInNft(std::string_view ruleset, std::string_view hook) {
  std::vector<BaseChain> bases;
  std::map<std::string, std::set<std::string>> chains;  // of each table
  std::string table, chain, last_rule;
  BaseChain base;
  bool in_base = false;
  for (absl::string_view raw : absl::StrSplit(Av(ruleset), '\n')) {
    absl::string_view line = absl::StripAsciiWhitespace(raw);
    std::vector<absl::string_view> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
    if (words.size() == 4 && words[0] == "table" && words[3] == "{") {
      table = StrCat(words[1], " ", words[2]);
      chains[table];
    } else if (words.size() == 3 && words[0] == "chain" && words[2] == "{") {
      chain = std::string(words[1]);
      chains[table].insert(chain);
      in_base = false;
      last_rule.clear();
    } else if (words.size() > 3 && words[0] == "type" && words[2] == "hook" && !chain.empty()) {
      in_base = Sv(words[3]) == hook;
      base = {table, chain, ""};
      if (in_base && Sv(line).find("policy drop") != std::string_view::npos) base.verdict = "policy drop";
    } else if (line == "}") {
      if (in_base) {
        if (base.verdict.empty()) base.verdict = FinalVerdict(Av(last_rule));
        bases.push_back(base);
      }
      in_base = false;
      chain.clear();
    } else if (!line.empty()) {
      last_rule = std::string(line);
    }
  }
  return ToSuspects(bases, chains);
}

std::vector<FirewallSuspect> SuspectsInIptables(std::string_view rules, std::string_view hook) {
  const std::string table = "ip filter", name = absl::AsciiStrToUpper(Av(hook));
  std::map<std::string, std::set<std::string>> chains = {{table, {}}};
  BaseChain base{table, name, ""};
  bool filter = true;
  for (absl::string_view raw : absl::StrSplit(Av(rules), '\n', absl::SkipEmpty())) {
    std::vector<absl::string_view> words = absl::StrSplit(raw, ' ', absl::SkipEmpty());
    if (words.empty()) continue;
    if (words[0][0] == '*') filter = words[0] == "*filter";
    if (!filter) continue;
    if (words[0][0] == ':' && words.size() > 1) {
      chains[table].insert(std::string(words[0].substr(1)));
      if (words[0].substr(1) == Av(name) && words[1] == "DROP") base.verdict = "policy drop";
    } else if (words.size() >= 4 && words[0] == "-A" && words[1] == Av(name) && words[2] == "-j" &&
               (words[3] == "DROP" || words[3] == "REJECT") && base.verdict.empty()) {
      base.verdict = absl::AsciiStrToLower(words[3]);
    }
  }
  return ToSuspects({base}, chains);
}

std::string FirewallFix(const FirewallSuspect& suspect, std::string_view hook, std::string_view pods) {
  if (suspect.owner == "docker") {
    return StrCat("iptables -I DOCKER-USER -s ", pods, " -j ACCEPT; iptables -I DOCKER-USER -d ", pods,
                  " -j ACCEPT");
  }
  if (suspect.owner == "ufw") {
    if (hook == "input") return StrCat("ufw allow from ", pods);
    return StrCat("ufw route allow from ", pods, "; ufw route allow to ", pods);
  }
  if (suspect.owner == "firewalld") {
    return StrCat("firewall-cmd --permanent --zone=trusted --add-source=", pods, "; firewall-cmd --reload");
  }
  return StrCat("accept what comes from ", pods, " and what goes there in the ", suspect.chain);
}

}  // namespace keelson
