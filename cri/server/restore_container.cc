// Containers that come from a checkpoint. CreateContainer on one: what names it is the image of the request,
// an archive of CheckpointContainer on this node or an image that was made from one, as with containerd 2 and
// CRI-O. The container is made as ever, from the request alone, on the image that the checkpoint names; its
// writable layer begins with what the old one had written, and its start lets its processes go on from criu's
// images, which are kept until then. RestorePod makes its containers by the same steps.
#include "cri/server/restore_container.h"

#include <absl/container/flat_hash_map.h>
#include <absl/strings/match.h>
#include <absl/strings/str_join.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <utility>

#include "base/fd.h"
#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"
#include "cri/server/checkpoint_archive.h"
#include "cri/server/checkpoint_spec.h"
#include "cri/server/container_checkpoint.h"
#include "cri/server/namespaces.h"
#include "cri/server/runtime_server.h"
#include "images/unpack.h"

namespace keelson::cri {

namespace {

// Annotations of the container, which containerd sets as well.
constexpr char kRestoredAnnotation[] = "restored", kCheckpointedAtAnnotation[] = "checkpointedAt",
               kCheckpointImageAnnotation[] = "checkpointImage";

constexpr std::string_view kImageField = "config.image.image";

absl::StatusOr<ContainerCheckpoint> UnpackArchive(const std::string& path, const std::string& dir) {
  ASSIGN_OR_RETURN(Fd archive, OpenCheckpointArchive(path));
  RETURN_IF_ERROR(MakeDirs(dir, 0700));
  images::ByteBudget budget(kMaxCheckpointBytes);
  RETURN_IF_ERROR(UnpackContainerArchive(archive.get(), dir, &budget));
  return ReadContainerCheckpoint(dir);
}

absl::StatusOr<ContainerCheckpoint> CopyImage(const std::string& rootfs, const std::string& dir) {
  RETURN_IF_ERROR(MakeDirs(dir, 0700));
  RETURN_IF_ERROR(CopyCheckpointFiles(rootfs, dir));
  return ReadContainerCheckpoint(dir);
}

// As CheckSameRequest wants it: what the archive does not say is as asked for.
CheckpointedContainer AskedFor(const CheckpointFacts& facts, const v1::ContainerConfig& config) {
  CheckpointedContainer out;
  out.name = facts.name;
  out.id = facts.id;
  out.tty = config.tty();  // CheckSameProcess has it from spec.dump
  out.stdin_open = facts.stdin_open;
  out.supplemental_groups = facts.supplemental_groups;
  return out;
}

// A container's name, taken while its checkpoint is read: that may be long, and a kubelet asks again
// meanwhile.
class NameHold {
 public:
  using Names = absl::flat_hash_map<std::string, std::string>;
  NameHold(Names* names, std::string key) : names_(names), key_(std::move(key)) {
    held_ = names_->try_emplace(key_, "one that is being created from a checkpoint").second;
  }
  ~NameHold() { Release(); }
  NameHold(const NameHold&) = delete;
  NameHold& operator=(const NameHold&) = delete;
  bool held() const { return held_; }
  void Release() {
    if (std::exchange(held_, false)) names_->erase(key_);
  }

 private:
  Names* names_;
  const std::string key_;
  bool held_ = false;
};

}  // namespace

absl::Status CheckPodTakesRestored(const v1::PodSandboxConfig& config, std::string_view prefix) {
  constexpr std::string_view kField = "linux.security_context.namespace_options";
  if (SharesPid(config) || NamespacesOf(config).pid() == v1::NODE) {
    return absl::UnimplementedError(StrCat(prefix, kField, ".pid: only CONTAINER can be restored"));
  }
  if (HasUserNamespace(config)) {
    return absl::UnimplementedError(
        StrCat(prefix, kField, ".userns_options: criu does not restore into a pod's user namespace"));
  }
  return absl::OkStatus();
}

absl::Status CheckTakesRestored(const v1::ContainerConfig& config) {
  if (NamespacesOf(config).pid() == v1::CONTAINER) return absl::OkStatus();
  return absl::UnimplementedError(
      "linux.security_context.namespace_options.pid: only CONTAINER can be restored");
}

absl::Status CheckSameRequest(const v1::ContainerConfig& config, const CheckpointedContainer& container) {
  if (config.tty() != container.tty) {
    return absl::InvalidArgumentError("tty: the container in the checkpoint is otherwise");
  }
  if (container.stdin_open.has_value() && config.stdin() != *container.stdin_open) {
    return absl::InvalidArgumentError("stdin: the container in the checkpoint is otherwise");
  }
  // As asked for: the image's own groups may be others by now, in a file that the container has written.
  if (container.supplemental_groups.has_value() &&
      SupplementalGroupsOf(config) != *container.supplemental_groups) {
    return absl::InvalidArgumentError(StrCat(
        "linux.security_context.supplemental_groups: ", absl::StrJoin(SupplementalGroupsOf(config), ","),
        "; the container in the checkpoint has ", absl::StrJoin(*container.supplemental_groups, ",")));
  }
  return absl::OkStatus();
}

bool RuntimeServer::IsCheckpoint(const v1::ImageSpec& spec) const {
  if (spec.image().starts_with('/')) return true;
  const images::ImageRecord* image = deps_.images->Find(spec.image());
  return image != nullptr && !image->checkpoint_of.empty();
}

Task<absl::StatusOr<ContainerCheckpoint>> RuntimeServer::UnpackCheckpoint(std::string name, std::string dir) {
  using Result = absl::StatusOr<ContainerCheckpoint>;
  if (name.starts_with('/')) {
    CO_RETURN_IF_ERROR_SYNC(CheckCheckpointLocation(name, kImageField));
    auto unpack = [name, dir] { return UnpackArchive(name, dir); };
    Task<Result> unpacking = env_.Blocking<Result>(unpack);
    Result unpacked = co_await std::move(unpacking);
    if (!unpacked.ok()) co_return Annotate(unpacked.status(), StrCat(kImageField, " \"", name, "\""));
    co_return unpacked;
  }
  const images::ImageRecord* image = deps_.images->Find(name);
  if (image == nullptr) co_return absl::NotFoundError(StrCat("image \"", name, "\" is not here any more"));
  if (!options_.restore_from_images) {
    co_return absl::FailedPreconditionError(
        StrCat("image \"", name, "\" is a checkpoint of container \"", image->checkpoint_of,
               "\"; its processes would get whatever rights it says: start the server with "
               "--restore-from-images to let images be restored"));
  }
  images::RootfsOptions rootfs;
  rootfs.key = StrCat("checkpoint-", env_.random().Suffix(8));
  rootfs.image_id = image->id;
  // Where a restart looks for what a killed server has left (RemoveLeftovers).
  rootfs.mount_path = ContainerDir(rootfs.key) + "/rootfs";
  rootfs.readonly = true;
  // Nobody but root gets to its setuid programs and devices, as with the root file systems of containers.
  auto make_dir = [dir = ContainerDir(rootfs.key)] { return MakePodDir(dir, std::nullopt); };
  Task<absl::Status> making = env_.Blocking<absl::Status>(make_dir);
  absl::Status mounted = co_await std::move(making);
  if (mounted.ok()) {
    Task<absl::Status> mounting = deps_.images->MountRootfs(rootfs);
    mounted = co_await std::move(mounting);
  }
  Result copied = absl::UnknownError("not copied");
  if (!mounted.ok()) {
    copied = mounted;
  } else {
    auto copy = [from = rootfs.mount_path, dir] { return CopyImage(from, dir); };
    Task<Result> copying = env_.Blocking<Result>(copy);
    copied = co_await std::move(copying);
  }
  Task<absl::Status> unmounting = deps_.images->RemoveRootfs(rootfs.key, rootfs.mount_path);
  absl::Status undone = co_await std::move(unmounting);
  if (undone.ok()) undone = RemoveTree(ContainerDir(rootfs.key));
  if (!undone.ok())
    LogWarning("checkpoint's image stays mounted", {{"path", rootfs.mount_path}, {"error", undone}});
  if (!copied.ok()) co_return Annotate(copied.status(), StrCat("image \"", name, "\""));
  co_return copied;
}

// By the reference it had; where the same image has come here by another way, by its ID.
Task<absl::StatusOr<std::string>> RuntimeServer::BaseImageOf(CheckpointFacts facts) {
  const std::string& name = facts.image_ref.empty() ? facts.image_name : facts.image_ref;
  const std::string what =
      StrCat(kConfigDumpName, ": \"", facts.image_ref.empty() ? "rootfsImageName" : "rootfsImageRef",
             "\": image \"", name, "\"");
  const images::ImageRecord* image = deps_.images->Find(name);
  if (image == nullptr && !facts.image_id.empty()) image = deps_.images->Find(facts.image_id);
  if (image == nullptr && absl::StrContains(facts.image_ref, "@sha256:")) {
    // No kubelet knows of it. Only what is named by its digest, as containerd: it cannot be another one.
    Task<absl::StatusOr<std::string>> pulling = deps_.images->Pull(facts.image_ref, images::PullOptions());
    absl::StatusOr<std::string> pulled = co_await std::move(pulling);
    if (!pulled.ok())
      co_return Annotate(pulled.status(), StrCat(what, ", which the checkpoint was made on, is not here"));
    image = deps_.images->Find(*pulled);
  }
  if (image == nullptr) {
    co_return absl::NotFoundError(
        StrCat(what, ", which the checkpoint was made on, is not here: pull it first"));
  }
  if (!facts.image_id.empty() && image->id != facts.image_id) {
    co_return absl::FailedPreconditionError(
        StrCat(what, " is ", image->id, "; the checkpoint was made on ", facts.image_id));
  }
  if (!image->checkpoint_of.empty()) {
    co_return absl::FailedPreconditionError(StrCat(what, " is a checkpoint itself"));
  }
  co_return image->id;
}

Task<absl::StatusOr<v1::CreateContainerResponse>> RuntimeServer::CreateFromCheckpoint(
    v1::CreateContainerRequest request) {
  const std::string scratch = NewScratch("create");
  return InScratch(&env_, scratch, CreateFromCheckpointIn(std::move(request), scratch));
}

Task<absl::StatusOr<v1::CreateContainerResponse>> RuntimeServer::CreateFromCheckpointIn(
    v1::CreateContainerRequest request, std::string scratch) {
  CO_ASSIGN_OR_RETURN_SYNC(std::shared_ptr<Sandbox> sandbox, FindSandbox(request.pod_sandbox_id()));
  CO_RETURN_IF_ERROR_SYNC(CheckPodTakesRestored(sandbox->record.config(), "sandbox_config."));
  CO_RETURN_IF_ERROR_SYNC(Annotate(CheckTakesRestored(request.config()), "config"));
  CO_RETURN_IF_ERROR_SYNC(CheckLabelsCanBeRestored());
  CO_ASSIGN_OR_RETURN_SYNC(oci::OciRuntime * runtime, RuntimeFor(sandbox->record.runtime_handler()));
  CO_RETURN_IF_ERROR(runtime->CanCheckpoint());
  const std::string key = ContainerNameKey(request.config().metadata(), sandbox->record.config().metadata());
  NameHold hold(&container_names_, key);
  if (!hold.held()) {
    co_return absl::AlreadyExistsError(
        StrCat("container ", key, ": the name is taken by ", container_names_[key]));
  }

  const std::string name = request.config().image().image();
  CO_ASSIGN_OR_RETURN(ContainerCheckpoint checkpoint, UnpackCheckpoint(name, scratch));
  const CheckpointFacts& facts = checkpoint.facts;
  CO_RETURN_IF_ERROR_SYNC(
      Annotate(CheckSameRequest(request.config(), AskedFor(facts, request.config())), "config"));
  CO_ASSIGN_OR_RETURN(std::string base, BaseImageOf(facts));

  v1::ContainerConfig* config = request.mutable_config();
  // A pod that names an image and no command means that of the image.
  if (config->command().empty() && config->args().empty()) {
    CO_ASSIGN_OR_RETURN_SYNC(std::vector<std::string> command, CheckpointedCommand(checkpoint.spec_dump));
    config->mutable_command()->Assign(command.begin(), command.end());
  }
  auto& annotations = *config->mutable_annotations();
  annotations[kRestoredAnnotation] = "true";
  if (!facts.checkpointed_at.empty()) annotations[kCheckpointedAtAnnotation] = facts.checkpointed_at;
  const std::string& specified = config->image().user_specified_image();
  annotations[kCheckpointImageAnnotation] = specified.empty() ? name : specified;
  config->mutable_image()->set_image(base);
  config->mutable_image()->set_user_specified_image(facts.image_name);
  hold.Release();  // CreateContainerOn takes it
  Task<absl::StatusOr<v1::CreateContainerResponse>> create = CreateContainerOn(std::move(request), scratch);
  absl::StatusOr<v1::CreateContainerResponse> created = co_await std::move(create);
  co_return created;
}

Task<absl::Status> RuntimeServer::PrepareRestore(std::shared_ptr<Container> container, std::string parts) {
  const std::string id = container->record.id();
  auto prepare = [this, parts, id, cgroup = container->record.cgroup_path(),
                  asked = container->record.config().linux().security_context()]() -> absl::Status {
    absl::StatusOr<std::string> had = ReadFile(StrCat(parts, "/", kSpecDumpName), kMaxSpecDumpBytes);
    if (!had.ok()) return Annotate(had.status(), kSpecDumpName);
    ASSIGN_OR_RETURN(std::string wanted, ReadFile(ContainerDir(id) + "/config.json", kMaxConfigJsonBytes));
    RETURN_IF_ERROR(CheckSameProcess(asked, *had, wanted));
    RETURN_IF_ERROR(FillVolumes(StrCat(parts, "/", kVolumesTarName), VolumesDir(id)));
    RETURN_IF_ERROR(WriteCriuConfig(id, cgroup));
    const std::string images = StrCat(parts, "/", kImagesName);
    if (::rename(images.c_str(), RestoreDir(id).c_str()) == 0) return absl::OkStatus();
    return ErrnoStatus(errno, StrCat("move ", images, " to ", RestoreDir(id)));
  };
  Task<absl::Status> preparing = env_.Blocking<absl::Status>(prepare);
  absl::Status status = co_await std::move(preparing);
  co_return status;
}

Task<void> RuntimeServer::DropRestoreImages(std::string id) {
  auto remove = [dir = RestoreDir(id)] { return RemoveTree(dir); };
  Task<absl::Status> removing = env_.Blocking<absl::Status>(remove);
  absl::Status removed = co_await std::move(removing);
  // They go with the container.
  if (!removed.ok()) LogWarning("criu's images stay", {{"container", id}, {"error", removed}});
}

// criu's images say where the processes are put and what confines them: as this pod asks for, or not at all.
absl::Status RuntimeServer::CheckRestored(const Sandbox& sandbox, const Container& container) const {
  // One that has ended already is nowhere.
  const records::Process& init = container.record.init();
  if (!deps_.kernel->IsAlive(init)) return absl::OkStatus();
  const std::string ns = SandboxDir(sandbox.record.id()) + "/ns/";
  std::vector<const char*> kinds;
  if (!HostNetwork(sandbox.record.config())) kinds = {kNetNamespace, kUtsNamespace};
  if (!HostIpc(sandbox.record.config())) kinds.push_back(kIpcNamespace);
  for (const char* kind : kinds) {
    if (deps_.kernel->IsIn(init, kind, ns + kind) || !deps_.kernel->IsAlive(init)) continue;
    return absl::InternalError(StrCat("container ", container.record.id(),
                                      " was restored outside of the pod's ", kind, " namespace"));
  }
  // Its limits are those of this cgroup.
  absl::StatusOr<std::vector<pid_t>> pids =
      deps_.cgroups->Pids(container.record.cgroup_path(), /*recursive=*/true);
  const bool inside = pids.ok() && std::find(pids->begin(), pids->end(), init.pid()) != pids->end();
  if (!inside && deps_.kernel->IsAlive(init)) {
    return absl::InternalError(
        StrCat("container ", container.record.id(), " was restored outside of its cgroup"));
  }
  if (!deps_.host.apparmor) return absl::OkStatus();
  ASSIGN_OR_RETURN(std::string wanted,
                   oci::ApparmorProfileOf(container.record.config().linux().security_context(), deps_.host));
  if (wanted.empty()) wanted = "unconfined";
  const std::string has = deps_.kernel->ApparmorProfile(init);
  if (has == wanted || !deps_.kernel->IsAlive(init)) return absl::OkStatus();
  return absl::FailedPreconditionError(
      StrCat("container ", container.record.id(), " was restored under AppArmor profile \"", has,
             "\", as it was checkpointed, not \"", wanted, "\" as the request asks for"));
}

}  // namespace keelson::cri
