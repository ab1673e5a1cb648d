#include "cri/server/exec_run.h"

#include "base/fd.h"
#include "base/status.h"
#include "oci/spec.h"

namespace keelson::cri {

namespace {
constexpr size_t kMaxConfigJsonBytes = 16 << 20;
}

Task<void> WaitForExec(std::shared_ptr<ExecRun> run) {
  Task<absl::StatusOr<int>> wait = run->process->Wait();
  run->exit_code = co_await std::move(wait);
  run->ended.Set();
}

absl::StatusOr<std::string> ExecProcessJson(const std::string& bundle_dir,
                                            const std::vector<std::string>& command, bool tty) {
  ASSIGN_OR_RETURN(std::string config, ReadFile(bundle_dir + "/config.json", kMaxConfigJsonBytes));
  return oci::GenerateExecProcess(config, command, tty);
}

}  // namespace keelson::cri
