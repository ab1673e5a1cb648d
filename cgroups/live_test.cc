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
#include "cgroups/systemd_units.h"
#include "cgroups/text.h"

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

std::string ShowUnit(const std::string& unit, const std::string& property) {
  std::unique_ptr<FILE, int (*)(FILE*)> show(
      ::popen(StrCat("systemctl show --value -p ", property, " ", unit).c_str(), "re"), ::pclose);
  char line[200] = "";
  if (show == nullptr || ::fgets(line, sizeof line, show.get()) == nullptr) return "";
  return std::string(StripSpace(line));
}

TEST_F(LiveTest, QosTreeOfSystemdsSlices) {
  RealEnv env(Paths::WithRoot(""));
  auto units = NewSystemdUnits(env.clock(), manager_->layout().mode == Mode::kV2);
  if (absl::IsFailedPrecondition(units.status())) GTEST_SKIP() << units.status();
  ASSERT_TRUE(units.ok()) << units.status();
  QosTree tree(*manager_, {StrCat(root_, "/tree"), false});
  tree.UseSystemd(units->get());
  Resources node;
  node.memory_limit_bytes = int64_t{1} << 30;
  absl::Status status = tree.Setup(node);
  ASSERT_TRUE(status.ok()) << status;
  PodRequirements pod;
  pod.qos = QosClass::kBurstable;
  pod.cpu_request_milli = 100;
  pod.memory_limit_bytes = 32 << 20;
  status = tree.EnsurePod("0000-1", pod);
  ASSERT_TRUE(status.ok()) << status;
  const std::string slice = tree.CgroupParent("0000-1", QosClass::kBurstable);
  EXPECT_EQ(ShowUnit(slice, "ActiveState"), "active");
  EXPECT_EQ(ShowUnit(slice, "MemoryMax"), StrCat(32 << 20));
  EXPECT_EQ(ShowUnit(slice, "ControlGroup"), StrCat("/", tree.PodPath("0000-1", QosClass::kBurstable)));
  pod.memory_limit_bytes = 64 << 20;
  status = tree.EnsurePod("0000-1", pod);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(ShowUnit(slice, "MemoryMax"), StrCat(64 << 20));
  auto stats = tree.PodStats("0000-1", QosClass::kBurstable);
  ASSERT_TRUE(stats.ok()) << stats.status();
  EXPECT_EQ(stats->memory->limit_bytes, uint64_t{64} << 20);
  EXPECT_TRUE(tree.UpdateQosShares(100).ok());
  EXPECT_EQ(tree.ListPods()->size(), 1u);
  status = tree.RemovePod("0000-1", QosClass::kBurstable);
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(ShowUnit(slice, "ActiveState"), "inactive");
  EXPECT_EQ(tree.ListPods()->size(), 0u);
  EXPECT_TRUE(tree.RemovePod("0000-1", QosClass::kBurstable).ok()) << "again";
  EXPECT_TRUE((*units)->StopSlice("keelson-test-no-such.slice").ok());
  const std::string top = ToSystemdPath(root_);
  EXPECT_TRUE((*units)->StopSlice(top).ok());
  EXPECT_FALSE(manager_->Exists(top));
}

}  // namespace
}  // namespace keelson::cgroups
