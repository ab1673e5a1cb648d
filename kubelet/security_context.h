// securityContext of pod and container as CRI's Linux security contexts. Pure. Source: upstream's
// kuberuntime/security_context, CRI LinuxContainerSecurityContext.
#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "kubelet/types.h"

namespace keelson::kubelet {

criv1::NamespaceOption PodNamespaces(const corev1::Pod& pod);

// Seccomp is RuntimeDefault, whatever the pod says of its containers, as upstream.
absl::StatusOr<criv1::LinuxSandboxSecurityContext> MakeSandboxSecurityContext(const corev1::Pod& pod);

struct ContainerUserInputs {
  int64_t image_uid = -1;                    // -1: unknown
  std::string image_username;                // "" : numeric or none
  std::vector<int64_t> supplemental_groups;  // of the volumes
  std::string target_container_id;
  bool seccomp_default = false;
  std::string seccomp_dir = "/var/lib/kubelet/seccomp";
};
// runAsNonRoot with a user that is root, or cannot be known not to be, is InvalidArgument in upstream's
// words.
absl::StatusOr<criv1::LinuxContainerSecurityContext> MakeContainerSecurityContext(
    const corev1::Pod& pod, const corev1::Container& container, const ContainerUserInputs& inputs);

}  // namespace keelson::kubelet
