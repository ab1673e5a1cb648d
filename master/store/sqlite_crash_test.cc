// Power loss and failing disks under the SQLite store, on a disk in memory (testing/crash_vfs.h).
// Deterministic: a failure names the seed that repeats it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "base/log.h"
#include "master/store/sqlite_store.h"
#include "master/store/testing/crash_vfs.h"
#include "master/store/testing/store_harness.h"

namespace keelson::master {
namespace {

using testing::CrashDisk;
using ::testing::HasSubstr;
using testing::Loop;
using testing::TempDir;
using testing::ToBytes;

absl::StatusOr<std::unique_ptr<LogStore>> Open(Loop& loop, CrashDisk& disk) {
  SqliteStoreOptions options;
  options.file.path = "/disk/store.db";
  options.file.vfs = disk.name();
  options.file.page_cache_bytes = 64 << 10;
  options.file.checkpoint_wal_pages = 6;
  options.file.checkpoint_wal_pages_busy = 20;
  options.log.use_thread = false;
  options.log.compact_interval = absl::ZeroDuration();
  return OpenSqliteStore(loop.env(), options);
}

class SqliteCrashTest : public ::testing::Test {
 protected:
  // Hundreds of expected errors do not belong on the terminal.
  SqliteCrashTest() {
    LogOptions options;
    options.file = StrCat(dir_.path(), "/log");
    InitLog(options);
  }
  ~SqliteCrashTest() override { InitLog(LogOptions()); }

  TempDir dir_;
};

struct Acknowledged {
  std::map<Revision, std::string> writes;  // revision -> event as text
};

Task<absl::Status> Writer(Store* store, uint64_t seed, int id, Acknowledged* acknowledged) {
  std::mt19937_64 random(seed * 1000 + static_cast<uint64_t>(id));
  for (int i = 0; i < 40; ++i) {
    std::string key = StrCat("/k/", id, "/", random() % 5);
    std::string value = StrCat("v", random(), std::string(random() % 3000, 'x'));
    absl::StatusOr<Revision> revision;
    switch (random() % 6) {
      case 0: {
        Task<absl::StatusOr<Revision>> task = store->Delete(key, kAnyRevision);
        revision = co_await std::move(task);
        if (revision.ok()) acknowledged->writes[*revision] = StrCat("-", key);
        break;
      }
      case 1: {
        Task<absl::Status> task = store->Compact(store->CurrentRevision());
        absl::Status status = co_await std::move(task);
        (void)status;
        break;
      }
      default: {
        Task<absl::StatusOr<Revision>> update = store->Update(key, kAnyRevision, ToBytes(value));
        revision = co_await std::move(update);
        if (absl::IsNotFound(revision.status())) {
          Task<absl::StatusOr<Revision>> create = store->Create(key, ToBytes(value));
          revision = co_await std::move(create);
        }
        if (revision.ok()) acknowledged->writes[*revision] = StrCat(key, "=", value);
      }
    }
  }
  co_return absl::OkStatus();
}

// What a reopened store must hold of the acknowledged writes; "" when it does.
std::string Missing(Loop& loop, Store& store, const Acknowledged& acknowledged) {
  if (acknowledged.writes.empty()) return "";
  Revision last = acknowledged.writes.rbegin()->first;
  if (store.CurrentRevision() < last)
    return StrCat("ends at ", store.CurrentRevision(), ", acknowledged ", last);
  Revision floor = store.CompactedRevision();
  absl::StatusOr<std::unique_ptr<StoreWatch>> watch = store.Watch("/", floor);
  if (!watch.ok()) return watch.status().ToString();
  std::map<Revision, std::string> events;
  Revision seen = floor;
  while (seen < store.CurrentRevision()) {
    absl::StatusOr<WatchBatch> batch = loop.Await((*watch)->Next());
    if (!batch.ok()) return batch.status().ToString();
    seen = batch->revision;
    for (const StoreEvent& e : batch->events) {
      events[e.revision] = e.type == EventType::kDeleted ? StrCat("-", e.key) : StrCat(e.key, "=", *e.value);
    }
  }
  for (const auto& [revision, write] : acknowledged.writes) {
    if (revision > floor && events[revision] != write)
      return StrCat("revision ", revision, " lost: ", write.substr(0, 30));
  }
  // Below the floor: the newest acknowledged write of each key is its state, unless a later write changed it.
  absl::StatusOr<ListResult> list = loop.Await(store.List("/", 0, "", kAnyRevision));
  if (!list.ok()) return list.status().ToString();
  for (const KeyValue& item : list->items) {
    auto it = acknowledged.writes.find(item.mod_revision);
    if (it != acknowledged.writes.end() && it->second != StrCat(item.key, "=", *item.value)) {
      return StrCat("key ", item.key, " differs at ", item.mod_revision);
    }
  }
  return "";
}

// Writes, loses power at a random operation, opens again, three times over. "" when nothing acknowledged was
// lost.
std::string RunSeed(uint64_t seed, bool lying) {
  std::mt19937_64 random(seed);
  CrashDisk disk(seed);
  Acknowledged acknowledged;
  for (int round = 0; round < 3; ++round) {
    Loop loop(false);
    disk.set_lying(lying);
    absl::StatusOr<std::unique_ptr<LogStore>> store = Open(loop, disk);
    if (!store.ok()) return StrCat("round ", round, ": ", store.status().ToString());
    std::string missing = Missing(loop, **store, acknowledged);
    if (!missing.empty()) return StrCat("round ", round, ": ", missing);
    // An unacknowledged write may have become durable and its revision be taken: those are not in
    // `acknowledged`.
    disk.PowerOffAt(1 + random() % 400);
    std::vector<Task<absl::Status>> writers;
    for (int id = 0; id < 6; ++id) writers.push_back(Writer(store->get(), random(), id, &acknowledged));
    loop.AwaitAll(std::move(writers));
    loop.AwaitVoid((*store)->Close());
    store->reset();
    disk.PowerOn();
  }
  disk.set_lying(false);
  Loop loop(false);
  absl::StatusOr<std::unique_ptr<LogStore>> store = Open(loop, disk);
  if (!store.ok()) return store.status().ToString();
  std::string missing = Missing(loop, **store, acknowledged);
  loop.AwaitVoid((*store)->Close());
  return missing;
}

TEST_F(SqliteCrashTest, PowerLossLosesNothingAcknowledged) {
  for (uint64_t seed = 1; seed <= 150; ++seed) EXPECT_EQ(RunSeed(seed, false), "") << "seed " << seed;
}

// The test above has teeth: a disk that does not sync is found out.
TEST_F(SqliteCrashTest, LyingDiskIsFoundOut) {
  int lost = 0;
  for (uint64_t seed = 1; seed <= 10; ++seed) lost += RunSeed(seed, true).empty() ? 0 : 1;
  EXPECT_GT(lost, 5);
}

TEST_F(SqliteCrashTest, FullDiskRefusesThenRecovers) {
  Loop loop(false);
  CrashDisk disk(1);
  absl::StatusOr<std::unique_ptr<LogStore>> store = Open(loop, disk);
  ASSERT_TRUE(store.ok()) << store.status();
  ASSERT_TRUE(loop.Await((*store)->Create("/a", ToBytes("1"))).ok());
  std::unique_ptr<StoreWatch> watch = *(*store)->Watch("/", 2);
  disk.set_capacity_bytes(60 << 10);
  std::vector<Task<absl::StatusOr<Revision>>> writes;
  for (int i = 0; i < 4; ++i)
    writes.push_back((*store)->Create(StrCat("/big", i), ToBytes(std::string(60000, 'x'))));
  for (const absl::StatusOr<Revision>& revision : loop.AwaitAll(std::move(writes))) {
    ASSERT_TRUE(absl::IsResourceExhausted(revision.status())) << revision.status();
    EXPECT_THAT(std::string(revision.status().message()), HasSubstr("store /disk/store.db"));
    EXPECT_THAT(std::string(revision.status().message()), HasSubstr("free some space"));
  }
  EXPECT_TRUE((*store)->Health().ok());
  EXPECT_EQ((*store)->CurrentRevision(), 2);
  disk.set_capacity_bytes(0);
  EXPECT_EQ(*loop.Await((*store)->Create("/big0", ToBytes("small"))), 3);
  EXPECT_EQ(loop.Await(watch->Next())->events.size(), 1u);
  loop.AwaitVoid((*store)->Close());
  store->reset();
  store = Open(loop, disk);
  ASSERT_TRUE(store.ok()) << store.status();
  EXPECT_EQ((*store)->CurrentRevision(), 3);
  loop.AwaitVoid((*store)->Close());
}

// After a failed sync nobody knows what the disk holds: the store must take no further write.
TEST_F(SqliteCrashTest, FailedSyncStopsTheStore) {
  Loop loop(false);
  CrashDisk disk(1);
  absl::StatusOr<std::unique_ptr<LogStore>> store = Open(loop, disk);
  ASSERT_TRUE(store.ok()) << store.status();
  ASSERT_TRUE(loop.Await((*store)->Create("/a", ToBytes("1"))).ok());
  disk.FailNextSync();
  std::vector<Task<absl::StatusOr<Revision>>> writes;
  for (int i = 0; i < 4; ++i) writes.push_back((*store)->Create(StrCat("/b", i), ToBytes("1")));
  for (const absl::StatusOr<Revision>& revision : loop.AwaitAll(std::move(writes)))
    EXPECT_FALSE(revision.ok());
  EXPECT_TRUE(absl::IsUnavailable((*store)->Health()));
  EXPECT_THAT(std::string((*store)->Health().message()), HasSubstr("/disk/store.db"));
  EXPECT_TRUE(absl::IsUnavailable(loop.Await((*store)->Create("/c", ToBytes("1"))).status()));
  EXPECT_EQ((*store)->CurrentRevision(), 2);
  EXPECT_TRUE(loop.Await((*store)->Get("/a")).ok());  // still readable
  loop.AwaitVoid((*store)->Close());
}

// A refusal must not rest on a write that is then lost.
TEST_F(SqliteCrashTest, NoAnswerRestsOnALostWrite) {
  Loop loop(false);
  CrashDisk disk(1);
  absl::StatusOr<std::unique_ptr<LogStore>> store = Open(loop, disk);
  ASSERT_TRUE(store.ok()) << store.status();
  disk.set_capacity_bytes(100 << 10);
  std::vector<Task<absl::StatusOr<Revision>>> writes;
  writes.push_back((*store)->Create("/a", ToBytes(std::string(200000, 'x'))));
  writes.push_back((*store)->Create("/a", ToBytes("small")));
  std::vector<absl::StatusOr<Revision>> answers = loop.AwaitAll(std::move(writes));
  EXPECT_TRUE(absl::IsResourceExhausted(answers[0].status())) << answers[0].status();
  EXPECT_EQ(answers[1].value_or(-1), 2) << answers[1].status();
  loop.AwaitVoid((*store)->Close());
}

}  // namespace
}  // namespace keelson::master
