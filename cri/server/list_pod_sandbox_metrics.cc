// ListPodSandboxMetrics, StreamPodSandboxMetrics.
#include <iterator>
#include <utility>

#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"
#include "cri/server/metrics.h"
#include "cri/server/runtime_server.h"
#include "cri/server/stats_reader.h"

namespace keelson::cri {

namespace {

// What one job in the pool reads, by the containers' cgroup path.
struct MetricsJob {
  StatsRequest request;
  std::map<std::string, pid_t> init_pids;
  std::string layers_path;
  cgroups::Manager* manager = nullptr;
  const Clock* clock = nullptr;
};
struct MetricsReadings {
  StatsReadings stats;
  std::map<std::string, ProcessCounts> processes;
  std::map<std::string, std::optional<uint64_t>> open_files_limits;
  HostMetricReadings host;
};

MetricsReadings Read(const MetricsJob& job) {
  MetricsReadings out;
  out.stats = ReadAll(job.request, job.manager, *job.clock);
  for (const auto& [path, init_pid] : job.init_pids) {
    // With descendants: a container may run a tree of cgroups of its own.
    absl::StatusOr<std::vector<pid_t>> pids = job.manager->Pids(path, true);
    if (pids.ok()) out.processes[path] = CountProcesses(*pids);
    out.open_files_limits[path] = ReadOpenFilesLimit(init_pid);
  }
  out.host.block_devices = ReadBlockDeviceNames();
  absl::StatusOr<FilesystemSpace> space = ReadFilesystemSpace(job.layers_path, out.host.block_devices);
  if (space.ok()) {
    out.host.layers = *std::move(space);
  } else {
    LogWarning("the space for writable layers is missing", {{"error", space.status()}});
  }
  return out;
}

}  // namespace

Task<std::vector<v1::PodSandboxMetrics>> RuntimeServer::MetricsOf(
    std::vector<std::shared_ptr<Sandbox>> sandboxes) {
  auto running = RunningBySandbox();
  std::vector<std::shared_ptr<Container>> containers;
  MetricsJob job;
  job.manager = deps_.cgroups;
  job.clock = &env_.clock();
  job.layers_path = deps_.images->mount_point();
  job.request.detail = cgroups::StatsDetail::kFull;
  auto netns_path = [this](const Sandbox& sandbox) {
    return StrCat(SandboxDir(sandbox.record.id()), "/ns/", kNetNamespace);
  };
  for (const auto& sandbox : sandboxes) {
    if (!HostNetwork(sandbox->record.config())) job.request.netns_paths.push_back(netns_path(*sandbox));
    for (const auto& container : running[sandbox->record.id()]) {
      job.request.cgroup_paths.push_back(container->record.cgroup_path());
      job.init_pids[container->record.cgroup_path()] = container->record.init().pid();
      containers.push_back(container);
    }
  }
  auto work = [job = std::move(job)] { return Read(job); };
  Task<MetricsReadings> read = env_.Blocking<MetricsReadings>(std::move(work));
  MetricsReadings all = co_await std::move(read);
  std::vector<v1::PodSandboxMetrics> out;
  for (const auto& sandbox : sandboxes) {
    if (sandbox->removed) continue;
    const records::Sandbox& record = sandbox->record;
    v1::PodSandboxMetrics& metrics = out.emplace_back();
    metrics.set_pod_sandbox_id(record.id());
    auto interfaces = all.stats.interfaces.find(netns_path(*sandbox));
    if (interfaces != all.stats.interfaces.end()) {
      for (v1::Metric& metric : PodMetricsOf(record, OwnCgroup(record), interfaces->second))
        *metrics.add_metrics() = std::move(metric);
    }
    for (const auto& container : running[record.id()]) {
      const std::string& path = container->record.cgroup_path();
      auto stats = all.stats.cgroups.find(path);
      if (container->removed || stats == all.stats.cgroups.end()) continue;
      ContainerMetricReadings readings;
      readings.at = stats->second.at;
      readings.cgroup = std::move(stats->second.stats);
      readings.processes = all.processes[path];
      readings.open_files_limit = all.open_files_limits[path];
      readings.layer = container->layer;
      *metrics.add_container_metrics() =
          ContainerMetricsOf(container->record, record.config().metadata(), readings, all.host);
    }
  }
  RefreshLayers(containers);
  co_return out;
}

Task<absl::StatusOr<v1::ListPodSandboxMetricsResponse>> RuntimeServer::ListPodSandboxMetrics(
    v1::ListPodSandboxMetricsRequest request) {
  Task<std::vector<v1::PodSandboxMetrics>> read = MetricsOf(SandboxesFor(v1::PodSandboxStatsFilter()));
  std::vector<v1::PodSandboxMetrics> metrics = co_await std::move(read);
  v1::ListPodSandboxMetricsResponse response;
  MoveInto(std::move(metrics), response.mutable_pod_metrics());
  co_return response;
}

Task<absl::StatusOr<v1::StreamPodSandboxMetricsResponse>> RuntimeServer::StreamPodSandboxMetrics(
    v1::StreamPodSandboxMetricsRequest request) {
  Task<std::vector<v1::PodSandboxMetrics>> read = MetricsOf(SandboxesFor(v1::PodSandboxStatsFilter()));
  std::vector<v1::PodSandboxMetrics> metrics = co_await std::move(read);
  v1::StreamPodSandboxMetricsResponse response;
  MoveInto(std::move(metrics), response.mutable_pod_sandbox_metrics());
  co_return response;
}

}  // namespace keelson::cri
