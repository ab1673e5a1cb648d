// Reconciler and the loop that drives it from a WorkQueue (abstraction 8). Level-driven: Reconcile(key) looks
// at the world as it is and may be called twice for the same change.
#pragma once

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <optional>
#include <string>

#include "base/env.h"
#include "base/task.h"
#include "client/work_queue.h"

namespace keelson::client {

struct Requeue {
  std::optional<absl::Duration> after;  // unset: done until something changes
};

class Reconciler {
 public:
  virtual ~Reconciler() = default;
  // An error puts the key back with back-off. The object must outlive the task.
  virtual Task<absl::StatusOr<Requeue>> Reconcile(std::string key) = 0;
};

// Runs `workers` tasks that take keys from the queue. `name` appears in logs and metrics.
class ReconcileLoop {
 public:
  ReconcileLoop(Env& env, std::string name, Reconciler& reconciler, WorkQueueOptions options = {});
  ~ReconcileLoop();
  WorkQueue& queue() { return queue_; }
  void Start(int workers = 1);
  Task<void> Stop();

 private:
  Task<void> Work();
  const std::string name_;
  Reconciler& reconciler_;
  WorkQueue queue_;
  Scope scope_;
};

}  // namespace keelson::client
