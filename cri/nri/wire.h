// The bytes of an NRI connection: one Unix stream carries two ttrpc connections, multiplexed. On the first
// the runtime calls the plugin, on the second the plugin calls the runtime. Pure.
//
//   mux frame      u32 connection, u32 length, bytes          (containerd/nri pkg/net/multiplex)
//   ttrpc message  u32 length, u32 stream, u8 type, u8 flags, bytes  (containerd/ttrpc PROTOCOL.md)
//
// Numbers are big endian. Of each ttrpc connection the mux frames are a byte stream: where one frame ends and
// the next begins means nothing.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace keelson::cri::nri {

inline constexpr uint32_t kPluginConnection = 1;   // calls of the runtime
inline constexpr uint32_t kRuntimeConnection = 2;  // calls of the plugin

inline constexpr size_t kMuxHeaderBytes = 8;
inline constexpr size_t kTtrpcHeaderBytes = 10;
inline constexpr size_t kMaxTtrpcBytes = 4 << 20;  // of one message without its header, either way

enum class TtrpcType : uint8_t { kRequest = 1, kResponse = 2, kData = 3 };

struct TtrpcMessage {
  uint32_t stream = 0;
  TtrpcType type = TtrpcType::kRequest;  // others than those named are skipped by the decoder
  std::string payload;
};

// Takes the trunk's bytes as they come and hands on what is in the frames. Holds no payload.
class MuxDecoder {
 public:
  using Sink = std::function<absl::Status(uint32_t connection, std::string_view bytes)>;
  // InvalidArgument: a frame longer than the longest message; else the first error of `sink`. After an error
  // the stream is of no use any more.
  absl::Status Feed(std::string_view bytes, const Sink& sink);

 private:
  std::string header_;  // as far as it has come
  uint32_t connection_ = 0;
  size_t left_ = 0;  // of the frame that has begun
};

// Of one ttrpc connection. Holds one message at most.
class TtrpcDecoder {
 public:
  using Sink = std::function<absl::Status(TtrpcMessage message)>;
  // InvalidArgument: a message longer than kMaxTtrpcBytes; else the first error of `sink`.
  absl::Status Feed(std::string_view bytes, const Sink& sink);

 private:
  std::string buffer_;
};

// A message in its mux frames. A reader of upstream's takes a frame only into a buffer as large as the frame:
// the first is no longer than the buffer it reads headers with, the second has the rest.
// ResourceExhausted: `payload` is longer than kMaxTtrpcBytes.
absl::StatusOr<std::string> EncodeMessage(uint32_t connection, uint32_t stream, TtrpcType type,
                                          std::string_view payload);

}  // namespace keelson::cri::nri
