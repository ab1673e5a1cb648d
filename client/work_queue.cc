#include "client/work_queue.h"

#include <algorithm>

namespace keelson::client {

WorkQueue::WorkQueue(Env& env, WorkQueueOptions options) : env_(env), options_(options) {}

WorkQueue::~WorkQueue() {
  for (const auto& [key, timer] : timers_) env_.clock().CancelTimer(timer.id);
}

void WorkQueue::Add(const std::string& key) {
  if (shutdown_ || !dirty_.insert(key).second) return;
  if (processing_.contains(key)) return;  // Done() queues it again
  queue_.push_back(key);
  ready_.NotifyOne();
}

void WorkQueue::AddAfter(const std::string& key, absl::Duration delay) {
  if (shutdown_) return;
  if (delay <= absl::ZeroDuration()) return Add(key);
  absl::Duration due = env_.clock().Monotonic() + delay;
  auto it = timers_.find(key);
  if (it != timers_.end()) {
    if (it->second.due <= due) return;
    env_.clock().CancelTimer(it->second.id);
  }
  uint64_t id = env_.clock().Schedule(delay, [this, key] {
    timers_.erase(key);
    Add(key);
  });
  timers_[key] = Timer{id, due};
}

void WorkQueue::AddRateLimited(const std::string& key) {
  int& failures = failures_[key];
  absl::Duration delay = options_.min_backoff;
  for (int i = 0; i < failures && delay < options_.max_backoff; ++i) delay *= 2;
  ++failures;
  AddAfter(key, std::min(delay, options_.max_backoff));
}

void WorkQueue::Forget(const std::string& key) { failures_.erase(key); }

int WorkQueue::failures(const std::string& key) const {
  auto it = failures_.find(key);
  return it == failures_.end() ? 0 : it->second;
}

Task<std::optional<std::string>> WorkQueue::Next() {
  while (queue_.empty() && !shutdown_) {
    Task<void> wait = ready_.Wait();
    co_await std::move(wait);
  }
  if (shutdown_) co_return std::nullopt;
  std::string key = std::move(queue_.front());
  queue_.pop_front();
  dirty_.erase(key);
  processing_.insert(key);
  co_return std::optional<std::string>(std::move(key));
}

void WorkQueue::Done(const std::string& key) {
  processing_.erase(key);
  if (shutdown_ || !dirty_.contains(key)) return;
  queue_.push_back(key);
  ready_.NotifyOne();
}

void WorkQueue::Shutdown() {
  shutdown_ = true;
  for (const auto& [key, timer] : timers_) env_.clock().CancelTimer(timer.id);
  timers_.clear();
  queue_.clear();
  ready_.NotifyAll();
}

}  // namespace keelson::client
