// What a pod's configuration comes to: its pause process and its resolv.conf.
#pragma once

#include <absl/status/statusor.h>

#include <string>

#include "cri/proto/runtime/v1/api.pb.h"
#include "oci/users.h"

namespace keelson::cri {

namespace v1 = ::runtime::v1;

// The configuration of a pod's pause process: what the security context of the pod asks for, and where it
// says nothing an unprivileged user under RuntimeDefault. Pure.
v1::ContainerConfig PauseConfig(const v1::PodSandboxConfig& config);
// Who it runs as. A group without a user is refused (CRI). Pure.
absl::StatusOr<oci::ProcessUser> PauseUser(const v1::PodSandboxConfig& config);

// The text of the pod's resolv.conf: of its DNS configuration, also an empty one; of the host's file when it
// has none. Blocking.
absl::StatusOr<std::string> ResolvConfOf(const v1::PodSandboxConfig& config, const std::string& host_file);

}  // namespace keelson::cri
