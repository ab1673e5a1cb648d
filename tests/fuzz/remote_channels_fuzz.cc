// What a client of exec sends besides frames: channel messages, terminal sizes, origins. First byte: how the
// sizes are cut.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "net/remote_command.h"

namespace {

using namespace keelson::net;

void Require(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  for (bool base64 : {false, true}) {
    auto message = DecodeChannel(base64, text);
    if (!message.ok() || message->channel > (base64 ? 9 : 255)) continue;
    auto again = DecodeChannel(
        base64, EncodeChannel(base64, static_cast<RemoteChannel>(message->channel), message->data));
    Require(again.ok() && again->channel == message->channel && again->data == message->data);
  }
  ResizeParser whole, pieces;
  bool whole_ok = whole.Append(text).ok(), pieces_ok = true;
  size_t step = static_cast<size_t>(data[0] % 16) + 1;
  for (size_t at = 0; at < text.size() && pieces_ok; at += step)
    pieces_ok = pieces.Append(text.substr(at, step)).ok();
  Require(whole_ok == pieces_ok);
  if (whole_ok) {
    auto one = whole.Take(), two = pieces.Take();
    Require(one.has_value() == two.has_value());
    if (one.has_value()) Require(one->width == two->width && one->height == two->height);
  }
  Require(!SameOrigin(text, "") && !SameOrigin("", text));
  HttpHeaders headers{
      {"Sec-WebSocket-Protocol", std::string(text)}, {"Origin", std::string(text)}, {"Host", "a"}};
  for (const std::string& name : OfferedProtocols(headers, UpgradeKind::kWebSocket)) Require(!name.empty());
  (void)UpgradeForward(headers, UpgradeKind::kWebSocket);
  return 0;
}
