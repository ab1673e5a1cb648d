// Pure decisions about a node's health: conditions when it falls silent, taints that follow from conditions,
// and which pods may stay on a tainted node for how long. Names, reasons and texts are upstream's node
// lifecycle controller's.
#pragma once

#include <absl/time/time.h>

#include <optional>
#include <string>
#include <vector>

#include "api/core/v1/node.pb.h"
#include "api/core/v1/pod.pb.h"
#include "api/core/v1/pod_template.pb.h"

namespace keelson::master {

using TaintList = google::protobuf::RepeatedPtrField<::k8s::core::v1::Taint>;

const ::k8s::core::v1::NodeCondition* FindNodeCondition(const ::k8s::core::v1::Node& node,
                                                        std::string_view type);
// "True", "False", "Unknown"; "" when the condition is missing.
std::string ReadyStatus(const ::k8s::core::v1::Node& node);

// The conditions to write for a node that fell silent: Ready, MemoryPressure, DiskPressure and PIDPressure
// become Unknown. Empty: all of them are already.
std::vector<::k8s::core::v1::NodeCondition> SilentConditions(const ::k8s::core::v1::Node& node,
                                                             absl::Time now);

// Every taint the node should have: ours by its conditions and spec.unschedulable, the others as they are.
// NoExecute taints are only set when `evict`.
TaintList DesiredTaints(const ::k8s::core::v1::Node& node, bool evict, absl::Time now);
bool SameTaints(const TaintList& a, const TaintList& b);

// When the pod must leave its node for the NoExecute taints: InfinitePast at once, InfiniteFuture never.
absl::Time EvictionTime(const ::k8s::core::v1::Pod& pod, const TaintList& taints);

// A copy with condition Ready=False; nullopt when it is not True now.
std::optional<::k8s::core::v1::PodCondition> NotReadyCondition(const ::k8s::core::v1::Pod& pod,
                                                               absl::Time now);

}  // namespace keelson::master
