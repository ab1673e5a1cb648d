#include "cri/nri/installed.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>

#include "base/fd.h"
#include "base/strings.h"

namespace keelson::cri::nri {
namespace {

using testing::HasSubstr;

class NriInstalledTest : public testing::Test {
 protected:
  void SetUp() override {
    char pattern[] = "/tmp/keelson-nri-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern), nullptr);
    dir_ = pattern;
    ASSERT_TRUE(MakeDirs(dir_ + "/plugins", 0755).ok());
    ASSERT_TRUE(MakeDirs(dir_ + "/conf", 0755).ok());
  }
  ~NriInstalledTest() override { (void)RemoveTree(dir_); }
  void File(const std::string& name, mode_t mode, const std::string& text = "x") {
    ASSERT_TRUE(WriteFileAtomic(StrCat(dir_, "/", name), text, mode, false).ok());
    ASSERT_EQ(::chmod(StrCat(dir_, "/", name).c_str(), mode), 0);
  }
  absl::StatusOr<std::vector<InstalledPlugin>> Find() {
    return FindPlugins(dir_ + "/plugins", dir_ + "/conf");
  }
  std::string dir_;
};

TEST_F(NriInstalledTest, ProgramsWithTheirConfiguration) {
  File("plugins/20-b", 0755);
  File("plugins/10-a.b", 0700);
  File("plugins/notes.txt", 0644);
  ASSERT_TRUE(MakeDirs(dir_ + "/plugins/folder", 0755).ok());
  File("conf/b.conf", 0644, "of b");
  File("conf/a.b.conf", 0644, "of all");
  File("conf/10-a.b.conf", 0644, "its own");
  auto found = Find();
  ASSERT_TRUE(found.ok()) << found.status();
  ASSERT_EQ(found->size(), 2u);
  EXPECT_EQ((*found)[0].index, "10");
  EXPECT_EQ((*found)[0].name, "a.b");
  EXPECT_EQ((*found)[0].config, "its own");
  EXPECT_EQ((*found)[1].config, "of b");
  EXPECT_EQ((*found)[1].path, dir_ + "/plugins/20-b");
}

TEST_F(NriInstalledTest, NoFolderNoPlugins) {
  auto found = FindPlugins(dir_ + "/none", dir_ + "/none");
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_TRUE(found->empty());
}

TEST_F(NriInstalledTest, NamesThatAreNone) {
  for (const char* name : {"limits", "1-a", "10a", "10-", "ab-c", "10-a b"}) {
    File(StrCat("plugins/", name), 0755);
    absl::Status status = Find().status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << name << ": " << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(name));
    ASSERT_TRUE(RemoveTree(StrCat(dir_, "/plugins/", name)).ok());
  }
}

// They would run as root.
TEST_F(NriInstalledTest, WhatOthersCanWriteIsRefused) {
  File("plugins/10-a", 0775);
  EXPECT_TRUE(absl::IsFailedPrecondition(Find().status()));
  File("plugins/10-a", 0755);
  EXPECT_TRUE(Find().ok());
  ASSERT_EQ(::chmod((dir_ + "/plugins").c_str(), 0777), 0);
  EXPECT_TRUE(absl::IsFailedPrecondition(Find().status()));
}

}  // namespace
}  // namespace keelson::cri::nri
