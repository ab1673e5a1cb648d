// AttachWarmer: takes the kernel's wait out of the next moves of processes into cgroups.
//
// Whoever moves a process holds cgroup_threadgroup_rwsem for writing. When nobody did for some tens of
// milliseconds, taking it waits for an RCU grace period (kernel/rcu/sync.c): 8 to 30 ms, in the middle of
// `crun create`. Once taken it stays cheap until another period has passed. Warm() takes it beside other
// work, by a move of this process into the cgroup where it is: nothing changes.
#pragma once

#include <absl/status/status.h>

#include <memory>

#include "base/env.h"
#include "cgroups/layout.h"

namespace keelson::cgroups {

class AttachWarmer {
 public:
  AttachWarmer(Env* env, Layout layout);
  AttachWarmer(const AttachWarmer&) = delete;
  AttachWarmer& operator=(const AttachWarmer&) = delete;

  // Returns at once; one move at a time, a call during one does nothing. A host where it cannot be done is
  // logged once and not asked again. Loop thread. The object may go while a move is on its way.
  void Warm();

 private:
  struct State;
  Env& env_;
  std::shared_ptr<State> state_;
};

// The move itself; may take tens of milliseconds. NotFound: no hierarchy of `layout` shows this process'
// cgroup. Blocking.
absl::Status MoveSelfInPlace(const Layout& layout);

}  // namespace keelson::cgroups
