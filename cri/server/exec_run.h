// A command in a container while somebody waits for it: shared by ExecSync and the streaming Exec.
#pragma once

#include <absl/status/statusor.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cri/server/server_state.h"
#include "oci/runtime.h"

namespace keelson::cri {

struct ExecRun {
  explicit ExecRun(std::unique_ptr<oci::ExecProcess> p) : process(std::move(p)) {}
  std::unique_ptr<oci::ExecProcess> process;
  absl::StatusOr<int> exit_code = absl::UnknownError("still running");
  ExitSignal ended;
};

// Spawned; outlives the caller that stopped waiting.
Task<void> WaitForExec(std::shared_ptr<ExecRun> run);

// process.json for a command, from the container's own config.json in `bundle_dir`.
absl::StatusOr<std::string> ExecProcessJson(const std::string& bundle_dir,
                                            const std::vector<std::string>& command, bool tty);

}  // namespace keelson::cri
