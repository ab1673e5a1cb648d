// fieldRef and resourceFieldRef: text from a pod's own fields, for environment variables and downwardAPI
// files. Pure.
#pragma once

#include <absl/status/statusor.h>

#include <string>
#include <string_view>

#include "kubelet/resources.h"
#include "kubelet/types.h"

namespace keelson::kubelet {

// metadata.{name,namespace,uid,labels,annotations}, metadata.labels['k'], metadata.annotations['k'],
// spec.nodeName, spec.serviceAccountName, status.{hostIP,hostIPs,podIP,podIPs}. The status fields are read
// from pod.status(): the caller puts the current ones there. InvalidArgument names another path. Absent
// label: "".
absl::StatusOr<std::string> ExtractFieldPath(const corev1::Pod& pod, std::string_view path);

// limits.* and requests.* of a container, divided and rounded up. A missing limit is the node's
// `allocatable`.
absl::StatusOr<std::string> ExtractResource(const corev1::Pod& pod, const corev1::Container& container,
                                            const corev1::ResourceFieldSelector& selector,
                                            const ResourceList& allocatable);

}  // namespace keelson::kubelet
