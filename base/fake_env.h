// FakeEnv: a deterministic Env. One io_context polled by hand, a clock that moves only in Advance/RunFor,
// seeded randomness, subprocesses answered by a function, blocking work run inline. Also the engine of
// tests/sim.
#pragma once

#include <memory>
#include <string>

#include "base/env.h"

namespace keelson {

class FakeEnv : public Env {
 public:
  explicit FakeEnv(uint64_t seed = 1, Paths paths = {});
  ~FakeEnv() override;
  Executor executor() override;
  Clock& clock() override;
  Random& random() override;
  Subprocess& subprocess() override;
  const Paths& paths() const override;
  void RunInPool(absl::AnyInvocable<void()> work, absl::AnyInvocable<void()> done) override;

  // Runs ready handlers until none is left; time stands still.
  void Settle();
  // Moves the clock to each timer due within `duration` in turn, settling after each.
  void Advance(absl::Duration duration);
  // Advances from timer to timer until done() or `limit` has passed. True when done() held.
  bool RunUntil(const std::function<bool()>& done, absl::Duration limit = absl::Hours(1));
  // Spawns the task and runs (advancing time as needed) until it ends; its result. CHECK-fails past `limit`.
  template <class T>
  T Await(Task<T> task, absl::Duration limit = absl::Hours(1)) {
    auto out = std::make_shared<std::optional<T>>();
    SpawnDetached(Store<T>(std::move(task), out));
    RequireFinished(RunUntil([&] { return out->has_value(); }, limit));
    return std::move(**out);
  }
  void AwaitVoid(Task<void> task, absl::Duration limit = absl::Hours(1));

  // Answers Subprocess::Run; default: NotFound.
  using RunHandler = std::function<absl::StatusOr<SubprocessResult>(const SubprocessOptions&)>;
  void set_run_handler(RunHandler handler);

  struct Impl;

 private:
  template <class T>
  static Task<void> Store(Task<T> task, std::shared_ptr<std::optional<T>> out) {
    T value = co_await std::move(task);
    out->emplace(std::move(value));
  }
  void SpawnDetached(Task<void> task);
  static void RequireFinished(bool finished);
  std::unique_ptr<Impl> impl_;
};

}  // namespace keelson
