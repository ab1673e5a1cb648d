#include "kubelet/pod_admission.h"

#include <absl/strings/numbers.h>
#include <absl/strings/str_join.h>

#include <algorithm>

#include "api/sysctl_names.h"
#include "api/unimplemented_fields.h"
#include "base/strings.h"
#include "kubelet/eviction.h"
#include "kubelet/host_ports.h"

namespace keelson::kubelet {
namespace {

// Namespaced in the kernel and harmless to the node (upstream's safe list).
constexpr const char* kSafeSysctls[] = {"kernel.shm_rmid_forced",
                                        "net.ipv4.ip_local_port_range",
                                        "net.ipv4.tcp_syncookies",
                                        "net.ipv4.ping_group_range",
                                        "net.ipv4.ip_unprivileged_port_start",
                                        "net.ipv4.ip_local_reserved_ports",
                                        "net.ipv4.tcp_keepalive_time",
                                        "net.ipv4.tcp_fin_timeout",
                                        "net.ipv4.tcp_keepalive_intvl",
                                        "net.ipv4.tcp_keepalive_probes",
                                        "net.ipv4.tcp_rmem",
                                        "net.ipv4.tcp_wmem"};

bool MatchesRequirement(const corev1::NodeSelectorRequirement& r, const std::string* value) {
  auto in = [&] {
    return value != nullptr && std::find(r.values().begin(), r.values().end(), *value) != r.values().end();
  };
  const std::string& op = r.operator_();
  if (op == "In") return in();
  if (op == "NotIn") return !in();
  if (op == "Exists") return value != nullptr;
  if (op == "DoesNotExist") return value == nullptr;
  int64_t have = 0, want = 0;
  if (value == nullptr || r.values_size() != 1 || !absl::SimpleAtoi(*value, &have) ||
      !absl::SimpleAtoi(r.values(0), &want)) {
    return false;
  }
  return op == "Gt" ? have > want : op == "Lt" ? have < want : false;
}

bool SysctlAllowed(const std::string& name, const KubeletOptions& options) {
  for (const char* safe : kSafeSysctls) {
    if (name == safe) return true;
  }
  for (const std::string& pattern : options.allowed_unsafe_sysctls) {
    if (pattern == name) return true;
    if (!pattern.empty() && pattern.back() == '*' &&
        name.rfind(pattern.substr(0, pattern.size() - 1), 0) == 0)
      return true;
  }
  return false;
}

bool ToleratesMemoryPressure(const corev1::Pod& pod) {
  return std::any_of(pod.spec().tolerations().begin(), pod.spec().tolerations().end(),
                     [](const corev1::Toleration& t) {
                       const bool key = t.key() == "node.kubernetes.io/memory-pressure" && t.value().empty();
                       const bool all = t.key().empty() && t.operator_() == "Exists";
                       return (key || all) && (t.effect().empty() || t.effect() == "NoSchedule");
                     });
}

// The node's conditions that keep this pod away, separated by spaces. Under memory pressure alone only pods
// come in that asked for memory, or that tolerate it.
std::string RefusingConditions(const corev1::Pod& pod, const AdmissionInputs& in) {
  if (IsCritical(pod)) return "";
  if (in.memory_pressure && !in.disk_pressure && !in.pid_pressure &&
      (ComputeQos(pod) != QosClass::kBestEffort || ToleratesMemoryPressure(pod))) {
    return "";
  }
  std::vector<std::string> names;
  if (in.disk_pressure) names.push_back("DiskPressure");
  if (in.memory_pressure) names.push_back("MemoryPressure");
  if (in.pid_pressure) names.push_back("PIDPressure");
  return absl::StrJoin(names, " ");
}

bool SameName(const corev1::Pod& a, const corev1::Pod& b) {
  return a.metadata().name() == b.metadata().name() && a.metadata().namespace_() == b.metadata().namespace_();
}

}  // namespace

std::vector<std::string> UnsupportedFields(const corev1::Pod& pod) {
  std::vector<std::string> out;
  for (api::UnimplementedField& field : api::UnimplementedPodFields(pod.spec(), "spec")) {
    if (field.refused) out.push_back(std::move(field.path));
  }
  return out;
}

bool MatchesNode(const corev1::Pod& pod, const corev1::Node& node) {
  const auto& labels = node.metadata().labels();
  for (const auto& [key, value] : pod.spec().node_selector()) {
    auto it = labels.find(key);
    if (it == labels.end() || it->second != value) return false;
  }
  const auto& affinity = pod.spec().affinity().node_affinity();
  if (!affinity.has_required_during_scheduling_ignored_during_execution()) return true;
  const auto& terms = affinity.required_during_scheduling_ignored_during_execution().node_selector_terms();
  return std::any_of(terms.begin(), terms.end(), [&](const auto& term) {
    if (term.match_expressions_size() + term.match_fields_size() == 0) return false;
    for (const auto& r : term.match_expressions()) {
      auto it = labels.find(r.key());
      if (!MatchesRequirement(r, it == labels.end() ? nullptr : &it->second)) return false;
    }
    for (const auto& r : term.match_fields()) {
      if (r.key() != "metadata.name" || !MatchesRequirement(r, &node.metadata().name())) return false;
    }
    return true;
  });
}

std::optional<Rejection> AdmitPod(const corev1::Pod& pod, const AdmissionInputs& in,
                                  const KubeletOptions& options) {
  std::vector<std::string> unsupported = UnsupportedFields(pod);
  if (!unsupported.empty()) {
    return Rejection{"UnsupportedFields", StrCat("Pod sets fields this kubelet does not implement: ",
                                                 absl::StrJoin(unsupported, ", "))};
  }
  if (std::string conditions = RefusingConditions(pod, in); !conditions.empty()) {
    return Rejection{"Evicted", StrCat("The node had condition: [", conditions, "]. ")};
  }
  for (const auto& sysctl : pod.spec().security_context().sysctls()) {
    const std::string name = api::DottedSysctl(sysctl.name());
    if (!SysctlAllowed(name, options)) {
      return Rejection{"SysctlForbidden", StrCat("forbidden sysctl: \"", name, "\" not allowlisted")};
    }
    const bool host_ipc = pod.spec().host_ipc() && api::IsIpcSysctl(name);
    if (host_ipc || (pod.spec().host_network() && api::IsNetworkSysctl(name))) {
      return Rejection{"SysctlForbidden", StrCat("forbidden sysctl: \"", name, "\" not allowed with host ",
                                                 host_ipc ? "ipc" : "net", " enabled")};
    }
  }
  if (in.node != nullptr && !IsStaticPod(pod) && !MatchesNode(pod, *in.node)) {
    return Rejection{"NodeAffinity",
                     "Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node "
                     "affinity/selector"};
  }
  ResourceList used;
  int64_t count = 0;
  for (const PodPtr& other : in.others) {
    if (PodUid(*other) == PodUid(pod) || IsTerminalPhase(other->status().phase())) continue;
    ++count;
    for (const auto& [name, quantity] : PodRequests(*other)) used[name].Add(quantity);
  }
  if (auto it = in.allocatable.find("pods"); it != in.allocatable.end() && count + 1 > it->second.Value()) {
    return Rejection{"OutOfpods",
                     StrCat("Pod was rejected: Node didn't have enough resource: pods, requested: 1, used: ",
                            count, ", capacity: ", it->second.Value())};
  }
  for (const auto& [name, request] : PodRequests(pod)) {
    if (request.Sign() <= 0) continue;
    auto it = in.allocatable.find(name);
    // Extended resources the node does not offer are the scheduler's business.
    if (it == in.allocatable.end()) continue;
    api::Quantity total = used[name];
    total.Add(request);
    if (total > it->second) {
      const bool cpu = name == "cpu";
      auto amount = [&](const api::Quantity& q) { return cpu ? q.MilliValue() : q.Value(); };
      return Rejection{"OutOf" + name, StrCat("Pod was rejected: Node didn't have enough resource: ", name,
                                              ", requested: ", amount(request), ", used: ",
                                              amount(used[name]), ", capacity: ", amount(it->second))};
    }
  }
  for (const PodPtr& other : in.others) {
    if (PodUid(*other) == PodUid(pod) || IsTerminalPhase(other->status().phase())) continue;
    // What is going frees its ports; so does the static pod whose new version this is. The runtime makes it
    // wait.
    if (other->metadata().has_deletion_timestamp() || SameName(*other, pod)) continue;
    if (!HostPortsConflict(pod, *other)) continue;
    return Rejection{
        "NodePorts",
        "Pod was rejected: Predicate NodePorts failed: node(s) didn't have free ports for the requested "
        "pod ports"};
  }
  return std::nullopt;
}

}  // namespace keelson::kubelet
