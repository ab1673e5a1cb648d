// DefaultTolerationSeconds: a pod that says nothing about not-ready and unreachable nodes stays 300 s.
#include "api/core/v1/pod.pb.h"
#include "master/admission/admission.h"

namespace keelson::master {
namespace {

constexpr int64_t kDefaultTolerationSeconds = 300;
constexpr const char* kKeys[] = {"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"};

class DefaultTolerationSeconds : public AdmissionPlugin {
 public:
  std::string_view name() const override { return "DefaultTolerationSeconds"; }

  absl::Status Admit(AdmissionRequest& request, const ClusterReader&) const override {
    if (!request.IsResource("", "pods") || !request.subresource.empty() || request.object == nullptr ||
        request.operation != Operation::kCreate) {
      return absl::OkStatus();
    }
    auto& pod = static_cast<::k8s::core::v1::Pod&>(*request.object);
    for (const char* key : kKeys) {
      bool tolerated = false;
      for (const auto& t : pod.spec().tolerations()) {
        tolerated |= (t.key() == key || t.key().empty()) && (t.effect() == "NoExecute" || t.effect().empty());
      }
      if (tolerated) continue;
      auto* t = pod.mutable_spec()->add_tolerations();
      t->set_key(key);
      t->set_operator_("Exists");
      t->set_effect("NoExecute");
      t->set_toleration_seconds(kDefaultTolerationSeconds);
    }
    return absl::OkStatus();
  }
};

}  // namespace

std::unique_ptr<AdmissionPlugin> NewDefaultTolerationSeconds() {
  return std::make_unique<DefaultTolerationSeconds>();
}

}  // namespace keelson::master
