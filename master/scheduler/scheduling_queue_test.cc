#include "master/scheduler/scheduling_queue.h"

#include <gtest/gtest.h>

#include "base/fake_env.h"

namespace keelson::master {
namespace {

PodInfoPtr Pod(const std::string& name, int32_t priority = 0) {
  ::k8s::core::v1::Pod pod;
  pod.mutable_metadata()->set_name(name);
  pod.mutable_metadata()->set_uid(name);
  pod.mutable_spec()->set_priority(priority);
  return MakePodInfo(std::make_shared<const ::k8s::core::v1::Pod>(std::move(pod)));
}

class SchedulingQueueTest : public ::testing::Test {
 protected:
  std::string Next() { return env_.Await(queue_.Next())->key; }
  FakeEnv env_;
  SchedulingQueue queue_{env_};
};

TEST_F(SchedulingQueueTest, HigherPriorityFirstThenFirstCome) {
  queue_.Add(Pod("a"));
  queue_.Add(Pod("b"));
  queue_.Add(Pod("urgent", 10));
  EXPECT_EQ(Next(), "urgent");
  EXPECT_EQ(Next(), "a");
  EXPECT_EQ(Next(), "b");
}

TEST_F(SchedulingQueueTest, BackoffDoublesUpToTenSeconds) {
  queue_.Add(Pod("a"));
  for (int seconds : {1, 2, 4, 8, 10, 10}) {
    absl::Duration before = env_.clock().Monotonic();
    EXPECT_EQ(Next(), "a");
    queue_.AddBackoff("a");
    EXPECT_EQ(queue_.active(), 0u);
    env_.RunUntil([&] { return queue_.active() == 1; });
    EXPECT_EQ(env_.clock().Monotonic() - before, absl::Seconds(seconds));
  }
}

TEST_F(SchedulingQueueTest, UnschedulableWaitsForAReasonOrFiveMinutes) {
  queue_.Add(Pod("a"));
  queue_.Add(Pod("b"));
  Next();
  Next();
  queue_.AddUnschedulable("a");
  queue_.AddUnschedulable("b");
  env_.Advance(absl::Seconds(30));
  EXPECT_EQ(queue_.active(), 0u);
  EXPECT_EQ(queue_.Wake([](const PodInfo& pod) { return pod.key == "a"; }), 1u);
  EXPECT_EQ(Next(), "a");  // its back-off is long over
  env_.Advance(absl::Minutes(5));
  EXPECT_EQ(Next(), "b");
}

TEST_F(SchedulingQueueTest, WokenWithinItsBackoffItWaitsForTheRest) {
  queue_.Add(Pod("a"));
  Next();
  queue_.AddUnschedulable("a");
  queue_.Wake([](const PodInfo&) { return true; });
  EXPECT_EQ(queue_.active(), 0u);
  env_.Advance(absl::Seconds(1));
  EXPECT_EQ(queue_.active(), 1u);
}

TEST_F(SchedulingQueueTest, RemovedPodsDoNotComeBack) {
  queue_.Add(Pod("a"));
  Next();
  queue_.AddBackoff("a");
  queue_.Remove("a");
  env_.Advance(absl::Minutes(10));
  EXPECT_EQ(queue_.active(), 0u);
  EXPECT_EQ(queue_.size(), 0u);
}

}  // namespace
}  // namespace keelson::master
