// Bringing a cluster of this machine down so that nothing of it is left: processes, sandboxes, mounts,
// network namespaces, links, nft table, DNS address, cgroups. Data and images stay unless purged. Every step
// may run twice and works as well when `keelson up` was killed before.
#pragma once

#include <absl/status/status.h>

#include "base/env.h"
#include "cmd/cluster_layout.h"

namespace keelson {

// Removes all of the cluster. Errors of single steps are logged and collected; the rest still runs.
Task<absl::Status> TearDown(Env* env, ClusterLayout layout);

// `keelson down`: asks the running `keelson up` to do it, or does it here when there is none. `purge` removes
// state, images, configuration and logs as well.
absl::Status RunDown(const ClusterLayout& layout, bool purge);

}  // namespace keelson
