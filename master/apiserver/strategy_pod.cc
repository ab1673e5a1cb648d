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
