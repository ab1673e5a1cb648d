// What was read of cgroups and interfaces -> CRI's stats messages. Pure; the reading is in stats_reader.h.
#pragma once

#include <absl/time/time.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cgroups/manager.h"
#include "cri/server/namespaces.h"
#include "cri/server/records.pb.h"
#include "cri/server/server_state.h"

namespace keelson::cri {

// A rate over less than this is noise: the one before is given again.
inline constexpr absl::Duration kMinCpuInterval = absl::Milliseconds(500);

// CPU time per second of time since the sample before, in billionths of a CPU; `usage_ns` becomes the sample.
// nullopt: there is none to compare with, or a clock went back.
std::optional<uint64_t> NanoCores(CpuSample* sample, absl::Time now, uint64_t usage_ns);

struct ContainerReadings {
  absl::Time at;
  const cgroups::Stats* cgroup = nullptr;  // null: it does not run
  std::optional<uint64_t> nano_cores;
  std::optional<LayerUsage> layer;
  std::string layer_mount_point;  // of the file system the writable layer is on
};
// working_set_bytes: usage less inactive file pages. available_bytes: limit less working set, absent without
// a limit.
v1::ContainerStats ContainerStatsOf(const records::Container& record, const ContainerReadings& readings);

struct PodReadings {
  absl::Time at;
  const cgroups::Stats* cgroup = nullptr;  // of the pod's own cgroup, or the sum of its containers
  std::optional<uint64_t> nano_cores;
  const std::vector<InterfaceCounters>* interfaces = nullptr;  // null: the host's network
};
// Without `containers`: the caller adds them. `default_interface` is kDefaultInterface or the first;
// `interfaces` are the others.
inline constexpr char kDefaultInterface[] = "eth0";
v1::PodSandboxStats PodStatsOf(const records::Sandbox& record, const PodReadings& readings);

// CPU time, memory and processes together. A sum has a limit when every part has one. Pressure has no sum:
// stalls of two cgroups may be at the same time, or not; only a cgroup around both would know.
cgroups::Stats SumOf(const std::vector<const cgroups::Stats*>& parts);

}  // namespace keelson::cri
