#include "base/version_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>

#include "base/fd.h"
#include "base/strings.h"

namespace keelson {
namespace {

class VersionFileTest : public testing::Test {
 protected:
  void SetUp() override {
    char pattern[] = "/tmp/keelson-versions-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern), nullptr);
    dir_ = pattern;
    path_ = dir_ + "/file";
  }
  void TearDown() override { ASSERT_TRUE(RemoveTree(dir_).ok()); }
  struct stat Stat() {
    struct stat st = {};
    EXPECT_EQ(::stat(path_.c_str(), &st), 0);
    return st;
  }
  std::string Last() {
    absl::StatusOr<std::string> last = ReadVersion(path_, 1 << 20);
    return last.ok() ? *last : std::string(last.status().ToString());
  }
  std::string dir_, path_;
};

TEST_F(VersionFileTest, TheLastVersionCountsAndTheFileStaysTheSame) {
  ASSERT_TRUE(PutVersion(path_, "first").ok());
  struct stat before = Stat();
  EXPECT_EQ(before.st_mode & 07777, 0600u);
  EXPECT_EQ(Last(), "first");
  ASSERT_TRUE(PutVersion(path_, "").ok());
  EXPECT_EQ(Last(), "");
  ASSERT_TRUE(PutVersion(path_, std::string("with\0zero\nend", 13)).ok());
  EXPECT_EQ(Last(), std::string("with\0zero\nend", 13));
  EXPECT_EQ(Stat().st_ino, before.st_ino);
  EXPECT_GT(Stat().st_size, before.st_size);
}

TEST_F(VersionFileTest, EveryTornTailLeavesTheVersionBefore) {
  ASSERT_TRUE(PutVersion(path_, "one").ok());
  size_t one = static_cast<size_t>(Stat().st_size);
  ASSERT_TRUE(PutVersion(path_, "version two\nend").ok());
  std::string whole = *ReadFile(path_);
  for (size_t length = 0; length < whole.size(); ++length) {
    ASSERT_TRUE(WriteFileAtomic(path_, whole.substr(0, length), 0600, false).ok());
    if (length < one) {
      EXPECT_TRUE(absl::IsDataLoss(ReadVersion(path_, 1 << 20).status())) << length;
    } else {
      EXPECT_EQ(Last(), "one") << length;
    }
    // Whatever the tail is, what is put behind it is found.
    ASSERT_TRUE(PutVersion(path_, "three").ok());
    EXPECT_EQ(Last(), "three") << length;
    ASSERT_TRUE(PutVersion(path_, "four").ok());
    EXPECT_EQ(Last(), "four") << length;
  }
}

TEST_F(VersionFileTest, AChangedByteIsNeverAVersion) {
  ASSERT_TRUE(PutVersion(path_, "one").ok());
  ASSERT_TRUE(PutVersion(path_, "two").ok());
  std::string whole = *ReadFile(path_);
  for (size_t at = 6; at < whole.size(); ++at) {
    std::string changed = whole;
    changed[at] = static_cast<char>(changed[at] ^ 8);
    absl::StatusOr<std::string_view> last = LastVersion(changed);
    EXPECT_TRUE(!last.ok() || *last == "one" || *last == "two") << at << *last;
  }
}

TEST_F(VersionFileTest, AFileOfAnotherFormIsOneDocumentUntilItIsReplaced) {
  ASSERT_TRUE(WriteFileAtomic(path_, "{\"json\": 1}", 0600, false).ok());
  EXPECT_EQ(Last(), "{\"json\": 1}");
  ASSERT_TRUE(PutVersion(path_, "{}").ok());
  EXPECT_EQ(Last(), "{}");
}

TEST_F(VersionFileTest, LongFilesAreWrittenAnew) {
  std::string document(10 << 10, 'x');
  for (int i = 0; i < 100; ++i) {
    document[0] = static_cast<char>('a' + i % 26);
    ASSERT_TRUE(PutVersion(path_, document).ok());
    ASSERT_EQ(Last(), document);
    ASSERT_LE(Stat().st_size, 64 << 10);
  }
  document.assign(100 << 10, 'y');
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(PutVersion(path_, document).ok());
    ASSERT_LE(Stat().st_size, 201 << 10);
  }
  EXPECT_EQ(Last(), document);
  EXPECT_TRUE(absl::IsResourceExhausted(ReadVersion(path_, 1000).status()));
}

TEST_F(VersionFileTest, AFullDiskLeavesTheVersionBefore) {
  ASSERT_TRUE(PutVersion(path_, "kept").ok());
  off_t size = Stat().st_size;
  // A limit on file sizes cuts a write short as a disk that fills up does.
  struct rlimit before = {};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  auto handler = std::signal(SIGXFSZ, SIG_IGN);
  struct rlimit limit = {static_cast<rlim_t>(size + 100), before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
  absl::Status put = PutVersion(path_, std::string(1000, 'x'));
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, handler);
  EXPECT_FALSE(put.ok());
  EXPECT_EQ(Stat().st_size, size);
  EXPECT_EQ(Last(), "kept");
}

TEST_F(VersionFileTest, NotThroughALinkAndNotWithoutAFolder) {
  ASSERT_TRUE(WriteFileAtomic(dir_ + "/other", "theirs", 0600, false).ok());
  ASSERT_EQ(::symlink("other", path_.c_str()), 0);
  EXPECT_FALSE(PutVersion(path_, "x").ok());
  EXPECT_EQ(*ReadFile(dir_ + "/other"), "theirs");
  EXPECT_TRUE(absl::IsNotFound(ReadVersion(dir_ + "/none", 100).status()));
  EXPECT_FALSE(PutVersion(dir_ + "/no/folder", "x").ok());
}

}  // namespace
}  // namespace keelson
