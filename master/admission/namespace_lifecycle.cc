// NamespaceLifecycle: nothing new in a namespace that does not exist or is being deleted; the namespaces the
// system lives in cannot be deleted.
#include "api/core/v1/namespace.pb.h"
#include "api/status_error.h"
#include "base/strings.h"
#include "master/admission/admission.h"

namespace keelson::master {
namespace {

// As api::Forbidden, with the cause clients look for.
absl::Status NamespaceTerminating(const AdmissionRequest& request) {
  absl::Status forbidden = api::Forbidden(
      request.type->group_resource(), request.name,
      StrCat("unable to create new content in namespace ", request.ns, " because it is being terminated"));
  api::ApiStatus status = api::ToApiStatus(forbidden);
  auto* cause = status.mutable_details()->add_causes();
  cause->set_reason("NamespaceTerminating");
  cause->set_message(StrCat("namespace ", request.ns, " is being terminated"));
  cause->set_field("metadata.namespace");
  return api::FromApiStatus(std::move(status));
}

class NamespaceLifecycle : public AdmissionPlugin {
 public:
  std::string_view name() const override { return "NamespaceLifecycle"; }

  absl::Status Admit(AdmissionRequest& request, const ClusterReader& cluster) const override {
    if (request.IsResource("", "namespaces")) {
      bool immortal =
          request.name == "default" || request.name == "kube-system" || request.name == "kube-public";
      if (request.operation == Operation::kDelete && immortal) {
        return api::Forbidden(request.type->group_resource(), request.name,
                              "this namespace may not be deleted");
      }
      return absl::OkStatus();
    }
    if (request.ns.empty() || request.operation != Operation::kCreate) return absl::OkStatus();
    // Reviews answer about any namespace.
    if (request.type->gvk.group == "authorization.k8s.io") return absl::OkStatus();
    api::ObjectPtr object = cluster.Read("", "namespaces", "", request.ns);
    if (object == nullptr) return api::NotFound({"", "namespaces"}, request.ns);
    const auto& ns = static_cast<const ::k8s::core::v1::Namespace&>(*object);
    if (ns.status().phase() == "Terminating") return NamespaceTerminating(request);
    return absl::OkStatus();
  }
};

}  // namespace

std::unique_ptr<AdmissionPlugin> NewNamespaceLifecycle() { return std::make_unique<NamespaceLifecycle>(); }

}  // namespace keelson::master
