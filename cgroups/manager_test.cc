#include "cgroups/manager.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include "cgroups/testing/fake_tree.h"

namespace keelson::cgroups {
namespace {

constexpr char kV1[] = "sys/fs/cgroup/";
constexpr char kV2[] = "sys/fs/cgroup/";

std::unique_ptr<Manager> FakeManager(const FakeTree& tree, ManagerOptions options = {}) {
  options.fake_tree = true;
  auto layout = Discover({tree.root()});
  EXPECT_TRUE(layout.ok()) << layout.status();
  auto manager = NewManager(*std::move(layout), std::move(options));
  EXPECT_TRUE(manager.ok()) << manager.status();
  return *std::move(manager);
}

Resources AllResources() {
  Resources resources;
  resources.cpu_shares = 1024;
  resources.cpu_quota_us = 50000;
  resources.cpu_period_us = 100000;
  resources.memory_limit_bytes = 1 << 20;
  resources.pids_limit = 100;
  resources.cpuset_cpus = "0-1";
  resources.cpuset_mems = "0";
  return resources;
}

TEST(ValidatePath, RefusesWhatLeavesTheTree) {
  for (const char* good : {"", "a", "kubepods/burstable/pod1", "a.slice/b-c.scope"}) {
    EXPECT_TRUE(ValidatePath(good).ok()) << good;
  }
  for (const char* bad : {"/a", "a/", "a//b", "..", "a/../b", "a/.", "a\nb"})
    EXPECT_FALSE(ValidatePath(bad).ok()) << bad;
  EXPECT_FALSE(ValidatePath(std::string(256, 'a')).ok());
  std::string deep = "a";
  for (int i = 0; i < 40; ++i) deep += "/a";
  EXPECT_FALSE(ValidatePath(deep).ok());
}

TEST(V1Manager, CreatesInEveryHierarchyAndFillsCpusets) {
  FakeTree tree(V1Host());
  auto manager = FakeManager(tree);
  ASSERT_TRUE(manager->Create("kubepods/pod1").ok());
  ASSERT_TRUE(manager->Create("kubepods/pod1").ok());
  for (const char* hierarchy : {"cpu,cpuacct", "cpuset", "memory", "pids", "freezer", "systemd"}) {
    EXPECT_TRUE(tree.Has(std::string(kV1) + hierarchy + "/kubepods/pod1")) << hierarchy;
  }
  EXPECT_EQ(tree.Get("sys/fs/cgroup/cpuset/kubepods/pod1/cpuset.cpus"), "0-3");
  EXPECT_EQ(tree.Get("sys/fs/cgroup/cpuset/kubepods/pod1/cpuset.mems"), "0");
  EXPECT_TRUE(manager->Exists("kubepods/pod1"));
  EXPECT_EQ(*manager->Children("kubepods"), std::vector<std::string>{"pod1"});
  EXPECT_TRUE(absl::IsNotFound(manager->Children("nope").status()));
  ASSERT_TRUE(manager->Destroy("kubepods").ok());
  EXPECT_FALSE(manager->Exists("kubepods"));
  EXPECT_FALSE(tree.Has("sys/fs/cgroup/cpuset/kubepods"));
  EXPECT_TRUE(manager->Destroy("kubepods").ok());
  EXPECT_TRUE(tree.Has("sys/fs/cgroup/cpuset"));
}

TEST(V1Manager, WritesEveryResource) {
  FakeTree tree(V1Host());
  auto manager = FakeManager(tree);
  ASSERT_TRUE(manager->Create("pod").ok());
  absl::Status status = manager->Apply("pod", AllResources());
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(tree.Get("sys/fs/cgroup/cpu,cpuacct/pod/cpu.shares"), "1024");
  EXPECT_EQ(tree.Get("sys/fs/cgroup/cpu,cpuacct/pod/cpu.cfs_quota_us"), "50000");
  EXPECT_EQ(tree.Get("sys/fs/cgroup/cpu,cpuacct/pod/cpu.cfs_period_us"), "100000");
  EXPECT_EQ(tree.Get("sys/fs/cgroup/memory/pod/memory.limit_in_bytes"), "1048576");
  EXPECT_EQ(tree.Get("sys/fs/cgroup/pids/pod/pids.max"), "100");
  EXPECT_EQ(tree.Get("sys/fs/cgroup/cpuset/pod/cpuset.cpus"), "0-1");
  Resources none;
  none.memory_limit_bytes = -1;
  none.pids_limit = -1;
  none.cpu_shares = 1;
  ASSERT_TRUE(manager->Apply("pod", none).ok());
  EXPECT_EQ(tree.Get("sys/fs/cgroup/memory/pod/memory.limit_in_bytes"), "-1");
  EXPECT_EQ(tree.Get("sys/fs/cgroup/pids/pod/pids.max"), "max");
  EXPECT_EQ(tree.Get("sys/fs/cgroup/cpu,cpuacct/pod/cpu.shares"), "2");
  EXPECT_EQ(tree.Get("sys/fs/cgroup/cpuset/pod/cpuset.cpus"), "0-1");
}

TEST(V1Manager, NamesTheControllerThatIsMissing) {
  FakeTree tree(V1Host());
  auto manager = FakeManager(tree);
  ASSERT_TRUE(manager->Create("pod").ok());
  Resources resources;
  resources.hugepage_limit_bytes["2MB"] = 0;
  EXPECT_TRUE(manager->Apply("pod", resources).ok());
  resources.hugepage_limit_bytes["2MB"] = 1 << 21;
  absl::Status status = manager->Apply("pod", resources);
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_NE(std::string(status.message()).find("the hugetlb controller is not mounted"), std::string::npos);
}

TEST(V1Manager, ReadsStats) {
  FakeTree tree(V1Host());
  auto manager = FakeManager(tree);
  ASSERT_TRUE(manager->Create("pod").ok());
  tree.Put("sys/fs/cgroup/cpu,cpuacct/pod/cpuacct.usage", "123456789\n");
  tree.Put("sys/fs/cgroup/memory/pod/memory.usage_in_bytes", "10000\n");
  tree.Put("sys/fs/cgroup/memory/pod/memory.limit_in_bytes", "9223372036854771712\n");
  tree.Put("sys/fs/cgroup/memory/pod/memory.stat",
           "cache 1\nrss 2\npgfault 7\npgmajfault 8\ntotal_cache 2000\ntotal_rss 3000\n"
           "total_mapped_file 1000\ntotal_inactive_file 4000\ntotal_pgfault 50\ntotal_pgmajfault 60\n");
  tree.Put("sys/fs/cgroup/pids/pod/pids.current", "9\n");
  auto stats = manager->ReadStats("pod");
  ASSERT_TRUE(stats.ok()) << stats.status();
  EXPECT_EQ(stats->cpu_usage_ns, 123456789u);
  EXPECT_EQ(stats->pids, 9u);
  ASSERT_TRUE(stats->memory.has_value());
  EXPECT_EQ(stats->memory->usage_bytes, 10000u);
  EXPECT_EQ(stats->memory->working_set_bytes, 6000u);
  EXPECT_EQ(stats->memory->rss_bytes, 3000u);
  EXPECT_EQ(stats->memory->cache_bytes, 2000u);
  EXPECT_EQ(stats->memory->mapped_file_bytes, 1000u);
  EXPECT_EQ(stats->memory->page_faults, 50u);
  EXPECT_EQ(stats->memory->major_page_faults, 60u);
  EXPECT_EQ(stats->memory->own_page_faults, 7u);
  EXPECT_EQ(stats->memory->own_major_page_faults, 8u);
  EXPECT_FALSE(stats->memory->limit_bytes.has_value());
  EXPECT_FALSE(stats->memory->swap_bytes.has_value());
  EXPECT_FALSE(stats->cpu_psi.has_value());
  EXPECT_TRUE(absl::IsNotFound(manager->ReadStats("nope").status()));
  EXPECT_TRUE(absl::IsNotFound(manager->ReadStats("nope", StatsDetail::kFull).status()));
  tree.Put("sys/fs/cgroup/memory/pod/memory.stat", "garbage\n");
  absl::Status broken = manager->ReadStats("pod").status();
  EXPECT_NE(std::string(broken.message()).find("memory.stat of cgroup \"pod\""), std::string::npos) << broken;
}

TEST(V1Manager, ReadsStatsInFull) {
  auto host = V1Host();
  host["proc/mounts"] +=
      "cgroup /sys/fs/cgroup/blkio cgroup rw,relatime,blkio 0 0\n"
      "cgroup /sys/fs/cgroup/hugetlb cgroup rw,relatime,hugetlb 0 0\n";
  host["sys/fs/cgroup/blkio/"] = host["sys/fs/cgroup/hugetlb/"] = "";
  FakeTree tree(host);
  auto manager = FakeManager(tree);
  ASSERT_TRUE(manager->Create("pod").ok());
  auto bare = manager->ReadStats("pod", StatsDetail::kFull);
  ASSERT_TRUE(bare.ok()) << bare.status();
  EXPECT_FALSE(bare->cpu_user_ns.has_value());
  EXPECT_TRUE(bare->block_devices.empty());

  tree.Put("sys/fs/cgroup/cpu,cpuacct/pod/cpuacct.stat", "user 150\nsystem 25\n");
  tree.Put("sys/fs/cgroup/cpu,cpuacct/pod/cpu.stat",
           "nr_periods 11\nnr_throttled 2\nthrottled_time 77\nnr_bursts 0\nburst_time 0\n");
  tree.Put("sys/fs/cgroup/pids/pod/pids.max", "max\n");
  const std::string memory = "sys/fs/cgroup/memory/pod/memory.";
  tree.Put(memory + "usage_in_bytes", "10000\n");
  tree.Put(memory + "stat",
           "total_swap 4096\nhierarchical_memory_limit 20000\nhierarchical_memsw_limit 50000\n");
  tree.Put(memory + "max_usage_in_bytes", "12000\n");
  tree.Put(memory + "kmem.usage_in_bytes", "300\n");
  tree.Put(memory + "failcnt", "4\n");
  tree.Put(memory + "oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n");
  tree.Put("sys/fs/cgroup/blkio/pod/blkio.throttle.io_service_bytes_recursive", "\n");
  tree.Put("sys/fs/cgroup/blkio/pod/blkio.bfq.io_service_bytes_recursive",
           "8:0 Read 4096\n8:0 Write 8192\n8:0 Sync 0\n8:0 Total 12288\nTotal 12288\n");
  tree.Put("sys/fs/cgroup/blkio/pod/blkio.bfq.io_serviced_recursive", "8:0 Read 1\n8:0 Write 2\nTotal 3\n");
  const std::string hugetlb = "sys/fs/cgroup/hugetlb/pod/hugetlb.2MB.";
  tree.Put(hugetlb + "usage_in_bytes", "2097152\n");
  tree.Put(hugetlb + "max_usage_in_bytes", "4194304\n");
  tree.Put(hugetlb + "rsvd.usage_in_bytes", "0\n");
  auto stats = manager->ReadStats("pod", StatsDetail::kFull);
  ASSERT_TRUE(stats.ok()) << stats.status();
  const uint64_t ns_per_tick = 1000000000u / static_cast<uint64_t>(::sysconf(_SC_CLK_TCK));
  EXPECT_EQ(stats->cpu_user_ns, 150 * ns_per_tick);
  EXPECT_EQ(stats->cpu_system_ns, 25 * ns_per_tick);
  EXPECT_EQ(stats->cpu_periods, 11u);
  EXPECT_EQ(stats->cpu_throttled_periods, 2u);
  EXPECT_EQ(stats->cpu_throttled_ns, 77u);
  EXPECT_FALSE(stats->pids_limit.has_value());
  EXPECT_EQ(stats->memory->swap_bytes, 4096u);
  EXPECT_EQ(stats->memory->swap_limit_bytes, 30000u);
  EXPECT_EQ(stats->memory->max_usage_bytes, 12000u);
  EXPECT_EQ(stats->memory->kernel_bytes, 300u);
  EXPECT_EQ(stats->memory->limit_hits, 4u);
  EXPECT_EQ(stats->memory->oom_kills, 5u);
  ASSERT_EQ(stats->block_devices.size(), 1u);
  EXPECT_EQ(stats->block_devices[0].read_bytes, 4096u);
  EXPECT_EQ(stats->block_devices[0].write_operations, 2u);
  ASSERT_EQ(stats->hugetlb.size(), 1u);
  EXPECT_EQ(stats->hugetlb["2MB"].usage_bytes, 2097152u);
  EXPECT_EQ(stats->hugetlb["2MB"].max_usage_bytes, 4194304u);
}

TEST(V1Manager, KillsTheSubtreeAndFreezes) {
  FakeTree tree(V1Host());
  std::vector<pid_t> killed;
  ManagerOptions options;
  options.kill = [&](pid_t pid, int signal) {
    EXPECT_EQ(signal, SIGKILL);
    killed.push_back(pid);
    return 0;
  };
  auto manager = FakeManager(tree, options);
  ASSERT_TRUE(manager->Create("pod/inner").ok());
  tree.Put("sys/fs/cgroup/pids/pod/cgroup.procs", "20\n");
  tree.Put("sys/fs/cgroup/pids/pod/inner/cgroup.procs", "30\n10\n");
  EXPECT_EQ(*manager->Pids("pod", false), (std::vector<pid_t>{20}));
  EXPECT_EQ(*manager->Pids("pod", true), (std::vector<pid_t>{10, 20, 30}));
  ASSERT_TRUE(manager->KillAll("pod").ok());
  EXPECT_EQ(killed, (std::vector<pid_t>{10, 20, 30}));
  EXPECT_TRUE(manager->KillAll("gone").ok());
  EXPECT_FALSE(manager->KillAll("").ok());
  ASSERT_TRUE(manager->Freeze("pod", true).ok());
  EXPECT_EQ(tree.Get("sys/fs/cgroup/freezer/pod/freezer.state"), "FROZEN");
  EXPECT_TRUE(*manager->Frozen("pod"));
  ASSERT_TRUE(manager->AddProcess("pod", 44).ok());
  EXPECT_EQ(tree.Get("sys/fs/cgroup/memory/pod/cgroup.procs"), "44");
}

TEST(V1Manager, ASymlinkInTheTreeLeadsNowhere) {
  FakeTree tree(V1Host());
  FakeTree outside(std::map<std::string, std::string>{{"secret/cgroup.procs", "1\n"}});
  auto manager = FakeManager(tree);
  ASSERT_EQ(
      ::symlink((outside.root() + "/secret").c_str(), (tree.root() + "/sys/fs/cgroup/pids/evil").c_str()), 0);
  EXPECT_FALSE(manager->Pids("evil", false).ok());
  EXPECT_FALSE(manager->Exists("evil"));
}

TEST(HybridManager, WorksOnTheV1Controllers) {
  FakeTree tree(HybridHost());
  auto manager = FakeManager(tree);
  ASSERT_TRUE(manager->Create("pod").ok());
  EXPECT_TRUE(tree.Has("sys/fs/cgroup/memory/pod"));
  EXPECT_FALSE(tree.Has("sys/fs/cgroup/unified/pod"));
}

TEST(HybridManager, RemovesWhatTheRuntimeLeftInTheUnifiedHierarchy) {
  FakeTree tree(HybridHost());
  auto manager = FakeManager(tree);
  ASSERT_TRUE(manager->Create("pod").ok());
  tree.Put("sys/fs/cgroup/unified/pod/container/cgroup.procs", "");
  ASSERT_TRUE(manager->Destroy("pod").ok());
  EXPECT_FALSE(tree.Has("sys/fs/cgroup/unified/pod"));
  EXPECT_TRUE(manager->Destroy("pod").ok());
}

TEST(V2Manager, EnablesControllersOnTheWay) {
  FakeTree tree(V2Host());
  auto manager = FakeManager(tree);
  ASSERT_TRUE(manager->Create("kubepods").ok());
  tree.Put("sys/fs/cgroup/kubepods/cgroup.controllers", "cpu memory pids\n");
  ASSERT_TRUE(manager->Create("kubepods/pod1").ok());
  EXPECT_EQ(tree.Get("sys/fs/cgroup/cgroup.subtree_control"), "cpu cpuset hugetlb io memory pids");
  EXPECT_EQ(tree.Get("sys/fs/cgroup/kubepods/cgroup.subtree_control"), "cpu memory pids");
  EXPECT_EQ(*manager->Children("kubepods"), std::vector<std::string>{"pod1"});
  ASSERT_TRUE(manager->Destroy("kubepods").ok());
  EXPECT_FALSE(tree.Has("sys/fs/cgroup/kubepods"));
}

TEST(V2Manager, WritesEveryResource) {
  FakeTree tree(V2Host());
  auto manager = FakeManager(tree);
  ASSERT_TRUE(manager->Create("pod").ok());
  Resources resources = AllResources();
  resources.memory_min_bytes = 4096;
  resources.memory_high_bytes = -1;
  resources.hugepage_limit_bytes["2MB"] = 1 << 21;
  resources.unified["memory.swap.max"] = "0";
  absl::Status status = manager->Apply("pod", resources);
  ASSERT_TRUE(status.ok()) << status;
  const std::string pod = std::string(kV2) + "pod/";
  EXPECT_EQ(tree.Get(pod + "cpu.weight"), "100");
  EXPECT_EQ(tree.Get(pod + "cpu.max"), "50000 100000");
  EXPECT_EQ(tree.Get(pod + "memory.max"), "1048576");
  EXPECT_EQ(tree.Get(pod + "memory.min"), "4096");
  EXPECT_EQ(tree.Get(pod + "memory.high"), "max");
  EXPECT_EQ(tree.Get(pod + "pids.max"), "100");
  EXPECT_EQ(tree.Get(pod + "hugetlb.2MB.max"), "2097152");
  EXPECT_EQ(tree.Get(pod + "memory.swap.max"), "0");
  Resources quota_only;
  quota_only.cpu_quota_us = -1;
  ASSERT_TRUE(manager->Apply("pod", quota_only).ok());
  EXPECT_EQ(tree.Get(pod + "cpu.max"), "max 100000");
  Resources evil;
  evil.unified["../cpu.max"] = "1";
  EXPECT_FALSE(manager->Apply("pod", evil).ok());
  evil.unified = {{"cgroup.procs", "1"}};
  EXPECT_FALSE(manager->Apply("pod", evil).ok());
}

TEST(V2Manager, ReadsStatsAndPressure) {
  FakeTree tree(V2Host());
  auto manager = FakeManager(tree);
  ASSERT_TRUE(manager->Create("pod").ok());
  tree.Put(
      "sys/fs/cgroup/pod/cpu.stat",
      "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\nnr_periods 9\nnr_throttled 4\nthrottled_usec 3\n");
  tree.Put("sys/fs/cgroup/pod/memory.current", "8192\n");
  tree.Put("sys/fs/cgroup/pod/memory.max", "16384\n");
  tree.Put("sys/fs/cgroup/pod/memory.stat",
           "anon 4096\nfile 900\nfile_mapped 90\nkernel 700\ninactive_file 10000\npgfault 7\npgmajfault 2\n");
  tree.Put("sys/fs/cgroup/pod/memory.swap.current", "64\n");
  tree.Put("sys/fs/cgroup/pod/memory.swap.max", "max\n");
  tree.Put("sys/fs/cgroup/pod/memory.peak", "9000\n");
  tree.Put("sys/fs/cgroup/pod/memory.events", "low 0\nhigh 0\nmax 6\noom 2\noom_kill 1\n");
  tree.Put("sys/fs/cgroup/pod/pids.max", "50\n");
  tree.Put("sys/fs/cgroup/pod/io.stat", "259:0 rbytes=4096 wbytes=512 rios=1 wios=2 dbytes=0 dios=0\n");
  tree.Put("sys/fs/cgroup/pod/hugetlb.1GB.current", "1073741824\n");
  tree.Put("sys/fs/cgroup/pod/pids.current", "3\n");
  tree.Put(
      "sys/fs/cgroup/pod/memory.pressure",
      "some avg10=0.50 avg60=0.00 avg300=0.00 total=9\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1\n");
  auto stats = manager->ReadStats("pod");
  ASSERT_TRUE(stats.ok()) << stats.status();
  EXPECT_EQ(stats->cpu_usage_ns, 1500000u);
  EXPECT_FALSE(stats->cpu_user_ns.has_value());
  EXPECT_EQ(stats->memory->working_set_bytes, 0u);
  EXPECT_EQ(stats->memory->cache_bytes, 900u);
  EXPECT_EQ(stats->memory->mapped_file_bytes, 90u);
  EXPECT_EQ(stats->memory->own_page_faults, 7u);
  EXPECT_EQ(stats->memory->swap_bytes, 64u);
  EXPECT_FALSE(stats->memory->swap_limit_bytes.has_value());
  EXPECT_EQ(stats->memory->rss_bytes, 4096u);
  EXPECT_EQ(stats->memory->limit_bytes, 16384u);
  EXPECT_EQ(stats->pids, 3u);
  ASSERT_TRUE(stats->memory_psi.has_value());
  EXPECT_EQ(stats->memory_psi->some.total_us, 9u);
  EXPECT_FALSE(stats->io_psi.has_value());

  stats = manager->ReadStats("pod", StatsDetail::kFull);
  ASSERT_TRUE(stats.ok()) << stats.status();
  EXPECT_EQ(stats->cpu_user_ns, 1000000u);
  EXPECT_EQ(stats->cpu_system_ns, 500000u);
  EXPECT_EQ(stats->cpu_periods, 9u);
  EXPECT_EQ(stats->cpu_throttled_periods, 4u);
  EXPECT_EQ(stats->cpu_throttled_ns, 3000u);
  EXPECT_EQ(stats->pids_limit, 50u);
  EXPECT_EQ(stats->memory->max_usage_bytes, 9000u);
  EXPECT_EQ(stats->memory->kernel_bytes, 700u);
  EXPECT_EQ(stats->memory->limit_hits, 6u);
  EXPECT_EQ(stats->memory->oom_kills, 1u);
  ASSERT_EQ(stats->block_devices.size(), 1u);
  EXPECT_EQ(stats->block_devices[0].major, 259u);
  EXPECT_EQ(stats->block_devices[0].write_bytes, 512u);
  EXPECT_EQ(stats->hugetlb["1GB"].usage_bytes, 1073741824u);
  EXPECT_FALSE(stats->hugetlb["1GB"].max_usage_bytes.has_value());
  EXPECT_TRUE(absl::IsNotFound(manager->ReadStats("nope").status()));
}

TEST(V2Manager, TheRootsMemoryIsTheMachines) {
  FakeTree tree(V2Host());
  auto stats = FakeManager(tree)->ReadStats("");
  ASSERT_TRUE(stats.ok()) << stats.status();
  EXPECT_EQ(stats->cpu_usage_ns, 5000000000u);
  EXPECT_EQ(stats->memory->usage_bytes, 1536u * 1024);
  EXPECT_EQ(stats->memory->working_set_bytes, 1536u * 1024 - 65536);
  EXPECT_EQ(stats->memory->limit_bytes, 2048u * 1024);
}

TEST(V2Manager, KillUsesTheKernelsFileWhereItIs) {
  FakeTree tree(V2Host());
  int signals = 0;
  ManagerOptions options;
  options.kill = [&](pid_t, int) { return ++signals, 0; };
  auto manager = FakeManager(tree, options);
  ASSERT_TRUE(manager->Create("pod").ok());
  tree.Put("sys/fs/cgroup/pod/cgroup.procs", "5\n");
  ASSERT_TRUE(manager->KillAll("pod").ok());
  EXPECT_EQ(signals, 1);
  tree.Put("sys/fs/cgroup/pod/cgroup.kill", "");
  ASSERT_TRUE(manager->KillAll("pod").ok());
  EXPECT_EQ(signals, 1);
  EXPECT_EQ(tree.Get("sys/fs/cgroup/pod/cgroup.kill"), "1");
  ASSERT_TRUE(manager->Freeze("pod", true).ok());
  EXPECT_EQ(tree.Get("sys/fs/cgroup/pod/cgroup.freeze"), "1");
  tree.Put("sys/fs/cgroup/pod/cgroup.events", "populated 1\nfrozen 1\n");
  EXPECT_TRUE(*manager->Frozen("pod"));
}

}  // namespace
}  // namespace keelson::cgroups
