#include "base/process.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <string>
#include <utility>

#include "base/env.h"

namespace keelson {
namespace {

Task<absl::Status> RunIn(RealEnv* env, SubprocessOptions options, std::string* printed) {
  Task<absl::StatusOr<SubprocessResult>> run = env->subprocess().Run(std::move(options));
  absl::StatusOr<SubprocessResult> result = co_await std::move(run);
  if (result.ok()) *printed = result->stdout_data;
  co_return result.status();
}

TEST(Process, FindsItself) {
  EXPECT_THAT(ProcessIds(), ::testing::Contains(::getpid()));
  auto self = ProcessFactsOf(::getpid());
  ASSERT_TRUE(self.ok()) << self.status();
  EXPECT_EQ(self->pid, ::getpid());
  EXPECT_EQ(self->parent, ::getppid());
  EXPECT_EQ(self->session, ::getsid(0));
  EXPECT_FALSE(self->dead);
  EXPECT_EQ(*ProcessStartTicks(::getpid()), self->start_ticks);
  EXPECT_THAT(CommandLineOf(::getpid()).at(0), ::testing::HasSubstr("base_test"));
  EXPECT_TRUE(OpenProcess(::getpid()).ok());
}

TEST(Process, OpenFilesUpToTheHardLimit) {
  rlimit usual, now;
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &usual), 0);
  rlimit few = {64, usual.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &few), 0);
  EXPECT_TRUE(RaiseOpenFilesLimit().ok());
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &now), 0);
  EXPECT_EQ(now.rlim_cur, usual.rlim_max);
  EXPECT_EQ(now.rlim_max, usual.rlim_max);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &usual), 0);
}

TEST(Process, WhatIsGoneIsNotFound) {
  constexpr int kNone = 1 << 30;
  EXPECT_TRUE(absl::IsNotFound(ProcessFactsOf(kNone).status()));
  EXPECT_TRUE(absl::IsNotFound(OpenProcess(kNone).status()));
  EXPECT_TRUE(CommandLineOf(kNone).empty());
}

// Reaped, but its number names a session as long as its child is in it: EINVAL from some kernels.
TEST(Process, ASessionsNameIsNoProcess) {
  RealEnv env{Paths()};
  SubprocessOptions options;
  options.argv = {"setsid", "--wait", "sh", "-c", "echo $$; sleep 1000 </dev/null >/dev/null 2>&1 & echo $!"};
  std::string printed;
  absl::Status status = env.RunUntilDone(RunIn(&env, options, &printed));
  ASSERT_TRUE(status.ok()) << status;
  int leader = 0, child = 0;
  ASSERT_EQ(std::sscanf(printed.c_str(), "%d %d", &leader, &child), 2) << printed;
  EXPECT_EQ(::getsid(child), leader);
  EXPECT_TRUE(absl::IsNotFound(OpenProcess(leader).status())) << OpenProcess(leader).status();
  ::kill(child, SIGKILL);
}

}  // namespace
}  // namespace keelson
