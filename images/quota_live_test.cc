// Writable layers on an ext4 with project quotas, in a file that is mounted for the test. Skipped where the
// kernel has none; tests/guest runs it where there are.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "images/layer_tree.h"
#include "images/project_quota.h"
#include "images/testing/test_store.h"

namespace keelson::images {
namespace {

class QuotaLiveTest : public StoreTest {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root";
    StoreTest::SetUp();
    absl::Status counted = ProbeProjectUsage(options_.root_dir);
    if (!counted.ok()) GTEST_SKIP() << "no project quotas here: " << counted;
    registry_.Add("base", "1",
                  MakeImage({MakeTar({{.name = "etc/", .type = '5', .mode = 0755},
                                      {.name = "etc/big", .data = std::string(200000, 'b')},
                                      {.name = "etc/small", .data = "s"}})}));
    auto id = Pull("base:1");
    ASSERT_TRUE(id.ok()) << id.status();
    image_ = *id;
  }
  void TearDown() override {
    if (store_ != nullptr) {
      for (const std::string& key : store_->RootfsKeys()) {
        EXPECT_TRUE(Await(store_->RemoveRootfs(key, "")).ok());
      }
    }
    StoreTest::TearDown();
  }
  std::string Path(const std::string& key) const { return dir_.path() + "/mnt-" + key; }
  absl::Status Mount(const std::string& key) {
    RootfsOptions options;
    options.key = key;
    options.image_id = image_;
    options.mount_path = Path(key);
    return Await(store_->MountRootfs(options));
  }
  UsageBytes Usage(const std::string& key) {
    auto usage = Await(store_->RootfsUsage(key));
    EXPECT_TRUE(usage.ok()) << usage.status();
    return usage.ok() ? *usage : UsageBytes();
  }
  UsageBytes Walked(const std::string& key) {
    auto fd = OpenFile(StrCat(options_.root_dir, "/rootfs/", key, "/upper"), O_RDONLY | O_DIRECTORY);
    EXPECT_TRUE(fd.ok()) << fd.status();
    auto usage = MeasureTree(fd->get());
    EXPECT_TRUE(usage.ok()) << usage.status();
    return {usage->used_bytes, usage->inodes};
  }
  std::string image_;
};

TEST_F(QuotaLiveTest, UsageIsCountedAtOnceAndForEachAlone) {
  ASSERT_TRUE(Mount("a").ok());
  ASSERT_TRUE(Mount("b").ok());
  EXPECT_EQ(Usage("a").inodes, 1u);
  // New files, a file of the image that is written to (copied up), one that is removed (a whiteout), a hard
  // link.
  std::ofstream(Path("a") + "/new") << std::string(1 << 20, 'n');
  std::ofstream(Path("a") + "/etc/big", std::ios::app) << "x";
  ASSERT_EQ(::unlink((Path("a") + "/etc/small").c_str()), 0);
  ASSERT_EQ(::link((Path("a") + "/new").c_str(), (Path("a") + "/etc/hard").c_str()), 0);
  ASSERT_EQ(::rename((Path("a") + "/etc/hard").c_str(), (Path("a") + "/moved").c_str()), 0);
  UsageBytes counted = Usage("a"), walked = Walked("a");
  EXPECT_EQ(counted.inodes, walked.inodes);
  EXPECT_GE(counted.used_bytes, (1u << 20) + 200000u);
  EXPECT_LE(counted.used_bytes, walked.used_bytes + (64 << 10));
  EXPECT_EQ(Usage("b").inodes, 1u);
  // Nothing is cached: what goes is gone from the figure.
  ASSERT_EQ(::unlink((Path("a") + "/new").c_str()), 0);
  ASSERT_EQ(::unlink((Path("a") + "/moved").c_str()), 0);
  EXPECT_LT(Usage("a").used_bytes, counted.used_bytes - (1 << 20) + 1);
  // The same after a restart, and for whoever gets the number next.
  Reopen();
  EXPECT_EQ(Usage("a").inodes, Walked("a").inodes);
  std::ofstream(Path("b") + "/file") << "b";
  EXPECT_EQ(Usage("b").inodes, 2u);
  ASSERT_TRUE(Await(store_->RemoveRootfs("a", "")).ok());
  ASSERT_TRUE(Mount("c").ok());
  EXPECT_EQ(Usage("c").inodes, 1u);
  EXPECT_EQ(Usage("b").inodes, 2u);
}

}  // namespace
}  // namespace keelson::images
