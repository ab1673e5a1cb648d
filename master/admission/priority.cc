// Priority: spec.priority and preemptionPolicy follow from priorityClassName; at most one PriorityClass is
// the global default.
#include <limits>

#include "api/core/v1/pod.pb.h"
#include "api/scheduling/v1/scheduling.pb.h"
#include "api/status_error.h"
#include "base/strings.h"
#include "master/admission/admission.h"

namespace keelson::master {
namespace {

using ::k8s::core::v1::Pod;
using ::k8s::scheduling::v1::PriorityClass;

constexpr const char* kGroup = "scheduling.k8s.io";

class Priority : public AdmissionPlugin {
 public:
  std::string_view name() const override { return "Priority"; }

  absl::Status Admit(AdmissionRequest& request, const ClusterReader& cluster) const override {
    if (!request.IsResource("", "pods") || !request.subresource.empty()) return absl::OkStatus();
    if (request.operation == Operation::kUpdate) return Keep(request);
    if (request.operation != Operation::kCreate) return absl::OkStatus();
    auto& pod = static_cast<Pod&>(*request.object);
    api::ObjectPtr chosen;
    if (pod.spec().priority_class_name().empty()) {
      chosen = GlobalDefault(cluster);
      if (chosen != nullptr) pod.mutable_spec()->set_priority_class_name(api::Meta(*chosen).name());
    } else {
      chosen = cluster.Read(kGroup, "priorityclasses", "", pod.spec().priority_class_name());
      if (chosen == nullptr) {
        return api::Forbidden(
            request.type->group_resource(), request.name,
            StrCat("no PriorityClass with name ", pod.spec().priority_class_name(), " was found"));
      }
    }
    int32_t priority = 0;
    std::string preemption = "PreemptLowerPriority";
    if (chosen != nullptr) {
      const auto& c = static_cast<const PriorityClass&>(*chosen);
      priority = c.value();
      if (c.has_preemption_policy()) preemption = c.preemption_policy();
    }
    if (pod.spec().has_priority() && pod.spec().priority() != priority) {
      return api::Forbidden(
          request.type->group_resource(), request.name,
          StrCat("the integer value of priority (", pod.spec().priority(),
                 ") must not be provided in pod spec; priority admission controller computed ", priority,
                 " from the given PriorityClass name"));
    }
    if (pod.spec().has_preemption_policy() && pod.spec().preemption_policy() != preemption) {
      return api::Forbidden(
          request.type->group_resource(), request.name,
          StrCat("the string value of PreemptionPolicy (", pod.spec().preemption_policy(),
                 ") must not be provided in pod spec; priority admission controller computed ", preemption,
                 " from the given PriorityClass name"));
    }
    pod.mutable_spec()->set_priority(priority);
    pod.mutable_spec()->set_preemption_policy(preemption);
    return absl::OkStatus();
  }

  absl::Status Validate(const AdmissionRequest& request, const ClusterReader& cluster) const override {
    if (!request.IsResource(kGroup, "priorityclasses") || request.object == nullptr) return absl::OkStatus();
    const auto& c = static_cast<const PriorityClass&>(*request.object);
    if (!c.global_default()) return absl::OkStatus();
    api::ObjectPtr other = GlobalDefault(cluster);
    if (other == nullptr || api::Meta(*other).name() == c.metadata().name()) return absl::OkStatus();
    return api::Forbidden(request.type->group_resource(), request.name,
                          StrCat("PriorityClass ", api::Meta(*other).name(),
                                 " is already marked as default. Only one default can exist"));
  }

 private:
  // The values computed at creation survive an update that leaves them out.
  static absl::Status Keep(AdmissionRequest& request) {
    auto& pod = static_cast<Pod&>(*request.object);
    const auto& old = static_cast<const Pod&>(*request.old_object);
    if (!pod.spec().has_priority() && old.spec().has_priority()) {
      pod.mutable_spec()->set_priority(old.spec().priority());
    }
    if (!pod.spec().has_preemption_policy() && old.spec().has_preemption_policy()) {
      pod.mutable_spec()->set_preemption_policy(old.spec().preemption_policy());
    }
    return absl::OkStatus();
  }

  static api::ObjectPtr GlobalDefault(const ClusterReader& cluster) {
    std::string best;
    int32_t value = std::numeric_limits<int32_t>::max();
    cluster.ForEach(kGroup, "priorityclasses", "", [&](const api::Message& m) {
      const auto& c = static_cast<const PriorityClass&>(m);
      if (c.global_default() && (best.empty() || c.value() < value)) {
        best = c.metadata().name();
        value = c.value();
      }
      return true;
    });
    return best.empty() ? nullptr : cluster.Read(kGroup, "priorityclasses", "", best);
  }
};

}  // namespace

std::unique_ptr<AdmissionPlugin> NewPriority() { return std::make_unique<Priority>(); }

}  // namespace keelson::master
