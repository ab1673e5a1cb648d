#include "cgroups/attach_warmer.h"

#include <gtest/gtest.h>

#include "base/fake_env.h"
#include "cgroups/testing/fake_tree.h"

namespace keelson::cgroups {
namespace {

Layout LayoutOfTree(const FakeTree& tree) {
  auto layout = Discover({.root = tree.root()});
  EXPECT_TRUE(layout.ok()) << layout.status();
  return *layout;
}

TEST(AttachWarmerTest, MovesItselfToWhereItIsInOneHierarchy) {
  FakeTree tree(V1Host());
  tree.Put("proc/self/cgroup", "5:pids:/services/a\n4:net_cls:/\n1:name=systemd:/../x\n0::/\n");
  tree.Put("sys/fs/cgroup/pids/services/a/cgroup.procs", "");
  absl::Status moved = MoveSelfInPlace(LayoutOfTree(tree));
  EXPECT_TRUE(moved.ok()) << moved;
  EXPECT_EQ(tree.Get("sys/fs/cgroup/pids/services/a/cgroup.procs"), "0");
}

TEST(AttachWarmerTest, OfTheUnifiedHierarchy) {
  FakeTree tree(V2Host());
  tree.Put("proc/self/cgroup", "0::/\n");
  tree.Put("sys/fs/cgroup/cgroup.procs", "");
  ASSERT_TRUE(MoveSelfInPlace(LayoutOfTree(tree)).ok());
  EXPECT_EQ(tree.Get("sys/fs/cgroup/cgroup.procs"), "0");
}

TEST(AttachWarmerTest, ACgroupThatCannotBeSeenIsAnError) {
  FakeTree tree(V2Host());
  tree.Put("proc/self/cgroup", "0::/../elsewhere\n");
  EXPECT_TRUE(absl::IsNotFound(MoveSelfInPlace(LayoutOfTree(tree))));
  tree.Put("proc/self/cgroup", "0::/gone\n");
  EXPECT_FALSE(MoveSelfInPlace(LayoutOfTree(tree)).ok());
}

TEST(AttachWarmerTest, OneMoveAtATimeAndNoneAfterAFailure) {
  FakeTree tree(V2Host());
  tree.Put("proc/self/cgroup", "0::/\n");
  const std::string procs = "sys/fs/cgroup/cgroup.procs";
  FakeEnv env;
  AttachWarmer warmer(&env, LayoutOfTree(tree));
  tree.Put(procs, "");
  warmer.Warm();
  EXPECT_EQ(tree.Get(procs), "0");
  tree.Put(procs, "");
  warmer.Warm();  // the first has not been reported yet
  EXPECT_EQ(tree.Get(procs), "");
  env.Settle();
  warmer.Warm();
  EXPECT_EQ(tree.Get(procs), "0");
  env.Settle();
  tree.Put("proc/self/cgroup", "0::/gone\n");
  warmer.Warm();
  env.Settle();
  tree.Put("proc/self/cgroup", "0::/\n");
  tree.Put(procs, "");
  warmer.Warm();
  EXPECT_EQ(tree.Get(procs), "");
}

}  // namespace
}  // namespace keelson::cgroups
