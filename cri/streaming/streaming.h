// StreamingServer: exec, attach and port-forward over HTTP upgrades: SPDY/3.1 (v4.channel.k8s.io and older),
// WebSocket (v5.channel.k8s.io, v4.channel.k8s.io, portforward.k8s.io tunnelled as v2). The CRI call hands
// out a URL with a one-time token; the client (the kubelet, proxying for the API server) connects to it.
#pragma once

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/env.h"
#include "cri/proto/runtime/v1/api.pb.h"
#include "net/byte_stream.h"
#include "net/tls.h"

namespace keelson::cri {

namespace v1 = ::runtime::v1;

struct TerminalSize {
  uint16_t columns = 0, rows = 0;
};

// The client's end of one exec or attach. One task per direction. It goes when the backend's call has
// returned: a ReadStdin or NextResize that still waits then ends with an error, and its task must not touch
// the session again. So a backend whose command has ended returns at once and does not wait for the task that
// reads stdin (the client may keep it open for ever); for the tasks that write it does, or output is lost.
class StreamSession {
 public:
  virtual ~StreamSession() = default;
  virtual bool has_stdin() const = 0;
  virtual bool has_stdout() const = 0;
  virtual bool has_stderr() const = 0;
  // Next bytes of stdin; "" at its end (half-close). Unavailable: the client is gone.
  virtual Task<absl::StatusOr<std::string>> ReadStdin() = 0;
  // Return when the client's window has taken the bytes (back-pressure).
  virtual Task<absl::Status> WriteStdout(std::string_view data) = 0;
  virtual Task<absl::Status> WriteStderr(std::string_view data) = 0;
  // Next size of the terminal; Cancelled when there will be none.
  virtual Task<absl::StatusOr<TerminalSize>> NextResize() = 0;
  // Set when the connection is gone.
  virtual AsyncEvent& disconnected() = 0;
};

// What the streams are connected to; the runtime server implements it.
class StreamingBackend {
 public:
  virtual ~StreamingBackend() = default;
  // Runs the command to its end. The exit code goes to the client in the error channel (metav1.Status with
  // reason NonZeroExitCode); an error status is sent as InternalError.
  virtual Task<absl::StatusOr<int>> Exec(v1::ExecRequest request, StreamSession* session) = 0;
  // Until the container ends (OK) or the client goes.
  virtual Task<absl::Status> Attach(v1::AttachRequest request, StreamSession* session) = 0;
  // A TCP connection to localhost:port inside the sandbox's network namespace.
  virtual Task<absl::StatusOr<std::unique_ptr<net::ByteStream>>> DialPort(std::string pod_sandbox_id,
                                                                          uint16_t port) = 0;
};

struct StreamingOptions {
  std::string address = "127.0.0.1";             // unspecified (0.0.0.0, ::): URLs name the loopback
  uint16_t port = 0;                             // 0: any free one
  std::shared_ptr<net::TlsServerContext> tls;    // null: plain
  absl::Duration idle_timeout = absl::Hours(4);  // upstream's streamingConnectionIdleTimeout
  absl::Duration creation_timeout = absl::Seconds(30);
  absl::Duration token_lifetime = absl::Minutes(1);
  size_t max_pending_tokens = 1000;
};

class StreamingServer {
 public:
  static absl::StatusOr<std::unique_ptr<StreamingServer>> Start(Env& env, StreamingBackend& backend,
                                                                StreamingOptions options);
  virtual ~StreamingServer() = default;
  // URLs "http://127.0.0.1:PORT/exec/TOKEN", https with TLS; ResourceExhausted past max_pending_tokens. The
  // caller has validated the request (at least one stream; tty excludes stderr).
  virtual absl::StatusOr<std::string> ExecUrl(const v1::ExecRequest& request) = 0;
  virtual absl::StatusOr<std::string> AttachUrl(const v1::AttachRequest& request) = 0;
  virtual absl::StatusOr<std::string> PortForwardUrl(const v1::PortForwardRequest& request) = 0;
  // A renewed certificate, for connections from now on. Only for a server started with TLS.
  virtual void SetTls(std::shared_ptr<net::TlsServerContext> tls) = 0;
  // Ends all sessions.
  virtual Task<void> Close() = 0;
};

}  // namespace keelson::cri
