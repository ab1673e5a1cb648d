#include "cri/server/events.h"

#include <utility>

#include "base/log.h"

namespace keelson::cri {

namespace {

using Event = v1::ContainerEventResponse;

Task<absl::StatusOr<std::optional<Event>>> NextOf(std::shared_ptr<Channel<Event>> queue) {
  Task<std::optional<Event>> pop = queue->Pop();
  std::optional<Event> event = co_await std::move(pop);
  co_return event;
}

class Reader : public ContainerEventReader {
 public:
  explicit Reader(std::shared_ptr<Channel<Event>> queue) : queue_(std::move(queue)) {}
  Task<absl::StatusOr<std::optional<Event>>> Next() override { return NextOf(queue_); }

 private:
  std::shared_ptr<Channel<Event>> queue_;
};

}  // namespace

std::unique_ptr<ContainerEventReader> EventHub::Subscribe() {
  auto queue = std::make_shared<Queue>(kMaxPendingEvents);
  queues_.push_back(queue);
  return std::make_unique<Reader>(std::move(queue));
}

bool EventHub::has_subscribers() const {
  for (const auto& weak : queues_) {
    if (!weak.expired()) return true;
  }
  return false;
}

void EventHub::Publish(const Event& event) {
  for (auto it = queues_.begin(); it != queues_.end();) {
    std::shared_ptr<Queue> queue = it->lock();
    if (queue != nullptr && !queue->TryPush(event)) {
      LogWarning("an event subscriber fell behind and is cut off", {{"pending", queue->size()}});
      queue->Close();
      queue = nullptr;
    }
    it = queue == nullptr ? queues_.erase(it) : std::next(it);
  }
}

void EventHub::Close() {
  for (const auto& weak : queues_) {
    if (std::shared_ptr<Queue> queue = weak.lock()) queue->Close();
  }
  queues_.clear();
}

}  // namespace keelson::cri
