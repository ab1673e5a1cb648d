#include "cri/remote/grpc_server.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/env.h"
#include "base/fd.h"
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

}  // namespace
}  // namespace keelson::cri
