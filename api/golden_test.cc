// tests/golden/manifests: each *.yaml read, written as JSON and compared with the file beside it.
//
// hack/update-golden (or KEELSON_UPDATE_GOLDEN=1) rewrites the expected files; the diff is the review.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "api/codec.h"
#include "api/yaml.h"

namespace keelson::api {
namespace {

constexpr size_t kLeastManifests = 60;

std::string ReadFile(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

// From the source tree's root (as ctest runs it) or from below it.
std::filesystem::path ManifestDir() {
  const std::filesystem::path source(__FILE__);
  for (std::filesystem::path base : {std::filesystem::path("."), source.parent_path().parent_path()}) {
    if (std::filesystem::exists(base / "tests/golden/manifests")) return base / "tests/golden/manifests";
  }
  return "tests/golden/manifests";
}

std::vector<std::filesystem::path> Manifests() {
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(ManifestDir())) {
    if (entry.path().extension() == ".yaml") paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

TEST(Golden, ManifestsRoundTrip) {
  const bool update = std::getenv("KEELSON_UPDATE_GOLDEN") != nullptr;
  size_t objects_seen = 0;
  for (const auto& path : Manifests()) {
    SCOPED_TRACE(path.filename().string());
    auto objects = DecodeManifest(ReadFile(path));
    ASSERT_TRUE(objects.ok()) << objects.status();
    std::string text;
    for (const Decoded& object : *objects) {
      ++objects_seen;
      EXPECT_TRUE(object.strict_errors.empty()) << object.strict_errors[0];
      const std::string json = EncodeJson(*object.object);
      text += PrettyJson(json) + "\n";

      auto again = DecodeJson(json);
      ASSERT_TRUE(again.ok()) << again.status();
      EXPECT_EQ(EncodeJson(*again->object), json);
      EXPECT_EQ(SerializeDeterministic(*again->object), SerializeDeterministic(*object.object));
      auto wire = DecodeProtobuf(EncodeProtobuf(*object.object));
      ASSERT_TRUE(wire.ok()) << wire.status();
      EXPECT_EQ(EncodeJson(*wire->object), json);
    }
    const std::filesystem::path golden = std::filesystem::path(path).replace_extension(".json");
    if (update) {
      std::ofstream(golden, std::ios::binary) << text;
    } else {
      EXPECT_EQ(text, ReadFile(golden));
    }
  }
  EXPECT_GE(objects_seen, kLeastManifests);
}

}  // namespace
}  // namespace keelson::api
