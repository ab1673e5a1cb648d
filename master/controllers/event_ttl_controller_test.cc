#include "master/controllers/event_ttl_controller.h"

#include <gtest/gtest.h>

#include "api/time.h"
#include "master/controllers/testing.h"

namespace keelson::master {
namespace {

namespace corev1 = ::k8s::core::v1;

TEST_F(ControllerTest, EventsEndAnHourAfterTheyLastHappened) {
  EventTtlController controller(context());
  StartInformers();
  controller.Start();
  corev1::Event event;
  event.mutable_metadata()->set_namespace_("d");
  event.mutable_metadata()->set_name("once");
  api_.Put(event);
  event.mutable_metadata()->set_name("again");
  *event.mutable_last_timestamp() = api::ToApiTime(env_.clock().Now() + absl::Minutes(50));
  api_.Put(event);
  env_.Advance(absl::Minutes(59));
  EXPECT_EQ(api_.All<corev1::Event>().size(), 2u);
  env_.Advance(absl::Minutes(10));
  ASSERT_EQ(api_.All<corev1::Event>().size(), 1u);
  EXPECT_EQ(api_.All<corev1::Event>()[0]->metadata().name(), "again");
  env_.Advance(absl::Hours(1));
  EXPECT_EQ(api_.All<corev1::Event>().size(), 0u);
  env_.AwaitVoid(controller.Stop());
}

}  // namespace
}  // namespace keelson::master
