// What a request must not say whatever this host can, and what a pod and its containers have to agree on.
// Each error is InvalidArgument and names the field.
#pragma once

#include <absl/status/status.h>

#include "cri/proto/runtime/v1/api.pb.h"

namespace keelson::cri {

namespace v1 = ::runtime::v1;

// RunPodSandbox. Pure.
absl::Status CheckPodConfig(const v1::PodSandboxConfig& config);

// CreateContainer, without what depends on its pod. Pure.
absl::Status CheckContainerConfig(const v1::ContainerConfig& config);

// KEP-127: the mappings of a container and of its mounts are those of its pod, or none. Pure.
absl::Status CheckIdMappings(const v1::ContainerConfig& config, const v1::PodSandboxConfig& pod);

}  // namespace keelson::cri
