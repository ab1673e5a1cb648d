#include "kubelet/types.h"

#include <absl/strings/numbers.h>

#include <algorithm>

namespace keelson::kubelet {
namespace {

const std::string& Annotation(const corev1::Pod& pod, const char* key) {
  static const std::string kNone;
  auto it = pod.metadata().annotations().find(key);
  return it == pod.metadata().annotations().end() ? kNone : it->second;
}

}  // namespace

std::string PodFullName(const corev1::Pod& pod) {
  return StrCat(pod.metadata().name(), "_", pod.metadata().namespace_());
}

std::string PodName(const corev1::Pod& pod) {
  return StrCat(pod.metadata().namespace_(), "/", pod.metadata().name());
}

bool IsStaticPod(const corev1::Pod& pod) {
  const std::string& source = Annotation(pod, kAnnotationConfigSource);
  return !source.empty() && source != "api";
}

bool IsMirrorPod(const corev1::Pod& pod) { return !Annotation(pod, kAnnotationConfigMirror).empty(); }

bool IsDeleting(const corev1::Pod& pod) { return pod.metadata().has_deletion_timestamp(); }

bool IsRestartableInit(const corev1::Container& container) {
  return container.has_restart_policy() && container.restart_policy() == "Always";
}

const corev1::Container* FindInitContainer(const corev1::Pod& pod, std::string_view name) {
  for (const auto& c : pod.spec().init_containers()) {
    if (c.name() == name) return &c;
  }
  return nullptr;
}

const corev1::Container* FindContainer(const corev1::Pod& pod, std::string_view name) {
  for (const auto& c : pod.spec().containers()) {
    if (c.name() == name) return &c;
  }
  return FindInitContainer(pod, name);
}

corev1::Container EphemeralAsContainer(const corev1::EphemeralContainer& container) {
  // EphemeralContainerCommon has Container's fields under Container's numbers.
  corev1::Container out;
  out.ParseFromString(container.ephemeral_container_common().SerializeAsString());
  return out;
}

std::string ContainerHash(const corev1::Container& container) {
  uint32_t hash = 2166136261u;
  auto add = [&hash](std::string_view s) {
    for (unsigned char c : s) hash = (hash ^ c) * 16777619u;
  };
  add(container.name());
  add(std::string_view("\0", 1));
  add(container.image());
  return StrCat(absl::Hex(hash));
}

bool IsTerminalPhase(std::string_view phase) { return phase == "Succeeded" || phase == "Failed"; }

const std::string& ContainerName(const criv1::ContainerStatus& status) {
  if (!status.metadata().name().empty()) return status.metadata().name();
  static const std::string kNone;
  auto it = status.labels().find(kLabelContainerName);
  return it == status.labels().end() ? kNone : it->second;
}

int RestartCount(const criv1::ContainerStatus& status) {
  auto it = status.annotations().find(kAnnotationRestartCount);
  int count = 0;
  if (it != status.annotations().end() && absl::SimpleAtoi(it->second, &count)) return count;
  return static_cast<int>(status.metadata().attempt());
}

const criv1::ContainerStatus* RuntimePodStatus::Find(std::string_view container_name) const {
  for (const auto& c : containers) {
    if (ContainerName(c) == container_name) return &c;
  }
  return nullptr;
}

const criv1::ContainerStatus* RuntimePodStatus::FindActive(std::string_view container_name) const {
  for (const auto& c : containers) {
    if (ContainerName(c) != container_name) continue;
    auto it = sandbox_of.find(c.id());
    if (it == sandbox_of.end() || sandboxes.empty() || it->second == sandboxes.front().id()) return &c;
  }
  return nullptr;
}

const criv1::ContainerStatus* RuntimePodStatus::FindById(std::string_view container_id) const {
  for (const auto& c : containers) {
    if (c.id() == container_id) return &c;
  }
  return nullptr;
}

bool RuntimePodStatus::AnyContainerRunning() const {
  return std::any_of(containers.begin(), containers.end(),
                     [](const auto& c) { return c.state() == criv1::CONTAINER_RUNNING; });
}

bool RuntimePodStatus::AnySandboxReady() const {
  return std::any_of(sandboxes.begin(), sandboxes.end(),
                     [](const auto& s) { return s.state() == criv1::SANDBOX_READY; });
}

int64_t EffectiveGracePeriodS(const corev1::Pod& pod, const int64_t* override_s) {
  int64_t grace_s = 30;
  if (override_s != nullptr) {
    grace_s = *override_s;
  } else if (pod.metadata().has_deletion_grace_period_seconds()) {
    grace_s = pod.metadata().deletion_grace_period_seconds();
  } else if (pod.spec().has_termination_grace_period_seconds()) {
    grace_s = pod.spec().termination_grace_period_seconds();
  }
  return std::max<int64_t>(grace_s, 1);
}

}  // namespace keelson::kubelet
