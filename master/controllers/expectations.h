// Expectations: what a controller has asked for and not yet seen in its cache. Until they are met (or old),
// it must not act on the counts it sees, or it would create and delete twice. Same meaning as upstream's
// ControllerExpectations.
#pragma once

#include <absl/container/flat_hash_map.h>
#include <absl/container/flat_hash_set.h>
#include <absl/time/time.h>

#include <string>

#include "base/env.h"

namespace keelson::master {

class Expectations {
 public:
  static constexpr absl::Duration kTimeout = absl::Minutes(5);

  explicit Expectations(Env& env) : env_(env) {}
  void ExpectCreations(const std::string& key, int count) { Entry(key).creations += count; }
  void ExpectDeletion(const std::string& key, const std::string& uid) { Entry(key).deletions.insert(uid); }
  void CreationObserved(const std::string& key) {
    auto it = entries_.find(key);
    if (it != entries_.end() && it->second.creations > 0) --it->second.creations;
  }
  void DeletionObserved(const std::string& key, const std::string& uid) {
    auto it = entries_.find(key);
    if (it != entries_.end()) it->second.deletions.erase(uid);
  }
  bool Satisfied(const std::string& key) const {
    auto it = entries_.find(key);
    if (it == entries_.end()) return true;
    if (it->second.creations <= 0 && it->second.deletions.empty()) return true;
    return env_.clock().Monotonic() - it->second.since > kTimeout;
  }
  void Forget(const std::string& key) { entries_.erase(key); }

 private:
  struct State {
    int creations = 0;
    absl::flat_hash_set<std::string> deletions;  // uids
    absl::Duration since;
  };
  State& Entry(const std::string& key) {
    State& state = entries_[key];
    if (state.creations <= 0 && state.deletions.empty()) state = State{};
    state.since = env_.clock().Monotonic();
    return state;
  }
  Env& env_;
  absl::flat_hash_map<std::string, State> entries_;
};

}  // namespace keelson::master
