// SELinux: the labels of a pod's processes and files, and giving them to files of the host.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <functional>
#include <string>

#include "base/env.h"
#include "cri/proto/runtime/v1/api.pb.h"
#include "oci/spec.h"

namespace keelson::oci {

// Of what all containers may read and none may write: layers, which they see through an overlay of another
// label but whose pages the kernel maps by their own.
inline constexpr char kLayersLabel[] = "system_u:object_r:container_ro_file_t:s0";

// Contexts "user:role:type:level"; "": none.
struct SelinuxLabels {
  std::string process, mount;
};

// Of a container of the pod `sandbox`: by its own selinux_options, else by the pod's, else container_t and
// container_file_t. A level that neither names is `pod_level`, which was chosen for the pod so that others
// cannot read its files. A privileged container's process has no label of its own. None at all: on a host
// without SELinux; in a pod that was made while it had none (`pod_level` is ""), whose files have no labels;
// where nobody names any and the pod has the host's PID or IPC namespace. InvalidArgument names the field.
// Pure.
absl::StatusOr<SelinuxLabels> SelinuxLabelsOf(const criv1::LinuxContainerSecurityContext& security,
                                              const criv1::PodSandboxConfig& sandbox, const HostFacts& host,
                                              const std::string& pod_level);

// "s0:cA,cB", A < B < 1024, by chance, for which `taken` is false.
std::string NewSelinuxLevel(Random& random, const std::function<bool(const std::string&)>& taken);

// Whether the policy of this kernel knows the context. InvalidArgument: it does not. `selinuxfs`: where that
// is mounted.
absl::Status CheckSelinuxContext(const std::string& context,
                                 const std::string& selinuxfs = "/sys/fs/selinux");
// Both labels, those there are.
absl::Status CheckSelinuxLabels(const SelinuxLabels& labels);
// The same for what SelinuxLabelsOf gives unasked. FailedPrecondition says what to install.
absl::Status CheckSelinuxPolicy(const std::string& selinuxfs = "/sys/fs/selinux");

inline constexpr int kMaxRelabelDepth = 256;
// Labels `path` (no symlink) and all below it, symlinks themselves, not what they lead to. Folders everybody
// uses ("/", "/etc", "/usr", ...), by whichever name, are refused: PermissionDenied. A file system without
// labels is success. ResourceExhausted: folders in each other beyond kMaxRelabelDepth. Blocking.
absl::Status Relabel(const std::string& path, const std::string& context);
// The same for a folder that gives its label to all that is made in it: nothing is done when it has it
// itself.
absl::Status RelabelOnce(const std::string& folder, const std::string& context);

}  // namespace keelson::oci
