#include "net/spdy_connection.h"

#include <gtest/gtest.h>

#include "base/fake_env.h"
#include "base/strings.h"
#include "net/stream_util.h"

namespace keelson::net {
namespace {

using Role = SpdyConnection::Role;
using StreamPtr = std::unique_ptr<SpdyStream>;

Task<std::string> ReadAll(ByteStream* stream) {
  std::string out;
  char buffer[1000];
  for (;;) {
    Task<absl::StatusOr<size_t>> read = stream->Read(buffer, sizeof buffer);
    absl::StatusOr<size_t> n = co_await std::move(read);
    if (!n.ok()) co_return out + "!" + std::string(n.status().message());
    if (*n == 0) co_return out;
    out.append(buffer, *n);
  }
}

Task<void> WriteAndClose(ByteStream* stream, std::string data, bool* done) {
  Task<absl::Status> write = stream->Write(data);
  absl::Status status = co_await std::move(write);
  if (status.ok()) {
    Task<absl::Status> close = stream->CloseWrite();
    status = co_await std::move(close);
  }
  if (done != nullptr) *done = status.ok();
}

Task<void> WriteOnly(ByteStream* stream, std::string data) {
  Task<absl::Status> write = stream->Write(data);
  (void)co_await std::move(write);
}

// Two of our own connections.
class SpdyPair : public ::testing::Test {
 protected:
  SpdyPair() {
    auto [a, b] = MemoryStreamPair(4096);
    client_ = SpdyConnection::Start(&scope_, std::move(a), Role::kClient, options_);
    server_ = SpdyConnection::Start(&scope_, std::move(b), Role::kServer, options_);
  }
  ~SpdyPair() override { env_.AwaitVoid(scope_.Close()); }
  std::pair<StreamPtr, StreamPtr> Open(HttpHeaders headers = {{"streamtype", "data"}}) {
    StreamPtr mine = *env_.Await(client_->Open(std::move(headers)));
    StreamPtr theirs = *env_.Await(server_->Accept());
    return {std::move(mine), std::move(theirs)};
  }
  FakeEnv env_;
  Scope scope_{env_.executor()};
  SpdyOptions options_{.max_streams = 4, .stream_window_bytes = 64 << 10, .write_buffer_bytes = 8 << 10};
  std::shared_ptr<SpdyConnection> client_, server_;
};

TEST_F(SpdyPair, BothWaysWithHalfClose) {
  auto [mine, theirs] = Open({{"streamType", "stdin"}, {"port", "80"}});
  EXPECT_EQ(theirs->headers().Get("STREAMTYPE"), "stdin");
  bool done = false;
  scope_.Spawn("write", WriteAndClose(mine.get(), std::string(300000, 'x') + "end", &done));
  std::string got = env_.Await(ReadAll(theirs.get()));
  EXPECT_EQ(got, std::string(300000, 'x') + "end");
  EXPECT_TRUE(done);
  scope_.Spawn("write", WriteAndClose(theirs.get(), "answer", &done));
  EXPECT_EQ(env_.Await(ReadAll(mine.get())), "answer");
  EXPECT_EQ(client_->streams(), 0u);
  EXPECT_EQ(server_->streams(), 0u);
}

TEST_F(SpdyPair, AWriterWaitsForTheWindow) {
  auto [mine, theirs] = Open();
  auto [other, their_other] = Open();
  bool done = false, other_done = false;
  scope_.Spawn("write", WriteAndClose(mine.get(), std::string(100000, 'x'), &done));
  env_.Settle();
  EXPECT_FALSE(done);  // 64 KiB are unread
  // It does not hold up the other stream.
  scope_.Spawn("write", WriteAndClose(other.get(), "quick", &other_done));
  EXPECT_EQ(env_.Await(ReadAll(their_other.get())), "quick");
  EXPECT_FALSE(done);
  EXPECT_EQ(env_.Await(ReadAll(theirs.get())).size(), 100000u);
  EXPECT_TRUE(done);
}

TEST_F(SpdyPair, FloodsBothWaysDoNotLock) {
  auto [mine, theirs] = Open();
  bool done1 = false, done2 = false;
  scope_.Spawn("write", WriteAndClose(mine.get(), std::string(500000, 'x'), &done1));
  scope_.Spawn("write", WriteAndClose(theirs.get(), std::string(500000, 'y'), &done2));
  env_.Settle();
  EXPECT_EQ(env_.Await(ReadAll(theirs.get())).size(), 500000u);
  EXPECT_EQ(env_.Await(ReadAll(mine.get())).size(), 500000u);
  EXPECT_TRUE(done1 && done2);
}

TEST_F(SpdyPair, ResetReachesTheOtherEnd) {
  auto [mine, theirs] = Open();
  mine.reset();
  EXPECT_EQ(env_.Await(ReadAll(theirs.get())), "!stream reset by the peer (5)");
  absl::Status status = env_.Await(theirs->Write("x"));
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
}

TEST_F(SpdyPair, TooManyStreamsAreRefused) {
  std::vector<StreamPtr> open;
  for (int i = 0; i < 4; ++i) open.push_back(*env_.Await(client_->Open({{"n", "1"}})));
  auto fifth = env_.Await(client_->Open({{"n", "1"}}));
  EXPECT_TRUE(absl::IsFailedPrecondition(fifth.status())) << fifth.status();
}

TEST_F(SpdyPair, FinishDeliversWhatWasWritten) {
  auto [mine, theirs] = Open();
  bool done = false;
  scope_.Spawn("write", WriteAndClose(theirs.get(), std::string(20000, 'z'), &done));
  env_.Settle();
  server_->Finish();
  EXPECT_EQ(env_.Await(ReadAll(mine.get())), std::string(20000, 'z'));
  EXPECT_TRUE(client_->closed().is_set());
  env_.Settle();
  EXPECT_TRUE(server_->closed().is_set());
  EXPECT_TRUE(absl::IsUnavailable(env_.Await(client_->Open({})).status()));
}

TEST_F(SpdyPair, CloseEndsEveryone) {
  auto [mine, theirs] = Open();
  client_->Close();
  EXPECT_EQ(env_.Await(ReadAll(theirs.get())), "!connection closed by the peer");
  EXPECT_FALSE(env_.Await(server_->Accept()).ok());
}

// A peer driven by hand: like Go's, it knows nothing of windows.
class SpdyPeer : public ::testing::Test {
 protected:
  SpdyPeer() {
    auto [a, b] = MemoryStreamPair(1 << 20);
    peer_ = std::move(a);
    server_ = SpdyConnection::Start(&scope_, std::move(b), Role::kServer,
                                    {.max_streams = 8, .stream_window_bytes = 64 << 10});
  }
  ~SpdyPeer() override { env_.AwaitVoid(scope_.Close()); }
  void Send(std::string bytes) { ASSERT_TRUE(env_.Await(peer_->Write(bytes)).ok()); }
  // Frames that have come.
  std::vector<SpdyFrame> Receive() {
    std::vector<SpdyFrame> out;
    env_.Settle();
    // The connection always has said something by then.
    std::string buffer(1 << 20, '\0');
    absl::StatusOr<size_t> n = env_.Await(peer_->Read(buffer.data(), buffer.size()));
    decoder_.Append(std::string_view(buffer).substr(0, n.value_or(0)));
    for (;;) {
      auto next = decoder_.Next();
      EXPECT_TRUE(next.ok()) << next.status();
      if (!next.ok() || !next->has_value()) return out;
      out.push_back(**std::move(next));
    }
  }
  FakeEnv env_;
  Scope scope_{env_.executor()};
  std::unique_ptr<ByteStream> peer_;
  std::shared_ptr<SpdyConnection> server_;
  SpdyEncoder encoder_;
  SpdyDecoder decoder_;
};

TEST_F(SpdyPeer, GreetsRepliesAndPongs) {
  std::vector<SpdyFrame> frames = Receive();
  ASSERT_EQ(frames.size(), 2u);
  EXPECT_EQ(frames[0].type, SpdyFrameType::kSettings);
  EXPECT_EQ(frames[1].type, SpdyFrameType::kWindowUpdate);
  Send(encoder_.SynStream(1, {{"streamtype", "error"}}));
  Send(SpdyEncoder::Ping(1));
  Send(SpdyEncoder::Ping(2));  // an answer to none of ours
  frames = Receive();
  ASSERT_EQ(frames.size(), 2u);
  EXPECT_EQ(frames[0].type, SpdyFrameType::kSynReply);
  EXPECT_EQ(frames[0].stream_id, 1u);
  EXPECT_EQ(frames[1].type, SpdyFrameType::kPing);
}

TEST_F(SpdyPeer, ItsWindowsDoNotCountUntilAnnounced) {
  Receive();
  Send(encoder_.SynStream(1, {}));
  StreamPtr stream = *env_.Await(server_->Accept());
  Receive();
  bool done = false;
  scope_.Spawn("write", WriteAndClose(stream.get(), std::string(300000, 'x'), &done));
  size_t bytes = 0;
  while (bytes < 300000) {
    for (const SpdyFrame& f : Receive()) bytes += f.data.size();
  }
  EXPECT_EQ(bytes, 300000u);
}

TEST_F(SpdyPeer, AnnouncedWindowsCount) {
  Receive();
  Send(SpdyEncoder::Settings({{kSpdySettingInitialWindowSize, 1000}}));
  Send(encoder_.SynStream(1, {}));
  StreamPtr stream = *env_.Await(server_->Accept());
  Receive();
  scope_.Spawn("write", WriteAndClose(stream.get(), std::string(1500, 'x'), nullptr));
  size_t bytes = 0;
  for (const SpdyFrame& f : Receive()) bytes += f.data.size();
  EXPECT_EQ(bytes, 1000u);
  Send(SpdyEncoder::WindowUpdate(1, 200));
  for (const SpdyFrame& f : Receive()) bytes += f.data.size();
  EXPECT_EQ(bytes, 1200u);
  Send(SpdyEncoder::WindowUpdate(1, 2000));
  bool fin = false;
  for (const SpdyFrame& f : Receive()) {
    bytes += f.data.size();
    fin = fin || f.fin();
  }
  EXPECT_EQ(bytes, 1500u);
  EXPECT_TRUE(fin);
}

TEST_F(SpdyPeer, AnOverrunIsBounded) {
  Send(encoder_.SynStream(1, {}));
  StreamPtr stream = *env_.Await(server_->Accept());
  // Ten times the window: what is not read stays with the peer (and the pipe between).
  bool sent = false;
  std::string all;
  for (int i = 0; i < 200; ++i) all += SpdyEncoder::Data(1, std::string(16 << 10, 'x'), i == 199);
  scope_.Spawn("flood", WriteAndClose(peer_.get(), all, &sent));
  env_.Settle();
  EXPECT_FALSE(sent);
  EXPECT_EQ(env_.Await(ReadAll(stream.get())).size(), 200u * (16 << 10));
}

// Go closes with our updates unread, and loses what it has not sent yet.
TEST_F(SpdyPeer, NothingIsSaidToAPeerWithoutWindows) {
  Receive();
  Send(encoder_.SynStream(1, {}));
  StreamPtr stream = *env_.Await(server_->Accept());
  Receive();
  std::string all;
  for (int i = 0; i < 200; ++i) all += SpdyEncoder::Data(1, std::string(16 << 10, 'x'), i == 199);
  scope_.Spawn("flood", WriteOnly(peer_.get(), all));
  EXPECT_EQ(env_.Await(ReadAll(stream.get())).size(), 200u * (16 << 10));
  ASSERT_TRUE(env_.Await(stream->Write("the answer")).ok());
  std::vector<SpdyFrame> frames = Receive();
  ASSERT_EQ(frames.size(), 1u);
  EXPECT_EQ(frames[0].data, "the answer");
}

TEST_F(SpdyPeer, BrokenProtocolIsToldAndClosed) {
  Receive();
  Send(encoder_.SynStream(3, {}));
  Send(encoder_.SynStream(1, {}));  // goes back
  std::vector<SpdyFrame> frames = Receive();
  ASSERT_EQ(frames.size(), 2u);
  EXPECT_EQ(frames[1].type, SpdyFrameType::kGoAway);
  EXPECT_EQ(frames[1].status, 1u);
  EXPECT_EQ(frames[1].stream_id, 3u);
  EXPECT_TRUE(server_->closed().is_set());
}

}  // namespace
}  // namespace keelson::net
