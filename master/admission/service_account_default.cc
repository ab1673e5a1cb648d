// ServiceAccount, the part without tokens: every pod names an account that exists, and pulls its images with
// that account's secrets unless it names its own. Mirror pods are left alone.
#include "api/core/v1/config.pb.h"
#include "api/core/v1/pod.pb.h"
#include "api/status_error.h"
#include "base/strings.h"
#include "master/admission/admission.h"
#include "master/admission/pod_references.h"

namespace keelson::master {
namespace {

using ::k8s::core::v1::ServiceAccount;

class ServiceAccountDefault : public AdmissionPlugin {
 public:
  std::string_view name() const override { return "ServiceAccount"; }

  absl::Status Admit(AdmissionRequest& request, const ClusterReader& cluster) const override {
    if (!request.IsResource("", "pods") || !request.subresource.empty() ||
        request.operation != Operation::kCreate) {
      return absl::OkStatus();
    }
    auto& pod = static_cast<::k8s::core::v1::Pod&>(*request.object);
    if (IsMirrorPod(pod)) return absl::OkStatus();
    auto& spec = *pod.mutable_spec();
    if (spec.service_account_name().empty()) {
      spec.set_service_account_name(spec.service_account().empty() ? kDefaultServiceAccount
                                                                   : spec.service_account());
    }
    spec.set_service_account(spec.service_account_name());
    const std::string& name = spec.service_account_name();
    auto account = api::As<ServiceAccount>(cluster.Read("", "serviceaccounts", request.ns, name));
    if (account == nullptr) {
      return api::Forbidden(request.type->group_resource(), request.name,
                            StrCat("error looking up service account ", request.ns, "/", name,
                                   ": serviceaccount \"", name, "\" not found"));
    }
    if (spec.image_pull_secrets().empty()) {
      *spec.mutable_image_pull_secrets() = account->image_pull_secrets();
    }
    return absl::OkStatus();
  }
};

}  // namespace

std::unique_ptr<AdmissionPlugin> NewServiceAccountDefault() {
  return std::make_unique<ServiceAccountDefault>();
}

}  // namespace keelson::master
