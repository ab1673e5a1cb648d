#include "cri/server/pod_checkpoint.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/strings.h"

namespace keelson::cri {
namespace {

using ::testing::HasSubstr;

PodCheckpointFacts Facts() {
  PodCheckpointFacts facts;
  facts.id = "p1";
  facts.name = "pod";
  facts.pod_namespace = "default";
  facts.uid = "u";
  facts.runtime = "runc";
  facts.checkpointed_at = "2026-11-25T20:00:00Z";
  facts.host_ipc = true;
  facts.containers = {{"web", "c1", "sha256:aa", false}, {"a/b", "c2", "sha256:bb", true, true, {{5, 7}}}};
  return facts;
}

TEST(PodFacts, ThereAndBack) {
  absl::StatusOr<PodCheckpointFacts> facts = ParsePodFacts(EncodePodFacts(Facts()));
  ASSERT_TRUE(facts.ok()) << facts.status();
  EXPECT_EQ(EncodePodFacts(*facts), EncodePodFacts(Facts()));
  EXPECT_EQ(facts->pod_namespace, "default");
  EXPECT_TRUE(facts->host_ipc);
  EXPECT_FALSE(facts->host_network);
  ASSERT_EQ(facts->containers.size(), 2u);
  EXPECT_EQ(facts->containers[1].name, "a/b");
  EXPECT_TRUE(facts->containers[1].tty);
  EXPECT_EQ(facts->containers[1].stdin_open, true);
  EXPECT_EQ(facts->containers[1].supplemental_groups, (std::vector<int64_t>{5, 7}));
  // As an older server writes it.
  EXPECT_EQ(facts->containers[0].stdin_open, std::nullopt);
  EXPECT_EQ(facts->containers[0].supplemental_groups, std::nullopt);
}

TEST(PodFacts, WhatIsWrongIsNamed) {
  const std::string good = EncodePodFacts(Facts());
  auto with = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return text.replace(at, from.size(), to);
  };
  PodCheckpointFacts many = Facts(), none = Facts();
  none.containers.clear();
  for (size_t i = 0; i < kMaxCheckpointContainers; ++i)
    many.containers.push_back({StrCat("n", i), "", "", false});
  const std::pair<std::string, const char*> cases[] = {
      {"", "is no JSON"},
      {"[]", "version"},
      {std::string(100'000, '['), "is no JSON"},
      {with("\"version\": 1", "\"version\": 2"), "newer"},
      {with("\"version\": 1", "\"version\": \"1\""), "version"},
      {with("\"p1\"", "7"), "\"id\""},
      {with("\"default\"", "\"" + std::string(kMaxFactBytes + 1, 'x') + "\""), "\"namespace\""},
      {with("\"pod\"", "\"a\\u0000b\""), "\"name\""},
      {with("true", "1"), "hostIPC"},
      {with("\"a/b\"", "\"web\""), "two containers \"web\""},
      {with("\"a/b\"", "\"\""), "containers[1]"},
      {with("\"sha256:aa\"", "null"), "containers[0]: \"imageId\""},
      {with("\"stdin\": true", "\"stdin\": 1"), "\"stdin\""},
      {with("\"supplementalGroups\": [", "\"supplementalGroups\": [\"x\","), "want numbers"},
      {with("\"supplementalGroups\": [", "\"supplementalGroups\": 3, \"x\": ["), "want a list"},
      {EncodePodFacts(none), "at least one"},
      {EncodePodFacts(many), "more than 1000"},
      {std::string(kMaxPodFactsBytes + 1, ' '), "too long"},
  };
  for (const auto& [text, cause] : cases) {
    absl::StatusOr<PodCheckpointFacts> facts = ParsePodFacts(text);
    EXPECT_TRUE(absl::IsInvalidArgument(facts.status())) << facts.status();
    EXPECT_THAT(std::string(facts.status().message()), HasSubstr(cause));
  }
}

TEST(PodFacts, OptionsAreRefusedByName) {
  std::map<std::string, std::string> options;
  EXPECT_TRUE(CheckNoCheckpointOptions(options).ok());
  options["leave"] = "x";
  EXPECT_THAT(std::string(CheckNoCheckpointOptions(options).message()), HasSubstr("options[\"leave\"]"));
}

struct Entry {
  std::string name, text;
  unsigned type = AE_IFREG;
  std::string link;
};

std::string Tar(const std::vector<Entry>& entries) {
  std::string out(16 << 20, '\0');
  size_t used = 0;
  std::unique_ptr<archive, int (*)(archive*)> tar(::archive_write_new(), ::archive_write_free);
  ::archive_write_set_format_pax_restricted(tar.get());
  ::archive_write_open_memory(tar.get(), out.data(), out.size(), &used);
  for (const Entry& entry : entries) {
    std::unique_ptr<archive_entry, void (*)(archive_entry*)> e(::archive_entry_new(), ::archive_entry_free);
    ::archive_entry_set_pathname(e.get(), entry.name.c_str());
    ::archive_entry_set_filetype(e.get(), entry.type);
    ::archive_entry_set_perm(e.get(), 0600);
    ::archive_entry_set_size(e.get(), static_cast<int64_t>(entry.text.size()));
    if (entry.type == AE_IFLNK) ::archive_entry_set_symlink(e.get(), entry.link.c_str());
    if (entry.type == AE_IFREG && !entry.link.empty())
      ::archive_entry_set_hardlink(e.get(), entry.link.c_str());
    EXPECT_EQ(::archive_write_header(tar.get(), e.get()), ARCHIVE_OK);
    if (!entry.text.empty()) ::archive_write_data(tar.get(), entry.text.data(), entry.text.size());
  }
  ::archive_write_close(tar.get());
  out.resize(used);
  return out;
}

class PodArchiveTest : public testing::Test {
 protected:
  void SetUp() override {
    char pattern[] = "/tmp/keelson-pod-checkpoint-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern), nullptr);
    dir_ = pattern;
    ASSERT_TRUE(MakeDirs(dir_ + "/in/containers", 0700).ok());
  }
  void TearDown() override { ASSERT_TRUE(RemoveTree(dir_).ok()); }
  std::string Write(const std::string& name, const std::string& text) {
    EXPECT_TRUE(WriteFileAtomic(dir_ + "/" + name, text, 0600, false).ok());
    return dir_ + "/" + name;
  }
  absl::StatusOr<PodCheckpointFacts> Unpack(const std::string& bytes) {
    std::string path = Write("hostile.tar", bytes);
    absl::StatusOr<Fd> fd = OpenCheckpointArchive(path);
    if (!fd.ok()) return fd.status();
    EXPECT_TRUE(RemoveTree(dir_ + "/out").ok());
    EXPECT_TRUE(MakeDirs(dir_ + "/out", 0700).ok());
    return UnpackPodArchive(fd->get(), dir_ + "/out");
  }
  static std::string ContainerTar() {
    return Tar({{"config.dump", "{}"}, {"checkpoint", "", AE_IFDIR}, {"checkpoint/inventory.img", "i"}});
  }
  std::string dir_;
};

TEST_F(PodArchiveTest, WrittenAndUnpacked) {
  Write("in/containers/0.tar", ContainerTar());
  Write("in/containers/1.tar", ContainerTar());
  Write("in/shm.tar", Tar({{"x", "in memory"}}));
  ASSERT_TRUE(WritePodArchive(Facts(), dir_ + "/in", dir_ + "/pod.tar").ok());
  struct stat info;
  ASSERT_EQ(::stat((dir_ + "/pod.tar").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0600u);
  EXPECT_TRUE(WritePodArchive(Facts(), dir_ + "/in", dir_ + "/pod.tar").ok()) << "an older one is replaced";
  absl::StatusOr<Fd> fd = OpenCheckpointArchive(dir_ + "/pod.tar");
  ASSERT_TRUE(fd.ok()) << fd.status();
  ASSERT_TRUE(MakeDirs(dir_ + "/out", 0700).ok());
  absl::StatusOr<PodCheckpointFacts> facts = UnpackPodArchive(fd->get(), dir_ + "/out");
  ASSERT_TRUE(facts.ok()) << facts.status();
  EXPECT_EQ(EncodePodFacts(*facts), EncodePodFacts(Facts()));
  EXPECT_EQ(ReadFile(dir_ + "/out/1/checkpoint/inventory.img").value(), "i");
  ASSERT_TRUE(MakeDirs(dir_ + "/shm", 0700).ok());
  if (::geteuid() != 0) GTEST_SKIP() << "owners need root";
  ASSERT_TRUE(UnpackPodTree(dir_ + "/out/shm.tar", dir_ + "/shm").ok());
  EXPECT_EQ(ReadFile(dir_ + "/shm/x").value(), "in memory");
  EXPECT_TRUE(UnpackPodTree(dir_ + "/out/none.tar", dir_ + "/shm").ok()) << "there need not be one";
}

TEST_F(PodArchiveTest, HostileOnesAreRefused) {
  PodCheckpointFacts one = Facts();
  one.containers.resize(1);
  const Entry facts{"pod.dump", EncodePodFacts(one)}, container{"containers/0.tar", ContainerTar()};
  ASSERT_TRUE(Unpack(Tar({facts, container})).ok());
  const std::string half = ContainerTar().substr(0, 700);
  const std::pair<std::vector<Entry>, const char*> cases[] = {
      {{}, "there is no pod.dump"},
      {{container}, "there is no pod.dump"},
      {{facts}, "there is no containers/0.tar"},
      {{{"pod.dump", "", AE_IFLNK, "/etc/passwd"}, container}, "pod.dump"},
      {{{"pod.dump", "", AE_IFDIR}, container}, "there is no pod.dump"},
      {{facts, container, {"../escaped", "x"}}, "escaped"},
      {{facts, container, {"hard", "", AE_IFREG, "/etc/passwd"}}, "hard"},
      {{facts, container, {"pipe", "", AE_IFIFO}}, "pipe"},
      {{facts, container, {"shm.tar", "", AE_IFLNK, "/etc/passwd"}}, "shm.tar"},
      {{facts, container, {"0", "", AE_IFDIR}}, "entry \"0\""},
      {{facts, {"containers/0.tar", "no tar"}}, "containers/0.tar"},
      {{facts, {"containers/0.tar", half}}, "containers/0.tar"},
      {{facts, {"containers/0.tar", Tar({{"config.dump", "{}"}})}}, "inventory.img"},
      {{facts, {"containers/0.tar", Tar({{"checkpoint", "", AE_IFLNK, "/etc"}})}}, "containers/0.tar"},
      {{facts, {"containers/0.tar", Tar({{"checkpoint/../../x", "1"}})}}, "containers/0.tar"},
      {{{"pod.dump", std::string(kMaxPodFactsBytes + 1, ' ')}, container}, "pod.dump"},
  };
  for (const auto& [entries, cause] : cases) {
    absl::StatusOr<PodCheckpointFacts> unpacked = Unpack(Tar(entries));
    ASSERT_FALSE(unpacked.ok()) << cause;
    EXPECT_THAT(std::string(unpacked.status().message()), HasSubstr(cause));
  }
  EXPECT_NE(::access((dir_ + "/escaped").c_str(), F_OK), 0);
  EXPECT_FALSE(Unpack("").ok());
  EXPECT_FALSE(Unpack(std::string(4096, 'x')).ok());
}

}  // namespace
}  // namespace keelson::cri
