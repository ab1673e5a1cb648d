// DiscoverHostFacts: what this host and this process offer, from /proc and the cgroup mounts it names.
#include <absl/strings/ascii.h>
#include <absl/strings/match.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_split.h>
#include <sys/stat.h>

#include <filesystem>

#include "base/fd.h"
#include "base/status.h"
#include "cgroups/layout.h"
#include "oci/spec.h"

namespace keelson::oci {
namespace {

constexpr int kCapSysResource = 24;
constexpr uint64_t kInfinity = ~0ull;
constexpr uint32_t kAllIds = 4294967295u;

#if defined(__x86_64__)
constexpr const char* kArchitecture = "amd64";
#elif defined(__aarch64__)
constexpr const char* kArchitecture = "arm64";
#elif defined(__riscv)
constexpr const char* kArchitecture = "riscv64";
#elif defined(__s390x__)
constexpr const char* kArchitecture = "s390x";
#elif defined(__powerpc64__)
constexpr const char* kArchitecture = "ppc64le";
#else
constexpr const char* kArchitecture = "";
#endif

bool Exists(const std::string& path) {
  struct stat st = {};
  return ::stat(path.c_str(), &st) == 0;
}

absl::StatusOr<std::string> ReadTrimmed(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  return std::string(absl::StripAsciiWhitespace(text));
}

absl::StatusOr<int> ReadInt(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadTrimmed(path));
  int value = 0;
  if (!absl::SimpleAtoi(text, &value)) {
    return absl::InvalidArgumentError(StrCat(path, ": \"", text, "\" is not a number"));
  }
  return value;
}

// Value of "Name:\tvalue" of /proc/PID/status; "" when absent.
std::string StatusField(const std::string& status, std::string_view name) {
  for (const absl::string_view line : absl::StrSplit(status, '\n')) {
    const size_t colon = line.find(':');
    if (colon != absl::string_view::npos && Sv(line.substr(0, colon)) == name) {
      return std::string(absl::StripAsciiWhitespace(line.substr(colon + 1)));
    }
  }
  return "";
}

absl::StatusOr<uint64_t> CapabilityField(const std::string& status, std::string_view name) {
  const std::string text = StatusField(status, name);
  uint64_t bits = 0;
  if (!absl::SimpleHexAtoi(text, &bits)) {
    return absl::InvalidArgumentError(StrCat("self/status: ", name, ": \"", text, "\" is not a number"));
  }
  return bits;
}

// "6.1.0-18-amd64" -> 6, 1.
absl::Status ParseRelease(const std::string& release, HostFacts* facts) {
  const std::vector<std::string> parts = absl::StrSplit(release, absl::MaxSplits('.', 2));
  const std::string minor =
      parts.size() > 1 ? parts[1].substr(0, parts[1].find_first_not_of("0123456789")) : "";
  if (!absl::SimpleAtoi(parts[0], &facts->kernel_major) || !absl::SimpleAtoi(minor, &facts->kernel_minor)) {
    return absl::InvalidArgumentError(StrCat("sys/kernel/osrelease: \"", release, "\" is no version"));
  }
  return absl::OkStatus();
}

// The hard limit in "Max open files            1024                 1048576              files".
absl::StatusOr<uint64_t> MaxOpenFiles(const std::string& limits) {
  for (absl::string_view line : absl::StrSplit(limits, '\n')) {
    if (!absl::ConsumePrefix(&line, "Max open files")) continue;
    const std::vector<std::string> fields = absl::StrSplit(line, ' ', absl::SkipEmpty());
    uint64_t hard = 0;
    if (fields.size() >= 2 && fields[1] == "unlimited") return kInfinity;
    if (fields.size() >= 2 && absl::SimpleAtoi(fields[1], &hard)) return hard;
  }
  return absl::InvalidArgumentError("self/limits: no line \"Max open files\"");
}

bool MapsAllIds(const std::string& uid_map) {
  const std::vector<std::string> fields =
      absl::StrSplit(uid_map, absl::ByAnyChar(" \n\t"), absl::SkipEmpty());
  uint32_t count = 0;
  return fields.size() == 3 && fields[0] == "0" && fields[1] == "0" && absl::SimpleAtoi(fields[2], &count) &&
         count == kAllIds;
}

// The root of a v2 hierarchy has no limits: a cgroup below it tells, if one has the controller. Early on a
// host without systemd there is none; then it is what the kernel does unless told otherwise.
bool CountsSwapV2(const std::string& proc_root, const std::string& unified_mount) {
  bool counts_memory = false;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(unified_mount, error)) {
    if (Exists(entry.path().string() + "/memory.swap.max")) return true;
    counts_memory |= Exists(entry.path().string() + "/memory.max");
  }
  if (Exists(unified_mount + "/memory.swap.max")) return true;  // the root of a namespace
  if (counts_memory || Exists(unified_mount + "/memory.max")) return false;
  const std::string words = StrCat(" ", ReadFile(proc_root + "/cmdline").value_or(""), " ");
  return Exists(proc_root + "/swaps") && !absl::StrContains(words, " swapaccount=0");
}

absl::Status ReadMounts(const std::string& proc_root, HostFacts* facts) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(proc_root + "/self/mounts", cgroups::kMaxMountsBytes));
  ASSIGN_OR_RETURN(const std::vector<cgroups::MountEntry> mounts, cgroups::ParseMounts(text));
  for (const cgroups::MountEntry& mount : mounts) facts->selinux |= mount.fs_type == "selinuxfs";
  absl::StatusOr<cgroups::Layout> layout = cgroups::LayoutOf(mounts, "");
  if (!layout.ok()) return Annotate(layout.status(), "find the cgroup hierarchies");
  facts->cgroup_v2 = layout->mode == cgroups::Mode::kV2;
  if (facts->cgroup_v2) {
    absl::StatusOr<std::string> controllers = ReadFile(layout->unified_mount + "/cgroup.controllers");
    const std::string padded = StrCat(" ", absl::StripAsciiWhitespace(controllers.value_or("")), " ");
    facts->hugetlb_controller = absl::StrContains(padded, "hugetlb");
    facts->swap_controller =
        absl::StrContains(padded, " memory ") && CountsSwapV2(proc_root, layout->unified_mount);
    return absl::OkStatus();
  }
  facts->hugetlb_controller = layout->v1_mounts.count("hugetlb") != 0;
  auto memory = layout->v1_mounts.find("memory");
  facts->swap_controller =
      memory != layout->v1_mounts.end() && Exists(memory->second + "/memory.memsw.limit_in_bytes");
  return absl::OkStatus();
}

absl::Status ReadSelf(const std::string& self, HostFacts* facts) {
  ASSIGN_OR_RETURN(const std::string status, ReadFile(self + "/status"));
  ASSIGN_OR_RETURN(facts->bounding_capabilities, CapabilityField(status, "CapBnd"));
  ASSIGN_OR_RETURN(const uint64_t effective, CapabilityField(status, "CapEff"));
  facts->seccomp = !StatusField(status, "Seccomp").empty();
  ASSIGN_OR_RETURN(facts->oom_score_adj, ReadInt(self + "/oom_score_adj"));
  ASSIGN_OR_RETURN(const std::string limits, ReadFile(self + "/limits"));
  ASSIGN_OR_RETURN(facts->max_open_files, MaxOpenFiles(limits));
  ASSIGN_OR_RETURN(const std::string uid_map, ReadFile(self + "/uid_map"));
  facts->in_user_namespace = !MapsAllIds(uid_map);
  // The capability counts in the first user namespace only.
  facts->can_lower_oom_score_adj = ((effective >> kCapSysResource) & 1) != 0 && !facts->in_user_namespace;
  // The file is there, but cannot be read, where AppArmor is built in and another module took its place.
  facts->apparmor = ReadFile(self + "/attr/apparmor/current").ok();
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<HostFacts> DiscoverHostFacts(const std::string& proc_root) {
  HostFacts facts;
  facts.architecture = kArchitecture;
  ASSIGN_OR_RETURN(facts.last_capability, ReadInt(proc_root + "/sys/kernel/cap_last_cap"));
  ASSIGN_OR_RETURN(const std::string release, ReadTrimmed(proc_root + "/sys/kernel/osrelease"));
  RETURN_IF_ERROR(ParseRelease(release, &facts));
  RETURN_IF_ERROR(ReadSelf(proc_root + "/self", &facts));
  RETURN_IF_ERROR(ReadMounts(proc_root, &facts));
  return facts;
}

}  // namespace keelson::oci
