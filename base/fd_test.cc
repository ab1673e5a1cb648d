#include "base/fd.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/paths.h"
#include "base/strings.h"

namespace keelson {
namespace {

class FdTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/keelson-fd-XXXXXX";
    dir_ = ::mkdtemp(name);
  }
  void TearDown() override { EXPECT_TRUE(RemoveTree(dir_).ok()); }
  std::string dir_;
};

TEST_F(FdTest, WriteAtomicThenRead) {
  std::string path = dir_ + "/file";
  ASSERT_TRUE(WriteFileAtomic(path, "one", 0600).ok());
  ASSERT_TRUE(WriteFileAtomic(path, "two", 0640).ok());
  EXPECT_EQ(*ReadFile(path), "two");
  struct stat st;
  ASSERT_EQ(::stat(path.c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0640u);
  EXPECT_EQ(ReadFile(path, 2).status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ReadFile(dir_ + "/none").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(FdTest, ANewFileIsWholeOrNotThere) {
  const std::string folder = dir_ + "/new", path = folder + "/a";
  ASSERT_TRUE(MakeDirs(folder).ok());
  auto write = [](std::string_view text) { return [text](int fd) { return WriteAll(fd, text); }; };
  ASSERT_TRUE(WriteNewFile(path, 0640, true, write("first")).ok());
  ASSERT_TRUE(WriteNewFile(path, 0640, false, write("second")).ok());
  EXPECT_EQ(*ReadFile(path), "second");
  struct stat info;
  ASSERT_EQ(::stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0640u);
  auto fails = [](int fd) {
    (void)WriteAll(fd, "half");
    return absl::DataLossError("the source ends");
  };
  EXPECT_TRUE(absl::IsDataLoss(WriteNewFile(path, 0640, true, fails)));
  const pid_t child = ::fork();  // tidy: allow process: it dies half way
  if (child == 0) {
    auto dies = [](int fd) -> absl::Status {
      (void)WriteAll(fd, "half");
      ::_exit(7);
    };
    (void)WriteNewFile(path, 0640, true, dies);
    ::_exit(8);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_EQ(WEXITSTATUS(status), 7);
  EXPECT_EQ(*ReadFile(path), "second");
  EXPECT_EQ(FolderNames(folder)->size(), 1u) << "something half made is left";
  EXPECT_FALSE(WriteNewFile(dir_ + "/none/a", 0640, true, write("x")).ok());
}

TEST_F(FdTest, TheRestIsCopied) {
  std::string text(600 << 10, 'x');
  text += "end";
  ASSERT_TRUE(WriteFileAtomic(dir_ + "/from", text, 0644, false).ok());
  Fd from = OpenFile(dir_ + "/from", O_RDONLY).value();
  ASSERT_EQ(::lseek(from.get(), 100, SEEK_SET), 100);
  Fd to = OpenFile(dir_ + "/to", O_WRONLY | O_CREAT, 0644).value();
  ASSERT_TRUE(CopyRest(from.get(), to.get()).ok());
  EXPECT_EQ(*ReadFile(dir_ + "/to"), text.substr(100));
  // What the kernel does not copy by itself.
  int pipe[2];
  ASSERT_EQ(::pipe(pipe), 0);
  Fd read_end(pipe[0]), write_end(pipe[1]);
  ASSERT_TRUE(WriteAll(write_end.get(), "through a pipe").ok());
  write_end = Fd();
  ASSERT_TRUE(CopyRest(read_end.get(), to.get()).ok());
  EXPECT_EQ(*ReadFile(dir_ + "/to"), text.substr(100) + "through a pipe");
  EXPECT_FALSE(CopyRest(to.get(), from.get()).ok()) << "neither is open for that";
}

TEST_F(FdTest, OpenBeneathStaysInside) {
  ASSERT_TRUE(MakeDirs(dir_ + "/in/deep").ok());
  ASSERT_TRUE(WriteFileAtomic(dir_ + "/secret", "x").ok());
  ASSERT_TRUE(WriteFileAtomic(dir_ + "/in/deep/ok", "y").ok());
  ASSERT_EQ(::symlink("../secret", (dir_ + "/in/up").c_str()), 0);
  ASSERT_EQ(::symlink("/etc/passwd", (dir_ + "/in/abs").c_str()), 0);
  auto in = OpenFile(dir_ + "/in", O_PATH | O_DIRECTORY);
  ASSERT_TRUE(in.ok());
  EXPECT_TRUE(OpenBeneath(in->get(), "deep/ok", O_RDONLY).ok());
  for (const char* bad : {"../secret", "up", "abs", "deep/../../secret"}) {
    EXPECT_EQ(OpenBeneath(in->get(), bad, O_RDONLY).status().code(), absl::StatusCode::kPermissionDenied)
        << bad;
  }
  // In-root resolution treats the folder as "/": the absolute link points nowhere inside it.
  EXPECT_EQ(OpenInRoot(in->get(), "abs", O_RDONLY).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(FdTest, NamesOfAFolder) {
  for (const char* name : {"b", "a", ".hidden"})
    ASSERT_TRUE(WriteFileAtomic(StrCat(dir_, "/", name), "").ok());
  const std::vector<std::string> all = {".hidden", "a", "b"};
  EXPECT_EQ(*FolderNames(dir_), all);
  auto fd = OpenFile(dir_, O_RDONLY | O_DIRECTORY);
  ASSERT_TRUE(fd.ok());
  // Twice: its offset is not moved.
  EXPECT_EQ(*FolderNames(fd->get()), all);
  EXPECT_EQ(*FolderNames(fd->get(), 3), all);
  EXPECT_EQ(FolderNames(dir_, 2).status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(FolderNames(dir_ + "/none").status().code(), absl::StatusCode::kNotFound);
  EXPECT_FALSE(FolderNames(dir_ + "/a").ok());
}

TEST_F(FdTest, RemoveTreeDoesNotFollowLinks) {
  ASSERT_TRUE(MakeDirs(dir_ + "/keep").ok());
  ASSERT_TRUE(WriteFileAtomic(dir_ + "/keep/file", "x").ok());
  ASSERT_TRUE(MakeDirs(dir_ + "/gone/a/b").ok());
  ASSERT_EQ(::symlink((dir_ + "/keep").c_str(), (dir_ + "/gone/a/link").c_str()), 0);
  EXPECT_TRUE(RemoveTree(dir_ + "/gone").ok());
  EXPECT_TRUE(RemoveTree(dir_ + "/gone").ok());
  EXPECT_TRUE(ReadFile(dir_ + "/keep/file").ok());
}

TEST(PathsTest, RootMovesEverything) {
  Paths defaults = Paths::WithRoot("");
  EXPECT_EQ(defaults.kubelet_dir, "/var/lib/kubelet");
  EXPECT_EQ(defaults.cgroup_root, "");
  Paths moved = Paths::WithRoot("/srv/n1/");
  EXPECT_EQ(moved.kubelet_dir, "/srv/n1/var/lib/kubelet");
  EXPECT_EQ(moved.cgroup_root, "keelson-n1");
}

}  // namespace
}  // namespace keelson
