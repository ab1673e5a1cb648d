// Mounts of overlayfs. Blocking calls of microseconds.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <string>
#include <string_view>
#include <vector>

namespace keelson::images {

// The options of mount(2) are one page.
inline constexpr size_t kMaxMountOptionBytes = 4095;

enum class OverlayMethod {
  kAuto,         // the first that fits: plain paths, new mount API, descriptors
  kPaths,        // mount(2) with the paths as they are
  kNewApi,       // fsconfig(2) with "lowerdir+", Linux 6.8
  kDescriptors,  // mount(2) with /proc/self/fd/N for paths, any Linux
};

struct OverlayMount {
  std::vector<std::string> lower;  // absolute, highest first, at least one (two when there is no upper)
  std::string upper, work;         // "" : read-only
  std::string target;
  std::string selinux_label;  // of all files in it, for whoever looks through this mount; "": each its own
};

absl::Status MountOverlay(const OverlayMount& mount, OverlayMethod method = OverlayMethod::kAuto);

// A bind mount of `source` at `target` (both exist, of one kind) with the mappings of a user namespace.
// Unimplemented: this kernel or file system has no ID-mapped mounts.
absl::Status MountIdMapped(const std::string& source, const std::string& target,
                           const std::string& userns_path);

// True when the top mount at `target` is an overlay with this upper directory (or, when empty, without one).
absl::StatusOr<bool> IsOverlayMounted(const std::string& target, const std::string& upper);
// The pure part: `mountinfo` as /proc/self/mountinfo.
bool FindOverlay(std::string_view mountinfo, const std::string& target, const std::string& upper);

// Detaches all that is mounted at `target`. Nothing there is success.
absl::Status UnmountAll(const std::string& target);

// Escapes what overlayfs reads as a separator.
std::string EscapeOverlayPath(std::string_view path);

}  // namespace keelson::images
