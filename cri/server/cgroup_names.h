// Names of pods' and containers' cgroups, under both cgroup drivers. Pure.
//
// A pod's parent (LinuxPodSandboxConfig.cgroup_parent) is a path with cgroupfs ("/kubepods/burstable/podUID")
// and a slice with systemd ("kubepods-burstable-podUID.slice"). Its form alone tells which, so that pods made
// under the other driver, before the server was started anew, are still found.
#pragma once

#include <absl/status/status.h>

#include <string>
#include <string_view>

namespace keelson::cri {

// Whether the driver can make cgroups below this parent; "" is the default one, and fits both.
// InvalidArgument names both drivers, and what the kubelet must be told.
absl::Status CheckCgroupParent(std::string_view cgroup_parent, bool systemd);

// A pod's own cgroup below each hierarchy, no leading slash: a slice lies in those its name lists
// ("kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podUID.slice"). "": it named none, or the
// root.
std::string PodCgroupPath(std::string_view cgroup_parent);

// Of a container: "kubepods/burstable/podUID/ID", or the scope that systemd makes of it in the slice,
// "kubepods.slice/.../keelson-ID.scope".
std::string ContainerCgroupPath(std::string_view cgroup_parent, std::string_view default_parent,
                                std::string_view id);

// linux.cgroupsPath of the same container: "/kubepods/burstable/podUID/ID", or "SLICE:keelson:ID" (what runc
// and crun take with --systemd-cgroup).
std::string OciCgroupsPath(std::string_view cgroup_parent, std::string_view default_parent,
                           std::string_view id);

// The slice of a scope's path; "": it is no scope's, but of a cgroup that lasts until it is removed.
std::string ScopeParent(std::string_view cgroup_path);

// The parent for pods that name none, from its path with cgroupfs: "keelson-cri" or "keelson_cri.slice".
std::string DefaultCgroupParent(std::string_view cgroupfs_path, bool systemd);

}  // namespace keelson::cri
