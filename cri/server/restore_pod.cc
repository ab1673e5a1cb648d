// RestorePod: a new pod from an archive of CheckpointPod. The pod, its network and its containers are made as
// ever, from the request alone; the containers' writable layers begin with what the old ones had written, and
// their processes come from criu's images instead of the image's command. All of it, or nothing.
#include <map>
#include <utility>

#include "base/fd.h"
#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"
#include "cri/server/checkpoint_archive.h"
#include "cri/server/container_checkpoint.h"
#include "cri/server/pod_checkpoint.h"
#include "cri/server/restore_container.h"
#include "cri/server/runtime_server.h"

namespace keelson::cri {

namespace {

// Before anything of the archive is read.
absl::Status CheckRequest(const v1::RestorePodRequest& request) {
  RETURN_IF_ERROR(CheckCheckpointLocation(request.checkpoint_path(), "checkpoint_path"));
  RETURN_IF_ERROR(CheckNoCheckpointOptions(request.options()));
  if (!request.has_config()) return absl::InvalidArgumentError("config: required");
  RETURN_IF_ERROR(CheckPodTakesRestored(request.config(), "config."));
  if (request.container_configs_size() == 0) {
    return absl::InvalidArgumentError("container_configs: want one for each container of the checkpoint");
  }
  for (int i = 0; i < request.container_configs_size(); ++i) {
    const v1::ContainerConfig& config = request.container_configs(i);
    const std::string field = StrCat("container_configs[", i, "]");
    if (config.metadata().name().empty()) {
      return absl::InvalidArgumentError(StrCat(field, ".metadata.name: required"));
    }
    RETURN_IF_ERROR(Annotate(CheckTakesRestored(config), field));
  }
  return absl::OkStatus();
}

// Which container of the checkpoint each configuration is for.
absl::StatusOr<std::vector<size_t>> MatchContainers(const v1::RestorePodRequest& request,
                                                    const PodCheckpointFacts& facts) {
  std::map<std::string, size_t> numbers;
  for (size_t i = 0; i < facts.containers.size(); ++i) numbers[facts.containers[i].name] = i;
  std::vector<size_t> out;
  for (int i = 0; i < request.container_configs_size(); ++i) {
    const v1::ContainerConfig& config = request.container_configs(i);
    const std::string field = StrCat("container_configs[", i, "]");
    auto found = numbers.find(config.metadata().name());
    if (found == numbers.end()) {
      return absl::InvalidArgumentError(StrCat(field, ".metadata.name: \"", config.metadata().name(),
                                               "\" is not in the checkpoint, or named twice"));
    }
    RETURN_IF_ERROR(Annotate(CheckSameRequest(config, facts.containers[found->second]), field));
    out.push_back(found->second);
    numbers.erase(found);
  }
  if (!numbers.empty()) {
    return absl::InvalidArgumentError(
        StrCat("container_configs: none for container \"", numbers.begin()->first, "\" of the checkpoint"));
  }
  return out;
}

}  // namespace

absl::Status RuntimeServer::CheckRestore(const v1::RestorePodRequest& request,
                                         const PodCheckpointFacts& facts) const {
  constexpr std::string_view kField = "config.linux.security_context.namespace_options";
  if (HostNetwork(request.config()) != facts.host_network) {
    return absl::InvalidArgumentError(StrCat(kField, ".network: the pod in the checkpoint is ",
                                             facts.host_network ? "" : "not ", "on the host's network"));
  }
  if (HostIpc(request.config()) != facts.host_ipc) {
    return absl::InvalidArgumentError(StrCat(kField, ".ipc: the pod in the checkpoint is ",
                                             facts.host_ipc ? "" : "not ", "in the host's IPC namespace"));
  }
  absl::StatusOr<std::vector<size_t>> numbers = MatchContainers(request, facts);
  if (!numbers.ok()) return numbers.status();
  for (int i = 0; i < request.container_configs_size(); ++i) {
    const std::string& wanted = request.container_configs(i).image().image();
    const CheckpointedContainer& container = facts.containers[(*numbers)[static_cast<size_t>(i)]];
    const std::string field = StrCat("container_configs[", i, "].image.image: \"", wanted, "\"");
    const images::ImageRecord* image = deps_.images->Find(wanted);
    if (image == nullptr) return absl::NotFoundError(StrCat(field, " is not here: pull it first"));
    if (image->id != container.image_id) {
      return absl::FailedPreconditionError(
          StrCat(field, " is image ", image->id, "; the checkpoint was made on ", container.image_id));
    }
  }
  return absl::OkStatus();
}

Task<absl::StatusOr<v1::RestorePodResponse>> RuntimeServer::RestorePod(v1::RestorePodRequest request) {
  const std::string scratch = NewScratch("restore");
  return InScratch(&env_, scratch, RestorePodIn(std::move(request), scratch));
}

Task<absl::StatusOr<v1::RestorePodResponse>> RuntimeServer::RestorePodIn(v1::RestorePodRequest request,
                                                                         std::string scratch) {
  CO_RETURN_IF_ERROR_SYNC(CheckRequest(request));
  CO_ASSIGN_OR_RETURN_SYNC(oci::OciRuntime * runtime, RuntimeFor(request.runtime_handler()));
  CO_RETURN_IF_ERROR_SYNC(CheckLabelsCanBeRestored());
  CO_RETURN_IF_ERROR(runtime->CanCheckpoint());
  const std::string what = StrCat("restore pod from ", request.checkpoint_path());

  using Facts = absl::StatusOr<PodCheckpointFacts>;
  auto unpack = [path = request.checkpoint_path(), dir = scratch]() -> Facts {
    ASSIGN_OR_RETURN(Fd archive, OpenCheckpointArchive(path));
    RETURN_IF_ERROR(MakeDirs(dir, 0700));
    return UnpackPodArchive(archive.get(), dir);
  };
  Task<Facts> unpacking = env_.Blocking<Facts>(unpack);
  Facts facts = co_await std::move(unpacking);
  if (!facts.ok()) co_return Annotate(facts.status(), StrCat("checkpoint_path: ", request.checkpoint_path()));
  CO_RETURN_IF_ERROR_SYNC(CheckRestore(request, *facts));

  v1::RunPodSandboxRequest run;
  *run.mutable_config() = request.config();
  run.set_runtime_handler(request.runtime_handler());
  Task<absl::StatusOr<v1::RunPodSandboxResponse>> running = RunSandbox(std::move(run), /*restoring=*/true);
  absl::StatusOr<v1::RunPodSandboxResponse> made = co_await std::move(running);
  if (!made.ok()) co_return Annotate(made.status(), what);
  const std::string id = made->pod_sandbox_id();
  v1::RestorePodResponse response;
  response.set_pod_sandbox_id(id);
  Task<absl::Status> containers =
      RestoreContainers(id, std::move(request), *std::move(facts), scratch, &response);
  absl::Status status = co_await std::move(containers);
  if (status.ok()) co_return response;
  v1::RemovePodSandboxRequest remove;
  remove.set_pod_sandbox_id(id);
  Task<absl::StatusOr<v1::RemovePodSandboxResponse>> undo = RemovePodSandbox(std::move(remove));
  absl::StatusOr<v1::RemovePodSandboxResponse> undone = co_await std::move(undo);
  if (!undone.ok()) LogError("a failed restore is not undone", {{"sandbox", id}, {"error", undone.status()}});
  co_return Annotate(status, what);
}

Task<absl::Status> RuntimeServer::RestoreContainers(std::string sandbox_id, v1::RestorePodRequest request,
                                                    PodCheckpointFacts facts, std::string dir,
                                                    v1::RestorePodResponse* response) {
  CO_ASSIGN_OR_RETURN_SYNC(std::shared_ptr<Sandbox> sandbox, FindSandbox(sandbox_id));
  CO_ASSIGN_OR_RETURN_SYNC(std::vector<size_t> numbers, MatchContainers(request, facts));
  absl::Status status;
  if (!facts.host_ipc) {
    auto fill = [tar = StrCat(dir, "/", kShmTarName), shm = SandboxDir(sandbox_id) + "/shm"] {
      return UnpackPodTree(tar, shm);
    };
    Task<absl::Status> filling = env_.Blocking<absl::Status>(fill);
    status = co_await std::move(filling);
    if (!status.ok()) co_return status;
  }
  for (int i = 0; i < request.container_configs_size(); ++i) {
    const std::string parts = StrCat(dir, "/", numbers[static_cast<size_t>(i)]);
    v1::CreateContainerRequest create;
    create.set_pod_sandbox_id(sandbox_id);
    *create.mutable_config() = request.container_configs(i);
    *create.mutable_sandbox_config() = request.config();
    Task<absl::StatusOr<v1::CreateContainerResponse>> creating = CreateContainerOn(std::move(create), parts);
    absl::StatusOr<v1::CreateContainerResponse> created = co_await std::move(creating);
    if (!created.ok()) co_return Annotate(created.status(), StrCat("container_configs[", i, "]"));
    v1::RestoredContainer* restored = response->add_restored_containers();
    restored->set_name(request.container_configs(i).metadata().name());
    restored->set_container_id(created->container_id());
  }
  for (int i = 0; i < request.container_configs_size(); ++i) {
    v1::StartContainerRequest start;
    start.set_container_id(response->restored_containers(i).container_id());
    Task<absl::StatusOr<v1::StartContainerResponse>> starting =
        StartContainerOf(std::move(start), /*pod_is_restoring=*/true);
    absl::StatusOr<v1::StartContainerResponse> started = co_await std::move(starting);
    if (!started.ok()) co_return Annotate(started.status(), StrCat("container_configs[", i, "]"));
  }
  if (sandbox->removed || sandbox->record.state() != records::SANDBOX_RUNNING) {
    co_return absl::FailedPreconditionError("the pod was stopped meanwhile");
  }
  sandbox->record.set_restoring(false);
  co_return Save(*sandbox);
}

absl::Status RuntimeServer::CheckNotRestoring(const records::Sandbox& record) {
  if (!record.restoring()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      StrCat("pod sandbox ", record.id(), " is being restored from a checkpoint"));
}

}  // namespace keelson::cri
