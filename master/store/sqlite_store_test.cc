#include "master/store/sqlite_store.h"

#include <absl/strings/numbers.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <map>

#include "base/fd.h"
#include "base/log.h"
#include "master/store/testing/store_harness.h"

extern char** environ;

namespace keelson::master {
namespace {

using ::testing::HasSubstr;
using testing::Loop;
using testing::TempDir;
using testing::ToBytes;

class SqliteStoreTest : public ::testing::Test {
 protected:
  SqliteStoreTest() : loop_(true), path_(StrCat(dir_.path(), "/store/keelson.db")) {}
  ~SqliteStoreTest() override { Close(); }

  absl::Status Open(LogStoreOptions log = {}) {
    SqliteStoreOptions options;
    options.file.path = path_;
    options.log = log;
    absl::StatusOr<std::unique_ptr<LogStore>> store = OpenSqliteStore(loop_.env(), options);
    if (!store.ok()) return store.status();
    store_ = *std::move(store);
    return absl::OkStatus();
  }
  void Close() {
    if (store_ != nullptr) loop_.AwaitVoid(store_->Close());
    store_.reset();
  }
  // Five keys, /1 updated, /2 deleted, compacted in the middle.
  void Fill() {
    ASSERT_TRUE(Open().ok());
    for (int i = 0; i < 5; ++i) {  // revisions 2 to 6
      ASSERT_TRUE(loop_.Await(store_->Create(StrCat("/", i), ToBytes(StrCat("value-of-", i)))).ok());
    }
    ASSERT_TRUE(loop_.Await(store_->Update("/1", 3, ToBytes("second"))).ok());  // 7
    ASSERT_TRUE(loop_.Await(store_->Delete("/2", 4)).ok());                     // 8
    ASSERT_TRUE(loop_.Await(store_->Compact(5)).ok());
    Close();
  }
  // Runs SQL on the closed file as somebody else would.
  void Sql(const std::string& sql) {
    sqlite3* db = nullptr;
    ASSERT_EQ(sqlite3_open(path_.c_str(), &db), SQLITE_OK);
    char* error = nullptr;
    EXPECT_EQ(sqlite3_exec(db, sql.c_str(), nullptr, nullptr, &error), SQLITE_OK) << error;
    sqlite3_close(db);
  }
  void ExpectRefused(absl::StatusCode code, const std::string& part) {
    absl::Status status = Open();
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(part));
    EXPECT_THAT(std::string(status.message()), HasSubstr(path_));
  }

  TempDir dir_;
  Loop loop_;
  const std::string path_;
  std::unique_ptr<LogStore> store_;
};

TEST_F(SqliteStoreTest, FilesAreForTheirOwnerOnly) {
  ASSERT_TRUE(Open().ok());
  ASSERT_TRUE(loop_.Await(store_->Create("/a", ToBytes("1"))).ok());
  for (const char* suffix : {"", "-wal"}) {
    struct stat info {};
    ASSERT_EQ(stat(StrCat(path_, suffix).c_str(), &info), 0) << suffix;
    EXPECT_EQ(info.st_mode & 0777, 0600u) << suffix;
  }
  struct stat info {};
  ASSERT_EQ(stat(StrCat(dir_.path(), "/store").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700u);
  EXPECT_NE(access(StrCat(path_, "-shm").c_str(), F_OK), 0);  // one connection: the index lives on the heap
}

TEST_F(SqliteStoreTest, ReopensWhereItWas) {
  Fill();
  ASSERT_TRUE(Open().ok());
  EXPECT_EQ(store_->CurrentRevision(), 8);
  EXPECT_EQ(store_->CompactedRevision(), 5);
  EXPECT_EQ(*loop_.Await(store_->Get("/1"))->value, "second");
  EXPECT_TRUE(absl::IsNotFound(loop_.Await(store_->Get("/2")).status()));
  EXPECT_EQ(*loop_.Await(store_->Create("/2", ToBytes("again"))), 9);
}

TEST_F(SqliteStoreTest, OneProcessAtATime) {
  ASSERT_TRUE(Open().ok());
  SqliteStoreOptions options;
  options.file.path = path_;
  absl::Status status = OpenSqliteStore(loop_.env(), options).status();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("another process"));
}

TEST_F(SqliteStoreTest, NewerFormatIsRefused) {
  Fill();
  Sql("PRAGMA user_version=99");
  ExpectRefused(absl::StatusCode::kFailedPrecondition, "newer keelson (format 99");
}

TEST_F(SqliteStoreTest, ForeignFilesAreRefusedUntouched) {
  Fill();
  Sql("PRAGMA application_id=7");
  ExpectRefused(absl::StatusCode::kFailedPrecondition, "not a keelson store");
  ASSERT_TRUE(
      WriteFileAtomic(path_, "this is a text file, long enough to be taken for a header of something", 0600)
          .ok());
  ExpectRefused(absl::StatusCode::kDataLoss, "not a SQLite file");
}

TEST_F(SqliteStoreTest, DamageIsFoundAndNamed) {
  const struct {
    const char* sql;
    const char* part;
  } kCases[] = {
      {"UPDATE log SET value=CAST('value-of-X' AS BLOB) WHERE revision=6", "revision 6 (key /4) is damaged"},
      {"UPDATE log SET key='/x' WHERE revision=6", "revision 6 (key /x) is damaged"},
      {"UPDATE log SET deleted=0 WHERE revision=8", "revision 8 (key /2) is damaged"},
      {"UPDATE log SET revision=60 WHERE revision=8", "revision 60 (key /2) is damaged"},
      {"DELETE FROM log WHERE revision=7", "revisions 7 to 7 are missing"},
      {"DELETE FROM log WHERE revision=3", "does not continue the key's history"},
      {"DELETE FROM log WHERE revision=5", "3 rows up to the compacted revision 5, expected 4"},
      {"DELETE FROM meta WHERE name='compacted'", "read compacted revision"},
  };
  for (const auto& c : kCases) {
    SCOPED_TRACE(c.sql);
    ASSERT_TRUE(RemoveTree(StrCat(dir_.path(), "/store")).ok());
    Fill();
    Sql(c.sql);
    absl::Status status = Open();
    EXPECT_FALSE(status.ok());
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.part));
    EXPECT_THAT(std::string(status.message()), HasSubstr(path_));
  }
}

TEST_F(SqliteStoreTest, FlippedBitInTheFileIsFound) {
  Fill();
  std::string content = *ReadFile(path_);
  size_t at = content.find("value-of-3");
  ASSERT_NE(at, std::string::npos);
  content[at + 3] = static_cast<char>(content[at + 3] ^ 0x10);
  ASSERT_TRUE(WriteFileAtomic(path_, content, 0600).ok());
  ExpectRefused(absl::StatusCode::kDataLoss, "checksum mismatch; restore the file from a backup");
}

TEST_F(SqliteStoreTest, UnwritableFolderIsNamed) {
  ASSERT_TRUE(WriteFileAtomic(StrCat(dir_.path(), "/store"), "a file where the folder should be").ok());
  absl::Status status = Open();
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), HasSubstr(StrCat(dir_.path(), "/store")));
}

TEST_F(SqliteStoreTest, OneCommitServesAllThatWait) {
  // On the loop, what waits does not depend on the speed of a thread.
  LogStoreOptions log;
  log.use_thread = false;
  ASSERT_TRUE(Open(log).ok());
  std::vector<Task<absl::StatusOr<Revision>>> writes;
  for (int i = 0; i < 500; ++i) writes.push_back(store_->Create(StrCat("/", i), ToBytes("v")));
  Revision expected = 2;
  for (const absl::StatusOr<Revision>& revision : loop_.AwaitAll(std::move(writes)))
    EXPECT_EQ(*revision, expected++);
  EXPECT_EQ(store_->committed_rows(), 500u);
  EXPECT_LE(store_->commits(), 3u);
}

TEST_F(SqliteStoreTest, HistoryIsBounded) {
  LogStoreOptions log;
  log.max_history_revisions = 1000;
  ASSERT_TRUE(Open(log).ok());
  ASSERT_TRUE(loop_.Await(store_->Create("/a", ToBytes("v"))).ok());
  for (int round = 0; round < 20; ++round) {
    std::vector<Task<absl::StatusOr<Revision>>> writes;
    for (int i = 0; i < 250; ++i) writes.push_back(store_->Update("/a", kAnyRevision, ToBytes("v")));
    for (const absl::StatusOr<Revision>& revision : loop_.AwaitAll(std::move(writes)))
      ASSERT_TRUE(revision.ok());
  }
  EXPECT_GT(store_->CompactedRevision(), store_->CurrentRevision() - 1500);
  Close();
  Sql("DELETE FROM meta WHERE (SELECT count(*) FROM log) > 1600");
  ASSERT_TRUE(Open(log).ok());
}

struct Child {
  pid_t pid = -1;
  Fd out;
};

Child StartWriter(const std::string& path, const std::string& round) {
  int ends[2];
  KEELSON_CHECK(pipe2(ends, O_CLOEXEC) == 0, "pipe");
  Child child;
  child.out = Fd(ends[0]);
  Fd in(ends[1]);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in.get(), 1);
  std::string program = STORE_CRASH_WRITER;
  std::string arguments[] = {program, path, round};
  char* argv[] = {arguments[0].data(), arguments[1].data(), arguments[2].data(), nullptr};
  int error = posix_spawn(&child.pid, program.c_str(), &actions, nullptr, argv, environ);
  posix_spawn_file_actions_destroy(&actions);
  KEELSON_CHECK(error == 0, program, ": ", strerror(error));
  return child;
}

TEST_F(SqliteStoreTest, KillNineLosesNothingAcknowledged) {
  std::map<std::string, std::pair<Revision, std::string>> newest;  // acknowledged, by key
  Revision last = 0;
  for (int round = 0; round < 5; ++round) {
    SCOPED_TRACE(round);
    Child child = StartWriter(path_, StrCat(round));
    std::string text;
    bool killed = false;
    while (true) {
      char buffer[65536];
      ssize_t got = read(child.out.get(), buffer, sizeof(buffer));
      if (got <= 0) break;
      text.append(buffer, static_cast<size_t>(got));
      if (!killed && text.size() > 300'000 + 100'000 * static_cast<size_t>(round)) {
        kill(child.pid, SIGKILL);
        killed = true;
      }
    }
    int wait_status = 0;
    waitpid(child.pid, &wait_status, 0);
    ASSERT_TRUE(WIFSIGNALED(wait_status)) << "the writer ended by itself: " << wait_status;
    size_t begin = 0;
    for (size_t end = text.find('\n'); end != std::string::npos;
         begin = end + 1, end = text.find('\n', begin)) {
      std::string line = text.substr(begin, end - begin);
      size_t first = line.find(' '), second = line.find(' ', first + 1);
      ASSERT_NE(second, std::string::npos) << line;
      Revision revision = std::stoll(line);
      auto& slot = newest[line.substr(first + 1, second - first - 1)];
      if (revision > slot.first) slot = {revision, line.substr(second + 1)};
      last = std::max(last, revision);
    }
    absl::Status status = Open();
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_GE(store_->CurrentRevision(), last);
    for (const auto& [key, write] : newest) {
      absl::StatusOr<KeyValue> kv = loop_.Await(store_->Get(key));
      ASSERT_TRUE(kv.ok()) << kv.status();
      EXPECT_GE(kv->mod_revision, write.first) << key;
      EXPECT_TRUE(kv->mod_revision > write.first || *kv->value == write.second) << key;
    }
    Close();
  }
  EXPECT_GT(last, 1000);
}

}  // namespace
}  // namespace keelson::master
