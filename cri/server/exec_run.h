// A command in a container while somebody waits for it: shared by ExecSync and the streaming Exec.
#pragma once

#include <absl/status/statusor.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "cri/server/server_state.h"
#include "oci/runtime.h"

namespace keelson::cri {

struct ExecRun {
  explicit ExecRun(std::unique_ptr<oci::ExecProcess> p) : process(std::move(p)) {}
  std::unique_ptr<oci::ExecProcess> process;
  absl::StatusOr<int> exit_code = absl::UnknownError("still running");
  ExitSignal ended;
};

// Ends the command when its caller goes away before it: `tree` with all that it started.
class KillOnLeave {
 public:
  KillOnLeave(std::shared_ptr<ExecRun> run, bool tree) : run_(std::move(run)), tree_(tree) {}
  ~KillOnLeave();
  KillOnLeave(const KillOnLeave&) = delete;
  KillOnLeave& operator=(const KillOnLeave&) = delete;

 private:
  std::shared_ptr<ExecRun> run_;
  bool tree_;
};

// Starts a command in `scope`, which outlives the caller: one that is cancelled meanwhile does not cut the
// runtime's work in two; the command is killed as soon as it runs. `given`: descriptors named in the options,
// closed when the runtime has them. The run's end is waited for in `scope`, too.
Task<absl::StatusOr<std::shared_ptr<ExecRun>>> StartExec(Scope* scope, oci::OciRuntime* runtime,
                                                         std::string id, oci::ExecOptions options,
                                                         std::vector<Fd> given);

// `body`, then the end of `pumps`, however the body ended: a cancellation goes on only after it. So what the
// pumps use may belong to the caller's caller.
Task<void> RunWithPumps(Scope* pumps, Task<void> body);

// process.json for a command, from the container's own config.json in `bundle_dir`.
absl::StatusOr<std::string> ExecProcessJson(const std::string& bundle_dir,
                                            const std::vector<std::string>& command, bool tty);

}  // namespace keelson::cri
