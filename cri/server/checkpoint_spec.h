// spec.dump of a checkpoint (config.json of the container that was checkpointed, untrusted) beside the
// container that is made for it: what criu's images decide has to be what the request asks for.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <string>
#include <string_view>
#include <vector>

#include "cri/proto/runtime/v1/api.pb.h"

namespace keelson::cri {

namespace v1 = ::runtime::v1;

// What criu's images decide and the request says otherwise: the program, how many arguments it has, tty,
// working_dir, the user, a group that is asked for, capabilities, no_new_privs, readonly_rootfs, whether
// there is a seccomp filter, which namespaces there are, devices, and where there are mounts of the host's.
// `wanted`: config.json of the container that was made for it. Not compared: envs and the text of arguments,
// which a kubelet makes anew for the new pod (addresses); what is mounted (the new pod's volumes); groups
// that come from files of the container, which it may have changed; all of the host's capabilities and
// devices; the text of filters, which an update of this server may change. InvalidArgument names the field of
// ContainerConfig. Pure.
absl::Status CheckSameProcess(const v1::LinuxContainerSecurityContext& asked, std::string_view spec_dump,
                              std::string_view wanted);

// Its program and arguments. InvalidArgument. Pure.
absl::StatusOr<std::vector<std::string>> CheckpointedCommand(std::string_view spec_dump);

}  // namespace keelson::cri
