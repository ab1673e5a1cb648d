// The archive of a pod's checkpoint: a tar with pod.dump (what the pod was, JSON), shm.tar (its /dev/shm,
// where it had one of its own) and containers/0.tar, 1.tar ... in the order of pod.dump, each with the layout
// of checkpoint_archive.h. What is trusted of one that is read: container_checkpoint.h.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/strings.h"

namespace keelson::cri {

inline constexpr size_t kMaxPodFactsBytes = 1 << 20;
inline constexpr size_t kMaxCheckpointContainers = 1000;

inline constexpr char kPodFactsName[] = "pod.dump", kShmTarName[] = "shm.tar";
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

// Unpacks what WritePodArchive wrote into `dir` (empty) and its containers' archives into dir/0, dir/1 ...:
// plain files and folders only, none of them outside. InvalidArgument, ResourceExhausted, DataLoss. Blocking.
absl::StatusOr<PodCheckpointFacts> UnpackPodArchive(int archive_fd, const std::string& dir);

}  // namespace keelson::cri
