// Filters: can this node take this pod? One function per plugin, named as upstream's; pure. The texts are
// what users read in events ("node(s) were unschedulable") and are upstream's to the letter.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/core/v1/pod.pb.h"
#include "master/scheduler/node_cache.h"
#include "master/scheduler/pod_info.h"

namespace keelson::master {

struct Rejection {
  std::string_view plugin;
  std::vector<std::string> reasons;
  bool unresolvable = false;  // removing pods from the node would not help
};

// Null: the plugin has no objection.
using FilterFunction = std::optional<Rejection> (*)(const PodInfo& pod, const NodeInfo& node);

std::optional<Rejection> FilterNodeUnschedulable(const PodInfo& pod, const NodeInfo& node);
std::optional<Rejection> FilterNodeName(const PodInfo& pod, const NodeInfo& node);
std::optional<Rejection> FilterTaintToleration(const PodInfo& pod, const NodeInfo& node);
std::optional<Rejection> FilterNodeAffinity(const PodInfo& pod, const NodeInfo& node);
std::optional<Rejection> FilterNodePorts(const PodInfo& pod, const NodeInfo& node);
std::optional<Rejection> FilterNodeResourcesFit(const PodInfo& pod, const NodeInfo& node);

// All of them in upstream's order; the first objection.
std::optional<Rejection> RunFilters(const PodInfo& pod, const NodeInfo& node);

// Required fields this scheduler does not implement, by path ("spec.affinity.podAffinity"); "" when there is
// none.
std::string UnsupportedField(const ::k8s::core::v1::PodSpec& spec);

// ---- shared with scores and controllers ----
bool Tolerates(const ::k8s::core::v1::Toleration& toleration, const ::k8s::core::v1::Taint& taint);
bool ToleratesTaint(const google::protobuf::RepeatedPtrField<::k8s::core::v1::Toleration>& tolerations,
                    const ::k8s::core::v1::Taint& taint);
bool MatchesTerm(const ::k8s::core::v1::NodeSelectorTerm& term, const ::k8s::core::v1::Node& node);

}  // namespace keelson::master
