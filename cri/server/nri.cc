// What NRI's plugins hear of pods and containers, and what becomes of what they ask for.
#include <absl/strings/match.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "base/fd.h"
#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"
#include "cri/nri/adaptation.h"
#include "cri/nri/adjust.h"
#include "cri/nri/resources.h"
#include "cri/nri/spec.h"
#include "cri/server/cgroup_names.h"
#include "cri/server/namespaces.h"
#include "cri/server/runtime_server.h"
#include "oci/cdi.h"
#include "oci/cgroup_view.h"
#include "oci/spec.h"
#include "oci/spec_parts.h"

namespace keelson::cri {

namespace pb = ::nri::pkg::api::v1alpha1;

namespace {

pb::ContainerState PluginStateOf(const records::Container& record) {
  switch (record.state()) {
    case records::CONTAINER_RUNNING:
      return pb::CONTAINER_RUNNING;
    case records::CONTAINER_EXITED:
      return pb::CONTAINER_STOPPED;
    default:
      return pb::CONTAINER_CREATED;
  }
}

// The pod as plugins see it; `sandbox_dir` is where its namespaces are pinned.
pb::PodSandbox PluginPodOf(const records::Sandbox& record, const std::string& sandbox_dir) {
  const v1::PodSandboxConfig& config = record.config();
  pb::PodSandbox pod;
  pod.set_id(record.id());
  pod.set_name(config.metadata().name());
  pod.set_uid(config.metadata().uid());
  pod.set_namespace_(config.metadata().namespace_());
  pod.mutable_labels()->insert(config.labels().begin(), config.labels().end());
  pod.mutable_annotations()->insert(config.annotations().begin(), config.annotations().end());
  pod.set_runtime_handler(record.runtime_handler());
  pod.set_pid(static_cast<uint32_t>(record.pause().pid()));
  *pod.mutable_ips() = record.ips();
  pb::LinuxPodSandbox* linux_part = pod.mutable_linux();
  if (config.linux().has_overhead()) {
    *linux_part->mutable_pod_overhead() = nri::FromCri(config.linux().overhead());
  }
  if (config.linux().has_resources()) {
    *linux_part->mutable_pod_resources() = nri::FromCri(config.linux().resources());
  }
  linux_part->set_cgroup_parent(config.linux().cgroup_parent());
  auto add = [&](bool own, const char* type, const char* pin) {
    if (!own) return;
    pb::LinuxNamespace* ns = linux_part->add_namespaces();
    ns->set_type(type);
    ns->set_path(StrCat(sandbox_dir, "/ns/", pin));
  };
  add(!HostNetwork(config), "network", kNetNamespace);
  add(!HostIpc(config), "ipc", kIpcNamespace);
  add(!HostNetwork(config), "uts", kUtsNamespace);
  add(HasUserNamespace(config), "user", kUserNamespace);
  return pod;
}

// What is not in its specification.
pb::Container PluginContainerOf(const records::Container& record) {
  pb::Container container;
  container.set_id(record.id());
  container.set_pod_sandbox_id(record.sandbox_id());
  container.set_name(record.config().metadata().name());
  container.set_state(PluginStateOf(record));
  container.mutable_labels()->insert(record.config().labels().begin(), record.config().labels().end());
  container.set_pid(record.state() == records::CONTAINER_RUNNING ? static_cast<uint32_t>(record.init().pid())
                                                                 : 0);
  container.set_created_at(record.created_at_ns());
  container.set_started_at(record.started_at_ns());
  container.set_finished_at(record.finished_at_ns());
  container.set_exit_code(record.exit_code());
  container.set_status_reason(record.reason());
  container.set_status_message(record.message());
  for (const v1::CDIDevice& device : record.config().cdi_devices()) {
    container.add_cdi_devices()->set_name(device.name());
  }
  *container.mutable_linux()->mutable_resources() = nri::FromCri(record.resources());
  return container;
}

// As upstream: a plugin's memory limit alone is one of memory and swap together.
void SwapWithMemory(const records::Container& record, v1::LinuxContainerResources* wanted) {
  if (wanted->memory_limit_in_bytes() != 0 && wanted->memory_swap_limit_in_bytes() == 0 &&
      record.resources().memory_swap_limit_in_bytes() != 0) {
    wanted->set_memory_swap_limit_in_bytes(wanted->memory_limit_in_bytes());
  }
}

// With what its bundle says, as long as that is there. Blocking.
void FillFromBundle(const std::string& container_dir, pb::Container* container) {
  absl::StatusOr<std::string> config = ReadFile(container_dir + "/config.json", kMaxConfigJsonBytes);
  if (config.ok()) nri::FillFromSpec(*config, container);
}

// Of bind mounts that plugins add. Blocking.
absl::Status CheckMountPropagation(const std::vector<std::pair<std::string, std::string>>& sources) {
  if (sources.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(std::string mountinfo, oci::ReadHostMountinfo());
  for (const auto& [source, option] : sources) {
    std::error_code error;
    const std::string real = std::filesystem::canonical(source, error).string();
    if (error) return absl::InvalidArgumentError(StrCat("adjust.mounts: ", source, ": ", error.message()));
    RETURN_IF_ERROR(oci::CheckPropagation(
        mountinfo, real,
        option == "rshared" ? v1::PROPAGATION_BIDIRECTIONAL : v1::PROPAGATION_HOST_TO_CONTAINER));
  }
  return absl::OkStatus();
}

// Where the container's cgroup is by the path that a plugin wants, which ApplyAdjustment has checked.
absl::StatusOr<std::string> CgroupOf(const std::string& oci_path, const std::string& id, bool systemd) {
  const std::string parent =
      systemd ? oci_path.substr(0, oci_path.find(':')) : oci_path.substr(0, oci_path.rfind('/'));
  RETURN_IF_ERROR(Annotate(CheckCgroupParent(parent, systemd), "adjust.linux.cgroups_path"));
  return ContainerCgroupPath(parent, "", id);
}

}  // namespace

// The server as plugins see it.
class RuntimeServer::PluginRuntime : public nri::Runtime {
 public:
  explicit PluginRuntime(RuntimeServer* server) : server_(*server) {}

  Task<pb::SynchronizeRequest> Snapshot() override {
    auto all = std::make_shared<pb::SynchronizeRequest>();
    std::vector<std::string> dirs;
    for (const auto& [id, sandbox] : server_.sandboxes_) {
      // Stopped ones, too: containers that were never started are still in them.
      if (!sandbox->removed) *all->add_pods() = server_.PluginPod(*sandbox);
    }
    for (const auto& [id, container] : server_.containers_) {
      const records::Container& record = container->record;
      if (container->removed || record.removing() || record.state() == records::CONTAINER_EXITED) continue;
      *all->add_containers() = PluginContainerOf(record);
      dirs.push_back(server_.ContainerDir(id));
    }
    auto read = [all, dirs] {
      for (size_t i = 0; i < dirs.size(); ++i)
        FillFromBundle(dirs[i], all->mutable_containers(static_cast<int>(i)));
      return absl::OkStatus();
    };
    Task<absl::Status> reading = server_.env_.Blocking<absl::Status>(read);
    (void)co_await std::move(reading);
    co_return std::move(*all);
  }

  Task<absl::StatusOr<std::vector<pb::ContainerUpdate>>> UpdateContainers(
      std::vector<pb::ContainerUpdate> updates) override {
    std::vector<pb::ContainerUpdate> failed;
    absl::Status error;  // the first; the others get their limits all the same
    for (const pb::ContainerUpdate& update : updates) {
      Task<absl::Status> one = Update(update);
      absl::Status status = co_await std::move(one);
      if (status.ok()) continue;
      status = Annotate(status, StrCat("update of container ", update.container_id(), " by an nri plugin"));
      if (error.ok() && !update.ignore_failure()) {
        error = status;
        continue;
      }
      LogWarning("limits not set", {{"error", status}});
      failed.push_back(update);
    }
    if (!error.ok()) co_return error;
    co_return failed;
  }

 private:
  Task<absl::Status> Update(pb::ContainerUpdate update) {
    // By its full ID: a prefix is a user's convenience.
    auto found = server_.containers_.find(update.container_id());
    // As upstream: a plugin learns of an end later than it comes.
    if (found == server_.containers_.end()) co_return absl::OkStatus();
    std::shared_ptr<Container> container = found->second;
    v1::LinuxContainerResources wanted;
    CO_RETURN_IF_ERROR_SYNC(nri::CheckUpdate(update.linux().resources()));
    CO_RETURN_IF_ERROR_SYNC(nri::MergeIntoCri(update.linux().resources(), &wanted));
    SwapWithMemory(container->record, &wanted);
    Task<absl::Status> set = server_.SetLimits(container, std::move(wanted));
    absl::Status status = co_await std::move(set);
    // It ended meanwhile, which its runtime may have been the first to see.
    const records::Container& record = container->record;
    const bool gone =
        container->removed || record.removing() || record.state() == records::CONTAINER_EXITED ||
        (record.state() == records::CONTAINER_RUNNING && !server_.deps_.kernel->IsAlive(record.init()));
    co_return gone ? absl::OkStatus() : status;
  }

  RuntimeServer& server_;
};

void RuntimeServer::ServePlugins() {
  if (deps_.nri == nullptr) return;
  plugin_runtime_ = std::make_shared<PluginRuntime>(this);
  deps_.nri->set_runtime(plugin_runtime_.get());
}

bool RuntimeServer::PluginsListen() const { return deps_.nri != nullptr && deps_.nri->active(); }

Task<std::shared_ptr<void>> RuntimeServer::BlockPluginSync() {
  if (deps_.nri == nullptr) co_return nullptr;
  Task<nri::Adaptation::SyncBlock> take = deps_.nri->BlockSync();
  nri::Adaptation::SyncBlock block = co_await std::move(take);
  co_return std::make_shared<nri::Adaptation::SyncBlock>(std::move(block));
}

pb::PodSandbox RuntimeServer::PluginPod(const Sandbox& sandbox) const {
  return PluginPodOf(sandbox.record, SandboxDir(sandbox.record.id()));
}

pb::PodSandbox RuntimeServer::PluginPod(const Container& container) const {
  absl::StatusOr<std::shared_ptr<Sandbox>> sandbox = FindSandbox(container.record.sandbox_id());
  return sandbox.ok() ? PluginPod(**sandbox) : pb::PodSandbox();
}

Task<pb::Container> RuntimeServer::PluginContainer(std::shared_ptr<Container> container) {
  auto out = std::make_shared<pb::Container>(PluginContainerOf(container->record));
  auto read = [out, dir = ContainerDir(container->record.id())] {
    FillFromBundle(dir, out.get());
    return absl::OkStatus();
  };
  Task<absl::Status> reading = env_.Blocking<absl::Status>(read);
  (void)co_await std::move(reading);
  co_return std::move(*out);
}

Task<absl::Status> RuntimeServer::TellRun(std::shared_ptr<Sandbox> sandbox) {
  if (!PluginsListen()) co_return absl::OkStatus();
  sandbox->told.made = true;
  Task<absl::Status> tell = deps_.nri->PodEvent(pb::RUN_POD_SANDBOX, PluginPod(*sandbox));
  absl::Status status = co_await std::move(tell);
  co_return status;
}

Task<void> RuntimeServer::TellStopped(std::shared_ptr<Sandbox> sandbox) {
  if (!PluginsListen() || std::exchange(sandbox->told.stopped, true)) co_return;
  Task<absl::Status> tell = deps_.nri->PodEvent(pb::STOP_POD_SANDBOX, PluginPod(*sandbox));
  absl::Status status = co_await std::move(tell);
  if (!status.ok()) LogError("an nri plugin's error", {{"sandbox", sandbox->record.id()}, {"error", status}});
}

Task<void> RuntimeServer::TellRemoved(std::shared_ptr<Sandbox> sandbox) {
  if (!PluginsListen() || std::exchange(sandbox->told.removed, true)) co_return;
  // One that was never running, too: whoever has something for it gives it back.
  if (sandbox->record.state() != records::SANDBOX_STOPPED) {
    Task<void> stopped = TellStopped(sandbox);
    co_await std::move(stopped);
  }
  Task<absl::Status> tell = deps_.nri->PodEvent(pb::REMOVE_POD_SANDBOX, PluginPod(*sandbox));
  absl::Status status = co_await std::move(tell);
  if (!status.ok()) LogError("an nri plugin's error", {{"sandbox", sandbox->record.id()}, {"error", status}});
}

Task<void> RuntimeServer::TellStopped(std::shared_ptr<Container> container) {
  if (!PluginsListen() || std::exchange(container->told.stopped, true)) co_return;
  Task<pb::Container> describe = PluginContainer(container);
  pb::Container described = co_await std::move(describe);
  Task<absl::StatusOr<std::vector<pb::ContainerUpdate>>> tell =
      deps_.nri->StopContainer(PluginPod(*container), std::move(described));
  absl::StatusOr<std::vector<pb::ContainerUpdate>> updates = co_await std::move(tell);
  if (!updates.ok()) {
    LogError("an nri plugin's error", {{"container", container->record.id()}, {"error", updates.status()}});
  } else if (!updates->empty()) {
    // Beside this: the container is locked here, and its locks are taken one at a time.
    scope_.Spawn("nri updates", MakePluginUpdates(*std::move(updates)));
  }
}

Task<void> RuntimeServer::MakePluginUpdates(std::vector<pb::ContainerUpdate> updates) {
  Task<absl::StatusOr<std::vector<pb::ContainerUpdate>>> update =
      plugin_runtime_->UpdateContainers(std::move(updates));
  absl::StatusOr<std::vector<pb::ContainerUpdate>> failed = co_await std::move(update);
  if (!failed.ok()) LogWarning("limits not set", {{"error", failed.status()}});
}

Task<void> RuntimeServer::TellRemoved(std::shared_ptr<Container> container) {
  if (!PluginsListen() || std::exchange(container->told.removed, true)) co_return;
  if (container->record.state() != records::CONTAINER_EXITED) {
    Task<void> stopped = TellStopped(container);
    co_await std::move(stopped);
  }
  Task<pb::Container> describe = PluginContainer(container);
  pb::Container described = co_await std::move(describe);
  Task<absl::Status> tell =
      deps_.nri->ContainerEvent(pb::REMOVE_CONTAINER, PluginPod(*container), std::move(described));
  absl::Status status = co_await std::move(tell);
  if (!status.ok())
    LogError("an nri plugin's error", {{"container", container->record.id()}, {"error", status}});
}

Task<absl::Status> RuntimeServer::TellUpdate(std::shared_ptr<Sandbox> sandbox,
                                             v1::UpdatePodSandboxResourcesRequest request) {
  pb::UpdatePodSandboxRequest update;
  *update.mutable_pod() = PluginPod(*sandbox);
  *update.mutable_overhead_linux_resources() = nri::FromCri(request.overhead());
  *update.mutable_linux_resources() = nri::FromCri(request.resources());
  Task<absl::Status> tell = deps_.nri->UpdatePodSandbox(std::move(update));
  absl::Status status = co_await std::move(tell);
  co_return status;
}

Task<void> RuntimeServer::TellUpdated(std::shared_ptr<Sandbox> sandbox) {
  Task<absl::Status> tell = deps_.nri->PodEvent(pb::POST_UPDATE_POD_SANDBOX, PluginPod(*sandbox));
  absl::Status status = co_await std::move(tell);
  if (!status.ok()) LogError("an nri plugin's error", {{"sandbox", sandbox->record.id()}, {"error", status}});
}

Task<absl::Status> RuntimeServer::TellStart(std::shared_ptr<Container> container) {
  Task<pb::Container> describe = PluginContainer(container);
  pb::Container described = co_await std::move(describe);
  Task<absl::Status> tell =
      deps_.nri->ContainerEvent(pb::START_CONTAINER, PluginPod(*container), std::move(described));
  absl::Status status = co_await std::move(tell);
  co_return status;
}

Task<void> RuntimeServer::TellMade(Made what, std::shared_ptr<Container> container) {
  const pb::Event event = what == Made::kCreated   ? pb::POST_CREATE_CONTAINER
                          : what == Made::kStarted ? pb::POST_START_CONTAINER
                                                   : pb::POST_UPDATE_CONTAINER;
  Task<pb::Container> describe = PluginContainer(container);
  pb::Container described = co_await std::move(describe);
  Task<absl::Status> tell = deps_.nri->ContainerEvent(event, PluginPod(*container), std::move(described));
  absl::Status status = co_await std::move(tell);
  if (!status.ok())
    LogError("an nri plugin's error", {{"container", container->record.id()}, {"error", status}});
}

Task<absl::StatusOr<v1::LinuxContainerResources>> RuntimeServer::UpdateByPlugins(
    std::shared_ptr<Container> container, v1::LinuxContainerResources wanted) {
  std::shared_ptr<void> block;
  Task<std::shared_ptr<void>> take = BlockPluginSync();
  block = co_await std::move(take);
  Task<pb::Container> describe = PluginContainer(container);
  pb::Container described = co_await std::move(describe);
  Task<absl::StatusOr<nri::LimitChange>> ask =
      deps_.nri->UpdateContainer(PluginPod(*container), std::move(described), nri::FromCri(wanted));
  absl::StatusOr<nri::LimitChange> change = co_await std::move(ask);
  if (!change.ok()) co_return change.status();
  Task<absl::StatusOr<std::vector<pb::ContainerUpdate>>> others =
      plugin_runtime_->UpdateContainers(std::move(change->updates));
  absl::StatusOr<std::vector<pb::ContainerUpdate>> failed = co_await std::move(others);
  if (!failed.ok()) co_return failed.status();
  if (!change->changed) co_return wanted;
  CO_RETURN_IF_ERROR_SYNC(nri::CheckUpdate(change->resources));
  pb::LinuxMemory* memory = change->resources.mutable_memory();
  const bool own_memory = memory->limit().value() != wanted.memory_limit_in_bytes();
  // The caller's limit of swap is for the caller's of memory.
  if (own_memory && memory->swap().value() == wanted.memory_swap_limit_in_bytes()) memory->clear_swap();
  CO_RETURN_IF_ERROR_SYNC(nri::MergeIntoCri(change->resources, &wanted));
  if (own_memory) SwapWithMemory(container->record, &wanted);
  co_return wanted;
}

Task<absl::StatusOr<std::string>> RuntimeServer::SpecWithDevices(std::shared_ptr<Container> container,
                                                                 std::vector<std::string> added,
                                                                 oci::SpecInput input) {
  CO_ASSIGN_OR_RETURN_SYNC(std::vector<std::string> names, oci::CdiDevicesOf(*input.container));
  for (std::string& name : added) {
    CO_RETURN_IF_ERROR_SYNC(Annotate(oci::CheckCdiDeviceName(name), "adjust.CDI_devices"));
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(std::move(name));
  }
  auto edits = std::make_shared<oci::CdiEdits>();
  auto nodes = std::make_shared<oci::CdiHostNodes>();
  auto look_up = [edits, nodes, names, dirs = options_.cdi_spec_dirs]() -> absl::Status {
    ASSIGN_OR_RETURN(std::vector<oci::CdiFile> files, oci::ReadCdiFiles(dirs));
    ASSIGN_OR_RETURN(*edits, oci::ResolveCdiDevices(files, dirs, names));
    ASSIGN_OR_RETURN(*nodes, oci::LookUpCdiHost(*edits));
    return absl::OkStatus();
  };
  Task<absl::Status> looking = env_.Blocking<absl::Status>(look_up);
  absl::Status status = co_await std::move(looking);
  if (status.ok()) status = oci::ApplyCdiEdits(*edits, *nodes, &input);
  if (!status.ok()) co_return Annotate(status, "adjust.CDI_devices");
  container->record.mutable_user()->mutable_linux()->mutable_supplemental_groups()->Assign(
      input.user.additional_gids.begin(), input.user.additional_gids.end());
  CO_ASSIGN_OR_RETURN_SYNC(oci::SpecOutput spec, oci::GenerateSpec(input));
  Warn(container->record.id(), spec.warnings);
  co_return std::move(spec.config_json);
}

Task<absl::StatusOr<std::string>> RuntimeServer::AdjustByPlugins(std::shared_ptr<Container> container,
                                                                 std::shared_ptr<Sandbox> sandbox,
                                                                 const oci::SpecInput* input,
                                                                 oci::ProcessUser plain_user,
                                                                 std::string config_json) {
  records::Container& record = container->record;
  pb::Container described = PluginContainerOf(record);
  nri::FillFromSpec(config_json, &described);
  container->told.made = true;
  Task<absl::StatusOr<nri::Creation>> ask =
      deps_.nri->CreateContainer(PluginPod(*sandbox), std::move(described));
  absl::StatusOr<nri::Creation> creation = co_await std::move(ask);
  if (!creation.ok()) co_return creation.status();
  const pb::ContainerAdjustment& adjust = creation->adjust;
  if (adjust.ByteSizeLong() != 0) {
    Task<absl::StatusOr<std::string>> apply =
        ApplyPluginAdjustment(container, &adjust, input, std::move(plain_user), std::move(config_json));
    absl::StatusOr<std::string> applied = co_await std::move(apply);
    if (!applied.ok()) co_return Annotate(applied.status(), "nri");
    config_json = *std::move(applied);
  }
  Task<absl::StatusOr<std::vector<pb::ContainerUpdate>>> others =
      plugin_runtime_->UpdateContainers(std::move(creation->updates));
  absl::StatusOr<std::vector<pb::ContainerUpdate>> failed = co_await std::move(others);
  if (!failed.ok()) co_return failed.status();
  co_return config_json;
}

Task<absl::StatusOr<std::string>> RuntimeServer::ApplyPluginAdjustment(std::shared_ptr<Container> container,
                                                                       const pb::ContainerAdjustment* adjust,
                                                                       const oci::SpecInput* input,
                                                                       oci::ProcessUser plain_user,
                                                                       std::string config_json) {
  records::Container& record = container->record;
  if (adjust->cdi_devices_size() > 0) {
    oci::SpecInput anew = *input;
    anew.user = std::move(plain_user);
    anew.cdi_env.clear();
    anew.cdi_devices.clear();
    anew.cdi_mounts.clear();
    anew.cdi_hooks.clear();
    std::vector<std::string> names;
    for (const pb::CDIDevice& device : adjust->cdi_devices()) names.push_back(device.name());
    CO_ASSIGN_OR_RETURN(config_json, SpecWithDevices(container, std::move(names), std::move(anew)));
  }
  std::vector<std::string> warnings;
  if (adjust->linux().has_resources()) {
    v1::LinuxContainerResources limits = record.resources();
    CO_RETURN_IF_ERROR_SYNC(nri::MergeIntoCri(adjust->linux().resources(), &limits));
    CO_ASSIGN_OR_RETURN_SYNC(std::string json, oci::GenerateResources(limits, deps_.host, &warnings));
    CO_ASSIGN_OR_RETURN_SYNC(config_json, oci::ReplaceResources(config_json, json));
    *record.mutable_resources() = std::move(limits);
  }
  pb::ContainerAdjustment plain = *adjust;
  if (plain.linux().has_oom_score_adj()) {
    CO_ASSIGN_OR_RETURN_SYNC(
        int64_t score, oci::ResolveOomScoreAdj(plain.linux().oom_score_adj().value(), deps_.host, &warnings));
    plain.mutable_linux()->mutable_oom_score_adj()->set_value(score);
    record.mutable_resources()->set_oom_score_adj(score);
  }
  Warn(record.id(), warnings);
  nri::SpecFacts facts;
  facts.container_id = record.id();
  facts.systemd_cgroup = deps_.host.systemd_cgroup;
  CO_ASSIGN_OR_RETURN_SYNC(nri::AdjustedSpec adjusted, nri::ApplyAdjustment(config_json, plain, facts));
  auto check = [sources = nri::PropagatedSources(plain)] { return CheckMountPropagation(sources); };
  Task<absl::Status> checking = env_.Blocking<absl::Status>(check);
  absl::Status status = co_await std::move(checking);
  if (!status.ok()) co_return status;
  if (plain.linux().namespaces_size() > 0) record.set_own_pid_namespace(adjusted.own_pid_namespace);
  if (!plain.linux().cgroups_path().empty()) {
    CO_ASSIGN_OR_RETURN_SYNC(std::string cgroup,
                             CgroupOf(adjusted.cgroups_path, record.id(), facts.systemd_cgroup));
    record.set_cgroup_path(cgroup);
  }
  co_return std::move(adjusted.config_json);
}

}  // namespace keelson::cri
