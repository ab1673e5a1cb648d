// Bytes of a WebSocket peer into the decoder. First byte: how they are cut, and whether we are the server.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "net/websocket.h"

namespace {

using keelson::net::WebSocketDecoder;

constexpr size_t kMaxPayloadBytes = 1000;

void Require(bool holds) {
  if (!holds) std::abort();
}

std::string Decode(std::string_view text, size_t step, bool server, bool* refused) {
  WebSocketDecoder decoder(server, kMaxPayloadBytes);
  std::string out;
  while (!text.empty()) {
    size_t take = std::min(step, text.size());
    decoder.Append(text.substr(0, take));
    text.remove_prefix(take);
    for (;;) {
      auto frame = decoder.Next();
      if (!frame.ok()) {
        *refused = true;
        return out;
      }
      if (!frame->has_value()) break;
      Require((*frame)->payload.size() <= kMaxPayloadBytes);
      out += std::to_string(static_cast<int>((*frame)->opcode)) + ((*frame)->final ? "!" : ".") +
             (*frame)->payload;
    }
  }
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  const bool server = (data[0] & 0x80) != 0;
  bool whole_refused = false, pieces_refused = false;
  std::string whole = Decode(text, text.size() + 1, server, &whole_refused);
  std::string pieces = Decode(text, static_cast<size_t>(data[0] % 32) + 1, server, &pieces_refused);
  Require(whole_refused == pieces_refused && whole == pieces);
  return 0;
}
