#include "cri/nri/resources.h"

#include <absl/strings/numbers.h>

#include <algorithm>
#include <limits>
#include <string>

#include "base/status.h"
#include "base/strings.h"

namespace keelson::cri::nri {

namespace {

constexpr char kPidsMax[] = "pids.max";
constexpr char kUnlimited[] = "max";

absl::Status Unsupported(std::string_view field) {
  return absl::UnimplementedError(StrCat("linux.resources.", field, ": this runtime does not set it"));
}

absl::Status ToSigned(uint64_t value, std::string_view field, int64_t* out) {
  if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    return absl::InvalidArgumentError(StrCat("linux.resources.", field, ": ", value, " is too large"));
  }
  *out = static_cast<int64_t>(value);
  return absl::OkStatus();
}

absl::Status MergeMemory(const pb::LinuxMemory& from, criv1::LinuxContainerResources* to) {
  if (from.has_reservation()) return Unsupported("memory.reservation");
  if (from.has_kernel()) return Unsupported("memory.kernel");
  if (from.has_kernel_tcp()) return Unsupported("memory.kernel_tcp");
  if (from.has_swappiness()) return Unsupported("memory.swappiness");
  if (from.has_disable_oom_killer()) return Unsupported("memory.disable_oom_killer");
  if (from.has_use_hierarchy()) return Unsupported("memory.use_hierarchy");
  // 0 is upstream's "as it is", too.
  if (from.limit().value() != 0) {
    to->set_memory_limit_in_bytes(from.limit().value());
    to->clear_memory_swap_limit_in_bytes();  // as much as memory
  }
  if (from.swap().value() != 0) to->set_memory_swap_limit_in_bytes(from.swap().value());
  return absl::OkStatus();
}

absl::Status MergeCpu(const pb::LinuxCPU& from, criv1::LinuxContainerResources* to) {
  if (from.has_realtime_runtime()) return Unsupported("cpu.realtime_runtime");
  if (from.has_realtime_period()) return Unsupported("cpu.realtime_period");
  int64_t value = 0;
  if (from.has_shares()) {
    RETURN_IF_ERROR(ToSigned(from.shares().value(), "cpu.shares", &value));
    to->set_cpu_shares(value);
  }
  if (from.has_quota()) to->set_cpu_quota(from.quota().value());
  if (from.has_period()) {
    RETURN_IF_ERROR(ToSigned(from.period().value(), "cpu.period", &value));
    to->set_cpu_period(value);
  }
  if (!from.cpus().empty()) to->set_cpuset_cpus(from.cpus());
  if (!from.mems().empty()) to->set_cpuset_mems(from.mems());
  return absl::OkStatus();
}

}  // namespace

pb::LinuxResources FromCri(const criv1::LinuxContainerResources& from) {
  pb::LinuxResources to;
  if (from.memory_limit_in_bytes() != 0)
    to.mutable_memory()->mutable_limit()->set_value(from.memory_limit_in_bytes());
  if (from.memory_swap_limit_in_bytes() != 0) {
    to.mutable_memory()->mutable_swap()->set_value(from.memory_swap_limit_in_bytes());
  }
  pb::LinuxCPU* cpu = to.mutable_cpu();
  if (from.cpu_shares() > 0) cpu->mutable_shares()->set_value(static_cast<uint64_t>(from.cpu_shares()));
  if (from.cpu_quota() != 0) cpu->mutable_quota()->set_value(from.cpu_quota());
  if (from.cpu_period() > 0) cpu->mutable_period()->set_value(static_cast<uint64_t>(from.cpu_period()));
  cpu->set_cpus(from.cpuset_cpus());
  cpu->set_mems(from.cpuset_mems());
  for (const criv1::HugepageLimit& limit : from.hugepage_limits()) {
    pb::HugepageLimit* out = to.add_hugepage_limits();
    out->set_page_size(limit.page_size());
    out->set_limit(limit.limit());
  }
  for (const auto& [key, value] : from.unified()) {
    int64_t pids = -1;
    if (key == kPidsMax && (value == kUnlimited || absl::SimpleAtoi(value, &pids))) {
      to.mutable_pids()->set_limit(pids);
    } else {
      (*to.mutable_unified())[key] = value;
    }
  }
  return to;
}

absl::Status MergeIntoCri(const pb::LinuxResources& from, criv1::LinuxContainerResources* to) {
  if (!from.blockio_class().value().empty()) return Unsupported("blockio_class");
  if (!from.rdt_class().value().empty()) return Unsupported("rdt_class");
  RETURN_IF_ERROR(MergeMemory(from.memory(), to));
  RETURN_IF_ERROR(MergeCpu(from.cpu(), to));
  for (const pb::HugepageLimit& limit : from.hugepage_limits()) {
    auto* limits = to->mutable_hugepage_limits();
    auto same = std::find_if(limits->begin(), limits->end(), [&](const criv1::HugepageLimit& other) {
      return other.page_size() == limit.page_size();
    });
    criv1::HugepageLimit* out = same == limits->end() ? limits->Add() : &*same;
    out->set_page_size(limit.page_size());
    out->set_limit(limit.limit());
  }
  for (const auto& [key, value] : from.unified()) (*to->mutable_unified())[key] = value;
  if (from.has_pids()) {
    (*to->mutable_unified())[kPidsMax] =
        from.pids().limit() < 0 ? std::string(kUnlimited) : StrCat(from.pids().limit());
  }
  return absl::OkStatus();
}

absl::Status CheckUpdate(const pb::LinuxResources& from) {
  if (from.devices().empty()) return absl::OkStatus();
  return absl::UnimplementedError("linux.resources.devices: an update does not change them");
}

}  // namespace keelson::cri::nri
