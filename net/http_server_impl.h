// Inside of HttpServer: shared between http_server.cc (listeners, life cycle) and http_connection.cc (one
// connection).
#pragma once

#include <list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "net/http_parser.h"
#include "net/http_server.h"
#include "net/socket.h"

namespace keelson::net {

class Connection;

struct HttpServer::Impl {
  Impl(Executor executor, Clock* clock, HttpHandler* handler, HttpServerOptions options);

  struct Listener {
    Listener(Executor executor, Fd fd) : socket(Socket::Make(std::move(executor), std::move(fd))) {}
    SocketOwner socket;
    std::shared_ptr<TlsServerContext> tls;
    std::string unix_path;
  };

  void AddConnection(Fd fd, std::shared_ptr<TlsServerContext> tls_context, std::string peer_address);
  bool EvictIdle();
  // The connection's task has ended; it is destroyed from the reaper.
  void ConnectionEnded(Connection* connection);
  // Makes sure the sweep runs no later than `deadline` (Clock::Monotonic).
  void WakeSweepBy(absl::Duration deadline);
  void Sweep();
  const std::string& DateHeader();

  Executor executor;
  Clock* clock;
  HttpHandler* handler;
  HttpServerOptions options;
  ParserLimits parser_limits;
  std::vector<std::unique_ptr<Listener>> listeners;
  std::list<std::unique_ptr<Connection>> connections;
  std::vector<Connection*> ended;
  AsyncEvent ended_event;
  AsyncEvent connections_empty;
  bool closing = false;
  bool closed = false;
  uint64_t sweep_timer = 0;
  absl::Duration sweep_at = absl::InfiniteDuration();
  int64_t date_second = -1;
  std::string date_header;
  HttpServerStats stats;
  Scope scope;
};

// One accepted connection: reads requests, runs the handler, writes responses, watches for the client's end.
class Connection : public ResponseWriter {
 public:
  Connection(HttpServer::Impl* server, Fd fd, std::shared_ptr<TlsServerContext> tls_context,
             std::string peer_address);
  ~Connection() override;

  void Start();
  bool idle() const { return phase_ == Phase::kIdle; }
  absl::Duration idle_since() const { return phase_since_; }
  // Server close: idle connections and streams end now, others after their response.
  void BeginClose();
  void Cancel();
  // A phase's deadline has passed.
  void CheckDeadline(absl::Duration now);
  absl::Duration deadline() const { return deadline_; }
  Scope& scope() { return scope_; }

  // ResponseWriter
  Task<absl::Status> Send(HttpResponse response) override;
  Task<absl::Status> StartStream(int status, HttpHeaders headers) override;
  Task<absl::Status> Write(SharedBytes piece) override;
  Task<absl::Status> WriteBody(HttpBody pieces) override;
  void Abort() override { abort_ = true; }
  Task<absl::StatusOr<std::unique_ptr<ByteStream>>> Hijack(int status, HttpHeaders headers) override;
  AsyncEvent& disconnected() override { return disconnected_; }
  void IgnoreDisconnect() override { ignore_disconnect_ = true; }
  bool started() const override { return response_ != ResponseState::kNone; }

 private:
  enum class Phase { kHandshake, kIdle, kHeaders, kBody, kHandler, kLinger, kDone };
  enum class ResponseState { kNone, kSent, kStream, kHijacked };

  Task<void> Run();
  Task<bool> ReadRequest();
  Task<bool> FillInput();
  Task<void> RunHandler();
  Task<void> SendError(int status, std::string message);
  Task<void> Linger();
  Task<absl::Status> WriteOut(std::string_view data);
  Task<absl::Status> WriteGathered(HttpBody body);
  Task<absl::Status> SendCompressed(HttpResponse response);
  void AppendHead(int status, const HttpHeaders& headers, std::optional<size_t> content_length);
  bool WantsGzip(const HttpResponse& response) const;
  void SetPhase(Phase phase, absl::Duration timeout);
  void OnReadable();
  void OnDisconnect();

  HttpServer::Impl* server_;
  std::shared_ptr<TlsServerContext> tls_context_;
  std::string peer_address_;
  SocketOwner socket_;
  std::shared_ptr<const PeerCertificate> peer_certificate_;
  InputBuffer input_;
  std::optional<RequestParser> parser_;
  std::string output_;
  Phase phase_ = Phase::kHandshake;
  absl::Duration phase_since_;
  absl::Duration deadline_ = absl::InfiniteDuration();
  ResponseState response_ = ResponseState::kNone;
  bool timed_out_ = false;
  bool keep_alive_ = false;
  bool head_request_ = false;
  bool http_1_0_ = false;
  bool accepts_gzip_ = false;
  bool abort_ = false;
  bool closing_ = false;
  bool ignore_disconnect_ = false;
  AsyncEvent disconnected_;
  Scope scope_;
};

}  // namespace keelson::net
