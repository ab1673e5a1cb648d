#include "cri/streaming/testing/stream_client.h"

#include "base/status.h"
#include "base/strings.h"
#include "net/stream_util.h"

namespace keelson::cri::testing {
namespace {

using net::RemoteChannel;

constexpr char kKey[] = "dGhlIHNhbXBsZSBub25jZQ==";

struct SpdyRun {
  std::unique_ptr<net::SpdyStream> error, in, out, err, resize;
  RemoteResult result;
  AsyncEvent out_done, err_done;
};
using SpdyRunPtr = std::shared_ptr<SpdyRun>;

std::string SizeJson(net::ResizeParser::Size size) {
  return StrCat("{\"Width\":", size.width, ",\"Height\":", size.height, "}\n");
}

Task<void> Drain(SpdyRunPtr run, bool out) {
  Task<std::string> read = ReadToEnd(out ? run->out.get() : run->err.get());
  std::string text = co_await std::move(read);
  (out ? run->result.out : run->result.err) = std::move(text);
  (out ? run->out_done : run->err_done).Set();
}

Task<void> Feed(SpdyRunPtr run, RemoteRun what) {
  if (run->resize != nullptr) {
    for (net::ResizeParser::Size size : what.sizes) {
      std::string json = SizeJson(size);
      Task<absl::Status> write = run->resize->Write(json);
      (void)co_await std::move(write);
    }
  }
  if (run->in == nullptr) co_return;
  Task<absl::Status> write = run->in->Write(what.stdin_data);
  (void)co_await std::move(write);
  if (!what.half_close) co_return;
  Task<absl::Status> close = run->in->CloseWrite();
  (void)co_await std::move(close);
}

Task<absl::StatusOr<RemoteResult>> Spdy(Env* env, Scope* scope, std::unique_ptr<net::ByteStream> stream,
                                        RemoteRun what) {
  std::shared_ptr<net::SpdyConnection> connection =
      net::SpdyConnection::Start(scope, std::move(stream), net::SpdyConnection::Role::kClient);
  net::CloseSpdyAtEnd close(connection);
  bool late = false;
  net::OneShotTimer timer(env->clock(), what.timeout, [&late, connection] {
    late = true;
    connection->Close();
  });
  auto run = std::make_shared<SpdyRun>();
  struct {
    bool wanted;
    const char* type;
    std::unique_ptr<net::SpdyStream>* place;
  } streams[] = {{true, net::kStreamError, &run->error},
                 {what.has_stdin, net::kStreamStdin, &run->in},
                 {what.has_stdout, net::kStreamStdout, &run->out},
                 {what.has_stderr, net::kStreamStderr, &run->err},
                 {what.tty && net::ChannelVersion(what.protocol) >= 3, net::kStreamResize, &run->resize}};
  for (auto& s : streams) {
    if (!s.wanted) continue;
    net::HttpHeaders headers;
    headers.Add(net::kStreamTypeHeader, s.type);
    CO_ASSIGN_OR_RETURN(*s.place, connection->Open(std::move(headers)));
  }
  if (run->out != nullptr) scope->Spawn("stdout", Drain(run, true));
  if (run->err != nullptr) scope->Spawn("stderr", Drain(run, false));
  scope->Spawn("stdin", Feed(run, what));
  Task<std::string> error = ReadToEnd(run->error.get());
  run->result.error = co_await std::move(error);
  if (run->out != nullptr) {
    Task<void> wait = run->out_done.Wait();
    co_await std::move(wait);
  }
  if (run->err != nullptr) {
    Task<void> wait = run->err_done.Wait();
    co_await std::move(wait);
  }
  if (late)
    co_return absl::DeadlineExceededError(StrCat("the session did not end, stdout: ", run->result.out));
  run->result.http_status = 101;
  co_return run->result;
}

Task<absl::Status> FeedWebSocket(std::shared_ptr<net::WebSocketConnection> connection, RemoteRun what) {
  const bool base64 = net::IsBase64Channel(what.protocol);
  const net::WebSocketOpcode opcode = base64 ? net::WebSocketOpcode::kText : net::WebSocketOpcode::kBinary;
  for (net::ResizeParser::Size size : what.sizes) {
    std::string message = net::EncodeChannel(base64, RemoteChannel::kResize, SizeJson(size));
    CO_RETURN_IF_ERROR(connection->Write(opcode, message));
  }
  if (!what.has_stdin) co_return absl::OkStatus();
  for (size_t at = 0; at < what.stdin_data.size(); at += 32 << 10) {
    std::string message =
        net::EncodeChannel(base64, RemoteChannel::kStdin, what.stdin_data.substr(at, 32 << 10));
    CO_RETURN_IF_ERROR(connection->Write(opcode, message));
  }
  if (net::ChannelVersion(what.protocol) >= 5 && what.half_close) {
    const std::string message = net::EncodeChannel(base64, RemoteChannel::kClose, std::string(1, '\0'));
    CO_RETURN_IF_ERROR(connection->Write(opcode, message));
  }
  co_return absl::OkStatus();
}

Task<void> FeedTask(std::shared_ptr<net::WebSocketConnection> connection, RemoteRun what) {
  Task<absl::Status> feed = FeedWebSocket(std::move(connection), std::move(what));
  (void)co_await std::move(feed);
}

Task<absl::StatusOr<RemoteResult>> WebSocket(Env* env, Scope* scope, std::unique_ptr<net::ByteStream> stream,
                                             RemoteRun what) {
  net::WebSocketOptions options;
  options.mask_random = &env->random();
  std::shared_ptr<net::WebSocketConnection> connection =
      net::WebSocketConnection::Start(scope, std::move(stream), options);
  bool late = false;
  net::OneShotTimer timer(env->clock(), what.timeout, [&late, connection] {
    late = true;
    connection->Close();
  });
  scope->Spawn("feed", FeedTask(connection, what));
  RemoteResult result;
  result.http_status = 101;
  const bool base64 = net::IsBase64Channel(what.protocol);
  for (;;) {
    Task<absl::StatusOr<std::optional<net::WebSocketMessage>>> read = connection->Read();
    absl::StatusOr<std::optional<net::WebSocketMessage>> message = co_await std::move(read);
    if (late) {
      co_return absl::DeadlineExceededError(StrCat("the session did not end, stdout: ", result.out));
    }
    if (!message.ok() || !message->has_value()) break;
    CO_ASSIGN_OR_RETURN_SYNC(net::ChannelMessage decoded, net::DecodeChannel(base64, (*message)->data));
    switch (static_cast<RemoteChannel>(decoded.channel)) {
      case RemoteChannel::kStdout:
        result.out += decoded.data;
        break;
      case RemoteChannel::kStderr:
        result.err += decoded.data;
        break;
      case RemoteChannel::kError:
        result.error += decoded.data;
        break;
      default:
        co_return absl::InternalError(StrCat("channel ", decoded.channel));
    }
  }
  connection->Close();
  co_return result;
}

Task<absl::StatusOr<RemoteResult>> Run(Env* env, std::string url, RemoteRun run, net::UpgradeKind kind) {
  std::vector<std::string> protocols;
  if (!run.protocol.empty()) protocols.push_back(run.protocol);
  CO_ASSIGN_OR_RETURN(net::HttpUpgrade upgrade, UpgradeUrl(env, url, kind, protocols, run.tls));
  if (upgrade.stream == nullptr) {
    RemoteResult result;
    result.http_status = upgrade.status;
    result.body = upgrade.body;
    co_return result;
  }
  Scope scope(env->executor());
  Task<absl::StatusOr<RemoteResult>> session;
  if (kind == net::UpgradeKind::kSpdy) {
    session = Spdy(env, &scope, std::move(upgrade.stream), std::move(run));
  } else {
    session = WebSocket(env, &scope, std::move(upgrade.stream), std::move(run));
  }
  absl::StatusOr<RemoteResult> result = co_await std::move(session);
  Task<void> close = scope.Close();
  co_await std::move(close);
  co_return result;
}

}  // namespace

Task<std::string> ReadToEnd(net::ByteStream* stream) {
  std::string out;
  auto buffer = std::make_unique<char[]>(32 << 10);
  for (;;) {
    Task<absl::StatusOr<size_t>> read = stream->Read(buffer.get(), 32 << 10);
    absl::StatusOr<size_t> n = co_await std::move(read);
    if (!n.ok()) co_return StrCat(out, "[", Sv(n.status().message()), "]");
    if (*n == 0) co_return out;
    out.append(buffer.get(), *n);
  }
}

Task<absl::StatusOr<net::HttpUpgrade>> UpgradeUrl(Env* env, std::string url, net::UpgradeKind kind,
                                                  std::vector<std::string> protocols,
                                                  std::shared_ptr<net::TlsClientContext> tls) {
  CO_ASSIGN_OR_RETURN_SYNC(net::HttpUrl parsed, net::HttpUrl::Parse(url));
  net::HttpHeaders offer;
  net::HttpClientRequest request;
  request.target = parsed.target;
  if (kind == net::UpgradeKind::kSpdy) {
    request.method = "POST";
    for (const std::string& name : protocols) offer.Add(net::kStreamProtocolHeader, name);
  } else {
    offer.Add("Sec-WebSocket-Key", kKey);
    for (const std::string& name : protocols) offer.Add("Sec-WebSocket-Protocol", name);
  }
  if (kind != net::UpgradeKind::kNone) request.headers = net::UpgradeForward(offer, kind);
  net::HttpClient client(env, net::HttpClientOptions());
  Task<absl::StatusOr<net::HttpUpgrade>> call =
      client.Upgrade(net::HttpEndpoint::FromUrl(parsed, std::move(tls)), std::move(request));
  co_return co_await std::move(call);
}

Task<absl::StatusOr<RemoteResult>> RunOverSpdy(Env* env, std::string url, RemoteRun run) {
  return Run(env, std::move(url), std::move(run), net::UpgradeKind::kSpdy);
}
Task<absl::StatusOr<RemoteResult>> RunOverWebSocket(Env* env, std::string url, RemoteRun run) {
  return Run(env, std::move(url), std::move(run), net::UpgradeKind::kWebSocket);
}

Task<absl::StatusOr<ForwardedStreams>> OpenForward(std::shared_ptr<net::SpdyConnection> connection,
                                                   uint16_t port, int request_id) {
  ForwardedStreams out;
  for (const char* type : {net::kStreamError, net::kStreamData}) {
    net::HttpHeaders headers;
    headers.Add(net::kStreamTypeHeader, type);
    headers.Add(net::kPortHeader, StrCat(port));
    if (request_id >= 0) headers.Add(net::kRequestIdHeader, StrCat(request_id));
    const bool is_error = type == net::kStreamError;
    Task<absl::StatusOr<std::unique_ptr<net::SpdyStream>>> open = connection->Open(std::move(headers));
    absl::StatusOr<std::unique_ptr<net::SpdyStream>> opened = co_await std::move(open);
    if (!opened.ok())
      co_return Annotate(opened.status(), StrCat("open the ", type, " stream of request ", request_id));
    std::unique_ptr<net::SpdyStream> stream = *std::move(opened);
    if (is_error) {
      Task<absl::Status> half = stream->CloseWrite();
      absl::Status closed = co_await std::move(half);
      if (!closed.ok())
        co_return Annotate(closed, StrCat("half-close the error stream of request ", request_id));
    }
    (is_error ? out.error : out.data) = std::move(stream);
  }
  co_return std::move(out);
}

}  // namespace keelson::cri::testing
