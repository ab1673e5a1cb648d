#include "cri/server/usage.h"

#include <gtest/gtest.h>

namespace keelson::cri {
namespace {

constexpr absl::Duration kSecond = absl::Seconds(1);

TEST(NanoCores, IsTheRateSinceTheSampleBefore) {
  absl::Time start = absl::FromUnixSeconds(1000);
  CpuSample sample;
  EXPECT_EQ(NanoCores(&sample, start, 5'000'000'000), std::nullopt);
  struct Row {
    std::string what;
    absl::Duration at;
    uint64_t usage_ns;
    std::optional<uint64_t> nano_cores;
  };
  for (const Row& row : std::vector<Row>{
           {"too early, nothing known", absl::Milliseconds(499), 6'000'000'000, std::nullopt},
           {"half a CPU", 2 * kSecond, 6'000'000'000, 500'000'000},
           {"too early: as before", 2 * kSecond + absl::Milliseconds(100), 6'900'000'000, 500'000'000},
           {"and it moved no sample", 3 * kSecond, 7'000'000'000, 1'000'000'000},
           {"idle", 13 * kSecond, 7'000'000'000, 0},
           {"two CPUs", 14 * kSecond, 9'000'000'000, 2'000'000'000},
           {"a counter that went back: another cgroup", 15 * kSecond, 10, std::nullopt},
           {"from there on", 16 * kSecond, 1'000'000'010, 1'000'000'000},
           {"a clock that went back", 5 * kSecond, 2'000'000'010, std::nullopt},
           {"from there on again", 6 * kSecond, 2'250'000'010, 250'000'000},
       }) {
    EXPECT_EQ(NanoCores(&sample, start + row.at, row.usage_ns), row.nano_cores) << row.what;
  }
}

records::Container ContainerRecord() {
  records::Container record;
  record.set_id("c1");
  record.set_sandbox_id("s1");
  record.mutable_config()->mutable_metadata()->set_name("web");
  (*record.mutable_config()->mutable_labels())["app"] = "web";
  (*record.mutable_config()->mutable_annotations())["note"] = "x";
  return record;
}

cgroups::Stats SomeStats() {
  cgroups::Stats stats;
  stats.cpu_usage_ns = 7;
  stats.pids = 3;
  stats.memory.emplace();
  stats.memory->usage_bytes = 100;
  stats.memory->working_set_bytes = 80;
  stats.memory->rss_bytes = 60;
  stats.memory->page_faults = 5;
  stats.memory->major_page_faults = 1;
  return stats;
}

TEST(ContainerStats, OfARunningContainer) {
  cgroups::Stats cgroup = SomeStats();
  ContainerReadings readings;
  readings.at = absl::FromUnixNanos(123);
  readings.cgroup = &cgroup;
  readings.nano_cores = 250;
  readings.layer = LayerUsage{absl::FromUnixNanos(99), 4096, 2};
  readings.layer_mount_point = "/var/lib/keelson";
  v1::ContainerStats stats = ContainerStatsOf(ContainerRecord(), readings);
  EXPECT_EQ(stats.attributes().id(), "c1");
  EXPECT_EQ(stats.attributes().metadata().name(), "web");
  EXPECT_EQ(stats.attributes().labels().at("app"), "web");
  EXPECT_EQ(stats.attributes().annotations().at("note"), "x");
  EXPECT_EQ(stats.cpu().timestamp(), 123);
  EXPECT_EQ(stats.cpu().usage_core_nano_seconds().value(), 7u);
  EXPECT_EQ(stats.cpu().usage_nano_cores().value(), 250u);
  EXPECT_EQ(stats.memory().timestamp(), 123);
  EXPECT_EQ(stats.memory().usage_bytes().value(), 100u);
  EXPECT_EQ(stats.memory().working_set_bytes().value(), 80u);
  EXPECT_EQ(stats.memory().rss_bytes().value(), 60u);
  EXPECT_EQ(stats.memory().page_faults().value(), 5u);
  EXPECT_EQ(stats.memory().major_page_faults().value(), 1u);
  EXPECT_EQ(stats.writable_layer().timestamp(), 99);
  EXPECT_EQ(stats.writable_layer().fs_id().mountpoint(), "/var/lib/keelson");
  EXPECT_EQ(stats.writable_layer().used_bytes().value(), 4096u);
  EXPECT_EQ(stats.writable_layer().inodes_used().value(), 2u);
  // What the kernel does not tell is absent, not zero.
  EXPECT_FALSE(stats.memory().has_available_bytes());
  EXPECT_FALSE(stats.has_swap());
  EXPECT_FALSE(stats.has_io());
  EXPECT_FALSE(stats.cpu().has_psi());
}

TEST(ContainerStats, LimitsSwapAndPressure) {
  struct Row {
    std::optional<uint64_t> limit, available;
  };
  for (const Row& row : std::vector<Row>{{std::nullopt, std::nullopt}, {200, 120}, {80, 0}, {50, 0}}) {
    cgroups::Stats cgroup = SomeStats();
    cgroup.memory->limit_bytes = row.limit;
    ContainerReadings readings;
    readings.cgroup = &cgroup;
    v1::ContainerStats stats = ContainerStatsOf(ContainerRecord(), readings);
    EXPECT_EQ(stats.memory().has_available_bytes(), row.available.has_value());
    EXPECT_EQ(stats.memory().available_bytes().value(), row.available.value_or(0));
  }
  cgroups::Stats cgroup = SomeStats();
  cgroup.memory->swap_bytes = 10;
  cgroup.memory->swap_limit_bytes = 30;
  cgroup.io_psi.emplace();
  cgroup.cpu_psi.emplace();
  cgroup.cpu_psi->some.avg10_percent = 1.5;
  cgroup.cpu_psi->full.total_us = 9;
  ContainerReadings readings;
  readings.cgroup = &cgroup;
  v1::ContainerStats stats = ContainerStatsOf(ContainerRecord(), readings);
  EXPECT_EQ(stats.swap().swap_usage_bytes().value(), 10u);
  EXPECT_EQ(stats.swap().swap_available_bytes().value(), 20u);
  EXPECT_TRUE(stats.io().has_psi());
  EXPECT_EQ(stats.cpu().psi().some().avg10(), 1.5);
  EXPECT_EQ(stats.cpu().psi().full().total(), 9u);
}

TEST(ContainerStats, OfOneThatDoesNotRun) {
  v1::ContainerStats stats = ContainerStatsOf(ContainerRecord(), {});
  EXPECT_EQ(stats.attributes().id(), "c1");
  EXPECT_FALSE(stats.has_cpu());
  EXPECT_FALSE(stats.has_memory());
  EXPECT_FALSE(stats.has_writable_layer());
}

TEST(PodStats, NamesTheDefaultInterfaceOnce) {
  records::Sandbox record;
  record.set_id("s1");
  record.mutable_config()->mutable_metadata()->set_name("pod");
  cgroups::Stats cgroup = SomeStats();
  std::vector<InterfaceCounters> interfaces(2);
  interfaces[0].name = "net1";
  interfaces[1].name = "eth0";
  interfaces[1].rx_bytes = 11;
  interfaces[1].tx_errors = 2;
  PodReadings readings;
  readings.at = absl::FromUnixNanos(5);
  readings.cgroup = &cgroup;
  readings.interfaces = &interfaces;
  v1::PodSandboxStats stats = PodStatsOf(record, readings);
  EXPECT_EQ(stats.attributes().metadata().name(), "pod");
  EXPECT_EQ(stats.linux().cpu().usage_core_nano_seconds().value(), 7u);
  EXPECT_EQ(stats.linux().process().process_count().value(), 3u);
  EXPECT_EQ(stats.linux().network().timestamp(), 5);
  EXPECT_EQ(stats.linux().network().default_interface().name(), "eth0");
  EXPECT_EQ(stats.linux().network().default_interface().rx_bytes().value(), 11u);
  EXPECT_EQ(stats.linux().network().default_interface().tx_errors().value(), 2u);
  ASSERT_EQ(stats.linux().network().interfaces_size(), 1);
  EXPECT_EQ(stats.linux().network().interfaces(0).name(), "net1");
  interfaces.pop_back();
  stats = PodStatsOf(record, readings);
  EXPECT_EQ(stats.linux().network().default_interface().name(), "net1");
  EXPECT_EQ(stats.linux().network().interfaces_size(), 0);
  readings.interfaces = nullptr;
  readings.cgroup = nullptr;
  stats = PodStatsOf(record, readings);
  EXPECT_FALSE(stats.linux().has_network());
  EXPECT_FALSE(stats.linux().has_cpu());
}

TEST(SumOf, AddsUpAndHasALimitWhenAllHave) {
  cgroups::Stats a = SomeStats(), b = SomeStats(), none;
  a.memory->limit_bytes = 1000;
  cgroups::Stats sum = SumOf({&a, &b, &none});
  EXPECT_EQ(sum.cpu_usage_ns, 14u);
  EXPECT_EQ(sum.pids, 6u);
  EXPECT_EQ(sum.memory->working_set_bytes, 160u);
  EXPECT_FALSE(sum.memory->limit_bytes.has_value());
  b.memory->limit_bytes = 500;
  EXPECT_EQ(SumOf({&a, &b}).memory->limit_bytes, 1500u);
  EXPECT_FALSE(SumOf({}).memory.has_value());
  EXPECT_FALSE(SumOf({}).cpu_usage_ns.has_value());
}

}  // namespace
}  // namespace keelson::cri
