#include "cri/remote/remote_runtime.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>

#include "base/env.h"
#include "base/status.h"
#include "base/strings.h"
#include "cri/remote/grpc_server.h"
#include "cri/testing/conformance.h"
#include "cri/testing/fake_runtime.h"

namespace keelson::cri {
namespace {

Task<absl::Status> Ended(Task<void> task) {
  co_await std::move(task);
  co_return absl::OkStatus();
}

// The fake behind real gRPC on a unix socket, client and server on one real loop.
class RemoteRuntimeTest : public testing::Test {
 protected:
  void SetUp() override {
    char pattern[] = "/tmp/keelson-cri-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern), nullptr);
    directory_ = pattern;
    socket_ = directory_ + "/cri.sock";
    Serve();
    RemoteOptions options;
    options.endpoint = "unix://" + socket_;
    auto remote = RemoteRuntime::Create(env_, options);
    ASSERT_TRUE(remote.ok()) << remote.status();
    remote_ = *std::move(remote);
  }
  void TearDown() override {
    remote_.reset();
    StopServing();
    std::filesystem::remove_all(directory_);
  }
  void Serve() {
    auto front = GrpcServer::Serve(env_, fake_, fake_, socket_);
    ASSERT_TRUE(front.ok()) << front.status();
    front_ = *std::move(front);
  }
  void StopServing() {
    if (front_ == nullptr) return;
    ASSERT_TRUE(env_.RunUntilDone(Ended(front_->Close())).ok());
    front_.reset();
  }
  absl::Status Run(Task<absl::Status> task) { return env_.RunUntilDone(std::move(task)); }

  static FakeRuntimeOptions Options() {
    FakeRuntimeOptions options;
    options.abort_on_misuse = false;
    return options;
  }

  std::string directory_, socket_;
  RealEnv env_{Paths()};
  FakeRuntime fake_{env_, Options()};
  std::unique_ptr<GrpcServer> front_;
  std::unique_ptr<RemoteRuntime> remote_;
};

Task<absl::Status> VersionIs(RuntimeService* runtime, std::string name) {
  auto call = runtime->Version(v1::VersionRequest());
  auto response = co_await std::move(call);
  if (!response.ok()) co_return response.status();
  if (response->runtime_name() != name) co_return absl::InternalError(response->runtime_name());
  co_return absl::OkStatus();
}

TEST_F(RemoteRuntimeTest, TheFakeConformsThroughGrpcToo) {
  ConformanceTarget target;
  target.env = &env_;
  target.runtime = &remote_->runtime();
  target.images = &remote_->images();
  target.image = "registry.example/pause:1";
  target.command = {"/pause"};
  target.exec_true = {"true"};
  for (const auto& test : ConformanceCases()) {
    absl::Status status = Run(test.run(target));
    EXPECT_TRUE(status.ok()) << test.name << ": " << status;
  }
  EXPECT_TRUE(fake_.Sandboxes().empty());
}

Task<absl::Status> RestartScenario(RealEnv* env, RuntimeService* runtime) {
  // Reconnecting takes one back-off; bounded by the clock, not by a guess.
  absl::Duration limit = env->clock().Monotonic() + absl::Seconds(20);
  while (true) {
    Task<absl::Status> call = VersionIs(runtime, "fake");
    absl::Status status = co_await std::move(call);
    if (status.ok() || !absl::IsUnavailable(status)) co_return status;
    if (env->clock().Monotonic() > limit) co_return status;
    Task<void> pause = env->clock().Sleep(absl::Milliseconds(20));
    co_await std::move(pause);
  }
}

TEST_F(RemoteRuntimeTest, ReconnectsAfterTheRuntimeRestarts) {
  ASSERT_TRUE(Run(VersionIs(&remote_->runtime(), "fake")).ok());
  StopServing();
  absl::Status down = Run(VersionIs(&remote_->runtime(), "fake"));
  EXPECT_TRUE(absl::IsUnavailable(down)) << down;
  EXPECT_NE(std::string(down.message()).find("container runtime at unix://"), std::string::npos) << down;
  Serve();
  absl::Status up = Run(RestartScenario(&env_, &remote_->runtime()));
  EXPECT_TRUE(up.ok()) << up;
}

TEST_F(RemoteRuntimeTest, CodesAndMessagesComeAcross) {
  fake_.FailCall("Version", 1, absl::ResourceExhaustedError("too many"));
  absl::Status status = Run(VersionIs(&remote_->runtime(), "fake"));
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(status.message(), "cri Version: too many");
}

TEST_F(RemoteRuntimeTest, DeadlinesEndACall) {
  RemoteOptions options;
  options.endpoint = socket_;
  options.call_deadline = absl::Milliseconds(50);
  auto hasty = RemoteRuntime::Create(env_, options);
  ASSERT_TRUE(hasty.ok());
  fake_.SlowCalls("Version", absl::Hours(1));
  absl::Status status = Run(VersionIs(&(*hasty)->runtime(), "fake"));
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
}

Task<void> CallForever(RuntimeService* runtime, bool* came_back) {
  Task<absl::Status> call = VersionIs(runtime, "fake");
  [[maybe_unused]] absl::Status status = co_await std::move(call);
  *came_back = true;
}

Task<absl::Status> CancelScenario(RealEnv* env, RuntimeService* runtime, FakeRuntime* fake) {
  Scope scope(env->executor());
  bool came_back = false;
  fake->SlowCalls("Version", absl::Hours(1));
  scope.Spawn("call", CallForever(runtime, &came_back));
  while (fake->calls("Version") == 0) {
    Task<void> pause = env->clock().Sleep(absl::Milliseconds(1));
    co_await std::move(pause);
  }
  Task<void> close = scope.Close();
  co_await std::move(close);
  if (came_back) co_return absl::InternalError("the cancelled call answered");
  // The connection is as good as before.
  Task<absl::Status> again = VersionIs(runtime, "fake");
  absl::Status status = co_await std::move(again);
  co_return status;
}

TEST_F(RemoteRuntimeTest, CancellingTheTaskCancelsTheCall) {
  absl::Status status = Run(CancelScenario(&env_, &remote_->runtime(), &fake_));
  EXPECT_TRUE(status.ok()) << status;
}

Task<void> ReadEvents(RuntimeService* runtime, Channel<v1::ContainerEventResponse>* events,
                      absl::Status* end) {
  auto subscribe = runtime->GetContainerEvents(v1::GetEventsRequest());
  auto reader = co_await std::move(subscribe);
  while (true) {
    auto next = (*reader)->Next();
    auto event = co_await std::move(next);
    if (!event.ok() || !event->has_value()) {
      *end = event.status();
      events->Close();
      co_return;
    }
    events->TryPush(**std::move(event));
  }
}

Task<absl::Status> EventScenario(RealEnv* env, RuntimeService* runtime, FakeRuntime* fake,
                                 std::string* seen) {
  Scope scope(env->executor());
  Channel<v1::ContainerEventResponse> events(100);
  absl::Status end = absl::UnknownError("never ended");
  scope.Spawn("events", ReadEvents(runtime, &events, &end));
  while (fake->calls("GetContainerEvents") == 0) {
    Task<void> pause = env->clock().Sleep(absl::Milliseconds(1));
    co_await std::move(pause);
  }
  v1::RunPodSandboxRequest request;
  request.mutable_config()->mutable_metadata()->set_name("a");
  request.mutable_config()->mutable_metadata()->set_uid("a");
  request.mutable_config()->mutable_metadata()->set_namespace_("default");
  auto run = runtime->RunPodSandbox(request);
  auto sandbox = co_await std::move(run);
  for (int i = 0; i < 2; ++i) {
    Task<std::optional<v1::ContainerEventResponse>> pop = events.Pop();
    std::optional<v1::ContainerEventResponse> event = co_await std::move(pop);
    if (!event.has_value()) co_return absl::InternalError("the stream ended early");
    StrAppend(seen, v1::ContainerEventType_Name(event->container_event_type()), " ");
  }
  fake->Crash();  // ends the stream well
  Task<std::optional<v1::ContainerEventResponse>> pop = events.Pop();
  std::optional<v1::ContainerEventResponse> event = co_await std::move(pop);
  if (event.has_value()) co_return absl::InternalError("an event after the end");
  fake->Restart();
  Task<void> close = scope.Close();
  co_await std::move(close);
  co_return end;
}

TEST_F(RemoteRuntimeTest, EventsStreamUntilTheRuntimeEndsThem) {
  std::string seen;
  absl::Status status = Run(EventScenario(&env_, &remote_->runtime(), &fake_, &seen));
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(seen, "CONTAINER_CREATED_EVENT CONTAINER_STARTED_EVENT ");
}

Task<absl::Status> CancelEvents(RealEnv* env, RuntimeService* runtime, FakeRuntime* fake) {
  Scope scope(env->executor());
  Channel<v1::ContainerEventResponse> events(100);
  absl::Status end;
  scope.Spawn("events", ReadEvents(runtime, &events, &end));
  while (fake->calls("GetContainerEvents") == 0) {
    Task<void> pause = env->clock().Sleep(absl::Milliseconds(1));
    co_await std::move(pause);
  }
  Task<void> close = scope.Close();
  co_await std::move(close);
  co_return absl::OkStatus();
}

TEST_F(RemoteRuntimeTest, DroppingTheEventReaderEndsTheCall) {
  EXPECT_TRUE(Run(CancelEvents(&env_, &remote_->runtime(), &fake_)).ok());
}

Task<absl::Status> StreamedLists(RuntimeService* runtime, ImageService* images, int want_images) {
  auto containers_call = runtime->StreamContainers(v1::StreamContainersRequest());
  auto containers = co_await std::move(containers_call);
  if (!containers.ok()) co_return containers.status();
  auto images_call = images->StreamImages(v1::StreamImagesRequest());
  auto listed = co_await std::move(images_call);
  if (!listed.ok()) co_return listed.status();
  if (listed->images_size() != want_images)
    co_return absl::InternalError(StrCat(listed->images_size(), " images"));
  co_return absl::OkStatus();
}

TEST_F(RemoteRuntimeTest, StreamedListsAreCollected) {
  fake_.AddLocalImage("a");
  fake_.AddLocalImage("b");
  absl::Status status = Run(StreamedLists(&remote_->runtime(), &remote_->images(), 2));
  EXPECT_TRUE(status.ok()) << status;
  fake_.FailCall("StreamContainers", 1, absl::UnimplementedError("unknown method"));
  EXPECT_TRUE(absl::IsUnimplemented(Run(StreamedLists(&remote_->runtime(), &remote_->images(), 2))));
}

TEST_F(RemoteRuntimeTest, AMessageAboveTheBoundIsRefused) {
  fake_.AddLocalImage("app");
  fake_.set_exec_handler([](const auto&, const auto&) {
    v1::ExecSyncResponse response;
    response.set_stdout(std::string(kMaxMessageBytes + 1, 'x'));
    return absl::StatusOr<v1::ExecSyncResponse>(response);
  });
  struct Scenario {
    static Task<absl::Status> Go(RuntimeService* runtime) {
      v1::RunPodSandboxRequest run;
      run.mutable_config()->mutable_metadata()->set_name("a");
      run.mutable_config()->mutable_metadata()->set_uid("a");
      run.mutable_config()->mutable_metadata()->set_namespace_("default");
      CO_ASSIGN_OR_RETURN(v1::RunPodSandboxResponse sandbox, runtime->RunPodSandbox(run));
      v1::CreateContainerRequest create;
      create.set_pod_sandbox_id(sandbox.pod_sandbox_id());
      create.mutable_config()->mutable_metadata()->set_name("main");
      create.mutable_config()->mutable_image()->set_image("app");
      CO_ASSIGN_OR_RETURN(v1::CreateContainerResponse container, runtime->CreateContainer(create));
      v1::StartContainerRequest start;
      start.set_container_id(container.container_id());
      CO_ASSIGN_OR_RETURN([[maybe_unused]] v1::StartContainerResponse started,
                          runtime->StartContainer(start));
      v1::ExecSyncRequest exec;
      exec.set_container_id(container.container_id());
      auto call = runtime->ExecSync(exec);
      auto response = co_await std::move(call);
      co_return response.status();
    }
  };
  absl::Status status = Run(Scenario::Go(&remote_->runtime()));
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
}

TEST(SocketPathOf, TakesUnixEndpointsOnly) {
  EXPECT_EQ(*SocketPathOf("unix:///run/containerd/containerd.sock"), "/run/containerd/containerd.sock");
  EXPECT_EQ(*SocketPathOf("unix:/run/x.sock"), "/run/x.sock");
  EXPECT_EQ(*SocketPathOf("/run/x.sock"), "/run/x.sock");
  for (const char* bad : {"", "tcp://127.0.0.1:1", "unix://relative", "npipe://x"}) {
    absl::Status status = SocketPathOf(bad).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << bad;
    EXPECT_NE(std::string(status.message()).find(bad), std::string::npos);
  }
  EXPECT_FALSE(SocketPathOf("unix:///" + std::string(200, 'a')).ok());
}

}  // namespace
}  // namespace keelson::cri
