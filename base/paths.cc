#include "base/paths.h"

#include <absl/strings/strip.h>

#include "base/strings.h"

namespace keelson {

Paths Paths::WithRoot(const std::string& root) {
  Paths paths;
  absl::string_view trimmed = root;
  while (trimmed.size() > 1 && absl::ConsumeSuffix(&trimmed, "/")) {
  }
  if (trimmed.empty()) return paths;
  paths.root = std::string(trimmed);
  for (std::string* dir : {&paths.state_dir, &paths.run_dir, &paths.etc_dir, &paths.log_dir,
                           &paths.kubelet_dir, &paths.pod_logs_dir, &paths.container_logs_dir}) {
    *dir = StrCat(paths.root, *dir);
  }
  size_t slash = paths.root.rfind('/');
  paths.cgroup_root = StrCat("keelson-", paths.root.substr(slash + 1));
  return paths;
}

}  // namespace keelson
