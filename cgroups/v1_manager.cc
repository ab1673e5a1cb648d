// Manager on v1 and hybrid hosts: the same path in every controller's hierarchy.
// Source of the files: the kernel's admin-guide/cgroup-v1.
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <set>

#include "base/status.h"
#include "base/strings.h"
#include "cgroups/conversions.h"
#include "cgroups/fs_util.h"
#include "cgroups/managers.h"
#include "cgroups/text.h"

namespace keelson::cgroups {

namespace {

// Where processes are listed and killed: the first of these that exists. memory and pids follow every fork.
constexpr std::string_view kProcessControllers[] = {"pids", "memory", "cpu", "cpuacct", "freezer"};

constexpr uint64_t kNsPerSecond = 1000000000;

class V1Manager : public Manager {
 public:
  V1Manager(Layout layout, ManagerOptions options)
      : layout_(std::move(layout)), options_(std::move(options)) {}

  absl::Status Open() {
    for (const auto& point : layout_.V1MountPoints()) {
      ASSIGN_OR_RETURN(DirFd dir, DirFd::Open(point));
      hierarchies_.emplace(point, std::move(dir));
    }
    if (!layout_.unified_mount.empty()) {
      ASSIGN_OR_RETURN(DirFd dir, DirFd::Open(layout_.unified_mount));
      unified_.emplace(std::move(dir));
    }
    for (std::string_view controller : kProcessControllers) {
      processes_ = Controller(controller);
      if (processes_ != nullptr) return absl::OkStatus();
    }
    return absl::FailedPreconditionError("cgroup v1: none of the controllers pids, memory, cpu is mounted");
  }

  const Layout& layout() const override { return layout_; }

  absl::Status Create(std::string_view path) override {
    RETURN_IF_ERROR(ValidatePath(path));
    for (const auto& [point, dir] : hierarchies_) {
      bool is_cpuset = &dir == Controller("cpuset");
      for (const auto& level : Prefixes(path)) {
        RETURN_IF_ERROR(dir.MakeDir(level));
        if (is_cpuset) RETURN_IF_ERROR(InheritCpuset(dir, level));
      }
    }
    return absl::OkStatus();
  }

  absl::Status Destroy(std::string_view path) override {
    RETURN_IF_ERROR(ValidateBelowRoot(path));
    for (const auto& [point, dir] : hierarchies_) {
      RETURN_IF_ERROR(RemoveSubtree(dir, std::string(path), options_.fake_tree));
    }
    // OCI runtimes make the same path in a hybrid host's cgroup2 hierarchy, and leave its parents behind.
    if (unified_.has_value())
      RETURN_IF_ERROR(RemoveSubtree(*unified_, std::string(path), options_.fake_tree));
    return absl::OkStatus();
  }

  bool Exists(std::string_view path) override {
    if (!ValidatePath(path).ok()) return false;
    return std::all_of(hierarchies_.begin(), hierarchies_.end(),
                       [&](const auto& h) { return h.second.Exists(path); });
  }

  absl::StatusOr<std::vector<std::string>> Children(std::string_view path) override {
    RETURN_IF_ERROR(ValidatePath(path));
    std::set<std::string> names;
    bool found = false;
    for (const auto& [point, dir] : hierarchies_) {
      auto some = dir.Directories(path);
      if (absl::IsNotFound(some.status())) continue;
      if (!some.ok()) return some.status();
      found = true;
      names.insert(some->begin(), some->end());
    }
    if (!found) return absl::NotFoundError(StrCat("cgroup \"", path, "\" does not exist"));
    return std::vector<std::string>(names.begin(), names.end());
  }

  absl::Status Apply(std::string_view path, const Resources& resources) override {
    RETURN_IF_ERROR(ValidatePath(path));
    std::string at(path);
    RETURN_IF_ERROR(ApplyCpu(at, resources));
    if (resources.memory_limit_bytes.has_value()) {
      RETURN_IF_ERROR(Set("memory", at, "memory.limit_in_bytes", StrCat(*resources.memory_limit_bytes)));
    }
    if (resources.pids_limit.has_value()) {
      std::string value = *resources.pids_limit < 0 ? "max" : StrCat(*resources.pids_limit);
      RETURN_IF_ERROR(Set("pids", at, "pids.max", value));
    }
    if (resources.cpuset_cpus.has_value())
      RETURN_IF_ERROR(Set("cpuset", at, "cpuset.cpus", *resources.cpuset_cpus));
    if (resources.cpuset_mems.has_value())
      RETURN_IF_ERROR(Set("cpuset", at, "cpuset.mems", *resources.cpuset_mems));
    for (const auto& [size, bytes] : resources.hugepage_limit_bytes) {
      // Without the controller nothing can be limited; a zero limit is then what it is anyway for a pod that
      // asks none.
      if (bytes == 0 && Controller("hugetlb") == nullptr) continue;
      RETURN_IF_ERROR(Set("hugetlb", at, StrCat("hugetlb.", size, ".limit_in_bytes"), StrCat(bytes)));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<Stats> ReadStats(std::string_view path, StatsDetail detail) override {
    RETURN_IF_ERROR(ValidatePath(path));
    std::string at(path);
    Stats stats;
    ASSIGN_OR_RETURN(stats.pids, OptionalNumber("pids", at, "pids.current"));
    // The root has no such file, a cgroup that is gone neither.
    if (!stats.pids.has_value() && !processes_->Exists(path))
      return absl::NotFoundError(StrCat("cgroup \"", path, "\" does not exist"));
    ASSIGN_OR_RETURN(stats.cpu_usage_ns, OptionalNumber("cpuacct", at, "cpuacct.usage"));
    ASSIGN_OR_RETURN(stats.memory, ReadMemory(at));
    if (detail == StatsDetail::kFull) RETURN_IF_ERROR(ReadDetails(at, &stats));
    return stats;
  }

  absl::StatusOr<std::vector<pid_t>> Pids(std::string_view path, bool recursive) override {
    RETURN_IF_ERROR(ValidatePath(path));
    return ReadPids(*processes_, std::string(path), recursive);
  }

  absl::Status AddProcess(std::string_view path, pid_t pid) override {
    RETURN_IF_ERROR(ValidatePath(path));
    for (const auto& [point, dir] : hierarchies_) {
      RETURN_IF_ERROR(dir.Write(JoinPath(path, "cgroup.procs"), StrCat(pid), options_.fake_tree));
    }
    return absl::OkStatus();
  }

  absl::Status KillAll(std::string_view path) override {
    RETURN_IF_ERROR(ValidateBelowRoot(path));
    std::string at(path);
    return SignalAll([&] { return ReadPids(*processes_, at, true); }, options_.kill);
  }

  absl::Status Freeze(std::string_view path, bool frozen) override {
    RETURN_IF_ERROR(ValidateBelowRoot(path));
    return Set("freezer", std::string(path), "freezer.state", frozen ? "FROZEN" : "THAWED");
  }

  absl::StatusOr<bool> Frozen(std::string_view path) override {
    RETURN_IF_ERROR(ValidatePath(path));
    const DirFd* dir = Controller("freezer");
    if (dir == nullptr) return false;
    ASSIGN_OR_RETURN(std::string state, dir->Read(JoinPath(path, "freezer.state")));
    return StripSpace(state) == "FROZEN";
  }

 private:
  static absl::Status ValidateBelowRoot(std::string_view path) {
    if (path.empty())
      return absl::InvalidArgumentError("the root cgroup cannot be removed, killed or frozen");
    return ValidatePath(path);
  }

  const DirFd* Controller(std::string_view name) const {
    auto mount = layout_.v1_mounts.find(std::string(name));
    if (mount == layout_.v1_mounts.end()) return nullptr;
    auto it = hierarchies_.find(mount->second);
    return it == hierarchies_.end() ? nullptr : &it->second;
  }

  absl::Status Set(std::string_view controller, const std::string& path, std::string_view file,
                   std::string_view value) {
    const DirFd* dir = Controller(controller);
    if (dir == nullptr) {
      return absl::FailedPreconditionError(StrCat("set ", file, " of cgroup \"", path, "\": the ", controller,
                                                  " controller is not mounted on this host"));
    }
    return dir->Write(JoinPath(path, file), value, options_.fake_tree);
  }

  absl::Status ApplyCpu(const std::string& path, const Resources& resources) {
    if (resources.cpu_shares.has_value()) {
      uint64_t shares = std::clamp(*resources.cpu_shares, kMinShares, kMaxShares);
      RETURN_IF_ERROR(Set("cpu", path, "cpu.shares", StrCat(shares)));
    }
    absl::Status period = absl::OkStatus();
    if (resources.cpu_period_us.has_value()) {
      period = Set("cpu", path, "cpu.cfs_period_us", StrCat(*resources.cpu_period_us));
      // The kernel refuses a period whose ratio with the quota still set exceeds the parent's: quota first,
      // then again.
      if (!period.ok() && !(absl::IsInvalidArgument(period) && resources.cpu_quota_us.has_value()))
        return period;
    }
    if (resources.cpu_quota_us.has_value()) {
      RETURN_IF_ERROR(Set("cpu", path, "cpu.cfs_quota_us", StrCat(*resources.cpu_quota_us)));
    }
    if (!period.ok())
      RETURN_IF_ERROR(Set("cpu", path, "cpu.cfs_period_us", StrCat(*resources.cpu_period_us)));
    return absl::OkStatus();
  }

  // A new cpuset is empty and takes no process until it is filled from its parent.
  absl::Status InheritCpuset(const DirFd& dir, const std::string& path) {
    size_t slash = path.rfind('/');
    std::string parent = slash == std::string::npos ? "" : path.substr(0, slash);
    for (std::string_view file : {"cpuset.cpus", "cpuset.mems"}) {
      auto own = dir.Read(JoinPath(path, file));
      if (own.ok() && !StripSpace(*own).empty()) continue;
      if (!own.ok() && !(options_.fake_tree && absl::IsNotFound(own.status()))) return own.status();
      ASSIGN_OR_RETURN(std::string above, dir.Read(JoinPath(parent, file)));
      RETURN_IF_ERROR(dir.Write(JoinPath(path, file), StripSpace(above), options_.fake_tree));
    }
    return absl::OkStatus();
  }

  // nullopt when the controller or the file is missing.
  absl::StatusOr<std::optional<std::string>> OptionalFile(std::string_view controller,
                                                          const std::string& path, std::string_view file) {
    const DirFd* dir = Controller(controller);
    if (dir == nullptr) return std::nullopt;
    auto text = dir->Read(JoinPath(path, file));
    if (absl::IsNotFound(text.status())) return std::nullopt;
    if (!text.ok()) return text.status();
    return *std::move(text);
  }

  absl::StatusOr<std::optional<uint64_t>> OptionalNumber(std::string_view controller, const std::string& path,
                                                         std::string_view file) {
    ASSIGN_OR_RETURN(auto text, OptionalFile(controller, path, file));
    if (!text.has_value()) return std::nullopt;
    auto number = ParseNumber(*text);
    if (!number.ok()) return Annotate(number.status(), StrCat(file, " of cgroup \"", path, "\""));
    return *number;
  }

  absl::StatusOr<std::map<std::string, uint64_t>> Keyed(std::string_view controller, const std::string& path,
                                                        std::string_view file) {
    ASSIGN_OR_RETURN(auto text, OptionalFile(controller, path, file));
    if (!text.has_value()) return std::map<std::string, uint64_t>();
    auto values = ParseFlatKeyed(*text);
    if (!values.ok()) return Annotate(values.status(), StrCat(file, " of cgroup \"", path, "\""));
    return values;
  }

  absl::StatusOr<std::optional<MemoryStats>> ReadMemory(const std::string& path) {
    ASSIGN_OR_RETURN(std::optional<uint64_t> usage, OptionalNumber("memory", path, "memory.usage_in_bytes"));
    if (!usage.has_value()) return std::nullopt;
    ASSIGN_OR_RETURN(auto stat, Keyed("memory", path, "memory.stat"));
    MemoryStats memory;
    memory.usage_bytes = *usage;
    uint64_t inactive_file = stat["total_inactive_file"];
    memory.working_set_bytes = *usage > inactive_file ? *usage - inactive_file : 0;
    memory.rss_bytes = stat["total_rss"];
    memory.cache_bytes = stat["total_cache"];
    memory.mapped_file_bytes = stat["total_mapped_file"];
    memory.page_faults = stat["total_pgfault"];
    memory.major_page_faults = stat["total_pgmajfault"];
    memory.own_page_faults = stat["pgfault"];
    memory.own_major_page_faults = stat["pgmajfault"];
    // Only with swap accounting. The limits are those that hold, parents' included.
    if (auto both = stat.find("hierarchical_memsw_limit"); both != stat.end()) {
      memory.swap_bytes = stat["total_swap"];
      ASSIGN_OR_RETURN(auto both_limit, ParseLimit(StrCat(both->second)));
      ASSIGN_OR_RETURN(auto memory_limit, ParseLimit(StrCat(stat["hierarchical_memory_limit"])));
      if (both_limit.has_value() && memory_limit.has_value())
        memory.swap_limit_bytes = *both_limit > *memory_limit ? *both_limit - *memory_limit : 0;
    }
    ASSIGN_OR_RETURN(auto limit, OptionalFile("memory", path, "memory.limit_in_bytes"));
    if (limit.has_value()) {
      ASSIGN_OR_RETURN(memory.limit_bytes, ParseLimit(*limit));
    }
    return memory;
  }

  absl::Status ReadDetails(const std::string& path, Stats* stats) {
    ASSIGN_OR_RETURN(auto times, Keyed("cpuacct", path, "cpuacct.stat"));
    const uint64_t ns_per_tick = kNsPerSecond / static_cast<uint64_t>(::sysconf(_SC_CLK_TCK));
    if (auto it = times.find("user"); it != times.end()) stats->cpu_user_ns = it->second * ns_per_tick;
    if (auto it = times.find("system"); it != times.end()) stats->cpu_system_ns = it->second * ns_per_tick;
    ASSIGN_OR_RETURN(auto cpu, Keyed("cpu", path, "cpu.stat"));
    if (auto it = cpu.find("nr_periods"); it != cpu.end()) stats->cpu_periods = it->second;
    if (auto it = cpu.find("nr_throttled"); it != cpu.end()) stats->cpu_throttled_periods = it->second;
    if (auto it = cpu.find("throttled_time"); it != cpu.end()) stats->cpu_throttled_ns = it->second;
    ASSIGN_OR_RETURN(auto pids_limit, OptionalFile("pids", path, "pids.max"));
    if (pids_limit.has_value()) {
      ASSIGN_OR_RETURN(stats->pids_limit, ParseLimit(*pids_limit));
    }
    if (stats->memory.has_value()) RETURN_IF_ERROR(ReadMemoryDetails(path, &*stats->memory));
    RETURN_IF_ERROR(ReadBlockIo(path, stats));
    return ReadHugetlb(path, stats);
  }

  absl::Status ReadMemoryDetails(const std::string& path, MemoryStats* memory) {
    ASSIGN_OR_RETURN(auto max_usage, OptionalNumber("memory", path, "memory.max_usage_in_bytes"));
    memory->max_usage_bytes = max_usage.value_or(0);
    ASSIGN_OR_RETURN(auto kernel, OptionalNumber("memory", path, "memory.kmem.usage_in_bytes"));
    memory->kernel_bytes = kernel.value_or(0);
    ASSIGN_OR_RETURN(auto limit_hits, OptionalNumber("memory", path, "memory.failcnt"));
    memory->limit_hits = limit_hits.value_or(0);
    ASSIGN_OR_RETURN(auto oom, Keyed("memory", path, "memory.oom_control"));
    memory->oom_kills = oom["oom_kill"];
    return absl::OkStatus();
  }

  // The throttling policy counts everything; where it was never switched on, BFQ may have counted.
  absl::Status ReadBlockIo(const std::string& path, Stats* stats) {
    for (std::string_view policy : {"throttle", "bfq"}) {
      ASSIGN_OR_RETURN(auto bytes,
                       OptionalFile("blkio", path, StrCat("blkio.", policy, ".io_service_bytes_recursive")));
      if (!bytes.has_value()) continue;
      ASSIGN_OR_RETURN(auto operations,
                       OptionalFile("blkio", path, StrCat("blkio.", policy, ".io_serviced_recursive")));
      auto devices = ParseV1BlockIo(*bytes, operations.value_or(""));
      if (!devices.ok()) return Annotate(devices.status(), StrCat("blkio of cgroup \"", path, "\""));
      if (devices->empty()) continue;
      stats->block_devices = *std::move(devices);
      return absl::OkStatus();
    }
    return absl::OkStatus();
  }

  absl::Status ReadHugetlb(const std::string& path, Stats* stats) {
    const DirFd* dir = Controller("hugetlb");
    if (dir == nullptr) return absl::OkStatus();
    auto files = dir->Files(path);
    if (absl::IsNotFound(files.status())) return absl::OkStatus();
    if (!files.ok()) return files.status();
    for (const std::string& size : HugetlbSizesOf(*files, ".usage_in_bytes")) {
      ASSIGN_OR_RETURN(auto usage,
                       OptionalNumber("hugetlb", path, StrCat("hugetlb.", size, ".usage_in_bytes")));
      HugetlbStats& entry = stats->hugetlb[size];
      entry.usage_bytes = usage.value_or(0);
      ASSIGN_OR_RETURN(entry.max_usage_bytes,
                       OptionalNumber("hugetlb", path, StrCat("hugetlb.", size, ".max_usage_in_bytes")));
    }
    return absl::OkStatus();
  }

  Layout layout_;
  ManagerOptions options_;
  std::map<std::string, DirFd> hierarchies_;  // by mount point
  std::optional<DirFd> unified_;              // of a hybrid host: nothing of ours is made there, only removed
  const DirFd* processes_ = nullptr;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Manager>> NewV1Manager(Layout layout, ManagerOptions options) {
  auto manager = std::make_unique<V1Manager>(std::move(layout), std::move(options));
  RETURN_IF_ERROR(manager->Open());
  return manager;
}

}  // namespace keelson::cgroups
