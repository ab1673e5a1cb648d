#include "cri/server/events.h"

#include <gtest/gtest.h>

#include "base/fake_env.h"
#include "base/strings.h"

namespace keelson::cri {
namespace {

v1::ContainerEventResponse Event(const std::string& id) {
  v1::ContainerEventResponse event;
  event.set_container_id(id);
  event.set_container_event_type(v1::CONTAINER_STARTED_EVENT);
  return event;
}

// Reads to the end, or until `wanted` events came.
Task<void> Collect(ContainerEventReader* reader, size_t wanted, std::vector<std::string>* out, bool* ended) {
  while (out->size() < wanted) {
    Task<absl::StatusOr<std::optional<v1::ContainerEventResponse>>> next = reader->Next();
    absl::StatusOr<std::optional<v1::ContainerEventResponse>> event = co_await std::move(next);
    if (!event.ok() || !event->has_value()) {
      *ended = true;
      co_return;
    }
    out->push_back((*event)->container_id());
  }
}

class EventsTest : public testing::Test {
 protected:
  void Read(ContainerEventReader* reader, size_t wanted) {
    got_.clear();
    ended_ = false;
    Scope scope(env_.executor());
    scope.Spawn("collect", Collect(reader, wanted, &got_, &ended_));
    env_.Settle();
    scope.Cancel();
    env_.Settle();
  }
  FakeEnv env_;
  EventHub hub_;
  std::vector<std::string> got_;
  bool ended_ = false;
};

using Ids = std::vector<std::string>;

TEST_F(EventsTest, EverySubscriberGetsAllInOrder) {
  EXPECT_FALSE(hub_.has_subscribers());
  hub_.Publish(Event("nobody"));
  std::unique_ptr<ContainerEventReader> a = hub_.Subscribe();
  hub_.Publish(Event("1"));
  std::unique_ptr<ContainerEventReader> b = hub_.Subscribe();
  EXPECT_TRUE(hub_.has_subscribers());
  hub_.Publish(Event("2"));
  hub_.Publish(Event("3"));
  Read(a.get(), 3);
  EXPECT_EQ(got_, (Ids{"1", "2", "3"}));
  Read(b.get(), 2);
  EXPECT_EQ(got_, (Ids{"2", "3"}));
}

TEST_F(EventsTest, AReaderThatWaitsIsWoken) {
  std::unique_ptr<ContainerEventReader> reader = hub_.Subscribe();
  Scope scope(env_.executor());
  scope.Spawn("collect", Collect(reader.get(), 1, &got_, &ended_));
  env_.Settle();
  EXPECT_TRUE(got_.empty());
  hub_.Publish(Event("1"));
  env_.Settle();
  EXPECT_EQ(got_, (Ids{"1"}));
}

TEST_F(EventsTest, WhoLeavesIsForgotten) {
  std::unique_ptr<ContainerEventReader> reader = hub_.Subscribe();
  reader.reset();
  EXPECT_FALSE(hub_.has_subscribers());
  hub_.Publish(Event("1"));
}

TEST_F(EventsTest, WhoFallsBehindIsCutOffAndTheOthersAreNot) {
  std::unique_ptr<ContainerEventReader> slow = hub_.Subscribe();
  std::unique_ptr<ContainerEventReader> quick = hub_.Subscribe();
  for (size_t i = 0; i < EventHub::kMaxPendingEvents; ++i) hub_.Publish(Event(StrCat(i)));
  Read(quick.get(), EventHub::kMaxPendingEvents);
  hub_.Publish(Event("last"));
  Read(quick.get(), 1);
  EXPECT_EQ(got_, (Ids{"last"}));
  // What was queued is still read; then the stream ends, and the caller lists anew.
  Read(slow.get(), EventHub::kMaxPendingEvents + 1);
  EXPECT_EQ(got_.size(), EventHub::kMaxPendingEvents);
  EXPECT_TRUE(ended_);
}

TEST_F(EventsTest, CloseEndsAll) {
  std::unique_ptr<ContainerEventReader> reader = hub_.Subscribe();
  hub_.Publish(Event("1"));
  hub_.Close();
  Read(reader.get(), 2);
  EXPECT_EQ(got_, (Ids{"1"}));
  EXPECT_TRUE(ended_);
}

}  // namespace
}  // namespace keelson::cri
