#include "base/task.h"

#include <gtest/gtest.h>

#include <vector>

#include "base/fake_env.h"

namespace keelson {
namespace {

Task<void> SleepThenRecord(FakeEnv* env, absl::Duration d, std::vector<int>* out, int value) {
  Task<void> sleep = env->clock().Sleep(d);
  co_await std::move(sleep);
  out->push_back(value);
}

TEST(ScopeTest, TasksRunInTimerOrder) {
  FakeEnv env;
  Scope scope(env.executor());
  std::vector<int> out;
  scope.Spawn("b", SleepThenRecord(&env, absl::Seconds(2), &out, 2));
  scope.Spawn("a", SleepThenRecord(&env, absl::Seconds(1), &out, 1));
  env.Advance(absl::Seconds(1));
  EXPECT_EQ(out, std::vector<int>({1}));
  env.Advance(absl::Seconds(1));
  EXPECT_EQ(out, std::vector<int>({1, 2}));
  EXPECT_EQ(scope.live(), 0u);
}

TEST(ScopeTest, CloseCancelsAndWaits) {
  FakeEnv env;
  Scope scope(env.executor());
  std::vector<int> out;
  scope.Spawn("never", SleepThenRecord(&env, absl::Hours(100), &out, 1));
  env.Settle();
  EXPECT_EQ(scope.live(), 1u);
  env.AwaitVoid(scope.Close());
  EXPECT_TRUE(out.empty());
  EXPECT_EQ(scope.live(), 0u);
  scope.Spawn("late", SleepThenRecord(&env, absl::ZeroDuration(), &out, 2));
  env.Advance(absl::Seconds(1));
  EXPECT_TRUE(out.empty());
}

Task<void> Produce(Channel<int>* channel, int count) {
  for (int i = 0; i < count; ++i) {
    Task<bool> push = channel->Push(i);
    co_await std::move(push);
  }
  channel->Close();
}

Task<void> Consume(Channel<int>* channel, std::vector<int>* out) {
  while (true) {
    Task<std::optional<int>> pop = channel->Pop();
    std::optional<int> item = co_await std::move(pop);
    if (!item.has_value()) co_return;
    out->push_back(*item);
  }
}

Task<void> WaitFor(AsyncEvent* event) {
  Task<void> wait = event->Wait();
  co_await std::move(wait);
}

// The emission is posted and must not meet a destroyed signal (seen under ASan with a fake clock's timer).
TEST(ScopeTest, CancelFromOutsideTheLoopWhileTheTaskEnds) {
  FakeEnv env;
  Scope scope(env.executor());
  AsyncEvent event;
  scope.Spawn("ends", WaitFor(&event));
  env.Settle();
  event.Set();
  scope.Cancel();
  env.Settle();
  EXPECT_EQ(scope.live(), 0u);
}

TEST(ChannelTest, BoundedFifo) {
  FakeEnv env;
  Channel<int> channel(2);
  Scope scope(env.executor());
  std::vector<int> out;
  scope.Spawn("produce", Produce(&channel, 50));
  env.Settle();
  EXPECT_EQ(channel.size(), 2u);
  scope.Spawn("consume", Consume(&channel, &out));
  env.Settle();
  ASSERT_EQ(out.size(), 50u);
  EXPECT_EQ(out[49], 49);
  env.AwaitVoid(scope.Close());
}

Task<void> Critical(FakeEnv* env, AsyncMutex* mutex, int* inside, int* worst) {
  Task<AsyncMutex::Guard> lock = mutex->Lock();
  AsyncMutex::Guard guard = co_await std::move(lock);
  *worst = std::max(*worst, ++*inside);
  Task<void> sleep = env->clock().Sleep(absl::Seconds(1));
  co_await std::move(sleep);
  --*inside;
}

TEST(AsyncMutexTest, OneAtATime) {
  FakeEnv env;
  AsyncMutex mutex;
  Scope scope(env.executor());
  int inside = 0, worst = 0;
  for (int i = 0; i < 5; ++i) scope.Spawn("critical", Critical(&env, &mutex, &inside, &worst));
  env.Advance(absl::Seconds(10));
  EXPECT_EQ(scope.live(), 0u);
  EXPECT_EQ(worst, 1);
}

}  // namespace
}  // namespace keelson
