// HttpClient: HTTP/1.1 over TCP, TLS and unix sockets, keep-alive connections pooled per endpoint. One loop.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/env.h"
#include "base/task.h"
#include "net/byte_stream.h"
#include "net/http_message.h"
#include "net/tls.h"

namespace keelson::net {

// Where to connect. Connections are shared between requests with an equal endpoint (same tls object).
struct HttpEndpoint {
  std::string host;  // name or IP literal; resolved off the loop
  uint16_t port = 0;
  std::string unix_path;                  // set: host and port only make the Host header
  std::shared_ptr<TlsClientContext> tls;  // null: plain
  std::string tls_server_name;  // empty: host. Verified against DNS or IP SANs; sent as SNI unless an IP
  // An HTTP proxy between: asked in absolute form for plain requests, for a CONNECT tunnel with TLS.
  std::string proxy_host;  // empty: direct
  uint16_t proxy_port = 0;
  std::string proxy_authorization;  // Proxy-Authorization; empty: none

  static HttpEndpoint FromUrl(const HttpUrl& url, std::shared_ptr<TlsClientContext> tls);
};

struct HttpClientRequest {
  std::string method = "GET";
  std::string target = "/";  // encoded path and query
  HttpHeaders headers;       // Host, Content-Length and Connection are added
  SharedBytes body;          // null: none
  // Do: the whole exchange. Open, Upgrade: until the response's head. Zero: no limit.
  absl::Duration timeout = absl::Seconds(30);
};

struct HttpClientResponse {
  int status = 0;
  HttpHeaders headers;
  std::string body;
};

// A response whose body is read piece by piece. Destroying it early closes the connection; read to its end,
// the connection goes back to the pool.
class HttpResponseStream {
 public:
  virtual ~HttpResponseStream() = default;
  virtual int status() const = 0;
  virtual const HttpHeaders& headers() const = 0;
  // Next bytes as they arrive, transfer coding removed; empty at the end of the body. Unavailable: connection
  // lost or body cut short. DeadlineExceeded: nothing came for `idle_timeout` (then the stream is dead).
  virtual Task<absl::StatusOr<std::string>> Read(absl::Duration idle_timeout = absl::InfiniteDuration()) = 0;
  // The rest as one string; ResourceExhausted beyond `max_bytes`.
  virtual Task<absl::StatusOr<std::string>> ReadAll(size_t max_bytes, absl::Duration idle_timeout) = 0;
};

struct HttpUpgrade {
  int status = 0;
  HttpHeaders headers;
  std::string body;                    // when the server did not upgrade
  std::unique_ptr<ByteStream> stream;  // set on 101
};

struct HttpClientOptions {
  std::string user_agent = "keelson";
  size_t max_header_bytes = 64 << 10;
  size_t max_body_bytes = 64 << 20;                    // of Do
  size_t max_idle_per_endpoint = 16;                   // kept open
  size_t max_connections_per_endpoint = 256;           // further requests wait
  absl::Duration connect_timeout = absl::Seconds(10);  // resolve + connect + TLS
  absl::Duration idle_timeout = absl::Seconds(90);     // pooled connections
};

struct HttpClientStats {
  uint64_t connects_total = 0;
  uint64_t reused_total = 0;
  size_t idle = 0;
  size_t open = 0;
};

// HTTP status codes are results, not errors. Errors: Unavailable (resolve, connect, TLS, connection lost),
// DeadlineExceeded, ResourceExhausted (response over a limit), Internal (response is not HTTP).
// GET, HEAD and OPTIONS are sent again once when a pooled connection turns out to be dead.
class HttpClient {
 public:
  HttpClient(Env* env, HttpClientOptions options);
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  // The client may be destroyed while calls are under way; they end on their own.
  Task<absl::StatusOr<HttpClientResponse>> Do(HttpEndpoint endpoint, HttpClientRequest request);
  Task<absl::StatusOr<std::unique_ptr<HttpResponseStream>>> Open(HttpEndpoint endpoint,
                                                                 HttpClientRequest request);
  // Adds nothing: set Connection, Upgrade and the protocol's headers in the request.
  Task<absl::StatusOr<HttpUpgrade>> Upgrade(HttpEndpoint endpoint, HttpClientRequest request);
  // Closes pooled connections now (after a certificate change, say).
  void CloseIdle();
  HttpClientStats stats() const;

  struct Impl;

 private:
  std::shared_ptr<Impl> impl_;
};

// A plain TCP or unix connection as ByteStream (port-forward, tcpSocket probes). Same errors as above.
Task<absl::StatusOr<std::unique_ptr<ByteStream>>> Connect(Env* env, HttpEndpoint endpoint,
                                                          absl::Duration timeout);

}  // namespace keelson::net
