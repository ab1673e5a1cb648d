// Pure conversions between Kubernetes' units, cgroup v1 files and cgroup v2 files, and the parsers of cgroup
// files.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cgroups/manager.h"

namespace keelson::cgroups {

inline constexpr uint64_t kMinShares = 2;       // kernel: MIN_SHARES
inline constexpr uint64_t kMaxShares = 262144;  // kernel: MAX_SHARES
inline constexpr uint64_t kSharesPerCpu = 1024;
inline constexpr int64_t kMilliCpuPerCpu = 1000;
inline constexpr uint64_t kDefaultCpuPeriodUs = 100000;
inline constexpr int64_t kMinCpuQuotaUs = 1000;  // kernel: min_cfs_quota_period

// 0 -> kMinShares; clamped to the kernel's range (kubelet: MilliCPUToShares).
uint64_t MilliCpuToShares(int64_t milli_cpu);
// 0 (no limit) -> -1; at least kMinCpuQuotaUs (kubelet: MilliCPUToQuota).
int64_t MilliCpuToQuotaUs(int64_t milli_cpu, uint64_t period_us = kDefaultCpuPeriodUs);
int64_t QuotaUsToMilliCpu(int64_t quota_us, uint64_t period_us);
int64_t SharesToMilliCpu(uint64_t shares);
// cpu.shares to cpu.weight by the log-quadratic rule Kubernetes and the OCI runtimes agreed on in 2025: 2 ->
// 1, 1024 -> 100, 262144 -> 10000. 0 stays 0 (unset).
uint64_t SharesToWeight(uint64_t shares);
// Its inverse to the nearest share, for showing a v2 node in v1 terms.
uint64_t WeightToShares(uint64_t weight);
// The linear rule of KEP-2254, which runtimes before that use: 1024 -> 39.
uint64_t SharesToWeightLinear(uint64_t shares);
// "2Mi" in bytes -> "2MB"; the kernel's names for hugetlb files.
std::string HugepageSizeName(uint64_t page_size_bytes);

// "kubepods/burstable/pod<uid>" ->
// "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<uid>.slice": the systemd driver's path; '-'
// in a component becomes '_'.
std::string ToSystemdPath(std::string_view cgroupfs_path);
// "kubepods-burstable-pod<uid>.slice" or a path of such -> the cgroupfs path; InvalidArgument for anything
// else.
absl::StatusOr<std::string> FromSystemdPath(std::string_view systemd_path);
// "a-b.slice" -> "a.slice/a-b.slice": where systemd keeps the slice of that name (systemd.slice(5)); the
// root,
// "-.slice", is "". InvalidArgument for anything that names no slice.
absl::StatusOr<std::string> ExpandSlice(std::string_view name);

// ---- files; errors are InvalidArgument naming the line ----
// A single number; "max" (v2) or v1's page-rounded LONG_MAX: nullopt.
absl::StatusOr<std::optional<uint64_t>> ParseLimit(std::string_view text);
absl::StatusOr<uint64_t> ParseNumber(std::string_view text);
// "key value" lines: memory.stat, cpu.stat, cgroup.events.
absl::StatusOr<std::map<std::string, uint64_t>> ParseFlatKeyed(std::string_view text);
// cgroup.procs; 0 (a process outside our pid namespace) is left out.
absl::StatusOr<std::vector<pid_t>> ParsePids(std::string_view text);
// *.pressure.
absl::StatusOr<Psi> ParsePsi(std::string_view text);
// v1's pair of files, blkio.*.io_service_bytes and io_serviced: lines "8:0 Read 4096", the last "Total 4096".
// By device number; at most kMaxBlockDevices.
inline constexpr size_t kMaxBlockDevices = 4096;
absl::StatusOr<std::vector<BlockDeviceStats>> ParseV1BlockIo(std::string_view bytes_text,
                                                             std::string_view operations_text);
// v2's io.stat: lines "8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0". By device number.
absl::StatusOr<std::vector<BlockDeviceStats>> ParseIoStat(std::string_view text);
// Names of files -> page sizes that have one "hugetlb.SIZE" + suffix: {"2MB"}.
std::vector<std::string> HugetlbSizesOf(const std::vector<std::string>& files, std::string_view suffix);
// cpuset list "0-3,7" -> {0,1,2,3,7}; at most kMaxCpus.
inline constexpr int kMaxCpus = 8192;
absl::StatusOr<std::vector<int>> ParseCpuList(std::string_view text);
// /proc/meminfo, in bytes.
absl::StatusOr<std::map<std::string, uint64_t>> ParseMeminfo(std::string_view text);

}  // namespace keelson::cgroups
