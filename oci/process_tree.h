// A process with everything it started: what an exec that must end has to take along.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <string_view>
#include <vector>

namespace keelson::oci {

struct ProcessFacts {
  int pid = 0, parent = 0;
  int session = 0;  // the pid of its leader
  uint64_t start_ticks = 0;
  bool dead = false;  // not yet reaped
};

// `stat` as /proc/PID/stat. Pure.
absl::StatusOr<ProcessFacts> ParseProcessFacts(std::string_view stat);
// NotFound when it is gone.
absl::StatusOr<ProcessFacts> ProcessFactsOf(int pid);

// `root` when it is in `all`, its descendants, and who is in the session that it leads, whoever their parent
// is by now; or in `session`, the one it was started in, as long as it is there itself (0: none).
// Who has left both (a daemon that was orphaned in a session of its own) cannot be told from others. Pure.
std::vector<ProcessFacts> TreeOf(int root, int session, const std::vector<ProcessFacts>& all);

// SIGKILL to the tree of `root`, which the caller knows to be the process meant. All are stopped first, so
// that none starts another meanwhile. NotFound when there is nothing left of it. `killed`: who; null is fine.
// Blocking, milliseconds.
absl::Status KillProcessTree(int root, int session, std::vector<ProcessFacts>* killed);

}  // namespace keelson::oci
