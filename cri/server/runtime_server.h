// RuntimeServer: CRI v1 with no daemon behind it. One file per RPC, named after it; what several share is in
// server_state.h and the private helpers here.
//
// Everything runs on the Env's loop. Sandboxes and containers are records on disk (RecordStore) plus what the
// kernel holds: pinned namespaces, mounts, cgroups, processes. A change is written before the step that needs
// undoing, so that Recover() after a kill -9 at any point finds what to finish or to undo. Containers and
// their monitors outlive this process.
#pragma once

#include <absl/container/flat_hash_map.h>
#include <absl/status/statusor.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/env.h"
#include "cgroups/attach_warmer.h"
#include "cgroups/manager.h"
#include "cgroups/systemd_units.h"
#include "cri/cni/cni.h"
#include "cri/rpcs.h"
#include "cri/runtime_service.h"
#include "cri/server/checkpoint_archive.h"
#include "cri/server/container_checkpoint.h"
#include "cri/server/events.h"
#include "cri/server/host_kernel.h"
#include "cri/server/host_ports.h"
#include "cri/server/oom_ledger.h"
#include "cri/server/pod_checkpoint.h"
#include "cri/server/record_store.h"
#include "cri/server/server_state.h"
#include "cri/streaming/streaming.h"
#include "images/image_store.h"
#include "oci/apparmor.h"
#include "oci/monitor.h"
#include "oci/runtime.h"

namespace nri::pkg::api::v1alpha1 {
class Container;
class ContainerAdjustment;
class ContainerUpdate;
class PodSandbox;
}  // namespace nri::pkg::api::v1alpha1

namespace keelson::cri {

namespace nri {
class Adaptation;
class Runtime;
}  // namespace nri
namespace nri_api = ::nri::pkg::api::v1alpha1;

inline constexpr char kRuntimeName[] = "keelson";
inline constexpr char kRuntimeApiVersion[] = "v1";

// Connections for port-forwards under way at a time: each holds a thread of the pool until the pod answers.
inline constexpr size_t kMaxDials = 2;

inline constexpr size_t kMaxWarnings = 1000;  // different ones that are remembered

struct RuntimeServerOptions {
  std::string state_dir;        // records: <state_dir>/sandboxes, <state_dir>/containers
  std::string run_dir;          // namespaces, bundles, mounts; goes with a reboot
  std::string default_handler;  // one of `runtimes`
  bool always_pause = false;  // a pause process in every sandbox, also where nothing shares its PID namespace
  std::string default_cgroup_parent;  // for pods that name none: "keelson-cri"
  std::string host_resolv_conf = "/etc/resolv.conf", host_hosts = "/etc/hosts";
  std::vector<std::string> cdi_spec_dirs;  // later ones win; empty: containers with CDI devices are refused
  bool user_namespaces = false;            // whether this host can: see ProbeUserNamespaces
  bool seccomp_default = false;            // RuntimeDefault for containers whose profile is unset
  // Images that are checkpoints are restored. Whoever names an image then gets processes with whatever user,
  // capabilities and confinement it says, past all that a pod's specification is checked for.
  bool restore_from_images = false;
};

// What the server stands on; all must outlive it.
struct RuntimeServerDeps {
  Env* env = nullptr;
  images::ImageStore* images = nullptr;
  Cni* cni = nullptr;
  HostPorts* host_ports = nullptr;
  cgroups::Manager* cgroups = nullptr;
  oci::ContainerMonitor* monitor = nullptr;
  std::map<std::string, oci::OciRuntime*> runtimes;  // by handler
  HostKernel* kernel = nullptr;                      // null: this machine's
  oci::HostFacts host;
  oci::Apparmor* apparmor = nullptr;  // null: profiles are not looked at
  // With systemd's cgroups, from a pool; null: systemd hears of limits from the OCI runtime alone.
  cgroups::SystemdUnitsGetter systemd_units;
  nri::Adaptation* nri = nullptr;  // null: no plugins
};

struct StatsReadings;

// Makes a user namespace and mounts `dir` with its mappings, below `scratch`, beside which the bundles lie;
// takes both back. What is missing says the error. Blocking.
absl::Status ProbeUserNamespaces(const std::string& dir, const std::string& scratch);

// Mounts below a container's directory that are no root file systems. Missing is success. Blocking.
absl::Status UnmountVolumes(const std::string& container_dir);

// The text of the Localhost seccomp profile it names; "": it names none, or is privileged. Blocking.
absl::StatusOr<std::string> ReadSeccompProfile(const v1::LinuxContainerSecurityContext& security);

// What ContainerStatus says of the image: by a tag as long as `image` has one, as containerd; null: it is
// gone. A kubelet creates containers by image IDs. Pure.
v1::ImageSpec ShownImage(const v1::ImageSpec& asked, const images::ImageRecord* image);

// An update: zero and "" mean "as it is" in CRI, what is set replaces. oom_score_adj stays (of a running
// process it is not changed, as in containerd), which `warnings` is told. Pure.
void MergeResources(const v1::LinuxContainerResources& from, v1::LinuxContainerResources* to,
                    std::vector<std::string>* warnings);

// Huge page limits of `after` that `before` has not. Pure.
cgroups::Resources ChangedHugepages(const v1::LinuxContainerResources& before,
                                    const v1::LinuxContainerResources& after);

// InvalidArgument names the field. Pure.
absl::Status CheckPodResources(const v1::UpdatePodSandboxResourcesRequest& request,
                               const oci::HostFacts& host);

// The log's folder is made below the pod's, and the log itself is opened once, without following a symlink: a
// pod that can write there (through a hostPath) must not lead its monitor's writes elsewhere. Before each
// time the monitor opens it by name. Blocking.
absl::Status PrepareLog(const std::string& log_directory, const std::string& log_path);

class RuntimeServer : public RuntimeService, public StreamingBackend {
 public:
  static absl::StatusOr<std::unique_ptr<RuntimeServer>> Create(RuntimeServerDeps deps,
                                                               RuntimeServerOptions options);
  ~RuntimeServer() override;

  // Reads the records, compares them with the kernel, finishes or undoes what was half done, and starts to
  // watch. Must have ended well before the first RPC.
  Task<absl::Status> Recover();
  // Where Exec, Attach and PortForward send their clients. Before the first RPC.
  void set_streaming(StreamingServer* streaming) { streaming_ = streaming; }
  // Before the process ends, calls under way or not: no container stays frozen for a checkpoint, which fails
  // then. What this cannot let run on waits for the next Recover().
  Task<void> ThawAll();
  // Ends background work; sandboxes and containers go on.
  Task<void> Close();

#define KEELSON_DECLARE_RPC_(Rpc, Request, Response) \
  Task<absl::StatusOr<v1::Response>> Rpc(v1::Request request) override;
  KEELSON_CRI_RUNTIME_UNARY_RPCS(KEELSON_DECLARE_RPC_)
  KEELSON_CRI_RUNTIME_STREAM_RPCS(KEELSON_DECLARE_RPC_)
#undef KEELSON_DECLARE_RPC_
  Task<absl::StatusOr<std::unique_ptr<ContainerEventReader>>> GetContainerEvents(
      v1::GetEventsRequest request) override;

  // StreamingBackend.
  Task<absl::StatusOr<int>> Exec(v1::ExecRequest request, StreamSession* session) override;
  Task<absl::Status> Attach(v1::AttachRequest request, StreamSession* session) override;
  Task<absl::StatusOr<std::unique_ptr<net::ByteStream>>> DialPort(std::string pod_sandbox_id,
                                                                  uint16_t port) override;

 private:
  friend struct RuntimeServerTestPeer;

  RuntimeServer(RuntimeServerDeps deps, RuntimeServerOptions options, RecordStore store);

  // ---- look-ups ----
  // By full ID or a unique prefix. NotFound; InvalidArgument: the prefix fits several.
  absl::StatusOr<std::shared_ptr<Sandbox>> FindSandbox(std::string_view id) const;
  absl::StatusOr<std::shared_ptr<Container>> FindContainer(std::string_view id) const;
  absl::StatusOr<std::shared_ptr<Container>> FindRunningContainer(std::string_view id) const;
  std::vector<std::shared_ptr<Container>> ContainersOf(const std::string& sandbox_id) const;
  // Before GenerateSpec: the AppArmor profile it will name is in the kernel.
  Task<absl::Status> EnsureApparmor(v1::LinuxContainerSecurityContext security);
  // "" is the default. InvalidArgument names the handlers there are.
  absl::StatusOr<oci::OciRuntime*> RuntimeFor(const std::string& handler) const;
  // The handlers that images of the configuration name. Images are the same for all of them here.
  absl::Status CheckImageHandlers(const v1::ContainerConfig& config) const;

  // ---- sandboxes (run_pod_sandbox.cc, stop_pod_sandbox.cc, remove_pod_sandbox.cc) ----
  Task<absl::Status> SetUpSandbox(std::shared_ptr<Sandbox> sandbox);
  Task<absl::Status> SetUpInside(std::shared_ptr<Sandbox> sandbox);
  Task<absl::Status> AttachNetwork(std::shared_ptr<Sandbox> sandbox);
  Task<absl::Status> StartPause(std::shared_ptr<Sandbox> sandbox, std::string seccomp_profile);
  // Everything RunPodSandbox made besides the record; any part may be missing. With the sandbox's mutex held.
  Task<absl::Status> TearDownSandbox(std::shared_ptr<Sandbox> sandbox);
  Task<absl::Status> StopSandboxLocked(std::shared_ptr<Sandbox> sandbox);
  Task<absl::Status> RemoveSandboxLocked(std::shared_ptr<Sandbox> sandbox);
  CniAttachment AttachmentOf(const Sandbox& sandbox) const;
  static HostPortSandbox HostPortsOf(const records::Sandbox& record);

  // RunPodSandbox; with `restoring` a restart undoes the pod until RestorePod has ended.
  Task<absl::StatusOr<v1::RunPodSandboxResponse>> RunSandbox(v1::RunPodSandboxRequest request,
                                                             bool restoring);

  // ---- checkpoints (checkpoint.cc, checkpoint_pod.cc, restore_pod.cc) ----
  // What criu is told for this container beyond what its OCI runtime says. `cgroup`: its own, from which on
  // its cgroups are named in the images; "": from the root. Blocking; touches no state.
  absl::Status WriteCriuConfig(const std::string& id, const std::string& cgroup) const;
  std::string CriuConfigPath(const std::string& id) const { return ContainerDir(id) + "/criu.conf"; }
  CheckpointFacts FactsOf(const Container& container, int64_t at_ns) const;
  // The containers a request means; those that run, when it names none.
  absl::StatusOr<std::vector<std::shared_ptr<Container>>> ContainersToCheckpoint(
      const Sandbox& sandbox, const v1::CheckpointPodRequest& request) const;
  // One container of a checkpoint.
  struct FrozenDump {
    std::shared_ptr<Container> container;
    std::string dir;      // its images and criu's work are below it until they are packed
    std::string cgroup;   // as WriteCriuConfig
    std::string archive;  // to be written
    absl::Duration timeout = oci::CheckpointOptions().timeout;
  };
  // Of one checkpoint or restore; Recover() removes what is left of them.
  std::string NewScratch(std::string_view what) {
    return StrCat(options_.state_dir, "/checkpoints/", what, "-", env_.random().Suffix(8));
  }
  // The calls, in a folder that is theirs.
  Task<absl::StatusOr<v1::CheckpointContainerResponse>> CheckpointContainerIn(
      v1::CheckpointContainerRequest request, std::string scratch);
  Task<absl::StatusOr<v1::CheckpointPodResponse>> CheckpointPodIn(v1::CheckpointPodRequest request,
                                                                  std::string scratch);
  Task<absl::StatusOr<v1::RestorePodResponse>> RestorePodIn(v1::RestorePodRequest request,
                                                            std::string scratch);
  Task<absl::StatusOr<v1::CreateContainerResponse>> CreateFromCheckpointIn(v1::CreateContainerRequest request,
                                                                           std::string scratch);
  // Freezes the containers, dumps and packs them, with the folder `shm_dir` to `shm_tar` (unless that is ""),
  // and lets them run on, whatever happened.
  Task<absl::Status> CheckpointFrozen(std::vector<FrozenDump> dumps, oci::OciRuntime* runtime,
                                      std::string shm_dir, std::string shm_tar);
  // Before it is frozen. FailedPrecondition: it does not run, or another checkpoint of it is under way.
  absl::Status BeginCheckpoint(Container* container);
  // Ends it, also where it was not frozen or has ended. After an error goes on trying beside.
  Task<absl::Status> Thaw(std::shared_ptr<Container> container, oci::OciRuntime* runtime);
  Task<absl::Status> ThawOnce(std::shared_ptr<Container> container, oci::OciRuntime* runtime);
  Task<void> KeepThawing(std::shared_ptr<Container> container, oci::OciRuntime* runtime);
  Task<absl::Status> DumpFrozen(FrozenDump frozen, oci::OciRuntime* runtime);
  // What the request and the archive have to agree on, besides the host.
  absl::Status CheckRestore(const v1::RestorePodRequest& request, const PodCheckpointFacts& facts) const;
  // The containers of a sandbox that was made for them, from archives unpacked in `dir`.
  Task<absl::Status> RestoreContainers(std::string sandbox_id, v1::RestorePodRequest request,
                                       PodCheckpointFacts facts, std::string dir,
                                       v1::RestorePodResponse* response);
  // FailedPrecondition: what others make in the pod would be undone with it if its restore failed.
  static absl::Status CheckNotRestoring(const records::Sandbox& record);
  // Unimplemented on a host with SELinux: criu's images have the categories of the pod that was checkpointed,
  // which are not those of the pod that is restored.
  absl::Status CheckLabelsCanBeRestored() const;
  // Of a container whose processes are restored. Internal, FailedPrecondition: not where or as what the
  // request asks for.
  absl::Status CheckRestored(const Sandbox& sandbox, const Container& container) const;

  // ---- containers from a checkpoint (restore_container.cc) ----
  // Whether the image of a request is an archive on this node (its path), or an image made from one.
  bool IsCheckpoint(const v1::ImageSpec& spec) const;
  // CreateContainer, where it is.
  Task<absl::StatusOr<v1::CreateContainerResponse>> CreateFromCheckpoint(v1::CreateContainerRequest request);
  // Its parts into `dir`, which is made. FailedPrecondition: not to be trusted, or images are not restored.
  Task<absl::StatusOr<ContainerCheckpoint>> UnpackCheckpoint(std::string name, std::string dir);
  // ID of the image it was made on. Pulled when it is named by digest and not here. NotFound,
  // FailedPrecondition: it is another one.
  Task<absl::StatusOr<std::string>> BaseImageOf(CheckpointFacts facts);
  // The last step of creating a container from `parts`: they are for this container (CheckSameProcess), and
  // RestoreDir() has criu's images.
  Task<absl::Status> PrepareRestore(std::shared_ptr<Container> container, std::string parts);
  // When it has been started or never will be.
  Task<void> DropRestoreImages(std::string id);

  // ---- containers (create_container.cc, start_container.cc, stop_container.cc, remove_container.cc) ----
  // CreateContainer; from a checkpoint whose parts are in this folder, unless that is "".
  Task<absl::StatusOr<v1::CreateContainerResponse>> CreateContainerOn(v1::CreateContainerRequest request,
                                                                      std::string checkpoint);
  // StartContainer; with `pod_is_restoring` for RestorePod, while others must not.
  Task<absl::StatusOr<v1::StartContainerResponse>> StartContainerOf(v1::StartContainerRequest request,
                                                                    bool pod_is_restoring);
  // `block`: see BlockPluginSync; from before the plugins are asked.
  Task<absl::Status> SetUpContainer(std::shared_ptr<Container> container, std::shared_ptr<Sandbox> sandbox,
                                    std::shared_ptr<void>* block);
  // Mounts of images (KEP-4639): their paths on the host, in the order of the mounts that name images.
  Task<absl::StatusOr<std::vector<std::string>>> MountImageVolumes(std::shared_ptr<Container> container,
                                                                   std::string userns_path,
                                                                   std::string selinux_label);
  // A directory for each VOLUME of the image's configuration, with what the image has there: volume -> host
  // path.
  Task<absl::StatusOr<std::map<std::string, std::string>>> MakeVolumes(std::string id, std::string rootfs,
                                                                       std::vector<std::string> volumes,
                                                                       std::string selinux_label);
  Task<absl::Status> PrepareStart(std::shared_ptr<Container> container, std::shared_ptr<Sandbox> sandbox);
  // A start that was begun ends as an exit with reason StartError. With the container's mutex held.
  Task<void> FailStart(std::shared_ptr<Container> container, absl::Status why);
  // Everything CreateContainer made besides the record; any part may be missing.
  Task<absl::Status> TearDownContainer(std::shared_ptr<Container> container);
  // The stop signal, up to `grace`, SIGKILL; returns when it has exited. With the container's mutex free.
  Task<absl::Status> StopRunningContainer(std::shared_ptr<Container> container, absl::Duration grace);
  Task<absl::Status> RemoveContainerLocked(std::shared_ptr<Container> container);
  absl::Status SignalInit(const Container& container, int signal);
  void OnExit(const std::string& id, const oci::ContainerExit& exit);
  Task<void> HandleExit(std::shared_ptr<Container> container, oci::ContainerExit exit);
  Task<void> HandlePauseExit(std::shared_ptr<Sandbox> sandbox);
  // Until the monitor has ended. One that was killed wrote no exit: then the container is waited for here.
  Task<void> WatchMonitor(std::shared_ptr<Container> container);
  // Until a process that is about to end has: a monitor whose container is gone has then written how that
  // ended, and nothing is written after Forget. One that does not end is killed.
  Task<void> AwaitEnd(records::Process process);
  void MarkExited(Container* container, const oci::ContainerExit& exit);
  // Tells systemd the limits of a container's scope where its OCI runtime does not: at its next reload it
  // takes back what it was not told. What fails is logged.
  Task<void> TellSystemd(std::shared_ptr<Container> container);
  // With systemd's cgroups: before a container starts, and for those found running.
  void OpenOomLedger(const records::Container& record);
  // Whether a kill for want of memory is in the counters of the ended container, or around it.
  bool SettleOom(const records::Container& record);
  // Kills that a cgroup counts, its descendants included; nullopt: it is gone.
  std::optional<uint64_t> OomKills(const std::string& cgroup_path) const;
  // Sum over the other containers of the same slice; nullopt: there are none.
  std::optional<uint64_t> OomKillsOfOthers(const records::Container& record) const;
  // What an ended container left running in its cgroup.
  void KillRest(const Container& container);
  // That, and gives back what the OCI runtime holds of it (its cgroup); the record and the root file system
  // stay until RemoveContainer.
  Task<absl::Status> ReleaseExited(std::shared_ptr<Container> container);
  // Deletes what the OCI runtime has under this ID, and the cgroup, which runtimes leave after a create that
  // was cut off. Processes in it are killed.
  Task<absl::Status> DeleteInRuntime(std::string id, std::string handler, std::string cgroup_path);

  // Limits of a container, in its bundle or in its cgroup, and in its record. With its mutex free.
  Task<absl::Status> SetLimits(std::shared_ptr<Container> container, v1::LinuxContainerResources wanted);

  // ---- NRI's plugins (nri.cc; cri/nri/adaptation.h says what they are) ----
  // Where there are none, each of these returns at once.
  bool PluginsListen() const;
  // As long as what it gives lives, no plugin is told what there is (nri::Adaptation::SyncBlock). Taken
  // before an event, also when nobody listens, until what it is about is in sandboxes_ and containers_, or
  // gone.
  Task<std::shared_ptr<void>> BlockPluginSync();
  // A pod was made: an error of a plugin is the caller's, who undoes the pod.
  Task<absl::Status> TellRun(std::shared_ptr<Sandbox> sandbox);
  // Errors of plugins are logged. Each is told once, and a removal not without a stop before it.
  Task<void> TellStopped(std::shared_ptr<Sandbox> sandbox);
  Task<void> TellRemoved(std::shared_ptr<Sandbox> sandbox);
  Task<void> TellStopped(std::shared_ptr<Container> container);
  Task<void> TellRemoved(std::shared_ptr<Container> container);
  Task<absl::Status> TellUpdate(std::shared_ptr<Sandbox> sandbox,
                                v1::UpdatePodSandboxResourcesRequest request);
  Task<void> TellUpdated(std::shared_ptr<Sandbox> sandbox);
  // The specification of a container that is being created, as plugins want it; its record follows. `input`
  // and `plain_user` (without groups of CDI devices) are those `config_json` was made from.
  Task<absl::StatusOr<std::string>> AdjustByPlugins(std::shared_ptr<Container> container,
                                                    std::shared_ptr<Sandbox> sandbox,
                                                    const oci::SpecInput* input, oci::ProcessUser plain_user,
                                                    std::string config_json);
  // `config_json` anew, with CDI devices that plugins add.
  Task<absl::StatusOr<std::string>> SpecWithDevices(std::shared_ptr<Container> container,
                                                    std::vector<std::string> added, oci::SpecInput input);
  Task<absl::Status> TellStart(std::shared_ptr<Container> container);
  enum class Made { kCreated, kStarted, kUpdated };
  Task<void> TellMade(Made what, std::shared_ptr<Container> container);
  // An update as plugins want it; those of other containers are made.
  Task<absl::StatusOr<v1::LinuxContainerResources>> UpdateByPlugins(std::shared_ptr<Container> container,
                                                                    v1::LinuxContainerResources wanted);
  class PluginRuntime;
  void ServePlugins();
  nri_api::PodSandbox PluginPod(const Sandbox& sandbox) const;
  nri_api::PodSandbox PluginPod(const Container& container) const;  // its pod
  Task<nri_api::Container> PluginContainer(std::shared_ptr<Container> container);
  Task<void> MakePluginUpdates(std::vector<nri_api::ContainerUpdate> updates);
  Task<absl::StatusOr<std::string>> ApplyPluginAdjustment(std::shared_ptr<Container> container,
                                                          const nri_api::ContainerAdjustment* adjust,
                                                          const oci::SpecInput* input,
                                                          oci::ProcessUser plain_user,
                                                          std::string config_json);

  // ---- recovery (recover.cc) ----
  Task<absl::Status> RecoverSandbox(std::shared_ptr<Sandbox> sandbox);
  Task<absl::Status> RecoverContainer(std::shared_ptr<Container> container);
  Task<absl::Status> ResolveInterruptedStart(std::shared_ptr<Container> container);
  // That, for what Recover() could not tell of, and its watch. With the container's mutex held.
  Task<absl::Status> ResolveAndWatch(std::shared_ptr<Container> container);
  // Until it is known.
  Task<void> ResolveLater(std::shared_ptr<Container> container);
  // TellSystemd for those that run, one after the other: an earlier server may have ended before it did, or
  // be of a time when nobody told it.
  Task<void> TellSystemdOf(std::vector<std::shared_ptr<Container>> containers);
  Task<absl::Status> KillUnknown(std::string name);
  Task<absl::Status> RemoveLeftovers();

  // ---- views ----
  v1::PodSandboxStatus SandboxStatusOf(const Sandbox& sandbox) const;
  v1::ContainerStatus ContainerStatusOf(const Container& container) const;
  v1::PodSandbox SandboxItemOf(const Sandbox& sandbox) const;
  v1::Container ContainerItemOf(const Container& container) const;
  // Items of those that fit; for the list and its stream.
  void AddSandboxes(const v1::PodSandboxFilter& filter,
                    google::protobuf::RepeatedPtrField<v1::PodSandbox>* out) const;
  void AddContainers(const v1::ContainerFilter& filter,
                     google::protobuf::RepeatedPtrField<v1::Container>* out) const;
  // Many at once, read by one job in the pool; what goes away meanwhile is left out. Writable layers as last
  // measured.
  Task<std::vector<v1::ContainerStats>> StatsOf(std::vector<std::shared_ptr<Container>> containers);
  Task<std::vector<v1::PodSandboxStats>> StatsOf(std::vector<std::shared_ptr<Sandbox>> sandboxes);
  Task<std::vector<v1::PodSandboxMetrics>> MetricsOf(std::vector<std::shared_ptr<Sandbox>> sandboxes);
  v1::ContainerStats StatsFrom(Container* container, const StatsReadings& all) const;
  // Measures in the background what was not measured lately; one round at a time.
  void RefreshLayers(const std::vector<std::shared_ptr<Container>>& containers);
  Task<void> MeasureLayers(std::vector<std::shared_ptr<Container>> containers);
  Task<void> MeasureLayer(std::shared_ptr<Container> container);
  // Only what runs.
  std::vector<std::shared_ptr<Container>> ContainersFor(const v1::ContainerStatsFilter& filter) const;
  std::vector<std::shared_ptr<Sandbox>> SandboxesFor(const v1::PodSandboxStatsFilter& filter) const;
  std::map<std::string, std::vector<std::shared_ptr<Container>>> RunningBySandbox() const;
  // The pod's own cgroup; "": it named none.
  static std::string OwnCgroup(const records::Sandbox& record);
  void Publish(v1::ContainerEventType type, const std::string& id, const std::string& sandbox_id);

  // ---- small things ----
  // Into the log, each text once.
  void Warn(const std::string& id, const std::vector<std::string>& warnings);
  int64_t NowNs() const;
  std::string NewId();
  absl::Status Save(const Sandbox& sandbox) { return store_.Put(sandbox.record); }
  absl::Status Save(const Container& container) { return store_.Put(container.record); }
  std::string SandboxDir(const std::string& id) const;
  std::string ContainerDir(const std::string& id) const;
  std::string VolumesDir(const std::string& id) const;  // of the image's own volumes; on disk, not in memory
  std::string RestoreDir(const std::string& id) const;  // criu's images, until it is started
  using Names = absl::flat_hash_map<std::string, std::string>;
  // Only if it is still `id` that has the name.
  static void FreeName(Names* names, const std::string& key, const std::string& id);

  RuntimeServerDeps deps_;
  RuntimeServerOptions options_;
  Env& env_;
  RecordStore store_;
  std::string boot_id_;
  StreamingServer* streaming_ = nullptr;
  EventHub events_;
  // By ID. Sorted: their order is the order of signals, of clean-up and of lists, and a simulation replays
  // it.
  std::map<std::string, std::shared_ptr<Sandbox>> sandboxes_;
  std::map<std::string, std::shared_ptr<Container>> containers_;
  Names sandbox_names_;  // name key -> ID
  Names container_names_;
  OnceSet warned_{kMaxWarnings};
  Semaphore dials_{kMaxDials};
  bool measuring_layers_ = false;
  cgroups::AttachWarmer attach_warmer_;
  OomLedger oom_ledger_;
  std::shared_ptr<nri::Runtime> plugin_runtime_;  // null without deps_.nri
  Scope scope_;
};

}  // namespace keelson::cri
