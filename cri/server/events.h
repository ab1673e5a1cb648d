// EventHub: container events to every subscriber of GetContainerEvents. One loop.
#pragma once

#include <list>
#include <memory>

#include "cri/runtime_service.h"

namespace keelson::cri {

class EventHub {
 public:
  // A subscriber that falls this far behind is cut off: it relists and subscribes again.
  static constexpr size_t kMaxPendingEvents = 1000;

  std::unique_ptr<ContainerEventReader> Subscribe();
  // Nothing is built when nobody listens: ask first.
  bool has_subscribers() const;
  void Publish(const v1::ContainerEventResponse& event);
  // Ends every subscription.
  void Close();

 private:
  using Queue = Channel<v1::ContainerEventResponse>;
  std::list<std::weak_ptr<Queue>> queues_;
};

}  // namespace keelson::cri
