// WebSocketConnection: messages over an upgraded ByteStream (RFC 6455), either end. Answers pings, joins
// fragments, bounds messages and what waits to be sent.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/env.h"
#include "base/task.h"
#include "net/byte_stream.h"
#include "net/frame_writer.h"
#include "net/websocket.h"

namespace keelson::net {

// Close codes (RFC 6455 7.4.1).
inline constexpr uint16_t kWebSocketNormal = 1000;
inline constexpr uint16_t kWebSocketProtocolError = 1002;
inline constexpr uint16_t kWebSocketTooLarge = 1009;
inline constexpr uint16_t kWebSocketInternalError = 1011;

struct WebSocketOptions {
  size_t max_message_bytes = 4 << 20;
  size_t write_buffer_bytes = 64 << 10;
  Random* mask_random = nullptr;  // set: we are the client, and it outlives the connection
};

struct WebSocketMessage {
  bool text = false;
  std::string data;
};

class WebSocketConnection : public std::enable_shared_from_this<WebSocketConnection> {
 public:
  // Starts the task that writes in `scope`.
  static std::shared_ptr<WebSocketConnection> Start(Scope* scope, std::shared_ptr<ByteStream> stream,
                                                    WebSocketOptions options = {});
  ~WebSocketConnection();

  // The next message; one reader at a time. nullopt: the peer closed as it should. Unavailable: it is gone.
  // InvalidArgument, ResourceExhausted: it broke the protocol, and was told so.
  Task<absl::StatusOr<std::optional<WebSocketMessage>>> Read();
  // Waits for room, then queues. Several tasks may.
  Task<absl::Status> Write(WebSocketOpcode opcode, std::string_view payload);
  // Sends a close frame after what is queued and half-closes. Idempotent.
  void Finish(uint16_t code, std::string_view reason);
  // Waits until all that was written is with the kernel.
  Task<absl::Status> Drained() { return writer_->Drained(); }
  // At once. Idempotent.
  void Close();

 private:
  WebSocketConnection(std::shared_ptr<ByteStream> stream, WebSocketOptions options);
  std::string Encode(WebSocketOpcode opcode, std::string_view payload);

  const std::shared_ptr<ByteStream> stream_;
  const WebSocketOptions options_;
  const std::shared_ptr<FrameWriter> writer_;
  WebSocketDecoder decoder_;
  std::unique_ptr<char[]> buffer_;
  WebSocketMessage partial_;
  bool peer_closed_ = false;
};

// The payload of binary messages as a byte stream ("tunnel"): each Write is at least one message, CloseWrite
// a normal close.
std::unique_ptr<ByteStream> WebSocketByteStream(std::shared_ptr<WebSocketConnection> connection);

}  // namespace keelson::net
