// A small client of exec, attach and port-forward URLs, for tests: SPDY and WebSocket.
#pragma once

#include <absl/status/statusor.h>

#include <memory>
#include <string>
#include <vector>

#include "base/env.h"
#include "net/http_client.h"
#include "net/remote_command.h"
#include "net/spdy_connection.h"
#include "net/websocket_connection.h"

namespace keelson::cri::testing {

struct RemoteRun {
  bool has_stdin = false, has_stdout = true, has_stderr = true, tty = false;
  std::string stdin_data;  // sent, then half-closed where the protocol can
  bool half_close = true;
  std::vector<net::ResizeParser::Size> sizes;  // sent before stdin
  std::string protocol = net::kChannelV4;      // subprotocol offered
  std::shared_ptr<net::TlsClientContext> tls;  // for https
  absl::Duration timeout = absl::Seconds(30);
};

struct RemoteResult {
  int http_status = 0;          // 101 when it was upgraded
  std::string body;             // when it was not
  std::string out, err, error;  // what came; `error` is the error channel (a metav1.Status in v4 and v5)
};

// Runs a session to its end. Errors: it could not connect, or did not end in time.
Task<absl::StatusOr<RemoteResult>> RunOverSpdy(Env* env, std::string url, RemoteRun run);
Task<absl::StatusOr<RemoteResult>> RunOverWebSocket(Env* env, std::string url, RemoteRun run);

// The upgrade alone. `protocols` as the client offers them.
Task<absl::StatusOr<net::HttpUpgrade>> UpgradeUrl(Env* env, std::string url, net::UpgradeKind kind,
                                                  std::vector<std::string> protocols,
                                                  std::shared_ptr<net::TlsClientContext> tls = nullptr);

struct ForwardedStreams {
  std::unique_ptr<net::SpdyStream> error, data;
};
// One connection of a port-forward, as kubectl opens it.
Task<absl::StatusOr<ForwardedStreams>> OpenForward(std::shared_ptr<net::SpdyConnection> connection,
                                                   uint16_t port, int request_id);
// What comes until the end; what went wrong in brackets behind it.
Task<std::string> ReadToEnd(net::ByteStream* stream);

}  // namespace keelson::cri::testing
