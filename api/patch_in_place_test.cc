// The two ways of a merge patch, on random objects of every kind: what ApplyInPlace takes on must come out as
// Apply on the JSON form does.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>

#include "api/codec.h"
#include "api/core/v1/pod.pb.h"
#include "api/object.h"
#include "api/patch.h"
#include "api/testing/random_object.h"

namespace keelson::api {
namespace {

using google::protobuf::Message;
using nlohmann::json;

constexpr int kPatchesPerKind = 60;

// A part of the object, with nulls here and there.
json PartOf(const json& object, std::mt19937_64& random) {
  json part = json::object();
  for (const auto& [key, value] : object.items()) {
    const uint64_t dice = random() % 10;
    if (dice < 5) continue;
    if (dice == 5) {
      part[key] = nullptr;
    } else if (value.is_object()) {
      part[key] = PartOf(value, random);
    } else if (value.is_array() && dice > 7) {
      json list = json::array();
      for (const json& item : value)
        list.push_back(item.is_object() && dice == 9 ? PartOf(item, random) : item);
      part[key] = std::move(list);
    } else {
      part[key] = value;
    }
  }
  return part;
}

// What the general way makes of it; empty when it refuses or warns.
std::string General(const Patch& patch, const Message& object) {
  absl::StatusOr<std::string> text = patch.Apply(EncodeJson(object), *object.GetDescriptor());
  if (!text.ok()) return "";
  std::unique_ptr<Message> out(object.New());
  std::vector<std::string> strict;
  if (!DecodeJsonInto(*text, *out, &strict).ok() || !strict.empty()) return "";
  return EncodeJson(*out) + SerializeDeterministic(*out);
}

TEST(PatchInPlace, AgreesWithTheGeneralWay) {
  std::mt19937_64 random(11);
  uint64_t seed = 1;
  size_t in_place = 0, all = 0;
  for (const TypeInfo* type : Scheme::Get().all()) {
    SCOPED_TRACE(type->gvk.ToString());
    for (int i = 0; i < kPatchesPerKind; ++i) {
      std::unique_ptr<Message> object(type->prototype->New()), other(type->prototype->New());
      FillRandomly(seed++, object.get());
      FillRandomly(seed++, other.get());
      // Half of them from the object itself, so that list elements meet.
      const json source = json::parse(EncodeJson(i % 2 == 0 ? *object : *other));
      const std::string text = PartOf(source, random).dump();
      for (PatchKind kind : {PatchKind::kMerge, PatchKind::kStrategicMerge}) {
        absl::StatusOr<Patch> patch = Patch::Parse(kind, text);
        ASSERT_TRUE(patch.ok()) << patch.status();
        std::unique_ptr<Message> patched = CloneMessage(*object);
        ++all;
        if (!patch->ApplyInPlace(patched.get())) continue;
        ++in_place;
        ASSERT_EQ(EncodeJson(*patched) + SerializeDeterministic(*patched), General(*patch, *object))
            << "object " << EncodeJson(*object) << "\npatch " << text;
      }
    }
  }
  EXPECT_GT(in_place, all / 5) << in_place << " of " << all;
}

// What clients send most is done in place; what it leaves to the general way.
TEST(PatchInPlace, TakesTheUsualAndLeavesTheRest) {
  const auto in_place = [](PatchKind kind, const char* text) {
    auto pod = DecodeJsonAs<::k8s::core::v1::Pod>(
        R"({"metadata":{"name":"p","labels":{"a":"b"},"finalizers":["x/y"]},"spec":{"containers":[{"name":"c","image":"i",)"
        R"("resources":{"limits":{"cpu":"1"}}}]},"status":{"conditions":[{"type":"Ready","status":"False"}]}})");
    absl::StatusOr<Patch> patch = Patch::Parse(kind, text);
    return patch.ok() && patch->ApplyInPlace(&*pod);
  };
  for (
      const char* text :
      {R"({"metadata":{"annotations":{"a":"1","b":null},"labels":null}})",
       R"({"metadata":{"finalizers":["x/y","x/z"],"ownerReferences":[{"uid":"u","name":"n"}]}})",
       R"({"kind":"Pod","apiVersion":"v1","spec":{"containers":[{"name":"c","image":"j"}]}})",
       R"({"spec":{"containers":[{"name":"c","resources":{"limits":{"cpu":"500m","memory":null}}}]}})",
       R"({"status":{"phase":"Running","startTime":"2026-01-02T03:04:05Z","conditions":[{"type":"Ready","status":"True"}]}})"}) {
    EXPECT_TRUE(in_place(PatchKind::kStrategicMerge, text)) << text;
  }
  for (const char* text : {R"({"metadata":{"labels":{"$patch":"replace"}}})",
                           R"({"spec":{"containers":[{"$patch":"delete","name":"c"}]}})",
                           R"({"spec":{"$setElementOrder/containers":[{"name":"c"}]}})",
                           R"({"spec":{"containers":[{"image":"no name"}]}})", R"({"spec":{"unknown":1}})",
                           R"({"spec":{"containers":[{"name":"c","ports":[{"containerPort":"eighty"}]}]}})",
                           R"({"metadata":{"name":"a","name":"b"}})", R"({"status":{"startTime":"noon"}})"}) {
    EXPECT_FALSE(in_place(PatchKind::kStrategicMerge, text)) << text;
  }
  EXPECT_FALSE(in_place(PatchKind::kJson, R"([{"op":"remove","path":"/metadata/labels"}])"));
}

}  // namespace
}  // namespace keelson::api
