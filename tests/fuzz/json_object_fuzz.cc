// Any JSON a client may send: an error, or an object that survives its own text.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "api/codec.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace keelson::api;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  auto decoded = DecodeJson(input);
  if (!decoded.ok()) return 0;
  // The second text must be stable; the first need not, because 1.953125Ki becomes 2000, and that 2k.
  auto second = DecodeJson(EncodeJson(*decoded->object));
  if (!second.ok()) abort();
  const std::string json = EncodeJson(*second->object);
  auto third = DecodeJson(json);
  if (!third.ok() || EncodeJson(*third->object) != json) abort();
  (void)PrettyJson(json);
  return 0;
}
