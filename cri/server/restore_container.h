// What a request has to be so that a container can come from a checkpoint: for RestorePod and
// CreateContainer.
#pragma once

#include <absl/status/status.h>

#include <string_view>

#include "cri/proto/runtime/v1/api.pb.h"
#include "cri/server/pod_checkpoint.h"

namespace keelson::cri {

namespace v1 = ::runtime::v1;

// Unimplemented names the field, with `prefix` ("config.") before it: a shared or the host's PID namespace, a
// user namespace. Pure.
absl::Status CheckPodTakesRestored(const v1::PodSandboxConfig& config, std::string_view prefix);
// The same of a container. Pure.
absl::Status CheckTakesRestored(const v1::ContainerConfig& config);

// What the container was asked for as, where the checkpoint has it. InvalidArgument names the field. Pure.
absl::Status CheckSameRequest(const v1::ContainerConfig& config, const CheckpointedContainer& container);

}  // namespace keelson::cri
