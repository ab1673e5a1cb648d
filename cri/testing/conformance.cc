#include "cri/testing/conformance.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>

#include "base/status.h"

namespace keelson::cri {

namespace {

#define REQUIRE(condition, ...)                                                                      \
  do {                                                                                               \
    if (!(condition)) {                                                                              \
      co_return absl::InternalError(::absl::StrCat(__LINE__, ": ", #condition, " ", ##__VA_ARGS__)); \
    }                                                                                                \
  } while (false)

v1::PodSandboxConfig SandboxConfig(const ConformanceTarget& target, const std::string& name) {
  v1::PodSandboxConfig config;
  config.mutable_metadata()->set_name(name);
  config.mutable_metadata()->set_namespace_("conformance");
  config.mutable_metadata()->set_uid(
      absl::StrCat(target.pod_uid_prefix, "-", name, "-", target.env->random().Suffix(5)));
  (*config.mutable_labels())["case"] = name;
  (*config.mutable_labels())["suite"] = "conformance";
  (*config.mutable_annotations())["keelson.io/note"] = "conformance";
  config.set_log_directory(target.log_directory);
  config.mutable_linux()->set_cgroup_parent(target.cgroup_parent);
  // The host's network: no plugin needs to be configured for these cases. No hostname goes with it (shared
  // UTS).
  config.mutable_linux()->mutable_security_context()->mutable_namespace_options()->set_network(v1::NODE);
  return config;
}

v1::ContainerConfig ContainerConfig(const ConformanceTarget& target, const std::string& name,
                                    uint32_t attempt) {
  v1::ContainerConfig config;
  config.mutable_metadata()->set_name(name);
  config.mutable_metadata()->set_attempt(attempt);
  config.mutable_image()->set_image(target.image);
  for (const auto& word : target.command) config.add_command(word);
  (*config.mutable_labels())["container"] = name;
  config.set_log_path(absl::StrCat(name, "_", attempt, ".log"));
  return config;
}

Task<absl::StatusOr<std::string>> RunSandbox(ConformanceTarget target, v1::PodSandboxConfig config) {
  v1::RunPodSandboxRequest request;
  *request.mutable_config() = config;
  CO_ASSIGN_OR_RETURN(v1::RunPodSandboxResponse response, target.runtime->RunPodSandbox(request));
  co_return response.pod_sandbox_id();
}

Task<absl::Status> EnsureImage(ConformanceTarget target) {
  v1::ImageStatusRequest status;
  status.mutable_image()->set_image(target.image);
  CO_ASSIGN_OR_RETURN(v1::ImageStatusResponse present, target.images->ImageStatus(status));
  if (present.has_image()) co_return absl::OkStatus();
  v1::PullImageRequest pull;
  pull.mutable_image()->set_image(target.image);
  CO_ASSIGN_OR_RETURN(v1::PullImageResponse pulled, target.images->PullImage(pull));
  REQUIRE(!pulled.image_ref().empty());
  co_return absl::OkStatus();
}

Task<absl::StatusOr<std::string>> CreateContainer(ConformanceTarget target, std::string sandbox_id,
                                                  v1::PodSandboxConfig sandbox, std::string name,
                                                  uint32_t attempt) {
  CO_RETURN_IF_ERROR(EnsureImage(target));
  v1::CreateContainerRequest request;
  request.set_pod_sandbox_id(sandbox_id);
  *request.mutable_config() = ContainerConfig(target, name, attempt);
  *request.mutable_sandbox_config() = sandbox;
  CO_ASSIGN_OR_RETURN(v1::CreateContainerResponse response, target.runtime->CreateContainer(request));
  co_return response.container_id();
}

Task<absl::Status> Start(ConformanceTarget target, std::string container_id) {
  v1::StartContainerRequest request;
  request.set_container_id(container_id);
  CO_ASSIGN_OR_RETURN([[maybe_unused]] v1::StartContainerResponse response,
                      target.runtime->StartContainer(request));
  co_return absl::OkStatus();
}

Task<absl::Status> Stop(ConformanceTarget target, std::string container_id, int64_t timeout_s) {
  v1::StopContainerRequest request;
  request.set_container_id(container_id);
  request.set_timeout(timeout_s);
  CO_ASSIGN_OR_RETURN([[maybe_unused]] v1::StopContainerResponse response,
                      target.runtime->StopContainer(request));
  co_return absl::OkStatus();
}

Task<absl::Status> RemoveContainer(ConformanceTarget target, std::string container_id) {
  v1::RemoveContainerRequest request;
  request.set_container_id(container_id);
  CO_ASSIGN_OR_RETURN([[maybe_unused]] v1::RemoveContainerResponse response,
                      target.runtime->RemoveContainer(request));
  co_return absl::OkStatus();
}

Task<absl::StatusOr<v1::ContainerStatus>> StatusOf(ConformanceTarget target, std::string container_id) {
  v1::ContainerStatusRequest request;
  request.set_container_id(container_id);
  CO_ASSIGN_OR_RETURN(v1::ContainerStatusResponse response, target.runtime->ContainerStatus(request));
  co_return response.status();
}

Task<absl::Status> StopSandbox(ConformanceTarget target, std::string sandbox_id) {
  v1::StopPodSandboxRequest request;
  request.set_pod_sandbox_id(sandbox_id);
  CO_ASSIGN_OR_RETURN([[maybe_unused]] v1::StopPodSandboxResponse response,
                      target.runtime->StopPodSandbox(request));
  co_return absl::OkStatus();
}

Task<absl::Status> RemoveSandbox(ConformanceTarget target, std::string sandbox_id) {
  v1::RemovePodSandboxRequest request;
  request.set_pod_sandbox_id(sandbox_id);
  CO_ASSIGN_OR_RETURN([[maybe_unused]] v1::RemovePodSandboxResponse response,
                      target.runtime->RemovePodSandbox(request));
  co_return absl::OkStatus();
}

Task<absl::StatusOr<int>> CountSandboxes(ConformanceTarget target, v1::PodSandboxFilter filter) {
  v1::ListPodSandboxRequest request;
  *request.mutable_filter() = filter;
  CO_ASSIGN_OR_RETURN(v1::ListPodSandboxResponse response, target.runtime->ListPodSandbox(request));
  co_return response.items_size();
}

Task<absl::StatusOr<int>> CountContainers(ConformanceTarget target, v1::ContainerFilter filter) {
  v1::ListContainersRequest request;
  *request.mutable_filter() = filter;
  CO_ASSIGN_OR_RETURN(v1::ListContainersResponse response, target.runtime->ListContainers(request));
  co_return response.containers_size();
}

// ---- cases ----

Task<absl::Status> VersionAndStatus(ConformanceTarget target) {
  CO_ASSIGN_OR_RETURN(v1::VersionResponse version, target.runtime->Version(v1::VersionRequest()));
  REQUIRE(version.runtime_api_version() == "v1", version.runtime_api_version());
  REQUIRE(!version.runtime_name().empty());
  CO_ASSIGN_OR_RETURN(v1::StatusResponse status, target.runtime->Status(v1::StatusRequest()));
  bool ready = false;
  for (const auto& condition : status.status().conditions())
    ready |= condition.type() == "RuntimeReady" && condition.status();
  REQUIRE(ready);
  co_return absl::OkStatus();
}

Task<absl::Status> SandboxLife(ConformanceTarget target) {
  v1::PodSandboxConfig config = SandboxConfig(target, "sandbox-life");
  CO_ASSIGN_OR_RETURN(std::string id, RunSandbox(target, config));
  v1::PodSandboxStatusRequest request;
  request.set_pod_sandbox_id(id);
  CO_ASSIGN_OR_RETURN(v1::PodSandboxStatusResponse response, target.runtime->PodSandboxStatus(request));
  const v1::PodSandboxStatus& status = response.status();
  REQUIRE(status.id() == id);
  REQUIRE(status.state() == v1::SANDBOX_READY);
  REQUIRE(status.metadata().uid() == config.metadata().uid());
  REQUIRE(status.labels().at("case") == "sandbox-life");
  REQUIRE(status.annotations().at("keelson.io/note") == "conformance");
  int64_t age_ns = absl::ToUnixNanos(target.env->clock().Now()) - status.created_at();
  REQUIRE(age_ns >= 0 && age_ns < int64_t{120} * 1000000000, age_ns);
  REQUIRE(status.linux().namespaces().options().network() == v1::NODE);
  CO_RETURN_IF_ERROR(StopSandbox(target, id));
  CO_RETURN_IF_ERROR(StopSandbox(target, id));
  CO_ASSIGN_OR_RETURN(v1::PodSandboxStatusResponse stopped, target.runtime->PodSandboxStatus(request));
  REQUIRE(stopped.status().state() == v1::SANDBOX_NOTREADY);
  CO_RETURN_IF_ERROR(RemoveSandbox(target, id));
  CO_RETURN_IF_ERROR(RemoveSandbox(target, id));
  auto task = target.runtime->PodSandboxStatus(request);
  auto gone = co_await std::move(task);
  REQUIRE(absl::IsNotFound(gone.status()), gone.status().ToString());
  co_return absl::OkStatus();
}

Task<absl::Status> SandboxNameIsTaken(ConformanceTarget target) {
  v1::PodSandboxConfig config = SandboxConfig(target, "sandbox-name");
  CO_ASSIGN_OR_RETURN(std::string id, RunSandbox(target, config));
  auto task = RunSandbox(target, config);
  auto twice = co_await std::move(task);
  REQUIRE(!twice.ok());
  CO_RETURN_IF_ERROR(StopSandbox(target, id));
  config.mutable_metadata()->set_attempt(1);
  CO_ASSIGN_OR_RETURN(std::string second, RunSandbox(target, config));
  REQUIRE(second != id);
  CO_RETURN_IF_ERROR(RemoveSandbox(target, id));
  CO_RETURN_IF_ERROR(StopSandbox(target, second));
  CO_RETURN_IF_ERROR(RemoveSandbox(target, second));
  co_return absl::OkStatus();
}

Task<absl::Status> SandboxFilters(ConformanceTarget target) {
  v1::PodSandboxConfig config_a = SandboxConfig(target, "filter-a");
  v1::PodSandboxConfig config_b = SandboxConfig(target, "filter-b");
  CO_ASSIGN_OR_RETURN(std::string a, RunSandbox(target, config_a));
  CO_ASSIGN_OR_RETURN(std::string b, RunSandbox(target, config_b));
  CO_RETURN_IF_ERROR(StopSandbox(target, b));
  v1::PodSandboxFilter filter;
  filter.set_id(a.substr(0, 20));
  CO_ASSIGN_OR_RETURN(int by_id, CountSandboxes(target, filter));
  REQUIRE(by_id == 1, by_id);
  filter.set_id("no-such-sandbox");
  CO_ASSIGN_OR_RETURN(int by_unknown_id, CountSandboxes(target, filter));
  REQUIRE(by_unknown_id == 0, by_unknown_id);
  filter.clear_id();
  (*filter.mutable_label_selector())["suite"] = "conformance";
  filter.mutable_state()->set_state(v1::SANDBOX_NOTREADY);
  CO_ASSIGN_OR_RETURN(int stopped, CountSandboxes(target, filter));
  REQUIRE(stopped == 1, stopped);
  filter.mutable_state()->set_state(v1::SANDBOX_READY);
  CO_ASSIGN_OR_RETURN(int ready, CountSandboxes(target, filter));
  REQUIRE(ready == 1, ready);
  (*filter.mutable_label_selector())["case"] = "filter-b";
  CO_ASSIGN_OR_RETURN(int both, CountSandboxes(target, filter));
  REQUIRE(both == 0, both);
  CO_RETURN_IF_ERROR(StopSandbox(target, a));
  CO_RETURN_IF_ERROR(RemoveSandbox(target, a));
  CO_RETURN_IF_ERROR(RemoveSandbox(target, b));
  co_return absl::OkStatus();
}

Task<absl::Status> ContainerLife(ConformanceTarget target) {
  v1::PodSandboxConfig config = SandboxConfig(target, "container-life");
  CO_ASSIGN_OR_RETURN(std::string sandbox, RunSandbox(target, config));
  CO_ASSIGN_OR_RETURN(std::string id, CreateContainer(target, sandbox, config, "main", 0));
  CO_ASSIGN_OR_RETURN(v1::ContainerStatus created, StatusOf(target, id));
  REQUIRE(created.state() == v1::CONTAINER_CREATED);
  REQUIRE(created.created_at() > 0);
  REQUIRE(created.started_at() == 0, created.started_at());
  REQUIRE(created.log_path() == target.log_directory + "/main_0.log", created.log_path());
  CO_RETURN_IF_ERROR(Start(target, id));
  CO_ASSIGN_OR_RETURN(v1::ContainerStatus running, StatusOf(target, id));
  REQUIRE(running.state() == v1::CONTAINER_RUNNING);
  REQUIRE(running.started_at() >= created.created_at());
  REQUIRE(!running.image_ref().empty());
  CO_RETURN_IF_ERROR(Stop(target, id, 10));
  CO_ASSIGN_OR_RETURN(v1::ContainerStatus exited, StatusOf(target, id));
  REQUIRE(exited.state() == v1::CONTAINER_EXITED);
  REQUIRE(exited.finished_at() >= running.started_at());
  CO_RETURN_IF_ERROR(Stop(target, id, 10));
  CO_RETURN_IF_ERROR(RemoveContainer(target, id));
  CO_RETURN_IF_ERROR(RemoveContainer(target, id));
  auto task = StatusOf(target, id);
  auto gone = co_await std::move(task);
  REQUIRE(absl::IsNotFound(gone.status()), gone.status().ToString());
  CO_RETURN_IF_ERROR(StopSandbox(target, sandbox));
  CO_RETURN_IF_ERROR(RemoveSandbox(target, sandbox));
  co_return absl::OkStatus();
}

Task<absl::Status> StartingTwiceFails(ConformanceTarget target) {
  v1::PodSandboxConfig config = SandboxConfig(target, "start-twice");
  CO_ASSIGN_OR_RETURN(std::string sandbox, RunSandbox(target, config));
  CO_ASSIGN_OR_RETURN(std::string id, CreateContainer(target, sandbox, config, "main", 0));
  CO_RETURN_IF_ERROR(Start(target, id));
  Task<absl::Status> task = Start(target, id);
  absl::Status twice = co_await std::move(task);
  REQUIRE(!twice.ok());
  CO_RETURN_IF_ERROR(Stop(target, id, 1));
  Task<absl::Status> again = Start(target, id);
  absl::Status after_exit = co_await std::move(again);
  REQUIRE(!after_exit.ok());
  CO_RETURN_IF_ERROR(StopSandbox(target, sandbox));
  CO_RETURN_IF_ERROR(RemoveSandbox(target, sandbox));
  co_return absl::OkStatus();
}

Task<absl::Status> StoppingTheSandboxStopsContainers(ConformanceTarget target) {
  v1::PodSandboxConfig config = SandboxConfig(target, "sandbox-stop");
  CO_ASSIGN_OR_RETURN(std::string sandbox, RunSandbox(target, config));
  CO_ASSIGN_OR_RETURN(std::string id, CreateContainer(target, sandbox, config, "main", 0));
  CO_RETURN_IF_ERROR(Start(target, id));
  CO_RETURN_IF_ERROR(StopSandbox(target, sandbox));
  CO_ASSIGN_OR_RETURN(v1::ContainerStatus exited, StatusOf(target, id));
  REQUIRE(exited.state() == v1::CONTAINER_EXITED);
  CO_RETURN_IF_ERROR(RemoveSandbox(target, sandbox));
  auto task = StatusOf(target, id);
  auto gone = co_await std::move(task);
  REQUIRE(absl::IsNotFound(gone.status()), gone.status().ToString());
  co_return absl::OkStatus();
}

Task<absl::Status> ContainerFilters(ConformanceTarget target) {
  v1::PodSandboxConfig config = SandboxConfig(target, "container-filter");
  CO_ASSIGN_OR_RETURN(std::string sandbox, RunSandbox(target, config));
  CO_ASSIGN_OR_RETURN(std::string a, CreateContainer(target, sandbox, config, "a", 0));
  CO_ASSIGN_OR_RETURN(std::string b, CreateContainer(target, sandbox, config, "b", 0));
  CO_RETURN_IF_ERROR(Start(target, a));
  v1::ContainerFilter filter;
  filter.set_pod_sandbox_id(sandbox.substr(0, 20));
  CO_ASSIGN_OR_RETURN(int all, CountContainers(target, filter));
  REQUIRE(all == 2, all);
  filter.mutable_state()->set_state(v1::CONTAINER_RUNNING);
  CO_ASSIGN_OR_RETURN(int running, CountContainers(target, filter));
  REQUIRE(running == 1, running);
  filter.clear_state();
  (*filter.mutable_label_selector())["container"] = "b";
  CO_ASSIGN_OR_RETURN(int labelled, CountContainers(target, filter));
  REQUIRE(labelled == 1, labelled);
  filter.set_id(a.substr(0, 20));
  CO_ASSIGN_OR_RETURN(int neither, CountContainers(target, filter));
  REQUIRE(neither == 0, neither);
  CO_RETURN_IF_ERROR(RemoveContainer(target, b));
  CO_RETURN_IF_ERROR(StopSandbox(target, sandbox));
  CO_RETURN_IF_ERROR(RemoveSandbox(target, sandbox));
  co_return absl::OkStatus();
}

Task<absl::Status> ExecSync(ConformanceTarget target) {
  if (target.exec_true.empty()) co_return absl::OkStatus();
  v1::PodSandboxConfig config = SandboxConfig(target, "exec");
  CO_ASSIGN_OR_RETURN(std::string sandbox, RunSandbox(target, config));
  CO_ASSIGN_OR_RETURN(std::string id, CreateContainer(target, sandbox, config, "main", 0));
  v1::ExecSyncRequest request;
  request.set_container_id(id);
  for (const auto& word : target.exec_true) request.add_cmd(word);
  request.set_timeout(10);
  auto early = target.runtime->ExecSync(request);
  auto not_running = co_await std::move(early);
  REQUIRE(!not_running.ok());
  CO_RETURN_IF_ERROR(Start(target, id));
  CO_ASSIGN_OR_RETURN(v1::ExecSyncResponse response, target.runtime->ExecSync(request));
  REQUIRE(response.exit_code() == 0, response.exit_code());
  CO_RETURN_IF_ERROR(StopSandbox(target, sandbox));
  CO_RETURN_IF_ERROR(RemoveSandbox(target, sandbox));
  co_return absl::OkStatus();
}

Task<absl::Status> UnknownIds(ConformanceTarget target) {
  v1::CreateContainerRequest create;
  create.set_pod_sandbox_id("no-such-sandbox");
  *create.mutable_config() = ContainerConfig(target, "main", 0);
  *create.mutable_sandbox_config() = SandboxConfig(target, "unknown");
  auto create_task = target.runtime->CreateContainer(create);
  auto created = co_await std::move(create_task);
  REQUIRE(!created.ok());
  v1::StartContainerRequest start;
  start.set_container_id("no-such-container");
  auto start_task = target.runtime->StartContainer(start);
  auto started = co_await std::move(start_task);
  REQUIRE(absl::IsNotFound(started.status()), started.status().ToString());
  // containerd 1.6 says NotFound here, others success; both mean there is nothing to stop.
  Task<absl::Status> stop_task = Stop(target, "no-such-container", 1);
  absl::Status stopped = co_await std::move(stop_task);
  REQUIRE(stopped.ok() || absl::IsNotFound(stopped), stopped.ToString());
  CO_RETURN_IF_ERROR(RemoveContainer(target, "no-such-container"));
  Task<absl::Status> sandbox_task = StopSandbox(target, "no-such-sandbox");
  absl::Status sandbox_stopped = co_await std::move(sandbox_task);
  REQUIRE(sandbox_stopped.ok() || absl::IsNotFound(sandbox_stopped), sandbox_stopped.ToString());
  CO_RETURN_IF_ERROR(RemoveSandbox(target, "no-such-sandbox"));
  co_return absl::OkStatus();
}

Task<absl::Status> Images(ConformanceTarget target) {
  CO_RETURN_IF_ERROR(EnsureImage(target));
  v1::ImageStatusRequest status;
  status.mutable_image()->set_image(target.image);
  CO_ASSIGN_OR_RETURN(v1::ImageStatusResponse present, target.images->ImageStatus(status));
  REQUIRE(present.has_image());
  REQUIRE(!present.image().id().empty());
  REQUIRE(present.image().size() > 0);
  v1::ListImagesRequest list;
  list.mutable_filter()->mutable_image()->set_image(target.image);
  CO_ASSIGN_OR_RETURN(v1::ListImagesResponse listed, target.images->ListImages(list));
  REQUIRE(listed.images_size() == 1, listed.images_size());
  REQUIRE(listed.images(0).id() == present.image().id());
  status.mutable_image()->set_image("localhost/keelson-conformance/absent:1");
  CO_ASSIGN_OR_RETURN(v1::ImageStatusResponse absent, target.images->ImageStatus(status));
  REQUIRE(!absent.has_image());
  v1::RemoveImageRequest remove;
  remove.mutable_image()->set_image("localhost/keelson-conformance/absent:1");
  CO_ASSIGN_OR_RETURN([[maybe_unused]] v1::RemoveImageResponse removed, target.images->RemoveImage(remove));
  co_return absl::OkStatus();
}

}  // namespace

const std::vector<ConformanceCase>& ConformanceCases() {
  static const auto* cases = new std::vector<ConformanceCase>{
      {"VersionAndStatus", VersionAndStatus},
      {"SandboxLife", SandboxLife},
      {"SandboxNameIsTaken", SandboxNameIsTaken},
      {"SandboxFilters", SandboxFilters},
      {"ContainerLife", ContainerLife},
      {"StartingTwiceFails", StartingTwiceFails},
      {"StoppingTheSandboxStopsContainers", StoppingTheSandboxStopsContainers},
      {"ContainerFilters", ContainerFilters},
      {"ExecSync", ExecSync},
      {"UnknownIds", UnknownIds},
      {"Images", Images},
  };
  return *cases;
}

Task<absl::Status> CleanUp(ConformanceTarget target) {
  CO_ASSIGN_OR_RETURN(v1::ListPodSandboxResponse all,
                      target.runtime->ListPodSandbox(v1::ListPodSandboxRequest()));
  for (const auto& sandbox : all.items()) {
    if (!absl::StartsWith(sandbox.metadata().uid(), target.pod_uid_prefix)) continue;
    CO_RETURN_IF_ERROR(StopSandbox(target, sandbox.id()));
    CO_RETURN_IF_ERROR(RemoveSandbox(target, sandbox.id()));
  }
  co_return absl::OkStatus();
}

}  // namespace keelson::cri
