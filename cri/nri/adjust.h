// What becomes of a container's config.json (OCI runtime-spec 1.0.2) by what plugins ask for. Limits are
// resources.h's. Pure.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cri/nri/proto/nri.pb.h"

namespace keelson::cri::nri {

namespace pb = ::nri::pkg::api::v1alpha1;

inline constexpr size_t kMaxAdjustmentEntries = 4096;  // of one kind

struct AdjustedSpec {
  std::string config_json;
  bool own_pid_namespace = false;  // it has a new one
  std::string cgroups_path;        // linux.cgroupsPath; as it was, or the adjustment's
};

struct SpecFacts {
  std::string container_id;
  bool systemd_cgroup = false;
};

// `config_json` with everything of `adjust` but limits (linux.resources, whose device rules are applied) and
// CDI_devices, which the caller resolves before. Removals come before additions. InvalidArgument names the
// field; Unimplemented: it asks for what this runtime or the OCI runtimes it drives do not do. What runs
// beside the container (criu's options, how its cgroups are laid out) is not to be changed by annotations.
absl::StatusOr<AdjustedSpec> ApplyAdjustment(std::string_view config_json,
                                             const pb::ContainerAdjustment& adjust, const SpecFacts& facts);

// What of `adjust` can never be honoured here: Unimplemented names it.
absl::Status CheckSupported(const pb::ContainerAdjustment& adjust);

// Bind mounts of the adjustment that want their source's mount shared ("rshared") or a slave ("rslave"):
// source and option.
std::vector<std::pair<std::string, std::string>> PropagatedSources(const pb::ContainerAdjustment& adjust);

}  // namespace keelson::cri::nri
