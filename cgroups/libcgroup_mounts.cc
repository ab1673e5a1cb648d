#include "cgroups/libcgroup_mounts.h"

#include <libcgroup.h>

#include <memory>

#include "base/strings.h"

namespace keelson::cgroups {

absl::StatusOr<std::map<std::string, std::string>> LibcgroupMounts() {
  std::map<std::string, std::string> mounts;
  int error = cgroup_init();
  if (error == ECGROUPNOTMOUNTED) return mounts;
  if (error != 0) return absl::UnavailableError(StrCat("libcgroup: ", cgroup_strerror(error)));
  auto info = std::make_unique<cgroup_mount_point>();  // 8 KiB
  void* handle = nullptr;
  for (error = cgroup_get_controller_begin(&handle, info.get()); error == 0;
       error = cgroup_get_controller_next(&handle, info.get())) {
    mounts.emplace(info->name, info->path);
  }
  cgroup_get_controller_end(&handle);
  if (error != ECGEOF)
    return absl::UnavailableError(StrCat("libcgroup: list controllers: ", cgroup_strerror(error)));
  return mounts;
}

}  // namespace keelson::cgroups
