#include "kubelet/eviction.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace keelson::kubelet {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr int64_t kMi = 1 << 20;

TEST(Eviction, ShortagesComeMostUrgentFirst) {
  const std::map<std::string, std::string> thresholds = {{"nodefs.available", "10%"},
                                                         {"memory.available", "100Mi"},
                                                         {"imagefs.available", "0%"},
                                                         {"pid.available", "50"}};
  auto names = [&](const Levels& levels) {
    std::vector<std::string> out;
    for (const Shortage& s : ThresholdWatch({thresholds, {}, {}, {}}).Look(levels, absl::UnixEpoch()).due)
      out.push_back(std::string(SignalName(s.signal)));
    return out;
  };
  EXPECT_THAT(names({}), IsEmpty());
  EXPECT_THAT(names({{Signal::kMemoryAvailable, {100 * kMi, 1000 * kMi}}}), IsEmpty());  // at the threshold
  EXPECT_THAT(names({{Signal::kMemoryAvailable, {100 * kMi - 1, 1000 * kMi}},
                     {Signal::kNodefsAvailable, {99, 1000}},
                     {Signal::kNodefsInodesFree, {0, 1000}},  // no threshold
                     {Signal::kImagefsAvailable, {0, 1000}},  // switched off
                     {Signal::kPidAvailable, {49, 32768}}}),
              ElementsAre("memory.available", "nodefs.available", "pid.available"));
  std::vector<Shortage> disk = ThresholdWatch({thresholds, {}, {}, {}})
                                   .Look({{Signal::kNodefsAvailable, {99, 1000}}}, absl::UnixEpoch())
                                   .due;
  ASSERT_EQ(disk.size(), 1u);
  EXPECT_EQ(disk[0].threshold, 100);
  EXPECT_EQ(disk[0].available, 99);
}

TEST(Eviction, SoftThresholdsHaveGraceAndWhatWasDueStaysUntilEnoughIsFree) {
  ThresholdWatch watch({{{"memory.available", "100"}},
                        {{"memory.available", "200"}},
                        {{"memory.available", "5%"}},  // of 1000
                        {{"memory.available", absl::Seconds(60)}}});
  struct Step {
    int at_s;
    int64_t available;
    std::string crossed, due;  // "h": the hard one, "s": the soft one
  } steps[] = {
      {0, 500, "", ""},     {10, 199, "s", ""},    {20, 300, "", ""},     {30, 150, "s", ""},
      {80, 150, "s", ""},   {90, 150, "s", "s"},   {100, 249, "s", "s"},  {110, 250, "", ""},
      {120, 240, "", ""},   {130, 50, "hs", "h"},  {140, 120, "hs", "h"}, {150, 150, "s", ""},
      {190, 150, "s", "s"}, {200, 90, "hs", "hs"}, {210, 260, "", ""},
  };
  for (const Step& step : steps) {
    auto verdict = watch.Look({{Signal::kMemoryAvailable, {step.available, 1000}}},
                              absl::UnixEpoch() + absl::Seconds(step.at_s));
    std::string crossed, due;
    for (const Shortage& s : verdict.crossed) crossed += s.soft ? "s" : "h";
    for (const Shortage& s : verdict.due) due += s.soft ? "s" : "h";
    EXPECT_EQ(crossed, step.crossed) << step.at_s;
    EXPECT_EQ(due, step.due) << step.at_s;
  }
}

TEST(Eviction, ConditionsOutlastTheirCause) {
  PressureState state;
  const absl::Time start = absl::FromUnixSeconds(1000);
  const absl::Duration period = absl::Minutes(5);
  const std::vector<Shortage> memory = {{Signal::kMemoryAvailable, 1, 2}};
  EXPECT_FALSE(state.Update({}, start, period));
  EXPECT_TRUE(state.Update(memory, start, period));
  EXPECT_TRUE(state.memory());
  EXPECT_FALSE(state.disk());
  EXPECT_FALSE(state.Update({}, start + absl::Minutes(4), period));
  EXPECT_TRUE(state.memory());
  EXPECT_FALSE(state.Update(memory, start + absl::Minutes(4), period));
  EXPECT_FALSE(state.Update({}, start + absl::Minutes(8), period));
  EXPECT_TRUE(state.Update({}, start + absl::Minutes(9), period));
  EXPECT_FALSE(state.memory());
  EXPECT_TRUE(
      state.Update({{Signal::kImagefsInodesFree, 1, 2}, {Signal::kPidAvailable, 1, 2}}, start, period));
  EXPECT_TRUE(state.disk());
  EXPECT_TRUE(state.pid());
}

PodUsage Usage(const std::string& name, int priority, const std::string& resource, int64_t request_mi,
               std::optional<int64_t> used_mi) {
  auto pod = std::make_shared<corev1::Pod>();
  pod->mutable_metadata()->set_name(name);
  pod->mutable_spec()->set_priority(priority);
  auto* container = pod->mutable_spec()->add_containers();
  container->set_name("c");
  if (request_mi > 0) {
    (*container->mutable_resources()->mutable_requests())[resource].set_string(std::to_string(request_mi) +
                                                                               "Mi");
  }
  PodUsage usage;
  usage.pod = pod;
  std::optional<int64_t> used;
  if (used_mi.has_value()) used = *used_mi * kMi;
  if (resource == "memory") usage.memory_bytes = used;
  if (resource == "ephemeral-storage") usage.disk_bytes = used;
  if (resource == "pids") usage.processes = used_mi;
  return usage;
}

std::vector<std::string> Order(std::vector<PodUsage> pods, Signal signal) {
  std::vector<std::string> out;
  for (const PodUsage& usage : RankForEviction(std::move(pods), signal))
    out.push_back(usage.pod->metadata().name());
  return out;
}

TEST(Eviction, WhoGoesFirst) {
  const std::string m = "memory", d = "ephemeral-storage", p = "pids";
  EXPECT_THAT(Order({Usage("within, large", 0, m, 1000, 900), Usage("above by 10", 0, m, 100, 110),
                     Usage("above by 50", 0, m, 0, 50), Usage("above, important", 1000, m, 0, 500),
                     Usage("within, small", 0, m, 100, 10), Usage("unknown", 2000, m, 0, std::nullopt)},
                    Signal::kMemoryAvailable),
              ElementsAre("unknown", "above by 50", "above by 10", "above, important", "within, small",
                          "within, large"));
  EXPECT_THAT(Order({Usage("a", 0, d, 0, 1), Usage("b", 0, d, 0, 2), Usage("c", -1, d, 0, 1)},
                    Signal::kImagefsAvailable),
              ElementsAre("c", "b", "a"));
  EXPECT_THAT(
      Order({Usage("few", 0, p, 0, 3), Usage("many", 0, p, 0, 300), Usage("most, important", 5, p, 0, 999)},
            Signal::kPidAvailable),
      ElementsAre("many", "few", "most, important"));
  // What the node itself needs stays.
  PodUsage of_file = Usage("static", 0, m, 0, 999);
  auto copy = std::make_shared<corev1::Pod>(*of_file.pod);
  (*copy->mutable_metadata()->mutable_annotations())["kubernetes.io/config.source"] = "file";
  of_file.pod = copy;
  EXPECT_THAT(Order({of_file, Usage("system", 2'000'000'000, m, 0, 999)}, Signal::kMemoryAvailable),
              IsEmpty());
}

TEST(Eviction, TheMessageNamesTheContainersAboveTheirRequest) {
  PodUsage usage = Usage("a", 0, "memory", 100, 300);
  usage.containers["c"].memory_bytes = 300 * kMi;
  EXPECT_EQ(
      EvictionMessage({Signal::kMemoryAvailable, 50 * kMi, 100 * kMi}, usage),
      "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. Container c was "
      "using 300Mi, request is 100Mi, has larger consumption of memory. ");
  usage.containers["c"].memory_bytes = 100 * kMi;
  EXPECT_EQ(EvictionMessage({Signal::kMemoryAvailable, 50 * kMi, 100 * kMi}, usage),
            "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. ");
  EXPECT_EQ(EvictionMessage({Signal::kNodefsInodesFree, 5, 10}, usage),
            "The node was low on resource: inodes. Threshold quantity: 10, available: 5. ");
}

// ---- a pod's own limits on the node's disk ----

corev1::Pod PodWithDiskLimits(const std::string& size_limit, const std::string& limit_a,
                              const std::string& limit_b) {
  corev1::Pod pod;
  for (const auto& [name, limit] : {std::pair("a", limit_a), std::pair("b", limit_b)}) {
    auto* container = pod.mutable_spec()->add_containers();
    container->set_name(name);
    if (!limit.empty()) {
      (*container->mutable_resources()->mutable_limits())["ephemeral-storage"].set_string(limit);
    }
  }
  auto* volume = pod.mutable_spec()->add_volumes();
  volume->set_name("data");
  auto* source = volume->mutable_volume_source()->mutable_empty_dir();
  if (!size_limit.empty()) source->mutable_size_limit()->set_string(size_limit);
  return pod;
}

TEST(Eviction, WhatAPodMayHaveOnTheDisk) {
  struct Case {
    std::string size_limit, limit_a, limit_b;
    int64_t data_mi, a_mi, b_mi;
    std::string want;
  };
  const Case cases[] = {
      {"", "", "", 999, 999, 999, ""},
      {"10Mi", "", "", 10, 999, 999, ""},
      {"10Mi", "", "", 11, 0, 0, "Usage of EmptyDir volume \"data\" exceeds the limit \"10Mi\". "},
      {"0", "", "", 11, 0, 0, ""},
      {"", "10Mi", "20Mi", 10, 10, 10, ""},
      {"", "10Mi", "20Mi", 11, 10, 10,
       "Pod ephemeral local storage usage exceeds the total limit of containers 30Mi. "},
      {"", "10Mi", "", 0, 5, 6,
       "Pod ephemeral local storage usage exceeds the total limit of containers 10Mi. "},
      {"", "10Mi", "20Mi", 0, 11, 10, "Container a exceeded its local ephemeral storage limit \"10Mi\". "},
      {"", "10Mi", "20Mi", 0, 9, 21, "Container b exceeded its local ephemeral storage limit \"20Mi\". "},
      {"1Mi", "1Mi", "1Mi", 9, 9, 9, "Usage of EmptyDir volume \"data\" exceeds the limit \"1Mi\". "},
  };
  for (const Case& c : cases) {
    LocalStorageUsage usage;
    usage.empty_dir_bytes["data"] = c.data_mi * kMi;
    usage.container_bytes = {{"a", c.a_mi * kMi}, {"b", c.b_mi * kMi}};
    usage.pod_bytes = (c.data_mi + c.a_mi + c.b_mi) * kMi;
    EXPECT_EQ(LocalStorageViolation(PodWithDiskLimits(c.size_limit, c.limit_a, c.limit_b), usage), c.want)
        << c.size_limit << " " << c.limit_a << " " << c.limit_b;
  }
  // A tmpfs has the size it was made with.
  corev1::Pod in_memory = PodWithDiskLimits("1Mi", "", "");
  in_memory.mutable_spec()->mutable_volumes(0)->mutable_volume_source()->mutable_empty_dir()->set_medium(
      "Memory");
  EXPECT_FALSE(HasSizeLimit(in_memory.spec().volumes(0)));
}

}  // namespace
}  // namespace keelson::kubelet
