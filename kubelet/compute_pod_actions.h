// ComputePodActions: from a pod and what the runtime has of it, what to start and what to kill next. Pure;
// the runtime manager acts on it. Rules as upstream's kuberuntime manager.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "kubelet/probe_manager.h"
#include "kubelet/types.h"

namespace keelson::kubelet {

struct ContainerToKill {
  std::string id;
  std::string name;
  std::string message;  // of the event Killing
  enum class Reason { kChanged, kLiveness, kStartup, kUnknownState } reason = Reason::kChanged;
  bool operator==(const ContainerToKill&) const = default;
};

struct PodActions {
  bool kill_pod = false;  // stop all containers and sandboxes of the pod first
  bool create_sandbox = false;
  std::string sandbox_id;                          // the one to go on with; "" when a new one is needed
  uint32_t attempt = 0;                            // of the new sandbox
  std::vector<int> init_containers_to_start;       // indexes into spec.initContainers
  std::vector<int> containers_to_start;            // indexes into spec.containers
  std::vector<int> ephemeral_containers_to_start;  // indexes into spec.ephemeralContainers
  std::vector<ContainerToKill> containers_to_kill;
  bool operator==(const PodActions&) const = default;

  bool Nothing() const {
    return !kill_pod && !create_sandbox && init_containers_to_start.empty() && containers_to_start.empty() &&
           ephemeral_containers_to_start.empty() && containers_to_kill.empty();
  }
};

// Verdict of a probe by container ID; ProbeManager::Get.
using ProbeLookup = std::function<ProbeResult(ProbeKind, std::string_view container_id)>;

PodActions ComputePodActions(const corev1::Pod& pod, const RuntimePodStatus& status,
                             const ProbeLookup& probes);

// Whether a new sandbox is needed, its attempt number and the one to go on with.
struct SandboxDecision {
  bool changed = false;
  uint32_t attempt = 0;
  std::string sandbox_id;
};
SandboxDecision DecideSandbox(const corev1::Pod& pod, const RuntimePodStatus& status);

// Whether an exited (or missing) regular container runs again, by its own or the pod's restart policy.
bool ShouldContainerBeRestarted(const corev1::Container& container, const corev1::Pod& pod,
                                const RuntimePodStatus& status);
// The policy that holds for one container: restartPolicyRules and restartPolicy of the container, else the
// pod's.
bool RestartsAfterExit(const corev1::Container& container, const corev1::Pod& pod, int exit_code);
// Every regular init container has succeeded and every sidecar has started, or a regular container was seen.
bool PodHasInitialized(const corev1::Pod& pod, const RuntimePodStatus& status, const ProbeLookup& probes);

}  // namespace keelson::kubelet
