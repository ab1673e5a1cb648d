#include "net/websocket_connection.h"

#include <gtest/gtest.h>

#include "base/fake_env.h"
#include "net/stream_util.h"

namespace keelson::net {
namespace {

class WebSocketPair : public ::testing::Test {
 protected:
  WebSocketPair() {
    auto [a, b] = MemoryStreamPair();
    raw_ = std::move(a);
    WebSocketOptions options;
    options.max_message_bytes = 1000;
    server_ = WebSocketConnection::Start(&scope_, std::move(b), options);
  }
  ~WebSocketPair() override { env_.AwaitVoid(scope_.Close()); }
  void Send(WebSocketOpcode opcode, std::string_view payload, bool final = true) {
    ASSERT_TRUE(env_.Await(raw_->Write(EncodeWebSocketFrame(opcode, payload, final, 0x01020304))).ok());
  }
  std::string Read() {
    auto message = env_.Await(server_->Read());
    if (!message.ok()) return "!" + std::string(message.status().message());
    if (!message->has_value()) return "closed";
    return ((*message)->text ? "text:" : "binary:") + (*message)->data;
  }
  std::string Raw() {
    env_.Settle();
    char buffer[1000];
    auto n = env_.Await(raw_->Read(buffer, sizeof buffer));
    return std::string(buffer, n.value_or(0));
  }
  FakeEnv env_;
  Scope scope_{env_.executor()};
  std::unique_ptr<ByteStream> raw_;
  std::shared_ptr<WebSocketConnection> server_;
};

TEST_F(WebSocketPair, MessagesAndPings) {
  Send(WebSocketOpcode::kBinary, "one");
  Send(WebSocketOpcode::kText, "tw", false);
  Send(WebSocketOpcode::kPing, "?");
  Send(WebSocketOpcode::kContinuation, "o");
  EXPECT_EQ(Read(), "binary:one");
  EXPECT_EQ(Read(), "text:two");
  EXPECT_EQ(Raw(), "\x8a\x01?");
  EXPECT_TRUE(env_.Await(server_->Write(WebSocketOpcode::kBinary, "out")).ok());
  EXPECT_EQ(Raw(), "\x82\x03out");
}

TEST_F(WebSocketPair, CloseIsAnswered) {
  Send(WebSocketOpcode::kClose, WebSocketClosePayload(1000, ""));
  EXPECT_EQ(Read(), "closed");
  EXPECT_EQ(Raw(), std::string("\x88\x02\x03\xe8", 4));
  EXPECT_EQ(Raw(), "");
  EXPECT_FALSE(env_.Await(server_->Write(WebSocketOpcode::kBinary, "late")).ok());
}

TEST_F(WebSocketPair, TooLargeInFragments) {
  for (int i = 0; i < 3; ++i)
    Send(i == 0 ? WebSocketOpcode::kBinary : WebSocketOpcode::kContinuation, std::string(400, 'x'), i == 2);
  EXPECT_EQ(Read(), "!websocket: message of more than 1000 bytes");
  EXPECT_EQ(Raw().substr(2, 2), "\x03\xf1");
}

TEST_F(WebSocketPair, UnmaskedIsRefused) {
  ASSERT_TRUE(env_.Await(raw_->Write(EncodeWebSocketFrame(WebSocketOpcode::kBinary, "x"))).ok());
  EXPECT_EQ(Read(), "!websocket: wrong masking");
}

TEST_F(WebSocketPair, PeerGone) {
  raw_.reset();
  EXPECT_EQ(Read(), "!connection closed by the peer");
}

TEST(WebSocketTunnel, IsAByteStream) {
  FakeEnv env;
  Scope scope(env.executor());
  auto [a, b] = MemoryStreamPair();
  WebSocketOptions client;
  client.mask_random = &env.random();
  auto left = WebSocketByteStream(WebSocketConnection::Start(&scope, std::move(a), client));
  auto right = WebSocketByteStream(WebSocketConnection::Start(&scope, std::move(b)));
  EXPECT_TRUE(env.Await(left->Write("hello")).ok());
  char buffer[3];
  std::string got;
  for (int i = 0; i < 2; ++i) got.append(buffer, *env.Await(right->Read(buffer, sizeof buffer)));
  EXPECT_EQ(got, "hello");
  EXPECT_TRUE(env.Await(right->Write("back")).ok());
  EXPECT_EQ(*env.Await(left->Read(buffer, sizeof buffer)), 3u);
  EXPECT_EQ(*env.Await(left->Read(buffer, sizeof buffer)), 1u);
  EXPECT_TRUE(env.Await(left->CloseWrite()).ok());
  EXPECT_EQ(*env.Await(right->Read(buffer, sizeof buffer)), 0u);
  left.reset();
  right.reset();
  env.AwaitVoid(scope.Close());
}

}  // namespace
}  // namespace keelson::net
