#include "master/store/watch_cache.h"

#include <absl/hash/hash.h>

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"

namespace keelson::master {
namespace {

constexpr size_t kLoadPageKeys = 500;
constexpr int kMaxLoadAttempts = 5;
constexpr absl::Duration kReloadDelay = absl::Seconds(1);
// Old events and idle encodings go more often than bookmarks come: between one and two of these parts of a
// minute.
constexpr int kUpkeepsPerBookmark = 4;
// What an event weighs beside the bytes of its objects.
constexpr size_t kEventBytes = 400;

size_t Fingerprint(const std::string& bytes) { return absl::HashOf(bytes); }

}  // namespace

// ---- CachedObject ----

struct CachedObject::Encoding {
  uint32_t encoding;
  Bytes bytes;
  Encoding* next;
};

CachedObject::CachedObject(std::string key, const Bytes& bytes, MessagePtr message, Revision create_revision,
                           Revision revision, bool keep_bytes)
    : key_(std::move(key)),
      bytes_(keep_bytes ? bytes : nullptr),
      seen_(bytes),
      fingerprint_(bytes == nullptr ? 0 : Fingerprint(*bytes)),
      message_(std::move(message)),
      create_revision_(create_revision),
      revision_(revision) {}

CachedObject::CachedObject(const CachedObject* same)
    : key_(same->key_),
      bytes_(same->bytes_),
      seen_(same->seen_),
      fingerprint_(same->fingerprint_),
      message_(same->message_),
      create_revision_(same->create_revision_),
      revision_(same->revision_) {}

CachedObject::~CachedObject() {
  for (Encoding* e = encodings_.load(std::memory_order_acquire); e != nullptr;)
    delete std::exchange(e, e->next);
}

Bytes CachedObject::Encoded(uint32_t encoding,
                            absl::FunctionRef<std::string(const CachedObject&)> encode) const {
  asked_.store(true, std::memory_order_relaxed);
  Encoding* seen = encodings_.load(std::memory_order_acquire);
  for (Encoding* e = seen; e != nullptr; e = e->next) {
    if (e->encoding == encoding) return e->bytes;
  }
  auto made = std::make_unique<Encoding>();
  made->encoding = encoding;
  std::string bytes = encode(*this);
  bytes.shrink_to_fit();
  made->bytes = std::make_shared<const std::string>(std::move(bytes));
  made->next = seen;
  while (!encodings_.compare_exchange_weak(made->next, made.get(), std::memory_order_acq_rel)) {
    for (Encoding* e = made->next; e != seen; e = e->next) {
      if (e->encoding == encoding) return e->bytes;
    }
    seen = made->next;
  }
  return made.release()->bytes;
}

// ---- events and watchers ----

// An object as the history keeps it.
struct WatchCache::State {
  Bytes bytes;  // null: there was none
  Revision create_revision = 0, revision = 0;
  std::weak_ptr<const CachedObject> object;  // while others keep it
};

struct WatchCache::Event {
  std::string key;
  State after;   // for a deletion the last state at the event's revision
  State before;  // no bytes for a creation
  bool deleted = false;
  Revision revision = 0;
  absl::Duration recorded;  // monotonic time
  size_t bytes = 0;  // as counted in history_bytes_: those an earlier event in the history brought are not
};

// An event on its way to the watchers.
struct WatchCache::Change {
  CachedObjectPtr object;    // after; for a deletion the last state at the event's revision
  CachedObjectPtr previous;  // before; null for a creation, and when no selector has to see it
  bool existed = false;      // before
  bool deleted = false;
  Revision revision = 0;
  size_t bytes = 0;      // of the object as stored
  CachedObjectPtr left;  // `previous` at this revision, for selectors it leaves; made when first asked for
};

class WatchCache::Watcher : public CacheWatch {
 public:
  Watcher(WatchCache* cache, CacheWatchOptions options) : cache_(cache), options_(std::move(options)) {
    cache_->watchers_.push_back(this);
  }
  ~Watcher() override { std::erase(cache_->watchers_, this); }

  bool Wants(const CachedObject& object) const { return !options_.match || options_.match(object); }
  bool wants_bookmarks() const { return options_.bookmarks; }

  void AddInitial(CachedObjectPtr object) {
    if (Wants(*object)) initial_.push_back(std::move(object));
  }
  void EndInitial(Revision revision) {
    if (options_.initial_events_end) OfferBookmark(revision, true);
  }
  void OfferBookmark(Revision revision, bool initial_events_end) {
    if (!error_.ok()) return;
    Push(CacheWatchEvent{CacheWatchEvent::kBookmark, nullptr, revision, initial_events_end}, 0);
  }
  bool selects() const { return options_.match != nullptr; }
  bool Covers(std::string_view key) const { return key.starts_with(options_.key_prefix); }
  void Offer(Change& event) {
    if (!error_.ok() || !Covers(event.object->key())) return;
    if (options_.after.has_value() && event.revision <= *options_.after)
      return;  // asked for a future revision
    bool before = event.existed && (!selects() || (event.previous != nullptr && Wants(*event.previous)));
    bool after = !event.deleted && Wants(*event.object);
    if (!before && !after) return;
    CacheWatchEvent out;
    out.revision = event.revision;
    out.type = !before ? CacheWatchEvent::kAdded
               : after ? CacheWatchEvent::kModified
                       : CacheWatchEvent::kDeleted;
    out.object = out.type == CacheWatchEvent::kDeleted && !event.deleted ? Left(event) : event.object;
    if (out.object == nullptr) return;
    Push(std::move(out), event.bytes);
  }
  void Fail(absl::Status error) {
    if (!error_.ok()) return;
    error_ = std::move(error);
    queue_.clear();
    initial_.clear();
    changed_.NotifyAll();
  }
  void Stop() override { Fail(absl::CancelledError("watch was stopped")); }

  Task<absl::StatusOr<std::vector<CacheWatchEvent>>> Next() override {
    while (error_.ok() && initial_.size() == initial_sent_ && queue_.empty()) {
      Task<void> wait = changed_.Wait();
      co_await std::move(wait);
    }
    if (!error_.ok()) co_return error_;
    std::vector<CacheWatchEvent> events;
    if (initial_sent_ < initial_.size()) {
      size_t end = std::min(initial_.size(), initial_sent_ + kMaxInitialBatch);
      for (; initial_sent_ < end; ++initial_sent_) {
        Revision revision = initial_[initial_sent_]->revision();
        events.push_back(
            CacheWatchEvent{CacheWatchEvent::kAdded, std::move(initial_[initial_sent_]), revision, false});
      }
      if (initial_sent_ < initial_.size()) co_return events;
      std::vector<CachedObjectPtr>().swap(initial_);
      initial_sent_ = 0;
    }
    events.insert(events.end(), std::make_move_iterator(queue_.begin()),
                  std::make_move_iterator(queue_.end()));
    queue_.clear();
    queue_bytes_ = 0;
    co_return events;
  }

 private:
  CachedObjectPtr Left(Change& event) {
    if (event.left == nullptr) {
      const CachedObject& old = *event.previous;
      event.left = cache_->Decode(old.key(), cache_->BytesOf(old), old.create_revision(), event.revision);
    }
    return event.left;
  }
  void Push(CacheWatchEvent event, size_t bytes) {
    queue_bytes_ += bytes;
    if (queue_.size() >= cache_->options_.max_watcher_events ||
        queue_bytes_ > cache_->options_.max_watcher_bytes) {
      ++cache_->terminated_slow_watchers_;
      Fail(absl::ResourceExhaustedError(StrCat("watch of ", cache_->options_.prefix, " is too slow: ",
                                               queue_.size(), " events, ", queue_bytes_, " bytes behind")));
      return;
    }
    queue_.push_back(std::move(event));
    changed_.NotifyAll();
  }

  WatchCache* const cache_;
  const CacheWatchOptions options_;
  std::vector<CachedObjectPtr> initial_;
  size_t initial_sent_ = 0;
  std::vector<CacheWatchEvent> queue_;
  size_t queue_bytes_ = 0;
  absl::Status error_;
  WaitList changed_;
};

// ---- following the store ----

WatchCache::WatchCache(Env& env, Store& store, WatchCacheOptions options)
    : env_(env), store_(store), options_(std::move(options)), scope_(env.executor()) {}

WatchCache::~WatchCache() { KEELSON_CHECK(watchers_.empty(), options_.prefix, " cache still has watchers"); }

Task<absl::Status> WatchCache::Start() {
  KEELSON_CHECK(!started_, options_.prefix, " cache started twice");
  CO_RETURN_IF_ERROR(Load());
  started_ = true;
  scope_.Spawn("watch cache", Follow());
  if (options_.bookmark_interval > absl::ZeroDuration())
    scope_.Spawn("watch cache bookmarks", SendBookmarks());
  co_return absl::OkStatus();
}

Task<void> WatchCache::Stop() {
  Task<void> close = scope_.Close();
  co_await std::move(close);
  source_.reset();
  EndWatchers(absl::CancelledError("the API server is stopping"));
  advanced_.NotifyAll();
}

Task<absl::Status> WatchCache::Load() {
  absl::Status status;
  for (int attempt = 0; attempt < kMaxLoadAttempts; ++attempt) {
    Task<absl::Status> load = LoadOnce();
    status = co_await std::move(load);
    // Only a compaction that overtook the pages is worth a new start.
    if (!IsCompacted(status)) break;
  }
  if (!status.ok()) status = Annotate(status, StrCat("load ", options_.prefix));
  co_return status;
}

// Lists the state some events ago and replays those.
Task<absl::Status> WatchCache::LoadOnce() {
  const Revision target = store_.CurrentRevision();
  const Revision revision =
      std::max(store_.CompactedRevision(), target - static_cast<Revision>(options_.max_history_events));
  Objects objects;
  std::string start_after;
  bool more = true;
  while (more) {
    Task<absl::StatusOr<ListResult>> list =
        store_.List(options_.prefix, kLoadPageKeys, start_after, revision);
    absl::StatusOr<ListResult> page = co_await std::move(list);
    if (!page.ok()) co_return page.status();
    more = page->more;
    if (!page->items.empty()) start_after = page->items.back().key;
    for (KeyValue& item : page->items) {
      CachedObjectPtr object = Decode(item.key, item.value, item.create_revision, item.mod_revision);
      if (object != nullptr) objects.insert(objects.end(), Slot{std::move(object)});
    }
  }
  absl::StatusOr<std::unique_ptr<StoreWatch>> watch = store_.Watch(options_.prefix, revision);
  if (!watch.ok()) co_return watch.status();
  source_ = *std::move(watch);
  objects_ = std::move(objects);
  history_.clear();
  history_bytes_ = 0;
  revision_ = history_floor_ = last_change_ = revision;
  while (!CatchUp() && revision_ < target) {
    Task<absl::StatusOr<WatchBatch>> next = source_->Next();
    absl::StatusOr<WatchBatch> batch = co_await std::move(next);
    if (!batch.ok()) co_return batch.status();
    Take(*batch);
  }
  advanced_.NotifyAll();
  co_return absl::OkStatus();
}

Task<void> WatchCache::Follow() {
  while (true) {
    Task<absl::StatusOr<WatchBatch>> next = source_->Next();
    absl::StatusOr<WatchBatch> batch = co_await std::move(next);
    if (batch.ok()) {
      Take(*batch);
      continue;
    }
    if (absl::IsCancelled(batch.status())) {
      EndWatchers(batch.status());
      co_return;
    }
    LogWarning("watch cache lost its store watch", {{"prefix", options_.prefix}, {"error", batch.status()}});
    Task<absl::Status> again = Resubscribe();
    absl::Status status = co_await std::move(again);
    if (!status.ok()) co_return;
  }
}

// Until the store watch stands again; fails only when the store is closed.
Task<absl::Status> WatchCache::Resubscribe() {
  while (true) {
    absl::StatusOr<std::unique_ptr<StoreWatch>> watch = store_.Watch(options_.prefix, revision_);
    if (watch.ok()) {
      source_ = *std::move(watch);
      co_return absl::OkStatus();
    }
    absl::Status status = watch.status();
    if (IsCompacted(status)) {
      EndWatchers(status);
      Task<absl::Status> load = Load();
      status = co_await std::move(load);
      if (status.ok()) co_return status;
    }
    if (absl::IsUnavailable(status)) {
      EndWatchers(absl::CancelledError(status.message()));
      co_return status;
    }
    LogError("watch cache cannot follow the store", {{"prefix", options_.prefix}, {"error", status}});
    Task<void> sleep = env_.clock().Sleep(kReloadDelay);
    co_await std::move(sleep);
  }
}

Task<void> WatchCache::SendBookmarks() {
  for (int upkeeps = 1;; ++upkeeps) {
    Task<void> sleep = env_.clock().Sleep(options_.bookmark_interval / kUpkeepsPerBookmark);
    co_await std::move(sleep);
    CatchUp();
    TrimHistory();
    DropIdleEncodings();
    if (upkeeps % kUpkeepsPerBookmark != 0) continue;
    for (Watcher* watcher : watchers_) {
      if (watcher->wants_bookmarks()) watcher->OfferBookmark(revision_, false);
    }
  }
}

void WatchCache::EndWatchers(const absl::Status& why) {
  for (Watcher* watcher : watchers_) watcher->Fail(why);
}

CachedObjectPtr WatchCache::Make(std::string_view key, const Bytes& bytes, MessagePtr message,
                                 Revision create_revision, Revision revision) const {
  const bool keep_bytes = message == nullptr || options_.encode == nullptr;
  return std::make_shared<const CachedObject>(std::string(key), bytes, std::move(message), create_revision,
                                              revision, keep_bytes);
}

CachedObjectPtr WatchCache::Decode(std::string_view key, const Bytes& bytes, Revision create_revision,
                                   Revision revision) {
  MessagePtr message;
  if (options_.decode) {
    absl::StatusOr<MessagePtr> decoded = options_.decode(key, *bytes, revision);
    if (!decoded.ok()) {
      ++undecodable_objects_;
      LogError("a stored object cannot be decoded and is left out",
               {{"key", key}, {"revision", revision}, {"error", decoded.status()}});
      return nullptr;
    }
    message = *std::move(decoded);
  }
  return Make(key, bytes, std::move(message), create_revision, revision);
}

void WatchCache::Expect(const Bytes& bytes, std::shared_ptr<google::protobuf::Message> object) {
  if (options_.stamp) expected_[bytes.get()] = std::move(object);
}

bool WatchCache::Withdraw(const Bytes& bytes) { return expected_.erase(bytes.get()) > 0 || !options_.stamp; }

Bytes WatchCache::BytesOf(const CachedObject& object) const {
  if (object.bytes_ != nullptr) return object.bytes_;
  if (Bytes seen = object.seen_.lock()) return seen;
  return std::make_shared<const std::string>(options_.encode(*object.message()));
}

bool WatchCache::HasBytes(const CachedObject& object, const std::string& bytes) const {
  return object.fingerprint_ == Fingerprint(bytes) && *BytesOf(object) == bytes;
}

// A new object of the same state has none yet; the old one stays as it is for those who hold it.
void WatchCache::DropIdleEncodings() {
  for (const Slot& slot : objects_) {
    const CachedObject& old = *slot.object;
    const bool asked = old.asked_.exchange(false, std::memory_order_relaxed);
    if (asked || old.encodings_.load(std::memory_order_acquire) == nullptr) continue;
    slot.object = std::make_shared<const CachedObject>(&old);
  }
}

void WatchCache::Take(const WatchBatch& batch) {
  for (const StoreEvent& event : batch.events) {
    if (event.revision > revision_) Apply(event);
  }
  revision_ = std::max(revision_, batch.revision);
  if (!advanced_.empty()) advanced_.NotifyAll();
}

void WatchCache::Apply(const StoreEvent& event) {
  revision_ = event.revision;
  Change change;
  change.revision = event.revision;
  Bytes before;
  auto it = objects_.find(std::string_view(event.key));
  if (it != objects_.end()) change.previous = it->object;
  if (auto expected = expected_.find(event.value.get());
      event.value != nullptr && expected != expected_.end()) {
    std::shared_ptr<google::protobuf::Message> message = std::move(expected->second);
    expected_.erase(expected);
    options_.stamp(*message, event.revision);
    change.object = Make(event.key, event.value, std::move(message), event.create_revision, event.revision);
  } else if (event.type != EventType::kDeleted) {
    change.object = Decode(event.key, event.value, event.create_revision, event.revision);
  }
  if (change.object != nullptr) {
    if (it != objects_.end()) {
      it->object = change.object;
    } else {
      objects_.insert(Slot{change.object});
    }
  } else {
    // Deleted, or no longer readable.
    if (it == objects_.end()) return;
    objects_.erase(it);
    change.deleted = true;
    const CachedObject& old = *change.previous;
    before = BytesOf(old);
    change.object = Decode(old.key(), before, old.create_revision(), event.revision);
    if (change.object == nullptr) change.object = change.previous;
  }
  Record(event, std::move(change), std::move(before));
}

void WatchCache::Record(const StoreEvent& event, Change change, Bytes before) {
  last_change_ = event.revision;
  change.existed = change.previous != nullptr;
  history_.emplace_back();
  Event& kept = history_.back();
  kept.key = event.key;
  kept.deleted = change.deleted;
  kept.revision = event.revision;
  kept.recorded = env_.clock().Monotonic();
  kept.bytes = kEventBytes + event.key.size();
  if (change.previous != nullptr) {
    const CachedObject& old = *change.previous;
    if (before == nullptr) before = BytesOf(old);
    // Else the event that brought them keeps them, too.
    if (old.revision() <= history_floor_) kept.bytes += before->size();
    kept.before = State{std::move(before), old.create_revision(), old.revision(), change.previous};
  }
  kept.after = State{change.deleted ? kept.before.bytes : event.value, change.object->create_revision(),
                     change.object->revision(), change.object};
  if (!change.deleted) kept.bytes += event.value->size();
  history_bytes_ += kept.bytes;
  change.bytes = kept.after.bytes->size();
  for (Watcher* watcher : watchers_) watcher->Offer(change);
  TrimHistory();
}

void WatchCache::TrimHistory() {
  absl::Duration oldest = env_.clock().Monotonic() - options_.max_history_age;
  while (history_.size() > options_.max_history_events || history_bytes_ > options_.max_history_bytes ||
         (history_.size() > options_.min_history_events && history_.front().recorded < oldest)) {
    history_floor_ = history_.front().revision;
    history_bytes_ -= history_.front().bytes;
    history_.pop_front();
  }
}

CachedObjectPtr WatchCache::Revive(const std::string& key, State& state) {
  CachedObjectPtr object = state.object.lock();
  if (object == nullptr && state.bytes != nullptr) {
    object = Decode(key, state.bytes, state.create_revision, state.revision);
    state.object = object;  // for the next watcher, while this one has it in its queue
  }
  return object;
}

void WatchCache::Replay(Revision after, Watcher& watcher) {
  auto first =
      std::upper_bound(history_.begin(), history_.end(), after,
                       [](Revision revision, const Event& event) { return revision < event.revision; });
  for (; first != history_.end(); ++first) {
    Event& event = *first;
    if (!watcher.Covers(event.key)) continue;
    Change change;
    change.object = Revive(event.key, event.after);
    if (change.object == nullptr) continue;
    change.existed = event.before.bytes != nullptr;
    if (watcher.selects()) change.previous = Revive(event.key, event.before);
    change.deleted = event.deleted;
    change.revision = event.revision;
    change.bytes = event.after.bytes->size();
    watcher.Offer(change);
  }
}

// ---- serving ----

bool WatchCache::CatchUp() {
  while (source_ != nullptr) {
    std::optional<absl::StatusOr<WatchBatch>> batch = source_->TryNext();
    // An error is Follow()'s to handle.
    if (!batch.has_value() || !batch->ok()) break;
    Take(**batch);
  }
  return revision_ >= store_.CurrentRevision();
}

Task<absl::Status> WatchCache::WaitFresh() {
  if (CatchUp()) co_return absl::OkStatus();
  Task<absl::Status> wait = WaitForRevision(store_.CurrentRevision());
  absl::Status status = co_await std::move(wait);
  co_return status;
}

Task<absl::Status> WatchCache::WaitForRevision(Revision revision, absl::Duration timeout) {
  CatchUp();
  if (revision_ >= revision) co_return absl::OkStatus();
  struct Timer {
    Clock& clock;
    uint64_t id = 0;
    bool fired = false;
    ~Timer() {
      if (!fired) clock.CancelTimer(id);
    }
  };
  Timer timer{env_.clock()};
  Timer* armed = &timer;
  timer.id = env_.clock().Schedule(timeout, [this, armed] {
    armed->fired = true;
    advanced_.NotifyAll();
  });
  while (revision_ < revision && !timer.fired) {
    Task<void> wait = advanced_.Wait();
    co_await std::move(wait);
    CatchUp();
  }
  if (revision_ >= revision) co_return absl::OkStatus();
  co_return absl::DeadlineExceededError(
      StrCat(options_.prefix, ": revision ", revision, " was not reached, at ", revision_));
}

CachedObjectPtr WatchCache::Get(std::string_view key) const {
  auto it = objects_.find(key);
  return it == objects_.end() ? nullptr : it->object;
}

CacheList WatchCache::ListNow(const CacheListOptions& options) const {
  CacheList list;
  list.revision = revision_;
  const std::string& prefix = options.key_prefix;
  if (!options.match) list.remaining = 0;
  auto it = options.start_after < prefix || options.start_after.empty()
                ? objects_.lower_bound(std::string_view(prefix))
                : objects_.upper_bound(std::string_view(options.start_after));
  if (options.limit == 0 && prefix.empty()) list.items.reserve(objects_.size());
  for (; it != objects_.end() && it->object->key().starts_with(prefix); ++it) {
    bool full = options.limit > 0 && list.items.size() == options.limit;
    if (options.match) {
      if (!options.match(*it->object)) continue;
      if (full) {
        list.more = true;
        break;
      }
    } else if (full) {
      list.more = true;
      ++*list.remaining;
      continue;
    }
    list.items.push_back(it->object);
  }
  return list;
}

Task<absl::StatusOr<CacheList>> WatchCache::List(CacheListOptions options) {
  Revision revision = options.revision;
  if (revision != kAnyRevision && revision > revision_) CatchUp();
  if (revision > revision_) co_return FutureRevisionError(revision, revision_);
  if (revision == kAnyRevision || revision >= last_change_) {
    CacheList list = ListNow(options);
    if (revision != kAnyRevision) list.revision = revision;
    co_return list;
  }
  Task<absl::StatusOr<CacheList>> task = ListHistory(std::move(options));
  absl::StatusOr<CacheList> list = co_await std::move(task);
  co_return list;
}

Task<absl::StatusOr<CacheList>> WatchCache::ListHistory(CacheListOptions options) {
  CacheList list;
  list.revision = options.revision;
  std::string prefix = options.key_prefix.empty() ? options_.prefix : options.key_prefix;
  std::string start_after = options.start_after;
  // With a selector a page of the store may yield fewer matches than asked for.
  size_t page_keys = options.match ? kLoadPageKeys : options.limit;
  bool more = true;
  while (more && !list.more) {
    Task<absl::StatusOr<ListResult>> read = store_.List(prefix, page_keys, start_after, options.revision);
    absl::StatusOr<ListResult> page = co_await std::move(read);
    if (!page.ok()) co_return page.status();
    more = page->more;
    if (!page->items.empty()) start_after = page->items.back().key;
    for (KeyValue& item : page->items) {
      CachedObjectPtr object = Get(item.key);
      if (object == nullptr || object->revision() != item.mod_revision) {
        object = Decode(item.key, item.value, item.create_revision, item.mod_revision);
      }
      if (object == nullptr || (options.match && !options.match(*object))) continue;
      if (options.limit > 0 && list.items.size() == options.limit) {
        list.more = true;
        break;
      }
      list.items.push_back(std::move(object));
    }
    if (!options.match) {
      list.more = page->more;
      list.remaining = page->remaining;
      break;
    }
  }
  co_return list;
}

absl::StatusOr<std::unique_ptr<CacheWatch>> WatchCache::Watch(CacheWatchOptions options) {
  KEELSON_CHECK(started_, options_.prefix, " cache was not started");
  CatchUp();
  if (options.after.has_value() && *options.after < history_floor_) {
    return CompactedError(*options.after, history_floor_);
  }
  std::optional<Revision> after = options.after;
  std::string prefix = options.key_prefix;
  auto watcher = std::make_unique<Watcher>(this, std::move(options));
  if (after.has_value()) {
    Replay(*after, *watcher);
  } else {
    for (auto it = objects_.lower_bound(std::string_view(prefix));
         it != objects_.end() && it->object->key().starts_with(prefix); ++it) {
      watcher->AddInitial(it->object);
    }
    watcher->EndInitial(revision_);
  }
  return std::unique_ptr<CacheWatch>(std::move(watcher));
}

}  // namespace keelson::master
