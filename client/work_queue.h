// WorkQueue: keys to reconcile. A key is queued once however often it is added, handed to one worker at a
// time, and comes back after a failure with exponential back-off on the Env's clock (docs/architecture.md).
#pragma once

#include <absl/container/flat_hash_map.h>
#include <absl/container/flat_hash_set.h>
#include <absl/time/time.h>

#include <deque>
#include <optional>
#include <string>

#include "base/env.h"
#include "base/task.h"

namespace keelson::client {

struct WorkQueueOptions {
  absl::Duration min_backoff = absl::Milliseconds(5);
  absl::Duration max_backoff = absl::Seconds(60);
};

class WorkQueue {
 public:
  explicit WorkQueue(Env& env, WorkQueueOptions options = {});
  ~WorkQueue();

  void Add(const std::string& key);
  // Replaces an earlier timer of the key only when this one is sooner.
  void AddAfter(const std::string& key, absl::Duration delay);
  // After min_backoff * 2^(failures so far).
  void AddRateLimited(const std::string& key);
  // Forgets the key's failures.
  void Forget(const std::string& key);
  int failures(const std::string& key) const;

  // Waits for a key; nullopt after Shutdown(). The key must be given to Done() afterwards; if it was added
  // meanwhile it is queued again then.
  Task<std::optional<std::string>> Next();
  void Done(const std::string& key);
  void Shutdown();
  size_t size() const { return queue_.size(); }
  // Nothing queued, in work or waiting on a timer.
  bool idle() const { return queue_.empty() && processing_.empty() && timers_.empty(); }

 private:
  struct Timer {
    uint64_t id;
    absl::Duration due;
  };
  Env& env_;
  const WorkQueueOptions options_;
  std::deque<std::string> queue_;
  absl::flat_hash_set<std::string> dirty_, processing_;
  absl::flat_hash_map<std::string, Timer> timers_;
  absl::flat_hash_map<std::string, int> failures_;
  bool shutdown_ = false;
  WaitList ready_;
};

}  // namespace keelson::client
