#include "client/event_recorder.h"

#include <gtest/gtest.h>

#include "api/core/v1/pod.pb.h"
#include "base/fake_env.h"
#include "base/strings.h"
#include "client/testing/fake_api_client.h"

namespace keelson::client {
namespace {

namespace corev1 = ::k8s::core::v1;

TEST(EventRecorderTest, RepeatsAreCountedAndFloodsDropped) {
  FakeEnv env;
  FakeApiClient api(env);
  EventRecorder recorder(env, api, "kubelet", "n1");
  corev1::Pod pod;
  pod.mutable_metadata()->set_namespace_("default");
  pod.mutable_metadata()->set_name("web");
  pod.mutable_metadata()->set_uid("u1");
  for (int i = 0; i < 3; ++i) {
    recorder.Event(pod, "Warning", "BackOff", "Back-off restarting failed container", "spec.containers{web}");
    env.Advance(absl::Seconds(10));
  }
  auto events = api.All<corev1::Event>();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0]->count(), 3);
  EXPECT_EQ(events[0]->involved_object().kind(), "Pod");
  EXPECT_EQ(events[0]->involved_object().api_version(), "v1");
  EXPECT_EQ(events[0]->involved_object().field_path(), "spec.containers{web}");
  EXPECT_EQ(events[0]->source().component(), "kubelet");
  EXPECT_GT(events[0]->last_timestamp().seconds(), events[0]->first_timestamp().seconds());
  for (int i = 0; i < 100; ++i) recorder.Event(pod, "Normal", "Spam", StrCat("message ", i));
  env.Advance(absl::Seconds(1));
  EXPECT_LE(api.All<corev1::Event>().size(), 26u);
  env.AwaitVoid(recorder.Stop());
}

TEST(EventRecorderTest, AnUnreachableServerHoldsNobodyUp) {
  FakeEnv env;
  FakeApiClient api(env);
  api.set_fault([](const std::string&) { return absl::UnavailableError("down"); });
  EventRecorder recorder(env, api, "kubelet", "n1");
  corev1::Pod pod;
  pod.mutable_metadata()->set_namespace_("default");
  pod.mutable_metadata()->set_name("web");
  recorder.Event(pod, "Normal", "Started", "Started container");
  env.Advance(absl::Seconds(1));
  api.set_fault(nullptr);
  recorder.Event(pod, "Normal", "Started", "Started container");
  env.Advance(absl::Seconds(1));
  EXPECT_EQ(api.All<corev1::Event>().size(), 1u);
  env.AwaitVoid(recorder.Stop());
}

}  // namespace
}  // namespace keelson::client
