#include <utility>

#include "base/fd.h"
#include "base/status.h"
#include "base/strings.h"
#include "cri/server/exec_run.h"
#include "cri/server/pipes.h"
#include "cri/server/runtime_server.h"

namespace keelson::cri {

namespace {

// Of stdout and stderr each: together with the frame they fit CRI's 16 MiB message.
constexpr size_t kMaxOutputBytes = (8 << 20) - (32 << 10);
// A command that ended may have left a child that holds its output open: so long its last words are waited
// for.
constexpr absl::Duration kDrainLimit = absl::Seconds(2);
// SIGKILL to the end of the process.
constexpr absl::Duration kKillLimit = absl::Seconds(30);

Task<void> WaitDone(Env* env, std::shared_ptr<AsyncEvent> done, absl::Duration limit) {
  LoopTimer timer(env, limit, [done] { done->Set(); });
  Task<void> wait = done->Wait();
  co_await std::move(wait);
}

}  // namespace

Task<absl::StatusOr<v1::ExecSyncResponse>> RuntimeServer::ExecSync(v1::ExecSyncRequest request) {
  CO_ASSIGN_OR_RETURN_SYNC(std::shared_ptr<Container> container,
                           FindRunningContainer(request.container_id()));
  if (request.cmd().empty()) co_return absl::InvalidArgumentError("exec: cmd: required");
  if (request.timeout() < 0) co_return absl::InvalidArgumentError("exec: timeout: must not be negative");
  const std::string id = container->record.id();
  CO_ASSIGN_OR_RETURN_SYNC(oci::OciRuntime * runtime, RuntimeFor(container->record.runtime_handler()));
  std::vector<std::string> command(request.cmd().begin(), request.cmd().end());
  CO_ASSIGN_OR_RETURN_SYNC(std::string process_json,
                           ExecProcessJson(ContainerDir(id), command, /*tty=*/false));
  CO_ASSIGN_OR_RETURN_SYNC(Pipe out, MakePipe());
  CO_ASSIGN_OR_RETURN_SYNC(Pipe err, MakePipe());
  auto out_collector =
      std::make_unique<OutputCollector>(env_.executor(), std::move(out.read), kMaxOutputBytes);
  auto err_collector =
      std::make_unique<OutputCollector>(env_.executor(), std::move(err.read), kMaxOutputBytes);
  oci::ExecOptions options;
  options.process_json = std::move(process_json);
  options.stdout_fd = out.write.get();
  options.stderr_fd = err.write.get();
  std::vector<Fd> given;
  given.push_back(std::move(out.write));
  given.push_back(std::move(err.write));
  CO_ASSIGN_OR_RETURN(std::shared_ptr<ExecRun> run,
                      StartExec(&scope_, runtime, id, std::move(options), std::move(given)));
  // A caller who goes away takes the command along.
  KillOnLeave kill(run, /*tree=*/true);
  std::shared_ptr<AsyncEvent> either = run->ended.Watch();
  std::optional<LoopTimer> timer;
  if (request.timeout() > 0)
    timer.emplace(&env_, absl::Seconds(request.timeout()), [either] { either->Set(); });
  Task<void> wait = either->Wait();
  co_await std::move(wait);
  timer.reset();
  if (!run->ended.is_set()) {
    // Killed and gone before the caller hears of it, with what it started.
    absl::Status killed = run->process->KillTree();
    std::shared_ptr<AsyncEvent> gone = run->ended.Watch();
    Task<void> end = WaitDone(&env_, gone, kKillLimit);
    co_await std::move(end);
    if (!killed.ok() && !absl::IsNotFound(killed)) co_return Annotate(killed, "exec: kill after the timeout");
    co_return absl::DeadlineExceededError(StrCat("exec in container ", id, ": timed out after ",
                                                 request.timeout(), " s: command ", command.front()));
  }
  if (!run->exit_code.ok()) co_return Annotate(run->exit_code.status(), StrCat("exec in container ", id));
  Task<void> drain_out = WaitDone(&env_, out_collector->done(), kDrainLimit);
  co_await std::move(drain_out);
  Task<void> drain_err = WaitDone(&env_, err_collector->done(), kDrainLimit);
  co_await std::move(drain_err);
  v1::ExecSyncResponse response;
  response.set_stdout(out_collector->TakeOutput());
  response.set_stderr(err_collector->TakeOutput());
  response.set_exit_code(*run->exit_code);
  co_return response;
}

}  // namespace keelson::cri
