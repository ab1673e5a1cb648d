// WatchCache: the current objects of one resource (one key prefix) in memory, with a bounded history of
// events. It serves GET, LIST and WATCH; the Store behind it is read only at start and for pages of an old
// revision.
//
// Every event is decoded once and its object shared by all watchers; every encoding of an object is made once
// (CachedObject::Encoded), shared by LIST, GET and all watchers, and dropped when nobody has asked for it for
// a quarter to half of a bookmark interval. The history keeps bytes, not objects: what is no longer current
// is decoded again for the watcher that resumes from there.
//
// Threading: belongs to the store's loop. CachedObject is immutable and may be read (and encoded) by any
// thread.
#pragma once

#include <absl/container/btree_set.h>
#include <absl/container/flat_hash_map.h>
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
// Bytes that decode to this object (whatever its resourceVersion): what was stored, for an object of
// DecodeFn. With it the cache keeps the bytes of current objects only as long as its history does.
using EncodeFn = std::function<std::string(const google::protobuf::Message& object)>;
// Sets metadata.resourceVersion.
using StampFn = std::function<void(google::protobuf::Message& object, Revision revision)>;

// One revision of one object.
class CachedObject {
 public:
  // `keep_bytes`: bytes are the object's to keep; else only its readers' (WatchCache::BytesOf).
  CachedObject(std::string key, const Bytes& bytes, MessagePtr message, Revision create_revision,
               Revision revision, bool keep_bytes = true);
  // The same state without its encodings.
  explicit CachedObject(const CachedObject* same);
  ~CachedObject();
  CachedObject(const CachedObject&) = delete;
  CachedObject& operator=(const CachedObject&) = delete;

  const std::string& key() const { return key_; }
  const MessagePtr& message() const { return message_; }  // decoded, resourceVersion set
  Revision create_revision() const { return create_revision_; }
  // mod revision; for the object of a deletion event the revision of the deletion. It is the resourceVersion.
  Revision revision() const { return revision_; }

  // The bytes of this object in `encoding` (a number the caller chooses: JSON, protobuf, table row, ...),
  // made by `encode` at the first call and kept. Any thread; when two race, one result is dropped.
  Bytes Encoded(uint32_t encoding, absl::FunctionRef<std::string(const CachedObject&)> encode) const;

 private:
  friend class WatchCache;
  struct Encoding;
  const std::string key_;
  const Bytes bytes_;                            // as stored, when they are to be kept
  const std::weak_ptr<const std::string> seen_;  // as stored, while somebody else keeps them
  const size_t fingerprint_;                     // of the bytes as stored
  const MessagePtr message_;
  const Revision create_revision_, revision_;
  mutable std::atomic<Encoding*> encodings_{nullptr};
  mutable std::atomic<bool> asked_{false};  // Encoded() was called since the cache last looked
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
  EncodeFn encode;                                    // null: the cache keeps the bytes of every object
  StampFn stamp;                                      // needed for Expect()
  size_t max_history_events = 4096;                   // events that can be replayed; also bounded by
  size_t max_history_bytes = 6 << 20;                 // ... the bytes they keep, and
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

  // The caller is about to write `bytes`, the encoding of `object`: the event that brings these very bytes
  // need not decode them, the cache stamps `object` and takes it over. Nobody may change it from then on.
  void Expect(const Bytes& bytes, std::shared_ptr<google::protobuf::Message> object);
  // Ends that, whatever became of the write. False: the object was taken over.
  bool Withdraw(const Bytes& bytes);
  // As stored; they may have to be encoded again.
  Bytes BytesOf(const CachedObject& object) const;
  // BytesOf(object) == bytes, at next to no cost when they differ.
  bool HasBytes(const CachedObject& object, const std::string& bytes) const;

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
  struct State;
  struct Event;
  struct Change;
  class Watcher;
  struct Slot {
    mutable CachedObjectPtr object;  // never null; replaced by another with the same key only
  };
  struct ByKey {
    using is_transparent = void;
    static std::string_view Of(const Slot& slot) { return slot.object->key(); }
    static std::string_view Of(std::string_view key) { return key; }
    template <class A, class B>
    bool operator()(const A& a, const B& b) const {
      return Of(a) < Of(b);
    }
  };
  using Objects = absl::btree_set<Slot, ByKey>;

  Task<absl::Status> Load();
  Task<absl::Status> LoadOnce();
  Task<void> Follow();
  Task<absl::Status> Resubscribe();
  Task<void> SendBookmarks();
  void Take(const WatchBatch& batch);
  void Apply(const StoreEvent& event);
  void Record(const StoreEvent& event, Change change, Bytes before);
  void TrimHistory();
  void DropIdleEncodings();
  CachedObjectPtr Decode(std::string_view key, const Bytes& bytes, Revision create_revision,
                         Revision revision);
  CachedObjectPtr Make(std::string_view key, const Bytes& bytes, MessagePtr message, Revision create_revision,
                       Revision revision) const;
  // The object of a state in the history; null when it cannot be decoded.
  CachedObjectPtr Revive(const std::string& key, State& state);
  void Replay(Revision after, Watcher& watcher);
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
  Objects objects_;
  std::deque<Event> history_;
  size_t history_bytes_ = 0;
  absl::flat_hash_map<const std::string*, std::shared_ptr<google::protobuf::Message>> expected_;
  std::vector<Watcher*> watchers_;
  std::unique_ptr<StoreWatch> source_;
  WaitList advanced_;
  uint64_t undecodable_objects_ = 0;
  uint64_t terminated_slow_watchers_ = 0;
};

}  // namespace keelson::master
