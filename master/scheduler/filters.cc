#include "master/scheduler/filters.h"

#include <absl/strings/numbers.h>

#include <algorithm>

#include "base/strings.h"

namespace keelson::master {

namespace corev1 = ::k8s::core::v1;

namespace {

constexpr char kUnschedulableTaint[] = "node.kubernetes.io/unschedulable";

bool MatchesRequirement(const corev1::NodeSelectorRequirement& requirement, const std::string* value) {
  const auto& values = requirement.values();
  const std::string& op = requirement.operator_();
  if (op == "Exists") return value != nullptr;
  if (op == "DoesNotExist") return value == nullptr;
  if (op == "In") return value != nullptr && std::find(values.begin(), values.end(), *value) != values.end();
  if (op == "NotIn")
    return value == nullptr || std::find(values.begin(), values.end(), *value) == values.end();
  if (op != "Gt" && op != "Lt") return false;
  int64_t have = 0, bound = 0;
  if (value == nullptr || values.size() != 1) return false;
  if (!absl::SimpleAtoi(*value, &have) || !absl::SimpleAtoi(values.Get(0), &bound)) return false;
  return op == "Gt" ? have > bound : have < bound;
}

bool MatchesRequired(const corev1::NodeSelector& selector, const corev1::Node& node) {
  for (const auto& term : selector.node_selector_terms()) {
    if (MatchesTerm(term, node)) return true;
  }
  return false;
}

Rejection Unresolvable(std::string_view plugin, std::string reason) {
  Rejection out{plugin, {}, true};
  out.reasons.push_back(std::move(reason));
  return out;
}

}  // namespace

bool Tolerates(const corev1::Toleration& toleration, const corev1::Taint& taint) {
  if (!toleration.effect().empty() && toleration.effect() != taint.effect()) return false;
  if (!toleration.key().empty() && toleration.key() != taint.key()) return false;
  if (toleration.operator_() == "Exists") return true;
  if (toleration.operator_().empty() || toleration.operator_() == "Equal") {
    return !toleration.key().empty() && toleration.value() == taint.value();
  }
  return false;
}

bool ToleratesTaint(const google::protobuf::RepeatedPtrField<corev1::Toleration>& tolerations,
                    const corev1::Taint& taint) {
  return std::any_of(tolerations.begin(), tolerations.end(),
                     [&](const corev1::Toleration& toleration) { return Tolerates(toleration, taint); });
}

bool MatchesTerm(const corev1::NodeSelectorTerm& term, const corev1::Node& node) {
  if (term.match_expressions().empty() && term.match_fields().empty()) return false;
  for (const auto& requirement : term.match_expressions()) {
    auto it = node.metadata().labels().find(requirement.key());
    if (!MatchesRequirement(requirement, it == node.metadata().labels().end() ? nullptr : &it->second))
      return false;
  }
  for (const auto& requirement : term.match_fields()) {
    const std::string* value = requirement.key() == "metadata.name" ? &node.metadata().name() : nullptr;
    if (!MatchesRequirement(requirement, value)) return false;
  }
  return true;
}

std::optional<Rejection> FilterNodeUnschedulable(const PodInfo& pod, const NodeInfo& node) {
  if (!node.node()->spec().unschedulable()) return std::nullopt;
  corev1::Taint taint;
  taint.set_key(kUnschedulableTaint);
  taint.set_effect("NoSchedule");
  if (ToleratesTaint(pod.pod->spec().tolerations(), taint)) return std::nullopt;
  return Unresolvable("NodeUnschedulable", "node(s) were unschedulable");
}

std::optional<Rejection> FilterNodeName(const PodInfo& pod, const NodeInfo& node) {
  const std::string& wanted = pod.pod->spec().node_name();
  if (wanted.empty() || wanted == node.name()) return std::nullopt;
  return Unresolvable("NodeName", "node(s) didn't match the requested node name");
}

std::optional<Rejection> FilterTaintToleration(const PodInfo& pod, const NodeInfo& node) {
  for (const auto& taint : node.node()->spec().taints()) {
    if (taint.effect() != "NoSchedule" && taint.effect() != "NoExecute") continue;
    if (ToleratesTaint(pod.pod->spec().tolerations(), taint)) continue;
    return Unresolvable("TaintToleration",
                        StrCat("node(s) had untolerated taint {", taint.key(), ": ", taint.value(), "}"));
  }
  return std::nullopt;
}

std::optional<Rejection> FilterNodeAffinity(const PodInfo& pod, const NodeInfo& node) {
  const corev1::PodSpec& spec = pod.pod->spec();
  bool matches = true;
  const auto& labels = node.node()->metadata().labels();
  for (const auto& [key, value] : spec.node_selector()) {
    auto it = labels.find(key);
    matches = matches && it != labels.end() && it->second == value;
  }
  const corev1::NodeAffinity& affinity = spec.affinity().node_affinity();
  if (matches && affinity.has_required_during_scheduling_ignored_during_execution()) {
    matches = MatchesRequired(affinity.required_during_scheduling_ignored_during_execution(), *node.node());
  }
  if (matches) return std::nullopt;
  return Unresolvable("NodeAffinity", "node(s) didn't match Pod's node affinity/selector");
}

std::optional<Rejection> FilterNodePorts(const PodInfo& pod, const NodeInfo& node) {
  for (const HostPort& port : pod.host_ports) {
    if (!node.HasPortConflict(port)) continue;
    Rejection out{"NodePorts", {}, false};
    out.reasons.push_back("node(s) didn't have free ports for the requested pod ports");
    return out;
  }
  return std::nullopt;
}

std::optional<Rejection> FilterNodeResourcesFit(const PodInfo& pod, const NodeInfo& node) {
  Rejection out{"NodeResourcesFit", {}, false};
  if (node.pod_count() + 1 > node.allowed_pods()) out.reasons.push_back("Too many pods");
  auto check = [&](const char* name, int64_t wanted, int64_t used, int64_t allocatable) {
    if (wanted <= 0 || wanted <= allocatable - used) return;
    out.reasons.push_back(StrCat("Insufficient ", name));
    if (wanted > allocatable) out.unresolvable = true;
  };
  const ResourceAmounts& total = node.allocatable();
  const ResourceAmounts& used = node.requested();
  check("cpu", pod.requests.cpu_milli, used.cpu_milli, total.cpu_milli);
  check("memory", pod.requests.memory_bytes, used.memory_bytes, total.memory_bytes);
  check("ephemeral-storage", pod.requests.ephemeral_storage_bytes, used.ephemeral_storage_bytes,
        total.ephemeral_storage_bytes);
  for (const auto& [name, wanted] : pod.requests.extended) {
    auto have = total.extended.find(name);
    auto taken = used.extended.find(name);
    check(name.c_str(), wanted, taken == used.extended.end() ? 0 : taken->second,
          have == total.extended.end() ? 0 : have->second);
  }
  if (out.reasons.empty()) return std::nullopt;
  return out;
}

std::optional<Rejection> RunFilters(const PodInfo& pod, const NodeInfo& node) {
  static constexpr FilterFunction kFilters[] = {FilterNodeUnschedulable, FilterNodeName,
                                                FilterTaintToleration,   FilterNodeAffinity,
                                                FilterNodePorts,         FilterNodeResourcesFit};
  for (FilterFunction filter : kFilters) {
    std::optional<Rejection> rejection = filter(pod, node);
    if (rejection.has_value()) return rejection;
  }
  return std::nullopt;
}

std::string UnsupportedField(const corev1::PodSpec& spec) {
  const corev1::Affinity& affinity = spec.affinity();
  if (affinity.pod_affinity().required_during_scheduling_ignored_during_execution_size() > 0) {
    return "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution";
  }
  if (affinity.pod_anti_affinity().required_during_scheduling_ignored_during_execution_size() > 0) {
    return "spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution";
  }
  for (int i = 0; i < spec.topology_spread_constraints_size(); ++i) {
    if (spec.topology_spread_constraints(i).when_unsatisfiable() == "DoNotSchedule") {
      return StrCat("spec.topologySpreadConstraints[", i, "].whenUnsatisfiable: DoNotSchedule");
    }
  }
  if (spec.resource_claims_size() > 0) return "spec.resourceClaims";
  return "";
}

}  // namespace keelson::master
