#include "master/controllers/event_ttl_controller.h"

#include <algorithm>

#include "api/object.h"
#include "api/status_error.h"
#include "api/time.h"
#include "base/status.h"

namespace keelson::master {

namespace corev1 = ::k8s::core::v1;

absl::Time LastSeen(const corev1::Event& event) {
  return std::max({api::ToAbsl(event.metadata().creation_timestamp()), api::ToAbsl(event.last_timestamp()),
                   api::ToAbsl(event.event_time()), api::ToAbsl(event.series().last_observed_time())});
}

EventTtlController::EventTtlController(ControllerContext context)
    : context_(context), loop_(context.env, name(), *this) {}

void EventTtlController::Start() {
  loop_.queue().Add("sweep");
  loop_.Start(1);
}

Task<void> EventTtlController::Stop() { return loop_.Stop(); }

Task<absl::StatusOr<client::Requeue>> EventTtlController::Reconcile(std::string key) {
  client::ListOptions options;
  options.resource_version = "0";
  CO_ASSIGN_OR_RETURN(client::ObjectList list,
                      context_.client.List(client::GvrOf<corev1::Event>(), std::string(), options));
  absl::Time oldest = context_.env.clock().Now() - kTimeToLive;
  for (const client::ObjectPtr& object : list.items) {
    const auto* event = api::As<corev1::Event>(*object);
    if (event == nullptr || LastSeen(*event) > oldest) continue;
    client::DeleteOptions remove;
    remove.precondition_uid = event->metadata().uid();
    Task<absl::Status> task = context_.client.Delete<corev1::Event>(event->metadata().namespace_(),
                                                                    event->metadata().name(), remove);
    absl::Status removed = co_await std::move(task);
    if (!removed.ok() && !api::IsNotFound(removed) && !api::IsConflict(removed)) co_return removed;
  }
  client::Requeue again;
  again.after = kPeriod;
  co_return again;
}

}  // namespace keelson::master
