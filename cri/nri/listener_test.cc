#include "cri/nri/listener.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>

#include "base/fake_env.h"
#include "base/fd.h"
#include "base/strings.h"

namespace keelson::cri::nri {
namespace {

using testing::HasSubstr;

class NriListenerTest : public testing::Test {
 protected:
  void SetUp() override {
    char pattern[] = "/tmp/keelson-nri-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern), nullptr);
    dir_ = pattern;
  }
  ~NriListenerTest() override {
    env_.AwaitVoid(scope_.Close());
    (void)RemoveTree(dir_);
  }
  static mode_t Mode(const std::string& path) {
    struct stat info;
    return ::stat(path.c_str(), &info) == 0 ? info.st_mode & 07777 : 0;
  }
  static Fd Dial(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return Fd();
    return fd;
  }
  FakeEnv env_;
  Scope scope_{env_.executor()};
  std::string dir_;
};

TEST_F(NriListenerTest, WhoConnectsIsHandedOn) {
  const std::string path = dir_ + "/made/nri.sock";
  absl::StatusOr<std::unique_ptr<Listener>> listener = Listener::Open(&env_, path);
  ASSERT_TRUE(listener.ok()) << listener.status();
  EXPECT_EQ(Mode(path), 0600u);
  EXPECT_EQ(Mode(dir_ + "/made"), 0700u);
  int connected = 0;
  scope_.Spawn("listen", (*listener)->Run([&](std::unique_ptr<net::ByteStream>) { ++connected; }));
  env_.Settle();
  Fd one = Dial(path), two = Dial(path);
  EXPECT_TRUE(one.valid() && two.valid());
  for (int i = 0; i < 100 && connected < 2; ++i) env_.Settle();
  EXPECT_EQ(connected, 2);
  EXPECT_TRUE(absl::IsAlreadyExists(Listener::Open(&env_, path).status())) << "while it is served";
  env_.AwaitVoid(scope_.Close());
  listener->reset();
  EXPECT_EQ(::access(path.c_str(), F_OK), -1) << "it takes its socket with it";
}

TEST_F(NriListenerTest, ASocketThatNobodyServesIsReplaced) {
  const std::string path = dir_ + "/nri.sock";
  {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    Fd dead(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(::bind(dead.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  }
  EXPECT_TRUE(Listener::Open(&env_, path).ok());
}

TEST_F(NriListenerTest, WhatIsNoPlaceForASocket) {
  for (const char* path : {"", "nri.sock", "/run/", "/"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(CheckSocketPath(path))) << path;
  }
  EXPECT_TRUE(CheckSocketPath("/" + std::string(106, 'x')).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(CheckSocketPath("/" + std::string(107, 'x'))));
  ASSERT_TRUE(WriteFileAtomic(dir_ + "/file", "mine", 0600, false).ok());
  absl::Status file = Listener::Open(&env_, dir_ + "/file").status();
  EXPECT_TRUE(absl::IsFailedPrecondition(file)) << file;
  EXPECT_EQ(ReadFile(dir_ + "/file").value_or(""), "mine");
  // Others could put a socket of theirs in its place.
  ASSERT_TRUE(MakeDirs(dir_ + "/open").ok());
  ASSERT_EQ(::chmod((dir_ + "/open").c_str(), 01777), 0);
  absl::Status open = Listener::Open(&env_, dir_ + "/open/nri.sock").status();
  EXPECT_TRUE(absl::IsFailedPrecondition(open)) << open;
  EXPECT_THAT(std::string(open.message()), HasSubstr("others than root can write there"));
}

}  // namespace
}  // namespace keelson::cri::nri
