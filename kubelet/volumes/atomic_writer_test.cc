#include "kubelet/volumes/atomic_writer.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "base/fd.h"

namespace keelson::kubelet {
namespace {

class AtomicWriter : public ::testing::Test {
 protected:
  AtomicWriter() {
    char path[] = "/tmp/atomic_writer_XXXXXX";
    dir_ = ::mkdtemp(path);
    fd_ = *OpenFile(dir_, O_RDONLY | O_DIRECTORY);
  }
  ~AtomicWriter() override { (void)RemoveTree(dir_); }
  bool Write(const Payload& payload) {
    auto changed = WriteAtomically(fd_.get(), payload, -1, now_);
    EXPECT_TRUE(changed.ok()) << changed.status();
    return changed.ok() && *changed;
  }
  std::string Read(const std::string& name) {
    auto text = ReadFile(dir_ + "/" + name);
    return text.ok() ? *text : "<" + text.status().ToString() + ">";
  }
  std::vector<std::string> Names() {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(dir_))
      names.push_back(entry.path().filename());
    std::sort(names.begin(), names.end());
    return names;
  }
  std::string dir_;
  Fd fd_;
  absl::Time now_ = absl::FromUnixSeconds(1);
};

TEST_F(AtomicWriter, ShowsTheFilesByLinks) {
  EXPECT_TRUE(Write({{"a", {"1", 0640}}, {"d/b", {"2", 0400}}}));
  EXPECT_EQ(Read("a"), "1");
  EXPECT_EQ(Read("d/b"), "2");
  EXPECT_THAT(Names(), ::testing::ElementsAre("..1970_01_01_00_00_01.0", "..data", "a", "d"));
  EXPECT_EQ(std::filesystem::read_symlink(dir_ + "/a"), "..data/a");
  struct stat st;
  ASSERT_EQ(::stat((dir_ + "/d/b").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 07777, 0400u);
}

TEST_F(AtomicWriter, UnchangedIsLeftAlone) {
  Payload payload = {{"a", {"1"}}, {"d/b", {"2"}}};
  EXPECT_TRUE(Write(payload));
  std::string before = std::filesystem::read_symlink(dir_ + "/..data");
  now_ += absl::Seconds(1);
  EXPECT_FALSE(Write(payload));
  EXPECT_EQ(std::filesystem::read_symlink(dir_ + "/..data"), before);
  payload["a"].mode = 0600;
  EXPECT_TRUE(Write(payload));
}

TEST_F(AtomicWriter, AChangeSwapsAllAtOnceAndRemovesWhatWent) {
  EXPECT_TRUE(Write({{"a", {"1"}}, {"old/x", {"2"}}}));
  Fd held = *OpenFile(dir_ + "/a", O_RDONLY);
  now_ += absl::Seconds(1);
  EXPECT_TRUE(Write({{"a", {"10"}}, {"new", {"3"}}}));
  EXPECT_EQ(Read("a"), "10");
  EXPECT_EQ(*ReadFd(held.get(), 10), "1");  // a reader of the old file reads it to its end
  EXPECT_THAT(Names(), ::testing::ElementsAre("..1970_01_01_00_00_02.0", "..data", "a", "new"));
  EXPECT_TRUE(Write({}));
  EXPECT_THAT(Names(), ::testing::ElementsAre("..1970_01_01_00_00_02.0.1", "..data"));
}

TEST_F(AtomicWriter, AKilledWritersRestIsCleanedUp) {
  EXPECT_TRUE(Write({{"a", {"1"}}}));
  ASSERT_TRUE(MakeDirs(dir_ + "/..1999_leftover/a").ok());
  ASSERT_EQ(::symlink("nowhere", (dir_ + "/..data_tmp").c_str()), 0);
  EXPECT_TRUE(Write({{"a", {"2"}}}));
  EXPECT_EQ(Read("a"), "2");
  EXPECT_THAT(Names(), ::testing::ElementsAre("..1970_01_01_00_00_01.0.1", "..data", "a"));
}

TEST_F(AtomicWriter, PathsThatLeaveAreRefused) {
  EXPECT_FALSE(WriteAtomically(fd_.get(), {{"../a", {"1"}}}, -1, now_).ok());
  EXPECT_TRUE(Names().empty());
}

TEST_F(AtomicWriter, FsGroupMayRead) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to give files away";
  ASSERT_TRUE(WriteAtomically(fd_.get(), {{"a", {"1", 0400, 7}}}, 1234, now_).ok());
  struct stat st;
  ASSERT_EQ(::stat((dir_ + "/a").c_str(), &st), 0);
  EXPECT_EQ(st.st_gid, 1234u);
  EXPECT_EQ(st.st_uid, 7u);
  EXPECT_EQ(st.st_mode & 07777, 0440u);
  EXPECT_FALSE(*WriteAtomically(fd_.get(), {{"a", {"1", 0400, 7}}}, 1234, now_ + absl::Seconds(1)));
}

}  // namespace
}  // namespace keelson::kubelet
