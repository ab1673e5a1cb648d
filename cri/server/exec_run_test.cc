#include "cri/server/exec_run.h"

#include <gtest/gtest.h>

#include "base/fake_env.h"
#include "base/strings.h"

namespace keelson::cri {
namespace {

// Counts commands that run; each starts when told to.
class StandIn : public oci::ExecProcess {
 public:
  StandIn(bool* killed, bool* tree) : killed_(killed), tree_(tree) {}
  Task<absl::StatusOr<int>> Wait() override { return WaitFor(&ended_); }
  absl::Status Kill() override {
    *killed_ = true;
    ended_.Set();
    return absl::OkStatus();
  }
  absl::Status KillTree() override {
    *tree_ = true;
    return Kill();
  }
  int tty_master_fd() const override { return -1; }

 private:
  static Task<absl::StatusOr<int>> WaitFor(AsyncEvent* ended) {
    Task<void> wait = ended->Wait();
    co_await std::move(wait);
    co_return 137;
  }
  bool *killed_, *tree_;
  AsyncEvent ended_;
};

class StandInRuntime : public oci::OciRuntime {
 public:
  const std::string& name() const override { return text_; }
  const std::string& path() const override { return text_; }
  const std::string& version() const override { return text_; }
  const oci::RuntimeFeatures& features() const override { return features_; }
  std::vector<std::string> global_arguments() const override { return {}; }
  Task<absl::Status> Start(std::string) override { return Nothing(); }
  Task<absl::Status> Kill(std::string, int) override { return Nothing(); }
  Task<absl::Status> Delete(std::string, bool) override { return Nothing(); }
  Task<absl::StatusOr<oci::RuntimeState>> State(std::string) override { co_return oci::RuntimeState(); }
  Task<absl::Status> Update(std::string, std::string) override { return Nothing(); }
  Task<absl::Status> Pause(std::string) override { return Nothing(); }
  Task<absl::Status> Resume(std::string) override { return Nothing(); }
  Task<absl::StatusOr<std::unique_ptr<oci::ExecProcess>>> Exec(std::string, oci::ExecOptions) override {
    return Run();
  }

  AsyncEvent go;
  int begun = 0, cut = 0;
  bool killed = false, tree = false;

 private:
  static Task<absl::Status> Nothing() { co_return absl::OkStatus(); }
  struct Cut {
    int* cut;
    bool done = false;
    ~Cut() { *cut += done ? 0 : 1; }
  };
  Task<absl::StatusOr<std::unique_ptr<oci::ExecProcess>>> Run() {
    ++begun;
    Cut watch{&cut};
    Task<void> wait = go.Wait();
    co_await std::move(wait);
    watch.done = true;
    std::unique_ptr<oci::ExecProcess> process = std::make_unique<StandIn>(&killed, &tree);
    co_return process;
  }
  std::string text_ = "stand-in";
  oci::RuntimeFeatures features_;
};

Task<void> Caller(Scope* scope, oci::OciRuntime* runtime, bool tree, bool* started) {
  auto start = StartExec(scope, runtime, "c", oci::ExecOptions(), std::vector<Fd>());
  absl::StatusOr<std::shared_ptr<ExecRun>> run = co_await std::move(start);
  if (!run.ok()) co_return;
  *started = true;
  KillOnLeave kill(*run, tree);
  std::shared_ptr<AsyncEvent> ended = (*run)->ended.Watch();
  Task<void> wait = ended->Wait();
  co_await std::move(wait);
}

Task<void> Close(Scope* scope) { return scope->Close(); }

class ExecRunTest : public testing::Test {
 protected:
  ~ExecRunTest() override {
    Scope closer(env_.executor());
    closer.Spawn("close", Close(&server_));
    env_.Settle();
  }
  FakeEnv env_{1};
  StandInRuntime runtime_;
  Scope server_{env_.executor()};
};

TEST_F(ExecRunTest, ACallerThatLeavesKillsItsCommand) {
  for (bool tree : {false, true}) {
    Scope caller(env_.executor());
    bool started = false;
    runtime_.killed = runtime_.tree = false;
    runtime_.go.Set();
    caller.Spawn("caller", Caller(&server_, &runtime_, tree, &started));
    env_.Settle();
    ASSERT_TRUE(started);
    EXPECT_FALSE(runtime_.killed);
    caller.Cancel();
    env_.Settle();
    EXPECT_TRUE(runtime_.killed);
    EXPECT_EQ(runtime_.tree, tree);
  }
}

TEST_F(ExecRunTest, ACallerThatLeavesWhileItStartsKillsItThen) {
  Scope caller(env_.executor());
  bool started = false;
  caller.Spawn("caller", Caller(&server_, &runtime_, true, &started));
  env_.Settle();
  ASSERT_EQ(runtime_.begun, 1);
  caller.Cancel();
  env_.Settle();
  EXPECT_EQ(caller.live(), 0u);
  EXPECT_EQ(runtime_.cut, 0) << "the runtime is not cut off";
  EXPECT_FALSE(runtime_.killed);
  runtime_.go.Set();
  env_.Settle();
  EXPECT_TRUE(runtime_.killed);
  EXPECT_TRUE(runtime_.tree);
  EXPECT_EQ(server_.live(), 0u);
}

TEST_F(ExecRunTest, AServerThatClosesAnswersTheCaller) {
  Scope caller(env_.executor());
  bool started = false;
  caller.Spawn("caller", Caller(&server_, &runtime_, true, &started));
  env_.Settle();
  server_.Cancel();
  env_.Settle();
  EXPECT_EQ(runtime_.cut, 1);
  EXPECT_EQ(caller.live(), 0u) << "it is answered, not left waiting";
  EXPECT_FALSE(started);
}

// What one session gives to its pumps.
struct Session {
  bool* gone;
  AsyncEvent event;
  ~Session() { *gone = true; }
};
Task<void> Pump(Session* session, bool* gone, int* ended) {
  struct End {
    bool* gone;
    int* ended;
    ~End() {
      EXPECT_FALSE(*gone) << "the session outlives its pumps";
      ++*ended;
    }
  } end{gone, ended};
  Task<void> wait = session->event.Wait();
  co_await std::move(wait);
}
Task<void> Serve(Executor executor, AsyncEvent* until, bool* gone, int* ended, bool* finished) {
  Session session{gone, {}};
  Scope pumps(executor);
  for (int i = 0; i < 3; ++i) pumps.Spawn("pump", Pump(&session, gone, ended));
  Task<void> run = RunWithPumps(&pumps, until->Wait());
  co_await std::move(run);
  *finished = true;
}

TEST_F(ExecRunTest, PumpsEndBeforeACancelledSessionDoes) {
  Scope caller(env_.executor());
  AsyncEvent until;
  bool gone = false, finished = false;
  int ended = 0;
  caller.Spawn("serve", Serve(env_.executor(), &until, &gone, &ended, &finished));
  env_.Settle();
  EXPECT_EQ(ended, 0);
  caller.Cancel();
  env_.Settle();
  EXPECT_EQ(ended, 3);
  EXPECT_TRUE(gone);
  EXPECT_FALSE(finished) << "a cancelled task does not go on";
  EXPECT_EQ(caller.live(), 0u);
}

TEST_F(ExecRunTest, PumpsEndWithTheBody) {
  Scope caller(env_.executor());
  AsyncEvent until;
  bool gone = false, finished = false;
  int ended = 0;
  caller.Spawn("serve", Serve(env_.executor(), &until, &gone, &ended, &finished));
  env_.Settle();
  until.Set();
  env_.Settle();
  EXPECT_EQ(ended, 3);
  EXPECT_TRUE(finished);
}

}  // namespace
}  // namespace keelson::cri
