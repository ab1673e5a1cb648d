#include "master/controllers/pod_ranking.h"

#include <absl/container/flat_hash_map.h>
#include <absl/strings/numbers.h>

#include <algorithm>
#include <tuple>

#include "api/time.h"

namespace keelson::master {

namespace corev1 = ::k8s::core::v1;

namespace {

constexpr char kDeletionCost[] = "controller.kubernetes.io/pod-deletion-cost";

int PhaseRank(const std::string& phase) { return phase == "Pending" ? 0 : phase == "Running" ? 2 : 1; }

int64_t DeletionCost(const corev1::Pod& pod) {
  auto it = pod.metadata().annotations().find(kDeletionCost);
  int32_t cost = 0;
  return it != pod.metadata().annotations().end() && absl::SimpleAtoi(it->second, &cost) ? cost : 0;
}

int MaxRestarts(const corev1::Pod& pod) {
  int most = 0;
  for (const auto& status : pod.status().container_statuses()) most = std::max(most, status.restart_count());
  return most;
}

}  // namespace

bool IsPodActive(const corev1::Pod& pod) {
  return pod.status().phase() != "Succeeded" && pod.status().phase() != "Failed" &&
         !pod.metadata().has_deletion_timestamp();
}

const corev1::PodCondition* FindPodCondition(const corev1::Pod& pod, std::string_view type) {
  for (const auto& condition : pod.status().conditions()) {
    if (condition.type() == type) return &condition;
  }
  return nullptr;
}

bool IsPodReady(const corev1::Pod& pod) {
  const auto* ready = FindPodCondition(pod, "Ready");
  return ready != nullptr && ready->status() == "True";
}

bool IsPodAvailable(const corev1::Pod& pod, absl::Duration min_ready, absl::Time now,
                    std::optional<absl::Duration>* again) {
  if (!IsPodReady(pod)) return false;
  if (min_ready <= absl::ZeroDuration()) return true;
  absl::Duration left = api::ToAbsl(FindPodCondition(pod, "Ready")->last_transition_time()) + min_ready - now;
  if (left <= absl::ZeroDuration()) return true;
  if (again != nullptr && (!again->has_value() || left < **again)) *again = left;
  return false;
}

void SortForDeletion(std::vector<PodPtr>* pods) {
  absl::flat_hash_map<std::string, int> per_node;
  for (const PodPtr& pod : *pods) ++per_node[pod->spec().node_name()];
  struct Ranked {
    std::tuple<int, int, int, int64_t, int, int64_t, int, int64_t, std::string> rank;
    PodPtr pod;
  };
  std::vector<Ranked> ranked;
  for (const PodPtr& pod : *pods) {
    const auto* ready = FindPodCondition(*pod, "Ready");
    int64_t ready_since_s = IsPodReady(*pod) ? ready->last_transition_time().seconds() : 0;
    ranked.push_back(
        {{pod->spec().node_name().empty() ? 0 : 1, PhaseRank(pod->status().phase()), IsPodReady(*pod) ? 1 : 0,
          DeletionCost(*pod), -per_node[pod->spec().node_name()], -ready_since_s, -MaxRestarts(*pod),
          -pod->metadata().creation_timestamp().seconds(), pod->metadata().name()},
         pod});
  }
  std::sort(ranked.begin(), ranked.end(), [](const Ranked& a, const Ranked& b) { return a.rank < b.rank; });
  for (size_t i = 0; i < ranked.size(); ++i) (*pods)[i] = std::move(ranked[i].pod);
}

}  // namespace keelson::master
