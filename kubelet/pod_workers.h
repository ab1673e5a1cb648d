// PodWorkers: one sequential coroutine per pod UID; the latest update wins; never two at once
// (docs/architecture.md, abstraction 3).
//
// A pod moves syncing -> terminating -> terminated and never back (KEP-1440 wording as upstream):
//   syncing      containers are started and kept running;
//   terminating  something asked for the end (deletion, eviction, a terminal phase): containers are stopped,
//   no new
//                start; a shorter grace period may still arrive and takes effect at once;
//   terminated   nothing runs; volumes, cgroup and status are cleaned up; then the worker has nothing to do.
// The acting is PodSyncer's; this class only decides who acts when.
#pragma once

#include <absl/container/flat_hash_map.h>
#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/env.h"
#include "base/task.h"
#include "kubelet/types.h"

namespace keelson::kubelet {

// Why and how a pod is to end, beyond what the pod object itself says.
struct KillRequest {
  std::optional<int64_t> grace_period_s;                  // overrides the pod's
  std::function<void(corev1::PodStatus*)> status_change;  // reason and phase of an eviction
};

struct SyncResult {
  bool acted = false;  // the runtime was changed: the next step follows at once
  bool fresh = false;  // what changed is in the cache already; else the next step looks at the runtime anew
  bool terminal = false;                      // the pod has reached Succeeded or Failed: terminate it
  std::optional<absl::Duration> retry_after;  // sooner than the periodic sync (a back-off that ends then)
};

class PodSyncer {
 public:
  virtual ~PodSyncer() = default;
  // One step towards the pod's spec. May be cancelled at any wait.
  virtual Task<absl::StatusOr<SyncResult>> SyncPod(PodPtr pod, bool refresh) = 0;
  // Stops everything of the pod. OK: nothing runs any more. `pod` may be a stub made of runtime labels
  // (orphans).
  virtual Task<absl::Status> SyncTerminatingPod(PodPtr pod, KillRequest kill) = 0;
  // Cleans up after it. OK: nothing of the pod is left but its status and dead containers.
  virtual Task<absl::Status> SyncTerminatedPod(PodPtr pod) = 0;
};

struct PodWorkersOptions {
  absl::Duration sync_frequency = absl::Minutes(1);
  absl::Duration error_backoff = absl::Seconds(10);       // after a failed step, doubled never: as upstream
  absl::Duration first_error_backoff = absl::Seconds(1);  // the first failures come back sooner
};

class PodWorkers {
 public:
  enum class State { kSyncing, kTerminating, kTerminated };

  // env and syncer outlive Stop().
  PodWorkers(Env& env, PodSyncer& syncer, PodWorkersOptions options);
  ~PodWorkers();

  // The newest object of a pod, or simply "look again". A pod with a deletionTimestamp, or whose API phase is
  // terminal, goes to terminating. A second static pod of one full name waits until the first has terminated.
  void UpdatePod(PodPtr pod);
  // Ends the pod whatever its object says. A later shorter grace period replaces a longer one.
  void KillPod(PodPtr pod, KillRequest kill);
  // A pod nobody wants, known from the runtime only.
  void KillOrphan(PodPtr stub);
  // Wakes the pod's worker; unknown UIDs are ignored.
  void Poke(const std::string& uid);
  // Forgets terminated workers whose UID is not in `wanted`; terminates others not wanted. Returns what is
  // known.
  std::map<std::string, State> SyncKnownPods(const std::set<std::string>& wanted);

  bool Known(const std::string& uid) const { return workers_.count(uid) > 0; }
  bool CouldHaveRunningContainers(const std::string& uid) const;
  bool IsTerminating(const std::string& uid) const;  // or terminated
  bool IsTerminated(const std::string& uid) const;
  size_t size() const { return workers_.size(); }

  Task<void> Stop();

 private:
  struct Worker;
  std::shared_ptr<Worker> Ensure(const PodPtr& pod);
  void StartTerminating(Worker& worker);
  void MaybeStart(const std::shared_ptr<Worker>& worker);
  bool MayStartStatic(const Worker& worker);
  Task<void> Run(std::shared_ptr<Worker> worker);
  Task<void> Step(std::shared_ptr<Worker> worker);
  absl::Duration AfterStep(Worker& worker, State state);
  Task<void> WaitForWork(std::shared_ptr<Worker> worker, absl::Duration at_most);

  Env& env_;
  PodSyncer& syncer_;
  const PodWorkersOptions options_;
  Scope scope_;
  std::map<std::string, std::shared_ptr<Worker>> workers_;
  std::map<std::string, std::string> running_static_;  // full name -> uid
  bool stopping_ = false;
};

}  // namespace keelson::kubelet
