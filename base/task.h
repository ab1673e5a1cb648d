// Task<T>, and the few primitives coroutines of one loop share: Scope, WaitList, AsyncEvent, Semaphore,
// Channel.
//
// Everything here belongs to one loop thread (Env::executor()); nothing locks. Completions are always posted,
// never run inside the call that causes them, so the order of events is the order of posts: the property the
// simulation's replay rests on.
//
// Cancellation: Scope::Close() cancels; the innermost wait of a cancelled task throws
// boost::system::system_error(operation_aborted), and so does every later co_await of that task. It is the
// only exception that crosses our code and is swallowed at the Scope. Clean-up that must itself wait is
// spawned into another scope.
#pragma once

#include <absl/functional/any_invocable.h>
#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/system/error_code.hpp>
#include <cstddef>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace keelson {

using Executor = boost::asio::any_io_executor;

// A lazy coroutine: nothing runs before it is awaited or spawned. Parameters by value.
template <class T>
using Task = boost::asio::awaitable<T>;

// Waiters in FIFO order. Destroying the list with waiters present resumes them with operation_aborted.
class WaitList {
 public:
  WaitList();
  ~WaitList();
  WaitList(const WaitList&) = delete;
  WaitList& operator=(const WaitList&) = delete;

  // Completes when notified; throws operation_aborted on cancellation.
  Task<void> Wait();
  // Each returns how many waiters it woke.
  size_t NotifyOne();
  size_t NotifyAll();
  bool empty() const;

  struct State;

 private:
  std::shared_ptr<State> state_;
};

// Manual-reset event.
class AsyncEvent {
 public:
  void Set();
  void Reset() { set_ = false; }
  bool is_set() const { return set_; }
  Task<void> Wait();

 private:
  bool set_ = false;
  WaitList waiters_;
};

// Counting semaphore; Release never blocks.
class Semaphore {
 public:
  explicit Semaphore(size_t permits) : permits_(permits) {}
  Task<void> Acquire();
  void Release();
  size_t permits() const { return permits_; }

 private:
  size_t permits_;
  WaitList waiters_;
};

// Mutual exclusion across co_awaits. `auto lock = co_await mutex.Lock();` releases at scope end.
class AsyncMutex {
 public:
  class Guard {
   public:
    explicit Guard(AsyncMutex* mutex) : mutex_(mutex) {}
    Guard(Guard&& o) noexcept : mutex_(std::exchange(o.mutex_, nullptr)) {}
    Guard& operator=(Guard&&) = delete;
    ~Guard() {
      if (mutex_ != nullptr) mutex_->semaphore_.Release();
    }

   private:
    AsyncMutex* mutex_;
  };
  Task<Guard> Lock();

 private:
  Semaphore semaphore_{1};
};

// Bounded FIFO between tasks of one loop. Push waits for room; Pop yields nullopt once closed and drained.
template <class T>
class Channel {
 public:
  explicit Channel(size_t capacity_items) : capacity_(capacity_items) {}

  // False when the channel is full or closed.
  bool TryPush(T item) {
    if (closed_ || items_.size() >= capacity_) return false;
    items_.push_back(std::move(item));
    readable_.NotifyOne();
    return true;
  }
  // False when the channel was closed before there was room.
  Task<bool> Push(T item) {
    while (!closed_ && items_.size() >= capacity_) {
      Task<void> wait = writable_.Wait();
      co_await std::move(wait);
    }
    co_return TryPush(std::move(item));
  }
  std::optional<T> TryPop() {
    if (items_.empty()) return std::nullopt;
    std::optional<T> item(std::move(items_.front()));
    items_.pop_front();
    writable_.NotifyOne();
    return item;
  }
  Task<std::optional<T>> Pop() {
    while (items_.empty() && !closed_) {
      Task<void> wait = readable_.Wait();
      co_await std::move(wait);
    }
    co_return TryPop();
  }
  void Close() {
    closed_ = true;
    readable_.NotifyAll();
    writable_.NotifyAll();
  }
  bool closed() const { return closed_; }
  size_t size() const { return items_.size(); }

 private:
  size_t capacity_;
  bool closed_ = false;
  std::deque<T> items_;
  WaitList readable_, writable_;
};

// Owner of spawned tasks: a gate and a cancellation. The owner awaits Close() before the state the tasks use
// goes away; a Scope destroyed with live tasks is a bug and aborts.
class Scope {
 public:
  explicit Scope(Executor executor);
  ~Scope();
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;

  // Starts `task` on the loop. After Close() began the task is dropped unstarted. An exception other than
  // operation_aborted aborts the process, naming the task.
  void Spawn(std::string_view name, Task<void> task);
  // Cancels every task without waiting.
  void Cancel();
  // Cancels every task and waits until all have ended. Idempotent.
  Task<void> Close();
  size_t live() const;
  bool closing() const;
  Executor executor() const;

  struct State;

 private:
  std::shared_ptr<State> state_;
};

}  // namespace keelson
