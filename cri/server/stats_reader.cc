#include "cri/server/stats_reader.h"

#include <utility>

#include "base/log.h"

namespace keelson::cri {

StatsReadings ReadAll(const StatsRequest& request, cgroups::Manager* manager, const Clock& clock) {
  StatsReadings out;
  for (const std::string& path : request.cgroup_paths) {
    if (out.cgroups.contains(path)) continue;
    absl::Time at = clock.Now();
    absl::StatusOr<cgroups::Stats> stats = manager->ReadStats(path, request.detail);
    if (stats.ok()) {
      out.cgroups[path] = {at, *std::move(stats)};
    } else if (!absl::IsNotFound(stats.status())) {
      LogWarning("stats are missing", {{"cgroup", path}, {"error", stats.status()}});
    }
  }
  if (request.netns_paths.empty()) return out;
  auto interfaces = ReadInterfaceCountersOf(request.netns_paths);
  for (size_t i = 0; i < request.netns_paths.size(); ++i) {
    const std::string& path = request.netns_paths[i];
    if (interfaces[i].ok()) {
      out.interfaces[path] = *std::move(interfaces[i]);
    } else if (!absl::IsNotFound(interfaces[i].status())) {
      LogWarning("network stats are missing", {{"namespace", path}, {"error", interfaces[i].status()}});
    }
  }
  return out;
}

}  // namespace keelson::cri
