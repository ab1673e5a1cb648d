// Exponential back-off per key: initial, doubling, bounded; forgotten after twice the bound without a
// failure. Pure but for the `now` it is given. Wall-clock times, because container exits are wall-clock.
#pragma once

#include <absl/container/flat_hash_map.h>
#include <absl/time/time.h>

#include <string>

namespace keelson::kubelet {

class Backoff {
 public:
  Backoff(absl::Duration initial, absl::Duration max) : initial_(initial), max_(max) {}

  // Time left to wait after an event (a container's exit, a failed pull) at `event`; zero: go on.
  absl::Duration Remaining(const std::string& key, absl::Time event, absl::Time now) const;
  // The same, the event being the last Next().
  absl::Duration RemainingSinceUpdate(const std::string& key, absl::Time now) const;
  // Records one more attempt at `now` after an event at `event`: the next wait is doubled, or starts anew.
  void Next(const std::string& key, absl::Time event, absl::Time now);
  // Length of the current wait; zero when the key is unknown.
  absl::Duration Get(const std::string& key) const;
  void Forget(const std::string& key) { entries_.erase(key); }
  // Drops keys with this prefix.
  void ForgetPrefix(const std::string& prefix);
  // Drops what is older than twice the bound.
  void Collect(absl::Time now);
  size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    absl::Duration wait;
    absl::Time last_update;
  };
  bool Expired(const Entry& entry, absl::Time event) const { return event - entry.last_update > 2 * max_; }

  absl::Duration initial_, max_;
  absl::flat_hash_map<std::string, Entry> entries_;
};

}  // namespace keelson::kubelet
