// Limits: CRI's message and NRI's of them. Pure.
#pragma once

#include <absl/status/status.h>

#include "cri/nri/proto/nri.pb.h"
#include "cri/proto/runtime/v1/api.pb.h"

namespace keelson::cri::nri {

namespace pb = ::nri::pkg::api::v1alpha1;
namespace criv1 = ::runtime::v1;

// What is 0 or "" in CRI's is unset, and absent in NRI's. CRI's "pids.max" of `unified` is NRI's pids.
pb::LinuxResources FromCri(const criv1::LinuxContainerResources& from);

// Sets in `to` what is set in `from`. Unimplemented names a limit that CRI and this runtime do not have:
// nothing that a plugin asks for is left out silently. As upstream, a memory limit is one of memory and swap
// together unless swap is given.
// Rules for devices are the caller's (adjust.h).
absl::Status MergeIntoCri(const pb::LinuxResources& from, criv1::LinuxContainerResources* to);

// Of a container that there is already: Unimplemented names what only a creation can set.
absl::Status CheckUpdate(const pb::LinuxResources& from);

}  // namespace keelson::cri::nri
