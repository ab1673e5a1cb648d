// Manifests, indexes, docker archives and records of the store. The first byte chooses the content type.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "images/digest.h"
#include "images/manifest.h"
#include "images/records.h"

namespace {

using namespace keelson::images;  // NOLINT

void Require(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const char* types[] = {"", kOciManifest, kOciIndex, kDockerManifest, kDockerManifestList, "text/plain"};
  std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  auto parsed = ParseManifest(text, types[data[0] % 6]);
  if (parsed.ok() && parsed->is_index) {
    Require(parsed->entries.size() <= kMaxIndexEntries);
    auto entry = ChoosePlatform(parsed->entries, {"linux", "arm", "v7"});
    if (entry.ok()) Require(IsDigest(entry->digest));
  } else if (parsed.ok()) {
    Require(parsed->manifest.layers.size() <= kMaxLayers);
    Require(IsDigest(parsed->manifest.config.digest));
    for (const Descriptor& layer : parsed->manifest.layers) {
      Require(IsDigest(layer.digest) && layer.size_bytes <= kMaxBlobBytes);
    }
    auto again = ParseManifest(EncodeManifest(parsed->manifest), "");
    Require(again.ok() && again->manifest.layers.size() == parsed->manifest.layers.size());
  }
  auto archive = ParseDockerArchive(text);
  if (archive.ok()) Require(ParseDockerArchive(EncodeDockerArchive(*archive)).ok());
  (void)ParseImage(text).ok();
  (void)ParseLayer(text).ok();
  (void)ParseRootfs(text).ok();
  (void)CreatedAt(text);
  return 0;
}
