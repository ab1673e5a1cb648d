// Kubelet: the node agent as one object. Everything it needs comes in by KubeletDeps, nothing is static:
// tests and the simulation run many of them in one process on the fake runtime. One loop.
//
//   sources -> HandlePod* -> PodWorkers -> SyncPod: volumes, ComputePodActions, RuntimeManager -> Pleg ->
//   status -> API
//
// State that must survive is in the runtime's labels and in the API: a kubelet killed and started again
// adopts what runs, restarts nothing and flips no readiness.
#pragma once

#include <absl/status/status.h>

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "api/core/v1/service.pb.h"
#include "base/env.h"
#include "cgroups/qos_tree.h"
#include "client/api_client.h"
#include "client/event_recorder.h"
#include "client/informer.h"
#include "cri/image_service.h"
#include "cri/runtime_service.h"
#include "kubelet/container_gc.h"
#include "kubelet/container_logs.h"
#include "kubelet/eviction_manager.h"
#include "kubelet/image_gc.h"
#include "kubelet/image_manager.h"
#include "kubelet/node_api.h"
#include "kubelet/node_registrar.h"
#include "kubelet/object_cache.h"
#include "kubelet/options.h"
#include "kubelet/pleg.h"
#include "kubelet/pod_sources.h"
#include "kubelet/pod_workers.h"
#include "kubelet/probe_manager.h"
#include "kubelet/runtime_manager.h"
#include "kubelet/status_manager.h"
#include "kubelet/volume_manager.h"

namespace keelson::kubelet {

struct KubeletDeps {
  client::ApiClient* client = nullptr;     // null: static pods only, nothing is reported
  cri::RuntimeService* runtime = nullptr;  // required, as the next four
  cri::ImageService* images = nullptr;
  VolumeManager* volumes = nullptr;
  ProbeManager* probes = nullptr;
  ObjectCache* objects = nullptr;
  client::EventRecorder* events = nullptr;  // null: no events
  cgroups::QosTree* qos_tree = nullptr;     // null: no pod cgroups
  // Asked for when the runtime says that systemd makes the cgroups (KEP-4033); what it gives outlives Stop(),
  // too. Null: qos_tree makes directories alone, as tests want.
  cgroups::SystemdUnitsGetter systemd_units;
};

class Kubelet : public PodSyncer, public NodeApi {
 public:
  // env and all of deps outlive Stop().
  Kubelet(Env& env, KubeletDeps deps, KubeletOptions options);
  ~Kubelet() override;

  // Checks the configuration and starts everything; returns at once. The runtime may come later.
  absl::Status Start();
  // Ends every task; containers stay as they are.
  Task<void> Stop();

  // ---- NodeApi ----
  std::vector<PodPtr> Pods() const override;
  Task<absl::StatusOr<std::vector<PodPtr>>> RunningPods() override;
  Task<absl::StatusOr<ContainerLocation>> LocateContainer(std::string ns, std::string pod, std::string uid,
                                                          std::string container, bool previous) override;
  Task<absl::StatusOr<std::string>> LocateSandbox(std::string ns, std::string pod, std::string uid) override;
  // kubelet/streaming_urls.cc
  Task<absl::StatusOr<std::string>> ExecUrl(std::string ns, std::string pod, std::string uid,
                                            std::string container, StreamRequest request) override;
  Task<absl::StatusOr<std::string>> AttachUrl(std::string ns, std::string pod, std::string uid,
                                              std::string container, StreamRequest request) override;
  Task<absl::StatusOr<std::string>> PortForwardUrl(std::string ns, std::string pod, std::string uid,
                                                   std::vector<int32_t> ports) override;
  Task<absl::StatusOr<std::string>> RunCommand(std::string ns, std::string pod, std::string uid,
                                               std::string container,
                                               std::vector<std::string> command) override;
  absl::Status Healthy() const override;

  // ---- PodSyncer; called by PodWorkers only ----
  Task<absl::StatusOr<SyncResult>> SyncPod(PodPtr pod, bool refresh) override;
  Task<absl::Status> SyncTerminatingPod(PodPtr pod, KillRequest kill) override;
  Task<absl::Status> SyncTerminatedPod(PodPtr pod) override;

  // ---- for tests and the server ----
  const StatusManager& statuses() const { return *statuses_; }
  const NodeRegistrar& node() const { return *registrar_; }
  const KubeletOptions& options() const { return options_; }
  PodWorkers& workers() { return *workers_; }
  // One round of clean-up now; else every 2 s.
  Task<void> HousekeepOnce();
  Task<void> CollectGarbage() { return gc_->Collect(KnownUids(), SourcesReady()); }

 private:
  Task<void> Run();
  Task<void> HousekeepingLoop();
  Task<void> GarbageLoop();
  std::unique_ptr<EvictionManager> MakeEvictionManager();
  Task<void> FreeDisk();
  void OnPodChange(const PodPtr& before, const PodPtr& after);
  void HandleAdd(const PodPtr& pod);
  void HandleUpdate(const PodPtr& before, const PodPtr& pod);
  void HandleRemove(const PodPtr& pod);
  void HandleMirror(const PodPtr& before, const PodPtr& after);
  void Reject(const PodPtr& pod, const std::string& reason, const std::string& message);
  void OnPlegEvent(const PlegEvent& event);
  void OnProbeEvent(const ProbeEvent& event);
  bool SourcesReady() const;
  std::set<std::string> KnownUids() const;
  NodeFacts Facts() const;
  ProbeLookup Probes() const;
  // Generates, remembers and queues the pod's status.
  corev1::PodStatus UpdateStatus(const PodPtr& pod, const RuntimePodStatusPtr& status, bool terminal,
                                 const std::function<void(corev1::PodStatus*)>& change = nullptr);
  void AddProbes(const PodPtr& pod);
  Task<absl::Status> EnsureMirror(PodPtr pod);
  Task<absl::StatusOr<RuntimePodStatusPtr>> RefreshQuietly(std::string uid);
  // kubelet/pod_cgroups.cc. Until it succeeds nothing is started.
  Task<void> SetUpCgroups();
  Task<absl::Status> SetUpCgroupsOnce();
  Task<absl::Status> EnsureCgroup(PodPtr pod);
  Task<absl::Status> RemoveCgroup(PodPtr pod);
  // Of pods not in `keep`; and the share of the burstable ones.
  Task<void> KeepCgroups(std::set<std::string> keep);
  // In the pool where systemd is waited for.
  Task<absl::Status> ChangeCgroups(std::function<absl::Status(cgroups::QosTree&)> change);
  Task<void> AwaitCgroupJobs();
  PodPtr FindPod(const std::string& ns, const std::string& name, const std::string& uid) const;

  Env& env_;
  KubeletDeps deps_;
  const KubeletOptions options_;
  Scope scope_;
  PodCache cache_;
  std::unique_ptr<NodeRegistrar> registrar_;
  std::unique_ptr<Pleg> pleg_;
  std::unique_ptr<ImageManager> image_manager_;
  std::unique_ptr<RuntimeManager> runtime_;
  std::unique_ptr<StatusManager> statuses_;
  std::unique_ptr<PodWorkers> workers_;
  std::unique_ptr<client::Informer> services_;
  std::unique_ptr<ContainerGc> gc_;
  std::unique_ptr<ImageGc> image_gc_;
  std::unique_ptr<ContainerLogs> logs_;
  std::unique_ptr<EvictionManager> eviction_;
  std::vector<std::unique_ptr<PodSource>> sources_;

  std::map<std::string, PodPtr> pods_;     // by UID: regular and static, not mirrors
  std::map<std::string, PodPtr> mirrors_;  // by full name
  std::set<std::string> rejected_;         // UIDs not taken
  std::set<std::string> quiet_;            // UIDs whose PLEG events are our own doing
  std::map<std::string, std::map<std::string, std::string>>
      termination_messages_;     // uid -> container ID -> text
  absl::Status cgroups_status_;  // why there is no cgroup tree yet
  int cgroup_jobs_ = 0;
  WaitList cgroup_job_ended_;
  bool started_ = false;
  bool sources_started_ = false;
};

}  // namespace keelson::kubelet
