// Images over CRI: every field of one, filters, the file systems, and pulls with each kind of credentials
// from a registry of the test's own. Under cri/testing/with_keelson_cri.
#include <absl/strings/match.h>
#include <gmock/gmock.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <set>

#include "cri/testing/live_test.h"
#include "images/registry_config.h"
#include "images/testing/test_images.h"

namespace keelson::cri {
namespace {

using images::Base64;
using testing::ElementsAre;
using testing::HasSubstr;

Task<absl::Status> CloseRegistry(images::FakeRegistry* registry) {
  Task<void> close = registry->Close();
  co_await std::move(close);
  co_return absl::OkStatus();
}

class ServerImagesLiveTest : public LiveTest {
 protected:
  void SetUp() override {
    LiveTest::SetUp();
    if (live_ == nullptr || HasFailure()) return;
    registry_ = std::make_unique<images::FakeRegistry>(&env_);
    host_ = StrCat("127.0.0.1:", registry_->Listen());
  }
  void TearDown() override {
    for (const std::string& name : pulled_) {
      v1::RemoveImageRequest request;
      request.mutable_image()->set_image(name);
      EXPECT_TRUE(Call(images().RemoveImage(request)).ok());
    }
    if (registry_ != nullptr) {
      EXPECT_TRUE(env_.RunUntilDone(CloseRegistry(registry_.get())).ok());
    }
    LiveTest::TearDown();
  }
  // An image of one file in our registry. `config`: more of its configuration.
  images::TestImage Offer(const std::string& repository, const std::string& config = "") {
    images::TarEntry file;
    file.name = "file";
    file.data = StrCat("of ", repository, "\n");
    images::TestImage image = images::MakeImage({images::MakeTar({file})}, "gzip", config);
    registry_->Add(repository, "1", image);
    return image;
  }
  absl::StatusOr<std::string> TryPull(const std::string& name, const v1::AuthConfig* auth = nullptr) {
    v1::PullImageRequest request;
    request.mutable_image()->set_image(name);
    if (auth != nullptr) *request.mutable_auth() = *auth;
    auto response = Call(images().PullImage(request));
    if (!response.ok()) return response.status();
    pulled_.insert(name);
    return response->image_ref();
  }
  v1::ImageStatusResponse ImageOf(const std::string& name, bool verbose = false) {
    v1::ImageStatusRequest request;
    request.mutable_image()->set_image(name);
    request.set_verbose(verbose);
    auto response = Call(images().ImageStatus(request));
    EXPECT_TRUE(response.ok()) << response.status();
    return response.ok() ? *response : v1::ImageStatusResponse();
  }

  std::unique_ptr<images::FakeRegistry> registry_;
  std::string host_;
  std::set<std::string> pulled_;
};

TEST_F(ServerImagesLiveTest, EveryFieldOfAnImage) {
  const images::TestImage offered = Offer("fields/user", R"(,"User":"1234:5")");
  const std::string name = host_ + "/fields/user:1";
  absl::StatusOr<std::string> id = TryPull(name);
  ASSERT_TRUE(id.ok()) << id.status();
  EXPECT_EQ(*id, offered.config_digest);
  v1::ImageStatusResponse status = ImageOf(name, /*verbose=*/true);
  const v1::Image& image = status.image();
  EXPECT_EQ(image.id(), offered.config_digest);
  EXPECT_THAT(image.repo_tags(), ElementsAre(name));
  const std::string by_digest = StrCat(host_, "/fields/user@", offered.manifest_digest);
  EXPECT_THAT(image.repo_digests(), ElementsAre(by_digest));
  EXPECT_GE(image.size(), offered.layers[0].size());
  EXPECT_LE(image.size(), offered.layers[0].size() + offered.config.size() + offered.manifest.size());
  EXPECT_EQ(image.uid().value(), 1234);
  EXPECT_EQ(image.username(), "");
  EXPECT_EQ(image.spec().image(), image.id());
  EXPECT_FALSE(image.pinned());
  std::string info;
  for (const auto& [key, value] : status.info()) info += value;
  EXPECT_THAT(info, HasSubstr("1234:5")) << "its configuration";
  EXPECT_EQ(ImageOf(name).info_size(), 0) << "not asked for";
  // The image of a name: a number is a uid, all else a user name.
  EXPECT_FALSE(ImageOf(live_->user_image()).image().has_uid());
  // Pinned is what CRI can tell and not ask for.
  files::PullRequest pin;
  pin.set_image(name);
  pin.set_pinned(true);
  ASSERT_TRUE(Call(live_->image_files().Pull(pin, [](const auto&) {})).ok());
  EXPECT_TRUE(ImageOf(name).image().pinned());

  // Filters and the two lists, with others beside it.
  struct Case {
    std::string image;
    std::set<std::string> want;
  };
  const std::string busybox = ImageOf(live_->busybox()).image().id();
  const Case cases[] = {
      {name, {*id}},        {by_digest, {*id}},
      {*id, {*id}},         {live_->busybox(), {busybox}},
      {busybox, {busybox}}, {host_ + "/fields/absent:1", {}},
  };
  for (const Case& test : cases) {
    v1::ListImagesRequest list;
    list.mutable_filter()->mutable_image()->set_image(test.image);
    v1::StreamImagesRequest stream;
    *stream.mutable_filter() = list.filter();
    auto listed = Call(images().ListImages(list));
    auto streamed = Call(images().StreamImages(stream));
    ASSERT_TRUE(listed.ok() && streamed.ok()) << listed.status() << streamed.status();
    std::set<std::string> got, got_streamed;
    for (const v1::Image& item : listed->images()) got.insert(item.id());
    for (const v1::Image& item : streamed->images()) got_streamed.insert(item.id());
    EXPECT_EQ(got, test.want) << test.image;
    EXPECT_EQ(got_streamed, test.want) << test.image;
    if (test.image != name) continue;
    ASSERT_EQ(listed->images_size(), 1);
    EXPECT_EQ(listed->images(0).SerializeAsString(), ImageOf(name).image().SerializeAsString());
  }
  auto all = Call(images().ListImages(v1::ListImagesRequest()));
  auto all_streamed = Call(images().StreamImages(v1::StreamImagesRequest()));
  ASSERT_TRUE(all.ok() && all_streamed.ok());
  EXPECT_GE(all->images_size(), 3);
  EXPECT_EQ(all_streamed->images_size(), all->images_size());

  // Named by its digest, all its names go.
  v1::RemoveImageRequest remove;
  remove.mutable_image()->set_image(by_digest);
  EXPECT_TRUE(Call(images().RemoveImage(remove)).ok());
  EXPECT_FALSE(ImageOf(name).has_image());
  EXPECT_FALSE(ImageOf(*id).has_image());
}

TEST_F(ServerImagesLiveTest, TheFileSystemsOfImagesAndContainers) {
  const int64_t begin = absl::ToUnixNanos(env_.clock().Now());
  auto info = Call(images().ImageFsInfo(v1::ImageFsInfoRequest()));
  ASSERT_TRUE(info.ok()) << info.status();
  ASSERT_EQ(info->image_filesystems_size(), 1);
  ASSERT_EQ(info->container_filesystems_size(), 1);
  for (const v1::FilesystemUsage& usage : {info->image_filesystems(0), info->container_filesystems(0)}) {
    EXPECT_GE(usage.timestamp(), begin);
    EXPECT_LE(usage.timestamp(), absl::ToUnixNanos(env_.clock().Now()));
    EXPECT_TRUE(std::filesystem::is_directory(usage.fs_id().mountpoint())) << usage.fs_id().mountpoint();
    EXPECT_THAT(usage.fs_id().mountpoint(), testing::StartsWith(live_->paths().state_dir));
    EXPECT_GT(usage.used_bytes().value(), 0u);
    EXPECT_GT(usage.inodes_used().value(), 0u);
  }
}

TEST_F(ServerImagesLiveTest, CredentialsOfEachKind) {
  const std::string id = Offer("private/image").config_digest;
  const std::string name = host_ + "/private/image:1";
  static constexpr char kToken[] = "t0ken", kRefresh[] = "r3fresh";
  enum Wants { kBasic, kTokenForAnybody, kTokenForBasic, kTokenForRefresh, kTokenForNobody };
  struct Case {
    const char* what;
    Wants wants;
    std::function<void(v1::AuthConfig*)> set;  // null: a request without any
    absl::StatusCode code;
  };
  const std::string pair = Base64("ann:se:cret");
  constexpr auto kOk = absl::StatusCode::kOk, kDenied = absl::StatusCode::kPermissionDenied,
                 kInvalid = absl::StatusCode::kInvalidArgument;
  auto ann = [](v1::AuthConfig* auth) {
    auth->set_username("ann");
    auth->set_password("se:cret");
  };
  const Case cases[] = {
      {"none", kBasic, nullptr, kDenied},
      {"an empty message", kBasic, [](auto*) {}, kDenied},
      {"name and password", kBasic, ann, kOk},
      {"a wrong password", kBasic,
       [](auto* auth) {
         auth->set_username("ann");
         auth->set_password("secret");
       },
       kDenied},
      {"a wrong name", kBasic,
       [](auto* auth) {
         auth->set_username("bob");
         auth->set_password("se:cret");
       },
       kDenied},
      {"both in one", kBasic, [&](auto* auth) { auth->set_auth(pair); }, kOk},
      {"both in one, wrong", kBasic, [](auto* auth) { auth->set_auth(Base64("ann:cret")); }, kDenied},
      {"both in one, no base64", kBasic, [](auto* auth) { auth->set_auth("ann:se:cret"); }, kInvalid},
      {"both in one, no colon", kBasic, [](auto* auth) { auth->set_auth(Base64("ann")); }, kInvalid},
      {"with the registry's address", kBasic,
       [&](auto* auth) {
         auth->set_auth(pair);
         auth->set_server_address("http://" + host_);
       },
       kOk},
      {"of another registry", kBasic,
       [&](auto* auth) {
         auth->set_auth(pair);
         auth->set_server_address("https://registry.example/v2/");
       },
       kDenied},
      {"both in one, filled up", kBasic,
       [](auto* auth) { auth->set_auth(Base64(std::string("ann:se:cret\0\0", 13))); }, kOk},
      {"none for a token", kTokenForBasic, nullptr, kDenied},
      {"name and password for a token", kTokenForBasic, ann, kOk},
      {"a wrong password for a token", kTokenForBasic,
       [](auto* auth) {
         auth->set_username("ann");
         auth->set_password("secret");
       },
       kDenied},
      {"an identity token", kTokenForRefresh, [](auto* auth) { auth->set_identity_token(kRefresh); }, kOk},
      {"a wrong identity token", kTokenForRefresh, [](auto* auth) { auth->set_identity_token("stale"); },
       kDenied},
      {"name and password for an identity token", kTokenForRefresh, ann, kDenied},
      {"a registry token", kTokenForNobody, [](auto* auth) { auth->set_registry_token(kToken); }, kOk},
      {"a wrong registry token", kTokenForNobody, [](auto* auth) { auth->set_registry_token("stale"); },
       kDenied},
      {"what anybody gets", kTokenForAnybody, nullptr, kOk},
  };
  for (const Case& test : cases) {
    registry_->basic = test.wants == kBasic || test.wants == kTokenForBasic ? pair : "";
    registry_->token = test.wants == kBasic ? "" : kToken;
    registry_->refresh_token = test.wants == kTokenForRefresh ? kRefresh : "";
    if (test.wants == kTokenForNobody) registry_->refresh_token = "nobody has it";
    registry_->authorizations.clear();
    v1::AuthConfig auth;
    if (test.set != nullptr) test.set(&auth);
    absl::StatusOr<std::string> pulled = TryPull(name, test.set != nullptr ? &auth : nullptr);
    EXPECT_EQ(pulled.status().code(), test.code) << test.what << ": " << pulled.status();
    if (pulled.ok()) {
      EXPECT_EQ(*pulled, id) << test.what;
    }
    if (test.code == kInvalid) {
      EXPECT_THAT(std::string(pulled.status().message()), HasSubstr("auth.auth")) << test.what;
      EXPECT_TRUE(registry_->authorizations.empty()) << test.what << ": nobody was asked";
    }
  }
}

TEST_F(ServerImagesLiveTest, CallsThatNameNoImage) {
  EXPECT_TRUE(absl::IsInvalidArgument(Call(images().ImageStatus(v1::ImageStatusRequest())).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Call(images().RemoveImage(v1::RemoveImageRequest())).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Call(images().PullImage(v1::PullImageRequest())).status()));
}

}  // namespace
}  // namespace keelson::cri
