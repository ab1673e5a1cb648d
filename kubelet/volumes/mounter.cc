#include "kubelet/volumes/mounter.h"

#include <absl/strings/str_format.h>
#include <sys/mount.h>

#include <algorithm>
#include <cerrno>

#include "base/fd.h"
#include "base/mounts.h"
#include "base/status.h"
#include "base/strings.h"

namespace keelson::kubelet {
namespace {

class HostMounter : public Mounter {
 public:
  absl::Status MountTmpfs(const std::string& target, int64_t size_bytes, uint32_t mode) override {
    std::string data = absl::StrFormat("mode=%04o", mode);
    if (size_bytes > 0) absl::StrAppend(&data, ",size=", size_bytes);
    if (::mount("tmpfs", target.c_str(), "tmpfs", MS_NOSUID | MS_NODEV, data.c_str()) == 0)
      return absl::OkStatus();
    return ErrnoStatus(errno, StrCat("mount tmpfs on ", target));
  }

  absl::Status BindFd(int source_fd, const std::string& target) override {
    std::string source = StrCat("/proc/self/fd/", source_fd);
    if (::mount(source.c_str(), target.c_str(), nullptr, MS_BIND | MS_REC, nullptr) == 0)
      return absl::OkStatus();
    return ErrnoStatus(errno, StrCat("bind mount on ", target));
  }

  absl::Status Unmount(const std::string& target) override {
    if (::umount2(target.c_str(), UMOUNT_NOFOLLOW) == 0) return absl::OkStatus();
    if (errno == EBUSY && ::umount2(target.c_str(), UMOUNT_NOFOLLOW | MNT_DETACH) == 0)
      return absl::OkStatus();
    if (errno == EINVAL || errno == ENOENT) return absl::OkStatus();  // no mount point
    return ErrnoStatus(errno, StrCat("unmount ", target));
  }

  absl::StatusOr<std::vector<std::string>> MountsBelow(const std::string& dir) override {
    ASSIGN_OR_RETURN(std::string text, ReadFile("/proc/self/mountinfo", kMaxMountInfoBytes));
    std::vector<std::string> found;
    for (std::string& point : ParseMountPoints(text)) {
      if (point == dir || point.starts_with(StrCat(dir, "/"))) found.push_back(std::move(point));
    }
    std::stable_sort(found.begin(), found.end(),
                     [](const std::string& a, const std::string& b) { return a.size() < b.size(); });
    return found;
  }
};

}  // namespace

std::unique_ptr<Mounter> NewHostMounter() { return std::make_unique<HostMounter>(); }

}  // namespace keelson::kubelet
