#include "base/env.h"

#include <absl/time/clock.h>
#include <sys/random.h>
#include <time.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <chrono>
#include <optional>
#include <utility>

#include "base/clock.h"
#include "base/log.h"
#include "base/subprocess.h"

namespace keelson {

namespace asio = boost::asio;

namespace {

class RealClock : public Clock {
 public:
  explicit RealClock(asio::io_context& io) : timer_(io) {}

  absl::Time Now() const override { return absl::Now(); }

  absl::Duration Monotonic() const override {
    timespec ts;
    ::clock_gettime(CLOCK_MONOTONIC, &ts);
    return absl::DurationFromTimespec(ts);
  }

  uint64_t Schedule(absl::Duration after, absl::AnyInvocable<void()> fn) override {
    uint64_t id = queue_.Add(Monotonic() + std::max(after, absl::ZeroDuration()), std::move(fn));
    Arm();
    return id;
  }

  bool CancelTimer(uint64_t id) override { return queue_.Remove(id); }

 private:
  // Keeps the asio timer at or before the first deadline; an early wake-up only re-arms.
  void Arm() {
    auto next = queue_.Next();
    if (!next.has_value() || (armed_.has_value() && *armed_ <= *next)) return;
    armed_ = next;
    timer_.expires_at(std::chrono::steady_clock::time_point(absl::ToChronoNanoseconds(*next)));
    timer_.async_wait([this](boost::system::error_code error) {
      if (error) return;
      armed_.reset();
      while (auto fn = queue_.PopDue(Monotonic())) (*fn)();
      Arm();
    });
  }

  TimerQueue queue_;
  asio::steady_timer timer_;
  std::optional<absl::Duration> armed_;
};

class SystemRandom : public Random {
 public:
  uint64_t Next() override {
    uint64_t bits;
    KEELSON_CHECK(::getrandom(&bits, sizeof bits, 0) == sizeof bits, "getrandom");
    return bits;
  }
};

}  // namespace

struct RealEnv::Impl {
  explicit Impl(Paths p, int threads)
      : paths(std::move(p)),
        pool_threads(threads),
        io(1),
        guard(io.get_executor()),
        clock(io),
        subprocess(io, clock) {}

  Paths paths;
  int pool_threads;
  asio::io_context io;
  asio::executor_work_guard<asio::io_context::executor_type> guard;
  RealClock clock;
  SystemRandom random;
  RealSubprocess subprocess;
  std::optional<asio::thread_pool> pool;  // started by the first use
};

RealEnv::RealEnv(Paths paths, int pool_threads)
    : impl_(std::make_unique<Impl>(std::move(paths), pool_threads)) {}

RealEnv::~RealEnv() {
  if (impl_->pool.has_value()) impl_->pool->join();
}

Executor RealEnv::executor() { return impl_->io.get_executor(); }
Clock& RealEnv::clock() { return impl_->clock; }
Random& RealEnv::random() { return impl_->random; }
Subprocess& RealEnv::subprocess() { return impl_->subprocess; }
const Paths& RealEnv::paths() const { return impl_->paths; }

void RealEnv::RunInPool(absl::AnyInvocable<void()> work, absl::AnyInvocable<void()> done) {
  if (!impl_->pool.has_value()) impl_->pool.emplace(static_cast<size_t>(impl_->pool_threads));
  struct Job {
    absl::AnyInvocable<void()> work, done;
  };
  auto job = std::make_shared<Job>(Job{std::move(work), std::move(done)});
  asio::post(*impl_->pool, [job = std::move(job), executor = impl_->io.get_executor()]() mutable {
    job->work();
    asio::post(executor, [job = std::move(job)] { job->done(); });
  });
}

void RealEnv::Run() { impl_->io.run(); }
void RealEnv::Stop() { impl_->io.stop(); }

namespace {

Task<void> StoreAndStop(Task<absl::Status> task, std::optional<absl::Status>* out, asio::io_context* io) {
  absl::Status status = co_await std::move(task);
  *out = std::move(status);
  io->stop();
}

}  // namespace

absl::Status RealEnv::RunUntilDone(Task<absl::Status> task) {
  std::optional<absl::Status> result;
  asio::co_spawn(impl_->io, StoreAndStop(std::move(task), &result, &impl_->io), [](std::exception_ptr error) {
    if (error) std::rethrow_exception(error);
  });
  impl_->io.run();
  impl_->io.restart();
  return result.has_value() ? *result : absl::CancelledError("the loop was stopped");
}

}  // namespace keelson
