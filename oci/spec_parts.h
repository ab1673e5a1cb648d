// The parts of GenerateSpec, one file each, named after what it decides. All pure; all errors name the field
// of the CRI's ContainerConfig. `warnings` collects what a user should hear and what does not stop a
// container.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <string>
#include <string_view>
#include <vector>

#include "oci/runtime_spec.h"
#include "oci/seccomp.h"
#include "oci/spec.h"

namespace keelson::oci {

using Warnings = std::vector<std::string>;

// Absolute, without ".", "..", "//" and a slash at the end; ".." stops at the root.
std::string CleanPath(std::string_view path);
// 0 for "/", 2 for "/dev/shm".
int PathDepth(std::string_view clean_path);
// `path` is `folder` or lies below it; both clean.
bool IsAtOrBelow(std::string_view path, std::string_view folder);

// Where a container has SpecInput.init_binary_path.
inline constexpr std::string_view kInitPath = "/dev/init";

// process.cc: args, env, cwd, terminal, user, capabilities, limits, oom_score_adj.
absl::StatusOr<SpecProcess> BuildProcess(const SpecInput& input, Warnings* warnings);

// mounts.cc
struct MountPlan {
  std::vector<SpecMount> mounts;   // outer ones first
  std::string rootfs_propagation;  // what the mounts need of the root
  std::vector<std::string> bind_sources;
};
absl::StatusOr<MountPlan> PlanMounts(const SpecInput& input);

// namespaces.cc: namespaces and, with a user namespace, its mappings.
absl::Status BuildNamespaces(const SpecInput& input, RuntimeSpec* spec);

// resources.cc; the device rules are devices.cc's.
absl::StatusOr<SpecResources> BuildResources(const criv1::LinuxContainerResources& resources,
                                             const HostFacts& host, Warnings* warnings);
// The value the process gets: what is asked for, unless the server may not go so low.
absl::StatusOr<int64_t> ResolveOomScoreAdj(int64_t wanted, const HostFacts& host, Warnings* warnings);

// devices.cc: nodes and the rules of the device cgroup.
absl::Status BuildDevices(const SpecInput& input, RuntimeSpec* spec);

// confinement.cc: seccomp, AppArmor, SELinux. Capabilities are resolved before.
absl::Status BuildConfinement(const SpecInput& input, RuntimeSpec* spec, Warnings* warnings);

}  // namespace keelson::oci
