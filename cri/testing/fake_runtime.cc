#include "cri/testing/fake_runtime.h"

#include <absl/strings/match.h>
#include <absl/strings/str_format.h>

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/status.h"
#include "cri/testing/fake_runtime_state.h"

namespace keelson::cri {

namespace {

v1::RuntimeCondition Condition(std::string type, bool status, std::string reason, std::string message) {
  v1::RuntimeCondition condition;
  condition.set_type(std::move(type));
  condition.set_status(status);
  condition.set_reason(std::move(reason));
  condition.set_message(std::move(message));
  return condition;
}

}  // namespace

FakeRuntime::FakeRuntime(Env& env, FakeRuntimeOptions options) : env_(env), options_(std::move(options)) {
  SetCondition("RuntimeReady", true);
  SetCondition("NetworkReady", true);
}

FakeRuntime::~FakeRuntime() { *alive_ = false; }

// ---- faults and time ----

void FakeRuntime::FailCall(std::string_view rpc, int nth, absl::Status status, bool after_effect) {
  KEELSON_CHECK(nth >= 1, "FailCall counts from 1");
  Fault fault;
  fault.status = std::move(status);
  fault.after_effect = after_effect;
  faults_[std::string(rpc)].emplace_back(calls(rpc) + nth, std::move(fault));
}

void FakeRuntime::SlowCalls(std::string_view rpc, absl::Duration delay, int calls) {
  slow_[std::string(rpc)] = {calls, delay};
}

Fault FakeRuntime::NextFault(const std::string& rpc) {
  int number = ++calls_[rpc];
  Fault fault;
  bool found = false;
  auto& planned = faults_[rpc];
  for (auto it = planned.begin(); it != planned.end(); ++it) {
    if (it->first != number) continue;
    fault = std::move(it->second);
    planned.erase(it);
    found = true;
    break;
  }
  if (!found && fault_hook_) fault = fault_hook_(rpc);
  auto slow = slow_.find(rpc);
  if (slow != slow_.end() && slow->second.first > 0) {
    --slow->second.first;
    fault.delay += slow->second.second;
  }
  return fault;
}

// A sleep that a crash of the runtime ends.
Task<absl::Status> FakeRuntime::Delay(absl::Duration duration) {
  uint64_t epoch = epoch_;
  auto wake = std::make_shared<AsyncEvent>();
  struct Registration {
    FakeRuntime* fake;
    std::list<AsyncEvent*>::iterator entry;
    uint64_t timer;
    ~Registration() {
      fake->env_.clock().CancelTimer(timer);
      fake->delays_.erase(entry);
    }
  };
  delays_.push_back(wake.get());
  uint64_t timer = env_.clock().Schedule(duration, [wake] { wake->Set(); });
  Registration registration{this, std::prev(delays_.end()), timer};
  Task<void> wait = wake->Wait();
  co_await std::move(wait);
  if (epoch != epoch_ || !up_) co_return absl::UnavailableError("the runtime went away during the call");
  co_return absl::OkStatus();
}

Task<absl::Status> FakeRuntime::Arrive(std::string rpc, absl::Duration latency, std::shared_ptr<Fate> fate) {
  Fault fault = NextFault(rpc);
  if (!up_) co_return absl::UnavailableError("the runtime is down");
  absl::Duration delay = latency + fault.delay;
  if (delay > absl::ZeroDuration()) {
    Task<absl::Status> sleep = Delay(delay);
    absl::Status slept = co_await std::move(sleep);
    if (!slept.ok()) co_return slept;
  }
  if (!fault.status.ok() && !fault.after_effect) co_return fault.status;
  fate->lost_answer = fault.status;
  co_return absl::OkStatus();
}

void FakeRuntime::Crash() {
  up_ = false;
  ++epoch_;
  for (AsyncEvent* wake : delays_) wake->Set();
  for (auto& weak : subscriptions_) {
    if (auto subscription = weak.lock()) subscription->events.Close();
  }
  subscriptions_.clear();
  for (auto& container : containers_) {  // ends the waits in StopContainer
    std::shared_ptr<AsyncEvent> waited = std::exchange(container->exited, std::make_shared<AsyncEvent>());
    waited->Set();
  }
}

void FakeRuntime::Reboot() {
  Crash();
  for (auto& container : containers_) {
    if (container->status.state() == v1::CONTAINER_RUNNING) MarkExited(*container, 255, "Unknown", "");
  }
  for (auto& sandbox : sandboxes_) sandbox->status.set_state(v1::SANDBOX_NOTREADY);
}

// ---- what the test programs and reads ----

void FakeRuntime::SetCondition(std::string type, bool status, std::string reason, std::string message) {
  auto condition = Condition(type, status, std::move(reason), std::move(message));
  conditions_[type] = std::move(condition);
}

void FakeRuntime::SetContainerStats(std::string_view container_id, v1::ContainerStats stats) {
  Container* container = Find(container_id);
  KEELSON_CHECK(container != nullptr, "no container ", container_id);
  container->stats = std::move(stats);
  container->has_stats = true;
}

bool FakeRuntime::ExitContainer(std::string_view container_id, int exit_code, std::string reason,
                                std::string message) {
  Container* container = Find(container_id);
  if (container == nullptr || container->status.state() != v1::CONTAINER_RUNNING) return false;
  if (reason.empty()) reason = exit_code == 0 ? "Completed" : "Error";
  MarkExited(*container, exit_code, std::move(reason), std::move(message));
  return true;
}

bool FakeRuntime::KillSandbox(std::string_view sandbox_id) {
  Sandbox* sandbox = FindSandbox(sandbox_id);
  if (sandbox == nullptr || sandbox->status.state() != v1::SANDBOX_READY) return false;
  StopSandbox(*sandbox);
  return true;
}

std::vector<v1::PodSandboxStatus> FakeRuntime::Sandboxes() const {
  std::vector<v1::PodSandboxStatus> all;
  for (const auto& sandbox : sandboxes_) all.push_back(sandbox->status);
  return all;
}

std::vector<v1::ContainerStatus> FakeRuntime::Containers() const {
  std::vector<v1::ContainerStatus> all;
  for (const auto& container : containers_) all.push_back(container->status);
  return all;
}

std::optional<v1::ContainerStatus> FakeRuntime::FindContainer(std::string_view container_id) const {
  Container* container = Find(container_id);
  if (container == nullptr) return std::nullopt;
  return container->status;
}

std::string FakeRuntime::ContainerId(std::string_view pod_namespace, std::string_view pod_name,
                                     std::string_view container_name) const {
  for (auto it = containers_.rbegin(); it != containers_.rend(); ++it) {
    const Container& container = **it;
    if (container.config.metadata().name() != container_name) continue;
    const Sandbox* sandbox = FindSandbox(container.sandbox_id);
    if (sandbox == nullptr) continue;
    const auto& metadata = sandbox->config.metadata();
    if (metadata.name() == pod_name && metadata.namespace_() == pod_namespace) return container.status.id();
  }
  return "";
}

std::optional<v1::ContainerConfig> FakeRuntime::Config(std::string_view container_id) const {
  Container* container = Find(container_id);
  if (container == nullptr) return std::nullopt;
  return container->config;
}

std::optional<v1::PodSandboxConfig> FakeRuntime::SandboxConfig(std::string_view sandbox_id) const {
  Sandbox* sandbox = FindSandbox(sandbox_id);
  if (sandbox == nullptr) return std::nullopt;
  return sandbox->config;
}

std::string FakeRuntime::SandboxOf(std::string_view container_id) const {
  Container* container = Find(container_id);
  return container == nullptr ? "" : container->sandbox_id;
}

int FakeRuntime::calls(std::string_view rpc) const {
  auto it = calls_.find(rpc);
  return it == calls_.end() ? 0 : it->second;
}

absl::Status FakeRuntime::CheckInvariants() const {
  std::map<std::string, std::string> ready;                            // pod UID -> sandbox
  std::map<std::pair<std::string, std::string>, std::string> running;  // (pod UID, name) -> container
  for (const auto& sandbox : sandboxes_) {
    if (sandbox->status.state() != v1::SANDBOX_READY) continue;
    const auto& metadata = sandbox->config.metadata();
    auto [it, fresh] = ready.emplace(metadata.uid(), sandbox->status.id());
    if (!fresh) {
      return absl::InternalError(absl::StrCat("pod ", metadata.namespace_(), "/", metadata.name(),
                                              " has two ready sandboxes: ", it->second, " and ",
                                              sandbox->status.id()));
    }
  }
  for (const auto& container : containers_) {
    if (container->status.state() != v1::CONTAINER_RUNNING) continue;
    const Sandbox* sandbox = FindSandbox(container->sandbox_id);
    if (sandbox == nullptr) {
      return absl::InternalError(
          absl::StrCat("container ", container->status.id(), " runs without a sandbox"));
    }
    const auto& metadata = sandbox->config.metadata();
    auto key = std::make_pair(metadata.uid(), container->config.metadata().name());
    auto [it, fresh] = running.emplace(key, container->status.id());
    if (!fresh) {
      return absl::InternalError(absl::StrCat("container ", key.second, " of pod ", metadata.namespace_(),
                                              "/", metadata.name(), " runs twice: ", it->second, " and ",
                                              container->status.id()));
    }
  }
  return absl::OkStatus();
}

void FakeRuntime::Misuse(std::string what) {
  KEELSON_CHECK(!options_.abort_on_misuse, "misuse of the runtime: ", what);
  misuses_.push_back(std::move(what));
}

// ---- records ----

FakeRuntime::Sandbox* FakeRuntime::FindSandbox(std::string_view id) const {
  for (const auto& sandbox : sandboxes_) {
    if (sandbox->status.id() == id) return sandbox.get();
  }
  return nullptr;
}

FakeRuntime::Container* FakeRuntime::Find(std::string_view id) const {
  for (const auto& container : containers_) {
    if (container->status.id() == id) return container.get();
  }
  return nullptr;
}

std::string FakeRuntime::NewId() {
  std::string id;
  for (int i = 0; i < 4; ++i) absl::StrAppend(&id, absl::Hex(env_.random().Next(), absl::kZeroPad16));
  return id;
}

int64_t FakeRuntime::NowNs() const { return absl::ToUnixNanos(env_.clock().Now()); }

void FakeRuntime::MarkExited(Container& container, int exit_code, std::string reason, std::string message) {
  auto& status = container.status;
  status.set_state(v1::CONTAINER_EXITED);
  status.set_finished_at(NowNs());
  status.set_exit_code(exit_code);
  status.set_reason(std::move(reason));
  status.set_message(std::move(message));
  container.exited->Set();
  if (const Sandbox* sandbox = FindSandbox(container.sandbox_id)) {
    Publish(v1::CONTAINER_STOPPED_EVENT, status.id(), *sandbox);
  }
}

void FakeRuntime::Publish(v1::ContainerEventType type, const std::string& id, const Sandbox& sandbox) {
  if (!up_ || subscriptions_.empty()) return;
  v1::ContainerEventResponse event;
  event.set_container_id(id);
  event.set_container_event_type(type);
  event.set_created_at(NowNs());
  *event.mutable_pod_sandbox_status() = sandbox.status;
  for (const auto& container : containers_) {
    if (container->sandbox_id == sandbox.status.id()) *event.add_containers_statuses() = container->status;
  }
  for (auto it = subscriptions_.begin(); it != subscriptions_.end();) {
    auto subscription = it->lock();
    if (subscription == nullptr || !subscription->events.TryPush(event)) {
      if (subscription != nullptr) subscription->events.Close();
      it = subscriptions_.erase(it);
    } else {
      ++it;
    }
  }
}

// ---- events ----

class FakeRuntime::EventReader : public ContainerEventReader {
 public:
  explicit EventReader(std::shared_ptr<Subscription> subscription) : subscription_(std::move(subscription)) {}

  Task<absl::StatusOr<std::optional<v1::ContainerEventResponse>>> Next() override {
    return Pop(subscription_);
  }

 private:
  static Task<absl::StatusOr<std::optional<v1::ContainerEventResponse>>> Pop(
      std::shared_ptr<Subscription> subscription) {
    Task<std::optional<v1::ContainerEventResponse>> pop = subscription->events.Pop();
    std::optional<v1::ContainerEventResponse> event = co_await std::move(pop);
    co_return event;
  }

  std::shared_ptr<Subscription> subscription_;
};

Task<absl::StatusOr<std::unique_ptr<ContainerEventReader>>> FakeRuntime::GetContainerEvents(
    v1::GetEventsRequest request) {
  auto fate = std::make_shared<Fate>();
  Task<absl::Status> arrive = Arrive("GetContainerEvents", absl::ZeroDuration(), fate);
  absl::Status arrived = co_await std::move(arrive);
  if (!arrived.ok()) co_return arrived;
  if (!fate->lost_answer.ok()) co_return fate->lost_answer;
  if (!options_.supports_events) co_return absl::UnimplementedError("unknown method GetContainerEvents");
  auto subscription = std::make_shared<Subscription>();
  subscriptions_.push_back(subscription);
  std::unique_ptr<ContainerEventReader> reader = std::make_unique<EventReader>(subscription);
  co_return reader;
}

// ---- runtime ----

absl::StatusOr<v1::VersionResponse> FakeRuntime::DoVersion(const v1::VersionRequest&) {
  v1::VersionResponse response;
  response.set_version("0.1.0");
  response.set_runtime_name(options_.runtime_name);
  response.set_runtime_version(options_.runtime_version);
  response.set_runtime_api_version("v1");
  return response;
}

absl::StatusOr<v1::StatusResponse> FakeRuntime::DoStatus(const v1::StatusRequest& request) {
  v1::StatusResponse response;
  for (const auto& [type, condition] : conditions_) *response.mutable_status()->add_conditions() = condition;
  v1::RuntimeHandler* handler = response.add_runtime_handlers();
  handler->set_name("");
  handler->mutable_features()->set_user_namespaces(user_namespaces_);
  handler->mutable_features()->set_recursive_read_only_mounts(recursive_read_only_);
  if (request.verbose())
    response.mutable_info()->insert(options_.status_info.begin(), options_.status_info.end());
  return response;
}

absl::StatusOr<v1::UpdateRuntimeConfigResponse> FakeRuntime::DoUpdateRuntimeConfig(
    const v1::UpdateRuntimeConfigRequest& request) {
  const std::string& cidr = request.runtime_config().network_config().pod_cidr();
  if (!cidr.empty() && cidr != options_.pod_cidr) {
    options_.pod_cidr = cidr;
    next_host_ = 1;
  }
  return v1::UpdateRuntimeConfigResponse();
}

absl::StatusOr<v1::RuntimeConfigResponse> FakeRuntime::DoRuntimeConfig(const v1::RuntimeConfigRequest&) {
  if (!options_.supports_runtime_config) return absl::UnimplementedError("unknown method RuntimeConfig");
  v1::RuntimeConfigResponse response;
  response.mutable_linux()->set_cgroup_driver(options_.cgroup_driver);
  return response;
}

// ---- the RPCs ----

absl::Duration FakeRuntime::LatencyOf(std::string_view rpc) const {
  if (rpc == "RunPodSandbox") return options_.run_sandbox_latency;
  if (rpc == "CreateContainer") return options_.create_latency;
  if (rpc == "StartContainer") return options_.start_latency;
  return absl::ZeroDuration();
}

#define KEELSON_FAKE_RPC_(Rpc, Request, Response)                                      \
  Task<absl::StatusOr<v1::Response>> FakeRuntime::Rpc(v1::Request request) {           \
    return Serve<v1::Request, v1::Response>(#Rpc, LatencyOf(#Rpc), std::move(request), \
                                            &FakeRuntime::Do##Rpc);                    \
  }
KEELSON_CRI_RUNTIME_UNARY_RPCS(KEELSON_FAKE_RPC_)
KEELSON_CRI_RUNTIME_STREAM_RPCS(KEELSON_FAKE_RPC_)
KEELSON_CRI_IMAGE_UNARY_RPCS(KEELSON_FAKE_RPC_)
KEELSON_CRI_IMAGE_STREAM_RPCS(KEELSON_FAKE_RPC_)
#undef KEELSON_FAKE_RPC_

}  // namespace keelson::cri
