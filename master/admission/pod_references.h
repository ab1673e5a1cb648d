// What a pod uses of its namespace, by name. The authorizer opens to a node what its pods reference;
// NodeRestriction lets no node write a pod that references anything.
#pragma once

#include <absl/functional/function_ref.h>

#include <string_view>

namespace k8s::core::v1 {
class Pod;
}

namespace keelson::master {

// Visits the pod's ServiceAccount and each Secret, ConfigMap and PersistentVolumeClaim that its volumes,
// image pulls and containers (also init and ephemeral ones) name; `resource` is "serviceaccounts" and so on.
// A name can come more than once.
void ForEachReference(const ::k8s::core::v1::Pod& pod,
                      absl::FunctionRef<void(std::string_view resource, std::string_view name)> visit);

// A kubelet's image of a static pod of its own.
bool IsMirrorPod(const ::k8s::core::v1::Pod& pod);

}  // namespace keelson::master
