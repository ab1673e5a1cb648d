#include "kubelet/volumes/cached_objects.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "api/codec.h"
#include "api/status_error.h"
#include "base/fake_env.h"
#include "client/testing/fake_api_client.h"

namespace keelson::kubelet {
namespace {

PodPtr MakePod(const std::string& json) {
  auto pod = api::DecodeJsonAs<corev1::Pod>(json);
  EXPECT_TRUE(pod.ok()) << pod.status();
  return std::make_shared<const corev1::Pod>(*pod);
}

PodPtr PodNaming(const std::string& uid) {
  return MakePod(R"({"metadata":{"name":"p","namespace":"ns","uid":")" + uid + R"("},"spec":{
      "imagePullSecrets":[{"name":"pull"}],
      "containers":[{"name":"c","env":[{"name":"E","valueFrom":{"secretKeyRef":{"name":"env","key":"k"}}}]}],
      "volumes":[{"name":"v","configMap":{"name":"cm"}},
                 {"name":"w","projected":{"sources":[{"secret":{"name":"proj"}}]}}]}})");
}

corev1::ConfigMap Map(const std::string& value, bool immutable = false) {
  corev1::ConfigMap map;
  map.mutable_metadata()->set_namespace_("ns");
  map.mutable_metadata()->set_name("cm");
  (*map.mutable_data())["k"] = value;
  if (immutable) map.set_immutable(true);
  return map;
}

class Cached : public ::testing::Test {
 protected:
  ~Cached() override { env_.AwaitVoid(objects_.Stop()); }
  std::string Value() {
    auto map = env_.Await(objects_.GetConfigMap("ns", "cm"));
    return map.ok() ? (*map)->data().at("k") : "error";
  }
  FakeEnv env_;
  client::FakeApiClient api_{env_};
  CachedObjects objects_{env_, &api_};
};

TEST_F(Cached, AllReferencesAreCounted) {
  objects_.RegisterPod(PodNaming("1"));
  objects_.RegisterPod(PodNaming("2"));
  EXPECT_EQ(objects_.size(), 4u);
  objects_.UnregisterPod("1");
  EXPECT_EQ(objects_.size(), 4u);
  objects_.UnregisterPod("2");
  objects_.UnregisterPod("2");
  EXPECT_EQ(objects_.size(), 0u);
}

TEST_F(Cached, FreshForEachNewPodThenOnceAMinute) {
  api_.Put(Map("1"));
  objects_.RegisterPod(PodNaming("1"));
  EXPECT_EQ(Value(), "1");
  api_.Put(Map("2"));
  EXPECT_EQ(Value(), "1");
  objects_.RegisterPod(PodNaming("1"));  // known: no reason to ask
  EXPECT_EQ(Value(), "1");
  objects_.RegisterPod(PodNaming("2"));
  EXPECT_EQ(Value(), "2");
  std::vector<std::string> changes;
  objects_.set_change_listener([&](const std::string& kind, const std::string& ns, const std::string& name) {
    changes.push_back(kind + " " + ns + "/" + name);
  });
  api_.Put(Map("3"));
  env_.Advance(kObjectTtl * 2);
  EXPECT_EQ(Value(), "3");
  EXPECT_THAT(changes, ::testing::ElementsAre("ConfigMap ns/cm"));
}

TEST_F(Cached, AbsentIsNotFoundUntilItIsThere) {
  objects_.RegisterPod(PodNaming("1"));
  EXPECT_TRUE(api::IsNotFound(env_.Await(objects_.GetConfigMap("ns", "cm")).status()));
  api_.Put(Map("1"));
  EXPECT_EQ(Value(), "1");
}

TEST_F(Cached, ImmutableIsFetchedOnce) {
  api_.Put(Map("1", true));
  objects_.RegisterPod(PodNaming("1"));
  EXPECT_EQ(Value(), "1");
  api_.Put(Map("2", true));
  objects_.RegisterPod(PodNaming("2"));
  env_.Advance(kObjectTtl * 3);
  EXPECT_EQ(Value(), "1");
}

TEST(CachedWithoutServer, EverythingIsNotFound) {
  FakeEnv env;
  CachedObjects objects(env, nullptr);
  objects.RegisterPod(PodNaming("1"));
  EXPECT_TRUE(api::IsNotFound(env.Await(objects.GetSecret("ns", "pull")).status()));
  env.AwaitVoid(objects.Stop());
}

}  // namespace
}  // namespace keelson::kubelet
