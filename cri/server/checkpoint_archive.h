// The archive of a container's checkpoint, in the layout that containerd, CRI-O and checkpointctl share: a
// tar with config.dump, spec.dump, dump.log, stats-dump, rootfs-diff.tar and checkpoint/ (criu's images).
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <string>
#include <string_view>

namespace keelson::cri {

// config.dump.
struct CheckpointFacts {
  std::string id, name;
  std::string image_ref;                    // what it was created from: an ID or digest reference
  std::string image_name;                   // as the container's configuration says it
  std::string runtime;                      // handler
  std::string created_at, checkpointed_at;  // RFC 3339
};
std::string EncodeCheckpointFacts(const CheckpointFacts& facts);

struct CheckpointParts {
  std::string config_dump;  // text
  std::string spec_dump;    // text: config.json of the bundle
  std::string images_dir;   // criu's: checkpoint/
  std::string work_dir;     // criu's: dump.log, stats-dump
  std::string upper_dir;    // what the container wrote; "": nothing (a read-only root file system)
};

// Writes the archive with mode 0600 to a new file at `path`, durable. Reads what the container may change
// meanwhile: a file is as long as it was when it was opened. AlreadyExists. Blocking.
absl::Status WriteCheckpointArchive(const CheckpointParts& parts, const std::string& path);

// A writable layer as a tar of an OCI layer: whiteouts as ".wh." files. To the open file `fd`. Blocking.
absl::Status WriteLayerTar(const std::string& upper_dir, int fd);

// CheckpointContainerRequest.location: an absolute, plain path of a file. Pure.
absl::Status CheckCheckpointLocation(std::string_view location);

}  // namespace keelson::cri
