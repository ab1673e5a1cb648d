// The dataplane for real: two pods on ptp links, a node and a client outside, in network namespaces of this
// process' own; the machine's rules, links and sysctls stay as they are. Needs root, nft and ip.
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <map>
#include <memory>
#include <thread>

#include "api/core/v1/service.pb.h"
#include "api/discovery/v1/discovery.pb.h"
#include "base/fd.h"
#include "base/strings.h"
#include "client/testing/fake_api_client.h"
#include "net/testing/live_network.h"
#include "proxy/proxy.h"

namespace keelson::proxy {
namespace {

using net::testing::Address;
using net::testing::Dial;
using net::testing::Eventually;
using net::testing::In;
using net::testing::kHost;
using net::testing::kLoopback;
using net::testing::NewSocket;
using net::testing::Reason;
using net::testing::Receive;
using net::testing::Server;
using net::testing::Sh;

constexpr char kNodeAddress[] = "192.168.77.1";
constexpr int kSyncLimitMs = 30000;  // an emulated machine takes its time

// Who answered how often.
std::map<std::string, int> Spread(const std::string& netns, const std::string& ip, int port, int times = 30) {
  std::map<std::string, int> out;
  for (int i = 0; i < times; ++i) {
    std::string answer = Dial(netns, ip, port);
    ++out[answer.substr(0, answer.find(' '))];
  }
  return out;
}
bool OnlyBoth(const std::map<std::string, int>& spread) {
  return spread.size() == 2 && spread.contains("pod2") && spread.contains("pod3");
}
std::string Describe(const std::map<std::string, int>& spread) {
  std::string out;
  for (const auto& [who, times] : spread) StrAppend(&out, who, "=", times, " ");
  return out;
}

::k8s::core::v1::Service MakeService(const std::string& name, const std::string& ip, int port, int node_port,
                                     const std::string& protocol = "TCP") {
  ::k8s::core::v1::Service s;
  s.mutable_metadata()->set_namespace_("default");
  s.mutable_metadata()->set_name(name);
  s.mutable_spec()->set_cluster_ip(ip);
  auto* p = s.mutable_spec()->add_ports();
  p->set_port(port);
  p->set_protocol(protocol);
  p->set_node_port(node_port);
  return s;
}

::k8s::discovery::v1::EndpointSlice MakeSlice(const std::string& service, const std::vector<std::string>& ips,
                                              const std::string& protocol = "TCP",
                                              const std::string& node = "node") {
  ::k8s::discovery::v1::EndpointSlice s;
  s.mutable_metadata()->set_namespace_("default");
  s.mutable_metadata()->set_name(service + "-abc");
  (*s.mutable_metadata()->mutable_labels())["kubernetes.io/service-name"] = service;
  s.set_address_type("IPv4");
  s.add_ports()->set_port(8080);
  s.mutable_ports(0)->set_protocol(protocol);
  for (const std::string& ip : ips) {
    auto* e = s.add_endpoints();
    e->add_addresses(ip);
    e->mutable_conditions()->set_ready(true);
    e->set_node_name(node);
  }
  return s;
}

// A proxy on a loop of its own, as a process would run it.
class Running {
 public:
  Running() {
    loop_.Do([this] { api_ = std::make_unique<client::FakeApiClient>(loop_.env()); });
  }
  ~Running() {
    if (proxy_ != nullptr) loop_.Wait(StopTask()).IgnoreError();
    loop_.Do([this] {
      proxy_.reset();
      api_.reset();
    });
  }
  absl::Status Start() {
    ProxyOptions o;
    o.node_name = "node";
    o.node_pod_cidrs = {*net::Cidr::Parse("10.244.0.0/24")};
    o.cluster_cidrs = {*net::Cidr::Parse("10.244.0.0/16")};
    o.service_cidrs = {*net::Cidr::Parse("10.96.0.0/12")};
    o.dns_address = *net::IpAddress::Parse("10.96.0.10");
    o.resolv_conf = "/nonexistent";
    absl::Status started;
    loop_.Do([&] {
      proxy_ = std::make_unique<Proxy>(loop_.env(), *api_, o);
      started = proxy_->Start();
    });
    return started;
  }
  void Put(const google::protobuf::Message& object) {
    loop_.Do([&] { api_->Put(object); });
  }
  bool synced() {
    bool out = false;
    loop_.Do([&] { out = proxy_->synced(); });
    return out;
  }
  absl::Status Cleanup() { return loop_.Wait(proxy_->Cleanup()); }

 private:
  Task<absl::Status> StopTask() {
    Task<void> stop = proxy_->Stop();
    co_await std::move(stop);
    co_return absl::OkStatus();
  }

  net::testing::LoopThread loop_;
  std::unique_ptr<client::FakeApiClient> api_;
  std::unique_ptr<Proxy> proxy_;
};

class ProxyLiveTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (!net::testing::EnterOwnNetwork()) return;
    net::testing::AddPtpPod(2);
    net::testing::AddPtpPod(3);
    net::testing::AddOutside("out", "up0", kNodeAddress, "192.168.77.2");
    // What is outside knows no way to pods and services.
    ASSERT_EQ(Sh("ip -n out route del default"), 0);
    ASSERT_EQ(Sh("ip route add default via 192.168.77.2"), 0);
    usable_ = true;
  }
  static void TearDownTestSuite() {
    // The namespaces end with the process; their mounts are ours alone.
    for (const char* ns : {"pod2", "pod3", "pod4", "out"}) Sh(StrCat("ip netns del ", ns));
  }
  void SetUp() override {
    if (!usable_) GTEST_SKIP() << "needs root, nft and ip, and network namespaces";
    pods_.push_back(std::make_unique<Server>("pod2", "pod2", 8080));
    pods_.push_back(std::make_unique<Server>("pod3", "pod3", 8080));
    proxy_ = NewProxy();
    ASSERT_TRUE(Eventually([&] { return proxy_->synced(); }, kSyncLimitMs));
  }
  void TearDown() override {
    if (proxy_ != nullptr) {
      EXPECT_TRUE(proxy_->Cleanup().ok());
    }
    proxy_.reset();
    pods_.clear();
  }
  static std::unique_ptr<Running> NewProxy() {
    auto proxy = std::make_unique<Running>();
    proxy->Put(MakeService("web", "10.96.0.5", 80, 30001));
    proxy->Put(MakeSlice("web", {"10.244.0.2", "10.244.0.3"}));
    proxy->Put(MakeService("none", "10.96.0.6", 80, 30002));
    absl::Status started = proxy->Start();
    EXPECT_TRUE(started.ok()) << started;
    return proxy;
  }

  static bool usable_;
  std::vector<std::unique_ptr<Server>> pods_;
  std::unique_ptr<Running> proxy_;
};
bool ProxyLiveTest::usable_ = false;

TEST_F(ProxyLiveTest, ClusterIpFromHostAndPodsMeetsEveryEndpoint) {
  for (const char* from : {kHost, "pod2", "pod3"}) {
    std::map<std::string, int> spread = Spread(from, "10.96.0.5", 80);
    EXPECT_TRUE(OnlyBoth(spread)) << from << ": " << Describe(spread);
  }
  // The pod's address is kept; a pod that meets itself (hairpin) comes as the node.
  for (int i = 0; i < 20; ++i) {
    std::string answer = Dial("pod2", "10.96.0.5", 80);
    EXPECT_TRUE(answer == "pod3 10.244.0.2" || answer == "pod2 10.244.0.1") << answer;
  }
}

TEST_F(ProxyLiveTest, NodePortOnEveryAddressOfTheNode) {
  for (const char* from : {kHost, "pod2", "out"}) {
    std::map<std::string, int> spread = Spread(from, kNodeAddress, 30001);
    EXPECT_TRUE(OnlyBoth(spread)) << from << ": " << Describe(spread);
  }
  std::map<std::string, int> spread = Spread(kHost, kLoopback, 30001);
  EXPECT_TRUE(OnlyBoth(spread)) << Describe(spread);
  // Endpoints on the node see the client as it is.
  std::string answer = Dial("out", kNodeAddress, 30001);
  EXPECT_EQ(answer.substr(5), "192.168.77.2");
}

TEST_F(ProxyLiveTest, WithoutEndpointsTheClientIsRefusedAtOnce) {
  EXPECT_EQ(Dial(kHost, "10.96.0.6", 80), "refused");
  EXPECT_EQ(Dial("pod2", "10.96.0.6", 80), "refused");
  EXPECT_EQ(Dial("pod2", "10.96.0.77", 80), "refused");  // no such Service
  EXPECT_EQ(Dial("pod2", "10.96.0.5", 81), "refused");   // no such port
  EXPECT_EQ(Dial(kHost, kNodeAddress, 30002), "refused");
  EXPECT_EQ(Dial(kHost, kLoopback, 30002), "refused");
  EXPECT_EQ(Dial("pod2", kNodeAddress, 30002), "refused");
  EXPECT_EQ(Dial("out", kNodeAddress, 30002), "refused");
}

TEST_F(ProxyLiveTest, EndpointsComeAndGo) {
  proxy_->Put(MakeSlice("web", {"10.244.0.3"}));
  EXPECT_TRUE(Eventually([] {
    return Spread(kHost, "10.96.0.5", 80, 20) == std::map<std::string, int>{{"pod3", 20}};
  }));
  EXPECT_EQ(Spread("out", kNodeAddress, 30001, 8), (std::map<std::string, int>{{"pod3", 8}}));
  proxy_->Put(MakeSlice("web", {}));
  EXPECT_TRUE(Eventually([] { return Dial(kHost, "10.96.0.5", 80) == "refused"; }));
  proxy_->Put(MakeSlice("web", {"10.244.0.2", "10.244.0.3"}));
  EXPECT_TRUE(Eventually([] { return OnlyBoth(Spread(kHost, "10.96.0.5", 80)); }));
}

TEST_F(ProxyLiveTest, PodsReachTheOutsideWithTheNodesAddress) {
  Server outside("out", "outside", 9000);
  EXPECT_EQ(Dial("pod2", "192.168.77.2", 9000), StrCat("outside ", kNodeAddress));
  EXPECT_EQ(Dial("pod2", "10.244.0.3", 8080), "pod3 10.244.0.2");
}

// CVE-2020-8558: route_localnet would let a pod talk to what listens on the host's loopback.
TEST_F(ProxyLiveTest, PodsAndOutsideCannotReachTheHostsLoopback) {
  Server secret(kHost, "secret", 9001, {kLoopback});
  ASSERT_EQ(Dial(kHost, kLoopback, 9001), "secret 127.0.0.1");
  ASSERT_EQ(Sh("test $(cat /proc/sys/net/ipv4/conf/veth2/route_localnet) = 1"), 0);
  // A pod with root in its own namespace makes 127.0.0.1 a remote address.
  ASSERT_EQ(Sh("ip netns exec pod2 sh -c 'echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet; "
               "ip rule add pref 0 to 127.0.0.1 lookup 5; ip route add 127.0.0.1 via 10.244.0.1 table 5; "
               "ip rule add pref 10 lookup local; ip rule del pref 0 lookup local'"),
            0);
  EXPECT_EQ(Dial("pod2", kLoopback, 9001), "timeout");
  EXPECT_EQ(Dial("pod2", kLoopback, 30001), "timeout");
  // The rule is what keeps it out: without it the pod gets in, until the proxy puts it back.
  ASSERT_EQ(Sh("nft flush chain ip keelson guard_localhost"), 0);
  EXPECT_TRUE(Eventually([] { return Dial("pod2", kLoopback, 9001) == "timeout"; }));
  ASSERT_EQ(Sh("ip netns exec pod2 sh -c 'ip rule add pref 0 lookup local; ip rule del pref 10; "
               "ip rule del pref 0 to 127.0.0.1 lookup 5'"),
            0);
}

TEST_F(ProxyLiveTest, FlushedRulesAreBackWithinASecondAndOthersAreLeftAlone) {
  ASSERT_EQ(Sh("nft flush ruleset"), 0);
  auto start = std::chrono::steady_clock::now();
  EXPECT_TRUE(Eventually([] { return Sh("nft list chain ip keelson nat_prerouting") == 0; }, 1000));
  auto took = std::chrono::steady_clock::now() - start;
  RecordProperty("restore_ms",
                 static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(took).count()));
  EXPECT_TRUE(OnlyBoth(Spread("pod2", "10.96.0.5", 80)));
  // One element taken away is noticed as well.
  ASSERT_EQ(Sh("nft delete element ip keelson vips { 10.96.0.5 . tcp . 80 }"), 0);
  EXPECT_TRUE(Eventually([] { return OnlyBoth(Spread("pod2", "10.96.0.5", 80, 20)); }, 1000));
  ASSERT_EQ(Sh("nft add table ip stranger && nft add chain ip stranger c"), 0);
  proxy_->Put(MakeSlice("web", {"10.244.0.3"}));
  EXPECT_TRUE(Eventually([] {
    return Spread(kHost, "10.96.0.5", 80, 20) == std::map<std::string, int>{{"pod3", 20}};
  }));
  EXPECT_EQ(Sh("nft list chain ip stranger c && nft delete table ip stranger"), 0);
}

TEST_F(ProxyLiveTest, APodThatComesLaterServesLocalhostNodePorts) {
  net::testing::AddPtpPod(4);
  Server late("pod4", "pod4", 8080);
  proxy_->Put(MakeSlice("web", {"10.244.0.4"}));
  EXPECT_TRUE(Eventually([] { return Dial(kHost, kLoopback, 30001) == "pod4 10.244.0.1"; }));
}

// As after kill -9: the old rules serve until the new process has loaded its own.
TEST_F(ProxyLiveTest, ARestartLeavesNoGap) {
  std::atomic<bool> stop = false;
  std::atomic<int> good = 0;
  std::string bad;
  std::thread client([&] {
    while (!stop) {
      std::string answer = Dial("pod2", "10.96.0.5", 80);
      if (answer.starts_with("pod")) {
        ++good;
      } else {
        bad = answer;
      }
    }
  });
  for (int i = 0; i < 3; ++i) {
    proxy_.reset();
    proxy_ = NewProxy();
    ASSERT_TRUE(Eventually([&] { return proxy_->synced(); }, kSyncLimitMs));
  }
  stop = true;
  client.join();
  EXPECT_EQ(bad, "");
  EXPECT_GT(good, 10);
}

TEST_F(ProxyLiveTest, UdpFlowsFollowTheEndpoint) {
  proxy_->Put(MakeService("dns", "10.96.0.7", 53, 30053, "UDP"));
  proxy_->Put(MakeSlice("dns", {"10.244.0.3"}, "UDP"));
  Fd fd;
  In("pod2", [&] { fd = NewSocket(AF_INET, SOCK_DGRAM); });
  Address to("10.96.0.7", 53);
  ASSERT_EQ(connect(fd.get(), to.get(), to.size), 0);
  auto ask = [&]() -> std::string {
    if (send(fd.get(), "x", 1, 0) != 1) return Reason(errno);
    return Receive(fd.get());
  };
  EXPECT_TRUE(Eventually([&] { return ask() == "pod3 10.244.0.2"; })) << ask();
  // The same socket, so the same flow: without the old entry's removal it would stay with pod3.
  proxy_->Put(MakeSlice("dns", {"10.244.0.2"}, "UDP"));
  EXPECT_TRUE(Eventually([&] { return ask() == "pod2 10.244.0.1"; })) << ask();
}

TEST_F(ProxyLiveTest, Sctp) {
  if (!net::testing::HasSctp())
    GTEST_SKIP() << "no SCTP in this kernel (tests/guest/run_in_guest has one with it)";
  auto dial = [](const std::string& from, const std::string& ip, int port) {
    return Dial(from, ip, port, SOCK_STREAM, IPPROTO_SCTP);
  };
  proxy_->Put(MakeService("signalling", "10.96.0.11", 2905, 30905, "SCTP"));
  proxy_->Put(MakeSlice("signalling", {"10.244.0.3"}, "SCTP"));
  EXPECT_TRUE(Eventually([&] { return dial("pod2", "10.96.0.11", 2905) == "pod3 10.244.0.2"; }));
  EXPECT_EQ(dial(kHost, "10.96.0.11", 2905).substr(0, 4), "pod3");
  EXPECT_EQ(dial("pod3", "10.96.0.11", 2905), "pod3 10.244.0.1");  // hairpin
  EXPECT_EQ(dial("out", kNodeAddress, 30905), "pod3 192.168.77.2");
  EXPECT_EQ(Dial("pod2", "10.96.0.11", 2905), "refused");  // TCP
}

TEST_F(ProxyLiveTest, PoliciesAndAffinity) {
  auto sticky = MakeService("sticky", "10.96.0.8", 80, 0);
  sticky.mutable_spec()->set_session_affinity("ClientIP");
  proxy_->Put(sticky);
  proxy_->Put(MakeSlice("sticky", {"10.244.0.2", "10.244.0.3"}));
  auto far = MakeService("far", "10.96.0.9", 80, 30009);
  far.mutable_spec()->set_external_traffic_policy("Local");
  proxy_->Put(far);
  proxy_->Put(MakeSlice("far", {"10.244.0.3"}, "TCP", "another-node"));
  EXPECT_TRUE(Eventually([] { return Dial(kHost, "10.96.0.9", 80).starts_with("pod3"); }));
  EXPECT_EQ(Spread("pod2", "10.96.0.8", 80, 15).size(), 1u);
  EXPECT_TRUE(Dial(kHost, kNodeAddress, 30009).starts_with("pod3"));  // the node itself uses every endpoint
  EXPECT_EQ(Dial("out", kNodeAddress, 30009), "timeout");             // no endpoint here: dropped
}

TEST_F(ProxyLiveTest, DnsAnswersPodsAndHostOnly) {
  auto ask = [](const std::string& netns) {
    std::string answer;
    In(netns, [&] {
      std::string query(
          "\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03web\x07"
          "default\x03svc\x07"
          "cluster\x05local\0\0\x01\0\x01",
          47);
      Fd fd = NewSocket(AF_INET, SOCK_DGRAM);
      Address to("10.96.0.10", 53);
      const bool sent =
          connect(fd.get(), to.get(), to.size) == 0 && send(fd.get(), query.data(), query.size(), 0) >= 0;
      answer = sent ? Receive(fd.get()) : Reason(errno);
    });
    return answer.size() < 16 ? answer : answer.substr(answer.size() - 4);
  };
  const std::string address("\x0a\x60\x00\x05", 4);
  EXPECT_EQ(ask("pod2"), address);
  EXPECT_EQ(ask(kHost), address);
  ASSERT_EQ(Sh("ip -n out route add 10.96.0.0/12 via 192.168.77.1"), 0);
  EXPECT_EQ(ask("out"), "timeout");
  Sh("ip -n out route del 10.96.0.0/12");
}

TEST_F(ProxyLiveTest, CleanupLeavesNothing) {
  EXPECT_TRUE(proxy_->Cleanup().ok());
  EXPECT_NE(Sh("nft list table ip keelson"), 0);
  EXPECT_NE(Sh("ip addr show dev lo | grep -q 10.96.0.10"), 0);
  EXPECT_EQ(Sh("test $(cat /proc/sys/net/ipv4/conf/veth2/route_localnet) = 0"), 0);
  EXPECT_TRUE(proxy_->Cleanup().ok());
}

}  // namespace
}  // namespace keelson::proxy
