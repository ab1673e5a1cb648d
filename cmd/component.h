// What the commands that run one component have in common: they start it, wait for SIGTERM or SIGINT, stop
// its parts in the reverse order, and say why it ended.
#pragma once

#include <absl/functional/any_invocable.h>
#include <absl/status/status.h>

#include <string>
#include <vector>

#include "base/env.h"
#include "base/task.h"

namespace keelson {

// The life of one component. Make it in the component's coroutine after the parts it will stop, name the
// parts in the order they were made, start them, and end with RunUntilStopped, on the way of failure too.
class ComponentLife {
 public:
  // Signals are watched from here on, so one that comes during the start is not lost.
  explicit ComponentLife(Env& env);

  // For tasks that live as long as the component; cancelled before the first part is stopped.
  Scope& scope() { return scope_; }
  // Called once, after those added later. Parts that were never started must bear it.
  void AtEnd(absl::AnyInvocable<Task<void>()> stop) { stops_.push_back(std::move(stop)); }
  // The same for an object with Task<void> Stop(). Null: nothing to stop.
  template <class Part>
  void StopAtEnd(Part* part) {
    if (part != nullptr) AtEnd([part] { return part->Stop(); });
  }

  // Waits for the signal when `started` is OK, then stops everything and returns `started`.
  Task<absl::Status> RunUntilStopped(absl::Status started);

 private:
  Scope scope_;
  AsyncEvent stop_;
  std::vector<absl::AnyInvocable<Task<void>()>> stops_;
};

// Runs `component` on a loop of its own; the exit status of the process. The log is set up by the caller.
int RunComponent(const std::string& name, const Paths& paths,
                 absl::AnyInvocable<Task<absl::Status>(Env*)> component);
// 0, or 1 for an error, which is logged and printed as "keelson NAME: ...".
int ComponentExitStatus(const std::string& name, const absl::Status& status);

}  // namespace keelson
