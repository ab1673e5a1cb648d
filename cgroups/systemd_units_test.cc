#include "cgroups/systemd_units.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <map>

#include "base/strings.h"
#include "cgroups/conversions.h"
#include "cgroups/qos_tree.h"
#include "cgroups/testing/fake_tree.h"

namespace keelson::cgroups {
namespace {

using ::testing::ElementsAre;

std::unique_ptr<Manager> SystemdManager(const FakeTree& tree) {
  ManagerOptions options;
  options.fake_tree = true;
  options.kill = [](pid_t, int) { return 0; };
  return *NewManager(*Discover({tree.root()}), options);
}

constexpr uint64_t kInfinity = std::numeric_limits<uint64_t>::max();

TEST(LimitProperties, OfWhatIsSetAlone) {
  EXPECT_TRUE(LimitProperties(Resources(), true).empty());
  Resources all;
  all.cpu_shares = 1024;
  all.cpu_quota_us = 150000;
  all.cpu_period_us = 100000;
  all.memory_limit_bytes = 1 << 30;
  all.memory_min_bytes = 1 << 20;
  all.memory_high_bytes = 1 << 29;
  all.pids_limit = 100;
  all.hugepage_limit_bytes["2MB"] = 0;  // systemd knows no such thing
  using P = UnitProperty;
  EXPECT_THAT(LimitProperties(all, true),
              ElementsAre(P{"CPUWeight", SharesToWeight(1024)}, P{"CPUQuotaPeriodUSec", uint64_t{100000}},
                          P{"CPUQuotaPerSecUSec", uint64_t{1500000}}, P{"MemoryMax", uint64_t{1 << 30}},
                          P{"MemoryMin", uint64_t{1 << 20}}, P{"MemoryHigh", uint64_t{1 << 29}},
                          P{"TasksMax", uint64_t{100}}));
  EXPECT_THAT(LimitProperties(all, false),
              ElementsAre(P{"CPUShares", uint64_t{1024}}, P{"CPUQuotaPeriodUSec", uint64_t{100000}},
                          P{"CPUQuotaPerSecUSec", uint64_t{1500000}}, P{"MemoryLimit", uint64_t{1 << 30}},
                          P{"TasksMax", uint64_t{100}}));
}

TEST(LimitProperties, NoLimitIsInfinityAndQuotasAreRoundedUp) {
  Resources none;
  none.cpu_quota_us = none.memory_limit_bytes = none.pids_limit = -1;
  for (const UnitProperty& property : LimitProperties(none, true)) {
    if (property.name == "CPUQuotaPeriodUSec") continue;
    EXPECT_EQ(std::get<uint64_t>(property.value), kInfinity) << property.name;
  }
  Resources odd;
  odd.cpu_quota_us = 1234;
  odd.cpu_period_us = 100000;
  EXPECT_EQ(LimitProperties(odd, true)[1], (UnitProperty{"CPUQuotaPerSecUSec", uint64_t{20000}}));
}

TEST(LimitProperties, FilesOfTheUnifiedHierarchyAndSetsOfCpus) {
  Resources resources;
  resources.memory_limit_bytes = 1000;
  resources.cpuset_cpus = "0-2,9";
  resources.cpuset_mems = "0";
  resources.unified = {{"memory.swap.max", "0"},  {"memory.high", "900"}, {"cpu.max", "50000 100000"},
                       {"pids.max", "max"},       {"cpu.weight", "17"},   {"io.max", "8:0 rbps=1"},
                       {"memory.low", "a lot"},   {"memory.min", "1 2"},  {"hugetlb.2MB.max", "0"},
                       {"io.weight", "default 9"}};
  const std::vector<UnitProperty> got = LimitProperties(resources, true);
  EXPECT_THAT(got, testing::ElementsAre(UnitProperty{"MemoryMax", uint64_t{1000}},
                                        UnitProperty{"AllowedCPUs", std::vector<uint8_t>{7, 2}},
                                        UnitProperty{"AllowedMemoryNodes", std::vector<uint8_t>{1}},
                                        UnitProperty{"CPUQuotaPeriodUSec", uint64_t{100000}},
                                        UnitProperty{"CPUQuotaPerSecUSec", uint64_t{500000}},
                                        UnitProperty{"CPUWeight", uint64_t{17}},
                                        UnitProperty{"MemoryHigh", uint64_t{900}},
                                        UnitProperty{"MemorySwapMax", uint64_t{0}},
                                        UnitProperty{"TasksMax", std::numeric_limits<uint64_t>::max()}));
  EXPECT_EQ(LimitProperties(resources, false).size(), 1u);
}

// systemd on a fake tree: makes and removes the directories.
class FakeUnits : public SystemdUnits {
 public:
  explicit FakeUnits(Manager& manager) : manager_(manager) {}
  absl::Status EnsureSlice(std::string name, Resources resources) override {
    ++calls;
    slices[name] = LimitProperties(resources, true);
    auto path = ExpandSlice(name);
    return path.ok() ? manager_.Create(*path) : path.status();
  }
  absl::Status SetLimits(std::string name, Resources resources) override {
    slices[name] = LimitProperties(resources, true);
    return absl::OkStatus();
  }
  absl::Status StopSlice(std::string name) override {
    if (slices.erase(name) == 0) return absl::OkStatus();
    return manager_.Destroy(*ExpandSlice(name));
  }
  std::map<std::string, std::vector<UnitProperty>> slices;
  int calls = 0;

 private:
  Manager& manager_;
};

TEST(QosTreeOnSystemd, AsksForSlicesAndStopsThem) {
  FakeTree host(V1Host());
  auto manager = SystemdManager(host);
  FakeUnits units(*manager);
  QosTree tree(*manager, {});
  EXPECT_FALSE(tree.waits_for_systemd());
  tree.UseSystemd(&units);
  EXPECT_TRUE(tree.waits_for_systemd());
  Resources node;
  node.memory_limit_bytes = 1 << 30;
  ASSERT_TRUE(tree.Setup(node).ok());
  EXPECT_EQ(units.slices["kubepods.slice"].front(), (UnitProperty{"MemoryMax", uint64_t{1 << 30}}));
  EXPECT_TRUE(units.slices.contains("kubepods-besteffort.slice"));
  PodRequirements pod;
  pod.qos = QosClass::kBurstable;
  pod.cpu_request_milli = 1000;
  ASSERT_TRUE(tree.EnsurePod("u-1", pod).ok());
  ASSERT_TRUE(tree.EnsurePod("u-1", pod).ok()) << "again";
  EXPECT_TRUE(units.slices.contains("kubepods-burstable-podu_1.slice"));
  EXPECT_TRUE(manager->Exists(tree.PodPath("u-1", QosClass::kBurstable)));
  auto pods = tree.ListPods();
  ASSERT_TRUE(pods.ok());
  EXPECT_EQ(pods->count("u-1"), 1u);

  ASSERT_TRUE(tree.UpdateQosShares(500).ok());
  const int calls = units.calls;
  ASSERT_TRUE(tree.UpdateQosShares(500).ok());
  EXPECT_EQ(units.calls, calls) << "systemd knows already";
  ASSERT_TRUE(tree.UpdateQosShares(600).ok());
  EXPECT_EQ(units.calls, calls + 1);

  ASSERT_TRUE(tree.RemovePod("u-1", QosClass::kBurstable).ok());
  EXPECT_FALSE(units.slices.contains("kubepods-burstable-podu_1.slice"));
  EXPECT_TRUE(tree.RemovePod("u-1", QosClass::kBurstable).ok()) << "again";
}

}  // namespace
}  // namespace keelson::cgroups
