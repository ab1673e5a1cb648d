// linux.resources: cgroup limits from the CRI's, in the runtime-spec's terms (which are v1's; runtimes
// convert).
#include <absl/strings/match.h>
#include <absl/strings/numbers.h>

#include <algorithm>

#include "base/status.h"
#include "oci/spec_parts.h"

namespace keelson::oci {
namespace {

constexpr int64_t kMinOomScoreAdj = -1000, kMaxOomScoreAdj = 1000;
constexpr int64_t kUnlimited = -1;
constexpr size_t kMaxUnified = 64;
constexpr std::string_view kResourcesField = "linux.resources";

absl::Status AtLeast(int64_t value, int64_t minimum, std::string_view name) {
  if (value >= minimum) return absl::OkStatus();
  return absl::InvalidArgumentError(
      StrCat(kResourcesField, ".", name, ": ", value, " is less than ", minimum));
}

absl::Status AddCpu(const criv1::LinuxContainerResources& in, SpecResources* out) {
  RETURN_IF_ERROR(AtLeast(in.cpu_shares(), 0, "cpu_shares"));
  RETURN_IF_ERROR(AtLeast(in.cpu_period(), 0, "cpu_period"));
  RETURN_IF_ERROR(AtLeast(in.cpu_quota(), kUnlimited, "cpu_quota"));
  if (in.cpu_shares() != 0) out->cpu_shares = static_cast<uint64_t>(in.cpu_shares());
  if (in.cpu_quota() != 0) out->cpu_quota_us = in.cpu_quota();
  if (in.cpu_period() != 0) out->cpu_period_us = static_cast<uint64_t>(in.cpu_period());
  for (const auto& [list, name] :
       {std::pair{&in.cpuset_cpus(), "cpuset_cpus"}, std::pair{&in.cpuset_mems(), "cpuset_mems"}}) {
    if (list->find_first_not_of("0123456789,-") == std::string::npos) continue;
    return absl::InvalidArgumentError(
        StrCat(kResourcesField, ".", name, ": \"", *list, "\" is no list of numbers"));
  }
  out->cpuset_cpus = in.cpuset_cpus();
  out->cpuset_mems = in.cpuset_mems();
  return absl::OkStatus();
}

absl::Status AddMemory(const criv1::LinuxContainerResources& in, const HostFacts& host, SpecResources* out,
                       Warnings* warnings) {
  const int64_t limit = in.memory_limit_in_bytes(), swap = in.memory_swap_limit_in_bytes();
  RETURN_IF_ERROR(AtLeast(limit, kUnlimited, "memory_limit_in_bytes"));
  RETURN_IF_ERROR(AtLeast(swap, kUnlimited, "memory_swap_limit_in_bytes"));
  if (limit != 0) out->memory_limit_bytes = limit;
  if (!host.swap_controller) {
    if (swap != 0 && swap != limit) {
      warnings->push_back("memory_swap_limit_in_bytes: the kernel does not count swap, not set");
    }
    return absl::OkStatus();
  }
  if (swap > 0 && swap < limit) {
    return absl::InvalidArgumentError(StrCat(kResourcesField, ".memory_swap_limit_in_bytes: ", swap,
                                             " is less than the memory limit ", limit,
                                             ", which it includes"));
  }
  if (swap > 0 && limit <= 0) {
    return absl::InvalidArgumentError(
        StrCat(kResourcesField, ".memory_swap_limit_in_bytes: needs memory_limit_in_bytes"));
  }
  if (swap != 0) {
    out->memory_swap_bytes = swap;
  } else if (limit != 0) {
    out->memory_swap_bytes = limit;  // nothing is swapped unless asked for
  }
  return absl::OkStatus();
}

// "2MB", "1GB", "64KB".
bool IsPageSize(std::string_view text) {
  if (text.size() < 3 || text.back() != 'B') return false;
  const char unit = text[text.size() - 2];
  const std::string_view digits = text.substr(0, text.size() - 2);
  return (unit == 'K' || unit == 'M' || unit == 'G') && digits[0] != '0' && digits.size() < 10 &&
         digits.find_first_not_of("0123456789") == std::string_view::npos;
}

// The kubelet sends a limit of 0 for every page size of the node.
absl::Status AddHugepages(const criv1::LinuxContainerResources& in, const HostFacts& host, SpecResources* out,
                          Warnings* warnings) {
  bool missing = false;
  for (const criv1::HugepageLimit& limit : in.hugepage_limits()) {
    if (!IsPageSize(limit.page_size())) {
      return absl::InvalidArgumentError(StrCat(kResourcesField, ".hugepage_limits: \"", limit.page_size(),
                                               "\" is no page size such as 2MB"));
    }
    missing |= !host.hugetlb_controller && limit.limit() != 0;
    if (host.hugetlb_controller) out->hugepages.push_back({limit.page_size(), limit.limit()});
  }
  if (missing) warnings->push_back("hugepage_limits: the host has no hugetlb controller, not set");
  return absl::OkStatus();
}

// Keys are names of files in the container's cgroup: they must not lead anywhere else, and not be one of the
// files that move or kill processes.
bool IsUnifiedKey(std::string_view key) {
  const size_t dot = key.find('.');
  return dot != std::string_view::npos && dot > 0 && key.find("..") == std::string_view::npos &&
         key.back() != '.' && key.substr(0, dot) != "cgroup" &&
         key.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789._BKMG") == std::string_view::npos;
}

absl::Status AddUnified(const criv1::LinuxContainerResources& in, const HostFacts& host, SpecResources* out) {
  if (in.unified_size() > static_cast<int>(kMaxUnified)) {
    return absl::InvalidArgumentError(StrCat(kResourcesField, ".unified: more than ", kMaxUnified, " keys"));
  }
  for (const auto& [key, value] : in.unified()) {
    if (!IsUnifiedKey(key)) {
      return absl::InvalidArgumentError(
          StrCat(kResourcesField, ".unified: \"", key, "\" is no resource control file"));
    }
    if (host.cgroup_v2) {
      out->unified[key] = value;
      continue;
    }
    int64_t pids = kUnlimited;
    if (key != "pids.max") {
      return absl::InvalidArgumentError(
          StrCat(kResourcesField, ".unified: \"", key, "\" needs cgroup v2, this host has v1"));
    }
    if (value != "max" && (!absl::SimpleAtoi(value, &pids) || pids < 0)) {
      return absl::InvalidArgumentError(
          StrCat(kResourcesField, ".unified: pids.max: \"", value, "\" is no number"));
    }
    out->pids_limit = pids;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SpecResources> BuildResources(const criv1::LinuxContainerResources& resources,
                                             const HostFacts& host, Warnings* warnings) {
  SpecResources out;
  RETURN_IF_ERROR(AddCpu(resources, &out));
  RETURN_IF_ERROR(AddMemory(resources, host, &out, warnings));
  RETURN_IF_ERROR(AddHugepages(resources, host, &out, warnings));
  RETURN_IF_ERROR(AddUnified(resources, host, &out));
  return out;
}

absl::StatusOr<int64_t> ResolveOomScoreAdj(int64_t wanted, const HostFacts& host, Warnings* warnings) {
  if (wanted < kMinOomScoreAdj || wanted > kMaxOomScoreAdj) {
    return absl::InvalidArgumentError(StrCat(kResourcesField, ".oom_score_adj: ", wanted, " is out of range ",
                                             kMinOomScoreAdj, "..", kMaxOomScoreAdj));
  }
  if (wanted >= host.oom_score_adj || host.can_lower_oom_score_adj) return wanted;
  warnings->push_back(StrCat("oom_score_adj: may not be lower than ours (no CAP_SYS_RESOURCE): ",
                             host.oom_score_adj, " instead of ", wanted));
  return host.oom_score_adj;
}

absl::StatusOr<cgroups::Resources> CgroupResources(const criv1::LinuxContainerResources& resources,
                                                   const HostFacts& host) {
  Warnings told_before;
  ASSIGN_OR_RETURN(const SpecResources in, BuildResources(resources, host, &told_before));
  cgroups::Resources out;
  out.cpu_shares = in.cpu_shares;
  out.cpu_quota_us = in.cpu_quota_us;
  out.cpu_period_us = in.cpu_period_us;
  out.memory_limit_bytes = in.memory_limit_bytes;
  out.pids_limit = in.pids_limit;
  for (const HugepageLimit& limit : in.hugepages)
    out.hugepage_limit_bytes[limit.page_size] = limit.limit_bytes;
  if (!in.cpuset_cpus.empty()) out.cpuset_cpus = in.cpuset_cpus;
  if (!in.cpuset_mems.empty()) out.cpuset_mems = in.cpuset_mems;
  // v2 counts swap alone.
  if (host.cgroup_v2 && in.memory_swap_bytes.has_value()) {
    out.unified["memory.swap.max"] =
        *in.memory_swap_bytes < 0 ? "max" : StrCat(*in.memory_swap_bytes - in.memory_limit_bytes.value_or(0));
  }
  for (const auto& [file, value] : in.unified) out.unified[file] = value;
  return out;
}

absl::StatusOr<std::string> GenerateResources(const criv1::LinuxContainerResources& resources,
                                              const HostFacts& host, Warnings* warnings) {
  ASSIGN_OR_RETURN(const SpecResources out, BuildResources(resources, host, warnings));
  return RenderResources(out);
}

}  // namespace keelson::oci
