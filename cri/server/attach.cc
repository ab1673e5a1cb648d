#include <utility>

#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"
#include "cri/server/exec_run.h"
#include "cri/server/runtime_server.h"
#include "oci/attach_client.h"

namespace keelson::cri {

namespace {

// The pumps end before the session does: Attach waits for them.
struct AttachStreams {
  StreamSession* session = nullptr;
  std::unique_ptr<oci::AttachClient> client;
  bool ended = false;  // by the container
  AsyncEvent done;     // the container ended, or the client is gone
};

Task<void> PumpOutput(std::shared_ptr<AttachStreams> streams) {
  while (true) {
    Task<absl::StatusOr<std::optional<oci::AttachChunk>>> read = streams->client->Read();
    absl::StatusOr<std::optional<oci::AttachChunk>> chunk = co_await std::move(read);
    if (!chunk.ok() || !chunk->has_value()) {
      streams->ended = true;
      break;
    }
    bool is_stderr = (*chunk)->is_stderr;
    if (is_stderr ? !streams->session->has_stderr() : !streams->session->has_stdout()) continue;
    Task<absl::Status> write = is_stderr ? streams->session->WriteStderr((*chunk)->data)
                                         : streams->session->WriteStdout((*chunk)->data);
    absl::Status written = co_await std::move(write);
    if (!written.ok()) break;
  }
  streams->done.Set();
}

Task<void> PumpInput(std::shared_ptr<AttachStreams> streams) {
  while (true) {
    Task<absl::StatusOr<std::string>> read = streams->session->ReadStdin();
    absl::StatusOr<std::string> data = co_await std::move(read);
    if (!data.ok() || data->empty()) break;
    Task<absl::Status> write = streams->client->WriteStdin(*std::move(data));
    absl::Status written = co_await std::move(write);
    if (!written.ok()) break;
  }
  streams->client->CloseStdin();
}

Task<void> PumpResize(std::shared_ptr<AttachStreams> streams, oci::ContainerMonitor* monitor,
                      std::string dir) {
  while (true) {
    Task<absl::StatusOr<TerminalSize>> next = streams->session->NextResize();
    absl::StatusOr<TerminalSize> size = co_await std::move(next);
    if (!size.ok()) co_return;
    Task<absl::Status> resize = monitor->ResizeTerminal(dir, size->rows, size->columns);
    absl::Status resized = co_await std::move(resize);
    if (!resized.ok()) LogWarning("terminal not resized", {{"error", resized}});
  }
}

Task<void> EndOnDisconnect(std::shared_ptr<AttachStreams> streams) {
  Task<void> wait = streams->session->disconnected().Wait();
  co_await std::move(wait);
  streams->done.Set();
}

}  // namespace

Task<absl::StatusOr<v1::AttachResponse>> RuntimeServer::Attach(v1::AttachRequest request) {
  CO_ASSIGN_OR_RETURN_SYNC(std::shared_ptr<Container> container,
                           FindRunningContainer(request.container_id()));
  if (request.tty() && request.stderr()) {
    co_return absl::InvalidArgumentError("attach: tty and stderr exclude each other");
  }
  if (!request.stdin() && !request.stdout() && !request.stderr()) {
    co_return absl::InvalidArgumentError("attach: one of stdin, stdout, stderr must be set");
  }
  if (streaming_ == nullptr) co_return absl::UnavailableError("the streaming server is not up");
  request.set_container_id(container->record.id());
  v1::AttachResponse response;
  CO_ASSIGN_OR_RETURN_SYNC(*response.mutable_url(), streaming_->AttachUrl(request));
  co_return response;
}

Task<absl::Status> RuntimeServer::Attach(v1::AttachRequest request, StreamSession* session) {
  CO_ASSIGN_OR_RETURN_SYNC(std::shared_ptr<Container> container,
                           FindRunningContainer(request.container_id()));
  const std::string id = container->record.id();
  const std::string dir = ContainerDir(id);
  auto streams = std::make_shared<AttachStreams>();
  streams->session = session;
  CO_ASSIGN_OR_RETURN(streams->client, oci::ConnectAttach(&env_, deps_.monitor->AttachSocketPath(id)));
  Scope pumps(env_.executor());
  pumps.Spawn("attach output", PumpOutput(streams));
  if (session->has_stdin()) pumps.Spawn("attach stdin", PumpInput(streams));
  if (container->record.config().tty()) {
    pumps.Spawn("attach resize", PumpResize(streams, deps_.monitor, dir));
  }
  pumps.Spawn("attach disconnect", EndOnDisconnect(streams));
  Task<void> run = RunWithPumps(&pumps, streams->done.Wait());
  co_await std::move(run);
  co_return absl::OkStatus();
}

}  // namespace keelson::cri
