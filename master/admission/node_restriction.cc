// NodeRestriction: what a kubelet's own credentials may change (its Node, its Lease, its CSINode, its pods),
// finer than the authorizer can say.
#include "api/coordination/v1/coordination.pb.h"
#include "api/core/v1/node.pb.h"
#include "api/core/v1/pod.pb.h"
#include "api/status_error.h"
#include "base/strings.h"
#include "master/admission/admission.h"

namespace keelson::master {
namespace {

using ::k8s::core::v1::Pod;

class NodeRestriction : public AdmissionPlugin {
 public:
  std::string_view name() const override { return "NodeRestriction"; }

  absl::Status Admit(AdmissionRequest& request, const ClusterReader&) const override {
    std::string_view node = request.user->NodeName();
    if (node.empty()) return absl::OkStatus();
    if (request.IsResource("", "pods")) return AdmitPod(request, node);
    if (request.IsResource("", "nodes")) return AdmitNode(request, node);
    if (request.IsResource("coordination.k8s.io", "leases")) return AdmitLease(request, node);
    if (request.IsResource("storage.k8s.io", "csinodes")) return AdmitCsiNode(request, node);
    return absl::OkStatus();
  }

 private:
  static absl::Status Deny(const AdmissionRequest& request, std::string why) {
    return api::Forbidden(request.type->group_resource(), request.name, why);
  }

  static absl::Status AdmitPod(const AdmissionRequest& request, std::string_view node) {
    if (request.subresource == "eviction") return absl::OkStatus();
    if (request.operation == Operation::kCreate) {
      const auto& pod = static_cast<const Pod&>(*request.object);
      if (pod.metadata().annotations().count("kubernetes.io/config.mirror") == 0) {
        return Deny(request, StrCat("pod does not have \"kubernetes.io/config.mirror\" annotation, node \"",
                                    node, "\" can only create mirror pods"));
      }
      if (pod.spec().node_name() != node) {
        return Deny(request,
                    StrCat("node \"", node, "\" can only create pods with spec.nodeName set to itself"));
      }
      if (!pod.spec().service_account_name().empty()) {
        return Deny(request,
                    StrCat("node \"", node, "\" can not create pods that reference a service account"));
      }
      for (const auto& v : pod.spec().volumes()) {
        if (v.volume_source().has_secret() || v.volume_source().has_config_map()) {
          return Deny(request,
                      StrCat("node \"", node, "\" can not create pods that reference secrets or configmaps"));
        }
      }
      return absl::OkStatus();
    }
    const auto& pod = static_cast<const Pod&>(*request.old_object);
    if (pod.spec().node_name() != node) {
      return Deny(request, StrCat("node \"", node, "\" can only ",
                                  request.operation == Operation::kDelete ? "delete pods"
                                                                          : "update pod status for pods",
                                  " with spec.nodeName set to itself"));
    }
    if (request.operation == Operation::kUpdate && request.subresource != "status") {
      return Deny(request, StrCat("node \"", node, "\" cannot update spec of pods"));
    }
    return absl::OkStatus();
  }

  static absl::Status AdmitNode(const AdmissionRequest& request, std::string_view node) {
    if (request.operation == Operation::kDelete) {
      return Deny(request, StrCat("node \"", node, "\" is not allowed to delete nodes"));
    }
    const std::string& name = api::Meta(*request.object).name();
    if (name != node)
      return Deny(request, StrCat("node \"", node, "\" is not allowed to modify node \"", name, "\""));
    if (request.operation != Operation::kUpdate) return absl::OkStatus();
    const auto& now = static_cast<const ::k8s::core::v1::Node&>(*request.object);
    const auto& old = static_cast<const ::k8s::core::v1::Node&>(*request.old_object);
    bool same = now.spec().taints_size() == old.spec().taints_size();
    for (int i = 0; same && i < now.spec().taints_size(); ++i) {
      same = now.spec().taints(i).SerializeAsString() == old.spec().taints(i).SerializeAsString();
    }
    if (!same) return Deny(request, StrCat("node \"", node, "\" is not allowed to modify taints"));
    return absl::OkStatus();
  }

  static absl::Status AdmitLease(const AdmissionRequest& request, std::string_view node) {
    if (request.ns != "kube-node-lease") {
      return Deny(request, StrCat("can only access leases in the \"kube-node-lease\" system namespace"));
    }
    std::string name = request.name;
    if (request.operation == Operation::kCreate) name = api::Meta(*request.object).name();
    if (name != node)
      return Deny(request, StrCat("can only access node lease with the same name as the requesting node"));
    return absl::OkStatus();
  }

  static absl::Status AdmitCsiNode(const AdmissionRequest& request, std::string_view node) {
    std::string name = request.name;
    if (request.operation == Operation::kCreate) name = api::Meta(*request.object).name();
    if (name != node)
      return Deny(request, StrCat("can only access CSINode with the same name as the requesting node"));
    return absl::OkStatus();
  }
};

}  // namespace

std::unique_ptr<AdmissionPlugin> NewNodeRestriction() { return std::make_unique<NodeRestriction>(); }

}  // namespace keelson::master
