// ChannelSession: the client's end of one exec or attach, over SPDY streams or the channels of a WebSocket.
// Internal to cri/streaming.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <memory>
#include <string>

#include "base/env.h"
#include "cri/streaming/streaming.h"
#include "net/byte_stream.h"

namespace keelson::cri {

// Which streams there are: what the CRI request asks for.
struct SessionStreams {
  bool has_stdin = false, has_stdout = false, has_stderr = false, tty = false;
};

// What goes into the error channel. Protocols before v4 have no Status: "" is success there.
struct ExecOutcome {
  absl::Status error;  // InternalError for the client
  int exit_code = 0;
  std::string Status() const;  // metav1.Status as JSON
  std::string Text() const;
};

class ChannelSession : public StreamSession {
 public:
  // Until the client has opened what it must. DeadlineExceeded after the creation timeout.
  virtual Task<absl::Status> Prepare() = 0;
  // Sends the outcome and ends the session: returns when the client has closed, or has been given time to.
  virtual Task<void> Finish(ExecOutcome outcome) = 0;
};

// `protocol` is one of net/remote_command.h's. Their tasks run in `scope`; `clock` outlives it. Destroying
// the session cuts the connection.
std::unique_ptr<ChannelSession> MakeSpdySession(Scope* scope, Clock* clock,
                                                std::shared_ptr<net::ByteStream> stream, std::string protocol,
                                                SessionStreams streams, absl::Duration creation_timeout);
std::unique_ptr<ChannelSession> MakeWebSocketSession(Scope* scope, Clock* clock,
                                                     std::shared_ptr<net::ByteStream> stream,
                                                     std::string protocol, SessionStreams streams);

}  // namespace keelson::cri
