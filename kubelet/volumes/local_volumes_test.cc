#include "kubelet/volumes/local_volumes.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "kubelet/volumes/testing/fake_mounter.h"

namespace keelson::kubelet {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class LocalVolumes : public ::testing::Test {
 protected:
  LocalVolumes() {
    char path[] = "/tmp/local_volumes_XXXXXX";
    dir_ = ::mkdtemp(path);
  }
  ~LocalVolumes() override { (void)RemoveTree(dir_); }
  uint32_t ModeOf(const std::string& path) {
    struct stat st {};
    return ::stat(path.c_str(), &st) == 0 ? st.st_mode & 07777 : 0;
  }
  bool Exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }
  ino_t Inode(const std::string& path) {
    struct stat st {};
    return ::stat(path.c_str(), &st) == 0 ? st.st_ino : 0;
  }
  std::string dir_;
  FakeMounter mounter_;
};

TEST_F(LocalVolumes, EmptyDirIsOpenToAllAndKeepsItsContent) {
  EmptyDirSpec spec{dir_ + "/pods/u/volumes/kubernetes.io~empty-dir/v"};
  ASSERT_TRUE(SetUpEmptyDir(mounter_, spec).ok());
  EXPECT_EQ(ModeOf(spec.path), 0777u);
  ASSERT_TRUE(WriteFileAtomic(spec.path + "/data", "x", 0600, false).ok());
  ASSERT_EQ(::chmod(spec.path.c_str(), 0700), 0);
  ASSERT_TRUE(SetUpEmptyDir(mounter_, spec).ok());
  EXPECT_EQ(ModeOf(spec.path), 0700u);  // the container's choice stays
  EXPECT_TRUE(Exists(spec.path + "/data"));
}

TEST_F(LocalVolumes, MemoryIsMountedOnce) {
  EmptyDirSpec spec{dir_ + "/v", true, 1 << 20};
  ASSERT_TRUE(SetUpEmptyDir(mounter_, spec).ok());
  ASSERT_TRUE(SetUpEmptyDir(mounter_, spec).ok());
  ASSERT_EQ(mounter_.mounts.size(), 1u);
  EXPECT_EQ(mounter_.mounts[0].size_bytes, 1 << 20);
}

TEST_F(LocalVolumes, FsGroupOwnsEverythingAndFollowsNoLink) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to give files away";
  std::string outside = dir_ + "/outside";
  ASSERT_TRUE(WriteFileAtomic(outside, "x", 0600, false).ok());
  ASSERT_TRUE(MakeDirs(dir_ + "/v/sub").ok());
  ASSERT_TRUE(WriteFileAtomic(dir_ + "/v/sub/f", "x", 0600, false).ok());
  ASSERT_EQ(::symlink(outside.c_str(), (dir_ + "/v/link").c_str()), 0);
  ASSERT_TRUE(ApplyFsGroup(dir_ + "/v", 4321, false).ok());
  struct stat st;
  ASSERT_EQ(::stat((dir_ + "/v/sub/f").c_str(), &st), 0);
  EXPECT_EQ(st.st_gid, 4321u);
  EXPECT_EQ(st.st_mode & 07777, 0660u);
  ASSERT_EQ(::stat((dir_ + "/v/sub").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 07777, 02775u);
  ASSERT_EQ(::stat(outside.c_str(), &st), 0);
  EXPECT_EQ(st.st_gid, 0u);
  EXPECT_EQ(st.st_mode & 07777, 0600u);
}

TEST_F(LocalVolumes, HostPathTypes) {
  ASSERT_TRUE(WriteFileAtomic(dir_ + "/file", "", 0600, false).ok());
  struct Case {
    const char* path;
    const char* type;
    bool ok;
  } cases[] = {
      {"/nope", "", true},
      {"/file", "File", true},
      {"/file", "Directory", false},
      {"/nope", "File", false},
      {"/nope", "Directory", false},
      {"", "Directory", true},
      {"/made/deep", "DirectoryOrCreate", true},
      {"/made/deep", "Directory", true},
      {"/made/f", "FileOrCreate", true},
      {"/made/f", "File", true},
      {"/made/f", "DirectoryOrCreate", false},
      {"/file", "Socket", false},
      {"/file", "BlockDevice", false},
      {"/file", "Strange", false},
  };
  for (const Case& c : cases) {
    absl::Status status = CheckHostPath(dir_ + c.path, c.type);
    EXPECT_EQ(status.ok(), c.ok) << c.path << " " << c.type << ": " << status;
  }
  EXPECT_TRUE(CheckHostPath("/dev/null", "CharDevice").ok());
  EXPECT_FALSE(CheckHostPath("relative", "").ok());
}

TEST_F(LocalVolumes, SubPathIsMadeAndBound) {
  ASSERT_TRUE(MakeDirs(dir_ + "/v").ok());
  ASSERT_EQ(::chmod((dir_ + "/v").c_str(), S_ISGID | 0777), 0);  // an emptyDir with fsGroup
  ASSERT_TRUE(BindSubPath(mounter_, dir_ + "/v", "a/b", dir_ + "/t/0").ok());
  EXPECT_EQ(ModeOf(dir_ + "/v/a"), S_ISGID | 0777u);
  EXPECT_EQ(ModeOf(dir_ + "/v/a/b"), S_ISGID | 0777u);
  ASSERT_EQ(mounter_.mounts.size(), 1u);
  EXPECT_EQ(mounter_.mounts[0].inode, Inode(dir_ + "/v/a/b"));
  ASSERT_TRUE(WriteFileAtomic(dir_ + "/v/file", "x", 0600, false).ok());
  ASSERT_TRUE(BindSubPath(mounter_, dir_ + "/v", "file", dir_ + "/t/1").ok());
  struct stat st;
  ASSERT_EQ(::stat((dir_ + "/t/1").c_str(), &st), 0);
  EXPECT_TRUE(S_ISREG(st.st_mode));
}

// CVE-2017-1002101: a container put a link into its volume and names it as subPath.
TEST_F(LocalVolumes, SubPathDoesNotLeaveTheVolume) {
  ASSERT_TRUE(MakeDirs(dir_ + "/v/inside").ok());
  ASSERT_TRUE(MakeDirs(dir_ + "/secret").ok());
  ASSERT_EQ(::symlink("/", (dir_ + "/v/root").c_str()), 0);
  ASSERT_EQ(::symlink("../secret", (dir_ + "/v/up").c_str()), 0);
  ASSERT_EQ(::symlink("inside", (dir_ + "/v/fine").c_str()), 0);
  for (const char* path : {"root", "root/etc", "up", "up/made", "..", "../secret", "inside/../../secret"}) {
    absl::Status status = BindSubPath(mounter_, dir_ + "/v", path, dir_ + "/t/0");
    EXPECT_FALSE(status.ok()) << path;
    EXPECT_THAT(std::string(status.message()), HasSubstr("subPath")) << path;
  }
  EXPECT_FALSE(Exists(dir_ + "/secret/made"));
  EXPECT_THAT(mounter_.mounts, IsEmpty());
  EXPECT_TRUE(BindSubPath(mounter_, dir_ + "/v", "fine", dir_ + "/t/0").ok());
}

// CVE-2021-25741: the container puts a link in the place of what was checked, before it is mounted.
TEST_F(LocalVolumes, SubPathIsMountedAsItWasChecked) {
  ASSERT_TRUE(MakeDirs(dir_ + "/v/a").ok());
  ASSERT_TRUE(MakeDirs(dir_ + "/secret").ok());
  const ino_t checked = Inode(dir_ + "/v/a");
  mounter_.on_look = [this] {
    ASSERT_EQ(::rename((dir_ + "/v/a").c_str(), (dir_ + "/v/old").c_str()), 0);
    ASSERT_EQ(::symlink("../secret", (dir_ + "/v/a").c_str()), 0);
  };
  ASSERT_TRUE(BindSubPath(mounter_, dir_ + "/v", "a", dir_ + "/t/0").ok());
  ASSERT_EQ(Inode(dir_ + "/v/a"), Inode(dir_ + "/secret"));  // it was swapped
  ASSERT_EQ(mounter_.mounts.size(), 1u);
  EXPECT_EQ(mounter_.mounts[0].inode, checked);
}

TEST_F(LocalVolumes, TearDownUnmountsFirstAndStopsWhereItCannot) {
  EmptyDirSpec spec{dir_ + "/volumes/a", true};
  ASSERT_TRUE(SetUpEmptyDir(mounter_, spec).ok());
  ASSERT_TRUE(WriteFileAtomic(spec.path + "/x", "x", 0600, false).ok());
  mounter_.stuck = spec.path;
  EXPECT_THAT(std::string(TearDownVolumes(mounter_, dir_ + "/volumes").message()),
              HasSubstr("still mounted"));
  EXPECT_TRUE(Exists(spec.path + "/x"));
  mounter_.stuck.clear();
  EXPECT_TRUE(TearDownVolumes(mounter_, dir_ + "/volumes").ok());
  EXPECT_FALSE(Exists(dir_ + "/volumes"));
  EXPECT_THAT(mounter_.mounts, IsEmpty());
  EXPECT_TRUE(TearDownVolumes(mounter_, dir_ + "/volumes").ok());  // twice
}

}  // namespace
}  // namespace keelson::kubelet
