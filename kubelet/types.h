// Vocabulary of the kubelet: shared pods, the runtime's view of a pod, and small questions asked of either.
#pragma once

#include <absl/time/time.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "api/core/v1/pod.pb.h"
#include "api/meta/v1/meta.pb.h"
#include "base/strings.h"
#include "cri/proto/runtime/v1/api.pb.h"

namespace keelson::kubelet {

namespace corev1 = ::k8s::core::v1;
namespace metav1 = ::k8s::meta::v1;
namespace criv1 = ::runtime::v1;

// A pod as a source gave it. Shared with informer caches: never changed, copied instead.
using PodPtr = std::shared_ptr<const corev1::Pod>;

// Labels and annotations on sandboxes and containers, as upstream writes them: the kubelet's memory across
// its death.
inline constexpr char kLabelPodName[] = "io.kubernetes.pod.name";
inline constexpr char kLabelPodNamespace[] = "io.kubernetes.pod.namespace";
inline constexpr char kLabelPodUid[] = "io.kubernetes.pod.uid";
inline constexpr char kLabelContainerName[] = "io.kubernetes.container.name";
inline constexpr char kAnnotationHash[] = "io.kubernetes.container.hash";
inline constexpr char kAnnotationRestartCount[] = "io.kubernetes.container.restartCount";
inline constexpr char kAnnotationTerminationMessagePath[] = "io.kubernetes.container.terminationMessagePath";
inline constexpr char kAnnotationTerminationMessagePolicy[] =
    "io.kubernetes.container.terminationMessagePolicy";
inline constexpr char kAnnotationPreStopHandler[] = "io.kubernetes.container.preStopHandler";
inline constexpr char kAnnotationContainerPorts[] = "io.kubernetes.container.ports";
inline constexpr char kAnnotationPodDeletionGracePeriod[] = "io.kubernetes.pod.deletionGracePeriod";
inline constexpr char kAnnotationPodTerminationGracePeriod[] = "io.kubernetes.pod.terminationGracePeriod";
// Marks sandboxes of one kubelet instance among several on one runtime; only those are ever touched. Value:
// node name.
inline constexpr char kLabelNode[] = "io.keelson.node";

inline constexpr char kAnnotationConfigSource[] = "kubernetes.io/config.source";
inline constexpr char kAnnotationConfigMirror[] = "kubernetes.io/config.mirror";
inline constexpr char kAnnotationConfigHash[] = "kubernetes.io/config.hash";
inline constexpr char kAnnotationConfigSeen[] = "kubernetes.io/config.seen";

// "name_namespace": unique among the pods of a node at one time.
std::string PodFullName(const corev1::Pod& pod);
// "namespace/name", for messages.
std::string PodName(const corev1::Pod& pod);
inline const std::string& PodUid(const corev1::Pod& pod) { return pod.metadata().uid(); }
// From the manifest directory or URL, not the API.
bool IsStaticPod(const corev1::Pod& pod);
// The API's reflection of a static pod.
bool IsMirrorPod(const corev1::Pod& pod);
bool IsDeleting(const corev1::Pod& pod);
// An init container with restartPolicy Always: a sidecar.
bool IsRestartableInit(const corev1::Container& container);
const corev1::Container* FindContainer(const corev1::Pod& pod,
                                       std::string_view name);  // init and ephemeral too
const corev1::Container* FindInitContainer(const corev1::Pod& pod, std::string_view name);
// An ephemeral container as the Container its common part is.
corev1::Container EphemeralAsContainer(const corev1::EphemeralContainer& container);
// FNV-1a over what a change of demands a restart: name and image.
std::string ContainerHash(const corev1::Container& container);
// Phase is Succeeded or Failed.
bool IsTerminalPhase(std::string_view phase);

// What the runtime says about one pod (upstream kubecontainer.PodStatus). Sandboxes and containers newest
// first.
struct RuntimePodStatus {
  std::string uid, name, ns;
  std::vector<std::string> ips;  // of the newest ready sandbox, primary first
  std::vector<criv1::PodSandboxStatus> sandboxes;
  std::vector<criv1::ContainerStatus> containers;
  std::map<std::string, std::string> sandbox_of;  // container ID -> sandbox ID
  uint64_t mark = 0;                              // PodCache::Mark() taken before the runtime was asked

  // Newest by that name, or nullptr.
  const criv1::ContainerStatus* Find(std::string_view container_name) const;
  // The same among the containers of the newest sandbox.
  const criv1::ContainerStatus* FindActive(std::string_view container_name) const;
  const criv1::ContainerStatus* FindById(std::string_view container_id) const;
  bool AnyContainerRunning() const;
  bool AnySandboxReady() const;
};
using RuntimePodStatusPtr = std::shared_ptr<const RuntimePodStatus>;

// metadata.name of the runtime's container, or its label.
const std::string& ContainerName(const criv1::ContainerStatus& status);
// restartCount annotation, else metadata.attempt.
int RestartCount(const criv1::ContainerStatus& status);

// SIGTERM grace of a pod in seconds: the override, the deletion's, the spec's (30), at least 1.
int64_t EffectiveGracePeriodS(const corev1::Pod& pod, const int64_t* override_s);

}  // namespace keelson::kubelet
