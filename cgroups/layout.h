// Which cgroup hierarchies a host has, and the parsers of the files that say so (/proc/mounts, /proc/cgroups,
// /proc/PID/cgroup). Sources: cgroups(7), the kernel's cgroup-v1 and cgroup-v2 guides.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace keelson::cgroups {

enum class Mode {
  kV1,      // controllers in their own hierarchies
  kV2,      // one unified hierarchy
  kHybrid,  // v1 controllers, and a cgroup2 mount without controllers of use (systemd's "hybrid")
};
std::string_view ModeName(Mode mode);

// One line of /proc/mounts.
struct MountEntry {
  std::string device, mount_point, fs_type;
  std::vector<std::string> options;
};
inline constexpr size_t kMaxMountsBytes = 16 << 20;
inline constexpr size_t kMaxMountEntries = 100000;
inline constexpr size_t kMaxCgroupFileBytes = 4 << 20;
// Decodes the \040 escapes. A malformed line is InvalidArgument naming its number.
absl::StatusOr<std::vector<MountEntry>> ParseMounts(std::string_view text);

// One line of /proc/cgroups.
struct ControllerInfo {
  std::string name;
  int hierarchy = 0;
  bool enabled = false;
};
absl::StatusOr<std::vector<ControllerInfo>> ParseProcCgroups(std::string_view text);

// /proc/PID/cgroup: controller (or "name=x" of a named hierarchy, "" for v2) -> path without leading slash.
absl::StatusOr<std::map<std::string, std::string>> ParseProcPidCgroup(std::string_view text);

// A host's hierarchies. Paths are absolute, with the test's root in front where there is one.
struct Layout {
  Mode mode = Mode::kV1;
  std::map<std::string, std::string> v1_mounts;  // controller or "name=x" -> mount point
  std::string unified_mount;                     // of cgroup2; "" when there is none
  std::string proc_root = "/proc";               // for the root cgroup's memory on v2

  // Distinct v1 mount points, sorted; co-mounted controllers (cpu,cpuacct) count once.
  std::vector<std::string> V1MountPoints() const;
};
// The pure part of discovery. The first mount of a hierarchy counts. NotFound when nothing is mounted.
absl::StatusOr<Layout> LayoutOf(const std::vector<MountEntry>& mounts, std::string_view root);

struct DiscoverOptions {
  // "" : this host, through libcgroup (completed from /proc/mounts where libcgroup 2.0 does not see: named
  // hierarchies and a cgroup2 mount without controllers). Otherwise a tree with <root>/proc/mounts, mount
  // points below <root>.
  std::string root;
};
absl::StatusOr<Layout> Discover(const DiscoverOptions& options = {});

}  // namespace keelson::cgroups
