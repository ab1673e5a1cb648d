// Time in the registry client, on a fake clock: back-off, Retry-After, servers that fall silent.
#include "images/registry_client.h"

#include <absl/strings/match.h>
#include <gtest/gtest.h>

#include "base/fake_env.h"
#include "base/status.h"
#include "base/strings.h"
#include "images/testing/test_images.h"

namespace keelson::images {
namespace {

class RegistryClientTest : public ::testing::Test {
 protected:
  RegistryClientTest() : registry_(&env_) {
    port_ = registry_.Listen();
    image_ = MakeImage({MakeTar({{.name = "f", .data = std::string(100000, 'f')}})}, "none");
    registry_.Add("app", "1", image_);
  }
  ~RegistryClientTest() override {
    session_.reset();
    env_.AwaitVoid(registry_.Close());
  }
  RegistrySession* Session() {
    auto session = env_.Await(
        RegistrySession::Open(&env_, *Reference::Parse(StrCat("127.0.0.1:", port_, "/app:1")), options_));
    EXPECT_TRUE(session.ok()) << session.status();
    session_ = *session;
    return session_.get();
  }
  absl::StatusOr<std::string> ReadBlob(RegistrySession* session, const std::string& digest, uint64_t size) {
    auto blob = env_.Await(session->OpenBlob(digest, size));
    if (!blob.ok()) return blob.status();
    std::string out;
    while (true) {
      auto piece = env_.Await((*blob)->Read());
      if (!piece.ok()) return piece.status();
      if (piece->empty()) return out;
      out += *piece;
    }
  }

  FakeEnv env_;
  FakeRegistry registry_;
  uint16_t port_ = 0;
  TestImage image_;
  RegistryOptions options_;
  std::shared_ptr<RegistrySession> session_;
};

TEST_F(RegistryClientTest, BacksOffAndObeysRetryAfter) {
  RegistrySession* session = Session();
  absl::Duration begin = env_.clock().Monotonic();
  registry_.next_statuses = {503, 503};
  auto manifest = env_.Await(session->FetchManifest("1"));
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  EXPECT_EQ(manifest->digest, image_.manifest_digest);
  absl::Duration waited = env_.clock().Monotonic() - begin;
  EXPECT_GE(waited, absl::Milliseconds(750));  // 250 ms and three times that, a quarter less at most
  EXPECT_LE(waited, absl::Milliseconds(1250));
  registry_.next_statuses = {429};
  registry_.retry_after = "7";
  begin = env_.clock().Monotonic();
  EXPECT_TRUE(env_.Await(session->FetchManifest("1")).ok());
  EXPECT_GE(env_.clock().Monotonic() - begin, absl::Seconds(7));
  // Not for as long as a server likes.
  registry_.next_statuses = {429};
  registry_.retry_after = "86400";
  begin = env_.clock().Monotonic();
  EXPECT_TRUE(env_.Await(session->FetchManifest("1")).ok());
  EXPECT_LE(env_.clock().Monotonic() - begin, kMaxRetryAfter + absl::Seconds(1));
}

TEST_F(RegistryClientTest, SilenceEndsADownload) {
  options_.no_progress_timeout = absl::Seconds(20);
  RegistrySession* session = Session();
  registry_.hang.insert(image_.layer_digests[0]);
  absl::Duration begin = env_.clock().Monotonic();
  auto bytes = ReadBlob(session, image_.layer_digests[0], image_.layers[0].size());
  EXPECT_TRUE(absl::IsUnavailable(bytes.status())) << bytes.status();
  EXPECT_TRUE(absl::StrContains(bytes.status().message(), "given up")) << bytes.status();
  EXPECT_GE(env_.clock().Monotonic() - begin, absl::Seconds(20));
  EXPECT_LE(env_.clock().Monotonic() - begin, absl::Minutes(4));
}

TEST_F(RegistryClientTest, SizesAreChecked) {
  RegistrySession* session = Session();
  auto bytes = ReadBlob(session, image_.layer_digests[0], image_.layers[0].size());
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  EXPECT_EQ(*bytes, image_.layers[0]);
  EXPECT_TRUE(absl::IsDataLoss(ReadBlob(session, image_.layer_digests[0], 99999).status()));
  EXPECT_TRUE(absl::IsNotFound(ReadBlob(session, image_.manifest_digest, 5).status()));
  EXPECT_TRUE(absl::IsNotFound(env_.Await(session->FetchManifest("absent")).status()));
}

}  // namespace
}  // namespace keelson::images
