// Eviction, the deciding part: which signals are below their thresholds, which pod goes first, which one has
// more on the node's disk than it may, what its status says. Pure; eviction_manager.h measures and acts.
// Order and wording as upstream's.
#pragma once

#include <absl/time/time.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kubelet/types.h"

namespace keelson::kubelet {

// In the order in which they are dealt with.
enum class Signal {
  kMemoryAvailable,
  kNodefsAvailable,
  kNodefsInodesFree,
  kImagefsAvailable,
  kImagefsInodesFree,
  kPidAvailable,
};
inline constexpr Signal kAllSignals[] = {Signal::kMemoryAvailable,   Signal::kNodefsAvailable,
                                         Signal::kNodefsInodesFree,  Signal::kImagefsAvailable,
                                         Signal::kImagefsInodesFree, Signal::kPidAvailable};
std::string_view SignalName(Signal signal);      // "memory.available", as in evictionHard
std::string_view SignalResource(Signal signal);  // "memory", "ephemeral-storage", "inodes", "pids"

enum class Pressure { kMemory, kDisk, kPid };
Pressure PressureOf(Signal signal);

// What there is of a signal: bytes, inodes or processes.
struct Level {
  int64_t available = 0, capacity = 0;
};
using Levels = std::map<Signal, Level>;

struct Shortage {
  Signal signal = Signal::kMemoryAvailable;
  int64_t available = 0, threshold = 0;
  bool soft = false;
};

// Signal -> text: "memory.available" -> "100Mi", "10%", and "1m30s" for the grace.
struct EvictionThresholds {
  std::map<std::string, std::string> hard, soft, minimum_reclaim;
  std::map<std::string, absl::Duration> soft_grace;
};

// Which thresholds are crossed, and since when. A signal that was not measured or has no threshold is never
// short, nor is one whose threshold is 0.
class ThresholdWatch {
 public:
  explicit ThresholdWatch(EvictionThresholds thresholds) : thresholds_(std::move(thresholds)) {}

  struct Verdict {
    std::vector<Shortage> crossed;  // all; they make the node's conditions
    std::vector<Shortage> due;      // those to act on: hard, or soft for their grace. Most urgent first
  };
  // One that was due stays so until the minimum to reclaim is there above the threshold, too.
  Verdict Look(const Levels& levels, absl::Time now);

 private:
  struct State {
    absl::Time since;
    bool due = false;
  };
  const EvictionThresholds thresholds_;
  std::map<std::pair<Signal, bool>, State> crossed_;  // signal and whether it is the soft one
};

// Conditions of the node: set at once, kept until their cause has been gone for the transition period.
class PressureState {
 public:
  // True when a condition changed.
  bool Update(const std::vector<Shortage>& shortages, absl::Time now, absl::Duration transition_period);
  bool memory() const { return set_[0]; }
  bool disk() const { return set_[1]; }
  bool pid() const { return set_[2]; }

 private:
  bool set_[3] = {};
  absl::Time last_seen_[3] = {absl::InfinitePast(), absl::InfinitePast(), absl::InfinitePast()};
};

struct ContainerUsage {
  std::optional<int64_t> memory_bytes, disk_bytes;
};
struct PodUsage {
  PodPtr pod;
  // Absent: not known.
  std::optional<int64_t> memory_bytes;  // working set
  std::optional<int64_t> disk_bytes;    // writable layers, logs, emptyDir on disk
  std::optional<int64_t> processes;
  std::map<std::string, ContainerUsage> containers;
};

// Never evicted: static and mirror pods, and those of system priority.
bool IsCritical(const corev1::Pod& pod);

// In the order of eviction, critical pods left out. Memory and disk: unknown usage first, then more than
// requested, lower priority, most above the request; processes: lower priority, most of them.
std::vector<PodUsage> RankForEviction(std::vector<PodUsage> pods, Signal signal);

// status.message of the evicted pod.
std::string EvictionMessage(const Shortage& shortage, const PodUsage& usage);

// ---- what a pod may have on the node's own disk (KEP-361) ----

// An emptyDir that lies on the disk: not of medium Memory.
bool IsDiskEmptyDir(const corev1::Volume& volume);
// Such a volume with a sizeLimit.
bool HasSizeLimit(const corev1::Volume& volume);
// A container of it is limited in ephemeral-storage.
bool HasEphemeralStorageLimit(const corev1::Pod& pod);

struct LocalStorageUsage {
  std::map<std::string, int64_t> empty_dir_bytes;  // by volume
  std::map<std::string, int64_t> container_bytes;  // logs, and the writable layer where it is on that disk
  int64_t pod_bytes = 0;                           // all of it
};
// status.message of a pod that is to be evicted for it; "" : it keeps to its limits.
std::string LocalStorageViolation(const corev1::Pod& pod, const LocalStorageUsage& usage);

}  // namespace keelson::kubelet
