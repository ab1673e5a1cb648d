#include "cgroups/qos_tree.h"

#include <algorithm>

#include "base/status.h"
#include "base/strings.h"
#include "cgroups/conversions.h"
#include "cgroups/fs_util.h"
#include "cgroups/text.h"

namespace keelson::cgroups {

namespace {

constexpr std::string_view kKubepods = "kubepods";
constexpr std::string_view kPodPrefix = "pod";

std::string_view QosDirectory(QosClass qos) {
  switch (qos) {
    case QosClass::kGuaranteed:
      return "";
    case QosClass::kBurstable:
      return "burstable";
    case QosClass::kBestEffort:
      return "besteffort";
  }
  return "";
}

}  // namespace

Resources PodResources(const PodRequirements& pod) {
  Resources resources;
  resources.cpu_shares = kMinShares;
  if (pod.qos != QosClass::kBestEffort) {
    resources.cpu_shares = MilliCpuToShares(pod.cpu_request_milli);
    // Limits hold for the pod only when every container has one; the caller passes 0 otherwise.
    if (pod.cpu_limit_milli > 0 && pod.enforce_cpu_quota) {
      resources.cpu_quota_us = MilliCpuToQuotaUs(pod.cpu_limit_milli, pod.cpu_period_us);
      resources.cpu_period_us = pod.cpu_period_us;
    } else {
      resources.cpu_quota_us = -1;  // also when an update took the limit away
    }
    resources.memory_limit_bytes = pod.memory_limit_bytes > 0 ? pod.memory_limit_bytes : -1;
  }
  if (pod.pids_limit > 0) resources.pids_limit = pod.pids_limit;
  resources.hugepage_limit_bytes = pod.hugepage_limit_bytes;
  return resources;
}

QosTree::QosTree(Manager& manager, QosTreeOptions options) : manager_(manager), options_(std::move(options)) {
  // "/", "/a" and "a/" as users write --cgroup-root.
  std::string& root = options_.root;
  while (root.starts_with("/")) root.erase(0, 1);
  while (root.ends_with("/")) root.pop_back();
}

std::string QosTree::KubepodsPath() const {
  std::string name = JoinPath(options_.root, kKubepods);
  return options_.systemd_names ? ToSystemdPath(name) : name;
}

std::string QosTree::QosPath(QosClass qos) const {
  std::string name = JoinPath(options_.root, kKubepods);
  if (qos != QosClass::kGuaranteed) name = JoinPath(name, QosDirectory(qos));
  return options_.systemd_names ? ToSystemdPath(name) : name;
}

std::string QosTree::PodPath(std::string_view uid, QosClass qos) const {
  std::string name = JoinPath(options_.root, kKubepods);
  if (qos != QosClass::kGuaranteed) name = JoinPath(name, QosDirectory(qos));
  name = JoinPath(name, StrCat(kPodPrefix, uid));
  return options_.systemd_names ? ToSystemdPath(name) : name;
}

std::string QosTree::CgroupParent(std::string_view uid, QosClass qos) const {
  std::string path = PodPath(uid, qos);
  if (options_.systemd_names) return path.substr(path.rfind('/') + 1);
  return StrCat("/", path);
}

std::string QosTree::UidOf(std::string_view name) {
  std::string component(name);
  if (name.ends_with(kSliceSuffix)) {
    auto path = FromSystemdPath(name);
    if (!path.ok()) return "";
    component = path->substr(path->rfind('/') + 1);
  }
  if (!component.starts_with(kPodPrefix)) return "";
  return component.substr(kPodPrefix.size());
}

void QosTree::UseCgroupfs() {
  options_.systemd_names = false;
  options_.units = nullptr;
}

void QosTree::UseSystemd(SystemdUnits* units) {
  options_.systemd_names = true;
  options_.units = units;
}

absl::Status QosTree::Make(const std::string& path, const Resources& resources) {
  if (options_.units != nullptr) {
    RETURN_IF_ERROR(options_.units->EnsureSlice(path.substr(path.rfind('/') + 1), resources));
  }
  // On v2 systemd alone hands controllers down, and takes back what others enable; of v1's hierarchies it
  // makes the cgroup in some only.
  if (options_.units == nullptr || manager_.layout().mode != Mode::kV2)
    RETURN_IF_ERROR(manager_.Create(path));
  // Also what systemd did: its figures are rounded.
  return manager_.Apply(path, resources);
}

absl::Status QosTree::Setup(const Resources& node_allocatable) {
  RETURN_IF_ERROR(Make(KubepodsPath(), node_allocatable));
  RETURN_IF_ERROR(Make(QosPath(QosClass::kBurstable), Resources()));
  Resources minimum;
  minimum.cpu_shares = kMinShares;
  return Make(QosPath(QosClass::kBestEffort), minimum);
}

absl::Status QosTree::UpdateQosShares(int64_t burstable_cpu_request_milli) {
  Resources resources;
  resources.cpu_shares = MilliCpuToShares(burstable_cpu_request_milli);
  if (options_.units == nullptr) return manager_.Apply(QosPath(QosClass::kBurstable), resources);
  if (burstable_shares_ == resources.cpu_shares) return absl::OkStatus();
  RETURN_IF_ERROR(Make(QosPath(QosClass::kBurstable), resources));
  burstable_shares_ = resources.cpu_shares;
  return absl::OkStatus();
}

absl::Status QosTree::EnsurePod(std::string_view uid, const PodRequirements& pod) {
  if (uid.empty() || uid.find('/') != std::string_view::npos) {
    return absl::InvalidArgumentError(StrCat("pod UID \"", uid.substr(0, 100), "\" cannot name a cgroup"));
  }
  std::string path = PodPath(uid, pod.qos);
  return Make(path, PodResources(pod));
}

absl::Status QosTree::RemovePod(std::string_view uid, QosClass qos) {
  std::string path = PodPath(uid, qos);
  RETURN_IF_ERROR(manager_.KillAll(path));
  if (options_.units != nullptr) {
    RETURN_IF_ERROR(options_.units->StopSlice(path.substr(path.rfind('/') + 1)));
  }
  return manager_.Destroy(path);
}

absl::StatusOr<std::map<std::string, std::string>> QosTree::ListPods() {
  std::map<std::string, std::string> pods;
  for (QosClass qos : {QosClass::kGuaranteed, QosClass::kBurstable, QosClass::kBestEffort}) {
    std::string parent = QosPath(qos);
    auto names = manager_.Children(parent);
    if (absl::IsNotFound(names.status())) continue;
    if (!names.ok()) return names.status();
    for (const auto& name : *names) {
      std::string uid = UidOf(name);
      if (!uid.empty()) pods.emplace(uid, JoinPath(parent, name));
    }
  }
  return pods;
}

absl::StatusOr<Stats> QosTree::PodStats(std::string_view uid, QosClass qos) {
  return manager_.ReadStats(PodPath(uid, qos));
}

}  // namespace keelson::cgroups
