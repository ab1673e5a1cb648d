#include "cri/nri/plugin.h"

#include <utility>

#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"
#include "net/stream_util.h"

namespace keelson::cri::nri {

namespace {

constexpr int kAllEvents = (1 << (pb::LAST - 1)) - 1;
constexpr size_t kMaxPluginNameBytes = 256;
constexpr char kNriVersion[] = "v0.12.1";  // whose messages these are

// Events whose own call is younger than StateChange.
bool WasStateChange(pb::Event event) {
  switch (event) {
    case pb::RUN_POD_SANDBOX:
    case pb::POST_UPDATE_POD_SANDBOX:
    case pb::STOP_POD_SANDBOX:
    case pb::REMOVE_POD_SANDBOX:
    case pb::POST_CREATE_CONTAINER:
    case pb::START_CONTAINER:
    case pb::POST_START_CONTAINER:
    case pb::POST_UPDATE_CONTAINER:
    case pb::REMOVE_CONTAINER:
      return true;
    default:
      return false;
  }
}

// The pod, and the container where there is one: fields 1 and 2 of every event's request.
pb::StateChangeEvent StateChangeOf(pb::Event event, const google::protobuf::Message& request) {
  pb::StateChangeEvent change;
  change.set_event(event);
  const auto* fields = request.GetDescriptor();
  const auto* reflection = request.GetReflection();
  if (const auto* pod = fields->FindFieldByName("pod"); reflection->HasField(request, pod)) {
    change.mutable_pod()->CopyFrom(reflection->GetMessage(request, pod));
  }
  const auto* container = fields->FindFieldByName("container");
  if (container != nullptr && reflection->HasField(request, container)) {
    change.mutable_container()->CopyFrom(reflection->GetMessage(request, container));
  }
  return change;
}

}  // namespace

absl::Status CheckPluginIndex(std::string_view index) {
  if (index.size() == 2 && index.find_first_not_of("0123456789") == std::string_view::npos) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError("plugin_idx: want two digits");
}

absl::Status CheckPluginName(std::string_view name) {
  constexpr std::string_view kCharacters =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.+";
  if (!name.empty() && name.size() <= kMaxPluginNameBytes &&
      name.find_first_not_of(kCharacters) == std::string_view::npos) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError("plugin_name: want letters, digits and -_.+");
}

std::string_view EventName(pb::Event event) {
  switch (event) {
    case pb::RUN_POD_SANDBOX:
      return "RunPodSandbox";
    case pb::STOP_POD_SANDBOX:
      return "StopPodSandbox";
    case pb::REMOVE_POD_SANDBOX:
      return "RemovePodSandbox";
    case pb::CREATE_CONTAINER:
      return "CreateContainer";
    case pb::POST_CREATE_CONTAINER:
      return "PostCreateContainer";
    case pb::START_CONTAINER:
      return "StartContainer";
    case pb::POST_START_CONTAINER:
      return "PostStartContainer";
    case pb::UPDATE_CONTAINER:
      return "UpdateContainer";
    case pb::POST_UPDATE_CONTAINER:
      return "PostUpdateContainer";
    case pb::STOP_CONTAINER:
      return "StopContainer";
    case pb::REMOVE_CONTAINER:
      return "RemoveContainer";
    case pb::UPDATE_POD_SANDBOX:
      return "UpdatePodSandbox";
    case pb::POST_UPDATE_POD_SANDBOX:
      return "PostUpdatePodSandbox";
    case pb::VALIDATE_CONTAINER_ADJUSTMENT:
      return "ValidateContainerAdjustment";
    default:
      return "";
  }
}

std::vector<pb::SynchronizeRequest> SplitSync(pb::SynchronizeRequest all, size_t max_bytes) {
  std::vector<pb::SynchronizeRequest> out(1);
  size_t bytes = 0;
  auto room_for = [&](const google::protobuf::Message& item) {
    constexpr size_t kTagAndLengthBytes = 8;
    const size_t more = item.ByteSizeLong() + kTagAndLengthBytes;
    if (bytes != 0 && bytes + more > max_bytes) {
      out.back().set_more(true);
      out.emplace_back();
      bytes = 0;
    }
    bytes += more;
    return &out.back();
  };
  for (pb::PodSandbox& pod : *all.mutable_pods()) *room_for(pod)->add_pods() = std::move(pod);
  for (pb::Container& container : *all.mutable_containers()) {
    *room_for(container)->add_containers() = std::move(container);
  }
  return out;
}

std::shared_ptr<Plugin> Plugin::Start(Env* env, Scope* scope, std::unique_ptr<net::ByteStream> stream,
                                      Timeouts timeouts, UnsolicitedUpdates updates,
                                      PluginIdentity identity) {
  std::shared_ptr<Plugin> plugin(new Plugin(env, timeouts, std::move(updates), std::move(identity)));
  std::weak_ptr<Plugin> weak = plugin;
  auto handler = [weak](std::string service, std::string method, std::string payload) {
    return Handle(weak, std::move(service), std::move(method), std::move(payload));
  };
  auto on_close = [weak] {
    std::shared_ptr<Plugin> self = weak.lock();
    if (self == nullptr) return;
    self->registered_.Set();
    self->gone_.Set();
  };
  plugin->connection_ =
      Connection::Start(env, scope, std::move(stream), Connection::Side::kRuntime, handler, on_close);
  return plugin;
}

absl::Status Plugin::TakeRegistration(std::string_view payload) {
  pb::RegisterPluginRequest request;
  if (!request.ParseFromArray(payload.data(), static_cast<int>(payload.size()))) {
    return absl::InvalidArgumentError("RegisterPlugin: the request cannot be read");
  }
  if (!index_.empty()) return absl::FailedPreconditionError("RegisterPlugin: it is registered already");
  if (!identity_.index.empty()) {
    request.set_plugin_idx(identity_.index);
    request.set_plugin_name(identity_.name);
  }
  RETURN_IF_ERROR(Annotate(CheckPluginName(request.plugin_name()), "RegisterPlugin"));
  RETURN_IF_ERROR(Annotate(CheckPluginIndex(request.plugin_idx()), "RegisterPlugin"));
  index_ = request.plugin_idx();
  base_name_ = request.plugin_name();
  LogInfo("nri plugin registered", {{"plugin", name()}, {"nri_version", request.nri_version()}});
  registered_.Set();
  return absl::OkStatus();
}

Task<absl::StatusOr<std::string>> Plugin::Handle(std::weak_ptr<Plugin> weak, std::string service,
                                                 std::string method, std::string payload) {
  std::shared_ptr<Plugin> self = weak.lock();
  if (self == nullptr) co_return absl::UnavailableError("the runtime is going down");
  if (service == kRuntimeService && method == "RegisterPlugin") {
    CO_RETURN_IF_ERROR_SYNC(self->TakeRegistration(payload));
    co_return pb::Empty().SerializeAsString();
  }
  if (service == kRuntimeService && method == "UpdateContainers") {
    if (!self->configured_) co_return absl::FailedPreconditionError("UpdateContainers: register first");
    pb::UpdateContainersRequest request;
    if (!request.ParseFromString(payload)) {
      co_return absl::InvalidArgumentError("UpdateContainers: the request cannot be read");
    }
    Task<absl::StatusOr<std::vector<pb::ContainerUpdate>>> update =
        self->updates_(self->name(), std::move(request));
    absl::StatusOr<std::vector<pb::ContainerUpdate>> failed = co_await std::move(update);
    if (!failed.ok()) co_return failed.status();
    pb::UpdateContainersResponse response;
    for (pb::ContainerUpdate& one : *failed) *response.add_failed() = std::move(one);
    co_return response.SerializeAsString();
  }
  co_return absl::UnimplementedError(StrCat(service, "/", method, ": this runtime does not know that call"));
}

Task<absl::Status> Plugin::Register(std::string runtime_name, std::string runtime_version) {
  std::shared_ptr<Plugin> self = shared_from_this();
  {
    net::OneShotTimer timer(env_->clock(), timeouts_.registration, [self] {
      self->Close(absl::DeadlineExceededError(
          StrCat("it did not register within ", absl::FormatDuration(self->timeouts_.registration))));
    });
    Task<void> wait = registered_.Wait();
    co_await std::move(wait);
  }
  if (closed()) co_return reason();
  pb::ConfigureRequest request;
  request.set_config(identity_.config);
  request.set_runtime_name(std::move(runtime_name));
  request.set_runtime_version(std::move(runtime_version));
  request.set_registration_timeout(absl::ToInt64Milliseconds(timeouts_.registration));
  request.set_request_timeout(absl::ToInt64Milliseconds(timeouts_.request));
  request.set_nri_version(kNriVersion);
  pb::ConfigureResponse response;
  bool lost = false;
  Task<absl::Status> configure = Call("Configure", &request, &response, &lost);
  absl::Status status = co_await std::move(configure);
  events_ = response.events() == 0 ? kAllEvents : response.events();
  if (status.ok() && (events_ & ~kAllEvents) != 0) {
    status = absl::InvalidArgumentError(StrCat("Configure: it wants events that do not exist: ", events_));
  }
  if (!status.ok()) Close(status);
  configured_ = status.ok();
  co_return status;
}

Task<absl::StatusOr<std::vector<pb::ContainerUpdate>>> Plugin::Synchronize(pb::SynchronizeRequest all) {
  std::shared_ptr<Plugin> self = shared_from_this();
  std::vector<pb::ContainerUpdate> updates;
  std::vector<pb::SynchronizeRequest> parts = SplitSync(std::move(all), kMaxSyncBytes);
  for (const pb::SynchronizeRequest& part : parts) {
    pb::SynchronizeResponse response;
    bool lost = false;
    Task<absl::Status> call = Call("Synchronize", &part, &response, &lost);
    absl::Status status = co_await std::move(call);
    // Before it knows all, a plugin can only say that it waits for the rest.
    if (status.ok() && part.more() && (!response.more() || response.update_size() > 0)) {
      status =
          absl::UnimplementedError("Synchronize: it cannot take pods and containers in several messages");
    }
    if (!status.ok()) {
      Close(status);
      co_return status;
    }
    for (pb::ContainerUpdate& update : *response.mutable_update()) updates.push_back(std::move(update));
  }
  co_return updates;
}

Task<void> Plugin::Gone() {
  std::shared_ptr<Plugin> self = shared_from_this();
  Task<void> wait = gone_.Wait();
  co_await std::move(wait);
}

Task<absl::Status> Plugin::Call(std::string method, const google::protobuf::Message* request,
                                google::protobuf::Message* response, bool* lost) {
  std::shared_ptr<Plugin> self = shared_from_this();
  Task<CallResult> call =
      Connection::Call(connection_, kPluginService, method, request->SerializeAsString(), timeouts_.request);
  CallResult result = co_await std::move(call);
  *lost = !result.answered;
  if (!result.status.ok()) co_return result.status;
  if (!response->ParseFromString(result.payload)) {
    absl::Status status = absl::InvalidArgumentError(StrCat(method, ": the answer cannot be read"));
    Close(status);
    *lost = true;
    co_return status;
  }
  co_return absl::OkStatus();
}

Task<absl::Status> Plugin::Relay(pb::Event event, const google::protobuf::Message* request,
                                 google::protobuf::Message* response) {
  std::shared_ptr<Plugin> self = shared_from_this();
  if (closed() || !Wants(event)) co_return absl::OkStatus();
  bool lost = false;
  Task<absl::Status> call = Call(std::string(EventName(event)), request, response, &lost);
  absl::Status status = co_await std::move(call);
  if (absl::IsUnimplemented(status) && !lost && WasStateChange(event)) {
    const pb::StateChangeEvent change = StateChangeOf(event, *request);
    pb::Empty empty;
    Task<absl::Status> older = Call("StateChange", &change, &empty, &lost);
    status = co_await std::move(older);
  }
  if (lost) {
    LogError("nri plugin is given up", {{"plugin", name()}, {"event", EventName(event)}, {"error", status}});
    response->Clear();
    co_return absl::OkStatus();
  }
  co_return Annotate(status, StrCat("nri plugin ", name(), ": ", EventName(event)));
}

}  // namespace keelson::cri::nri
