#include "cri/nri/wire.h"

#include <gtest/gtest.h>

#include <vector>

#include "base/strings.h"

namespace keelson::cri::nri {
namespace {

std::string Bytes(std::initializer_list<int> bytes) {
  std::string out;
  for (int byte : bytes) out.push_back(static_cast<char>(byte));
  return out;
}

// "CONNECTION/STREAM/TYPE:LENGTH" of each message, with the bytes given in pieces of `step`.
std::vector<std::string> Decode(std::string_view bytes, size_t step, absl::Status* status) {
  std::vector<std::string> out;
  MuxDecoder mux;
  TtrpcDecoder ttrpc[3];
  auto frames = [&](uint32_t connection, std::string_view piece) -> absl::Status {
    if (connection >= std::size(ttrpc)) return absl::OkStatus();
    return ttrpc[connection].Feed(piece, [&](TtrpcMessage message) {
      out.push_back(StrCat(connection, "/", message.stream, "/", static_cast<int>(message.type), ":",
                           message.payload.size()));
      return absl::OkStatus();
    });
  };
  *status = absl::OkStatus();
  while (!bytes.empty() && status->ok()) {
    *status = mux.Feed(bytes.substr(0, step), frames);
    bytes.remove_prefix(std::min(step, bytes.size()));
  }
  return out;
}

// The bytes by hand: what the protocols' texts say, not what our encoder thinks.
TEST(NriWireTest, BytesOfACall) {
  absl::StatusOr<std::string> frame = EncodeMessage(kPluginConnection, 3, TtrpcType::kRequest, "ab");
  ASSERT_TRUE(frame.ok());
  EXPECT_EQ(*frame, Bytes({0, 0, 0, 1, 0, 0, 0, 12, 0, 0, 0, 2, 0, 0, 0, 3, 1, 0, 'a', 'b'}));
}

TEST(NriWireTest, HoweverTheBytesAreCut) {
  std::string bytes = *EncodeMessage(1, 1, TtrpcType::kRequest, "abc") +
                      *EncodeMessage(2, 1, TtrpcType::kResponse, std::string(70000, 'x')) +
                      *EncodeMessage(7, 1, TtrpcType::kRequest, "to nobody") +
                      *EncodeMessage(1, 3, TtrpcType::kRequest, "");
  const std::vector<std::string> want = {"1/1/1:3", "2/1/2:70000", "1/3/1:0"};
  for (size_t step : {size_t{1}, size_t{7}, size_t{4096}, bytes.size()}) {
    absl::Status status;
    EXPECT_EQ(Decode(bytes, step, &status), want) << step;
    EXPECT_TRUE(status.ok()) << status;
  }
}

// Upstream's reader has a buffer of 4096 bytes and takes no frame that is longer, unless it reads a message's
// body, and then has as much room as there is left of it.
TEST(NriWireTest, ALongMessageIsTwoFrames) {
  std::string frames = *EncodeMessage(1, 1, TtrpcType::kRequest, std::string(10000, 'x'));
  EXPECT_EQ(frames.size(), 10000u + kTtrpcHeaderBytes + 2 * kMuxHeaderBytes);
  EXPECT_EQ(frames.substr(0, 8), Bytes({0, 0, 0, 1, 0, 0, 0x10, 0}));
  EXPECT_EQ(frames.substr(8 + 4096, 8), Bytes({0, 0, 0, 1, 0, 0, 0x17, 0x1a}));
}

TEST(NriWireTest, MessagesOfTwoConnectionsAcrossFrames) {
  std::string first = *EncodeMessage(1, 1, TtrpcType::kRequest, "abcdef");
  std::string second = *EncodeMessage(2, 1, TtrpcType::kRequest, "uvwxyz");
  // Each message cut into two frames, and those of the two mixed.
  auto half = [](const std::string& frame, bool rest) {
    std::string body = frame.substr(kMuxHeaderBytes);
    std::string part = rest ? body.substr(5) : body.substr(0, 5);
    return frame.substr(0, 4) + Bytes({0, 0, 0, static_cast<int>(part.size())}) + part;
  };
  absl::Status status;
  EXPECT_EQ(
      Decode(half(first, false) + half(second, false) + half(second, true) + half(first, true), 3, &status),
      (std::vector<std::string>{"2/1/1:6", "1/1/1:6"}));
}

TEST(NriWireTest, LimitsOfLengths) {
  EXPECT_TRUE(EncodeMessage(1, 1, TtrpcType::kRequest, std::string(kMaxTtrpcBytes, 'x')).ok());
  EXPECT_TRUE(absl::IsResourceExhausted(
      EncodeMessage(1, 1, TtrpcType::kRequest, std::string(kMaxTtrpcBytes + 1, 'x')).status()));
  absl::Status status;
  Decode(Bytes({0, 0, 0, 1, 0, 0x40, 0, 0x0a}) + Bytes({0, 0x40, 0, 0}), 100, &status);
  EXPECT_TRUE(status.ok()) << "4 MiB and a header: " << status;
  Decode(Bytes({0, 0, 0, 1, 0, 0x40, 0, 0x0b}), 100, &status);
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  Decode(Bytes({0, 0, 0, 1, 0, 0, 0, 10, 0, 0x40, 0, 1, 0, 0, 0, 1, 1, 0}), 100, &status);
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
}

TEST(NriWireTest, TypesOfLaterVersionsAreSkipped) {
  absl::Status status;
  std::string bytes = Bytes({0, 0, 0, 1, 0, 0, 0, 11, 0, 0, 0, 1, 0, 0, 0, 1, 9, 0, 'x'});
  EXPECT_TRUE(Decode(bytes, 100, &status).empty());
  EXPECT_TRUE(status.ok()) << status;
}

}  // namespace
}  // namespace keelson::cri::nri
