// Who was killed for want of memory, where systemd made the cgroups: it takes a container's away with its
// last process, and the counter in it, often before anybody could look. The counter of the slice around it
// stays and counts every kill below it; what the living do not explain was the one's that has just ended. Two
// that end at the same moment, one of them by such a kill, cannot be told apart: the first that is looked at
// has it.
#pragma once

#include <absl/container/flat_hash_map.h>

#include <cstdint>
#include <optional>
#include <string>

namespace keelson::cri {

class OomLedger {
 public:
  // Before a container starts in the slice, and for those found running. `total`: kills in the slice so far,
  // as it counts them; `living`: sum of the counters of the containers in it. Nothing when it is open.
  void Open(const std::string& slice, uint64_t total, uint64_t living);
  // Whether the container that has ended suffered a kill; its kills are explained then. `living`: of the
  // others. `own`: its own counter where that could still be read. False for a slice that is not open.
  bool Settle(const std::string& slice, uint64_t total, uint64_t living, std::optional<uint64_t> own);
  // After the last container of it has ended.
  void Close(const std::string& slice) { explained_.erase(slice); }

 private:
  absl::flat_hash_map<std::string, uint64_t> explained_;  // kills of those that are gone, by slice
};

}  // namespace keelson::cri
