// CheckpointPod: all running containers of a pod, or those named, frozen at the same time, dumped by runc and
// criu, and packed with the pod's /dev/shm into one archive (pod_checkpoint.h). They run on afterwards.
#include <absl/strings/match.h>
#include <absl/time/time.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <set>
#include <utility>

#include "base/fd.h"
#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"
#include "cri/server/checkpoint_archive.h"
#include "cri/server/container_checkpoint.h"
#include "cri/server/pod_checkpoint.h"
#include "cri/server/runtime_server.h"

namespace keelson::cri {

namespace {

// Of a container that could not be let run on: nothing else would until the next start of the server.
constexpr absl::Duration kFirstThawRetry = absl::Seconds(1), kLastThawRetry = absl::Seconds(30);

// What cannot be brought back: namespaces whose processes are more than the container's.
absl::Status CheckPodCanBeRestored(const v1::PodSandboxConfig& config) {
  if (SharesPid(config)) {
    return absl::UnimplementedError(
        "checkpoint: the containers of this pod share a PID namespace, which cannot be restored without the "
        "processes of the others");
  }
  if (NamespacesOf(config).pid() == v1::NODE) {
    return absl::UnimplementedError("checkpoint: the pod is in the host's PID namespace");
  }
  if (HasUserNamespace(config)) {
    return absl::UnimplementedError("checkpoint: criu does not restore into a pod's user namespace");
  }
  return absl::OkStatus();
}

absl::Status CheckContainerCanBeRestored(const v1::ContainerConfig& config, const std::string& what) {
  if (NamespacesOf(config).pid() != v1::CONTAINER) {
    return absl::UnimplementedError(
        StrCat("checkpoint: ", what,
               " has no PID namespace of its own, so its processes could not get their "
               "numbers back"));
  }
  return absl::OkStatus();
}

// In the pool, before the dump of container `number`.
absl::Status PrepareDump(const std::string& images, const std::string& work, const std::string& config_path,
                         const std::string& criu_config) {
  RETURN_IF_ERROR(MakeDirs(images, 0700));
  RETURN_IF_ERROR(MakeDirs(work, 0700));
  ASSIGN_OR_RETURN(std::string config, ReadFile(config_path, kMaxConfigJsonBytes));
  if (!absl::StrContains(config, Av(criu_config))) {
    return absl::FailedPreconditionError("it was created by an older server: create it anew");
  }
  return absl::OkStatus();
}

// And after it: the images' place is needed for the next.
absl::Status PackDump(CheckpointParts parts, const std::string& config_path, const std::string& archive) {
  struct stat info;
  if (::stat(parts.volumes_dir.c_str(), &info) != 0) parts.volumes_dir.clear();
  ASSIGN_OR_RETURN(parts.spec_dump, ReadFile(config_path, kMaxConfigJsonBytes));
  RETURN_IF_ERROR(WriteCheckpointArchive(parts, archive));
  RETURN_IF_ERROR(RemoveTree(parts.images_dir));
  return RemoveTree(parts.work_dir);
}

absl::Status PackShm(const std::string& shm_dir, const std::string& tar) {
  ASSIGN_OR_RETURN(Fd fd, OpenFile(tar, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
  return Annotate(WriteLayerTar(shm_dir, fd.get()), "/dev/shm of the pod");
}

}  // namespace

absl::StatusOr<std::vector<std::shared_ptr<Container>>> RuntimeServer::ContainersToCheckpoint(
    const Sandbox& sandbox, const v1::CheckpointPodRequest& request) const {
  std::vector<std::shared_ptr<Container>> out;
  std::set<std::string> ids;
  for (int i = 0; i < request.container_ids_size(); ++i) {
    const std::string field = StrCat("container_ids[", i, "]");
    absl::StatusOr<std::shared_ptr<Container>> container = FindRunningContainer(request.container_ids(i));
    if (!container.ok()) return Annotate(container.status(), field);
    if ((*container)->record.sandbox_id() != sandbox.record.id()) {
      return absl::InvalidArgumentError(
          StrCat(field, ": container \"", request.container_ids(i), "\" is in another pod"));
    }
    if (!ids.insert((*container)->record.id()).second) {
      return absl::InvalidArgumentError(StrCat(field, ": names a container a second time"));
    }
    out.push_back(*std::move(container));
  }
  if (request.container_ids_size() == 0) {
    for (const std::shared_ptr<Container>& container : ContainersOf(sandbox.record.id())) {
      if (container->record.state() == records::CONTAINER_RUNNING) out.push_back(container);
    }
    std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) {
      return a->record.created_at_ns() < b->record.created_at_ns();
    });
  }
  if (out.empty()) {
    return absl::FailedPreconditionError(
        StrCat("pod sandbox ", sandbox.record.id(), ": no container of it is running"));
  }
  std::set<std::string> names;
  for (const auto& container : out) {
    const v1::ContainerConfig& config = container->record.config();
    if (!names.insert(config.metadata().name()).second) {
      return absl::FailedPreconditionError(
          StrCat("two containers ", config.metadata().name(), " run: name one of them in container_ids"));
    }
    RETURN_IF_ERROR(CheckContainerCanBeRestored(config, StrCat("container ", config.metadata().name())));
  }
  return out;
}

absl::Status RuntimeServer::CheckLabelsCanBeRestored() const {
  if (!deps_.host.selinux) return absl::OkStatus();
  return absl::UnimplementedError(
      "checkpoints of pods on a host with SELinux: processes would come back with another pod's categories");
}

Task<absl::StatusOr<v1::CheckpointPodResponse>> RuntimeServer::CheckpointPod(
    v1::CheckpointPodRequest request) {
  const std::string scratch = NewScratch("dump");
  return InScratch(&env_, scratch, CheckpointPodIn(std::move(request), scratch));
}

Task<absl::StatusOr<v1::CheckpointPodResponse>> RuntimeServer::CheckpointPodIn(
    v1::CheckpointPodRequest request, std::string scratch) {
  CO_ASSIGN_OR_RETURN_SYNC(std::shared_ptr<Sandbox> sandbox, FindSandbox(request.pod_sandbox_id()));
  const std::string id = sandbox->record.id(), what = StrCat("checkpoint pod sandbox ", id);
  const std::string location = request.output_path();
  CO_RETURN_IF_ERROR_SYNC(CheckCheckpointLocation(location, "output_path"));
  CO_RETURN_IF_ERROR_SYNC(CheckNoCheckpointOptions(request.options()));
  if (sandbox->record.state() != records::SANDBOX_RUNNING) {
    co_return absl::FailedPreconditionError(StrCat("pod sandbox ", id, " is not running"));
  }
  CO_RETURN_IF_ERROR_SYNC(CheckLabelsCanBeRestored());
  CO_RETURN_IF_ERROR_SYNC(CheckPodCanBeRestored(sandbox->record.config()));
  CO_ASSIGN_OR_RETURN_SYNC(std::vector<std::shared_ptr<Container>> containers,
                           ContainersToCheckpoint(*sandbox, request));
  CO_ASSIGN_OR_RETURN_SYNC(oci::OciRuntime * runtime, RuntimeFor(sandbox->record.runtime_handler()));
  CO_RETURN_IF_ERROR(runtime->CanCheckpoint());

  PodCheckpointFacts facts;
  facts.id = id;
  facts.name = sandbox->record.config().metadata().name();
  facts.pod_namespace = sandbox->record.config().metadata().namespace_();
  facts.uid = sandbox->record.config().metadata().uid();
  facts.runtime = runtime->name();
  facts.checkpointed_at =
      absl::FormatTime(absl::RFC3339_full, absl::FromUnixNanos(NowNs()), absl::UTCTimeZone());
  facts.host_network = HostNetwork(sandbox->record.config());
  facts.host_ipc = HostIpc(sandbox->record.config());
  for (const auto& container : containers) {
    const records::Container& record = container->record;
    const v1::ContainerConfig& config = record.config();
    facts.containers.push_back({config.metadata().name(), record.id(), record.image_id(), config.tty(),
                                config.stdin(), SupplementalGroupsOf(config)});
  }

  auto prepare = [dir = scratch, location]() -> absl::Status {
    RETURN_IF_ERROR(CheckArchivePlace(location, "output_path"));
    return MakeDirs(dir + "/containers", 0700);
  };
  Task<absl::Status> preparing = env_.Blocking<absl::Status>(prepare);
  absl::Status status = co_await std::move(preparing);
  if (!status.ok()) co_return Annotate(status, what);
  std::vector<FrozenDump> dumps;
  for (size_t i = 0; i < containers.size(); ++i) {
    FrozenDump& dump = dumps.emplace_back();
    dump.container = containers[i];
    dump.dir = StrCat(scratch, "/", i);
    dump.cgroup = containers[i]->record.cgroup_path();
    dump.archive = StrCat(scratch, "/", ContainerTarName(i));
  }
  const std::string shm = facts.host_ipc ? "" : SandboxDir(id) + "/shm";
  Task<absl::Status> checkpoint =
      CheckpointFrozen(std::move(dumps), runtime, shm, StrCat(scratch, "/", kShmTarName));
  status = co_await std::move(checkpoint);
  if (!status.ok()) co_return Annotate(status, what);

  auto pack = [facts, dir = scratch, location] { return WritePodArchive(facts, dir, location); };
  Task<absl::Status> packing = env_.Blocking<absl::Status>(pack);
  status = co_await std::move(packing);
  if (!status.ok()) co_return Annotate(status, what);
  co_return v1::CheckpointPodResponse();
}

Task<absl::Status> RuntimeServer::CheckpointFrozen(std::vector<FrozenDump> dumps, oci::OciRuntime* runtime,
                                                   std::string shm_dir, std::string shm_tar) {
  absl::Status status;
  size_t begun = 0;  // of freezing; another call's are not ours to thaw
  for (; begun < dumps.size() && status.ok(); ++begun) {
    status = BeginCheckpoint(dumps[begun].container.get());
    if (!status.ok()) break;
    Task<absl::Status> freeze = runtime->Pause(dumps[begun].container->record.id());
    status = co_await std::move(freeze);
  }
  for (size_t i = 0; i < dumps.size() && status.ok(); ++i) {
    Task<absl::Status> dump = DumpFrozen(dumps[i], runtime);
    status = co_await std::move(dump);
    if (!status.ok()) status = Annotate(status, StrCat("container ", dumps[i].container->record.id()));
  }
  if (status.ok() && !shm_dir.empty()) {
    auto pack = [shm_dir, shm_tar] { return PackShm(shm_dir, shm_tar); };
    Task<absl::Status> packing = env_.Blocking<absl::Status>(pack);
    status = co_await std::move(packing);
  }
  for (size_t i = 0; i < begun; ++i) {
    // ThawAll() came in between: it may have run while it was packed.
    if (status.ok() && !dumps[i].container->record.checkpointing())
      status = absl::AbortedError("the server is ending");
    Task<absl::Status> thaw = Thaw(dumps[i].container, runtime);
    absl::Status thawed = co_await std::move(thaw);
    if (status.ok()) status = thawed;
  }
  co_return status;
}

absl::Status RuntimeServer::BeginCheckpoint(Container* container) {
  const std::string& id = container->record.id();
  RETURN_IF_ERROR(FindRunningContainer(id).status());
  if (container->record.checkpointing()) {
    return absl::FailedPreconditionError(StrCat("container ", id, ": another checkpoint is under way"));
  }
  // Written first: whoever comes after a kill of this server lets it run on.
  container->record.set_checkpointing(true);
  absl::Status saved = Save(*container);
  if (!saved.ok()) container->record.set_checkpointing(false);
  return saved;
}

Task<absl::Status> RuntimeServer::Thaw(std::shared_ptr<Container> container, oci::OciRuntime* runtime) {
  Task<absl::Status> thaw = ThawOnce(container, runtime);
  absl::Status thawed = co_await std::move(thaw);
  if (!thawed.ok()) {
    LogError("container stays frozen, trying again",
             {{"container", container->record.id()}, {"error", thawed}});
    scope_.Spawn("thaw", KeepThawing(std::move(container), runtime));
  }
  co_return thawed;
}

Task<void> RuntimeServer::KeepThawing(std::shared_ptr<Container> container, oci::OciRuntime* runtime) {
  for (absl::Duration pause = kFirstThawRetry;; pause = std::min(2 * pause, kLastThawRetry)) {
    Task<void> nap = env_.clock().Sleep(pause);
    co_await std::move(nap);
    if (container->removed) co_return;
    Task<absl::Status> thaw = ThawOnce(container, runtime);
    absl::Status thawed = co_await std::move(thaw);
    if (thawed.ok()) co_return;
    LogWarning("container stays frozen", {{"container", container->record.id()}, {"error", thawed}});
  }
}

Task<void> RuntimeServer::ThawAll() {
  std::vector<std::shared_ptr<Container>> frozen;
  for (const auto& [id, container] : containers_) {
    if (container->record.checkpointing()) frozen.push_back(container);
  }
  for (const std::shared_ptr<Container>& container : frozen) {
    absl::StatusOr<oci::OciRuntime*> runtime = RuntimeFor(container->record.runtime_handler());
    absl::Status thawed = runtime.status();
    if (runtime.ok()) {
      Task<absl::Status> thaw = ThawOnce(container, *runtime);
      thawed = co_await std::move(thaw);
    }
    if (!thawed.ok()) {
      LogError("container stays frozen until the next start of the server",
               {{"container", container->record.id()}, {"error", thawed}});
    }
  }
}

Task<absl::Status> RuntimeServer::ThawOnce(std::shared_ptr<Container> container, oci::OciRuntime* runtime) {
  Task<absl::Status> resume = runtime->Resume(container->record.id());
  absl::Status resumed = co_await std::move(resume);
  // It was not frozen, or has ended.
  if (absl::IsFailedPrecondition(resumed) || absl::IsNotFound(resumed)) resumed = absl::OkStatus();
  if (!resumed.ok()) co_return resumed;
  container->record.set_checkpointing(false);
  if (container->removed) co_return absl::OkStatus();
  co_return Save(*container);
}

Task<absl::Status> RuntimeServer::DumpFrozen(FrozenDump frozen, oci::OciRuntime* runtime) {
  const std::string id = frozen.container->record.id();
  const std::string config = ContainerDir(id) + "/config.json";
  oci::CheckpointOptions options;
  options.images_dir = StrCat(frozen.dir, "/", kImagesName);
  options.work_dir = StrCat(frozen.dir, "/work");
  options.timeout = frozen.timeout;
  auto prepare = [this, options, config, id, cgroup = frozen.cgroup]() -> absl::Status {
    RETURN_IF_ERROR(PrepareDump(options.images_dir, options.work_dir, config, CriuConfigPath(id)));
    return WriteCriuConfig(id, cgroup);
  };
  Task<absl::Status> preparing = env_.Blocking<absl::Status>(prepare);
  absl::Status status = co_await std::move(preparing);
  if (!status.ok()) co_return status;
  const int64_t at_ns = NowNs();
  Task<absl::Status> dump = runtime->Checkpoint(id, options);
  status = co_await std::move(dump);
  if (!status.ok()) co_return status;
  CheckpointParts parts;
  parts.config_dump = EncodeCheckpointFacts(FactsOf(*frozen.container, at_ns));
  parts.images_dir = options.images_dir;
  parts.work_dir = options.work_dir;
  parts.upper_dir = deps_.images->RootfsLayer(id);
  parts.volumes_dir = VolumesDir(id);
  auto pack = [parts, config, archive = frozen.archive] { return PackDump(parts, config, archive); };
  Task<absl::Status> packing = env_.Blocking<absl::Status>(pack);
  status = co_await std::move(packing);
  co_return status;
}

}  // namespace keelson::cri
