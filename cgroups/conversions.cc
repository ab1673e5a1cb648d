#include "cgroups/conversions.h"

#include <absl/strings/escaping.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/status.h"
#include "base/strings.h"
#include "cgroups/text.h"

namespace keelson::cgroups {

namespace {

constexpr uint64_t kMinWeight = 1, kMaxWeight = 10000;

int64_t SaturatingMultiply(int64_t a, int64_t b) {
  int64_t product;
  if (__builtin_mul_overflow(a, b, &product)) return std::numeric_limits<int64_t>::max();
  return product;
}

absl::Status Malformed(std::string_view what, size_t line, std::string_view text) {
  return absl::InvalidArgumentError(StrCat(what, " line ", line, ": \"", text.substr(0, 80), "\""));
}

double SharesToExactWeight(double shares) {
  double log = std::log2(shares);
  return std::pow(10.0, (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0);
}

using BlockDevices = std::map<std::pair<uint32_t, uint32_t>, BlockDeviceStats>;

// "8:0"; nullptr when it is none, or there are too many.
BlockDeviceStats* DeviceOf(std::string_view word, BlockDevices* devices) {
  std::pair<std::string_view, std::string_view> numbers = SplitOnce(word, ':');
  BlockDeviceStats device;
  if (!ParseWhole(numbers.first, &device.major) || !ParseWhole(numbers.second, &device.minor)) return nullptr;
  auto [it, fresh] = devices->try_emplace({device.major, device.minor}, device);
  return fresh && devices->size() > kMaxBlockDevices ? nullptr : &it->second;
}

std::vector<BlockDeviceStats> ValuesOf(const BlockDevices& devices) {
  std::vector<BlockDeviceStats> out;
  for (const auto& [number, device] : devices) out.push_back(device);
  return out;
}

absl::Status ParseV1BlockFile(std::string_view text, uint64_t BlockDeviceStats::*reads,
                              uint64_t BlockDeviceStats::*writes, BlockDevices* devices) {
  size_t number = 0;
  for (std::string_view line : Split(text, '\n')) {
    ++number;
    std::vector<std::string_view> words = Split(line, ' ', Empty::kSkip);
    if (words.empty() || words[0] == "Total") continue;
    BlockDeviceStats* device = words.size() == 3 ? DeviceOf(words[0], devices) : nullptr;
    uint64_t value = 0;
    if (device == nullptr || !ParseWhole(words[2], &value)) return Malformed("blkio", number, line);
    if (words[1] == "Read") device->*reads = value;
    if (words[1] == "Write") device->*writes = value;
  }
  return absl::OkStatus();
}

}  // namespace

uint64_t MilliCpuToShares(int64_t milli_cpu) {
  if (milli_cpu <= 0) return kMinShares;
  int64_t shares = SaturatingMultiply(milli_cpu, kSharesPerCpu) / kMilliCpuPerCpu;
  return std::clamp<uint64_t>(static_cast<uint64_t>(shares), kMinShares, kMaxShares);
}

int64_t MilliCpuToQuotaUs(int64_t milli_cpu, uint64_t period_us) {
  if (milli_cpu <= 0) return -1;
  int64_t quota_us = SaturatingMultiply(milli_cpu, static_cast<int64_t>(period_us)) / kMilliCpuPerCpu;
  return std::max(quota_us, kMinCpuQuotaUs);
}

int64_t QuotaUsToMilliCpu(int64_t quota_us, uint64_t period_us) {
  if (quota_us <= 0 || period_us == 0) return 0;
  return SaturatingMultiply(quota_us, kMilliCpuPerCpu) / static_cast<int64_t>(period_us);
}

int64_t SharesToMilliCpu(uint64_t shares) {
  if (shares <= kMinShares) return 0;
  // Rounded up, so that a request comes back as it went in.
  return static_cast<int64_t>((std::min(shares, kMaxShares) * kMilliCpuPerCpu + kSharesPerCpu - 1) /
                              kSharesPerCpu);
}

uint64_t SharesToWeight(uint64_t shares) {
  if (shares == 0) return 0;
  if (shares <= kMinShares) return kMinWeight;
  if (shares >= kMaxShares) return kMaxWeight;
  // ceil, less the rounding noise of the exact points (1024 -> 100).
  return static_cast<uint64_t>(std::ceil(SharesToExactWeight(static_cast<double>(shares)) - 1e-9));
}

uint64_t WeightToShares(uint64_t weight) {
  if (weight == 0) return 0;
  if (weight <= kMinWeight) return kMinShares;
  if (weight >= kMaxWeight) return kMaxShares;
  // l*l + 125*l = 612*(log10(w) + 7/34), solved for l >= 0.
  double right = 612.0 * (std::log10(static_cast<double>(weight)) + 7.0 / 34.0);
  double log = (-125.0 + std::sqrt(125.0 * 125.0 + 4.0 * right)) / 2.0;
  return std::clamp<uint64_t>(static_cast<uint64_t>(std::llround(std::exp2(log))), kMinShares, kMaxShares);
}

uint64_t SharesToWeightLinear(uint64_t shares) {
  if (shares == 0) return 0;
  shares = std::clamp(shares, kMinShares, kMaxShares);
  return 1 + (shares - kMinShares) * (kMaxWeight - kMinWeight) / (kMaxShares - kMinShares);
}

std::string HugepageSizeName(uint64_t page_size_bytes) {
  constexpr std::string_view kUnits[] = {"B", "KB", "MB", "GB", "TB", "PB"};
  size_t unit = 0;
  while (unit + 1 < std::size(kUnits) && page_size_bytes >= 1024 && page_size_bytes % 1024 == 0) {
    page_size_bytes /= 1024;
    ++unit;
  }
  return StrCat(page_size_bytes, kUnits[unit]);
}

std::string ToSystemdPath(std::string_view cgroupfs_path) {
  std::string path, name;
  for (std::string_view component : Split(cgroupfs_path, '/', Empty::kSkip)) {
    std::string escaped(component);
    std::replace(escaped.begin(), escaped.end(), '-', '_');
    StrAppend(&name, name.empty() ? "" : "-", escaped);
    StrAppend(&path, path.empty() ? "" : "/", name, kSliceSuffix);
  }
  return path;
}

absl::StatusOr<std::string> FromSystemdPath(std::string_view systemd_path) {
  std::string_view last = systemd_path.substr(systemd_path.rfind('/') + 1);
  if (systemd_path.empty() || last == "-.slice") return "";
  if (!last.ends_with(kSliceSuffix) || last.size() == kSliceSuffix.size()) {
    return absl::InvalidArgumentError(StrCat("\"", systemd_path, "\" does not end in a .slice"));
  }
  last.remove_suffix(kSliceSuffix.size());
  std::string path;
  for (std::string_view part : Split(last, '-')) {
    std::string component(part);
    if (component.empty())
      return absl::InvalidArgumentError(StrCat("\"", systemd_path, "\" has an empty component"));
    std::replace(component.begin(), component.end(), '_', '-');
    StrAppend(&path, path.empty() ? "" : "/", component);
  }
  return path;
}

absl::StatusOr<std::string> ExpandSlice(std::string_view name) {
  constexpr size_t kMaxUnitNameBytes = 255;
  // Of unit names; without ':', which parts linux.cgroupsPath.
  constexpr std::string_view kAllowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.\\";
  auto refuse = [&](std::string_view why) {
    return absl::InvalidArgumentError(
        StrCat("slice \"", absl::CHexEscape(Av(name.substr(0, 200))), "\": ", why));
  };
  if (!name.ends_with(kSliceSuffix) || name.size() == kSliceSuffix.size()) {
    return refuse("must be NAME.slice");
  }
  if (name.size() > kMaxUnitNameBytes) return refuse("too long");
  if (name.find_first_not_of(kAllowed) != std::string_view::npos) {
    return refuse("has a character that units have not");
  }
  std::string_view bare = name.substr(0, name.size() - kSliceSuffix.size());
  if (bare == "-") return "";
  std::string path, level;
  for (std::string_view part : Split(bare, '-')) {
    if (part.empty()) return refuse("has an empty component");
    StrAppend(&level, level.empty() ? "" : "-", part);
    StrAppend(&path, path.empty() ? "" : "/", level, kSliceSuffix);
  }
  return path;
}

absl::StatusOr<uint64_t> ParseNumber(std::string_view text) {
  text = StripSpace(text);
  uint64_t value = 0;
  if (!ParseWhole(text, &value)) {
    return absl::InvalidArgumentError(StrCat("not a number: \"", text.substr(0, 80), "\""));
  }
  return value;
}

absl::StatusOr<std::optional<uint64_t>> ParseLimit(std::string_view text) {
  text = StripSpace(text);
  if (text == "max" || text == "-1") return std::nullopt;
  ASSIGN_OR_RETURN(uint64_t value, ParseNumber(text));
  // v1 memory's "no limit": LONG_MAX rounded down to a page of at most 64 KiB.
  constexpr uint64_t kUnlimited = static_cast<uint64_t>(std::numeric_limits<int64_t>::max()) - 65535;
  if (value >= kUnlimited) return std::nullopt;
  return value;
}

absl::StatusOr<std::map<std::string, uint64_t>> ParseFlatKeyed(std::string_view text) {
  std::map<std::string, uint64_t> values;
  size_t number = 0;
  for (std::string_view line : Split(text, '\n')) {
    ++number;
    if (line.empty()) continue;
    std::pair<std::string_view, std::string_view> pair = SplitOnce(line, ' ');
    uint64_t value = 0;
    int64_t negative = 0;  // per-CPU sums may be below zero for a moment: 0
    if (pair.first.empty() || (!ParseWhole(pair.second, &value) && !ParseWhole(pair.second, &negative))) {
      return Malformed("keyed file", number, line);
    }
    values.emplace(pair.first, value);
  }
  return values;
}

absl::StatusOr<std::vector<pid_t>> ParsePids(std::string_view text) {
  std::vector<pid_t> pids;
  size_t number = 0;
  for (std::string_view line : Split(text, '\n')) {
    ++number;
    if (line.empty()) continue;
    int32_t pid = 0;
    if (!ParseWhole(line, &pid) || pid < 0) return Malformed("cgroup.procs", number, line);
    if (pid > 0) pids.push_back(pid);
  }
  return pids;
}

absl::StatusOr<Psi> ParsePsi(std::string_view text) {
  Psi psi;
  size_t number = 0;
  bool found = false;
  for (std::string_view line : Split(text, '\n')) {
    ++number;
    if (line.empty()) continue;
    std::vector<std::string_view> words = Split(line, ' ', Empty::kSkip);
    PsiLine* target = words.empty()        ? nullptr
                      : words[0] == "some" ? &psi.some
                      : words[0] == "full" ? &psi.full
                                           : nullptr;
    if (target == nullptr) return Malformed("pressure", number, line);
    for (size_t i = 1; i < words.size(); ++i) {
      std::pair<std::string_view, std::string_view> pair = SplitOnce(words[i], '=');
      double* average = pair.first == "avg10"    ? &target->avg10_percent
                        : pair.first == "avg60"  ? &target->avg60_percent
                        : pair.first == "avg300" ? &target->avg300_percent
                                                 : nullptr;
      bool ok = average != nullptr      ? ParseWhole(pair.second, average) && std::isfinite(*average)
                : pair.first == "total" ? ParseWhole(pair.second, &target->total_us)
                                        : true;  // a key of a later kernel
      if (!ok) return Malformed("pressure", number, line);
    }
    found = true;
  }
  if (!found) return absl::InvalidArgumentError("pressure: empty");
  return psi;
}

absl::StatusOr<std::vector<BlockDeviceStats>> ParseV1BlockIo(std::string_view bytes_text,
                                                             std::string_view operations_text) {
  BlockDevices devices;
  RETURN_IF_ERROR(
      ParseV1BlockFile(bytes_text, &BlockDeviceStats::read_bytes, &BlockDeviceStats::write_bytes, &devices));
  RETURN_IF_ERROR(ParseV1BlockFile(operations_text, &BlockDeviceStats::read_operations,
                                   &BlockDeviceStats::write_operations, &devices));
  return ValuesOf(devices);
}

absl::StatusOr<std::vector<BlockDeviceStats>> ParseIoStat(std::string_view text) {
  BlockDevices devices;
  size_t number = 0;
  for (std::string_view line : Split(text, '\n')) {
    ++number;
    BlockDeviceStats* device = nullptr;
    for (std::string_view word : Split(line, ' ', Empty::kSkip)) {
      std::pair<std::string_view, std::string_view> pair = SplitOnce(word, '=');
      // Some kernels print a device without figures and go on in the same line with the next.
      if (pair.second.empty()) {
        device = DeviceOf(word, &devices);
        if (device == nullptr) return Malformed("io.stat", number, line);
        continue;
      }
      if (device == nullptr) return Malformed("io.stat", number, line);
      uint64_t ignored = 0;
      uint64_t* value = pair.first == "rbytes"   ? &device->read_bytes
                        : pair.first == "wbytes" ? &device->write_bytes
                        : pair.first == "rios"   ? &device->read_operations
                        : pair.first == "wios"   ? &device->write_operations
                                                 : &ignored;
      // Controllers add keys of their own (cost.*), some of them not numbers.
      if (!ParseWhole(pair.second, value) && value != &ignored) return Malformed("io.stat", number, line);
    }
  }
  return ValuesOf(devices);
}

std::vector<std::string> HugetlbSizesOf(const std::vector<std::string>& files, std::string_view suffix) {
  constexpr std::string_view kPrefix = "hugetlb.";
  std::vector<std::string> sizes;
  for (std::string_view file : files) {
    if (file.size() <= kPrefix.size() + suffix.size() || !file.starts_with(kPrefix) ||
        !file.ends_with(suffix))
      continue;
    file.remove_prefix(kPrefix.size());
    file.remove_suffix(suffix.size());
    if (file.find('.') == std::string_view::npos) sizes.emplace_back(file);  // not hugetlb.2MB.rsvd.*
  }
  return sizes;
}

absl::StatusOr<std::vector<int>> ParseCpuList(std::string_view text) {
  std::vector<int> cpus;
  text = StripSpace(text);
  if (text.empty()) return cpus;
  for (std::string_view range : Split(text, ',')) {
    std::pair<std::string_view, std::string_view> ends = SplitOnce(range, '-');
    bool single = range.find('-') == std::string_view::npos;
    int first = 0, last = 0;
    if (!ParseWhole(ends.first, &first) || !ParseWhole(single ? ends.first : ends.second, &last) ||
        first < 0 || last < first || last >= kMaxCpus) {
      return absl::InvalidArgumentError(
          StrCat("CPU list \"", text.substr(0, 80), "\": bad range \"", range.substr(0, 40), "\""));
    }
    for (int cpu = first; cpu <= last; ++cpu) cpus.push_back(cpu);
    if (cpus.size() > static_cast<size_t>(kMaxCpus)) return absl::InvalidArgumentError("CPU list: too long");
  }
  std::sort(cpus.begin(), cpus.end());
  cpus.erase(std::unique(cpus.begin(), cpus.end()), cpus.end());
  return cpus;
}

absl::StatusOr<std::map<std::string, uint64_t>> ParseMeminfo(std::string_view text) {
  std::map<std::string, uint64_t> values;
  size_t number = 0;
  for (std::string_view line : Split(text, '\n')) {
    ++number;
    if (line.empty()) continue;
    std::pair<std::string_view, std::string_view> pair = SplitOnce(line, ':');
    std::vector<std::string_view> words = Split(pair.second, ' ', Empty::kSkip);
    uint64_t value = 0;
    if (words.empty() || !ParseWhole(words[0], &value)) return Malformed("meminfo", number, line);
    uint64_t scale = words.size() > 1 && words[1] == "kB" ? 1024 : 1;
    if (__builtin_mul_overflow(value, scale, &value)) return Malformed("meminfo", number, line);
    values.emplace(pair.first, value);
  }
  return values;
}

}  // namespace keelson::cgroups
