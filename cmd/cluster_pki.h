// Certificates and kubeconfigs of a one-machine cluster, made and renewed by `keelson up`.
#pragma once

#include <absl/status/status.h>
#include <absl/time/time.h>

#include <string>

#include "cmd/cluster_layout.h"

namespace keelson {

// Brings ETC/pki and the kubeconfigs to what the layout asks for. Idempotent; leaves are made anew when a
// third of their life is left or when names and addresses changed. The CA is never replaced.
absl::Status EnsureClusterPki(const ClusterLayout& layout, absl::Time now);

// Writes a copy of the administrator's kubeconfig for another user: 0600, owned by them. `server` "" keeps
// the address.
absl::Status WriteUserKubeconfig(const ClusterLayout& layout, const std::string& path,
                                 const std::string& server, unsigned uid, unsigned gid);

}  // namespace keelson
