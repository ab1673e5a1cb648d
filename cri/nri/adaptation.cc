#include "cri/nri/adaptation.h"

#include <signal.h>

#include <algorithm>
#include <functional>
#include <utility>

#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"

namespace keelson::cri::nri {

namespace {

class CountedConnection {
 public:
  explicit CountedConnection(size_t* count) : count_(count) {}
  ~CountedConnection() { --*count_; }

 private:
  size_t* count_;
};

// However the synchronization of a plugin ends, others go on.
class AtEnd {
 public:
  explicit AtEnd(std::function<void()> fn) : fn_(std::move(fn)) {}
  ~AtEnd() { fn_(); }

 private:
  std::function<void()> fn_;
};

}  // namespace

Adaptation::Adaptation(Env* env, AdaptationOptions options)
    : env_(env), options_(std::move(options)), scope_(env->executor()) {}

Adaptation::~Adaptation() = default;

Adaptation::SyncBlock::~SyncBlock() {
  if (of_ != nullptr && --of_->blocks_ == 0) of_->blocks_over_.NotifyAll();
}

Task<Adaptation::SyncBlock> Adaptation::BlockSync() {
  while (syncing_) {
    Task<void> wait = sync_over_.Wait();
    co_await std::move(wait);
  }
  ++blocks_;
  co_return SyncBlock(this);
}

void Adaptation::Connect(std::unique_ptr<net::ByteStream> stream) {
  if (connections_ >= kMaxPlugins) {
    LogWarning("an nri plugin is turned away: there are too many", {{"limit", kMaxPlugins}});
    stream->Close();
    return;
  }
  scope_.Spawn("nri plugin", Serve(NewPlugin(std::move(stream), {}), std::make_shared<AsyncEvent>()));
}

std::shared_ptr<Plugin> Adaptation::NewPlugin(std::unique_ptr<net::ByteStream> stream,
                                              PluginIdentity identity) {
  ++connections_;
  auto updates = [this](std::string plugin, pb::UpdateContainersRequest request) {
    return Unsolicited(std::move(plugin), std::move(request));
  };
  return Plugin::Start(env_, &scope_, std::move(stream), options_.timeouts, updates, std::move(identity));
}

Task<void> Adaptation::Start(std::vector<InstalledPlugin> plugins) {
  std::vector<std::shared_ptr<AsyncEvent>> settled;
  for (InstalledPlugin& installed : plugins) {
    absl::StatusOr<LaunchedPlugin> launched = Launch(env_, installed);
    if (!launched.ok()) {
      LogError("an nri plugin is not started", {{"plugin", installed.path}, {"error", launched.status()}});
      continue;
    }
    LogInfo("nri plugin started", {{"plugin", installed.path}, {"pid", launched->process->pid()}});
    std::shared_ptr<Plugin> plugin =
        NewPlugin(std::move(launched->stream),
                  {std::move(installed.index), std::move(installed.name), std::move(installed.config)});
    settled.push_back(std::make_shared<AsyncEvent>());
    scope_.Spawn("nri plugin of ours", Attend(std::move(launched->process), plugin));
    scope_.Spawn("nri plugin", Serve(std::move(plugin), settled.back()));
  }
  for (const auto& event : settled) {
    Task<void> wait = event->Wait();
    co_await std::move(wait);
  }
}

// Its process ends with its session, and the other way round.
Task<void> Adaptation::Attend(std::shared_ptr<ChildProcess> process, std::shared_ptr<Plugin> plugin) {
  AtEnd end([process] { (void)process->Signal(SIGKILL); });
  Task<void> gone = plugin->Gone();
  co_await std::move(gone);
  (void)process->Signal(SIGKILL);
  Task<int> wait = process->Wait();
  co_await std::move(wait);
}

Task<void> Adaptation::Serve(std::shared_ptr<Plugin> plugin, std::shared_ptr<AsyncEvent> settled) {
  CountedConnection counted(&connections_);
  AtEnd settle([settled] { settled->Set(); });
  Task<absl::Status> registering = plugin->Register(options_.runtime_name, options_.runtime_version);
  absl::Status status = co_await std::move(registering);
  if (!status.ok()) {
    LogError("an nri plugin is not registered", {{"plugin", plugin->name()}, {"error", status}});
    co_return;
  }
  Task<absl::Status> synchronizing = Synchronize(plugin);
  status = co_await std::move(synchronizing);
  if (!status.ok()) {
    plugin->Close(status);
    LogError("an nri plugin is not synchronized", {{"plugin", plugin->name()}, {"error", status}});
    co_return;
  }
  settled->Set();
  Task<void> gone = plugin->Gone();
  co_await std::move(gone);
  LogInfo("nri plugin disconnected", {{"plugin", plugin->name()}, {"reason", plugin->reason()}});
  Forget(plugin);
}

Task<absl::StatusOr<std::vector<pb::ContainerUpdate>>> Adaptation::Unsolicited(
    std::string plugin, pb::UpdateContainersRequest request) {
  LogInfo("nri plugin updates containers", {{"plugin", plugin}, {"containers", request.update_size()}});
  if (request.evict_size() > 0) {
    co_return absl::UnimplementedError("evict: this runtime evicts no containers for plugins");
  }
  CO_RETURN_IF_ERROR_SYNC(CheckEntries(request));
  std::vector<pb::ContainerUpdate> updates(request.update().begin(), request.update().end());
  Task<absl::StatusOr<std::vector<pb::ContainerUpdate>>> update =
      runtime_->UpdateContainers(std::move(updates));
  absl::StatusOr<std::vector<pb::ContainerUpdate>> failed = co_await std::move(update);
  co_return failed;
}

void Adaptation::EndSync() {
  syncing_ = false;
  sync_over_.NotifyAll();
}

void Adaptation::Forget(const std::shared_ptr<Plugin>& plugin) { std::erase(plugins_, plugin); }

Task<absl::Status> Adaptation::Synchronize(std::shared_ptr<Plugin> plugin) {
  while (syncing_ || blocks_ > 0) {
    Task<void> wait = syncing_ ? sync_over_.Wait() : blocks_over_.Wait();
    co_await std::move(wait);
  }
  syncing_ = true;
  std::vector<pb::ContainerUpdate> updates;
  {
    AtEnd end([this] { EndSync(); });
    // An event that is under way ends first; it has seen the plugins there are.
    Task<AsyncMutex::Guard> lock = turn_.Lock();
    AsyncMutex::Guard guard = co_await std::move(lock);
    Task<pb::SynchronizeRequest> snapshot = runtime_->Snapshot();
    pb::SynchronizeRequest all = co_await std::move(snapshot);
    Task<absl::StatusOr<std::vector<pb::ContainerUpdate>>> tell = plugin->Synchronize(std::move(all));
    absl::StatusOr<std::vector<pb::ContainerUpdate>> asked = co_await std::move(tell);
    if (!asked.ok()) co_return asked.status();
    updates = *std::move(asked);
    auto after = std::upper_bound(plugins_.begin(), plugins_.end(), plugin,
                                  [](const auto& a, const auto& b) { return a->index() < b->index(); });
    plugins_.insert(after, plugin);
  }
  LogInfo("nri plugin synchronized", {{"plugin", plugin->name()}, {"plugins", plugins_.size()}});
  if (updates.empty()) co_return absl::OkStatus();
  Task<absl::StatusOr<std::vector<pb::ContainerUpdate>>> update =
      runtime_->UpdateContainers(std::move(updates));
  absl::StatusOr<std::vector<pb::ContainerUpdate>> failed = co_await std::move(update);
  if (!failed.ok()) {
    LogWarning("updates that an nri plugin asks for are not made",
               {{"plugin", plugin->name()}, {"error", failed.status()}});
  }
  co_return absl::OkStatus();
}

Task<AsyncMutex::Guard> Adaptation::Turn() {
  // A plugin that is being told what there is gets what comes after.
  while (syncing_) {
    Task<void> wait = sync_over_.Wait();
    co_await std::move(wait);
  }
  Task<AsyncMutex::Guard> lock = turn_.Lock();
  AsyncMutex::Guard guard = co_await std::move(lock);
  co_return guard;
}

Task<absl::Status> Adaptation::RelayToAll(pb::Event event, const google::protobuf::Message* request,
                                          google::protobuf::Message* response) {
  Task<AsyncMutex::Guard> turn = Turn();
  AsyncMutex::Guard guard = co_await std::move(turn);
  const Plugins plugins = plugins_;
  for (const auto& plugin : plugins) {
    Task<absl::Status> relay = plugin->Relay(event, request, response);
    absl::Status status = co_await std::move(relay);
    if (!status.ok()) co_return status;
  }
  co_return absl::OkStatus();
}

Task<absl::Status> Adaptation::PodEvent(pb::Event event, pb::PodSandbox pod) {
  // The requests of pod events have the pod as their field 1.
  pb::RunPodSandboxRequest request;
  *request.mutable_pod() = std::move(pod);
  pb::Empty response;
  Task<absl::Status> relay = RelayToAll(event, &request, &response);
  absl::Status status = co_await std::move(relay);
  co_return status;
}

Task<absl::Status> Adaptation::UpdatePodSandbox(pb::UpdatePodSandboxRequest request) {
  pb::Empty response;
  Task<absl::Status> relay = RelayToAll(pb::UPDATE_POD_SANDBOX, &request, &response);
  absl::Status status = co_await std::move(relay);
  co_return status;
}

Task<absl::Status> Adaptation::ContainerEvent(pb::Event event, pb::PodSandbox pod, pb::Container container) {
  // The requests of container events have pod and container as their fields 1 and 2.
  pb::StartContainerRequest request;
  *request.mutable_pod() = std::move(pod);
  *request.mutable_container() = std::move(container);
  pb::Empty response;
  Task<absl::Status> relay = RelayToAll(event, &request, &response);
  absl::Status status = co_await std::move(relay);
  co_return status;
}

Task<absl::StatusOr<Creation>> Adaptation::CreateContainer(pb::PodSandbox pod, pb::Container container) {
  Task<AsyncMutex::Guard> turn = Turn();
  AsyncMutex::Guard guard = co_await std::move(turn);
  const Plugins plugins = plugins_;
  pb::CreateContainerRequest request;
  *request.mutable_pod() = std::move(pod);
  *request.mutable_container() = std::move(container);
  pb::ValidateContainerAdjustmentRequest validation;
  *validation.mutable_pod() = request.pod();
  *validation.mutable_container() = request.container();
  Changes changes(&request);
  for (const auto& plugin : plugins) {
    pb::PluginInstance* instance = validation.add_plugins();
    instance->set_name(plugin->base_name());
    instance->set_index(plugin->index());
    pb::CreateContainerResponse response;
    Task<absl::Status> relay = plugin->Relay(pb::CREATE_CONTAINER, &request, &response);
    absl::Status status = co_await std::move(relay);
    if (status.ok()) status = changes.Take(response, plugin->name());
    if (!status.ok()) co_return status;
  }
  *validation.mutable_adjust() = changes.adjustment();
  validation.mutable_update()->Assign(changes.updates().begin(), changes.updates().end());
  *validation.mutable_owners() = changes.owners();
  Task<absl::Status> validate = Validate(std::move(validation));
  absl::Status valid = co_await std::move(validate);
  if (!valid.ok()) co_return valid;
  Creation creation;
  creation.adjust = changes.adjustment();
  creation.updates = changes.updates();
  co_return creation;
}

Task<absl::Status> Adaptation::Validate(pb::ValidateContainerAdjustmentRequest request) {
  const Plugins plugins = plugins_;
  for (const auto& plugin : plugins) {
    if (!plugin->Wants(pb::VALIDATE_CONTAINER_ADJUSTMENT)) continue;
    const bool was_there = !plugin->closed();
    pb::ValidateContainerAdjustmentResponse response;
    Task<absl::Status> relay = plugin->Relay(pb::VALIDATE_CONTAINER_ADJUSTMENT, &request, &response);
    absl::Status status = co_await std::move(relay);
    if (!status.ok()) co_return status;
    // One that cannot say no any more has not agreed.
    if (was_there && plugin->closed()) {
      co_return absl::UnavailableError(
          StrCat("nri plugin ", plugin->name(), ": it was lost while it validated the container"));
    }
    if (response.reject()) {
      co_return absl::PermissionDeniedError(
          StrCat("nri plugin ", plugin->name(), " refuses the container's adjustment: ",
                 response.reason().empty() ? "it gives no reason" : response.reason()));
    }
  }
  co_return absl::OkStatus();
}

Task<absl::StatusOr<LimitChange>> Adaptation::UpdateContainer(pb::PodSandbox pod, pb::Container container,
                                                              pb::LinuxResources resources) {
  Task<AsyncMutex::Guard> turn = Turn();
  AsyncMutex::Guard guard = co_await std::move(turn);
  const Plugins plugins = plugins_;
  pb::UpdateContainerRequest request;
  *request.mutable_pod() = std::move(pod);
  *request.mutable_container() = std::move(container);
  *request.mutable_linux_resources() = std::move(resources);
  Changes changes(&request);
  for (const auto& plugin : plugins) {
    pb::UpdateContainerResponse response;
    Task<absl::Status> relay = plugin->Relay(pb::UPDATE_CONTAINER, &request, &response);
    absl::Status status = co_await std::move(relay);
    if (status.ok()) status = changes.Take(response, plugin->name());
    if (!status.ok()) co_return status;
  }
  LimitChange change;
  change.changed = changes.own_limits_changed();
  change.resources = std::move(*request.mutable_linux_resources());
  change.updates = changes.updates();
  co_return change;
}

Task<absl::StatusOr<std::vector<pb::ContainerUpdate>>> Adaptation::StopContainer(pb::PodSandbox pod,
                                                                                 pb::Container container) {
  Task<AsyncMutex::Guard> turn = Turn();
  AsyncMutex::Guard guard = co_await std::move(turn);
  const Plugins plugins = plugins_;
  pb::StopContainerRequest request;
  *request.mutable_pod() = std::move(pod);
  *request.mutable_container() = std::move(container);
  Changes changes;
  for (const auto& plugin : plugins) {
    pb::StopContainerResponse response;
    Task<absl::Status> relay = plugin->Relay(pb::STOP_CONTAINER, &request, &response);
    absl::Status status = co_await std::move(relay);
    if (status.ok()) status = changes.Take(response, plugin->name());
    if (!status.ok()) co_return status;
  }
  co_return changes.updates();
}

Task<void> Adaptation::Close() {
  for (const auto& plugin : plugins_) plugin->Close(absl::CancelledError("the runtime is going down"));
  Task<void> close = scope_.Close();
  co_await std::move(close);
}

}  // namespace keelson::cri::nri
