#include "cri/streaming/channel_session.h"

#include <algorithm>
#include <utility>

#include "api/codec.h"
#include "api/status_error.h"
#include "base/log.h"
#include "base/strings.h"
#include "net/remote_command.h"
#include "net/spdy_connection.h"
#include "net/stream_util.h"
#include "net/websocket_connection.h"

namespace keelson::cri {
namespace {

using net::RemoteChannel;

constexpr size_t kReadBytes = 32 << 10;
constexpr size_t kMaxStdinBytes = 256 << 10;  // unread, of a WebSocket
// How long the client may take to close after the outcome was sent.
constexpr absl::Duration kCloseGrace = absl::Seconds(5);
constexpr size_t kMaxOutputMessageBytes = 32 << 10;

}  // namespace

std::string ExecOutcome::Status() const {
  api::ApiStatus status;
  status.mutable_metadata();
  if (!error.ok()) {
    status = api::ToApiStatus(api::InternalError(Sv(error.message())));
  } else if (exit_code == 0) {
    status.set_status("Success");
  } else {
    status.set_status("Failure");
    status.set_reason("NonZeroExitCode");
    status.set_message(Text());
    api::StatusCause* cause = status.mutable_details()->add_causes();
    cause->set_reason("ExitCode");
    cause->set_message(StrCat(exit_code));
  }
  return api::EncodeJson(status);
}

std::string ExecOutcome::Text() const {
  if (!error.ok()) return std::string(error.message());
  if (exit_code == 0) return "";
  return StrCat("command terminated with non-zero exit code: exit status ", exit_code);
}

// ---- SPDY ----

namespace {

class SpdySession : public ChannelSession {
 public:
  SpdySession(Scope* scope, Clock* clock, std::shared_ptr<net::ByteStream> stream, std::string protocol,
              SessionStreams streams, absl::Duration creation_timeout)
      : clock_(clock),
        version_(net::ChannelVersion(protocol)),
        streams_(streams),
        creation_timeout_(creation_timeout),
        connection_(
            net::SpdyConnection::Start(scope, std::move(stream), net::SpdyConnection::Role::kServer)) {}
  ~SpdySession() override { connection_->Close(); }

  bool has_stdin() const override { return streams_.has_stdin; }
  bool has_stdout() const override { return streams_.has_stdout; }
  bool has_stderr() const override { return streams_.has_stderr; }
  AsyncEvent& disconnected() override { return connection_->closed(); }

  Task<absl::Status> Prepare() override {
    bool late = false;
    std::shared_ptr<net::SpdyConnection> connection = connection_;
    net::OneShotTimer timer(*clock_, creation_timeout_, [&late, connection] {
      late = true;
      connection->Close();
    });
    while (!Complete()) {
      Task<absl::StatusOr<std::unique_ptr<net::SpdyStream>>> accept = connection_->Accept();
      absl::StatusOr<std::unique_ptr<net::SpdyStream>> stream = co_await std::move(accept);
      if (late) co_return absl::DeadlineExceededError("the client did not open its streams in time");
      if (!stream.ok()) co_return stream.status();
      std::string type((*stream)->headers().Get(net::kStreamTypeHeader));
      std::unique_ptr<net::SpdyStream>* place = Place(type);
      if (place == nullptr || *place != nullptr) {
        co_return absl::InvalidArgumentError(StrCat("the client opened a stream of type \"", type, "\""));
      }
      *place = *std::move(stream);
    }
    co_return absl::OkStatus();
  }

  Task<absl::StatusOr<std::string>> ReadStdin() override {
    if (stdin_ == nullptr) co_return std::string();
    std::string buffer(kReadBytes, '\0');
    Task<absl::StatusOr<size_t>> read = stdin_->Read(buffer.data(), buffer.size());
    absl::StatusOr<size_t> n = co_await std::move(read);
    if (!n.ok()) co_return n.status();
    buffer.resize(*n);
    co_return std::move(buffer);
  }
  Task<absl::Status> WriteStdout(std::string_view data) override { return WriteTo(stdout_.get(), data); }
  Task<absl::Status> WriteStderr(std::string_view data) override { return WriteTo(stderr_.get(), data); }

  Task<absl::StatusOr<TerminalSize>> NextResize() override {
    if (resize_ == nullptr) co_return absl::CancelledError("no terminal");
    for (;;) {
      std::optional<net::ResizeParser::Size> size = parser_.Take();
      if (size.has_value()) {
        TerminalSize out;
        out.columns = size->width;
        out.rows = size->height;
        co_return out;
      }
      char buffer[256];
      Task<absl::StatusOr<size_t>> read = resize_->Read(buffer, sizeof buffer);
      absl::StatusOr<size_t> n = co_await std::move(read);
      if (!n.ok() || *n == 0) co_return absl::CancelledError("no more resizes");
      absl::Status status = parser_.Append(std::string_view(buffer, *n));
      if (!status.ok()) co_return absl::CancelledError(status.message());
    }
  }

  Task<void> Finish(ExecOutcome outcome) override {
    const std::string text = version_ >= 4 ? outcome.Status() : outcome.Text();
    for (net::SpdyStream* stream : {stdout_.get(), stderr_.get()}) {
      if (stream == nullptr) continue;
      Task<absl::Status> close = stream->CloseWrite();
      (void)co_await std::move(close);
    }
    if (error_ != nullptr) {
      Task<absl::Status> write = error_->Write(text);
      (void)co_await std::move(write);
      Task<absl::Status> close = error_->CloseWrite();
      (void)co_await std::move(close);
    }
    connection_->Finish();
    Task<absl::Status> drained = connection_->Drained();
    (void)co_await std::move(drained);
    std::shared_ptr<net::SpdyConnection> connection = connection_;
    net::OneShotTimer timer(*clock_, kCloseGrace, [connection] { connection->Close(); });
    Task<void> wait = connection_->closed().Wait();
    co_await std::move(wait);
  }

 private:
  static Task<absl::Status> WriteTo(net::SpdyStream* stream, std::string_view data) {
    if (stream == nullptr) co_return absl::FailedPreconditionError("the client did not ask for this stream");
    Task<absl::Status> write = stream->Write(data);
    co_return co_await std::move(write);
  }
  std::unique_ptr<net::SpdyStream>* Place(const std::string& type) {
    if (type == net::kStreamError) return &error_;
    if (type == net::kStreamStdin) return &stdin_;
    if (type == net::kStreamStdout) return &stdout_;
    if (type == net::kStreamStderr) return &stderr_;
    if (type == net::kStreamResize) return &resize_;
    return nullptr;
  }
  bool Complete() const {
    return error_ != nullptr && (stdin_ != nullptr || !streams_.has_stdin) &&
           (stdout_ != nullptr || !streams_.has_stdout) && (stderr_ != nullptr || !streams_.has_stderr) &&
           (resize_ != nullptr || !streams_.tty || version_ < 3);
  }

  Clock* const clock_;
  const int version_;
  const SessionStreams streams_;
  const absl::Duration creation_timeout_;
  const std::shared_ptr<net::SpdyConnection> connection_;
  std::unique_ptr<net::SpdyStream> error_, stdin_, stdout_, stderr_, resize_;
  net::ResizeParser parser_;
};

// ---- WebSocket ----

// Shared with the task that reads.
struct WebSocketState {
  std::shared_ptr<net::WebSocketConnection> connection;
  bool base64 = false;
  bool has_stdin = false;
  int version = 0;
  std::string stdin_bytes;
  bool stdin_ended = false, gone = false, finishing = false;
  net::ResizeParser parser;
  bool resize_broken = false;
  WaitList stdin_changed, stdin_taken, resized;
  AsyncEvent disconnected;

  void Gone() {
    gone = true;
    stdin_changed.NotifyAll();
    stdin_taken.NotifyAll();
    resized.NotifyAll();
    disconnected.Set();
  }
};

class GoneAtEnd {
 public:
  explicit GoneAtEnd(WebSocketState* state) : state_(state) {}
  ~GoneAtEnd() { state_->Gone(); }

 private:
  WebSocketState* state_;
};

Task<void> ReadChannels(std::shared_ptr<WebSocketState> state) {
  GoneAtEnd end(state.get());
  for (;;) {
    Task<absl::StatusOr<std::optional<net::WebSocketMessage>>> read = state->connection->Read();
    absl::StatusOr<std::optional<net::WebSocketMessage>> message = co_await std::move(read);
    if (!message.ok() || !message->has_value()) co_return;
    absl::StatusOr<net::ChannelMessage> decoded = net::DecodeChannel(state->base64, (*message)->data);
    if (!decoded.ok()) {
      state->connection->Finish(net::kWebSocketProtocolError, Sv(decoded.status().message()));
      co_return;
    }
    switch (static_cast<RemoteChannel>(decoded->channel)) {
      case RemoteChannel::kStdin:
        if (!state->has_stdin || state->stdin_ended || state->finishing) break;
        state->stdin_bytes += decoded->data;
        state->stdin_changed.NotifyAll();
        while (state->stdin_bytes.size() > kMaxStdinBytes && !state->finishing) {
          Task<void> wait = state->stdin_taken.Wait();
          co_await std::move(wait);
        }
        break;
      case RemoteChannel::kResize:
        if (!state->resize_broken) state->resize_broken = !state->parser.Append(decoded->data).ok();
        state->resized.NotifyAll();
        break;
      case RemoteChannel::kClose:
        if (state->version >= 5 && decoded->data == std::string(1, '\0')) {
          state->stdin_ended = true;
          state->stdin_changed.NotifyAll();
        }
        break;
      default:
        break;  // the client has nothing to say there
    }
  }
}

class WebSocketSession : public ChannelSession {
 public:
  WebSocketSession(Scope* scope, Clock* clock, std::shared_ptr<net::ByteStream> stream,
                   const std::string& protocol, SessionStreams streams)
      : scope_(scope), clock_(clock), streams_(streams), state_(std::make_shared<WebSocketState>()) {
    state_->connection = net::WebSocketConnection::Start(scope, std::move(stream));
    state_->base64 = net::IsBase64Channel(protocol);
    state_->version = net::ChannelVersion(protocol);
    state_->has_stdin = streams.has_stdin;
  }
  ~WebSocketSession() override {
    state_->finishing = true;
    state_->stdin_taken.NotifyAll();
    state_->connection->Close();
  }

  bool has_stdin() const override { return streams_.has_stdin; }
  bool has_stdout() const override { return streams_.has_stdout; }
  bool has_stderr() const override { return streams_.has_stderr; }
  AsyncEvent& disconnected() override { return state_->disconnected; }

  Task<absl::Status> Prepare() override {
    if (scope_->closing()) co_return absl::UnavailableError("shutting down");
    scope_->Spawn("WebSocket channels", ReadChannels(state_));
    // An empty message tells clients that the channels are open.
    RemoteChannel first = RemoteChannel::kError;
    if (streams_.has_stderr) first = RemoteChannel::kStderr;
    if (streams_.has_stdout) first = RemoteChannel::kStdout;
    Task<absl::Status> send = Send(state_, first, std::string_view());
    co_return co_await std::move(send);
  }

  Task<absl::StatusOr<std::string>> ReadStdin() override {
    std::shared_ptr<WebSocketState> state = state_;
    if (!streams_.has_stdin) co_return std::string();
    while (state->stdin_bytes.empty()) {
      if (state->stdin_ended) co_return std::string();
      if (state->gone) co_return absl::UnavailableError("the client is gone");
      Task<void> wait = state->stdin_changed.Wait();
      co_await std::move(wait);
    }
    std::string out = state->stdin_bytes.substr(0, kReadBytes);
    state->stdin_bytes.erase(0, out.size());
    state->stdin_taken.NotifyAll();
    co_return std::move(out);
  }
  Task<absl::Status> WriteStdout(std::string_view data) override {
    return Send(state_, RemoteChannel::kStdout, data);
  }
  Task<absl::Status> WriteStderr(std::string_view data) override {
    return Send(state_, RemoteChannel::kStderr, data);
  }

  Task<absl::StatusOr<TerminalSize>> NextResize() override {
    std::shared_ptr<WebSocketState> state = state_;
    if (!streams_.tty) co_return absl::CancelledError("no terminal");
    for (;;) {
      std::optional<net::ResizeParser::Size> size = state->parser.Take();
      if (size.has_value()) {
        TerminalSize out;
        out.columns = size->width;
        out.rows = size->height;
        co_return out;
      }
      if (state->gone || state->resize_broken) co_return absl::CancelledError("no more resizes");
      Task<void> wait = state->resized.Wait();
      co_await std::move(wait);
    }
  }

  Task<void> Finish(ExecOutcome outcome) override {
    std::shared_ptr<WebSocketState> state = state_;
    state->finishing = true;
    state->stdin_taken.NotifyAll();
    const std::string text = state->version >= 4 ? outcome.Status() : outcome.Text();
    if (!text.empty()) {
      Task<absl::Status> send = Send(state, RemoteChannel::kError, text);
      (void)co_await std::move(send);
    }
    state->connection->Finish(net::kWebSocketNormal, "");
    Task<absl::Status> drained = state->connection->Drained();
    (void)co_await std::move(drained);
    net::OneShotTimer timer(*clock_, kCloseGrace, [state] { state->connection->Close(); });
    Task<void> wait = state->disconnected.Wait();
    co_await std::move(wait);
  }

 private:
  // At least one message, also for nothing.
  static Task<absl::Status> Send(std::shared_ptr<WebSocketState> state, RemoteChannel channel,
                                 std::string_view data) {
    const net::WebSocketOpcode opcode =
        state->base64 ? net::WebSocketOpcode::kText : net::WebSocketOpcode::kBinary;
    do {
      std::string message =
          net::EncodeChannel(state->base64, channel, data.substr(0, kMaxOutputMessageBytes));
      data.remove_prefix(std::min(data.size(), kMaxOutputMessageBytes));
      Task<absl::Status> write = state->connection->Write(opcode, message);
      absl::Status status = co_await std::move(write);
      if (!status.ok()) co_return status;
    } while (!data.empty());
    co_return absl::OkStatus();
  }

  Scope* const scope_;
  Clock* const clock_;
  const SessionStreams streams_;
  const std::shared_ptr<WebSocketState> state_;
};

}  // namespace

std::unique_ptr<ChannelSession> MakeSpdySession(Scope* scope, Clock* clock,
                                                std::shared_ptr<net::ByteStream> stream, std::string protocol,
                                                SessionStreams streams, absl::Duration creation_timeout) {
  return std::make_unique<SpdySession>(scope, clock, std::move(stream), std::move(protocol), streams,
                                       creation_timeout);
}

std::unique_ptr<ChannelSession> MakeWebSocketSession(Scope* scope, Clock* clock,
                                                     std::shared_ptr<net::ByteStream> stream,
                                                     std::string protocol, SessionStreams streams) {
  return std::make_unique<WebSocketSession>(scope, clock, std::move(stream), protocol, streams);
}

}  // namespace keelson::cri
