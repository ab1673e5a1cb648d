// The archive of a pod's checkpoint: a tar with pod.dump (what the pod was, JSON), shm.tar (its /dev/shm,
// where it had one of its own) and containers/0.tar, 1.tar ... in the order of pod.dump, each with the layout
// of checkpoint_archive.h.
//
// An archive that is read may come from anywhere: names, sizes and JSON are checked here. criu's images
// inside are not, and cannot be: they say which user, capabilities and mounts the processes get. So whoever
// may write an archive is trusted as root is, and OpenPodArchive refuses what others than root can write.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/strings.h"
#include "cri/proto/runtime/v1/api.pb.h"

namespace keelson::cri {

namespace v1 = ::runtime::v1;

inline constexpr size_t kMaxPodFactsBytes = 1 << 20;
inline constexpr size_t kMaxCheckpointContainers = 1000;
inline constexpr size_t kMaxFactBytes = 4096;                        // of one name
inline constexpr uint64_t kMaxPodArchiveBytes = uint64_t{64} << 30;  // unpacked, as images
inline constexpr uint64_t kMaxPodArchiveEntries = 1'000'000;

inline constexpr char kPodFactsName[] = "pod.dump", kShmTarName[] = "shm.tar",
                      kVolumesTarName[] = "volumes.tar", kRootfsDiffName[] = "rootfs-diff.tar",
                      kSpecDumpName[] = "spec.dump", kImagesName[] = "checkpoint";
// Of container `number` in the archive: "containers/0.tar".
std::string ContainerTarName(size_t number);

struct CheckpointedContainer {
  std::string name, id;
  std::string image_id;  // "sha256:..."
  bool tty = false;
  // Not in archives of older servers: nullopt.
  std::optional<bool> stdin_open;
  std::optional<std::vector<int64_t>> supplemental_groups;  // as asked for, sorted
};

// pod.dump.
struct PodCheckpointFacts {
  std::string id, name, pod_namespace, uid;
  std::string runtime;          // handler
  std::string checkpointed_at;  // RFC 3339
  bool host_network = false, host_ipc = false;
  std::vector<CheckpointedContainer> containers;
};
std::string EncodePodFacts(const PodCheckpointFacts& facts);
// Of untrusted text. InvalidArgument: not one, a newer version, no container, two of one name, or over a
// bound.
absl::StatusOr<PodCheckpointFacts> ParsePodFacts(std::string_view json);

// Removes the folder that one checkpoint or restore had.
struct CheckpointScratch {
  std::string dir;
  CheckpointScratch() = default;
  CheckpointScratch(const CheckpointScratch&) = delete;
  CheckpointScratch& operator=(const CheckpointScratch&) = delete;
  ~CheckpointScratch();
};

// The archive to write: its folder is there, and at `location` nothing or a file, which is replaced.
// InvalidArgument names `field`. Blocking.
absl::Status CheckArchivePlace(const std::string& location, std::string_view field);

// CheckpointPodRequest.options, RestorePodRequest.options: nothing is understood. InvalidArgument names one.
// Pure.
template <class Map>
absl::Status CheckNoCheckpointOptions(const Map& options) {
  if (options.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      StrCat("options[\"", options.begin()->first, "\"]: this runtime has no options for checkpoints"));
}

// From `dir` with those names in it to `path`, whole or not at all. Blocking.
absl::Status WritePodArchive(const PodCheckpointFacts& facts, const std::string& dir,
                             const std::string& path);

// FailedPrecondition: no regular file, or not root's alone to write. Blocking.
absl::StatusOr<Fd> OpenPodArchive(const std::string& path);
// Unpacks what WritePodArchive wrote into `dir` (empty) and its containers' archives into dir/0, dir/1 ...:
// plain files and folders only, none of them outside. InvalidArgument, ResourceExhausted, DataLoss. Blocking.
absl::StatusOr<PodCheckpointFacts> UnpackPodArchive(int archive_fd, const std::string& dir);

// What criu's images decide and the request says otherwise: the program, how many arguments it has,
// working_dir, the user, a group that is asked for, capabilities, no_new_privs, readonly_rootfs, and whether
// there is a seccomp filter. `checkpointed`: spec.dump of the archive, untrusted; `wanted`: config.json of
// the container that was made for it. Not compared: envs and the text of arguments, which a kubelet makes
// anew for the new pod (addresses); groups that come from files of the container, which it may have changed;
// all of the host's capabilities; the text of filters, which an update of this server may change.
// InvalidArgument names the field of ContainerConfig. Pure.
absl::Status CheckSameProcess(const v1::LinuxContainerSecurityContext& asked, std::string_view checkpointed,
                              std::string_view wanted);

// A tar of a tree that belongs to a pod (owners, links) into a folder that is there; no devices. Missing:
// nothing to do. Blocking.
absl::Status UnpackPodTree(const std::string& tar, const std::string& dir);

}  // namespace keelson::cri
