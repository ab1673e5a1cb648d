// ContainerStats, ListContainerStats, StreamContainerStats.
#include <iterator>
#include <utility>

#include "base/log.h"
#include "base/status.h"
#include "cri/server/runtime_server.h"
#include "cri/server/stats_reader.h"
#include "cri/server/usage.h"

namespace keelson::cri {

namespace {

// A measure of a layer walks its files: a list never waits for one, it shows the last.
constexpr absl::Duration kLayerMaxAge = absl::Seconds(15);

bool Fits(const v1::ContainerStatsFilter& filter, const records::Container& record) {
  return record.state() == records::CONTAINER_RUNNING && FitsId(filter.id(), record.id()) &&
         FitsId(filter.pod_sandbox_id(), record.sandbox_id()) &&
         Selects(filter.label_selector(), record.config().labels());
}

}  // namespace

std::vector<std::shared_ptr<Container>> RuntimeServer::ContainersFor(
    const v1::ContainerStatsFilter& filter) const {
  std::vector<std::shared_ptr<Container>> out;
  for (const auto& [id, container] : containers_) {
    if (Fits(filter, container->record)) out.push_back(container);
  }
  return out;
}

Task<std::vector<v1::ContainerStats>> RuntimeServer::StatsOf(
    std::vector<std::shared_ptr<Container>> containers) {
  StatsRequest request;
  for (const auto& container : containers) {
    if (container->record.state() == records::CONTAINER_RUNNING)
      request.cgroup_paths.push_back(container->record.cgroup_path());
  }
  auto work = [request = std::move(request), manager = deps_.cgroups, clock = &env_.clock()] {
    return ReadAll(request, manager, *clock);
  };
  Task<StatsReadings> read = env_.Blocking<StatsReadings>(std::move(work));
  StatsReadings all = co_await std::move(read);
  std::vector<v1::ContainerStats> out;
  for (const auto& container : containers) {
    if (!container->removed) out.push_back(StatsFrom(container.get(), all));
  }
  RefreshLayers(containers);
  co_return out;
}

v1::ContainerStats RuntimeServer::StatsFrom(Container* container, const StatsReadings& all) const {
  ContainerReadings readings;
  auto found = all.cgroups.find(container->record.cgroup_path());
  if (found != all.cgroups.end()) {
    const CgroupReading& reading = found->second;
    readings.at = reading.at;
    readings.cgroup = &reading.stats;
    if (reading.stats.cpu_usage_ns.has_value())
      readings.nano_cores = NanoCores(&container->cpu, reading.at, *reading.stats.cpu_usage_ns);
  }
  readings.layer = container->layer;
  readings.layer_mount_point = deps_.images->mount_point();
  return ContainerStatsOf(container->record, readings);
}

void RuntimeServer::RefreshLayers(const std::vector<std::shared_ptr<Container>>& containers) {
  if (measuring_layers_ || scope_.closing()) return;
  absl::Time now = env_.clock().Now();
  std::vector<std::shared_ptr<Container>> stale;
  for (const auto& container : containers) {
    // A clock that went back makes everything stale, too.
    bool fresh = container->layer.has_value() && container->layer->at <= now &&
                 now - container->layer->at < kLayerMaxAge;
    if (!fresh) stale.push_back(container);
  }
  if (stale.empty()) return;
  measuring_layers_ = true;
  scope_.Spawn("measure writable layers", MeasureLayers(std::move(stale)));
}

Task<void> RuntimeServer::MeasureLayers(std::vector<std::shared_ptr<Container>> containers) {
  for (const auto& container : containers) {
    Task<void> measure = MeasureLayer(container);
    co_await std::move(measure);
  }
  measuring_layers_ = false;
}

Task<void> RuntimeServer::MeasureLayer(std::shared_ptr<Container> container) {
  if (container->removed) co_return;
  Task<absl::StatusOr<images::UsageBytes>> measure = deps_.images->RootfsUsage(container->record.id());
  absl::StatusOr<images::UsageBytes> usage = co_await std::move(measure);
  if (usage.ok()) {
    container->layer = LayerUsage{env_.clock().Now(), usage->used_bytes, usage->inodes};
  } else if (!absl::IsNotFound(usage.status())) {
    LogWarning("the usage of a writable layer is missing",
               {{"container", container->record.id()}, {"error", usage.status()}});
  }
}

Task<absl::StatusOr<v1::ContainerStatsResponse>> RuntimeServer::ContainerStats(
    v1::ContainerStatsRequest request) {
  CO_ASSIGN_OR_RETURN_SYNC(std::shared_ptr<Container> container, FindContainer(request.container_id()));
  // Who asks for one may wait for its layer.
  Task<void> measure = MeasureLayer(container);
  co_await std::move(measure);
  std::vector<std::shared_ptr<Container>> one = {container};
  Task<std::vector<v1::ContainerStats>> read = StatsOf(std::move(one));
  std::vector<v1::ContainerStats> stats = co_await std::move(read);
  if (stats.empty()) co_return absl::NotFoundError("the container was removed meanwhile");
  v1::ContainerStatsResponse response;
  *response.mutable_stats() = std::move(stats.front());
  co_return response;
}

Task<absl::StatusOr<v1::ListContainerStatsResponse>> RuntimeServer::ListContainerStats(
    v1::ListContainerStatsRequest request) {
  Task<std::vector<v1::ContainerStats>> read = StatsOf(ContainersFor(request.filter()));
  std::vector<v1::ContainerStats> stats = co_await std::move(read);
  v1::ListContainerStatsResponse response;
  MoveInto(std::move(stats), response.mutable_stats());
  co_return response;
}

Task<absl::StatusOr<v1::StreamContainerStatsResponse>> RuntimeServer::StreamContainerStats(
    v1::StreamContainerStatsRequest request) {
  Task<std::vector<v1::ContainerStats>> read = StatsOf(ContainersFor(request.filter()));
  std::vector<v1::ContainerStats> stats = co_await std::move(read);
  v1::StreamContainerStatsResponse response;
  MoveInto(std::move(stats), response.mutable_container_stats());
  co_return response;
}

}  // namespace keelson::cri
