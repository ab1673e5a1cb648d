// Debian's plugins for real, in a mount and network namespace of this process' own. Needs root, ip and
// containernetworking-plugins; their leases go to a temporary folder.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>

#include "base/env.h"
#include "base/fd.h"
#include "base/strings.h"
#include "cri/cni/cni.h"
#include "cri/cni/config.h"
#include "cri/cni/record.h"

namespace keelson::cri {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr int kBurst = 30;

int Sh(const std::string& command) { return std::system(("{ " + command + "; } >/dev/null 2>&1").c_str()); }

std::string Output(const std::string& command, const std::string& file) {
  if (std::system(StrCat("{ ", command, "; } >", file, " 2>&1").c_str()) != 0) return "failed";
  return *ReadFile(file);
}

class CniLiveTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (geteuid() != 0 || access("/usr/lib/cni/ptp", X_OK) != 0) return;
    if (unshare(CLONE_NEWNET | CLONE_NEWNS) != 0) return;
    ASSERT_EQ(mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
    ASSERT_EQ(mount("none", "/run", "tmpfs", 0, nullptr), 0);
    usable_ = Sh("ip link set lo up") == 0;
  }
  void SetUp() override {
    if (!usable_) GTEST_SKIP() << "needs root, ip and containernetworking-plugins";
    char name[] = "/tmp/keelson-cni-live-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    dir_ = name;
    ASSERT_TRUE(MakeDirs(dir_ + "/net.d").ok());
    ASSERT_TRUE(MakeDirs(dir_ + "/bin").ok());
    Configure("");
    cni_ = *NewCni(env_, {.conf_dir = dir_ + "/net.d",
                          .bin_dirs = {dir_ + "/bin", "/usr/lib/cni"},
                          .cache_dir = dir_ + "/cache"});
    EXPECT_TRUE(NoLinks()) << Links();
  }
  void TearDown() override {
    if (!usable_) return;
    EXPECT_TRUE(NoLinks()) << "links are left: " << Links();
    EXPECT_EQ(Leases(), "") << "leases are left";
    EXPECT_EQ(Output(StrCat("ls ", dir_, "/cache"), dir_ + "/out"), "") << "records are left";
    EXPECT_THAT(*ReadFile("/proc/self/net/unix"), Not(HasSubstr("@")));  // CVE-2020-15257
    Sh("for n in /run/netns/*; do ip netns del $(basename $n); done");
    RemoveTree(dir_).IgnoreError();
  }
  void Configure(const std::string& more_plugins) {
    ASSERT_TRUE(WriteFileAtomic(
                    dir_ + "/net.d/10-test.conflist",
                    StrCat(R"({"cniVersion":"1.0.0","name":"test","plugins":[{"type":"ptp","ipMasq":false,)",
                           R"("ipam":{"type":"host-local","dataDir":")", dir_,
                           R"(/leases","ranges":[[{"subnet":"10.250.0.0/24"}],[{"subnet":"fd50::/64"}]],)",
                           R"("routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]}})", more_plugins, "]}"))
                    .ok());
  }
  CniAttachment Pod(const std::string& id) {
    std::string path = "/run/netns/" + id;
    if (access(path.c_str(), F_OK) != 0) {
      // As PinNamespaces leaves it. With duplicate address detection ADD of an IPv6 address takes 1.8 s.
      EXPECT_EQ(Sh(StrCat("ip netns add ", id, " && ip -n ", id, " link set lo up && ip netns exec ", id,
                          " sh -c 'echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad'")),
                0);
    }
    return {
        .container_id = id, .netns_path = path, .pod_name = id, .pod_namespace = "default", .pod_uid = "u"};
  }
  absl::StatusOr<CniResult> Add(CniAttachment a) {
    absl::StatusOr<CniResult> out = absl::UnknownError("");
    env_.RunUntilDone(AddTask(std::move(a), &out)).IgnoreError();
    return out;
  }
  Task<absl::Status> AddTask(CniAttachment a, absl::StatusOr<CniResult>* out) {
    Task<absl::StatusOr<CniResult>> add = cni_->Add(std::move(a));
    *out = co_await std::move(add);
    co_return out->status();
  }
  Task<void> AddQuietly(CniAttachment a, absl::Status* first) {
    Task<absl::StatusOr<CniResult>> add = cni_->Add(std::move(a));
    absl::StatusOr<CniResult> result = co_await std::move(add);
    first->Update(result.status());
  }
  Task<absl::Status> RunPlugin(std::string command, CniAttachment a, std::string input) {
    SubprocessOptions run;
    run.argv = {"/usr/lib/cni/ptp"};
    run.env = {"PATH=/usr/bin:/bin",
               "CNI_PATH=/usr/lib/cni",
               "CNI_IFNAME=eth0",
               "CNI_COMMAND=" + command,
               "CNI_CONTAINERID=" + a.container_id,
               "CNI_NETNS=" + a.netns_path};
    run.stdin_data = std::move(input);
    Task<absl::StatusOr<SubprocessResult>> task = env_.subprocess().Run(std::move(run));
    absl::StatusOr<SubprocessResult> result = co_await std::move(task);
    if (!result.ok()) co_return result.status();
    if (!result->ok()) co_return absl::InternalError(result->stdout_data);
    co_return absl::OkStatus();
  }
  // Cancelled as soon as the plugin hangs.
  Task<absl::Status> CancelledAdd(CniAttachment a) {
    absl::Status result = absl::CancelledError("");
    Scope scope(env_.executor());
    scope.Spawn("add", AddQuietly(std::move(a), &result));
    while (access((dir_ + "/hanging").c_str(), F_OK) != 0) {
      Task<void> sleep = env_.clock().Sleep(absl::Milliseconds(2));
      co_await std::move(sleep);
    }
    Task<void> close = scope.Close();
    co_await std::move(close);
    co_return result;
  }
  Task<absl::Status> AddAll(std::vector<CniAttachment> pods) {
    absl::Status first;
    Scope scope(env_.executor());
    for (const CniAttachment& pod : pods) scope.Spawn("add", AddQuietly(pod, &first));
    while (scope.live() != 0) {
      Task<void> sleep = env_.clock().Sleep(absl::Milliseconds(1));
      co_await std::move(sleep);
    }
    Task<void> close = scope.Close();
    co_await std::move(close);
    co_return first;
  }
  absl::Status Del(CniAttachment a) { return env_.RunUntilDone(cni_->Del(std::move(a))); }

  // The kernel takes the links of a namespace that is gone with it, but in its own time.
  bool NoLinks() {
    constexpr int kTries = 500;
    for (int i = 0; i < kTries && Links() != ""; ++i) usleep(10'000);
    return Links() == "";
  }
  std::string Links() {
    return Output("ip -br link show type veth; ip -br link show type bridge", dir_ + "/out");
  }
  std::string Leases() {
    return Output(StrCat("find ", dir_, "/leases -name '10.*' -o -name 'fd*' | sort || true"), dir_ + "/out");
  }

  static bool usable_;
  RealEnv env_{Paths{}};
  std::string dir_ = "/tmp";
  std::unique_ptr<Cni> cni_;
};
bool CniLiveTest::usable_ = false;

TEST_F(CniLiveTest, AddCheckDel) {
  ASSERT_TRUE(cni_->Ready().ok()) << cni_->Ready();
  absl::StatusOr<CniResult> result = Add(Pod("a"));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_THAT(result->ips, testing::ElementsAre("10.250.0.2", "fd50::2"));
  EXPECT_THAT(Output("ip -n a -br addr show eth0", dir_ + "/out"), HasSubstr("10.250.0.2/"));
  EXPECT_TRUE(env_.RunUntilDone(cni_->Check(Pod("a"))).ok());
  ASSERT_EQ(Sh("ip -n a addr flush dev eth0"), 0);
  absl::Status broken = env_.RunUntilDone(cni_->Check(Pod("a")));
  EXPECT_THAT(std::string(broken.message()), HasSubstr("check the network of pod default/a: plugin ptp: "));
  EXPECT_TRUE(Del(Pod("a")).ok());
  EXPECT_TRUE(Del(Pod("a")).ok());
}

TEST_F(CniLiveTest, AFailingPluginLeavesNothing) {
  Configure(R"(,{"type":"tuning","sysctl":{"net.ipv4.conf.IFNAME.no_such_thing":"1"}})");
  absl::StatusOr<CniResult> result = Add(Pod("a"));
  EXPECT_FALSE(result.ok());
  EXPECT_THAT(std::string(result.status().message()),
              HasSubstr("attach pod default/a to the network test: plugin tuning: "));
  EXPECT_TRUE(NoLinks()) << Links();
  EXPECT_EQ(Leases(), "");
  Configure(R"(,{"type":"tuning","sysctl":{"net.ipv4.conf.IFNAME.arp_filter":"1"}})");
  result = Add(Pod("a"));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(Output("ip netns exec a cat /proc/sys/net/ipv4/conf/eth0/arp_filter", dir_ + "/out"), "1\n");
  EXPECT_TRUE(Del(Pod("a")).ok());
}

// What the kernel does to packets afterwards, as tc shows it.
TEST_F(CniLiveTest, ThePluginShapesAPodsBandwidth) {
  if (Sh("ip link add keelson-ifb type ifb && ip link del keelson-ifb && tc qdisc show") != 0)
    GTEST_SKIP() << "this kernel has no ifb, or there is no tc";
  Configure(R"(,{"type":"bandwidth","capabilities":{"bandwidth":true}})");
  CniAttachment pod = Pod("a");
  pod.ingress_rate_bits = 5'000'000;
  pod.egress_rate_bits = 3'000'000;
  absl::StatusOr<CniResult> result = Add(pod);
  ASSERT_TRUE(result.ok()) << result.status();
  const std::string shaping = Output("tc qdisc show", dir_ + "/out");
  EXPECT_THAT(shaping, testing::ContainsRegex("qdisc tbf [^\n]* dev veth[^\n]* rate 5Mbit"));
  EXPECT_THAT(shaping, testing::ContainsRegex("qdisc tbf [^\n]* dev bwp[^\n]* rate 3Mbit"));
  EXPECT_THAT(shaping, testing::ContainsRegex("qdisc ingress [^\n]* dev veth"));
  absl::Status checked = env_.RunUntilDone(cni_->Check(pod));
  EXPECT_TRUE(checked.ok()) << checked;
  EXPECT_TRUE(Del(pod).ok());
  EXPECT_EQ(Output("ip -br link show type ifb", dir_ + "/out"), "");
  // A pod that asks for nothing is left alone.
  ASSERT_TRUE(Add(Pod("b")).ok());
  EXPECT_THAT(Output("tc qdisc show", dir_ + "/out"), Not(HasSubstr("tbf")));
  EXPECT_TRUE(Del(Pod("b")).ok());
}

TEST_F(CniLiveTest, NoAddressLeft) {
  ASSERT_EQ(Sh(StrCat("sed -i s,10.250.0.0/24,10.250.0.0/30, ", dir_, "/net.d/10-test.conflist")), 0);
  ASSERT_TRUE(Add(Pod("a")).ok());
  absl::StatusOr<CniResult> full = Add(Pod("b"));
  EXPECT_THAT(std::string(full.status().message()), HasSubstr("no IP addresses available"));
  EXPECT_TRUE(Del(Pod("a")).ok());
}

TEST_F(CniLiveTest, DelAfterTheNamespaceIsGoneGivesTheAddressBack) {
  CniAttachment pod = Pod("a");
  ASSERT_TRUE(Add(pod).ok());
  ASSERT_EQ(Sh("ip netns del a"), 0);
  EXPECT_THAT(Leases(), HasSubstr("10.250.0.2"));
  EXPECT_TRUE(Del(pod).ok());
  EXPECT_EQ(Leases(), "");
}

TEST_F(CniLiveTest, WhatAKilledServerLeftIsCollected) {
  ASSERT_TRUE(Add(Pod("a")).ok());
  ASSERT_TRUE(Add(Pod("b")).ok());
  // Another life; the network's configuration is gone meanwhile.
  cni_ = *NewCni(env_,
                 {.conf_dir = dir_ + "/nothing", .bin_dirs = {"/usr/lib/cni"}, .cache_dir = dir_ + "/cache"});
  EXPECT_FALSE(cni_->Ready().ok());
  EXPECT_TRUE(env_.RunUntilDone(cni_->GarbageCollect({"b"})).ok());
  EXPECT_THAT(Leases(), Not(HasSubstr("10.250.0.2\n")));
  EXPECT_THAT(Leases(), HasSubstr("10.250.0.3"));
  EXPECT_TRUE(env_.RunUntilDone(cni_->GarbageCollect({})).ok());
}

TEST_F(CniLiveTest, AnAddThatIsCancelledIsUndoneByDel) {
  // The second plugin never ends.
  ASSERT_TRUE(WriteFileAtomic(dir_ + "/bin/hang",
                              StrCat("#!/bin/sh\n[ $CNI_COMMAND = ADD ] || exit 0\ntouch ", dir_,
                                     "/hanging\nexec sleep 1000\n"),
                              0755)
                  .ok());
  Configure(R"(,{"type":"hang"})");
  CniAttachment pod = Pod("a");
  EXPECT_FALSE(env_.RunUntilDone(CancelledAdd(pod)).ok());
  EXPECT_NE(Leases(), "");
  EXPECT_TRUE(Del(pod).ok());
}

// kill -9 of a server in its ADD: the plugin goes on, and the next life's DEL must come after it.
TEST_F(CniLiveTest, DelWaitsForAPluginOfAKilledServer) {
  ASSERT_TRUE(WriteFileAtomic(dir_ + "/bin/slow",
                              StrCat("#!/bin/sh\n[ $CNI_COMMAND = DEL ] && test -e ", dir_,
                                     "/ended && touch ", dir_, "/in-order\nexit 0\n"),
                              0755)
                  .ok());
  Configure(R"(,{"type":"slow"})");
  CniAttachment pod = Pod("a");
  CniRecord record{.attachment = pod,
                   .network = *ParseCniNetwork(*ReadFile(dir_ + "/net.d/10-test.conflist"))};
  ASSERT_TRUE(MakeDirs(dir_ + "/cache").ok());
  ASSERT_TRUE(WriteFileAtomic(dir_ + "/cache/a@eth0.json", EncodeCniRecord(record)).ok());
  ASSERT_EQ(Sh(StrCat("CNI_COMMAND=ADD CNI_CONTAINERID=a CNI_IFNAME=eth0 sh -c 'sleep 0.3; touch ", dir_,
                      "/ended' & sleep 0.05")),
            0);
  EXPECT_TRUE(Del(pod).ok());
  EXPECT_EQ(access((dir_ + "/in-order").c_str(), F_OK), 0);
}

TEST_F(CniLiveTest, ThirtyAtOnce) {
  std::vector<CniAttachment> pods;
  for (int i = 0; i < kBurst; ++i) pods.push_back(Pod(StrCat("p", i)));
  auto begin = std::chrono::steady_clock::now();
  ASSERT_TRUE(env_.RunUntilDone(AddAll(pods)).ok());
  auto took = std::chrono::steady_clock::now() - begin;
  std::printf("%d ADDs at once: %d ms\n", kBurst,
              static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(took).count()));
  for (const CniAttachment& pod : pods) EXPECT_TRUE(Del(pod).ok());
}

// Beside the same plugin started by hand, IPv4 alone.
TEST_F(CniLiveTest, Figures) {
  const std::string conflist = dir_ + "/net.d/10-test.conflist";
  ASSERT_EQ(Sh(StrCat("sed -i 's/,.{.subnet.:.fd50::.64.}.//; s/,{.dst.:.::.0.}//' ", conflist)), 0);
  std::vector<CniAttachment> pods;
  for (int i = 0; i < kBurst; ++i) pods.push_back(Pod(StrCat("f", i)));
  auto timed = [](auto work) {
    auto begin = std::chrono::steady_clock::now();
    EXPECT_TRUE(work().ok());
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
  };
  std::vector<double> add, del, by_hand;
  for (const CniAttachment& pod : pods) add.push_back(timed([&] { return Add(pod).status(); }));
  for (const CniAttachment& pod : pods) del.push_back(timed([&] { return Del(pod); }));
  std::string input =
      StrCat(R"({"cniVersion":"1.0.0","name":"test","type":"ptp","ipMasq":false,"ipam":)",
             R"({"type":"host-local","dataDir":")", dir_,
             R"(/leases","ranges":[[{"subnet":"10.250.0.0/24"}]],"routes":[{"dst":"0.0.0.0/0"}]}})");
  for (const CniAttachment& pod : pods)
    by_hand.push_back(timed([&] { return env_.RunUntilDone(RunPlugin("ADD", pod, input)); }));
  for (const CniAttachment& pod : pods) EXPECT_TRUE(env_.RunUntilDone(RunPlugin("DEL", pod, input)).ok());
  for (auto* list : {&add, &del, &by_hand}) std::sort(list->begin(), list->end());
  std::printf("ptp and host-local, median of %d: ADD %.1f ms (the plugin by hand %.1f ms), DEL %.1f ms\n",
              kBurst, add[kBurst / 2], by_hand[kBurst / 2], del[kBurst / 2]);
}

}  // namespace
}  // namespace keelson::cri
