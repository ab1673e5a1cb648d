#include "cri/testing/fake_runtime.h"

#include <gtest/gtest.h>

#include "base/fake_env.h"
#include "cri/testing/conformance.h"

namespace keelson::cri {
namespace {

class FakeConformance : public testing::TestWithParam<ConformanceCase> {};

TEST_P(FakeConformance, Passes) {
  FakeEnv env;
  FakeRuntimeOptions options;
  options.abort_on_misuse = false;
  FakeRuntime fake(env, options);
  ConformanceTarget target;
  target.env = &env;
  target.runtime = &fake;
  target.images = &fake;
  target.image = "registry.example/pause:1";
  target.command = {"/pause"};
  target.exec_true = {"true"};
  absl::Status status = env.Await(GetParam().run(target));
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_TRUE(fake.Sandboxes().empty());
  EXPECT_TRUE(fake.Containers().empty());
}

INSTANTIATE_TEST_SUITE_P(Cases, FakeConformance, testing::ValuesIn(ConformanceCases()),
                         [](const auto& info) { return info.param.name; });

class FakeRuntimeTest : public testing::Test {
 protected:
  std::string RunSandbox(const std::string& name, uint32_t attempt = 0) {
    v1::RunPodSandboxRequest request;
    auto* metadata = request.mutable_config()->mutable_metadata();
    metadata->set_name(name);
    metadata->set_namespace_("default");
    metadata->set_uid("uid-" + name);
    metadata->set_attempt(attempt);
    auto response = env_.Await(fake_.RunPodSandbox(request));
    EXPECT_TRUE(response.ok()) << response.status();
    return response.ok() ? response->pod_sandbox_id() : "";
  }
  std::string Create(const std::string& sandbox, const std::string& name, uint32_t attempt = 0) {
    fake_.AddLocalImage("app");
    v1::CreateContainerRequest request;
    request.set_pod_sandbox_id(sandbox);
    request.mutable_config()->mutable_metadata()->set_name(name);
    request.mutable_config()->mutable_metadata()->set_attempt(attempt);
    request.mutable_config()->mutable_image()->set_image("app");
    auto response = env_.Await(fake_.CreateContainer(request));
    EXPECT_TRUE(response.ok()) << response.status();
    return response.ok() ? response->container_id() : "";
  }
  absl::Status Start(const std::string& id) {
    v1::StartContainerRequest request;
    request.set_container_id(id);
    return env_.Await(fake_.StartContainer(request)).status();
  }
  absl::Status Stop(const std::string& id, int64_t timeout_s) {
    v1::StopContainerRequest request;
    request.set_container_id(id);
    request.set_timeout(timeout_s);
    return env_.Await(fake_.StopContainer(request)).status();
  }

  FakeEnv env_;
  FakeRuntime fake_{env_};
};

TEST_F(FakeRuntimeTest, SandboxesGetDistinctAddressesOfThePodCidr) {
  std::string a = RunSandbox("a"), b = RunSandbox("b");
  auto all = fake_.Sandboxes();
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0].network().ip(), "10.88.0.2");
  EXPECT_EQ(all[1].network().ip(), "10.88.0.3");
  v1::UpdateRuntimeConfigRequest request;
  request.mutable_runtime_config()->mutable_network_config()->set_pod_cidr("10.244.3.0/24");
  ASSERT_TRUE(env_.Await(fake_.UpdateRuntimeConfig(request)).ok());
  RunSandbox("c");
  EXPECT_EQ(fake_.Sandboxes()[2].network().ip(), "10.244.3.2");
}

TEST_F(FakeRuntimeTest, AProgrammedExitLeavesCodeReasonAndTimes) {
  std::string id = Create(RunSandbox("a"), "main");
  ASSERT_TRUE(Start(id).ok());
  env_.Advance(absl::Seconds(5));
  EXPECT_TRUE(fake_.ExitContainer(id, 3));
  EXPECT_FALSE(fake_.ExitContainer(id, 3));
  auto status = *fake_.FindContainer(id);
  EXPECT_EQ(status.state(), v1::CONTAINER_EXITED);
  EXPECT_EQ(status.exit_code(), 3);
  EXPECT_EQ(status.reason(), "Error");
  EXPECT_EQ(status.finished_at() - status.started_at(), 5'000'000'000);
}

TEST_F(FakeRuntimeTest, BehaviorsDecideHowAContainerEnds) {
  fake_.set_behavior_hook([](const v1::ContainerConfig& config, const v1::PodSandboxConfig&) {
    ContainerBehavior behavior;
    if (config.metadata().name() == "job") {
      behavior.exits_after = absl::Seconds(7);
      behavior.exit_code = 0;
    } else if (config.metadata().name() == "stubborn") {
      behavior.ignores_stop_signal = true;
    } else if (config.metadata().name() == "slow") {
      behavior.stop_takes = absl::Seconds(4);
    } else {
      behavior.start_error = absl::InternalError("exec: \"nope\": not found");
    }
    return behavior;
  });
  std::string sandbox = RunSandbox("a");
  std::string job = Create(sandbox, "job"), stubborn = Create(sandbox, "stubborn"),
              slow = Create(sandbox, "slow");
  std::string broken = Create(sandbox, "broken");
  for (const auto& id : {job, stubborn, slow}) ASSERT_TRUE(Start(id).ok());
  EXPECT_FALSE(Start(broken).ok());
  EXPECT_EQ(fake_.FindContainer(broken)->exit_code(), 128);
  env_.Advance(absl::Seconds(8));
  EXPECT_EQ(fake_.FindContainer(job)->state(), v1::CONTAINER_EXITED);
  EXPECT_EQ(fake_.FindContainer(job)->reason(), "Completed");

  absl::Time before = env_.clock().Now();
  ASSERT_TRUE(Stop(slow, 30).ok());
  EXPECT_EQ(env_.clock().Now() - before, absl::Seconds(4));
  EXPECT_EQ(fake_.FindContainer(slow)->exit_code(), 143);
  before = env_.clock().Now();
  ASSERT_TRUE(Stop(stubborn, 30).ok());
  EXPECT_EQ(env_.clock().Now() - before, absl::Seconds(30));
  EXPECT_EQ(fake_.FindContainer(stubborn)->exit_code(), 137);
}

TEST_F(FakeRuntimeTest, FailTheNthCallBeforeAndAfterItsEffect) {
  fake_.FailCall("RunPodSandbox", 2, absl::InternalError("no"));
  fake_.FailCall("RunPodSandbox", 3, absl::DeadlineExceededError("late"), /*after_effect=*/true);
  RunSandbox("a");
  v1::RunPodSandboxRequest request;
  request.mutable_config()->mutable_metadata()->set_name("b");
  request.mutable_config()->mutable_metadata()->set_namespace_("default");
  request.mutable_config()->mutable_metadata()->set_uid("uid-b");
  EXPECT_EQ(env_.Await(fake_.RunPodSandbox(request)).status().code(), absl::StatusCode::kInternal);
  EXPECT_EQ(fake_.Sandboxes().size(), 1u);
  EXPECT_EQ(env_.Await(fake_.RunPodSandbox(request)).status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(fake_.Sandboxes().size(), 2u);
  EXPECT_EQ(fake_.calls("RunPodSandbox"), 3);
}

TEST_F(FakeRuntimeTest, SlowCallsAndPullLatencyTakeTheirTime) {
  fake_.SlowCalls("Version", absl::Seconds(9));
  absl::Time before = env_.clock().Now();
  ASSERT_TRUE(env_.Await(fake_.Version({})).ok());
  EXPECT_EQ(env_.clock().Now() - before, absl::Seconds(9));
  fake_.AddRegistryImage("nginx", 1000, absl::Seconds(3));
  v1::PullImageRequest pull;
  pull.mutable_image()->set_image("docker.io/library/nginx:latest");
  before = env_.clock().Now();
  ASSERT_TRUE(env_.Await(fake_.PullImage(pull)).ok());
  EXPECT_EQ(env_.clock().Now() - before, absl::Seconds(3));
  EXPECT_TRUE(fake_.HasImage("nginx"));
  EXPECT_EQ(fake_.pulls("nginx"), 1);
  fake_.SetPullError("nginx", absl::NotFoundError("gone"));
  EXPECT_TRUE(absl::IsNotFound(env_.Await(fake_.PullImage(pull)).status()));
}

Task<void> Collect(FakeRuntime* fake, std::vector<v1::ContainerEventType>* types, bool* ended) {
  auto subscribe = fake->GetContainerEvents({});
  auto reader = co_await std::move(subscribe);
  while (true) {
    auto next = (*reader)->Next();
    auto event = co_await std::move(next);
    if (!event->has_value()) break;
    types->push_back((*event)->container_event_type());
  }
  *ended = true;
}

TEST_F(FakeRuntimeTest, EventsFollowTheStatesAndEndWithTheDaemon) {
  Scope scope(env_.executor());
  std::vector<v1::ContainerEventType> types;
  bool ended = false;
  scope.Spawn("events", Collect(&fake_, &types, &ended));
  env_.Settle();
  std::string id = Create(RunSandbox("a"), "main");
  ASSERT_TRUE(Start(id).ok());
  ASSERT_TRUE(Stop(id, 1).ok());
  env_.Settle();
  EXPECT_EQ(types, (std::vector<v1::ContainerEventType>{
                       v1::CONTAINER_CREATED_EVENT, v1::CONTAINER_STARTED_EVENT, v1::CONTAINER_CREATED_EVENT,
                       v1::CONTAINER_STARTED_EVENT, v1::CONTAINER_STOPPED_EVENT}));
  fake_.Crash();
  env_.Settle();
  EXPECT_TRUE(ended);
  env_.AwaitVoid(scope.Close());
}

Task<void> Keep(Task<absl::StatusOr<v1::StopContainerResponse>> call, std::optional<absl::Status>* out) {
  auto response = co_await std::move(call);
  *out = response.status();
}

TEST_F(FakeRuntimeTest, CrashFailsCallsInFlightAndKeepsContainers) {
  fake_.set_behavior_hook([](const auto&, const auto&) {
    ContainerBehavior behavior;
    behavior.ignores_stop_signal = true;
    return behavior;
  });
  std::string id = Create(RunSandbox("a"), "main");
  ASSERT_TRUE(Start(id).ok());
  Scope scope(env_.executor());
  std::optional<absl::Status> stopped;
  v1::StopContainerRequest stop;
  stop.set_container_id(id);
  stop.set_timeout(30);
  scope.Spawn("stop", Keep(fake_.StopContainer(stop), &stopped));
  env_.Settle();
  EXPECT_FALSE(stopped.has_value());
  fake_.Crash();
  env_.Settle();
  ASSERT_TRUE(stopped.has_value());
  EXPECT_TRUE(absl::IsUnavailable(*stopped));
  EXPECT_TRUE(absl::IsUnavailable(env_.Await(fake_.Version({})).status()));
  env_.Advance(absl::Minutes(1));
  EXPECT_EQ(fake_.FindContainer(id)->state(), v1::CONTAINER_RUNNING);
  fake_.Restart();
  EXPECT_TRUE(env_.Await(fake_.Version({})).ok());
  ASSERT_TRUE(Stop(id, 0).ok());
  EXPECT_EQ(fake_.FindContainer(id)->exit_code(), 137);
  env_.AwaitVoid(scope.Close());
}

TEST_F(FakeRuntimeTest, RebootStopsEverything) {
  std::string id = Create(RunSandbox("a"), "main");
  ASSERT_TRUE(Start(id).ok());
  fake_.Reboot();
  fake_.Restart();
  EXPECT_EQ(fake_.FindContainer(id)->state(), v1::CONTAINER_EXITED);
  EXPECT_EQ(fake_.Sandboxes()[0].state(), v1::SANDBOX_NOTREADY);
}

TEST_F(FakeRuntimeTest, InvariantsNameTwoSandboxesOfOnePod) {
  RunSandbox("a");
  EXPECT_TRUE(fake_.CheckInvariants().ok());
  RunSandbox("a", 1);
  EXPECT_FALSE(fake_.CheckInvariants().ok());
}

TEST_F(FakeRuntimeTest, ExecAnswersFromTheHandlerAndTimesOut) {
  std::string id = Create(RunSandbox("a"), "main");
  ASSERT_TRUE(Start(id).ok());
  fake_.set_exec_handler([](const v1::ContainerConfig&, const std::vector<std::string>& cmd) {
    v1::ExecSyncResponse response;
    response.set_stdout(cmd.at(0));
    response.set_exit_code(1);
    return absl::StatusOr<v1::ExecSyncResponse>(response);
  });
  v1::ExecSyncRequest request;
  request.set_container_id(id);
  request.add_cmd("check");
  request.set_timeout(2);
  auto response = env_.Await(fake_.ExecSync(request));
  ASSERT_TRUE(response.ok());
  EXPECT_EQ(response->stdout(), "check");
  EXPECT_EQ(response->exit_code(), 1);
  fake_.set_exec_latency(absl::Seconds(5));
  EXPECT_TRUE(absl::IsDeadlineExceeded(env_.Await(fake_.ExecSync(request)).status()));
}

TEST_F(FakeRuntimeTest, OldRuntimesLackTheNewCalls) {
  FakeRuntimeOptions options;
  options.supports_events = false;
  options.supports_runtime_config = false;
  options.supports_stream_lists = false;
  FakeRuntime old(env_, options);
  EXPECT_TRUE(absl::IsUnimplemented(env_.Await(old.GetContainerEvents({})).status()));
  EXPECT_TRUE(absl::IsUnimplemented(env_.Await(old.RuntimeConfig({})).status()));
  EXPECT_TRUE(absl::IsUnimplemented(env_.Await(old.StreamContainers({})).status()));
}

using FakeRuntimeDeathTest = FakeRuntimeTest;
TEST_F(FakeRuntimeDeathTest, StartingTwiceAborts) {
  std::string id = Create(RunSandbox("a"), "main");
  ASSERT_TRUE(Start(id).ok());
  EXPECT_DEATH((void)Start(id), "misuse of the runtime");
}

}  // namespace
}  // namespace keelson::cri
