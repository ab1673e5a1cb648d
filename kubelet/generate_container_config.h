// From a pod to the CRI's sandbox and container configurations. Pure: whatever must be fetched, mounted or
// written was, and is given. Labels, annotations and log paths as upstream writes them.
#pragma once

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "kubelet/environment.h"
#include "kubelet/pod_network.h"
#include "kubelet/resources.h"
#include "kubelet/types.h"
#include "kubelet/volume_manager.h"

namespace keelson::kubelet {

// <pod_logs_dir>/<ns>_<name>_<uid>
std::string PodLogsDirectory(const std::string& pod_logs_dir, std::string_view ns, std::string_view name,
                             std::string_view uid);
// "<container>/<restart_count>.log", relative to the pod's log folder.
std::string ContainerLogPath(std::string_view container_name, int restart_count);
// <container_logs_dir>/<pod>_<ns>_<container>-<container id>.log
std::string LegacyLogSymlink(const std::string& container_logs_dir, std::string_view pod, std::string_view ns,
                             std::string_view container, std::string_view id);

struct SandboxInputs {
  uint32_t attempt = 0;
  std::string hostname;
  criv1::DNSConfig dns;
  std::string pod_logs_dir;
  std::string cgroup_parent;
  std::string node_name;  // label kLabelNode; "" : left out
  ResourceOptions resources;
  std::optional<criv1::UserNamespace> user_namespace;  // of a pod with hostUsers: false
};
absl::StatusOr<criv1::PodSandboxConfig> GeneratePodSandboxConfig(const corev1::Pod& pod,
                                                                 const SandboxInputs& inputs);

struct ContainerInputs {
  int restart_count = 0;
  std::string image_ref;  // what the pull gave
  EnvList env;
  PodVolumes volumes;
  std::map<int, std::string> sub_paths;  // index of volumeMount -> prepared host path
  std::string hosts_file;                // host path of the managed /etc/hosts; "" : none
  std::string termination_log;           // host path; "" : none
  int64_t image_uid = -1;                // user the image runs as, by number; -1: by name or unknown
  std::string image_username;
  std::string target_container_id;  // ephemeral containers with targetContainerName
  std::string node_name;
  bool seccomp_default = false;
  std::string seccomp_dir;
  ResourceOptions resources;
  // The sandbox's. Every mount is seen through its mappings, so owners on the disk are those in the
  // container.
  std::optional<criv1::UserNamespace> user_namespace;
  bool recursive_read_only = false;  // the sandbox's handler has such mounts
  absl::Time now;
};
// Errors become the waiting reason CreateContainerConfigError.
absl::StatusOr<criv1::ContainerConfig> GenerateContainerConfig(const corev1::Pod& pod,
                                                               const corev1::Container& container,
                                                               const ContainerInputs& inputs);

// Whether the runtime's handler says that it makes mounts read-only with all below them (KEP-3857).
bool SupportsRecursiveReadOnly(const criv1::StatusResponse& status, const std::string& handler);
// What a mount's recursiveReadOnly comes to. An error, in upstream's words: what it asks for cannot be had.
absl::StatusOr<bool> ResolveRecursiveReadOnly(const corev1::VolumeMount& mount, bool supported);

// $(VAR) in command and args, over the container's environment.
std::vector<std::string> ExpandCommand(const google::protobuf::RepeatedPtrField<std::string>& words,
                                       const EnvList& env);
// subPath, or subPathExpr expanded; "" when there is neither. InvalidArgument: absolute, or with "..".
absl::StatusOr<std::string> ExpandSubPath(const corev1::VolumeMount& mount, const EnvList& env);

// "docker.io/library/nginx:latest" of "nginx": upstream adds tag latest and leaves the rest to the runtime.
std::string ApplyDefaultImageTag(const std::string& image);

// Signal names of lifecycle.stopSignal; SIGNAL_RUNTIME_DEFAULT for "".
criv1::Signal StopSignal(std::string_view name);

}  // namespace keelson::kubelet
