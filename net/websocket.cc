#include "net/websocket.h"

#include <openssl/evp.h>
#include <openssl/sha.h>

#include <algorithm>
#include <array>

#include "base/strings.h"

namespace keelson::net {

namespace {

constexpr std::string_view kAcceptGuid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";  // RFC 6455 1.3
constexpr size_t kMaxControlPayloadBytes = 125;
constexpr uint8_t kFinal = 0x80, kReserved = 0x70, kMasked = 0x80;
constexpr uint8_t kLength16 = 126, kLength64 = 127;

bool IsControl(uint8_t opcode) { return (opcode & 8) != 0; }
bool IsKnown(uint8_t opcode) { return opcode <= 2 || (opcode >= 8 && opcode <= 10); }

void AppendBigEndian(std::string* out, uint64_t value, int bytes) {
  for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8) out->push_back(static_cast<char>(value >> shift));
}

uint64_t ReadBigEndian(std::string_view bytes) {
  uint64_t value = 0;
  for (char c : bytes) value = (value << 8) | static_cast<uint8_t>(c);
  return value;
}

void Mask(std::string* data, size_t from, std::string_view key) {
  for (size_t i = from; i < data->size(); ++i)
    (*data)[i] = static_cast<char>((*data)[i] ^ key[(i - from) % 4]);
}

}  // namespace

std::string WebSocketAccept(std::string_view key) {
  std::string text = StrCat(key, kAcceptGuid);
  std::array<unsigned char, SHA_DIGEST_LENGTH> digest;
  unsigned size = 0;
  EVP_Digest(text.data(), text.size(), digest.data(), &size, EVP_sha1(), nullptr);
  std::array<unsigned char, 4 * ((SHA_DIGEST_LENGTH + 2) / 3) + 1> out;
  int length = EVP_EncodeBlock(out.data(), digest.data(), static_cast<int>(size));
  return std::string(reinterpret_cast<char*>(out.data()), static_cast<size_t>(length));
}

std::string EncodeWebSocketFrame(WebSocketOpcode opcode, std::string_view payload, bool final,
                                 std::optional<uint32_t> mask) {
  std::string out;
  out.reserve(payload.size() + 14);
  out.push_back(static_cast<char>((final ? kFinal : 0) | static_cast<uint8_t>(opcode)));
  uint8_t mask_bit = mask.has_value() ? kMasked : 0;
  if (payload.size() < kLength16) {
    out.push_back(static_cast<char>(mask_bit | payload.size()));
  } else if (payload.size() <= 0xffff) {
    out.push_back(static_cast<char>(mask_bit | kLength16));
    AppendBigEndian(&out, payload.size(), 2);
  } else {
    out.push_back(static_cast<char>(mask_bit | kLength64));
    AppendBigEndian(&out, payload.size(), 8);
  }
  std::string key;
  if (mask.has_value()) AppendBigEndian(&key, *mask, 4);
  out += key;
  size_t start = out.size();
  out.append(payload);
  if (mask.has_value()) Mask(&out, start, key);
  return out;
}

std::string WebSocketClosePayload(uint16_t code, std::string_view reason) {
  std::string out;
  AppendBigEndian(&out, code, 2);
  size_t length = std::min(reason.size(), kMaxControlPayloadBytes - 2);
  // Not in the middle of a UTF-8 sequence.
  while (length < reason.size() && length > 0 && (static_cast<uint8_t>(reason[length]) & 0xc0) == 0x80)
    --length;
  out.append(reason.substr(0, length));
  return out;
}

absl::StatusOr<std::optional<WebSocketFrame>> WebSocketDecoder::Next() {
  std::string_view in = std::string_view(input_).substr(begin_);
  if (in.size() < 2) return std::optional<WebSocketFrame>();
  uint8_t first = static_cast<uint8_t>(in[0]), second = static_cast<uint8_t>(in[1]);
  uint8_t opcode = first & 0x0f;
  bool final = (first & kFinal) != 0, masked = (second & kMasked) != 0;
  if ((first & kReserved) != 0) return absl::InvalidArgumentError("websocket: reserved bits set");
  if (!IsKnown(opcode)) return absl::InvalidArgumentError("websocket: unknown opcode");
  if (masked != expect_mask_) return absl::InvalidArgumentError("websocket: wrong masking");
  uint64_t length = second & 0x7f;
  size_t header = 2;
  if (IsControl(opcode)) {
    if (!final || length > kMaxControlPayloadBytes)
      return absl::InvalidArgumentError("websocket: bad control frame");
  } else if ((opcode == 0) != in_message_) {
    return absl::InvalidArgumentError("websocket: fragments out of order");
  }
  if (length >= kLength16) {
    size_t bytes = length == kLength16 ? 2 : 8;
    if (in.size() < header + bytes) return std::optional<WebSocketFrame>();
    length = ReadBigEndian(in.substr(header, bytes));
    header += bytes;
    if (length < (bytes == 2 ? uint64_t{kLength16} : uint64_t{0x10000})) {
      return absl::InvalidArgumentError("websocket: length not minimal");
    }
  }
  if (length > max_payload_bytes_) {
    return absl::ResourceExhaustedError(
        StrCat("websocket: frame of ", length, " bytes, limit ", max_payload_bytes_));
  }
  size_t key_bytes = masked ? 4 : 0;
  if (in.size() < header + key_bytes + length) return std::optional<WebSocketFrame>();
  WebSocketFrame frame;
  frame.opcode = static_cast<WebSocketOpcode>(opcode);
  frame.final = final;
  frame.payload = std::string(in.substr(header + key_bytes, length));
  if (masked) Mask(&frame.payload, 0, in.substr(header, 4));
  if (!IsControl(opcode)) in_message_ = !final;
  begin_ += header + key_bytes + length;
  return std::optional<WebSocketFrame>(std::move(frame));
}

}  // namespace keelson::net
