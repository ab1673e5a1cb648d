#include <absl/strings/escaping.h>

#include <list>
#include <map>
#include <utility>

#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"
#include "cri/streaming/channel_session.h"
#include "cri/streaming/port_forward.h"
#include "cri/streaming/streaming.h"
#include "net/http_server.h"
#include "net/remote_command.h"
#include "net/stream_util.h"
#include "net/websocket_connection.h"

namespace keelson::cri {
namespace {

constexpr size_t kTokenBytes = 16;          // 128 random bits
constexpr size_t kMaxWebSocketPorts = 100;  // two channels each in one byte
constexpr char kText[] = "text/plain; charset=utf-8";

// What one URL stands for.
struct Ticket {
  absl::Duration expires;  // on the monotonic clock
  // One of these.
  std::optional<v1::ExecRequest> exec;
  std::optional<v1::AttachRequest> attach;
  std::optional<v1::PortForwardRequest> port_forward;
};

int HttpStatusOf(const absl::Status& status) {
  return absl::IsInvalidArgument(status)    ? 400
         : absl::IsPermissionDenied(status) ? 403
         : absl::IsNotFound(status)         ? 404
                                            : 500;
}

class StreamingServerImpl : public StreamingServer, public net::HttpHandler {
 public:
  StreamingServerImpl(Env& env, StreamingBackend& backend, StreamingOptions options)
      : env_(env), backend_(backend), options_(std::move(options)), scope_(env.executor()) {}

  absl::Status Listen() {
    net::HttpServerOptions http;
    http.name = "streaming";
    server_ = std::make_unique<net::HttpServer>(env_.executor(), &env_.clock(), this, http);
    net::HttpServer::TcpListen listen;
    listen.address = options_.address;
    listen.port = options_.port;
    listen.tls = options_.tls;
    absl::StatusOr<uint16_t> port = server_->ListenTcp(listen);
    if (!port.ok()) return Annotate(port.status(), "starting the streaming server");
    // Whoever follows the URL is on this machine; nobody's certificate names the unspecified address.
    const std::string host = options_.address == "0.0.0.0" ? "127.0.0.1"
                             : options_.address == "::"    ? "::1"
                                                           : options_.address;
    base_url_ = StrCat(options_.tls == nullptr ? "http://" : "https://", net::JoinHostPort(host, *port));
    return absl::OkStatus();
  }

  absl::StatusOr<std::string> ExecUrl(const v1::ExecRequest& request) override {
    Ticket ticket;
    ticket.exec = request;
    return AddTicket("exec", std::move(ticket));
  }
  absl::StatusOr<std::string> AttachUrl(const v1::AttachRequest& request) override {
    Ticket ticket;
    ticket.attach = request;
    return AddTicket("attach", std::move(ticket));
  }
  absl::StatusOr<std::string> PortForwardUrl(const v1::PortForwardRequest& request) override {
    for (int32_t port : request.port()) {
      if (port < 1 || port > UINT16_MAX) return absl::InvalidArgumentError(StrCat("port ", port));
    }
    Ticket ticket;
    ticket.port_forward = request;
    return AddTicket("portforward", std::move(ticket));
  }

  void SetTls(std::shared_ptr<net::TlsServerContext> tls) override {
    KEELSON_CHECK(options_.tls != nullptr && tls != nullptr);
    server_->SetTls(std::move(tls));
  }

  Task<void> Close() override {
    Task<void> server = server_->Close();
    co_await std::move(server);
    Task<void> close = scope_.Close();
    co_await std::move(close);
  }

  // /{exec,attach,portforward}/{token}
  Task<void> Handle(net::HttpRequest request, net::ResponseWriter& writer) override {
    Task<absl::Status> attempt = Serve(std::move(request), &writer);
    absl::Status status = co_await std::move(attempt);
    if (status.ok() || writer.started()) co_return;
    net::HttpResponse response(HttpStatusOf(status), kText, std::string(status.message()) + "\n");
    Task<absl::Status> send = writer.Send(std::move(response));
    (void)co_await std::move(send);
  }

 private:
  absl::StatusOr<std::string> AddTicket(std::string_view what, Ticket ticket) {
    const absl::Duration now = env_.clock().Monotonic();
    // All live equally long: the oldest are in front.
    while (!by_age_.empty() && tickets_.at(by_age_.front()).expires <= now) {
      tickets_.erase(by_age_.front());
      by_age_.pop_front();
    }
    if (tickets_.size() >= options_.max_pending_tokens) {
      return absl::ResourceExhaustedError(
          StrCat("creating a URL for ", what, ": ", tickets_.size(), " are waiting to be used"));
    }
    std::string bits;
    while (bits.size() < kTokenBytes) {
      const uint64_t word = env_.random().Next();
      for (int shift = 0; shift < 64; shift += 8) bits.push_back(static_cast<char>(word >> shift));
    }
    const std::string token = absl::BytesToHexString(bits);
    ticket.expires = now + options_.token_lifetime;
    tickets_[token] = std::move(ticket);
    by_age_.push_back(token);
    return StrCat(base_url_, "/", what, "/", token);
  }

  absl::StatusOr<Ticket> TakeTicket(const std::string& token) {
    auto it = tickets_.find(token);
    if (it == tickets_.end()) return absl::NotFoundError("404 page not found");
    Ticket ticket = std::move(it->second);
    tickets_.erase(it);
    by_age_.remove(token);
    if (ticket.expires <= env_.clock().Monotonic()) return absl::NotFoundError("404 page not found");
    return ticket;
  }

  Task<absl::Status> Serve(net::HttpRequest request, net::ResponseWriter* writer) {
    const std::string& path = request.target.path;
    const size_t slash = path.rfind('/');
    const std::string what = path.substr(0, slash);
    if (what != "/exec" && what != "/attach" && what != "/portforward")
      co_return absl::NotFoundError("404 page not found");
    // Before the token is spent, so that a client may mend its request. What a page of a browser sends is
    // refused here.
    absl::Status upgrade = net::CheckUpgrade(request);
    if (!upgrade.ok()) co_return upgrade;
    absl::StatusOr<Ticket> ticket = TakeTicket(path.substr(slash + 1));
    if (!ticket.ok()) co_return ticket.status();
    if (what == "/exec" && ticket->exec.has_value()) {
      Task<absl::Status> serve = ServeExec(std::move(request), writer, *std::move(ticket->exec));
      co_return co_await std::move(serve);
    }
    if (what == "/attach" && ticket->attach.has_value()) {
      Task<absl::Status> serve = ServeAttach(std::move(request), writer, *std::move(ticket->attach));
      co_return co_await std::move(serve);
    }
    if (what == "/portforward" && ticket->port_forward.has_value()) {
      Task<absl::Status> serve =
          ServePortForward(std::move(request), writer, *std::move(ticket->port_forward));
      co_return co_await std::move(serve);
    }
    co_return absl::NotFoundError("404 page not found");
  }

  Task<absl::StatusOr<std::shared_ptr<net::ByteStream>>> Upgrade(net::HttpHeaders request,
                                                                 net::UpgradeKind kind, std::string protocol,
                                                                 net::ResponseWriter* writer) {
    Task<absl::StatusOr<std::unique_ptr<net::ByteStream>>> hijack =
        writer->Hijack(101, net::UpgradeAnswer(request, kind, protocol));
    absl::StatusOr<std::unique_ptr<net::ByteStream>> stream = co_await std::move(hijack);
    if (!stream.ok()) co_return stream.status();
    co_return net::WithIdleTimeout(env_.clock(), *std::move(stream), options_.idle_timeout);
  }

  // The client's end of an exec or attach, its streams open.
  Task<absl::StatusOr<std::unique_ptr<ChannelSession>>> OpenSession(net::HttpRequest request,
                                                                    net::ResponseWriter* writer,
                                                                    SessionStreams streams) {
    const net::UpgradeKind kind = net::UpgradeKindOf(request.headers);
    const std::vector<std::string> offered = net::OfferedProtocols(request.headers, kind);
    const bool spdy = kind == net::UpgradeKind::kSpdy;
    absl::StatusOr<std::string> protocol =
        spdy ? net::ChooseProtocol(offered,
                                   {net::kChannelV4, net::kChannelV3, net::kChannelV2, net::kChannelV1},
                                   net::kChannelV1)
             : net::ChooseProtocol(offered,
                                   {net::kChannelV5, net::kChannelV4, net::kBase64ChannelV4, net::kChannelV1,
                                    net::kBase64ChannelV1},
                                   net::kChannelV1);
    if (!protocol.ok()) co_return protocol.status();
    Task<absl::StatusOr<std::shared_ptr<net::ByteStream>>> upgrade =
        Upgrade(std::move(request.headers), kind, *protocol, writer);
    absl::StatusOr<std::shared_ptr<net::ByteStream>> stream = co_await std::move(upgrade);
    if (!stream.ok()) co_return stream.status();
    std::unique_ptr<ChannelSession> session =
        spdy ? MakeSpdySession(&scope_, &env_.clock(), *std::move(stream), *protocol, streams,
                               options_.creation_timeout)
             : MakeWebSocketSession(&scope_, &env_.clock(), *std::move(stream), *protocol, streams);
    Task<absl::Status> prepare = session->Prepare();
    absl::Status status = co_await std::move(prepare);
    if (!status.ok()) {
      LogInfo("a client did not open its streams", {{"peer", request.peer_address}, {"error", status}});
      co_return status;
    }
    co_return std::move(session);
  }

  Task<absl::Status> ServeExec(net::HttpRequest request, net::ResponseWriter* writer, v1::ExecRequest exec) {
    SessionStreams streams;
    streams.has_stdin = exec.stdin();
    streams.has_stdout = exec.stdout();
    streams.has_stderr = exec.stderr();
    streams.tty = exec.tty();
    Task<absl::StatusOr<std::unique_ptr<ChannelSession>>> open =
        OpenSession(std::move(request), writer, streams);
    absl::StatusOr<std::unique_ptr<ChannelSession>> session = co_await std::move(open);
    if (!session.ok()) co_return session.status();
    const std::string container = exec.container_id();
    Task<absl::StatusOr<int>> run = backend_.Exec(std::move(exec), session->get());
    absl::StatusOr<int> code = co_await std::move(run);
    ExecOutcome outcome;
    if (code.ok()) {
      outcome.exit_code = *code;
    } else {
      LogInfo("exec failed", {{"container", container}, {"error", code.status()}});
      outcome.error = Annotate(code.status(), "error executing command in container");
    }
    Task<void> finish = (*session)->Finish(std::move(outcome));
    co_await std::move(finish);
    co_return absl::OkStatus();
  }

  Task<absl::Status> ServeAttach(net::HttpRequest request, net::ResponseWriter* writer,
                                 v1::AttachRequest attach) {
    SessionStreams streams;
    streams.has_stdin = attach.stdin();
    streams.has_stdout = attach.stdout();
    streams.has_stderr = attach.stderr();
    streams.tty = attach.tty();
    Task<absl::StatusOr<std::unique_ptr<ChannelSession>>> open =
        OpenSession(std::move(request), writer, streams);
    absl::StatusOr<std::unique_ptr<ChannelSession>> session = co_await std::move(open);
    if (!session.ok()) co_return session.status();
    const std::string container = attach.container_id();
    Task<absl::Status> run = backend_.Attach(std::move(attach), session->get());
    absl::Status status = co_await std::move(run);
    ExecOutcome outcome;
    if (!status.ok()) {
      LogInfo("attach failed", {{"container", container}, {"error", status}});
      outcome.error = Annotate(status, "error attaching to container");
    }
    Task<void> finish = (*session)->Finish(std::move(outcome));
    co_await std::move(finish);
    co_return absl::OkStatus();
  }

  Task<absl::Status> ServePortForward(net::HttpRequest request, net::ResponseWriter* writer,
                                      v1::PortForwardRequest forward) {
    const net::UpgradeKind kind = net::UpgradeKindOf(request.headers);
    const std::vector<std::string> offered = net::OfferedProtocols(request.headers, kind);
    const bool spdy = kind == net::UpgradeKind::kSpdy;
    absl::StatusOr<std::string> protocol =
        spdy ? net::ChooseProtocol(offered, {net::kPortForwardV1}, net::kPortForwardV1)
             : net::ChooseProtocol(offered,
                                   {net::kTunneledPortForward, net::kChannelV4, net::kBase64ChannelV4},
                                   net::kChannelV4);
    if (!protocol.ok()) co_return protocol.status();
    PortForwardContext context;
    context.scope = &scope_;
    context.clock = &env_.clock();
    context.backend = &backend_;
    context.pod_sandbox_id = forward.pod_sandbox_id();
    context.ports.assign(forward.port().begin(), forward.port().end());
    context.creation_timeout = options_.creation_timeout;
    const bool channels = !spdy && *protocol != net::kTunneledPortForward;
    if (channels && (context.ports.empty() || context.ports.size() > kMaxWebSocketPorts)) {
      co_return absl::InvalidArgumentError(StrCat("between 1 and ", kMaxWebSocketPorts,
                                                  " ports must be named for port-forward over ", *protocol));
    }
    Task<absl::StatusOr<std::shared_ptr<net::ByteStream>>> upgrade =
        Upgrade(std::move(request.headers), kind, *protocol, writer);
    absl::StatusOr<std::shared_ptr<net::ByteStream>> stream = co_await std::move(upgrade);
    if (!stream.ok()) co_return stream.status();
    Task<void> serve;
    if (channels) {
      serve = ServeWebSocketPortForward(std::move(context), *std::move(stream), *protocol);
    } else if (spdy) {
      serve = ServeSpdyPortForward(std::move(context), *std::move(stream));
    } else {
      std::shared_ptr<net::WebSocketConnection> tunnel =
          net::WebSocketConnection::Start(&scope_, *std::move(stream));
      serve = ServeSpdyPortForward(std::move(context), net::WebSocketByteStream(std::move(tunnel)));
    }
    co_await std::move(serve);
    co_return absl::OkStatus();
  }

  Env& env_;
  StreamingBackend& backend_;
  const StreamingOptions options_;
  std::string base_url_;
  std::map<std::string, Ticket> tickets_;
  std::list<std::string> by_age_;
  std::unique_ptr<net::HttpServer> server_;
  Scope scope_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<StreamingServer>> StreamingServer::Start(Env& env, StreamingBackend& backend,
                                                                        StreamingOptions options) {
  auto server = std::make_unique<StreamingServerImpl>(env, backend, std::move(options));
  absl::Status status = server->Listen();
  if (!status.ok()) return status;
  return std::unique_ptr<StreamingServer>(std::move(server));
}

}  // namespace keelson::cri
