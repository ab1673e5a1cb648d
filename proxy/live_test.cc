// The dataplane for real: two pods on ptp links, a node and a client outside, in network namespaces of this
// process' own; the machine's rules, links and sysctls stay as they are. Needs root, nft and ip.
#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <boost/asio/post.hpp>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <future>
#include <map>
#include <thread>

#include "api/core/v1/service.pb.h"
#include "api/discovery/v1/discovery.pb.h"
#include "base/env.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/strings.h"
#include "client/testing/fake_api_client.h"
#include "proxy/proxy.h"

namespace keelson::proxy {
namespace {

constexpr char kNodeAddress[] = "192.168.77.1";
constexpr char kLoopback[] = "127.0.0.1";
constexpr char kHost[] = "";  // this process' namespace
constexpr int kDialTimeoutMs = 700;

int Sh(const std::string& command) { return std::system(("{ " + command + "; } >/dev/null 2>&1").c_str()); }

// Runs `work` on a thread inside that network namespace.
template <class R>
R In(const std::string& netns, std::function<R()> work) {
  std::promise<R> result;
  std::thread thread([&] {
    if (!netns.empty()) {
      Fd fd(open(("/run/netns/" + netns).c_str(), O_RDONLY | O_CLOEXEC));
      KEELSON_CHECK(setns(fd.get(), CLONE_NEWNET) == 0, "setns ", netns, ": ", strerror(errno));
    }
    result.set_value(work());
  });
  thread.join();
  return result.get_future().get();
}

sockaddr_in SocketAddress(const std::string& ip, int port) {
  sockaddr_in out{.sin_family = AF_INET, .sin_port = htons(static_cast<uint16_t>(port))};
  inet_pton(AF_INET, ip.c_str(), &out.sin_addr);
  return out;
}

Fd NewSocket(int type) {
  Fd fd(socket(AF_INET, type | SOCK_CLOEXEC, 0));
  timeval timeout{.tv_sec = 0, .tv_usec = kDialTimeoutMs * 1000};
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
  setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
  return fd;
}

std::string Reason(int error) {
  if (error == ECONNREFUSED) return "refused";
  if (error == EAGAIN || error == EINPROGRESS || error == ETIMEDOUT) return "timeout";
  return strerror(error);
}

std::string Receive(int fd) {
  char buffer[2048];
  ssize_t n = recv(fd, buffer, sizeof(buffer), 0);
  return n < 0 ? Reason(errno) : std::string(buffer, static_cast<size_t>(n));
}

// "SERVER CLIENT-ADDRESS", or "refused", "timeout".
std::string Dial(const std::string& netns, const std::string& ip, int port) {
  return In<std::string>(netns, [=]() -> std::string {
    Fd fd = NewSocket(SOCK_STREAM);
    sockaddr_in to = SocketAddress(ip, port);
    if (connect(fd.get(), reinterpret_cast<sockaddr*>(&to), sizeof(to)) != 0) return Reason(errno);
    return Receive(fd.get());
  });
}

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

// Answers TCP connections and UDP datagrams with its name and the client's address until destroyed.
class Server {
 public:
  Server(std::string netns, std::string name, std::string ip, int port)
      : name_(std::move(name)), stop_(eventfd(0, EFD_CLOEXEC)) {
    std::promise<void> ready;
    thread_ = std::thread([this, netns, ip, port, &ready] {
      if (!netns.empty()) {
        Fd fd(open(("/run/netns/" + netns).c_str(), O_RDONLY | O_CLOEXEC));
        KEELSON_CHECK(setns(fd.get(), CLONE_NEWNET) == 0, "setns");
      }
      Serve(ip, port, &ready);
    });
    ready.get_future().wait();
  }
  ~Server() {
    eventfd_write(stop_.get(), 1);
    thread_.join();
  }

 private:
  void Serve(const std::string& ip, int port, std::promise<void>* ready) {
    Fd tcp(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)),
        udp(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    int on = 1;
    setsockopt(tcp.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    sockaddr_in at = SocketAddress(ip, port);
    KEELSON_CHECK(bind(tcp.get(), reinterpret_cast<sockaddr*>(&at), sizeof(at)) == 0, "bind ", name_);
    KEELSON_CHECK(bind(udp.get(), reinterpret_cast<sockaddr*>(&at), sizeof(at)) == 0, "bind ", name_);
    listen(tcp.get(), 128);
    ready->set_value();
    pollfd fds[3] = {{tcp.get(), POLLIN, 0}, {udp.get(), POLLIN, 0}, {stop_.get(), POLLIN, 0}};
    while (poll(fds, 3, -1) > 0 && (fds[2].revents & POLLIN) == 0) {
      sockaddr_in peer{};
      socklen_t size = sizeof(peer);
      if ((fds[0].revents & POLLIN) != 0) {
        Fd connection(accept4(tcp.get(), reinterpret_cast<sockaddr*>(&peer), &size, SOCK_CLOEXEC));
        if (connection.valid()) WriteAll(connection.get(), Answer(peer)).IgnoreError();
      }
      if ((fds[1].revents & POLLIN) != 0) {
        char buffer[512];
        if (recvfrom(udp.get(), buffer, sizeof(buffer), 0, reinterpret_cast<sockaddr*>(&peer), &size) >= 0) {
          std::string answer = Answer(peer);
          sendto(udp.get(), answer.data(), answer.size(), 0, reinterpret_cast<sockaddr*>(&peer), size);
        }
      }
    }
  }
  std::string Answer(const sockaddr_in& peer) const {
    char text[INET_ADDRSTRLEN];
    inet_ntop(AF_INET, &peer.sin_addr, text, sizeof(text));
    return StrCat(name_, " ", text);
  }
  std::string name_;
  Fd stop_;
  std::thread thread_;
};

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
  Running() : api_(env_) {
    loop_ = std::thread([this] { env_.Run(); });
  }
  ~Running() {
    if (proxy_ != nullptr) Wait([this] { return StopTask(); });
    env_.Stop();
    loop_.join();
  }
  absl::Status Start() {
    ProxyOptions o;
    o.node_name = "node";
    o.node_pod_cidrs = {*net::Cidr::Parse("10.244.0.0/24")};
    o.cluster_cidrs = {*net::Cidr::Parse("10.244.0.0/16")};
    o.service_cidrs = {*net::Cidr::Parse("10.96.0.0/12")};
    o.dns_address = *net::IpAddress::Parse("10.96.0.10");
    o.resolv_conf = "/nonexistent";
    std::promise<absl::Status> started;
    OnLoop([&] {
      proxy_ = std::make_unique<Proxy>(env_, api_, o);
      started.set_value(proxy_->Start());
    });
    return started.get_future().get();
  }
  void Put(const google::protobuf::Message& object) {
    OnLoop([&] { api_.Put(object); });
  }
  bool synced() {
    bool out = false;
    OnLoop([&] { out = proxy_->synced(); });
    return out;
  }
  absl::Status Cleanup() {
    std::promise<absl::Status> done;
    boost::asio::post(env_.executor(), [&] { scope_.Spawn("cleanup", CleanupTask(&done)); });
    return done.get_future().get();
  }

 private:
  void OnLoop(std::function<void()> work) {
    std::promise<void> done;
    boost::asio::post(env_.executor(), [&] {
      work();
      done.set_value();
    });
    done.get_future().wait();
  }
  Task<void> CleanupTask(std::promise<absl::Status>* done) {
    Task<absl::Status> cleanup = proxy_->Cleanup();
    absl::Status status = co_await std::move(cleanup);
    done->set_value(status);
  }
  Task<void> StopTask() {
    Task<void> stop = proxy_->Stop();
    co_await std::move(stop);
    stopped_.set_value();
  }
  void Wait(std::function<Task<void>()> task) {
    boost::asio::post(env_.executor(), [this, task] { scope_.Spawn("stop", task()); });
    stopped_.get_future().wait();
    std::promise<void> closed;
    boost::asio::post(env_.executor(), [&] { closing_.Spawn("close", Close(&closed)); });
    closed.get_future().wait();
    while (true) {
      bool live = false;
      OnLoop([&] { live = closing_.live() != 0; });
      if (!live) break;
    }
    OnLoop([this] { proxy_.reset(); });
  }
  Task<void> Close(std::promise<void>* closed) {
    Task<void> close = scope_.Close();
    co_await std::move(close);
    closed->set_value();
  }

  RealEnv env_{Paths{}};
  client::FakeApiClient api_;
  Scope scope_{env_.executor()}, closing_{env_.executor()};
  std::unique_ptr<Proxy> proxy_;
  std::promise<void> stopped_;
  std::thread loop_;
};

template <class Condition>
bool Eventually(Condition condition, int limit_ms = 3000) {
  auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(limit_ms);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return true;
}

void AddPod(int number) {
  std::string n = std::to_string(number), ns = "pod" + n, ip = "10.244.0." + n;
  ASSERT_EQ(Sh("ip netns add " + ns), 0);
  ASSERT_EQ(Sh("ip link add veth" + n + " type veth peer name eth0 netns " + ns), 0);
  // As the ptp plugin leaves it: host routes only, nothing on the same subnet.
  ASSERT_EQ(Sh("ip addr add 10.244.0.1/32 dev veth" + n + " && ip link set veth" + n + " up"), 0);
  ASSERT_EQ(Sh("ip -n " + ns + " link set lo up && ip -n " + ns + " addr add " + ip +
               "/32 dev eth0 && ip -n " + ns + " link set eth0 up"),
            0);
  ASSERT_EQ(Sh("ip -n " + ns + " route add 10.244.0.1 dev eth0 && ip -n " + ns +
               " route add default via 10.244.0.1"),
            0);
  ASSERT_EQ(Sh("ip route add " + ip + "/32 dev veth" + n), 0);
}

class ProxyLiveTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (geteuid() != 0) return;
    // Threads made from here on share these; other processes see nothing of them.
    if (unshare(CLONE_NEWNET | CLONE_NEWNS) != 0) return;
    ASSERT_EQ(mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
    ASSERT_EQ(mount("none", "/run", "tmpfs", 0, nullptr), 0);
    if (Sh("nft list tables") != 0 || Sh("ip link set lo up") != 0) return;
    Sh("echo 0 > /proc/sys/net/bridge/bridge-nf-call-iptables");
    AddPod(2);
    AddPod(3);
    ASSERT_EQ(Sh("ip netns add out && ip link add up0 type veth peer name eth0 netns out"), 0);
    ASSERT_EQ(Sh(StrCat("ip addr add ", kNodeAddress, "/24 dev up0 && ip link set up0 up")), 0);
    ASSERT_EQ(Sh("ip -n out addr add 192.168.77.2/24 dev eth0 && ip -n out link set eth0 up && ip -n out "
                 "link set lo up"),
              0);
    ASSERT_EQ(Sh("ip route add default via 192.168.77.2"), 0);
    usable_ = true;
  }
  static void TearDownTestSuite() {
    // The namespaces end with the process; their mounts are ours alone.
    for (const char* ns : {"pod2", "pod3", "pod4", "out"}) Sh(StrCat("ip netns del ", ns));
  }
  void SetUp() override {
    if (!usable_) GTEST_SKIP() << "needs root, nft and ip, and network namespaces";
    pods_.push_back(std::make_unique<Server>("pod2", "pod2", "0.0.0.0", 8080));
    pods_.push_back(std::make_unique<Server>("pod3", "pod3", "0.0.0.0", 8080));
    proxy_ = NewProxy();
    ASSERT_TRUE(Eventually([&] { return proxy_->synced(); }));
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
  Server outside("out", "outside", "0.0.0.0", 9000);
  EXPECT_EQ(Dial("pod2", "192.168.77.2", 9000), StrCat("outside ", kNodeAddress));
  EXPECT_EQ(Dial("pod2", "10.244.0.3", 8080), "pod3 10.244.0.2");
}

// CVE-2020-8558: route_localnet would let a pod talk to what listens on the host's loopback.
TEST_F(ProxyLiveTest, PodsAndOutsideCannotReachTheHostsLoopback) {
  Server secret(kHost, "secret", kLoopback, 9001);
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
  AddPod(4);
  Server late("pod4", "pod4", "0.0.0.0", 8080);
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
    ASSERT_TRUE(Eventually([&] { return proxy_->synced(); }));
  }
  stop = true;
  client.join();
  EXPECT_EQ(bad, "");
  EXPECT_GT(good, 10);
}

TEST_F(ProxyLiveTest, UdpFlowsFollowTheEndpoint) {
  proxy_->Put(MakeService("dns", "10.96.0.7", 53, 30053, "UDP"));
  proxy_->Put(MakeSlice("dns", {"10.244.0.3"}, "UDP"));
  Fd fd = In<Fd>("pod2", [] { return NewSocket(SOCK_DGRAM); });
  sockaddr_in to = SocketAddress("10.96.0.7", 53);
  ASSERT_EQ(connect(fd.get(), reinterpret_cast<sockaddr*>(&to), sizeof(to)), 0);
  auto ask = [&]() -> std::string {
    if (send(fd.get(), "x", 1, 0) != 1) return Reason(errno);
    return Receive(fd.get());
  };
  EXPECT_TRUE(Eventually([&] { return ask() == "pod3 10.244.0.2"; })) << ask();
  // The same socket, so the same flow: without the old entry's removal it would stay with pod3.
  proxy_->Put(MakeSlice("dns", {"10.244.0.2"}, "UDP"));
  EXPECT_TRUE(Eventually([&] { return ask() == "pod2 10.244.0.1"; })) << ask();
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
    return In<std::string>(netns, []() -> std::string {
      std::string query(
          "\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03web\x07"
          "default\x03svc\x07"
          "cluster\x05local\0\0\x01\0\x01",
          47);
      Fd fd = NewSocket(SOCK_DGRAM);
      sockaddr_in to = SocketAddress("10.96.0.10", 53);
      if (connect(fd.get(), reinterpret_cast<sockaddr*>(&to), sizeof(to)) != 0) return Reason(errno);
      if (send(fd.get(), query.data(), query.size(), 0) < 0) return Reason(errno);
      std::string answer = Receive(fd.get());
      return answer.size() < 16 ? answer : answer.substr(answer.size() - 4);
    });
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
