#include "cri/server/exec_run.h"

#include <boost/asio/cancellation_state.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/system/system_error.hpp>
#include <exception>

#include "base/log.h"
#include "base/status.h"
#include "oci/spec.h"

namespace keelson::cri {

namespace {

// Between the caller and the task that starts its command.
struct Starting {
  absl::StatusOr<std::shared_ptr<ExecRun>> run = absl::CancelledError("the server is closing");
  std::vector<Fd> given;
  bool abandoned = false;
  AsyncEvent done;
};

struct SetDone {
  Starting* starting;
  ~SetDone() { starting->done.Set(); }
};

struct AbandonOnLeave {
  Starting* starting;
  ~AbandonOnLeave() { starting->abandoned = true; }
};

Task<void> WaitForExec(std::shared_ptr<ExecRun> run) {
  Task<absl::StatusOr<int>> wait = run->process->Wait();
  run->exit_code = co_await std::move(wait);
  run->ended.Set();
}

Task<void> Start(Scope* scope, oci::OciRuntime* runtime, std::string id, oci::ExecOptions options,
                 std::shared_ptr<Starting> starting) {
  SetDone set_done{starting.get()};
  Task<absl::StatusOr<std::unique_ptr<oci::ExecProcess>>> exec = runtime->Exec(id, std::move(options));
  absl::StatusOr<std::unique_ptr<oci::ExecProcess>> process = co_await std::move(exec);
  starting->given.clear();
  if (!process.ok()) {
    starting->run = process.status();
    co_return;
  }
  auto run = std::make_shared<ExecRun>(*std::move(process));
  scope->Spawn("exec", WaitForExec(run));
  if (starting->abandoned) KillOnLeave kill(run, /*tree=*/true);
  starting->run = std::move(run);
}

}  // namespace

KillOnLeave::~KillOnLeave() {
  if (run_->ended.is_set()) return;
  absl::Status killed = tree_ ? run_->process->KillTree() : run_->process->Kill();
  if (!killed.ok() && !absl::IsNotFound(killed)) LogWarning("exec not killed", {{"error", killed}});
}

Task<absl::StatusOr<std::shared_ptr<ExecRun>>> StartExec(Scope* scope, oci::OciRuntime* runtime,
                                                         std::string id, oci::ExecOptions options,
                                                         std::vector<Fd> given) {
  auto starting = std::make_shared<Starting>();
  starting->given = std::move(given);
  AbandonOnLeave leave{starting.get()};
  if (scope->closing()) co_return starting->run.status();
  scope->Spawn("exec start", Start(scope, runtime, std::move(id), std::move(options), starting));
  Task<void> wait = starting->done.Wait();
  co_await std::move(wait);
  co_return starting->run;
}

Task<void> RunWithPumps(Scope* pumps, Task<void> body) {
  std::exception_ptr cancelled;
  try {
    co_await std::move(body);
  } catch (const boost::system::system_error&) {
    cancelled = std::current_exception();
  }
  if (cancelled != nullptr) {
    // Else the wait below would throw at once.
    auto reset = boost::asio::this_coro::reset_cancellation_state(boost::asio::disable_cancellation());
    co_await std::move(reset);
  }
  Task<void> close = pumps->Close();
  co_await std::move(close);
  if (cancelled != nullptr) std::rethrow_exception(cancelled);
}

absl::StatusOr<std::string> ExecProcessJson(const std::string& bundle_dir,
                                            const std::vector<std::string>& command, bool tty) {
  ASSIGN_OR_RETURN(std::string config, ReadFile(bundle_dir + "/config.json", kMaxConfigJsonBytes));
  return oci::GenerateExecProcess(config, command, tty);
}

}  // namespace keelson::cri
