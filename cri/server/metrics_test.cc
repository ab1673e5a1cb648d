#include "cri/server/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

namespace keelson::cri {
namespace {

using ::testing::ElementsAre;

records::Container LimitedContainer() {
  records::Container record;
  record.set_id("c1");
  record.set_cgroup_path("kubepods/pod1/c1");
  record.set_started_at_ns(1'700'000'000'500'000'000);
  record.mutable_config()->mutable_metadata()->set_name("web");
  record.mutable_config()->mutable_image()->set_image("sha256:abc");
  record.mutable_config()->mutable_image()->set_user_specified_image("nginx:1");
  record.mutable_resources()->set_cpu_quota(20000);
  record.mutable_resources()->set_memory_limit_in_bytes(64 << 20);
  return record;
}

v1::PodSandboxMetadata Pod() {
  v1::PodSandboxMetadata pod;
  pod.set_name("pod-a");
  pod.set_namespace_("team");
  return pod;
}

// The first metric of a name, as upstream's suite looks at them.
std::map<std::string, v1::Metric> FirstByName(const google::protobuf::RepeatedPtrField<v1::Metric>& metrics) {
  std::map<std::string, v1::Metric> out;
  for (const v1::Metric& metric : metrics) out.emplace(metric.name(), metric);
  return out;
}

std::vector<InterfaceCounters> OneInterface() {
  std::vector<InterfaceCounters> interfaces(1);
  interfaces[0].name = "eth0";
  interfaces[0].rx_bytes = 10;
  interfaces[0].tx_dropped = 3;
  return interfaces;
}

TEST(MetricDescriptors, AreWhatTheSuiteWants) {
  const std::set<std::string> kWanted = {
      "container_blkio_device_usage_total",
      "container_cpu_cfs_periods_total",
      "container_cpu_cfs_throttled_periods_total",
      "container_cpu_cfs_throttled_seconds_total",
      "container_cpu_system_seconds_total",
      "container_cpu_usage_seconds_total",
      "container_cpu_user_seconds_total",
      "container_file_descriptors",
      "container_fs_inodes_free",
      "container_fs_inodes_total",
      "container_fs_limit_bytes",
      "container_fs_reads_bytes_total",
      "container_fs_reads_total",
      "container_fs_usage_bytes",
      "container_fs_writes_bytes_total",
      "container_fs_writes_total",
      "container_last_seen",
      "container_memory_cache",
      "container_memory_failcnt",
      "container_memory_failures_total",
      "container_memory_kernel_usage",
      "container_memory_mapped_file",
      "container_memory_max_usage_bytes",
      "container_memory_rss",
      "container_memory_swap",
      "container_memory_usage_bytes",
      "container_memory_working_set_bytes",
      "container_network_receive_bytes_total",
      "container_network_receive_errors_total",
      "container_network_receive_packets_dropped_total",
      "container_network_receive_packets_total",
      "container_network_transmit_bytes_total",
      "container_network_transmit_errors_total",
      "container_network_transmit_packets_dropped_total",
      "container_network_transmit_packets_total",
      "container_oom_events_total",
      "container_processes",
      "container_sockets",
      "container_spec_cpu_period",
      "container_spec_cpu_shares",
      "container_spec_memory_limit_bytes",
      "container_spec_memory_swap_limit_bytes",
      "container_start_time_seconds",
      "container_threads",
      "container_threads_max",
  };
  const std::set<std::string> kExcused = {
      "container_hugetlb_max_usage_bytes",
      "container_hugetlb_usage_bytes",
      "container_pressure_cpu_stalled_seconds_total",
      "container_pressure_cpu_waiting_seconds_total",
      "container_pressure_io_stalled_seconds_total",
      "container_pressure_io_waiting_seconds_total",
      "container_pressure_memory_stalled_seconds_total",
      "container_pressure_memory_waiting_seconds_total",
      "container_spec_cpu_quota",
      "container_spec_memory_reservation_limit_bytes",
      "container_ulimits_soft",
  };
  std::set<std::string> always, optional;
  for (const v1::MetricDescriptor& descriptor : MetricDescriptors({true, true})) {
    EXPECT_FALSE(descriptor.help().empty()) << descriptor.name();
    EXPECT_FALSE(descriptor.label_keys().empty()) << descriptor.name();
    std::set<std::string> keys(descriptor.label_keys().begin(), descriptor.label_keys().end());
    EXPECT_EQ(keys.size(), static_cast<size_t>(descriptor.label_keys_size())) << descriptor.name();
    bool fresh = (IsOptionalMetric(descriptor.name()) ? optional : always).insert(descriptor.name()).second;
    EXPECT_TRUE(fresh) << descriptor.name();
  }
  EXPECT_EQ(always, kWanted);
  EXPECT_EQ(optional, kExcused);
  EXPECT_EQ(MetricDescriptors({}).size(), kWanted.size() + 3);
}

// Of a container that did nothing yet, on a host that tells little.
TEST(Metrics, EveryDescriptorHasOneWithAllItsLabels) {
  records::Container bare;
  bare.set_id("c");
  v1::ContainerMetrics container = ContainerMetricsOf(bare, Pod(), {}, {});
  records::Sandbox sandbox;
  sandbox.set_id("s");
  std::map<std::string, v1::Metric> found = FirstByName(container.metrics());
  for (const v1::Metric& metric : PodMetricsOf(sandbox, "", OneInterface())) {
    EXPECT_TRUE(found.emplace(metric.name(), metric).second ||
                metric.name().find("network") != std::string::npos)
        << metric.name() << " is on both levels";
  }
  for (const v1::MetricDescriptor& descriptor : MetricDescriptors({true, true})) {
    auto metric = found.find(descriptor.name());
    if (metric == found.end()) {
      EXPECT_TRUE(IsOptionalMetric(descriptor.name())) << descriptor.name();
      continue;
    }
    EXPECT_EQ(metric->second.label_values_size(), descriptor.label_keys_size()) << descriptor.name();
    found.erase(metric);
  }
  EXPECT_TRUE(found.empty()) << found.begin()->first << " has no descriptor";
}

TEST(Metrics, OfABusyContainer) {
  ContainerMetricReadings readings;
  readings.at = absl::FromUnixSeconds(1'700'000'100);
  cgroups::Stats& cgroup = readings.cgroup;
  cgroup.cpu_usage_ns = 3'900'000'000;
  cgroup.cpu_throttled_ns = 1'000'000'000;
  cgroup.pids = 8;
  cgroup.pids_limit = 100;
  cgroup.memory.emplace();
  cgroup.memory->own_page_faults = 4;
  cgroup.memory->major_page_faults = 6;
  cgroup.memory->oom_kills = 2;
  cgroups::BlockDeviceStats device;
  device.major = 8;
  device.read_bytes = 4096;
  device.write_operations = 7;
  cgroup.block_devices = {device};
  device.minor = 16;
  cgroup.block_devices.push_back(device);
  cgroup.hugetlb["2MB"].usage_bytes = 1 << 21;
  cgroup.memory_psi.emplace();
  cgroup.memory_psi->full.total_us = 2'500'000;
  readings.processes = {3, 20, 5};
  readings.open_files_limit = 1024;
  readings.layer = LayerUsage{absl::FromUnixSeconds(1), 8192, 2};
  HostMetricReadings host;
  host.block_devices[{8, 0}] = "/dev/sda";
  host.layers = {"/dev/sda", 1 << 30, 1000, 900};
  v1::ContainerMetrics metrics = ContainerMetricsOf(LimitedContainer(), Pod(), readings, host);
  EXPECT_EQ(metrics.container_id(), "c1");
  std::map<std::string, v1::Metric> first = FirstByName(metrics.metrics());
  // Measured earlier than the rest was read.
  for (const auto& [name, metric] : first)
    EXPECT_EQ(metric.timestamp(), name == "container_fs_usage_bytes" ? 1'000'000'000 : 0) << name;
  struct Row {
    std::string name;
    uint64_t value;
    v1::MetricType type;
  };
  for (const Row& row : std::vector<Row>{
           {"container_cpu_usage_seconds_total", 3, v1::COUNTER},
           {"container_cpu_cfs_throttled_seconds_total", 1, v1::COUNTER},
           {"container_threads", 8, v1::GAUGE},
           {"container_threads_max", 100, v1::GAUGE},
           {"container_oom_events_total", 2, v1::COUNTER},
           {"container_memory_failures_total", 4, v1::COUNTER},
           {"container_fs_reads_bytes_total", 4096, v1::COUNTER},
           {"container_fs_writes_total", 7, v1::COUNTER},
           {"container_fs_usage_bytes", 8192, v1::GAUGE},
           {"container_fs_limit_bytes", 1 << 30, v1::GAUGE},
           {"container_fs_inodes_free", 900, v1::GAUGE},
           {"container_hugetlb_usage_bytes", 1 << 21, v1::GAUGE},
           {"container_pressure_memory_stalled_seconds_total", 2, v1::COUNTER},
           {"container_processes", 3, v1::GAUGE},
           {"container_file_descriptors", 20, v1::GAUGE},
           {"container_sockets", 5, v1::GAUGE},
           {"container_ulimits_soft", 1024, v1::GAUGE},
           {"container_spec_cpu_period", 100000, v1::GAUGE},
           {"container_spec_cpu_quota", 20000, v1::GAUGE},
           {"container_spec_cpu_shares", 1024, v1::GAUGE},
           {"container_spec_memory_limit_bytes", 64 << 20, v1::GAUGE},
           {"container_spec_memory_swap_limit_bytes", 0, v1::GAUGE},
           {"container_start_time_seconds", 1'700'000'000, v1::GAUGE},
           {"container_last_seen", 1'700'000'100, v1::GAUGE},
       }) {
    ASSERT_TRUE(first.count(row.name)) << row.name;
    EXPECT_EQ(first[row.name].value().value(), row.value) << row.name;
    EXPECT_EQ(first[row.name].metric_type(), row.type) << row.name;
  }
  EXPECT_THAT(
      first["container_memory_failures_total"].label_values(),
      ElementsAre("/kubepods/pod1/c1", "c1", "nginx:1", "web", "team", "pod-a", "pgfault", "container"));
  std::vector<std::string> devices;
  for (const v1::Metric& metric : metrics.metrics()) {
    if (metric.name() == "container_fs_reads_total") devices.push_back(*metric.label_values().rbegin());
  }
  EXPECT_THAT(devices, ElementsAre("/dev/sda", "8:16"));
}

TEST(Metrics, OfAPodsNetwork) {
  records::Sandbox sandbox;
  sandbox.set_id("s1");
  *sandbox.mutable_config()->mutable_metadata() = Pod();
  std::vector<v1::Metric> metrics = PodMetricsOf(sandbox, "kubepods/pod1", OneInterface());
  ASSERT_EQ(metrics.size(), 8u);
  EXPECT_EQ(metrics[0].name(), "container_network_receive_bytes_total");
  EXPECT_EQ(metrics[0].value().value(), 10u);
  EXPECT_THAT(metrics[0].label_values(),
              ElementsAre("/kubepods/pod1", "s1", "", "", "team", "pod-a", "eth0"));
  EXPECT_EQ(metrics[6].name(), "container_network_transmit_packets_dropped_total");
  EXPECT_EQ(metrics[6].value().value(), 3u);
  EXPECT_TRUE(PodMetricsOf(sandbox, "", {}).empty());
}

}  // namespace
}  // namespace keelson::cri
