#include "api/patch.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "api/core/v1/pod.pb.h"
#include "api/core/v1/service.pb.h"

namespace keelson::api {
namespace {

using nlohmann::json;

struct Case {
  const char* name;
  PatchKind kind;
  const char* object;
  const char* patch;
  const char* want;  // JSON, or "error: substring"
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

class PatchTest : public ::testing::TestWithParam<Case> {};

TEST_P(PatchTest, Apply) {
  const Case& c = GetParam();
  std::string want = c.want;
  auto patch = Patch::Parse(c.kind, c.patch);
  auto result = patch.ok() ? patch->Apply(c.object, *::k8s::core::v1::Pod::descriptor()) : patch.status();
  if (want.starts_with("error: ")) {
    ASSERT_FALSE(result.ok()) << *result;
    EXPECT_NE(std::string(result.status().message()).find(want.substr(7)), std::string::npos)
        << result.status();
    return;
  }
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(json::parse(*result), json::parse(want)) << *result;
}

const Case kCases[] = {
    {"MergeSetsAndDeletes", PatchKind::kMerge, R"({"a":{"b":1,"c":2}})", R"({"a":{"b":null,"d":3}})",
     R"({"a":{"c":2,"d":3}})"},
    {"MergeReplacesLists", PatchKind::kMerge, R"({"a":[1,2]})", R"({"a":[3]})", R"({"a":[3]})"},
    {"JsonAddReplaceRemove", PatchKind::kJson, R"({"a":[1,2],"b":{"c~/":1}})",
     R"([{"op":"add","path":"/a/-","value":3},{"op":"replace","path":"/b/c~0~1","value":9},{"op":"remove","path":"/a/0"}])",
     R"({"a":[2,3],"b":{"c~/":9}})"},
    {"JsonTestFails", PatchKind::kJson, R"({"a":1})", R"([{"op":"test","path":"/a","value":2}])",
     "error: unsuccessful"},
    {"JsonMissingPath", PatchKind::kJson, R"({"a":1})", R"([{"op":"remove","path":"/b"}])",
     "error: not found"},
    {"JsonNotAList", PatchKind::kJson, R"({})", R"({"op":"add"})", "error: must be a list"},
    {"NoObject", PatchKind::kStrategicMerge, "44", R"({"spec":{"nodeName":"n"}})",
     "error: not a JSON object"},
    {"NotJson", PatchKind::kMerge, R"({})", R"({"a":)", "error: not valid JSON"},
    {"ContainersMergeByName", PatchKind::kStrategicMerge,
     R"({"spec":{"containers":[{"name":"a","image":"x","env":[{"name":"E","value":"1"}]},{"name":"b","image":"y"}]}})",
     R"({"spec":{"containers":[{"name":"a","image":"z","env":[{"name":"F","value":"2"}]}]}})",
     R"({"spec":{"containers":[{"name":"a","image":"z","env":[{"name":"E","value":"1"},{"name":"F","value":"2"}]},{"name":"b","image":"y"}]}})"},
    {"DeleteOneContainer", PatchKind::kStrategicMerge,
     R"({"spec":{"containers":[{"name":"a"},{"name":"b"}]}})",
     R"({"spec":{"containers":[{"name":"a","$patch":"delete"}]}})",
     R"({"spec":{"containers":[{"name":"b"}]}})"},
    {"ReplaceList", PatchKind::kStrategicMerge, R"({"spec":{"containers":[{"name":"a"},{"name":"b"}]}})",
     R"({"spec":{"containers":[{"name":"c"},{"$patch":"replace"}]}})",
     R"({"spec":{"containers":[{"name":"c"}]}})"},
    {"MissingMergeKey", PatchKind::kStrategicMerge, R"({"spec":{"containers":[]}})",
     R"({"spec":{"containers":[{"image":"c"}]}})", "error: does not contain declared merge key: name"},
    {"AtomicListReplaced", PatchKind::kStrategicMerge, R"({"spec":{"tolerations":[{"key":"a"}]}})",
     R"({"spec":{"tolerations":[{"key":"b"}]}})", R"({"spec":{"tolerations":[{"key":"b"}]}})"},
    {"LabelsMergeAsMap", PatchKind::kStrategicMerge, R"({"metadata":{"labels":{"a":"1","b":"2"}}})",
     R"({"metadata":{"labels":{"a":null,"c":"3"}}})", R"({"metadata":{"labels":{"b":"2","c":"3"}}})"},
    {"FinalizersUnion", PatchKind::kStrategicMerge, R"({"metadata":{"finalizers":["x"]}})",
     R"({"metadata":{"finalizers":["x","y"]}})", R"({"metadata":{"finalizers":["x","y"]}})"},
    {"DeleteFromPrimitiveList", PatchKind::kStrategicMerge, R"({"metadata":{"finalizers":["x","y"]}})",
     R"({"metadata":{"$deleteFromPrimitiveList/finalizers":["x"]}})", R"({"metadata":{"finalizers":["y"]}})"},
    {"ReplaceObject", PatchKind::kStrategicMerge, R"({"spec":{"nodeSelector":{"a":"1"}}})",
     R"({"spec":{"nodeSelector":{"$patch":"replace","b":"2"}}})", R"({"spec":{"nodeSelector":{"b":"2"}}})"},
    {"RetainKeys", PatchKind::kStrategicMerge, R"({"spec":{"volumes":[{"name":"v","emptyDir":{}}]}})",
     R"({"spec":{"volumes":[{"$retainKeys":["name","hostPath"],"name":"v","hostPath":{"path":"/x"}}]}})",
     R"({"spec":{"volumes":[{"name":"v","hostPath":{"path":"/x"}}]}})"},
    {"SetElementOrder", PatchKind::kStrategicMerge,
     R"({"spec":{"containers":[{"name":"a"},{"name":"server"},{"name":"b"}]}})",
     R"({"spec":{"$setElementOrder/containers":[{"name":"b"},{"name":"a"}],"containers":[{"name":"b","image":"i"}]}})",
     R"({"spec":{"containers":[{"name":"server"},{"name":"b","image":"i"},{"name":"a"}]}})"},
    {"UnknownDirective", PatchKind::kStrategicMerge, R"({"spec":{}})", R"({"spec":{"$patch":"explode"}})",
     "error: unknown patch directive"},
};

INSTANTIATE_TEST_SUITE_P(All, PatchTest, ::testing::ValuesIn(kCases),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(PatchTest, ServicePortsMergeByPort) {
  auto patch =
      Patch::Parse(PatchKind::kStrategicMerge, R"({"spec":{"ports":[{"port":80,"nodePort":30001}]}})");
  ASSERT_TRUE(patch.ok());
  auto result = patch->Apply(R"({"spec":{"ports":[{"port":80,"protocol":"TCP"},{"port":81}]}})",
                             *::k8s::core::v1::Service::descriptor());
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(json::parse(*result),
            json::parse(R"({"spec":{"ports":[{"port":80,"protocol":"TCP","nodePort":30001},{"port":81}]}})"));
}

TEST(PatchTest, DepthIsBounded) {
  std::string deep(10000, '[');
  auto patch = Patch::Parse(PatchKind::kMerge, "{\"a\":" + deep);
  EXPECT_FALSE(patch.ok());
}

}  // namespace
}  // namespace keelson::api
