#include "master/scheduler/scheduling_queue.h"

#include <algorithm>
#include <vector>

namespace keelson::master {

SchedulingQueue::~SchedulingQueue() {
  for (auto& [key, entry] : entries_) Leave(entry);
}

SchedulingQueue::ActiveKey SchedulingQueue::KeyOf(const Entry& entry) {
  return {-entry.pod->priority(), entry.order, entry.pod->key};
}

// Takes the entry out of the set and timer of its state.
void SchedulingQueue::Leave(Entry& entry) {
  if (entry.timer != 0) env_.clock().CancelTimer(entry.timer);
  entry.timer = 0;
  if (entry.state == State::kActive) active_.erase(KeyOf(entry));
  if (entry.state == State::kUnschedulable) unschedulable_.erase(entry.pod->key);
}

void SchedulingQueue::Activate(Entry& entry) {
  Leave(entry);
  entry.state = State::kActive;
  entry.order = ++orders_;
  active_.insert(KeyOf(entry));
  ready_.NotifyOne();
}

void SchedulingQueue::Arm(Entry& entry, absl::Duration after) {
  std::string key = entry.pod->key;
  entry.timer = env_.clock().Schedule(after, [this, key] {
    auto it = entries_.find(key);
    if (it == entries_.end()) return;
    it->second.timer = 0;
    Activate(it->second);
  });
}

absl::Duration SchedulingQueue::RemainingBackoff(const Entry& entry) const {
  if (entry.attempts == 0) return absl::ZeroDuration();
  absl::Duration backoff = kInitialBackoff;
  for (int i = 1; i < entry.attempts && backoff < kMaxBackoff; ++i) backoff *= 2;
  return entry.failed_at + std::min(backoff, kMaxBackoff) - env_.clock().Monotonic();
}

void SchedulingQueue::ActivateAfterBackoff(Entry& entry) {
  absl::Duration remaining = RemainingBackoff(entry);
  if (remaining <= absl::ZeroDuration()) return Activate(entry);
  Leave(entry);
  entry.state = State::kBackoff;
  Arm(entry, remaining);
}

void SchedulingQueue::Add(const PodInfoPtr& pod) {
  if (shutdown_) return;
  auto [it, fresh] = entries_.try_emplace(pod->key);
  Entry& entry = it->second;
  if (!fresh && entry.pod->uid() != pod->uid()) {  // deleted and made again while we were not looking
    Leave(entry);
    entry = Entry();
    fresh = true;
  }
  if (fresh) {
    entry.pod = pod;
    entry.state = State::kInFlight;
    return Activate(entry);
  }
  Update(pod);
  if (entry.state == State::kUnschedulable) ActivateAfterBackoff(entry);
}

void SchedulingQueue::Update(const PodInfoPtr& pod) {
  auto it = entries_.find(pod->key);
  if (it == entries_.end()) return;
  Entry& entry = it->second;
  if (entry.state == State::kActive) active_.erase(KeyOf(entry));
  entry.pod = pod;
  if (entry.state == State::kActive) active_.insert(KeyOf(entry));
}

void SchedulingQueue::Remove(const std::string& key) {
  auto it = entries_.find(key);
  if (it == entries_.end()) return;
  Leave(it->second);
  entries_.erase(it);
}

PodInfoPtr SchedulingQueue::Find(const std::string& key) const {
  auto it = entries_.find(key);
  return it == entries_.end() ? nullptr : it->second.pod;
}

Task<PodInfoPtr> SchedulingQueue::Next() {
  while (active_.empty() && !shutdown_) {
    Task<void> wait = ready_.Wait();
    co_await std::move(wait);
  }
  if (shutdown_) co_return nullptr;
  Entry& entry = entries_.at(std::get<2>(*active_.begin()));
  active_.erase(active_.begin());
  entry.state = State::kInFlight;
  ++entry.attempts;
  co_return entry.pod;
}

void SchedulingQueue::AddUnschedulable(const std::string& key) {
  auto it = entries_.find(key);
  if (it == entries_.end() || shutdown_) return;
  Entry& entry = it->second;
  Leave(entry);
  entry.state = State::kUnschedulable;
  entry.failed_at = env_.clock().Monotonic();
  unschedulable_.insert(key);
  Arm(entry, kMaxUnschedulable);
}

void SchedulingQueue::AddBackoff(const std::string& key) {
  auto it = entries_.find(key);
  if (it == entries_.end() || shutdown_) return;
  it->second.failed_at = env_.clock().Monotonic();
  ActivateAfterBackoff(it->second);
}

size_t SchedulingQueue::Wake(absl::FunctionRef<bool(const PodInfo& pod)> fits) {
  std::vector<std::string> woken;
  for (const std::string& key : unschedulable_) {
    if (fits(*entries_.at(key).pod)) woken.push_back(key);
  }
  for (const std::string& key : woken) ActivateAfterBackoff(entries_.at(key));
  return woken.size();
}

void SchedulingQueue::Shutdown() {
  shutdown_ = true;
  for (auto& [key, entry] : entries_) Leave(entry);
  entries_.clear();
  active_.clear();
  unschedulable_.clear();
  ready_.NotifyAll();
}

}  // namespace keelson::master
