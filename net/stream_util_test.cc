#include "net/stream_util.h"

#include <gtest/gtest.h>

#include <string>

#include "base/fake_env.h"

namespace keelson::net {
namespace {

std::string ReadSome(FakeEnv& env, ByteStream& stream) {
  char buffer[100];
  auto n = env.Await(stream.Read(buffer, sizeof buffer), absl::Hours(10));
  if (!n.ok()) return "!" + std::string(n.status().message());
  return std::string(buffer, *n);
}

class SpliceTest : public ::testing::Test {
 protected:
  SpliceTest() {
    auto [a, b] = MemoryStreamPair();
    auto [c, d] = MemoryStreamPair();
    left_ = std::move(a);
    right_ = std::move(d);
    scope_.Spawn("splice", Run(std::move(b), std::move(c)));
    env_.Settle();
  }
  Task<void> Run(std::unique_ptr<ByteStream> b, std::unique_ptr<ByteStream> c) {
    Task<void> splice = Splice(&inner_, &env_.clock(), std::move(b), std::move(c), absl::Minutes(10));
    co_await std::move(splice);
    ended_ = true;
  }
  ~SpliceTest() override {
    env_.AwaitVoid(scope_.Close());
    env_.AwaitVoid(inner_.Close());
  }
  FakeEnv env_;
  Scope inner_{env_.executor()}, scope_{env_.executor()};
  std::unique_ptr<ByteStream> left_, right_;
  bool ended_ = false;
};

TEST_F(SpliceTest, BothWaysAndHalfClose) {
  EXPECT_TRUE(env_.Await(left_->Write("ping")).ok());
  EXPECT_EQ(ReadSome(env_, *right_), "ping");
  EXPECT_TRUE(env_.Await(left_->CloseWrite()).ok());
  EXPECT_EQ(ReadSome(env_, *right_), "");
  EXPECT_TRUE(env_.Await(right_->Write("pong")).ok());
  EXPECT_EQ(ReadSome(env_, *left_), "pong");
  EXPECT_FALSE(ended_);
  EXPECT_TRUE(env_.Await(right_->CloseWrite()).ok());
  EXPECT_EQ(ReadSome(env_, *left_), "");
  env_.Settle();
  EXPECT_TRUE(ended_);
}

TEST_F(SpliceTest, OneEndIsGone) {
  right_->Close();
  EXPECT_EQ(ReadSome(env_, *left_), "");
  EXPECT_TRUE(env_.Await(left_->Write("to nobody")).ok());
  env_.Settle();
  EXPECT_TRUE(ended_);
  EXPECT_EQ(inner_.live(), 0u);
}

TEST_F(SpliceTest, IdleIsClosed) {
  env_.Advance(absl::Minutes(9));
  EXPECT_TRUE(env_.Await(left_->Write("x")).ok());
  env_.Advance(absl::Minutes(9));
  EXPECT_FALSE(ended_);
  env_.Advance(absl::Minutes(2));
  EXPECT_TRUE(ended_);
}

TEST_F(SpliceTest, TheOtherHalfMayNotLinger) {
  EXPECT_TRUE(env_.Await(left_->CloseWrite()).ok());
  env_.Advance(kSpliceLinger - absl::Seconds(1));
  EXPECT_FALSE(ended_);
  env_.Advance(absl::Seconds(2));
  EXPECT_TRUE(ended_);
}

TEST_F(SpliceTest, CancelledWithItsTask) {
  env_.AwaitVoid(scope_.Close());
  env_.Settle();
  EXPECT_EQ(inner_.live(), 0u);
}

TEST(IdleTimeout, ClosesAndSaysWhy) {
  FakeEnv env;
  auto [a, b] = MemoryStreamPair();
  std::shared_ptr<ByteStream> stream = WithIdleTimeout(env.clock(), std::move(a), absl::Hours(4));
  env.Advance(absl::Hours(3));
  EXPECT_TRUE(env.Await(stream->Write("x")).ok());
  env.Advance(absl::Hours(3));
  EXPECT_TRUE(env.Await(stream->Write("y")).ok());
  EXPECT_EQ(ReadSome(env, *stream), "!connection was idle for 4h");  // waits
}

}  // namespace
}  // namespace keelson::net
