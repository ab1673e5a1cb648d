// Store: the revisioned key-value interface under the API server (docs/architecture.md). MemoryStore and the
// SQLite store implement it; an etcd v3 one will. All of them pass store_contract_test.cc.
//
// Model (etcd's): one counter of revisions for the whole store. Every successful write takes the next
// revision, so revisions have no gap. A store without writes is at revision 1; its first write is revision 2.
// The history of every key is kept back to the compacted revision: any revision above or at it can be listed
// and watched.
//
// Threading: every method is called on, and every Task completes on, the loop of the Env the store was made
// with. Values are shared immutable bytes and may be read by any thread.
//
// Cancellation: a cancelled write may still happen; a cancelled read has no effect.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/task.h"

namespace keelson::master {

using Revision = int64_t;
using Bytes = std::shared_ptr<const std::string>;

inline constexpr Revision kAnyRevision = 0;    // "no precondition" for Update and Delete, "now" for List
inline constexpr Revision kFirstRevision = 1;  // CurrentRevision() of a store that was never written

inline constexpr size_t kMaxKeyBytes = 4096;
inline constexpr size_t kMaxValueBytes = 3 << 20;  // upstream refuses requests over 3 MiB; etcd over 1.5 MiB

struct KeyValue {
  std::string key;
  Bytes value;  // never null
  Revision create_revision = 0;
  Revision mod_revision = 0;
};

struct ListResult {
  std::vector<KeyValue> items;  // in byte order of the keys
  Revision revision = 0;        // the state listed; pass it back to read the next page of the same state
  bool more = false;            // another page follows items.back().key
  int64_t remaining = 0;        // how many keys the following pages hold
};

enum class EventType { kCreated, kModified, kDeleted };

struct StoreEvent {
  EventType type = EventType::kCreated;
  std::string key;
  Bytes value;                   // null for kDeleted
  Revision create_revision = 0;  // of the living key; for kDeleted: of the key that ended
  Revision revision = 0;
};

struct WatchBatch {
  std::vector<StoreEvent> events;  // in order of revision
  Revision revision = 0;           // every event of the prefix up to this revision has now been delivered
};

// A subscription; destroying it ends it. Events are delivered once, in order of revision, without a gap.
class StoreWatch {
 public:
  virtual ~StoreWatch() = default;
  // Waits for at least one event and yields all that are there. One caller at a time. Errors are final:
  //   IsCompacted        the start revision was compacted before the replay was read: list again
  //   ResourceExhausted  the consumer fell kMaxWatchQueueEvents behind; watch again from the last revision
  //   seen Cancelled          the store was closed
  virtual Task<absl::StatusOr<WatchBatch>> Next() = 0;
  // What Next() would yield at once; nullopt when it would wait. Allowed while a Next() waits. A batch
  // without events carries progress: it is yielded when revision() moved since the last batch.
  virtual std::optional<absl::StatusOr<WatchBatch>> TryNext() = 0;
};
inline constexpr size_t kMaxWatchQueueEvents = 65536;

class Store {
 public:
  virtual ~Store() = default;

  // Writes complete only when durable, with the revision they took. By then the event is in the queue of each
  // watch. Common errors: InvalidArgument (empty or too long key, too large value), ResourceExhausted (disk
  // full, too many waiting writes; nothing was written, retry is fine), Unavailable (the store has failed,
  // see Health()).

  // AlreadyExists when the key lives.
  virtual Task<absl::StatusOr<Revision>> Create(std::string key, Bytes value) = 0;
  // NotFound when the key does not live; IsConflict when `expected` is not kAnyRevision nor its mod_revision.
  virtual Task<absl::StatusOr<Revision>> Update(std::string key, Revision expected, Bytes value) = 0;
  // Errors as Update. The revision is that of the deletion event.
  virtual Task<absl::StatusOr<Revision>> Delete(std::string key, Revision expected) = 0;

  // Linearizable: sees every write acknowledged before the call. NotFound when the key does not live.
  virtual Task<absl::StatusOr<KeyValue>> Get(std::string key) = 0;
  // Keys that start with `prefix` and are greater than `start_after` ("": from the first), at most `limit`
  // (0: all), as they were at `revision` (kAnyRevision: now). IsCompacted below the compacted revision,
  // IsFutureRevision above the current one.
  virtual Task<absl::StatusOr<ListResult>> List(std::string prefix, size_t limit, std::string start_after,
                                                Revision revision) = 0;

  // Events of keys that start with `prefix` with revision > `after`. `after` may lie in the future: earlier
  // events are then not delivered. IsCompacted when history after `after` is gone.
  virtual absl::StatusOr<std::unique_ptr<StoreWatch>> Watch(std::string prefix, Revision after) = 0;

  // Forgets history below `revision`: afterwards List and Watch below it are IsCompacted; living keys stay
  // readable. IsCompacted when already done, IsFutureRevision above the current one. Runs in bounded steps
  // between writes.
  virtual Task<absl::Status> Compact(Revision revision) = 0;

  // Last durable revision. Every watch has all events up to it in its queue or behind it.
  virtual Revision CurrentRevision() const = 0;
  virtual Revision CompactedRevision() const = 0;

  // OK, or why the store no longer takes writes (names the file and what to do). For /readyz.
  virtual absl::Status Health() const = 0;

  // Lets waiting writes finish, ends all watches, closes the files. Later calls are Unavailable. Must
  // complete before destruction.
  virtual Task<void> Close() = 0;
};

// The error kinds that absl codes do not tell apart.
absl::Status ConflictError(std::string_view key, Revision expected, Revision actual);  // kAborted
absl::Status CompactedError(Revision requested, Revision compacted);                   // kOutOfRange
absl::Status FutureRevisionError(Revision requested, Revision current);                // kFailedPrecondition
bool IsConflict(const absl::Status& status);
bool IsCompacted(const absl::Status& status);       // HTTP 410 Expired
bool IsFutureRevision(const absl::Status& status);  // upstream: 504 "Too large resource version"

}  // namespace keelson::master
