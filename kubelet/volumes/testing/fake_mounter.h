// FakeMounter: mounts as a list; nothing reaches the kernel.
#pragma once

#include <sys/stat.h>

#include <algorithm>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "base/strings.h"
#include "kubelet/volumes/mounter.h"

namespace keelson::kubelet {

class FakeMounter : public Mounter {
 public:
  struct Mount {
    std::string target, kind;  // "tmpfs", "bind"
    int64_t size_bytes = 0;
    ino_t inode = 0;  // of a bind's source
  };

  absl::Status MountTmpfs(const std::string& target, int64_t size_bytes, uint32_t mode) override {
    if (!next_error.ok()) return std::exchange(next_error, absl::OkStatus());
    mounts.push_back({target, "tmpfs", size_bytes});
    return absl::OkStatus();
  }
  absl::Status BindFd(int source_fd, const std::string& target) override {
    if (!next_error.ok()) return std::exchange(next_error, absl::OkStatus());
    struct stat st {};
    ::fstat(source_fd, &st);
    mounts.push_back({target, "bind", 0, st.st_ino});
    return absl::OkStatus();
  }
  absl::Status Unmount(const std::string& target) override {
    if (stuck == target) return absl::OkStatus();  // a kernel that says yes and a mount that stays
    std::erase_if(mounts, [&](const Mount& m) { return m.target == target; });
    return absl::OkStatus();
  }
  absl::StatusOr<std::vector<std::string>> MountsBelow(const std::string& dir) override {
    if (on_look) std::exchange(on_look, nullptr)();
    std::vector<std::string> out;
    for (const Mount& m : mounts) {
      if (m.target == dir || m.target.starts_with(StrCat(dir, "/"))) out.push_back(m.target);
    }
    return out;
  }

  std::vector<Mount> mounts;
  absl::Status next_error;
  std::string stuck;
  std::function<void()> on_look;  // once, at the next MountsBelow: what others do at that moment
};

}  // namespace keelson::kubelet
