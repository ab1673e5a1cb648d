#include "base/env.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>

#include "base/fake_env.h"
#include "base/status.h"

namespace keelson {
namespace {

Task<absl::Status> RunCommands(RealEnv* env) {
  SubprocessOptions echo;
  echo.argv = {"cat"};
  echo.stdin_data = "hello";
  CO_ASSIGN_OR_RETURN(SubprocessResult result, env->subprocess().Run(echo));
  EXPECT_TRUE(result.ok());
  EXPECT_EQ(result.stdout_data, "hello");

  SubprocessOptions exit_three;
  exit_three.argv = {"sh", "-c", "echo oops >&2; exit 3"};
  CO_ASSIGN_OR_RETURN(result, env->subprocess().Run(exit_three));
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_EQ(result.stderr_data, "oops\n");

  SubprocessOptions missing;
  missing.argv = {"/nonexistent/program"};
  Task<absl::StatusOr<SubprocessResult>> task = env->subprocess().Run(missing);
  absl::StatusOr<SubprocessResult> failed = co_await std::move(task);
  EXPECT_EQ(failed.status().code(), absl::StatusCode::kNotFound);

  SubprocessOptions slow;
  slow.argv = {"sleep", "60"};
  slow.timeout = absl::Milliseconds(50);
  Task<absl::StatusOr<SubprocessResult>> slow_task = env->subprocess().Run(slow);
  absl::StatusOr<SubprocessResult> late = co_await std::move(slow_task);
  EXPECT_EQ(late.status().code(), absl::StatusCode::kDeadlineExceeded);

  // A grandchild that holds the pipe open does not hold back the result.
  SubprocessOptions daemon;
  daemon.argv = {"sh", "-c", "sleep 2 & echo started"};
  CO_ASSIGN_OR_RETURN(result, env->subprocess().Run(daemon));
  EXPECT_EQ(result.stdout_data, "started\n");
  co_return absl::OkStatus();
}

TEST(RealEnvTest, Subprocesses) {
  RealEnv env{Paths()};
  absl::Status status = env.RunUntilDone(RunCommands(&env));
  EXPECT_TRUE(status.ok()) << status;
}

Task<absl::Status> SpawnAndKill(RealEnv* env) {
  SpawnOptions options;
  options.argv = {"sleep", "60"};
  CO_ASSIGN_OR_RETURN_SYNC(std::unique_ptr<ChildProcess> child, env->subprocess().Spawn(options));
  EXPECT_TRUE(child->Signal(SIGTERM).ok());
  Task<int> wait = child->Wait();
  int status = co_await std::move(wait);
  EXPECT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), SIGTERM);
  EXPECT_EQ(child->Signal(SIGTERM).code(), absl::StatusCode::kNotFound);
  co_return absl::OkStatus();
}

TEST(RealEnvTest, SpawnSignalWait) {
  RealEnv env{Paths()};
  EXPECT_TRUE(env.RunUntilDone(SpawnAndKill(&env)).ok());
}

Task<absl::Status> UsePool(Env* env, int* out) {
  Task<int> blocking = env->Blocking<int>([] { return 42; });
  *out = co_await std::move(blocking);
  co_return absl::OkStatus();
}

TEST(RealEnvTest, BlockingReturnsOnTheLoop) {
  RealEnv env{Paths()};
  int out = 0;
  EXPECT_TRUE(env.RunUntilDone(UsePool(&env, &out)).ok());
  EXPECT_EQ(out, 42);
}

Task<absl::Status> SleepTwice(Env* env, absl::Duration* slept) {
  absl::Duration start = env->clock().Monotonic();
  Task<void> first = env->clock().Sleep(absl::Milliseconds(20));
  co_await std::move(first);
  Task<void> second = env->clock().Sleep(absl::Milliseconds(5));
  co_await std::move(second);
  *slept = env->clock().Monotonic() - start;
  co_return absl::OkStatus();
}

TEST(RealEnvTest, TimersFireInOrder) {
  RealEnv env{Paths()};
  absl::Duration slept;
  int fired = 0;
  env.clock().Schedule(absl::Milliseconds(10), [&] { ++fired; });
  uint64_t cancelled = env.clock().Schedule(absl::Milliseconds(1), [&] { fired += 100; });
  EXPECT_TRUE(env.clock().CancelTimer(cancelled));
  EXPECT_FALSE(env.clock().CancelTimer(cancelled));
  EXPECT_TRUE(env.RunUntilDone(SleepTwice(&env, &slept)).ok());
  EXPECT_GE(slept, absl::Milliseconds(25));
  EXPECT_EQ(fired, 1);
}

TEST(FakeEnvTest, SameSeedSameBits) {
  FakeEnv a(7), b(7), c(8);
  EXPECT_EQ(a.random().Uuid(), b.random().Uuid());
  EXPECT_NE(a.random().Uuid(), c.random().Uuid());
  EXPECT_EQ(a.random().Suffix(5).size(), 5u);
}

}  // namespace
}  // namespace keelson
