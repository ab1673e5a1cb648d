#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <map>

#include "base/fd.h"
#include "base/strings.h"
#include "oci/spec.h"

namespace keelson::oci {
namespace {

constexpr const char* kLimits =
    "Limit                     Soft Limit           Hard Limit           Units     \n"
    "Max cpu time              unlimited            unlimited            seconds   \n"
    "Max open files            1024                 524288               files     \n";
constexpr const char* kAllIds = "         0          0 4294967295\n";

// A /proc (and cgroup mounts) from literals.
class HostFactsTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/keelson-facts-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    top_ = name;
    Write("/proc/sys/kernel/cap_last_cap", "40\n");
    Write("/proc/sys/kernel/osrelease", "6.1.0-18-amd64\n");
    SetStatus("000001ffffffffff", "000001ffffffffff");
    Write("/proc/self/oom_score_adj", "-999\n");
    Write("/proc/self/limits", kLimits);
    Write("/proc/self/uid_map", kAllIds);
    Write("/proc/self/mounts", StrCat("cgroup2 ", top_, "/cg cgroup2 rw 0 0\n"));
    Write("/cg/cgroup.controllers", "cpuset cpu io memory hugetlb pids\n");
  }
  void TearDown() override { EXPECT_TRUE(RemoveTree(top_).ok()); }

  void Write(const std::string& path, std::string_view text) {
    ASSERT_TRUE(MakeDirs(top_ + path.substr(0, path.rfind('/'))).ok());
    ASSERT_TRUE(WriteFileAtomic(top_ + path, text, 0644, false).ok());
  }
  void SetStatus(std::string_view bounding, std::string_view effective) {
    Write("/proc/self/status",
          StrCat("Name:\tkeelson\nCapEff:\t", effective, "\nCapBnd:\t", bounding, "\nSeccomp:\t0\n"));
  }
  HostFacts Facts() {
    absl::StatusOr<HostFacts> facts = DiscoverHostFacts(top_ + "/proc");
    EXPECT_TRUE(facts.ok()) << facts.status();
    return facts.value_or(HostFacts{});
  }

  std::string top_;
};

TEST_F(HostFactsTest, OfAV2Host) {
  Write("/cg/system.slice/memory.swap.max", "max\n");
  const HostFacts facts = Facts();
  EXPECT_TRUE(facts.cgroup_v2);
  EXPECT_TRUE(facts.swap_controller);
  EXPECT_TRUE(facts.hugetlb_controller);
  EXPECT_EQ(facts.last_capability, 40);
  EXPECT_EQ(facts.bounding_capabilities, 0x1ffffffffffu);
  EXPECT_EQ(facts.kernel_major, 6);
  EXPECT_EQ(facts.kernel_minor, 1);
  EXPECT_EQ(facts.oom_score_adj, -999);
  EXPECT_TRUE(facts.can_lower_oom_score_adj);
  EXPECT_EQ(facts.max_open_files, 524288u);
  EXPECT_TRUE(facts.seccomp);
  EXPECT_FALSE(facts.apparmor);
  EXPECT_FALSE(facts.selinux);
  EXPECT_FALSE(facts.in_user_namespace);
  EXPECT_FALSE(facts.architecture.empty());
}

TEST_F(HostFactsTest, SwapOnAV2HostThatHasNoCgroupsYet) {
  // Found by a live case: without a limit on swap a container swaps as it likes.
  Write("/cg/init.scope/cgroup.procs", "1\n");
  EXPECT_FALSE(Facts().swap_controller) << "a kernel without swap";
  Write("/proc/swaps", "Filename Type Size Used Priority\n");
  EXPECT_TRUE(Facts().swap_controller);
  Write("/proc/cmdline", "quiet swapaccount=0\n");
  EXPECT_FALSE(Facts().swap_controller);
  Write("/proc/cmdline", "quiet swapaccount=1\n");
  EXPECT_TRUE(Facts().swap_controller);
  // Whoever has the controller tells.
  Write("/cg/system.slice/memory.max", "max\n");
  EXPECT_FALSE(Facts().swap_controller);
  Write("/cg/system.slice/memory.swap.max", "max\n");
  EXPECT_TRUE(Facts().swap_controller);
  Write("/cg/cgroup.controllers", "cpuset cpu io pids\n");
  EXPECT_FALSE(Facts().swap_controller);
}

TEST_F(HostFactsTest, OfAV1Host) {
  Write("/proc/self/mounts",
        StrCat("cgroup ", top_, "/cg/memory cgroup rw,memory 0 0\ncgroup ", top_,
               "/cg/cpu cgroup rw,cpu,cpuacct 0 0\ncgroup2 ", top_, "/cg/unified cgroup2 rw 0 0\n"));
  EXPECT_FALSE(Facts().cgroup_v2);
  EXPECT_FALSE(Facts().swap_controller);
  EXPECT_FALSE(Facts().hugetlb_controller);
  Write("/cg/memory/memory.memsw.limit_in_bytes", "1\n");
  EXPECT_TRUE(Facts().swap_controller);
}

TEST_F(HostFactsTest, WithoutSysResource) {
  SetStatus("000001fffeffffff", "000001fffeffffff");
  EXPECT_FALSE(Facts().can_lower_oom_score_adj);
  EXPECT_EQ(Facts().bounding_capabilities, 0x1fffeffffffu);
}

TEST_F(HostFactsTest, InAUserNamespace) {
  Write("/proc/self/uid_map", "0 100000 65536\n");
  EXPECT_TRUE(Facts().in_user_namespace);
  EXPECT_FALSE(Facts().can_lower_oom_score_adj);
  Write("/proc/self/uid_map", "0 0 65536\n65536 65536 4294901759\n");
  EXPECT_TRUE(Facts().in_user_namespace);
}

TEST_F(HostFactsTest, SecurityModules) {
  Write("/proc/self/attr/apparmor/current", "unconfined\n");
  Write("/proc/self/mounts",
        StrCat("cgroup2 ", top_, "/cg cgroup2 rw 0 0\nselinuxfs /sys/fs/selinux selinuxfs rw 0 0\n"));
  EXPECT_TRUE(Facts().apparmor);
  EXPECT_TRUE(Facts().selinux);
  // Built in and not in use: the file is there and reads as EINVAL, as a folder reads as EISDIR.
  ASSERT_EQ(::unlink((top_ + "/proc/self/attr/apparmor/current").c_str()), 0);
  ASSERT_TRUE(MakeDirs(top_ + "/proc/self/attr/apparmor/current").ok());
  EXPECT_FALSE(Facts().apparmor);
}

TEST_F(HostFactsTest, Unlimited) {
  Write("/proc/self/limits", "Max open files            unlimited            unlimited            files\n");
  EXPECT_EQ(Facts().max_open_files, ~0ull);
}

TEST_F(HostFactsTest, OldKernel) {
  Write("/proc/sys/kernel/osrelease", "5.10-rc1\n");
  EXPECT_EQ(Facts().kernel_minor, 10);
}

TEST_F(HostFactsTest, ErrorsNameTheFile) {
  const std::pair<const char*, const char*> rows[] = {
      {"/proc/sys/kernel/cap_last_cap", "x"}, {"/proc/sys/kernel/osrelease", "six"},
      {"/proc/self/status", "Name:\tx\n"},    {"/proc/self/limits", "nothing\n"},
      {"/proc/self/oom_score_adj", ""},       {"/proc/self/mounts", "\n"},
  };
  for (const auto& [path, text] : rows) {
    absl::StatusOr<std::string> before = ReadFile(top_ + path);
    Write(path, text);
    EXPECT_FALSE(DiscoverHostFacts(top_ + "/proc").ok()) << path;
    Write(path, *before);
  }
  EXPECT_TRUE(DiscoverHostFacts(top_ + "/proc").ok());
}

TEST(HostFactsOfThisHostTest, CanBeRead) {
  absl::StatusOr<HostFacts> facts = DiscoverHostFacts("/proc");
  ASSERT_TRUE(facts.ok()) << facts.status();
  EXPECT_GE(facts->kernel_major, 4);
}

}  // namespace
}  // namespace keelson::oci
