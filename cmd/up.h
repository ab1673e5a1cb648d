// `keelson up`: a one-machine cluster from nothing. Writes PKI and configuration, starts the components under
// a Supervisor, waits until the node is Ready, stays until told to stop. Started again while it runs it only
// waits for Ready; started again after it was killed it adopts the components.
#pragma once

#include <absl/status/status.h>

#include "base/env.h"
#include "cmd/cluster_layout.h"
#include "cmd/supervisor.h"

namespace keelson {

// Runs in the foreground until SIGTERM or SIGINT, then brings the cluster down (cmd/down.h). `ready_fd` >= 0:
// progress lines go there as well, the last one "ready" or "failed: ...", then it is closed.
absl::Status RunUp(const ClusterLayout& layout, int ready_fd);

// Starts RunUp in a session of its own and returns when the node is Ready, showing progress on stdout.
absl::Status RunUpDetached(const ClusterLayout& layout, const std::vector<std::string>& argv);

// The container runtime of the cluster's own (`keelson cri` or containerd) as it is run; `keelson down`
// starts it the same way when pods are left without one.
ComponentSpec RuntimeComponent(const ClusterLayout& layout);

}  // namespace keelson
