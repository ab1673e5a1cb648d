#include "proxy/service_map.h"

#include <gtest/gtest.h>

#include "proxy/testing/builders.h"

namespace keelson::proxy {
namespace {

std::vector<std::string> Ips(const std::vector<Target>& targets) {
  std::vector<std::string> out;
  for (const Target& t : targets) out.push_back(t.ip.ToString() + ":" + std::to_string(t.port));
  return out;
}
using Strings = std::vector<std::string>;

TEST(ServiceMap, ReadyEndpointsOnlyLocalFirst) {
  ServiceInfos services = {Service("default", "web", "10.96.0.10", {{"http", Protocol::kTcp, 80, 30001}})};
  SliceInfo slice = Slice("default", "web", "http", 8080,
                          {{"10.244.1.2", "node-b"}, {"10.244.0.9", "node-a"}, {"10.244.0.7", "node-a"}});
  slice.endpoints[2].ready = false;
  ServiceMap map = BuildServiceMap(services, {{"default/web-1", slice}}, "node-a", {});
  ASSERT_EQ(map.ports.size(), 1u);
  EXPECT_EQ(Ips(map.ports[0].cluster), (Strings{"10.244.0.9:8080", "10.244.1.2:8080"}));
  EXPECT_EQ(map.ports[0].node_port, 30001);
  EXPECT_TRUE(map.ports[0].local.empty());
}

TEST(ServiceMap, TerminatingButServingIsTheFallback) {
  ServiceInfos services = {Service("default", "web", "10.96.0.10", {{"", Protocol::kTcp, 80}})};
  SliceInfo slice = Slice("default", "web", "", 8080, {{"10.244.0.2", "a"}, {"10.244.0.3", "a"}});
  for (EndpointInfo& e : slice.endpoints) {
    e.ready = false;
    e.terminating = true;
    e.serving = false;
  }
  slice.endpoints[1].serving = true;
  ServiceMap map = BuildServiceMap(services, {{"s", slice}}, "a", {});
  EXPECT_EQ(Ips(map.ports[0].cluster), (Strings{"10.244.0.3:8080"}));
  slice.endpoints.push_back({.addresses = {"10.244.0.4"}, .node = "a"});
  map = BuildServiceMap(services, {{"s", slice}}, "a", {});
  EXPECT_EQ(Ips(map.ports[0].cluster), (Strings{"10.244.0.4:8080"}));
}

TEST(ServiceMap, LocalFallbackMayDifferFromClusterChoice) {
  ServiceInfos services = {Service("default", "web", "10.96.0.10", {{"", Protocol::kTcp, 80}})};
  services["default/web"].external_local = true;
  SliceInfo slice = Slice("default", "web", "", 8080, {{"10.244.0.2", "a"}, {"10.244.1.3", "b"}});
  slice.endpoints[0].ready = false;
  slice.endpoints[0].terminating = true;
  ServiceMap map = BuildServiceMap(services, {{"s", slice}}, "a", {});
  EXPECT_EQ(Ips(map.ports[0].cluster), (Strings{"10.244.1.3:8080"}));
  EXPECT_EQ(Ips(map.ports[0].local), (Strings{"10.244.0.2:8080"}));
}

TEST(ServiceMap, PortsMatchByNameAndProtocolAndSlicesMerge) {
  ServiceInfos services = {Service("default", "dns", "10.96.0.53",
                                   {{"dns", Protocol::kUdp, 53}, {"dns-tcp", Protocol::kTcp, 53}})};
  SliceInfo udp = Slice("default", "dns", "dns", 5353, {{"10.244.0.2", "a"}});
  udp.ports[0].protocol = Protocol::kUdp;
  SliceInfo again = udp;  // the same endpoint in a second slice counts once
  SliceInfo other = Slice("other", "dns", "dns-tcp", 5353, {{"10.244.0.66", "a"}});
  ServiceMap map = BuildServiceMap(services, {{"1", udp}, {"2", again}, {"3", other}}, "a", {});
  ASSERT_EQ(map.ports.size(), 2u);
  EXPECT_EQ(Ips(map.ports[0].cluster), (Strings{"10.244.0.2:5353"}));
  EXPECT_TRUE(map.ports[1].cluster.empty());
}

TEST(ServiceMap, HeadlessExternalNameReservedAndBrokenAddressesAreLeftOut) {
  ServiceInfos services = {Service("a", "headless", "None", {{"", Protocol::kTcp, 80}}),
                           Service("a", "reserved", "10.96.0.10", {{"", Protocol::kTcp, 80}}),
                           Service("a", "broken", "10.96.0.999", {{"", Protocol::kTcp, 80}}),
                           Service("a", "loop", "127.0.0.1", {{"", Protocol::kTcp, 80}})};
  ServiceInfo external = Service("a", "ext", "", {{"", Protocol::kTcp, 80}}).second;
  external.external_name = "example.com";
  services["a/ext"] = external;
  ServiceMap map = BuildServiceMap(services, {}, "", {*net::IpAddress::Parse("10.96.0.10")});
  EXPECT_TRUE(map.ports.empty());
}

TEST(ServiceMap, StaleUdpFlowsNameRemovedEndpointsAndNewlyServedPorts) {
  ServiceInfos services = {Service("a", "dns", "10.96.0.53", {{"", Protocol::kUdp, 53, 30053}})};
  SliceInfo slice = Slice("a", "dns", "", 5353, {{"10.244.0.2", "a"}, {"10.244.0.3", "a"}});
  slice.ports[0].protocol = Protocol::kUdp;
  ServiceMap both = BuildServiceMap(services, {{"s", slice}}, "a", {});
  slice.endpoints.pop_back();
  ServiceMap one = BuildServiceMap(services, {{"s", slice}}, "a", {});
  ServiceMap none = BuildServiceMap(services, {}, "a", {});
  net::IpAddress vip = *net::IpAddress::Parse("10.96.0.53"), gone = *net::IpAddress::Parse("10.244.0.3"), any;
  EXPECT_EQ(StaleUdpFlows(both, one), (std::vector<StaleFlow>{{vip, 53, gone}, {any, 30053, gone}}));
  EXPECT_EQ(StaleUdpFlows(none, one), (std::vector<StaleFlow>{{vip, 53, any}, {any, 30053, any}}));
  EXPECT_TRUE(StaleUdpFlows(one, both).empty());
  EXPECT_EQ(StaleUdpFlows(one, ServiceMap{}).size(), 2u);
}

}  // namespace
}  // namespace keelson::proxy
