#include "master/controllers/node_health.h"

#include <algorithm>

#include "api/time.h"
#include "base/strings.h"
#include "master/controllers/pod_ranking.h"

namespace keelson::master {

namespace corev1 = ::k8s::core::v1;

namespace {

constexpr char kNoSchedule[] = "NoSchedule";
constexpr char kNoExecute[] = "NoExecute";
constexpr char kNotReadyTaint[] = "node.kubernetes.io/not-ready";
constexpr char kUnreachableTaint[] = "node.kubernetes.io/unreachable";
constexpr char kUnschedulableTaint[] = "node.kubernetes.io/unschedulable";

struct PressureTaint {
  const char* condition;
  const char* key;
};
constexpr PressureTaint kPressureTaints[] = {
    {"MemoryPressure", "node.kubernetes.io/memory-pressure"},
    {"DiskPressure", "node.kubernetes.io/disk-pressure"},
    {"PIDPressure", "node.kubernetes.io/pid-pressure"},
    {"NetworkUnavailable", "node.kubernetes.io/network-unavailable"}};

bool IsOurs(const corev1::Taint& taint) {
  bool health = taint.key() == kNotReadyTaint || taint.key() == kUnreachableTaint;
  if (taint.effect() == kNoExecute) return health;
  if (taint.effect() != kNoSchedule) return false;
  return health || taint.key() == kUnschedulableTaint ||
         std::any_of(std::begin(kPressureTaints), std::end(kPressureTaints),
                     [&](const PressureTaint& pressure) { return taint.key() == pressure.key; });
}

const corev1::Taint* FindTaint(const TaintList& taints, std::string_view key, std::string_view effect) {
  for (const corev1::Taint& taint : taints) {
    if (taint.key() == key && taint.effect() == effect) return &taint;
  }
  return nullptr;
}

// Same rule as the scheduler's, for one toleration.
bool ToleratesNoExecute(const corev1::Toleration& toleration, const corev1::Taint& taint) {
  if (!toleration.effect().empty() && toleration.effect() != taint.effect()) return false;
  if (!toleration.key().empty() && toleration.key() != taint.key()) return false;
  if (toleration.operator_() == "Exists") return true;
  return !toleration.key().empty() && toleration.value() == taint.value();
}

}  // namespace

const corev1::NodeCondition* FindNodeCondition(const corev1::Node& node, std::string_view type) {
  for (const corev1::NodeCondition& condition : node.status().conditions()) {
    if (condition.type() == type) return &condition;
  }
  return nullptr;
}

std::string ReadyStatus(const corev1::Node& node) {
  const corev1::NodeCondition* ready = FindNodeCondition(node, "Ready");
  return ready == nullptr ? "" : ready->status();
}

std::vector<corev1::NodeCondition> SilentConditions(const corev1::Node& node, absl::Time now) {
  std::vector<corev1::NodeCondition> out;
  for (const char* type : {"Ready", "MemoryPressure", "DiskPressure", "PIDPressure"}) {
    const corev1::NodeCondition* current = FindNodeCondition(node, type);
    if (current != nullptr && current->status() == "Unknown") continue;
    corev1::NodeCondition condition;
    condition.set_type(type);
    condition.set_status("Unknown");
    if (current == nullptr) {
      condition.set_reason("NodeStatusNeverUpdated");
      condition.set_message("Kubelet never posted node status.");
      *condition.mutable_last_heartbeat_time() = node.metadata().creation_timestamp();
    } else {
      condition.set_reason("NodeStatusUnknown");
      condition.set_message("Kubelet stopped posting node status.");
      *condition.mutable_last_heartbeat_time() = current->last_heartbeat_time();
    }
    *condition.mutable_last_transition_time() = api::ToApiTime(now);
    out.push_back(std::move(condition));
  }
  return out;
}

TaintList DesiredTaints(const corev1::Node& node, bool evict, absl::Time now) {
  const TaintList& current = node.spec().taints();
  TaintList out;
  for (const corev1::Taint& taint : current) {
    if (!IsOurs(taint)) *out.Add() = taint;
  }
  auto add = [&](const char* key, const char* effect) {
    const corev1::Taint* known = FindTaint(current, key, effect);
    corev1::Taint* taint = out.Add();
    if (known != nullptr) {
      *taint = *known;
      return;
    }
    taint->set_key(key);
    taint->set_effect(effect);
    *taint->mutable_time_added() = api::ToApiTime(now);
  };
  const std::string ready = ReadyStatus(node);
  if (ready != "True") {
    const char* key = ready == "Unknown" ? kUnreachableTaint : kNotReadyTaint;
    add(key, kNoSchedule);
    // A node whose kubelet has not said anything yet has no pods to evict.
    if (evict && !ready.empty()) add(key, kNoExecute);
  }
  for (const PressureTaint& pressure : kPressureTaints) {
    const corev1::NodeCondition* condition = FindNodeCondition(node, pressure.condition);
    if (condition != nullptr && condition->status() == "True") add(pressure.key, kNoSchedule);
  }
  if (node.spec().unschedulable()) add(kUnschedulableTaint, kNoSchedule);
  return out;
}

bool SameTaints(const TaintList& a, const TaintList& b) {
  if (a.size() != b.size()) return false;
  return std::all_of(a.begin(), a.end(), [&](const corev1::Taint& taint) {
    const corev1::Taint* other = FindTaint(b, taint.key(), taint.effect());
    return other != nullptr && other->value() == taint.value();
  });
}

double EvictionRate(int ready, int not_ready, const EvictionRates& rates) {
  constexpr int kMinTrouble = 3;  // nodes
  // A zone with no node left is on its own: elsewhere there are ready ones (the caller's affair).
  if (ready == 0 || not_ready < kMinTrouble) return rates.normal_per_s;
  const int nodes = ready + not_ready;
  if (not_ready < rates.unhealthy_fraction * nodes) return rates.normal_per_s;
  return nodes > rates.large_zone_nodes ? rates.secondary_per_s : 0;
}

std::string ZoneOf(const corev1::Node& node) {
  const auto& labels = node.metadata().labels();
  auto region = labels.find("topology.kubernetes.io/region");
  auto zone = labels.find("topology.kubernetes.io/zone");
  return StrCat(region == labels.end() ? "" : region->second, "/", zone == labels.end() ? "" : zone->second);
}

bool LacksEvictionTaint(const corev1::Node& node) {
  const std::string ready = ReadyStatus(node);
  const TaintList& taints = node.spec().taints();
  return ready != "True" && !ready.empty() && FindTaint(taints, kNotReadyTaint, kNoExecute) == nullptr &&
         FindTaint(taints, kUnreachableTaint, kNoExecute) == nullptr;
}

absl::Time EvictionTime(const corev1::Pod& pod, const TaintList& taints) {
  absl::Time out = absl::InfiniteFuture();
  for (const corev1::Taint& taint : taints) {
    if (taint.effect() != kNoExecute) continue;
    bool tolerated = false;
    absl::Time until = absl::InfiniteFuture();
    for (const corev1::Toleration& toleration : pod.spec().tolerations()) {
      if (!ToleratesNoExecute(toleration, taint)) continue;
      tolerated = true;
      if (!toleration.has_toleration_seconds()) continue;
      if (toleration.toleration_seconds() <= 0) return absl::InfinitePast();
      until =
          std::min(until, api::ToAbsl(taint.time_added()) + absl::Seconds(toleration.toleration_seconds()));
    }
    if (!tolerated) return absl::InfinitePast();
    out = std::min(out, until);
  }
  return out;
}

std::optional<corev1::PodCondition> NotReadyCondition(const corev1::Pod& pod, absl::Time now) {
  const corev1::PodCondition* ready = FindPodCondition(pod, "Ready");
  if (ready == nullptr || ready->status() != "True") return std::nullopt;
  corev1::PodCondition out = *ready;
  out.set_status("False");
  out.set_reason("NodeNotReady");
  *out.mutable_last_transition_time() = api::ToApiTime(now);
  return out;
}

}  // namespace keelson::master
