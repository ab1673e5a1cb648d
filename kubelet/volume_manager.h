// VolumeManager: makes a pod's volumes appear on the host. Implementation: kubelet/volumes.
// Folder of a pod: <kubelet_dir>/pods/<uid>/{volumes,volume-subpaths,containers,plugins,etc-hosts}; the
// manager owns volumes/ and volume-subpaths/, the kubelet the rest (and removes the folder after Unmount).
#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/task.h"
#include "kubelet/types.h"

namespace keelson::kubelet {

struct MountedVolume {
  std::string host_path;   // absolute; what a container's mount binds ("" for an image volume)
  bool read_only = false;  // of the volume itself, whatever the mount says
  bool selinux_relabel = false;
  std::string image_ref;  // image volumes: what CRI Mount.image.image takes
};

struct PodVolumes {
  std::map<std::string, MountedVolume> by_name;  // spec.volumes[].name
  std::vector<int64_t> supplemental_groups;      // groups the volumes' owner wants in every container
};

class VolumeManager {
 public:
  virtual ~VolumeManager() = default;

  // Every volume of the pod is ready for use when it succeeds. Called before each sync of a pod that is not
  // terminating: idempotent, cheap when nothing changed; later changes of a ConfigMap, Secret or label reach
  // the files on the manager's own account (atomic ..data swap). An error names the volume and its cause; the
  // sync is retried and an event FailedMount is written by the caller. A volume type not implemented:
  // Unimplemented, naming the field "spec.volumes[i].nfs".
  virtual Task<absl::StatusOr<PodVolumes>> Mount(PodPtr pod) = 0;

  // Host path to bind for `sub_path` (already expanded) of a mounted volume in one container; opened beneath
  // the volume without following links out of it, created with the volume's mode when missing.
  virtual Task<absl::StatusOr<std::string>> PrepareSubPath(PodPtr pod, std::string container_name,
                                                           int mount_index, std::string volume_name,
                                                           std::string sub_path) = 0;

  // Undoes Mount and PrepareSubPath of a pod no container of which runs. Unknown UIDs, and UIDs known only
  // from the disk after a restart of the kubelet, included. Idempotent.
  virtual Task<absl::Status> Unmount(std::string uid) = 0;
};

}  // namespace keelson::kubelet
