// The whole component on the fake API and a fake nft: what is loaded, when, and what happens when a load
// fails.
#include "proxy/proxy.h"

#include <gtest/gtest.h>

#include "api/core/v1/node.pb.h"
#include "api/core/v1/service.pb.h"
#include "api/discovery/v1/discovery.pb.h"
#include "base/fake_env.h"
#include "client/testing/fake_api_client.h"

namespace keelson::proxy {
namespace {

::k8s::core::v1::Service MakeService(const std::string& name, const std::string& ip, int port,
                                     int node_port = 0) {
  ::k8s::core::v1::Service s;
  s.mutable_metadata()->set_namespace_("default");
  s.mutable_metadata()->set_name(name);
  s.mutable_spec()->set_cluster_ip(ip);
  auto* p = s.mutable_spec()->add_ports();
  p->set_port(port);
  p->set_protocol("TCP");
  p->set_node_port(node_port);
  return s;
}

::k8s::discovery::v1::EndpointSlice MakeSlice(const std::string& service, int port,
                                              const std::vector<std::string>& ips) {
  ::k8s::discovery::v1::EndpointSlice s;
  s.mutable_metadata()->set_namespace_("default");
  s.mutable_metadata()->set_name(service + "-abc");
  (*s.mutable_metadata()->mutable_labels())["kubernetes.io/service-name"] = service;
  s.set_address_type("IPv4");
  s.add_ports()->set_port(port);
  for (const std::string& ip : ips) {
    auto* e = s.add_endpoints();
    e->add_addresses(ip);
    e->mutable_conditions()->set_ready(true);
    e->set_node_name("node");
  }
  return s;
}

class ProxyTest : public ::testing::Test {
 protected:
  void SetUp() override {
    env_.set_run_handler([this](const SubprocessOptions& run) -> absl::StatusOr<SubprocessResult> {
      EXPECT_EQ(run.argv, (std::vector<std::string>{"nft", "-f", "-"}));
      ++runs_;
      SubprocessResult result;
      result.exit_code = failures_ > 0 ? 1 : 0;
      if (failures_ > 0) {
        --failures_;
        result.stderr_data = "Error: no such thing";
      } else {
        scripts_.push_back(run.stdin_data);
      }
      return result;
    });
  }
  void Start(ProxyOptions options = {}) {
    options.node_name = "node";
    options.manage_host = false;
    options.dns = false;
    options.service_cidrs = {*net::Cidr::Parse("10.96.0.0/12")};
    if (!watch_node_) options.node_pod_cidrs = {*net::Cidr::Parse("10.244.0.0/24")};
    proxy_ = std::make_unique<Proxy>(env_, api_, options);
    ASSERT_TRUE(proxy_->Start().ok());
  }
  void TearDown() override {
    if (proxy_ != nullptr) env_.AwaitVoid(proxy_->Stop());
  }
  static bool IsFull(const std::string& script) {
    return script.find("delete table ip keelson") != std::string::npos;
  }
  static bool Has(const std::string& script, const std::string& part) {
    return script.find(part) != std::string::npos;
  }

  FakeEnv env_;
  client::FakeApiClient api_{env_};
  std::unique_ptr<Proxy> proxy_;
  std::vector<std::string> scripts_;
  int failures_ = 0, runs_ = 0;
  bool watch_node_ = false;
};

TEST_F(ProxyTest, LoadsAllOnceThenOnlyChanges) {
  api_.Put(MakeService("web", "10.96.0.5", 80, 30001));
  api_.Put(MakeSlice("web", 8080, {"10.244.0.2"}));
  Start();
  env_.Advance(absl::Seconds(1));
  ASSERT_EQ(scripts_.size(), 1u);
  EXPECT_TRUE(IsFull(scripts_[0]));
  EXPECT_TRUE(Has(scripts_[0], "tcp . 30001 . 0 : 10.244.0.2 . 8080"));
  EXPECT_TRUE(proxy_->synced());

  api_.Put(MakeSlice("web", 8080, {"10.244.0.3"}));
  env_.Advance(absl::Seconds(1));
  ASSERT_EQ(scripts_.size(), 2u);
  EXPECT_FALSE(IsFull(scripts_[1]));
  EXPECT_TRUE(Has(scripts_[1], "10.96.0.5 . tcp . 80 . 0 : 10.244.0.3 . 8080"));
  EXPECT_FALSE(Has(scripts_[1], "add chain"));
}

TEST_F(ProxyTest, BurstsAreGathered) {
  Start();
  env_.Advance(absl::Seconds(1));
  ASSERT_EQ(scripts_.size(), 1u);
  for (int i = 1; i <= 50; ++i)
    api_.Put(MakeService("s" + std::to_string(i), "10.96.1." + std::to_string(i), 80));
  env_.Advance(absl::Seconds(1));
  ASSERT_EQ(scripts_.size(), 2u);
  EXPECT_TRUE(Has(scripts_[1], "10.96.1.50 . tcp . 80"));
}

TEST_F(ProxyTest, NothingIsLoadedBeforeTheApiAnswered) {
  api_.set_fault([](const std::string&) { return absl::UnavailableError("down"); });
  Start();
  env_.Advance(absl::Minutes(2));
  EXPECT_TRUE(scripts_.empty());
  EXPECT_FALSE(proxy_->Health().ok());
  api_.set_fault(nullptr);
  env_.Advance(absl::Seconds(30));
  EXPECT_EQ(scripts_.size(), 1u);
  EXPECT_TRUE(proxy_->Health().ok());
}

TEST_F(ProxyTest, AFailedLoadIsFollowedByAFullOne) {
  Start();
  env_.Advance(absl::Seconds(1));
  failures_ = 2;
  api_.Put(MakeService("web", "10.96.0.5", 80));
  env_.Advance(absl::Seconds(30));
  ASSERT_EQ(scripts_.size(), 2u);
  EXPECT_EQ(runs_, 4);
  EXPECT_TRUE(IsFull(scripts_[1]));
  EXPECT_TRUE(Has(scripts_[1], "10.96.0.5 . tcp . 80"));
  EXPECT_TRUE(proxy_->Health().ok());
}

TEST_F(ProxyTest, PodCidrComesFromTheNodeObject) {
  watch_node_ = true;
  ::k8s::core::v1::Node node;
  node.mutable_metadata()->set_name("node");
  api_.Put(node);
  Start();
  env_.Advance(absl::Seconds(1));
  ASSERT_EQ(scripts_.size(), 1u);
  EXPECT_FALSE(Has(scripts_[0], "10.244.7.0/24"));
  node.mutable_spec()->add_pod_cidrs("10.244.7.0/24");
  api_.Put(node);
  env_.Advance(absl::Seconds(1));
  ASSERT_EQ(scripts_.size(), 2u);
  EXPECT_TRUE(IsFull(scripts_[1]));
  EXPECT_TRUE(Has(scripts_[1], "ip saddr 10.244.7.0/24"));
}

TEST_F(ProxyTest, ServicesOfAnotherProxyAreLeftAlone) {
  auto service = MakeService("web", "10.96.0.5", 80);
  (*service.mutable_metadata()->mutable_labels())["service.kubernetes.io/service-proxy-name"] = "other";
  api_.Put(service);
  Start();
  env_.Advance(absl::Seconds(1));
  EXPECT_FALSE(Has(scripts_[0], "10.96.0.5"));
}

TEST_F(ProxyTest, CleanupRemovesTheTable) {
  Start();
  env_.Advance(absl::Seconds(1));
  EXPECT_TRUE(env_.Await(proxy_->Cleanup()).ok());
  EXPECT_EQ(scripts_.back(), "add table ip keelson\ndelete table ip keelson\n");
}

TEST(ProxyOptions, ContradictionsAreNamed) {
  FakeEnv env;
  client::FakeApiClient api(env);
  ProxyOptions options;
  options.dns = false;
  options.cluster_cidrs = {*net::Cidr::Parse("10.96.0.0/16")};
  options.service_cidrs = {*net::Cidr::Parse("10.96.0.0/12")};
  Proxy proxy(env, api, options);
  EXPECT_EQ(proxy.Start().message(), "proxy: service CIDR 10.96.0.0/12 overlaps pod CIDR 10.96.0.0/16");
  options.service_cidrs.clear();
  options.table = "a b";
  Proxy bad_name(env, api, options);
  EXPECT_EQ(bad_name.Start().code(), absl::StatusCode::kInvalidArgument);
}

TEST(DefaultDnsAddress, IsTheTenth) {
  EXPECT_EQ(DefaultDnsAddress(*net::Cidr::Parse("10.96.0.0/12"))->ToString(), "10.96.0.10");
}

}  // namespace
}  // namespace keelson::proxy
