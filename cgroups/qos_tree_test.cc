#include "cgroups/qos_tree.h"

#include <gtest/gtest.h>

#include "cgroups/testing/fake_tree.h"

namespace keelson::cgroups {
namespace {

std::unique_ptr<Manager> QosManager(const FakeTree& tree, std::vector<pid_t>* killed = nullptr) {
  ManagerOptions options;
  options.fake_tree = true;
  options.kill = [killed](pid_t pid, int) {
    if (killed != nullptr) killed->push_back(pid);
    return 0;
  };
  return *NewManager(*Discover({tree.root()}), options);
}

TEST(PodResources, FollowTheQosClass) {
  PodRequirements pod;
  Resources best_effort = PodResources(pod);
  EXPECT_EQ(best_effort.cpu_shares, 2u);
  EXPECT_FALSE(best_effort.cpu_quota_us.has_value());
  EXPECT_FALSE(best_effort.memory_limit_bytes.has_value());

  pod.qos = QosClass::kBurstable;
  pod.cpu_request_milli = 250;
  Resources burstable = PodResources(pod);
  EXPECT_EQ(burstable.cpu_shares, 256u);
  EXPECT_EQ(burstable.cpu_quota_us, -1);
  EXPECT_EQ(burstable.memory_limit_bytes, -1);

  pod.qos = QosClass::kGuaranteed;
  pod.cpu_request_milli = pod.cpu_limit_milli = 1500;
  pod.memory_request_bytes = pod.memory_limit_bytes = 1 << 30;
  pod.pids_limit = 1024;
  Resources guaranteed = PodResources(pod);
  EXPECT_EQ(guaranteed.cpu_shares, 1536u);
  EXPECT_EQ(guaranteed.cpu_quota_us, 150000);
  EXPECT_EQ(guaranteed.cpu_period_us, 100000u);
  EXPECT_EQ(guaranteed.memory_limit_bytes, 1 << 30);
  EXPECT_EQ(guaranteed.pids_limit, 1024);

  pod.enforce_cpu_quota = false;
  EXPECT_EQ(PodResources(pod).cpu_quota_us, -1);
}

TEST(QosTree, NamesAreUpstreams) {
  FakeTree host(V2Host());
  auto manager = QosManager(host);
  QosTree tree(*manager, {});
  EXPECT_EQ(tree.PodPath("u-1", QosClass::kGuaranteed), "kubepods/podu-1");
  EXPECT_EQ(tree.PodPath("u-1", QosClass::kBurstable), "kubepods/burstable/podu-1");
  EXPECT_EQ(tree.CgroupParent("u-1", QosClass::kBestEffort), "/kubepods/besteffort/podu-1");
  QosTree rooted(*manager, {"/keelson-x/", false});
  EXPECT_EQ(rooted.CgroupParent("u-1", QosClass::kBurstable), "/keelson-x/kubepods/burstable/podu-1");
  QosTree systemd(*manager, {"", true});
  EXPECT_EQ(systemd.PodPath("u-1", QosClass::kBurstable),
            "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podu_1.slice");
  EXPECT_EQ(systemd.CgroupParent("u-1", QosClass::kBurstable), "kubepods-burstable-podu_1.slice");
  EXPECT_EQ(QosTree::UidOf("podabc"), "abc");
  EXPECT_EQ(QosTree::UidOf("kubepods-burstable-podu_1.slice"), "u-1");
  EXPECT_EQ(QosTree::UidOf("burstable"), "");
}

TEST(QosTree, LivesOnV1AndV2) {
  for (const auto& files : {V1Host(), V2Host(), HybridHost()}) {
    FakeTree host(files);
    std::vector<pid_t> killed;
    auto manager = QosManager(host, &killed);
    bool v2 = manager->layout().mode == Mode::kV2;
    std::string cpu = v2 ? "sys/fs/cgroup/" : "sys/fs/cgroup/cpu,cpuacct/";
    if (v2) {  // what the kernel would show in new directories
      for (const char* level : {"kubepods", "kubepods/burstable", "kubepods/besteffort"}) {
        host.Put(std::string("sys/fs/cgroup/") + level + "/cgroup.controllers", "cpu memory pids\n");
      }
    }
    QosTree tree(*manager, {});
    Resources node;
    node.cpu_shares = 2048;
    absl::Status status = tree.Setup(node);
    ASSERT_TRUE(status.ok()) << status;
    ASSERT_TRUE(tree.Setup(node).ok());
    EXPECT_EQ(host.Get(cpu + (v2 ? "kubepods/cpu.weight" : "kubepods/cpu.shares")), v2 ? "174" : "2048");
    EXPECT_EQ(host.Get(cpu + (v2 ? "kubepods/besteffort/cpu.weight" : "kubepods/besteffort/cpu.shares")),
              v2 ? "1" : "2");
    ASSERT_TRUE(tree.UpdateQosShares(1000).ok());
    EXPECT_EQ(host.Get(cpu + (v2 ? "kubepods/burstable/cpu.weight" : "kubepods/burstable/cpu.shares")),
              v2 ? "100" : "1024");

    PodRequirements burstable;
    burstable.qos = QosClass::kBurstable;
    burstable.cpu_request_milli = 500;
    PodRequirements guaranteed;
    guaranteed.qos = QosClass::kGuaranteed;
    status = tree.EnsurePod("b", burstable);
    ASSERT_TRUE(status.ok()) << status;
    ASSERT_TRUE(tree.EnsurePod("b", burstable).ok());
    ASSERT_TRUE(tree.EnsurePod("g", guaranteed).ok());
    ASSERT_TRUE(tree.EnsurePod("e", PodRequirements()).ok());
    EXPECT_FALSE(tree.EnsurePod("../x", burstable).ok());
    auto pods = tree.ListPods();
    ASSERT_TRUE(pods.ok());
    EXPECT_EQ(*pods, (std::map<std::string, std::string>{{"b", "kubepods/burstable/podb"},
                                                         {"e", "kubepods/besteffort/pode"},
                                                         {"g", "kubepods/podg"}}));

    host.Put(
        std::string(v2 ? "sys/fs/cgroup/" : "sys/fs/cgroup/pids/") + "kubepods/burstable/podb/cgroup.procs",
        "77\n");
    ASSERT_TRUE(tree.RemovePod("b", QosClass::kBurstable).ok());
    EXPECT_EQ(killed, (std::vector<pid_t>{77}));
    ASSERT_TRUE(tree.RemovePod("b", QosClass::kBurstable).ok());
    EXPECT_EQ(tree.ListPods()->size(), 2u);
  }
}

}  // namespace
}  // namespace keelson::cgroups
