#include "cmd/supervisor.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/status.h"
#include "base/strings.h"

namespace keelson {
namespace {

class SupervisorTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/keelson-supervisor-XXXXXX";
    dir_ = ::mkdtemp(name);
  }
  void TearDown() override { EXPECT_TRUE(RemoveTree(dir_).ok()); }

  ComponentSpec Spec(std::vector<std::string> argv) {
    ComponentSpec spec;
    spec.name = "c";
    spec.argv = std::move(argv);
    spec.pid_file = dir_ + "/c.pid";
    spec.log_file = dir_ + "/c.log";
    return spec;
  }

  // Waits until the component runs under another pid than `old`.
  static Task<void> AwaitNewPid(Env* env, Supervisor* supervisor, int old) {
    while (supervisor->pid("c") == 0 || supervisor->pid("c") == old) {
      Task<void> pause = env->clock().Sleep(absl::Milliseconds(5));
      co_await std::move(pause);
    }
  }

  static Task<absl::Status> KillTwice(Env* env, ComponentSpec spec) {
    Supervisor supervisor(*env);
    CO_RETURN_IF_ERROR_SYNC(supervisor.Start(spec));
    for (int i = 0; i < 2; ++i) {
      int pid = supervisor.pid("c");
      EXPECT_GT(pid, 0);
      ::kill(pid, SIGKILL);
      Task<void> wait = AwaitNewPid(env, &supervisor, pid);
      co_await std::move(wait);
    }
    EXPECT_EQ(supervisor.restarts("c"), 2);
    Task<void> stop = supervisor.StopComponent("c");
    co_await std::move(stop);
    EXPECT_EQ(supervisor.pid("c"), 0);
    Task<void> release = supervisor.Release();
    co_await std::move(release);
    co_return absl::OkStatus();
  }

  static Task<absl::Status> AdoptAcrossSupervisors(Env* env, ComponentSpec spec) {
    int pid = 0;
    {
      Supervisor first(*env);
      CO_RETURN_IF_ERROR_SYNC(first.Start(spec));
      pid = first.pid("c");
      Task<void> release = first.Release();
      co_await std::move(release);
    }
    Supervisor second(*env);
    CO_RETURN_IF_ERROR_SYNC(second.Start(spec));
    EXPECT_EQ(second.pid("c"), pid);
    EXPECT_TRUE(second.adopted("c"));
    Task<void> stop = second.StopComponent("c");
    co_await std::move(stop);
    EXPECT_NE(::kill(pid, 0), 0);
    Task<void> release = second.Release();
    co_await std::move(release);
    co_return absl::OkStatus();
  }

  // A component whose program is built anew while it runs.
  static Task<absl::Status> ReplaceAndRestart(Env* env, ComponentSpec spec, std::string copy) {
    Supervisor supervisor(*env);
    CO_RETURN_IF_ERROR_SYNC(supervisor.Start(spec));
    int pid = supervisor.pid("c");
    EXPECT_FALSE(supervisor.replaced("c"));
    EXPECT_EQ(::rename(copy.c_str(), spec.argv[0].c_str()), 0);
    EXPECT_TRUE(supervisor.replaced("c"));
    absl::Duration start = env->clock().Monotonic();
    Task<void> restart = supervisor.Restart("c");
    co_await std::move(restart);
    EXPECT_LT(env->clock().Monotonic() - start, spec.min_backoff);  // no back-off
    EXPECT_NE(supervisor.pid("c"), pid);
    EXPECT_GT(supervisor.pid("c"), 0);
    EXPECT_FALSE(supervisor.replaced("c"));
    EXPECT_EQ(supervisor.restarts("c"), 1);
    Task<void> unknown = supervisor.Restart("nobody");
    co_await std::move(unknown);
    Task<void> stop = supervisor.StopComponent("c");
    co_await std::move(stop);
    Task<void> release = supervisor.Release();
    co_await std::move(release);
    co_return absl::OkStatus();
  }

  std::string dir_;
};

TEST_F(SupervisorTest, RestartsWhatDies) {
  RealEnv env{Paths()};
  absl::Status status = env.RunUntilDone(KillTwice(&env, Spec({"sleep", "1000"})));
  EXPECT_TRUE(status.ok()) << status;
}

TEST_F(SupervisorTest, AdoptsWhatStillRuns) {
  RealEnv env{Paths()};
  absl::Status status = env.RunUntilDone(AdoptAcrossSupervisors(&env, Spec({"sleep", "1000"})));
  EXPECT_TRUE(status.ok()) << status;
}

TEST_F(SupervisorTest, AReplacedExecutableIsSeenAndRestarted) {
  std::string program = dir_ + "/program", copy = dir_ + "/copy";
  std::string sleep = *ReadFile("/bin/sleep");
  ASSERT_TRUE(WriteFileAtomic(program, sleep, 0755).ok());
  ASSERT_TRUE(WriteFileAtomic(copy, sleep, 0755).ok());
  RealEnv env{Paths()};
  ComponentSpec spec = Spec({program, "1000"});
  spec.min_backoff = absl::Minutes(1);
  absl::Status status = env.RunUntilDone(ReplaceAndRestart(&env, spec, copy));
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_FALSE(ExecutableReplaced(::getpid(), "cmd_test"));  // by the kernel's name for it
  EXPECT_FALSE(ExecutableReplaced(::getpid(), "/no/such/program"));
}

TEST_F(SupervisorTest, ARecycledPidIsNotAdopted) {
  RealEnv env{Paths()};
  auto self = IdentifyProcess(::getpid());
  ASSERT_TRUE(self.ok());
  ++self->start_time_ticks;
  ASSERT_TRUE(WritePidFile(dir_ + "/x.pid", *self).ok());
  EXPECT_TRUE(absl::IsNotFound(AdoptFromPidFile(env, dir_ + "/x.pid").status()));
  EXPECT_TRUE(absl::IsNotFound(AdoptFromPidFile(env, dir_ + "/none.pid").status()));
}

TEST_F(SupervisorTest, AMissingProgramIsAnErrorAtOnce) {
  RealEnv env{Paths()};
  Supervisor supervisor(env);
  EXPECT_FALSE(supervisor.Start(Spec({"/no/such/program"})).ok());
  struct Close {
    static Task<absl::Status> Run(Supervisor* s) {
      Task<void> release = s->Release();
      co_await std::move(release);
      co_return absl::OkStatus();
    }
  };
  EXPECT_TRUE(env.RunUntilDone(Close::Run(&supervisor)).ok());
}

}  // namespace
}  // namespace keelson
