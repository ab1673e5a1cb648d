// Manager on the unified hierarchy. Source of the files: the kernel's admin-guide/cgroup-v2.
#include <algorithm>

#include "base/status.h"
#include "base/strings.h"
#include "cgroups/conversions.h"
#include "cgroups/fs_util.h"
#include "cgroups/managers.h"
#include "cgroups/text.h"

namespace keelson::cgroups {

namespace {

constexpr std::string_view kWantedControllers[] = {"cpu", "cpuset", "hugetlb", "io", "memory", "pids"};

constexpr uint64_t kNsPerUs = 1000;

class V2Manager : public Manager {
 public:
  V2Manager(Layout layout, ManagerOptions options, DirFd root)
      : layout_(std::move(layout)), options_(std::move(options)), root_(std::move(root)) {}

  const Layout& layout() const override { return layout_; }

  absl::Status Create(std::string_view path) override {
    RETURN_IF_ERROR(ValidatePath(path));
    std::string parent;
    for (const auto& level : Prefixes(path)) {
      RETURN_IF_ERROR(EnableControllers(parent));
      RETURN_IF_ERROR(root_.MakeDir(level));
      parent = level;
    }
    return absl::OkStatus();
  }

  absl::Status Destroy(std::string_view path) override {
    RETURN_IF_ERROR(ValidateBelowRoot(path));
    return RemoveSubtree(root_, std::string(path), options_.fake_tree);
  }

  bool Exists(std::string_view path) override { return ValidatePath(path).ok() && root_.Exists(path); }

  absl::StatusOr<std::vector<std::string>> Children(std::string_view path) override {
    RETURN_IF_ERROR(ValidatePath(path));
    return root_.Directories(path);
  }

  absl::Status Apply(std::string_view path, const Resources& resources) override {
    RETURN_IF_ERROR(ValidatePath(path));
    std::string at(path);
    if (resources.cpu_shares.has_value()) {
      uint64_t shares = std::clamp(*resources.cpu_shares, kMinShares, kMaxShares);
      RETURN_IF_ERROR(Set(at, "cpu.weight", StrCat(SharesToWeight(shares))));
    }
    if (resources.cpu_quota_us.has_value() || resources.cpu_period_us.has_value()) {
      RETURN_IF_ERROR(ApplyCpuMax(at, resources));
    }
    if (resources.memory_limit_bytes.has_value()) {
      RETURN_IF_ERROR(Set(at, "memory.max", OrMax(*resources.memory_limit_bytes)));
    }
    if (resources.memory_min_bytes.has_value()) {
      RETURN_IF_ERROR(Set(at, "memory.min", StrCat(std::max<int64_t>(*resources.memory_min_bytes, 0))));
    }
    if (resources.memory_high_bytes.has_value()) {
      RETURN_IF_ERROR(Set(at, "memory.high", OrMax(*resources.memory_high_bytes)));
    }
    if (resources.pids_limit.has_value()) RETURN_IF_ERROR(Set(at, "pids.max", OrMax(*resources.pids_limit)));
    if (resources.cpuset_cpus.has_value()) RETURN_IF_ERROR(Set(at, "cpuset.cpus", *resources.cpuset_cpus));
    if (resources.cpuset_mems.has_value()) RETURN_IF_ERROR(Set(at, "cpuset.mems", *resources.cpuset_mems));
    for (const auto& [size, bytes] : resources.hugepage_limit_bytes) {
      std::string file = StrCat("hugetlb.", size, ".max");
      if (bytes == 0 && !options_.fake_tree && !root_.Exists(JoinPath(at, file))) continue;
      RETURN_IF_ERROR(Set(at, file, StrCat(bytes)));
    }
    for (const auto& [file, value] : resources.unified) {
      if (file.find('/') != std::string::npos || file.starts_with("cgroup.") ||
          file.find('.') == std::string::npos) {
        return absl::InvalidArgumentError(StrCat("unified[\"", file, "\"] is not a controller's file"));
      }
      RETURN_IF_ERROR(Set(at, file, value));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<Stats> ReadStats(std::string_view path, StatsDetail detail) override {
    RETURN_IF_ERROR(ValidatePath(path));
    std::string at(path);
    Stats stats;
    ASSIGN_OR_RETURN(auto cpu, Keyed(at, "cpu.stat"));
    if (cpu.empty() && !root_.Exists(path))
      return absl::NotFoundError(StrCat("cgroup \"", path, "\" does not exist"));
    if (auto it = cpu.find("usage_usec"); it != cpu.end()) stats.cpu_usage_ns = it->second * kNsPerUs;
    ASSIGN_OR_RETURN(auto pids, OptionalFile(at, "pids.current"));
    if (pids.has_value()) {
      ASSIGN_OR_RETURN(stats.pids, ParseNumber(*pids));
    }
    ASSIGN_OR_RETURN(auto memory_stat, Keyed(at, "memory.stat"));
    ASSIGN_OR_RETURN(stats.memory, ReadMemory(at, memory_stat));
    ASSIGN_OR_RETURN(stats.cpu_psi, Pressure(at, "cpu"));
    ASSIGN_OR_RETURN(stats.memory_psi, Pressure(at, "memory"));
    ASSIGN_OR_RETURN(stats.io_psi, Pressure(at, "io"));
    if (detail == StatsDetail::kBasic) return stats;
    if (auto it = cpu.find("user_usec"); it != cpu.end()) stats.cpu_user_ns = it->second * kNsPerUs;
    if (auto it = cpu.find("system_usec"); it != cpu.end()) stats.cpu_system_ns = it->second * kNsPerUs;
    if (auto it = cpu.find("nr_periods"); it != cpu.end()) stats.cpu_periods = it->second;
    if (auto it = cpu.find("nr_throttled"); it != cpu.end()) stats.cpu_throttled_periods = it->second;
    if (auto it = cpu.find("throttled_usec"); it != cpu.end()) stats.cpu_throttled_ns = it->second * kNsPerUs;
    ASSIGN_OR_RETURN(stats.pids_limit, OptionalLimit(at, "pids.max"));
    if (stats.memory.has_value()) RETURN_IF_ERROR(ReadMemoryDetails(at, memory_stat, &*stats.memory));
    ASSIGN_OR_RETURN(auto io, OptionalFile(at, "io.stat"));
    if (io.has_value()) {
      auto devices = ParseIoStat(*io);
      if (!devices.ok()) return Annotate(devices.status(), StrCat("io.stat of cgroup \"", path, "\""));
      stats.block_devices = *std::move(devices);
    }
    RETURN_IF_ERROR(ReadHugetlb(at, &stats));
    return stats;
  }

  absl::StatusOr<std::vector<pid_t>> Pids(std::string_view path, bool recursive) override {
    RETURN_IF_ERROR(ValidatePath(path));
    return ReadPids(root_, std::string(path), recursive);
  }

  absl::Status AddProcess(std::string_view path, pid_t pid) override {
    RETURN_IF_ERROR(ValidatePath(path));
    return root_.Write(JoinPath(path, "cgroup.procs"), StrCat(pid), options_.fake_tree);
  }

  absl::Status KillAll(std::string_view path) override {
    RETURN_IF_ERROR(ValidateBelowRoot(path));
    std::string at(path);
    if (!root_.Exists(at)) return absl::OkStatus();
    if (root_.Exists(JoinPath(at, "cgroup.kill"))) return root_.Write(JoinPath(at, "cgroup.kill"), "1");
    return SignalAll([&] { return ReadPids(root_, at, true); }, options_.kill);  // kernels before 5.14
  }

  absl::Status Freeze(std::string_view path, bool frozen) override {
    RETURN_IF_ERROR(ValidateBelowRoot(path));
    return root_.Write(JoinPath(path, "cgroup.freeze"), frozen ? "1" : "0", options_.fake_tree);
  }

  absl::StatusOr<bool> Frozen(std::string_view path) override {
    RETURN_IF_ERROR(ValidatePath(path));
    ASSIGN_OR_RETURN(std::string text, root_.Read(JoinPath(path, "cgroup.events")));
    ASSIGN_OR_RETURN(auto events, ParseFlatKeyed(text));
    return events["frozen"] != 0;
  }

 private:
  static absl::Status ValidateBelowRoot(std::string_view path) {
    if (path.empty())
      return absl::InvalidArgumentError("the root cgroup cannot be removed, killed or frozen");
    return ValidatePath(path);
  }
  static std::string OrMax(int64_t value) { return value < 0 ? "max" : StrCat(value); }

  absl::Status Set(const std::string& path, std::string_view file, std::string_view value) {
    absl::Status status = root_.Write(JoinPath(path, file), value, options_.fake_tree);
    if (absl::IsNotFound(status) && root_.Exists(path)) {
      return absl::FailedPreconditionError(StrCat("set ", file, " of cgroup \"", path, "\": the ",
                                                  SplitOnce(file, '.').first,
                                                  " controller is not available there"));
    }
    return status;
  }

  // An absent half keeps its value.
  absl::Status ApplyCpuMax(const std::string& path, const Resources& resources) {
    std::string quota = "max";
    std::string period = StrCat(kDefaultCpuPeriodUs);
    auto present = root_.Read(JoinPath(path, "cpu.max"));
    if (present.ok()) {
      auto [old_quota, old_period] = SplitOnce(StripSpace(*present), ' ');
      if (!old_quota.empty()) quota = std::string(old_quota);
      if (!old_period.empty()) period = std::string(old_period);
    }
    if (resources.cpu_quota_us.has_value()) quota = OrMax(*resources.cpu_quota_us);
    if (resources.cpu_period_us.has_value()) period = StrCat(*resources.cpu_period_us);
    return Set(path, "cpu.max", StrCat(quota, " ", period));
  }

  // What a parent offers and does not yet hand down. One write per controller: one that is refused must not
  // take the others along.
  absl::Status EnableControllers(const std::string& parent) {
    ASSIGN_OR_RETURN(std::string offered_text, root_.Read(JoinPath(parent, "cgroup.controllers")));
    auto enabled_text = root_.Read(JoinPath(parent, "cgroup.subtree_control"));
    if (!enabled_text.ok() && !options_.fake_tree) return enabled_text.status();
    auto offered = Split(StripSpace(offered_text), ' ', Empty::kSkip);
    auto enabled = Split(StripSpace(enabled_text.ok() ? *enabled_text : ""), ' ', Empty::kSkip);
    std::string all;
    for (std::string_view controller : kWantedControllers) {
      if (std::find(offered.begin(), offered.end(), controller) == offered.end()) continue;
      StrAppend(&all, all.empty() ? "" : " ", controller);
      if (options_.fake_tree || std::find(enabled.begin(), enabled.end(), controller) != enabled.end())
        continue;
      absl::Status status = root_.Write(JoinPath(parent, "cgroup.subtree_control"), StrCat("+", controller));
      if (!status.ok()) {
        return Annotate(status, StrCat("enable the ", controller, " controller below cgroup \"", parent,
                                       "\" (its processes must move to a child first)"));
      }
    }
    if (!options_.fake_tree) return absl::OkStatus();
    // A plain file does not turn "+cpu" into what the kernel shows: the result is written as it reads.
    return root_.Write(JoinPath(parent, "cgroup.subtree_control"), all, true);
  }

  absl::StatusOr<std::optional<std::string>> OptionalFile(const std::string& path, std::string_view file) {
    auto text = root_.Read(JoinPath(path, file));
    if (absl::IsNotFound(text.status()) || absl::IsUnimplemented(text.status())) return std::nullopt;
    if (!text.ok()) return text.status();
    return *std::move(text);
  }

  absl::StatusOr<std::map<std::string, uint64_t>> Keyed(const std::string& path, std::string_view file) {
    ASSIGN_OR_RETURN(auto text, OptionalFile(path, file));
    if (!text.has_value()) return std::map<std::string, uint64_t>();
    auto values = ParseFlatKeyed(*text);
    if (!values.ok()) return Annotate(values.status(), StrCat(file, " of cgroup \"", path, "\""));
    return values;
  }

  absl::StatusOr<std::optional<Psi>> Pressure(const std::string& path, std::string_view resource) {
    auto text = root_.Read(JoinPath(path, StrCat(resource, ".pressure")));
    if (!text.ok()) return std::nullopt;  // off by cgroup.pressure or psi=0: EOPNOTSUPP, or no file
    auto psi = ParsePsi(*text);
    if (!psi.ok()) return Annotate(psi.status(), StrCat(resource, ".pressure of cgroup \"", path, "\""));
    return *psi;
  }

  using KeyedNumbers = std::map<std::string, uint64_t>;

  // nullopt: no file, or no limit.
  absl::StatusOr<std::optional<uint64_t>> OptionalLimit(const std::string& path, std::string_view file) {
    ASSIGN_OR_RETURN(auto text, OptionalFile(path, file));
    if (!text.has_value()) return std::nullopt;
    auto limit = ParseLimit(*text);
    if (!limit.ok()) return Annotate(limit.status(), StrCat(file, " of cgroup \"", path, "\""));
    return limit;
  }

  absl::StatusOr<std::optional<uint64_t>> OptionalNumber(const std::string& path, std::string_view file) {
    ASSIGN_OR_RETURN(auto text, OptionalFile(path, file));
    if (!text.has_value()) return std::nullopt;
    auto number = ParseNumber(*text);
    if (!number.ok()) return Annotate(number.status(), StrCat(file, " of cgroup \"", path, "\""));
    return *number;
  }

  absl::StatusOr<std::optional<MemoryStats>> ReadMemory(const std::string& path, KeyedNumbers stat) {
    ASSIGN_OR_RETURN(auto usage, OptionalNumber(path, "memory.current"));
    MemoryStats memory;
    if (usage.has_value()) {
      memory.usage_bytes = *usage;
    } else if (path.empty()) {
      // The root has no memory.current: what the machine uses.
      auto text = ReadFile(layout_.proc_root + "/meminfo", kMaxCgroupFileBytes);
      if (!text.ok()) return std::nullopt;
      ASSIGN_OR_RETURN(auto meminfo, ParseMeminfo(*text));
      uint64_t total = meminfo["MemTotal"], free = meminfo["MemFree"];
      memory.usage_bytes = total > free ? total - free : 0;
      memory.limit_bytes = total;
    } else {
      return std::nullopt;
    }
    uint64_t inactive_file = stat["inactive_file"];
    memory.working_set_bytes = memory.usage_bytes > inactive_file ? memory.usage_bytes - inactive_file : 0;
    memory.rss_bytes = stat["anon"];
    memory.cache_bytes = stat["file"];
    memory.mapped_file_bytes = stat["file_mapped"];
    memory.page_faults = memory.own_page_faults = stat["pgfault"];
    memory.major_page_faults = memory.own_major_page_faults = stat["pgmajfault"];
    if (!path.empty()) {
      ASSIGN_OR_RETURN(memory.limit_bytes, OptionalLimit(path, "memory.max"));
    }
    ASSIGN_OR_RETURN(memory.swap_bytes, OptionalNumber(path, "memory.swap.current"));
    ASSIGN_OR_RETURN(memory.swap_limit_bytes, OptionalLimit(path, "memory.swap.max"));
    return memory;
  }

  absl::Status ReadMemoryDetails(const std::string& path, KeyedNumbers stat, MemoryStats* memory) {
    ASSIGN_OR_RETURN(auto peak, OptionalNumber(path, "memory.peak"));
    memory->max_usage_bytes = peak.value_or(0);
    // "kernel" since 5.18; before, its parts.
    memory->kernel_bytes = stat.count("kernel") != 0 ? stat["kernel"]
                                                     : stat["kernel_stack"] + stat["pagetables"] +
                                                           stat["percpu"] + stat["slab"] + stat["sock"];
    ASSIGN_OR_RETURN(auto events, Keyed(path, "memory.events"));
    memory->limit_hits = events["max"];
    memory->oom_kills = events["oom_kill"];
    return absl::OkStatus();
  }

  absl::Status ReadHugetlb(const std::string& path, Stats* stats) {
    auto files = root_.Files(path);
    if (absl::IsNotFound(files.status())) return absl::OkStatus();
    if (!files.ok()) return files.status();
    for (const std::string& size : HugetlbSizesOf(*files, ".current")) {
      ASSIGN_OR_RETURN(auto usage, OptionalNumber(path, StrCat("hugetlb.", size, ".current")));
      stats->hugetlb[size].usage_bytes = usage.value_or(0);
    }
    return absl::OkStatus();
  }

  Layout layout_;
  ManagerOptions options_;
  DirFd root_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Manager>> NewV2Manager(Layout layout, ManagerOptions options) {
  ASSIGN_OR_RETURN(DirFd root, DirFd::Open(layout.unified_mount));
  return std::make_unique<V2Manager>(std::move(layout), std::move(options), std::move(root));
}

}  // namespace keelson::cgroups
