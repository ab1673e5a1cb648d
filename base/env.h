// Env: the only door to time, randomness, timers, processes, the blocking pool and root paths
// (docs/architecture.md). Product code takes an Env&; tests and simulation pass FakeEnv (base/fake_env.h).
#pragma once

#include <absl/functional/any_invocable.h>
#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <boost/asio/async_result.hpp>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/fd.h"
#include "base/paths.h"
#include "base/task.h"

namespace keelson {

// Wall clock, monotonic clock and timers of one loop.
class Clock {
 public:
  virtual ~Clock() = default;
  // Wall-clock time; may jump. For timestamps that leave the process.
  virtual absl::Time Now() const = 0;
  // Time since an arbitrary start; never jumps. For durations and deadlines.
  virtual absl::Duration Monotonic() const = 0;
  // Runs `fn` on the loop once, `after` from now. Returns an id, never 0.
  virtual uint64_t Schedule(absl::Duration after, absl::AnyInvocable<void()> fn) = 0;
  // False when the timer has fired or is unknown.
  virtual bool CancelTimer(uint64_t id) = 0;

  // Throws operation_aborted when cancelled.
  Task<void> Sleep(absl::Duration duration);
};

// Random bits; seeded in tests.
class Random {
 public:
  virtual ~Random() = default;
  virtual uint64_t Next() = 0;
  // Uniform in [0, bound); bound > 0.
  uint64_t Uniform(uint64_t bound);
  // Uniform in [0, 1).
  double Fraction();
  // `length` characters of Kubernetes' suffix alphabet (bcdfghjklmnpqrstvwxz2456789).
  std::string Suffix(size_t length);
  // RFC 4122 version 4, lower case.
  std::string Uuid();
};

struct SubprocessOptions {
  std::vector<std::string> argv;  // argv[0] is looked up in PATH
  std::vector<std::string> env;   // KEY=VALUE; empty: inherit
  std::string cwd;
  std::string stdin_data;
  size_t max_output_bytes = 1 << 20;           // each of stdout and stderr; the rest is read and dropped
  absl::Duration timeout = absl::Seconds(60);  // then SIGKILL to the process group, DeadlineExceeded
};

struct SubprocessResult {
  int exit_code = -1;   // valid when term_signal == 0
  int term_signal = 0;  // signal that ended it
  std::string stdout_data, stderr_data;
  bool ok() const { return term_signal == 0 && exit_code == 0; }
};

// A running child: pid plus pidfd.
class ChildProcess {
 public:
  virtual ~ChildProcess() = default;
  virtual int pid() const = 0;
  // Completes with the raw wait status (waitpid(2)) once the child has ended; may be awaited again.
  virtual Task<int> Wait() = 0;
  // Sends through the pidfd: never hits a recycled pid. NotFound when it has ended.
  virtual absl::Status Signal(int signal) = 0;
};

struct SpawnOptions {
  std::vector<std::string> argv;
  std::vector<std::string> env;  // empty: inherit
  std::string cwd;
  // Descriptors of ours that become 0,1,2 of the child; -1: /dev/null. Duplicated, not taken.
  int stdin_fd = -1, stdout_fd = -1, stderr_fd = -1;
  // Further descriptors, given in the child as 3, 4, ... in this order.
  std::vector<int> extra_fds;
  bool new_session = true;
};

class Subprocess {
 public:
  virtual ~Subprocess() = default;
  // Runs to the end. A program that cannot be started is NotFound/PermissionDenied; a non-zero exit is a
  // result.
  virtual Task<absl::StatusOr<SubprocessResult>> Run(SubprocessOptions options) = 0;
  // Starts and returns. The child outlives the returned object unless signalled.
  virtual absl::StatusOr<std::unique_ptr<ChildProcess>> Spawn(const SpawnOptions& options) = 0;
  // A process that somebody else started. Its wait status reads as 0. NotFound when there is none; that the
  // pid is still the one meant (start time) is the caller's to check, after this call.
  virtual absl::StatusOr<std::unique_ptr<ChildProcess>> Adopt(int pid) = 0;
};

class Env {
 public:
  virtual ~Env() = default;
  virtual Executor executor() = 0;
  virtual Clock& clock() = 0;
  virtual Random& random() = 0;
  virtual Subprocess& subprocess() = 0;
  virtual const Paths& paths() const = 0;
  // Runs `work` off the loop (real) or at once (fake), then `done` on the loop.
  virtual void RunInPool(absl::AnyInvocable<void()> work, absl::AnyInvocable<void()> done) = 0;

  // For blocking calls: file trees, hashing, fsync. `work()` returns R by value; not cancellable.
  // Usage: Task<R> t = env.Blocking<R>([..]{...}); R r = co_await std::move(t);
  template <class R>
  Task<R> Blocking(absl::AnyInvocable<R()> work);
};

// Blocking work that begins with the constructor, beside whatever its caller does until it waits. Wait once;
// a job that nobody waits for goes on to its end.
template <class R>
class BlockingJob {
 public:
  BlockingJob(Env& env, absl::AnyInvocable<R()> work) : state_(std::make_shared<State>()) {
    state_->work = std::move(work);
    env.RunInPool(
        [state = state_] {
          state->result.emplace(state->work());
          state->work = nullptr;
        },
        [state = state_] { state->done.Set(); });
  }
  Task<R> Wait() { return Result(state_); }

 private:
  struct State {
    absl::AnyInvocable<R()> work;
    std::optional<R> result;
    AsyncEvent done;
  };
  static Task<R> Result(std::shared_ptr<State> state) {
    Task<void> wait = state->done.Wait();
    co_await std::move(wait);
    co_return std::move(*state->result);
  }
  std::shared_ptr<State> state_;
};

template <class R>
Task<R> Env::Blocking(absl::AnyInvocable<R()> work) {
  BlockingJob<R> job(*this, std::move(work));
  Task<R> wait = job.Wait();
  R result = co_await std::move(wait);
  co_return result;
}

// The real thing: an io_context run by the calling thread, a pool of `pool_threads` for blocking work.
class RealEnv : public Env {
 public:
  explicit RealEnv(Paths paths, int pool_threads = 2);
  ~RealEnv() override;
  Executor executor() override;
  Clock& clock() override;
  Random& random() override;
  Subprocess& subprocess() override;
  const Paths& paths() const override;
  void RunInPool(absl::AnyInvocable<void()> work, absl::AnyInvocable<void()> done) override;
  // Runs until Stop(). Call from the thread that owns all state.
  void Run();
  void Stop();
  // Spawns `task`, runs the loop until it has ended, returns its result. For main() and tests.
  absl::Status RunUntilDone(Task<absl::Status> task);
  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace keelson
