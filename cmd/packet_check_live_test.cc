// Real packets through the kernel, in a network namespace that stands for a host.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include "base/env.h"
#include "base/fd.h"
#include "base/strings.h"
#include "cmd/packet_check.h"
#include "net/netlink.h"

namespace keelson {
namespace {

using ::testing::Each;
using ::testing::Field;
using ::testing::HasSubstr;

Task<absl::Status> RunProgram(Env* env, std::vector<std::string> argv, std::string input) {
  SubprocessOptions options;
  options.argv = std::move(argv);
  options.stdin_data = std::move(input);
  Task<absl::StatusOr<SubprocessResult>> run = env->subprocess().Run(options);
  absl::StatusOr<SubprocessResult> result = co_await std::move(run);
  if (!result.ok()) co_return result.status();
  co_return result->ok() ? absl::OkStatus() : absl::InternalError(result->stderr_data);
}

class PacketCheckLive : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root to make network namespaces";
    if (::access("/usr/lib/cni/ptp", X_OK) != 0) GTEST_SKIP() << "the CNI plugins are not installed";
    auto home = OpenFile("/proc/self/ns/net", O_RDONLY);
    ASSERT_TRUE(home.ok());
    home_ = *std::move(home);
    if (::unshare(CLONE_NEWNET) != 0) GTEST_SKIP() << "this host makes no network namespaces";
    Do({"ip", "link", "set", "lo", "up"});
    Do({"ip", "link", "add", "e0", "type", "veth", "peer", "name", "e1"});
    Do({"ip", "addr", "add", "192.0.2.10/24", "dev", "e0"});
    Do({"ip", "link", "set", "e0", "up"});
    Do({"ip", "link", "set", "e1", "up"});
    ClusterOptions options;
    options.node_name = "n1";
    options.node_ip = "192.0.2.10";
    auto layout = MakeClusterLayout(options);
    ASSERT_TRUE(layout.ok()) << layout.status();
    layout_ = *std::move(layout);
  }
  void TearDown() override {
    if (home_.valid()) ::setns(home_.get(), CLONE_NEWNET);
  }

  void Do(std::vector<std::string> argv, std::string input = "") {
    RealEnv env{Paths()};
    absl::Status status = env.RunUntilDone(RunProgram(&env, argv, input));
    ASSERT_TRUE(status.ok()) << argv[0] << ": " << status;
  }
  void Rules(const std::string& text) { Do({"nft", "-f", "-"}, text); }

  // The closed ways, as the user reads them.
  std::vector<std::string> Closed() {
    std::vector<std::string> out;
    for (const Finding& f : CheckPackets(layout_)) {
      if (f.severity != Finding::Severity::kOk) out.push_back(StrCat(f.what, ": ", f.found, " | ", f.fix));
    }
    return out;
  }

  Fd home_;
  ClusterLayout layout_;
};

TEST_F(PacketCheckLive, AllWaysAreOpenAndNothingIsLeft) {
  auto forwarding = ReadFile("/proc/sys/net/ipv4/ip_forward");
  std::vector<Finding> findings = CheckPackets(layout_);
  EXPECT_EQ(findings.size(), 5u);
  EXPECT_THAT(findings, Each(Field(&Finding::severity, Finding::Severity::kOk)))
      << FormatFindings(findings, true);
  auto netlink = net::Netlink::Open();
  ASSERT_TRUE(netlink.ok());
  EXPECT_EQ(netlink->ListLinks()->size(), 3u);  // lo, e0, e1
  EXPECT_EQ(*ReadFile("/proc/sys/net/ipv4/ip_forward"), *forwarding);
}

TEST_F(PacketCheckLive, DockersForwardPolicyIsNamed) {
  Rules(
      "table ip filter { chain DOCKER-USER { return\n}\n"
      "chain FORWARD { type filter hook forward priority 0; policy drop; jump DOCKER-USER\n}\n}\n");
  std::vector<std::string> closed = Closed();
  ASSERT_EQ(closed.size(), 2u);  // pod to pod, pod to NodePort
  EXPECT_THAT(closed, Each(HasSubstr("docker refuses in chain FORWARD of table ip filter (policy drop)")));
  EXPECT_THAT(closed[0], HasSubstr("packets pod to pod: no answer in 2s"));
  EXPECT_THAT(closed, Each(HasSubstr("iptables -I DOCKER-USER -s 10.244.0.0/16 -j ACCEPT")));
}

TEST_F(PacketCheckLive, UfwsInputPolicyIsNamed) {
  Rules(
      "table ip filter { chain ufw-before-input { ct state established,related accept\n}\n"
      "chain INPUT { type filter hook input priority 0; policy drop; jump ufw-before-input\n}\n}\n");
  std::vector<std::string> closed = Closed();
  ASSERT_EQ(closed.size(), 1u);
  EXPECT_THAT(closed[0], HasSubstr("packets pod to host: no answer in 2s; ufw refuses in chain INPUT"));
  EXPECT_THAT(closed[0], HasSubstr("| ufw allow from 10.244.0.0/16"));
}

TEST_F(PacketCheckLive, FirewalldRejectsAtOnce) {
  Rules(
      "table inet firewalld { chain filter_FORWARD { type filter hook forward priority 10; policy accept;\n"
      "ct state established,related accept\nct status dnat accept\nreject with icmpx admin-prohibited\n}\n"
      "}\n");
  std::vector<std::string> closed = Closed();
  ASSERT_EQ(closed.size(), 1u);  // what was translated passes, as there
  EXPECT_THAT(closed[0], HasSubstr("packets pod to pod: No route to host; firewalld refuses"));
}

TEST_F(PacketCheckLive, WhatKeepsTheTestFromBeingMadeIsAWarning) {
  layout_.options.pod_cidr = "2001:db8::/64";
  std::vector<Finding> findings = CheckPackets(layout_);
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_EQ(findings[0].severity, Finding::Severity::kWarning);
  EXPECT_THAT(findings[0].found, HasSubstr("not tried"));
}

}  // namespace
}  // namespace keelson
