// EvictionManager: keeps the node from running out of memory, disk and process IDs. It measures every 10 s;
// below a threshold of evictionHard or evictionSoft it sets the node's condition; when the threshold is due,
// it frees what nobody uses (disk), and then ends one pod, the first of RankForEviction, before it looks
// again. Beside that, every pod goes that has more on the disk than its own limits allow; only pods with such
// limits are measured. One loop. Source: upstream's node-pressure and local storage eviction. Not here: the
// kernel's memory notification.
#pragma once

#include <absl/time/time.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/env.h"
#include "base/task.h"
#include "cgroups/qos_tree.h"
#include "client/event_recorder.h"
#include "cri/image_service.h"
#include "cri/runtime_service.h"
#include "kubelet/eviction.h"
#include "kubelet/options.h"
#include "kubelet/pod_workers.h"
#include "kubelet/types.h"

namespace keelson::kubelet {

inline constexpr absl::Duration kEvictionInterval = absl::Seconds(10);
inline constexpr absl::Duration kEvictionCleanupLimit = absl::Seconds(30);
inline constexpr int64_t kEvictionGrace_s = 1;

struct EvictionDeps {
  cri::RuntimeService* runtime = nullptr;
  cri::ImageService* images = nullptr;
  client::EventRecorder* events = nullptr;  // null: none are written
  cgroups::QosTree* qos_tree = nullptr;     // null: usage as the runtime tells it
  std::function<std::vector<PodPtr>()> active_pods;
  std::function<void(const PodPtr&, KillRequest)> kill;
  std::function<bool(const std::string& uid)> is_terminated;
  std::function<Task<void>()> free_disk;  // dead containers, images nobody uses
  std::function<void()> on_change;        // a condition came or went
};

class EvictionManager {
 public:
  // Everything outlives its tasks.
  EvictionManager(Env& env, EvictionDeps deps, const KubeletOptions& options);

  // Measures what needs no runtime, for the first status of the node.
  void Measure() { (void)Look(); }
  // Rounds until cancelled.
  Task<void> Run();
  // One look, and what follows from it.
  Task<void> Round();
  // Ends the pods that have more on the disk than their own limits allow, until cancelled. Beside Run(): a
  // walk through very many files must not hold up what the node needs.
  Task<void> RunLimits();
  const PressureState& pressure() const { return pressure_; }

 private:
  Levels ReadLevels() const;
  // What is to be acted on, most urgent first.
  std::vector<Shortage> Look();
  Task<void> FindImageFs();
  Task<std::vector<PodUsage>> MeasurePods(Signal signal);
  Task<void> EvictOverLimits();
  // Writable layer of each container as the runtime tells it.
  Task<std::map<std::string, int64_t>> WritableLayers(std::string uid);
  bool ImagesHaveTheirOwnDisk() const;
  // `disruption`: KEP-3329's condition DisruptionTarget, which a pod that broke its own limits does not get.
  void Evict(const PodPtr& pod, const std::string& message, int64_t grace_s, bool disruption);

  Env& env_;
  EvictionDeps deps_;
  const KubeletOptions& options_;
  ThresholdWatch thresholds_;
  PressureState pressure_;
  std::string image_fs_;  // a folder on it; "" : not known yet
};

}  // namespace keelson::kubelet
