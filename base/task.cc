#include "base/task.h"

#include <boost/asio/associated_cancellation_slot.hpp>
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/post.hpp>
#include <boost/system/system_error.hpp>
#include <cstdlib>
#include <exception>

#include "base/log.h"

namespace keelson {

namespace asio = boost::asio;
using boost::system::error_code;

struct WaitList::State {
  struct Waiter {
    absl::AnyInvocable<void(error_code)> complete;  // posts to the waiter's executor
  };
  std::list<std::shared_ptr<Waiter>> waiters;
};

namespace {

struct StartWait {
  std::shared_ptr<WaitList::State> state;

  template <class Handler>
  void operator()(Handler handler) {
    auto executor = asio::get_associated_executor(handler);
    auto slot = asio::get_associated_cancellation_slot(handler);
    auto waiter = std::make_shared<WaitList::State::Waiter>();
    auto shared = std::make_shared<Handler>(std::move(handler));
    waiter->complete = [executor, slot, shared](error_code error) mutable {
      if (slot.is_connected()) slot.clear();
      asio::post(executor, [shared = std::move(shared), error]() mutable {
        Handler once = std::move(*shared);
        shared.reset();
        std::move(once)(error);
      });
    };
    state->waiters.push_back(waiter);
    if (slot.is_connected()) {
      slot.assign(
          [weak = std::weak_ptr(state), weak_waiter = std::weak_ptr(waiter)](asio::cancellation_type) {
            auto list = weak.lock();
            auto entry = weak_waiter.lock();
            if (list == nullptr || entry == nullptr) return;
            list->waiters.remove(entry);
            auto complete = std::move(entry->complete);
            complete(asio::error::operation_aborted);
          });
    }
  }
};

}  // namespace

WaitList::WaitList() : state_(std::make_shared<State>()) {}

WaitList::~WaitList() {
  while (!state_->waiters.empty()) {
    auto waiter = state_->waiters.front();
    state_->waiters.pop_front();
    waiter->complete(asio::error::operation_aborted);
  }
}

Task<void> WaitList::Wait() {
  return asio::async_initiate<const asio::use_awaitable_t<>, void(error_code)>(StartWait{state_},
                                                                               asio::use_awaitable);
}

size_t WaitList::NotifyOne() {
  if (state_->waiters.empty()) return 0;
  auto waiter = state_->waiters.front();
  state_->waiters.pop_front();
  waiter->complete({});
  return 1;
}

size_t WaitList::NotifyAll() {
  size_t count = state_->waiters.size();
  for (size_t i = 0; i < count; ++i) NotifyOne();
  return count;
}

bool WaitList::empty() const { return state_->waiters.empty(); }

void AsyncEvent::Set() {
  set_ = true;
  waiters_.NotifyAll();
}

Task<void> AsyncEvent::Wait() {
  while (!set_) {
    Task<void> wait = waiters_.Wait();
    co_await std::move(wait);
  }
}

Task<void> Semaphore::Acquire() {
  while (permits_ == 0) {
    Task<void> wait = waiters_.Wait();
    co_await std::move(wait);
  }
  --permits_;
}

void Semaphore::Release() {
  ++permits_;
  waiters_.NotifyOne();
}

Task<AsyncMutex::Guard> AsyncMutex::Lock() {
  Task<void> acquire = semaphore_.Acquire();
  co_await std::move(acquire);
  co_return Guard(this);
}

struct Scope::State {
  struct Entry {
    std::string name;
    asio::cancellation_signal cancel;
  };
  Executor executor;
  std::list<Entry> entries;
  bool closing = false;
  WaitList drained;
};

Scope::Scope(Executor executor) : state_(std::make_shared<State>()) {
  state_->executor = std::move(executor);
}

Scope::~Scope() {
  if (!state_->entries.empty()) {
    KEELSON_CHECK(false, "Scope destroyed with ", state_->entries.size(),
                  " live tasks, first: ", state_->entries.front().name);
  }
}

void Scope::Spawn(std::string_view name, Task<void> task) {
  if (state_->closing) return;
  state_->entries.emplace_back();
  auto entry = std::prev(state_->entries.end());
  entry->name = std::string(name);
  auto finished = [state = state_, entry](std::exception_ptr error) {
    if (error) {
      try {
        std::rethrow_exception(error);
      } catch (const boost::system::system_error& e) {
        KEELSON_CHECK(e.code() == asio::error::operation_aborted, "task ", entry->name, ": ", e.what());
      } catch (const std::exception& e) {
        KEELSON_CHECK(false, "task ", entry->name, ": ", e.what());
      }
    }
    // A Cancel() from outside the loop (a fake clock's timer, a test) has only posted its emission, which
    // points into the entry's signal: the entry goes after whatever is posted by now.
    auto ended = std::make_shared<std::list<State::Entry>>();
    ended->splice(ended->end(), state->entries, entry);
    asio::post(state->executor, [ended] {});
    if (state->entries.empty()) state->drained.NotifyAll();
  };
  asio::co_spawn(state_->executor, std::move(task),
                 asio::bind_cancellation_slot(entry->cancel.slot(), std::move(finished)));
}

void Scope::Cancel() {
  // Emission only posts completions, so the list is stable while we walk it.
  for (auto& entry : state_->entries) entry.cancel.emit(asio::cancellation_type::terminal);
}

Task<void> Scope::Close() {
  auto state = state_;
  state->closing = true;
  Cancel();
  while (!state->entries.empty()) {
    Task<void> wait = state->drained.Wait();
    co_await std::move(wait);
  }
}

size_t Scope::live() const { return state_->entries.size(); }
bool Scope::closing() const { return state_->closing; }
Executor Scope::executor() const { return state_->executor; }

}  // namespace keelson
