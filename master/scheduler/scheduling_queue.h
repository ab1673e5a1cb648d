// SchedulingQueue: the pods that wait for a node. Active ones are handed out, higher priority first, then in
// the order they came; a pod that found no node waits until somebody thinks it might fit now (or five
// minutes); one whose attempt broke, or that is woken too early, waits for its back-off: 1 s, doubling with
// each attempt, up to 10 s. One loop.
#pragma once

#include <absl/container/flat_hash_map.h>
#include <absl/functional/function_ref.h>
#include <absl/time/time.h>

#include <optional>
#include <set>
#include <string>
#include <tuple>

#include "base/env.h"
#include "base/task.h"
#include "master/scheduler/pod_info.h"

namespace keelson::master {

class SchedulingQueue {
 public:
  static constexpr absl::Duration kInitialBackoff = absl::Seconds(1);
  static constexpr absl::Duration kMaxBackoff = absl::Seconds(10);
  static constexpr absl::Duration kMaxUnschedulable = absl::Minutes(5);

  explicit SchedulingQueue(Env& env) : env_(env) {}
  ~SchedulingQueue();

  // A pod to schedule, new or changed so that another look is worth it. One in flight only takes the new
  // object.
  void Add(const PodInfoPtr& pod);
  // Takes the new object, the pod stays where it is. Unknown pods are ignored.
  void Update(const PodInfoPtr& pod);
  // Bound, deleted or not ours any more.
  void Remove(const std::string& key);
  bool Contains(const std::string& key) const { return entries_.contains(key); }
  PodInfoPtr Find(const std::string& key) const;

  // The next active pod, which is "in flight" until Remove, AddUnschedulable or AddBackoff. Null after
  // Shutdown.
  Task<PodInfoPtr> Next();
  // No node fits now.
  void AddUnschedulable(const std::string& key);
  // The attempt failed for a reason that has nothing to do with the nodes.
  void AddBackoff(const std::string& key);
  // Wakes the unschedulable pods `fits` says yes to; returns how many.
  size_t Wake(absl::FunctionRef<bool(const PodInfo& pod)> fits);
  void Shutdown();

  size_t active() const { return active_.size(); }
  size_t unschedulable() const { return unschedulable_.size(); }
  size_t size() const { return entries_.size(); }

 private:
  enum class State { kActive, kInFlight, kBackoff, kUnschedulable };
  struct Entry {
    PodInfoPtr pod;
    State state = State::kActive;
    uint64_t order = 0;
    int attempts = 0;
    absl::Duration failed_at;  // monotonic
    uint64_t timer = 0;
  };
  using ActiveKey = std::tuple<int32_t, uint64_t, std::string>;  // -priority, order, key
  static ActiveKey KeyOf(const Entry& entry);
  void Activate(Entry& entry);
  void Leave(Entry& entry);
  void Arm(Entry& entry, absl::Duration after);
  absl::Duration RemainingBackoff(const Entry& entry) const;
  void ActivateAfterBackoff(Entry& entry);

  Env& env_;
  absl::flat_hash_map<std::string, Entry> entries_;
  std::set<ActiveKey> active_;
  std::set<std::string> unschedulable_;
  uint64_t orders_ = 0;
  bool shutdown_ = false;
  WaitList ready_;
};

}  // namespace keelson::master
