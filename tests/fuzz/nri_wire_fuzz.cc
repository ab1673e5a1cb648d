// Bytes of an NRI plugin into the mux and ttrpc decoders. First byte: how they are cut.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "cri/nri/wire.h"

namespace {

using namespace keelson::cri::nri;  // NOLINT

void Require(bool holds) {
  if (!holds) std::abort();
}

// All messages as text; and whether the bytes were refused.
std::string Decode(std::string_view bytes, size_t step, bool* refused) {
  MuxDecoder mux;
  TtrpcDecoder decoders[2];
  std::string out;
  auto frames = [&](uint32_t connection, std::string_view piece) -> absl::Status {
    Require(!piece.empty());
    if (connection != kPluginConnection && connection != kRuntimeConnection) return absl::OkStatus();
    return decoders[connection - 1].Feed(piece, [&](TtrpcMessage message) {
      Require(message.payload.size() <= kMaxTtrpcBytes);
      out += std::to_string(connection) + "/" + std::to_string(message.stream) + "/" +
             std::to_string(static_cast<int>(message.type)) + ":" + message.payload + ";";
      // What was read can be written, and is the same again.
      auto frame = EncodeMessage(connection, message.stream, message.type, message.payload);
      Require(frame.ok());
      MuxDecoder again;
      TtrpcDecoder decoder;
      int messages = 0;
      auto same = [&](uint32_t, std::string_view bytes_again) {
        return decoder.Feed(bytes_again, [&](TtrpcMessage copy) {
          Require(copy.stream == message.stream && copy.type == message.type &&
                  copy.payload == message.payload);
          ++messages;
          return absl::OkStatus();
        });
      };
      Require(again.Feed(*frame, same).ok() && messages == 1);
      return absl::OkStatus();
    });
  };
  while (!bytes.empty()) {
    const size_t take = std::min(step, bytes.size());
    if (!mux.Feed(bytes.substr(0, take), frames).ok()) {
      *refused = true;
      break;
    }
    bytes.remove_prefix(take);
  }
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  bool cut = false, whole = false;
  std::string pieces = Decode(bytes, 1 + data[0] % 64, &cut);
  Require(pieces == Decode(bytes, std::max<size_t>(bytes.size(), 1), &whole) && cut == whole);
  return 0;
}
