#include "cri/server/checkpoint_archive.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <map>

#include "base/fd.h"
#include "base/strings.h"

namespace keelson::cri {
namespace {

using ::testing::HasSubstr;

struct Member {
  unsigned type = 0;
  mode_t mode = 0;
  std::string text, link;
};

std::map<std::string, Member> ReadTar(const std::string& path) {
  std::map<std::string, Member> out;
  std::unique_ptr<archive, int (*)(archive*)> tar(::archive_read_new(), ::archive_read_free);
  ::archive_read_support_format_tar(tar.get());
  EXPECT_EQ(::archive_read_open_filename(tar.get(), path.c_str(), 1 << 16), ARCHIVE_OK);
  archive_entry* entry = nullptr;
  while (::archive_read_next_header(tar.get(), &entry) == ARCHIVE_OK) {
    Member member;
    member.type = ::archive_entry_filetype(entry);
    member.mode = ::archive_entry_perm(entry);
    if (const char* link = ::archive_entry_symlink(entry)) member.link = link;
    char buffer[4096];
    la_ssize_t n;
    while ((n = ::archive_read_data(tar.get(), buffer, sizeof buffer)) > 0) member.text.append(buffer, n);
    out[::archive_entry_pathname(entry)] = member;
  }
  return out;
}

class CheckpointArchiveTest : public testing::Test {
 protected:
  void SetUp() override {
    char pattern[] = "/tmp/keelson-checkpoint-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern), nullptr);
    dir_ = pattern;
  }
  void TearDown() override { ASSERT_TRUE(RemoveTree(dir_).ok()); }
  void Write(const std::string& name, const std::string& text) {
    ASSERT_TRUE(MakeDirs(dir_ + "/" + name.substr(0, name.rfind('/')), 0755).ok());
    ASSERT_TRUE(WriteFileAtomic(dir_ + "/" + name, text, 0640, false).ok());
  }
  std::string dir_;
};

TEST_F(CheckpointArchiveTest, HasEverythingThatOthersExpect) {
  Write("work/dump.log", "log");
  Write("work/stats-dump", "stats");
  Write("images/core-1.img", std::string(300000, 'c'));
  Write("images/descriptors.json", "[]");
  Write("upper/data/file", "written");
  Write("volumes/0/kept", "in a volume");
  CheckpointParts parts;
  parts.config_dump = "{}";
  parts.spec_dump = "{\"ociVersion\":\"1\"}";
  parts.images_dir = dir_ + "/images";
  parts.work_dir = dir_ + "/work";
  parts.upper_dir = dir_ + "/upper";
  parts.volumes_dir = dir_ + "/volumes";
  std::string path = dir_ + "/a.tar";
  mode_t before = ::umask(0);
  absl::Status written = WriteCheckpointArchive(parts, path);
  ::umask(before);
  ASSERT_TRUE(written.ok()) << written;
  struct stat info;
  ASSERT_EQ(::stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0600u);
  auto members = ReadTar(path);
  EXPECT_EQ(members["config.dump"].text, "{}");
  EXPECT_EQ(members["spec.dump"].text, parts.spec_dump);
  EXPECT_EQ(members["dump.log"].text, "log");
  EXPECT_EQ(members["stats-dump"].text, "stats");
  EXPECT_EQ(members["checkpoint/"].type, static_cast<unsigned>(AE_IFDIR));
  EXPECT_EQ(members["checkpoint/core-1.img"].text, std::string(300000, 'c'));
  EXPECT_EQ(members["checkpoint/core-1.img"].mode, 0600u);
  EXPECT_EQ(members["checkpoint/descriptors.json"].text, "[]");
  ASSERT_TRUE(WriteFileAtomic(dir_ + "/diff.tar", members["rootfs-diff.tar"].text, 0600, false).ok());
  auto diff = ReadTar(dir_ + "/diff.tar");
  EXPECT_EQ(diff["data/file"].text, "written");
  EXPECT_EQ(diff["data/file"].mode, 0640u);
  ASSERT_TRUE(WriteFileAtomic(dir_ + "/volumes.tar", members["volumes.tar"].text, 0600, false).ok());
  EXPECT_EQ(ReadTar(dir_ + "/volumes.tar")["0/kept"].text, "in a volume");
  parts.config_dump = "{\"again\":true}";
  ASSERT_TRUE(WriteCheckpointArchive(parts, path).ok());
  EXPECT_EQ(ReadTar(path)["config.dump"].text, parts.config_dump);
}

TEST_F(CheckpointArchiveTest, WhatCannotBeReadLeavesNoArchive) {
  CheckpointParts parts;
  parts.images_dir = dir_ + "/none";
  parts.work_dir = dir_;
  EXPECT_FALSE(WriteCheckpointArchive(parts, dir_ + "/a.tar").ok());
  EXPECT_NE(::access((dir_ + "/a.tar").c_str(), F_OK), 0);
}

TEST_F(CheckpointArchiveTest, ALayerKeepsLinksAndFollowsNone) {
  Write("upper/secret-target", "x");
  Write("upper/dir/plain", "p");
  ASSERT_EQ(::symlink("/etc/passwd", (dir_ + "/upper/link").c_str()), 0);
  ASSERT_EQ(::symlink("/etc", (dir_ + "/upper/dirlink").c_str()), 0);
  ASSERT_EQ(::mkfifo((dir_ + "/upper/pipe").c_str(), 0600), 0);
  std::string path = dir_ + "/layer.tar";
  auto fd = OpenFile(path, O_RDWR | O_CREAT | O_EXCL, 0600);
  ASSERT_TRUE(fd.ok());
  absl::Status written = WriteLayerTar(dir_ + "/upper", fd->get());
  ASSERT_TRUE(written.ok()) << written;
  auto members = ReadTar(path);
  EXPECT_EQ(members["link"].link, "/etc/passwd");
  EXPECT_EQ(members["dirlink"].type, static_cast<unsigned>(AE_IFLNK));
  EXPECT_EQ(members["pipe"].type, static_cast<unsigned>(AE_IFIFO));
  EXPECT_EQ(members["dir/plain"].text, "p");
  EXPECT_EQ(members.size(), 6u);
}

TEST(EncodeCheckpointFacts, IsWhatCheckpointctlReads) {
  CheckpointFacts facts;
  facts.id = "abc";
  facts.name = "main";
  facts.image_ref = "sha256:1";
  facts.image_name = "busybox\xff";
  facts.runtime = "runc";
  facts.created_at = "2026-01-02T03:04:05Z";
  facts.checkpointed_at = "2026-01-02T03:04:06Z";
  std::string text = EncodeCheckpointFacts(facts);
  for (const char* part :
       {"\"id\": \"abc\"", "\"name\": \"main\"", "\"rootfsImageRef\": \"sha256:1\"",
        "\"rootfsImageName\": \"busybox", "\"runtime\": \"runc\"",
        "\"createdTime\": \"2026-01-02T03:04:05Z\"", "\"checkpointedTime\": \"2026-01-02T03:04:06Z\""}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
}

TEST(CheckCheckpointLocation, TakesPlainAbsolutePathsOnly) {
  EXPECT_TRUE(CheckCheckpointLocation("/var/lib/kubelet/checkpoints/checkpoint-a_b-c-2026.tar").ok());
  EXPECT_TRUE(CheckCheckpointLocation("/a..b/.c").ok());
  for (std::string bad :
       {std::string(), std::string("relative.tar"), std::string("/"), std::string("/a/"),
        std::string("/a//b"), std::string("/a/../b"), std::string("/a/.."), std::string("/./a"),
        std::string("/a\0b", 4), "/" + std::string(250, 'n'), "/" + std::string(5000, 'n')}) {
    EXPECT_TRUE(absl::IsInvalidArgument(CheckCheckpointLocation(bad))) << bad;
  }
}

}  // namespace
}  // namespace keelson::cri
