// QosTree: the kubelet's part of the cgroup tree, with upstream's names:
//   <root>/kubepods, /kubepods/burstable, /kubepods/besteffort, and pod<uid> in one of the three (guaranteed
//   pods directly in kubepods). Containers below are the runtime's.
// Blocking like Manager; owned by the kubelet's container manager.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <map>
#include <string>
#include <string_view>

#include "cgroups/manager.h"
#include "cgroups/systemd_units.h"

namespace keelson::cgroups {

enum class QosClass { kGuaranteed, kBurstable, kBestEffort };

// The sums the kubelet takes over a pod's containers (requests of init containers folded in), for
// PodResources().
struct PodRequirements {
  QosClass qos = QosClass::kBestEffort;
  int64_t cpu_request_milli = 0;
  int64_t cpu_limit_milli = 0;  // 0: some container has none
  int64_t memory_request_bytes = 0;
  int64_t memory_limit_bytes = 0;   // 0: some container has none
  int64_t pids_limit = 0;           // the node's podPidsLimit; <= 0: none
  bool enforce_cpu_quota = true;    // cpuCFSQuota
  uint64_t cpu_period_us = 100000;  // cpuCFSQuotaPeriod
  std::map<std::string, uint64_t> hugepage_limit_bytes;
};
// What goes to the pod's cgroup (kubelet: ResourceConfigForPod). Pure.
Resources PodResources(const PodRequirements& pod);

struct QosTreeOptions {
  std::string root;            // Paths::cgroup_root or --cgroup-root; "" : the hierarchy's root
  bool systemd_names = false;  // cgroupDriver: systemd
  // What slices are asked of; null: only their directories are made, as in tests.
  SystemdUnits* units = nullptr;
};

// With `units` the methods that change something wait for systemd: a pool is the place for them, one at a
// time for a pod.
class QosTree {
 public:
  // `manager` must outlive it.
  QosTree(Manager& manager, QosTreeOptions options);

  // The runtime's driver is only known when it answers (KEP-4033). Before Setup.
  void UseCgroupfs();
  void UseSystemd(SystemdUnits* units);
  bool waits_for_systemd() const { return options_.units != nullptr; }

  // Creates kubepods and the two levels; limits of the whole from `node_allocatable` (may be empty).
  absl::Status Setup(const Resources& node_allocatable);
  // cpu.shares of the burstable level follow the requests of its pods; best effort keeps the minimum.
  absl::Status UpdateQosShares(int64_t burstable_cpu_request_milli);
  // Creates or updates. Idempotent.
  absl::Status EnsurePod(std::string_view uid, const PodRequirements& pod);
  // Kills what is left and removes the cgroup. FailedPrecondition while killed processes are still leaving:
  // again later. Missing is success.
  absl::Status RemovePod(std::string_view uid, QosClass qos);
  // UID -> cgroup path of every pod cgroup found in the three places: the way to orphans after a restart.
  absl::StatusOr<std::map<std::string, std::string>> ListPods();
  absl::StatusOr<Stats> PodStats(std::string_view uid, QosClass qos);

  // Paths as the Manager takes them.
  std::string KubepodsPath() const;
  std::string QosPath(QosClass qos) const;
  std::string PodPath(std::string_view uid, QosClass qos) const;
  // What goes into LinuxPodSandboxConfig.cgroup_parent: "/kubepods/pod<uid>", or the last slice for systemd.
  std::string CgroupParent(std::string_view uid, QosClass qos) const;
  // "pod<uid>" or its slice -> uid; "" when it is not a pod's.
  static std::string UidOf(std::string_view name);

 private:
  // A cgroup, by systemd where it is the one to make them, with its limits.
  absl::Status Make(const std::string& path, const Resources& resources);

  Manager& manager_;
  QosTreeOptions options_;
  std::optional<uint64_t> burstable_shares_;  // as systemd was last told
};

}  // namespace keelson::cgroups
