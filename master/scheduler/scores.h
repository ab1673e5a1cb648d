// Scores: how good is a node that can take the pod? Each plugin gives 0..100, higher is better; the weights
// are upstream's. Pure.
#pragma once

#include <cstdint>
#include <vector>

#include "master/scheduler/node_cache.h"
#include "master/scheduler/pod_info.h"

namespace keelson::master {

inline constexpr int64_t kMaxNodeScore = 100;

// Share of cpu and memory left with the pod on the node (NodeResourcesFit, LeastAllocated).
int64_t ScoreLeastAllocated(const PodInfo& pod, const NodeInfo& node);
// How evenly cpu and memory would be used (NodeResourcesBalancedAllocation).
int64_t ScoreBalancedAllocation(const PodInfo& pod, const NodeInfo& node);
// The next three are raw: they become scores only in comparison (Normalize).
int64_t CountPodsOfSameOwner(const PodInfo& pod, const NodeInfo& node);              // fewer is better
int64_t CountIntolerablePreferNoSchedule(const PodInfo& pod, const NodeInfo& node);  // fewer is better
int64_t SumPreferredNodeAffinity(const PodInfo& pod, const NodeInfo& node);          // more is better
// Raw values to 0..100 in place, relative to the largest; `reverse`: the smallest raw value is the best.
void Normalize(bool reverse, std::vector<int64_t>* raw);

// Weighted sums, one per node, in the order given.
std::vector<int64_t> ScoreNodes(const PodInfo& pod, const std::vector<const NodeInfo*>& nodes);

}  // namespace keelson::master
