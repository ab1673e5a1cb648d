// Bytes of a peer into the SPDY decoder. First byte: how they are cut.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "net/spdy.h"

namespace {

using keelson::net::SpdyDecoder;
using keelson::net::SpdyFrame;
using keelson::net::SpdyFrameType;

void Require(bool holds) {
  if (!holds) std::abort();
}

// All frames as text, data joined; and whether the bytes were refused.
std::string Decode(std::string_view text, size_t step, bool* refused) {
  SpdyDecoder decoder;
  std::string out;
  uint32_t data_stream = 0;
  while (!text.empty()) {
    size_t take = std::min(step, text.size());
    decoder.Append(text.substr(0, take));
    text.remove_prefix(take);
    for (;;) {
      auto next = decoder.Next();
      if (!next.ok()) {
        *refused = true;
        return out;
      }
      if (!next->has_value()) break;
      const SpdyFrame& frame = **next;
      if (frame.type == SpdyFrameType::kData) {
        Require(frame.stream_id != 0 && frame.headers.empty());
        if (data_stream != frame.stream_id) out += "D" + std::to_string(frame.stream_id);
        data_stream = frame.stream_id;
        out += frame.data;
        continue;
      }
      data_stream = 0;
      Require(frame.headers.size() <= keelson::net::kSpdyMaxHeaders);
      Require(frame.settings.size() <= keelson::net::kSpdyMaxSettings);
      Require(frame.stream_id <= keelson::net::kSpdyMaxStreamId || frame.type == SpdyFrameType::kPing);
      out += "C" + std::to_string(static_cast<int>(frame.type)) + ":" + std::to_string(frame.stream_id);
      for (const auto& [name, value] : frame.headers) {
        Require(!name.empty() && value.find('\0') == std::string::npos);
        out += name + "=" + value;
      }
    }
  }
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  bool whole_refused = false, pieces_refused = false;
  std::string whole = Decode(text, text.size() + 1, &whole_refused);
  std::string pieces = Decode(text, static_cast<size_t>(data[0] % 32) + 1, &pieces_refused);
  Require(whole_refused == pieces_refused);
  Require(whole == pieces);
  return 0;
}
