// FakeRuntime: sandboxes, containers, exec, stats.
#include <absl/strings/match.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_split.h>

#include <algorithm>

#include "base/log.h"
#include "cri/testing/fake_runtime_state.h"

namespace keelson::cri {

namespace {

absl::Status NoSandbox(const std::string& id) {
  return absl::NotFoundError(absl::StrCat("sandbox \"", id, "\": not found"));
}
absl::Status NoContainer(const std::string& id) {
  return absl::NotFoundError(absl::StrCat("container \"", id, "\": not found"));
}

template <class Map>
bool LabelsMatch(const Map& selector, const Map& labels) {
  return std::all_of(selector.begin(), selector.end(), [&](const auto& pair) {
    auto it = labels.find(pair.first);
    return it != labels.end() && it->second == pair.second;
  });
}

// What a filter's ID selects: "" everything, else the full ID the (possibly shortened) one stands for. An
// unknown or ambiguous one selects nothing.
template <class Records>
std::string ResolveId(const Records& records, const std::string& wanted) {
  std::string match;
  for (const auto& record : records) {
    const std::string& id = record->status.id();
    if (id == wanted) return id;
    if (!absl::StartsWith(id, wanted)) continue;
    if (!match.empty()) return wanted;
    match = id;
  }
  return match.empty() ? wanted : match;
}

v1::PodSandbox Summary(const v1::PodSandboxStatus& status) {
  v1::PodSandbox item;
  item.set_id(status.id());
  *item.mutable_metadata() = status.metadata();
  item.set_state(status.state());
  item.set_created_at(status.created_at());
  *item.mutable_labels() = status.labels();
  *item.mutable_annotations() = status.annotations();
  item.set_runtime_handler(status.runtime_handler());
  return item;
}

}  // namespace

// ---- sandboxes ----

bool FakeRuntime::IpInUse(const std::string& ip) const {
  return std::any_of(sandboxes_.begin(), sandboxes_.end(), [&](const auto& sandbox) {
    return sandbox->status.state() == v1::SANDBOX_READY && sandbox->status.network().ip() == ip;
  });
}

std::string FakeRuntime::NextIp() {
  std::vector<std::string> halves = absl::StrSplit(options_.pod_cidr, '/');
  std::vector<std::string> bytes = absl::StrSplit(halves[0], '.');
  int prefix_bits = 0;
  KEELSON_CHECK(halves.size() == 2 && bytes.size() == 4 && absl::SimpleAtoi(halves[1], &prefix_bits) &&
                    prefix_bits >= 8 && prefix_bits <= 30,
                "pod CIDR of the fake runtime: ", options_.pod_cidr);
  uint32_t base = 0;
  for (const auto& byte : bytes) base = base << 8 | static_cast<uint32_t>(std::stoul(byte));
  uint32_t hosts = (1u << (32 - prefix_bits)) - 2;
  for (uint32_t tries = 0; tries < hosts; ++tries) {
    next_host_ = next_host_ >= hosts ? 2 : next_host_ + 1;  // .1 is the gateway
    uint32_t ip = base + next_host_;
    std::string text = absl::StrCat(ip >> 24, ".", ip >> 16 & 255, ".", ip >> 8 & 255, ".", ip & 255);
    if (!IpInUse(text)) return text;
  }
  return "";
}

absl::StatusOr<v1::RunPodSandboxResponse> FakeRuntime::DoRunPodSandbox(
    const v1::RunPodSandboxRequest& request) {
  const auto& config = request.config();
  const auto& metadata = config.metadata();
  if (metadata.name().empty() || metadata.uid().empty() || metadata.namespace_().empty()) {
    return absl::InvalidArgumentError("sandbox config must include metadata with name, uid and namespace");
  }
  if (!config.hostname().empty() &&
      config.linux().security_context().namespace_options().network() == v1::NODE) {
    return absl::UnknownError("unable to set hostname without a private UTS namespace");
  }
  for (const auto& other : sandboxes_) {
    const auto& taken = other->config.metadata();
    if (taken.name() == metadata.name() && taken.namespace_() == metadata.namespace_() &&
        taken.uid() == metadata.uid() && taken.attempt() == metadata.attempt()) {
      return absl::AlreadyExistsError(absl::StrCat(
          "failed to reserve sandbox name \"", metadata.name(), "_", metadata.namespace_(), "_",
          metadata.uid(), "_", metadata.attempt(), "\": reserved for \"", other->status.id(), "\""));
    }
  }
  auto sandbox = std::make_unique<Sandbox>();
  sandbox->config = config;
  auto& status = sandbox->status;
  const auto& namespaces = config.linux().security_context().namespace_options();
  if (namespaces.network() != v1::NODE) {
    std::string ip = NextIp();
    if (ip.empty()) return absl::InternalError(absl::StrCat("no free address in ", options_.pod_cidr));
    status.mutable_network()->set_ip(ip);
  }
  status.set_id(NewId());
  *status.mutable_metadata() = metadata;
  status.set_state(v1::SANDBOX_READY);
  status.set_created_at(NowNs());
  *status.mutable_linux()->mutable_namespaces()->mutable_options() = namespaces;
  *status.mutable_labels() = config.labels();
  *status.mutable_annotations() = config.annotations();
  status.set_runtime_handler(request.runtime_handler());
  sandboxes_.push_back(std::move(sandbox));
  const Sandbox& stored = *sandboxes_.back();
  Publish(v1::CONTAINER_CREATED_EVENT, stored.status.id(), stored);
  Publish(v1::CONTAINER_STARTED_EVENT, stored.status.id(), stored);
  v1::RunPodSandboxResponse response;
  response.set_pod_sandbox_id(stored.status.id());
  return response;
}

void FakeRuntime::StopSandbox(Sandbox& sandbox) {
  for (auto& container : containers_) {
    if (container->sandbox_id == sandbox.status.id() && container->status.state() == v1::CONTAINER_RUNNING) {
      MarkExited(*container, kKilledExitCode, "Error", "");
    }
  }
  if (sandbox.status.state() == v1::SANDBOX_NOTREADY) return;
  sandbox.status.set_state(v1::SANDBOX_NOTREADY);
  sandbox.status.clear_network();
  Publish(v1::CONTAINER_STOPPED_EVENT, sandbox.status.id(), sandbox);
}

absl::StatusOr<v1::StopPodSandboxResponse> FakeRuntime::DoStopPodSandbox(
    const v1::StopPodSandboxRequest& request) {
  Sandbox* sandbox = FindSandbox(request.pod_sandbox_id());
  if (sandbox == nullptr) return NoSandbox(request.pod_sandbox_id());  // as containerd 1.6
  StopSandbox(*sandbox);
  return v1::StopPodSandboxResponse();
}

absl::StatusOr<v1::RemovePodSandboxResponse> FakeRuntime::DoRemovePodSandbox(
    const v1::RemovePodSandboxRequest& request) {
  Sandbox* sandbox = FindSandbox(request.pod_sandbox_id());
  if (sandbox == nullptr) return v1::RemovePodSandboxResponse();
  StopSandbox(*sandbox);
  std::vector<std::string> ids;
  for (const auto& container : containers_) {
    if (container->sandbox_id == sandbox->status.id()) ids.push_back(container->status.id());
  }
  for (const auto& id : ids) DropContainer(id);
  auto entry =
      std::find_if(sandboxes_.begin(), sandboxes_.end(), [&](const auto& s) { return s.get() == sandbox; });
  std::unique_ptr<Sandbox> gone = std::move(*entry);
  sandboxes_.erase(entry);
  Publish(v1::CONTAINER_DELETED_EVENT, gone->status.id(), *gone);
  return v1::RemovePodSandboxResponse();
}

absl::StatusOr<v1::PodSandboxStatusResponse> FakeRuntime::DoPodSandboxStatus(
    const v1::PodSandboxStatusRequest& request) {
  Sandbox* sandbox = FindSandbox(request.pod_sandbox_id());
  if (sandbox == nullptr) return NoSandbox(request.pod_sandbox_id());
  v1::PodSandboxStatusResponse response;
  *response.mutable_status() = sandbox->status;
  response.set_timestamp(NowNs());
  if (options_.supports_events) {  // runtimes with events send the containers along
    for (const auto& container : containers_) {
      if (container->sandbox_id == sandbox->status.id())
        *response.add_containers_statuses() = container->status;
    }
  }
  return response;
}

absl::StatusOr<v1::ListPodSandboxResponse> FakeRuntime::DoListPodSandbox(
    const v1::ListPodSandboxRequest& request) {
  const auto& filter = request.filter();
  std::string id = filter.id().empty() ? "" : ResolveId(sandboxes_, filter.id());
  v1::ListPodSandboxResponse response;
  for (const auto& sandbox : sandboxes_) {
    const auto& status = sandbox->status;
    if (!id.empty() && status.id() != id) continue;
    if (filter.has_state() && filter.state().state() != status.state()) continue;
    if (!LabelsMatch(filter.label_selector(), status.labels())) continue;
    *response.add_items() = Summary(status);
  }
  return response;
}

absl::StatusOr<v1::StreamPodSandboxesResponse> FakeRuntime::DoStreamPodSandboxes(
    const v1::StreamPodSandboxesRequest& request) {
  if (!options_.supports_stream_lists) return absl::UnimplementedError("unknown method StreamPodSandboxes");
  v1::ListPodSandboxRequest list;
  *list.mutable_filter() = request.filter();
  auto items = DoListPodSandbox(list);
  v1::StreamPodSandboxesResponse response;
  *response.mutable_pod_sandboxes() = std::move(*items->mutable_items());
  return response;
}

absl::StatusOr<v1::UpdatePodSandboxResourcesResponse> FakeRuntime::DoUpdatePodSandboxResources(
    const v1::UpdatePodSandboxResourcesRequest& request) {
  Sandbox* sandbox = FindSandbox(request.pod_sandbox_id());
  if (sandbox == nullptr) return NoSandbox(request.pod_sandbox_id());
  auto* linux_config = sandbox->config.mutable_linux();
  if (request.has_resources()) *linux_config->mutable_resources() = request.resources();
  if (request.has_overhead()) *linux_config->mutable_overhead() = request.overhead();
  return v1::UpdatePodSandboxResourcesResponse();
}

// ---- containers ----

absl::StatusOr<v1::CreateContainerResponse> FakeRuntime::DoCreateContainer(
    const v1::CreateContainerRequest& request) {
  Sandbox* sandbox = FindSandbox(request.pod_sandbox_id());
  if (sandbox == nullptr) return NoSandbox(request.pod_sandbox_id());
  if (sandbox->status.state() != v1::SANDBOX_READY) {
    return absl::FailedPreconditionError(
        absl::StrCat("sandbox \"", request.pod_sandbox_id(), "\" is not ready"));
  }
  const auto& config = request.config();
  if (config.metadata().name().empty())
    return absl::InvalidArgumentError("container config must include metadata.name");
  for (const auto& other : containers_) {
    if (other->sandbox_id == sandbox->status.id() &&
        other->config.metadata().name() == config.metadata().name() &&
        other->config.metadata().attempt() == config.metadata().attempt()) {
      return absl::AlreadyExistsError(absl::StrCat("failed to reserve container name \"",
                                                   config.metadata().name(), "_", config.metadata().attempt(),
                                                   "\": reserved for \"", other->status.id(), "\""));
    }
  }
  ImageRecord* image = FindImage(config.image().image());
  if (image == nullptr) {
    return absl::NotFoundError(
        absl::StrCat("failed to resolve image \"", config.image().image(), "\": not found"));
  }
  auto container = std::make_unique<Container>();
  container->config = config;
  container->sandbox_id = sandbox->status.id();
  auto& status = container->status;
  status.set_id(NewId());
  *status.mutable_metadata() = config.metadata();
  status.set_state(v1::CONTAINER_CREATED);
  status.set_created_at(NowNs());
  *status.mutable_image() = config.image();
  status.set_image_ref(image->image.repo_digests().empty() ? image->image.id()
                                                           : image->image.repo_digests(0));
  status.set_image_id(image->image.id());
  *status.mutable_labels() = config.labels();
  *status.mutable_annotations() = config.annotations();
  *status.mutable_mounts() = config.mounts();
  if (!config.log_path().empty())
    status.set_log_path(absl::StrCat(sandbox->config.log_directory(), "/", config.log_path()));
  if (config.linux().has_resources())
    *status.mutable_resources()->mutable_linux() = config.linux().resources();
  status.set_stop_signal(config.stop_signal());
  containers_.push_back(std::move(container));
  const std::string& id = containers_.back()->status.id();
  Publish(v1::CONTAINER_CREATED_EVENT, id, *sandbox);
  v1::CreateContainerResponse response;
  response.set_container_id(id);
  return response;
}

absl::StatusOr<v1::StartContainerResponse> FakeRuntime::DoStartContainer(
    const v1::StartContainerRequest& request) {
  Container* container = Find(request.container_id());
  if (container == nullptr) return NoContainer(request.container_id());
  auto& status = container->status;
  if (status.state() != v1::CONTAINER_CREATED) {
    std::string what = absl::StrCat("container \"", status.id(), "\" (", status.metadata().name(),
                                    ") started in state ", v1::ContainerState_Name(status.state()));
    Misuse(what);
    return absl::FailedPreconditionError(what);
  }
  Sandbox* sandbox = FindSandbox(container->sandbox_id);
  if (sandbox == nullptr || sandbox->status.state() != v1::SANDBOX_READY) {
    return absl::FailedPreconditionError(
        absl::StrCat("sandbox container \"", container->sandbox_id, "\" is not running"));
  }
  for (const auto& other : containers_) {
    if (other.get() != container && other->sandbox_id == container->sandbox_id &&
        other->status.state() == v1::CONTAINER_RUNNING &&
        other->config.metadata().name() == container->config.metadata().name()) {
      Misuse(absl::StrCat("container ", status.metadata().name(), " started while its attempt ",
                          other->config.metadata().attempt(), " runs"));
    }
  }
  container->behavior =
      behavior_hook_ ? behavior_hook_(container->config, sandbox->config) : ContainerBehavior();
  status.set_started_at(NowNs());
  if (!container->behavior.start_error.ok()) {
    MarkExited(*container, 128, "StartError", std::string(container->behavior.start_error.message()));
    return container->behavior.start_error;
  }
  status.set_state(v1::CONTAINER_RUNNING);
  Publish(v1::CONTAINER_STARTED_EVENT, status.id(), *sandbox);
  if (container->behavior.exits_after.has_value()) {
    env_.clock().Schedule(*container->behavior.exits_after,
                          [this, alive = alive_, id = status.id(), code = container->behavior.exit_code] {
                            if (*alive) ExitContainer(id, code);
                          });
  }
  return v1::StartContainerResponse();
}

// The stop signal is sent at once; the program leaves after stop_takes, or is killed when the grace has
// passed.
Task<absl::Status> FakeRuntime::StopCourse(std::string container_id, int64_t timeout_s) {
  Container* container = Find(container_id);
  if (container == nullptr) co_return NoContainer(container_id);  // as containerd 1.6
  if (container->status.state() != v1::CONTAINER_RUNNING) co_return absl::OkStatus();
  const ContainerBehavior& behavior = container->behavior;
  absl::Duration grace = absl::Seconds(std::max<int64_t>(timeout_s, 0));
  bool leaves = !behavior.ignores_stop_signal && behavior.stop_takes <= grace && timeout_s > 0;
  absl::Duration after = leaves ? behavior.stop_takes : grace;
  int exit_code = leaves ? behavior.stop_exit_code : kKilledExitCode;
  if (after <= absl::ZeroDuration()) {
    ExitContainer(container_id, exit_code);
    co_return absl::OkStatus();
  }
  uint64_t epoch = epoch_;
  // A program leaves by itself once signalled; the SIGKILL comes from the daemon, if it still lives.
  env_.clock().Schedule(after, [this, alive = alive_, container_id, exit_code, leaves, epoch] {
    if (*alive && (leaves || epoch == epoch_)) ExitContainer(container_id, exit_code);
  });
  std::shared_ptr<AsyncEvent> exited = container->exited;
  Task<void> exit = exited->Wait();
  co_await std::move(exit);
  if (epoch != epoch_) co_return absl::UnavailableError("the runtime went away during StopContainer");
  co_return absl::OkStatus();
}

absl::StatusOr<v1::StopContainerResponse> FakeRuntime::DoStopContainer(const v1::StopContainerRequest&) {
  return v1::StopContainerResponse();
}

void FakeRuntime::DropContainer(std::string id) {
  auto entry = std::find_if(containers_.begin(), containers_.end(),
                            [&](const auto& c) { return c->status.id() == id; });
  if (entry == containers_.end()) return;
  if ((*entry)->status.state() == v1::CONTAINER_RUNNING) MarkExited(**entry, kKilledExitCode, "Error", "");
  std::unique_ptr<Container> gone = std::move(*entry);
  containers_.erase(entry);
  if (const Sandbox* sandbox = FindSandbox(gone->sandbox_id))
    Publish(v1::CONTAINER_DELETED_EVENT, id, *sandbox);
}

absl::StatusOr<v1::RemoveContainerResponse> FakeRuntime::DoRemoveContainer(
    const v1::RemoveContainerRequest& request) {
  DropContainer(request.container_id());
  return v1::RemoveContainerResponse();
}

absl::StatusOr<v1::ListContainersResponse> FakeRuntime::DoListContainers(
    const v1::ListContainersRequest& request) {
  const auto& filter = request.filter();
  std::string id = filter.id().empty() ? "" : ResolveId(containers_, filter.id());
  std::string sandbox_id =
      filter.pod_sandbox_id().empty() ? "" : ResolveId(sandboxes_, filter.pod_sandbox_id());
  v1::ListContainersResponse response;
  for (const auto& container : containers_) {
    const auto& status = container->status;
    if (!id.empty() && status.id() != id) continue;
    if (!sandbox_id.empty() && container->sandbox_id != sandbox_id) continue;
    if (filter.has_state() && filter.state().state() != status.state()) continue;
    if (!LabelsMatch(filter.label_selector(), status.labels())) continue;
    v1::Container& item = *response.add_containers();
    item.set_id(status.id());
    item.set_pod_sandbox_id(container->sandbox_id);
    *item.mutable_metadata() = status.metadata();
    *item.mutable_image() = status.image();
    item.set_image_ref(status.image_ref());
    item.set_image_id(status.image_id());
    item.set_state(status.state());
    item.set_created_at(status.created_at());
    *item.mutable_labels() = status.labels();
    *item.mutable_annotations() = status.annotations();
  }
  return response;
}

absl::StatusOr<v1::StreamContainersResponse> FakeRuntime::DoStreamContainers(
    const v1::StreamContainersRequest& request) {
  if (!options_.supports_stream_lists) return absl::UnimplementedError("unknown method StreamContainers");
  v1::ListContainersRequest list;
  *list.mutable_filter() = request.filter();
  auto items = DoListContainers(list);
  v1::StreamContainersResponse response;
  *response.mutable_containers() = std::move(*items->mutable_containers());
  return response;
}

absl::StatusOr<v1::ContainerStatusResponse> FakeRuntime::DoContainerStatus(
    const v1::ContainerStatusRequest& request) {
  Container* container = Find(request.container_id());
  if (container == nullptr) return NoContainer(request.container_id());
  v1::ContainerStatusResponse response;
  *response.mutable_status() = container->status;
  return response;
}

absl::StatusOr<v1::UpdateContainerResourcesResponse> FakeRuntime::DoUpdateContainerResources(
    const v1::UpdateContainerResourcesRequest& request) {
  Container* container = Find(request.container_id());
  if (container == nullptr) return NoContainer(request.container_id());
  if (container->status.state() == v1::CONTAINER_EXITED) {
    return absl::FailedPreconditionError(
        absl::StrCat("container \"", request.container_id(), "\" has exited"));
  }
  *container->config.mutable_linux()->mutable_resources() = request.linux();
  *container->status.mutable_resources()->mutable_linux() = request.linux();
  return v1::UpdateContainerResourcesResponse();
}

absl::StatusOr<v1::ReopenContainerLogResponse> FakeRuntime::DoReopenContainerLog(
    const v1::ReopenContainerLogRequest& request) {
  Container* container = Find(request.container_id());
  if (container == nullptr) return NoContainer(request.container_id());
  if (container->status.state() != v1::CONTAINER_RUNNING)
    return absl::FailedPreconditionError("container is not running");
  return v1::ReopenContainerLogResponse();
}

// ---- exec ----

Task<absl::Status> FakeRuntime::ExecCourse(int64_t timeout_s) {
  absl::Duration takes = exec_latency_;
  bool late = timeout_s > 0 && takes > absl::Seconds(timeout_s);
  if (late) takes = absl::Seconds(timeout_s);
  if (takes > absl::ZeroDuration()) CO_RETURN_IF_ERROR(Delay(takes));
  if (late)
    co_return absl::DeadlineExceededError(
        absl::StrCat("timeout ", timeout_s, "s exceeded: context deadline exceeded"));
  co_return absl::OkStatus();
}

absl::StatusOr<v1::ExecSyncResponse> FakeRuntime::DoExecSync(const v1::ExecSyncRequest& request) {
  Container* container = Find(request.container_id());
  if (container == nullptr) return NoContainer(request.container_id());
  if (container->status.state() != v1::CONTAINER_RUNNING) {
    return absl::FailedPreconditionError(
        absl::StrCat("container is in ", v1::ContainerState_Name(container->status.state()), " state"));
  }
  if (!exec_handler_) return v1::ExecSyncResponse();
  return exec_handler_(container->config, {request.cmd().begin(), request.cmd().end()});
}

absl::StatusOr<v1::ExecResponse> FakeRuntime::DoExec(const v1::ExecRequest& request) {
  if (Find(request.container_id()) == nullptr) return NoContainer(request.container_id());
  v1::ExecResponse response;
  response.set_url(absl::StrCat("http://127.0.0.1:0/exec/", request.container_id()));
  return response;
}

absl::StatusOr<v1::AttachResponse> FakeRuntime::DoAttach(const v1::AttachRequest& request) {
  if (Find(request.container_id()) == nullptr) return NoContainer(request.container_id());
  v1::AttachResponse response;
  response.set_url(absl::StrCat("http://127.0.0.1:0/attach/", request.container_id()));
  return response;
}

absl::StatusOr<v1::PortForwardResponse> FakeRuntime::DoPortForward(const v1::PortForwardRequest& request) {
  if (FindSandbox(request.pod_sandbox_id()) == nullptr) return NoSandbox(request.pod_sandbox_id());
  v1::PortForwardResponse response;
  response.set_url(absl::StrCat("http://127.0.0.1:0/portforward/", request.pod_sandbox_id()));
  return response;
}

// ---- stats ----

v1::ContainerStats FakeRuntime::StatsOf(const Container& container) const {
  v1::ContainerStats stats = container.stats;
  auto* attributes = stats.mutable_attributes();
  attributes->set_id(container.status.id());
  *attributes->mutable_metadata() = container.status.metadata();
  *attributes->mutable_labels() = container.status.labels();
  *attributes->mutable_annotations() = container.status.annotations();
  if (!container.has_stats) {
    stats.mutable_cpu()->set_timestamp(NowNs());
    stats.mutable_cpu()->mutable_usage_core_nano_seconds()->set_value(0);
    stats.mutable_memory()->set_timestamp(NowNs());
    stats.mutable_memory()->mutable_working_set_bytes()->set_value(1 << 20);
  }
  return stats;
}

v1::PodSandboxStats FakeRuntime::StatsOf(const Sandbox& sandbox) const {
  v1::PodSandboxStats stats;
  stats.mutable_attributes()->set_id(sandbox.status.id());
  *stats.mutable_attributes()->mutable_metadata() = sandbox.status.metadata();
  *stats.mutable_attributes()->mutable_labels() = sandbox.status.labels();
  auto* linux_stats = stats.mutable_linux();
  uint64_t cpu_ns = 0, working_set_bytes = 0;
  for (const auto& container : containers_) {
    if (container->sandbox_id != sandbox.status.id() || container->status.state() != v1::CONTAINER_RUNNING)
      continue;
    auto* item = linux_stats->add_containers();
    *item = StatsOf(*container);
    cpu_ns += item->cpu().usage_core_nano_seconds().value();
    working_set_bytes += item->memory().working_set_bytes().value();
  }
  linux_stats->mutable_cpu()->set_timestamp(NowNs());
  linux_stats->mutable_cpu()->mutable_usage_core_nano_seconds()->set_value(cpu_ns);
  linux_stats->mutable_memory()->set_timestamp(NowNs());
  linux_stats->mutable_memory()->mutable_working_set_bytes()->set_value(working_set_bytes);
  return stats;
}

absl::StatusOr<v1::ContainerStatsResponse> FakeRuntime::DoContainerStats(
    const v1::ContainerStatsRequest& request) {
  Container* container = Find(request.container_id());
  if (container == nullptr) return NoContainer(request.container_id());
  v1::ContainerStatsResponse response;
  *response.mutable_stats() = StatsOf(*container);
  return response;
}

absl::StatusOr<v1::ListContainerStatsResponse> FakeRuntime::DoListContainerStats(
    const v1::ListContainerStatsRequest& request) {
  const auto& filter = request.filter();
  std::string id = filter.id().empty() ? "" : ResolveId(containers_, filter.id());
  std::string sandbox_id =
      filter.pod_sandbox_id().empty() ? "" : ResolveId(sandboxes_, filter.pod_sandbox_id());
  v1::ListContainerStatsResponse response;
  for (const auto& container : containers_) {
    if (container->status.state() != v1::CONTAINER_RUNNING) continue;
    if (!id.empty() && container->status.id() != id) continue;
    if (!sandbox_id.empty() && container->sandbox_id != sandbox_id) continue;
    if (!LabelsMatch(filter.label_selector(), container->status.labels())) continue;
    *response.add_stats() = StatsOf(*container);
  }
  return response;
}

absl::StatusOr<v1::StreamContainerStatsResponse> FakeRuntime::DoStreamContainerStats(
    const v1::StreamContainerStatsRequest& request) {
  if (!options_.supports_stream_lists) return absl::UnimplementedError("unknown method StreamContainerStats");
  v1::ListContainerStatsRequest list;
  *list.mutable_filter() = request.filter();
  auto items = DoListContainerStats(list);
  v1::StreamContainerStatsResponse response;
  *response.mutable_container_stats() = std::move(*items->mutable_stats());
  return response;
}

absl::StatusOr<v1::PodSandboxStatsResponse> FakeRuntime::DoPodSandboxStats(
    const v1::PodSandboxStatsRequest& request) {
  Sandbox* sandbox = FindSandbox(request.pod_sandbox_id());
  if (sandbox == nullptr) return NoSandbox(request.pod_sandbox_id());
  v1::PodSandboxStatsResponse response;
  *response.mutable_stats() = StatsOf(*sandbox);
  return response;
}

absl::StatusOr<v1::ListPodSandboxStatsResponse> FakeRuntime::DoListPodSandboxStats(
    const v1::ListPodSandboxStatsRequest& request) {
  const auto& filter = request.filter();
  std::string id = filter.id().empty() ? "" : ResolveId(sandboxes_, filter.id());
  v1::ListPodSandboxStatsResponse response;
  for (const auto& sandbox : sandboxes_) {
    if (sandbox->status.state() != v1::SANDBOX_READY) continue;
    if (!id.empty() && sandbox->status.id() != id) continue;
    if (!LabelsMatch(filter.label_selector(), sandbox->status.labels())) continue;
    *response.add_stats() = StatsOf(*sandbox);
  }
  return response;
}

absl::StatusOr<v1::StreamPodSandboxStatsResponse> FakeRuntime::DoStreamPodSandboxStats(
    const v1::StreamPodSandboxStatsRequest& request) {
  if (!options_.supports_stream_lists)
    return absl::UnimplementedError("unknown method StreamPodSandboxStats");
  v1::ListPodSandboxStatsRequest list;
  *list.mutable_filter() = request.filter();
  auto items = DoListPodSandboxStats(list);
  v1::StreamPodSandboxStatsResponse response;
  *response.mutable_pod_sandbox_stats() = std::move(*items->mutable_stats());
  return response;
}

absl::StatusOr<v1::ListMetricDescriptorsResponse> FakeRuntime::DoListMetricDescriptors(
    const v1::ListMetricDescriptorsRequest&) {
  return v1::ListMetricDescriptorsResponse();
}

absl::StatusOr<v1::ListPodSandboxMetricsResponse> FakeRuntime::DoListPodSandboxMetrics(
    const v1::ListPodSandboxMetricsRequest&) {
  return v1::ListPodSandboxMetricsResponse();
}

absl::StatusOr<v1::StreamPodSandboxMetricsResponse> FakeRuntime::DoStreamPodSandboxMetrics(
    const v1::StreamPodSandboxMetricsRequest&) {
  return v1::StreamPodSandboxMetricsResponse();
}

// ---- checkpoints: as a runtime without CRIU answers ----

absl::StatusOr<v1::CheckpointContainerResponse> FakeRuntime::DoCheckpointContainer(
    const v1::CheckpointContainerRequest&) {
  return absl::UnimplementedError("CheckpointContainer is not supported by this runtime");
}
absl::StatusOr<v1::CheckpointPodResponse> FakeRuntime::DoCheckpointPod(const v1::CheckpointPodRequest&) {
  return absl::UnimplementedError("CheckpointPod is not supported by this runtime");
}
absl::StatusOr<v1::RestorePodResponse> FakeRuntime::DoRestorePod(const v1::RestorePodRequest&) {
  return absl::UnimplementedError("RestorePod is not supported by this runtime");
}

}  // namespace keelson::cri
