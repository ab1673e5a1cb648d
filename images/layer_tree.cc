#include "images/layer_tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <deque>
#include <memory>
#include <set>

#include "base/status.h"
#include "base/strings.h"

namespace keelson::images {
namespace {

constexpr uint64_t kBlockBytes = 4096;
constexpr mode_t kPermissionBits = 07777;
constexpr mode_t kImplicitDirMode = 0755;
// Beyond, the times are set early; a later entry in one of those directories changes it again.
constexpr size_t kMaxDirTimesBytes = 8 << 20;
constexpr int kMaxOpenDepth = 64;      // descriptors held while a tree is removed
constexpr int kMaxMeasureDepth = 256;  // deeper is not counted
constexpr size_t kMaxLinkedInodes = 64 << 10;

uint64_t RoundUp(uint64_t bytes) { return (bytes + kBlockBytes - 1) / kBlockBytes * kBlockBytes; }

bool IsWhiteout(const struct stat& st) { return S_ISCHR(st.st_mode) && st.st_rdev == 0; }

// Only what a container may have and the kernel gives meaning to inside it: never overlayfs' own marks, which
// could make it look elsewhere.
bool KeepXattr(const std::string& name) {
  return name == "security.capability" ||
         (name.rfind("user.", 0) == 0 && name.rfind("user.overlay.", 0) != 0);
}

std::unique_ptr<DIR, int (*)(DIR*)> OpenDirStream(int dir_fd) {
  int copy = ::openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  std::unique_ptr<DIR, int (*)(DIR*)> out(copy < 0 ? nullptr : ::fdopendir(copy), ::closedir);
  if (out == nullptr && copy >= 0) ::close(copy);
  return out;
}

bool IsDots(const char* name) {
  return name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'));
}

}  // namespace

absl::StatusOr<std::string> LayerPath(std::string_view raw) {
  if (raw.find('\0') != std::string_view::npos) return absl::InvalidArgumentError("name with a NUL byte");
  if (raw.size() > kMaxLayerPathBytes) return absl::InvalidArgumentError("name longer than 4095 bytes");
  std::string out;
  while (!raw.empty()) {
    size_t slash = raw.find('/');
    std::string_view part = raw.substr(0, slash);
    raw.remove_prefix(slash == std::string_view::npos ? raw.size() : slash + 1);
    if (part.empty() || part == ".") continue;
    if (part == "..") return absl::InvalidArgumentError("\"..\" in the name leads out of the layer");
    if (!out.empty()) out.push_back('/');
    out.append(part);
  }
  return out;
}

absl::Status LayerTree::MakeImplicitDirs(const std::string& dir) {
  size_t at = 0;
  Fd parent(::fcntl(root_fd_, F_DUPFD_CLOEXEC, 0));
  while (true) {
    size_t slash = dir.find('/', at);
    std::string prefix = dir.substr(0, slash);
    std::string name = prefix.substr(at);
    auto opened = OpenInRoot(root_fd_, prefix, O_PATH | O_DIRECTORY);
    if (absl::IsNotFound(opened.status())) {
      if (::mkdirat(parent.get(), name.c_str(), kImplicitDirMode) != 0) {
        if (errno == EEXIST) {
          return absl::InvalidArgumentError(StrCat("its directory ", prefix, " is a link to nowhere"));
        }
        return ErrnoStatus(errno, StrCat("mkdir ", prefix));
      }
      if (::fchmodat(parent.get(), name.c_str(), kImplicitDirMode, 0) != 0) {
        return ErrnoStatus(errno, StrCat("chmod ", prefix));
      }
      implicit_bytes_ += prefix.size() + sizeof(std::string);
      if (implicit_bytes_ > kMaxImplicitDirBytes) {
        return absl::ResourceExhaustedError("too many directories without an entry");
      }
      implicit_dirs_.push_back(prefix);
      ++usage_.inodes;
      usage_.used_bytes += kBlockBytes;
      opened = OpenInRoot(root_fd_, prefix, O_PATH | O_DIRECTORY);
    }
    if (!opened.ok()) return opened.status();
    parent = *std::move(opened);
    if (slash == std::string::npos) return absl::OkStatus();
    at = slash + 1;
  }
}

absl::StatusOr<int> LayerTree::OpenParent(const std::string& dir) {
  if (dir.empty()) return root_fd_;
  if (dir == cached_dir_ && cached_parent_.valid()) return cached_parent_.get();
  auto opened = OpenInRoot(root_fd_, dir, O_PATH | O_DIRECTORY);
  if (absl::IsNotFound(opened.status())) {
    RETURN_IF_ERROR(MakeImplicitDirs(dir));
    opened = OpenInRoot(root_fd_, dir, O_PATH | O_DIRECTORY);
  }
  if (!opened.ok()) {
    // ENOTDIR and ELOOP are the layer's fault, not the disk's.
    return absl::InvalidArgumentError(
        StrCat("its directory ", dir, " is not one: ", Sv(opened.status().message())));
  }
  cached_dir_ = dir;
  cached_parent_ = *std::move(opened);
  return cached_parent_.get();
}

absl::StatusOr<LayerTree::Place> LayerTree::Locate(const std::string& path) {
  if (path.empty()) return absl::InvalidArgumentError("the root of the layer must be a directory");
  size_t slash = path.rfind('/');
  Place out;
  ASSIGN_OR_RETURN(out.parent, OpenParent(slash == std::string::npos ? "" : path.substr(0, slash)));
  out.name = slash == std::string::npos ? path : path.substr(slash + 1);
  return out;
}

absl::Status LayerTree::Clear(const Place& place, bool* was_whiteout) {
  *was_whiteout = false;
  struct stat st;
  if (::fstatat(place.parent, place.name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) {
    return errno == ENOENT ? absl::OkStatus() : ErrnoStatus(errno, StrCat("stat ", place.name));
  }
  *was_whiteout = IsWhiteout(st);
  if (S_ISDIR(st.st_mode) || S_ISLNK(st.st_mode)) {
    // The cached directory's path may lead elsewhere now; callers locate theirs anew.
    absl::Status status = RemoveTreeAt(place.parent, place.name);
    cached_dir_.clear();
    cached_parent_ = Fd();
    return status;
  }
  if (::unlinkat(place.parent, place.name.c_str(), 0) != 0) {
    return ErrnoStatus(errno, StrCat("unlink ", place.name));
  }
  return absl::OkStatus();
}

absl::Status LayerTree::SetXattrs(int fd, const EntryAttributes& attributes) {
  for (const auto& [name, value] : attributes.xattrs) {
    if (!KeepXattr(name)) {
      ++dropped_xattrs_;
      continue;
    }
    if (value.size() > kMaxXattrBytes) {
      return absl::InvalidArgumentError(StrCat("extended attribute ", name, " over 64 KiB"));
    }
    if (::fsetxattr(fd, name.c_str(), value.data(), value.size(), 0) != 0) {
      if (errno == ENOTSUP || (errno == EPERM && !options_.set_owner)) {
        ++dropped_xattrs_;
        continue;
      }
      return ErrnoStatus(errno, StrCat("set extended attribute ", name));
    }
  }
  return absl::OkStatus();
}

absl::Status LayerTree::SetFdAttributes(int fd, const EntryAttributes& attributes) {
  // Owner first: a change of it clears setuid and capabilities.
  if (options_.set_owner && ::fchown(fd, attributes.uid, attributes.gid) != 0) {
    return ErrnoStatus(errno, "chown");
  }
  if (::fchmod(fd, attributes.mode & kPermissionBits) != 0) return ErrnoStatus(errno, "chmod");
  return SetXattrs(fd, attributes);
}

absl::Status LayerTree::Directory(const std::string& path, const EntryAttributes& attributes) {
  Fd fd;
  if (path.empty()) {
    fd = Fd(::openat(root_fd_, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  } else {
    ASSIGN_OR_RETURN(Place place, Locate(path));
    struct stat st;
    bool there = ::fstatat(place.parent, place.name.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0;
    bool was_whiteout = false;
    if (!there || !S_ISDIR(st.st_mode)) {
      RETURN_IF_ERROR(Clear(place, &was_whiteout));
      ASSIGN_OR_RETURN(place, Locate(path));
      if (::mkdirat(place.parent, place.name.c_str(), 0700) != 0) return ErrnoStatus(errno, "mkdir");
      ++usage_.inodes;
      usage_.used_bytes += kBlockBytes;
    }
    fd = Fd(::openat(place.parent, place.name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (fd.valid() && was_whiteout && ::fsetxattr(fd.get(), options_.opaque_xattr.c_str(), "y", 1, 0) != 0) {
      return ErrnoStatus(errno, "mark opaque");
    }
  }
  if (!fd.valid()) return ErrnoStatus(errno, "open");
  RETURN_IF_ERROR(SetFdAttributes(fd.get(), attributes));
  dir_times_.emplace_back(path, attributes.mtime);
  dir_times_bytes_ += path.size() + sizeof(dir_times_[0]);
  return dir_times_bytes_ > kMaxDirTimesBytes ? ApplyTimes() : absl::OkStatus();
}

absl::StatusOr<Fd> LayerTree::File(const std::string& path) {
  constexpr int kFlags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
  ASSIGN_OR_RETURN(Place place, Locate(path));
  Fd fd(::openat(place.parent, place.name.c_str(), kFlags, 0600));
  if (!fd.valid() && errno == EEXIST) {
    bool was_whiteout = false;
    RETURN_IF_ERROR(Clear(place, &was_whiteout));
    ASSIGN_OR_RETURN(place, Locate(path));
    fd = Fd(::openat(place.parent, place.name.c_str(), kFlags, 0600));
  }
  if (!fd.valid()) return ErrnoStatus(errno, "create");
  ++usage_.inodes;
  return fd;
}

absl::Status LayerTree::FinishFile(int fd, uint64_t size_bytes, const EntryAttributes& attributes) {
  usage_.used_bytes += RoundUp(size_bytes);
  RETURN_IF_ERROR(SetFdAttributes(fd, attributes));
  timespec times[2] = {attributes.mtime, attributes.mtime};
  if (::futimens(fd, times) != 0) return ErrnoStatus(errno, "set times");
  return absl::OkStatus();
}

absl::Status LayerTree::Symlink(const std::string& path, const std::string& target,
                                const EntryAttributes& attributes) {
  if (target.empty() || target.size() > kMaxLayerPathBytes || target.find('\0') != std::string::npos) {
    return absl::InvalidArgumentError("symbolic link without a usable target");
  }
  ASSIGN_OR_RETURN(Place place, Locate(path));
  bool was_whiteout = false;
  RETURN_IF_ERROR(Clear(place, &was_whiteout));
  ASSIGN_OR_RETURN(place, Locate(path));
  if (::symlinkat(target.c_str(), place.parent, place.name.c_str()) != 0) {
    return ErrnoStatus(errno, "symlink");
  }
  ++usage_.inodes;
  if (options_.set_owner && ::fchownat(place.parent, place.name.c_str(), attributes.uid, attributes.gid,
                                       AT_SYMLINK_NOFOLLOW) != 0) {
    return ErrnoStatus(errno, "chown");
  }
  timespec times[2] = {attributes.mtime, attributes.mtime};
  if (::utimensat(place.parent, place.name.c_str(), times, AT_SYMLINK_NOFOLLOW) != 0) {
    return ErrnoStatus(errno, "set times");
  }
  dropped_xattrs_ += attributes.xattrs.size();
  return absl::OkStatus();
}

absl::Status LayerTree::HardLink(const std::string& path, const std::string& target) {
  if (target.empty()) return absl::InvalidArgumentError("hard link to the root");
  size_t slash = target.rfind('/');
  std::string dir = slash == std::string::npos ? "" : target.substr(0, slash);
  std::string name = slash == std::string::npos ? target : target.substr(slash + 1);
  Fd target_dir;
  if (dir.empty()) {
    target_dir = Fd(::fcntl(root_fd_, F_DUPFD_CLOEXEC, 0));
  } else {
    auto opened = OpenInRoot(root_fd_, dir, O_PATH | O_DIRECTORY);
    if (!opened.ok()) {
      return absl::InvalidArgumentError(StrCat("hard link to ", target, ", which the layer does not have"));
    }
    target_dir = *std::move(opened);
  }
  struct stat st;
  if (::fstatat(target_dir.get(), name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) {
    return absl::InvalidArgumentError(StrCat("hard link to ", target, ", which the layer does not have"));
  }
  if (S_ISDIR(st.st_mode)) return absl::InvalidArgumentError(StrCat("hard link to directory ", target));
  ASSIGN_OR_RETURN(Place place, Locate(path));
  struct stat present;
  if (::fstatat(place.parent, place.name.c_str(), &present, AT_SYMLINK_NOFOLLOW) == 0 &&
      present.st_dev == st.st_dev && present.st_ino == st.st_ino) {
    return absl::OkStatus();  // to itself
  }
  bool was_whiteout = false;
  RETURN_IF_ERROR(Clear(place, &was_whiteout));
  ASSIGN_OR_RETURN(place, Locate(path));
  if (::linkat(target_dir.get(), name.c_str(), place.parent, place.name.c_str(), 0) != 0) {
    if (errno == ENOENT) {
      return absl::InvalidArgumentError(StrCat("hard link to ", target, ", which it replaces"));
    }
    return ErrnoStatus(errno, StrCat("link to ", target));
  }
  return absl::OkStatus();
}

absl::Status LayerTree::Node(const std::string& path, mode_t type, dev_t device,
                             const EntryAttributes& attributes) {
  bool whiteout = type == S_IFCHR && device == 0;
  if (type != S_IFIFO && !whiteout && !options_.allow_devices) {
    return absl::InvalidArgumentError(
        StrCat("device node ", ::gnu_dev_major(device), ":", ::gnu_dev_minor(device), " is not allowed"));
  }
  ASSIGN_OR_RETURN(Place place, Locate(path));
  bool was_whiteout = false;
  RETURN_IF_ERROR(Clear(place, &was_whiteout));
  ASSIGN_OR_RETURN(place, Locate(path));
  if (::mknodat(place.parent, place.name.c_str(), type | 0600, device) != 0) {
    return ErrnoStatus(errno, "make device node");
  }
  ++usage_.inodes;
  if (options_.set_owner && ::fchownat(place.parent, place.name.c_str(), attributes.uid, attributes.gid,
                                       AT_SYMLINK_NOFOLLOW) != 0) {
    return ErrnoStatus(errno, "chown");
  }
  // The name was made a moment ago in a directory that only we write to: there is no link to follow.
  if (::fchmodat(place.parent, place.name.c_str(), attributes.mode & kPermissionBits, 0) != 0) {
    return ErrnoStatus(errno, "chmod");
  }
  timespec times[2] = {attributes.mtime, attributes.mtime};
  if (::utimensat(place.parent, place.name.c_str(), times, AT_SYMLINK_NOFOLLOW) != 0) {
    return ErrnoStatus(errno, "set times");
  }
  dropped_xattrs_ += attributes.xattrs.size();
  return absl::OkStatus();
}

absl::Status LayerTree::Whiteout(const std::string& path) {
  ASSIGN_OR_RETURN(Place place, Locate(path));
  struct stat st;
  if (::fstatat(place.parent, place.name.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0) {
    // Only the layers below are meant: what this one has there hides them as it is, a directory when it says
    // so.
    return S_ISDIR(st.st_mode) ? Opaque(path) : absl::OkStatus();
  }
  if (errno != ENOENT) return ErrnoStatus(errno, "stat");
  if (::mknodat(place.parent, place.name.c_str(), S_IFCHR | 0600, 0) != 0) {
    return ErrnoStatus(errno, "make whiteout");
  }
  ++usage_.inodes;
  return absl::OkStatus();
}

absl::Status LayerTree::Opaque(const std::string& path) {
  Fd fd;
  if (path.empty()) {
    fd = Fd(::openat(root_fd_, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  } else {
    ASSIGN_OR_RETURN(int parent, OpenParent(path));
    fd = Fd(::openat(parent, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  }
  if (!fd.valid()) return ErrnoStatus(errno, "open");
  if (::fsetxattr(fd.get(), options_.opaque_xattr.c_str(), "y", 1, 0) != 0) {
    return ErrnoStatus(errno, "mark opaque");
  }
  return absl::OkStatus();
}

absl::Status LayerTree::ApplyTimes() {
  for (auto it = dir_times_.rbegin(); it != dir_times_.rend(); ++it) {
    timespec times[2] = {it->second, it->second};
    const std::string& path = it->first;
    size_t slash = path.rfind('/');
    std::string name = slash == std::string::npos ? path : path.substr(slash + 1);
    int result = 0;
    if (path.empty()) {
      result = ::futimens(root_fd_, times);
    } else if (slash == std::string::npos) {
      result = ::utimensat(root_fd_, name.c_str(), times, AT_SYMLINK_NOFOLLOW);
    } else {
      auto parent = OpenInRoot(root_fd_, path.substr(0, slash), O_PATH | O_DIRECTORY);
      // Replaced by a later entry: nothing to set.
      if (!parent.ok()) continue;
      result = ::utimensat(parent->get(), name.c_str(), times, AT_SYMLINK_NOFOLLOW);
    }
    if (result != 0 && errno != ENOENT) return ErrnoStatus(errno, StrCat("set times of ", path));
  }
  dir_times_.clear();
  dir_times_bytes_ = 0;
  return absl::OkStatus();
}

absl::Status LayerTree::Finish() { return ApplyTimes(); }

// ---- trees ----

namespace {

class TreeRemover {
 public:
  explicit TreeRemover(int top_fd) : top_fd_(top_fd) {}

  absl::Status Run(const std::string& name) {
    queue_.push_back(name);
    while (!queue_.empty()) {
      std::string next = std::move(queue_.front());
      queue_.pop_front();
      RETURN_IF_ERROR(Remove(top_fd_, next, 0));
    }
    return absl::OkStatus();
  }

 private:
  absl::Status Remove(int parent_fd, const std::string& name, int depth) {
    if (::unlinkat(parent_fd, name.c_str(), 0) == 0 || errno == ENOENT) return absl::OkStatus();
    if (errno != EISDIR && errno != EPERM) return ErrnoStatus(errno, StrCat("unlink ", name));
    if (depth == kMaxOpenDepth) return MoveUp(parent_fd, name);
    // A bind mount has the device of its source: only the walk itself tells that it is one.
    open_how how{};
    how.flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    how.resolve = RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH;
    Fd fd(static_cast<int>(::syscall(SYS_openat2, parent_fd, name.c_str(), &how, sizeof how)));
    if (!fd.valid() && errno == EXDEV) {
      return absl::FailedPreconditionError(StrCat("remove ", name, ": something is still mounted there"));
    }
    if (!fd.valid()) return ErrnoStatus(errno, StrCat("open ", name));
    auto dir = OpenDirStream(fd.get());
    if (dir == nullptr) return ErrnoStatus(errno, StrCat("read ", name));
    while (const dirent* entry = ::readdir(dir.get())) {
      if (IsDots(entry->d_name)) continue;
      RETURN_IF_ERROR(Remove(fd.get(), entry->d_name, depth + 1));
    }
    dir.reset();
    if (::unlinkat(parent_fd, name.c_str(), AT_REMOVEDIR) != 0 && errno != ENOENT) {
      return ErrnoStatus(errno, StrCat("rmdir ", name));
    }
    return absl::OkStatus();
  }

  // Too deep for one descriptor a level: becomes a tree of its own at the top.
  absl::Status MoveUp(int parent_fd, const std::string& name) {
    for (int tries = 0; tries < 1000; ++tries) {
      std::string fresh = StrCat(".keelson-removing-", serial_++);
      if (::syscall(SYS_renameat2, parent_fd, name.c_str(), top_fd_, fresh.c_str(), RENAME_NOREPLACE) == 0) {
        queue_.push_back(fresh);
        return absl::OkStatus();
      }
      if (errno != EEXIST) return ErrnoStatus(errno, StrCat("rename ", name));
    }
    return absl::ResourceExhaustedError(StrCat("remove ", name, ": no free name"));
  }

  int top_fd_;
  std::deque<std::string> queue_;
  uint64_t serial_ = 0;
};

class TreeMeter {
 public:
  absl::StatusOr<LayerUsage> Run(int dir_fd) {
    struct stat st;
    if (::fstat(dir_fd, &st) != 0) return ErrnoStatus(errno, "stat");
    device_ = st.st_dev;
    Count(st);
    Walk(dir_fd, 0);
    return usage_;
  }

 private:
  void Count(const struct stat& st) {
    if (st.st_nlink > 1 && !S_ISDIR(st.st_mode) && linked_.size() < kMaxLinkedInodes &&
        !linked_.insert(st.st_ino).second) {
      return;
    }
    ++usage_.inodes;
    usage_.used_bytes += static_cast<uint64_t>(st.st_blocks) * 512;
  }
  void Walk(int dir_fd, int depth) {
    auto dir = OpenDirStream(dir_fd);
    if (dir == nullptr) return;
    while (const dirent* entry = ::readdir(dir.get())) {
      if (IsDots(entry->d_name)) continue;
      struct stat st;
      if (::fstatat(dir_fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0 || st.st_dev != device_) continue;
      Count(st);
      if (!S_ISDIR(st.st_mode) || depth >= kMaxMeasureDepth) continue;
      Fd child(::openat(dir_fd, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
      if (child.valid()) Walk(child.get(), depth + 1);
    }
  }

  dev_t device_ = 0;
  LayerUsage usage_;
  std::set<ino_t> linked_;
};

}  // namespace

absl::Status RemoveTreeAt(int parent_fd, const std::string& name) { return TreeRemover(parent_fd).Run(name); }

absl::StatusOr<LayerUsage> MeasureTree(int dir_fd) { return TreeMeter().Run(dir_fd); }

absl::Status CopyImplicitDirs(int layer_fd, const std::vector<std::string>& paths,
                              const std::vector<int>& lower_fds, bool set_owner) {
  for (const std::string& path : paths) {
    auto target = OpenInRoot(layer_fd, path, O_RDONLY | O_DIRECTORY);
    if (!target.ok()) continue;  // replaced by a later entry
    for (int lower : lower_fds) {
      auto source = OpenInRoot(lower, path, O_RDONLY | O_DIRECTORY);
      if (absl::IsNotFound(source.status())) continue;
      if (!source.ok()) break;  // a file or a whiteout: the directory is new
      struct stat st;
      if (::fstat(source->get(), &st) != 0) return ErrnoStatus(errno, StrCat("stat ", path));
      if (set_owner && ::fchown(target->get(), st.st_uid, st.st_gid) != 0) {
        return ErrnoStatus(errno, StrCat("chown ", path));
      }
      if (::fchmod(target->get(), st.st_mode & kPermissionBits) != 0) {
        return ErrnoStatus(errno, StrCat("chmod ", path));
      }
      timespec times[2] = {st.st_mtim, st.st_mtim};
      if (::futimens(target->get(), times) != 0) return ErrnoStatus(errno, StrCat("set times of ", path));
      break;
    }
  }
  return absl::OkStatus();
}

}  // namespace keelson::images
