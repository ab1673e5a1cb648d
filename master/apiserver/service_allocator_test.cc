#include "master/apiserver/service_allocator.h"

#include <gtest/gtest.h>

#include <set>

#include "base/fake_env.h"

namespace keelson::master {
namespace {

using ::k8s::core::v1::Service;

Service NodePortService(std::vector<std::pair<int, std::string>> ports) {
  Service s;
  s.mutable_spec()->set_type("NodePort");
  for (auto& [port, protocol] : ports) {
    auto* p = s.mutable_spec()->add_ports();
    p->set_port(port);
    p->set_protocol(protocol);
  }
  return s;
}

TEST(ServiceAllocator, RefusesBadRanges) {
  EXPECT_FALSE(ServiceAllocator::Create("10.96.0.1/12", 30000, 32767).ok());
  EXPECT_FALSE(ServiceAllocator::Create("10.96.0.0", 30000, 32767).ok());
  EXPECT_FALSE(ServiceAllocator::Create("fd00::/112", 30000, 32767).ok());
  EXPECT_FALSE(ServiceAllocator::Create("10.96.0.0/31", 30000, 32767).ok());
  EXPECT_FALSE(ServiceAllocator::Create("10.96.0.0/12", 3, 2).ok());
}

// All but the first address, which the `kubernetes` Service asks for.
TEST(ServiceAllocator, FillsTheWholeRangeOnce) {
  FakeEnv env;
  auto a = *ServiceAllocator::Create("10.96.0.0/28", 30000, 30000);
  std::set<std::string> seen = {"10.96.0.1"};
  for (int i = 0; i < 13; ++i) {
    Service s;
    s.mutable_spec()->set_type("ClusterIP");
    ServiceAllocator::Reservation r;
    ASSERT_TRUE(a->Reserve(env.random(), s, nullptr, &r).empty());
    r.Keep();
    EXPECT_TRUE(seen.insert(s.spec().cluster_ip()).second);
  }
  Service s;
  s.mutable_spec()->set_type("ClusterIP");
  ServiceAllocator::Reservation r;
  auto errors = a->Reserve(env.random(), s, nullptr, &r);
  ASSERT_EQ(errors.size(), 1u);
  EXPECT_NE(errors[0].detail.find("range is full"), std::string::npos);
  s.mutable_spec()->set_cluster_ip("10.96.0.1");
  ServiceAllocator::Reservation first;
  EXPECT_TRUE(a->Reserve(env.random(), s, nullptr, &first).empty());
}

TEST(ServiceAllocator, AReservationThatIsNotKeptIsGivenBack) {
  FakeEnv env;
  auto a = *ServiceAllocator::Create("10.96.0.0/12", 30000, 32767);
  {
    Service s = NodePortService({{80, "TCP"}});
    ServiceAllocator::Reservation r;
    ASSERT_TRUE(a->Reserve(env.random(), s, nullptr, &r).empty());
    EXPECT_EQ(a->used_ips(), 1u);
    EXPECT_EQ(a->used_ports(), 1u);
  }
  EXPECT_EQ(a->used_ips(), 0u);
  EXPECT_EQ(a->used_ports(), 0u);
}

TEST(ServiceAllocator, OneNumberForTwoProtocols) {
  FakeEnv env;
  auto a = *ServiceAllocator::Create("10.96.0.0/12", 30000, 32767);
  Service s = NodePortService({{53, "UDP"}, {53, "TCP"}, {80, "TCP"}});
  ServiceAllocator::Reservation r;
  ASSERT_TRUE(a->Reserve(env.random(), s, nullptr, &r).empty());
  EXPECT_EQ(s.spec().ports(0).node_port(), s.spec().ports(1).node_port());
  EXPECT_NE(s.spec().ports(0).node_port(), s.spec().ports(2).node_port());
  EXPECT_GE(s.spec().ports(0).node_port(), 30086);  // the first ports are kept for explicit ones
}

TEST(ServiceAllocator, ExplicitValuesAreChecked) {
  FakeEnv env;
  auto a = *ServiceAllocator::Create("10.96.0.0/12", 30000, 32767);
  Service s = NodePortService({{80, "TCP"}});
  s.mutable_spec()->mutable_ports(0)->set_node_port(80);
  s.mutable_spec()->set_cluster_ip("10.96.0.10");
  ServiceAllocator::Reservation r;
  auto errors = a->Reserve(env.random(), s, nullptr, &r);
  ASSERT_EQ(errors.size(), 1u);
  EXPECT_EQ(errors[0].ToString(),
            "spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range "
            "of valid "
            "ports is 30000-32767");
  EXPECT_EQ(a->used_ips(), 0u);  // all or nothing
}

TEST(ServiceAllocator, TheAddressOfTheDnsIsNobodys) {
  FakeEnv env;
  auto a = *ServiceAllocator::Create("10.96.0.0/28", 30000, 30000);
  ASSERT_TRUE(a->SetDnsAddress("").ok());
  Service s;
  s.mutable_spec()->set_type("ClusterIP");
  s.mutable_spec()->set_cluster_ip("10.96.0.10");
  ServiceAllocator::Reservation r;
  auto errors = a->Reserve(env.random(), s, nullptr, &r);
  ASSERT_EQ(errors.size(), 1u);
  EXPECT_EQ(
      errors[0].ToString(),
      "spec.clusterIPs: Invalid value: [\"10.96.0.10\"]: failed to allocate IP 10.96.0.10: provided IP is "
      "the address of the cluster DNS, choose another");
  ServiceAllocator::Reservation kept;
  EXPECT_TRUE(a->Reserve(env.random(), s, &s, &kept).empty());  // it had it before
  for (int i = 0; i < 12; ++i) {
    Service any;
    any.mutable_spec()->set_type("ClusterIP");
    ServiceAllocator::Reservation taken;
    ASSERT_TRUE(a->Reserve(env.random(), any, nullptr, &taken).empty());
    taken.Keep();
    EXPECT_NE(any.spec().cluster_ip(), "10.96.0.10");
  }
  EXPECT_FALSE(a->SetDnsAddress("fd00::10").ok());
  ASSERT_TRUE(a->SetDnsAddress("10.96.0.1").ok());
  EXPECT_TRUE(a->Reserve(env.random(), s, nullptr, &r).empty());
}

TEST(ServiceAllocator, ABalancerWithoutNodePortsHasThoseItNames) {
  FakeEnv env;
  auto a = *ServiceAllocator::Create("10.96.0.0/12", 30000, 32767);
  Service s = NodePortService({{80, "TCP"}, {81, "TCP"}});
  s.mutable_spec()->set_type("LoadBalancer");
  s.mutable_spec()->set_allocate_load_balancer_node_ports(false);
  s.mutable_spec()->mutable_ports(0)->set_node_port(30001);
  ServiceAllocator::Reservation r;
  ASSERT_TRUE(a->Reserve(env.random(), s, nullptr, &r).empty());
  r.Keep();
  EXPECT_EQ(s.spec().ports(1).node_port(), 0);
  Service other = NodePortService({{80, "TCP"}});
  other.mutable_spec()->mutable_ports(0)->set_node_port(30001);
  ServiceAllocator::Reservation r2;
  EXPECT_EQ(a->Reserve(env.random(), other, nullptr, &r2).size(), 1u);  // taken
}

// The old values come back, as clients send them; so does clusterIP alone.
TEST(ServiceAllocator, ABalancerThatBecomesAnExternalName) {
  FakeEnv env;
  auto a = *ServiceAllocator::Create("10.96.0.0/12", 30000, 32767);
  Service old = NodePortService({{80, "TCP"}});
  old.mutable_spec()->set_type("LoadBalancer");
  old.mutable_spec()->set_allocate_load_balancer_node_ports(true);
  old.mutable_spec()->set_external_traffic_policy("Local");
  old.mutable_spec()->set_health_check_node_port(30500);
  old.mutable_spec()->set_load_balancer_class("x/y");
  old.mutable_status()->mutable_load_balancer()->add_ingress()->set_ip("192.0.2.1");
  ServiceAllocator::Reservation r;
  ASSERT_TRUE(a->Reserve(env.random(), old, nullptr, &r).empty());
  r.Keep();
  Service now = old;
  now.mutable_spec()->set_type("ExternalName");
  now.mutable_spec()->clear_cluster_ips();
  KeepAllocatedValues(now, old);
  Service want;
  want.mutable_spec()->set_type("ExternalName");
  auto* port = want.mutable_spec()->add_ports();
  port->set_port(80);
  port->set_protocol("TCP");
  want.mutable_status();
  EXPECT_EQ(now.ShortDebugString(), want.ShortDebugString());
  a->Release(old, &now);
  EXPECT_EQ(a->used_ips(), 0u);
  EXPECT_EQ(a->used_ports(), 0u);
}

TEST(ServiceAllocator, ChangingTheTypeGivesPortsBack) {
  FakeEnv env;
  auto a = *ServiceAllocator::Create("10.96.0.0/12", 30000, 32767);
  Service old = NodePortService({{80, "TCP"}});
  ServiceAllocator::Reservation r;
  ASSERT_TRUE(a->Reserve(env.random(), old, nullptr, &r).empty());
  r.Keep();
  Service now = old;
  now.mutable_spec()->set_type("ClusterIP");
  KeepAllocatedValues(now, old);
  ServiceAllocator::Reservation r2;
  ASSERT_TRUE(a->Reserve(env.random(), now, &old, &r2).empty());
  r2.Keep();
  a->Release(old, &now);
  EXPECT_EQ(now.spec().ports(0).node_port(), 0);
  EXPECT_EQ(a->used_ports(), 0u);
  EXPECT_EQ(a->used_ips(), 1u);
}

}  // namespace
}  // namespace keelson::master
