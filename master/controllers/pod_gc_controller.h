// Deletes pods nobody else will: on nodes that no longer exist, terminated ones beyond a threshold (oldest
// first), those deleted before they had a node, and those that are leaving a node an administrator has
// declared out of service (KEP-2268). Sweeps periodically; source: upstream's pod GC controller.
#pragma once

#include <absl/container/flat_hash_map.h>

#include <string>

#include "client/reconciler.h"
#include "master/controllers/controller.h"
#include "master/controllers/pod_ranking.h"

namespace keelson::master {

class PodGcController : public Controller, public client::Reconciler {
 public:
  static constexpr absl::Duration kPeriod = absl::Seconds(20);
  // A node must have been missing for so long, and be missing when asked for, before its pods go.
  static constexpr absl::Duration kQuarantine = absl::Seconds(40);
  static constexpr size_t kTerminatedThreshold = 12500;  // pods

  explicit PodGcController(ControllerContext context, size_t terminated_threshold = kTerminatedThreshold);
  std::string name() const override { return "pod-garbage-collector"; }
  void Start() override;
  Task<void> Stop() override;
  // One sweep; the key has no meaning.
  Task<absl::StatusOr<client::Requeue>> Reconcile(std::string key) override;

 private:
  Task<absl::StatusOr<bool>> NodeIsGone(std::string node);
  // At once. `disruption`: message of the pod's condition DisruptionTarget, "": without it.
  Task<absl::Status> Remove(PodPtr pod, bool mark_failed, std::string disruption = "");
  ControllerContext context_;
  const size_t terminated_threshold_;
  client::Informer& pods_;
  client::Informer& nodes_;
  absl::flat_hash_map<std::string, absl::Duration> missing_since_;  // node -> monotonic
  client::ReconcileLoop loop_;
};

// Those of `pods` that are over the threshold, oldest first. Pure.
std::vector<PodPtr> ExcessTerminatedPods(std::vector<PodPtr> pods, size_t threshold);

}  // namespace keelson::master
