// Pleg: the pod life-cycle event generator. Relists sandboxes and containers every second, asks for the
// details of pods that changed, keeps PodCache, and says which pods to look at again. Where the runtime
// offers GetContainerEvents the events trigger the look at one pod and the full relist slows down to 5
// minutes: events only ever say "look again" (docs/architecture.md).
#pragma once

#include <absl/container/flat_hash_map.h>
#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "base/env.h"
#include "base/task.h"
#include "cri/runtime_service.h"
#include "kubelet/pod_cache.h"
#include "kubelet/types.h"

namespace keelson::kubelet {

struct PlegOptions {
  absl::Duration relist_period = absl::Seconds(1);
  absl::Duration relist_period_with_events = absl::Seconds(300);  // as upstream's evented PLEG
  absl::Duration unhealthy_after = absl::Minutes(3);
  // Only sandboxes and containers with kLabelNode == node_name, or without that label, are ours.
  std::string node_name;
};

enum class PlegEventType { kContainerStarted, kContainerDied, kContainerRemoved, kSandboxChanged };
struct PlegEvent {
  PlegEventType type;
  std::string pod_uid;
  std::string container_id;  // "" for kSandboxChanged
};

class Pleg {
 public:
  // All outlive Stop(). `on_event` is called on the loop after the cache holds the new status.
  Pleg(Env& env, cri::RuntimeService& runtime, PodCache& cache, PlegOptions options,
       std::function<void(const PlegEvent&)> on_event);
  ~Pleg();

  void Start();
  Task<void> Stop();

  // One full relist now; used at start, before any pod is looked at.
  Task<absl::Status> Relist();
  // Asks the runtime about one pod now and updates the cache.
  Task<absl::StatusOr<RuntimePodStatusPtr>> Refresh(std::string uid);
  // The detail of one pod, without touching the cache.
  Task<absl::StatusOr<RuntimePodStatusPtr>> Inspect(std::string uid, std::vector<criv1::PodSandbox> sandboxes,
                                                    std::vector<criv1::Container> containers, uint64_t mark);

  // OK, or "pleg was last seen active 3m4s ago; threshold is 3m0s".
  absl::Status Healthy() const;
  bool events_working() const { return events_working_; }

 private:
  // What one relist saw of a pod: enough to know that nothing changed.
  struct Record {
    std::map<std::string, criv1::PodSandboxState> sandboxes;
    std::map<std::string, criv1::ContainerState> containers;
    bool operator==(const Record&) const = default;
  };
  struct Listed {
    std::vector<criv1::PodSandbox> sandboxes;
    std::vector<criv1::Container> containers;
  };
  using ListedPods = std::map<std::string, Listed>;  // by pod UID
  Task<void> RelistLoop();
  Task<void> EventLoop();
  Task<void> RefreshForEvent(std::string uid);
  Task<absl::StatusOr<ListedPods>> List(std::string uid);
  void Emit(const std::string& uid, const Record& before, const Record& after);
  static Record RecordOf(const Listed& listed);
  bool Ours(const google::protobuf::Map<std::string, std::string>& labels) const;

  Env& env_;
  cri::RuntimeService& runtime_;
  PodCache& cache_;
  const PlegOptions options_;
  std::function<void(const PlegEvent&)> on_event_;
  Scope scope_;
  std::map<std::string, Record> records_;
  std::map<std::string, uint64_t> record_marks_;
  std::set<std::string> retry_;       // their details could not be read: look again though nothing changed
  std::set<std::string> refreshing_;  // event refreshes under way; bool by presence
  std::set<std::string> refresh_again_;
  bool events_working_ = false;
  absl::Duration last_relist_;  // monotonic; start of the last that succeeded
  bool relisted_ = false;
};

}  // namespace keelson::kubelet
