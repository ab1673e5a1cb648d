// The status the API is told of a pod, from what the runtime says, what was said before, why starts failed,
// and the probes' verdicts. Pure. Reasons, messages and rules as upstream's.
#pragma once

#include <absl/time/time.h>

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "kubelet/compute_pod_actions.h"
#include "kubelet/types.h"

namespace keelson::kubelet {

// Why a container that should run does not: ErrImagePull, CrashLoopBackOff, CreateContainerConfigError, ...
struct StartFailure {
  std::string reason, message;
};

struct StatusInputs {
  RuntimePodStatusPtr runtime;
  corev1::PodStatus previous;                    // last generated, or the API's at start
  std::map<std::string, StartFailure> failures;  // container name -> why
  ProbeLookup probes;
  std::string runtime_name;  // "containerd": of container IDs
  std::vector<std::string> host_ips;
  bool terminal = false;  // nothing of it runs nor will
  absl::Time now;
  // Text of a termination message; read from the file or log beforehand. Key: container ID.
  std::map<std::string, std::string> termination_messages;
};

corev1::PodStatus GeneratePodStatus(const corev1::Pod& pod, const StatusInputs& inputs);

// Phase from container statuses (upstream getPhase).
std::string ComputePhase(const corev1::Pod& pod, const corev1::PodStatus& status, bool terminal);
// Sets conditions Initialized, ContainersReady, Ready (and PodScheduled, PodReadyToStartContainers) anew from
// the statuses in `status`. Transition times are MergeConditions' matter.
void SetPodConditions(const corev1::Pod& pod, bool sandbox_ready, corev1::PodStatus* status);
// `ready` and `started` of every container from the probes.
void ApplyProbeResults(const corev1::Pod& pod, const ProbeLookup& probes, corev1::PodStatus* status);
// lastTransitionTime of each condition: the old one where the status is the same, else `now`. Conditions of
// others in `before` are kept.
void MergeConditions(const corev1::PodStatus& before, absl::Time now, corev1::PodStatus* status);

const corev1::PodCondition* FindCondition(const corev1::PodStatus& status, std::string_view type);
const corev1::ContainerStatus* FindContainerStatus(const corev1::PodStatus& status, std::string_view name);
// "containerd://abc" -> "abc".
std::string_view TrimIdScheme(std::string_view container_id);

}  // namespace keelson::kubelet
