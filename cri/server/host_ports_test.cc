#include "cri/server/host_ports.h"

#include <absl/strings/str_split.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "base/fake_env.h"
#include "base/fd.h"
#include "base/strings.h"
#include "net/host_ip.h"

namespace keelson::cri {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

HostPortSandbox Web() {
  return {.pod_name = "default/web",
          .ips = {"10.244.0.2", "fd00::2"},
          .ports = {{.protocol = "tcp", .host_port = 8080, .container_port = 80},
                    {.protocol = "udp", .host_ip = "192.168.1.1", .host_port = 53, .container_port = 5353}}};
}

TEST(HostPortsRender, WholeTable) {
  EXPECT_EQ(RenderHostPorts("t", {{"abc", Web()}}, {"10.244.0.0/24", "fd00::/64", "nonsense; flush ruleset"},
                            {"cni0", "we\"ird"}),
            R"(add table inet t
delete table inet t
table inet t {
  map one4 {
    typeof ip daddr . meta l4proto . th dport : ip daddr . th dport
  }
  map any4 {
    typeof meta l4proto . th dport : ip daddr . th dport
  }
  set targets4 {
    type ipv4_addr . inet_proto . inet_service
  }
  set hairpin4 {
    type ipv4_addr . ipv4_addr
  }
  map one6 {
    typeof ip6 daddr . meta l4proto . th dport : ip6 daddr . th dport
  }
  map any6 {
    typeof meta l4proto . th dport : ip6 daddr . th dport
  }
  set targets6 {
    type ipv6_addr . inet_proto . inet_service
  }
  set hairpin6 {
    type ipv6_addr . ipv6_addr
  }
  set localnet_links {
    type ifname
  }
  chain dispatch {
    dnat ip to ip daddr . meta l4proto . th dport map @one4
    ip daddr 127.0.0.0/8 ip daddr != 127.0.0.1 return
    meta nfproto ipv4 dnat ip to meta l4proto . th dport map @any4
    dnat ip6 to ip6 daddr . meta l4proto . th dport map @one6
    ip6 daddr ::1 return
    meta nfproto ipv6 dnat ip6 to meta l4proto . th dport map @any6
  }
  chain nat_prerouting {
    type nat hook prerouting priority -100; policy accept;
    fib daddr type local jump dispatch
  }
  chain nat_output {
    type nat hook output priority -100; policy accept;
    fib daddr type local jump dispatch
  }
  chain translated {
    ip saddr 127.0.0.0/8 masquerade
    ip saddr . ip daddr @hairpin4 masquerade
    ip6 saddr . ip6 daddr @hairpin6 masquerade
    meta iifkind "bridge" meta oifkind "bridge" masquerade
  }
  chain nat_postrouting {
    type nat hook postrouting priority 100; policy accept;
    ct status dnat ip daddr . meta l4proto . th dport @targets4 jump translated
    ct status dnat ip6 daddr . meta l4proto . th dport @targets6 jump translated
    ip saddr { 10.244.0.0/24 } ip daddr != { 10.244.0.0/24, 224.0.0.0/4 } masquerade
    ip6 saddr { fd00::/64 } ip6 daddr != { fd00::/64, ff00::/8 } masquerade
  }
  chain guard_localhost {
    type filter hook prerouting priority -300; policy accept;
    iifname != "lo" ip daddr 127.0.0.0/8 drop
    iifname != "lo" ip saddr 127.0.0.0/8 drop
  }
}
add element inet t any4 {
  tcp . 8080 comment "default/web" : 10.244.0.2 . 80
}
add element inet t any6 {
  tcp . 8080 comment "default/web" : fd00::2 . 80
}
add element inet t hairpin4 {
  10.244.0.2 . 10.244.0.2
}
add element inet t hairpin6 {
  fd00::2 . fd00::2
}
add element inet t localnet_links {
  "cni0"
}
add element inet t one4 {
  192.168.1.1 . udp . 53 comment "default/web" : 10.244.0.2 . 5353
}
add element inet t targets4 {
  10.244.0.2 . tcp . 80,
  10.244.0.2 . udp . 5353
}
add element inet t targets6 {
  fd00::2 . tcp . 80
}
)");
}

TEST(HostPortsRender, NothingIsNoTable) {
  EXPECT_EQ(RenderHostPorts("t", {}), "add table inet t\ndelete table inet t\n");
  // The guard stays while a link is open; masquerading alone needs the table.
  EXPECT_THAT(RenderHostPorts("t", {}, {}, {"cni0"}), HasSubstr("guard_localhost"));
  EXPECT_THAT(RenderHostPorts("t", {}, {"10.0.0.0/8"}), HasSubstr("masquerade"));
}

TEST(HostPortsRender, NothingHostileGetsIn) {
  HostPortSandbox bad = Web();
  bad.pod_name = "a\" : 1.2.3.4 . 5 }\nflush ruleset";
  bad.ports.push_back({.protocol = "tcp; flush ruleset", .host_port = 1, .container_port = 1});
  bad.ports.push_back({.protocol = "tcp", .host_ip = "1.2.3.4 }", .host_port = 1, .container_port = 1});
  std::string script = RenderHostPorts("t", {{"x", bad}});
  EXPECT_THAT(script, Not(HasSubstr("flush ruleset")));
  EXPECT_THAT(script, HasSubstr("comment \"a____1.2.3.4_._5___flush_ruleset\""));
}

TEST(HostPortsRender, Change) {
  HostPortSandbox other{.pod_name = "default/db",
                        .ips = {"10.244.0.3"},
                        .ports = {{.protocol = "sctp", .host_port = 9, .container_port = 9}}};
  HostPortState before = {{"abc", Web()}}, after = {{"def", other}};
  EXPECT_EQ(RenderHostPortsChange("t", before, before), "");
  EXPECT_EQ(RenderHostPortsChange("t", before, after, {"v1"}, {"v2"}),
            R"(delete element inet t any4 {
  tcp . 8080
}
delete element inet t any6 {
  tcp . 8080
}
delete element inet t hairpin4 {
  10.244.0.2 . 10.244.0.2
}
delete element inet t hairpin6 {
  fd00::2 . fd00::2
}
delete element inet t localnet_links {
  "v1"
}
delete element inet t one4 {
  192.168.1.1 . udp . 53
}
delete element inet t targets4 {
  10.244.0.2 . tcp . 80,
  10.244.0.2 . udp . 5353
}
delete element inet t targets6 {
  fd00::2 . tcp . 80
}
add element inet t any4 {
  sctp . 9 comment "default/db" : 10.244.0.3 . 9
}
add element inet t hairpin4 {
  10.244.0.3 . 10.244.0.3
}
add element inet t localnet_links {
  "v2"
}
add element inet t targets4 {
  10.244.0.3 . sctp . 9
}
)");
  // The pod's address is another one now: same key, deleted and added.
  HostPortState moved = {{"abc", Web()}};
  moved["abc"].ips = {"10.244.0.9", "fd00::2"};
  std::string change = RenderHostPortsChange("t", before, moved);
  EXPECT_THAT(change, HasSubstr("delete element inet t any4 {\n  tcp . 8080\n}"));
  EXPECT_THAT(change, HasSubstr("10.244.0.9 . 80"));
  EXPECT_THAT(change, Not(HasSubstr("any6")));
}

// What the scheduler and the kubelet let onto one node together, the node's rules can do.
TEST(HostPortsCheck, NoStricterThanTheScheduler) {
  const std::string addresses[] = {
      "",   "0.0.0.0",     "127.0.0.1",     "192.0.2.1",  "192.0.2.2", "::ffff:192.0.2.1",
      "::", "2001:db8::1", "2001:db8:0::1", "2001:db8::2"};
  for (const std::string& a : addresses) {
    for (const std::string& b : addresses) {
      HostPortSandbox one{
          .pod_name = "default/one", .ips = {"10.244.0.2", "fd00::2"}, .ports = {{"tcp", a, 80, 1}}};
      HostPortSandbox two{
          .pod_name = "default/two", .ips = {"10.244.0.3", "fd00::3"}, .ports = {{"tcp", b, 80, 1}}};
      if (net::HostIpsOverlap(net::CanonicalHostIp(a), net::CanonicalHostIp(b))) continue;
      absl::Status together = CheckHostPorts({{"one", one}}, two);
      EXPECT_TRUE(together.ok()) << a << " and " << b << ": " << together;
    }
  }
}

TEST(HostPortsCheck, Collisions) {
  HostPortState state = {{"abc", Web()}};
  struct Row {
    HostPort port;
    std::vector<std::string> ips;
    const char* words;  // "": fine
  } rows[] = {
      {{"tcp", "", 8080, 1}, {"10.244.0.3"}, "host port 8080/tcp is taken by pod default/web"},
      {{"tcp", "0.0.0.0", 8080, 1}, {"10.244.0.3"}, "taken by pod default/web"},
      {{"tcp", "127.0.0.1", 8080, 1}, {"10.244.0.3"}, "host port 8080/tcp on 127.0.0.1 is taken"},
      {{"tcp", "::", 8080, 1}, {"fd00::3"}, "taken"},
      {{"udp", "::ffff:192.168.1.1", 53, 1}, {"10.244.0.3"}, "taken"},
      {{"udp", "", 8080, 1}, {"10.244.0.3"}, ""},
      {{"sctp", "", 8080, 1}, {"10.244.0.3"}, ""},
      {{"tcp", "", 8081, 80}, {"10.244.0.3"}, ""},
      {{"udp", "192.168.1.1", 53, 1}, {"10.244.0.3"}, "taken"},
      {{"udp", "192.168.1.2", 53, 1}, {"10.244.0.3"}, ""},
      {{"udp", "", 53, 1}, {"10.244.0.3"}, "taken"},
      {{"udp", "", 53, 1}, {"fd00::3"}, ""},  // the other family
      {{"TCP", "", 1, 1}, {"10.244.0.3"}, "protocol must be"},
      {{"tcp", "", 0, 1}, {"10.244.0.3"}, "ports must be"},
      {{"tcp", "", 1, 0}, {"10.244.0.3"}, "ports must be"},
      {{"tcp", "localhost", 1, 1}, {"10.244.0.3"}, "hostIP is no IP address"},
      {{"tcp", "::1", 1, 1}, {"fd00::3"}, "::1 cannot lead to a pod"},
      {{"tcp", "224.0.0.1", 1, 1}, {"10.244.0.3"}, "multicast"},
      {{"tcp", "fd00::1", 1, 1}, {"10.244.0.3"}, "no address of that family"},
      {{"tcp", "", 1, 1}, {}, "no address"},
      {{"tcp", "", 1, 1}, {"pod"}, "pod address"},
  };
  for (const Row& row : rows) {
    absl::Status status =
        CheckHostPorts(state, {.pod_name = "default/x", .ips = row.ips, .ports = {row.port}});
    EXPECT_EQ(status.ok(), *row.words == '\0') << row.port.host_port << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(row.words));
  }
  HostPortSandbox twice{.pod_name = "default/x",
                        .ips = {"10.244.0.3"},
                        .ports = {{"tcp", "", 1, 1}, {"tcp", "127.0.0.1", 1, 2}}};
  EXPECT_THAT(std::string(CheckHostPorts({}, twice).message()), HasSubstr("asked for twice"));
}

TEST(HostPortsCheck, ListenersOfTheHost) {
  auto socket = [](const char* address, uint16_t port, bool udp) {
    return net::ListeningSocket{.udp = udp, .address = *net::IpAddress::Parse(address), .port = port};
  };
  struct Row {
    net::ListeningSocket socket;
    bool shadowed;
  } rows[] = {
      {socket("0.0.0.0", 8080, false), true},
      {socket("::", 8080, false), true},
      {socket("127.0.0.1", 8080, false), true},
      {socket("192.168.1.9", 8080, false), true},
      {socket("::ffff:127.0.0.1", 8080, false), true},
      {socket("fd00::9", 8080, false), true},
      {socket("127.0.0.53", 8080, false), false},  // a stub resolver: not caught by the rules
      {socket("::1", 8080, false), false},
      {socket("0.0.0.0", 8080, true), false},
      {socket("0.0.0.0", 8081, false), false},
      {socket("0.0.0.0", 53, true), true},
      {socket("192.168.1.1", 53, true), true},
      {socket("192.168.1.2", 53, true), false},
      {socket("127.0.0.53", 53, true), false},
      {socket("::", 53, true), true},
  };
  for (const Row& row : rows) {
    EXPECT_EQ(FindShadowed(Web(), {row.socket}) != nullptr, row.shadowed)
        << row.socket.address.ToString() << " " << row.socket.port << " " << row.socket.udp;
  }
}

class HostPortsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/keelson-host-ports-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    dir_ = name;
    ASSERT_TRUE(MakeDirs(dir_ + "/net").ok());
    Write("net/tcp", "");
    AddLink("veth1");
    env_.set_run_handler([this](const SubprocessOptions& o) { return Play(o); });
    options_.table = "t";
    options_.watch = false;
    options_.proc_root = dir_;
    options_.list_routes = [] {
      std::vector<net::Route> routes(3);
      routes[0].link_name = "up0";
      routes[1].destination = *net::Cidr::Parse("10.244.0.0/16");
      routes[1].link_name = "tunnel";
      routes[2].destination = *net::Cidr::Parse("10.244.0.2/32");
      routes[2].link_name = "veth1";
      return absl::StatusOr<std::vector<net::Route>>(routes);
    };
    options_.list_addresses = [] {
      return absl::StatusOr<std::vector<net::InterfaceAddress>>(
          {{.link_name = "up0", .cidr = *net::Cidr::Parse("192.168.1.1/24")},
           {.link_name = "up0", .cidr = *net::Cidr::Parse("fd01::1/64")}});
    };
    options_.delete_flows = [this](const std::vector<net::StaleFlow>& flows) {
      for (const net::StaleFlow& f : flows)
        flows_.push_back(StrCat(f.vip.ToString(), ":", f.port, ">", f.endpoint.ToString()));
      return absl::StatusOr<size_t>(flows.size());
    };
    ports_ = NewHostPorts(env_, options_);
  }
  void TearDown() override {
    env_.AwaitVoid(ports_->Stop());
    ports_.reset();
    RemoveTree(dir_).IgnoreError();
  }
  void Write(const std::string& path, std::string_view text) {
    ASSERT_TRUE(WriteFileAtomic(StrCat(dir_, "/", path), text, 0644, false).ok());
  }
  std::string LinkFile(const std::string& link) {
    return StrCat("sys/net/ipv4/conf/", link, "/route_localnet");
  }
  void AddLink(const std::string& link) {
    ASSERT_TRUE(MakeDirs(StrCat(dir_, "/sys/net/ipv4/conf/", link)).ok());
    Write(LinkFile(link), "0\n");
  }
  absl::StatusOr<SubprocessResult> Play(const SubprocessOptions& o) {
    SubprocessResult result;
    result.exit_code = 0;
    if (o.argv.size() > 1 && o.argv[1] == "list") {
      result.stdout_data = listed_;
      result.exit_code = listed_.empty() ? 1 : 0;
      return result;
    }
    scripts_.push_back(o.stdin_data);
    if (missing_) return absl::NotFoundError("nft");
    if (failures_ > 0) {
      --failures_;
      result.exit_code = 1;
      result.stderr_data = "Error: no such file";
    }
    // The rules are there before the link is opened.
    if (ReadFile(dir_ + "/" + LinkFile("veth1")).ok()) {
      EXPECT_EQ(*ReadFile(dir_ + "/" + LinkFile("veth1")), opened_ ? "1\n" : "0\n");
    }
    return result;
  }
  absl::Status Add(const std::string& id, HostPortSandbox sandbox) {
    return env_.Await(ports_->Add(id, std::move(sandbox)));
  }
  absl::Status Remove(const std::string& id) { return env_.Await(ports_->Remove(id)); }
  static HostPortSandbox Db() {
    return {.pod_name = "default/db", .ips = {"10.244.0.3"}, .ports = {{"udp", "192.168.1.1", 54, 54}}};
  }

  FakeEnv env_;
  std::string dir_, listed_;
  HostPortsOptions options_;
  std::unique_ptr<HostPorts> ports_;
  std::vector<std::string> scripts_, flows_;
  int failures_ = 0;
  bool missing_ = false, opened_ = false;
};

TEST_F(HostPortsTest, LifeOfTwoSandboxes) {
  ASSERT_TRUE(env_.Await(ports_->Sync({})).ok());
  ASSERT_EQ(scripts_.size(), 1u);
  EXPECT_EQ(scripts_[0], RenderHostPorts("t", {}));
  ASSERT_TRUE(Add("abc", Web()).ok());
  ASSERT_EQ(scripts_.size(), 2u);
  EXPECT_EQ(scripts_[1], RenderHostPorts("t", {{"abc", Web()}}, {}, {"veth1"}));
  EXPECT_EQ(*ReadFile(dir_ + "/" + LinkFile("veth1")), "1\n");
  EXPECT_THAT(flows_, testing::ElementsAre("192.168.1.1:53>0.0.0.0"));
  opened_ = true;
  Write(LinkFile("veth1"), "1\n");
  ASSERT_TRUE(Add("def", Db()).ok());
  EXPECT_EQ(scripts_[2], RenderHostPortsChange("t", {{"abc", Web()}}, {{"abc", Web()}, {"def", Db()}}));
  // Once more: nothing to load.
  ASSERT_TRUE(Add("def", Db()).ok());
  EXPECT_EQ(scripts_.size(), 3u);
  flows_.clear();
  ASSERT_TRUE(Remove("def").ok());
  EXPECT_EQ(scripts_[3], RenderHostPortsChange("t", {{"abc", Web()}, {"def", Db()}}, {{"abc", Web()}}));
  EXPECT_THAT(flows_, testing::ElementsAre("0.0.0.0:54>10.244.0.3"));
  ASSERT_TRUE(Remove("def").ok());
  EXPECT_EQ(scripts_.size(), 4u);
}

TEST_F(HostPortsTest, TheTableGoesWithTheLastLink) {
  ASSERT_TRUE(Add("abc", Web()).ok());
  opened_ = true;
  // The link (a bridge, say) stays open: so does the guard.
  ASSERT_TRUE(Remove("abc").ok());
  EXPECT_THAT(scripts_.back(), Not(HasSubstr("delete table")));
  ASSERT_TRUE(Add("abc", Web()).ok());
  ASSERT_EQ(::remove((dir_ + "/" + LinkFile("veth1")).c_str()), 0);
  ASSERT_TRUE(Remove("abc").ok());
  EXPECT_EQ(scripts_.back(), RenderHostPorts("t", {}));
}

TEST_F(HostPortsTest, RefusalsLoadNothing) {
  ASSERT_TRUE(Add("abc", Web()).ok());
  opened_ = true;
  HostPortSandbox thief = Db();
  thief.ports = {{"tcp", "", 8080, 1}};
  EXPECT_EQ(Add("def", thief).code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(scripts_.size(), 1u);
  ASSERT_TRUE(Add("ghi", {.pod_name = "default/none", .ips = {"10.244.0.4"}}).ok());
  EXPECT_EQ(scripts_.size(), 1u);
  // sl local rem st ... inode
  Write("net/tcp",
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
        "   0: 0100007F:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 77 1\n");
  thief.ports = {{"tcp", "", 8081, 1}};
  absl::Status status = Add("def", thief);
  EXPECT_EQ(status.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("pod default/db: host port 8081/tcp is in use on this host by an unknown process, "
                        "listening on 127.0.0.1"));
  EXPECT_EQ(scripts_.size(), 1u);
  // Given back: somebody else may have it once the process is gone.
  Write("net/tcp", "");
  EXPECT_TRUE(Add("jkl", thief).ok());
}

TEST_F(HostPortsTest, AFailedChangeIsLoadedWholeAndAFailedLoadHoldsNothing) {
  ASSERT_TRUE(Add("abc", Web()).ok());
  opened_ = true;
  failures_ = 1;
  ASSERT_TRUE(Add("def", Db()).ok());
  ASSERT_EQ(scripts_.size(), 3u);
  EXPECT_EQ(scripts_[2], RenderHostPorts("t", {{"abc", Web()}, {"def", Db()}}, {}, {"veth1"}));
  failures_ = 2;
  HostPortSandbox third = Db();
  third.pod_name = "default/third";
  third.ports[0].host_port = 55;
  absl::Status status = Add("ghi", third);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("no such file"));
  EXPECT_TRUE(Add("jkl", third).ok());
  EXPECT_EQ(scripts_.back(),
            RenderHostPorts("t", {{"abc", Web()}, {"def", Db()}, {"jkl", third}}, {}, {"veth1"}));
  // What could not be removed is still held.
  failures_ = 2;
  EXPECT_FALSE(Remove("jkl").ok());
  EXPECT_EQ(Add("mno", third).code(), absl::StatusCode::kAlreadyExists);
  EXPECT_TRUE(Remove("jkl").ok());
  EXPECT_TRUE(Add("mno", third).ok());
}

Task<void> AddQuietly(HostPorts* ports, std::string id, HostPortSandbox sandbox, absl::Status* first) {
  Task<absl::Status> add = ports->Add(std::move(id), std::move(sandbox));
  absl::Status status = co_await std::move(add);
  first->Update(status);
}

// A cancelled Add holds nothing, and the next load takes away what it may have loaded.
TEST_F(HostPortsTest, ACancelledAddHoldsNothing) {
  absl::Status first;
  {
    Scope scope(env_.executor());
    scope.Spawn("add", AddQuietly(ports_.get(), "abc", Web(), &first));
    env_.AwaitVoid(scope.Close());
  }
  HostPortSandbox same = Web();
  same.pod_name = "default/other";
  scripts_.clear();
  EXPECT_TRUE(Add("def", same).ok());
  EXPECT_EQ(scripts_.back(), RenderHostPorts("t", {{"def", same}}, {}, {"veth1"}));
}

TEST_F(HostPortsTest, SyncTakesOverWhatAnEarlierLifeLeft) {
  listed_ =
      "table inet t {\n\tset localnet_links {\n\t\ttype ifname\n\t\telements = { \"cni0\",\n\t\t\t     "
      "\"veth8\" }\n\t}\n}\n";
  AddLink("cni0");
  Write(LinkFile("cni0"), "1\n");  // veth8 is gone
  HostPortSandbox broken = Db();
  broken.ports[0].protocol = "icmp";
  ASSERT_TRUE(env_.Await(ports_->Sync({{"abc", Web()}, {"bad", broken}})).ok());
  EXPECT_EQ(scripts_[0], RenderHostPorts("t", {{"abc", Web()}}, {}, {"cni0", "veth1"}));
  EXPECT_EQ(*ReadFile(dir_ + "/" + LinkFile("veth1")), "1\n");
  EXPECT_EQ(*ReadFile(dir_ + "/" + LinkFile("cni0")), "1\n");
}

TEST_F(HostPortsTest, WithoutNftOnlyPortsFail) {
  missing_ = true;
  EXPECT_TRUE(env_.Await(ports_->Sync({})).ok());
  EXPECT_EQ(Add("abc", Web()).code(), absl::StatusCode::kNotFound);
  options_.masquerade_cidrs = {"10.244.0.0"};
  env_.AwaitVoid(ports_->Stop());
  ports_ = NewHostPorts(env_, options_);
  EXPECT_EQ(env_.Await(ports_->Sync({})).code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace keelson::cri
