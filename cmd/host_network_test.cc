#include "cmd/host_network.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/strings.h"

namespace keelson {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

net::Cidr Block(const std::string& text) { return *net::Cidr::Parse(text); }

net::Route To(const std::string& block, const std::string& link, const std::string& gateway = "") {
  net::Route route;
  if (!block.empty()) route.destination = Block(block);
  route.link_name = link;
  if (!gateway.empty()) route.gateway = *net::IpAddress::Parse(gateway);
  return route;
}

std::vector<std::string> Named(const std::vector<Overlap>& overlaps) {
  std::vector<std::string> out;
  for (const Overlap& overlap : overlaps) out.push_back(overlap.with);
  return out;
}

const net::Cidr kPods = Block("10.244.0.0/16"), kServices = Block("10.96.0.0/12");

TEST(FindOverlapsTest, NamesTheAddressOrRouteAndAFreeBlock) {
  struct Case {
    const char* name;
    HostNetwork host;
    std::vector<std::string> named;
    const char* free;
  };
  const Case cases[] = {
      {"an ordinary host",
       {{{2, "eth0", Block("192.0.2.10/24")}, {1, "lo", Block("127.0.0.1/8")}},
        {To("", "eth0", "192.0.2.1"), To("192.0.2.0/24", "eth0")}},
       {},
       ""},
      {"a bridge of another cluster, its network route named once",
       {{{3, "cni0", Block("10.244.1.1/24")}}, {To("10.244.1.0/24", "cni0")}},
       {"10.244.1.1/24, an address of cni0"},
       "10.128.0.0/16"},
      {"a wide private network",
       {{}, {To("10.0.0.0/8", "eth0", "192.0.2.1")}},
       {"the route 10.0.0.0/8 via 192.0.2.1 on eth0"},
       "172.16.0.0/16"},
      {"halves of everything, as VPN clients set them",
       {{}, {To("0.0.0.0/1", "tun0", "192.0.2.9"), To("128.0.0.0/1", "tun0", "192.0.2.9")}},
       {},
       ""},
      {"a node of another cluster with a default route only", {{}, {To("0.0.0.0/0", "eth0")}}, {}, ""},
      {"IPv6 is another world",
       {{{2, "eth0", Block("2001:db8::1/64")}}, {To("2001:db8::/64", "eth0")}},
       {},
       ""},
  };
  for (const Case& c : cases) {
    std::vector<Overlap> found = FindOverlaps(c.host, kPods, {}, kServices);
    EXPECT_EQ(Named(found), c.named) << c.name;
    if (!found.empty()) {
      EXPECT_EQ(found[0].free, c.free) << c.name;
    }
  }
}

TEST(FindOverlapsTest, LinksToThePodsOfThisClusterAreItsOwn) {
  HostNetwork host{{{7, "veth1", Block("10.244.0.1/32")}, {1, "lo", Block("10.96.0.10/32")}},
                   {To("10.244.0.5/32", "veth1")}};
  std::vector<net::Cidr> own = {Block("10.244.0.0/24"), Block("10.96.0.10/32")};
  EXPECT_THAT(FindOverlaps(host, kPods, own, kServices), IsEmpty());
  EXPECT_THAT(FindOverlaps(host, kServices, own, kPods), IsEmpty());
  EXPECT_EQ(FindOverlaps(host, kPods, {}, kServices).size(), 2u);
  // Through a gateway it leads elsewhere, wherever it lies.
  host.routes.push_back(To("10.244.0.128/25", "eth0", "192.0.2.1"));
  EXPECT_THAT(Named(FindOverlaps(host, kPods, own, kServices)),
              ElementsAre("the route 10.244.0.128/25 via 192.0.2.1 on eth0"));
}

// As `nft -s list ruleset` prints them.
constexpr char kDocker[] = R"(table ip filter {
        chain DOCKER {
                iifname != "docker0" oifname "docker0" counter drop
        }
        chain DOCKER-USER {
                counter return
        }
        chain FORWARD {
                type filter hook forward priority filter; policy drop;
                counter jump DOCKER-USER
                oifname "docker0" ct state related,established counter accept
        }
        chain INPUT {
                type filter hook input priority filter; policy accept;
        }
}
)";
constexpr char kFirewalld[] = R"(table inet firewalld {
        set trusted {
                type ipv4_addr
                elements = { 192.0.2.7,
                             192.0.2.8 }
        }
        chain filter_FORWARD {
                type filter hook forward priority filter + 10; policy accept;
                ct state { established, related } accept
                jump filter_FORWARD_POLICIES
                reject with icmpx admin-prohibited
        }
        chain filter_FORWARD_POLICIES {
                reject with icmpx admin-prohibited
        }
}
)";
constexpr char kOwnRules[] = R"(table inet mine {
        chain fwd {
                type filter hook forward priority 0; policy accept;
                iifname "eth0" accept
                counter drop
        }
        chain other {
                type filter hook forward priority 0; policy accept;
                ip saddr 192.0.2.0/24 drop
        }
}
)";

TEST(FirewallTest, NftChainsThatRefuseWhatIsLeft) {
  FirewallSuspect docker{"docker", "chain FORWARD of table ip filter (policy drop)"};
  EXPECT_THAT(SuspectsInNft(kDocker, "forward"), ElementsAre(docker));
  EXPECT_THAT(SuspectsInNft(kDocker, "input"), IsEmpty());
  EXPECT_THAT(SuspectsInNft(kFirewalld, "forward"),
              ElementsAre(FirewallSuspect{"firewalld",
                                          "chain filter_FORWARD of table inet firewalld (reject with icmpx "
                                          "admin-prohibited)"}));
  EXPECT_THAT(SuspectsInNft(kOwnRules, "forward"),
              ElementsAre(FirewallSuspect{"nftables", "chain fwd of table inet mine (drop)"}));
  EXPECT_THAT(SuspectsInNft(StrCat(kOwnRules, kDocker), "forward").size(), 2u);
  EXPECT_THAT(SuspectsInNft("", "forward"), IsEmpty());
  EXPECT_THAT(SuspectsInNft("}\n}\nchain x {\n", "forward"), IsEmpty());
}

TEST(FirewallTest, IptablesLegacy) {
  const char* rules =
      "*nat\n:INPUT DROP [0:0]\nCOMMIT\n*filter\n:INPUT DROP [3:180]\n:FORWARD ACCEPT [0:0]\n"
      ":ufw-before-input - [0:0]\n-A INPUT -j ufw-before-input\n-A FORWARD -i eth0 -j DROP\n"
      "-A FORWARD -j REJECT --reject-with icmp-host-prohibited\nCOMMIT\n";
  EXPECT_THAT(SuspectsInIptables(rules, "input"),
              ElementsAre(FirewallSuspect{"ufw", "chain INPUT of table ip filter (policy drop)"}));
  EXPECT_THAT(SuspectsInIptables(rules, "forward"),
              ElementsAre(FirewallSuspect{"ufw", "chain FORWARD of table ip filter (reject)"}));
  EXPECT_THAT(SuspectsInIptables(rules, "output"), IsEmpty());
}

TEST(FirewallTest, TheFixIsOneToPaste) {
  EXPECT_EQ(FirewallFix({"ufw", "x"}, "input", "10.244.0.0/16"), "ufw allow from 10.244.0.0/16");
  EXPECT_EQ(
      FirewallFix({"nftables", "chain fwd of table inet mine (drop)"}, "forward", "10.244.0.0/16"),
      "accept what comes from 10.244.0.0/16 and what goes there in the chain fwd of table inet mine (drop)");
}

}  // namespace
}  // namespace keelson
