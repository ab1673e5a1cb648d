// What both managers do to a tree of cgroup directories; internal to cgroups/.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "cgroups/dir_fd.h"

namespace keelson::cgroups {

// "a/b/c" -> "a", "a/b", "a/b/c".
std::vector<std::string> Prefixes(std::string_view path);
std::string JoinPath(std::string_view directory, std::string_view name);
// `path` and its descendants, parents first. Missing: empty. Bounded by kMaxPathComponents levels and
// kMaxTreeDirectories.
inline constexpr size_t kMaxTreeDirectories = 100000;
absl::StatusOr<std::vector<std::string>> Subtree(const DirFd& root, const std::string& path);
// rmdir of the whole subtree, deepest first. With `fake_tree` plain files go first.
absl::Status RemoveSubtree(const DirFd& root, const std::string& path, bool fake_tree);
// Processes of one cgroup.procs, or of the whole subtree.
absl::StatusOr<std::vector<pid_t>> ReadPids(const DirFd& root, const std::string& path, bool recursive);
// Signals with `kill` until no process is left or kKillRounds have passed: a fork may outrun one round.
inline constexpr int kKillRounds = 5;
absl::Status SignalAll(const std::function<absl::StatusOr<std::vector<pid_t>>()>& pids,
                       const std::function<int(pid_t, int)>& kill);

}  // namespace keelson::cgroups
