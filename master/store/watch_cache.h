// WatchCache: the current objects of one resource (one key prefix) in memory, with a bounded history of
// events. It serves GET, LIST and WATCH; the Store behind it is read only at start and for pages of an old
// revision.
//
// Every event is decoded once and its object shared by all watchers; every encoding of an object is made once
// (CachedObject::Encoded) and its bytes shared by LIST, GET and all watchers.
//
// Threading: belongs to the store's loop. CachedObject is immutable and may be read (and encoded) by any
// thread.
#pragma once

#include <absl/container/btree_map.h>
#include <absl/functional/function_ref.h>
#include <absl/status/statusor.h>
#include <absl/time/time.h>
#include <google/protobuf/message.h>

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/env.h"
#include "base/task.h"
#include "master/store/store.h"

namespace keelson::master {

using MessagePtr = std::shared_ptr<const google::protobuf::Message>;

// Decodes stored bytes and sets metadata.resourceVersion to `revision`. A pure function; nullptr DecodeFn:
// the cache holds bytes only and message() is null.
using DecodeFn = std::function<absl::StatusOr<MessagePtr>(std::string_view key, const std::string& bytes,
                                                          Revision revision)>;

// One revision of one object.
class CachedObject {
 public:
  CachedObject(std::string key, Bytes bytes, MessagePtr message, Revision create_revision, Revision revision);
  ~CachedObject();
  CachedObject(const CachedObject&) = delete;
  CachedObject& operator=(const CachedObject&) = delete;

  const std::string& key() const { return key_; }
  const Bytes& bytes() const { return bytes_; }           // as stored
  const MessagePtr& message() const { return message_; }  // decoded, resourceVersion set
  Revision create_revision() const { return create_revision_; }
  // mod revision; for the object of a deletion event the revision of the deletion. It is the resourceVersion.
  Revision revision() const { return revision_; }

  // The bytes of this object in `encoding` (a number the caller chooses: JSON, protobuf, table row, ...),
  // made by `encode` at the first call and kept. Any thread; when two race, one result is dropped.
  Bytes Encoded(uint32_t encoding, absl::FunctionRef<std::string(const CachedObject&)> encode) const;

 private:
  struct Encoding;
  const std::string key_;
  const Bytes bytes_;
  const MessagePtr message_;
  const Revision create_revision_, revision_;
  mutable std::atomic<Encoding*> encodings_{nullptr};
};
using CachedObjectPtr = std::shared_ptr<const CachedObject>;

// Label and field selection; called on the loop, must be pure. Null: everything matches.
using Matcher = std::function<bool(const CachedObject&)>;

struct CacheListOptions {
  std::string key_prefix;            // "": the whole cache; else starts with the cache's prefix
  size_t limit = 0;                  // 0: all
  std::string start_after;           // key of the last item of the page before
  Revision revision = kAnyRevision;  // exact revision to list; kAnyRevision: what the cache has now
  Matcher match;
};

struct CacheList {
  std::vector<CachedObjectPtr> items;  // in byte order of the keys
  Revision revision = 0;               // resourceVersion of the list, and what the next page must ask for
  bool more = false;                   // another page follows items.back()->key()
  std::optional<int64_t> remaining;    // unset when `match` is set (as upstream's remainingItemCount)
};

struct CacheWatchEvent {
  enum Type { kAdded, kModified, kDeleted, kBookmark };
  Type type =
      kAdded;  // as the watcher's selector sees it: leaving the selection is kDeleted, entering kAdded
  CachedObjectPtr object;  // null for kBookmark; for kDeleted the last state with the event's revision
  Revision revision = 0;
  bool initial_events_end = false;  // the bookmark that ends the initial state (sendInitialEvents)
};

struct CacheWatchOptions {
  std::string key_prefix;           // as CacheListOptions
  std::optional<Revision> after;    // events after this revision; unset: first the current state, as kAdded
  bool bookmarks = false;           // a kBookmark every WatchCacheOptions::bookmark_interval
  bool initial_events_end = false;  // with `after` unset: a kBookmark after the initial state
  Matcher match;
};

// One watcher; destroying it ends it. Must not outlive the cache.
class CacheWatch {
 public:
  virtual ~CacheWatch() = default;
  // Waits for at least one event and yields all that are there (initial state: at most kMaxInitialBatch
  // each). One caller at a time. Errors are final: ResourceExhausted (too slow: end the response, the client
  // resumes from its last revision), IsCompacted (410 Expired: the cache had to list again), Cancelled (cache
  // stopped).
  virtual Task<absl::StatusOr<std::vector<CacheWatchEvent>>> Next() = 0;
  // Ends it from outside Next(): a pending Next() yields Cancelled.
  virtual void Stop() = 0;
};
inline constexpr size_t kMaxInitialBatch = 512;

struct WatchCacheOptions {
  std::string prefix;  // e.g. "/registry/pods/"
  DecodeFn decode;
  size_t max_history_events = 4096;                   // events that can be replayed; also bounded by
  size_t max_history_bytes = 4 << 20;                 // ... the stored bytes of their objects, and
  absl::Duration max_history_age = absl::Minutes(3);  // ... their age, for all but the newest
  size_t min_history_events = 32;
  size_t max_watcher_events = 32768;    // queue of one watcher; past either it is ended as too slow
  size_t max_watcher_bytes = 16 << 20;  // ... stored bytes of the queued events
  absl::Duration bookmark_interval = absl::Minutes(1);
};

class WatchCache {
 public:
  WatchCache(Env& env, Store& store, WatchCacheOptions options);
  ~WatchCache();  // after Stop()

  // Loads the prefix and follows it from then on. The history is filled from the store's, so that watchers
  // resume across a restart. An object that cannot be decoded is logged, counted and left out.
  Task<absl::Status> Start();
  // Ends all watchers and waits until the cache's tasks are over.
  Task<void> Stop();

  // Brings the cache to everything the store has acknowledged (resourceVersion unset: a consistent read).
  // With a store of this process it never waits.
  Task<absl::Status> WaitFresh();
  // Until revision() >= `revision` (resourceVersion "not older than"). DeadlineExceeded after `timeout`: the
  // API server answers "Too large resource version".
  Task<absl::Status> WaitForRevision(Revision revision, absl::Duration timeout = absl::Seconds(3));
  // Takes in, without waiting, what the store has already published. True when revision() >= the store's
  // current.
  bool CatchUp();

  // As the cache is now; null when absent. Consistent after WaitFresh() or CatchUp() == true.
  CachedObjectPtr Get(std::string_view key) const;
  // Served from memory unless `revision` is set and objects changed after it: then from the store's history.
  // IsCompacted, IsFutureRevision as Store::List.
  Task<absl::StatusOr<CacheList>> List(CacheListOptions options);
  // The same from memory only, without waiting; options.revision must be kAnyRevision.
  CacheList ListNow(const CacheListOptions& options) const;
  // IsCompacted when `after` lies before the kept history: answer 410 Expired. Call after Start().
  absl::StatusOr<std::unique_ptr<CacheWatch>> Watch(CacheWatchOptions options);

  // Every event up to here is in.
  Revision revision() const { return revision_; }
  // Oldest `after` that Watch() accepts.
  Revision oldest_watchable_revision() const { return history_floor_; }
  bool started() const { return started_; }
  size_t size() const { return objects_.size(); }
  size_t watchers() const { return watchers_.size(); }
  uint64_t undecodable_objects() const { return undecodable_objects_; }
  uint64_t terminated_slow_watchers() const { return terminated_slow_watchers_; }

 private:
  struct Event;
  class Watcher;
  using EventPtr = std::shared_ptr<Event>;

  Task<absl::Status> Load();
  Task<absl::Status> LoadOnce();
  Task<void> Follow();
  Task<absl::Status> Resubscribe();
  Task<void> SendBookmarks();
  void Take(const WatchBatch& batch);
  void Apply(const StoreEvent& event);
  void Record(EventPtr event);
  void TrimHistory();
  CachedObjectPtr Decode(const std::string& key, const Bytes& bytes, Revision create_revision,
                         Revision revision);
  Task<absl::StatusOr<CacheList>> ListHistory(CacheListOptions options);
  void EndWatchers(const absl::Status& why);

  Env& env_;
  Store& store_;
  const WatchCacheOptions options_;
  Scope scope_;
  bool started_ = false;
  Revision revision_ = 0;       // every event up to here is in objects_ and history_
  Revision history_floor_ = 0;  // history_ holds every event after this revision
  Revision last_change_ = 0;    // revision of the newest event
  absl::btree_map<std::string, CachedObjectPtr> objects_;
  std::deque<EventPtr> history_;
  size_t history_bytes_ = 0;
  std::vector<Watcher*> watchers_;
  std::unique_ptr<StoreWatch> source_;
  WaitList advanced_;
  uint64_t undecodable_objects_ = 0;
  uint64_t terminated_slow_watchers_ = 0;
};

}  // namespace keelson::master
