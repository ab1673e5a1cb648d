// SPDY/3.1 framing (draft-mbelshe-httpbis-spdy-00, section 2): frames to bytes and back, headers compressed
// with the protocol's zlib dictionary. Pure; net/spdy_connection.h has the streams and the windows.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "net/http_message.h"

namespace keelson::net {

enum class SpdyFrameType : uint16_t {
  kSynStream = 1,
  kSynReply = 2,
  kRstStream = 3,
  kSettings = 4,
  kPing = 6,
  kGoAway = 7,
  kHeaders = 8,
  kWindowUpdate = 9,
  kData = 0x8000,     // not a number of the wire: data frames have none
  kUnknown = 0x8001,  // a control frame of a type we do not know; to be ignored (2.2.1)
};

inline constexpr uint8_t kSpdyFin = 1;
inline constexpr uint8_t kSpdyUnidirectional = 2;  // of SYN_STREAM

// Of RST_STREAM (2.6.3).
enum class SpdyRstStatus : uint32_t {
  kProtocolError = 1,
  kInvalidStream = 2,
  kRefusedStream = 3,
  kUnsupportedVersion = 4,
  kCancel = 5,
  kInternalError = 6,
  kFlowControlError = 7,
  kStreamInUse = 8,
  kStreamAlreadyClosed = 9,
};

// Of GOAWAY (2.6.6).
enum class SpdyGoAwayStatus : uint32_t { kOk = 0, kProtocolError = 1, kInternalError = 2 };

inline constexpr uint32_t kSpdySettingMaxConcurrentStreams = 4;
inline constexpr uint32_t kSpdySettingInitialWindowSize = 7;
inline constexpr uint32_t kSpdyDefaultWindowBytes = 64 << 10;  // of a stream and of the session (2.6.8)
inline constexpr uint32_t kSpdyMaxStreamId = 0x7fffffff;

// Bounds of what is accepted.
inline constexpr size_t kSpdyMaxControlFrameBytes = 64 << 10;
inline constexpr size_t kSpdyMaxHeaderBlockBytes = 64 << 10;  // after inflating
inline constexpr size_t kSpdyMaxHeaders = 128;
inline constexpr size_t kSpdyMaxSettings = 64;

struct SpdySetting {
  uint32_t id = 0;
  uint32_t value = 0;
};

struct SpdyFrame {
  SpdyFrameType type = SpdyFrameType::kUnknown;
  uint8_t flags = 0;       // kData: kSpdyFin only with the frame's last piece
  uint32_t stream_id = 0;  // GOAWAY: last good stream; PING: its id
  uint8_t priority = 0;
  uint32_t status = 0;  // RST_STREAM, GOAWAY
  uint32_t delta = 0;   // WINDOW_UPDATE
  HttpHeaders headers;  // SYN_STREAM, SYN_REPLY, HEADERS
  std::vector<SpdySetting> settings;
  std::string data;  // kData: what has arrived of the frame
  bool fin() const { return (flags & kSpdyFin) != 0; }
};

// The dictionary of both directions' header compression (2.6.10.1).
const std::string& SpdyDictionary();

// Frames for one direction of a connection. Those with headers share a compressor: send them in the order
// they were made.
class SpdyEncoder {
 public:
  SpdyEncoder();
  ~SpdyEncoder();
  SpdyEncoder(const SpdyEncoder&) = delete;
  SpdyEncoder& operator=(const SpdyEncoder&) = delete;

  std::string SynStream(uint32_t stream_id, const HttpHeaders& headers, uint8_t flags = 0);
  std::string SynReply(uint32_t stream_id, const HttpHeaders& headers, uint8_t flags = 0);
  std::string Headers(uint32_t stream_id, const HttpHeaders& headers, uint8_t flags = 0);
  static std::string Data(uint32_t stream_id, std::string_view data, bool fin);
  static std::string RstStream(uint32_t stream_id, SpdyRstStatus status);
  static std::string Settings(const std::vector<SpdySetting>& settings);
  static std::string Ping(uint32_t id);
  static std::string GoAway(uint32_t last_good_stream_id, SpdyGoAwayStatus status);
  static std::string WindowUpdate(uint32_t stream_id, uint32_t delta);

 private:
  struct Deflater;
  std::string Compress(const HttpHeaders& headers);
  std::unique_ptr<Deflater> deflater_;
};

// Incremental decoder of one direction.
class SpdyDecoder {
 public:
  SpdyDecoder();
  ~SpdyDecoder();
  SpdyDecoder(const SpdyDecoder&) = delete;
  SpdyDecoder& operator=(const SpdyDecoder&) = delete;

  void Append(std::string_view bytes);
  // The next control frame, or what there is of a data frame (a long one comes in pieces); nullopt: more
  // bytes are needed. InvalidArgument: not SPDY/3; ResourceExhausted: over a bound. After an error the
  // direction is dead: the state of the header compression is lost.
  absl::StatusOr<std::optional<SpdyFrame>> Next();

 private:
  struct Inflater;
  absl::StatusOr<SpdyFrame> Control(uint16_t type, uint8_t flags, std::string_view body);
  absl::Status ReadHeaders(std::string_view block, HttpHeaders* headers);
  void Consume(size_t bytes);
  std::string_view view() const { return std::string_view(input_).substr(begin_); }

  std::unique_ptr<Inflater> inflater_;
  std::string input_;
  size_t begin_ = 0;
  // A data frame of which not all has come.
  uint32_t data_stream_ = 0;
  uint8_t data_flags_ = 0;
  size_t data_left_ = 0;
};

}  // namespace keelson::net
