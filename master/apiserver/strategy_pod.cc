// What the API server itself decides about the fields of a Pod (upstream pkg/registry/core/pod/strategy.go as
// facts).
#include "api/core/v1/pod.pb.h"
#include "master/apiserver/pod_qos.h"
#include "master/apiserver/registry.h"

namespace keelson::master {

namespace core = ::k8s::core::v1;

void PreparePodCreate(api::Message& object) {
  auto& pod = static_cast<core::Pod&>(object);
  pod.clear_status();
  pod.mutable_status()->set_phase("Pending");
  if (!pod.spec().scheduling_gates().empty()) {
    core::PodCondition* scheduled = pod.mutable_status()->add_conditions();
    scheduled->set_type("PodScheduled");
    scheduled->set_status("False");
    scheduled->set_reason("SchedulingGated");
    scheduled->set_message("Scheduling is blocked due to non-empty scheduling gates");
    *scheduled->mutable_last_transition_time() = pod.metadata().creation_timestamp();
  }
  pod.mutable_status()->set_qos_class(std::string(PodQosClass(pod.spec())));
}

void PreparePodUpdate(api::Message& object, const api::Message& old) { CopyTopField(object, old, "status"); }

void PreparePodStatusUpdate(api::Message& object, const api::Message& old) {
  auto& pod = static_cast<core::Pod&>(object);
  const auto& before = static_cast<const core::Pod&>(old);
  *pod.mutable_spec() = before.spec();
  *pod.mutable_metadata()->mutable_owner_references() = before.metadata().owner_references();
  if (pod.status().qos_class().empty()) pod.mutable_status()->set_qos_class(before.status().qos_class());
}

}  // namespace keelson::master
