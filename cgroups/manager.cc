#include "cgroups/manager.h"

#include <signal.h>

#include "base/status.h"
#include "base/strings.h"
#include "cgroups/managers.h"
#include "cgroups/text.h"

namespace keelson::cgroups {

absl::Status ValidatePath(std::string_view path) {
  auto refuse = [&](std::string_view why) {
    return absl::InvalidArgumentError(StrCat("cgroup path \"", path.substr(0, 200), "\": ", why));
  };
  if (path.empty()) return absl::OkStatus();
  if (path.size() > kMaxPathBytes) return refuse("too long");
  if (path.find_first_of(std::string_view("\0\n", 2)) != std::string_view::npos)
    return refuse("has NUL or newline");
  auto components = Split(path, '/');
  if (components.size() > kMaxPathComponents) return refuse("too deep");
  for (std::string_view component : components) {
    if (component.empty()) return refuse("has an empty component or a slash at an end");
    if (component == "." || component == "..") return refuse("has a . or .. component");
    if (component.size() > kMaxPathComponentBytes) return refuse("has a component over 255 bytes");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Manager>> NewManager(Layout layout, ManagerOptions options) {
  if (options.kill == nullptr) options.kill = [](pid_t pid, int signal) { return ::kill(pid, signal); };
  if (layout.mode == Mode::kV2) return NewV2Manager(std::move(layout), std::move(options));
  return NewV1Manager(std::move(layout), std::move(options));
}

absl::StatusOr<std::unique_ptr<Manager>> NewHostManager() {
  ASSIGN_OR_RETURN(Layout layout, Discover());
  return NewManager(std::move(layout));
}

}  // namespace keelson::cgroups
