#include "cri/nri/testing/test_plugin.h"

#include <algorithm>
#include <utility>

#include "base/status.h"
#include "base/strings.h"

namespace keelson::cri::nri {

namespace {

constexpr absl::Duration kCallLimit = absl::Seconds(60);

template <class Message>
Message Parse(const std::string& payload) {
  Message message;
  (void)message.ParseFromString(payload);
  return message;
}

}  // namespace

void TestPlugin::Connect(Scope* scope, std::unique_ptr<net::ByteStream> stream) {
  auto handler = [this](std::string service, std::string method, std::string payload) {
    return Answer(std::move(service), std::move(method), std::move(payload));
  };
  connection_ =
      Connection::Start(env_, scope, std::move(stream), Connection::Side::kPlugin, handler, nullptr);
  if (registers) scope->Spawn("test plugin registers", Register());
}

void TestPlugin::Disconnect() {
  if (connection_ != nullptr) connection_->Close(absl::UnavailableError("the test ends it"));
}

Task<CallResult> TestPlugin::Call(std::string method, std::string payload) {
  return Connection::Call(connection_, kRuntimeService, std::move(method), std::move(payload), kCallLimit);
}

Task<void> TestPlugin::Register() {
  pb::RegisterPluginRequest request;
  request.set_plugin_idx(index_);
  request.set_plugin_name(name_);
  Task<CallResult> call = Call("RegisterPlugin", request.SerializeAsString());
  CallResult result = co_await std::move(call);
  registration = result.status;
}

size_t TestPlugin::Count(const std::string& text) const {
  return static_cast<size_t>(std::count(told.begin(), told.end(), text));
}

void TestPlugin::Note(const std::string& method, const pb::PodSandbox& pod, const pb::Container* container) {
  told.push_back(container == nullptr ? StrCat(method, " ", pod.name())
                                      : StrCat(method, " ", pod.name(), "/", container->name()));
  ids[method].push_back(container == nullptr ? pod.id() : container->id());
  last_pod = pod;
  if (container != nullptr) last_container = *container;
  if (on_told) on_told();
}

Task<absl::StatusOr<std::string>> TestPlugin::Answer(std::string service, std::string method,
                                                     std::string payload) {
  if (service != kPluginService) co_return absl::UnimplementedError(service);
  absl::StatusOr<std::string> reply = Reply(method, payload);
  auto hold = holds.find(method);
  if (hold != holds.end()) {
    std::shared_ptr<AsyncEvent> event = hold->second;
    Task<void> wait = event->Wait();
    co_await std::move(wait);
  }
  auto error = errors.find(method);
  if (error != errors.end()) {
    auto times = error_times.find(method);
    if (times == error_times.end() || times->second-- > 0) co_return error->second;
  }
  co_return reply;
}

absl::StatusOr<std::string> TestPlugin::Reply(const std::string& method, const std::string& payload) {
  if (method == "Configure") {
    configuration = Parse<pb::ConfigureRequest>(payload);
    pb::ConfigureResponse response;
    response.set_events(events);
    return response.SerializeAsString();
  }
  if (method == "Synchronize") {
    auto request = Parse<pb::SynchronizeRequest>(payload);
    ++sync_messages;
    pb::SynchronizeResponse response;
    response.set_more(takes_parts && request.more());
    synchronized = !request.more();
    known.MergeFrom(request);
    if (synchronized) response.mutable_update()->Assign(updates_at_sync.begin(), updates_at_sync.end());
    return response.SerializeAsString();
  }
  if (method.find("PodSandbox") != std::string::npos) {
    Note(method, Parse<pb::RunPodSandboxRequest>(payload).pod(), nullptr);
    return "";
  }
  if (method == "StateChange") {
    auto change = Parse<pb::StateChangeEvent>(payload);
    Note(StrCat("StateChange:", EventName(change.event())), change.pod(),
         change.has_container() ? &change.container() : nullptr);
    return "";
  }
  if (method == "ValidateContainerAdjustment") {
    auto request = Parse<pb::ValidateContainerAdjustmentRequest>(payload);
    Note(method, request.pod(), &request.container());
    return on_validate ? on_validate(request).SerializeAsString() : "";
  }
  auto request = Parse<pb::StartContainerRequest>(payload);
  Note(method, request.pod(), &request.container());
  if (method == "CreateContainer" && on_create) {
    return on_create(Parse<pb::CreateContainerRequest>(payload)).SerializeAsString();
  }
  if (method == "UpdateContainer" && on_update) {
    return on_update(Parse<pb::UpdateContainerRequest>(payload)).SerializeAsString();
  }
  if (method == "StopContainer" && on_stop) {
    return on_stop(Parse<pb::StopContainerRequest>(payload)).SerializeAsString();
  }
  return "";
}

}  // namespace keelson::cri::nri
