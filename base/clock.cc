#include "base/clock.h"

#include <boost/asio/associated_cancellation_slot.hpp>
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/post.hpp>

#include "base/env.h"

namespace keelson {

namespace asio = boost::asio;
using boost::system::error_code;

uint64_t TimerQueue::Add(absl::Duration deadline, Callback fn) {
  uint64_t id = next_id_++;
  timers_.emplace(Key(deadline, id), std::move(fn));
  deadlines_[id] = deadline;
  return id;
}

bool TimerQueue::Remove(uint64_t id) {
  auto it = deadlines_.find(id);
  if (it == deadlines_.end()) return false;
  timers_.erase(Key(it->second, id));
  deadlines_.erase(it);
  return true;
}

std::optional<absl::Duration> TimerQueue::Next() const {
  if (timers_.empty()) return std::nullopt;
  return timers_.begin()->first.first;
}

std::optional<TimerQueue::Callback> TimerQueue::PopDue(absl::Duration now) {
  if (timers_.empty() || timers_.begin()->first.first > now) return std::nullopt;
  auto node = timers_.extract(timers_.begin());
  deadlines_.erase(node.key().second);
  return std::move(node.mapped());
}

namespace {

struct StartSleep {
  Clock* clock;
  absl::Duration duration;

  template <class Handler>
  void operator()(Handler handler) {
    auto executor = asio::get_associated_executor(handler);
    auto slot = asio::get_associated_cancellation_slot(handler);
    auto shared = std::make_shared<Handler>(std::move(handler));
    uint64_t id = clock->Schedule(duration, [executor, slot, shared]() mutable {
      if (slot.is_connected()) slot.clear();
      asio::post(executor, [shared = std::move(shared)]() mutable {
        Handler once = std::move(*shared);
        shared.reset();
        std::move(once)(error_code());
      });
    });
    if (slot.is_connected()) {
      slot.assign([clock = clock, id, executor, shared](asio::cancellation_type) {
        if (!clock->CancelTimer(id)) return;
        asio::post(executor, [shared]() {
          Handler once = std::move(*shared);
          std::move(once)(error_code(asio::error::operation_aborted));
        });
      });
    }
  }
};

}  // namespace

Task<void> Clock::Sleep(absl::Duration duration) {
  return asio::async_initiate<const asio::use_awaitable_t<>, void(error_code)>(StartSleep{this, duration},
                                                                               asio::use_awaitable);
}

}  // namespace keelson
