#include "net/address.h"

#include <gtest/gtest.h>

namespace keelson::net {
namespace {

TEST(IpAddressTest, ParsesAndPrintsCanonically) {
  struct {
    const char *in, *out;
  } good[] = {{"0.0.0.0", "0.0.0.0"},
              {"10.96.0.10", "10.96.0.10"},
              {"255.255.255.255", "255.255.255.255"},
              {"::", "::"},
              {"::1", "::1"},
              {"2001:DB8:0:0:0:0:0:1", "2001:db8::1"},
              {"fe80::1", "fe80::1"},
              {"::ffff:1.2.3.4", "::ffff:1.2.3.4"}};
  for (const auto& test : good) {
    auto address = IpAddress::Parse(test.in);
    ASSERT_TRUE(address.ok()) << test.in;
    EXPECT_EQ(address->ToString(), test.out);
    EXPECT_EQ(*IpAddress::FromBytes(address->ToBytes()), *address);
  }
  for (const char* bad :
       {"",          "1",        "1.2.3",        "1.2.3.4.5", "256.0.0.1", "01.2.3.4",          "1.2.3.04",
        " 1.2.3.4",  "1.2.3.4 ", "1.2.3.",       ".1.2.3",    "1..2.3",    "a.b.c.d",           "1.2.3.4/8",
        ":",         ":::",      "fe80::1%eth0", "1::2::3",   "12345::",   "1:2:3:4:5:6:7:8:9", "[::1]",
        "0x7f.0.0.1"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(IpAddress::Parse(bad).status())) << bad;
  }
}

TEST(IpAddressTest, Classes) {
  EXPECT_TRUE(IpAddress::Parse("127.9.9.9")->is_loopback());
  EXPECT_TRUE(IpAddress::Parse("::1")->is_loopback());
  EXPECT_TRUE(IpAddress::Parse("169.254.1.1")->is_link_local());
  EXPECT_TRUE(IpAddress::Parse("fe80::2")->is_link_local());
  EXPECT_TRUE(IpAddress::Parse("224.0.0.1")->is_multicast());
  EXPECT_TRUE(IpAddress::Parse("::")->is_unspecified());
  EXPECT_FALSE(IpAddress::Parse("10.0.0.1")->is_loopback());
}

TEST(IpAddressTest, Arithmetic) {
  EXPECT_EQ(IpAddress::Parse("10.0.0.255")->Plus(1)->ToString(), "10.0.1.0");
  EXPECT_EQ(IpAddress::Parse("10.0.1.0")->Plus(-1)->ToString(), "10.0.0.255");
  EXPECT_TRUE(absl::IsOutOfRange(IpAddress::Parse("255.255.255.255")->Plus(1).status()));
  EXPECT_TRUE(absl::IsOutOfRange(IpAddress::Parse("0.0.0.0")->Plus(-1).status()));
  EXPECT_EQ(IpAddress::Parse("2001:db8::ffff")->Plus(1)->ToString(), "2001:db8::1:0");
  EXPECT_TRUE(
      absl::IsOutOfRange(IpAddress::Parse("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")->Plus(1).status()));
  EXPECT_EQ(IpAddress::Parse("10.96.0.10")->v4(), 0x0a60000au);
  EXPECT_EQ(IpAddress::V4(0x0a60000a).ToString(), "10.96.0.10");
}

TEST(IpAddressTest, OrderAndReverseNames) {
  EXPECT_LT(*IpAddress::Parse("9.0.0.0"), *IpAddress::Parse("10.0.0.0"));
  EXPECT_LT(*IpAddress::Parse("255.0.0.0"), *IpAddress::Parse("::"));
  EXPECT_EQ(IpAddress::Parse("10.96.0.1")->ToReverseName(), "1.0.96.10.in-addr.arpa");
  EXPECT_EQ(IpAddress::Parse("2001:db8::1")->ToReverseName(),
            "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa");
}

TEST(CidrTest, Parse) {
  for (const char* bad : {"", "10.0.0.0", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/08",
                          "10.0.0.0/+8", "::/129", "x/8", "10.0.0.0/8/8", "10.0.0.0/1e1"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(Cidr::Parse(bad).status())) << bad;
  }
  EXPECT_EQ(Cidr::Parse("10.1.2.3/16")->ToString(), "10.1.2.3/16");
  EXPECT_EQ(Cidr::Parse("10.1.2.3/16")->Masked().ToString(), "10.1.0.0/16");
  EXPECT_TRUE(absl::IsInvalidArgument(Cidr::ParseStrict("10.1.2.3/16").status()));
  EXPECT_TRUE(Cidr::ParseStrict("10.1.0.0/16").ok());
}

TEST(CidrTest, BlockArithmetic) {
  struct {
    const char *cidr, *network, *last;
    uint64_t size;
  } cases[] = {{"10.96.0.0/12", "10.96.0.0", "10.111.255.255", 1 << 20},
               {"10.244.3.7/24", "10.244.3.0", "10.244.3.255", 256},
               {"1.2.3.4/32", "1.2.3.4", "1.2.3.4", 1},
               {"1.2.3.4/0", "0.0.0.0", "255.255.255.255", uint64_t{1} << 32},
               {"fd00::5/112", "fd00::", "fd00::ffff", 65536},
               {"::/0", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", uint64_t{1} << 62}};
  for (const auto& test : cases) {
    Cidr cidr = *Cidr::Parse(test.cidr);
    EXPECT_EQ(cidr.network().ToString(), test.network);
    EXPECT_EQ(cidr.last().ToString(), test.last);
    EXPECT_EQ(cidr.size(), test.size) << test.cidr;
    EXPECT_TRUE(cidr.Contains(cidr.network()));
    EXPECT_TRUE(cidr.Contains(cidr.last()));
  }
}

TEST(CidrTest, NthIndexOfSubnet) {
  Cidr services = *Cidr::Parse("10.96.0.0/12");
  EXPECT_EQ(services.Nth(1)->ToString(), "10.96.0.1");
  EXPECT_EQ(services.Nth((1 << 20) - 1)->ToString(), "10.111.255.255");
  EXPECT_TRUE(absl::IsOutOfRange(services.Nth(1 << 20).status()));
  EXPECT_EQ(*services.IndexOf(*IpAddress::Parse("10.96.0.10")), 10u);
  EXPECT_TRUE(absl::IsOutOfRange(services.IndexOf(*IpAddress::Parse("10.0.0.1")).status()));
  Cidr pods = *Cidr::Parse("10.244.0.0/16");
  EXPECT_EQ(pods.Subnet(24, 3)->ToString(), "10.244.3.0/24");
  EXPECT_TRUE(absl::IsOutOfRange(pods.Subnet(24, 256).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(pods.Subnet(8, 0).status()));
  EXPECT_EQ(Cidr::Parse("fd00::/48")->Subnet(64, 0x12)->ToString(), "fd00:0:0:12::/64");
}

TEST(CidrTest, ContainsAndOverlaps) {
  Cidr big = *Cidr::Parse("10.0.0.0/8"), small = *Cidr::Parse("10.244.0.0/16"),
       other = *Cidr::Parse("192.168.0.0/16");
  EXPECT_TRUE(big.Contains(small));
  EXPECT_FALSE(small.Contains(big));
  EXPECT_TRUE(small.Overlaps(big));
  EXPECT_FALSE(small.Overlaps(other));
  EXPECT_FALSE(Cidr::Parse("::/0")->Contains(*IpAddress::Parse("10.0.0.1")));
  EXPECT_TRUE(Cidr::Parse("0.0.0.0/0")->Contains(other));
}

}  // namespace
}  // namespace keelson::net
