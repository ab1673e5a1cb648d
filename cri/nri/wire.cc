#include "cri/nri/wire.h"

#include <algorithm>
#include <utility>

#include "base/status.h"

namespace keelson::cri::nri {

namespace {

constexpr size_t kFirstFrameBytes = 4096;
// What upstream's client says of a call without a stream: nothing more follows.
constexpr uint8_t kNoFlags = 0;

uint32_t ReadU32(std::string_view bytes) {
  uint32_t value = 0;
  for (size_t i = 0; i < 4; ++i) value = value << 8 | static_cast<uint8_t>(bytes[i]);
  return value;
}

void AppendU32(size_t value, std::string* out) {
  for (int shift = 24; shift >= 0; shift -= 8) out->push_back(static_cast<char>(value >> shift & 0xff));
}

}  // namespace

absl::Status MuxDecoder::Feed(std::string_view bytes, const Sink& sink) {
  while (!bytes.empty()) {
    if (left_ == 0) {
      const size_t take = std::min(kMuxHeaderBytes - header_.size(), bytes.size());
      header_.append(bytes.substr(0, take));
      bytes.remove_prefix(take);
      if (header_.size() < kMuxHeaderBytes) return absl::OkStatus();
      connection_ = ReadU32(header_);
      left_ = ReadU32(std::string_view(header_).substr(4));
      header_.clear();
      if (left_ > kTtrpcHeaderBytes + kMaxTtrpcBytes) {
        return absl::InvalidArgumentError(
            StrCat("mux frame of ", left_, " bytes: longer than a message can be"));
      }
      continue;
    }
    const size_t take = std::min(left_, bytes.size());
    RETURN_IF_ERROR(sink(connection_, bytes.substr(0, take)));
    bytes.remove_prefix(take);
    left_ -= take;
  }
  return absl::OkStatus();
}

absl::Status TtrpcDecoder::Feed(std::string_view bytes, const Sink& sink) {
  buffer_.append(bytes);
  size_t at = 0;
  while (buffer_.size() - at >= kTtrpcHeaderBytes) {
    const std::string_view header = std::string_view(buffer_).substr(at, kTtrpcHeaderBytes);
    const size_t length = ReadU32(header);
    if (length > kMaxTtrpcBytes) {
      return absl::InvalidArgumentError(
          StrCat("ttrpc message of ", length, " bytes: more than ", kMaxTtrpcBytes));
    }
    if (buffer_.size() - at < kTtrpcHeaderBytes + length) break;
    TtrpcMessage message;
    message.stream = ReadU32(header.substr(4));
    message.type = static_cast<TtrpcType>(header[8]);
    message.payload = buffer_.substr(at + kTtrpcHeaderBytes, length);
    at += kTtrpcHeaderBytes + length;
    switch (message.type) {
      case TtrpcType::kRequest:
      case TtrpcType::kResponse:
      case TtrpcType::kData:
        RETURN_IF_ERROR(sink(std::move(message)));
        break;
      default:  // of a later version of the protocol
        break;
    }
  }
  buffer_.erase(0, at);
  return absl::OkStatus();
}

absl::StatusOr<std::string> EncodeMessage(uint32_t connection, uint32_t stream, TtrpcType type,
                                          std::string_view payload) {
  if (payload.size() > kMaxTtrpcBytes) {
    return absl::ResourceExhaustedError(
        StrCat("message of ", payload.size(), " bytes: ttrpc takes no more than ", kMaxTtrpcBytes));
  }
  std::string message;
  message.reserve(kTtrpcHeaderBytes + payload.size());
  AppendU32(payload.size(), &message);
  AppendU32(stream, &message);
  message.push_back(static_cast<char>(type));
  message.push_back(static_cast<char>(kNoFlags));
  message.append(payload);
  std::string out;
  out.reserve(message.size() + 2 * kMuxHeaderBytes);
  for (std::string_view rest = message; !rest.empty();) {
    const size_t take = out.empty() ? std::min(rest.size(), kFirstFrameBytes) : rest.size();
    AppendU32(connection, &out);
    AppendU32(take, &out);
    out.append(rest.substr(0, take));
    rest.remove_prefix(take);
  }
  return out;
}

}  // namespace keelson::cri::nri
