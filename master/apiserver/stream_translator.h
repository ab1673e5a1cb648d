// The newer protocols of kubectl, translated to what every kubelet and runtime speaks, SPDY/3.1: exec and
// attach over WebSocket v5.channel.k8s.io here; port-forward in a tunnel needs no more than the frames taken
// off.
#pragma once

#include <memory>

#include "base/env.h"
#include "net/byte_stream.h"

namespace keelson::master {

struct TranslatedStreams {
  bool has_stdin = false, has_stdout = false, has_stderr = false, tty = false;
};

// The client's side `websocket` speaks v5 (we the server's part), the kubelet's side `spdy` v4 (we the
// client's). Returns when both are closed. Tasks run in `scope`.
Task<void> TranslateChannels(Scope* scope, Clock* clock, std::unique_ptr<net::ByteStream> websocket,
                             std::unique_ptr<net::ByteStream> spdy, TranslatedStreams streams,
                             absl::Duration idle);

// Binary messages to bytes and back.
Task<void> TranslateTunnel(Scope* scope, Clock* clock, std::unique_ptr<net::ByteStream> websocket,
                           std::unique_ptr<net::ByteStream> spdy, absl::Duration idle);

}  // namespace keelson::master
