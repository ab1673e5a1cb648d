// HttpServer: HTTP/1.1 over TCP, TLS and unix sockets on one loop. Several loops: one HttpServer each, the
// listeners opened with reuse_port.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/env.h"
#include "base/task.h"
#include "net/byte_stream.h"
#include "net/http_message.h"
#include "net/tls.h"

namespace keelson::net {

// How a handler answers. Exactly one of Send, StartStream or Hijack per request; a handler that returns
// without any of them gets a 500 sent for it. Valid until Handle returns. Abstract so that handlers are
// tested without sockets (RecordingResponseWriter below).
class ResponseWriter {
 public:
  virtual ~ResponseWriter() = default;

  // Whole response with Content-Length; compressed when the client accepts gzip, the body exceeds
  // gzip_min_bytes and no Content-Encoding is set. HEAD: the body is counted, not sent.
  // Unavailable: the client is gone.
  virtual Task<absl::Status> Send(HttpResponse response) = 0;

  // Head of a response of unknown length (chunked; for HTTP/1.0 ended by close).
  virtual Task<absl::Status> StartStream(int status, HttpHeaders headers) = 0;
  // One piece, on the wire before it returns (back-pressure). Empty pieces are skipped. Unavailable: client
  // gone; DeadlineExceeded: it read nothing for write_stall_timeout. Returning from Handle ends the stream
  // well.
  virtual Task<absl::Status> Write(SharedBytes piece) = 0;
  // Several pieces as one chunk: fewer packets when a watcher has fallen behind.
  virtual Task<absl::Status> WriteBody(HttpBody pieces) = 0;
  // After this the connection is cut without the end mark, so that the client sees a broken stream.
  virtual void Abort() = 0;

  // Sends the head ("101 Switching Protocols" or a 200 for CONNECT-like tunnels) and hands the raw connection
  // over, with whatever the client sent early. The stream ends with the handler.
  virtual Task<absl::StatusOr<std::unique_ptr<ByteStream>>> Hijack(int status, HttpHeaders headers) = 0;

  // Set once the client has closed its side. By then the handler task is also cancelled (its innermost wait
  // throws operation_aborted), unless IgnoreDisconnect() was called.
  virtual AsyncEvent& disconnected() = 0;
  // For work that must not be torn: the handler runs to its end, what it sends is dropped. Server Close()
  // still cancels after drain_timeout.
  virtual void IgnoreDisconnect() = 0;
  virtual bool started() const = 0;
};

class HttpHandler {
 public:
  virtual ~HttpHandler() = default;
  // Runs on the server's loop, one call per request, many at a time (one per connection).
  virtual Task<void> Handle(HttpRequest request, ResponseWriter& writer) = 0;
};

// A handler made of a function that returns the task (the function itself must be a named coroutine or call
// one).
class FunctionHandler : public HttpHandler {
 public:
  using Function = std::function<Task<void>(HttpRequest, ResponseWriter&)>;
  explicit FunctionHandler(Function function) : function_(std::move(function)) {}
  Task<void> Handle(HttpRequest request, ResponseWriter& writer) override {
    return function_(std::move(request), writer);
  }

 private:
  Function function_;
};

struct HttpServerOptions {
  std::string name = "http";                               // in logs
  size_t max_header_bytes = 64 << 10;                      // 431 beyond
  size_t max_headers = 128;                                // 431 beyond
  size_t max_body_bytes = 3 << 20;                         // 413 beyond (upstream's request limit)
  size_t max_connections = 8192;                           // beyond: an idle one is closed, else the new one
  size_t gzip_min_bytes = 128 << 10;                       // 0: never compress
  absl::Duration handshake_timeout = absl::Seconds(10);    // TLS, then closed
  absl::Duration idle_timeout = absl::Seconds(120);        // between requests, then closed
  absl::Duration header_timeout = absl::Seconds(20);       // first byte to end of headers, then 408
  absl::Duration body_timeout = absl::Seconds(60);         // headers to end of body, then 408
  absl::Duration write_stall_timeout = absl::Seconds(60);  // no byte taken by the client, then cut
  absl::Duration drain_timeout = absl::Seconds(5);         // Close(): for requests under way
};

struct HttpServerStats {
  size_t connections = 0;  // open now
  uint64_t accepted_total = 0;
  uint64_t requests_total = 0;
  uint64_t refused_total = 0;  // over max_connections
  uint64_t handshake_errors_total = 0;
};

class HttpServer {
 public:
  // `clock` belongs to `executor`'s loop; clock and handler outlive Close().
  HttpServer(Executor executor, Clock* clock, HttpHandler* handler, HttpServerOptions options);
  ~HttpServer();  // after Close()
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  struct TcpListen {
    std::string address = "0.0.0.0";        // IPv4 or IPv6 literal; "::" is dual-stack
    uint16_t port = 0;                      // 0: any
    std::shared_ptr<TlsServerContext> tls;  // null: plain
    bool reuse_port = false;                // share the port with the servers of other loops
  };
  // Returns the port bound. AlreadyExists "port 6443 is in use by nginx (pid 12)"; PermissionDenied;
  // InvalidArgument for a bad address. May be called several times.
  absl::StatusOr<uint16_t> ListenTcp(const TcpListen& listen);
  // Removes a stale socket of that name first; one that answers is AlreadyExists. ResourceExhausted for paths
  // over 107 bytes. Removed again by Close().
  absl::Status ListenUnix(const std::string& path, unsigned mode = 0660);
  // Serves one connection that is already open (socketpair in tests, inherited sockets).
  void Serve(Fd socket, std::shared_ptr<TlsServerContext> tls = nullptr);

  // Certificate reload: used by every TLS listener for connections from now on.
  void SetTls(std::shared_ptr<TlsServerContext> tls);

  // Stops listening, closes idle connections, cancels streams and upgraded ones, gives other requests
  // drain_timeout, cancels the rest, waits. Idempotent.
  Task<void> Close();
  HttpServerStats stats() const;

  struct Impl;

 private:
  std::shared_ptr<Impl> impl_;
};

// For handler tests: keeps what was sent. Hijack is Unimplemented.
class RecordingResponseWriter : public ResponseWriter {
 public:
  Task<absl::Status> Send(HttpResponse response) override;
  Task<absl::Status> StartStream(int status, HttpHeaders headers) override;
  Task<absl::Status> Write(SharedBytes piece) override;
  Task<absl::Status> WriteBody(HttpBody pieces) override;
  void Abort() override { aborted = true; }
  Task<absl::StatusOr<std::unique_ptr<ByteStream>>> Hijack(int status, HttpHeaders headers) override;
  AsyncEvent& disconnected() override { return disconnected_; }
  void IgnoreDisconnect() override {}
  bool started() const override { return status != 0; }

  int status = 0;  // 0: nothing sent yet
  HttpHeaders headers;
  std::string body;                 // all pieces
  std::vector<std::string> pieces;  // of a stream
  bool aborted = false;
  absl::Status next_write;  // returned by the next writes when not OK

 private:
  AsyncEvent disconnected_;
};

}  // namespace keelson::net
