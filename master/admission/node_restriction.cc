// NodeRestriction: what a kubelet's own credentials may change (its Node, its Lease, its CSINode, its pods),
// finer than the authorizer can say.
#include <absl/strings/str_join.h>
#include <google/protobuf/util/message_differencer.h>

#include <algorithm>
#include <set>

#include "api/coordination/v1/coordination.pb.h"
#include "api/core/v1/node.pb.h"
#include "api/core/v1/pod.pb.h"
#include "api/labels.h"
#include "api/status_error.h"
#include "base/strings.h"
#include "master/admission/admission.h"
#include "master/admission/pod_references.h"

namespace keelson::master {
namespace {

using ::k8s::core::v1::Node;
using ::k8s::core::v1::Pod;

template <class Messages>
bool SameMessages(const Messages& a, const Messages& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& x, const auto& y) {
    return google::protobuf::util::MessageDifferencer::Equals(x, y);
  });
}

// Of volumes that stand for something of the API without a name of it; "" for others.
std::string_view ReferringKind(const ::k8s::core::v1::VolumeSource& source) {
  if (source.has_csi()) return "csi volumes";
  if (source.has_ephemeral()) return "ephemeral volumes";
  if (source.has_glusterfs()) return "glusterfs endpoints";
  for (const auto& part : source.projected().sources()) {
    if (part.has_service_account_token()) return "service account tokens";
    if (part.has_cluster_trust_bundle()) return "clustertrustbundles";
    if (part.has_pod_certificate()) return "pod certificates";
  }
  return "";
}

// Labels that a kubelet may not give itself and that the two do not have alike, sorted.
std::vector<std::string> ForbiddenLabels(const api::LabelMap& now, const api::LabelMap& old) {
  std::set<std::string> forbidden;
  for (const auto* map : {&now, &old}) {
    for (const auto& [label, value] : *map) {
      auto a = now.find(label), b = old.find(label);
      const bool same = a != now.end() && b != old.end() && a->second == b->second;
      if (!same && !api::NodeMayLabelItself(label)) forbidden.insert(label);
    }
  }
  return {forbidden.begin(), forbidden.end()};
}

class NodeRestriction : public AdmissionPlugin {
 public:
  std::string_view name() const override { return "NodeRestriction"; }

  absl::Status Admit(AdmissionRequest& request, const ClusterReader& cluster) const override {
    std::string_view node = request.user->NodeName();
    if (node.empty()) return absl::OkStatus();
    if (request.IsResource("", "pods")) return AdmitPod(request, node, cluster);
    if (request.IsResource("", "nodes")) return AdmitNode(request, node);
    if (request.IsResource("coordination.k8s.io", "leases")) return AdmitLease(request, node);
    if (request.IsResource("storage.k8s.io", "csinodes")) return AdmitCsiNode(request, node);
    return absl::OkStatus();
  }

 private:
  static absl::Status Deny(const AdmissionRequest& request, std::string why) {
    return api::Forbidden(request.type->group_resource(), request.name, why);
  }

  static absl::Status AdmitPod(const AdmissionRequest& request, std::string_view node,
                               const ClusterReader& cluster) {
    if (request.subresource == "eviction") return absl::OkStatus();
    if (request.operation == Operation::kCreate) {
      return AdmitMirrorPod(request, static_cast<const Pod&>(*request.object), node, cluster);
    }
    const auto& pod = static_cast<const Pod&>(*request.old_object);
    if (pod.spec().node_name() != node) {
      return Deny(request, StrCat("node \"", node, "\" can only ",
                                  request.operation == Operation::kDelete ? "delete pods"
                                                                          : "update pod status for pods",
                                  " with spec.nodeName set to itself"));
    }
    if (request.operation != Operation::kUpdate) return absl::OkStatus();
    if (request.subresource != "status") {
      return Deny(request, StrCat("node \"", node, "\" cannot update spec of pods"));
    }
    if (!api::SameLabels(pod.metadata().labels(), api::Meta(*request.object).labels())) {
      return Deny(request, StrCat("node \"", node, "\" cannot update labels through pod status"));
    }
    return absl::OkStatus();
  }

  // A node creates only the images of its static pods, which belong to its Node and use nothing else of the
  // cluster.
  static absl::Status AdmitMirrorPod(const AdmissionRequest& request, const Pod& pod, std::string_view node,
                                     const ClusterReader& cluster) {
    if (!IsMirrorPod(pod)) {
      return Deny(request, StrCat("pod does not have \"kubernetes.io/config.mirror\" annotation, node \"",
                                  node, "\" can only create mirror pods"));
    }
    if (pod.spec().node_name() != node) {
      return Deny(request,
                  StrCat("node \"", node, "\" can only create pods with spec.nodeName set to itself"));
    }
    const auto& owners = pod.metadata().owner_references();
    if (owners.size() != 1 || owners[0].api_version() != "v1" || owners[0].kind() != "Node" ||
        owners[0].name() != node) {
      return Deny(request,
                  StrCat("node \"", node, "\" can only create pods with an owner reference set to itself"));
    }
    if (!owners[0].controller()) {
      return Deny(request, StrCat("node \"", node,
                                  "\" can only create pods with a controller owner reference set to itself"));
    }
    if (owners[0].block_owner_deletion()) {
      return Deny(request,
                  StrCat("node \"", node, "\" must not set blockOwnerDeletion on an owner reference"));
    }
    api::ObjectPtr owner = cluster.Read("", "nodes", "", node);
    if (owner == nullptr) return Deny(request, StrCat("node \"", node, "\" does not exist"));
    if (const std::string& uid = api::Meta(*owner).uid(); owners[0].uid() != uid) {
      return Deny(request, StrCat("node ", node, " UID mismatch: expected ", owners[0].uid(), " got ", uid));
    }
    std::string_view used;
    ForEachReference(pod, [&](std::string_view resource, std::string_view) {
      used = resource == "serviceaccounts" ? "a service account" : resource;
    });
    if (used.empty() && pod.spec().resource_claims_size() != 0) used = "resourceclaims";
    for (const auto& volume : pod.spec().volumes()) {
      if (used.empty()) used = ReferringKind(volume.volume_source());
    }
    if (!used.empty()) {
      return Deny(request, StrCat("node \"", node, "\" can not create pods that reference ", used));
    }
    return absl::OkStatus();
  }

  static absl::Status AdmitNode(const AdmissionRequest& request, std::string_view node) {
    if (request.operation == Operation::kDelete) {
      return Deny(request, StrCat("node \"", node, "\" is not allowed to delete nodes"));
    }
    const auto& now = static_cast<const Node&>(*request.object);
    const std::string& name = now.metadata().name();
    if (name != node)
      return Deny(request, StrCat("node \"", node, "\" is not allowed to modify node \"", name, "\""));
    if (request.operation != Operation::kUpdate) {
      return DenyLabels(request, node, ForbiddenLabels(now.metadata().labels(), {}),
                        "set the following labels");
    }
    const auto& old = static_cast<const Node&>(*request.old_object);
    if (!SameMessages(now.spec().taints(), old.spec().taints())) {
      return Deny(request, StrCat("node \"", node, "\" is not allowed to modify taints"));
    }
    if (!SameMessages(now.metadata().owner_references(), old.metadata().owner_references())) {
      return Deny(request, StrCat("node \"", node, "\" is not allowed to modify ownerReferences"));
    }
    return DenyLabels(request, node, ForbiddenLabels(now.metadata().labels(), old.metadata().labels()),
                      "modify labels");
  }

  static absl::Status DenyLabels(const AdmissionRequest& request, std::string_view node,
                                 const std::vector<std::string>& labels, std::string_view what) {
    if (labels.empty()) return absl::OkStatus();
    return Deny(request,
                StrCat("node \"", node, "\" is not allowed to ", what, ": ", absl::StrJoin(labels, ", ")));
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
