#include "cri/server/record_store.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "base/fd.h"
#include "base/strings.h"
#include "base/testing/few_descriptors.h"

namespace keelson::cri {
namespace {

namespace fs = std::filesystem;

records::Container Record(const std::string& id) {
  records::Container record;
  record.set_id(id);
  record.set_sandbox_id("pod");
  record.mutable_config()->mutable_metadata()->set_name("main");
  record.set_state(records::CONTAINER_RUNNING);
  record.mutable_init()->set_pid(42);
  return record;
}

class RecordStoreTest : public testing::Test {
 protected:
  void SetUp() override {
    char pattern[] = "/tmp/keelson-records-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern), nullptr);
    dir_ = pattern;
  }
  void TearDown() override { ASSERT_TRUE(RemoveTree(dir_).ok()); }
  RecordStore Open() {
    absl::StatusOr<RecordStore> store = RecordStore::Open(dir_);
    EXPECT_TRUE(store.ok()) << store.status();
    return *std::move(store);
  }
  std::vector<std::string> Load() {
    RecordStore store = Open();
    broken_.clear();
    absl::StatusOr<std::vector<records::Container>> records = store.LoadContainers(&broken_);
    std::vector<std::string> ids;
    if (absl::IsUnimplemented(records.status())) {
      broken_.push_back(std::string(records.status().message()));
      return ids;
    }
    EXPECT_TRUE(records.ok()) << records.status();
    for (const records::Container& record : *records) ids.push_back(record.id());
    return ids;
  }
  std::string File(const std::string& name) { return dir_ + "/containers/" + name; }
  void Write(const std::string& name, const std::string& bytes) {
    Open();
    ASSERT_TRUE(WriteFileAtomic(File(name), bytes, 0600, false).ok());
  }
  std::string dir_;
  std::vector<std::string> broken_;
};

using Ids = std::vector<std::string>;

TEST_F(RecordStoreTest, WhatCannotBeReadNowIsNotSetAside) {
  RecordStore store = Open();
  ASSERT_TRUE(store.Put(Record("a")).ok());
  absl::StatusOr<std::vector<records::Container>> none;
  {
    FewDescriptors limit(1);  // for the folder, but for no file in it
    none = store.LoadContainers(&broken_);
  }
  EXPECT_FALSE(none.ok());
  EXPECT_TRUE(broken_.empty());
  EXPECT_EQ(Load(), std::vector<std::string>{"a"});
}

TEST_F(RecordStoreTest, KeepsReplacesAndForgets) {
  RecordStore store = Open();
  ASSERT_TRUE(store.Put(Record("b")).ok());
  ASSERT_TRUE(store.Put(Record("a")).ok());
  records::Container changed = Record("a");
  changed.set_exit_code(3);
  ASSERT_TRUE(store.Put(changed).ok());
  records::Sandbox sandbox;
  sandbox.set_id("pod");
  ASSERT_TRUE(store.Put(sandbox).ok());
  EXPECT_EQ(Load(), (Ids{"a", "b"}));
  RecordStore again = Open();
  absl::StatusOr<std::vector<records::Container>> containers = again.LoadContainers(&broken_);
  EXPECT_EQ(containers->front().SerializeAsString(), changed.SerializeAsString());
  absl::StatusOr<std::vector<records::Sandbox>> sandboxes = again.LoadSandboxes(&broken_);
  ASSERT_EQ(sandboxes->size(), 1u);
  EXPECT_EQ(sandboxes->front().id(), "pod");
  ASSERT_TRUE(store.RemoveContainer("a").ok());
  ASSERT_TRUE(store.RemoveContainer("a").ok());
  ASSERT_TRUE(store.RemoveSandbox("never-there").ok());
  EXPECT_EQ(Load(), (Ids{"b"}));
  EXPECT_TRUE(broken_.empty());
}

TEST_F(RecordStoreTest, NobodyElseReadsThem) {
  ASSERT_TRUE(Open().Put(Record("a")).ok());
  struct stat info;
  ASSERT_EQ(::stat(File("a.rec").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0600u);
  ASSERT_EQ(::stat((dir_ + "/containers").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0700u);
}

TEST_F(RecordStoreTest, EveryTornLengthIsSetAsideByName) {
  std::string whole = EncodeRecord(Record("a"));
  for (size_t length = 0; length < whole.size(); ++length) {
    Write("a.rec", whole.substr(0, length));
    ASSERT_TRUE(Open().Put(Record("b")).ok());
    EXPECT_EQ(Load(), (Ids{"b"})) << length;
    ASSERT_EQ(broken_.size(), 1u) << length;
    EXPECT_NE(broken_[0].find(File("a.rec")), std::string::npos) << broken_[0];
    EXPECT_TRUE(fs::exists(File("a.rec.broken")));
    EXPECT_FALSE(fs::exists(File("a.rec")));
  }
  // Set aside once; the next start has nothing to say about it.
  EXPECT_EQ(Load(), (Ids{"b"}));
  EXPECT_TRUE(broken_.empty());
}

TEST_F(RecordStoreTest, EveryChangedByteIsSeen) {
  const std::string whole = EncodeRecord(Record("a"));
  for (size_t at = 0; at < whole.size(); ++at) {
    for (int bit : {0, 3, 7}) {
      std::string changed = whole;
      changed[at] = static_cast<char>(changed[at] ^ (1 << bit));
      records::Container record;
      EXPECT_FALSE(DecodeRecord(changed, &record).ok()) << at;
    }
  }
  records::Container record;
  EXPECT_FALSE(DecodeRecord(whole + "x", &record).ok());
  ASSERT_TRUE(DecodeRecord(whole, &record).ok());
  EXPECT_EQ(record.SerializeAsString(), Record("a").SerializeAsString());
}

TEST_F(RecordStoreTest, ANewerFormatIsToldFromATornOne) {
  std::string newer = EncodeRecord(Record("a"));
  newer[4] = '3';
  records::Container record;
  EXPECT_TRUE(absl::IsUnimplemented(DecodeRecord(newer, &record)));
  EXPECT_TRUE(absl::IsDataLoss(DecodeRecord("", &record)));
  EXPECT_TRUE(absl::IsDataLoss(DecodeRecord("something else", &record)));
  Write("a.rec", newer);
  // Not set aside: its container may run.
  std::vector<std::string> broken;
  absl::Status loaded = Open().LoadContainers(&broken).status();
  EXPECT_TRUE(absl::IsUnimplemented(loaded)) << loaded;
  EXPECT_NE(std::string(loaded.message()).find("newer version"), std::string::npos) << loaded;
  EXPECT_TRUE(broken.empty());
}

TEST_F(RecordStoreTest, FieldsOfANewerServerAreKept) {
  // The same format with a field this one does not know: a rolled-back server must not lose it.
  records::Container record = Record("a");
  std::string body = record.SerializeAsString() + std::string("\xfa\x3e\x03new", 6);  // field 1007
  records::Container parsed;
  ASSERT_TRUE(parsed.ParseFromString(body));
  ASSERT_TRUE(Open().Put(parsed).ok());
  RecordStore store = Open();
  absl::StatusOr<std::vector<records::Container>> loaded = store.LoadContainers(&broken_);
  ASSERT_EQ(loaded->size(), 1u);
  EXPECT_EQ(loaded->front().SerializeAsString(), body);
}

TEST_F(RecordStoreTest, AFileUnderAnotherName) {
  Write("b.rec", EncodeRecord(Record("a")));
  EXPECT_EQ(Load(), Ids{});
  ASSERT_EQ(broken_.size(), 1u);
  EXPECT_NE(broken_[0].find("names another id"), std::string::npos) << broken_[0];
}

TEST_F(RecordStoreTest, WhatAnInterruptedWriteLeftGoes) {
  ASSERT_TRUE(Open().Put(Record("a")).ok());
  Write("a.rec.tmp123", "half");
  Write(".a.rec.XXXXXX", "half");
  Write("old.rec.broken", "kept for who wants to look");
  EXPECT_EQ(Load(), (Ids{"a"}));
  EXPECT_TRUE(broken_.empty());
  EXPECT_FALSE(fs::exists(File("a.rec.tmp123")));
  EXPECT_FALSE(fs::exists(File(".a.rec.XXXXXX")));
  EXPECT_TRUE(fs::exists(File("old.rec.broken")));
}

TEST_F(RecordStoreTest, ALostDirectoryIsAnErrorAndNotAnEmptyNode) {
  RecordStore store = Open();
  ASSERT_TRUE(RemoveTree(dir_ + "/containers").ok());
  EXPECT_TRUE(absl::IsUnavailable(store.LoadContainers(&broken_).status()));
  EXPECT_FALSE(store.Put(Record("a")).ok());
}

}  // namespace
}  // namespace keelson::cri
