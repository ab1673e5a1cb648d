#include "master/apiserver/stream_translator.h"

#include <utility>

#include "base/log.h"
#include "base/strings.h"
#include "net/remote_command.h"
#include "net/spdy_connection.h"
#include "net/stream_util.h"
#include "net/websocket_connection.h"

namespace keelson::master {
namespace {

using net::RemoteChannel;

constexpr size_t kCopyBytes = 32 << 10;
constexpr absl::Duration kOpenTimeout = absl::Seconds(30);  // for the kubelet to take our streams
constexpr absl::Duration kCloseGrace = absl::Seconds(5);    // for the client to close

struct Translation {
  std::shared_ptr<net::WebSocketConnection> websocket;
  std::shared_ptr<net::SpdyConnection> spdy;
  std::unique_ptr<net::SpdyStream> error, in, out, err, resize;
  int outputs = 0;       // streams of the kubelet's that still run
  bool outcome = false;  // something came in the error stream
  AsyncEvent outputs_done, client_done;

  void Close() {
    websocket->Close();
    spdy->Close();
  }
};
using TranslationPtr = std::shared_ptr<Translation>;

class CloseAtEnd {
 public:
  explicit CloseAtEnd(TranslationPtr t) : t_(std::move(t)) {}
  ~CloseAtEnd() { t_->Close(); }

 private:
  TranslationPtr t_;
};

class OutputEnd {
 public:
  explicit OutputEnd(Translation* t) : t_(t) {}
  ~OutputEnd() {
    if (--t_->outputs == 0) t_->outputs_done.Set();
  }

 private:
  Translation* t_;
};

// One of stdout, stderr and the error stream to the client.
Task<void> CopyOutput(TranslationPtr t, net::SpdyStream* stream, RemoteChannel channel) {
  OutputEnd end(t.get());
  auto buffer = std::make_unique<char[]>(kCopyBytes);
  for (;;) {
    Task<absl::StatusOr<size_t>> read = stream->Read(buffer.get(), kCopyBytes);
    absl::StatusOr<size_t> n = co_await std::move(read);
    // Go's servers end their streams by resets.
    if (!n.ok() || *n == 0) co_return;
    if (channel == RemoteChannel::kError) t->outcome = true;
    std::string message = net::EncodeChannel(false, channel, std::string_view(buffer.get(), *n));
    Task<absl::Status> write = t->websocket->Write(net::WebSocketOpcode::kBinary, message);
    absl::Status status = co_await std::move(write);
    if (!status.ok()) co_return;
  }
}

class ClientEnd {
 public:
  explicit ClientEnd(Translation* t) : t_(t) {}
  ~ClientEnd() {
    t_->client_done.Set();
    t_->spdy->Close();  // the kubelet and the runtime see that the client is gone
  }

 private:
  Translation* t_;
};

// What the client sends, until it closes.
Task<void> CopyInput(TranslationPtr t) {
  ClientEnd end(t.get());
  for (;;) {
    Task<absl::StatusOr<std::optional<net::WebSocketMessage>>> read = t->websocket->Read();
    absl::StatusOr<std::optional<net::WebSocketMessage>> message = co_await std::move(read);
    if (!message.ok() || !message->has_value()) co_return;
    absl::StatusOr<net::ChannelMessage> decoded = net::DecodeChannel(false, (*message)->data);
    if (!decoded.ok()) {
      t->websocket->Finish(net::kWebSocketProtocolError, Sv(decoded.status().message()));
      co_return;
    }
    net::SpdyStream* to = nullptr;
    bool half_close = false;
    switch (static_cast<RemoteChannel>(decoded->channel)) {
      case RemoteChannel::kStdin:
        to = t->in.get();
        break;
      case RemoteChannel::kResize:
        to = t->resize.get();
        break;
      case RemoteChannel::kClose:
        half_close = decoded->data == std::string(1, '\0');  // only stdin is the client's to close
        to = half_close ? t->in.get() : nullptr;
        break;
      default:
        break;
    }
    if (to == nullptr) continue;
    Task<absl::Status> pass = half_close ? to->CloseWrite() : to->Write(decoded->data);
    // A command that reads no more input is no reason to stop listening.
    (void)co_await std::move(pass);
  }
}

Task<absl::Status> OpenStreams(TranslationPtr t, TranslatedStreams streams) {
  struct {
    bool wanted;
    const char* type;
    std::unique_ptr<net::SpdyStream>* place;
  } all[] = {{true, net::kStreamError, &t->error},
             {streams.has_stdin, net::kStreamStdin, &t->in},
             {streams.has_stdout, net::kStreamStdout, &t->out},
             {streams.has_stderr, net::kStreamStderr, &t->err},
             {streams.tty, net::kStreamResize, &t->resize}};
  for (auto& one : all) {
    if (!one.wanted) continue;
    net::HttpHeaders headers;
    headers.Add(net::kStreamTypeHeader, one.type);
    Task<absl::StatusOr<std::unique_ptr<net::SpdyStream>>> open = t->spdy->Open(std::move(headers));
    absl::StatusOr<std::unique_ptr<net::SpdyStream>> stream = co_await std::move(open);
    if (!stream.ok()) co_return stream.status();
    *one.place = *std::move(stream);
  }
  co_return absl::OkStatus();
}

}  // namespace

Task<void> TranslateChannels(Scope* scope, Clock* clock, std::unique_ptr<net::ByteStream> websocket,
                             std::unique_ptr<net::ByteStream> spdy, TranslatedStreams streams,
                             absl::Duration idle) {
  if (scope->closing()) co_return;
  auto t = std::make_shared<Translation>();
  t->websocket =
      net::WebSocketConnection::Start(scope, net::WithIdleTimeout(*clock, std::move(websocket), idle));
  t->spdy = net::SpdyConnection::Start(scope, std::move(spdy), net::SpdyConnection::Role::kClient);
  CloseAtEnd close(t);
  absl::Status status;
  {
    net::OneShotTimer timer(*clock, kOpenTimeout, [t] { t->spdy->Close(); });
    Task<absl::Status> open = OpenStreams(t, streams);
    status = co_await std::move(open);
  }
  if (!status.ok()) {
    LogInfo("the kubelet did not take the streams of an exec or attach", {{"error", status}});
    t->websocket->Finish(net::kWebSocketInternalError, "the node did not open the streams");
    Task<absl::Status> drained = t->websocket->Drained();
    (void)co_await std::move(drained);
    co_return;
  }
  // An empty message tells the client that the channels are open.
  RemoteChannel first = RemoteChannel::kError;
  if (streams.has_stderr) first = RemoteChannel::kStderr;
  if (streams.has_stdout) first = RemoteChannel::kStdout;
  std::string hello = net::EncodeChannel(false, first, "");
  Task<absl::Status> send = t->websocket->Write(net::WebSocketOpcode::kBinary, hello);
  (void)co_await std::move(send);
  if (scope->closing()) co_return;
  t->outputs = 1 + (t->out != nullptr ? 1 : 0) + (t->err != nullptr ? 1 : 0);
  scope->Spawn("exec: input", CopyInput(t));
  scope->Spawn("exec: error", CopyOutput(t, t->error.get(), RemoteChannel::kError));
  if (t->out != nullptr) scope->Spawn("exec: stdout", CopyOutput(t, t->out.get(), RemoteChannel::kStdout));
  if (t->err != nullptr) scope->Spawn("exec: stderr", CopyOutput(t, t->err.get(), RemoteChannel::kStderr));
  Task<void> done = t->outputs_done.Wait();
  co_await std::move(done);
  // Without the status in the error channel a normal close would look like success.
  if (t->outcome) {
    t->websocket->Finish(net::kWebSocketNormal, "");
  } else {
    t->websocket->Finish(net::kWebSocketInternalError, "the connection to the node was lost");
  }
  Task<absl::Status> drained = t->websocket->Drained();
  (void)co_await std::move(drained);
  net::OneShotTimer timer(*clock, kCloseGrace, [t] { t->websocket->Close(); });
  Task<void> wait = t->client_done.Wait();
  co_await std::move(wait);
}

Task<void> TranslateTunnel(Scope* scope, Clock* clock, std::unique_ptr<net::ByteStream> websocket,
                           std::unique_ptr<net::ByteStream> spdy, absl::Duration idle) {
  if (scope->closing()) co_return;
  std::shared_ptr<net::WebSocketConnection> connection =
      net::WebSocketConnection::Start(scope, std::move(websocket));
  Task<void> splice =
      net::Splice(scope, clock, net::WebSocketByteStream(std::move(connection)), std::move(spdy), idle);
  co_await std::move(splice);
}

}  // namespace keelson::master
