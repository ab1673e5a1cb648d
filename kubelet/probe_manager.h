// ProbeManager: runs startup, readiness and liveness probes and keeps the last verdict of each.
// Implementation: kubelet/probes. What verdicts mean for a pod's status and for restarts is decided by the
// kubelet's pure functions.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "kubelet/types.h"

namespace keelson::kubelet {

enum class ProbeKind { kStartup, kReadiness, kLiveness };
enum class ProbeResult { kUnknown, kSuccess, kFailure };

// Where a probe finds its target: the status last generated for the pod (container IDs "type://id", podIP,
// startedAt). Implemented by StatusManager.
class PodStatusProvider {
 public:
  virtual ~PodStatusProvider() = default;
  // nullptr when the pod is unknown. Valid until the next change of state on the loop.
  virtual const corev1::PodStatus* GetPodStatus(std::string_view uid) const = 0;
};

// A verdict changed: for one container, identified by its runtime ID.
struct ProbeEvent {
  std::string pod_uid;
  std::string container_name;
  std::string container_id;  // without "type://"
  ProbeKind kind;
  ProbeResult result;
};

class ProbeManager {
 public:
  virtual ~ProbeManager() = default;

  // Where targets are looked up. The kubelet sets it once, before set_listener; it outlives the last
  // RemovePod.
  virtual void set_status_provider(const PodStatusProvider* provider) = 0;

  // Called on the loop, never inside AddPod/RemovePod. The kubelet sets it once before the first AddPod.
  virtual void set_listener(std::function<void(const ProbeEvent&)> listener) = 0;

  // Starts workers for every probe of the pod's containers and sidecars; known pods are left as they are.
  // pod->status() is what the API last knew: for a container in it with ready/started true whose containerID
  // is the one that runs now, that verdict is carried over as the initial one, so that a restart of the
  // kubelet flips nothing. Without such memory: readiness kFailure, liveness kSuccess, startup kUnknown until
  // the first verdict.
  virtual void AddPod(const PodPtr& pod) = 0;
  // The pod is terminating: no more liveness and startup probes; readiness goes on.
  virtual void StopLivenessAndStartup(const std::string& uid) = 0;
  virtual void RemovePod(const std::string& uid) = 0;

  // Last verdict for a container by runtime ID (without "type://"). kUnknown when there is no probe of that
  // kind, or no verdict yet.
  virtual ProbeResult Get(ProbeKind kind, std::string_view container_id) const = 0;
};

}  // namespace keelson::kubelet
