#include "net/websocket.h"

#include <gtest/gtest.h>

namespace keelson::net {
namespace {

TEST(WebSocketTest, AcceptKeyOfTheRfc) {
  EXPECT_EQ(WebSocketAccept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

TEST(WebSocketTest, FramesOfTheRfc) {
  EXPECT_EQ(EncodeWebSocketFrame(WebSocketOpcode::kText, "Hello"), std::string("\x81\x05Hello"));
  EXPECT_EQ(EncodeWebSocketFrame(WebSocketOpcode::kText, "Hello", true, 0x37fa213d),
            std::string("\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"));
}

TEST(WebSocketTest, RoundTripOfAllLengthForms) {
  for (size_t size : {0, 1, 125, 126, 65535, 65536, 100000}) {
    for (bool masked : {false, true}) {
      std::string payload(size, 'p');
      std::string wire = EncodeWebSocketFrame(WebSocketOpcode::kBinary, payload, true,
                                              masked ? std::optional<uint32_t>(0x01020304) : std::nullopt);
      WebSocketDecoder decoder(masked, 1 << 20);
      decoder.Append(wire.substr(0, wire.size() / 2));
      EXPECT_FALSE(decoder.Next()->has_value());
      decoder.Append(wire.substr(wire.size() / 2));
      auto frame = decoder.Next();
      ASSERT_TRUE(frame.ok() && frame->has_value()) << size;
      EXPECT_EQ((*frame)->payload, payload);
      EXPECT_FALSE(decoder.Next()->has_value());
    }
  }
}

TEST(WebSocketTest, FragmentsWithAPingBetween) {
  WebSocketDecoder decoder(false, 100);
  decoder.Append(EncodeWebSocketFrame(WebSocketOpcode::kText, "a", false) +
                 EncodeWebSocketFrame(WebSocketOpcode::kPing, "") +
                 EncodeWebSocketFrame(WebSocketOpcode::kContinuation, "b", true));
  EXPECT_FALSE((*decoder.Next())->final);
  EXPECT_EQ((*decoder.Next())->opcode, WebSocketOpcode::kPing);
  EXPECT_EQ((*decoder.Next())->payload, "b");
}

TEST(WebSocketTest, Violations) {
  struct {
    const char* name;
    std::string wire;
    bool server;
    absl::StatusCode code;
  } cases[] = {
      {"reserved bit", std::string("\xc1\x00", 2), false, absl::StatusCode::kInvalidArgument},
      {"opcode", std::string("\x83\x00", 2), false, absl::StatusCode::kInvalidArgument},
      {"unmasked client", std::string("\x81\x00", 2), true, absl::StatusCode::kInvalidArgument},
      {"masked server", std::string("\x81\x80", 2), false, absl::StatusCode::kInvalidArgument},
      {"fragmented control", std::string("\x09\x00", 2), false, absl::StatusCode::kInvalidArgument},
      {"long control", std::string("\x89\x7e\x00\x80", 4), false, absl::StatusCode::kInvalidArgument},
      {"stray continuation", std::string("\x80\x00", 2), false, absl::StatusCode::kInvalidArgument},
      {"long form of a short length", std::string("\x82\x7e\x00\x01", 4), false,
       absl::StatusCode::kInvalidArgument},
      {"too large", std::string("\x82\x7f\x00\x00\x00\x01\x00\x00\x00\x00", 10), false,
       absl::StatusCode::kResourceExhausted},
  };
  for (const auto& test : cases) {
    WebSocketDecoder decoder(test.server, 1 << 20);
    decoder.Append(test.wire);
    EXPECT_EQ(decoder.Next().status().code(), test.code) << test.name;
  }
}

TEST(WebSocketTest, CloseReasonIsCutBetweenCharacters) {
  std::string reason(122, 'r');
  reason += "\xc3\xa9";  // would end in the middle at 123
  EXPECT_EQ(WebSocketClosePayload(1000, reason), std::string("\x03\xe8") + std::string(122, 'r'));
}

}  // namespace
}  // namespace keelson::net
