#include "cri/remote/grpc_server.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/env.h"
#include "base/fd.h"
#include "base/status.h"
#include "base/strings.h"
#include "cri/remote/remote_runtime.h"
#include "cri/testing/fake_runtime.h"

namespace keelson::cri {
namespace {

Task<absl::Status> AsStatus(Task<void> task) {
  co_await std::move(task);
  co_return absl::OkStatus();
}

class GrpcServerTest : public testing::Test {
 protected:
  void SetUp() override {
    char pattern[] = "/tmp/keelson-grpc-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern), nullptr);
    dir_ = pattern;
    socket_ = dir_ + "/cri.sock";
  }
  void TearDown() override { ASSERT_TRUE(RemoveTree(dir_).ok()); }
  absl::StatusOr<std::unique_ptr<GrpcServer>> Serve(const std::string& path) {
    return GrpcServer::Serve(env_, fake_, fake_, path);
  }
  void Close(std::unique_ptr<GrpcServer> server) {
    ASSERT_TRUE(env_.RunUntilDone(AsStatus(server->Close())).ok());
  }
  static unsigned Mode(const std::string& path) {
    struct stat info;
    return ::lstat(path.c_str(), &info) == 0 ? info.st_mode & 07777 : 0;
  }
  static FakeRuntimeOptions Options() {
    FakeRuntimeOptions options;
    options.abort_on_misuse = false;
    return options;
  }
  std::string dir_, socket_;
  RealEnv env_{Paths()};
  FakeRuntime fake_{env_, Options()};
};

TEST_F(GrpcServerTest, TheSocketIsForOwnerAndGroupWhateverTheMask) {
  mode_t before = ::umask(0);
  for (mode_t mask : {mode_t{0}, mode_t{0777}, mode_t{022}}) {
    ::umask(mask);
    auto server = Serve(socket_);
    EXPECT_EQ(::umask(mask), mask) << "the mask is put back";
    ASSERT_TRUE(server.ok()) << server.status();
    EXPECT_EQ(Mode(socket_), 0660u);
    Close(*std::move(server));
  }
  ::umask(before);
}

TEST_F(GrpcServerTest, ASocketThatIsServedIsNotTaken) {
  auto first = Serve(socket_);
  ASSERT_TRUE(first.ok()) << first.status();
  auto second = Serve(socket_);
  EXPECT_TRUE(absl::IsAlreadyExists(second.status())) << second.status();
  EXPECT_NE(second.status().message().find(socket_), absl::string_view::npos);
  EXPECT_EQ(Mode(socket_), 0660u) << "it is still there";
  Close(*std::move(first));
}

TEST_F(GrpcServerTest, ADeadOnesSocketIsReplaced) {
  Fd dead(::socket(AF_UNIX, SOCK_STREAM, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  socket_.copy(address.sun_path, sizeof address.sun_path - 1);
  ASSERT_EQ(::bind(dead.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  dead.reset();
  auto server = Serve(socket_);
  ASSERT_TRUE(server.ok()) << server.status();
  Close(*std::move(server));
}

TEST_F(GrpcServerTest, WhatIsNoSocketStays) {
  ASSERT_TRUE(WriteFileAtomic(socket_, "somebody's file", 0600, false).ok());
  auto server = Serve(socket_);
  EXPECT_EQ(server.status().code(), absl::StatusCode::kFailedPrecondition) << server.status();
  EXPECT_EQ(ReadFile(socket_).value(), "somebody's file");
  // Nor is the target of a symlink touched.
  std::string link = dir_ + "/link.sock";
  ASSERT_EQ(::symlink(socket_.c_str(), link.c_str()), 0);
  EXPECT_EQ(Serve(link).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(ReadFile(socket_).value(), "somebody's file");
}

TEST_F(GrpcServerTest, PathsEndWhereTheKernelsDo) {
  std::string longest = dir_ + "/" + std::string(kMaxSocketPathBytes - dir_.size() - 1, 's');
  ASSERT_EQ(longest.size(), kMaxSocketPathBytes);
  auto server = Serve(longest);
  ASSERT_TRUE(server.ok()) << server.status();
  EXPECT_EQ(Mode(longest), 0660u);
  Close(*std::move(server));
  auto refused = Serve(longest + "s");
  EXPECT_TRUE(absl::IsInvalidArgument(refused.status())) << refused.status();
  EXPECT_NE(refused.status().message().find(StrCat(kMaxSocketPathBytes)), absl::string_view::npos);
}

TEST_F(GrpcServerTest, AFolderThatIsNotThereIsAnError) { EXPECT_FALSE(Serve(dir_ + "/none/cri.sock").ok()); }

// How calls that never answer end.
struct CallEnds {
  int begun = 0, cancelled = 0;
};
struct EndWatch {
  explicit EndWatch(CallEnds* e) : ends(e) { ++ends->begun; }
  EndWatch(const EndWatch&) = delete;
  ~EndWatch() { ++ends->cancelled; }
  CallEnds* ends;
};
template <class Response>
Task<absl::StatusOr<Response>> NeverAnswer(CallEnds* ends) {
  EndWatch watch(ends);
  AsyncEvent never;
  Task<void> wait = never.Wait();
  co_await std::move(wait);
  co_return absl::InternalError("it has answered");
}
// Answers as soon as `go` is set.
template <class Response>
Task<absl::StatusOr<Response>> AnswerLater(CallEnds* ends, AsyncEvent* go, bool* finished) {
  ++ends->begun;
  Task<void> wait = go->Wait();
  co_await std::move(wait);
  *finished = true;
  co_return Response();
}

class PatientRuntime : public FakeRuntime {
 public:
  using FakeRuntime::FakeRuntime;
  Task<absl::StatusOr<v1::ExecSyncResponse>> ExecSync(v1::ExecSyncRequest) override {
    return NeverAnswer<v1::ExecSyncResponse>(&exec);
  }
  Task<absl::StatusOr<v1::PullImageResponse>> PullImage(v1::PullImageRequest) override {
    return NeverAnswer<v1::PullImageResponse>(&pull);
  }
  Task<absl::StatusOr<v1::StopContainerResponse>> StopContainer(v1::StopContainerRequest) override {
    return AnswerLater<v1::StopContainerResponse>(&stop, &go, &stopped);
  }
  CallEnds exec, pull, stop;
  AsyncEvent go;
  bool stopped = false;
};

// A server whose calls take as long as they are let, and a client.
class PatientServerTest : public GrpcServerTest {
 protected:
  void Connect(absl::Duration pull_deadline = RemoteOptions().pull_deadline) {
    auto server = GrpcServer::Serve(env_, patient_, patient_, socket_);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    RemoteOptions options;
    options.endpoint = socket_;
    options.pull_deadline = pull_deadline;
    auto remote = RemoteRuntime::Create(env_, options);
    ASSERT_TRUE(remote.ok()) << remote.status();
    remote_ = *std::move(remote);
  }
  // A test that closed the server itself has reset it.
  void TearDown() override {
    remote_.reset();
    if (server_ != nullptr) Close(std::move(server_));
    GrpcServerTest::TearDown();
  }

  PatientRuntime patient_{env_, Options()};
  std::unique_ptr<GrpcServer> server_;
  std::unique_ptr<RemoteRuntime> remote_;
};

template <class Response>
Task<void> Forget(Task<absl::StatusOr<Response>> call) {
  [[maybe_unused]] absl::StatusOr<Response> answer = co_await std::move(call);
}

Task<absl::Status> Until(RealEnv* env, const int* counter, int want) {
  absl::Duration limit = env->clock().Monotonic() + absl::Seconds(30);
  while (*counter < want) {
    if (env->clock().Monotonic() > limit) {
      co_return absl::DeadlineExceededError(StrCat(*counter, " instead of ", want));
    }
    Task<void> nap = env->clock().Sleep(absl::Milliseconds(1));
    co_await std::move(nap);
  }
  co_return absl::OkStatus();
}

Task<absl::Status> ClientsThatLeave(RealEnv* env, PatientRuntime* fake, RemoteRuntime* remote) {
  Scope clients(env->executor());
  clients.Spawn("exec", Forget(remote->runtime().ExecSync(v1::ExecSyncRequest())));
  clients.Spawn("pull", Forget(remote->images().PullImage(v1::PullImageRequest())));
  clients.Spawn("stop", Forget(remote->runtime().StopContainer(v1::StopContainerRequest())));
  CO_RETURN_IF_ERROR(Until(env, &fake->exec.begun, 1));
  CO_RETURN_IF_ERROR(Until(env, &fake->pull.begun, 1));
  CO_RETURN_IF_ERROR(Until(env, &fake->stop.begun, 1));
  Task<void> leave = clients.Close();
  co_await std::move(leave);
  CO_RETURN_IF_ERROR(Until(env, &fake->exec.cancelled, 1));
  CO_RETURN_IF_ERROR(Until(env, &fake->pull.cancelled, 1));
  // What changes a container is finished.
  fake->go.Set();
  absl::Duration limit = env->clock().Monotonic() + absl::Seconds(30);
  while (!fake->stopped && env->clock().Monotonic() < limit) {
    Task<void> nap = env->clock().Sleep(absl::Milliseconds(1));
    co_await std::move(nap);
  }
  if (!fake->stopped) co_return absl::InternalError("StopContainer ended with its client");
  co_return absl::OkStatus();
}

TEST_F(PatientServerTest, AClientThatLeavesEndsItsExecAndItsPullOnly) {
  Connect();
  absl::Status status = env_.RunUntilDone(ClientsThatLeave(&env_, &patient_, remote_.get()));
  EXPECT_TRUE(status.ok()) << status;
}

Task<absl::Status> DeadlinePasses(RealEnv* env, PatientRuntime* fake, RemoteRuntime* remote) {
  Task<absl::StatusOr<v1::PullImageResponse>> pull = remote->images().PullImage(v1::PullImageRequest());
  absl::StatusOr<v1::PullImageResponse> answer = co_await std::move(pull);
  if (!absl::IsDeadlineExceeded(answer.status())) co_return absl::InternalError(answer.status().ToString());
  CO_RETURN_IF_ERROR(Until(env, &fake->pull.cancelled, fake->pull.begun));
  co_return absl::OkStatus();
}

TEST_F(PatientServerTest, ADeadlineEndsTheCallOnThisSideToo) {
  Connect(/*pull_deadline=*/absl::Milliseconds(200));
  absl::Status status = env_.RunUntilDone(DeadlinePasses(&env_, &patient_, remote_.get()));
  EXPECT_TRUE(status.ok()) << status;
}

Task<absl::Status> CloseUnderCalls(RealEnv* env, PatientRuntime* fake, RemoteRuntime* remote,
                                   GrpcServer* server) {
  Scope clients(env->executor());
  for (int i = 0; i < 50; ++i) {
    clients.Spawn("exec", Forget(remote->runtime().ExecSync(v1::ExecSyncRequest())));
    clients.Spawn("version", Forget(remote->runtime().Version(v1::VersionRequest())));
  }
  CO_RETURN_IF_ERROR(Until(env, &fake->exec.begun, 50));
  Task<void> close = server->Close();
  co_await std::move(close);
  Task<void> leave = clients.Close();
  co_await std::move(leave);
  if (fake->exec.cancelled != 50) co_return absl::InternalError(StrCat(fake->exec.cancelled));
  co_return absl::OkStatus();
}

TEST_F(PatientServerTest, ClosingEndsAllCalls) {
  Connect();
  absl::Status status = env_.RunUntilDone(CloseUnderCalls(&env_, &patient_, remote_.get(), server_.get()));
  EXPECT_TRUE(status.ok()) << status;
  remote_.reset();
  server_.reset();
}

}  // namespace
}  // namespace keelson::cri
