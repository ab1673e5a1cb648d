#include "images/overlay.h"

#include <absl/strings/str_split.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "base/fd.h"
#include "base/status.h"
#include "base/strings.h"

namespace keelson::images {
namespace {

constexpr int kMaxUnmounts = 64;
constexpr size_t kMaxMountinfoBytes = 64 << 20;

int FsOpen(const char* type) { return static_cast<int>(::syscall(SYS_fsopen, type, FSOPEN_CLOEXEC)); }
int FsConfig(int fd, unsigned command, const char* key, const char* value) {
  return static_cast<int>(::syscall(SYS_fsconfig, fd, command, key, value, 0));
}

std::string Options(const std::vector<std::string>& lower, const std::string& upper, const std::string& work,
                    const std::string& selinux_label) {
  std::string out = "lowerdir=";
  for (size_t i = 0; i < lower.size(); ++i) {
    if (i > 0) out.push_back(':');
    out += lower[i];
  }
  if (!upper.empty()) StrAppend(&out, ",upperdir=", upper, ",workdir=", work);
  // The index ties an upper directory to one mount for ever; ours are mounted again after a crash.
  if (::access("/sys/module/overlay/parameters/index", F_OK) == 0) out += ",index=off";
  // Quoted: categories have a comma between them.
  if (!selinux_label.empty()) StrAppend(&out, ",context=\"", selinux_label, "\"");
  return out;
}

absl::Status MountOld(const std::string& options, const OverlayMount& mount) {
  unsigned long flags = mount.upper.empty() ? MS_RDONLY : 0;
  if (::mount("overlay", mount.target.c_str(), "overlay", flags, options.c_str()) != 0) {
    return ErrnoStatus(errno, StrCat("mount overlay on ", mount.target));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> PathOptions(const OverlayMount& mount) {
  std::vector<std::string> lower;
  for (const std::string& path : mount.lower) lower.push_back(EscapeOverlayPath(path));
  std::string out =
      Options(lower, EscapeOverlayPath(mount.upper), EscapeOverlayPath(mount.work), mount.selinux_label);
  if (out.size() > kMaxMountOptionBytes) return absl::OutOfRangeError("mount options over one page");
  return out;
}

// Unimplemented: this kernel does not know it.
absl::Status MountNew(const OverlayMount& mount) {
  Fd fs(FsOpen("overlay"));
  if (!fs.valid()) return absl::UnimplementedError("fsopen");
  for (const std::string& path : mount.lower) {
    if (FsConfig(fs.get(), FSCONFIG_SET_STRING, "lowerdir+", path.c_str()) != 0) {
      if (errno == EINVAL || errno == ENOSYS) return absl::UnimplementedError("lowerdir+");
      return ErrnoStatus(errno, StrCat("overlay layer ", path));
    }
  }
  if (!mount.upper.empty() &&
      (FsConfig(fs.get(), FSCONFIG_SET_STRING, "upperdir", mount.upper.c_str()) != 0 ||
       FsConfig(fs.get(), FSCONFIG_SET_STRING, "workdir", mount.work.c_str()) != 0)) {
    return ErrnoStatus(errno, StrCat("overlay upper directory ", mount.upper));
  }
  (void)FsConfig(fs.get(), FSCONFIG_SET_STRING, "index", "off");
  (void)FsConfig(fs.get(), FSCONFIG_SET_STRING, "source", "overlay");
  if (!mount.selinux_label.empty() &&
      FsConfig(fs.get(), FSCONFIG_SET_STRING, "context", mount.selinux_label.c_str()) != 0) {
    return ErrnoStatus(errno, StrCat("overlay label ", mount.selinux_label));
  }
  if (mount.upper.empty()) (void)FsConfig(fs.get(), FSCONFIG_SET_FLAG, "ro", nullptr);
  if (FsConfig(fs.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr) != 0) {
    return ErrnoStatus(errno, StrCat("mount overlay on ", mount.target));
  }
  unsigned attributes = mount.upper.empty() ? MOUNT_ATTR_RDONLY : 0;
  Fd made(static_cast<int>(::syscall(SYS_fsmount, fs.get(), FSMOUNT_CLOEXEC, attributes)));
  if (!made.valid()) return ErrnoStatus(errno, StrCat("mount overlay on ", mount.target));
  if (::syscall(SYS_move_mount, made.get(), "", AT_FDCWD, mount.target.c_str(), MOVE_MOUNT_F_EMPTY_PATH) !=
      0) {
    return ErrnoStatus(errno, StrCat("mount overlay on ", mount.target));
  }
  return absl::OkStatus();
}

absl::Status MountDescriptors(const OverlayMount& mount) {
  std::vector<Fd> fds;
  std::vector<std::string> lower;
  for (const std::string& path : mount.lower) {
    ASSIGN_OR_RETURN(Fd fd, OpenFile(path, O_PATH | O_DIRECTORY));
    lower.push_back(StrCat("/proc/self/fd/", fd.get()));
    fds.push_back(std::move(fd));
  }
  std::string options =
      Options(lower, EscapeOverlayPath(mount.upper), EscapeOverlayPath(mount.work), mount.selinux_label);
  if (options.size() > kMaxMountOptionBytes) {
    return absl::ResourceExhaustedError(StrCat("mount overlay: ", lower.size(), " layers are too many"));
  }
  return MountOld(options, mount);
}

}  // namespace

std::string EscapeOverlayPath(std::string_view path) {
  std::string out;
  for (char c : path) {
    if (c == '\\' || c == ':' || c == ',') out.push_back('\\');
    out.push_back(c);
  }
  return out;
}

absl::Status MountIdMapped(const std::string& source, const std::string& target,
                           const std::string& userns_path) {
  const std::string what = StrCat("ID-mapped mount of ", source);
  ASSIGN_OR_RETURN(Fd userns, OpenFile(userns_path, O_RDONLY));
  Fd tree(static_cast<int>(
      ::syscall(SYS_open_tree, AT_FDCWD, source.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC)));
  if (!tree.valid()) return ErrnoStatus(errno, what);
  mount_attr attributes{};
  attributes.attr_set = MOUNT_ATTR_IDMAP;
  attributes.userns_fd = static_cast<uint64_t>(userns.get());
  if (::syscall(SYS_mount_setattr, tree.get(), "", AT_EMPTY_PATH, &attributes, sizeof attributes) != 0) {
    if (errno == EINVAL || errno == ENOSYS)
      return absl::UnimplementedError(StrCat(what, ": not on this file system"));
    return ErrnoStatus(errno, what);
  }
  if (::syscall(SYS_move_mount, tree.get(), "", AT_FDCWD, target.c_str(), MOVE_MOUNT_F_EMPTY_PATH) != 0) {
    return ErrnoStatus(errno, what);
  }
  return absl::OkStatus();
}

absl::Status MountOverlay(const OverlayMount& mount, OverlayMethod method) {
  if (method == OverlayMethod::kAuto || method == OverlayMethod::kPaths) {
    auto options = PathOptions(mount);
    if (options.ok()) return MountOld(*options, mount);
    if (method == OverlayMethod::kPaths) return options.status();
  }
  if (method == OverlayMethod::kAuto || method == OverlayMethod::kNewApi) {
    absl::Status status = MountNew(mount);
    if (!absl::IsUnimplemented(status) || method == OverlayMethod::kNewApi) return status;
  }
  return MountDescriptors(mount);
}

bool FindOverlay(std::string_view mountinfo, const std::string& target_path, const std::string& upper) {
  bool found = false;
  // The kernel writes these in octal.
  std::string target;
  for (char c : target_path) {
    switch (c) {
      case ' ':
        target += "\\040";
        break;
      case '\t':
        target += "\\011";
        break;
      case '\n':
        target += "\\012";
        break;
      case '\\':
        target += "\\134";
        break;
      default:
        target.push_back(c);
    }
  }
  // The last line of a mount point is the mount on top.
  for (absl::string_view line : absl::StrSplit(Av(mountinfo), '\n')) {
    std::vector<absl::string_view> fields = absl::StrSplit(line, ' ');
    if (fields.size() < 10) continue;
    if (fields[4] != target) continue;
    size_t dash = 6;
    while (dash < fields.size() && fields[dash] != "-") ++dash;
    if (dash + 3 >= fields.size() || fields[dash + 1] != "overlay") {
      found = false;
      continue;
    }
    std::string own;
    for (absl::string_view option : absl::StrSplit(fields[dash + 3], ',')) {
      constexpr absl::string_view kUpper = "upperdir=";
      if (option.substr(0, kUpper.size()) == kUpper) own = std::string(option.substr(kUpper.size()));
    }
    found = own == upper;
  }
  return found;
}

absl::StatusOr<bool> IsOverlayMounted(const std::string& target, const std::string& upper) {
  ASSIGN_OR_RETURN(std::string text, ReadFile("/proc/self/mountinfo", kMaxMountinfoBytes));
  return FindOverlay(text, target, upper);
}

absl::Status UnmountAll(const std::string& target) {
  for (int i = 0; i < kMaxUnmounts; ++i) {
    if (::umount2(target.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) == 0) continue;
    if (errno == EINVAL || errno == ENOENT) return absl::OkStatus();
    return ErrnoStatus(errno, StrCat("unmount ", target));
  }
  return absl::ResourceExhaustedError(StrCat("unmount ", target, ": too many mounts on each other"));
}

}  // namespace keelson::images
