// The acting half of volumes: plain functions on files and mounts, called in the blocking pool. Every step
// may run twice. Paths inside a volume, which a container may have filled with links, are walked by
// descriptor only.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <cstdint>
#include <string>

#include "kubelet/volumes/mounter.h"
#include "kubelet/volumes/payload.h"

namespace keelson::kubelet {

inline constexpr uint32_t kVolumeRootMode = 0777;
inline constexpr int kMaxVolumeDepth = 512;  // folders walked for fsGroup

struct EmptyDirSpec {
  std::string path;
  bool memory = false;     // tmpfs
  int64_t size_bytes = 0;  // of a tmpfs; 0: the kernel's default
  uint32_t mode = kVolumeRootMode;
  int64_t fs_group = -1;
  bool on_root_mismatch = false;  // fsGroupChangePolicy OnRootMismatch
};
absl::Status SetUpEmptyDir(Mounter& mounter, const EmptyDirSpec& spec);

// A folder (on tmpfs with `memory`) whose files are `payload`.
absl::Status SetUpPayloadDir(Mounter& mounter, const std::string& path, bool memory, const Payload& payload,
                             int64_t fs_group, absl::Time now);

// HostPathVolumeSource.type: "", DirectoryOrCreate, Directory, FileOrCreate, File, Socket, CharDevice,
// BlockDevice.
absl::Status CheckHostPath(const std::string& path, const std::string& type);

// Group and group permissions of everything in `path`; setgid on folders. Links are not followed, mounts not
// entered.
absl::Status ApplyFsGroup(const std::string& path, int64_t group, bool on_root_mismatch);

// Opens `sub_path` beneath `volume_path`, making what is missing with the volume's own mode, and binds it to
// `target`. A link that leads out of the volume is PermissionDenied.
absl::Status BindSubPath(Mounter& mounter, const std::string& volume_path, const std::string& sub_path,
                         const std::string& target);

// Unmounts what is mounted in `dir` and removes it. Never removes while anything is still mounted below.
absl::Status TearDownVolumes(Mounter& mounter, const std::string& dir);

}  // namespace keelson::kubelet
