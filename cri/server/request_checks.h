// What a request must not say whatever this host can, and what a pod and its containers have to agree on.
// Each error is InvalidArgument and names the field.
#pragma once

#include <absl/status/statusor.h>

#include <string>
#include <string_view>

#include "cri/proto/runtime/v1/api.pb.h"
#include "oci/users.h"

namespace keelson::cri {

namespace v1 = ::runtime::v1;

// RunPodSandbox. Pure.
absl::Status CheckPodConfig(const v1::PodSandboxConfig& config);

// CreateContainer, without what depends on its pod. Pure.
absl::Status CheckContainerConfig(const v1::ContainerConfig& config);

// KEP-127: the mappings of a container and of its mounts are those of its pod, or none. Pure.
absl::Status CheckIdMappings(const v1::ContainerConfig& config, const v1::PodSandboxConfig& pod);

// The configuration of a pod's pause process: what the security context of the pod asks for, and where it
// says nothing an unprivileged user under RuntimeDefault. Pure.
v1::ContainerConfig PauseConfig(const v1::PodSandboxConfig& config);
// Who it runs as. A group without a user is refused (CRI). Pure.
absl::StatusOr<oci::ProcessUser> PauseUser(const v1::PodSandboxConfig& config);

// The text of the pod's resolv.conf: of its DNS configuration, also an empty one; of the host's file when it
// has none. Blocking.
absl::StatusOr<std::string> ResolvConfOf(const v1::PodSandboxConfig& config, const std::string& host_file);

}  // namespace keelson::cri
