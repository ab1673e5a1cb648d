// The store against a registry of our own in the same process: pulls, faults, records. Needs no root.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/status.h"
#include "base/strings.h"
#include "images/image_store.h"
#include "images/testing/test_images.h"
#include "images/testing/test_store.h"

namespace keelson::images {
namespace {

std::string Layer(const std::string& name, const std::string& data) {
  return MakeTar({{.name = "etc/", .type = '5', .mode = 0755},
                  {.name = "etc/" + name, .data = data},
                  {.name = name, .data = data, .mode = 04755}});
}

TEST_F(StoreTest, PullsAndFinds) {
  TestImage image = MakeImage({Layer("a", "one"), Layer("b", "two")});
  registry_.Add("test/app", "1", image);
  auto id = Pull("test/app:1");
  ASSERT_TRUE(id.ok()) << id.status();
  EXPECT_EQ(*id, image.config_digest);
  const ImageRecord* record = store_->Find(Name("test/app:1"));
  ASSERT_NE(record, nullptr);
  EXPECT_EQ(record->id, image.config_digest);
  EXPECT_EQ(record->repo_tags, std::vector<std::string>{Name("test/app:1")});
  EXPECT_EQ(record->repo_digests, std::vector<std::string>{Name("test/app@") + image.manifest_digest});
  EXPECT_EQ(record->size_bytes, image.config.size() + image.layers[0].size() + image.layers[1].size());
  EXPECT_EQ(record->config.cmd, std::vector<std::string>{"/main"});
  EXPECT_EQ(record->config_json, image.config);
  EXPECT_EQ(absl::FormatTime(record->created_at, absl::UTCTimeZone()), "2020-01-02T03:04:05+00:00");
  EXPECT_EQ(store_->Find(image.config_digest), record);
  EXPECT_EQ(store_->Find(image.config_digest.substr(7, 3)), record);
  EXPECT_EQ(store_->Find(image.config_digest.substr(7, 2)), nullptr);
  EXPECT_EQ(store_->Find(record->repo_digests[0]), record);
  EXPECT_EQ(store_->Find("nothing"), nullptr);
  // A restart finds the same.
  Reopen();
  record = store_->Find(Name("test/app:1"));
  ASSERT_NE(record, nullptr);
  EXPECT_EQ(record->config.cmd, std::vector<std::string>{"/main"});
}

}  // namespace
}  // namespace keelson::images
