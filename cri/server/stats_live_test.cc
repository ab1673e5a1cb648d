// Stats and metrics of real cgroups with real processes, and what they cost. Makes and removes only
// keelson-test-stats-<pid>; needs root.
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <iostream>
#include <thread>

#include "base/env.h"
#include "base/strings.h"
#include "cri/server/metrics.h"
#include "cri/server/stats_reader.h"
#include "cri/server/usage.h"

extern char** environ;

namespace keelson::cri {
namespace {

constexpr int kContainers = 100;
constexpr int kRounds = 20;

// What a loop of `count` steps cost each, and this thread's part of it.
class Stopwatch {
 public:
  Stopwatch() : wall_(std::chrono::steady_clock::now()), cpu_us_(CpuUs()) {}
  std::string PerStep(int count) const {
    auto wall = std::chrono::steady_clock::now() - wall_;
    auto wall_us = std::chrono::duration_cast<std::chrono::microseconds>(wall).count();
    return StrCat(wall_us / count, " us (", (CpuUs() - cpu_us_) / count, " us of CPU) per container");
  }

 private:
  static int64_t CpuUs() {
    rusage usage;
    ::getrusage(RUSAGE_THREAD, &usage);
    return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000LL + usage.ru_utime.tv_usec +
           usage.ru_stime.tv_usec;
  }
  std::chrono::steady_clock::time_point wall_;
  int64_t cpu_us_;
};

class StatsLiveTest : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root";
    auto manager = cgroups::NewHostManager();
    if (!manager.ok()) GTEST_SKIP() << manager.status();
    manager_ = *std::move(manager);
    root_ = StrCat("keelson-test-stats-", ::getpid());
    absl::Status created = manager_->Create(root_);
    if (!created.ok()) {
      manager_.reset();
      GTEST_SKIP() << "the cgroup tree is not writable here: " << created;
    }
  }
  void TearDown() override {
    if (manager_ == nullptr) return;
    for (pid_t pid : children_) {
      ::kill(pid, SIGKILL);
      ::waitpid(pid, nullptr, 0);
    }
    absl::Status gone;
    for (int i = 0; i < 500 && !(gone = manager_->Destroy(root_)).ok(); ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    EXPECT_TRUE(gone.ok()) << gone;
  }

  // A cgroup with one process in it.
  records::Container Start(const std::string& name) {
    records::Container record;
    record.set_id(name);
    record.set_cgroup_path(StrCat(root_, "/", name));
    EXPECT_TRUE(manager_->Create(record.cgroup_path()).ok());
    char program[] = "/bin/sleep", seconds[] = "1000";
    char* argv[] = {program, seconds, nullptr};
    pid_t pid = -1;
    EXPECT_EQ(::posix_spawn(&pid, program, nullptr, nullptr, argv, environ), 0);
    children_.push_back(pid);
    EXPECT_TRUE(manager_->AddProcess(record.cgroup_path(), pid).ok());
    record.mutable_init()->set_pid(pid);
    return record;
  }

  std::unique_ptr<cgroups::Manager> manager_;
  std::string root_;
  std::vector<pid_t> children_;
  RealEnv env_{Paths()};
};

TEST_F(StatsLiveTest, FiguresOfAHundredContainers) {
  std::vector<records::Container> containers;
  StatsRequest request;
  for (int i = 0; i < kContainers; ++i) {
    containers.push_back(Start(StrCat("c", i)));
    request.cgroup_paths.push_back(containers.back().cgroup_path());
  }
  std::vector<CpuSample> samples(kContainers);
  size_t bytes = 0;
  Stopwatch basic;
  for (int round = 0; round < kRounds; ++round) {
    StatsReadings all = ReadAll(request, manager_.get(), env_.clock());
    ASSERT_EQ(all.cgroups.size(), static_cast<size_t>(kContainers));
    v1::ListContainerStatsResponse response;
    for (int i = 0; i < kContainers; ++i) {
      const CgroupReading& reading = all.cgroups[containers[i].cgroup_path()];
      ContainerReadings readings;
      readings.at = reading.at;
      readings.cgroup = &reading.stats;
      if (reading.stats.cpu_usage_ns.has_value())
        readings.nano_cores = NanoCores(&samples[i], reading.at, *reading.stats.cpu_usage_ns);
      *response.add_stats() = ContainerStatsOf(containers[i], readings);
    }
    bytes = response.SerializeAsString().size();
    EXPECT_NE(response.stats(0).cpu().timestamp(), 0);
    EXPECT_NE(response.stats(0).memory().timestamp(), 0);
  }
  std::cout << "ListContainerStats: " << basic.PerStep(kRounds * kContainers) << ", " << bytes
            << " bytes for " << kContainers << "\n";

  request.detail = cgroups::StatsDetail::kFull;
  Stopwatch full;
  size_t metrics = 0;
  for (int round = 0; round < kRounds; ++round) {
    StatsReadings all = ReadAll(request, manager_.get(), env_.clock());
    HostMetricReadings host;
    host.block_devices = ReadBlockDeviceNames();
    for (const records::Container& container : containers) {
      ContainerMetricReadings readings;
      readings.at = all.cgroups[container.cgroup_path()].at;
      readings.cgroup = all.cgroups[container.cgroup_path()].stats;
      auto pids = manager_->Pids(container.cgroup_path(), true);
      ASSERT_TRUE(pids.ok()) << pids.status();
      readings.processes = CountProcesses(*pids);
      readings.open_files_limit = ReadOpenFilesLimit(container.init().pid());
      metrics += ContainerMetricsOf(container, {}, readings, host).metrics_size();
    }
  }
  std::cout << "ListPodSandboxMetrics: " << full.PerStep(kRounds * kContainers) << ", "
            << metrics / (kRounds * kContainers) << " metrics each\n";
}

TEST_F(StatsLiveTest, MetricsOfARealProcess) {
  records::Container container = Start("one");
  StatsRequest request;
  request.cgroup_paths = {container.cgroup_path(), root_ + "/nope"};
  request.netns_paths = {"/proc/self/ns/net", "/does/not/exist"};
  request.detail = cgroups::StatsDetail::kFull;
  StatsReadings all = ReadAll(request, manager_.get(), env_.clock());
  ASSERT_EQ(all.cgroups.size(), 1u);
  EXPECT_EQ(all.interfaces.size(), 1u);
  ContainerMetricReadings readings;
  readings.at = all.cgroups[container.cgroup_path()].at;
  readings.cgroup = all.cgroups[container.cgroup_path()].stats;
  readings.processes = CountProcesses(*manager_->Pids(container.cgroup_path(), true));
  EXPECT_EQ(readings.cgroup.pids, 1u);
  EXPECT_TRUE(readings.cgroup.cpu_user_ns.has_value());
  EXPECT_TRUE(readings.cgroup.cpu_periods.has_value());
  EXPECT_EQ(readings.processes.processes, 1u);
  EXPECT_GE(readings.processes.file_descriptors, 3u);
  v1::ContainerMetrics metrics = ContainerMetricsOf(container, {}, readings, {});
  std::map<std::string, uint64_t> values;
  for (const v1::Metric& metric : metrics.metrics()) values.emplace(metric.name(), metric.value().value());
  EXPECT_EQ(values["container_threads"], 1u);
  EXPECT_EQ(values["container_processes"], 1u);
}

}  // namespace
}  // namespace keelson::cri
