// Configuration of the containerd, CNI plugins and registry that `keelson up` runs: templates of
// images/containerd with the layout's paths put in.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <map>
#include <string>

#include "cmd/cluster_layout.h"

namespace keelson {

// `@NAME@` replaced by values; InvalidArgument names one that has no value.
absl::StatusOr<std::string> FillTemplate(const std::string& text,
                                         const std::map<std::string, std::string>& values);
// path -> contents.
absl::StatusOr<std::map<std::string, std::string>> ContainerdFiles(const ClusterLayout& layout);
// KubeletConfiguration for the layout.
std::string KubeletConfigYaml(const ClusterLayout& layout);
// Writes what changed.
absl::Status EnsureClusterFiles(const ClusterLayout& layout);

}  // namespace keelson
