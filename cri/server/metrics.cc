#include "cri/server/metrics.h"

#include <absl/container/flat_hash_map.h>
#include <absl/strings/numbers.h>

#include <initializer_list>
#include <iterator>
#include <utility>

#include "base/log.h"
#include "base/strings.h"

namespace keelson::cri {

namespace {

constexpr uint64_t kNsPerSecond = 1000000000, kUsPerSecond = 1000000;
constexpr int64_t kDefaultCpuPeriodUs = 100000, kDefaultCpuShares = 1024;  // the kernel's

// Labels every metric has, then those of a family.
constexpr std::string_view kBaseLabels[] = {"id", "name", "image", "container", "namespace", "pod"};
enum class Family { kPlain, kCpu, kDevice, kBlockIo, kFaults, kInterface, kPageSize, kUlimit };

std::vector<std::string_view> LabelsOf(Family family) {
  switch (family) {
    case Family::kPlain:
      return {};
    case Family::kCpu:
      return {"cpu"};
    case Family::kDevice:
      return {"device"};
    case Family::kBlockIo:
      return {"device", "major", "minor", "operation"};
    case Family::kFaults:
      return {"failure_type", "scope"};
    case Family::kInterface:
      return {"interface"};
    case Family::kPageSize:
      return {"pagesize"};
    case Family::kUlimit:
      return {"ulimit"};
  }
  return {};
}

enum class Presence { kAlways, kOptional, kPressure, kHugetlb };

struct MetricInfo {
  std::string_view name, help;
  v1::MetricType type = v1::GAUGE;
  Family family = Family::kPlain;
  Presence presence = Presence::kAlways;
};

constexpr MetricInfo kMetrics[] = {
    {"container_blkio_device_usage_total", "Bytes a container moved from and to a block device.", v1::COUNTER,
     Family::kBlockIo},
    {"container_cpu_cfs_periods_total", "CFS periods that passed while the container wanted to run.",
     v1::COUNTER},
    {"container_cpu_cfs_throttled_periods_total", "CFS periods in which the container was throttled.",
     v1::COUNTER},
    {"container_cpu_cfs_throttled_seconds_total", "Seconds the container was throttled.", v1::COUNTER},
    {"container_cpu_system_seconds_total", "CPU time used in the kernel, in seconds.", v1::COUNTER},
    {"container_cpu_usage_seconds_total", "CPU time used, in seconds.", v1::COUNTER, Family::kCpu},
    {"container_cpu_user_seconds_total", "CPU time used in user mode, in seconds.", v1::COUNTER},
    {"container_file_descriptors", "Open file descriptors of the container's processes."},
    {"container_fs_inodes_free", "Free inodes of the file system the container writes to.", v1::GAUGE,
     Family::kDevice},
    {"container_fs_inodes_total", "Inodes of the file system the container writes to.", v1::GAUGE,
     Family::kDevice},
    {"container_fs_limit_bytes", "Size of the file system the container writes to, in bytes.", v1::GAUGE,
     Family::kDevice},
    {"container_fs_reads_bytes_total", "Bytes read from a block device.", v1::COUNTER, Family::kDevice},
    {"container_fs_reads_total", "Reads from a block device.", v1::COUNTER, Family::kDevice},
    {"container_fs_usage_bytes", "Bytes the container's writable layer takes.", v1::GAUGE, Family::kDevice},
    {"container_fs_writes_bytes_total", "Bytes written to a block device.", v1::COUNTER, Family::kDevice},
    {"container_fs_writes_total", "Writes to a block device.", v1::COUNTER, Family::kDevice},
    {"container_hugetlb_max_usage_bytes", "Most memory in huge pages so far, in bytes.", v1::GAUGE,
     Family::kPageSize, Presence::kHugetlb},
    {"container_hugetlb_usage_bytes", "Memory in huge pages, in bytes.", v1::GAUGE, Family::kPageSize,
     Presence::kHugetlb},
    {"container_last_seen", "When the container was last looked at, in seconds since 1970."},
    {"container_memory_cache", "Page cache, in bytes."},
    {"container_memory_failcnt", "How often memory usage ran into its limit.", v1::COUNTER},
    {"container_memory_failures_total", "Page faults.", v1::COUNTER, Family::kFaults},
    {"container_memory_kernel_usage", "Memory the kernel holds for the container, in bytes."},
    {"container_memory_mapped_file", "Memory-mapped files, in bytes."},
    {"container_memory_max_usage_bytes", "Most memory used so far, in bytes."},
    {"container_memory_rss", "Anonymous memory, in bytes."},
    {"container_memory_swap", "Swap used, in bytes."},
    {"container_memory_usage_bytes", "Memory used, page cache included, in bytes."},
    {"container_memory_working_set_bytes", "Memory used that the kernel cannot simply drop, in bytes."},
    {"container_network_receive_bytes_total", "Bytes received.", v1::COUNTER, Family::kInterface},
    {"container_network_receive_errors_total", "Errors while receiving.", v1::COUNTER, Family::kInterface},
    {"container_network_receive_packets_dropped_total", "Packets dropped while receiving.", v1::COUNTER,
     Family::kInterface},
    {"container_network_receive_packets_total", "Packets received.", v1::COUNTER, Family::kInterface},
    {"container_network_transmit_bytes_total", "Bytes sent.", v1::COUNTER, Family::kInterface},
    {"container_network_transmit_errors_total", "Errors while sending.", v1::COUNTER, Family::kInterface},
    {"container_network_transmit_packets_dropped_total", "Packets dropped while sending.", v1::COUNTER,
     Family::kInterface},
    {"container_network_transmit_packets_total", "Packets sent.", v1::COUNTER, Family::kInterface},
    {"container_oom_events_total", "Processes the kernel killed because memory ran out.", v1::COUNTER},
    {"container_pressure_cpu_stalled_seconds_total", "Seconds in which every task waited for a CPU.",
     v1::COUNTER, Family::kPlain, Presence::kPressure},
    {"container_pressure_cpu_waiting_seconds_total", "Seconds in which some task waited for a CPU.",
     v1::COUNTER, Family::kPlain, Presence::kPressure},
    {"container_pressure_io_stalled_seconds_total", "Seconds in which every task waited for I/O.",
     v1::COUNTER, Family::kPlain, Presence::kPressure},
    {"container_pressure_io_waiting_seconds_total", "Seconds in which some task waited for I/O.", v1::COUNTER,
     Family::kPlain, Presence::kPressure},
    {"container_pressure_memory_stalled_seconds_total", "Seconds in which every task waited for memory.",
     v1::COUNTER, Family::kPlain, Presence::kPressure},
    {"container_pressure_memory_waiting_seconds_total", "Seconds in which some task waited for memory.",
     v1::COUNTER, Family::kPlain, Presence::kPressure},
    {"container_processes", "Processes in the container."},
    {"container_sockets", "Open sockets of the container's processes."},
    {"container_spec_cpu_period", "CFS period, in microseconds."},
    {"container_spec_cpu_quota", "CPU time per CFS period, in microseconds.", v1::GAUGE, Family::kPlain,
     Presence::kOptional},
    {"container_spec_cpu_shares", "CPU shares."},
    {"container_spec_memory_limit_bytes", "Memory limit, in bytes; 0: none."},
    {"container_spec_memory_reservation_limit_bytes", "Memory kept for the container, in bytes; 0: none.",
     v1::GAUGE, Family::kPlain, Presence::kOptional},
    {"container_spec_memory_swap_limit_bytes", "Limit of memory and swap together, in bytes; 0: none."},
    {"container_start_time_seconds", "When the container was started, in seconds since 1970."},
    {"container_threads", "Threads in the container."},
    {"container_threads_max", "Most threads allowed; 0: no limit."},
    {"container_ulimits_soft", "Soft limit of the container's first process.", v1::GAUGE, Family::kUlimit,
     Presence::kOptional},
};

const MetricInfo& InfoOf(std::string_view name) {
  static const auto* const kByName = [] {
    auto* map = new absl::flat_hash_map<absl::string_view, const MetricInfo*>();
    for (const MetricInfo& info : kMetrics) (*map)[Av(info.name)] = &info;
    return map;
  }();
  auto it = kByName->find(Av(name));
  KEELSON_CHECK(it != kByName->end(), "metric ", name, " is not in the table");
  return *it->second;
}

// Appends metrics with the base labels of one container or pod.
class Writer {
 public:
  Writer(std::vector<std::string> base_labels, google::protobuf::RepeatedPtrField<v1::Metric>* out)
      : base_labels_(std::move(base_labels)), out_(out) {
    KEELSON_CHECK(base_labels_.size() == std::size(kBaseLabels), "one value per label");
  }

  // `at`: of a figure that was measured earlier. The others are read for this call, and have no timestamp.
  void Add(std::string_view name, uint64_t value, std::initializer_list<std::string> labels = {},
           std::optional<absl::Time> at = std::nullopt) {
    const MetricInfo& info = InfoOf(name);
    KEELSON_CHECK(labels.size() == LabelsOf(info.family).size(), "labels of ", name);
    v1::Metric* metric = out_->Add();
    metric->set_name(std::string(name));
    if (at.has_value()) metric->set_timestamp(absl::ToUnixNanos(*at));
    metric->set_metric_type(info.type);
    for (const std::string& label : base_labels_) metric->add_label_values(label);
    for (const std::string& label : labels) metric->add_label_values(label);
    metric->mutable_value()->set_value(value);
  }

 private:
  std::vector<std::string> base_labels_;
  google::protobuf::RepeatedPtrField<v1::Metric>* out_;
};

uint64_t NotNegative(int64_t value) { return value > 0 ? static_cast<uint64_t>(value) : 0; }

void AddCpu(const cgroups::Stats& stats, Writer* out) {
  out->Add("container_cpu_usage_seconds_total", stats.cpu_usage_ns.value_or(0) / kNsPerSecond, {"total"});
  out->Add("container_cpu_user_seconds_total", stats.cpu_user_ns.value_or(0) / kNsPerSecond);
  out->Add("container_cpu_system_seconds_total", stats.cpu_system_ns.value_or(0) / kNsPerSecond);
  out->Add("container_cpu_cfs_periods_total", stats.cpu_periods.value_or(0));
  out->Add("container_cpu_cfs_throttled_periods_total", stats.cpu_throttled_periods.value_or(0));
  out->Add("container_cpu_cfs_throttled_seconds_total", stats.cpu_throttled_ns.value_or(0) / kNsPerSecond);
}

void AddMemory(const cgroups::MemoryStats& memory, Writer* out) {
  out->Add("container_memory_cache", memory.cache_bytes);
  out->Add("container_memory_failcnt", memory.limit_hits);
  out->Add("container_memory_failures_total", memory.own_page_faults, {"pgfault", "container"});
  out->Add("container_memory_failures_total", memory.own_major_page_faults, {"pgmajfault", "container"});
  out->Add("container_memory_failures_total", memory.page_faults, {"pgfault", "hierarchy"});
  out->Add("container_memory_failures_total", memory.major_page_faults, {"pgmajfault", "hierarchy"});
  out->Add("container_memory_kernel_usage", memory.kernel_bytes);
  out->Add("container_memory_mapped_file", memory.mapped_file_bytes);
  out->Add("container_memory_max_usage_bytes", memory.max_usage_bytes);
  out->Add("container_memory_rss", memory.rss_bytes);
  out->Add("container_memory_swap", memory.swap_bytes.value_or(0));
  out->Add("container_memory_usage_bytes", memory.usage_bytes);
  out->Add("container_memory_working_set_bytes", memory.working_set_bytes);
  out->Add("container_oom_events_total", memory.oom_kills);
}

void AddBlockIo(std::vector<cgroups::BlockDeviceStats> devices, const BlockDeviceNames& names, Writer* out) {
  // A container that did no I/O yet has these metrics, too.
  bool none = devices.empty();
  if (none) devices.emplace_back();
  for (const cgroups::BlockDeviceStats& device : devices) {
    auto it = names.find({device.major, device.minor});
    std::string name;
    if (!none) name = it != names.end() ? it->second : StrCat(device.major, ":", device.minor);
    std::string major = StrCat(device.major), minor = StrCat(device.minor);
    out->Add("container_blkio_device_usage_total", device.read_bytes, {name, major, minor, "Read"});
    out->Add("container_blkio_device_usage_total", device.write_bytes, {name, major, minor, "Write"});
    out->Add("container_fs_reads_bytes_total", device.read_bytes, {name});
    out->Add("container_fs_reads_total", device.read_operations, {name});
    out->Add("container_fs_writes_bytes_total", device.write_bytes, {name});
    out->Add("container_fs_writes_total", device.write_operations, {name});
  }
}

void AddFilesystem(const FilesystemSpace& space, const std::optional<LayerUsage>& layer, Writer* out) {
  // Not measured yet: there all the same, as 0.
  std::optional<absl::Time> at;
  if (layer.has_value()) at = layer->at;
  out->Add("container_fs_usage_bytes", layer.has_value() ? layer->used_bytes : 0, {space.device}, at);
  out->Add("container_fs_limit_bytes", space.size_bytes, {space.device});
  out->Add("container_fs_inodes_total", space.inodes, {space.device});
  out->Add("container_fs_inodes_free", space.free_inodes, {space.device});
}

void AddPressure(std::string_view resource, const std::optional<cgroups::Psi>& psi, Writer* out) {
  if (!psi.has_value()) return;
  out->Add(StrCat("container_pressure_", resource, "_stalled_seconds_total"),
           psi->full.total_us / kUsPerSecond);
  out->Add(StrCat("container_pressure_", resource, "_waiting_seconds_total"),
           psi->some.total_us / kUsPerSecond);
}

void AddSpec(const v1::LinuxContainerResources& resources, Writer* out) {
  int64_t period = resources.cpu_period(), shares = resources.cpu_shares();
  out->Add("container_spec_cpu_period", NotNegative(period > 0 ? period : kDefaultCpuPeriodUs));
  out->Add("container_spec_cpu_shares", NotNegative(shares > 0 ? shares : kDefaultCpuShares));
  if (resources.cpu_quota() > 0) out->Add("container_spec_cpu_quota", NotNegative(resources.cpu_quota()));
  out->Add("container_spec_memory_limit_bytes", NotNegative(resources.memory_limit_in_bytes()));
  out->Add("container_spec_memory_swap_limit_bytes", NotNegative(resources.memory_swap_limit_in_bytes()));
  uint64_t reservation = 0;
  auto min = resources.unified().find("memory.min");
  if (min != resources.unified().end() && !absl::SimpleAtoi(min->second, &reservation)) reservation = 0;
  out->Add("container_spec_memory_reservation_limit_bytes", reservation);
}

std::vector<std::string> BaseLabels(const std::string& cgroup_path, const std::string& id,
                                    const std::string& image, const std::string& container,
                                    const v1::PodSandboxMetadata& pod) {
  return {cgroup_path.empty() ? "" : StrCat("/", cgroup_path),
          id,
          image,
          container,
          pod.namespace_(),
          pod.name()};
}

}  // namespace

std::vector<v1::MetricDescriptor> MetricDescriptors(const MetricFeatures& features) {
  std::vector<v1::MetricDescriptor> out;
  for (const MetricInfo& info : kMetrics) {
    if (info.presence == Presence::kPressure && !features.pressure) continue;
    if (info.presence == Presence::kHugetlb && !features.hugetlb) continue;
    v1::MetricDescriptor& descriptor = out.emplace_back();
    descriptor.set_name(std::string(info.name));
    descriptor.set_help(std::string(info.help));
    for (std::string_view label : kBaseLabels) descriptor.add_label_keys(std::string(label));
    for (std::string_view label : LabelsOf(info.family)) descriptor.add_label_keys(std::string(label));
  }
  return out;
}

bool IsOptionalMetric(std::string_view name) { return InfoOf(name).presence != Presence::kAlways; }

v1::ContainerMetrics ContainerMetricsOf(const records::Container& record, const v1::PodSandboxMetadata& pod,
                                        const ContainerMetricReadings& readings,
                                        const HostMetricReadings& host) {
  v1::ContainerMetrics metrics;
  metrics.set_container_id(record.id());
  const v1::ImageSpec& image = record.config().image();
  Writer out(BaseLabels(record.cgroup_path(), record.id(),
                        image.user_specified_image().empty() ? image.image() : image.user_specified_image(),
                        record.config().metadata().name(), pod),
             metrics.mutable_metrics());
  const cgroups::Stats& cgroup = readings.cgroup;
  AddCpu(cgroup, &out);
  AddMemory(cgroup.memory.value_or(cgroups::MemoryStats()), &out);
  AddBlockIo(cgroup.block_devices, host.block_devices, &out);
  AddFilesystem(host.layers, readings.layer, &out);
  for (const auto& [size, usage] : cgroup.hugetlb) {
    out.Add("container_hugetlb_usage_bytes", usage.usage_bytes, {size});
    if (usage.max_usage_bytes.has_value())
      out.Add("container_hugetlb_max_usage_bytes", *usage.max_usage_bytes, {size});
  }
  AddPressure("cpu", cgroup.cpu_psi, &out);
  AddPressure("io", cgroup.io_psi, &out);
  AddPressure("memory", cgroup.memory_psi, &out);
  out.Add("container_processes", readings.processes.processes);
  out.Add("container_file_descriptors", readings.processes.file_descriptors);
  out.Add("container_sockets", readings.processes.sockets);
  out.Add("container_threads", cgroup.pids.value_or(0));
  out.Add("container_threads_max", cgroup.pids_limit.value_or(0));
  if (readings.open_files_limit.has_value())
    out.Add("container_ulimits_soft", *readings.open_files_limit, {"max_open_files"});
  AddSpec(record.resources(), &out);
  out.Add("container_last_seen", NotNegative(absl::ToUnixSeconds(readings.at)));
  out.Add("container_start_time_seconds", NotNegative(record.started_at_ns()) / kNsPerSecond);
  return metrics;
}

std::vector<v1::Metric> PodMetricsOf(const records::Sandbox& record, const std::string& cgroup_path,
                                     const std::vector<InterfaceCounters>& interfaces) {
  google::protobuf::RepeatedPtrField<v1::Metric> metrics;
  Writer out(BaseLabels(cgroup_path, record.id(), "", "", record.config().metadata()), &metrics);
  for (const InterfaceCounters& i : interfaces) {
    out.Add("container_network_receive_bytes_total", i.rx_bytes, {i.name});
    out.Add("container_network_receive_errors_total", i.rx_errors, {i.name});
    out.Add("container_network_receive_packets_dropped_total", i.rx_dropped, {i.name});
    out.Add("container_network_receive_packets_total", i.rx_packets, {i.name});
    out.Add("container_network_transmit_bytes_total", i.tx_bytes, {i.name});
    out.Add("container_network_transmit_errors_total", i.tx_errors, {i.name});
    out.Add("container_network_transmit_packets_dropped_total", i.tx_dropped, {i.name});
    out.Add("container_network_transmit_packets_total", i.tx_packets, {i.name});
  }
  return {metrics.begin(), metrics.end()};
}

}  // namespace keelson::cri
