#include "cgroups/layout.h"

#include <algorithm>
#include <set>

#include "base/fd.h"
#include "base/mounts.h"
#include "base/status.h"
#include "base/strings.h"
#include "cgroups/libcgroup_mounts.h"
#include "cgroups/text.h"

namespace keelson::cgroups {

namespace {

absl::Status BadLine(std::string_view file, size_t number, std::string_view why) {
  return absl::InvalidArgumentError(StrCat(file, " line ", number, ": ", why));
}

// Mount options that are not controllers.
bool IsController(std::string_view option) {
  static const auto* others = new std::set<std::string_view>{
      "rw",         "ro",          "noexec",   "nosuid",      "nodev",   "relatime", "noatime",
      "nodiratime", "strictatime", "lazytime", "sync",        "dirsync", "seclabel", "clone_children",
      "noprefix",   "xattr",       "none",     "nosymfollow", "all"};
  return !others->contains(option) &&
         (option.substr(0, 5) == "name=" || option.find('=') == std::string_view::npos);
}

}  // namespace

std::string_view ModeName(Mode mode) {
  switch (mode) {
    case Mode::kV1:
      return "v1";
    case Mode::kV2:
      return "v2";
    case Mode::kHybrid:
      return "hybrid";
  }
  return "unknown";
}

absl::StatusOr<std::vector<MountEntry>> ParseMounts(std::string_view text) {
  if (text.size() > kMaxMountsBytes) return absl::ResourceExhaustedError("mounts: file too large");
  std::vector<MountEntry> entries;
  size_t number = 0;
  for (std::string_view line : Split(text, '\n')) {
    ++number;
    if (line.empty()) continue;
    if (entries.size() >= kMaxMountEntries) return absl::ResourceExhaustedError("mounts: too many entries");
    std::vector<std::string_view> fields = Split(line, ' ', Empty::kSkip);
    if (fields.size() < 4) return BadLine("mounts", number, "fewer than 4 fields");
    MountEntry entry;
    entry.device = UnescapeMountField(fields[0]);
    entry.mount_point = UnescapeMountField(fields[1]);
    entry.fs_type = std::string(fields[2]);
    for (std::string_view option : Split(fields[3], ',', Empty::kSkip)) {
      entry.options.push_back(UnescapeMountField(option));
    }
    entries.push_back(std::move(entry));
  }
  return entries;
}

absl::StatusOr<std::vector<ControllerInfo>> ParseProcCgroups(std::string_view text) {
  std::vector<ControllerInfo> controllers;
  size_t number = 0;
  for (std::string_view line : Split(text, '\n')) {
    ++number;
    if (line.empty() || line[0] == '#') continue;
    std::vector<std::string_view> fields = Split(line, '\t', Empty::kSkip);
    ControllerInfo info;
    int enabled = 0;
    if (fields.size() != 4 || !ParseWhole(fields[1], &info.hierarchy) || !ParseWhole(fields[3], &enabled)) {
      return BadLine("cgroups", number, "want name, hierarchy, count, enabled");
    }
    info.name = std::string(fields[0]);
    info.enabled = enabled != 0;
    controllers.push_back(std::move(info));
  }
  return controllers;
}

absl::StatusOr<std::map<std::string, std::string>> ParseProcPidCgroup(std::string_view text) {
  std::map<std::string, std::string> paths;
  size_t number = 0;
  for (std::string_view line : Split(text, '\n')) {
    ++number;
    if (line.empty()) continue;
    auto [hierarchy_text, rest] = SplitOnce(line, ':');
    auto [controllers, absolute] = SplitOnce(rest, ':');
    int hierarchy = 0;
    if (!ParseWhole(hierarchy_text, &hierarchy) || absolute.empty() || absolute[0] != '/') {
      return BadLine("cgroup", number, "want hierarchy:controllers:/path");
    }
    std::string path(absolute.substr(1));
    for (std::string_view controller : Split(controllers, ',')) paths.emplace(controller, path);
  }
  return paths;
}

std::vector<std::string> Layout::V1MountPoints() const {
  std::set<std::string> points;
  for (const auto& [controller, point] : v1_mounts) points.insert(point);
  return {points.begin(), points.end()};
}

absl::StatusOr<Layout> LayoutOf(const std::vector<MountEntry>& mounts, std::string_view root) {
  Layout layout;
  layout.proc_root = StrCat(root, "/proc");
  bool has_controller = false;
  for (const auto& mount : mounts) {
    if (mount.fs_type == "cgroup2" && layout.unified_mount.empty()) {
      layout.unified_mount = StrCat(root, mount.mount_point);
    } else if (mount.fs_type == "cgroup") {
      for (const auto& option : mount.options) {
        if (!IsController(option)) continue;
        layout.v1_mounts.emplace(option, StrCat(root, mount.mount_point));
        has_controller |= option.rfind("name=", 0) != 0;
      }
    }
  }
  if (has_controller) {
    layout.mode = layout.unified_mount.empty() ? Mode::kV1 : Mode::kHybrid;
  } else if (!layout.unified_mount.empty()) {
    layout.mode = Mode::kV2;
  } else {
    return absl::NotFoundError("no cgroup hierarchy is mounted: mount cgroup2 on /sys/fs/cgroup");
  }
  return layout;
}

absl::StatusOr<Layout> Discover(const DiscoverOptions& options) {
  std::string mounts_file = options.root.empty() ? "/proc/self/mounts" : options.root + "/proc/mounts";
  ASSIGN_OR_RETURN(std::string text, ReadFile(mounts_file, kMaxMountsBytes));
  ASSIGN_OR_RETURN(std::vector<MountEntry> mounts, ParseMounts(text));
  auto layout = LayoutOf(mounts, options.root);
  if (!layout.ok()) return Annotate(layout.status(), mounts_file);
  if (options.root.empty() && layout->mode != Mode::kV2) {
    // libcgroup's view of the v1 controllers is the one its users on this host share.
    ASSIGN_OR_RETURN(auto controllers, LibcgroupMounts());
    for (const auto& [controller, mount_point] : controllers) {
      if (mount_point != layout->unified_mount) layout->v1_mounts[controller] = mount_point;
    }
  }
  return layout;
}

}  // namespace keelson::cgroups
