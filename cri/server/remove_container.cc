#include <signal.h>
#include <sys/stat.h>

#include <filesystem>
#include <utility>

#include "base/fd.h"
#include "base/status.h"
#include "base/strings.h"
#include "cri/server/runtime_server.h"
#include "images/overlay.h"

namespace keelson::cri {

// The ID-mapped volumes of the container (create_container.cc, MapMountSources), and criu's mounts.
absl::Status UnmountVolumes(const std::string& dir) {
  struct stat info;
  for (int n = 0; ::lstat(StrCat(dir, "/volume", n).c_str(), &info) == 0; ++n) {
    RETURN_IF_ERROR(images::UnmountAll(StrCat(dir, "/volume", n)));
  }
  // A criu that was killed while it restored leaves its own (".criu.cgyard.XXXXXX") where it worked.
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(dir, error)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(".criu.")) RETURN_IF_ERROR(images::UnmountAll(StrCat(dir, "/", name)));
  }
  return absl::OkStatus();
}

Task<absl::StatusOr<v1::RemoveContainerResponse>> RuntimeServer::RemoveContainer(
    v1::RemoveContainerRequest request) {
  absl::StatusOr<std::shared_ptr<Container>> container = FindContainer(request.container_id());
  if (absl::IsNotFound(container.status())) co_return v1::RemoveContainerResponse();
  if (!container.ok()) co_return container.status();
  CO_RETURN_IF_ERROR(StopRunningContainer(*container, absl::ZeroDuration()));
  Task<AsyncMutex::Guard> lock = (*container)->mutex.Lock();
  AsyncMutex::Guard guard = co_await std::move(lock);
  CO_RETURN_IF_ERROR(RemoveContainerLocked(*container));
  co_return v1::RemoveContainerResponse();
}

Task<absl::Status> RuntimeServer::RemoveContainerLocked(std::shared_ptr<Container> container) {
  if (container->removed) co_return absl::OkStatus();
  const std::string id = container->record.id();
  if (container->record.state() == records::CONTAINER_RUNNING) {
    co_return absl::FailedPreconditionError(StrCat("remove container ", id, ": it was started meanwhile"));
  }
  container->record.set_removing(true);
  CO_RETURN_IF_ERROR_SYNC(Save(*container));
  std::shared_ptr<void> block;
  if (deps_.nri != nullptr) {
    Task<std::shared_ptr<void>> take = BlockPluginSync();
    block = co_await std::move(take);
    Task<void> tell = TellRemoved(container);
    co_await std::move(tell);
  }
  CO_RETURN_IF_ERROR(TearDownContainer(container));
  CO_RETURN_IF_ERROR_SYNC(store_.RemoveContainer(id));
  container->removed = true;
  containers_.erase(id);
  absl::StatusOr<std::shared_ptr<Sandbox>> sandbox = FindSandbox(container->record.sandbox_id());
  if (sandbox.ok()) {
    FreeName(&container_names_,
             ContainerNameKey(container->record.config().metadata(), (*sandbox)->record.config().metadata()),
             id);
  }
  Publish(v1::CONTAINER_DELETED_EVENT, id, container->record.sandbox_id());
  co_return absl::OkStatus();
}

Task<absl::Status> RuntimeServer::TearDownContainer(std::shared_ptr<Container> container) {
  const records::Container& record = container->record;
  const std::string id = record.id();
  const std::string dir = ContainerDir(id);
  std::string what = StrCat("remove container ", id);
  // Only what was begun to start can be known to the OCI runtime.
  if (record.has_init() ||
      (record.state() != records::CONTAINER_CREATING && record.state() != records::CONTAINER_CREATED)) {
    Task<absl::Status> remove = DeleteInRuntime(id, record.runtime_handler(), record.cgroup_path());
    absl::Status status = co_await std::move(remove);
    if (!status.ok()) co_return Annotate(status, what);
  }
  Task<void> monitor = AwaitEnd(record.monitor());
  co_await std::move(monitor);
  deps_.monitor->Forget(id);
  for (int i = 0; i < record.image_mount_keys_size(); ++i) {
    Task<absl::Status> unmount =
        deps_.images->RemoveRootfs(record.image_mount_keys(i), StrCat(dir, "/image", i));
    absl::Status status = co_await std::move(unmount);
    if (!status.ok()) co_return Annotate(status, what);
  }
  Task<absl::Status> unmount = deps_.images->RemoveRootfs(id, dir + "/rootfs");
  absl::Status status = co_await std::move(unmount);
  if (!status.ok()) co_return Annotate(status, what);
  auto remove_files = [dir, volumes = VolumesDir(id), restore = RestoreDir(id)] {
    absl::Status status = UnmountVolumes(dir);
    if (status.ok()) status = RemoveTree(dir);
    if (status.ok()) status = RemoveTree(volumes);
    return status.ok() ? RemoveTree(restore) : status;
  };
  Task<absl::Status> files = env_.Blocking<absl::Status>(remove_files);
  status = co_await std::move(files);
  co_return Annotate(status, what);
}

}  // namespace keelson::cri
