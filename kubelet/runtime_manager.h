// RuntimeManager: carries PodActions out on the CRI. Thin: what to do comes from ComputePodActions, the
// configurations from GenerateContainerConfig; here are the order of calls, the files a container needs,
// hooks, back-off and the events people read.
#pragma once

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/env.h"
#include "base/task.h"
#include "cgroups/qos_tree.h"
#include "client/event_recorder.h"
#include "cri/runtime_service.h"
#include "kubelet/backoff.h"
#include "kubelet/compute_pod_actions.h"
#include "kubelet/environment.h"
#include "kubelet/generate_pod_status.h"
#include "kubelet/image_manager.h"
#include "kubelet/lifecycle_hooks.h"
#include "kubelet/object_cache.h"
#include "kubelet/options.h"
#include "kubelet/runtime_classes.h"
#include "kubelet/user_namespaces.h"
#include "kubelet/volume_manager.h"

namespace keelson::kubelet {

// What the node knows that a pod's containers are told. Asked anew for each container.
struct NodeFacts {
  std::string hostname;
  std::vector<std::string> host_ips;
  ResourceList allocatable;
  int64_t memory_capacity_bytes = 0;
  std::vector<std::shared_ptr<const corev1::Service>> services;
  bool systemd_cgroups = false;
};

struct RuntimeManagerDeps {
  cri::RuntimeService* runtime = nullptr;
  ImageManager* images = nullptr;
  ObjectCache* objects = nullptr;
  VolumeManager* volumes = nullptr;
  client::EventRecorder* events = nullptr;  // may be null
  client::ApiClient* client = nullptr;      // null: no RuntimeClasses but the configured ones
  cgroups::QosTree* qos_tree = nullptr;     // null: no pod cgroups are made
  std::function<NodeFacts()> facts;
};

struct RuntimeSyncResult {
  bool acted = false;                         // some call changed the runtime
  std::optional<absl::Duration> retry_after;  // soonest time something held back may go on
  absl::Status status;                        // of the pod as a whole (sandbox, kill)
};

class RuntimeManager {
 public:
  // Everything in deps but null ones outlives Stop().
  RuntimeManager(Env& env, RuntimeManagerDeps deps, const KubeletOptions& options);
  ~RuntimeManager();

  // One round: kills, the sandbox, then what may start now. Containers that failed to start are in
  // Failures().
  Task<RuntimeSyncResult> SyncPod(PodPtr pod, RuntimePodStatusPtr status, PodActions actions,
                                  PodVolumes volumes);
  // Stops every container (regular ones together, then sidecars in reverse order) and every sandbox.
  // `grace_s` overrides the pod's. OK when nothing runs. Containers already stopping are stopped again: with
  // less time left.
  Task<absl::Status> KillPod(PodPtr pod, RuntimePodStatusPtr status, std::optional<int64_t> grace_s);

  // Why containers of a pod wait; by name.
  const std::map<std::string, StartFailure>& Failures(const std::string& uid) const;
  // Forgets everything about a pod that is gone.
  void ForgetPod(const std::string& uid);
  void CollectBackoff();
  Task<void> Stop();

  std::string PodDir(const std::string& uid) const;  // <kubelet_dir>/pods/<uid>
  // Text of a container's termination message, by its annotations: the file, or the log's end after an error.
  std::string ReadTerminationMessage(const criv1::ContainerStatus& status) const;

 private:
  struct Round;  // what one SyncPod shares between its steps
  Task<absl::Status> EnsureSandbox(std::shared_ptr<Round> round);
  Task<void> TellOfHostPorts(std::shared_ptr<Round> round);
  Task<absl::Status> RemoveUnstarted(std::shared_ptr<Round> round, std::string container_name);
  // Where the pod asks for one and the runtime can; a new sandbox's handler is asked.
  Task<absl::Status> EnsureUserNamespace(std::shared_ptr<Round> round, std::string handler);
  Task<bool> StartContainer(std::shared_ptr<Round> round, corev1::Container container, std::string target_id);
  Task<absl::StatusOr<criv1::ContainerConfig>> MakeConfig(std::shared_ptr<Round> round,
                                                          corev1::Container container, EnsuredImage image,
                                                          std::string target_id);
  // Whether the sandbox's handler has recursive read-only mounts; asked only where the container wants one.
  Task<absl::StatusOr<bool>> HasRecursiveReadOnly(std::shared_ptr<Round> round, corev1::Container container);
  Task<absl::StatusOr<EnvInputs>> GatherEnv(PodPtr pod, corev1::Container container);
  Task<void> KillOne(PodPtr pod, std::string id, std::string name, std::string message, absl::Duration grace,
                     bool hook, std::string pod_ip, std::shared_ptr<struct KillJoin> join);
  int NextRestartCount(const Round& round, const corev1::Container& container) const;
  absl::StatusOr<std::string> WriteHostsFile(const Round& round);
  absl::StatusOr<std::string> MakeTerminationLog(const corev1::Pod& pod, const corev1::Container& container,
                                                 const std::string& key);
  void Fail(Round& round, const corev1::Container& container, std::string reason, std::string message,
            absl::Duration retry_after);
  void Event(const corev1::Pod& pod, const char* type, const char* reason, const std::string& message,
             const std::string& container = "");
  ResourceOptions Resources(const NodeFacts& facts) const;

  Env& env_;
  RuntimeManagerDeps deps_;
  const KubeletOptions& options_;
  LifecycleHooks hooks_;
  RuntimeClasses runtime_classes_;
  UserNamespaces user_namespaces_;
  Backoff backoff_;
  std::map<std::string, std::map<std::string, StartFailure>> failures_;  // uid -> container -> why
  struct Hold {
    absl::Time until;
    std::string hash;
  };
  std::map<std::string, Hold> holds_;  // "uid/container" -> not before
  Scope scope_;                        // kills, which go on when the pod's step is cut short
};

}  // namespace keelson::kubelet
