#include "cgroups/layout.h"

#include <gtest/gtest.h>

#include "cgroups/testing/fake_tree.h"

namespace keelson::cgroups {
namespace {

TEST(ParseMounts, DecodesEscapesAndRefusesShortLines) {
  auto mounts = ParseMounts("a /mnt/with\\040space\\134x ext4 rw,relatime 0 0\n");
  ASSERT_TRUE(mounts.ok());
  EXPECT_EQ((*mounts)[0].mount_point, "/mnt/with space\\x");
  EXPECT_EQ((*mounts)[0].options, (std::vector<std::string>{"rw", "relatime"}));
  auto bad = ParseMounts("a /x ext4 rw 0 0\nshort line\n");
  EXPECT_EQ(bad.status().message(), "mounts line 2: fewer than 4 fields");
}

TEST(ParseProcCgroups, ReadsTheTable) {
  auto rows =
      ParseProcCgroups("#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpuset\t3\t1\t1\nmemory\t4\t12\t0\n");
  ASSERT_TRUE(rows.ok()) << rows.status();
  ASSERT_EQ(rows->size(), 2u);
  EXPECT_EQ((*rows)[0].name, "cpuset");
  EXPECT_EQ((*rows)[0].hierarchy, 3);
  EXPECT_FALSE((*rows)[1].enabled);
  EXPECT_FALSE(ParseProcCgroups("cpuset 3\n").ok());
}

TEST(ParseProcPidCgroup, MapsControllersToPaths) {
  auto paths = ParseProcPidCgroup("9:name=systemd:/init\n4:cpu,cpuacct:/a/b\n0::/x:y\n");
  ASSERT_TRUE(paths.ok());
  EXPECT_EQ((*paths)["name=systemd"], "init");
  EXPECT_EQ((*paths)["cpuacct"], "a/b");
  EXPECT_EQ((*paths)[""], "x:y");
  EXPECT_FALSE(ParseProcPidCgroup("x\n").ok());
  EXPECT_FALSE(ParseProcPidCgroup("1:cpu:relative\n").ok());
}

TEST(Discover, TellsTheThreeKindsOfHostsApart) {
  {
    FakeTree tree(V1Host());
    auto layout = Discover({tree.root()});
    ASSERT_TRUE(layout.ok()) << layout.status();
    EXPECT_EQ(layout->mode, Mode::kV1);
    EXPECT_EQ(layout->v1_mounts["cpuacct"], tree.root() + "/sys/fs/cgroup/cpu,cpuacct");
    EXPECT_EQ(layout->v1_mounts.count("name=systemd"), 1u);
    EXPECT_EQ(layout->v1_mounts.count("xattr"), 0u);
    EXPECT_EQ(layout->V1MountPoints().size(), 6u);
  }
  {
    FakeTree tree(V2Host());
    auto layout = Discover({tree.root()});
    ASSERT_TRUE(layout.ok()) << layout.status();
    EXPECT_EQ(layout->mode, Mode::kV2);
    EXPECT_EQ(layout->unified_mount, tree.root() + "/sys/fs/cgroup");
  }
  {
    FakeTree tree(HybridHost());
    auto layout = Discover({tree.root()});
    ASSERT_TRUE(layout.ok()) << layout.status();
    EXPECT_EQ(layout->mode, Mode::kHybrid);
    EXPECT_EQ(ModeName(layout->mode), "hybrid");
  }
  FakeTree none(std::map<std::string, std::string>{{"proc/mounts", "proc /proc proc rw 0 0\n"}});
  EXPECT_TRUE(absl::IsNotFound(Discover({none.root()}).status()));
}

TEST(Discover, FindsThisHostsHierarchies) {
  auto layout = Discover();
  if (absl::IsNotFound(layout.status())) GTEST_SKIP() << "no cgroups on this host";
  ASSERT_TRUE(layout.ok()) << layout.status();
  EXPECT_TRUE(!layout->unified_mount.empty() || !layout->v1_mounts.empty());
  EXPECT_EQ(layout->v1_mounts.count("rw"), 0u);
}

}  // namespace
}  // namespace keelson::cgroups
