// Any bytes with the magic of Kubernetes' protobuf: an error, or an object whose JSON is JSON.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "api/codec.h"
#include "api/json_text.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace keelson::api;
  auto decoded = DecodeProtobuf(std::string_view(reinterpret_cast<const char*>(data), size));
  if (!decoded.ok()) return 0;
  if (!CheckJson(EncodeJson(*decoded->object), 2 * kMaxJsonDepth)) abort();
  auto again = DecodeProtobuf(EncodeProtobuf(*decoded->object));
  if (!again.ok()) abort();
  return 0;
}
