#include "kubelet/eviction.h"

#include <algorithm>
#include <array>
#include <compare>

#include "api/quantity.h"
#include "base/strings.h"
#include "kubelet/node_status.h"
#include "kubelet/resources.h"

namespace keelson::kubelet {
namespace {

constexpr int32_t kSystemCriticalPriority = 2'000'000'000;

struct SignalFacts {
  const char* name;
  const char* resource;
  Pressure pressure;
};
const SignalFacts& FactsOf(Signal signal) {
  static constexpr SignalFacts kFacts[] = {
      {"memory.available", "memory", Pressure::kMemory},
      {"nodefs.available", "ephemeral-storage", Pressure::kDisk},
      {"nodefs.inodesFree", "inodes", Pressure::kDisk},
      {"imagefs.available", "ephemeral-storage", Pressure::kDisk},
      {"imagefs.inodesFree", "inodes", Pressure::kDisk},
      {"pid.available", "pids", Pressure::kPid},
  };
  return kFacts[static_cast<size_t>(signal)];
}

int64_t Requested(const ResourceList& requests, std::string_view resource) {
  auto it = requests.find(std::string(resource));
  return it == requests.end() ? 0 : it->second.Value();
}

std::optional<int64_t> Used(const PodUsage& usage, Signal signal) {
  switch (PressureOf(signal)) {
    case Pressure::kMemory:
      return usage.memory_bytes;
    case Pressure::kDisk:
      return usage.disk_bytes;
    case Pressure::kPid:
      break;
  }
  return usage.processes;
}

// Smaller goes first.
using EvictionKey = std::array<int64_t, 4>;

EvictionKey KeyOf(const PodUsage& usage, Signal signal) {
  const std::optional<int64_t> used = Used(usage, signal);
  const int64_t priority = usage.pod->spec().has_priority() ? usage.pod->spec().priority() : 0;
  if (PressureOf(signal) == Pressure::kPid) return {0, 0, priority, -used.value_or(0)};
  const char* resource = PressureOf(signal) == Pressure::kMemory ? "memory" : "ephemeral-storage";
  const int64_t above = used.value_or(0) - Requested(PodRequests(*usage.pod), resource);
  return {used.has_value() ? 1 : 0, above > 0 ? 0 : 1, priority, -above};
}

std::string Amount(Signal signal, int64_t value) {
  const std::string_view resource = SignalResource(signal);
  const bool bytes = resource == "memory" || resource == "ephemeral-storage";
  return api::Quantity::FromValue(
             value, bytes ? api::Quantity::Format::kBinarySI : api::Quantity::Format::kDecimalSI)
      .ToString();
}

// Of a threshold's text; 0 where it says nothing.
int64_t AmountOf(const std::string& text, const Level& level) {
  absl::StatusOr<int64_t> amount = ThresholdBytes(text, level.capacity);
  return amount.ok() ? *amount : 0;
}

bool MoreThan(int64_t bytes, const api::Quantity& limit) { return api::Quantity::FromValue(bytes) > limit; }

}  // namespace

std::string_view SignalName(Signal signal) { return FactsOf(signal).name; }
std::string_view SignalResource(Signal signal) { return FactsOf(signal).resource; }
Pressure PressureOf(Signal signal) { return FactsOf(signal).pressure; }

ThresholdWatch::Verdict ThresholdWatch::Look(const Levels& levels, absl::Time now) {
  Verdict out;
  for (Signal signal : kAllSignals) {
    const std::string name(SignalName(signal));
    auto level = levels.find(signal);
    for (const bool soft : {false, true}) {
      const auto& thresholds = soft ? thresholds_.soft : thresholds_.hard;
      auto threshold = thresholds.find(name);
      if (threshold == thresholds.end()) continue;
      auto known = crossed_.find({signal, soft});
      const bool was_due = known != crossed_.end() && known->second.due;
      int64_t least = 0, enough = 0;
      if (level != levels.end()) {
        least = AmountOf(threshold->second, level->second);
        enough = least;
        auto reclaim = thresholds_.minimum_reclaim.find(name);
        if (was_due && reclaim != thresholds_.minimum_reclaim.end())
          enough += AmountOf(reclaim->second, level->second);
      }
      if (level == levels.end() || least == 0 || level->second.available >= enough) {
        if (known != crossed_.end()) crossed_.erase(known);
        continue;
      }
      State& state = crossed_.try_emplace({signal, soft}, State{now}).first->second;
      auto grace = thresholds_.soft_grace.find(name);
      state.due = !soft || (grace != thresholds_.soft_grace.end() && now - state.since >= grace->second);
      const Shortage shortage = {signal, level->second.available, least, soft};
      out.crossed.push_back(shortage);
      if (state.due) out.due.push_back(shortage);
    }
  }
  return out;
}

bool PressureState::Update(const std::vector<Shortage>& shortages, absl::Time now,
                           absl::Duration transition_period) {
  bool seen[3] = {};
  for (const Shortage& shortage : shortages) seen[static_cast<size_t>(PressureOf(shortage.signal))] = true;
  bool changed = false;
  for (size_t i = 0; i < 3; ++i) {
    if (seen[i]) last_seen_[i] = now;
    const bool set = seen[i] || (set_[i] && now - last_seen_[i] < transition_period);
    changed = changed || set != set_[i];
    set_[i] = set;
  }
  return changed;
}

bool IsCritical(const corev1::Pod& pod) {
  return IsStaticPod(pod) || IsMirrorPod(pod) ||
         (pod.spec().has_priority() && pod.spec().priority() >= kSystemCriticalPriority);
}

std::vector<PodUsage> RankForEviction(std::vector<PodUsage> pods, Signal signal) {
  std::erase_if(pods, [](const PodUsage& usage) { return IsCritical(*usage.pod); });
  std::stable_sort(pods.begin(), pods.end(), [signal](const PodUsage& a, const PodUsage& b) {
    return KeyOf(a, signal) < KeyOf(b, signal);
  });
  return pods;
}

std::string EvictionMessage(const Shortage& shortage, const PodUsage& usage) {
  const std::string_view resource = SignalResource(shortage.signal);
  std::string message = StrCat("The node was low on resource: ", resource,
                               ". Threshold quantity: ", Amount(shortage.signal, shortage.threshold),
                               ", available: ", Amount(shortage.signal, shortage.available), ". ");
  if (resource != "memory" && resource != "ephemeral-storage") return message;
  for (const auto& container : usage.pod->spec().containers()) {
    auto found = usage.containers.find(container.name());
    if (found == usage.containers.end()) continue;
    const std::optional<int64_t>& used =
        resource == "memory" ? found->second.memory_bytes : found->second.disk_bytes;
    if (!used.has_value()) continue;
    auto request = container.resources().requests().find(std::string(resource));
    const api::Quantity requested = request == container.resources().requests().end()
                                        ? api::Quantity::FromValue(0)
                                        : api::Quantity::Of(request->second);
    if (*used <= requested.Value()) continue;
    StrAppend(&message, "Container ", container.name(), " was using ", Amount(shortage.signal, *used),
              ", request is ", requested.ToString(), ", has larger consumption of ", resource, ". ");
  }
  return message;
}

bool IsDiskEmptyDir(const corev1::Volume& volume) {
  return volume.volume_source().has_empty_dir() && volume.volume_source().empty_dir().medium().empty();
}

bool HasSizeLimit(const corev1::Volume& volume) {
  return IsDiskEmptyDir(volume) && volume.volume_source().empty_dir().has_size_limit() &&
         api::Quantity::Of(volume.volume_source().empty_dir().size_limit()).Sign() > 0;
}

bool HasEphemeralStorageLimit(const corev1::Pod& pod) {
  return PodLimits(pod).count("ephemeral-storage") > 0;
}

std::string LocalStorageViolation(const corev1::Pod& pod, const LocalStorageUsage& usage) {
  for (const auto& volume : pod.spec().volumes()) {
    auto used = usage.empty_dir_bytes.find(volume.name());
    if (!HasSizeLimit(volume) || used == usage.empty_dir_bytes.end()) continue;
    const api::Quantity limit = api::Quantity::Of(volume.volume_source().empty_dir().size_limit());
    if (MoreThan(used->second, limit)) {
      return StrCat("Usage of EmptyDir volume \"", volume.name(), "\" exceeds the limit \"", limit.ToString(),
                    "\". ");
    }
  }
  const ResourceList limits = PodLimits(pod);
  auto of_pod = limits.find("ephemeral-storage");
  if (of_pod != limits.end() && MoreThan(usage.pod_bytes, of_pod->second)) {
    return StrCat("Pod ephemeral local storage usage exceeds the total limit of containers ",
                  of_pod->second.ToString(), ". ");
  }
  for (const auto& container : pod.spec().containers()) {
    const api::Quantity limit = GetQuantity(container.resources().limits(), "ephemeral-storage");
    auto used = usage.container_bytes.find(container.name());
    if (limit.IsZero() || used == usage.container_bytes.end() || !MoreThan(used->second, limit)) continue;
    return StrCat("Container ", container.name(), " exceeded its local ephemeral storage limit \"",
                  limit.ToString(), "\". ");
  }
  return "";
}

}  // namespace keelson::kubelet
