// Root file systems: an overlay of an image's layers and a directory of the container's own.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"
#include "images/project_quota.h"
#include "images/store.h"

namespace keelson::images {
namespace {

constexpr absl::Duration kUsageMaxAge = absl::Seconds(10);

// The upper directory shows through as the root: it looks like the root of the image's top layer.
absl::Status MakeUpper(const std::string& dir, const std::string& top_layer, uint32_t project) {
  RETURN_IF_ERROR(MakeDirs(dir + "/upper", 0755));
  RETURN_IF_ERROR(MakeDirs(dir + "/work", 0700));
  if (project != 0) {
    // Both: overlayfs makes files in the one and moves them to the other.
    RETURN_IF_ERROR(SetProject(dir + "/upper", project));
    RETURN_IF_ERROR(SetProject(dir + "/work", project));
  }
  struct stat st;
  if (::stat(top_layer.c_str(), &st) != 0) return ErrnoStatus(errno, StrCat("stat ", top_layer));
  std::string upper = dir + "/upper";
  if (::geteuid() == 0 && ::chown(upper.c_str(), st.st_uid, st.st_gid) != 0) {
    return ErrnoStatus(errno, StrCat("chown ", upper));
  }
  if (::chmod(upper.c_str(), st.st_mode & 07777) != 0) return ErrnoStatus(errno, StrCat("chmod ", upper));
  return absl::OkStatus();
}

// The layers as a user namespace sees them, mounted for as long as it lives: overlayfs takes private copies.
// (Since Linux 6.15 it would take mounts that are attached nowhere.)
class MappedLayers {
 public:
  explicit MappedLayers(std::string scratch) : scratch_(std::move(scratch)) {}
  ~MappedLayers() {
    absl::Status status = Drop();
    if (!status.ok()) LogWarning("image store: ID-mapped layers stay", {{"error", status}});
  }
  MappedLayers(const MappedLayers&) = delete;
  MappedLayers& operator=(const MappedLayers&) = delete;

  // Replaces the paths by those of the mapped ones.
  absl::Status Map(const std::string& userns_path, std::vector<std::string>* layers) {
    for (size_t i = 0; i < layers->size(); ++i) {
      std::string at = StrCat(scratch_, "/", i);
      RETURN_IF_ERROR(MakeDirs(at, 0700));
      made_.push_back(at);
      RETURN_IF_ERROR(MountIdMapped((*layers)[i], at, userns_path));
      (*layers)[i] = at;
    }
    return absl::OkStatus();
  }
  absl::Status Drop() {
    if (made_.empty()) return absl::OkStatus();
    absl::Status status;
    for (const std::string& at : std::exchange(made_, {})) {
      absl::Status undone = UnmountAll(at);
      if (status.ok()) status = undone;
    }
    return status.ok() ? RemoveTree(scratch_) : status;
  }

 private:
  std::string scratch_;
  std::vector<std::string> made_;
};

// What is in `own`/upper, from the project that `own`/work has, too.
absl::StatusOr<UsageBytes> LayerUsageOf(const std::string& own, uint32_t project) {
  ASSIGN_OR_RETURN(UsageBytes usage, ProjectUsage(own, project));
  for (const char* fixed : {"/work", "/work/work"}) {
    struct stat st;
    if (::stat((own + fixed).c_str(), &st) != 0) continue;
    usage.used_bytes -= std::min<uint64_t>(usage.used_bytes, static_cast<uint64_t>(st.st_blocks) * 512);
    usage.inodes -= std::min<uint64_t>(usage.inodes, 1);
  }
  return usage;
}

absl::Status FillUpper(const std::string& upper, const std::string& layer_tar, uint64_t max_bytes) {
  ASSIGN_OR_RETURN(Fd tar, OpenFile(layer_tar, O_RDONLY | O_NOFOLLOW));
  ASSIGN_OR_RETURN(Fd root, OpenFile(upper, O_RDONLY | O_DIRECTORY));
  FdSource source(tar.get());
  ByteBudget budget(max_bytes);
  return Annotate(UnpackLayer(&source, root.get(), &budget, UnpackOptions()).status(),
                  StrCat("unpack ", layer_tar));
}

absl::Status MountBlocking(const StoreDir& dir, const RootfsRecord& rootfs, OverlayMount mount, bool fresh,
                           const std::string& layer_tar, uint64_t max_bytes) {
  std::string own = dir.rootfs(rootfs.key);
  if (!fresh) {
    ASSIGN_OR_RETURN(bool mounted, IsOverlayMounted(mount.target, mount.upper));
    if (mounted) return absl::OkStatus();
  }
  RETURN_IF_ERROR(MakeDirs(own, 0700));
  MappedLayers mapped(own + "/lower");
  if (!rootfs.userns_path.empty()) RETURN_IF_ERROR(mapped.Map(rootfs.userns_path, &mount.lower));
  if (fresh) {
    if (!rootfs.readonly) RETURN_IF_ERROR(MakeUpper(own, mount.lower[0], rootfs.project));
    if (!layer_tar.empty()) RETURN_IF_ERROR(FillUpper(mount.upper, layer_tar, max_bytes));
    RETURN_IF_ERROR(WriteFileAtomic(own + "/rootfs.json", EncodeRootfs(rootfs), 0644, /*durable=*/false));
  }
  RETURN_IF_ERROR(MakeDirs(mount.target, 0755));
  RETURN_IF_ERROR(MountOverlay(mount));
  return mapped.Drop();
}

}  // namespace

uint32_t Store::TakeProject() {
  if (!counts_projects_) return 0;
  uint32_t project = kFirstProject;
  for (uint32_t taken : projects_) {  // ascending
    if (taken == project) ++project;
  }
  projects_.insert(project);
  return project;
}

absl::StatusOr<OverlayMount> Store::MountOf(const RootfsRecord& rootfs) const {
  OverlayMount out;
  out.target = rootfs.mount_path;
  out.selinux_label = rootfs.selinux_label;
  for (auto it = rootfs.chain_ids.rbegin(); it != rootfs.chain_ids.rend(); ++it) {
    if (layers_.count(*it) == 0) return absl::DataLossError(StrCat("layer ", *it, " is missing"));
    out.lower.push_back(dir_.layer_diff(*it));
  }
  size_t wanted = rootfs.readonly ? 2 : 1;  // the kernel wants two directories in every overlay
  for (const char* empty : {"empty/a", "empty/b"}) {
    if (out.lower.size() < wanted) out.lower.push_back(dir_.sub(empty));
  }
  if (!rootfs.readonly) {
    out.upper = dir_.rootfs(rootfs.key) + "/upper";
    out.work = dir_.rootfs(rootfs.key) + "/work";
  }
  return out;
}

Task<absl::Status> Store::MountRootfs(RootfsOptions options) {
  std::string what = StrCat("mount the root file system of ", options.key);
  if (!IsRootfsKey(options.key)) {
    co_return absl::InvalidArgumentError(StrCat("root file system key \"", options.key, "\" is not a name"));
  }
  if (options.mount_path.empty() || options.mount_path[0] != '/') {
    co_return absl::InvalidArgumentError(StrCat(what, ": the path must be absolute"));
  }
  if (options.readonly && !options.layer_tar.empty()) {
    co_return absl::InvalidArgumentError(StrCat(what, ": a layer for what has no writable one"));
  }
  const StoredImage* image = FindStored(options.image_id);
  if (image == nullptr) co_return absl::NotFoundError(StrCat(what, ": no image ", options.image_id));
  RootfsRecord rootfs{options.key,      image->record.id,  options.mount_path,
                      options.readonly, image->ChainIds(), options.userns_path};
  rootfs.selinux_label = options.selinux_label;
  auto present = rootfs_.find(options.key);
  bool fresh = present == rootfs_.end();
  if (!fresh &&
      (present->second.image_id != rootfs.image_id || present->second.readonly != rootfs.readonly ||
       present->second.mount_path != rootfs.mount_path || present->second.userns_path != rootfs.userns_path ||
       present->second.selinux_label != rootfs.selinux_label)) {
    co_return absl::AlreadyExistsError(StrCat(what, ": there is one of image ", present->second.image_id,
                                              " at ", present->second.mount_path));
  }
  auto mount = MountOf(rootfs);
  if (!mount.ok()) co_return Annotate(mount.status(), what);
  if (fresh) {
    if (!rootfs.readonly) rootfs.project = TakeProject();
    for (const std::string& chain_id : rootfs.chain_ids) ++layer_references_[chain_id];
    rootfs_[options.key] = rootfs;
  }
  absl::AnyInvocable<absl::Status()> work = [root = dir_.root(), rootfs, mount = *mount, fresh,
                                             tar = options.layer_tar, limit = options_.max_image_bytes] {
    return MountBlocking(StoreDir(root), rootfs, mount, fresh, tar, limit);
  };
  Task<absl::Status> run = env_.Blocking<absl::Status>(std::move(work));
  absl::Status status = co_await std::move(run);
  if (status.ok()) co_return status;
  if (fresh) {
    Task<absl::Status> undo = RemoveRootfs(options.key, options.mount_path);
    absl::Status undone = co_await std::move(undo);
    if (!undone.ok()) LogWarning("cannot undo a mount", {{"key", options.key}, {"error", undone}});
  }
  co_return Annotate(status, what);
}

Task<absl::Status> Store::RemoveRootfs(std::string key, std::string mount_path) {
  if (!IsRootfsKey(key)) {
    co_return absl::InvalidArgumentError(StrCat("root file system key \"", key, "\" is not a name"));
  }
  auto present = rootfs_.find(key);
  std::vector<std::string> paths;
  if (!mount_path.empty()) paths.push_back(mount_path);
  if (present != rootfs_.end() && present->second.mount_path != mount_path) {
    paths.push_back(present->second.mount_path);
  }
  std::string trash = TempName();
  auto gone = std::make_shared<bool>(false);
  absl::AnyInvocable<absl::Status()> work = [root = dir_.root(), key, paths, trash, gone]() -> absl::Status {
    StoreDir dir(root);
    for (const std::string& path : paths) {
      RETURN_IF_ERROR(UnmountAll(path));
      (void)::rmdir(path.c_str());  // stays when it holds something
    }
    RETURN_IF_ERROR(dir.Discard(dir.rootfs(key), trash));
    absl::Status purged = dir.PurgeTrash(trash);
    *gone = purged.ok();
    if (!purged.ok()) LogWarning("image store: cannot empty the trash", {{"key", key}, {"error", purged}});
    return absl::OkStatus();
  };
  Task<absl::Status> run = env_.Blocking<absl::Status>(std::move(work));
  absl::Status status = co_await std::move(run);
  if (!status.ok()) co_return Annotate(status, StrCat("remove the root file system of ", key));
  auto it = rootfs_.find(key);
  if (it != rootfs_.end()) {
    std::vector<std::string> chain_ids = std::move(it->second.chain_ids);
    // Files that could not be removed would be counted to the next one.
    if (*gone) projects_.erase(it->second.project);
    rootfs_.erase(it);
    rootfs_usage_.erase(key);
    for (const std::string& chain_id : chain_ids) DropLayerReference(chain_id);
  }
  co_return absl::OkStatus();
}

std::vector<std::string> Store::RootfsKeys() const {
  std::vector<std::string> out;
  for (const auto& [key, rootfs] : rootfs_) out.push_back(key);
  return out;
}

std::string Store::RootfsLayer(const std::string& key) const {
  auto present = rootfs_.find(key);
  if (present == rootfs_.end() || present->second.readonly) return "";
  return dir_.rootfs(key) + "/upper";
}

Task<absl::StatusOr<UsageBytes>> Store::RootfsUsage(std::string key) {
  auto present = rootfs_.find(key);
  if (present == rootfs_.end()) co_return absl::NotFoundError(StrCat("no root file system ", key));
  if (present->second.readonly) co_return UsageBytes();
  if (present->second.project != 0) {
    absl::AnyInvocable<absl::StatusOr<UsageBytes>()> read =
        [own = dir_.rootfs(key), project = present->second.project] { return LayerUsageOf(own, project); };
    Task<absl::StatusOr<UsageBytes>> count = env_.Blocking<absl::StatusOr<UsageBytes>>(std::move(read));
    absl::StatusOr<UsageBytes> counted = co_await std::move(count);
    if (counted.ok()) co_return counted;
    // Mounted without quotas since.
    LogWarning("image store: no usage by project", {{"key", key}, {"error", counted.status()}});
    present = rootfs_.find(key);
    if (present == rootfs_.end()) co_return absl::NotFoundError(StrCat("no root file system ", key));
  }
  absl::Duration now = env_.clock().Monotonic();
  auto cached = rootfs_usage_.find(key);
  if (cached != rootfs_usage_.end() && now - cached->second.at < kUsageMaxAge) {
    co_return cached->second.usage;
  }
  // Whoever asks meanwhile gets the old figure.
  if (cached != rootfs_usage_.end()) cached->second.at = now;
  using Result = absl::StatusOr<LayerUsage>;
  absl::AnyInvocable<Result()> work = [path = dir_.rootfs(key) + "/upper"]() -> Result {
    ASSIGN_OR_RETURN(Fd fd, OpenFile(path, O_RDONLY | O_DIRECTORY));
    return MeasureTree(fd.get());
  };
  Task<Result> run = env_.Blocking<Result>(std::move(work));
  Result measured = co_await std::move(run);
  if (!measured.ok()) co_return Annotate(measured.status(), StrCat("measure root file system ", key));
  UsageBytes usage{measured->used_bytes, measured->inodes};
  if (rootfs_.count(key) != 0) rootfs_usage_[key] = {usage, env_.clock().Monotonic()};
  co_return usage;
}

}  // namespace keelson::images
