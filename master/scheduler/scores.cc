#include "master/scheduler/scores.h"

#include <algorithm>
#include <cmath>

#include "master/scheduler/filters.h"

namespace keelson::master {

namespace {

constexpr int64_t kWeightLeastAllocated = 1;
constexpr int64_t kWeightBalancedAllocation = 1;
constexpr int64_t kWeightSpread = 2;
constexpr int64_t kWeightTaintToleration = 3;
constexpr int64_t kWeightNodeAffinity = 2;

int64_t LeastRequested(int64_t requested, int64_t capacity) {
  if (capacity <= 0 || requested > capacity) return 0;
  return (capacity - requested) * kMaxNodeScore / capacity;
}

double Fraction(int64_t requested, int64_t capacity) {
  return capacity <= 0 ? 1.0 : std::min(1.0, static_cast<double>(requested) / static_cast<double>(capacity));
}

void AddWeighted(const std::vector<int64_t>& scores, int64_t weight, std::vector<int64_t>* total) {
  for (size_t i = 0; i < scores.size(); ++i) (*total)[i] += weight * scores[i];
}

using Raw = int64_t (*)(const PodInfo& pod, const NodeInfo& node);

void AddNormalized(const PodInfo& pod, const std::vector<const NodeInfo*>& nodes, Raw raw, bool reverse,
                   int64_t weight, std::vector<int64_t>* total) {
  std::vector<int64_t> values;
  values.reserve(nodes.size());
  for (const NodeInfo* node : nodes) values.push_back(raw(pod, *node));
  Normalize(reverse, &values);
  AddWeighted(values, weight, total);
}

}  // namespace

int64_t ScoreLeastAllocated(const PodInfo& pod, const NodeInfo& node) {
  const ResourceAmounts& total = node.allocatable();
  return (LeastRequested(node.scored_cpu_milli() + pod.scored_cpu_milli, total.cpu_milli) +
          LeastRequested(node.scored_memory_bytes() + pod.scored_memory_bytes, total.memory_bytes)) /
         2;
}

int64_t ScoreBalancedAllocation(const PodInfo& pod, const NodeInfo& node) {
  const ResourceAmounts& total = node.allocatable();
  double cpu = Fraction(node.requested().cpu_milli + pod.requests.cpu_milli, total.cpu_milli);
  double memory = Fraction(node.requested().memory_bytes + pod.requests.memory_bytes, total.memory_bytes);
  // The standard deviation of two values is half their distance.
  return static_cast<int64_t>((1.0 - std::abs(cpu - memory) / 2.0) * static_cast<double>(kMaxNodeScore));
}

int64_t CountPodsOfSameOwner(const PodInfo& pod, const NodeInfo& node) {
  return pod.owner_uid.empty() ? 0 : node.PodsOfOwner(pod.owner_uid);
}

int64_t CountIntolerablePreferNoSchedule(const PodInfo& pod, const NodeInfo& node) {
  int64_t count = 0;
  for (const auto& taint : node.node()->spec().taints()) {
    count += taint.effect() == "PreferNoSchedule" && !ToleratesTaint(pod.pod->spec().tolerations(), taint);
  }
  return count;
}

int64_t SumPreferredNodeAffinity(const PodInfo& pod, const NodeInfo& node) {
  int64_t sum = 0;
  for (const auto& preferred :
       pod.pod->spec().affinity().node_affinity().preferred_during_scheduling_ignored_during_execution()) {
    const auto& term = preferred.preference();
    // Unlike a required term, an empty preferred one matches every node.
    bool empty = term.match_expressions().empty() && term.match_fields().empty();
    if (empty || MatchesTerm(term, *node.node())) sum += preferred.weight();
  }
  return sum;
}

void Normalize(bool reverse, std::vector<int64_t>* raw) {
  int64_t max = 0;
  for (int64_t value : *raw) max = std::max(max, value);
  for (int64_t& value : *raw) {
    int64_t share = max == 0 ? 0 : value * kMaxNodeScore / max;
    value = reverse ? kMaxNodeScore - share : share;
  }
}

std::vector<int64_t> ScoreNodes(const PodInfo& pod, const std::vector<const NodeInfo*>& nodes) {
  std::vector<int64_t> total(nodes.size(), 0);
  for (size_t i = 0; i < nodes.size(); ++i) {
    total[i] = kWeightLeastAllocated * ScoreLeastAllocated(pod, *nodes[i]) +
               kWeightBalancedAllocation * ScoreBalancedAllocation(pod, *nodes[i]);
  }
  AddNormalized(pod, nodes, CountPodsOfSameOwner, true, kWeightSpread, &total);
  AddNormalized(pod, nodes, CountIntolerablePreferNoSchedule, true, kWeightTaintToleration, &total);
  AddNormalized(pod, nodes, SumPreferredNodeAffinity, false, kWeightNodeAffinity, &total);
  return total;
}

}  // namespace keelson::master
