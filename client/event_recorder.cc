#include "client/event_recorder.h"

#include <absl/strings/str_format.h>

#include <algorithm>

#include "api/object.h"
#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"

namespace keelson::client {

namespace corev1 = ::k8s::core::v1;

namespace {

constexpr size_t kMaxQueuedEvents = 1000;
constexpr size_t kMaxKnownEvents = 4096;  // upstream's LRU size
constexpr double kBurstPerObject = 25;    // upstream's spam filter
constexpr double kRefillPerSecond = 1.0 / 300;
constexpr size_t kMaxMessageBytes = 1024;
constexpr absl::Duration kAggregationWindow = absl::Minutes(10);

void SetTime(absl::Time time, ::k8s::meta::v1::Time* out) { out->set_seconds(absl::ToUnixSeconds(time)); }

std::string IdentityOf(const corev1::Event& event) {
  const corev1::ObjectReference& object = event.involved_object();
  return StrCat(object.kind(), "/", object.namespace_(), "/", object.name(), "/", object.uid(), "/",
                object.field_path(), "/", event.type(), "/", event.reason(), "/", event.message());
}

}  // namespace

EventRecorder::EventRecorder(Env& env, ApiClient& client, std::string component, std::string host)
    : env_(env),
      client_(client),
      component_(std::move(component)),
      host_(std::move(host)),
      scope_(env.executor()),
      queue_(kMaxQueuedEvents) {
  scope_.Spawn("event recorder", Run());
}

EventRecorder::~EventRecorder() = default;

bool EventRecorder::Allow(const std::string& object_key) {
  if (buckets_.size() > kMaxKnownEvents) buckets_.clear();
  auto [it, fresh] = buckets_.try_emplace(object_key);
  Bucket& bucket = it->second;
  absl::Time now = env_.clock().Now();
  if (!fresh) {
    double refill = absl::ToDoubleSeconds(now - bucket.refilled) * kRefillPerSecond;
    bucket.tokens = std::min(kBurstPerObject, bucket.tokens + refill);
  }
  bucket.refilled = now;
  if (bucket.tokens < 1) return false;
  bucket.tokens -= 1;
  return true;
}

void EventRecorder::Event(const Message& object, const std::string& type, const std::string& reason,
                          const std::string& message, const std::string& field_path) {
  const auto& meta = api::Meta(object);
  const api::TypeInfo& info = api::TypeOf(object);
  if (!Allow(StrCat(info.gvk.kind, "/", meta.namespace_(), "/", meta.name(), "/", meta.uid()))) return;
  corev1::Event event;
  corev1::ObjectReference* reference = event.mutable_involved_object();
  reference->set_kind(info.gvk.kind);
  reference->set_api_version(info.api_version);
  reference->set_namespace_(meta.namespace_());
  reference->set_name(meta.name());
  reference->set_uid(meta.uid());
  reference->set_resource_version(meta.resource_version());
  reference->set_field_path(field_path);
  event.mutable_metadata()->set_namespace_(meta.namespace_().empty() ? "default" : meta.namespace_());
  event.set_type(type);
  event.set_reason(reason);
  event.set_message(message.size() <= kMaxMessageBytes ? message
                                                       : message.substr(0, kMaxMessageBytes - 3) + "...");
  event.mutable_source()->set_component(component_);
  event.mutable_source()->set_host(host_);
  event.set_reporting_component(component_);
  event.set_reporting_instance(host_);
  absl::Time now = env_.clock().Now();
  SetTime(now, event.mutable_first_timestamp());
  SetTime(now, event.mutable_last_timestamp());
  event.set_count(1);
  // The clock may stand still between two events (and does in tests): names are never equal.
  last_name_ = std::max(last_name_ + 1, static_cast<uint64_t>(absl::ToUnixNanos(now)));
  event.mutable_metadata()->set_name(absl::StrFormat("%s.%016x", meta.name(), last_name_));
  if (!queue_.TryPush(std::move(event))) LogDebug("event dropped, queue is full", {{"reason", reason}});
}

Task<void> EventRecorder::Stop() { return scope_.Close(); }

Task<void> EventRecorder::Run() {
  while (true) {
    Task<std::optional<corev1::Event>> pop = queue_.Pop();
    std::optional<corev1::Event> event = co_await std::move(pop);
    if (!event.has_value()) co_return;
    if (known_.size() > kMaxKnownEvents) known_.clear();
    Known& known = known_[IdentityOf(*event)];
    absl::Time now = env_.clock().Now();
    absl::Status status;
    if (known.count > 0 && now - known.last < kAggregationWindow) {
      std::string patch = absl::StrFormat(R"({"count":%d,"lastTimestamp":"%s"})", known.count + 1,
                                          absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", now, absl::UTCTimeZone()));
      Task<absl::StatusOr<std::shared_ptr<const corev1::Event>>> task =
          client_.Patch<corev1::Event>(known.ns, known.name, PatchType::kMerge, patch);
      absl::StatusOr<std::shared_ptr<const corev1::Event>> result = co_await std::move(task);
      status = result.status();
      if (status.ok()) {
        ++known.count;
        known.last = now;
        continue;
      }
    }
    if (status.ok() || absl::IsNotFound(status)) {
      known = Known{event->metadata().namespace_(), event->metadata().name(), 1, now};
      Task<absl::StatusOr<std::shared_ptr<const corev1::Event>>> task = client_.Create<corev1::Event>(*event);
      absl::StatusOr<std::shared_ptr<const corev1::Event>> result = co_await std::move(task);
      status = result.status();
    }
    if (!status.ok()) {
      known_.erase(IdentityOf(*event));
      LogDebug("event not recorded", {{"reason", event->reason()}, {"error", status}});
    }
  }
}

}  // namespace keelson::client
