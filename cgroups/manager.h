// Manager: one interface over cgroup v1, v2 and hybrid hosts; files are reached by directory fd and openat
// only.
//
// A cgroup is named by its path below the hierarchy's root, without a leading slash:
// "kubepods/burstable/pod<uid>". On v1 the same path exists in every controller. "" is the root itself (stats
// and Apply of limits are refused there where the kernel has none). Calls are short synchronous file
// operations: fit for the loop, or for the blocking pool when there are many. Not thread-safe against itself
// on one path. NotFound on Destroy is success.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cgroups/layout.h"

namespace keelson::cgroups {

// What may be set. An absent field is left as it is.
struct Resources {
  std::optional<uint64_t> cpu_shares;                    // v1 scale, 2..262144; becomes cpu.weight on v2
  std::optional<int64_t> cpu_quota_us;                   // per period; -1: no limit
  std::optional<uint64_t> cpu_period_us;                 // default 100000
  std::optional<int64_t> memory_limit_bytes;             // -1: no limit
  std::optional<int64_t> memory_min_bytes;               // v2 only (memory QoS, KEP-2570); ignored on v1
  std::optional<int64_t> memory_high_bytes;              // v2 only; -1: no limit
  std::optional<int64_t> pids_limit;                     // -1: no limit
  std::map<std::string, uint64_t> hugepage_limit_bytes;  // by the kernel's size name: "2MB", "1GB"
  std::optional<std::string> cpuset_cpus;                // "0-3,7"
  std::optional<std::string> cpuset_mems;
  std::map<std::string, std::string> unified;  // v2 only: file -> value, last word; ignored on v1
};

// Pressure stall information (kernel: Documentation/accounting/psi).
struct PsiLine {
  double avg10_percent = 0, avg60_percent = 0, avg300_percent = 0;
  uint64_t total_us = 0;
};
struct Psi {
  PsiLine some, full;
};

// Descendants included, unless said otherwise.
struct MemoryStats {
  uint64_t usage_bytes = 0;
  uint64_t working_set_bytes = 0;  // usage less inactive file pages, as upstream counts
  uint64_t rss_bytes = 0;          // anonymous memory and swap cache
  uint64_t cache_bytes = 0, mapped_file_bytes = 0;
  uint64_t page_faults = 0, major_page_faults = 0;
  uint64_t own_page_faults = 0,
           own_major_page_faults = 0;        // without descendants; v2 does not tell them apart
  std::optional<uint64_t> limit_bytes;       // absent: none
  std::optional<uint64_t> swap_bytes;        // absent: the kernel does not account swap
  std::optional<uint64_t> swap_limit_bytes;  // of swap alone; absent: none
  // The rest with kFull only.
  uint64_t max_usage_bytes = 0;  // 0: the kernel does not keep it (v2 before 5.19)
  uint64_t kernel_bytes = 0;
  uint64_t limit_hits = 0;  // how often usage ran into the limit
  uint64_t oom_kills = 0;   // on v1 of this cgroup alone
};

struct BlockDeviceStats {
  uint32_t major = 0, minor = 0;
  uint64_t read_bytes = 0, write_bytes = 0, read_operations = 0, write_operations = 0;
};

struct HugetlbStats {
  uint64_t usage_bytes = 0;
  std::optional<uint64_t> max_usage_bytes;  // v1 only
};

// How much ReadStats opens. On v1: five files, and about eleven.
enum class StatsDetail {
  kBasic,  // cpu_usage_ns, memory but its last part, pids, PSI
  kFull,
};

struct Stats {
  std::optional<uint64_t> cpu_usage_ns;
  std::optional<MemoryStats> memory;
  std::optional<uint64_t> pids;                    // threads: what pids.max limits
  std::optional<Psi> cpu_psi, memory_psi, io_psi;  // v2 only
  // The rest with kFull only.
  std::optional<uint64_t> cpu_user_ns, cpu_system_ns;
  std::optional<uint64_t> cpu_periods, cpu_throttled_periods, cpu_throttled_ns;  // of cpu_quota_us
  std::optional<uint64_t> pids_limit;                                            // absent: none
  std::vector<BlockDeviceStats> block_devices;  // by number; those it did I/O on, descendants included
  std::map<std::string, HugetlbStats> hugetlb;  // by the kernel's size name: "2MB"
};

class Manager {
 public:
  virtual ~Manager() = default;

  // The hierarchies it works on.
  virtual const Layout& layout() const = 0;
  // With parents; existing is success. On v2 the controllers are enabled on the way.
  virtual absl::Status Create(std::string_view path) = 0;
  // With descendants, deepest first. FailedPrecondition while processes live in it.
  virtual absl::Status Destroy(std::string_view path) = 0;
  virtual bool Exists(std::string_view path) = 0;
  // Names of the direct children, sorted; on v1 of every controller together.
  virtual absl::StatusOr<std::vector<std::string>> Children(std::string_view path) = 0;
  // Sets what is present in `resources`. A controller the host lacks is an error only when a limit needs it
  // (FailedPrecondition naming it). Stops at the first error; may be repeated.
  virtual absl::Status Apply(std::string_view path, const Resources& resources) = 0;
  // Fields whose files are missing are absent; an unknown cgroup is NotFound. Any thread, at any time.
  virtual absl::StatusOr<Stats> ReadStats(std::string_view path, StatsDetail detail) = 0;
  absl::StatusOr<Stats> ReadStats(std::string_view path) { return ReadStats(path, StatsDetail::kBasic); }
  // Sorted, without duplicates. `recursive`: of the descendants too.
  virtual absl::StatusOr<std::vector<pid_t>> Pids(std::string_view path, bool recursive) = 0;
  virtual absl::Status AddProcess(std::string_view path, pid_t pid) = 0;
  // SIGKILL to every process of the cgroup and its descendants. Does not wait until they are gone: look at
  // Pids().
  virtual absl::Status KillAll(std::string_view path) = 0;
  // Asks for the state; Frozen() tells when it is reached.
  virtual absl::Status Freeze(std::string_view path, bool frozen) = 0;
  virtual absl::StatusOr<bool> Frozen(std::string_view path) = 0;
};

struct ManagerOptions {
  // For trees of plain files in tests: files are created on write, and removed with their directory.
  bool fake_tree = false;
  // How KillAll signals a process where cgroup.kill does not exist; null: kill(2). Returns 0 or -1 with
  // errno.
  std::function<int(pid_t, int)> kill;
};

// Opens the directories of `layout`; the manager for its mode.
absl::StatusOr<std::unique_ptr<Manager>> NewManager(Layout layout, ManagerOptions options = {});
// Of this host: Discover(DiscoverOptions()) and NewManager.
absl::StatusOr<std::unique_ptr<Manager>> NewHostManager();

// OK for "" and "a/b/c": no empty, "." or ".." component, no NUL or newline; bounds below.
absl::Status ValidatePath(std::string_view path);
inline constexpr size_t kMaxPathBytes = 2048;
inline constexpr size_t kMaxPathComponentBytes = 255;
inline constexpr size_t kMaxPathComponents = 32;

}  // namespace keelson::cgroups
