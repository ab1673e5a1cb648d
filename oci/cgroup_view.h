// The mount namespace a runtime of containers lives in: on a hybrid cgroup host one without the unified
// hierarchy, because crun refuses such hosts and runc makes every cgroup there a second time.
#pragma once

#include <absl/status/statusor.h>

#include <string>
#include <string_view>

namespace keelson::oci {

// Makes the root mount and what is below it shared where it is not (mount propagation of volumes needs it;
// systemd does it at boot). True when it had to. PermissionDenied without CAP_SYS_ADMIN.
absl::StatusOr<bool> EnsureRootShared();

// On a hybrid host: EnsureRootShared(), then a mount namespace of our own whose only difference is that
// /sys/fs/cgroup is private and the unified hierarchy is not mounted there; everything else stays shared in
// both directions, so what is mounted below (Bidirectional volumes, pinned namespaces) reaches the host and
// back. True when it did; false when there is nothing to do. Call it before any thread exists
// (FailedPrecondition else): a namespace is a thread's own. Children inherit it.
absl::StatusOr<bool> EnterCgroupView();

// The mounts of the host as /proc/PID/mountinfo has them: after EnterCgroupView() those of the namespace that
// was left. Whether a mount propagates there only they say.
absl::StatusOr<std::string> ReadHostMountinfo();

// ---- the pure part, on /proc/self/mountinfo ----
struct CgroupMounts {
  bool hybrid = false;
  std::string unified;  // mount point of cgroup2 on a hybrid host
  std::string parent;   // mount point of the mount it is on
  bool root_shared = false;
};
CgroupMounts FindCgroupMounts(std::string_view mountinfo);

}  // namespace keelson::oci
