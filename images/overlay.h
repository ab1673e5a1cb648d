// Mounts of overlayfs. Blocking calls of microseconds.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"

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
};

absl::Status MountOverlay(const OverlayMount& mount, OverlayMethod method = OverlayMethod::kAuto);

// Copies of the mounts of `paths`, attached nowhere, with the ID mapping of a user namespace. Unlike paths
// they go away with their descriptors: "/proc/self/fd/N" names one. FailedPrecondition: this kernel cannot.
absl::StatusOr<std::vector<Fd>> IdMappedMounts(const std::vector<std::string>& paths,
                                               const std::string& userns_path);

// `upper` that stands for any.
inline constexpr char kAnyUpper[] = "*";
// True when the top mount at `target` is an overlay with this upper directory (or, when empty, without one).
absl::StatusOr<bool> IsOverlayMounted(const std::string& target, const std::string& upper);
// The pure part: `mountinfo` as /proc/self/mountinfo.
bool FindOverlay(std::string_view mountinfo, const std::string& target, const std::string& upper);

// Detaches all that is mounted at `target`. Nothing there is success.
absl::Status UnmountAll(const std::string& target);

// Escapes what overlayfs reads as a separator.
std::string EscapeOverlayPath(std::string_view path);

}  // namespace keelson::images
