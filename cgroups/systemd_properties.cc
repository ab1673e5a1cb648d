#include <absl/strings/numbers.h>
#include <absl/strings/str_split.h>

#include <algorithm>
#include <limits>
#include <map>
#include <optional>

#include "base/strings.h"
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

// "0-2,5" as systemd takes it: bit by bit, the first byte has the first eight.
std::vector<uint8_t> SetOf(std::string_view list) {
  constexpr uint32_t kMost = 8192;  // CPUs a kernel can have
  std::vector<uint8_t> out;
  for (absl::string_view part : absl::StrSplit(Av(list), ',')) {
    const std::vector<absl::string_view> ends = absl::StrSplit(part, absl::MaxSplits('-', 1));
    uint32_t first = 0, last = 0;
    if (!absl::SimpleAtoi(ends.front(), &first) || !absl::SimpleAtoi(ends.back(), &last)) continue;
    for (uint32_t number = first; number <= std::min(last, kMost - 1); ++number) {
      if (out.size() <= number / 8) out.resize(number / 8 + 1);
      out[number / 8] = static_cast<uint8_t>(out[number / 8] | 1u << number % 8);
    }
  }
  return out;
}

// A file of cgroup v2, as a container's `unified` names it. What systemd has no property for it leaves alone.
void AddUnified(const std::string& file, const std::string& value, std::vector<UnitProperty>* out) {
  static const std::map<std::string_view, const char*> kNumbers = {
      {"cpu.weight", "CPUWeight"},          {"io.weight", "IOWeight"},   {"memory.high", "MemoryHigh"},
      {"memory.low", "MemoryLow"},          {"memory.max", "MemoryMax"}, {"memory.min", "MemoryMin"},
      {"memory.swap.max", "MemorySwapMax"}, {"pids.max", "TasksMax"},
  };
  const std::vector<absl::string_view> words = absl::StrSplit(value, ' ', absl::SkipEmpty());
  auto number_of = [](absl::string_view word) -> std::optional<uint64_t> {
    uint64_t number = 0;
    if (word == "max") return kInfinity;
    return absl::SimpleAtoi(word, &number) ? std::optional(number) : std::nullopt;
  };
  if (words.empty()) return;
  const std::optional<uint64_t> first = number_of(words[0]);
  if (!first.has_value()) return;
  auto named = kNumbers.find(file);
  if (named != kNumbers.end()) {
    if (words.size() == 1) out->push_back({named->second, *first});
    return;
  }
  if (file != "cpu.max" || words.size() > 2) return;
  const uint64_t period_us = words.size() == 2 ? number_of(words[1]).value_or(0) : kDefaultCpuPeriodUs;
  if (period_us == 0) return;
  out->push_back({"CPUQuotaPeriodUSec", period_us});
  out->push_back({"CPUQuotaPerSecUSec",
                  *first == kInfinity ? kInfinity : QuotaPerSecond(static_cast<int64_t>(*first), period_us)});
}

}  // namespace

std::vector<UnitProperty> LimitProperties(const Resources& resources, bool v2) {
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
  if (!v2) return out;
  for (const auto& [name, list] : {std::pair("AllowedCPUs", resources.cpuset_cpus),
                                   std::pair("AllowedMemoryNodes", resources.cpuset_mems)}) {
    if (list.has_value() && !list->empty()) out.push_back({name, SetOf(*list)});
  }
  for (const auto& [file, value] : resources.unified) AddUnified(file, value, &out);
  return out;
}

}  // namespace keelson::cgroups
