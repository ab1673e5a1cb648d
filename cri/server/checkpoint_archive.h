// The archive of a container's checkpoint, in the layout that containerd, CRI-O and checkpointctl share: a
// tar with config.dump, spec.dump, dump.log, stats-dump, rootfs-diff.tar and checkpoint/ (criu's images).
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace keelson::cri {

// config.dump.
struct CheckpointFacts {
  std::string id, name;
  std::string image_ref;                    // what it was created from: an ID or digest reference
  std::string image_name;                   // as the container's configuration says it
  std::string runtime;                      // handler
  std::string created_at, checkpointed_at;  // RFC 3339
  bool restored = false;                    // from an earlier checkpoint
  // What more a restore compares; only archives of this server have it.
  std::string image_id;  // "sha256:..."
  std::optional<bool> stdin_open;
  std::optional<std::vector<int64_t>> supplemental_groups;  // as asked for, sorted
};
std::string EncodeCheckpointFacts(const CheckpointFacts& facts);

struct CheckpointParts {
  std::string config_dump;  // text
  std::string spec_dump;    // text: config.json of the bundle
  std::string images_dir;   // criu's: checkpoint/
  std::string work_dir;     // criu's: dump.log, stats-dump
  std::string upper_dir;    // what the container wrote; "": nothing (a read-only root file system)
  std::string volumes_dir;  // of the image's VOLUMEs: volumes.tar; "": none, as others make it
};

// Writes the archive with mode 0600 to `path`, whole or not at all, not durable: the container is frozen
// meanwhile. Reads what the container may change all the same: a file is as long as it was when it was
// opened. Blocking.
absl::Status WriteCheckpointArchive(const CheckpointParts& parts, const std::string& path);

// A writable layer as a tar of an OCI layer: whiteouts as ".wh." files. To the open file `fd`. Blocking.
absl::Status WriteLayerTar(const std::string& upper_dir, int fd);

// Files of ours, `names` below `dir`, as a tar with mode 0600 to `path`, durable, whole or not at all.
// Blocking.
absl::Status WriteFilesTar(const std::string& dir, const std::vector<std::string>& names,
                           const std::string& path);

// A path of an archive, as `field` of a request has it: absolute and plain, of a file. Pure.
absl::Status CheckCheckpointLocation(std::string_view location, std::string_view field = "location");

}  // namespace keelson::cri
