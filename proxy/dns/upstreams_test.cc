#include "proxy/dns/upstreams.h"

#include <gtest/gtest.h>

namespace keelson::proxy::dns {
namespace {

TEST(Upstreams, NameserversInOrderWithoutOurselves) {
  std::vector<net::IpAddress> got = ParseResolvConf(
      "# comment\nsearch a b\nnameserver 10.96.0.10\nnameserver\t192.0.2.1 \r\nnameserver nonsense\n"
      "options ndots:5\nnameserver 2001:db8::1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n",
      {*net::IpAddress::Parse("10.96.0.10")});
  ASSERT_EQ(got.size(), kMaxUpstreams);
  EXPECT_EQ(got[0].ToString(), "192.0.2.1");
  EXPECT_EQ(got[1].ToString(), "2001:db8::1");
  EXPECT_EQ(got[2].ToString(), "192.0.2.2");
}

TEST(Upstreams, MissingFileIsNoUpstream) {
  EXPECT_TRUE(LoadUpstreams("/nonexistent/resolv.conf", {}).empty());
}

}  // namespace
}  // namespace keelson::proxy::dns
