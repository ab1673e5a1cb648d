// MemoryStore: a Store that lives and dies with the process, deterministic on the loop of its Env. For unit
// tests and the simulation. Faults are injected per call.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/env.h"
#include "master/store/log_store.h"
#include "master/store/store.h"

namespace keelson::master {

struct StoreCall {
  std::string_view method;  // "Create", "Update", "Delete", "Get", "List", "Compact"
  std::string_view key;     // or prefix
  uint64_t number = 0;      // 1 for the first call of this store
};

struct StoreFault {
  absl::Duration delay;  // the call starts that much later
  absl::Status status;   // when not OK: the answer of the call ...
  bool after = false;    // ... after it took effect: a lost reply
};

class MemoryStore : public Store {
 public:
  // compact_interval as LogStoreOptions; zero: never compacts by itself.
  explicit MemoryStore(Env& env, absl::Duration compact_interval = absl::ZeroDuration());
  ~MemoryStore() override;

  // Asked before every call; nullopt lets it pass. Null takes the hook away.
  using FaultHook = std::function<std::optional<StoreFault>(const StoreCall&)>;
  void set_fault_hook(FaultHook hook) { hook_ = std::move(hook); }
  // The nth call from now (1: the next) fails with `status`.
  void FailNth(uint64_t nth, absl::Status status, bool after = false);
  uint64_t calls() const { return calls_; }

  Task<absl::StatusOr<Revision>> Create(std::string key, Bytes value) override;
  Task<absl::StatusOr<Revision>> Update(std::string key, Revision expected, Bytes value) override;
  Task<absl::StatusOr<Revision>> Delete(std::string key, Revision expected) override;
  Task<absl::StatusOr<KeyValue>> Get(std::string key) override;
  Task<absl::StatusOr<ListResult>> List(std::string prefix, size_t limit, std::string start_after,
                                        Revision revision) override;
  absl::StatusOr<std::unique_ptr<StoreWatch>> Watch(std::string prefix, Revision after) override;
  Task<absl::Status> Compact(Revision revision) override;
  Revision CurrentRevision() const override { return log_->CurrentRevision(); }
  Revision CompactedRevision() const override { return log_->CompactedRevision(); }
  absl::Status Health() const override { return log_->Health(); }
  Task<void> Close() override { return log_->Close(); }

 private:
  StoreFault Fault(std::string_view method, std::string_view key);
  template <class R>
  Task<R> Run(StoreFault fault, Task<R> call);

  Env& env_;
  std::unique_ptr<LogStore> log_;
  FaultHook hook_;
  uint64_t calls_ = 0;
  uint64_t fail_call_ = 0;
  StoreFault fail_fault_;
};

}  // namespace keelson::master
