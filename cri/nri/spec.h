// What plugins are shown of a container's config.json (OCI runtime-spec 1.0.2). Limits are resources.h's.
// Pure.
#pragma once

#include <string_view>

#include "cri/nri/proto/nri.pb.h"

namespace keelson::cri::nri {

namespace pb = ::nri::pkg::api::v1alpha1;

// args, env, mounts, hooks, rlimits, user, annotations, and the linux section but for its resources. What
// cannot be read is left out: the file is this runtime's own.
void FillFromSpec(std::string_view config_json, pb::Container* container);

}  // namespace keelson::cri::nri
