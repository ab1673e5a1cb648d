// RuntimeClass: a pod's class must exist; its overhead and scheduling constraints become the pod's.
#include <algorithm>

#include "api/core/v1/pod.pb.h"
#include "api/node/v1/node.pb.h"
#include "api/quantity.h"
#include "api/status_error.h"
#include "base/strings.h"
#include "master/admission/admission.h"

namespace keelson::master {
namespace {

using ::k8s::core::v1::Pod;
using ::k8s::core::v1::Toleration;
using ClassPtr = std::shared_ptr<const ::k8s::node::v1::RuntimeClass>;
using QuantityMap = google::protobuf::Map<std::string, ::k8s::api::resource::Quantity>;

bool Same(const QuantityMap& a, const QuantityMap& b) {
  return a.size() == b.size() && std::all_of(a.begin(), a.end(), [&](const auto& entry) {
           auto other = b.find(entry.first);
           return other != b.end() && api::Quantity::Of(entry.second) == api::Quantity::Of(other->second);
         });
}

class RuntimeClass : public AdmissionPlugin {
 public:
  std::string_view name() const override { return "RuntimeClass"; }

  absl::Status Admit(AdmissionRequest& request, const ClusterReader& cluster) const override {
    if (!Applies(request)) return absl::OkStatus();
    auto& pod = static_cast<Pod&>(*request.object);
    ClassPtr chosen;
    if (pod.spec().has_runtime_class_name()) {
      const std::string& wanted = pod.spec().runtime_class_name();
      chosen =
          api::As<::k8s::node::v1::RuntimeClass>(cluster.Read("node.k8s.io", "runtimeclasses", "", wanted));
      if (chosen == nullptr)
        return Rejected(request, StrCat("pod rejected: RuntimeClass \"", wanted, "\" not found"));
    }
    if (chosen == nullptr || !chosen->has_overhead()) {
      if (pod.spec().overhead().empty())
        return chosen == nullptr ? absl::OkStatus() : Schedule(request, *chosen, pod);
      return Rejected(request,
                      "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead");
    }
    if (pod.spec().overhead().empty()) {
      *pod.mutable_spec()->mutable_overhead() = chosen->overhead().pod_fixed();
    } else if (!Same(pod.spec().overhead(), chosen->overhead().pod_fixed())) {
      return Rejected(request, "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead");
    }
    return Schedule(request, *chosen, pod);
  }

 private:
  static bool Applies(const AdmissionRequest& request) {
    return request.IsResource("", "pods") && request.subresource.empty() &&
           request.operation == Operation::kCreate;
  }

  static absl::Status Rejected(const AdmissionRequest& request, std::string why) {
    return api::Forbidden(request.type->group_resource(), request.name, std::move(why));
  }

  static absl::Status Schedule(const AdmissionRequest& request, const ::k8s::node::v1::RuntimeClass& chosen,
                               Pod& pod) {
    for (const auto& [key, value] : chosen.scheduling().node_selector()) {
      auto [own, added] = pod.mutable_spec()->mutable_node_selector()->insert({key, value});
      if (!added && own->second != value) {
        return Rejected(request, StrCat("conflict: runtimeClass.scheduling.nodeSelector[", key, "] = ", value,
                                        "; pod.spec.nodeSelector[", key, "] = ", own->second));
      }
    }
    for (const Toleration& toleration : chosen.scheduling().tolerations()) {
      const auto& own = pod.spec().tolerations();
      const std::string bytes = toleration.SerializeAsString();
      if (std::none_of(own.begin(), own.end(),
                       [&](const Toleration& t) { return t.SerializeAsString() == bytes; }))
        *pod.mutable_spec()->add_tolerations() = toleration;
    }
    return absl::OkStatus();
  }
};

}  // namespace

std::unique_ptr<AdmissionPlugin> NewRuntimeClass() { return std::make_unique<RuntimeClass>(); }

}  // namespace keelson::master
