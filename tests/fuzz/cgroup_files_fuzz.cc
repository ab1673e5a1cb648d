// The files the cgroup managers read: any bytes in /proc/mounts, /proc/*/cgroup, cgroup.procs, *.stat,
// *.pressure, limits and CPU lists. No crash; what is accepted stays within its bounds and survives being
// written again.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "cgroups/conversions.h"
#include "cgroups/layout.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace keelson::cgroups;
  std::string_view text(reinterpret_cast<const char*>(data), size);
  if (auto mounts = ParseMounts(text); mounts.ok()) {
    if (mounts->size() > kMaxMountEntries) abort();
    if (auto layout = LayoutOf(*mounts, ""); layout.ok()) {
      bool has_v1 = false;
      for (const auto& [controller, point] : layout->v1_mounts) {
        if (controller.empty() || controller == "rw") abort();
        has_v1 |= controller.rfind("name=", 0) != 0;
      }
      if (has_v1 == (layout->mode == Mode::kV2)) abort();
    }
  }
  (void)ParseProcCgroups(text);
  if (auto paths = ParseProcPidCgroup(text); paths.ok()) {
    for (const auto& [controller, path] : *paths) (void)ValidatePath(path);
  }
  (void)ParseFlatKeyed(text);
  (void)ParseMeminfo(text);
  (void)ParseLimit(text);
  (void)ParsePsi(text);
  if (auto pids = ParsePids(text); pids.ok()) {
    for (pid_t pid : *pids) {
      if (pid <= 0) abort();
    }
  }
  if (auto cpus = ParseCpuList(text); cpus.ok()) {
    for (int cpu : *cpus) {
      if (cpu < 0 || cpu >= kMaxCpus) abort();
    }
    if (cpus->size() > static_cast<size_t>(kMaxCpus)) abort();
  }
  if (auto path = FromSystemdPath(text); path.ok() && !path->empty() && ValidatePath(*path).ok()) {
    auto again = FromSystemdPath(ToSystemdPath(*path));
    if (!again.ok() || *again != *path) abort();
  }
  return 0;
}
