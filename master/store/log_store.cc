#include "master/store/log_store.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>

#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"

namespace keelson::master {
namespace {

// One piece of work for the writer. Filled by the loop, worked on by the writer, then the loop's again.
struct Op {
  enum Kind { kWrite, kRead, kCompact };
  Kind kind = kRead;
  absl::Status status;
  AsyncEvent done;

  // kWrite
  uint64_t epoch = 0;
  LogRow row;
  EventType type = EventType::kCreated;
  // kRead
  std::vector<Revision> revisions;           // 0: skipped
  std::vector<absl::StatusOr<LogRow>> rows;  // result: one for each revision
  // kCompact
  Revision target = 0;
  std::vector<Revision> removed;

  size_t bytes() const { return row.key.size() + (row.value == nullptr ? 0 : row.value->size()); }
};
using OpPtr = std::shared_ptr<Op>;

absl::Status ValidateKey(std::string_view key) {
  if (key.empty()) return absl::InvalidArgumentError("store key is empty");
  if (key.size() > kMaxKeyBytes) {
    return absl::InvalidArgumentError(
        StrCat("store key has ", key.size(), " bytes, allowed are ", kMaxKeyBytes));
  }
  return absl::OkStatus();
}

absl::Status ValidateValue(std::string_view key, const Bytes& value) {
  if (value == nullptr) return absl::InvalidArgumentError(StrCat("key ", key, ": no value"));
  if (value->size() > kMaxValueBytes) {
    return absl::InvalidArgumentError(
        StrCat("key ", key, ": value has ", value->size(), " bytes, allowed are ", kMaxValueBytes));
  }
  return absl::OkStatus();
}

absl::Status ClosedError() { return absl::UnavailableError("store is closed"); }

KeyValue ToKeyValue(LogRow row) {
  KeyValue kv;
  kv.key = std::move(row.key);
  kv.value = std::move(row.value);
  kv.create_revision = row.create_revision;
  kv.mod_revision = row.revision;
  return kv;
}

}  // namespace

struct LogStore::Impl {
  class Watch;

  Impl(Env& env_in, std::unique_ptr<LogBackend> backend_in, LogStoreOptions options_in)
      : env(env_in), backend(std::move(backend_in)), options(options_in), scope(env.executor()) {}
  ~Impl();

  // ---- loop ----
  Task<absl::StatusOr<Revision>> Write(std::string key, Revision expected, Bytes value, bool create,
                                       bool remove);
  absl::Status Decide(const RevisionIndex::Entry* entry, std::string_view key, Revision expected,
                      bool create) const;
  Task<absl::Status> Read(std::vector<Revision> revisions, std::vector<absl::StatusOr<LogRow>>* rows);
  Task<absl::Status> Compact(Revision target);
  Task<void> CompactLoop();
  Task<void> CompactOnce(Revision target);
  void Enqueue(OpPtr op);
  void ScheduleInline();
  void Complete(std::vector<OpPtr> ops);
  void Publish(const Op& op);
  absl::Status Usable() const;

  // ---- writer ----
  void ThreadMain();
  std::vector<OpPtr> TakeQueue();
  void Work(const std::vector<OpPtr>& ops);
  void AppendGroup(const std::vector<OpPtr>& writes);
  void PostCompletion(std::vector<OpPtr> ops);

  Env& env;
  std::unique_ptr<LogBackend> backend;
  const LogStoreOptions options;
  Scope scope;
  RevisionIndex index;
  Revision compacted_floor = kFirstRevision;  // reads below are refused; at or ahead of index.compacted()
  uint64_t epoch = 1;                         // of pending writes; a failed append ends it
  size_t waiting_writes = 0, waiting_write_bytes = 0, waiting_ops = 0;
  absl::Status failed;
  bool closed = false;
  bool compacting_for_size = false;
  AsyncMutex compact_mutex;
  WaitList settled;  // notified when pending writes met their fate
  AsyncEvent drained;
  std::vector<Watch*> watches;
  uint64_t commits = 0, committed_rows = 0;
  std::shared_ptr<bool> alive = std::make_shared<bool>(true);

  // Shared with the writer.
  std::mutex mutex;
  std::condition_variable wake;
  std::vector<OpPtr> queue;
  bool stop = false;
  bool inline_scheduled = false;  // loop only
  // Writer only: pending writes of epochs up to this one are lost.
  uint64_t lost_epoch = 0;
  absl::Status lost_status;
  bool broken = false;
  std::thread thread;
};

// ---- watch ----

class LogStore::Impl::Watch : public StoreWatch {
 public:
  Watch(Impl* store, std::weak_ptr<bool> alive, std::string prefix, Revision after)
      : store_(store), alive_(std::move(alive)), prefix_(std::move(prefix)), after_(after), reported_(after) {
    if (after < store_->index.committed()) {
      for (const RevisionIndex::Change& change : store_->index.ChangesAfter(after, prefix_))
        replay_.push_back(change);
    }
    store_->watches.push_back(this);
  }
  ~Watch() override {
    if (!alive_.expired()) std::erase(store_->watches, this);
  }

  void Offer(const StoreEvent& event) {
    if (!error_.ok() || event.revision <= after_ || !event.key.starts_with(prefix_)) return;
    if (queue_.size() >= kMaxWatchQueueEvents) {
      Fail(absl::ResourceExhaustedError(
          StrCat("watch of ", prefix_, " is ", kMaxWatchQueueEvents, " events behind")));
      return;
    }
    queue_.push_back(event);
    changed_.NotifyAll();
  }
  void Fail(absl::Status error) {
    error_ = std::move(error);
    queue_.clear();
    replay_.clear();
    changed_.NotifyAll();
  }

  Task<absl::StatusOr<WatchBatch>> Next() override {
    while (true) {
      if (!error_.ok()) co_return error_;
      if (!replay_.empty()) {
        Task<absl::StatusOr<WatchBatch>> task = ReadReplay();
        absl::StatusOr<WatchBatch> batch = co_await std::move(task);
        co_return batch;
      }
      if (!queue_.empty()) co_return TakeQueue();
      Task<void> wait = changed_.Wait();
      co_await std::move(wait);
    }
  }
  std::optional<absl::StatusOr<WatchBatch>> TryNext() override {
    if (!error_.ok()) return error_;
    if (!replay_.empty()) return std::nullopt;
    if (queue_.empty() && reported_ >= store_->index.committed()) return std::nullopt;
    return TakeQueue();
  }

 private:
  WatchBatch TakeQueue() {
    WatchBatch batch;
    batch.events = std::move(queue_);
    queue_.clear();
    batch.revision = reported_ = std::max(reported_, store_->index.committed());
    return batch;
  }

  // Reads the next rows of the replay.
  Task<absl::StatusOr<WatchBatch>> ReadReplay() {
    if (replay_.front().revision <= store_->compacted_floor) {
      Fail(CompactedError(replay_.front().revision, store_->compacted_floor));
      co_return error_;
    }
    std::vector<RevisionIndex::Change> changes;
    std::vector<Revision> revisions;
    for (size_t i = 0; i < replay_.size() && i < kReplayChunkEvents; ++i) {
      changes.push_back(replay_[i]);
      revisions.push_back(replay_[i].revision);
    }
    std::vector<absl::StatusOr<LogRow>> rows;
    Task<absl::Status> read = store_->Read(std::move(revisions), &rows);
    absl::Status status = co_await std::move(read);
    if (!error_.ok()) co_return error_;
    WatchBatch batch;
    for (size_t i = 0; status.ok() && i < changes.size(); ++i) {
      absl::StatusOr<LogRow>& row = rows[i];
      if (!row.ok()) {
        status = row.status();
        break;
      }
      StoreEvent event;
      event.type = changes[i].type;
      event.key = row->key;
      event.value = row->value;
      event.create_revision = row->create_revision;
      event.revision = row->revision;
      batch.events.push_back(std::move(event));
    }
    if (!status.ok()) {
      Fail(status);
      co_return status;
    }
    replay_.erase(replay_.begin(), replay_.begin() + static_cast<ptrdiff_t>(changes.size()));
    batch.revision = reported_ = changes.back().revision;
    co_return batch;
  }

  Impl* store_;
  std::weak_ptr<bool> alive_;
  const std::string prefix_;
  const Revision after_;
  Revision reported_;
  std::deque<RevisionIndex::Change> replay_;  // history to deliver before queue_
  std::vector<StoreEvent> queue_;
  absl::Status error_;
  WaitList changed_;
};

// ---- loop ----

LogStore::Impl::~Impl() {
  if (thread.joinable()) {
    {
      std::lock_guard<std::mutex> lock(mutex);
      stop = true;
    }
    wake.notify_one();
    thread.join();
  }
}

absl::Status LogStore::Impl::Usable() const { return closed ? ClosedError() : absl::OkStatus(); }

absl::Status LogStore::Impl::Decide(const RevisionIndex::Entry* entry, std::string_view key,
                                    Revision expected, bool create) const {
  bool lives = entry != nullptr && !entry->deleted;
  if (create) {
    return lives ? absl::AlreadyExistsError(StrCat("key ", key, " already exists")) : absl::OkStatus();
  }
  if (!lives) return absl::NotFoundError(StrCat("key ", key, " not found"));
  if (expected != kAnyRevision && expected != entry->mod_revision) {
    return ConflictError(key, expected, entry->mod_revision);
  }
  return absl::OkStatus();
}

Task<absl::StatusOr<Revision>> LogStore::Impl::Write(std::string key, Revision expected, Bytes value,
                                                     bool create, bool remove) {
  CO_RETURN_IF_ERROR_SYNC(ValidateKey(key));
  if (!remove) CO_RETURN_IF_ERROR_SYNC(ValidateValue(key, value));
  while (true) {
    CO_RETURN_IF_ERROR_SYNC(Usable());
    if (!failed.ok()) co_return failed;
    const RevisionIndex::Entry* entry = index.Find(key);
    absl::Status decision = Decide(entry, key, expected, create);
    if (decision.ok()) break;
    if (entry == nullptr || entry->mod_revision <= index.committed()) co_return decision;
    Task<void> wait = settled.Wait();
    co_await std::move(wait);
  }
  if (waiting_writes >= kMaxWaitingWrites || waiting_write_bytes >= kMaxWaitingWriteBytes) {
    co_return absl::ResourceExhaustedError(
        StrCat(backend->Name(), ": ", waiting_writes, " writes are waiting for the disk; try again later"));
  }
  OpPtr op = std::make_shared<Op>();
  op->kind = Op::kWrite;
  op->epoch = epoch;
  op->row = index.Add(key, remove);
  op->row.value = std::move(value);
  op->type = remove ? EventType::kDeleted : create ? EventType::kCreated : EventType::kModified;
  ++waiting_writes;
  waiting_write_bytes += op->bytes();
  Enqueue(op);
  Task<void> wait = op->done.Wait();
  co_await std::move(wait);
  if (!op->status.ok()) co_return op->status;
  co_return op->row.revision;
}

Task<absl::Status> LogStore::Impl::Read(std::vector<Revision> revisions,
                                        std::vector<absl::StatusOr<LogRow>>* rows) {
  CO_RETURN_IF_ERROR_SYNC(Usable());
  OpPtr op = std::make_shared<Op>();
  op->kind = Op::kRead;
  op->revisions = std::move(revisions);
  Enqueue(op);
  Task<void> wait = op->done.Wait();
  co_await std::move(wait);
  *rows = std::move(op->rows);
  co_return op->status;
}

Task<absl::Status> LogStore::Impl::Compact(Revision target) {
  Task<AsyncMutex::Guard> lock = compact_mutex.Lock();
  AsyncMutex::Guard guard = co_await std::move(lock);
  CO_RETURN_IF_ERROR_SYNC(Usable());
  if (!failed.ok()) co_return failed;
  if (target > index.committed()) co_return FutureRevisionError(target, index.committed());
  if (target <= compacted_floor && compacted_floor == index.compacted())
    co_return CompactedError(target, compacted_floor);
  // From here on nobody may start to read what is about to go.
  compacted_floor = std::max(compacted_floor, target);
  while (index.compacted() < target) {
    OpPtr op = std::make_shared<Op>();
    op->kind = Op::kCompact;
    op->target = std::min(target, index.compacted() + kCompactStepRevisions);
    op->removed = index.PlanCompaction(op->target);
    Enqueue(op);
    // Complete() applies the step to the index, also when this task is cancelled meanwhile.
    Task<void> wait = op->done.Wait();
    co_await std::move(wait);
    if (!op->status.ok()) co_return op->status;
  }
  co_return absl::OkStatus();
}

Task<void> LogStore::Impl::CompactOnce(Revision target) {
  Task<absl::Status> task = Compact(target);
  absl::Status status = co_await std::move(task);
  if (!status.ok() && !IsCompacted(status)) LogWarning("store compaction failed", {{"error", status}});
  compacting_for_size = false;
}

Task<void> LogStore::Impl::CompactLoop() {
  Revision last_tick = index.committed();
  while (!closed) {
    Task<void> sleep = env.clock().Sleep(options.compact_interval);
    co_await std::move(sleep);
    Revision target = std::exchange(last_tick, index.committed());
    if (target <= compacted_floor || !failed.ok()) continue;
    Task<void> compact = CompactOnce(target);
    co_await std::move(compact);
  }
}

void LogStore::Impl::Enqueue(OpPtr op) {
  ++waiting_ops;
  if (options.use_thread) {
    bool was_empty;
    {
      std::lock_guard<std::mutex> lock(mutex);
      was_empty = queue.empty();
      queue.push_back(std::move(op));
    }
    if (was_empty) wake.notify_one();
    return;
  }
  queue.push_back(std::move(op));
  ScheduleInline();
}

void LogStore::Impl::ScheduleInline() {
  if (std::exchange(inline_scheduled, true)) return;
  boost::asio::post(env.executor(), [this, alive = std::weak_ptr<bool>(alive)] {
    if (alive.expired()) return;
    inline_scheduled = false;
    std::vector<OpPtr> ops = TakeQueue();
    Work(ops);
    backend->Maintain(queue.empty());
    Complete(std::move(ops));
    if (!queue.empty()) ScheduleInline();
  });
}

void LogStore::Impl::Complete(std::vector<OpPtr> ops) {
  waiting_ops -= ops.size();
  Revision first = index.committed();
  bool any_write = false;
  for (const OpPtr& op : ops) {
    if (op->kind == Op::kCompact) {
      if (op->status.ok()) index.ApplyCompaction(op->target);
      continue;
    }
    if (op->kind != Op::kWrite) continue;
    any_write = true;
    --waiting_writes;
    waiting_write_bytes -= op->bytes();
    if (op->status.ok()) {
      index.Commit(op->row.revision);
      Publish(*op);
    } else if (op->epoch == epoch) {
      // First failed write of its epoch: all pending ones are lost with it, queued ones included.
      ++epoch;
      index.Rollback();
      if (!absl::IsResourceExhausted(op->status)) {
        failed = absl::UnavailableError(StrCat("store takes no more writes: ", op->status.message()));
        LogError("store failed", {{"error", op->status}});
      } else {
        LogWarning("store write failed", {{"error", op->status}});
      }
    }
  }
  if (index.committed() > first) {
    ++commits;
    committed_rows += static_cast<uint64_t>(index.committed() - first);
  }
  for (const OpPtr& op : ops) op->done.Set();
  if (any_write) settled.NotifyAll();
  Revision history = index.committed() - index.compacted();
  if (history > options.max_history_revisions && !compacting_for_size && failed.ok() && !closed) {
    compacting_for_size = true;
    scope.Spawn("store compaction", CompactOnce(index.committed() - options.max_history_revisions / 2));
  }
  if (closed && waiting_ops == 0) drained.Set();
}

void LogStore::Impl::Publish(const Op& op) {
  if (watches.empty()) return;
  StoreEvent event;
  event.type = op.type;
  event.key = op.row.key;
  event.value = op.row.value;
  event.create_revision = op.row.create_revision;
  event.revision = op.row.revision;
  for (Watch* watch : watches) watch->Offer(event);
}

// ---- writer ----

std::vector<OpPtr> LogStore::Impl::TakeQueue() {
  // A bound on the bytes of one transaction; the rest stays queued in order.
  size_t bytes = 0, count = 0;
  while (count < queue.size() && (count == 0 || bytes + queue[count]->bytes() <= kMaxCommitBytes)) {
    bytes += queue[count++]->bytes();
  }
  std::vector<OpPtr> ops(std::make_move_iterator(queue.begin()),
                         std::make_move_iterator(queue.begin() + count));
  queue.erase(queue.begin(), queue.begin() + static_cast<ptrdiff_t>(count));
  return ops;
}

void LogStore::Impl::ThreadMain() {
  while (true) {
    std::vector<OpPtr> ops;
    {
      std::unique_lock<std::mutex> lock(mutex);
      wake.wait(lock, [this] { return stop || !queue.empty(); });
      if (queue.empty()) return;
      ops = TakeQueue();
    }
    Work(ops);
    PostCompletion(std::move(ops));
    bool idle;
    {
      std::lock_guard<std::mutex> lock(mutex);
      idle = queue.empty();
    }
    backend->Maintain(idle);
  }
}

void LogStore::Impl::PostCompletion(std::vector<OpPtr> ops) {
  boost::asio::post(env.executor(),
                    [this, alive = std::weak_ptr<bool>(alive), ops = std::move(ops)]() mutable {
                      if (!alive.expired()) Complete(std::move(ops));
                    });
}

void LogStore::Impl::Work(const std::vector<OpPtr>& ops) {
  // Writes first: they take nothing away from the reads, and one transaction holds them all.
  std::vector<OpPtr> writes;
  for (const OpPtr& op : ops) {
    if (op->kind == Op::kWrite) writes.push_back(op);
  }
  if (!writes.empty()) AppendGroup(writes);
  for (const OpPtr& op : ops) {
    if (op->kind == Op::kRead) {
      op->rows.reserve(op->revisions.size());
      for (Revision revision : op->revisions) {
        if (revision == 0) {
          op->rows.push_back(absl::NotFoundError("none"));
        } else {
          op->rows.push_back(backend->Read(revision));
        }
      }
    } else if (op->kind == Op::kCompact) {
      op->status = broken ? lost_status : backend->Compact(op->target, op->removed);
    }
  }
}

void LogStore::Impl::AppendGroup(const std::vector<OpPtr>& writes) {
  std::vector<const LogRow*> rows;
  std::vector<OpPtr> live;
  for (const OpPtr& op : writes) {
    if (op->epoch <= lost_epoch || broken) {
      op->status = lost_status;
    } else {
      rows.push_back(&op->row);
      live.push_back(op);
    }
  }
  if (rows.empty()) return;
  absl::Status status = backend->Append(rows);
  if (!status.ok()) {
    lost_epoch = live.front()->epoch;
    lost_status = status;
    if (!absl::IsResourceExhausted(status)) broken = true;
    for (const OpPtr& op : live) op->status = status;
    return;
  }
}

// ---- LogStore ----

LogStore::LogStore(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
LogStore::~LogStore() = default;

absl::StatusOr<std::unique_ptr<LogStore>> LogStore::Open(Env& env, std::unique_ptr<LogBackend> backend,
                                                         LogStoreOptions options) {
  auto impl = std::make_unique<Impl>(env, std::move(backend), options);
  Impl* self = impl.get();
  absl::Status status = self->backend->Load([self](Revision compacted) { self->index.Start(compacted); },
                                            [self](const LogRow& row) { return self->index.Load(row); });
  if (!status.ok()) return Annotate(status, self->backend->Name());
  self->compacted_floor = self->index.compacted();
  if (options.use_thread) self->thread = std::thread([self] { self->ThreadMain(); });
  if (options.compact_interval > absl::ZeroDuration())
    self->scope.Spawn("store compaction", self->CompactLoop());
  return std::unique_ptr<LogStore>(new LogStore(std::move(impl)));
}

Task<absl::StatusOr<Revision>> LogStore::Create(std::string key, Bytes value) {
  return impl_->Write(std::move(key), kAnyRevision, std::move(value), true, false);
}
Task<absl::StatusOr<Revision>> LogStore::Update(std::string key, Revision expected, Bytes value) {
  return impl_->Write(std::move(key), expected, std::move(value), false, false);
}
Task<absl::StatusOr<Revision>> LogStore::Delete(std::string key, Revision expected) {
  return impl_->Write(std::move(key), expected, nullptr, false, true);
}

Task<absl::StatusOr<KeyValue>> LogStore::Get(std::string key) {
  CO_RETURN_IF_ERROR_SYNC(ValidateKey(key));
  CO_RETURN_IF_ERROR_SYNC(impl_->Usable());
  Revision row = impl_->index.RowAt(key, impl_->index.committed());
  if (row == 0) co_return absl::NotFoundError(StrCat("key ", key, " not found"));
  std::vector<Revision> revisions(1, row);
  std::vector<absl::StatusOr<LogRow>> rows;
  CO_RETURN_IF_ERROR(impl_->Read(std::move(revisions), &rows));
  if (!rows[0].ok()) co_return rows[0].status();
  co_return ToKeyValue(*std::move(rows[0]));
}

Task<absl::StatusOr<ListResult>> LogStore::List(std::string prefix, size_t limit, std::string start_after,
                                                Revision revision) {
  CO_RETURN_IF_ERROR_SYNC(impl_->Usable());
  if (revision == kAnyRevision) revision = impl_->index.committed();
  if (revision > impl_->index.committed()) co_return FutureRevisionError(revision, impl_->index.committed());
  if (revision < impl_->compacted_floor) co_return CompactedError(revision, impl_->compacted_floor);
  RevisionIndex::Page page = impl_->index.List(prefix, start_after, limit, revision);
  ListResult result;
  result.revision = revision;
  result.more = page.more;
  result.remaining = page.remaining;
  std::vector<absl::StatusOr<LogRow>> rows;
  CO_RETURN_IF_ERROR(impl_->Read(std::move(page.rows), &rows));
  result.items.reserve(rows.size());
  for (absl::StatusOr<LogRow>& row : rows) {
    if (!row.ok()) co_return row.status();
    result.items.push_back(ToKeyValue(*std::move(row)));
  }
  co_return result;
}

absl::StatusOr<std::unique_ptr<StoreWatch>> LogStore::Watch(std::string prefix, Revision after) {
  RETURN_IF_ERROR(impl_->Usable());
  if (after < impl_->compacted_floor) return CompactedError(after, impl_->compacted_floor);
  return std::make_unique<Impl::Watch>(impl_.get(), impl_->alive, std::move(prefix), after);
}

Task<absl::Status> LogStore::Compact(Revision revision) { return impl_->Compact(revision); }
Revision LogStore::CurrentRevision() const { return impl_->index.committed(); }
Revision LogStore::CompactedRevision() const { return impl_->compacted_floor; }
absl::Status LogStore::Health() const { return impl_->closed ? ClosedError() : impl_->failed; }
uint64_t LogStore::commits() const { return impl_->commits; }
uint64_t LogStore::committed_rows() const { return impl_->committed_rows; }

Task<void> LogStore::Close() {
  if (impl_->closed) co_return;
  impl_->closed = true;
  Task<void> close = impl_->scope.Close();
  co_await std::move(close);
  if (impl_->waiting_ops > 0) {
    Task<void> wait = impl_->drained.Wait();
    co_await std::move(wait);
  }
  if (impl_->thread.joinable()) {
    {
      std::lock_guard<std::mutex> lock(impl_->mutex);
      impl_->stop = true;
    }
    impl_->wake.notify_one();
    impl_->thread.join();
  }
  impl_->backend->Close();
  for (Impl::Watch* watch : impl_->watches) watch->Fail(absl::CancelledError("store is closed"));
  impl_->settled.NotifyAll();
}

}  // namespace keelson::master
