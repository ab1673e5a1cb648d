// Timer queue shared by the real and the fake clock: (deadline, id) ordered callbacks.
#pragma once

#include <absl/container/flat_hash_map.h>
#include <absl/functional/any_invocable.h>
#include <absl/time/time.h>

#include <cstdint>
#include <map>
#include <optional>
#include <utility>

namespace keelson {

class TimerQueue {
 public:
  using Callback = absl::AnyInvocable<void()>;
  uint64_t Add(absl::Duration deadline, Callback fn);
  bool Remove(uint64_t id);
  // Deadline of the first timer.
  std::optional<absl::Duration> Next() const;
  // Takes the first timer out when it is due at `now`.
  std::optional<Callback> PopDue(absl::Duration now);
  bool empty() const { return timers_.empty(); }

 private:
  using Key = std::pair<absl::Duration, uint64_t>;
  std::map<Key, Callback> timers_;
  absl::flat_hash_map<uint64_t, absl::Duration> deadlines_;
  uint64_t next_id_ = 1;
};

}  // namespace keelson
