#include "master/store/watch_cache.h"

#include <gmock/gmock.h>
#include <google/protobuf/wrappers.pb.h>
#include <gtest/gtest.h>

#include "master/store/memory_store.h"
#include "master/store/testing/store_harness.h"

namespace keelson::master {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::Loop;
using testing::ToBytes;

// A store whose watches can be broken from outside.
class BreakableStore : public Store {
 public:
  explicit BreakableStore(Store& inner) : inner_(inner) {}
  void Break(absl::Status error) {
    broken_ = std::move(error);
    ++generation_;
    changed_.NotifyAll();
  }

  Task<absl::StatusOr<Revision>> Create(std::string k, Bytes v) override { return inner_.Create(k, v); }
  Task<absl::StatusOr<Revision>> Update(std::string k, Revision r, Bytes v) override {
    return inner_.Update(k, r, v);
  }
  Task<absl::StatusOr<Revision>> Delete(std::string k, Revision r) override { return inner_.Delete(k, r); }
  Task<absl::StatusOr<KeyValue>> Get(std::string k) override { return inner_.Get(k); }
  Task<absl::StatusOr<ListResult>> List(std::string p, size_t l, std::string s, Revision r) override {
    return inner_.List(p, l, s, r);
  }
  absl::StatusOr<std::unique_ptr<StoreWatch>> Watch(std::string prefix, Revision after) override {
    absl::StatusOr<std::unique_ptr<StoreWatch>> watch = inner_.Watch(prefix, after);
    if (!watch.ok()) return watch.status();
    return std::make_unique<BreakableWatch>(this, *std::move(watch), after);
  }
  Task<absl::Status> Compact(Revision r) override { return inner_.Compact(r); }
  Revision CurrentRevision() const override { return inner_.CurrentRevision(); }
  Revision CompactedRevision() const override { return inner_.CompactedRevision(); }
  absl::Status Health() const override { return inner_.Health(); }
  Task<void> Close() override { return inner_.Close(); }

 private:
  // Next() reads a replay, then waits to be broken; what is live comes through TryNext().
  class BreakableWatch : public StoreWatch {
   public:
    BreakableWatch(BreakableStore* store, std::unique_ptr<StoreWatch> inner, Revision after)
        : store_(store),
          generation_(store->generation_),
          inner_(std::move(inner)),
          delivered_(after),
          replay_until_(store->CurrentRevision()) {}
    Task<absl::StatusOr<WatchBatch>> Next() override {
      if (delivered_ < replay_until_) {
        std::optional<absl::StatusOr<WatchBatch>> ready = TryNext();
        if (ready.has_value()) co_return *std::move(ready);
        Task<absl::StatusOr<WatchBatch>> next = inner_->Next();
        absl::StatusOr<WatchBatch> batch = co_await std::move(next);
        if (batch.ok()) delivered_ = batch->revision;
        co_return batch;
      }
      while (generation_ == store_->generation_) {
        Task<void> wait = store_->changed_.Wait();
        co_await std::move(wait);
      }
      co_return store_->broken_;
    }
    std::optional<absl::StatusOr<WatchBatch>> TryNext() override {
      if (generation_ != store_->generation_) return store_->broken_;
      std::optional<absl::StatusOr<WatchBatch>> batch = inner_->TryNext();
      if (batch.has_value() && batch->ok()) delivered_ = (*batch)->revision;
      return batch;
    }

   private:
    BreakableStore* store_;
    int generation_;
    std::unique_ptr<StoreWatch> inner_;
    Revision delivered_;
    const Revision replay_until_;
  };
  Store& inner_;
  absl::Status broken_;
  int generation_ = 0;
  WaitList changed_;
};

// The decoded object is "<bytes>@<revision>".
absl::StatusOr<MessagePtr> Decode(std::string_view, const std::string& bytes, Revision revision) {
  if (bytes == "garbage") return absl::DataLossError("not an object");
  auto message = std::make_shared<google::protobuf::StringValue>();
  message->set_value(StrCat(bytes, "@", revision));
  return MessagePtr(message);
}

const std::string& Value(const CachedObject& object) {
  return static_cast<const google::protobuf::StringValue&>(*object.message()).value();
}

bool StartsWithX(const CachedObject& object) { return Value(object).starts_with("x"); }

std::vector<std::string> ToStrings(const std::vector<CacheWatchEvent>& events) {
  std::vector<std::string> out;
  for (const CacheWatchEvent& e : events) {
    if (e.type == CacheWatchEvent::kBookmark) {
      out.push_back(StrCat(e.initial_events_end ? "initial end " : "bookmark ", e.revision));
      continue;
    }
    const char* sign = e.type == CacheWatchEvent::kAdded      ? "+"
                       : e.type == CacheWatchEvent::kModified ? "~"
                                                              : "-";
    out.push_back(StrCat(sign, e.object->key(), "=", Value(*e.object)));
    EXPECT_EQ(e.object->revision(), e.revision);
  }
  return out;
}

std::vector<std::string> ToStrings(const std::vector<CachedObjectPtr>& items) {
  std::vector<std::string> out;
  for (const CachedObjectPtr& item : items) out.push_back(StrCat(item->key(), "=", Value(*item)));
  return out;
}

class WatchCacheTest : public ::testing::Test {
 protected:
  WatchCacheTest() : loop_(false), memory_(loop_.env()), store_(memory_) {
    options_.prefix = "/pods/";
    options_.decode = Decode;
  }
  ~WatchCacheTest() override {
    if (cache_ != nullptr) loop_.AwaitVoid(cache_->Stop());
    cache_.reset();
    loop_.AwaitVoid(memory_.Close());
  }
  void Start() {
    cache_ = std::make_unique<WatchCache>(loop_.env(), store_, options_);
    absl::Status status = loop_.Await(cache_->Start());
    ASSERT_TRUE(status.ok()) << status;
  }
  Revision Put(std::string key, std::string value) {
    absl::StatusOr<Revision> revision = loop_.Await(store_.Update(key, kAnyRevision, ToBytes(value)));
    if (!revision.ok()) revision = loop_.Await(store_.Create(key, ToBytes(value)));
    EXPECT_TRUE(revision.ok()) << revision.status();
    return *revision;
  }
  Revision Delete(std::string key) { return *loop_.Await(store_.Delete(key, kAnyRevision)); }
  std::unique_ptr<CacheWatch> Watch(CacheWatchOptions options) {
    absl::StatusOr<std::unique_ptr<CacheWatch>> watch = cache_->Watch(std::move(options));
    EXPECT_TRUE(watch.ok()) << watch.status();
    return watch.ok() ? *std::move(watch) : nullptr;
  }
  std::unique_ptr<CacheWatch> WatchAfter(Revision after) {
    CacheWatchOptions options;
    options.after = after;
    return Watch(std::move(options));
  }
  std::vector<std::string> Next(CacheWatch& watch) {
    cache_->CatchUp();
    absl::StatusOr<std::vector<CacheWatchEvent>> events = loop_.Await(watch.Next());
    EXPECT_TRUE(events.ok()) << events.status();
    return events.ok() ? ToStrings(*events) : std::vector<std::string>();
  }
  absl::StatusOr<CacheList> List(CacheListOptions options) {
    return loop_.Await(cache_->List(std::move(options)));
  }

  Loop loop_;
  MemoryStore memory_;
  BreakableStore store_;
  WatchCacheOptions options_;
  std::unique_ptr<WatchCache> cache_;
};

TEST_F(WatchCacheTest, LoadsAndIsFreshWithoutWaiting) {
  Put("/pods/a", "1");
  Put("/podsx", "1");
  Start();
  EXPECT_EQ(cache_->size(), 1u);
  EXPECT_EQ(cache_->revision(), 3);
  Put("/pods/b", "2");
  EXPECT_TRUE(cache_->CatchUp());
  EXPECT_EQ(Value(*cache_->Get("/pods/b")), "2@4");
  Delete("/pods/a");
  EXPECT_TRUE(loop_.Await(cache_->WaitFresh()).ok());
  EXPECT_EQ(cache_->Get("/pods/a"), nullptr);
  Put("/other", "1");
  EXPECT_TRUE(cache_->CatchUp());
  EXPECT_EQ(cache_->revision(), 6);
  EXPECT_THAT(ToStrings(cache_->ListNow({}).items), ElementsAre("/pods/b=2@4"));
}

TEST_F(WatchCacheTest, LoadsManyPages) {
  for (int i = 0; i < 1203; ++i) Put(StrCat("/pods/", i), "v");
  Start();
  EXPECT_EQ(cache_->size(), 1203u);
}

TEST_F(WatchCacheTest, WatchFromARevisionReplaysHistory) {
  Start();
  Put("/pods/a", "1");
  Put("/pods/a", "2");
  Put("/pods/b", "1");
  Delete("/pods/a");
  EXPECT_THAT(Next(*WatchAfter(1)),
              ElementsAre("+/pods/a=1@2", "~/pods/a=2@3", "+/pods/b=1@4", "-/pods/a=2@5"));
  EXPECT_THAT(Next(*WatchAfter(3)), ElementsAre("+/pods/b=1@4", "-/pods/a=2@5"));
  std::unique_ptr<CacheWatch> live = WatchAfter(5);
  std::unique_ptr<CacheWatch> future = WatchAfter(6);
  Put("/pods/c", "1");
  Put("/pods/d", "1");
  EXPECT_THAT(Next(*live), ElementsAre("+/pods/c=1@6", "+/pods/d=1@7"));
  EXPECT_THAT(Next(*future), ElementsAre("+/pods/d=1@7"));
}

TEST_F(WatchCacheTest, RevisionsPastTheHistoryAreExpired) {
  options_.max_history_events = 3;
  Start();
  for (int i = 0; i < 5; ++i) Put("/pods/a", "v");
  cache_->CatchUp();
  EXPECT_EQ(cache_->oldest_watchable_revision(), 3);
  CacheWatchOptions options;
  options.after = 2;
  EXPECT_TRUE(IsCompacted(cache_->Watch(options).status()));
  EXPECT_THAT(Next(*WatchAfter(3)), ElementsAre("~/pods/a=v@4", "~/pods/a=v@5", "~/pods/a=v@6"));
}

TEST_F(WatchCacheTest, HistoryIsBoundedInBytes) {
  options_.max_history_bytes = 3000;
  Start();
  for (int i = 0; i < 10; ++i) Put("/pods/a", std::string(1000, 'v'));
  cache_->CatchUp();
  EXPECT_EQ(cache_->oldest_watchable_revision(), cache_->revision() - 2);
}

TEST_F(WatchCacheTest, OldHistoryGoesButTheNewestEvents) {
  options_.min_history_events = 2;
  Start();
  for (int i = 0; i < 5; ++i) Put("/pods/a", "v");
  cache_->CatchUp();
  EXPECT_EQ(cache_->oldest_watchable_revision(), 1);
  loop_.fake().Advance(options_.max_history_age + options_.bookmark_interval);
  EXPECT_EQ(cache_->oldest_watchable_revision(), cache_->revision() - 2);
}

// A restarted API server has the events of before, so that its clients need not list again.
TEST_F(WatchCacheTest, HistoryIsFilledFromTheStore) {
  options_.max_history_events = 4;
  Put("/pods/a", "1");
  Put("/pods/b", "1");
  Put("/pods/b", "2");
  Put("/other", "1");
  Delete("/pods/a");
  Put("/pods/c", "1");
  Start();
  EXPECT_EQ(cache_->oldest_watchable_revision(), 3);
  EXPECT_THAT(ToStrings(cache_->ListNow({}).items), ElementsAre("/pods/b=2@4", "/pods/c=1@7"));
  EXPECT_THAT(Next(*WatchAfter(3)), ElementsAre("~/pods/b=2@4", "-/pods/a=1@6", "+/pods/c=1@7"));
}

TEST_F(WatchCacheTest, InitialStateThenItsEndThenEvents) {
  Put("/pods/a", "1");
  Put("/pods/b", "1");
  Start();
  CacheWatchOptions options;
  options.initial_events_end = true;
  std::unique_ptr<CacheWatch> watch = Watch(options);
  Put("/pods/c", "1");
  EXPECT_THAT(Next(*watch), ElementsAre("+/pods/a=1@2", "+/pods/b=1@3", "initial end 3", "+/pods/c=1@4"));
}

TEST_F(WatchCacheTest, LongInitialStateComesInBatches) {
  for (int i = 0; i < 1100; ++i) Put(StrCat("/pods/", i), "v");
  Start();
  std::unique_ptr<CacheWatch> watch = Watch({});
  EXPECT_EQ(Next(*watch).size(), kMaxInitialBatch);
  Put("/pods/x", "v");
  EXPECT_EQ(Next(*watch).size(), kMaxInitialBatch);
  std::vector<std::string> last = Next(*watch);
  EXPECT_EQ(last.size(), 1100 - 2 * kMaxInitialBatch + 1);
  EXPECT_EQ(last.back(), "+/pods/x=v@1102");
}

TEST_F(WatchCacheTest, SelectorsSeeObjectsEnterAndLeave) {
  Put("/pods/a", "x1");
  Put("/pods/b", "y1");
  Start();
  CacheWatchOptions options;
  options.after = 3;
  options.match = StartsWithX;
  std::unique_ptr<CacheWatch> watch = Watch(options);
  Put("/pods/a", "x2");
  Put("/pods/b", "y2");
  Put("/pods/b", "x3");
  Put("/pods/a", "y4");  // leaves: the old state, at the new revision
  Put("/pods/a", "y5");
  Delete("/pods/b");
  Delete("/pods/a");
  EXPECT_THAT(Next(*watch), ElementsAre("~/pods/a=x2@4", "+/pods/b=x3@6", "-/pods/a=x2@7", "-/pods/b=x3@9"));
}

TEST_F(WatchCacheTest, NarrowPrefix) {
  Put("/pods/ns1/a", "1");
  Put("/pods/ns2/b", "1");
  Start();
  CacheWatchOptions options;
  options.key_prefix = "/pods/ns2/";
  std::unique_ptr<CacheWatch> watch = Watch(options);
  Put("/pods/ns1/c", "1");
  Put("/pods/ns2/d", "1");
  EXPECT_THAT(Next(*watch), ElementsAre("+/pods/ns2/b=1@3", "+/pods/ns2/d=1@5"));
  CacheListOptions list;
  list.key_prefix = "/pods/ns1/";
  EXPECT_THAT(ToStrings(cache_->ListNow(list).items), ElementsAre("/pods/ns1/a=1@2", "/pods/ns1/c=1@4"));
}

TEST_F(WatchCacheTest, BookmarksCarryTheStoresProgress) {
  Start();
  CacheWatchOptions options;
  options.after = 1;
  options.bookmarks = true;
  std::unique_ptr<CacheWatch> with = Watch(options);
  std::unique_ptr<CacheWatch> without = WatchAfter(1);
  Put("/other", "1");
  loop_.fake().Advance(options_.bookmark_interval);
  EXPECT_THAT(Next(*with), ElementsAre("bookmark 2"));
  Put("/pods/a", "1");
  EXPECT_THAT(Next(*without), ElementsAre("+/pods/a=1@3"));
}

TEST_F(WatchCacheTest, SlowWatcherIsEndedAlone) {
  options_.max_watcher_events = 10;
  Start();
  std::unique_ptr<CacheWatch> slow = WatchAfter(1);
  std::unique_ptr<CacheWatch> quick = WatchAfter(1);
  for (int i = 0; i < 11; ++i) {
    Put("/pods/a", StrCat(i));
    EXPECT_EQ(Next(*quick).size(), 1u);
  }
  EXPECT_TRUE(absl::IsResourceExhausted(loop_.Await(slow->Next()).status()));
  EXPECT_EQ(cache_->terminated_slow_watchers(), 1u);
  Put("/pods/a", "more");
  EXPECT_THAT(Next(*quick), ElementsAre("~/pods/a=more@13"));
}

TEST_F(WatchCacheTest, AnEventIsDecodedAndEncodedOnceForAllWatchers) {
  int decoded = 0, encoded = 0;
  options_.decode = [&](std::string_view key, const std::string& bytes, Revision revision) {
    ++decoded;
    return Decode(key, bytes, revision);
  };
  Start();
  std::vector<std::unique_ptr<CacheWatch>> watches;
  for (int i = 0; i < 100; ++i) watches.push_back(WatchAfter(1));
  Put("/pods/a", "1");
  cache_->CatchUp();
  const std::string* bytes = nullptr;
  for (auto& watch : watches) {
    std::vector<CacheWatchEvent> events = *loop_.Await(watch->Next());
    ASSERT_EQ(events.size(), 1u);
    for (uint32_t encoding : {1, 2}) {
      Bytes out = events[0].object->Encoded(encoding, [&](const CachedObject& object) {
        ++encoded;
        return StrCat(encoding, ":", Value(object));
      });
      EXPECT_EQ(*out, StrCat(encoding, ":1@2"));
      if (encoding == 1) {
        EXPECT_TRUE(bytes == nullptr || bytes == out.get());
        bytes = out.get();
      }
    }
  }
  EXPECT_EQ(decoded, 1);
  EXPECT_EQ(encoded, 2);
}

TEST_F(WatchCacheTest, PagesOfAnOldRevision) {
  for (char c = 'a'; c <= 'e'; ++c) Put(StrCat("/pods/", std::string(1, c)), "x1");
  Start();
  CacheListOptions options;
  options.limit = 2;
  absl::StatusOr<CacheList> page = List(options);
  ASSERT_TRUE(page.ok());
  EXPECT_THAT(ToStrings(page->items), ElementsAre("/pods/a=x1@2", "/pods/b=x1@3"));
  EXPECT_TRUE(page->more);
  EXPECT_EQ(page->remaining, 3);
  options.revision = page->revision;
  options.start_after = "/pods/b";
  Put("/other", "1");  // changes nothing here: still served from memory
  uint64_t calls = memory_.calls();
  page = List(options);
  ASSERT_TRUE(page.ok());
  EXPECT_EQ(memory_.calls(), calls);
  EXPECT_THAT(ToStrings(page->items), ElementsAre("/pods/c=x1@4", "/pods/d=x1@5"));
  EXPECT_EQ(page->revision, options.revision);
  Put("/pods/c", "y2");
  Delete("/pods/d");
  cache_->CatchUp();
  page = List(options);
  ASSERT_TRUE(page.ok());
  EXPECT_THAT(ToStrings(page->items), ElementsAre("/pods/c=x1@4", "/pods/d=x1@5"));
  EXPECT_EQ(page->remaining, 1);
  EXPECT_EQ(page->revision, options.revision);
  options.match = StartsWithX;
  options.limit = 1;
  options.start_after = "";
  page = List(options);
  ASSERT_TRUE(page.ok());
  EXPECT_THAT(ToStrings(page->items), ElementsAre("/pods/a=x1@2"));
  EXPECT_TRUE(page->more);
  EXPECT_FALSE(page->remaining.has_value());
  options.revision = cache_->revision() + 10;
  EXPECT_TRUE(IsFutureRevision(List(options).status()));
  ASSERT_TRUE(loop_.Await(store_.Compact(cache_->revision())).ok());
  options.revision = 6;
  EXPECT_TRUE(IsCompacted(List(options).status()));
}

TEST_F(WatchCacheTest, SelectorAndLimitFromMemory) {
  for (int i = 0; i < 6; ++i) Put(StrCat("/pods/", i), i % 2 == 0 ? "x" : "y");
  Start();
  CacheListOptions options;
  options.match = StartsWithX;
  options.limit = 2;
  CacheList list = cache_->ListNow(options);
  EXPECT_THAT(ToStrings(list.items), ElementsAre("/pods/0=x@2", "/pods/2=x@4"));
  EXPECT_TRUE(list.more);
  options.start_after = "/pods/2";
  list = cache_->ListNow(options);
  EXPECT_THAT(ToStrings(list.items), ElementsAre("/pods/4=x@6"));
  EXPECT_FALSE(list.more);
}

TEST_F(WatchCacheTest, LostStoreWatchIsResumedWithoutAGap) {
  Start();
  std::unique_ptr<CacheWatch> watch = WatchAfter(1);
  Put("/pods/a", "1");
  store_.Break(absl::ResourceExhaustedError("too slow"));
  Put("/pods/a", "2");
  loop_.fake().Settle();
  EXPECT_TRUE(loop_.Await(cache_->WaitFresh()).ok());
  EXPECT_THAT(Next(*watch), ElementsAre("+/pods/a=1@2", "~/pods/a=2@3"));
}

TEST_F(WatchCacheTest, HistoryLostToCompactionMeansExpiredAndANewList) {
  Start();
  std::unique_ptr<CacheWatch> watch = WatchAfter(1);
  Put("/pods/a", "1");
  Put("/pods/b", "1");
  Delete("/pods/a");
  ASSERT_TRUE(loop_.Await(store_.Compact(4)).ok());
  store_.Break(absl::ResourceExhaustedError("too slow"));
  loop_.fake().Settle();
  EXPECT_TRUE(IsCompacted(loop_.Await(watch->Next()).status()));
  EXPECT_THAT(ToStrings(cache_->ListNow({}).items), ElementsAre("/pods/b=1@3"));
  EXPECT_EQ(cache_->revision(), 4);
  EXPECT_EQ(cache_->oldest_watchable_revision(), 4);
}

TEST_F(WatchCacheTest, UndecodableObjectIsLeftOut) {
  Put("/pods/a", "garbage");
  Put("/pods/b", "1");
  Start();
  EXPECT_EQ(cache_->undecodable_objects(), 1u);
  EXPECT_THAT(ToStrings(cache_->ListNow({}).items), ElementsAre("/pods/b=1@3"));
  std::unique_ptr<CacheWatch> watch = WatchAfter(3);
  Put("/pods/b", "garbage");
  Put("/pods/a", "2");
  EXPECT_THAT(Next(*watch), ElementsAre("-/pods/b=1@4", "+/pods/a=2@5"));
}

TEST_F(WatchCacheTest, WaitForRevisionEndsAtItsTimeout) {
  Start();
  absl::Duration start = loop_.env().clock().Monotonic();
  EXPECT_TRUE(absl::IsDeadlineExceeded(loop_.Await(cache_->WaitForRevision(5, absl::Seconds(3)))));
  EXPECT_EQ(loop_.env().clock().Monotonic() - start, absl::Seconds(3));
  Put("/pods/a", "1");
  EXPECT_TRUE(loop_.Await(cache_->WaitForRevision(2)).ok());
}

TEST_F(WatchCacheTest, StopEndsWatchers) {
  Start();
  std::unique_ptr<CacheWatch> one = WatchAfter(1);
  std::unique_ptr<CacheWatch> other = WatchAfter(1);
  one->Stop();
  EXPECT_TRUE(absl::IsCancelled(loop_.Await(one->Next()).status()));
  loop_.AwaitVoid(cache_->Stop());
  EXPECT_TRUE(absl::IsCancelled(loop_.Await(other->Next()).status()));
}

// ---- a cache that can encode keeps bytes in its history only ----

class EncodingCacheTest : public WatchCacheTest {
 protected:
  EncodingCacheTest() {
    options_.encode = [this](const google::protobuf::Message& message) {
      ++encodes_;
      std::string text = static_cast<const google::protobuf::StringValue&>(message).value();
      return text.substr(0, text.find('@'));
    };
    options_.stamp = [](google::protobuf::Message& message, Revision revision) {
      auto& text = static_cast<google::protobuf::StringValue&>(message);
      text.set_value(StrCat(text.value(), "@", revision));
    };
    options_.decode = [this](std::string_view key, const std::string& bytes, Revision revision) {
      ++decodes_;
      return Decode(key, bytes, revision);
    };
  }
  int encodes_ = 0, decodes_ = 0;
};

TEST_F(EncodingCacheTest, ReplaysWhatIsNoLongerCurrent) {
  Start();
  const Revision created = Put("/pods/a", "x1");
  Put("/pods/a", "y2");
  Put("/pods/a", "x3");
  Delete("/pods/a");
  cache_->CatchUp();
  std::unique_ptr<CacheWatch> all = WatchAfter(created - 1);
  EXPECT_THAT(Next(*all),
              ElementsAre(StrCat("+/pods/a=x1@", created), StrCat("~/pods/a=y2@", created + 1),
                          StrCat("~/pods/a=x3@", created + 2), StrCat("-/pods/a=x3@", created + 3)));
  CacheWatchOptions options;
  options.after = created;
  options.match = StartsWithX;
  std::unique_ptr<CacheWatch> selecting = Watch(std::move(options));
  EXPECT_THAT(Next(*selecting),
              ElementsAre(StrCat("-/pods/a=x1@", created + 1), StrCat("+/pods/a=x3@", created + 2),
                          StrCat("-/pods/a=x3@", created + 3)));
}

TEST_F(EncodingCacheTest, EncodesAgainWhatNobodyKept) {
  Start();
  auto message = std::make_shared<google::protobuf::StringValue>();
  message->set_value("1@2");
  const CachedObject object("/pods/a", ToBytes("1"), message, 2, 2, /*keep_bytes=*/false);
  EXPECT_FALSE(cache_->HasBytes(object, "2"));
  EXPECT_EQ(encodes_, 0);
  EXPECT_TRUE(cache_->HasBytes(object, "1"));
  EXPECT_EQ(*cache_->BytesOf(object), "1");
  EXPECT_EQ(encodes_, 2);
}

TEST_F(EncodingCacheTest, TakesOverTheObjectThatWasWritten) {
  Start();
  auto object = std::make_shared<google::protobuf::StringValue>();
  object->set_value("1");
  Bytes bytes = ToBytes("1");
  cache_->Expect(bytes, object);
  ASSERT_TRUE(loop_.Await(store_.Create("/pods/a", bytes)).ok());
  cache_->CatchUp();
  EXPECT_EQ(cache_->Get("/pods/a")->message(), object);
  EXPECT_EQ(object->value(), "1@2");
  EXPECT_EQ(decodes_, 0);
  EXPECT_FALSE(cache_->Withdraw(bytes));
  // A write that failed leaves nothing behind, and equal bytes of others are not these bytes.
  cache_->Expect(bytes, object);
  EXPECT_TRUE(cache_->Withdraw(bytes));
  Put("/pods/b", "1");
  cache_->CatchUp();
  EXPECT_EQ(decodes_, 1);
}

TEST_F(EncodingCacheTest, DropsEncodingsNobodyAsksFor) {
  Start();
  Put("/pods/a", "1");
  cache_->CatchUp();
  int made = 0;
  const auto encode = [&](const CachedObject& object) {
    ++made;
    return Value(object);
  };
  CachedObjectPtr first = cache_->Get("/pods/a");
  EXPECT_EQ(*first->Encoded(1, encode), "1@2");
  loop_.fake().Advance(options_.bookmark_interval / 4);
  EXPECT_EQ(*cache_->Get("/pods/a")->Encoded(1, encode), "1@2");
  EXPECT_EQ(made, 1);
  loop_.fake().Advance(options_.bookmark_interval / 2);
  EXPECT_EQ(*first->Encoded(1, encode), "1@2");  // whoever holds it still has them
  EXPECT_EQ(made, 1);
  CachedObjectPtr second = cache_->Get("/pods/a");
  EXPECT_EQ(*second->Encoded(1, encode), "1@2");
  EXPECT_EQ(made, 2);
  EXPECT_EQ(second->message(), first->message());
  EXPECT_EQ(second->revision(), first->revision());
}

TEST_F(EncodingCacheTest, HistoryCountsTheBytesItKeeps) {
  options_.max_history_bytes = 10000;
  options_.min_history_events = 1;
  Start();
  const std::string large(2000, 'x');
  const Revision first = Put("/pods/a", large);
  for (int i = 0; i < 10; ++i) Put("/pods/a", StrCat(large, i));
  cache_->CatchUp();
  // Each event brings its own bytes; those before are shared with the event before.
  EXPECT_GE(cache_->oldest_watchable_revision(), first + 5);
  EXPECT_LE(cache_->oldest_watchable_revision(), first + 7);
}

}  // namespace
}  // namespace keelson::master
