// Random objects of every kind through JSON and protobuf.
#include <google/protobuf/message.h>
#include <gtest/gtest.h>

#include <random>

#include "api/codec.h"
#include "api/scheme.h"
#include "api/testing/random_object.h"
#include "api/yaml.h"

namespace keelson::api {
namespace {

using google::protobuf::Message;

constexpr int kObjectsPerKind = 12;

TEST(RoundTrip, EveryKind) {
  uint64_t seed = 1;
  for (const TypeInfo* type : Scheme::Get().all()) {
    SCOPED_TRACE(type->gvk.ToString());
    for (int i = 0; i < kObjectsPerKind; ++i, ++seed) {
      std::unique_ptr<Message> object(type->prototype->New());
      FillRandomly(seed, object.get());
      const std::string bytes = SerializeDeterministic(*object);
      const std::string json = EncodeJson(*object);

      auto from_json = DecodeJson(json);
      ASSERT_TRUE(from_json.ok()) << from_json.status() << "\n" << json;
      EXPECT_TRUE(from_json->strict_errors.empty()) << from_json->strict_errors[0];
      EXPECT_EQ(from_json->type, type);
      ASSERT_EQ(EncodeJson(*from_json->object), json);
      ASSERT_EQ(SerializeDeterministic(*from_json->object), bytes) << json;

      auto from_protobuf = DecodeProtobuf(EncodeProtobuf(*object));
      ASSERT_TRUE(from_protobuf.ok()) << from_protobuf.status();
      ASSERT_EQ(EncodeJson(*from_protobuf->object), json);

      if (i == 0) {
        auto from_yaml = DecodeManifest(JsonToYaml(json));
        ASSERT_TRUE(from_yaml.ok()) << from_yaml.status() << "\n" << JsonToYaml(json);
        ASSERT_EQ(EncodeJson(*(*from_yaml)[0].object), json);
      }
    }
  }
}

// Truncated and bit-flipped input must give an error or an object, never worse.
TEST(RoundTrip, DamagedInputIsHarmless) {
  std::mt19937_64 random(7);
  uint64_t seed = 1000;
  for (const TypeInfo* type : Scheme::Get().all()) {
    std::unique_ptr<Message> object(type->prototype->New());
    FillRandomly(seed++, object.get(), 4);
    for (std::string text : {EncodeJson(*object), EncodeProtobuf(*object)}) {
      for (int i = 0; i < 20; ++i) {
        std::string damaged = text;
        damaged[random() % damaged.size()] = static_cast<char>(random());
        if (i % 4 == 0) damaged.resize(random() % damaged.size());
        auto decoded = DecodeObject(damaged, i % 2 == 0                 ? ""
                                             : IsProtobufEnvelope(text) ? kContentTypeProtobuf
                                                                        : kContentTypeJson);
        if (decoded.ok()) EncodeJson(*decoded->object);
      }
    }
  }
}

}  // namespace
}  // namespace keelson::api
