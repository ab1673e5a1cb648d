// ImageManager: makes a container's image present by its pull policy, with back-off per pod and image, one
// pull at a time (or as many as configured), and one pull for all who wait for the same image. Events as
// upstream.
#pragma once

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "api/core/v1/config.pb.h"
#include "base/env.h"
#include "base/task.h"
#include "client/event_recorder.h"
#include "cri/image_service.h"
#include "kubelet/backoff.h"
#include "kubelet/object_cache.h"
#include "kubelet/types.h"

namespace keelson::kubelet {

struct ImageManagerOptions {
  bool serialize_pulls = true;
  int max_parallel_pulls = 0;  // 0: unlimited; when not serialised
};

struct EnsuredImage {
  // "" : present. Else the waiting reason: ErrImagePull, ImagePullBackOff, ErrImageNeverPull,
  // InvalidImageName, ImageInspectError.
  std::string reason;
  std::string message;
  absl::Duration retry_after = absl::ZeroDuration();  // with a reason: when to try again
  std::string image_ref;                              // for CreateContainer
  int64_t uid = 0;                                    // user of the image; -1: by name
  std::string username;
};

class ImageManager {
 public:
  // All outlive Stop(). events and objects may be null.
  ImageManager(Env& env, cri::ImageService& images, client::EventRecorder* events, ObjectCache* objects,
               ImageManagerOptions options);
  ~ImageManager();

  // `sandbox` goes with the pull, for the runtime's own records. Cancelling the task does not end a pull
  // others may wait for.
  Task<EnsuredImage> Ensure(PodPtr pod, corev1::Container container, criv1::PodSandboxConfig sandbox);
  // Drops the back-off of a pod that is gone.
  void ForgetPod(const std::string& uid) { backoff_.ForgetPrefix(uid + "/"); }
  void CollectBackoff();
  Task<void> Stop();

 private:
  struct Pull {
    AsyncEvent done;
    absl::Status status;
    std::string image_ref;
    absl::Duration took, waited;
  };
  Task<void> RunPull(std::string key, std::shared_ptr<Pull> pull, std::string image,
                     std::vector<criv1::AuthConfig> credentials, criv1::PodSandboxConfig sandbox);
  Task<std::vector<criv1::AuthConfig>> Credentials(PodPtr pod, std::string image);
  Task<absl::StatusOr<criv1::ImageStatusResponse>> Inspect(std::string image);
  void Event(const corev1::Pod& pod, const corev1::Container& c, const char* type, const char* reason,
             const std::string& message);

  Env& env_;
  cri::ImageService& images_;
  client::EventRecorder* events_;
  ObjectCache* objects_;
  const ImageManagerOptions options_;
  Backoff backoff_{absl::Seconds(10), absl::Minutes(5)};
  std::map<std::string, std::shared_ptr<Pull>> pulls_;
  std::map<std::string, std::string> last_errors_;  // pod uid/image -> text behind the back-off
  Semaphore slots_;
  Scope scope_;
};

// Upstream's rule where a container sets none: Always for :latest, else IfNotPresent.
std::string EffectivePullPolicy(const corev1::Container& container);
// "docker.io" of "nginx", "localhost:5000" of "localhost:5000/a/b".
std::string RegistryOf(const std::string& image);
// The credentials in a kubernetes.io/dockerconfigjson or dockercfg secret that fit the image's registry.
std::vector<criv1::AuthConfig> CredentialsFromSecret(const corev1::Secret& secret, const std::string& image);

// spec.containers{web}, spec.initContainers{setup}, ...: involvedObject.fieldPath of an event.
std::string ContainerFieldPath(const corev1::Pod& pod, const std::string& container);

}  // namespace keelson::kubelet
