// A process with everything it started: what an exec that must end has to take along.
#pragma once

#include <absl/status/status.h>

#include <vector>

#include "base/process.h"

namespace keelson::oci {

// `root` when it is in `all`, its descendants, and who is in the session that it leads, whoever their parent
// is by now; or in `session`, the one it was started in, as long as it is there itself (0: none).
// Who has left both (a daemon that was orphaned in a session of its own) cannot be told from others. Pure.
std::vector<ProcessFacts> TreeOf(int root, int session, const std::vector<ProcessFacts>& all);

// SIGKILL to the tree of `root`, which the caller knows to be the process meant. All are stopped first, so
// that none starts another meanwhile, and waited for up to 100 ms (a thread in the kernel may take long).
// NotFound when there is nothing left of it. `killed`: who; null is fine. Blocking, milliseconds.
absl::Status KillProcessTree(int root, int session, std::vector<ProcessFacts>* killed);

}  // namespace keelson::oci
