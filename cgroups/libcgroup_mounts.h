// The one place that includes libcgroup: where this host's controllers are mounted.
#pragma once

#include <absl/status/statusor.h>

#include <map>
#include <string>

namespace keelson::cgroups {

// Controller -> mount point, as libcgroup reads them from /proc. Empty when it finds none. Not thread-safe.
absl::StatusOr<std::map<std::string, std::string>> LibcgroupMounts();

}  // namespace keelson::cgroups
