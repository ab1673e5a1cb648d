#include "master/apiserver/authorizer.h"

#include <algorithm>
#include <initializer_list>

#include "api/core/v1/pod.pb.h"
#include "api/fields.h"
#include "api/status_error.h"
#include "base/strings.h"
#include "master/admission/pod_references.h"

namespace keelson::master {
namespace {

using ::k8s::core::v1::Pod;

bool OneOf(std::string_view value, std::initializer_list<std::string_view> choices) {
  return std::find(choices.begin(), choices.end(), value) != choices.end();
}
bool IsRead(std::string_view verb) { return OneOf(verb, {"get", "list", "watch"}); }

// Paths whoever asks may read.
bool IsPublicPath(std::string_view path) {
  return OneOf(path, {"/livez", "/readyz", "/version", "/version/"});
}
// Discovery and schemas, single checks of the server's health and its old name: for everyone who is
// authenticated.
bool IsDiscoveryPath(std::string_view path) {
  return OneOf(path, {"/", "/api", "/api/", "/apis", "/apis/", "/openapi", "/healthz"}) ||
         path.starts_with("/healthz/") || path.starts_with("/livez/") || path.starts_with("/readyz/") ||
         path.starts_with("/api/") || path.starts_with("/apis/") || path.starts_with("/openapi/");
}

bool References(const Pod& pod, std::string_view resource, std::string_view name) {
  bool found = false;
  ForEachReference(pod, [&](std::string_view r, std::string_view n) { found |= r == resource && n == name; });
  return found;
}

// Some pod bound to the node uses the object. A mirror pod, which the node itself has written, opens nothing.
bool NodeReferences(const ClusterReader& cluster, std::string_view node, const AuthAttributes& a) {
  bool found = false;
  cluster.ForEach("", "pods", a.ns, [&](const api::Message& m) {
    const auto& pod = static_cast<const Pod&>(m);
    found = pod.spec().node_name() == node && !IsMirrorPod(pod) && References(pod, a.resource, a.name);
    return !found;
  });
  return found;
}

// Which of its pods a node changes is checked by NodeRestriction. It reads its own: of one that is gone it
// may know that, but not wait for another of that name.
bool MayReadPods(std::string_view node, const AuthAttributes& a, const ClusterReader& cluster) {
  const bool one = a.verb == "get";
  if (!one && a.node_name == node) return true;
  if (a.ns.empty() || a.name.empty()) return false;  // a name in all namespaces is no pod of anybody
  api::ObjectPtr pod = cluster.Read("", "pods", a.ns, a.name);
  return pod == nullptr ? one : static_cast<const Pod&>(*pod).spec().node_name() == node;
}

bool NodeMay(std::string_view node, const AuthAttributes& a, const ClusterReader& cluster) {
  const std::string& v = a.verb;
  if (a.group == "" && a.resource == "pods") {
    if (a.subresource.empty() && IsRead(v)) return MayReadPods(node, a, cluster);
    if (a.subresource.empty()) return v == "create" || v == "delete";
    if (a.subresource == "status") {
      return v == "get" ? MayReadPods(node, a, cluster) : OneOf(v, {"update", "patch"});
    }
    return a.subresource == "eviction" && v == "create";
  }
  if (a.group == "" && a.resource == "nodes") {
    if (IsRead(v)) return a.name == node;
    if (v == "create") return a.subresource.empty();
    return OneOf(v, {"update", "patch"}) && (a.name.empty() || a.name == node);
  }
  if (a.group == "" && OneOf(a.resource, {"secrets", "configmaps", "serviceaccounts"})) {
    // List and watch of one object by field selector are asked with its name set. Across all namespaces a
    // name would mean the secrets of others as well.
    return IsRead(v) && a.subresource.empty() && !a.ns.empty() && !a.name.empty() &&
           NodeReferences(cluster, node, a);
  }
  if (a.group == "" && OneOf(a.resource, {"services", "endpoints", "namespaces"})) return IsRead(v);
  if (OneOf(a.group, {"", "events.k8s.io"}) && a.resource == "events")
    return OneOf(v, {"create", "update", "patch"});
  if (a.group == "discovery.k8s.io" && a.resource == "endpointslices") return IsRead(v);
  if (a.group == "node.k8s.io" && a.resource == "runtimeclasses") return IsRead(v);
  if (a.group == "scheduling.k8s.io" && a.resource == "priorityclasses") return IsRead(v);
  if (a.group == "storage.k8s.io" && a.resource == "csidrivers") return IsRead(v);
  if (a.group == "storage.k8s.io" && a.resource == "csinodes") {
    return OneOf(v, {"get", "create", "update", "patch", "delete"}) && (a.name.empty() || a.name == node);
  }
  if (a.group == "certificates.k8s.io" && a.resource == "podcertificaterequests") return IsRead(v);
  if (a.group == "coordination.k8s.io" && a.resource == "leases") {
    return a.ns == "kube-node-lease" && OneOf(v, {"get", "create", "update", "patch", "delete"}) &&
           (a.name.empty() || a.name == node);
  }
  if (a.group == "authentication.k8s.io") return v == "create" && OneOf(a.resource, {"tokenreviews"});
  if (a.group == "authorization.k8s.io") return v == "create";
  return false;
}

bool ProxyMay(const AuthAttributes& a) {
  if (a.group == "" && OneOf(a.resource, {"services", "endpoints", "nodes", "pods", "namespaces"})) {
    // Pods and namespaces for cluster DNS, which runs in the proxy.
    return IsRead(a.verb) && a.subresource.empty();
  }
  if (a.group == "discovery.k8s.io" && a.resource == "endpointslices") return IsRead(a.verb);
  if (OneOf(a.group, {"", "events.k8s.io"}) && a.resource == "events") {
    return OneOf(a.verb, {"create", "update", "patch"});
  }
  return false;
}

}  // namespace

void SetSelected(const api::FieldSelector& fields, AuthAttributes& attributes) {
  attributes.name = fields.RequiresExactMatch("metadata.name").value_or("");
  attributes.node_name = fields.RequiresExactMatch("spec.nodeName").value_or("");
}

bool IsAllowed(const AuthAttributes& a, const ClusterReader& cluster) {
  if (a.user->IsMaster()) return true;
  const bool authenticated = a.user->InGroup(kGroupAuthenticated);
  if (a.resource.empty()) {
    if (IsPublicPath(a.path)) return a.verb == "get" || a.verb == "head";
    return authenticated && IsDiscoveryPath(a.path) && a.verb == "get";
  }
  if (!authenticated) return false;
  // What upstream's system:basic-user gives to everyone.
  if (a.group == "authorization.k8s.io" && a.resource == "selfsubjectaccessreviews")
    return a.verb == "create";
  if (a.group == "authentication.k8s.io" && a.resource == "selfsubjectreviews") return a.verb == "create";
  std::string_view node = a.user->NodeName();
  if (!node.empty()) return NodeMay(node, a, cluster);
  if (a.user->name == kUserKubeProxy) return ProxyMay(a);
  return false;
}

absl::Status ForbiddenError(const AuthAttributes& a) {
  if (a.resource.empty()) {
    std::string message =
        StrCat("forbidden: User \"", a.user->name, "\" cannot ", a.verb, " path \"", a.path, "\"");
    api::ApiStatus status;
    status.set_status("Failure");
    status.set_message(message);
    status.set_reason("Forbidden");
    status.set_code(403);
    status.mutable_details();
    return api::FromApiStatus(std::move(status));
  }
  std::string resource = a.subresource.empty() ? a.resource : StrCat(a.resource, "/", a.subresource);
  std::string where =
      a.ns.empty() ? std::string(" at the cluster scope") : StrCat(" in the namespace \"", a.ns, "\"");
  return api::Forbidden({a.group, a.resource}, a.name,
                        StrCat("User \"", a.user->name, "\" cannot ", a.verb, " resource \"", resource,
                               "\" in API group \"", a.group, "\"", where));
}

}  // namespace keelson::master
