// TaintNodesByCondition: a new Node takes no pods until the node lifecycle controller has seen it ready.
#include "api/core/v1/node.pb.h"
#include "master/admission/admission.h"

namespace keelson::master {
namespace {

class TaintNodesByCondition : public AdmissionPlugin {
 public:
  std::string_view name() const override { return "TaintNodesByCondition"; }

  absl::Status Admit(AdmissionRequest& request, const ClusterReader&) const override {
    if (!request.IsResource("", "nodes") || !request.subresource.empty() ||
        request.operation != Operation::kCreate) {
      return absl::OkStatus();
    }
    auto& node = static_cast<::k8s::core::v1::Node&>(*request.object);
    for (const auto& taint : node.spec().taints()) {
      if (taint.key() == "node.kubernetes.io/not-ready" && taint.effect() == "NoSchedule")
        return absl::OkStatus();
    }
    auto* taint = node.mutable_spec()->add_taints();
    taint->set_key("node.kubernetes.io/not-ready");
    taint->set_effect("NoSchedule");
    return absl::OkStatus();
  }
};

}  // namespace

std::unique_ptr<AdmissionPlugin> NewTaintNodesByCondition() {
  return std::make_unique<TaintNodesByCondition>();
}

}  // namespace keelson::master
