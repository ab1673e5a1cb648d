#include "master/store/watch_cache.h"

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

}  // namespace

// ---- CachedObject ----

struct CachedObject::Encoding {
  uint32_t encoding;
  Bytes bytes;
  Encoding* next;
};

CachedObject::CachedObject(std::string key, Bytes bytes, MessagePtr message, Revision create_revision,
                           Revision revision)
    : key_(std::move(key)),
      bytes_(std::move(bytes)),
      message_(std::move(message)),
      create_revision_(create_revision),
      revision_(revision) {}

CachedObject::~CachedObject() {
  for (Encoding* e = encodings_.load(std::memory_order_acquire); e != nullptr;)
    delete std::exchange(e, e->next);
}

Bytes CachedObject::Encoded(uint32_t encoding,
                            absl::FunctionRef<std::string(const CachedObject&)> encode) const {
  Encoding* seen = encodings_.load(std::memory_order_acquire);
  for (Encoding* e = seen; e != nullptr; e = e->next) {
    if (e->encoding == encoding) return e->bytes;
  }
  auto made = std::make_unique<Encoding>();
  made->encoding = encoding;
  made->bytes = std::make_shared<const std::string>(encode(*this));
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

struct WatchCache::Event {
  CachedObjectPtr object;    // after; for a deletion the last state at the event's revision
  CachedObjectPtr previous;  // before; null for a creation
  bool deleted = false;
  Revision revision = 0;
  absl::Duration recorded;  // monotonic time
  CachedObjectPtr left;     // `previous` at this revision, for selectors it leaves; made when first asked for
  size_t bytes() const { return object->bytes()->size(); }
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
  void Offer(Event& event) {
    if (!error_.ok() || !event.object->key().starts_with(options_.key_prefix)) return;
    if (options_.after.has_value() && event.revision <= *options_.after)
      return;  // asked for a future revision
    bool before = event.previous != nullptr && Wants(*event.previous);
    bool after = !event.deleted && Wants(*event.object);
    if (!before && !after) return;
    CacheWatchEvent out;
    out.revision = event.revision;
    out.type = !before ? CacheWatchEvent::kAdded
               : after ? CacheWatchEvent::kModified
                       : CacheWatchEvent::kDeleted;
    out.object = out.type == CacheWatchEvent::kDeleted && !event.deleted ? Left(event) : event.object;
    if (out.object == nullptr) return;
    Push(std::move(out), event.bytes());
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
  CachedObjectPtr Left(Event& event) {
    if (event.left == nullptr) {
      const CachedObject& old = *event.previous;
      event.left = cache_->Decode(old.key(), old.bytes(), old.create_revision(), event.revision);
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
  absl::btree_map<std::string, CachedObjectPtr> objects;
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
      if (object != nullptr) objects.emplace_hint(objects.end(), std::move(item.key), std::move(object));
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
  while (true) {
    Task<void> sleep = env_.clock().Sleep(options_.bookmark_interval);
    co_await std::move(sleep);
    CatchUp();
    TrimHistory();
    for (Watcher* watcher : watchers_) {
      if (watcher->wants_bookmarks()) watcher->OfferBookmark(revision_, false);
    }
  }
}

void WatchCache::EndWatchers(const absl::Status& why) {
  for (Watcher* watcher : watchers_) watcher->Fail(why);
}

CachedObjectPtr WatchCache::Decode(const std::string& key, const Bytes& bytes, Revision create_revision,
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
  return std::make_shared<const CachedObject>(key, bytes, std::move(message), create_revision, revision);
}

void WatchCache::Take(const WatchBatch& batch) {
  for (const StoreEvent& event : batch.events) {
    if (event.revision > revision_) Apply(event);
  }
  revision_ = std::max(revision_, batch.revision);
  if (!advanced_.empty()) advanced_.NotifyAll();
}

void WatchCache::Apply(const StoreEvent& change) {
  revision_ = change.revision;
  auto event = std::make_shared<Event>();
  event->revision = change.revision;
  auto it = objects_.find(change.key);
  if (it != objects_.end()) event->previous = it->second;
  if (change.type != EventType::kDeleted) {
    event->object = Decode(change.key, change.value, change.create_revision, change.revision);
  }
  if (event->object != nullptr) {
    if (it != objects_.end()) {
      it->second = event->object;
    } else {
      objects_.emplace(change.key, event->object);
    }
  } else {
    // Deleted, or no longer readable.
    if (it == objects_.end()) return;
    objects_.erase(it);
    event->deleted = true;
    const CachedObject& old = *event->previous;
    event->object = Decode(old.key(), old.bytes(), old.create_revision(), change.revision);
    if (event->object == nullptr) event->object = event->previous;
  }
  Record(std::move(event));
}

void WatchCache::Record(EventPtr event) {
  last_change_ = event->revision;
  for (Watcher* watcher : watchers_) watcher->Offer(*event);
  history_bytes_ += event->bytes();
  event->recorded = env_.clock().Monotonic();
  history_.push_back(std::move(event));
  TrimHistory();
}

void WatchCache::TrimHistory() {
  absl::Duration oldest = env_.clock().Monotonic() - options_.max_history_age;
  while (history_.size() > options_.max_history_events || history_bytes_ > options_.max_history_bytes ||
         (history_.size() > options_.min_history_events && history_.front()->recorded < oldest)) {
    history_floor_ = history_.front()->revision;
    history_bytes_ -= history_.front()->bytes();
    history_.pop_front();
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
  auto it = objects_.find(Av(key));
  return it == objects_.end() ? nullptr : it->second;
}

CacheList WatchCache::ListNow(const CacheListOptions& options) const {
  CacheList list;
  list.revision = revision_;
  const std::string& prefix = options.key_prefix;
  if (!options.match) list.remaining = 0;
  auto it = options.start_after < prefix || options.start_after.empty()
                ? objects_.lower_bound(prefix)
                : objects_.upper_bound(options.start_after);
  if (options.limit == 0 && prefix.empty()) list.items.reserve(objects_.size());
  for (; it != objects_.end() && it->first.starts_with(prefix); ++it) {
    bool full = options.limit > 0 && list.items.size() == options.limit;
    if (options.match) {
      if (!options.match(*it->second)) continue;
      if (full) {
        list.more = true;
        break;
      }
    } else if (full) {
      list.more = true;
      ++*list.remaining;
      continue;
    }
    list.items.push_back(it->second);
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
    auto first =
        std::upper_bound(history_.begin(), history_.end(), *after,
                         [](Revision revision, const EventPtr& event) { return revision < event->revision; });
    for (; first != history_.end(); ++first) watcher->Offer(**first);
  } else {
    for (auto it = objects_.lower_bound(prefix); it != objects_.end() && it->first.starts_with(prefix);
         ++it) {
      watcher->AddInitial(it->second);
    }
    watcher->EndInitial(revision_);
  }
  return std::unique_ptr<CacheWatch>(std::move(watcher));
}

}  // namespace keelson::master
