// Reads the figures of many cgroups and network namespaces in one go. Blocks: Env::Blocking.
#pragma once

#include <absl/container/flat_hash_map.h>
#include <absl/time/time.h>

#include <string>
#include <vector>

#include "base/env.h"
#include "cgroups/manager.h"
#include "cri/server/namespaces.h"

namespace keelson::cri {

struct StatsRequest {
  std::vector<std::string> cgroup_paths;
  cgroups::StatsDetail detail = cgroups::StatsDetail::kBasic;
  std::vector<std::string> netns_paths;
};

struct CgroupReading {
  absl::Time at;
  cgroups::Stats stats;
};

// By path; what is gone is not there, what cannot be read is logged.
struct StatsReadings {
  absl::flat_hash_map<std::string, CgroupReading> cgroups;
  absl::flat_hash_map<std::string, std::vector<InterfaceCounters>> interfaces;
};

StatsReadings ReadAll(const StatsRequest& request, cgroups::Manager* manager, const Clock& clock);

}  // namespace keelson::cri
