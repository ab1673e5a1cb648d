#include "cri/server/metric_sources.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "base/strings.h"
#include "cgroups/testing/fake_tree.h"

namespace keelson::cri {
namespace {

TEST(CountProcesses, CountsDescriptorsAndSockets) {
  cgroups::FakeTree tree({{"7/fd/", ""}, {"8/fd/", ""}});
  auto link = [&](const std::string& path, const std::string& target) {
    std::filesystem::create_symlink(target, tree.root() + "/" + path);
  };
  link("7/fd/0", "/dev/null");
  link("7/fd/1", "socket:[123]");
  link("7/fd/2", "socket:");
  link("7/fd/3", "pipe:[9]");
  link("8/fd/0", "socket:[4]");
  ProcessCounts counts = CountProcesses({7, 8, 9}, tree.root());  // 9 has just ended
  EXPECT_EQ(counts.processes, 3u);
  EXPECT_EQ(counts.file_descriptors, 5u);
  EXPECT_EQ(counts.sockets, 2u);
  EXPECT_EQ(CountProcesses({}).processes, 0u);
}

TEST(OpenFilesLimit, IsTheSoftOne) {
  const std::string head = "Limit                     Soft Limit           Hard Limit           Units     \n";
  EXPECT_EQ(
      OpenFilesLimit(head + "Max open files            1024                 4096                 files\n"),
      1024u);
  EXPECT_EQ(
      OpenFilesLimit(head + "Max open files            unlimited            unlimited            files\n"),
      std::nullopt);
  EXPECT_EQ(OpenFilesLimit(head), std::nullopt);
  EXPECT_EQ(OpenFilesLimit("Max open files"), std::nullopt);
  EXPECT_TRUE(ReadOpenFilesLimit(::getpid()).has_value());
}

TEST(Partitions, NamesByNumber) {
  BlockDeviceNames names = ParsePartitions(
      "major minor  #blocks  name\n\n 254        0  104857600 vda\n 254        1   10 vda1\n garbage\n 1 2 "
      "3\n");
  ASSERT_EQ(names.size(), 2u);
  EXPECT_EQ((names[{254, 1}]), "/dev/vda1");
}

TEST(FilesystemSpace, OfThisHost) {
  auto space = ReadFilesystemSpace("/", {});
  ASSERT_TRUE(space.ok()) << space.status();
  EXPECT_GT(space->size_bytes, 0u);
  EXPECT_NE(space->device.find(':'), std::string::npos);
  EXPECT_TRUE(absl::IsNotFound(ReadFilesystemSpace("/does/not/exist", {}).status()));
}

}  // namespace
}  // namespace keelson::cri
