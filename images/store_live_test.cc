// On the real kernel and a real registry: Debian's docker-registry on a free port of loopback, with images of
// our own pushed into it. Everything lies in a temporary directory.
#include <gtest/gtest.h>
#include <linux/magic.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <fstream>

#include "base/status.h"
#include "base/strings.h"
#include "images/image_store.h"
#include "images/manifest.h"
#include "images/testing/test_images.h"
#include "images/testing/test_store.h"
#include "net/http_client.h"

namespace keelson::images {
namespace {

class StoreLiveTest : public StoreTest {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root";
    StoreTest::SetUp();
  }
  void TearDown() override {
    if (store_ != nullptr) {
      for (const std::string& key : store_->RootfsKeys()) {
        EXPECT_TRUE(Await(store_->RemoveRootfs(key, "")).ok());
      }
    }
    StoreTest::TearDown();
  }
  absl::Status Mount(const std::string& key, const std::string& image, bool readonly = false) {
    RootfsOptions options;
    options.key = key;
    options.image_id = image;
    options.mount_path = Path(key);
    options.readonly = readonly;
    return Await(store_->MountRootfs(options));
  }
  std::string Path(const std::string& key) const { return dir_.path() + "/mnt-" + key; }
  static std::string Read(const std::string& path) {
    auto text = ReadFile(path);
    return text.ok() ? *text : StrCat("<", text.status().ToString(), ">");
  }
};

// The layers of this image use every kind of entry.
std::vector<std::string> FullLayers() {
  std::string base = MakeTar({
      {.name = "./", .type = '5', .mode = 0755},
      {.name = "./bin/", .type = '5', .mode = 0755},
      {.name = "./bin/su", .data = "su", .mode = 04755},
      {.name = "./bin/caps",
       .data = "caps",
       .mode = 0755,
       .pax = {{"SCHILY.xattr.security.capability",
                std::string(
                    "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", 20)},
               {"SCHILY.xattr.user.note", "hello"},
               {"SCHILY.xattr.trusted.overlay.redirect", "/etc"}}},
      {.name = "./bin/link", .type = '1', .link = "./bin/su"},
      {.name = "./bin/sym", .type = '2', .link = "su"},
      {.name = "./dev/", .type = '5', .mode = 0755},
      {.name = "./dev/null", .type = '3', .mode = 0666, .major = 1, .minor = 3},
      {.name = "./dev/fifo", .type = '6', .mode = 0600},
      {.name = "./tmp/", .type = '5', .mode = 01777},
      {.name = "./home/", .type = '5', .mode = 0750, .uid = 1000, .gid = 1001},
      {.name = "./home/f", .data = "f", .mode = 0640, .uid = 1000, .gid = 1001},
      {.name = "./gone", .data = "gone"},
      {.name = "./opaque/", .type = '5', .mode = 0755},
      {.name = "./opaque/old", .data = "old"},
  });
  std::string top = MakeTar({
      {.name = ".wh.gone"},
      {.name = "opaque/", .type = '5', .mode = 0755},
      {.name = "opaque/.wh..wh..opq"},
      {.name = "opaque/new", .data = "new"},
      {.name = "tmp/x", .data = "x"},  // tmp itself is not in this layer
      {.name = "home/g", .data = "g"},
  });
  return {base, top};
}

TEST_F(StoreLiveTest, RootfsShowsWhatTheLayersSay) {
  registry_.Add("full", "1", MakeImage(FullLayers()));
  auto id = Pull("full:1");
  ASSERT_TRUE(id.ok()) << id.status();
  ASSERT_TRUE(Mount("c1", *id).ok());
  std::string root = Path("c1");
  struct stat st;
  ASSERT_EQ(::stat((root + "/bin/su").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 07777, 04755u);
  EXPECT_EQ(st.st_nlink, 2u);
  EXPECT_EQ(st.st_mtim.tv_sec, 1'000'000'000);
  EXPECT_EQ(Read(root + "/bin/sym"), "su");
  char value[64];
  EXPECT_EQ(::getxattr((root + "/bin/caps").c_str(), "security.capability", value, sizeof value), 20);
  EXPECT_EQ(::getxattr((root + "/bin/caps").c_str(), "user.note", value, sizeof value), 5);
  ASSERT_EQ(::stat((root + "/dev/null").c_str(), &st), 0);
  EXPECT_TRUE(S_ISCHR(st.st_mode));
  EXPECT_EQ(st.st_rdev, makedev(1, 3));
  ASSERT_EQ(::stat((root + "/dev/fifo").c_str(), &st), 0);
  EXPECT_TRUE(S_ISFIFO(st.st_mode));
  EXPECT_EQ(::access((root + "/gone").c_str(), F_OK), -1);
  EXPECT_EQ(::access((root + "/opaque/old").c_str(), F_OK), -1);
  EXPECT_EQ(Read(root + "/opaque/new"), "new");
  // Directories that the upper layer implies keep what the lower one said.
  ASSERT_EQ(::stat((root + "/tmp").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 07777, 01777u);
  ASSERT_EQ(::stat((root + "/home").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 07777, 0750u);
  EXPECT_EQ(st.st_uid, 1000u);
  EXPECT_EQ(st.st_gid, 1001u);
  EXPECT_EQ(st.st_mtim.tv_sec, 1'000'000'000);
  EXPECT_EQ(Read(root + "/home/f"), "f");
  EXPECT_EQ(Read(root + "/home/g"), "g");
  // Written things go to the container's own directory.
  std::ofstream(root + "/written") << std::string(10000, 'w');
  auto usage = Await(store_->RootfsUsage("c1"));
  ASSERT_TRUE(usage.ok());
  EXPECT_GE(usage->used_bytes, 10000u);
  EXPECT_EQ(usage->inodes, 2u);
  // The same mount again is success, after a restart too.
  EXPECT_TRUE(Mount("c1", *id).ok());
  Reopen();
  EXPECT_EQ(store_->RootfsKeys(), std::vector<std::string>{"c1"});
  EXPECT_TRUE(Mount("c1", *id).ok());
  // Unmounted by somebody (a reboot): mounted again with what was written.
  ASSERT_EQ(::umount(root.c_str()), 0);
  EXPECT_TRUE(Mount("c1", *id).ok());
  EXPECT_EQ(Read(root + "/written").size(), 10000u);
  // Read-only beside it.
  ASSERT_TRUE(Mount("c2", *id, /*readonly=*/true).ok());
  EXPECT_EQ(Read(Path("c2") + "/bin/su"), "su");
  EXPECT_NE(::access((Path("c2") + "/bin").c_str(), W_OK), 0);
  EXPECT_EQ(::mkdir((Path("c2") + "/x").c_str(), 0755), -1);
  EXPECT_EQ(errno, EROFS);
  // The image goes, its layers stay while containers use them, then go too.
  ASSERT_TRUE(Await(store_->Remove(*id)).ok());
  EXPECT_EQ(store_->Find(*id), nullptr);
  EXPECT_EQ(Read(root + "/bin/su"), "su");
  Reopen();
  EXPECT_EQ(Read(root + "/bin/su"), "su");
  EXPECT_TRUE(Await(store_->RemoveRootfs("c1", root)).ok());
  EXPECT_TRUE(Await(store_->RemoveRootfs("c1", root)).ok());
  EXPECT_GT(Await(store_->Usage())->used_bytes, 0u);
  EXPECT_TRUE(Await(store_->RemoveRootfs("c2", "")).ok());
  EXPECT_EQ(Await(store_->Usage())->used_bytes, 0u);
  EXPECT_EQ(::access(root.c_str(), F_OK), -1);
}

}  // namespace
}  // namespace keelson::images
