// Reading a container's checkpoint: an archive in the layout of checkpoint_archive.h, or an image that was
// made from one. What RestorePod and CreateContainer do with the parts: restore_container.cc.
//
// It may come from anywhere: names, sizes and JSON are checked here. criu's images inside are not, and cannot
// be: they say which user, capabilities and mounts the processes get. So whoever may write a checkpoint is
// trusted as root is; OpenCheckpointArchive refuses a file that others than root can write.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "base/env.h"
#include "base/fd.h"
#include "cri/server/checkpoint_archive.h"

namespace keelson::images {
class ByteBudget;
}

namespace keelson::cri {

inline constexpr size_t kMaxConfigDumpBytes = 1 << 20;
inline constexpr size_t kMaxSpecDumpBytes = 16 << 20;
inline constexpr size_t kMaxFactBytes = 4096;                        // of one name
inline constexpr size_t kMaxFactGroups = 65536;                      // the kernel's NGROUPS_MAX
inline constexpr uint64_t kMaxCheckpointBytes = uint64_t{64} << 30;  // unpacked, as images
inline constexpr uint64_t kMaxCheckpointEntries = 1'000'000;

inline constexpr char kConfigDumpName[] = "config.dump", kSpecDumpName[] = "spec.dump",
                      kVolumesTarName[] = "volumes.tar", kRootfsDiffName[] = "rootfs-diff.tar",
                      kImagesName[] = "checkpoint";

// config.dump, untrusted, also of containerd and CRI-O. InvalidArgument names the key that is wrong; keys
// that are not there are "" or nullopt. Pure.
absl::StatusOr<CheckpointFacts> ParseCheckpointFacts(std::string_view config_dump);

// Removes the folder that one checkpoint or restore had: at once, on the loop, which is for one that was cut
// off. See InScratch().
struct CheckpointScratch {
  std::string dir;
  CheckpointScratch() = default;
  CheckpointScratch(const CheckpointScratch&) = delete;
  CheckpointScratch& operator=(const CheckpointScratch&) = delete;
  ~CheckpointScratch();
};

// `call` works in this folder, which goes, by a pool, before the answer comes: it may be much.
template <class R>
Task<R> InScratch(Env* env, std::string dir, Task<R> call) {
  CheckpointScratch scratch;
  scratch.dir = dir;
  R answer = co_await std::move(call);
  Task<absl::Status> removing = env->Blocking<absl::Status>([dir] { return RemoveTree(dir); });
  absl::Status removed = co_await std::move(removing);
  if (removed.ok()) scratch.dir.clear();  // else it is tried again, and said
  co_return answer;
}

// The archive to write: its folder is there, and at `location` nothing or a file, which is replaced.
// InvalidArgument names `field`. Blocking.
absl::Status CheckArchivePlace(const std::string& location, std::string_view field);

// FailedPrecondition: no regular file, or not root's alone to write. Blocking.
absl::StatusOr<Fd> OpenCheckpointArchive(const std::string& path);

// Plain files and folders of a tar into `dir`, none of them outside; owners are ours. InvalidArgument names
// another kind of entry; ResourceExhausted, DataLoss. Blocking.
absl::Status UnpackCheckpointFiles(int tar_fd, const std::string& dir, images::ByteBudget* budget);

// Whether `name` in `dir` is a plain file. InvalidArgument. Blocking.
absl::Status CheckPlainFile(const std::string& dir, std::string_view name);

// A container's archive into `dir`, which exists and is empty; criu's images are among it. Blocking.
absl::Status UnpackContainerArchive(int archive_fd, const std::string& dir, images::ByteBudget* budget);

// The same parts from `from`, the root file system of an image, that nobody changes meanwhile: no link of it
// is followed, and what is no part of a checkpoint is left. InvalidArgument, ResourceExhausted. Blocking.
absl::Status CopyCheckpointFiles(const std::string& from, const std::string& dir);

struct ContainerCheckpoint {
  CheckpointFacts facts;
  std::string spec_dump;  // as it is: checkpoint_spec.h
};
// Of parts in `dir`. InvalidArgument names the file. Blocking.
absl::StatusOr<ContainerCheckpoint> ReadContainerCheckpoint(const std::string& dir);

// A tar of a tree that belongs to a pod or container (owners, links) into a folder that is there; no devices.
// Missing: nothing to do. Blocking.
absl::Status UnpackPodTree(const std::string& tar, const std::string& dir);

// The image's volumes, a folder each in `dir`, begin as those of the checkpoint instead of as the image's.
// Either missing: nothing to do. InvalidArgument: one of them is no folder in `tar`; a link would be mounted
// as what it leads to. Blocking.
absl::Status FillVolumes(const std::string& tar, const std::string& dir);

}  // namespace keelson::cri
