// Project quotas (ext4 "project", xfs): the file system counts for itself what belongs to a project ID, so a
// writable layer's usage is one system call, however many files it has. Only counted, nothing is limited.
// Sources: ioctl_xfs_fsgetxattr(2), quotactl(2). All blocking.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <string>

#include "images/image_store.h"

namespace keelson::images {

// IDs of ours: clear of those that are given by hand (from 1) and by a kubelet (from 1048577).
inline constexpr uint32_t kFirstProject = 0x4b454c00;

// Whether the file system of `dir` counts projects: tries it on a directory of its own there, with the ID
// kFirstProject. Unimplemented says what it lacks.
absl::Status ProbeProjectUsage(const std::string& dir);
// `dir` and what is made in it from now on belong to the project. Files do not move between projects by
// rename(2).
absl::Status SetProject(const std::string& dir, uint32_t project);
// Of all that belongs to the project in the file system of `dir`; with what is not yet written to the disk.
absl::StatusOr<UsageBytes> ProjectUsage(const std::string& dir, uint32_t project);

}  // namespace keelson::images
