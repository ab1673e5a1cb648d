// PodSandboxStats, ListPodSandboxStats, StreamPodSandboxStats.
#include <iterator>
#include <utility>

#include "base/status.h"
#include "base/strings.h"
#include "cri/server/runtime_server.h"
#include "cri/server/stats_reader.h"
#include "cri/server/usage.h"

namespace keelson::cri {

namespace {

bool Fits(const v1::PodSandboxStatsFilter& filter, const Sandbox& sandbox) {
  return sandbox.record.state() == records::SANDBOX_RUNNING && FitsId(filter.id(), sandbox.record.id()) &&
         Selects(filter.label_selector(), sandbox.record.config().labels());
}

// One pod of a request: what it needs of what is read.
struct PodParts {
  std::shared_ptr<Sandbox> sandbox;
  std::vector<std::string> cgroup_paths;
  std::string netns_path;  // "" : the host's network
  std::vector<std::shared_ptr<Container>> containers;
};

PodReadings ReadingsOf(const PodParts& pod, const StatsReadings& all, cgroups::Stats* sum) {
  PodReadings readings;
  std::vector<const cgroups::Stats*> parts;
  for (const std::string& path : pod.cgroup_paths) {
    auto found = all.cgroups.find(path);
    if (found == all.cgroups.end()) continue;
    readings.at = found->second.at;
    parts.push_back(&found->second.stats);
  }
  if (parts.size() == 1) readings.cgroup = parts.front();
  if (parts.size() > 1) {
    *sum = SumOf(parts);
    readings.cgroup = sum;
  }
  if (readings.cgroup != nullptr && readings.cgroup->cpu_usage_ns.has_value()) {
    readings.nano_cores = NanoCores(&pod.sandbox->cpu, readings.at, *readings.cgroup->cpu_usage_ns);
  }
  auto interfaces = all.interfaces.find(pod.netns_path);
  if (interfaces != all.interfaces.end()) readings.interfaces = &interfaces->second;
  return readings;
}

}  // namespace

std::vector<std::shared_ptr<Sandbox>> RuntimeServer::SandboxesFor(
    const v1::PodSandboxStatsFilter& filter) const {
  std::vector<std::shared_ptr<Sandbox>> out;
  for (const auto& [id, sandbox] : sandboxes_) {
    if (Fits(filter, *sandbox)) out.push_back(sandbox);
  }
  return out;
}

std::map<std::string, std::vector<std::shared_ptr<Container>>> RuntimeServer::RunningBySandbox() const {
  std::map<std::string, std::vector<std::shared_ptr<Container>>> out;
  for (const auto& container : ContainersFor(v1::ContainerStatsFilter()))
    out[container->record.sandbox_id()].push_back(container);
  return out;
}

std::string RuntimeServer::OwnCgroup(const records::Sandbox& record) {
  std::string path = CgroupPath(record.config().linux().cgroup_parent(), "", "");
  if (path.ends_with('/')) path.pop_back();
  return path;
}

Task<std::vector<v1::PodSandboxStats>> RuntimeServer::StatsOf(
    std::vector<std::shared_ptr<Sandbox>> sandboxes) {
  auto running = RunningBySandbox();
  std::vector<PodParts> pods;
  std::vector<std::shared_ptr<Container>> containers;
  StatsRequest request;
  for (const auto& sandbox : sandboxes) {
    const records::Sandbox& record = sandbox->record;
    PodParts& pod = pods.emplace_back();
    pod.sandbox = sandbox;
    if (record.state() != records::SANDBOX_RUNNING) continue;
    pod.containers = running[record.id()];
    for (const auto& container : pod.containers) {
      pod.cgroup_paths.push_back(container->record.cgroup_path());
      containers.push_back(container);
    }
    if (record.has_pause())
      pod.cgroup_paths.push_back(
          CgroupPath(record.config().linux().cgroup_parent(), options_.default_cgroup_parent, record.id()));
    request.cgroup_paths.insert(request.cgroup_paths.end(), pod.cgroup_paths.begin(), pod.cgroup_paths.end());
    std::string own = OwnCgroup(record);
    if (!own.empty()) {
      pod.cgroup_paths = {own};
      request.cgroup_paths.push_back(own);
    }
    if (!HostNetwork(record.config())) {
      pod.netns_path = StrCat(SandboxDir(record.id()), "/ns/", kNetNamespace);
      request.netns_paths.push_back(pod.netns_path);
    }
  }
  auto work = [request = std::move(request), manager = deps_.cgroups, clock = &env_.clock()] {
    return ReadAll(request, manager, *clock);
  };
  Task<StatsReadings> read = env_.Blocking<StatsReadings>(std::move(work));
  StatsReadings all = co_await std::move(read);
  std::vector<v1::PodSandboxStats> out;
  for (const PodParts& pod : pods) {
    if (pod.sandbox->removed) continue;
    cgroups::Stats sum;
    PodReadings readings = ReadingsOf(pod, all, &sum);
    if (readings.cgroup == nullptr) readings.at = env_.clock().Now();
    v1::PodSandboxStats& stats = out.emplace_back(PodStatsOf(pod.sandbox->record, readings));
    for (const auto& container : pod.containers) {
      if (!container->removed) *stats.mutable_linux()->add_containers() = StatsFrom(container.get(), all);
    }
  }
  RefreshLayers(containers);
  co_return out;
}

Task<absl::StatusOr<v1::PodSandboxStatsResponse>> RuntimeServer::PodSandboxStats(
    v1::PodSandboxStatsRequest request) {
  CO_ASSIGN_OR_RETURN_SYNC(std::shared_ptr<Sandbox> sandbox, FindSandbox(request.pod_sandbox_id()));
  std::vector<std::shared_ptr<Sandbox>> one = {sandbox};
  Task<std::vector<v1::PodSandboxStats>> read = StatsOf(std::move(one));
  std::vector<v1::PodSandboxStats> stats = co_await std::move(read);
  if (stats.empty()) co_return absl::NotFoundError("the pod sandbox was removed meanwhile");
  v1::PodSandboxStatsResponse response;
  *response.mutable_stats() = std::move(stats.front());
  co_return response;
}

Task<absl::StatusOr<v1::ListPodSandboxStatsResponse>> RuntimeServer::ListPodSandboxStats(
    v1::ListPodSandboxStatsRequest request) {
  Task<std::vector<v1::PodSandboxStats>> read = StatsOf(SandboxesFor(request.filter()));
  std::vector<v1::PodSandboxStats> stats = co_await std::move(read);
  v1::ListPodSandboxStatsResponse response;
  MoveInto(std::move(stats), response.mutable_stats());
  co_return response;
}

Task<absl::StatusOr<v1::StreamPodSandboxStatsResponse>> RuntimeServer::StreamPodSandboxStats(
    v1::StreamPodSandboxStatsRequest request) {
  Task<std::vector<v1::PodSandboxStats>> read = StatsOf(SandboxesFor(request.filter()));
  std::vector<v1::PodSandboxStats> stats = co_await std::move(read);
  v1::StreamPodSandboxStatsResponse response;
  MoveInto(std::move(stats), response.mutable_pod_sandbox_stats());
  co_return response;
}

}  // namespace keelson::cri
