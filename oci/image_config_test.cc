#include "oci/image_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/json_guard.h"
#include "base/strings.h"

namespace keelson::oci {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const std::string kDigest = "sha256:" + std::string(64, 'a');

TEST(ParseImageConfigTest, AllFields) {
  absl::StatusOr<ImageConfig> config = ParseImageConfig(StrCat(R"({
    "architecture": "arm64", "os": "linux", "variant": "v8", "created": "2024-01-01T00:00:00Z", "history": [{}],
    "config": {"User": "1:2", "Env": ["A=1", "B="], "Entrypoint": ["/e"], "Cmd": ["c", "d"], "WorkingDir": "/w",
      "StopSignal": "SIGQUIT", "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/z": {}, "a/./b/": {}, "/a/b": {}},
      "Labels": {"k": "v"}, "OnBuild": null},
    "rootfs": {"type": "layers", "diff_ids": [")",
                                                               kDigest, R"("]}})"));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->architecture, "arm64");
  EXPECT_EQ(config->os, "linux");
  EXPECT_EQ(config->variant, "v8");
  EXPECT_EQ(config->user, "1:2");
  EXPECT_THAT(config->env, ElementsAre("A=1", "B="));
  EXPECT_THAT(config->entrypoint, ElementsAre("/e"));
  EXPECT_THAT(config->cmd, ElementsAre("c", "d"));
  EXPECT_EQ(config->working_dir, "/w");
  EXPECT_EQ(config->stop_signal, "SIGQUIT");
  EXPECT_THAT(config->volumes, ElementsAre("/a/b", "/z"));
  EXPECT_EQ(config->labels.at("k"), "v");
  EXPECT_THAT(config->diff_ids, ElementsAre(kDigest));
}

TEST(ParseImageConfigTest, NullsAndAbsence) {
  for (const char* text :
       {"{}", R"({"config": null, "rootfs": null})",
        R"({"config": {"User": null, "Env": null, "Cmd": null, "Volumes": null, "Labels": null}})"}) {
    absl::StatusOr<ImageConfig> config = ParseImageConfig(text);
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_TRUE(config->cmd.empty() && config->env.empty() && config->volumes.empty());
  }
}

TEST(ParseImageConfigTest, CommandOfOneWord) {
  EXPECT_THAT(ParseImageConfig(R"({"config": {"Cmd": "sh", "Entrypoint": ""}})")->cmd, ElementsAre("sh"));
}

TEST(ParseImageConfigTest, ErrorsNameTheField) {
  const std::pair<std::string, const char*> rows[] = {
      {"", "not a JSON object"},
      {"[]", "not a JSON object"},
      {"{\"a\":", "not a JSON object"},
      {R"({"os": 1})", "os: must be a string, is number"},
      {R"({"config": []})", "config: must be an object"},
      {R"({"config": {"Env": "A=1"}})", "config.Env: must be an array"},
      {R"({"config": {"Env": ["A=1", 2]}})", "config.Env[1]: must be a string"},
      {R"({"config": {"Cmd": [null]}})", "config.Cmd[0]"},
      {R"({"config": {"User": "a\u0000b"}})", "config.User: contains a NUL byte"},
      {R"({"config": {"Entrypoint": ["x\u0000"]}})", "config.Entrypoint[0]: contains a NUL byte"},
      {R"({"config": {"Labels": {"a": 1}}})", "config.Labels[a]"},
      {R"({"config": {"Volumes": ["/a"]}})", "config.Volumes: must be an object"},
      {R"({"rootfs": {"diff_ids": ["sha256:xyz"]}})", "rootfs.diff_ids[0]: is not a digest"},
      {R"({"rootfs": {"diff_ids": "x"}})", "rootfs.diff_ids: must be an array"},
      {std::string(100, '[') + std::string(100, ']'), "nested deeper than"},
      {std::string(kMaxImageConfigBytes + 1, ' '), "bytes; at most"},
  };
  for (const auto& [text, message] : rows) {
    absl::StatusOr<ImageConfig> config = ParseImageConfig(text);
    ASSERT_FALSE(config.ok()) << message;
    EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(config.status().message()), HasSubstr(message));
  }
}

// A volume path with ".." once copied files of the host into the container.
TEST(ParseImageConfigTest, VolumesStayInside_CVE_2022_23648) {
  for (const char* path : {"../../../../etc", "/a/../../etc", "/..", "a/..", "/", "", "."}) {
    absl::StatusOr<ImageConfig> config =
        ParseImageConfig(StrCat("{\"config\": {\"Volumes\": {\"", path, "\": {}}}}"));
    ASSERT_FALSE(config.ok()) << path;
    EXPECT_THAT(std::string(config.status().message()), HasSubstr("config.Volumes"));
  }
  EXPECT_TRUE(ParseImageConfig(R"({"config": {"Volumes": {"/a..b/...": {}}}})").ok());
}

TEST(JsonGuardTest, Depth) {
  EXPECT_FALSE(JsonDeeperThan("[[]]", 2));
  EXPECT_TRUE(JsonDeeperThan("[[]]", 1));
  EXPECT_FALSE(JsonDeeperThan("[\"[[[[\\\"[[[\"]", 1));
  EXPECT_FALSE(JsonDeeperThan("[{},{},{}]", 2));
  EXPECT_FALSE(JsonDeeperThan("]]]][", 1));
  EXPECT_FALSE(JsonDeeperThan("\"\\", 0));
}

}  // namespace
}  // namespace keelson::oci
