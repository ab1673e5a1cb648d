// Mounter: the mount(2) calls volumes need, behind a seam. Called in the blocking pool: stateless and
// thread-safe.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace keelson::kubelet {

class Mounter {
 public:
  virtual ~Mounter() = default;
  // `size_bytes` 0: the kernel's default (half of the memory).
  virtual absl::Status MountTmpfs(const std::string& target, int64_t size_bytes, uint32_t mode) = 0;
  // What `source_fd` (O_PATH will do) stands for, with the mounts below it, appears at `target`.
  virtual absl::Status BindFd(int source_fd, const std::string& target) = 0;
  // The topmost mount at `target`; detached where it is still in use. Not mounted is success.
  virtual absl::Status Unmount(const std::string& target) = 0;
  // Mount points that are `dir` or lie below it, as often as they are mounted on, deepest last.
  virtual absl::StatusOr<std::vector<std::string>> MountsBelow(const std::string& dir) = 0;
};

std::unique_ptr<Mounter> NewHostMounter();

}  // namespace keelson::kubelet
