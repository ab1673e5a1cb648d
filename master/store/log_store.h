// LogStore: Store on an append-only log of rows kept by a LogBackend (memory or SQLite).
//
// Write path: the loop decides conflicts on the RevisionIndex, takes the next revision and queues the row;
// the writer (a thread, or the loop itself in tests) appends all queued rows in one durable transaction
// (group commit); back on the loop the revision is committed, events go to the watches in order of revision,
// then the writers are answered. Writers are therefore pipelined and one fsync serves all that wait. A
// refusal that rests on a pending write waits for its fate first, so no answer ever depends on something that
// may yet be undone.
#pragma once

#include <absl/functional/function_ref.h>
#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <memory>
#include <string>
#include <vector>

#include "base/env.h"
#include "base/task.h"
#include "master/store/revision_index.h"
#include "master/store/store.h"

namespace keelson::master {

// Keeps the rows. Called by one thread at a time. ResourceExhausted means: nothing was done, try again later
// (disk full); any other error means that the log cannot be trusted with further writes.
class LogBackend {
 public:
  virtual ~LogBackend() = default;
  // Called first: calls `start` once with the compacted revision, then `row` for each row in order of
  // revision. Values need not stay in memory. Stops at the first error.
  virtual absl::Status Load(absl::FunctionRef<void(Revision compacted)> start,
                            absl::FunctionRef<absl::Status(const LogRow&)> row) = 0;
  // Adds the rows; all of them are durable, or none.
  virtual absl::Status Append(const std::vector<const LogRow*>& rows) = 0;
  // NotFound when there is no such row.
  virtual absl::StatusOr<LogRow> Read(Revision revision) = 0;
  // Removes `rows` and moves the compacted revision to `target`; all or nothing.
  virtual absl::Status Compact(Revision target, const std::vector<Revision>& rows) = 0;
  // Called after each round of work; `idle` when nothing waits. For upkeep off the path of writers.
  virtual void Maintain(bool idle) = 0;
  virtual void Close() = 0;
  // How an error names it, e.g. the file.
  virtual std::string Name() const = 0;
};

struct LogStoreOptions {
  // True: the backend works on a thread of its own. False: on the loop, in a posted handler (deterministic).
  bool use_thread = true;
  // Every interval the history up to the tick before is compacted, so between one and two intervals stay, as
  // upstream does. Zero: never.
  absl::Duration compact_interval = absl::Minutes(5);
  // Past this many revisions the older half is compacted at once.
  int64_t max_history_revisions = 100'000;
};

inline constexpr size_t kMaxWaitingWrites = 16384;
inline constexpr size_t kMaxWaitingWriteBytes = 64 << 20;
inline constexpr size_t kMaxCommitBytes = 8 << 20;      // of one transaction
inline constexpr Revision kCompactStepRevisions = 500;  // of one compaction transaction
inline constexpr size_t kReplayChunkEvents = 256;

class LogStore : public Store {
 public:
  // Loads the index from the backend (blocking). Errors name the backend.
  static absl::StatusOr<std::unique_ptr<LogStore>> Open(Env& env, std::unique_ptr<LogBackend> backend,
                                                        LogStoreOptions options);
  ~LogStore() override;

  Task<absl::StatusOr<Revision>> Create(std::string key, Bytes value) override;
  Task<absl::StatusOr<Revision>> Update(std::string key, Revision expected, Bytes value) override;
  Task<absl::StatusOr<Revision>> Delete(std::string key, Revision expected) override;
  Task<absl::StatusOr<KeyValue>> Get(std::string key) override;
  Task<absl::StatusOr<ListResult>> List(std::string prefix, size_t limit, std::string start_after,
                                        Revision revision) override;
  absl::StatusOr<std::unique_ptr<StoreWatch>> Watch(std::string prefix, Revision after) override;
  Task<absl::Status> Compact(Revision revision) override;
  Revision CurrentRevision() const override;
  Revision CompactedRevision() const override;
  absl::Status Health() const override;
  Task<void> Close() override;

  // Transactions and rows committed since start: their ratio shows group commit at work.
  uint64_t commits() const;
  uint64_t committed_rows() const;

  struct Impl;

 private:
  explicit LogStore(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace keelson::master
