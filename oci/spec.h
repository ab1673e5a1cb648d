// GenerateSpec: the runtime-spec configuration (config.json) of one container, from CRI messages, the image
// and facts of the host. Pure: nothing is read and nothing is made here; what must exist on the host is told
// back in SpecOutput. Source: OCI runtime-spec 1.0.2 config.md and config-linux.md, CRI v1.
#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "cgroups/manager.h"
#include "cri/proto/runtime/v1/api.pb.h"
#include "oci/image_config.h"
#include "oci/runtime_spec.h"
#include "oci/users.h"

namespace keelson::oci {

namespace criv1 = ::runtime::v1;

// What of the host decides a specification. DiscoverHostFacts() reads it; tests fill it in.
struct HostFacts {
  bool cgroup_v2 = false;
  bool systemd_cgroup = false;             // the driver: cgroup_parent and cgroupsPath in systemd's form
  int last_capability = 40;                // /proc/sys/kernel/cap_last_cap
  uint64_t bounding_capabilities = ~0ull;  // what we may hand out: CapBnd of the server
  int kernel_major = 6, kernel_minor = 1;
  bool apparmor = false;
  bool selinux = false;
  bool seccomp = true;
  bool swap_controller = false;  // memory.memsw / memory.swap exists
  int oom_score_adj = 0;         // of the server
  bool can_lower_oom_score_adj =
      true;  // else a lower value than ours is replaced by ours (restrict_oom_score_adj)
  uint64_t max_open_files = 1048576;  // hard RLIMIT_NOFILE of the server
  bool in_user_namespace = false;
  bool hugetlb_controller = false;
  std::string architecture = "amd64";    // as Go and image configs name it
  std::string apparmor_default_profile;  // what RuntimeDefault means; "" : there is none
};
// The AppArmor profile a container gets on such a host: "", "unconfined" or a name. Errors name the field.
absl::StatusOr<std::string> ApparmorProfileOf(const criv1::LinuxContainerSecurityContext& security,
                                              const HostFacts& host);

// Whether the security context's seccomp field, or its older form, makes sense. Pure.
absl::Status CheckSeccompField(const criv1::LinuxContainerSecurityContext& security);

// cgroup hierarchies are found through `proc_root`/self/mounts, whose mount points are taken as they stand.
// systemd_cgroup, architecture of another machine and apparmor_default_profile are the caller's to set.
// `proc_root`: "/proc", or a test's tree.
absl::StatusOr<HostFacts> DiscoverHostFacts(const std::string& proc_root);

// Of the OCI runtime the container goes to; a specification never asks for what it lacks without saying so.
struct RuntimeFeatures {
  bool recursive_read_only = false;  // mount option "rro"
  bool idmapped_mounts = false;
  bool seccomp_notify = false;
};

// Paths of pinned namespaces. "" : the host's, unless the field says otherwise.
struct NamespacePaths {
  std::string network, ipc, uts;
  std::string pid;   // "" : see pid_host
  std::string user;  // "" : the host's
  std::string cgroup;
  bool pid_host = false;  // NamespaceMode NODE; else with an empty `pid` a new namespace is made
};

// A device node of the host.
struct HostDevice {
  std::string path;  // in the container
  char type = 'c';
  int64_t major = 0, minor = 0;
  uint32_t mode = 0666;
  uint32_t uid = 0, gid = 0;
  std::string permissions = "rwm";  // CRI's Device.permissions win over it
};

struct SpecInput {
  std::string id;
  const criv1::ContainerConfig* container = nullptr;
  const criv1::PodSandboxConfig* sandbox = nullptr;
  std::string sandbox_id;
  ImageConfig image;
  ProcessUser user;
  std::string rootfs_path;
  bool rootfs_readonly_layer = false;
  NamespacePaths namespaces;
  std::string cgroups_path;  // "/kubepods/burstable/podUID/ID", or "SLICE:PREFIX:ID" with systemd
  std::string hostname;      // goes into HOSTNAME of the environment
  // Files of the sandbox on the host, mounted where the container does not mount something itself. "" : none.
  std::string resolv_conf_path, hostname_path, hosts_path, shm_path;
  std::string init_binary_path;  // unused when empty
  // Nodes of the configuration's devices, in its order, looked up on the host by the caller (a directory
  // gives several; two devices may be one of the host's). With `privileged` every device of /dev
  // (all_host_devices; /dev/console, /dev/pts, ... are left out here).
  std::vector<std::vector<HostDevice>> devices;
  std::vector<HostDevice> all_host_devices;
  // Text of a Localhost seccomp profile, read by the caller.
  std::string seccomp_localhost_profile;
  std::string selinux_level;  // of the pod: see SelinuxLabelsOf; files are labelled by the caller
  HostFacts host;
  RuntimeFeatures features;
  std::string runtime_handler;  // for messages
  // criu's options for this container, read by the OCI runtime when it is checkpointed or restored; the file
  // need not be there before. "" : none. Nobody else names one.
  std::string criu_config_path;
  // Edits of CDI devices, as ApplyCdiEdits (cdi.h) gives them. They win over what the container says.
  std::vector<std::string> cdi_env;
  std::vector<HostDevice> cdi_devices;  // permissions "none": a node without a rule
  std::vector<SpecMount> cdi_mounts;    // destinations clean
  SpecHooks cdi_hooks;
  // ImageConfig.volumes the caller made a directory for -> that directory. Mounts of the container win.
  std::map<std::string, std::string> image_volume_paths;
  // Annotations of the pod that go to the OCI runtime besides all of the container's: exact keys, or prefixes
  // with "*" at the end. What a pod's author writes is not to steer the runtime unless asked for.
  std::vector<std::string> pod_annotation_patterns;
};

struct SpecOutput {
  std::string config_json;
  std::string stop_signal;  // "SIGTERM"
  std::vector<std::string>
      warnings;  // said once each by the caller (e.g. an oom_score_adj that may not be lowered)
  std::vector<std::string> args;  // resolved argv, for status and messages
  int64_t oom_score_adj = 0;
  // Sources of the container's own mounts, in their order. A missing one is to be made as a directory (0755).
  std::vector<std::string> bind_sources;
};

// InvalidArgument names the CRI field ("security_context.seccomp: ..."). Unimplemented: set and not supported
// here.
//
// What it takes for granted: input.namespaces agrees with NamespaceMode of the container (PID mode POD
// without a path is FailedPrecondition: the sandbox has no PID namespace to share); mounts of images have
// their host_path; CRI sysctls were set in the pinned namespaces; id-mapped mounts the runtime cannot make
// were made by the caller and their mappings cleared. Masked and readonly paths are taken as given,
// privileged clears them.
absl::StatusOr<SpecOutput> GenerateSpec(const SpecInput& input);

// Whether the mount `host_path` lies on lets `propagation` work, by the text of /proc/self/mountinfo:
// BIDIRECTIONAL needs a shared mount, HOST_TO_CONTAINER a shared one or a slave. FailedPrecondition names the
// mount. Pure. `host_path` is resolved (no symlinks).
absl::Status CheckPropagation(std::string_view mountinfo, const std::string& host_path,
                              criv1::MountPropagation propagation);

// process.json for an exec into a running container: the container's own process section (from its
// config.json) with another command; capabilities, no_new_privs, user, apparmor and rlimits stay the
// container's (CVE-2022-24769: inheritable stays empty).
absl::StatusOr<std::string> GenerateExecProcess(std::string_view config_json,
                                                const std::vector<std::string>& command, bool tty);

// linux.resources of runtime-spec as JSON, for `runtime update`; and for the cgroup the container is in.
// `warnings`: as SpecOutput's.
absl::StatusOr<std::string> GenerateResources(const criv1::LinuxContainerResources& resources,
                                              const HostFacts& host, std::vector<std::string>* warnings);

// The same limits as cgroups take them, without what needs a device rule.
absl::StatusOr<cgroups::Resources> CgroupResources(const criv1::LinuxContainerResources& resources,
                                                   const HostFacts& host);

// `config_json` with linux.resources replaced by `resources_json` of GenerateResources; its device rules
// stay.
absl::StatusOr<std::string> ReplaceResources(std::string_view config_json, std::string_view resources_json);

}  // namespace keelson::oci
