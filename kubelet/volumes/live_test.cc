// On this host's kernel, as root: real tmpfs and bind mounts below a folder of the test's own.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <functional>
#include <utility>

#include "base/fd.h"
#include "kubelet/volumes/local_volumes.h"

namespace keelson::kubelet {
namespace {

constexpr long kTmpfsMagic = 0x01021994;

class LiveVolumes : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root to mount";
    char path[] = "/tmp/live volumes XXXXXX";  // with a space: escaped in mountinfo
    dir_ = ::mkdtemp(path);
    absl::Status probe = mounter_->MountTmpfs(dir_, 1 << 20, 0755);
    if (!probe.ok()) GTEST_SKIP() << "this host lets us mount nothing: " << probe;
    ASSERT_TRUE(mounter_->Unmount(dir_).ok());
  }
  void TearDown() override {
    if (!dir_.empty()) {
      EXPECT_TRUE(TearDownVolumes(*mounter_, dir_).ok());
    }
  }
  std::string dir_;
  std::unique_ptr<Mounter> mounter_ = NewHostMounter();
};

TEST_F(LiveVolumes, MemoryHasItsSizeAndGoesWithThePod) {
  EmptyDirSpec spec{dir_ + "/volumes/m", true, 64 << 10};
  ASSERT_TRUE(SetUpEmptyDir(*mounter_, spec).ok());
  ASSERT_TRUE(SetUpEmptyDir(*mounter_, spec).ok());
  struct statfs fs;
  ASSERT_EQ(::statfs(spec.path.c_str(), &fs), 0);
  EXPECT_EQ(fs.f_type, kTmpfsMagic);
  EXPECT_EQ(static_cast<uint64_t>(fs.f_blocks) * fs.f_bsize, 64u << 10);
  EXPECT_FALSE(WriteFileAtomic(spec.path + "/big", std::string(128 << 10, 'x'), 0600, false).ok());
  auto mounts = mounter_->MountsBelow(dir_);
  ASSERT_TRUE(mounts.ok());
  EXPECT_THAT(*mounts, ::testing::ElementsAre(spec.path));
  ASSERT_TRUE(TearDownVolumes(*mounter_, dir_ + "/volumes").ok());
  EXPECT_NE(::access(spec.path.c_str(), F_OK), 0);
}

TEST_F(LiveVolumes, ABoundSubPathIsNotEmptiedByTearDown) {
  std::string volume = dir_ + "/host";
  ASSERT_TRUE(MakeDirs(volume + "/sub").ok());
  ASSERT_TRUE(WriteFileAtomic(volume + "/sub/kept", "x", 0600, false).ok());
  std::string target = dir_ + "/volume-subpaths/v/c/0";
  ASSERT_TRUE(BindSubPath(*mounter_, volume, "sub", target).ok());
  ASSERT_TRUE(BindSubPath(*mounter_, volume, "sub", target).ok());  // already there: not mounted twice
  EXPECT_EQ(mounter_->MountsBelow(target)->size(), 1u);
  EXPECT_EQ(::access((target + "/kept").c_str(), F_OK), 0);
  // The folder was replaced behind our back: the mount follows what the path means now.
  ASSERT_EQ(::rename((volume + "/sub").c_str(), (volume + "/old").c_str()), 0);
  ASSERT_TRUE(BindSubPath(*mounter_, volume, "sub", target).ok());
  EXPECT_NE(::access((target + "/kept").c_str(), F_OK), 0);
  ASSERT_TRUE(WriteFileAtomic(target + "/new", "x", 0600, false).ok());
  ASSERT_TRUE(TearDownVolumes(*mounter_, dir_ + "/volume-subpaths").ok());
  EXPECT_NE(::access((dir_ + "/volume-subpaths").c_str(), F_OK), 0);
  EXPECT_EQ(::access((volume + "/old/kept").c_str(), F_OK), 0);
  EXPECT_EQ(::access((volume + "/sub/new").c_str(), F_OK), 0);
}

// The host's mounts, and somebody who is as fast as can be between the check and the mount.
class RacingMounter : public Mounter {
 public:
  RacingMounter(Mounter* host, std::function<void()> race) : host_(host), race_(std::move(race)) {}
  absl::Status MountTmpfs(const std::string& target, int64_t size_bytes, uint32_t mode) override {
    return host_->MountTmpfs(target, size_bytes, mode);
  }
  absl::Status BindFd(int source_fd, const std::string& target) override {
    return host_->BindFd(source_fd, target);
  }
  absl::Status Unmount(const std::string& target) override { return host_->Unmount(target); }
  absl::StatusOr<std::vector<std::string>> MountsBelow(const std::string& dir) override {
    if (race_) std::exchange(race_, nullptr)();
    return host_->MountsBelow(dir);
  }

 private:
  Mounter* host_;
  std::function<void()> race_;
};

// CVE-2021-25741.
TEST_F(LiveVolumes, ASwappedSubPathLeadsNowhereElse) {
  const std::string volume = dir_ + "/volume", secret = dir_ + "/secret", target = dir_ + "/subpaths/0";
  ASSERT_TRUE(MakeDirs(volume + "/a").ok());
  ASSERT_TRUE(MakeDirs(secret).ok());
  ASSERT_TRUE(WriteFileAtomic(volume + "/a/own", "x", 0600, false).ok());
  ASSERT_TRUE(WriteFileAtomic(secret + "/key", "x", 0600, false).ok());
  RacingMounter racing(mounter_.get(), [&] {
    ASSERT_EQ(::rename((volume + "/a").c_str(), (volume + "/old").c_str()), 0);
    ASSERT_EQ(::symlink(secret.c_str(), (volume + "/a").c_str()), 0);
  });
  ASSERT_TRUE(BindSubPath(racing, volume, "a", target).ok());
  ASSERT_EQ(::access((volume + "/a/key").c_str(), F_OK), 0);  // it was swapped
  EXPECT_NE(::access((target + "/key").c_str(), F_OK), 0);
  EXPECT_EQ(::access((target + "/own").c_str(), F_OK), 0);
  // Whoever comes later, with the link in its place, is refused; the mount that is there stays.
  EXPECT_FALSE(BindSubPath(*mounter_, volume, "a", target).ok());
  EXPECT_EQ(::access((target + "/own").c_str(), F_OK), 0);
}

TEST_F(LiveVolumes, AMountInUseIsDetached) {
  EmptyDirSpec spec{dir_ + "/volumes/m", true};
  ASSERT_TRUE(SetUpEmptyDir(*mounter_, spec).ok());
  Fd busy = *OpenFile(spec.path, O_RDONLY | O_DIRECTORY);
  ASSERT_TRUE(TearDownVolumes(*mounter_, dir_ + "/volumes").ok());
  EXPECT_NE(::access(spec.path.c_str(), F_OK), 0);
}

}  // namespace
}  // namespace keelson::kubelet
