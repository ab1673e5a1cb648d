#include <limits>

#include "cgroups/conversions.h"
#include "cgroups/systemd_units.h"

namespace keelson::cgroups {

namespace {

constexpr uint64_t kInfinity = std::numeric_limits<uint64_t>::max();
constexpr uint64_t kUsPerS = 1'000'000;
// systemd keeps quotas in hundredths of a CPU.
constexpr uint64_t kQuotaStepUs = 10'000;

uint64_t OrInfinity(int64_t value) { return value < 0 ? kInfinity : static_cast<uint64_t>(value); }

// CPU time in a second; rounded up, as the limit's writer gets at least what it says.
uint64_t QuotaPerSecond(int64_t quota_us, uint64_t period_us) {
  if (quota_us < 0 || period_us == 0) return kInfinity;
  const uint64_t per_s = static_cast<uint64_t>(quota_us) * kUsPerS / period_us;
  return (per_s + kQuotaStepUs - 1) / kQuotaStepUs * kQuotaStepUs;
}

}  // namespace

std::vector<UnitProperty> SliceProperties(const Resources& resources, bool v2) {
  std::vector<UnitProperty> out;
  if (resources.cpu_shares.has_value()) {
    if (v2) {
      out.push_back({"CPUWeight", SharesToWeight(*resources.cpu_shares)});
    } else {
      out.push_back({"CPUShares", *resources.cpu_shares});
    }
  }
  if (resources.cpu_quota_us.has_value()) {
    const uint64_t period_us = resources.cpu_period_us.value_or(kDefaultCpuPeriodUs);
    out.push_back({"CPUQuotaPeriodUSec", period_us});
    out.push_back({"CPUQuotaPerSecUSec", QuotaPerSecond(*resources.cpu_quota_us, period_us)});
  }
  if (resources.memory_limit_bytes.has_value()) {
    out.push_back({v2 ? "MemoryMax" : "MemoryLimit", OrInfinity(*resources.memory_limit_bytes)});
  }
  if (v2 && resources.memory_min_bytes.has_value()) {
    out.push_back({"MemoryMin", static_cast<uint64_t>(std::max<int64_t>(*resources.memory_min_bytes, 0))});
  }
  if (v2 && resources.memory_high_bytes.has_value()) {
    out.push_back({"MemoryHigh", OrInfinity(*resources.memory_high_bytes)});
  }
  if (resources.pids_limit.has_value()) out.push_back({"TasksMax", OrInfinity(*resources.pids_limit)});
  return out;
}

}  // namespace keelson::cgroups
