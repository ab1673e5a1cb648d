#include "cri/server/container_checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <string>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "base/strings.h"
#include "images/testing/test_images.h"
#include "images/unpack.h"

namespace keelson::cri {
namespace {

using ::testing::HasSubstr;

CheckpointFacts ContainerFacts() {
  CheckpointFacts facts;
  facts.id = "c1";
  facts.name = "count";
  facts.image_ref = "r.example/app@sha256:aa";
  facts.image_name = "r.example/app:1";
  facts.runtime = "runc";
  facts.created_at = "2026-11-25T20:00:00Z";
  facts.checkpointed_at = "2026-11-25T21:00:00Z";
  facts.image_id = "sha256:bb";
  facts.stdin_open = true;
  facts.supplemental_groups = {{5, 7}};
  return facts;
}

TEST(CheckpointFactsTest, ThereAndBack) {
  const std::string text = EncodeCheckpointFacts(ContainerFacts());
  absl::StatusOr<CheckpointFacts> facts = ParseCheckpointFacts(text);
  ASSERT_TRUE(facts.ok()) << facts.status();
  EXPECT_EQ(EncodeCheckpointFacts(*facts), text);
  EXPECT_EQ(facts->image_ref, "r.example/app@sha256:aa");
  EXPECT_EQ(facts->stdin_open, true);
  EXPECT_EQ(facts->supplemental_groups, (std::vector<int64_t>{5, 7}));
}

TEST(CheckpointFactsTest, AsOthersWriteIt) {
  absl::StatusOr<CheckpointFacts> facts = ParseCheckpointFacts(
      R"({"id":"c","name":"n","rootfsImage":"busybox","rootfsImageRef":"sha256:aa","rootfsImageName":"busybox:1",)"
      R"("runtime":"runc","createdTime":"2026-11-25T20:00:00.5Z","checkpointedTime":"2026-11-25T21:00:00+01:00",)"
      R"("restoredTime":"0001-01-01T00:00:00Z","restored":true,"keelson":null,"more":{"a":[1]}})");
  ASSERT_TRUE(facts.ok()) << facts.status();
  EXPECT_EQ(facts->image_ref, "sha256:aa");
  EXPECT_TRUE(facts->restored);
  EXPECT_EQ(facts->image_id, "");
  EXPECT_EQ(facts->stdin_open, std::nullopt);
  EXPECT_EQ(facts->supplemental_groups, std::nullopt);
}

TEST(CheckpointFactsTest, WhatIsWrongIsNamed) {
  const std::string good = EncodeCheckpointFacts(ContainerFacts());
  auto with = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    const size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return text.replace(at, from.size(), to);
  };
  std::string many = "0";
  for (size_t i = 0; i < kMaxFactGroups; ++i) many += ",0";
  const std::pair<std::string, const char*> cases[] = {
      {"", "is no JSON"},
      {"[]", "is no JSON object"},
      {"7", "is no JSON object"},
      {std::string(100'000, '['), "is no JSON"},
      {"{}", "rootfsImageRef"},
      {R"({"rootfsImageName":""})", "rootfsImageRef"},
      {with("\"c1\"", "7"), "\"id\""},
      {with("\"count\"", "\"a\\u0000b\""), "\"name\""},
      {with("\"r.example/app@sha256:aa\"", "\"" + std::string(kMaxFactBytes + 1, 'x') + "\""),
       "rootfsImageRef"},
      {with("\"restored\": false", "\"restored\": 1"), "\"restored\""},
      {with("\"stdin\": true", "\"stdin\": \"yes\""), "\"keelson\": \"stdin\""},
      {with("\"sha256:bb\"", "[]"), "\"imageId\""},
      {with("\"supplementalGroups\": [", "\"supplementalGroups\": [\"x\","), "want numbers"},
      {with("\"supplementalGroups\": [", "\"supplementalGroups\": [" + many + ","), "more than 65536"},
      {R"({"rootfsImageName":"a","keelson":[]})", "\"keelson\": want an object"},
      {std::string(kMaxConfigDumpBytes + 1, ' '), "too long"},
  };
  for (const auto& [text, cause] : cases) {
    absl::StatusOr<CheckpointFacts> facts = ParseCheckpointFacts(text);
    EXPECT_TRUE(absl::IsInvalidArgument(facts.status())) << facts.status();
    EXPECT_THAT(std::string(facts.status().message()), HasSubstr(cause));
    EXPECT_THAT(std::string(facts.status().message()), HasSubstr("config.dump"));
  }
}

class ContainerArchiveTest : public testing::Test {
 protected:
  void SetUp() override {
    char pattern[] = "/tmp/keelson-container-checkpoint-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern), nullptr);
    dir_ = pattern;
  }
  void TearDown() override { ASSERT_TRUE(RemoveTree(dir_).ok()); }
  std::string Write(const std::string& name, const std::string& text) {
    EXPECT_TRUE(MakeDirs((dir_ + "/" + name).substr(0, (dir_ + "/" + name).rfind('/')), 0700).ok());
    EXPECT_TRUE(WriteFileAtomic(dir_ + "/" + name, text, 0600, false).ok());
    return dir_ + "/" + name;
  }
  void FreshOut() {
    EXPECT_TRUE(RemoveTree(dir_ + "/out").ok());
    EXPECT_TRUE(MakeDirs(dir_ + "/out", 0700).ok());
  }
  absl::StatusOr<ContainerCheckpoint> Unpack(const std::string& bytes) {
    absl::StatusOr<Fd> fd = OpenCheckpointArchive(Write("hostile.tar", bytes));
    if (!fd.ok()) return fd.status();
    FreshOut();
    images::ByteBudget budget(4 << 20);
    absl::Status unpacked = UnpackContainerArchive(fd->get(), dir_ + "/out", &budget);
    if (!unpacked.ok()) return unpacked;
    return ReadContainerCheckpoint(dir_ + "/out");
  }
  absl::StatusOr<ContainerCheckpoint> Copy() {
    FreshOut();
    absl::Status copied = CopyCheckpointFiles(dir_ + "/image", dir_ + "/out");
    if (!copied.ok()) return copied;
    return ReadContainerCheckpoint(dir_ + "/out");
  }
  void MakeImage() {
    EXPECT_TRUE(RemoveTree(dir_ + "/image").ok());
    Write("image/config.dump", EncodeCheckpointFacts(ContainerFacts()));
    Write("image/spec.dump", "{}");
    Write("image/rootfs-diff.tar", std::string(3 << 20, 'd'));
    Write("image/checkpoint/inventory.img", "i");
    Write("image/checkpoint/pages-1.img", "");
    Write("image/etc/passwd", "no part of it");
  }
  std::string dir_;
};

images::TarEntry File(const std::string& name, const std::string& data, char type = '0',
                      const std::string& link = "") {
  images::TarEntry out;
  out.name = name;
  out.data = data;
  out.type = type;
  out.link = link;
  return out;
}

TEST_F(ContainerArchiveTest, HostileOnesAreRefused) {
  const images::TarEntry config = File("config.dump", EncodeCheckpointFacts(ContainerFacts())),
                         spec = File("spec.dump", "{}"), inventory = File("checkpoint/inventory.img", "i");
  absl::StatusOr<ContainerCheckpoint> good = Unpack(images::MakeTar({config, spec, inventory}));
  ASSERT_TRUE(good.ok()) << good.status();
  EXPECT_EQ(good->facts.name, "count");
  EXPECT_EQ(good->spec_dump, "{}");
  const std::pair<std::vector<images::TarEntry>, const char*> cases[] = {
      {{spec, inventory}, "there is no config.dump"},
      {{config, inventory}, "there is no spec.dump"},
      {{config, spec}, "there is no inventory.img"},
      {{File("config.dump", "", '2', "/etc/passwd"), spec, inventory}, "config.dump"},
      {{config, spec, inventory, File("checkpoint/core-1.img", "", '2', "/etc/shadow")}, "core-1.img"},
      {{config, spec, inventory, File("hard", "", '1', "/etc/passwd")}, "hard"},
      {{config, spec, inventory, File("node", "", '3')}, "node"},
      {{config, spec, inventory, File("../escaped", "x")}, "escaped"},
      {{config, spec, inventory, File("checkpoint/../../escaped", "x")}, "escaped"},
      {{File("config.dump", std::string(kMaxConfigDumpBytes + 1, ' ')), spec, inventory}, "config.dump"},
      {{File("config.dump", "{}"), spec, inventory}, "config.dump: neither"},
      {{config, spec, inventory, File("big", std::string(5 << 20, 'x'))}, "limit"},
  };
  for (const auto& [entries, cause] : cases) {
    absl::StatusOr<ContainerCheckpoint> unpacked = Unpack(images::MakeTar(entries));
    ASSERT_FALSE(unpacked.ok()) << cause;
    EXPECT_THAT(std::string(unpacked.status().message()), HasSubstr(cause));
  }
  EXPECT_NE(::access((dir_ + "/escaped").c_str(), F_OK), 0);
  EXPECT_FALSE(Unpack("").ok());
  EXPECT_FALSE(Unpack(std::string(4096, 'x')).ok());
}

TEST_F(ContainerArchiveTest, OfAnImageItsPartsAreCopied) {
  MakeImage();
  absl::StatusOr<ContainerCheckpoint> copied = Copy();
  ASSERT_TRUE(copied.ok()) << copied.status();
  EXPECT_EQ(copied->facts.name, "count");
  EXPECT_EQ(ReadFile(dir_ + "/out/rootfs-diff.tar").value(), std::string(3 << 20, 'd'));
  EXPECT_EQ(ReadFile(dir_ + "/out/checkpoint/inventory.img").value(), "i");
  EXPECT_EQ(ReadFile(dir_ + "/out/checkpoint/pages-1.img").value(), "");
  EXPECT_NE(::access((dir_ + "/out/etc").c_str(), F_OK), 0);
}

TEST_F(ContainerArchiveTest, NoLinkOfAnImageIsFollowed) {
  const std::string image = dir_ + "/image",
                    secret = Write("secret", EncodeCheckpointFacts(ContainerFacts()));
  const std::pair<const char*, const char*> cases[] = {
      {"config.dump", "config.dump: is no plain file"},
      {"rootfs-diff.tar", "rootfs-diff.tar: is no plain file"},
      {"volumes.tar", "volumes.tar: is no plain file"},
      {"checkpoint/core-1.img", "checkpoint: core-1.img: is no plain file"},
  };
  for (const auto& [name, cause] : cases) {
    MakeImage();
    ::unlink(StrCat(image, "/", name).c_str());
    ASSERT_EQ(::symlink(secret.c_str(), StrCat(image, "/", name).c_str()), 0);
    EXPECT_THAT(std::string(Copy().status().message()), HasSubstr(cause));
  }
  MakeImage();
  ASSERT_TRUE(RemoveTree(image + "/checkpoint").ok());
  EXPECT_THAT(std::string(Copy().status().message()), HasSubstr("no folder checkpoint"));
  ASSERT_EQ(::symlink("/etc", (image + "/checkpoint").c_str()), 0);
  EXPECT_THAT(std::string(Copy().status().message()), HasSubstr("checkpoint: is no folder"));
  MakeImage();
  ASSERT_EQ(::mkfifo((image + "/checkpoint/pipe").c_str(), 0600), 0);
  EXPECT_THAT(std::string(Copy().status().message()), HasSubstr("pipe: is no plain file"));
  MakeImage();
  if (::mknod((image + "/checkpoint/device").c_str(), S_IFCHR | 0600, ::makedev(4000, 1)) == 0) {
    EXPECT_THAT(std::string(Copy().status().message()), HasSubstr("device: is no plain file"))
        << "not opened";
  }
  MakeImage();
  ASSERT_TRUE(MakeDirs(image + "/checkpoint/folder").ok());
  EXPECT_THAT(std::string(Copy().status().message()), HasSubstr("folder: is no plain file"));
  MakeImage();
  ASSERT_EQ(::unlink((image + "/spec.dump").c_str()), 0);
  EXPECT_TRUE(absl::IsInvalidArgument(Copy().status())) << "not NotFound, which is the image's";
}

TEST_F(ContainerArchiveTest, OnlyItsOwnersFilesAreOpened) {
  std::string path = Write("a.tar", "x");
  EXPECT_TRUE(OpenCheckpointArchive(path).ok());
  ASSERT_EQ(::chmod(path.c_str(), 0620), 0);
  EXPECT_TRUE(absl::IsFailedPrecondition(OpenCheckpointArchive(path).status()));
  ASSERT_EQ(::chmod(path.c_str(), 0644), 0);
  EXPECT_TRUE(OpenCheckpointArchive(path).ok());
  ASSERT_EQ(::symlink(path.c_str(), (dir_ + "/link").c_str()), 0);
  EXPECT_FALSE(OpenCheckpointArchive(dir_ + "/link").ok());
  ASSERT_EQ(::mkfifo((dir_ + "/pipe").c_str(), 0600), 0);
  EXPECT_TRUE(absl::IsFailedPrecondition(OpenCheckpointArchive(dir_ + "/pipe").status()));
  EXPECT_TRUE(absl::IsNotFound(OpenCheckpointArchive(dir_ + "/none").status()));
  if (::geteuid() != 0) GTEST_SKIP() << "chown needs root";
  ASSERT_EQ(::chown(path.c_str(), 1, 1), 0);
  EXPECT_TRUE(absl::IsFailedPrecondition(OpenCheckpointArchive(path).status()));
}

TEST_F(ContainerArchiveTest, VolumesAreFolders) {
  auto folder = [](const std::string& name) {
    images::TarEntry out = File(name + "/", "", '5');
    out.mode = 0755;
    return out;
  };
  auto fill = [&](const std::vector<images::TarEntry>& entries) {
    EXPECT_TRUE(RemoveTree(dir_ + "/volumes").ok());
    Write("volumes/0/of-the-image", "x");
    Write("volumes/1/of-the-image", "x");
    return FillVolumes(Write("volumes.tar", images::MakeTar(entries)), dir_ + "/volumes");
  };
  ASSERT_TRUE(fill({folder("0"), File("0/file", "of the checkpoint"), folder("1")}).ok());
  EXPECT_EQ(ReadFile(dir_ + "/volumes/0/file").value(), "of the checkpoint");
  EXPECT_NE(::access((dir_ + "/volumes/1/of-the-image").c_str(), F_OK), 0);
  for (const std::vector<images::TarEntry>& entries :
       {std::vector{folder("0")}, {folder("0"), File("1", "", '2', "/etc")}, {folder("0"), File("1", "x")}}) {
    absl::Status filled = fill(entries);
    EXPECT_TRUE(absl::IsInvalidArgument(filled)) << filled;
    EXPECT_THAT(std::string(filled.message()), HasSubstr("volumes.tar: there is no folder 1"));
  }
  EXPECT_TRUE(FillVolumes(dir_ + "/none.tar", dir_ + "/volumes").ok());
  EXPECT_TRUE(FillVolumes(dir_ + "/volumes.tar", dir_ + "/none").ok());
}

TEST_F(ContainerArchiveTest, ThePlaceIsChecked) {
  EXPECT_TRUE(CheckArchivePlace(dir_ + "/a.tar", "output_path").ok());
  absl::Status status = CheckArchivePlace(dir_ + "/none/a.tar", "output_path");
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("output_path"));
  EXPECT_TRUE(absl::IsInvalidArgument(CheckArchivePlace(dir_, "output_path")));
}

}  // namespace
}  // namespace keelson::cri
