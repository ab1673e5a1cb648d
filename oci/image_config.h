// ImageConfig: what a container takes from its image (OCI image-spec, config.md; Docker's schema 2 config is
// the same). The one header of oci/ that images/ may name.
#pragma once

#include <absl/status/statusor.h>

#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace keelson::oci {

struct ImageConfig {
  std::string architecture, os, variant;  // "amd64", "linux", ""
  std::string user;                       // "", "uid", "uid:gid", "name", "name:group"
  std::vector<std::string> env;           // "KEY=VALUE"
  std::vector<std::string> entrypoint, cmd;
  std::string working_dir;
  std::string stop_signal;           // "SIGTERM", "15"; "" : SIGTERM
  std::vector<std::string> volumes;  // paths, sorted
  std::map<std::string, std::string> labels;
  std::vector<std::string> diff_ids;  // of the uncompressed layers, lowest first: "sha256:..."
};

inline constexpr size_t kMaxImageConfigBytes = 4 << 20;

// InvalidArgument names the field that is wrong. Unknown fields are ignored, as the specification asks.
absl::StatusOr<ImageConfig> ParseImageConfig(std::string_view json);

}  // namespace keelson::oci
