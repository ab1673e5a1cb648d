#include "master/store/memory_store.h"

#include <map>
#include <utility>

#include "base/log.h"
#include "base/strings.h"

namespace keelson::master {
namespace {

class MemoryBackend : public LogBackend {
 public:
  absl::Status Load(absl::FunctionRef<void(Revision)> start,
                    absl::FunctionRef<absl::Status(const LogRow&)>) override {
    start(kFirstRevision);
    return absl::OkStatus();
  }
  absl::Status Append(const std::vector<const LogRow*>& rows) override {
    for (const LogRow* row : rows) rows_[row->revision] = *row;
    return absl::OkStatus();
  }
  absl::StatusOr<LogRow> Read(Revision revision) override {
    auto it = rows_.find(revision);
    if (it == rows_.end()) return absl::NotFoundError(StrCat("no row of revision ", revision));
    return it->second;
  }
  absl::Status Compact(Revision, const std::vector<Revision>& rows) override {
    for (Revision revision : rows) rows_.erase(revision);
    return absl::OkStatus();
  }
  void Maintain(bool) override {}
  void Close() override {}
  std::string Name() const override { return "memory store"; }

 private:
  std::map<Revision, LogRow> rows_;
};

}  // namespace

MemoryStore::MemoryStore(Env& env, absl::Duration compact_interval) : env_(env) {
  LogStoreOptions options;
  options.use_thread = false;
  options.compact_interval = compact_interval;
  absl::StatusOr<std::unique_ptr<LogStore>> log =
      LogStore::Open(env, std::make_unique<MemoryBackend>(), options);
  KEELSON_CHECK(log.ok(), log.status().ToString());
  log_ = *std::move(log);
}

MemoryStore::~MemoryStore() = default;

void MemoryStore::FailNth(uint64_t nth, absl::Status status, bool after) {
  fail_call_ = calls_ + nth;
  fail_fault_ = StoreFault{absl::ZeroDuration(), std::move(status), after};
}

StoreFault MemoryStore::Fault(std::string_view method, std::string_view key) {
  ++calls_;
  if (calls_ == fail_call_) return fail_fault_;
  if (!hook_) return {};
  return hook_(StoreCall{method, key, calls_}).value_or(StoreFault{});
}

template <class R>
Task<R> MemoryStore::Run(StoreFault fault, Task<R> call) {
  if (fault.delay > absl::ZeroDuration()) {
    Task<void> sleep = env_.clock().Sleep(fault.delay);
    co_await std::move(sleep);
  }
  if (!fault.status.ok() && !fault.after) co_return fault.status;
  R result = co_await std::move(call);
  if (!fault.status.ok()) co_return fault.status;
  co_return result;
}

Task<absl::StatusOr<Revision>> MemoryStore::Create(std::string key, Bytes value) {
  StoreFault fault = Fault("Create", key);
  return Run(std::move(fault), log_->Create(std::move(key), std::move(value)));
}
Task<absl::StatusOr<Revision>> MemoryStore::Update(std::string key, Revision expected, Bytes value) {
  StoreFault fault = Fault("Update", key);
  return Run(std::move(fault), log_->Update(std::move(key), expected, std::move(value)));
}
Task<absl::StatusOr<Revision>> MemoryStore::Delete(std::string key, Revision expected) {
  StoreFault fault = Fault("Delete", key);
  return Run(std::move(fault), log_->Delete(std::move(key), expected));
}
Task<absl::StatusOr<KeyValue>> MemoryStore::Get(std::string key) {
  StoreFault fault = Fault("Get", key);
  return Run(std::move(fault), log_->Get(std::move(key)));
}
Task<absl::StatusOr<ListResult>> MemoryStore::List(std::string prefix, size_t limit, std::string start_after,
                                                   Revision revision) {
  StoreFault fault = Fault("List", prefix);
  return Run(std::move(fault), log_->List(std::move(prefix), limit, std::move(start_after), revision));
}
absl::StatusOr<std::unique_ptr<StoreWatch>> MemoryStore::Watch(std::string prefix, Revision after) {
  return log_->Watch(std::move(prefix), after);
}
Task<absl::Status> MemoryStore::Compact(Revision revision) {
  StoreFault fault = Fault("Compact", "");
  return Run(std::move(fault), log_->Compact(revision));
}

}  // namespace keelson::master
