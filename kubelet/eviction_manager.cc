#include "kubelet/eviction_manager.h"

#include <absl/strings/numbers.h>
#include <absl/strings/str_split.h>
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <set>
#include <utility>

#include "base/fd.h"
#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"
#include "kubelet/generate_container_config.h"
#include "kubelet/resources.h"

namespace keelson::kubelet {
namespace {

constexpr size_t kMaxTreeEntries = 1'000'000;
constexpr int kMaxTreeDepth = 64;
constexpr int64_t kBlockBytes = 512;  // of st_blocks
constexpr int kWalkPauseFactor = 10;  // at most a tenth of the time is spent on walks for limits
constexpr absl::Duration kCleanupLook = absl::Milliseconds(500);

struct DirClose {
  void operator()(DIR* dir) const { ::closedir(dir); }
};

struct TreeCount {
  size_t entries = 0;
  int64_t bytes = 0;
  std::set<ino_t> linked;  // files of several names that were counted
};

// Adds the disk blocks below `dir`, which it takes; never through a symlink or onto another filesystem.
void AddTree(Fd dir, dev_t device, int depth, TreeCount* count) {
  int fd = dir.get();
  std::unique_ptr<DIR, DirClose> stream(::fdopendir(fd));
  if (stream == nullptr) return;
  (void)dir.release();  // the stream's now
  while (const dirent* entry = ::readdir(stream.get())) {
    std::string_view name = entry->d_name;
    if (name == "." || name == "..") continue;
    if (++count->entries > kMaxTreeEntries) return;
    struct stat st;
    if (::fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0 || st.st_dev != device) continue;
    if (st.st_nlink > 1 && !S_ISDIR(st.st_mode) && !count->linked.insert(st.st_ino).second) continue;
    count->bytes += st.st_blocks * kBlockBytes;
    if (!S_ISDIR(st.st_mode) || depth >= kMaxTreeDepth) continue;
    auto below = OpenBeneath(fd, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (below.ok()) AddTree(*std::move(below), device, depth + 1, count);
  }
}

// Disk space of a tree; 0 when there is none.
int64_t TreeBytes(const std::string& path) {
  auto dir = OpenFile(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  struct stat st;
  if (!dir.ok() || ::fstat(dir->get(), &st) != 0) return 0;
  TreeCount count;
  AddTree(*std::move(dir), st.st_dev, 0, &count);
  return count.bytes;
}

// What of a pod lies on the node's own disk.
struct PodFolders {
  std::string logs, empty_dirs;
};

std::vector<int64_t> FolderBytes(const std::vector<PodFolders>& pods) {
  std::vector<int64_t> out;
  for (const PodFolders& folders : pods)
    out.push_back(TreeBytes(folders.logs) + TreeBytes(folders.empty_dirs));
  return out;
}

// A pod with limits of its own, and what of it is to be measured.
struct LimitedPod {
  PodPtr pod;
  bool whole = false;                              // not only emptyDirs with a sizeLimit
  std::map<std::string, std::string> empty_dirs;   // volume -> folder
  std::map<std::string, std::string> logs;         // container -> folder
  std::vector<std::string> others;                 // folders that count for the pod alone
  std::map<std::string, int64_t> writable_layers;  // container -> bytes
};

std::string VolumesDir(const Paths& paths, const std::string& uid, std::string_view type) {
  return StrCat(paths.kubelet_dir, "/pods/", uid, "/volumes/kubernetes.io~", type);
}

LimitedPod WhatToMeasure(const PodPtr& pod, const Paths& paths) {
  LimitedPod out;
  out.pod = pod;
  out.whole = HasEphemeralStorageLimit(*pod);
  const auto& meta = pod->metadata();
  for (const auto& volume : pod->spec().volumes()) {
    if (IsDiskEmptyDir(volume) && (out.whole || HasSizeLimit(volume)))
      out.empty_dirs[volume.name()] = StrCat(VolumesDir(paths, meta.uid(), "empty-dir"), "/", volume.name());
  }
  if (!out.whole) return out;
  out.others.push_back(VolumesDir(paths, meta.uid(), "configmap"));
  const std::string logs = PodLogsDirectory(paths.pod_logs_dir, meta.namespace_(), meta.name(), meta.uid());
  for (const auto& c : pod->spec().init_containers()) out.logs[c.name()] = StrCat(logs, "/", c.name());
  for (const auto& c : pod->spec().containers()) out.logs[c.name()] = StrCat(logs, "/", c.name());
  for (const auto& c : pod->spec().ephemeral_containers()) {
    const std::string& name = c.ephemeral_container_common().name();
    out.logs[name] = StrCat(logs, "/", name);
  }
  return out;
}

// In the blocking pool. `layers_elsewhere`: writable layers are on another disk than the one containers'
// limits are about.
std::vector<LocalStorageUsage> UsageOf(const std::vector<LimitedPod>& pods, bool layers_elsewhere) {
  std::vector<LocalStorageUsage> out;
  for (const LimitedPod& pod : pods) {
    LocalStorageUsage usage;
    for (const auto& [volume, folder] : pod.empty_dirs) {
      usage.empty_dir_bytes[volume] = TreeBytes(folder);
      usage.pod_bytes += usage.empty_dir_bytes[volume];
    }
    for (const std::string& folder : pod.others) usage.pod_bytes += TreeBytes(folder);
    for (const auto& [container, folder] : pod.logs) {
      usage.container_bytes[container] = TreeBytes(folder);
      usage.pod_bytes += usage.container_bytes[container];
    }
    for (const auto& [container, bytes] : pod.writable_layers) {
      if (!layers_elsewhere) usage.container_bytes[container] += bytes;
      usage.pod_bytes += bytes;
    }
    out.push_back(std::move(usage));
  }
  return out;
}

void AddFilesystem(const std::string& path, Signal space, Signal inodes, Levels* levels) {
  struct statvfs fs;
  if (path.empty() || ::statvfs(path.c_str(), &fs) != 0 || fs.f_blocks == 0) return;
  const int64_t unit = static_cast<int64_t>(fs.f_frsize);
  (*levels)[space] = {static_cast<int64_t>(fs.f_bavail) * unit, static_cast<int64_t>(fs.f_blocks) * unit};
  if (fs.f_files > 0)
    (*levels)[inodes] = {static_cast<int64_t>(fs.f_favail), static_cast<int64_t>(fs.f_files)};
}

void AddMemory(const std::string& proc_root, Levels* levels) {
  auto text = ReadFile(proc_root + "/meminfo", 1 << 20);
  if (!text.ok()) return;
  int64_t total_kib = -1, available_kib = -1;
  for (absl::string_view line : absl::StrSplit(*text, '\n')) {
    std::vector<absl::string_view> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
    if (words.size() < 2) continue;
    if (words[0] == "MemTotal:") (void)absl::SimpleAtoi(words[1], &total_kib);
    if (words[0] == "MemAvailable:") (void)absl::SimpleAtoi(words[1], &available_kib);
  }
  if (total_kib > 0 && available_kib >= 0) {
    (*levels)[Signal::kMemoryAvailable] = {available_kib * 1024, total_kib * 1024};
  }
}

void AddPids(const std::string& proc_root, Levels* levels) {
  auto max = ReadFile(proc_root + "/sys/kernel/pid_max", 64);
  auto load = ReadFile(proc_root + "/loadavg", 256);
  int64_t pid_max = 0, running = 0;
  if (!max.ok() || !load.ok() || !absl::SimpleAtoi(*max, &pid_max)) return;
  size_t slash = load->find('/');
  if (slash == std::string::npos ||
      !absl::SimpleAtoi(load->substr(slash + 1, load->find(' ', slash) - slash - 1), &running)) {
    return;
  }
  (*levels)[Signal::kPidAvailable] = {pid_max - running, pid_max};
}

cgroups::QosClass CgroupQos(const corev1::Pod& pod) {
  switch (ComputeQos(pod)) {
    case QosClass::kGuaranteed:
      return cgroups::QosClass::kGuaranteed;
    case QosClass::kBurstable:
      return cgroups::QosClass::kBurstable;
    case QosClass::kBestEffort:
      break;
  }
  return cgroups::QosClass::kBestEffort;
}

// Adds what the runtime says about its containers to the pods they belong to.
void AddRuntimeStats(const criv1::ListContainerStatsResponse& stats, std::vector<PodUsage>* pods) {
  std::map<std::string_view, PodUsage*> by_uid;
  for (PodUsage& usage : *pods) by_uid[PodUid(*usage.pod)] = &usage;
  for (const auto& container : stats.stats()) {
    const auto& labels = container.attributes().labels();
    auto uid = labels.find(kLabelPodUid), name = labels.find(kLabelContainerName);
    if (uid == labels.end() || name == labels.end() || !by_uid.contains(uid->second)) continue;
    PodUsage& usage = *by_uid[uid->second];
    ContainerUsage& own = usage.containers[name->second];
    if (container.memory().has_working_set_bytes()) {
      own.memory_bytes = static_cast<int64_t>(container.memory().working_set_bytes().value());
      usage.memory_bytes = usage.memory_bytes.value_or(0) + *own.memory_bytes;
    }
    if (container.writable_layer().has_used_bytes()) {
      own.disk_bytes = static_cast<int64_t>(container.writable_layer().used_bytes().value());
      usage.disk_bytes = usage.disk_bytes.value_or(0) + *own.disk_bytes;
    }
  }
}

void MarkEvicted(const std::string& message, bool disruption, corev1::PodStatus* status) {
  status->set_phase("Failed");
  status->set_reason("Evicted");
  status->set_message(message);
  if (!disruption) return;
  corev1::PodCondition* condition = nullptr;
  for (auto& c : *status->mutable_conditions()) {
    if (c.type() == "DisruptionTarget") condition = &c;
  }
  if (condition == nullptr) condition = status->add_conditions();
  condition->set_type("DisruptionTarget");
  condition->set_status("True");
  condition->set_reason("TerminationByKubelet");
  condition->set_message(message);
}

}  // namespace

EvictionManager::EvictionManager(Env& env, EvictionDeps deps, const KubeletOptions& options)
    : env_(env),
      deps_(std::move(deps)),
      options_(options),
      thresholds_({options.eviction_hard, options.eviction_soft, options.eviction_minimum_reclaim,
                   options.eviction_soft_grace}) {}

Levels EvictionManager::ReadLevels() const {
  Levels levels;
  AddMemory(options_.proc_root, &levels);
  AddFilesystem(env_.paths().kubelet_dir, Signal::kNodefsAvailable, Signal::kNodefsInodesFree, &levels);
  AddFilesystem(image_fs_, Signal::kImagefsAvailable, Signal::kImagefsInodesFree, &levels);
  AddPids(options_.proc_root, &levels);
  return levels;
}

std::vector<Shortage> EvictionManager::Look() {
  const absl::Time now = env_.clock().Now();
  ThresholdWatch::Verdict verdict = thresholds_.Look(ReadLevels(), now);
  bool changed = pressure_.Update(verdict.crossed, now, options_.eviction_pressure_transition_period);
  if (changed && deps_.on_change) deps_.on_change();
  return std::move(verdict.due);
}

Task<void> EvictionManager::Run() {
  while (true) {
    Task<void> round = Round();
    co_await std::move(round);
    Task<void> pause = env_.clock().Sleep(kEvictionInterval);
    co_await std::move(pause);
  }
}

Task<void> EvictionManager::FindImageFs() {
  if (!image_fs_.empty()) co_return;
  Task<absl::StatusOr<criv1::ImageFsInfoResponse>> ask =
      deps_.images->ImageFsInfo(criv1::ImageFsInfoRequest());
  absl::StatusOr<criv1::ImageFsInfoResponse> info = co_await std::move(ask);
  if (info.ok() && info->image_filesystems_size() > 0) {
    image_fs_ = info->image_filesystems(0).fs_id().mountpoint();
  }
}

Task<void> EvictionManager::Round() {
  Task<void> find = FindImageFs();
  co_await std::move(find);
  std::vector<Shortage> shortages = Look();
  if (!shortages.empty() && PressureOf(shortages[0].signal) == Pressure::kDisk && deps_.free_disk) {
    Task<void> free = deps_.free_disk();
    co_await std::move(free);
    shortages = Look();
  }
  if (shortages.empty()) co_return;
  const Shortage worst = shortages[0];
  LogWarning(
      "node is short",
      {{"signal", SignalName(worst.signal)}, {"available", worst.available}, {"threshold", worst.threshold}});
  Task<std::vector<PodUsage>> measure = MeasurePods(worst.signal);
  std::vector<PodUsage> usage = co_await std::move(measure);
  std::vector<PodUsage> ranked = RankForEviction(std::move(usage), worst.signal);
  if (ranked.empty()) co_return;
  const PodPtr& victim = ranked[0].pod;
  const int64_t grace_s =
      worst.soft ? std::min(options_.eviction_max_pod_grace_period_s, EffectiveGracePeriodS(*victim, nullptr))
                 : kEvictionGrace_s;
  Evict(victim, EvictionMessage(worst, ranked[0]), grace_s, /*disruption=*/true);
  const std::string uid = PodUid(*ranked[0].pod);
  const absl::Duration end = env_.clock().Monotonic() + kEvictionCleanupLimit;
  while (!deps_.is_terminated(uid) && env_.clock().Monotonic() < end) {
    Task<void> pause = env_.clock().Sleep(kCleanupLook);
    co_await std::move(pause);
  }
}

Task<void> EvictionManager::RunLimits() {
  if (!options_.local_storage_capacity_isolation) co_return;
  while (true) {
    const absl::Duration began = env_.clock().Monotonic();
    Task<void> evict = EvictOverLimits();
    co_await std::move(evict);
    const absl::Duration took = env_.clock().Monotonic() - began;
    Task<void> pause = env_.clock().Sleep(std::max(kEvictionInterval, took * kWalkPauseFactor));
    co_await std::move(pause);
  }
}

bool EvictionManager::ImagesHaveTheirOwnDisk() const {
  struct stat images, node;
  return !image_fs_.empty() && ::stat(image_fs_.c_str(), &images) == 0 &&
         ::stat(env_.paths().kubelet_dir.c_str(), &node) == 0 && images.st_dev != node.st_dev;
}

Task<std::map<std::string, int64_t>> EvictionManager::WritableLayers(std::string uid) {
  criv1::ListContainerStatsRequest request;
  (*request.mutable_filter()->mutable_label_selector())[kLabelPodUid] = uid;
  Task<absl::StatusOr<criv1::ListContainerStatsResponse>> ask =
      deps_.runtime->ListContainerStats(std::move(request));
  absl::StatusOr<criv1::ListContainerStatsResponse> stats = co_await std::move(ask);
  std::map<std::string, int64_t> out;
  if (!stats.ok()) co_return out;
  std::map<std::string, uint32_t> attempts;  // a container's last one counts
  for (const auto& container : stats->stats()) {
    const auto& metadata = container.attributes().metadata();
    auto [known, fresh] = attempts.try_emplace(metadata.name(), metadata.attempt());
    if (!container.writable_layer().has_used_bytes() || (!fresh && metadata.attempt() < known->second))
      continue;
    known->second = metadata.attempt();
    out[metadata.name()] = static_cast<int64_t>(container.writable_layer().used_bytes().value());
  }
  co_return out;
}

Task<void> EvictionManager::EvictOverLimits() {
  std::vector<LimitedPod> pods;
  for (const PodPtr& pod : deps_.active_pods()) {
    if (IsCritical(*pod)) continue;
    LimitedPod limited = WhatToMeasure(pod, env_.paths());
    if (limited.whole || !limited.empty_dirs.empty()) pods.push_back(std::move(limited));
  }
  if (pods.empty()) co_return;
  Task<void> find = FindImageFs();
  co_await std::move(find);
  for (size_t i = 0; i < pods.size(); ++i) {
    if (!pods[i].whole) continue;
    Task<std::map<std::string, int64_t>> layers = WritableLayers(PodUid(*pods[i].pod));
    pods[i].writable_layers = co_await std::move(layers);
  }
  const bool elsewhere = ImagesHaveTheirOwnDisk();
  absl::AnyInvocable<std::vector<LocalStorageUsage>()> work = [pods, elsewhere] {
    return UsageOf(pods, elsewhere);
  };
  Task<std::vector<LocalStorageUsage>> walk = env_.Blocking<std::vector<LocalStorageUsage>>(std::move(work));
  std::vector<LocalStorageUsage> usage = co_await std::move(walk);
  std::set<std::string> active;  // still, after what may have been a long walk
  for (const PodPtr& pod : deps_.active_pods()) active.insert(PodUid(*pod));
  for (size_t i = 0; i < pods.size(); ++i) {
    const std::string message = LocalStorageViolation(*pods[i].pod, usage[i]);
    if (message.empty() || !active.contains(PodUid(*pods[i].pod))) continue;
    Evict(pods[i].pod, message, kEvictionGrace_s, /*disruption=*/false);
  }
}

Task<std::vector<PodUsage>> EvictionManager::MeasurePods(Signal signal) {
  std::vector<PodUsage> pods;
  for (const PodPtr& pod : deps_.active_pods()) {
    PodUsage usage;
    usage.pod = pod;
    pods.push_back(std::move(usage));
  }
  const Pressure pressure = PressureOf(signal);
  if (pressure != Pressure::kPid) {
    Task<absl::StatusOr<criv1::ListContainerStatsResponse>> ask =
        deps_.runtime->ListContainerStats(criv1::ListContainerStatsRequest());
    absl::StatusOr<criv1::ListContainerStatsResponse> stats = co_await std::move(ask);
    if (stats.ok()) AddRuntimeStats(*stats, &pods);
  }
  if (pressure == Pressure::kDisk) {
    std::vector<PodFolders> folders;
    for (const PodUsage& usage : pods) {
      const auto& meta = usage.pod->metadata();
      folders.push_back(
          {PodLogsDirectory(env_.paths().pod_logs_dir, meta.namespace_(), meta.name(), meta.uid()),
           VolumesDir(env_.paths(), meta.uid(), "empty-dir")});
    }
    absl::AnyInvocable<std::vector<int64_t>()> work = [folders] { return FolderBytes(folders); };
    Task<std::vector<int64_t>> walk = env_.Blocking<std::vector<int64_t>>(std::move(work));
    std::vector<int64_t> bytes = co_await std::move(walk);
    for (size_t i = 0; i < pods.size(); ++i) pods[i].disk_bytes = pods[i].disk_bytes.value_or(0) + bytes[i];
  } else if (deps_.qos_tree != nullptr) {
    for (PodUsage& usage : pods) {
      auto stats = deps_.qos_tree->PodStats(PodUid(*usage.pod), CgroupQos(*usage.pod));
      if (!stats.ok()) continue;
      if (stats->memory.has_value())
        usage.memory_bytes = static_cast<int64_t>(stats->memory->working_set_bytes);
      if (stats->pids.has_value()) usage.processes = static_cast<int64_t>(*stats->pids);
    }
  }
  co_return pods;
}

void EvictionManager::Evict(const PodPtr& pod, const std::string& message, int64_t grace_s, bool disruption) {
  LogWarning("pod evicted", {{"pod", PodName(*pod)}, {"why", message}});
  if (deps_.events != nullptr) deps_.events->Event(*pod, "Warning", "Evicted", message);
  KillRequest kill;
  kill.grace_period_s = grace_s;
  kill.status_change = [message, disruption](corev1::PodStatus* status) {
    MarkEvicted(message, disruption, status);
  };
  deps_.kill(pod, std::move(kill));
}

}  // namespace keelson::kubelet
