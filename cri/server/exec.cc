#include <fcntl.h>
#include <sys/ioctl.h>
#include <termios.h>

#include <utility>

#include "base/fd.h"
#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"
#include "cri/server/exec_run.h"
#include "cri/server/pipes.h"
#include "cri/server/runtime_server.h"

namespace keelson::cri {

namespace {

// A command that ended may have left a child that holds its output open.
constexpr absl::Duration kDrainLimit = absl::Seconds(2);

// What the pumps of one exec share. The pumps end before the session does: Exec waits for them.
struct ExecStreams {
  StreamSession* session = nullptr;
  std::shared_ptr<ExecRun> run;
  std::unique_ptr<LoopFd> in, out, err;  // with a terminal `in` is null and `out` goes both ways
  ExitSignal out_done, err_done;
  int writing = 0;     // pumps that wait for the client
  uint64_t moved = 0;  // pieces the client took
};

Task<void> PumpOutput(std::shared_ptr<ExecStreams> streams, bool err) {
  LoopFd* from = err ? streams->err.get() : streams->out.get();
  while (true) {
    Task<absl::StatusOr<std::string>> read = from->Read();
    absl::StatusOr<std::string> data = co_await std::move(read);
    if (!data.ok() || data->empty()) break;
    Task<absl::Status> write =
        err ? streams->session->WriteStderr(*data) : streams->session->WriteStdout(*data);
    ++streams->writing;
    absl::Status written = co_await std::move(write);
    --streams->writing;
    ++streams->moved;
    if (!written.ok()) break;
  }
  (err ? streams->err_done : streams->out_done).Set();
}

Task<void> PumpInput(std::shared_ptr<ExecStreams> streams) {
  LoopFd* to = streams->in != nullptr ? streams->in.get() : streams->out.get();
  while (true) {
    Task<absl::StatusOr<std::string>> read = streams->session->ReadStdin();
    absl::StatusOr<std::string> data = co_await std::move(read);
    if (!data.ok() || data->empty()) break;
    Task<absl::Status> write = to->Write(*std::move(data));
    absl::Status written = co_await std::move(write);
    if (!written.ok()) break;
  }
  if (streams->in != nullptr) streams->in->Close();
}

Task<void> PumpResize(std::shared_ptr<ExecStreams> streams) {
  while (true) {
    Task<absl::StatusOr<TerminalSize>> next = streams->session->NextResize();
    absl::StatusOr<TerminalSize> size = co_await std::move(next);
    if (!size.ok()) co_return;
    winsize w{};
    w.ws_row = size->rows;
    w.ws_col = size->columns;
    if (streams->out->get() >= 0) ::ioctl(streams->out->get(), TIOCSWINSZ, &w);
  }
}

// The client is gone: so is who could read the command's output.
Task<void> KillOnDisconnect(std::shared_ptr<ExecStreams> streams) {
  Task<void> wait = streams->session->disconnected().Wait();
  co_await std::move(wait);
  absl::Status killed = streams->run->process->Kill();
  if (!killed.ok() && !absl::IsNotFound(killed)) LogWarning("exec not killed", {{"error", killed}});
}

// To the end of one output, or until it is silent for kDrainLimit; a client that takes its time is no
// silence.
Task<void> Drain(Env* env, std::shared_ptr<ExecStreams> streams, ExitSignal* signal) {
  while (!signal->is_set()) {
    uint64_t before = streams->moved;
    std::shared_ptr<AsyncEvent> done = signal->Watch();
    LoopTimer timer(env, kDrainLimit, [done] { done->Set(); });
    Task<void> wait = done->Wait();
    co_await std::move(wait);
    if (streams->writing == 0 && streams->moved == before) break;
  }
}

// To the end of the command and its output.
Task<void> AwaitExec(Env* env, std::shared_ptr<ExecStreams> streams) {
  std::shared_ptr<AsyncEvent> ended = streams->run->ended.Watch();
  Task<void> wait = ended->Wait();
  co_await std::move(wait);
  if (streams->out != nullptr) {
    Task<void> drain = Drain(env, streams, &streams->out_done);
    co_await std::move(drain);
  }
  if (streams->err != nullptr) {
    Task<void> drain = Drain(env, streams, &streams->err_done);
    co_await std::move(drain);
  }
}

absl::Status CheckStreams(bool tty, bool in, bool out, bool err) {
  if (tty && err) return absl::InvalidArgumentError("exec: tty and stderr exclude each other");
  if (!in && !out && !err)
    return absl::InvalidArgumentError("exec: one of stdin, stdout, stderr must be set");
  return absl::OkStatus();
}

}  // namespace

Task<absl::StatusOr<v1::ExecResponse>> RuntimeServer::Exec(v1::ExecRequest request) {
  CO_ASSIGN_OR_RETURN_SYNC(std::shared_ptr<Container> container,
                           FindRunningContainer(request.container_id()));
  CO_RETURN_IF_ERROR_SYNC(CheckStreams(request.tty(), request.stdin(), request.stdout(), request.stderr()));
  if (request.cmd().empty()) co_return absl::InvalidArgumentError("exec: cmd: required");
  if (streaming_ == nullptr) co_return absl::UnavailableError("the streaming server is not up");
  request.set_container_id(container->record.id());
  v1::ExecResponse response;
  CO_ASSIGN_OR_RETURN_SYNC(*response.mutable_url(), streaming_->ExecUrl(request));
  co_return response;
}

Task<absl::StatusOr<int>> RuntimeServer::Exec(v1::ExecRequest request, StreamSession* session) {
  CO_ASSIGN_OR_RETURN_SYNC(std::shared_ptr<Container> container,
                           FindRunningContainer(request.container_id()));
  const std::string id = container->record.id();
  CO_ASSIGN_OR_RETURN_SYNC(oci::OciRuntime * runtime, RuntimeFor(container->record.runtime_handler()));
  std::vector<std::string> command(request.cmd().begin(), request.cmd().end());
  oci::ExecOptions options;
  CO_ASSIGN_OR_RETURN_SYNC(options.process_json, ExecProcessJson(ContainerDir(id), command, request.tty()));
  options.tty = request.tty();
  Pipe in, out, err;
  auto streams = std::make_shared<ExecStreams>();
  streams->session = session;
  if (!request.tty()) {
    if (session->has_stdin()) {
      CO_ASSIGN_OR_RETURN_SYNC(in, MakePipe());
    }
    if (session->has_stdout()) {
      CO_ASSIGN_OR_RETURN_SYNC(out, MakePipe());
    }
    if (session->has_stderr()) {
      CO_ASSIGN_OR_RETURN_SYNC(err, MakePipe());
    }
    options.stdin_fd = in.read.get();
    options.stdout_fd = out.write.get();
    options.stderr_fd = err.write.get();
  }
  std::vector<Fd> given;
  given.push_back(std::move(in.read));
  given.push_back(std::move(out.write));
  given.push_back(std::move(err.write));
  CO_ASSIGN_OR_RETURN(streams->run, StartExec(&scope_, runtime, id, std::move(options), std::move(given)));
  // As for a client that is gone, when the streaming server closes.
  KillOnLeave kill(streams->run, /*tree=*/false);
  if (request.tty()) {
    // The process keeps its descriptor; ours is closed apart from it.
    Fd master(::fcntl(streams->run->process->tty_master_fd(), F_DUPFD_CLOEXEC, 0));
    if (!master.valid()) co_return ErrnoStatus(errno, "duplicate the terminal");
    streams->out = std::make_unique<LoopFd>(env_.executor(), std::move(master));
  } else {
    if (in.write.valid()) streams->in = std::make_unique<LoopFd>(env_.executor(), std::move(in.write));
    if (out.read.valid()) streams->out = std::make_unique<LoopFd>(env_.executor(), std::move(out.read));
    if (err.read.valid()) streams->err = std::make_unique<LoopFd>(env_.executor(), std::move(err.read));
  }
  Scope pumps(env_.executor());
  if (streams->out != nullptr) pumps.Spawn("exec stdout", PumpOutput(streams, false));
  if (streams->err != nullptr) pumps.Spawn("exec stderr", PumpOutput(streams, true));
  if (session->has_stdin()) pumps.Spawn("exec stdin", PumpInput(streams));
  if (request.tty()) pumps.Spawn("exec resize", PumpResize(streams));
  pumps.Spawn("exec disconnect", KillOnDisconnect(streams));
  Task<void> run = RunWithPumps(&pumps, AwaitExec(&env_, streams));
  co_await std::move(run);
  co_return streams->run->exit_code;
}

}  // namespace keelson::cri
