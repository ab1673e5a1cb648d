#include "kubelet/volumes/payload.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "api/codec.h"

namespace keelson::kubelet {
namespace {

using ::testing::HasSubstr;

TEST(CheckPayloadPath, OnlyWhatStaysInside) {
  for (const char* good : {"a", "a/b", "a..b", ".hidden", "a/..b", "a//b"})
    EXPECT_TRUE(CheckPayloadPath(good).ok()) << good;
  for (const char* bad : {"", "/a", "..", "../a", "a/../b", "..data", "..x/y", "a/", "./a", "a/."}) {
    EXPECT_FALSE(CheckPayloadPath(bad).ok()) << bad;
  }
  EXPECT_FALSE(CheckPayloadPath(std::string(300, 'a')).ok());
}

TEST(ConfigMapPayload, AllKeysOrItems) {
  auto map = api::DecodeJsonAs<corev1::ConfigMap>(R"({"data":{"a":"1","b":"2"},"binaryData":{"c":"AAE="}})");
  ASSERT_TRUE(map.ok());
  Payload payload;
  ASSERT_TRUE(AddConfigMap(&*map, {}, false, {0400}, &payload).ok());
  ASSERT_EQ(payload.size(), 3u);
  EXPECT_EQ(payload["c"].data, std::string("\0\1", 2));
  EXPECT_EQ(payload["a"].mode, 0400u);
  KeyItems items;
  auto* item = items.Add();
  item->set_key("b");
  item->set_path("dir//b.conf");
  item->set_mode(0600);
  payload.clear();
  ASSERT_TRUE(AddConfigMap(&*map, items, false, {}, &payload).ok());
  ASSERT_EQ(payload.size(), 1u);
  EXPECT_EQ(payload["dir/b.conf"].mode, 0600u);
  item->set_key("nope");
  absl::Status missing = AddConfigMap(&*map, items, false, {}, &payload);
  EXPECT_EQ(missing.message(), "references non-existent config key: nope");
  EXPECT_TRUE(AddConfigMap(&*map, items, true, {}, &payload).ok());
  item->set_key("b");
  item->set_path("../escape");
  EXPECT_THAT(std::string(AddConfigMap(&*map, items, false, {}, &payload).message()), HasSubstr(".."));
}

TEST(SecretPayload, MissingObjectGivesNothing) {
  Payload payload;
  EXPECT_TRUE(AddSecret(nullptr, {}, true, {}, &payload).ok());
  EXPECT_TRUE(payload.empty());
}

TEST(DownwardApiPayload, FieldsAndResources) {
  auto pod =
      api::DecodeJsonAs<corev1::Pod>(R"({"metadata":{"name":"p","namespace":"n","labels":{"b":"2","a":"1"}},
      "spec":{"containers":[{"name":"c","resources":{"limits":{"memory":"64Mi"}}}]}})");
  ASSERT_TRUE(pod.ok());
  auto source = api::DecodeJsonAs<corev1::DownwardAPIVolumeSource>(R"({"items":[
      {"path":"labels","fieldRef":{"fieldPath":"metadata.labels"}},
      {"path":"mem","mode":256,"resourceFieldRef":{"containerName":"c","resource":"limits.memory","divisor":"1Mi"}}]})");
  ASSERT_TRUE(source.ok());
  Payload payload;
  ASSERT_TRUE(AddDownwardApi(*pod, source->items(), {}, {}, &payload).ok());
  EXPECT_EQ(payload["labels"].data, "a=\"1\"\nb=\"2\"");
  EXPECT_EQ(payload["mem"].data, "64");
  EXPECT_EQ(payload["mem"].mode, 0400u);
}

}  // namespace
}  // namespace keelson::kubelet
