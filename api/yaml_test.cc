#include "api/yaml.h"

#include <gtest/gtest.h>

#include "api/core/v1/service.pb.h"

namespace keelson::api {
namespace {

std::string Json(std::string_view yaml) {
  auto json = YamlDocumentToJson(yaml);
  return json.ok() ? *json : "error: " + std::string(json.status().message());
}

TEST(Yaml, ScalarsAsKubectlReadsThem) {
  const struct {
    const char* yaml;
    const char* json;
  } kCases[] = {
      {"a: 1", R"({"a":1})"},
      {"a: 0644", R"({"a":420})"},
      {"a: 0x1F", R"({"a":31})"},
      {"a: 0o17", R"({"a":15})"},
      {"a: 0b11", R"({"a":3})"},
      {"a: 08", R"({"a":8})"},
      {"a: 1_000", R"({"a":1000})"},
      {"a: +5", R"({"a":5})"},
      {"a: -5", R"({"a":-5})"},
      {"a: 1.50", R"({"a":1.5})"},
      {"a: 1e3", R"({"a":1000})"},
      {"a: .5", R"({"a":0.5})"},
      {"a: yes", R"({"a":true})"},
      {"a: Off", R"({"a":false})"},
      {"a: y", R"({"a":true})"},
      {"a: ~", R"({"a":null})"},
      {"a:", R"({"a":null})"},
      {"a: \"yes\"", R"({"a":"yes"})"},
      {"a: '1'", R"({"a":"1"})"},
      {"a: 2001-01-01", R"({"a":"2001-01-01"})"},
      {"a: 1:30", R"({"a":"1:30"})"},
      {"a: 10.0.0.1", R"({"a":"10.0.0.1"})"},
      {"a: !!str 5", R"({"a":"5"})"},
      {"a: !!int \"5\"", R"({"a":5})"},
      {"a: !!binary aGk=", R"({"a":"hi"})"},
      {"a: 18446744073709551615", R"({"a":18446744073709551615})"},
      {"a: x y", R"({"a":"x y"})"},
      {"1: a\ntrue: b\n1.5: c", R"({"1":"a","true":"b","1.5":"c"})"},
      {"a: |\n  x\n  y\n", R"({"a":"x\ny\n"})"},
      {"a: >-\n  x\n  y\n", R"({"a":"x y"})"},
      {"- a\n- [b, {c: d}]", R"(["a",["b",{"c":"d"}]])"},
      {"{\"a\": [1, \"x\"], \"b\": {}}", R"({"a":[1,"x"],"b":{}})"},
      {"a: http://x:80/y", R"({"a":"http://x:80/y"})"},
      {"a: \"\\u00e9\"", "{\"a\":\"\xc3\xa9\"}"},
      {"a: 100m", R"({"a":"100m"})"},
      {"a: 1.", R"({"a":1})"},
      {"a: 0", R"({"a":0})"},
      {"a: -0", R"({"a":0})"},
      {"a: 0x", R"({"a":"0x"})"},
      {"a: 1e", R"({"a":"1e"})"},
      {"a: 9223372036854775808", R"({"a":9223372036854775808})"},
  };
  for (const auto& c : kCases) EXPECT_EQ(Json(c.yaml), c.json) << c.yaml;
}

TEST(Yaml, AnchorsAndMergeKeys) {
  EXPECT_EQ(Json("a: &x {k: 1, l: 2}\nb: *x\nc:\n  <<: *x\n  l: 3\n"),
            R"({"a":{"k":1,"l":2},"b":{"k":1,"l":2},"c":{"l":3,"k":1}})");
  EXPECT_EQ(Json("a: &x {k: 1}\nb: &y {k: 2, m: 3}\nc:\n  <<: [*x, *y]\n"),
            R"({"a":{"k":1},"b":{"k":2,"m":3},"c":{"k":1,"m":3}})");
  EXPECT_NE(Json("a: &x [*x]").find("contains itself"), std::string::npos);
  EXPECT_NE(Json("a: *nope").find("error"), std::string::npos);
  EXPECT_NE(Json("a:\n  <<: 5\n").find("map merge"), std::string::npos);
}

TEST(Yaml, Bounds) {
  std::string bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n";
  for (int i = 1; i < 20; ++i) {
    bomb += absl::StrCat("a", i, ": &a", i, " [");
    for (int k = 0; k < 10; ++k) absl::StrAppend(&bomb, k ? "," : "", "*a", i - 1);
    bomb += "]\n";
  }
  EXPECT_NE(Json(bomb).find("aliases are expanded"), std::string::npos);
  EXPECT_NE(Json(std::string(1000, '[')).find("error"), std::string::npos);
  EXPECT_NE(Json(std::string(200, '[') + std::string(200, ']')).find("levels"), std::string::npos);
  EXPECT_NE(Json(std::string(kMaxYamlBytes + 1, 'a')).find("longer"), std::string::npos);
}

TEST(Yaml, DuplicateKeysAreRefusedWithTheirLine) {
  EXPECT_EQ(Json("a: 1\nb: 2\na: 3\n"), "error: yaml: line 3: key \"a\" already set in map");
  EXPECT_EQ(Json("? a\nb:\nc: {x, z}\n"), R"({"a":null,"b":null,"c":{"x":null,"z":null}})");
  EXPECT_EQ(Json("a:\n  - b: 1\n    b: 2\n"), "error: yaml: line 3: key \"b\" already set in map");
}

TEST(Yaml, SeveralDocuments) {
  auto documents = YamlToJson("---\n# only a comment\n---\na: 1\n---\n---\nb: 2\n...\n");
  ASSERT_TRUE(documents.ok()) << documents.status();
  ASSERT_EQ(documents->size(), 2u);
  EXPECT_EQ((*documents)[0].json, R"({"a":1})");
  EXPECT_EQ((*documents)[0].line, 4);
  EXPECT_EQ((*documents)[1].line, 7);
  EXPECT_FALSE(YamlDocumentToJson("a: 1\n---\nb: 2\n").ok());
  EXPECT_FALSE(YamlDocumentToJson("").ok());
}

TEST(Yaml, StrayTextEnds) {
  for (const char* bad : {", {}", "&, [*x]\n", "? }[c]", "a: ]", "[a]]", "\xff\xfe\x00", "%", "@"})
    (void)Json(bad);
  EXPECT_NE(Json(", {}").find("error"), std::string::npos);
}

TEST(Yaml, SyntaxErrorsNameTheLine) {
  EXPECT_NE(Json("a: 1\nb: [1,\nc: 2\n").find("yaml: line"), std::string::npos);
  const std::string error = Json("spec:\n  ports:\n  - port: 8080\n    nodePort:30001\n    name: x\n");
  EXPECT_NE(error.find("line 4: is a space missing after the colon in \"nodePort:30001\"?"),
            std::string::npos)
      << error;
}

// The last manifest of the book as printed: not YAML. The same mistake in valid YAML is a string for a
// number.
TEST(Yaml, TheMissingSpaceOfTheBook) {
  constexpr char kManifest[] =
      "apiVersion: v1\nkind: Service\nmetadata:\n    name: myweb\nspec:\n    type: NodePort\n    ports:\n"
      "        - port: 8080\n          nodePort:30001\n    selector:\n        app: myweb\n";
  auto objects = DecodeManifest(kManifest);
  ASSERT_FALSE(objects.ok());
  EXPECT_EQ(
      objects.status().message(),
      "yaml: line 10: illegal map value; line 9: is a space missing after the colon in \"nodePort:30001\"?");
  // As the last line of its map it is a key without colon, which yaml-cpp alone would take.
  const std::string last = std::string(kManifest).substr(0, std::string_view(kManifest).find("    selector"));
  EXPECT_EQ(DecodeManifest(last).status().message(),
            "yaml: line 9: could not find expected ':'; line 9: is a space missing after the colon in "
            "\"nodePort:30001\"?");
  std::string valid(kManifest);
  valid.replace(valid.find("8080\n          node"), 19, "8080\n             node");
  objects = DecodeManifest(valid);
  ASSERT_FALSE(objects.ok());
  const std::string error(objects.status().message());
  EXPECT_NE(error.find("spec.ports[0].port"), std::string::npos) << error;
  EXPECT_NE(error.find("\"8080 nodePort:30001\""), std::string::npos) << error;
  EXPECT_NE(error.find("line 9: is a space missing after the colon in \"nodePort:30001\"?"),
            std::string::npos)
      << error;
  std::string fixed(kManifest);
  fixed.replace(fixed.find("nodePort:30001"), 14, "nodePort: 30001");
  auto good = DecodeManifest(fixed);
  ASSERT_TRUE(good.ok()) << good.status();
  EXPECT_EQ(static_cast<const ::k8s::core::v1::Service&>(*(*good)[0].object).spec().ports(0).node_port(),
            30001);
}

TEST(Yaml, WritesWhatItReads) {
  const char* json =
      R"({"kind":"Pod","a":[],"b":{},"c":[{"x":1,"y":["p","q"]},[1,2],"true","1","a: b","- x","multi\nline",""],"d":{"e":null,"f":true,"g":1.5},"h":"2020-01-01"})";
  EXPECT_EQ(Json(JsonToYaml(json)), json) << JsonToYaml(json);
}

}  // namespace
}  // namespace keelson::api
