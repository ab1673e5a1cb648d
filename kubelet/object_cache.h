// ObjectCache: the ConfigMaps and Secrets the pods of this node name (upstream's configmap and secret
// managers). Implementation: kubelet/volumes (watch per referenced object). A plain one for tests:
// testing/fake_object_cache.h.
#pragma once

#include <absl/status/statusor.h>

#include <memory>
#include <string>

#include "api/core/v1/config.pb.h"
#include "base/task.h"
#include "kubelet/types.h"

namespace keelson::kubelet {

class ObjectCache {
 public:
  virtual ~ObjectCache() = default;

  // The pod's references (env, envFrom, volumes, imagePullSecrets) are kept current from now on. A second
  // call with a newer object of the same UID replaces the first.
  virtual void RegisterPod(const PodPtr& pod) = 0;
  // Unknown UIDs are ignored.
  virtual void UnregisterPod(const std::string& uid) = 0;

  // At least as new as the moment the pod was registered. NotFound (api::IsNotFound) when it does not exist;
  // other errors are worth a retry. `ns` is the pod's.
  virtual Task<absl::StatusOr<std::shared_ptr<const corev1::ConfigMap>>> GetConfigMap(std::string ns,
                                                                                      std::string name) = 0;
  virtual Task<absl::StatusOr<std::shared_ptr<const corev1::Secret>>> GetSecret(std::string ns,
                                                                                std::string name) = 0;
};

}  // namespace keelson::kubelet
