// The manager on this host's own cgroups. Makes and removes only keelson-test-<pid> below the root; needs
// root.
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "base/fd.h"
#include "base/strings.h"
#include "cgroups/attach_warmer.h"
#include "cgroups/conversions.h"
#include "cgroups/qos_tree.h"

extern char** environ;

namespace keelson::cgroups {
namespace {

class LiveTest : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root";
    auto manager = NewHostManager();
    if (absl::IsNotFound(manager.status())) GTEST_SKIP() << "no cgroup hierarchy on this host";
    ASSERT_TRUE(manager.ok()) << manager.status();
    manager_ = *std::move(manager);
    root_ = StrCat("keelson-test-", ::getpid());
    absl::Status created = manager_->Create(root_);
    if (absl::IsPermissionDenied(created) || created.message().find("Read-only") != std::string::npos) {
      manager_.reset();
      GTEST_SKIP() << "the cgroup tree is not writable here: " << created;
    }
    ASSERT_TRUE(created.ok()) << created;
  }
  void TearDown() override {
    if (manager_ == nullptr) return;
    if (child_ > 0) {
      ::kill(child_, SIGKILL);
      ::waitpid(child_, nullptr, 0);
    }
    absl::Status gone;
    WaitFor([&] { return (gone = manager_->Destroy(root_)).ok(); });
    EXPECT_TRUE(gone.ok()) << gone;
    EXPECT_FALSE(manager_->Exists(root_));
  }
  // The kernel's own delays (exit, freezing) end within this many polls.
  static bool WaitFor(const std::function<bool()>& done) {
    for (int i = 0; i < 500; ++i) {
      if (done()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
  }
  void StartChild() {
    char program[] = "/bin/sleep", seconds[] = "1000";
    char* argv[] = {program, seconds, nullptr};
    ASSERT_EQ(::posix_spawn(&child_, program, nullptr, nullptr, argv, environ), 0);
  }

  std::unique_ptr<Manager> manager_;
  std::string root_;
  pid_t child_ = -1;
};

TEST_F(LiveTest, AMoveInPlaceChangesNothing) {
  auto before = ReadFile("/proc/self/cgroup", kMaxCgroupFileBytes);
  absl::Status moved = MoveSelfInPlace(manager_->layout());
  EXPECT_TRUE(moved.ok()) << moved;
  auto after = ReadFile("/proc/self/cgroup", kMaxCgroupFileBytes);
  ASSERT_TRUE(before.ok() && after.ok());
  EXPECT_EQ(*before, *after);
}

TEST_F(LiveTest, LimitsProcessesAndStatsOfARealCgroup) {
  std::string path = root_ + "/inner/leaf";
  ASSERT_TRUE(manager_->Create(path).ok());
  Resources resources;
  resources.cpu_shares = 512;
  resources.cpu_quota_us = 50000;
  resources.cpu_period_us = 100000;
  resources.memory_limit_bytes = 64 << 20;
  resources.pids_limit = 50;
  absl::Status applied = manager_->Apply(path, resources);
  ASSERT_TRUE(applied.ok()) << applied;

  StartChild();
  absl::Status added = manager_->AddProcess(path, child_);
  ASSERT_TRUE(added.ok()) << added;
  EXPECT_EQ(*manager_->Pids(path, false), std::vector<pid_t>{child_});
  EXPECT_EQ(*manager_->Pids(root_, true), std::vector<pid_t>{child_});
  auto stats = manager_->ReadStats(path);
  ASSERT_TRUE(stats.ok()) << stats.status();
  EXPECT_TRUE(stats->cpu_usage_ns.has_value());
  EXPECT_EQ(stats->pids, 1u);
  ASSERT_TRUE(stats->memory.has_value());
  EXPECT_EQ(stats->memory->limit_bytes, uint64_t{64} << 20);

  EXPECT_TRUE(absl::IsFailedPrecondition(manager_->Destroy(root_)));
  ASSERT_TRUE(manager_->Freeze(path, true).ok());
  EXPECT_TRUE(WaitFor([&] { return *manager_->Frozen(path); }));
  ASSERT_TRUE(manager_->Freeze(path, false).ok());
  EXPECT_TRUE(WaitFor([&] { return !*manager_->Frozen(path); }));

  ASSERT_TRUE(manager_->KillAll(root_).ok());
  int wait_status = 0;
  ASSERT_EQ(::waitpid(child_, &wait_status, 0), child_);
  child_ = -1;
  EXPECT_EQ(WTERMSIG(wait_status), SIGKILL);
}

TEST_F(LiveTest, TheQosTreeUnderARootOfItsOwn) {
  QosTree tree(*manager_, {root_, false});
  absl::Status status = tree.Setup(Resources());
  ASSERT_TRUE(status.ok()) << status;
  PodRequirements pod;
  pod.qos = QosClass::kBurstable;
  pod.cpu_request_milli = 100;
  pod.memory_limit_bytes = 32 << 20;
  status = tree.EnsurePod("0000-1", pod);
  ASSERT_TRUE(status.ok()) << status;
  ASSERT_TRUE(tree.UpdateQosShares(100).ok());
  EXPECT_EQ(tree.ListPods()->size(), 1u);
  auto stats = tree.PodStats("0000-1", QosClass::kBurstable);
  ASSERT_TRUE(stats.ok()) << stats.status();
  EXPECT_EQ(stats->memory->limit_bytes, uint64_t{32} << 20);
  ASSERT_TRUE(tree.RemovePod("0000-1", QosClass::kBurstable).ok());
  EXPECT_EQ(tree.ListPods()->size(), 0u);
}

}  // namespace
}  // namespace keelson::cgroups
