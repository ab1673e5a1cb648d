// History: an observer of the store that no fault touches. It sees every write in order and checks, while the
// simulation runs, what must hold of the sequence of writes whatever fails: revisions without a gap, a pod
// bound once, a phase that is final stays final. Watchers of clients are compared with it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/env.h"
#include "master/store/store.h"

namespace keelson::sim {

class History {
 public:
  // `violation` is told what broke. The store outlives the history.
  History(Env& env, master::Store& store, std::function<void(std::string)> violation);

  // Reads what was written since. Never waits.
  void Drain();

  // The newest revision below `revision` at which a key with `prefix` was written; 0 when there is none.
  master::Revision Before(const std::string& prefix, master::Revision revision);
  // The node a pod is bound to; "" while it is not.
  std::string NodeOf(const std::string& pod_uid) const;
  // Over every write so far: key, revision, kind of event and bytes. Equal for equal runs.
  uint64_t hash() const { return hash_; }
  master::Revision revision() const { return last_; }
  // Writes of anything but Nodes, Leases and Events.
  uint64_t writes_that_matter() const { return writes_that_matter_; }

 private:
  struct SeenPod {
    std::string name, node, final_phase;
    int restarts = 0, writes_below = 0;
  };
  void Add(const master::StoreEvent& event);
  void AddPod(const master::StoreEvent& event);

  Env& env_;
  std::function<void(std::string)> violation_;
  std::unique_ptr<master::StoreWatch> watch_;
  master::Revision last_ = master::kFirstRevision;
  uint64_t hash_ = 14695981039346656037u;  // FNV-1a
  uint64_t writes_that_matter_ = 0;
  std::map<std::string, std::vector<master::Revision>> written_;  // "/registry/pods/" -> revisions
  std::map<std::string, SeenPod> pods_;                           // by uid
};

}  // namespace keelson::sim
