#include "proxy/ruleset.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <map>

#include "base/fd.h"
#include "proxy/testing/builders.h"

namespace keelson::proxy {
namespace {

RulesetOptions Options() {
  RulesetOptions o;
  o.node_pod_cidrs = {*net::Cidr::Parse("10.244.0.0/24")};
  o.cluster_cidrs = {*net::Cidr::Parse("10.244.0.0/16")};
  o.service_cidrs = {*net::Cidr::Parse("10.96.0.0/12")};
  return o;
}

// The seed's application: MySQL, and Tomcat on NodePort 30001.
struct Book {
  ServiceInfos services = {Service("default", "mysql", "10.96.10.1", {{"", Protocol::kTcp, 3306}}),
                           Service("default", "myweb", "10.96.10.2", {{"", Protocol::kTcp, 8080, 30001}}),
                           Service("default", "none", "10.96.10.3", {{"", Protocol::kTcp, 80, 30002}})};
  SliceInfos slices = {
      {"default/mysql-1", Slice("default", "mysql", "", 3306, {{"10.244.0.2", "node"}})},
      {"default/myweb-1", Slice("default", "myweb", "", 8080,
                                {{"10.244.0.3", "node"}, {"10.244.0.4", "node"}, {"10.244.1.5", "b"}})}};
  Ruleset Build(const RulesetOptions& options) const {
    return BuildRuleset(BuildServiceMap(services, slices, "node", {}), options);
  }
};

// tests/golden/nft/NAME; rewritten when KEELSON_UPDATE_GOLDEN is set (hack/update-golden).
void ExpectGolden(const std::string& name, const std::string& text) {
  std::string path = "tests/golden/nft/" + name;
  if (std::getenv("KEELSON_UPDATE_GOLDEN") != nullptr) {
    ASSERT_TRUE(WriteFileAtomic(path, text, 0644, false).ok());
    return;
  }
  absl::StatusOr<std::string> golden = ReadFile(path);
  ASSERT_TRUE(golden.ok()) << golden.status();
  EXPECT_EQ(*golden, text) << path;
}

TEST(RulesetGolden, Empty) { ExpectGolden("empty.nft", RenderFull(Ruleset{}, Options())); }

TEST(RulesetGolden, Book) {
  Book book;
  ExpectGolden("book.nft", RenderFull(book.Build(Options()), Options()));
}

TEST(RulesetGolden, BookScaledDown) {
  Book book;
  Ruleset before = book.Build(Options());
  auto& endpoints = book.slices["default/myweb-1"].endpoints;
  endpoints.erase(endpoints.begin() + 1, endpoints.end());
  book.services.erase("default/none");
  Ruleset after = book.Build(Options());
  // One endpoint is left: port_1 would be a chain never seen, vip_1 is there for mysql.
  EXPECT_EQ(RenderChange(before, after, Options()), std::nullopt);
  before.balances_port.insert(before.balances_port.begin(), Balance{Balance::kRandom, 1, 0});
  std::optional<std::string> change = RenderChange(before, after, Options());
  ASSERT_TRUE(change.has_value());
  ExpectGolden("book_scaled_down.nft", *change);
  // Chains stay, so going back is a change again.
  EXPECT_TRUE(RenderChange(AfterChange(before, after), before, Options()).has_value());
}

TEST(RulesetGolden, Policies) {
  ServiceInfos services = {Service("default", "ext-local", "10.96.0.5", {{"", Protocol::kUdp, 53, 30053}}),
                           Service("default", "int-local", "10.96.0.6", {{"", Protocol::kTcp, 80}}),
                           Service("default", "far", "10.96.0.7", {{"", Protocol::kTcp, 80, 30080}})};
  services["default/ext-local"].external_local = true;
  services["default/ext-local"].external_ips = {"198.51.100.7"};
  services["default/int-local"].internal_local = true;
  services["default/far"].internal_local = services["default/far"].external_local = true;
  SliceInfo udp = Slice("default", "ext-local", "", 5353, {{"10.244.1.9", "b"}, {"10.244.0.9", "node"}});
  udp.ports[0].protocol = Protocol::kUdp;
  SliceInfos slices = {
      {"1", udp},
      {"2", Slice("default", "int-local", "", 8080, {{"10.244.0.3", "node"}, {"10.244.1.5", "b"}})},
      {"3", Slice("default", "far", "", 8080, {{"10.244.1.6", "b"}})}};
  Ruleset rules = BuildRuleset(BuildServiceMap(services, slices, "node", {}), Options());
  ExpectGolden("policies.nft", RenderFull(rules, Options()));
}

TEST(RulesetGolden, IPv6) {
  RulesetOptions o;
  o.v6 = true;
  o.table = "other";
  o.node_pod_cidrs = {*net::Cidr::Parse("fd00:10:244::/64")};
  o.service_cidrs = {*net::Cidr::Parse("fd00:10:96::/112")};
  ServiceInfos services = {Service("default", "web", "fd00:10:96::5", {{"", Protocol::kTcp, 80, 30001}})};
  SliceInfos slices = {
      {"1", Slice("default", "web", "", 8080, {{"fd00:10:244::2", "node"}, {"10.244.0.2", "node"}})}};
  Ruleset rules = BuildRuleset(BuildServiceMap(services, slices, "node", {}), o);
  ExpectGolden("ipv6.nft", RenderFull(rules, o));
}

TEST(Ruleset, EqualRulesetsNeedNoChange) {
  Book book;
  EXPECT_EQ(RenderChange(book.Build(Options()), book.Build(Options()), Options()), "");
}

TEST(Ruleset, AddressClaimedTwiceGoesToTheFirst) {
  ServiceInfos services = {Service("a", "one", "10.96.0.5", {{"", Protocol::kTcp, 80, 30001}}),
                           Service("b", "two", "10.96.0.6", {{"", Protocol::kTcp, 80, 30001}})};
  SliceInfos slices = {{"1", Slice("a", "one", "", 1, {{"10.244.0.2", "node"}})},
                       {"2", Slice("b", "two", "", 2, {{"10.244.0.3", "node"}})}};
  Ruleset rules = BuildRuleset(BuildServiceMap(services, slices, "node", {}), Options());
  EXPECT_EQ(rules.conflicts, 1u);
  EXPECT_EQ(rules.dispatch.size(), 3u);
}

// Buckets of the endpoints that stay do not move when one leaves.
TEST(Ruleset, AffinityMovesOnlyTheClientsOfARemovedEndpoint) {
  ServiceInfos services = {Service("a", "one", "10.96.0.5", {{"", Protocol::kTcp, 80}})};
  services["a/one"].client_ip_affinity = true;
  auto build = [&](std::vector<std::pair<std::string, std::string>> endpoints) {
    return BuildRuleset(BuildServiceMap(services, {{"1", Slice("a", "one", "", 1, endpoints)}}, "node", {}),
                        Options());
  };
  Ruleset before = build({{"10.244.0.2", "node"}, {"10.244.0.3", "node"}, {"10.244.0.4", "node"}});
  Ruleset after = build({{"10.244.0.2", "node"}, {"10.244.0.4", "node"}});
  ASSERT_EQ(before.slots.size(), kAffinityBuckets);
  ASSERT_EQ(after.slots.size(), kAffinityBuckets);
  net::IpAddress removed = *net::IpAddress::Parse("10.244.0.3");
  std::map<std::string, int> share;
  for (size_t i = 0; i < kAffinityBuckets; ++i) {
    ++share[before.slots[i].ip.ToString()];
    if (before.slots[i].ip != removed) {
      EXPECT_EQ(before.slots[i], after.slots[i]) << i;
    }
  }
  for (const auto& [ip, count] : share) EXPECT_GT(count, 20) << ip;
}

TEST(Ruleset, ElementsAreWrittenInBoundedCommands) {
  ServiceInfos services;
  SliceInfos slices;
  for (int i = 0; i < 3000; ++i) {
    std::string name = "s" + std::to_string(i),
                ip = "10.96." + std::to_string(1 + i / 250) + "." + std::to_string(1 + i % 250);
    services.insert(Service("a", name, ip, {{"", Protocol::kTcp, 80}}));
    slices.emplace("a/" + name, Slice("a", name, "", 1, {{"10.244.0.2", "node"}}));
  }
  std::string text =
      RenderFull(BuildRuleset(BuildServiceMap(services, slices, "node", {}), Options()), Options());
  size_t commands = 0;
  for (size_t at = text.find("add element"); at != std::string::npos; at = text.find("add element", at + 1))
    ++commands;
  EXPECT_EQ(commands, 5u);  // 2 for the endpoints, 2 for the verdicts, 1 for hairpin
}

}  // namespace
}  // namespace keelson::proxy
