#include "oci/cgroup_view.h"

#include <absl/strings/str_split.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <map>
#include <memory>
#include <vector>

#include "base/fd.h"
#include "base/status.h"

namespace keelson::oci {
namespace {

constexpr size_t kMaxMountinfoBytes = 64 << 20;
constexpr int kMaxStackedMounts = 16;

// /proc/self/mountinfo opened before the namespace was left: it goes on telling that one's mounts.
Fd& HostMountinfoFd() {
  static Fd fd;
  return fd;
}

absl::StatusOr<CgroupMounts> OwnMounts() {
  ASSIGN_OR_RETURN(std::string text, ReadFile("/proc/self/mountinfo", kMaxMountinfoBytes));
  return FindCgroupMounts(text);
}

int ThreadCount() {
  int count = 0;
  std::unique_ptr<DIR, int (*)(DIR*)> dir(::opendir("/proc/self/task"), ::closedir);
  while (dirent* entry = dir != nullptr ? ::readdir(dir.get()) : nullptr) {
    if (entry->d_name[0] != '.') ++count;
  }
  return count;
}

bool IsUnified(const std::string& path) {
  struct statfs fs;
  return ::statfs(path.c_str(), &fs) == 0 && fs.f_type == CGROUP2_SUPER_MAGIC;
}

}  // namespace

CgroupMounts FindCgroupMounts(std::string_view mountinfo) {
  CgroupMounts out;
  std::map<std::string, std::string> mount_points;  // by mount id
  std::string unified_parent;
  bool v1 = false;
  for (absl::string_view line : absl::StrSplit(Av(mountinfo), '\n')) {
    // id parent major:minor root mount-point options [optional fields] - type source super-options
    std::vector<absl::string_view> fields = absl::StrSplit(line, ' ');
    size_t dash = 6;
    while (dash < fields.size() && fields[dash] != "-") ++dash;
    if (dash + 1 >= fields.size()) continue;
    absl::string_view at = fields[4], type = fields[dash + 1];
    mount_points[std::string(fields[0])] = std::string(at);
    if (at == "/") {  // the last one is on top
      out.root_shared = false;
      for (size_t i = 6; i < dash; ++i)
        out.root_shared = out.root_shared || fields[i].substr(0, 7) == "shared:";
    }
    if (type == "cgroup") v1 = true;
    if (type == "cgroup2" && out.unified.empty()) {
      out.unified = std::string(at);
      unified_parent = std::string(fields[1]);
    }
  }
  out.hybrid = v1 && !out.unified.empty();
  if (!out.hybrid) out.unified.clear();
  if (out.hybrid) out.parent = mount_points[unified_parent];
  return out;
}

absl::StatusOr<bool> EnsureRootShared() {
  ASSIGN_OR_RETURN(CgroupMounts mounts, OwnMounts());
  if (mounts.root_shared) return false;
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_SHARED, nullptr) != 0) {
    return ErrnoStatus(errno, "make the root mount shared");
  }
  return true;
}

absl::StatusOr<bool> EnterCgroupView() {
  ASSIGN_OR_RETURN(CgroupMounts mounts, OwnMounts());
  if (!mounts.hybrid) return false;
  if (ThreadCount() != 1)
    return absl::FailedPreconditionError("enter the cgroup view: other threads run already");
  if (mounts.parent.empty() || mounts.parent == "/") {
    return absl::FailedPreconditionError(
        StrCat("enter the cgroup view: ", mounts.unified, " is mounted on the root file system itself"));
  }
  RETURN_IF_ERROR(EnsureRootShared().status());
  ASSIGN_OR_RETURN(HostMountinfoFd(), OpenFile("/proc/self/mountinfo", O_RDONLY));
  if (::unshare(CLONE_NEWNS) != 0) return ErrnoStatus(errno, "make a mount namespace");
  // An unmount travels by the peers of the mount below it, not of the one that goes: that one is to be
  // private, and alone. What is mounted on it (the v1 hierarchies) may stay shared.
  if (::mount(nullptr, mounts.parent.c_str(), nullptr, MS_PRIVATE, nullptr) != 0) {
    return ErrnoStatus(errno, StrCat("make ", mounts.parent, " private"));
  }
  for (int i = 0; i < kMaxStackedMounts && IsUnified(mounts.unified); ++i) {
    if (::umount2(mounts.unified.c_str(), MNT_DETACH) != 0) {
      return ErrnoStatus(errno, StrCat("unmount ", mounts.unified, " in a namespace of our own"));
    }
  }
  return true;
}

absl::StatusOr<std::string> ReadHostMountinfo() {
  int fd = HostMountinfoFd().get();
  if (fd < 0) return ReadFile("/proc/self/mountinfo", kMaxMountinfoBytes);
  std::string text;
  char buffer[16 << 10];
  while (true) {
    ssize_t n = ::pread(fd, buffer, sizeof buffer, static_cast<off_t>(text.size()));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoStatus(errno, "read the host's mountinfo");
    if (n == 0) return text;
    text.append(buffer, static_cast<size_t>(n));
    if (text.size() > kMaxMountinfoBytes)
      return absl::ResourceExhaustedError("the host's mountinfo is too long");
  }
}

}  // namespace keelson::oci
