// CRI's metrics (ListMetricDescriptors, ListPodSandboxMetrics; KEP-2371): names and labels as cAdvisor in the
// kubelet has them. Pure. Every descriptor but the optional ones has a metric for every running container.
#pragma once

#include <absl/time/time.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cgroups/manager.h"
#include "cri/server/metric_sources.h"
#include "cri/server/namespaces.h"
#include "cri/server/records.pb.h"
#include "cri/server/server_state.h"

namespace keelson::cri {

// What this host can tell.
struct MetricFeatures {
  bool pressure = false;  // container_pressure_*: cgroup v2
  bool hugetlb = false;   // container_hugetlb_*: the controller
};
std::vector<v1::MetricDescriptor> MetricDescriptors(const MetricFeatures& features);
// May be announced and be absent of a container: no quota, no limit, no huge pages.
bool IsOptionalMetric(std::string_view name);

// Of one running container.
struct ContainerMetricReadings {
  absl::Time at;
  cgroups::Stats cgroup;  // kFull
  ProcessCounts processes;
  std::optional<uint64_t> open_files_limit;
  std::optional<LayerUsage> layer;
};
// Of the host.
struct HostMetricReadings {
  BlockDeviceNames block_devices;
  FilesystemSpace layers;  // where writable layers are
};

v1::ContainerMetrics ContainerMetricsOf(const records::Container& record, const v1::PodSandboxMetadata& pod,
                                        const ContainerMetricReadings& readings,
                                        const HostMetricReadings& host);
// The pod's own: its network. `cgroup_path`: for the label "id"; "": it has none of its own.
std::vector<v1::Metric> PodMetricsOf(const records::Sandbox& record, const std::string& cgroup_path,
                                     const std::vector<InterfaceCounters>& interfaces);

}  // namespace keelson::cri
