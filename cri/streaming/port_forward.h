// Port-forward: pairs of streams, each pair one TCP connection into a sandbox. Internal to cri/streaming.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/env.h"
#include "base/task.h"
#include "cri/streaming/streaming.h"
#include "net/byte_stream.h"

namespace keelson::cri {

struct PortForwardContext {
  Scope* scope = nullptr;  // for the pairs' tasks
  Clock* clock = nullptr;
  StreamingBackend* backend = nullptr;
  std::string pod_sandbox_id;
  // Of a request that named its ports; empty: any.
  std::vector<int32_t> ports;
  absl::Duration creation_timeout = absl::Seconds(30);
};

// portforward.k8s.io over SPDY: an error and a data stream per connection, paired by the requestID header
// (or, for old clients, by their numbers). Ends when the client has closed the connection.
Task<void> ServeSpdyPortForward(PortForwardContext context, std::shared_ptr<net::ByteStream> stream);

// v4.channel.k8s.io over WebSocket: channels 2i (data) and 2i+1 (error) for the i-th port asked for.
Task<void> ServeWebSocketPortForward(PortForwardContext context, std::shared_ptr<net::ByteStream> stream,
                                     std::string protocol);

}  // namespace keelson::cri
