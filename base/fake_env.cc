#include "base/fake_env.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <random>

#include "base/clock.h"
#include "base/log.h"

namespace keelson {

namespace asio = boost::asio;

namespace {

class FakeClock : public Clock {
 public:
  absl::Time Now() const override { return kStart + monotonic_; }
  absl::Duration Monotonic() const override { return monotonic_; }
  uint64_t Schedule(absl::Duration after, absl::AnyInvocable<void()> fn) override {
    return queue_.Add(monotonic_ + std::max(after, absl::ZeroDuration()), std::move(fn));
  }
  bool CancelTimer(uint64_t id) override { return queue_.Remove(id); }

  TimerQueue& queue() { return queue_; }
  void Set(absl::Duration monotonic) { monotonic_ = monotonic; }

 private:
  // 2026-01-01T00:00:00Z, so that simulated timestamps look like timestamps.
  const absl::Time kStart = absl::FromUnixSeconds(1767225600);
  absl::Duration monotonic_;
  TimerQueue queue_;
};

class SeededRandom : public Random {
 public:
  explicit SeededRandom(uint64_t seed) : engine_(seed) {}
  uint64_t Next() override { return engine_(); }

 private:
  std::mt19937_64 engine_;
};

class FakeSubprocess : public Subprocess {
 public:
  Task<absl::StatusOr<SubprocessResult>> Run(SubprocessOptions options) override {
    if (!handler)
      co_return absl::NotFoundError(StrCat("start ", options.argv.empty() ? "" : options.argv[0]));
    co_return handler(options);
  }
  absl::StatusOr<std::unique_ptr<ChildProcess>> Spawn(const SpawnOptions&) override {
    return absl::UnimplementedError("FakeEnv spawns no processes");
  }
  absl::StatusOr<std::unique_ptr<ChildProcess>> Adopt(int) override {
    return absl::UnimplementedError("FakeEnv knows no processes");
  }
  FakeEnv::RunHandler handler;
};

}  // namespace

struct FakeEnv::Impl {
  Impl(uint64_t seed, Paths p) : random(seed), paths(std::move(p)) {}
  asio::io_context io{1};
  FakeClock clock;
  SeededRandom random;
  FakeSubprocess subprocess;
  Paths paths;
};

FakeEnv::FakeEnv(uint64_t seed, Paths paths) : impl_(std::make_unique<Impl>(seed, std::move(paths))) {}
FakeEnv::~FakeEnv() = default;

Executor FakeEnv::executor() { return impl_->io.get_executor(); }
Clock& FakeEnv::clock() { return impl_->clock; }
Random& FakeEnv::random() { return impl_->random; }
Subprocess& FakeEnv::subprocess() { return impl_->subprocess; }
const Paths& FakeEnv::paths() const { return impl_->paths; }

void FakeEnv::RunInPool(absl::AnyInvocable<void()> work, absl::AnyInvocable<void()> done) {
  work();
  auto shared = std::make_shared<absl::AnyInvocable<void()>>(std::move(done));
  asio::post(impl_->io, [shared] { (*shared)(); });
}

void FakeEnv::Settle() {
  impl_->io.restart();
  impl_->io.poll();
}

void FakeEnv::Advance(absl::Duration duration) {
  absl::Duration target = impl_->clock.Monotonic() + duration;
  Settle();
  while (true) {
    auto next = impl_->clock.queue().Next();
    if (!next.has_value() || *next > target) break;
    impl_->clock.Set(std::max(*next, impl_->clock.Monotonic()));
    while (auto fn = impl_->clock.queue().PopDue(impl_->clock.Monotonic())) (*fn)();
    Settle();
  }
  impl_->clock.Set(target);
}

bool FakeEnv::RunUntil(const std::function<bool()>& done, absl::Duration limit) {
  absl::Duration end = impl_->clock.Monotonic() + limit;
  Settle();
  while (!done()) {
    auto next = impl_->clock.queue().Next();
    if (!next.has_value() || *next > end) return false;
    Advance(std::max(*next - impl_->clock.Monotonic(), absl::ZeroDuration()));
  }
  return true;
}

void FakeEnv::AwaitVoid(Task<void> task, absl::Duration limit) {
  auto finished = std::make_shared<bool>(false);
  asio::co_spawn(impl_->io, std::move(task), [finished](std::exception_ptr error) {
    if (error) std::rethrow_exception(error);
    *finished = true;
  });
  RequireFinished(RunUntil([&] { return *finished; }, limit));
}

void FakeEnv::set_run_handler(RunHandler handler) { impl_->subprocess.handler = std::move(handler); }

void FakeEnv::SpawnDetached(Task<void> task) {
  asio::co_spawn(impl_->io, std::move(task), [](std::exception_ptr error) {
    if (error) std::rethrow_exception(error);
  });
}

void FakeEnv::RequireFinished(bool finished) {
  KEELSON_CHECK(finished, "the awaited task did not end within its limit");
}

}  // namespace keelson
