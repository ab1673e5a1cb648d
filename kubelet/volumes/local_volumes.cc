#include "kubelet/volumes/local_volumes.h"

#include <absl/strings/str_split.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <vector>

#include "base/fd.h"
#include "base/status.h"
#include "base/strings.h"
#include "kubelet/volumes/atomic_writer.h"

namespace keelson::kubelet {
namespace {

constexpr uint32_t kGroupReadWrite = 0660;
constexpr uint32_t kGroupSearch = 0110;

absl::StatusOr<bool> IsMountPoint(Mounter& mounter, const std::string& path) {
  ASSIGN_OR_RETURN(std::vector<std::string> mounts, mounter.MountsBelow(path));
  return std::find(mounts.begin(), mounts.end(), path) != mounts.end();
}

// The folder, with its parents, and a tmpfs on it when asked for.
absl::Status MakeVolumeRoot(Mounter& mounter, const std::string& path, bool memory, int64_t size_bytes,
                            uint32_t mode) {
  bool made = ::access(path.c_str(), F_OK) != 0;
  RETURN_IF_ERROR(MakeDirs(path, 0750));
  if (memory) {
    ASSIGN_OR_RETURN(bool mounted, IsMountPoint(mounter, path));
    if (!mounted) return mounter.MountTmpfs(path, size_bytes, mode);
    return absl::OkStatus();
  }
  // Once: a container may have chosen another mode since.
  if (made && ::chmod(path.c_str(), mode) != 0) return ErrnoStatus(errno, StrCat("chmod ", path));
  return absl::OkStatus();
}

absl::Status GroupOne(int fd, const struct stat& st, int64_t group, const std::string& name) {
  if (::fchownat(fd, "", static_cast<uid_t>(-1), static_cast<gid_t>(group), AT_EMPTY_PATH) != 0) {
    return ErrnoStatus(errno, StrCat("chown ", name));
  }
  if (S_ISLNK(st.st_mode)) return absl::OkStatus();
  uint32_t mode = (st.st_mode & 07777) | kGroupReadWrite;
  if (S_ISDIR(st.st_mode)) mode |= S_ISGID | kGroupSearch;
  // O_PATH descriptors take no fchmod; their magic link does, and it names exactly this file.
  if (::chmod(StrCat("/proc/self/fd/", fd).c_str(), mode) != 0)
    return ErrnoStatus(errno, StrCat("chmod ", name));
  return absl::OkStatus();
}

absl::Status GroupTree(int parent_fd, const std::string& name, int64_t group, dev_t device, int depth) {
  if (depth > kMaxVolumeDepth)
    return absl::ResourceExhaustedError(StrCat(name, ": nested too deep for fsGroup"));
  Fd fd(::openat(parent_fd, name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (!fd.valid()) return errno == ENOENT ? absl::OkStatus() : ErrnoStatus(errno, StrCat("open ", name));
  struct stat st;
  if (::fstat(fd.get(), &st) != 0) return ErrnoStatus(errno, StrCat("stat ", name));
  if (st.st_dev != device) return absl::OkStatus();
  if (S_ISDIR(st.st_mode)) {
    auto children = FolderNames(fd.get());
    if (!children.ok()) return Annotate(children.status(), name);
    for (const std::string& child : *children) {
      RETURN_IF_ERROR(GroupTree(fd.get(), child, group, device, depth + 1));
    }
  }
  return GroupOne(fd.get(), st, group, name);  // the root last: it says that all is done
}

// The folder or file at `sub_path`, made as folders where missing: whoever may write into the volume may
// write there.
absl::StatusOr<Fd> OpenOrMakeBeneath(int root_fd, const std::string& sub_path) {
  auto there = OpenBeneath(root_fd, sub_path, O_PATH);
  if (there.ok() || !absl::IsNotFound(there.status())) return there;
  struct stat root;
  if (::fstat(root_fd, &root) != 0) return ErrnoStatus(errno, "stat the volume");
  const mode_t mode = root.st_mode & (S_ISGID | 0777);
  Fd parent(::fcntl(root_fd, F_DUPFD_CLOEXEC, 0));
  std::string walked;
  for (absl::string_view view : absl::StrSplit(sub_path, '/', absl::SkipEmpty())) {
    std::string part(view);
    if (part == ".") continue;
    StrAppend(&walked, walked.empty() ? "" : "/", part);
    // From the root each time: links inside may go up within it.
    auto next = OpenBeneath(root_fd, walked, O_PATH | O_DIRECTORY);
    if (absl::IsNotFound(next.status())) {
      if (::mkdirat(parent.get(), part.c_str(), mode) != 0 && errno != EEXIST) {
        return ErrnoStatus(errno, StrCat("mkdir ", walked));
      }
      Fd made(::openat(parent.get(), part.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
      if (!made.valid()) return ErrnoStatus(errno, StrCat("open ", walked));
      (void)::chmod(StrCat("/proc/self/fd/", made.get()).c_str(), mode);
      parent = std::move(made);
      continue;
    }
    if (!next.ok()) return next.status();
    parent = *std::move(next);
  }
  return parent;
}

bool SameFile(const struct stat& a, const struct stat& b) {
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

std::string Parent(const std::string& path) { return path.substr(0, path.rfind('/')); }

}  // namespace

absl::Status SetUpEmptyDir(Mounter& mounter, const EmptyDirSpec& spec) {
  RETURN_IF_ERROR(MakeVolumeRoot(mounter, spec.path, spec.memory, spec.size_bytes, spec.mode));
  // Ours alone: what is in it was made by the pod's own containers, so the root's group tells about all of
  // it.
  if (spec.fs_group >= 0) return ApplyFsGroup(spec.path, spec.fs_group, /*on_root_mismatch=*/true);
  return absl::OkStatus();
}

absl::Status SetUpPayloadDir(Mounter& mounter, const std::string& path, bool memory, const Payload& payload,
                             int64_t fs_group, absl::Time now) {
  RETURN_IF_ERROR(MakeVolumeRoot(mounter, path, memory, 0, kVolumeRootMode));
  ASSIGN_OR_RETURN(Fd dir, OpenFile(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  if (fs_group >= 0 && ::fchown(dir.get(), static_cast<uid_t>(-1), static_cast<gid_t>(fs_group)) != 0) {
    return ErrnoStatus(errno, StrCat("chown ", path));
  }
  return WriteAtomically(dir.get(), payload, fs_group, now).status();
}

absl::Status CheckHostPath(const std::string& path, const std::string& type) {
  if (path.empty() || path.front() != '/')
    return absl::InvalidArgumentError(StrCat("path \"", path, "\" must be absolute"));
  if (type.empty()) return absl::OkStatus();
  struct stat st;
  bool there = ::stat(path.c_str(), &st) == 0;
  if (!there && errno != ENOENT && errno != ENOTDIR) return ErrnoStatus(errno, StrCat("stat ", path));
  auto check = [&](bool is, std::string_view what) {
    return there && is ? absl::OkStatus()
                       : absl::FailedPreconditionError(
                             StrCat("hostPath type check failed: ", path, " is not ", what));
  };
  if (type == "DirectoryOrCreate") {
    if (!there) RETURN_IF_ERROR(MakeDirs(path, 0755));
    return there ? check(S_ISDIR(st.st_mode), "a directory") : absl::OkStatus();
  }
  if (type == "FileOrCreate") {
    if (there) return check(S_ISREG(st.st_mode), "a file");
    return OpenFile(path, O_WRONLY | O_CREAT | O_EXCL, 0644).status();
  }
  if (type == "Directory") return check(there && S_ISDIR(st.st_mode), "a directory");
  if (type == "File") return check(there && S_ISREG(st.st_mode), "a file");
  if (type == "Socket") return check(there && S_ISSOCK(st.st_mode), "a socket file");
  if (type == "CharDevice") return check(there && S_ISCHR(st.st_mode), "a character device");
  if (type == "BlockDevice") return check(there && S_ISBLK(st.st_mode), "a block device");
  return absl::InvalidArgumentError(StrCat("type \"", type, "\" is unknown"));
}

absl::Status ApplyFsGroup(const std::string& path, int64_t group, bool on_root_mismatch) {
  struct stat st;
  if (::lstat(path.c_str(), &st) != 0) return ErrnoStatus(errno, StrCat("stat ", path));
  constexpr uint32_t kWanted = S_ISGID | kGroupReadWrite | kGroupSearch;
  bool matches = st.st_gid == static_cast<gid_t>(group) && (st.st_mode & kWanted) == kWanted;
  if (on_root_mismatch && matches) return absl::OkStatus();
  return GroupTree(AT_FDCWD, path, group, st.st_dev, 0);
}

absl::Status BindSubPath(Mounter& mounter, const std::string& volume_path, const std::string& sub_path,
                         const std::string& target) {
  ASSIGN_OR_RETURN(Fd root, OpenFile(volume_path, O_PATH));
  auto source = OpenOrMakeBeneath(root.get(), sub_path);
  if (!source.ok()) return Annotate(source.status(), StrCat("subPath \"", sub_path, "\""));
  struct stat wanted, at;
  if (::fstat(source->get(), &wanted) != 0) return ErrnoStatus(errno, StrCat("stat ", sub_path));
  ASSIGN_OR_RETURN(bool mounted, IsMountPoint(mounter, target));
  if (mounted) {
    if (::lstat(target.c_str(), &at) == 0 && SameFile(wanted, at)) return absl::OkStatus();
    RETURN_IF_ERROR(mounter.Unmount(target));
  }
  RETURN_IF_ERROR(MakeDirs(Parent(target), 0750));
  // A mount point of the kind of what is mounted on it.
  if (::lstat(target.c_str(), &at) == 0 && S_ISDIR(at.st_mode) != S_ISDIR(wanted.st_mode)) {
    RETURN_IF_ERROR(RemoveTree(target));
  }
  if (S_ISDIR(wanted.st_mode)) {
    RETURN_IF_ERROR(MakeDirs(target, 0750));
  } else {
    RETURN_IF_ERROR(OpenFile(target, O_WRONLY | O_CREAT | O_NOFOLLOW, 0640).status());
  }
  return mounter.BindFd(source->get(), target);
}

absl::Status TearDownVolumes(Mounter& mounter, const std::string& dir) {
  struct stat st;
  if (::lstat(dir.c_str(), &st) != 0 && errno == ENOENT) return absl::OkStatus();
  ASSIGN_OR_RETURN(std::vector<std::string> mounts, mounter.MountsBelow(dir));
  for (auto mount = mounts.rbegin(); mount != mounts.rend(); ++mount)
    RETURN_IF_ERROR(mounter.Unmount(*mount));
  ASSIGN_OR_RETURN(mounts, mounter.MountsBelow(dir));
  if (!mounts.empty()) {
    return absl::FailedPreconditionError(StrCat("remove ", dir, ": ", mounts.back(), " is still mounted"));
  }
  return RemoveTree(dir);
}

}  // namespace keelson::kubelet
