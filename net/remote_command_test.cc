#include "net/remote_command.h"

#include <gtest/gtest.h>

namespace keelson::net {
namespace {

constexpr char kKey[] = "dGhlIHNhbXBsZSBub25jZQ==";

HttpRequest Request(std::string method, HttpHeaders headers) {
  HttpRequest request;
  request.method = std::move(method);
  request.headers = std::move(headers);
  return request;
}

TEST(RemoteCommand, CheckUpgrade) {
  struct Case {
    const char* what;
    std::string method;
    HttpHeaders headers;
    absl::StatusCode code;
  } cases[] = {
      {"plain GET", "GET", {{"Host", "a"}}, absl::StatusCode::kInvalidArgument},
      {"plain POST", "POST", {{"Host", "a"}}, absl::StatusCode::kInvalidArgument},
      {"no Connection", "POST", {{"Upgrade", "SPDY/3.1"}}, absl::StatusCode::kInvalidArgument},
      {"other protocol",
       "POST",
       {{"Connection", "Upgrade"}, {"Upgrade", "h2c"}},
       absl::StatusCode::kInvalidArgument},
      {"SPDY", "POST", {{"Connection", "Upgrade"}, {"Upgrade", "SPDY/3.1"}}, absl::StatusCode::kOk},
      {"SPDY by PUT",
       "PUT",
       {{"Connection", "Upgrade"}, {"Upgrade", "SPDY/3.1"}},
       absl::StatusCode::kInvalidArgument},
      {"websocket",
       "GET",
       {{"Connection", "keep-alive, Upgrade"},
        {"Upgrade", "WebSocket"},
        {"Sec-WebSocket-Version", "13"},
        {"Sec-WebSocket-Key", kKey}},
       absl::StatusCode::kOk},
      {"websocket by POST",
       "POST",
       {{"Connection", "Upgrade"},
        {"Upgrade", "websocket"},
        {"Sec-WebSocket-Version", "13"},
        {"Sec-WebSocket-Key", kKey}},
       absl::StatusCode::kInvalidArgument},
      {"no key",
       "GET",
       {{"Connection", "Upgrade"}, {"Upgrade", "websocket"}, {"Sec-WebSocket-Version", "13"}},
       absl::StatusCode::kInvalidArgument},
      {"old version",
       "GET",
       {{"Connection", "Upgrade"},
        {"Upgrade", "websocket"},
        {"Sec-WebSocket-Version", "8"},
        {"Sec-WebSocket-Key", kKey}},
       absl::StatusCode::kInvalidArgument},
      {"own page",
       "GET",
       {{"Connection", "Upgrade"},
        {"Upgrade", "websocket"},
        {"Sec-WebSocket-Version", "13"},
        {"Sec-WebSocket-Key", kKey},
        {"Host", "node:10250"},
        {"Origin", "https://node:10250"}},
       absl::StatusCode::kOk},
      {"another page",
       "GET",
       {{"Connection", "Upgrade"},
        {"Upgrade", "websocket"},
        {"Sec-WebSocket-Version", "13"},
        {"Sec-WebSocket-Key", kKey},
        {"Host", "127.0.0.1:10250"},
        {"Origin", "https://evil.example"}},
       absl::StatusCode::kPermissionDenied},
      {"another page, SPDY",
       "POST",
       {{"Connection", "Upgrade"}, {"Upgrade", "SPDY/3.1"}, {"Host", "a"}, {"Origin", "null"}},
       absl::StatusCode::kPermissionDenied},
  };
  for (const Case& c : cases) {
    absl::Status status = CheckUpgrade(Request(c.method, c.headers));
    EXPECT_EQ(status.code(), c.code) << c.what << ": " << status;
  }
}

TEST(RemoteCommand, SameOrigin) {
  EXPECT_TRUE(SameOrigin("https://Node", "node:443"));
  EXPECT_TRUE(SameOrigin("https://node:443", "node"));
  EXPECT_TRUE(SameOrigin("http://[::1]:80", "[::1]"));
  EXPECT_TRUE(SameOrigin("http://127.0.0.1:8080", "127.0.0.1:8080"));
  EXPECT_FALSE(SameOrigin("http://127.0.0.1:8081", "127.0.0.1:8080"));
  EXPECT_FALSE(SameOrigin("https://node.evil", "node"));
  EXPECT_FALSE(SameOrigin("null", "null"));
  EXPECT_FALSE(SameOrigin("", ""));
  EXPECT_FALSE(SameOrigin("https://", ""));
  EXPECT_FALSE(SameOrigin("file://node", "node"));
}

TEST(RemoteCommand, Protocols) {
  HttpHeaders spdy{{kStreamProtocolHeader, "v4.channel.k8s.io"},
                   {kStreamProtocolHeader, "v3.channel.k8s.io, channel.k8s.io"}};
  auto offered = OfferedProtocols(spdy, UpgradeKind::kSpdy);
  EXPECT_EQ(offered, (std::vector<std::string>{"v4.channel.k8s.io", "v3.channel.k8s.io", "channel.k8s.io"}));
  EXPECT_EQ(*ChooseProtocol(offered, {kChannelV3, kChannelV1}, ""), kChannelV3);
  EXPECT_EQ(*ChooseProtocol({}, {kChannelV3}, kChannelV1), kChannelV1);
  auto none = ChooseProtocol({"v9.channel.k8s.io"}, {kChannelV4}, "");
  EXPECT_TRUE(absl::IsPermissionDenied(none.status())) << none.status();
  HttpHeaders ws{
      {"Sec-WebSocket-Protocol", "base64url.bearer.authorization.k8s.io.c2VjcmV0, v5.channel.k8s.io"},
      {"Sec-WebSocket-Key", kKey},
      {"Authorization", "Bearer x"},
      {"Origin", "https://a"},
      {"Cookie", "a"}};
  EXPECT_EQ(OfferedProtocols(ws, UpgradeKind::kWebSocket), std::vector<std::string>{"v5.channel.k8s.io"});
  HttpHeaders forward = UpgradeForward(ws, UpgradeKind::kWebSocket);
  EXPECT_EQ(forward.Get("Sec-WebSocket-Protocol"), "v5.channel.k8s.io");
  EXPECT_EQ(forward.Get("Sec-WebSocket-Key"), kKey);
  for (const char* name : {"Authorization", "Origin", "Cookie"}) EXPECT_FALSE(forward.Has(name)) << name;
  HttpHeaders answer = UpgradeAnswer(ws, UpgradeKind::kWebSocket, kChannelV5);
  EXPECT_EQ(answer.Get("Sec-WebSocket-Accept"), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
  EXPECT_EQ(answer.Get("Sec-WebSocket-Protocol"), kChannelV5);
  EXPECT_FALSE(UpgradeAnswer({}, UpgradeKind::kSpdy, "").Has(kStreamProtocolHeader));
  EXPECT_EQ(ChannelVersion(kBase64ChannelV4), 4);
  EXPECT_EQ(ChannelVersion("x"), 0);
}

TEST(RemoteCommand, Channels) {
  EXPECT_EQ(EncodeChannel(false, RemoteChannel::kStderr, "ab"), "\2ab");
  EXPECT_EQ(EncodeChannel(true, RemoteChannel::kStderr, "ab"), "2YWI=");
  auto message = DecodeChannel(false, std::string_view("\xff\0", 2));
  EXPECT_EQ(message->channel, 255);
  EXPECT_EQ(message->data, std::string(1, '\0'));
  EXPECT_EQ(DecodeChannel(true, "0YWI=")->data, "ab");
  EXPECT_EQ(DecodeChannel(true, "4")->channel, 4);
  EXPECT_FALSE(DecodeChannel(false, "").ok());
  EXPECT_FALSE(DecodeChannel(true, "xYWI=").ok());
  EXPECT_FALSE(DecodeChannel(true, "0Y*").ok());
}

TEST(RemoteCommand, Resize) {
  ResizeParser parser;
  ASSERT_TRUE(parser.Append("{\"Width\":80,\"Hei").ok());
  EXPECT_FALSE(parser.Take().has_value());
  ASSERT_TRUE(parser.Append("ght\": 24}\n").ok());
  auto size = parser.Take();
  ASSERT_TRUE(size.has_value());
  EXPECT_EQ(size->width, 80);
  EXPECT_EQ(size->height, 24);
  EXPECT_FALSE(parser.Take().has_value());
  // Only the newest counts.
  ASSERT_TRUE(parser.Append("{\"width\":1,\"height\":2}{\"Width\":3,\"Height\":4,\"Other\":true}").ok());
  EXPECT_EQ(parser.Take()->width, 3);
  EXPECT_FALSE(ResizeParser().Append("[1]").ok());
  EXPECT_FALSE(ResizeParser().Append("{\"Width\":70000}").ok());
  EXPECT_FALSE(ResizeParser().Append("{\"Width\":-1}").ok());
  EXPECT_FALSE(ResizeParser().Append("{" + std::string(1000, ' ')).ok());
}

}  // namespace
}  // namespace keelson::net
