#include "cri/server/cgroup_names.h"

#include <absl/strings/escaping.h>

#include "base/strings.h"
#include "cgroups/conversions.h"
#include "cgroups/manager.h"

namespace keelson::cri {

namespace {

// Of scopes: "keelson-ID.scope" among those of other runtimes.
constexpr std::string_view kScopePrefix = "keelson";

bool IsSlice(std::string_view parent) { return parent.ends_with(".slice"); }

std::string_view Trim(std::string_view parent) {
  while (parent.starts_with('/')) parent.remove_prefix(1);
  while (parent.ends_with('/')) parent.remove_suffix(1);
  return parent;
}

// "/a.slice/a-b.slice" -> "a-b.slice".
std::string_view LastSlice(std::string_view parent) { return parent.substr(parent.rfind('/') + 1); }

std::string_view ParentOf(std::string_view cgroup_parent, std::string_view default_parent) {
  return Trim(cgroup_parent.empty() ? default_parent : cgroup_parent);
}

}  // namespace

absl::Status CheckCgroupParent(std::string_view cgroup_parent, bool systemd) {
  if (cgroup_parent.empty()) return absl::OkStatus();
  auto bad = [&](std::string_view why) {
    return absl::InvalidArgumentError(
        StrCat("cgroup_parent \"", absl::CHexEscape(Av(cgroup_parent)), "\": ", why));
  };
  std::string_view parent = Trim(cgroup_parent);
  if (!systemd) {
    if (IsSlice(parent)) {
      return bad(
          "a systemd slice, but this runtime's cgroup driver is cgroupfs: start it with --cgroup-driver "
          "systemd, or set the kubelet's cgroupDriver to cgroupfs");
    }
    absl::Status valid = cgroups::ValidatePath(parent);
    return valid.ok() ? valid : bad(Sv(valid.message()));
  }
  if (!IsSlice(parent)) {
    return bad(
        "no systemd slice (NAME.slice), but this runtime's cgroup driver is systemd: start it with "
        "--cgroup-driver cgroupfs, or set the kubelet's cgroupDriver to systemd");
  }
  absl::StatusOr<std::string> expanded = cgroups::ExpandSlice(LastSlice(parent));
  if (!expanded.ok()) return bad(Sv(expanded.status().message()));
  // systemd alone says where a slice is: a path may only repeat it.
  if (parent != LastSlice(parent) && parent != *expanded) {
    return bad(StrCat("systemd keeps that slice at /", *expanded));
  }
  return absl::OkStatus();
}

std::string PodCgroupPath(std::string_view cgroup_parent) {
  std::string_view parent = Trim(cgroup_parent);
  if (!IsSlice(parent)) return std::string(parent);
  return cgroups::ExpandSlice(LastSlice(parent)).value_or(std::string(parent));
}

std::string ContainerCgroupPath(std::string_view cgroup_parent, std::string_view default_parent,
                                std::string_view id) {
  std::string_view parent = ParentOf(cgroup_parent, default_parent);
  std::string path = PodCgroupPath(parent);
  std::string name = IsSlice(parent) ? StrCat(kScopePrefix, "-", id, ".scope") : std::string(id);
  return path.empty() ? name : StrCat(path, "/", name);
}

std::string OciCgroupsPath(std::string_view cgroup_parent, std::string_view default_parent,
                           std::string_view id) {
  std::string_view parent = ParentOf(cgroup_parent, default_parent);
  if (IsSlice(parent)) return StrCat(LastSlice(parent), ":", kScopePrefix, ":", id);
  return StrCat("/", ContainerCgroupPath(parent, "", id));
}

std::string ScopeParent(std::string_view cgroup_path) {
  size_t slash = cgroup_path.rfind('/');
  if (!cgroup_path.ends_with(".scope") || slash == std::string_view::npos) return "";
  return std::string(cgroup_path.substr(0, slash));
}

std::string DefaultCgroupParent(std::string_view cgroupfs_path, bool systemd) {
  if (!systemd) return std::string(cgroupfs_path);
  return std::string(LastSlice(cgroups::ToSystemdPath(cgroupfs_path)));
}

}  // namespace keelson::cri
