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

// How many nodes of a zone may be given NoExecute taints for their health in a second, and when a zone is in
// so bad a state that it is fewer; upstream's numbers.
struct EvictionRates {
  double normal_per_s = 0.1;
  double secondary_per_s = 0.01;     // of a large zone in trouble; a small one: none
  double unhealthy_fraction = 0.55;  // of nodes that are not ready: trouble, if they are more than two
  int large_zone_nodes = 50;         // more than these are a large zone
};
// For a zone with so many nodes.
double EvictionRate(int ready, int not_ready, const EvictionRates& rates);

// The region and zone a node lies in, by its labels.
std::string ZoneOf(const ::k8s::core::v1::Node& node);
// Not ready, and without a NoExecute taint that says so.
bool LacksEvictionTaint(const ::k8s::core::v1::Node& node);

// When the pod must leave its node for the NoExecute taints: InfinitePast at once, InfiniteFuture never.
absl::Time EvictionTime(const ::k8s::core::v1::Pod& pod, const TaintList& taints);

// A copy with condition Ready=False; nullopt when it is not True now.
std::optional<::k8s::core::v1::PodCondition> NotReadyCondition(const ::k8s::core::v1::Pod& pod,
                                                               absl::Time now);

}  // namespace keelson::master
