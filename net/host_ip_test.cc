#include "net/host_ip.h"

#include <gtest/gtest.h>

namespace keelson::net {
namespace {

TEST(HostIpTest, OneTextForEachAddress) {
  struct {
    const char *text, *canonical;
  } cases[] = {
      {"", ""},
      {"0.0.0.0", ""},
      {"::", "::"},
      {"0:0::0", "::"},
      {"::ffff:0.0.0.0", ""},
      {"192.0.2.1", "192.0.2.1"},
      {"::ffff:192.0.2.1", "192.0.2.1"},
      {"2001:DB8:0:0::1", "2001:db8::1"},
      {"no address", "no address"},
  };
  for (const auto& c : cases) EXPECT_EQ(CanonicalHostIp(c.text), c.canonical) << c.text;
}

TEST(HostIpTest, Overlap) {
  struct {
    const char *a, *b;
    bool overlap;
  } cases[] = {
      {"", "", true},
      {"", "192.0.2.1", true},
      {"", "2001:db8::1", true},
      {"", "::", true},
      {"0.0.0.0", "192.0.2.1", true},
      {"0.0.0.0", "2001:db8::1", true},  // as upstream's scheduler has it
      {"::", "2001:db8::1", true},
      {"::", "::", true},
      {"::", "192.0.2.1", false},
      {"192.0.2.1", "192.0.2.1", true},
      {"192.0.2.1", "192.0.2.2", false},
      {"192.0.2.1", "::ffff:192.0.2.1", true},
      {"::", "::ffff:192.0.2.1", false},
      {"2001:db8::1", "2001:db8:0::1", true},
      {"2001:db8::1", "2001:db8::2", false},
      {"127.0.0.1", "::1", false},
  };
  for (const auto& c : cases) {
    EXPECT_EQ(HostIpsOverlap(CanonicalHostIp(c.a), CanonicalHostIp(c.b)), c.overlap) << c.a << " " << c.b;
    EXPECT_EQ(HostIpsOverlap(CanonicalHostIp(c.b), CanonicalHostIp(c.a)), c.overlap) << c.b << " " << c.a;
  }
}

}  // namespace
}  // namespace keelson::net
