#include "images/manifest.h"

#include <absl/strings/match.h>
#include <gtest/gtest.h>

#include "base/strings.h"
#include "images/digest.h"

namespace keelson::images {
namespace {

const std::string kDigest = "sha256:" + std::string(64, 'a');

std::string Descriptor1(std::string_view type, std::string_view more = "") {
  return StrCat("{\"mediaType\":\"", type, "\",\"digest\":\"", kDigest, "\",\"size\":10", more, "}");
}

std::string ImageJson(std::string_view layers, std::string_view more = "") {
  return StrCat("{\"schemaVersion\":2,\"config\":", Descriptor1(kOciConfig), ",\"layers\":[", layers, "]",
                more, "}");
}

TEST(Manifest, OciAndDocker) {
  auto oci =
      ParseManifest(ImageJson(Descriptor1("application/vnd.oci.image.layer.v1.tar+gzip")), kOciManifest);
  ASSERT_TRUE(oci.ok()) << oci.status();
  EXPECT_FALSE(oci->is_index);
  EXPECT_EQ(oci->manifest.layers.size(), 1u);
  EXPECT_EQ(oci->manifest.media_type, kOciManifest);
  auto docker = ParseManifest(
      StrCat("{\"schemaVersion\":2,\"mediaType\":\"", kDockerManifest,
             "\",\"config\":", Descriptor1("application/vnd.docker.container.image.v1+json"), ",\"layers\":[",
             Descriptor1("application/vnd.docker.image.rootfs.diff.tar.gzip"), "]}"),
      "application/json");
  ASSERT_TRUE(docker.ok()) << docker.status();
  EXPECT_EQ(docker->manifest.layers[0].size_bytes, 10u);
  auto index = ParseManifest(StrCat("{\"schemaVersion\":2,\"manifests\":[",
                                    Descriptor1(kOciManifest,
                                                ",\"platform\":{\"os\":\"linux\",\"architecture\":\"arm\","
                                                "\"variant\":\"v7\"}"),
                                    "]}"),
                             "");
  ASSERT_TRUE(index.ok()) << index.status();
  EXPECT_TRUE(index->is_index);
  EXPECT_EQ(index->entries[0].platform.ToString(), "linux/arm/v7");
}

TEST(Manifest, ACheckpointSaysSo) {
  const std::string layer = Descriptor1("application/vnd.oci.image.layer.v1.tar+gzip");
  const std::pair<std::string, std::string> cases[] = {
      {R"({"org.criu.checkpoint.container.name":"count"})", "count"},
      {R"({"io.kubernetes.cri-o.annotations.checkpoint.name":"count"})", "count"},
      {R"({"org.criu.checkpoint.container.name":""})", "?"},
      {R"({"org.criu.checkpoint.container.name":7})", "?"},
      {R"({"org.criu.checkpoint.pod.name":"count"})", ""},
      {"[]", ""},
      {"null", ""},
  };
  for (const auto& [annotations, name] : cases) {
    const std::string more = StrCat(",\"annotations\":", annotations);
    auto image = ParseManifest(ImageJson(layer, more), kOciManifest);
    ASSERT_TRUE(image.ok()) << image.status();
    EXPECT_EQ(image->checkpoint_of, name) << annotations;
    auto index = ParseManifest(StrCat("{\"schemaVersion\":2,\"manifests\":[]", more, "}"), kOciIndex);
    ASSERT_TRUE(index.ok()) << index.status();
    EXPECT_EQ(index->checkpoint_of, name) << annotations;
  }
}

TEST(Manifest, EncodedIsReadBack) {
  Manifest manifest;
  manifest.media_type = kOciManifest;
  manifest.config = {kOciConfig, kDigest, 7, {}, ""};
  manifest.layers = {{kOciLayer, kDigest, 9, {}, ""}};
  auto again = ParseManifest(EncodeManifest(manifest), "");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->manifest.layers[0].size_bytes, 9u);
  Descriptor entry{kOciManifest, kDigest, 5, {"linux", "arm64", "v8"}, "docker.io/library/a:1"};
  auto index = ParseManifest(EncodeIndex({entry}), kOciIndex);
  ASSERT_TRUE(index.ok()) << index.status();
  EXPECT_EQ(index->entries[0].ref_name, "docker.io/library/a:1");
  EXPECT_EQ(index->entries[0].platform.ToString(), "linux/arm64/v8");
}

TEST(Manifest, RefusedByName) {
  const std::string layer = Descriptor1(kOciLayer);
  struct Row {
    std::string json, type;
    absl::StatusCode code;
    std::string words;
  };
  std::string many = layer;
  for (int i = 0; i < 127; ++i) StrAppend(&many, ",", layer);
  const Row rows[] = {
      {"", "", absl::StatusCode::kInvalidArgument, "not JSON"},
      {"[]", "", absl::StatusCode::kInvalidArgument, "not a JSON object"},
      {"{}", "", absl::StatusCode::kInvalidArgument, "schemaVersion"},
      {"{\"schemaVersion\":1,\"fsLayers\":[]}", "", absl::StatusCode::kUnimplemented, "schema 1"},
      {ImageJson(layer), "application/vnd.docker.distribution.manifest.v1+prettyjws",
       absl::StatusCode::kUnimplemented, "schema 1"},
      {"{\"schemaVersion\":2}", "", absl::StatusCode::kInvalidArgument, "config: missing"},
      {ImageJson(layer, ",\"manifests\":[]"), "", absl::StatusCode::kInvalidArgument, "both"},
      {ImageJson(layer), kOciIndex, absl::StatusCode::kInvalidArgument, "index by its type"},
      {ImageJson(layer, StrCat(",\"mediaType\":\"", kOciManifest, "\"")), kOciIndex,
       absl::StatusCode::kInvalidArgument, "came as"},
      {ImageJson(many), "", absl::StatusCode::kResourceExhausted, "127"},
      {ImageJson("1"), "", absl::StatusCode::kInvalidArgument, "layers[0]"},
      {ImageJson(Descriptor1("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")), "",
       absl::StatusCode::kUnimplemented, "kept elsewhere"},
      {ImageJson(Descriptor1("application/vnd.in-toto+json")), "", absl::StatusCode::kUnimplemented,
       "in-toto"},
      {ImageJson(Descriptor1("application/vnd.oci.image.layer.v1.tar+gzip+encrypted")), "",
       absl::StatusCode::kUnimplemented, "encrypted"},
      {ImageJson("{\"digest\":\"sha256:x\",\"size\":1}"), "", absl::StatusCode::kInvalidArgument, "digest"},
      {ImageJson(StrCat("{\"digest\":\"", kDigest, "\",\"size\":-1}")), "",
       absl::StatusCode::kInvalidArgument, "size"},
      {ImageJson(StrCat("{\"digest\":\"", kDigest, "\",\"size\":1.5}")), "",
       absl::StatusCode::kInvalidArgument, "size"},
      {ImageJson(StrCat("{\"digest\":\"", kDigest, "\",\"size\":18446744073709551615}")), "",
       absl::StatusCode::kResourceExhausted, "limit"},
      {ImageJson(StrCat("{\"digest\":\"", kDigest, "\"}")), "", absl::StatusCode::kInvalidArgument, "size"},
      {StrCat("{\"schemaVersion\":2,\"config\":", Descriptor1("application/vnd.cncf.helm.config.v1+json"),
              ",\"layers\":[]}"),
       "", absl::StatusCode::kUnimplemented, "artifact"},
      {std::string(100000, '['), "", absl::StatusCode::kInvalidArgument, "deep"},
      {std::string(kMaxManifestBytes + 1, ' '), "", absl::StatusCode::kResourceExhausted, "limit"},
  };
  for (const Row& row : rows) {
    auto parsed = ParseManifest(row.json, row.type);
    EXPECT_EQ(parsed.status().code(), row.code) << row.json.substr(0, 300) << "\n" << parsed.status();
    EXPECT_TRUE(absl::StrContains(parsed.status().message(), row.words)) << parsed.status();
  }
}

Descriptor Entry(std::string os, std::string architecture, std::string variant, char tag) {
  Descriptor out;
  out.digest = "sha256:" + std::string(64, tag);
  out.platform = {std::move(os), std::move(architecture), std::move(variant)};
  return out;
}

TEST(Manifest, ChoosesThePlatform) {
  std::vector<Descriptor> entries = {
      Entry("unknown", "unknown", "", '0'), Entry("windows", "amd64", "", '1'),
      Entry("linux", "amd64", "v2", '2'),   Entry("linux", "amd64", "", '3'),
      Entry("linux", "arm", "v5", '4'),     Entry("linux", "arm", "v7", '5'),
      Entry("linux", "arm", "v6", '6'),     Entry("linux", "arm64", "v8", '7'),
  };
  auto choose = [&](Platform wanted) {
    auto entry = ChoosePlatform(entries, wanted);
    return entry.ok() ? entry->digest[7] : '-';
  };
  EXPECT_EQ(choose({"linux", "amd64", ""}), '3');
  EXPECT_EQ(choose({"linux", "arm", "v7"}), '5');
  EXPECT_EQ(choose({"linux", "arm", "v6"}), '6');
  EXPECT_EQ(choose({"linux", "arm64", "v8"}), '7');
  EXPECT_EQ(choose({"linux", "arm64", ""}), '7');
  EXPECT_EQ(choose({"linux", "riscv64", ""}), '-');
  auto none = ChoosePlatform(entries, {"linux", "riscv64", ""});
  EXPECT_TRUE(absl::IsFailedPrecondition(none.status()));
  EXPECT_TRUE(absl::StrContains(none.status().message(), "linux/arm/v7")) << none.status();
  // One that says nothing is for everybody, but not before one that fits.
  entries.push_back(Entry("", "", "", '8'));
  EXPECT_EQ(choose({"linux", "riscv64", ""}), '8');
  EXPECT_EQ(choose({"linux", "amd64", ""}), '3');
}

TEST(Manifest, DockerArchive) {
  auto images =
      ParseDockerArchive("[{\"Config\":\"a.json\",\"RepoTags\":[\"x:1\"],\"Layers\":[\"l/layer.tar\"]}]");
  ASSERT_TRUE(images.ok()) << images.status();
  EXPECT_EQ((*images)[0].layer_paths, std::vector<std::string>{"l/layer.tar"});
  auto again = ParseDockerArchive(EncodeDockerArchive(*images));
  ASSERT_TRUE(again.ok());
  EXPECT_EQ((*again)[0].repo_tags, std::vector<std::string>{"x:1"});
  for (const char* wrong :
       {"{}", "[1]", "[{}]", "[{\"Config\":1}]", "[{\"Config\":\"a\",\"Layers\":[1]}]", "x"}) {
    EXPECT_FALSE(ParseDockerArchive(wrong).ok()) << wrong;
  }
}

}  // namespace
}  // namespace keelson::images
