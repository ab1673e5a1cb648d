#include "cri/server/usage.h"

#include <algorithm>

namespace keelson::cri {

namespace {

void Fill(const cgroups::PsiLine& from, v1::PsiData* to) {
  to->set_total(from.total_us);
  to->set_avg10(from.avg10_percent);
  to->set_avg60(from.avg60_percent);
  to->set_avg300(from.avg300_percent);
}

void Fill(const cgroups::Psi& from, v1::PsiStats* to) {
  Fill(from.some, to->mutable_some());
  Fill(from.full, to->mutable_full());
}

void FillCpu(const cgroups::Stats& stats, int64_t at_ns, std::optional<uint64_t> nano_cores,
             v1::CpuUsage* to) {
  to->set_timestamp(at_ns);
  if (stats.cpu_usage_ns.has_value()) to->mutable_usage_core_nano_seconds()->set_value(*stats.cpu_usage_ns);
  if (nano_cores.has_value()) to->mutable_usage_nano_cores()->set_value(*nano_cores);
  if (stats.cpu_psi.has_value()) Fill(*stats.cpu_psi, to->mutable_psi());
}

void FillMemory(const cgroups::Stats& stats, int64_t at_ns, v1::MemoryUsage* to) {
  to->set_timestamp(at_ns);
  if (stats.memory_psi.has_value()) Fill(*stats.memory_psi, to->mutable_psi());
  if (!stats.memory.has_value()) return;
  const cgroups::MemoryStats& memory = *stats.memory;
  to->mutable_usage_bytes()->set_value(memory.usage_bytes);
  to->mutable_working_set_bytes()->set_value(memory.working_set_bytes);
  to->mutable_rss_bytes()->set_value(memory.rss_bytes);
  to->mutable_page_faults()->set_value(memory.page_faults);
  to->mutable_major_page_faults()->set_value(memory.major_page_faults);
  if (!memory.limit_bytes.has_value()) return;
  uint64_t limit = *memory.limit_bytes, working_set = memory.working_set_bytes;
  to->mutable_available_bytes()->set_value(limit > working_set ? limit - working_set : 0);
}

void FillIo(const cgroups::Stats& stats, int64_t at_ns, v1::IoUsage* to) {
  to->set_timestamp(at_ns);
  Fill(*stats.io_psi, to->mutable_psi());
}

void FillSwap(const cgroups::MemoryStats& memory, int64_t at_ns, v1::SwapUsage* to) {
  to->set_timestamp(at_ns);
  uint64_t used = *memory.swap_bytes;
  to->mutable_swap_usage_bytes()->set_value(used);
  if (!memory.swap_limit_bytes.has_value()) return;
  uint64_t limit = *memory.swap_limit_bytes;
  to->mutable_swap_available_bytes()->set_value(limit > used ? limit - used : 0);
}

void FillInterface(const InterfaceCounters& from, v1::NetworkInterfaceUsage* to) {
  to->set_name(from.name);
  to->mutable_rx_bytes()->set_value(from.rx_bytes);
  to->mutable_rx_errors()->set_value(from.rx_errors);
  to->mutable_tx_bytes()->set_value(from.tx_bytes);
  to->mutable_tx_errors()->set_value(from.tx_errors);
}

void FillNetwork(const std::vector<InterfaceCounters>& interfaces, int64_t at_ns, v1::NetworkUsage* to) {
  to->set_timestamp(at_ns);
  if (interfaces.empty()) return;
  auto chosen = std::find_if(interfaces.begin(), interfaces.end(),
                             [](const InterfaceCounters& i) { return i.name == kDefaultInterface; });
  if (chosen == interfaces.end()) chosen = interfaces.begin();
  for (auto it = interfaces.begin(); it != interfaces.end(); ++it) {
    FillInterface(*it, it == chosen ? to->mutable_default_interface() : to->add_interfaces());
  }
}

// Absent in any part: absent in the sum. `first`: `sum` is still empty.
void AddLimit(bool first, const std::optional<uint64_t>& part, std::optional<uint64_t>* sum) {
  if (first) {
    *sum = part;
  } else if (sum->has_value()) {
    *sum = part.has_value() ? std::optional<uint64_t>(**sum + *part) : std::nullopt;
  }
}

void AddFigure(const std::optional<uint64_t>& part, std::optional<uint64_t>* sum) {
  if (part.has_value()) *sum = sum->value_or(0) + *part;
}

void AddMemory(const cgroups::MemoryStats& part, std::optional<cgroups::MemoryStats>* sum) {
  bool first = !sum->has_value();
  if (first) sum->emplace();
  cgroups::MemoryStats& to = **sum;
  to.usage_bytes += part.usage_bytes;
  to.working_set_bytes += part.working_set_bytes;
  to.rss_bytes += part.rss_bytes;
  to.cache_bytes += part.cache_bytes;
  to.mapped_file_bytes += part.mapped_file_bytes;
  to.page_faults += part.page_faults;
  to.major_page_faults += part.major_page_faults;
  AddLimit(first, part.limit_bytes, &to.limit_bytes);
}

}  // namespace

std::optional<uint64_t> NanoCores(CpuSample* sample, absl::Time now, uint64_t usage_ns) {
  const CpuSample before = *sample;
  if (before.at == absl::Time() || now < before.at || usage_ns < before.usage_ns) {
    *sample = {now, usage_ns, std::nullopt};
    return std::nullopt;
  }
  if (now - before.at < kMinCpuInterval) return before.nano_cores;
  double cores = static_cast<double>(usage_ns - before.usage_ns) / absl::ToDoubleNanoseconds(now - before.at);
  *sample = {now, usage_ns, static_cast<uint64_t>(cores * 1e9)};
  return sample->nano_cores;
}

v1::ContainerStats ContainerStatsOf(const records::Container& record, const ContainerReadings& readings) {
  v1::ContainerStats stats;
  auto* attributes = stats.mutable_attributes();
  attributes->set_id(record.id());
  *attributes->mutable_metadata() = record.config().metadata();
  *attributes->mutable_labels() = record.config().labels();
  *attributes->mutable_annotations() = record.config().annotations();
  if (readings.cgroup != nullptr) {
    int64_t at_ns = absl::ToUnixNanos(readings.at);
    FillCpu(*readings.cgroup, at_ns, readings.nano_cores, stats.mutable_cpu());
    FillMemory(*readings.cgroup, at_ns, stats.mutable_memory());
    if (readings.cgroup->io_psi.has_value()) FillIo(*readings.cgroup, at_ns, stats.mutable_io());
    const auto& memory = readings.cgroup->memory;
    if (memory.has_value() && memory->swap_bytes.has_value()) FillSwap(*memory, at_ns, stats.mutable_swap());
  }
  if (readings.layer.has_value()) {
    auto* layer = stats.mutable_writable_layer();
    layer->set_timestamp(absl::ToUnixNanos(readings.layer->at));
    layer->mutable_fs_id()->set_mountpoint(readings.layer_mount_point);
    layer->mutable_used_bytes()->set_value(readings.layer->used_bytes);
    layer->mutable_inodes_used()->set_value(readings.layer->inodes);
  }
  return stats;
}

v1::PodSandboxStats PodStatsOf(const records::Sandbox& record, const PodReadings& readings) {
  v1::PodSandboxStats stats;
  auto* attributes = stats.mutable_attributes();
  attributes->set_id(record.id());
  *attributes->mutable_metadata() = record.config().metadata();
  *attributes->mutable_labels() = record.config().labels();
  *attributes->mutable_annotations() = record.config().annotations();
  auto* out = stats.mutable_linux();
  int64_t at_ns = absl::ToUnixNanos(readings.at);
  if (readings.cgroup != nullptr) {
    FillCpu(*readings.cgroup, at_ns, readings.nano_cores, out->mutable_cpu());
    FillMemory(*readings.cgroup, at_ns, out->mutable_memory());
    if (readings.cgroup->io_psi.has_value()) FillIo(*readings.cgroup, at_ns, out->mutable_io());
    if (readings.cgroup->pids.has_value()) {
      out->mutable_process()->set_timestamp(at_ns);
      out->mutable_process()->mutable_process_count()->set_value(*readings.cgroup->pids);
    }
  }
  if (readings.interfaces != nullptr) FillNetwork(*readings.interfaces, at_ns, out->mutable_network());
  return stats;
}

cgroups::Stats SumOf(const std::vector<const cgroups::Stats*>& parts) {
  cgroups::Stats sum;
  for (const cgroups::Stats* part : parts) {
    AddFigure(part->cpu_usage_ns, &sum.cpu_usage_ns);
    AddFigure(part->pids, &sum.pids);
    if (part->memory.has_value()) AddMemory(*part->memory, &sum.memory);
  }
  return sum;
}

}  // namespace keelson::cri
