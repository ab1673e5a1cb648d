// core/v1 and events.k8s.io/v1 Events are two views of one stored object, a core/v1 Event.
#include "api/core/v1/event.pb.h"
#include "api/events/v1/events.pb.h"
#include "master/apiserver/registry.h"

namespace keelson::master {

namespace core = ::k8s::core::v1;
namespace events = ::k8s::events::v1;

std::unique_ptr<api::Message> EventToCore(const api::Message& message) {
  const auto& in = static_cast<const events::Event&>(message);
  auto out = std::make_unique<core::Event>();
  *out->mutable_metadata() = in.metadata();
  *out->mutable_involved_object() = in.regarding();
  if (in.has_related()) *out->mutable_related() = in.related();
  if (in.has_event_time()) *out->mutable_event_time() = in.event_time();
  if (in.has_series()) {
    out->mutable_series()->set_count(in.series().count());
    *out->mutable_series()->mutable_last_observed_time() = in.series().last_observed_time();
  }
  out->set_reporting_component(in.reporting_controller());
  out->set_reporting_instance(in.reporting_instance());
  out->set_action(in.action());
  out->set_reason(in.reason());
  out->set_message(in.note());
  out->set_type(in.type());
  if (in.has_deprecated_source()) *out->mutable_source() = in.deprecated_source();
  if (in.has_deprecated_first_timestamp()) *out->mutable_first_timestamp() = in.deprecated_first_timestamp();
  if (in.has_deprecated_last_timestamp()) *out->mutable_last_timestamp() = in.deprecated_last_timestamp();
  out->set_count(in.deprecated_count());
  return out;
}

std::unique_ptr<api::Message> EventFromCore(const api::Message& message) {
  const auto& in = static_cast<const core::Event&>(message);
  auto out = std::make_unique<events::Event>();
  *out->mutable_metadata() = in.metadata();
  *out->mutable_regarding() = in.involved_object();
  if (in.has_related()) *out->mutable_related() = in.related();
  if (in.has_event_time()) *out->mutable_event_time() = in.event_time();
  if (in.has_series()) {
    out->mutable_series()->set_count(in.series().count());
    *out->mutable_series()->mutable_last_observed_time() = in.series().last_observed_time();
  }
  out->set_reporting_controller(in.reporting_component());
  out->set_reporting_instance(in.reporting_instance());
  out->set_action(in.action());
  out->set_reason(in.reason());
  out->set_note(in.message());
  out->set_type(in.type());
  if (in.has_source()) *out->mutable_deprecated_source() = in.source();
  if (in.has_first_timestamp()) *out->mutable_deprecated_first_timestamp() = in.first_timestamp();
  if (in.has_last_timestamp()) *out->mutable_deprecated_last_timestamp() = in.last_timestamp();
  out->set_deprecated_count(in.count());
  return out;
}

}  // namespace keelson::master
