// Any manifest file: an error with a line, or JSON within the bounds.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "api/json_text.h"
#include "api/yaml.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace keelson::api;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  auto documents = YamlToJson(input);
  if (!documents.ok()) return 0;
  for (const YamlDocument& document : *documents) {
    if (!CheckJson(document.json, 4 * kMaxYamlDepth)) abort();
  }
  (void)DecodeManifest(input);
  return 0;
}
