// WebSocket (RFC 6455) framing and handshake arithmetic. Pure; the streaming code above owns the connection.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace keelson::net {

enum class WebSocketOpcode : uint8_t {
  kContinuation = 0,
  kText = 1,
  kBinary = 2,
  kClose = 8,
  kPing = 9,
  kPong = 10
};

struct WebSocketFrame {
  WebSocketOpcode opcode = WebSocketOpcode::kBinary;
  bool final = true;
  std::string payload;  // unmasked
};

// Sec-WebSocket-Accept for a client's Sec-WebSocket-Key (RFC 6455 4.2.2).
std::string WebSocketAccept(std::string_view key);

// One frame on the wire. `mask`: the client's 4 random bytes; servers send unmasked.
std::string EncodeWebSocketFrame(WebSocketOpcode opcode, std::string_view payload, bool final = true,
                                 std::optional<uint32_t> mask = std::nullopt);
// Payload of a close frame: code and UTF-8 reason (cut to 123 bytes).
std::string WebSocketClosePayload(uint16_t code, std::string_view reason);

// Incremental decoder of one direction.
class WebSocketDecoder {
 public:
  // `expect_mask`: we are the server. Frames over `max_payload_bytes` are refused.
  WebSocketDecoder(bool expect_mask, size_t max_payload_bytes)
      : expect_mask_(expect_mask), max_payload_bytes_(max_payload_bytes) {}

  void Append(std::string_view bytes) {
    input_.erase(0, begin_);
    begin_ = 0;
    input_.append(bytes);
  }
  // The next whole frame; nullopt: more bytes are needed. InvalidArgument (close code 1002): protocol
  // violation; ResourceExhausted (1009): too large. After an error the stream is dead.
  absl::StatusOr<std::optional<WebSocketFrame>> Next();

 private:
  bool expect_mask_;
  size_t max_payload_bytes_;
  bool in_message_ = false;  // a fragmented message is open
  std::string input_;
  size_t begin_ = 0;  // of what has not been given out: many small frames come in one piece
};

}  // namespace keelson::net
