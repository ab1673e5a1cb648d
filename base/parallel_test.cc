#include "base/parallel.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "base/fake_env.h"

namespace keelson {
namespace {

// Calls that take a second each; the one of number `bad` fails.
struct Calls {
  FakeEnv* env;
  size_t bad = SIZE_MAX;
  size_t running = 0, most = 0, begun = 0, ended = 0;

  Task<absl::Status> One(size_t number) {
    most = std::max(most, ++running);
    ++begun;
    Task<void> sleep = env->clock().Sleep(absl::Seconds(1));
    co_await std::move(sleep);
    --running;
    ++ended;
    co_return number == bad ? absl::InternalError("bad") : absl::OkStatus();
  }
  NumberedWork Work() {
    return [this](size_t number) { return One(number); };
  }
};

Task<void> Keep(Task<absl::Status> task, std::vector<absl::Status>* out) {
  absl::Status status = co_await std::move(task);
  out->push_back(status);
}

TEST(InParallel, RunsAllWithinTheLimit) {
  FakeEnv env;
  Scope scope(env.executor()), workers(env.executor());
  Calls calls{&env};
  std::vector<absl::Status> out;
  scope.Spawn("caller", Keep(InParallel(&workers, 3, 7, calls.Work()), &out));
  env.Advance(absl::Seconds(2));
  EXPECT_EQ(calls.ended, 6u);
  EXPECT_TRUE(out.empty());
  env.Advance(absl::Seconds(1));
  EXPECT_EQ(out, std::vector<absl::Status>(1, absl::OkStatus()));
  EXPECT_EQ(calls.ended, 7u);
  EXPECT_EQ(calls.most, 3u);
  scope.Spawn("caller", Keep(InParallel(&workers, 3, 0, calls.Work()), &out));
  env.Settle();
  EXPECT_EQ(out.size(), 2u);
}

TEST(InParallel, AnErrorBeginsNothingMore) {
  FakeEnv env;
  Scope scope(env.executor()), workers(env.executor());
  Calls calls{&env, 1};
  std::vector<absl::Status> out;
  scope.Spawn("caller", Keep(InParallel(&workers, 2, 100, calls.Work()), &out));
  env.Advance(absl::Seconds(10));
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(out[0].message(), "bad");
  EXPECT_LE(calls.begun, 3u);
  EXPECT_EQ(calls.begun, calls.ended);
}

TEST(InParallel, ACancelledCallerBeginsNothingMore) {
  FakeEnv env;
  Scope scope(env.executor()), workers(env.executor());
  Calls calls{&env};
  std::vector<absl::Status> out;
  scope.Spawn("caller", Keep(InParallel(&workers, 2, 100, calls.Work()), &out));
  env.Settle();
  env.AwaitVoid(scope.Close());
  env.Advance(absl::Seconds(10));
  EXPECT_TRUE(out.empty());
  EXPECT_EQ(calls.ended, 2u);
  EXPECT_EQ(workers.live(), 0u);
}

TEST(InParallel, AClosingScopeIsAnError) {
  FakeEnv env;
  Scope scope(env.executor()), workers(env.executor());
  Calls calls{&env};
  std::vector<absl::Status> out;
  scope.Spawn("caller", Keep(InParallel(&workers, 2, 100, calls.Work()), &out));
  env.Settle();
  env.AwaitVoid(workers.Close());
  scope.Spawn("late caller", Keep(InParallel(&workers, 2, 100, calls.Work()), &out));
  env.Settle();
  ASSERT_EQ(out.size(), 2u);
  EXPECT_TRUE(absl::IsCancelled(out[0]));
  EXPECT_TRUE(absl::IsCancelled(out[1]));
  EXPECT_EQ(calls.ended, 0u);
}

}  // namespace
}  // namespace keelson
