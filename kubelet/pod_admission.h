// Whether this node takes a pod. Pure. Reasons and messages as upstream; the rejected pod becomes Failed.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "api/core/v1/node.pb.h"
#include "kubelet/options.h"
#include "kubelet/resources.h"
#include "kubelet/types.h"

namespace keelson::kubelet {

struct Rejection {
  std::string
      reason;  // NodeAffinity, NodePorts, OutOfcpu, OutOfpods, UnsupportedFields, SysctlForbidden, ...
  std::string message;
};

struct AdmissionInputs {
  // Null: labels are not checked (a node without an API server).
  const ::k8s::core::v1::Node* node = nullptr;
  ResourceList allocatable;
  bool memory_pressure = false, disk_pressure = false, pid_pressure = false;
  std::vector<PodPtr> others;  // active pods already taken
};

std::optional<Rejection> AdmitPod(const corev1::Pod& pod, const AdmissionInputs& inputs,
                                  const KubeletOptions& options);

// Fields that are set and for which this kubelet refuses the pod, by JSON path ("spec.resourceClaims").
std::vector<std::string> UnsupportedFields(const corev1::Pod& pod);

// nodeSelector and required node affinity.
bool MatchesNode(const corev1::Pod& pod, const ::k8s::core::v1::Node& node);

}  // namespace keelson::kubelet
