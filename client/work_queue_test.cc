#include "client/work_queue.h"

#include <gtest/gtest.h>

#include <map>
#include <vector>

#include "base/fake_env.h"
#include "client/reconciler.h"

namespace keelson::client {
namespace {

std::string Take(FakeEnv& env, WorkQueue& queue) {
  Task<std::optional<std::string>> next = queue.Next();
  return env.Await(std::move(next)).value_or("(shut down)");
}

TEST(WorkQueueTest, DeduplicatesWhileQueuedAndRequeuesWhatChangedInWork) {
  FakeEnv env;
  WorkQueue queue(env);
  queue.Add("a");
  queue.Add("a");
  queue.Add("b");
  EXPECT_EQ(queue.size(), 2u);
  EXPECT_EQ(Take(env, queue), "a");
  queue.Add("a");
  EXPECT_EQ(queue.size(), 1u);  // only b: a is in work
  queue.Done("a");
  EXPECT_EQ(Take(env, queue), "b");
  EXPECT_EQ(Take(env, queue), "a");
  queue.Done("a");
  queue.Done("b");
  EXPECT_TRUE(queue.idle());
}

TEST(WorkQueueTest, DelaysKeepTheSoonest) {
  FakeEnv env;
  WorkQueue queue(env);
  queue.AddAfter("a", absl::Seconds(10));
  queue.AddAfter("a", absl::Seconds(2));
  queue.AddAfter("a", absl::Seconds(30));
  env.Advance(absl::Seconds(1));
  EXPECT_EQ(queue.size(), 0u);
  env.Advance(absl::Seconds(1));
  EXPECT_EQ(queue.size(), 1u);
}

TEST(WorkQueueTest, BackoffDoublesUpToItsLimit) {
  FakeEnv env;
  WorkQueue queue(env, {absl::Seconds(1), absl::Seconds(5)});
  std::vector<absl::Duration> delays;
  for (int i = 0; i < 5; ++i) {
    absl::Duration start = env.clock().Monotonic();
    queue.AddRateLimited("a");
    EXPECT_EQ(Take(env, queue), "a");
    delays.push_back(env.clock().Monotonic() - start);
    queue.Done("a");
  }
  EXPECT_EQ(delays, std::vector<absl::Duration>({absl::Seconds(1), absl::Seconds(2), absl::Seconds(4),
                                                 absl::Seconds(5), absl::Seconds(5)}));
  queue.Forget("a");
  EXPECT_EQ(queue.failures("a"), 0);
}

class CountingReconciler : public Reconciler {
 public:
  explicit CountingReconciler(FakeEnv* env) : env_(env) {}
  Task<absl::StatusOr<Requeue>> Reconcile(std::string key) override {
    int& inside = inside_[key];
    EXPECT_EQ(++inside, 1) << "two workers on " << key;
    Task<void> work = env_->clock().Sleep(absl::Seconds(1));
    co_await std::move(work);
    --inside_[key];
    int run = ++runs[key];
    if (key == "fails twice" && run <= 2) co_return absl::UnavailableError("not yet");
    Requeue requeue;
    if (key == "every minute") requeue.after = absl::Minutes(1);
    co_return requeue;
  }
  std::map<std::string, int> runs;

 private:
  FakeEnv* env_;
  std::map<std::string, int> inside_;
};

TEST(ReconcileLoopTest, RetriesRequeuesAndNeverRunsAKeyTwiceAtOnce) {
  FakeEnv env;
  CountingReconciler reconciler(&env);
  ReconcileLoop loop(env, "test", reconciler);
  loop.Start(3);
  for (const char* key : {"once", "fails twice", "every minute"}) loop.queue().Add(key);
  env.Advance(absl::Milliseconds(500));
  loop.queue().Add("once");  // while in work: runs once more
  env.Advance(absl::Minutes(3));
  EXPECT_EQ(reconciler.runs["once"], 2);
  EXPECT_EQ(reconciler.runs["fails twice"], 3);
  EXPECT_EQ(reconciler.runs["every minute"], 3);
  env.AwaitVoid(loop.Stop());
}

}  // namespace
}  // namespace keelson::client
