// Host ports for real: pods on ptp links and on a bridge, a node, and two hosts outside, in network
// namespaces of this process' own; the machine's rules, links and sysctls stay as they are. Needs root, nft
// and ip.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <memory>

#include "base/fd.h"
#include "base/log.h"
#include "base/strings.h"
#include "cri/server/host_ports.h"
#include "net/testing/live_network.h"

namespace keelson::cri {
namespace {

using net::testing::Dial;
using net::testing::Eventually;
using net::testing::kHost;
using net::testing::kLoopback;
using net::testing::Server;
using net::testing::Sh;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kNode[] = "192.168.77.1", kNodeSecond[] = "192.168.77.9", kNode6[] = "fd77::1";
constexpr char kOut[] = "192.168.77.2", kFar[] = "192.168.78.2", kOut6[] = "fd77::2";
constexpr char kTable[] = "keelson_cri_test";

// HostPorts on a loop of its own, as the server would run it.
class Running {
 public:
  explicit Running(HostPortsOptions options) {
    options.table = kTable;
    loop_.Do([&] { ports_ = NewHostPorts(loop_.env(), options); });
  }
  ~Running() {
    loop_.Wait(StopTask()).IgnoreError();
    loop_.Do([this] { ports_.reset(); });
  }
  absl::Status Sync(HostPortState state) { return loop_.Wait(ports_->Sync(std::move(state))); }
  absl::Status Add(const std::string& id, HostPortSandbox sandbox) {
    return loop_.Wait(ports_->Add(id, std::move(sandbox)));
  }
  absl::Status AddAll(HostPortState all) { return loop_.Wait(AddEach(std::move(all))); }
  absl::Status Remove(const std::string& id) { return loop_.Wait(ports_->Remove(id)); }

 private:
  Task<void> AddOne(std::string id, HostPortSandbox sandbox, std::shared_ptr<absl::Status> first) {
    Task<absl::Status> add = ports_->Add(std::move(id), std::move(sandbox));
    absl::Status status = co_await std::move(add);
    first->Update(status);
  }
  Task<absl::Status> AddEach(HostPortState all) {
    auto first = std::make_shared<absl::Status>();
    Scope scope(loop_.env().executor());
    for (const auto& [id, sandbox] : all) scope.Spawn("add", AddOne(id, sandbox, first));
    while (scope.live() != 0) {
      Task<void> sleep = loop_.env().clock().Sleep(absl::Milliseconds(1));
      co_await std::move(sleep);
    }
    Task<void> close = scope.Close();
    co_await std::move(close);
    co_return *first;
  }
  Task<absl::Status> StopTask() {
    Task<void> stop = ports_->Stop();
    co_await std::move(stop);
    co_return absl::OkStatus();
  }

  net::testing::LoopThread loop_;
  std::unique_ptr<HostPorts> ports_;
};

class HostPortsLiveTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (!net::testing::EnterOwnNetwork()) return;
    net::testing::AddPtpPod(2);
    net::testing::AddPtpPod(3);
    net::testing::AddBridge();
    net::testing::AddBridgePod(4);
    net::testing::AddBridgePod(5);
    net::testing::AddOutside("out", "up0", kNode, kOut, kNode6, kOut6);
    net::testing::AddOutside("far", "up1", "192.168.78.1", kFar, "fd78::1", "fd78::2");
    ASSERT_EQ(Sh(StrCat("ip addr add ", kNodeSecond, "/24 dev up0")), 0);
    usable_ = true;
  }
  static void TearDownTestSuite() {
    for (const char* ns : {"pod2", "pod3", "pod4", "pod5", "pod6", "out", "far"})
      Sh(StrCat("ip netns del ", ns));
  }
  void SetUp() override {
    if (!usable_) GTEST_SKIP() << "needs root, nft and ip, and network namespaces";
    for (int n : {2, 3, 4, 5})
      pods_.push_back(std::make_unique<Server>(StrCat("pod", n), StrCat("pod", n), 80));
    Start();
  }
  void TearDown() override {
    if (!usable_) return;
    running_.reset();
    // CVE-2020-15257.
    EXPECT_THAT(*ReadFile("/proc/self/net/unix"), Not(HasSubstr("@")));
    pods_.clear();
    Sh(StrCat("nft delete table inet ", kTable));
    Sh("for f in /proc/sys/net/ipv4/conf/*/route_localnet; do echo 0 > $f; done");
  }
  void Start(HostPortState state = {}, std::vector<std::string> masquerade = {}) {
    running_.reset();
    running_ = std::make_unique<Running>(HostPortsOptions{.masquerade_cidrs = masquerade});
    absl::Status synced = running_->Sync(std::move(state));
    ASSERT_TRUE(synced.ok()) << synced;
  }
  static HostPortSandbox Pod(int number, std::vector<HostPort> ports) {
    bool bridge = number >= 4 && number <= 5;
    HostPortSandbox out{.pod_name = StrCat("default/pod", number), .ports = std::move(ports)};
    out.ips = {StrCat(bridge ? "10.245.0." : "10.244.0.", number)};
    if (!bridge) out.ips.push_back(StrCat("fd24::", number));
    return out;
  }
  static bool TableIsThere() { return Sh(StrCat("nft list table inet ", kTable)) == 0; }

  static bool usable_;
  std::vector<std::unique_ptr<Server>> pods_;
  std::unique_ptr<Running> running_;
};
bool HostPortsLiveTest::usable_ = false;

TEST_F(HostPortsLiveTest, EveryAddressOfTheNodeFromEverywhere) {
  EXPECT_FALSE(TableIsThere());
  absl::Status added = running_->Add("a", Pod(2, {{"tcp", "", 8080, 80}, {"udp", "", 8080, 80}}));
  ASSERT_TRUE(added.ok()) << added;
  for (int type : {SOCK_STREAM, SOCK_DGRAM}) {
    SCOPED_TRACE(type == SOCK_STREAM ? "tcp" : "udp");
    EXPECT_EQ(Dial("out", kNode, 8080, type), StrCat("pod2 ", kOut));  // the client is seen
    EXPECT_EQ(Dial("out", kNodeSecond, 8080, type), StrCat("pod2 ", kOut));
    EXPECT_EQ(Dial("far", kNode, 8080, type), StrCat("pod2 ", kFar));
    EXPECT_EQ(Dial(kHost, kNode, 8080, type), StrCat("pod2 ", kNode));
    EXPECT_EQ(Dial(kHost, kLoopback, 8080, type), "pod2 10.244.0.1");
    EXPECT_EQ(Dial("pod3", kNode, 8080, type), "pod2 10.244.0.3");
    EXPECT_EQ(Dial("pod4", kNode, 8080, type), "pod2 10.245.0.4");
    EXPECT_EQ(Dial("pod2", kNode, 8080, type), "pod2 10.244.0.1");  // hairpin
    EXPECT_EQ(Dial("out", kNode6, 8080, type), StrCat("pod2 ", kOut6));
    EXPECT_EQ(Dial(kHost, kNode6, 8080, type), StrCat("pod2 ", kNode6));
    EXPECT_EQ(Dial("pod2", kNode6, 8080, type), "pod2 fd24::1");
  }
  EXPECT_EQ(Dial(kHost, "::1", 8080), "refused");
  EXPECT_EQ(Dial(kHost, "127.0.0.2", 8080), "refused");
  EXPECT_EQ(Dial("out", kNode, 80), "refused");
  ASSERT_TRUE(running_->Remove("a").ok());
  EXPECT_EQ(Dial("out", kNode, 8080), "refused");
  EXPECT_EQ(Dial(kHost, kLoopback, 8080), "refused");
}

TEST_F(HostPortsLiveTest, Sctp) {
  // With rules for it in place whether or not this kernel speaks it.
  absl::Status added = running_->Add("a", Pod(2, {{"sctp", "", 8080, 80}, {"tcp", "", 8081, 80}}));
  ASSERT_TRUE(added.ok()) << added;
  ASSERT_TRUE(running_->Add("b", Pod(3, {{"tcp", "", 8080, 80}})).ok());  // another protocol's
  EXPECT_EQ(running_->Add("c", Pod(4, {{"sctp", "", 8080, 80}})).code(), absl::StatusCode::kAlreadyExists);
  if (!net::testing::HasSctp()) {
    GTEST_SKIP() << "no SCTP in this kernel (tests/guest/run_in_guest has one with it): no packet was sent";
  }
  auto dial = [](const std::string& from, const std::string& ip, int port) {
    return Dial(from, ip, port, SOCK_STREAM, IPPROTO_SCTP);
  };
  EXPECT_EQ(dial("out", "10.244.0.2", 80), StrCat("pod2 ", kOut));  // straight to the pod
  EXPECT_EQ(dial("out", kNode, 8080), StrCat("pod2 ", kOut));
  EXPECT_EQ(dial(kHost, kNode, 8080), StrCat("pod2 ", kNode));
  EXPECT_EQ(dial("pod3", kNode, 8080), "pod2 10.244.0.3");
  EXPECT_EQ(dial("pod2", kNode, 8080), "pod2 10.244.0.1");  // hairpin
  EXPECT_EQ(dial("out", kNode6, 8080), StrCat("pod2 ", kOut6));
  EXPECT_EQ(dial("out", kNode, 8081), "refused");
  EXPECT_EQ(Dial("out", kNode, 8080), StrCat("pod3 ", kOut));
  ASSERT_TRUE(running_->Remove("a").ok());
  EXPECT_EQ(dial("out", kNode, 8080), "refused");
}

TEST_F(HostPortsLiveTest, PodsOfOneBridge) {
  ASSERT_TRUE(running_->Add("a", Pod(4, {{"tcp", "", 8080, 80}, {"udp", "", 8080, 80}})).ok());
  for (int type : {SOCK_STREAM, SOCK_DGRAM}) {
    EXPECT_EQ(Dial("out", kNode, 8080, type), StrCat("pod4 ", kOut));
    EXPECT_EQ(Dial(kHost, kLoopback, 8080, type), "pod4 10.245.0.1");
    EXPECT_EQ(Dial("pod5", kNode, 8080, type), "pod4 10.245.0.1");  // or the answer would go past the node
    EXPECT_EQ(Dial("pod4", kNode, 8080, type), "pod4 10.245.0.1");
    EXPECT_EQ(Dial("pod3", kNode, 8080, type), "pod4 10.244.0.3");
  }
}

// The class of CVE-2025-67499: a rule for the port alone catches what is none of its business.
TEST_F(HostPortsLiveTest, NobodyElsesTrafficToTheSamePort) {
  Server out("out", "out", 8080), far("far", "far", 8080), other("pod3", "other", 8080),
      bridged("pod4", "bridged", 8080);
  ASSERT_TRUE(running_->Add("a", Pod(2, {{"tcp", "", 8080, 80}, {"udp", "", 8080, 80}})).ok());
  for (int type : {SOCK_STREAM, SOCK_DGRAM}) {
    SCOPED_TRACE(type == SOCK_STREAM ? "tcp" : "udp");
    // Pods to hosts outside, to other pods, and hosts outside to each other through this node.
    EXPECT_EQ(Dial("pod3", kOut, 8080, type), "out 10.244.0.3");
    EXPECT_EQ(Dial("pod2", kFar, 8080, type), "far 10.244.0.2");
    EXPECT_EQ(Dial("pod2", "10.244.0.3", 8080, type), "other 10.244.0.2");
    EXPECT_EQ(Dial("pod5", "10.245.0.4", 8080, type), "bridged 10.245.0.5");
    EXPECT_EQ(Dial("out", kFar, 8080, type), StrCat("far ", kOut));
    EXPECT_EQ(Dial("out", "10.244.0.3", 8080, type), StrCat("other ", kOut));
    // The host's own connections.
    EXPECT_EQ(Dial(kHost, kOut, 8080, type), StrCat("out ", kNode));
    EXPECT_EQ(Dial(kHost, "10.244.0.3", 8080, type), "other 10.244.0.1");
    EXPECT_EQ(Dial("pod3", kOut6, 8080, type), "out fd24::3");
    EXPECT_EQ(Dial(kHost, kOut6, 8080, type), StrCat("out ", kNode6));
    // A pod's own loopback.
    EXPECT_EQ(Dial("pod3", kLoopback, 8080, type), "other 127.0.0.1");
  }
  // The test means something: with rules for the port alone the pod gets them.
  running_.reset();
  for (const char* chain : {"nat_prerouting", "nat_output"}) {
    ASSERT_EQ(Sh(StrCat("nft flush chain inet ", kTable, " ", chain, " && nft add rule inet ", kTable, " ",
                        chain, " jump dispatch")),
              0);
  }
  EXPECT_EQ(Dial("pod3", kOut, 8080), "pod2 10.244.0.3");
  EXPECT_EQ(Dial("out", kFar, 8080), StrCat("pod2 ", kOut));
  EXPECT_EQ(Dial(kHost, kOut, 8080).substr(0, 4), "pod2");
}

TEST_F(HostPortsLiveTest, OneAddressOnly) {
  ASSERT_TRUE(running_->Add("a", Pod(2, {{"tcp", kNodeSecond, 8080, 80}})).ok());
  ASSERT_TRUE(running_->Add("b", Pod(3, {{"tcp", kLoopback, 8080, 80}})).ok());
  ASSERT_TRUE(running_->Add("c", Pod(4, {{"tcp", kNode, 8080, 80}})).ok());
  EXPECT_EQ(running_->Add("d", Pod(5, {{"tcp", "", 8080, 80}})).code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(Dial("out", kNodeSecond, 8080), StrCat("pod2 ", kOut));
  EXPECT_EQ(Dial(kHost, kLoopback, 8080), "pod3 10.244.0.1");
  EXPECT_EQ(Dial("out", kNode, 8080), StrCat("pod4 ", kOut));
  ASSERT_TRUE(running_->Remove("c").ok());
  EXPECT_EQ(Dial("out", kNode, 8080), "refused");
  EXPECT_EQ(Dial("out", kNodeSecond, 8080), StrCat("pod2 ", kOut));
}

TEST_F(HostPortsLiveTest, AListenerOfTheHostKeepsItsPort) {
  Server host(kHost, "host", 8080, {kLoopback});
  absl::Status refused = running_->Add("a", Pod(2, {{"tcp", "", 8080, 80}}));
  EXPECT_EQ(refused.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(refused.message()),
              HasSubstr(StrCat("(pid ", getpid(), "), listening on 127.0.0.1")));
  EXPECT_EQ(Dial(kHost, kLoopback, 8080), "host 127.0.0.1");
  EXPECT_FALSE(TableIsThere());
  // Another address of the host is free.
  EXPECT_TRUE(running_->Add("a", Pod(2, {{"tcp", kNode, 8080, 80}})).ok());
}

// CVE-2020-8558: route_localnet would let a pod talk to what listens on the host's loopback.
TEST_F(HostPortsLiveTest, PodsCannotReachTheHostsLoopback) {
  Server secret(kHost, "secret", 9001, {kLoopback});
  ASSERT_TRUE(running_->Add("a", Pod(2, {{"tcp", "", 8080, 80}})).ok());
  ASSERT_TRUE(running_->Add("b", Pod(4, {{"tcp", "", 8081, 80}})).ok());
  for (const char* link : {"veth2", "br0"}) {
    ASSERT_EQ(Sh(StrCat("test $(cat /proc/sys/net/ipv4/conf/", link, "/route_localnet) = 1")), 0) << link;
  }
  for (const char* link : {"up0", "veth3", "all"}) {
    ASSERT_EQ(Sh(StrCat("test $(cat /proc/sys/net/ipv4/conf/", link, "/route_localnet) = 0")), 0) << link;
  }
  // A pod with root in its own namespace makes 127.0.0.1 a remote address.
  auto attack = [](const std::string& ns, const std::string& gateway) {
    return Sh(StrCat("ip netns exec ", ns, " sh -c 'echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet; ",
                     "ip rule add pref 0 to 127.0.0.1 lookup 5; ip route add 127.0.0.1 via ", gateway,
                     " table 5; ip rule add pref 10 lookup local; ip rule del pref 0 lookup local'"));
  };
  ASSERT_EQ(attack("pod2", "10.244.0.1"), 0);
  ASSERT_EQ(attack("pod4", "10.245.0.1"), 0);
  EXPECT_EQ(Dial("pod2", kLoopback, 9001), "timeout");
  EXPECT_EQ(Dial("pod4", kLoopback, 9001), "timeout");
  // The bridge stays open when its last port goes; so does the guard.
  ASSERT_TRUE(running_->Remove("a").ok());
  ASSERT_TRUE(running_->Remove("b").ok());
  EXPECT_EQ(Dial("pod4", kLoopback, 9001), "timeout");
  // Also over a restart with nothing in the records.
  Start();
  EXPECT_EQ(Dial("pod4", kLoopback, 9001), "timeout");
  EXPECT_TRUE(TableIsThere());
  // Without it the pod gets in, until it is put back.
  running_.reset();
  ASSERT_EQ(Sh(StrCat("nft flush chain inet ", kTable, " guard_localhost")), 0);
  EXPECT_EQ(Dial("pod4", kLoopback, 9001), "secret 10.245.0.4");
  for (const char* ns : {"pod2", "pod4"}) {
    ASSERT_EQ(Sh(StrCat("ip netns exec ", ns,
                        " sh -c 'ip rule add pref 0 lookup local; ip rule del pref 10; "
                        "ip rule del pref 0 to 127.0.0.1 lookup 5; ip route flush table 5; "
                        "echo 0 > /proc/sys/net/ipv4/conf/all/route_localnet'")),
              0);
  }
}

TEST_F(HostPortsLiveTest, FlushedRulesAreBackWithinASecond) {
  ASSERT_TRUE(running_->Add("a", Pod(2, {{"tcp", "", 8080, 80}})).ok());
  ASSERT_EQ(Dial("out", kNode, 8080), StrCat("pod2 ", kOut));
  for (const char* blow : {"nft flush ruleset", "nft delete table inet keelson_cri_test",
                           "nft delete element inet keelson_cri_test any4 { tcp . 8080 }"}) {
    ASSERT_EQ(Sh(StrCat("nft add table ip stranger && ", blow)), 0);
    auto start = std::chrono::steady_clock::now();
    EXPECT_TRUE(
        Eventually([] { return Sh("nft list map inet keelson_cri_test any4 | grep -q 8080") == 0; }, 1000))
        << blow;
    auto took = std::chrono::steady_clock::now() - start;
    std::printf("restored after %d ms: %s\n",
                static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(took).count()), blow);
    EXPECT_EQ(Dial("out", kNode, 8080), StrCat("pod2 ", kOut));
    Sh("nft delete table ip stranger");
  }
  // A change after that is still an element, and our own changes are not taken for foreign ones.
  ASSERT_TRUE(running_->Add("b", Pod(3, {{"tcp", "", 8081, 80}})).ok());
  EXPECT_EQ(Dial("out", kNode, 8081), StrCat("pod3 ", kOut));
}

TEST_F(HostPortsLiveTest, ThePodsLinkGoesAndWithItTheTable) {
  net::testing::AddPtpPod(6);
  {
    Server late("pod6", "pod6", 80);
    ASSERT_TRUE(running_->Add("a", Pod(6, {{"tcp", "", 8080, 80}})).ok());
    EXPECT_EQ(Dial(kHost, kLoopback, 8080), "pod6 10.244.0.1");
  }
  ASSERT_EQ(Sh("ip link del veth6 && ip netns del pod6"), 0);
  ASSERT_TRUE(running_->Remove("a").ok());
  EXPECT_FALSE(TableIsThere());
}

TEST_F(HostPortsLiveTest, PodsLeaveWithTheNodesAddress) {
  Server out("out", "out", 9000), other("pod3", "other", 9000);
  EXPECT_EQ(Dial("pod2", kOut, 9000), "out 10.244.0.2");
  Start({}, {"10.244.0.0/24", "10.245.0.0/24", "fd24::/64"});
  EXPECT_EQ(Dial("pod2", kOut, 9000), StrCat("out ", kNode));
  EXPECT_EQ(Dial("pod4", kOut, 9000), StrCat("out ", kNode));
  EXPECT_EQ(Dial("pod2", kOut6, 9000), StrCat("out ", kNode6));
  EXPECT_EQ(Dial("pod2", "10.244.0.3", 9000), "other 10.244.0.2");
  EXPECT_EQ(Dial("pod4", "10.244.0.3", 9000), "other 10.245.0.4");
  ASSERT_TRUE(running_->Add("a", Pod(2, {{"tcp", "", 8080, 80}})).ok());
  EXPECT_EQ(Dial("pod3", kNode, 8080), "pod2 10.244.0.3");
  EXPECT_EQ(Dial("out", kNode, 8080), StrCat("pod2 ", kOut));
}

// A UDP client that keeps its socket finds the pod that came, and after it the next one.
TEST_F(HostPortsLiveTest, UdpFlowsFollow) {
  Fd fd;
  net::testing::In("out", [&] {
    net::testing::Address to(kNode, 8053);
    fd = net::testing::NewSocket(AF_INET, SOCK_DGRAM);
    KEELSON_CHECK(connect(fd.get(), to.get(), to.size) == 0, "connect");
  });
  auto ask = [&] {
    return send(fd.get(), "?", 1, 0) == 1 ? net::testing::Receive(fd.get()) : net::testing::Reason(errno);
  };
  EXPECT_EQ(ask(), "refused");
  // Conntrack works only from here on: the flow is in it as one to the host.
  ASSERT_TRUE(running_->Add("x", Pod(4, {{"tcp", "", 1, 80}})).ok());
  ask();
  ask();
  ASSERT_TRUE(running_->Add("a", Pod(2, {{"udp", "", 8053, 80}})).ok());
  ask();  // an error of before may still wait
  EXPECT_EQ(ask(), StrCat("pod2 ", kOut));
  ASSERT_TRUE(running_->Remove("a").ok());
  ASSERT_TRUE(running_->Add("b", Pod(3, {{"udp", "", 8053, 80}})).ok());
  ask();
  EXPECT_EQ(ask(), StrCat("pod3 ", kOut));
}

TEST_F(HostPortsLiveTest, ABurstIsAFewLoads) {
  running_.reset();
  ASSERT_TRUE(WriteFileAtomic("/run/counting-nft",
                              "#!/bin/sh\necho >> /run/loads\nsleep 0.3\nexec nft \"$@\"\n", 0755)
                  .ok());
  running_ = std::make_unique<Running>(HostPortsOptions{.nft = "/run/counting-nft"});
  HostPortState all;
  for (int i = 0; i < 30; ++i)
    all[StrCat("s", i)] = Pod(2, {{"tcp", "", static_cast<uint16_t>(10000 + i), 80}});
  auto begin = std::chrono::steady_clock::now();
  absl::Status added = running_->AddAll(all);
  ASSERT_TRUE(added.ok()) << added;
  double ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
  size_t loads = ReadFile("/run/loads")->size();
  std::printf("30 at once: %.1f ms, %zu loads\n", ms, loads);
  EXPECT_LE(loads, 15u);  // while one slow load runs the others gather
  for (int port : {10000, 10029}) EXPECT_EQ(Dial("out", kNode, port), StrCat("pod2 ", kOut));
}

TEST_F(HostPortsLiveTest, Figures) {
  constexpr int kSandboxes = 100;
  auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < kSandboxes; ++i) {
    HostPortSandbox s = Pod(2, {{"tcp", "", static_cast<uint16_t>(10000 + i), 80}});
    ASSERT_TRUE(running_->Add(StrCat("s", i), s).ok());
  }
  double ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
  std::printf("add one port: %.1f ms\n", ms / kSandboxes);
  begin = std::chrono::steady_clock::now();
  for (int i = 0; i < kSandboxes; ++i) ASSERT_TRUE(running_->Remove(StrCat("s", i)).ok());
  ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
  std::printf("remove one port: %.1f ms\n", ms / kSandboxes);
}

}  // namespace
}  // namespace keelson::cri
