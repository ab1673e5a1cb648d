// ServiceAccount, the part without tokens: every pod names an account. Mirror pods are left alone.
#include "api/core/v1/pod.pb.h"
#include "master/admission/admission.h"

namespace keelson::master {
namespace {

class ServiceAccountDefault : public AdmissionPlugin {
 public:
  std::string_view name() const override { return "ServiceAccount"; }

  absl::Status Admit(AdmissionRequest& request, const ClusterReader&) const override {
    if (!request.IsResource("", "pods") || !request.subresource.empty() ||
        request.operation != Operation::kCreate) {
      return absl::OkStatus();
    }
    auto& pod = static_cast<::k8s::core::v1::Pod&>(*request.object);
    if (pod.metadata().annotations().count("kubernetes.io/config.mirror") != 0) return absl::OkStatus();
    if (pod.spec().service_account_name().empty()) {
      pod.mutable_spec()->set_service_account_name(
          pod.spec().service_account().empty() ? "default" : pod.spec().service_account());
    }
    pod.mutable_spec()->set_service_account(pod.spec().service_account_name());
    return absl::OkStatus();
  }
};

}  // namespace

std::unique_ptr<AdmissionPlugin> NewServiceAccountDefault() {
  return std::make_unique<ServiceAccountDefault>();
}

}  // namespace keelson::master
