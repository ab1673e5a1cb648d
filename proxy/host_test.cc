#include "proxy/host.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "base/fd.h"

namespace keelson::proxy {
namespace {

net::Route RouteTo(const char* destination, const char* link) {
  net::Route route;
  if (*destination != '\0') route.destination = *net::Cidr::Parse(destination);
  route.link_name = link;
  return route;
}

TEST(Host, PodLinksAreThoseWithRoutesToPods) {
  std::vector<net::Route> routes = {RouteTo("", "eth0"),
                                    RouteTo("10.244.0.7/32", "veth7"),
                                    RouteTo("10.244.0.2/32", "veth2"),
                                    RouteTo("10.244.0.2/32", "veth2"),
                                    RouteTo("10.245.0.2/32", "other"),
                                    RouteTo("10.0.0.0/8", "vpn"),
                                    RouteTo("10.244.0.9/32", "lo")};
  EXPECT_EQ(PodLinks(routes, {*net::Cidr::Parse("10.244.0.0/16")}),
            (std::vector<std::string>{"veth2", "veth7"}));
}

class HostSettingsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char path[] = "/tmp/keelson-sysctl-XXXXXX";
    settings_.proc_sys = mkdtemp(path);
    Write("net/ipv4/ip_forward");
    Write("net/ipv4/conf/default/route_localnet");
    Write("net/ipv4/conf/veth1/route_localnet");
  }
  void TearDown() override { ASSERT_TRUE(RemoveTree(settings_.proc_sys).ok()); }
  void Write(const std::string& name) {
    std::string path = settings_.proc_sys + "/" + name;
    ASSERT_TRUE(MakeDirs(path.substr(0, path.rfind('/'))).ok());
    ASSERT_TRUE(WriteFileAtomic(path, "0\n", 0644, false).ok());
  }
  char Value(const std::string& name) { return (*ReadFile(settings_.proc_sys + "/" + name))[0]; }
  HostSettings settings_;
};

TEST_F(HostSettingsTest, SetsAndRevertsAndForgivesALinkThatLeft) {
  ASSERT_TRUE(ApplyHostSettings(settings_, {"gone", "veth1"}).ok());
  EXPECT_EQ(Value("net/ipv4/ip_forward"), '1');
  EXPECT_EQ(Value("net/ipv4/conf/default/route_localnet"), '1');
  EXPECT_EQ(Value("net/ipv4/conf/veth1/route_localnet"), '1');
  RevertHostSettings(settings_, {"gone", "veth1"});
  EXPECT_EQ(Value("net/ipv4/ip_forward"), '1');
  EXPECT_EQ(Value("net/ipv4/conf/default/route_localnet"), '0');
  EXPECT_EQ(Value("net/ipv4/conf/veth1/route_localnet"), '0');
}

TEST_F(HostSettingsTest, WithoutLocalhostNodePortsLoopbackStaysClosed) {
  settings_.node_ports_on_localhost = false;
  ASSERT_TRUE(ApplyHostSettings(settings_, {"veth1"}).ok());
  EXPECT_EQ(Value("net/ipv4/ip_forward"), '1');
  EXPECT_EQ(Value("net/ipv4/conf/veth1/route_localnet"), '0');
}

}  // namespace
}  // namespace keelson::proxy
