#include "cgroups/attach_warmer.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <map>
#include <string>
#include <utility>

#include "base/fd.h"
#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"
#include "cgroups/manager.h"

namespace keelson::cgroups {

namespace {

// The cgroup.procs of the cgroup this process is in, in any one hierarchy: they share the lock.
absl::StatusOr<std::string> OwnProcsFile(const Layout& layout) {
  // Read each time: a service manager may have moved the process since.
  ASSIGN_OR_RETURN(std::string text, ReadFile(layout.proc_root + "/self/cgroup", kMaxCgroupFileBytes));
  auto own = ParseProcPidCgroup(text);
  RETURN_IF_ERROR(own.status());
  for (const auto& [controller, path] : *own) {
    std::string mount;
    if (controller.empty()) {
      mount = layout.unified_mount;
    } else if (auto it = layout.v1_mounts.find(controller); it != layout.v1_mounts.end()) {
      mount = it->second;
    }
    // Outside of what a cgroup namespace shows, the path begins with "..".
    if (mount.empty() || !ValidatePath(path).ok()) continue;
    return StrCat(mount, path.empty() ? "" : "/", path, "/cgroup.procs");
  }
  return absl::NotFoundError("no mounted cgroup hierarchy shows the cgroup of this process");
}

}  // namespace

absl::Status MoveSelfInPlace(const Layout& layout) {
  ASSIGN_OR_RETURN(std::string path, OwnProcsFile(layout));
  ASSIGN_OR_RETURN(Fd fd, OpenFile(path, O_WRONLY));
  // 0: the writer. A cgroup with controllers of its children takes no process (v2), but the lock was held.
  if (::write(fd.get(), "0", 1) != 1 && errno != EBUSY && errno != EOPNOTSUPP) {
    return ErrnoStatus(errno, StrCat("write ", path));
  }
  return absl::OkStatus();
}

struct AttachWarmer::State {
  Layout layout;
  bool running = false, given_up = false;
};

AttachWarmer::AttachWarmer(Env* env, Layout layout)
    : env_(*env), state_(std::make_shared<State>(State{.layout = std::move(layout)})) {}

void AttachWarmer::Warm() {
  if (state_->running || state_->given_up) return;
  state_->running = true;
  auto moved = std::make_shared<absl::Status>();
  env_.RunInPool([state = state_, moved] { *moved = MoveSelfInPlace(state->layout); },
                 [state = state_, moved] {
                   state->running = false;
                   if (moved->ok()) return;
                   state->given_up = true;
                   LogInfo("starts of containers wait for the kernel's cgroup lock", {{"reason", *moved}});
                 });
}

}  // namespace keelson::cgroups
