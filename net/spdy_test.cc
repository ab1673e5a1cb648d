#include "net/spdy.h"

#include <gtest/gtest.h>
#include <zlib.h>

namespace keelson::net {
namespace {

std::string Hex(std::string_view bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  for (unsigned char c : bytes) {
    out.push_back(kDigits[c >> 4]);
    out.push_back(kDigits[c & 15]);
  }
  return out;
}

std::string Bytes(std::string_view hex) {
  auto digit = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
  std::string out, packed;
  for (char c : hex) {
    if (c != ' ') packed.push_back(c);
  }
  for (size_t i = 0; i + 1 < packed.size(); i += 2)
    out.push_back(static_cast<char>(digit(packed[i]) * 16 + digit(packed[i + 1])));
  return out;
}

std::optional<SpdyFrame> One(std::string_view bytes) {
  SpdyDecoder decoder;
  decoder.Append(bytes);
  auto frame = decoder.Next();
  EXPECT_TRUE(frame.ok()) << frame.status();
  return frame.ok() ? *frame : std::nullopt;
}

TEST(Spdy, Dictionary) {
  const std::string& d = SpdyDictionary();
  EXPECT_EQ(d.size(), 1423u);
  // The checksum that stands in every header stream: 78 bb e3 c6 a7 c2.
  EXPECT_EQ(adler32(adler32(0, nullptr, 0), reinterpret_cast<const Bytef*>(d.data()), d.size()), 0xe3c6a7c2u);
}

TEST(Spdy, FramesAreThoseOfTheDraft) {
  EXPECT_EQ(Hex(SpdyEncoder::Data(5, "hi", true)),
            "00000005"
            "01000002"
            "6869");
  EXPECT_EQ(Hex(SpdyEncoder::Data(5, "", false)),
            "00000005"
            "00000000");
  EXPECT_EQ(Hex(SpdyEncoder::RstStream(7, SpdyRstStatus::kCancel)),
            "80030003"
            "00000008"
            "00000007"
            "00000005");
  EXPECT_EQ(Hex(SpdyEncoder::Settings({{kSpdySettingInitialWindowSize, 65536}})),
            "80030004"
            "0000000c"
            "00000001"
            "00000007"
            "00010000");
  EXPECT_EQ(Hex(SpdyEncoder::Ping(3)),
            "80030006"
            "00000004"
            "00000003");
  EXPECT_EQ(Hex(SpdyEncoder::GoAway(9, SpdyGoAwayStatus::kProtocolError)),
            "80030007"
            "00000008"
            "00000009"
            "00000001");
  EXPECT_EQ(Hex(SpdyEncoder::WindowUpdate(1, 0x1000)),
            "80030009"
            "00000008"
            "00000001"
            "00001000");
  SpdyEncoder encoder;
  std::string syn = encoder.SynStream(1, {{"streamtype", "error"}}, kSpdyFin);
  EXPECT_EQ(Hex(syn.substr(0, 5)),
            "80030001"
            "01");
  EXPECT_EQ(Hex(syn.substr(8, 16)),
            "00000001"
            "00000000"
            "0000"
            "78bbe3c6a7c2");
  // Every block is flushed: it ends with an empty stored block.
  EXPECT_EQ(Hex(syn.substr(syn.size() - 4)), "0000ffff");
}

TEST(Spdy, HeadersRoundTrip) {
  SpdyEncoder encoder;
  SpdyDecoder decoder;
  std::string all = encoder.SynStream(1, {{"streamType", "data"}, {"port", "80"}, {"requestID", "0"}});
  all +=
      encoder.SynStream(3, {{"streamType", "data"}, {"port", "80"}, {"requestID", "1"}}, kSpdyUnidirectional);
  all += encoder.SynReply(1, {});
  all += encoder.Headers(1, {{"a", "1"}, {"b", ""}, {"A", "2"}});
  std::vector<SpdyFrame> frames;
  for (char c : all) {  // byte by byte
    decoder.Append(std::string_view(&c, 1));
    auto next = decoder.Next();
    ASSERT_TRUE(next.ok()) << next.status();
    if (next->has_value()) frames.push_back(**std::move(next));
  }
  ASSERT_EQ(frames.size(), 4u);
  EXPECT_EQ(frames[0].type, SpdyFrameType::kSynStream);
  EXPECT_EQ(frames[0].headers.Get("streamtype"), "data");
  EXPECT_EQ(frames[1].headers.Get("requestid"), "1");
  EXPECT_EQ(frames[1].stream_id, 3u);
  EXPECT_EQ(frames[1].flags, kSpdyUnidirectional);
  EXPECT_EQ(frames[2].type, SpdyFrameType::kSynReply);
  EXPECT_TRUE(frames[2].headers.empty());
  EXPECT_EQ(frames[3].headers.GetAll("a"), (std::vector<std::string_view>{"1", "2"}));
  EXPECT_TRUE(frames[3].headers.Has("b"));
}

TEST(Spdy, DataComesInPieces) {
  SpdyDecoder decoder;
  decoder.Append(Bytes("00000005 01000005 6162"));
  auto first = decoder.Next();
  ASSERT_TRUE(first.ok() && first->has_value());
  EXPECT_EQ((*first)->data, "ab");
  EXPECT_FALSE((*first)->fin());
  EXPECT_FALSE(decoder.Next()->has_value());
  decoder.Append("cde");
  auto second = decoder.Next();
  EXPECT_EQ((*second)->data, "cde");
  EXPECT_TRUE((*second)->fin());
  // A frame without data is a frame too.
  std::optional<SpdyFrame> empty = One(Bytes("00000005 01000000"));
  ASSERT_TRUE(empty.has_value());
  EXPECT_TRUE(empty->fin() && empty->data.empty());
}

TEST(Spdy, ControlFramesAreRead) {
  EXPECT_EQ(One(Bytes("80030003 00000008 00000007 00000003"))->status, 3u);
  EXPECT_EQ(One(Bytes("80030006 00000004 80000001"))->stream_id, 0x80000001u);
  EXPECT_EQ(One(Bytes("80030009 00000008 00000000 00001000"))->delta, 0x1000u);
  std::optional<SpdyFrame> settings = One(Bytes("80030004 0000000c 00000001 01000007 00010000"));
  ASSERT_EQ(settings->settings.size(), 1u);
  EXPECT_EQ(settings->settings[0].id, 7u);
  EXPECT_EQ(settings->settings[0].value, 65536u);
  EXPECT_EQ(One(Bytes("8003000b 00000001 00"))->type, SpdyFrameType::kUnknown);
  EXPECT_FALSE(One(Bytes("80030006 00000004 0000")).has_value());
}

TEST(Spdy, BadFramesAreRefused) {
  SpdyEncoder encoder;
  std::string bad_inflate = Bytes("80030002 0000000a 00000001 78bbe3c6a7c2");
  bad_inflate += Bytes("80030002 00000008 00000001 ffffffff");
  const std::pair<std::string, absl::StatusCode> cases[] = {
      {Bytes("80020001 00000000"), absl::StatusCode::kInvalidArgument},  // SPDY/2
      {"GET / HT", absl::StatusCode::kInvalidArgument},                  // a huge data frame... of no stream
      {Bytes("00000000 00000001 00"), absl::StatusCode::kInvalidArgument},        // data for stream 0
      {Bytes("80030001 00ffffff"), absl::StatusCode::kResourceExhausted},         // too long
      {Bytes("80030001 00000004 00000001"), absl::StatusCode::kInvalidArgument},  // too short
      {Bytes("80030003 00000004 00000001"), absl::StatusCode::kInvalidArgument},
      {Bytes("80030004 00000004 00000100"), absl::StatusCode::kResourceExhausted},
      {Bytes("80030004 00000004 00000001"), absl::StatusCode::kInvalidArgument},
      {bad_inflate, absl::StatusCode::kInvalidArgument},
      {Bytes("80030002 00000006 00000001 789c"), absl::StatusCode::kInvalidArgument},
  };
  for (const auto& [bytes, code] : cases) {
    SpdyDecoder decoder;
    decoder.Append(bytes);
    absl::Status status;
    for (int i = 0; i < 3 && status.ok(); ++i) status = decoder.Next().status();
    if (bytes[0] == 'G') continue;  // text is a data frame of an unknown stream: the connection ignores it
    EXPECT_EQ(status.code(), code) << Hex(bytes) << " " << status;
  }
}

TEST(Spdy, HeaderBombIsRefused) {
  SpdyEncoder encoder;
  SpdyDecoder decoder;
  decoder.Append(encoder.SynStream(1, {{"x", std::string(kSpdyMaxHeaderBlockBytes, 'a')}}));
  EXPECT_TRUE(absl::IsResourceExhausted(decoder.Next().status()));
  HttpHeaders many;
  for (size_t i = 0; i <= kSpdyMaxHeaders; ++i) many.Add("h" + std::to_string(i), "v");
  SpdyEncoder encoder2;
  SpdyDecoder decoder2;
  decoder2.Append(encoder2.SynStream(1, many));
  EXPECT_TRUE(absl::IsResourceExhausted(decoder2.Next().status()));
}

}  // namespace
}  // namespace keelson::net
