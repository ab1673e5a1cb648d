// The contract of store.h, on every implementation.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "base/log.h"
#include "master/store/memory_store.h"
#include "master/store/sqlite_store.h"
#include "master/store/store.h"
#include "master/store/testing/store_harness.h"

namespace keelson::master {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::Loop;
using testing::TempDir;
using testing::ToBytes;
using testing::ToStrings;

enum class Kind { kMemory, kSqliteInline, kSqliteThread };

class StoreContractTest : public ::testing::TestWithParam<Kind> {
 protected:
  StoreContractTest() : loop_(GetParam() == Kind::kSqliteThread) { Open(); }
  ~StoreContractTest() override {
    if (store_ != nullptr) loop_.AwaitVoid(store_->Close());
  }

  void Open() {
    if (GetParam() == Kind::kMemory) {
      store_ = std::make_unique<MemoryStore>(loop_.env());
      return;
    }
    SqliteStoreOptions options;
    options.file.path = StrCat(dir_.path(), "/store.db");
    options.log.use_thread = GetParam() == Kind::kSqliteThread;
    options.log.compact_interval = absl::ZeroDuration();
    absl::StatusOr<std::unique_ptr<LogStore>> store = OpenSqliteStore(loop_.env(), options);
    KEELSON_CHECK(store.ok(), store.status().ToString());
    store_ = *std::move(store);
  }

  absl::StatusOr<Revision> Create(std::string key, std::string value) {
    return loop_.Await(store_->Create(std::move(key), ToBytes(std::move(value))));
  }
  absl::StatusOr<Revision> Update(std::string key, Revision expected, std::string value) {
    return loop_.Await(store_->Update(std::move(key), expected, ToBytes(std::move(value))));
  }
  absl::StatusOr<Revision> Delete(std::string key, Revision expected = kAnyRevision) {
    return loop_.Await(store_->Delete(std::move(key), expected));
  }
  absl::StatusOr<KeyValue> Get(std::string key) { return loop_.Await(store_->Get(std::move(key))); }
  absl::StatusOr<ListResult> List(std::string prefix, size_t limit = 0, std::string after = "",
                                  Revision revision = kAnyRevision) {
    return loop_.Await(store_->List(std::move(prefix), limit, std::move(after), revision));
  }
  absl::Status Compact(Revision revision) { return loop_.Await(store_->Compact(revision)); }
  std::unique_ptr<StoreWatch> Watch(std::string prefix, Revision after) {
    absl::StatusOr<std::unique_ptr<StoreWatch>> watch = store_->Watch(std::move(prefix), after);
    EXPECT_TRUE(watch.ok()) << watch.status();
    return watch.ok() ? *std::move(watch) : nullptr;
  }
  // The next `count` events.
  std::vector<StoreEvent> Events(StoreWatch& watch, size_t count) {
    std::vector<StoreEvent> events;
    while (events.size() < count) {
      absl::StatusOr<WatchBatch> batch = loop_.Await(watch.Next());
      EXPECT_TRUE(batch.ok()) << batch.status();
      if (!batch.ok()) break;
      events.insert(events.end(), batch->events.begin(), batch->events.end());
    }
    EXPECT_EQ(events.size(), count);
    return events;
  }

  TempDir dir_;
  Loop loop_;
  std::unique_ptr<Store> store_;
};

TEST_P(StoreContractTest, EmptyStoreIsAtRevisionOne) {
  EXPECT_EQ(store_->CurrentRevision(), 1);
  EXPECT_EQ(store_->CompactedRevision(), 1);
  EXPECT_TRUE(store_->Health().ok());
  EXPECT_TRUE(absl::IsNotFound(Get("/a").status()));
  absl::StatusOr<ListResult> list = List("/");
  ASSERT_TRUE(list.ok());
  EXPECT_EQ(list->revision, 1);
  EXPECT_THAT(list->items, IsEmpty());
}

TEST_P(StoreContractTest, EachWriteTakesTheNextRevision) {
  EXPECT_EQ(*Create("/a", "1"), 2);
  EXPECT_EQ(*Create("/b", "1"), 3);
  EXPECT_EQ(*Update("/a", 2, "2"), 4);
  EXPECT_EQ(*Delete("/b", 3), 5);
  EXPECT_EQ(*Create("/b", "again"), 6);
  EXPECT_EQ(store_->CurrentRevision(), 6);
  absl::StatusOr<KeyValue> a = Get("/a");
  ASSERT_TRUE(a.ok());
  EXPECT_EQ(*a->value, "2");
  EXPECT_EQ(a->create_revision, 2);
  EXPECT_EQ(a->mod_revision, 4);
  absl::StatusOr<KeyValue> b = Get("/b");
  ASSERT_TRUE(b.ok());
  EXPECT_EQ(b->create_revision, 6);
}

TEST_P(StoreContractTest, RefusedWritesTakeNoRevision) {
  ASSERT_EQ(*Create("/a", "1"), 2);
  EXPECT_TRUE(absl::IsAlreadyExists(Create("/a", "x").status()));
  EXPECT_TRUE(absl::IsNotFound(Update("/b", kAnyRevision, "x").status()));
  EXPECT_TRUE(absl::IsNotFound(Delete("/b", 2).status()));
  EXPECT_TRUE(IsConflict(Update("/a", 1, "x").status()));
  EXPECT_TRUE(IsConflict(Update("/a", 3, "x").status()));
  EXPECT_TRUE(IsConflict(Delete("/a", 7).status()));
  EXPECT_EQ(Update("/a", 1, "x").status().message(), "key /a: expected revision 1, is at 2");
  EXPECT_EQ(store_->CurrentRevision(), 2);
  EXPECT_EQ(*Update("/a", kAnyRevision, "2"), 3);
  EXPECT_EQ(*Delete("/a"), 4);
  EXPECT_TRUE(absl::IsNotFound(Update("/a", 3, "x").status()));
  EXPECT_TRUE(absl::IsNotFound(Delete("/a").status()));
}

TEST_P(StoreContractTest, BadArgumentsAreNamed) {
  EXPECT_TRUE(absl::IsInvalidArgument(Create("", "x").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Create(std::string(kMaxKeyBytes + 1, 'k'), "x").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Create("/a", std::string(kMaxValueBytes + 1, 'v')).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(loop_.Await(store_->Create("/a", nullptr)).status()));
  EXPECT_TRUE(Create(std::string(kMaxKeyBytes, 'k'), std::string(kMaxValueBytes, 'v')).ok());
  EXPECT_TRUE(Create("/empty", "").ok());
  EXPECT_EQ(*Get("/empty")->value, "");
  std::string binary("\0\xff\n\x80", 4);
  EXPECT_TRUE(Create("/binary", binary).ok());
  EXPECT_EQ(*Get("/binary")->value, binary);
}

TEST_P(StoreContractTest, ListByPrefixInKeyOrder) {
  ASSERT_TRUE(Create("/pods/b", "1").ok());
  ASSERT_TRUE(Create("/pods/a", "2").ok());
  ASSERT_TRUE(Create("/podsx/c", "3").ok());
  ASSERT_TRUE(Create("/nodes/n", "4").ok());
  absl::StatusOr<ListResult> list = List("/pods/");
  ASSERT_TRUE(list.ok());
  EXPECT_THAT(ToStrings(list->items), ElementsAre("/pods/a=2@3", "/pods/b=1@2"));
  EXPECT_EQ(list->revision, 5);
  EXPECT_FALSE(list->more);
  EXPECT_EQ(List("")->items.size(), 4u);
}

TEST_P(StoreContractTest, PagesShowOneStateWhateverIsWrittenBetween) {
  for (int i = 0; i < 7; ++i) ASSERT_TRUE(Create(StrCat("/k/", i), "old").ok());
  absl::StatusOr<ListResult> page = List("/k/", 3);
  ASSERT_TRUE(page.ok());
  EXPECT_TRUE(page->more);
  EXPECT_EQ(page->remaining, 4);
  Revision revision = page->revision;
  ASSERT_TRUE(Delete("/k/3").ok());
  ASSERT_TRUE(Update("/k/4", kAnyRevision, "new").ok());
  ASSERT_TRUE(Create("/k/55", "new").ok());
  ASSERT_TRUE(Delete("/k/6").ok());
  ASSERT_TRUE(Create("/k/6", "new").ok());
  page = List("/k/", 3, page->items.back().key, revision);
  ASSERT_TRUE(page.ok());
  EXPECT_THAT(ToStrings(page->items), ElementsAre("/k/3=old@5", "/k/4=old@6", "/k/5=old@7"));
  EXPECT_EQ(page->revision, revision);
  EXPECT_EQ(page->remaining, 1);
  page = List("/k/", 3, page->items.back().key, revision);
  ASSERT_TRUE(page.ok());
  EXPECT_THAT(ToStrings(page->items), ElementsAre("/k/6=old@8"));
  EXPECT_FALSE(page->more);
  EXPECT_TRUE(IsFutureRevision(List("/k/", 0, "", store_->CurrentRevision() + 1).status()));
}

TEST_P(StoreContractTest, WatchDeliversWhatComes) {
  std::unique_ptr<StoreWatch> watch = Watch("/a/", 1);
  EXPECT_FALSE(watch->TryNext().has_value());
  ASSERT_TRUE(Create("/a/x", "1").ok());
  ASSERT_TRUE(Create("/b/x", "1").ok());
  ASSERT_TRUE(Update("/a/x", 2, "2").ok());
  ASSERT_TRUE(Delete("/a/x").ok());
  ASSERT_TRUE(Create("/a/x", "3").ok());
  EXPECT_THAT(ToStrings(Events(*watch, 4)), ElementsAre("+/a/x=1@2", "~/a/x=2@4", "-/a/x@5", "+/a/x=3@6"));
}

TEST_P(StoreContractTest, WatchReplaysFromARevision) {
  ASSERT_TRUE(Create("/a", "1").ok());
  ASSERT_TRUE(Update("/a", 2, "2").ok());
  ASSERT_TRUE(Create("/z", "1").ok());
  ASSERT_TRUE(Delete("/a").ok());
  std::unique_ptr<StoreWatch> all = Watch("/a", 1);
  std::unique_ptr<StoreWatch> later = Watch("/a", 3);
  std::unique_ptr<StoreWatch> now = Watch("/a", 5);
  std::unique_ptr<StoreWatch> future = Watch("/a", 6);
  ASSERT_TRUE(Create("/a", "3").ok());
  ASSERT_TRUE(Update("/a", 6, "4").ok());
  EXPECT_THAT(ToStrings(Events(*all, 5)), ElementsAre("+/a=1@2", "~/a=2@3", "-/a@5", "+/a=3@6", "~/a=4@7"));
  EXPECT_THAT(ToStrings(Events(*later, 3)), ElementsAre("-/a@5", "+/a=3@6", "~/a=4@7"));
  EXPECT_THAT(ToStrings(Events(*now, 2)), ElementsAre("+/a=3@6", "~/a=4@7"));
  EXPECT_THAT(ToStrings(Events(*future, 1)), ElementsAre("~/a=4@7"));
}

TEST_P(StoreContractTest, WatchReportsProgressOfOtherKeys) {
  std::unique_ptr<StoreWatch> watch = Watch("/a/", 1);
  ASSERT_TRUE(Create("/b/x", "1").ok());
  std::optional<absl::StatusOr<WatchBatch>> batch = watch->TryNext();
  ASSERT_TRUE(batch.has_value() && batch->ok());
  EXPECT_THAT((*batch)->events, IsEmpty());
  EXPECT_EQ((*batch)->revision, 2);
  EXPECT_FALSE(watch->TryNext().has_value());
}

TEST_P(StoreContractTest, AcknowledgedWritesAreInTheWatchQueue) {
  std::unique_ptr<StoreWatch> watch = Watch("/a", 1);
  for (int i = 0; i < 5; ++i) {
    Revision revision = *Create(StrCat("/a", i), "1");
    std::optional<absl::StatusOr<WatchBatch>> batch = watch->TryNext();
    ASSERT_TRUE(batch.has_value() && batch->ok());
    ASSERT_EQ((*batch)->events.size(), 1u);
    EXPECT_EQ((*batch)->events[0].revision, revision);
    EXPECT_EQ((*batch)->revision, revision);
  }
}

TEST_P(StoreContractTest, CompactionForgetsHistoryButNoLivingKey) {
  ASSERT_TRUE(Create("/a", "1").ok());     // 2
  ASSERT_TRUE(Create("/b", "1").ok());     // 3
  ASSERT_TRUE(Update("/a", 2, "2").ok());  // 4
  ASSERT_TRUE(Delete("/b").ok());          // 5
  ASSERT_TRUE(Create("/c", "1").ok());     // 6
  ASSERT_TRUE(Update("/a", 4, "3").ok());  // 7
  EXPECT_TRUE(IsFutureRevision(Compact(8)));
  ASSERT_TRUE(Compact(5).ok());
  EXPECT_EQ(store_->CompactedRevision(), 5);
  EXPECT_TRUE(IsCompacted(Compact(5)));
  EXPECT_TRUE(IsCompacted(List("/", 0, "", 4).status()));
  EXPECT_TRUE(IsCompacted(store_->Watch("/", 4).status()));
  EXPECT_THAT(ToStrings(List("/", 0, "", 5)->items), ElementsAre("/a=2@4"));
  EXPECT_THAT(ToStrings(List("/")->items), ElementsAre("/a=3@7", "/c=1@6"));
  std::unique_ptr<StoreWatch> watch = Watch("/", 5);
  EXPECT_THAT(ToStrings(Events(*watch, 2)), ElementsAre("+/c=1@6", "~/a=3@7"));
  ASSERT_TRUE(Compact(7).ok());
  EXPECT_THAT(ToStrings(List("/")->items), ElementsAre("/a=3@7", "/c=1@6"));
  EXPECT_EQ(Get("/c")->create_revision, 6);
  // A key whose deletion was compacted comes back as new.
  EXPECT_EQ(*Create("/b", "2"), 8);
  EXPECT_THAT(ToStrings(List("/", 0, "", 7)->items), ElementsAre("/a=3@7", "/c=1@6"));
  EXPECT_EQ(*Update("/c", 6, "2"), 9);
}

TEST_P(StoreContractTest, ReplayOvertakenByCompactionSaysSo) {
  for (int i = 0; i < 600; ++i) ASSERT_TRUE(Create(StrCat("/k", i), "v").ok());
  std::unique_ptr<StoreWatch> watch = Watch("/k", 1);
  absl::StatusOr<WatchBatch> batch = loop_.Await(watch->Next());
  ASSERT_TRUE(batch.ok());
  EXPECT_LT(batch->events.size(), 600u);
  ASSERT_TRUE(Compact(600).ok());
  EXPECT_TRUE(IsCompacted(loop_.Await(watch->Next()).status()));
  EXPECT_TRUE(IsCompacted(loop_.Await(watch->Next()).status()));
}

TEST_P(StoreContractTest, SlowWatchIsEndedAndBlocksNobody) {
  if (GetParam() == Kind::kSqliteThread) GTEST_SKIP() << "the same code, only slower";
  std::unique_ptr<StoreWatch> slow = Watch("/", 1);
  std::vector<Task<absl::StatusOr<Revision>>> writes;
  for (size_t i = 0; i <= kMaxWatchQueueEvents; ++i) {
    writes.push_back(store_->Create(StrCat("/", i), ToBytes("")));
    if (writes.size() == 8192) {
      for (absl::StatusOr<Revision>& revision : loop_.AwaitAll(std::move(writes))) ASSERT_TRUE(revision.ok());
      writes.clear();
    }
  }
  for (absl::StatusOr<Revision>& revision : loop_.AwaitAll(std::move(writes))) ASSERT_TRUE(revision.ok());
  EXPECT_TRUE(absl::IsResourceExhausted(loop_.Await(slow->Next()).status()));
}

Task<absl::StatusOr<Revision>> Increment(Store* store, std::string key, int times) {
  Revision last = 0;
  for (int i = 0; i < times;) {
    Task<absl::StatusOr<KeyValue>> get = store->Get(key);
    absl::StatusOr<KeyValue> current = co_await std::move(get);
    if (!current.ok()) co_return current.status();
    Bytes next = ToBytes(absl::StrCat(atoi(current->value->c_str()) + 1));
    Task<absl::StatusOr<Revision>> update = store->Update(key, current->mod_revision, next);
    absl::StatusOr<Revision> revision = co_await std::move(update);
    if (revision.ok()) {
      last = *revision;
      ++i;
    } else if (!IsConflict(revision.status())) {
      co_return revision.status();
    }
  }
  co_return last;
}

TEST_P(StoreContractTest, ConcurrentReadModifyWritesLoseNothing) {
  ASSERT_TRUE(Create("/n", "0").ok());
  std::unique_ptr<StoreWatch> watch = Watch("/n", 2);
  std::vector<Task<absl::StatusOr<Revision>>> tasks;
  for (int i = 0; i < 8; ++i) tasks.push_back(Increment(store_.get(), "/n", 10));
  for (absl::StatusOr<Revision>& revision : loop_.AwaitAll(std::move(tasks))) EXPECT_TRUE(revision.ok());
  EXPECT_EQ(*Get("/n")->value, "80");
  EXPECT_EQ(store_->CurrentRevision(), 82);
  Revision expected = 3;
  for (const StoreEvent& event : Events(*watch, 80)) EXPECT_EQ(event.revision, expected++);
}

TEST_P(StoreContractTest, OneOfManyCreatorsWins) {
  std::vector<Task<absl::StatusOr<Revision>>> tasks;
  for (int i = 0; i < 50; ++i) tasks.push_back(store_->Create("/a", ToBytes(absl::StrCat(i))));
  int won = 0, refused = 0;
  for (absl::StatusOr<Revision>& revision : loop_.AwaitAll(std::move(tasks))) {
    revision.ok() ? ++won : ++refused;
    EXPECT_TRUE(revision.ok() || absl::IsAlreadyExists(revision.status()));
  }
  EXPECT_EQ(won, 1);
  EXPECT_EQ(refused, 49);
  EXPECT_EQ(store_->CurrentRevision(), 2);
}

TEST_P(StoreContractTest, ClosedStoreRefusesPolitely) {
  ASSERT_TRUE(Create("/a", "1").ok());
  std::unique_ptr<StoreWatch> watch = Watch("/", 2);
  loop_.AwaitVoid(store_->Close());
  EXPECT_TRUE(absl::IsUnavailable(Create("/b", "1").status()));
  EXPECT_TRUE(absl::IsUnavailable(Get("/a").status()));
  EXPECT_TRUE(absl::IsUnavailable(List("/").status()));
  EXPECT_TRUE(absl::IsUnavailable(store_->Watch("/", 2).status()));
  EXPECT_TRUE(absl::IsUnavailable(store_->Health()));
  EXPECT_TRUE(absl::IsCancelled(loop_.Await(watch->Next()).status()));
  store_.reset();
  watch.reset();  // may outlive the store
}

TEST_P(StoreContractTest, WritesUnderWayAtCloseAreAnswered) {
  std::vector<Task<absl::StatusOr<Revision>>> tasks;
  for (int i = 0; i < 20; ++i) tasks.push_back(store_->Create(absl::StrCat("/", i), ToBytes("v")));
  Scope scope(loop_.env().executor());
  scope.Spawn("close", store_->Close());
  int ok = 0;
  for (absl::StatusOr<Revision>& revision : loop_.AwaitAll(std::move(tasks))) {
    if (revision.ok()) {
      ++ok;
    } else {
      EXPECT_TRUE(absl::IsUnavailable(revision.status()));
    }
  }
  EXPECT_EQ(store_->CurrentRevision(), 1 + ok);
  loop_.AwaitVoid(scope.Close());
}

// Random writes, compactions, lists and watches against a model of whole states, reopening now and then.
TEST_P(StoreContractTest, AgreesWithAModel) {
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937_64 random(seed);
    std::map<Revision, std::map<std::string, std::pair<Revision, std::string>>>
        states;  // whole state by revision
    std::map<Revision, std::string> events;
    auto list = [&](Revision revision) {
      std::vector<std::string> out;
      for (auto& [key, value] : states[revision])
        out.push_back(StrCat(key, "=", value.second, "@", value.first));
      return out;
    };
    Revision base = store_->CurrentRevision(), compacted = base;
    // Start from an empty prefix of its own.
    std::string root = StrCat("/", seed, "/");
    states[base] = {};
    for (int step = 0; step < 150; ++step) {
      std::string key = StrCat(root, random() % 12);
      Revision now = store_->CurrentRevision();
      auto& state = states[now];
      auto it = state.find(key);
      auto record = [&](absl::StatusOr<Revision> revision, std::string event, std::string value) {
        ASSERT_TRUE(revision.ok()) << revision.status();
        ASSERT_EQ(*revision, now + 1);
        states[*revision] = states[now];
        if (value.empty()) {
          states[*revision].erase(key);
        } else {
          states[*revision][key] = {*revision, value};
        }
        events[*revision] = StrCat(event, "@", *revision);
      };
      std::string value = StrCat("v", step);
      switch (random() % 8) {
        case 0:
        case 1:
        case 2:
        case 3:
          if (it == state.end()) {
            record(Create(key, value), StrCat("+", key, "=", value), value);
          } else {
            std::string before = it->second.second;
            record(Update(key, it->second.first, value), StrCat("~", key, "=", value, "(", before, ")"),
                   value);
          }
          break;
        case 4:
        case 5:
          if (it == state.end()) {
            EXPECT_TRUE(absl::IsNotFound(Delete(key).status()));
          } else {
            std::string before = it->second.second;
            record(Delete(key, it->second.first), StrCat("-", key, "(", before, ")"), "");
          }
          break;
        case 6:
          if (random() % 4 == 0 && now > compacted) {
            compacted += 1 + static_cast<Revision>(random() % static_cast<uint64_t>(now - compacted));
            ASSERT_TRUE(Compact(compacted).ok());
          } else if (random() % 4 == 0 && GetParam() != Kind::kMemory) {
            loop_.AwaitVoid(store_->Close());
            store_.reset();
            Open();
          }
          break;
        case 7: {
          Revision at =
              compacted + static_cast<Revision>(random() % static_cast<uint64_t>(now - compacted + 1));
          EXPECT_EQ(ToStrings(List(root, 0, "", at)->items), list(at));
          std::vector<std::string> expected;
          for (auto e = events.upper_bound(at); e != events.end(); ++e) expected.push_back(e->second);
          std::vector<std::string> seen = ToStrings(Events(*Watch(root, at), expected.size()));
          ASSERT_EQ(seen.size(), expected.size());
          for (size_t i = 0; i < seen.size(); ++i) {
            // Compaction may have taken the value before.
            if (seen[i] != expected[i]) {
              EXPECT_EQ(seen[i].find('('), std::string::npos) << expected[i];
              EXPECT_EQ(seen[i].substr(seen[i].find('@')), expected[i].substr(expected[i].find('@')));
            }
          }
          break;
        }
      }
    }
    EXPECT_EQ(ToStrings(List(root)->items), list(store_->CurrentRevision()));
  }
}

INSTANTIATE_TEST_SUITE_P(Stores, StoreContractTest,
                         ::testing::Values(Kind::kMemory, Kind::kSqliteInline, Kind::kSqliteThread),
                         [](const ::testing::TestParamInfo<Kind>& info) -> std::string {
                           if (info.param == Kind::kMemory) return "Memory";
                           return info.param == Kind::kSqliteInline ? "SqliteOnLoop" : "SqliteThread";
                         });

// ---- faults of the memory store ----

TEST(MemoryStoreTest, FailsTheNthCall) {
  Loop loop(false);
  MemoryStore store(loop.env());
  store.FailNth(2, absl::UnavailableError("injected"));
  EXPECT_TRUE(loop.Await(store.Create("/a", ToBytes("1"))).ok());
  EXPECT_TRUE(absl::IsUnavailable(loop.Await(store.Create("/b", ToBytes("1"))).status()));
  EXPECT_TRUE(absl::IsNotFound(loop.Await(store.Get("/b")).status()));
  store.FailNth(1, absl::UnavailableError("lost reply"), true);
  EXPECT_TRUE(absl::IsUnavailable(loop.Await(store.Create("/b", ToBytes("1"))).status()));
  EXPECT_TRUE(loop.Await(store.Get("/b")).ok());
  loop.AwaitVoid(store.Close());
}

TEST(MemoryStoreTest, DelaysOnTheFakeClock) {
  Loop loop(false);
  MemoryStore store(loop.env());
  store.set_fault_hook([](const StoreCall& call) -> std::optional<StoreFault> {
    if (call.method != "Create") return std::nullopt;
    return StoreFault{absl::Seconds(3), absl::OkStatus(), false};
  });
  absl::Duration start = loop.env().clock().Monotonic();
  EXPECT_TRUE(loop.Await(store.Create("/a", ToBytes("1"))).ok());
  EXPECT_EQ(loop.env().clock().Monotonic() - start, absl::Seconds(3));
  loop.AwaitVoid(store.Close());
}

TEST(MemoryStoreTest, CompactsByTheClock) {
  Loop loop(false);
  MemoryStore store(loop.env(), absl::Minutes(5));
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(loop.Await(store.Create(absl::StrCat("/", i), ToBytes("v"))).ok());
  loop.fake().Advance(absl::Minutes(6));
  EXPECT_EQ(store.CompactedRevision(), 1);
  ASSERT_TRUE(loop.Await(store.Create("/x", ToBytes("v"))).ok());
  loop.fake().Advance(absl::Minutes(5));
  EXPECT_EQ(store.CompactedRevision(), 11);
  loop.AwaitVoid(store.Close());
}

}  // namespace
}  // namespace keelson::master
