// VolumeManagerImpl: emptyDir, hostPath, configMap, secret, downwardAPI and projected volumes on this
// machine.
//
//   <kubelet_dir>/pods/<uid>/volumes/kubernetes.io~<type>/<name>
//   <kubelet_dir>/pods/<uid>/volume-subpaths/<volume>/<container>/<mount index>
//
// Nothing is remembered that is not on the disk: after a restart Mount finds what is there and Unmount works
// on UIDs it has never seen. What only gathers (API objects) runs on the loop, what touches files in the
// blocking pool, one step at a time per pod.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "base/env.h"
#include "base/task.h"
#include "kubelet/resources.h"
#include "kubelet/volume_manager.h"
#include "kubelet/volumes/cached_objects.h"
#include "kubelet/volumes/local_volumes.h"
#include "kubelet/volumes/mounter.h"

namespace keelson::kubelet {

struct VolumeManagerOptions {
  std::string kubelet_dir = "/var/lib/kubelet";
  // The node's, for resourceFieldRef and the default size of tmpfs volumes. Null: nothing is known.
  std::function<ResourceList()> allocatable;
  // Below which hostPath looks; tests put a tree of their own there. "" : the host's root.
  std::string host_root;
};

class VolumeManagerImpl : public VolumeManager {
 public:
  // env and objects outlive Stop(). `objects` null: volumes of ConfigMaps and Secrets fail.
  VolumeManagerImpl(Env& env, CachedObjects* objects, std::shared_ptr<Mounter> mounter,
                    VolumeManagerOptions options);
  ~VolumeManagerImpl() override;

  Task<absl::StatusOr<PodVolumes>> Mount(PodPtr pod) override;
  Task<absl::StatusOr<std::string>> PrepareSubPath(PodPtr pod, std::string container_name, int mount_index,
                                                   std::string volume_name, std::string sub_path) override;
  Task<absl::Status> Unmount(std::string uid) override;

  // Pods whose files follow a change of that object are written again.
  void OnObjectChange(const std::string& kind, const std::string& ns, const std::string& name);
  Task<void> Stop();

 private:
  struct PodState {
    PodPtr pod;
    std::map<std::string, MountedVolume> mounted;
    bool gone = false;
    AsyncMutex mutex;
  };
  using PodStatePtr = std::shared_ptr<PodState>;

  Task<absl::StatusOr<MountedVolume>> MountOne(PodPtr pod, int index);
  Task<absl::StatusOr<Payload>> GatherPayload(PodPtr pod, corev1::Volume volume);
  Task<absl::Status> AddConfigMapSource(PodPtr pod, std::string name, bool optional, KeyItems items,
                                        PayloadDefaults defaults, Payload* payload);
  Task<absl::Status> AddSecretSource(PodPtr pod, std::string name, bool optional, KeyItems items,
                                     PayloadDefaults defaults, Payload* payload);
  Task<absl::Status> AddProjection(PodPtr pod, corev1::VolumeProjection source, std::string field,
                                   PayloadDefaults defaults, Payload* payload);
  Task<void> Rewrite(PodStatePtr state);
  ResourceList Allocatable() const;

  Env& env_;
  CachedObjects* objects_;
  std::shared_ptr<Mounter> mounter_;
  const VolumeManagerOptions options_;
  std::map<std::string, PodStatePtr> pods_;
  std::set<std::string> rewriting_;  // UIDs with a Rewrite on its way
  Scope scope_;
};

}  // namespace keelson::kubelet
