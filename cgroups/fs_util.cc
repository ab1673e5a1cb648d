#include "cgroups/fs_util.h"

#include <signal.h>

#include <algorithm>
#include <cerrno>
#include <set>

#include "base/status.h"
#include "base/strings.h"
#include "cgroups/conversions.h"
#include "cgroups/text.h"

namespace keelson::cgroups {

std::vector<std::string> Prefixes(std::string_view path) {
  std::vector<std::string> prefixes;
  if (path.empty()) return prefixes;
  for (size_t at = path.find('/'); at != std::string_view::npos; at = path.find('/', at + 1)) {
    prefixes.emplace_back(path.substr(0, at));
  }
  prefixes.emplace_back(path);
  return prefixes;
}

std::string JoinPath(std::string_view directory, std::string_view name) {
  return directory.empty() ? std::string(name) : StrCat(directory, "/", name);
}

absl::StatusOr<std::vector<std::string>> Subtree(const DirFd& root, const std::string& path) {
  std::vector<std::string> found;
  if (!root.Exists(path)) return found;
  found.push_back(path);
  for (size_t i = 0; i < found.size(); ++i) {
    if (found.size() > kMaxTreeDirectories)
      return absl::ResourceExhaustedError(StrCat(path, ": too many cgroups below"));
    auto names = root.Directories(found[i]);
    if (absl::IsNotFound(names.status())) continue;  // gone meanwhile
    if (!names.ok()) return names.status();
    for (const auto& name : *names) found.push_back(JoinPath(found[i], name));
  }
  return found;
}

absl::Status RemoveSubtree(const DirFd& root, const std::string& path, bool fake_tree) {
  ASSIGN_OR_RETURN(std::vector<std::string> tree, Subtree(root, path));
  for (auto it = tree.rbegin(); it != tree.rend(); ++it) {
    if (fake_tree) {
      auto files = root.Files(*it);
      for (const auto& file : files.value_or(std::vector<std::string>())) {
        RETURN_IF_ERROR(root.RemoveFile(JoinPath(*it, file)));
      }
    }
    RETURN_IF_ERROR(root.RemoveDir(*it));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<pid_t>> ReadPids(const DirFd& root, const std::string& path, bool recursive) {
  std::vector<std::string> directories = {path};
  if (recursive) {
    ASSIGN_OR_RETURN(directories, Subtree(root, path));
    if (directories.empty()) return absl::NotFoundError(StrCat(root.path(), "/", path, ": no such cgroup"));
  }
  std::set<pid_t> pids;
  for (const auto& directory : directories) {
    auto text = root.Read(JoinPath(directory, "cgroup.procs"));
    // A v2 threaded cgroup has no readable cgroup.procs (EOPNOTSUPP); its processes show in the domain above.
    if (recursive && (absl::IsNotFound(text.status()) || absl::IsUnimplemented(text.status()))) continue;
    if (!text.ok()) return text.status();
    ASSIGN_OR_RETURN(std::vector<pid_t> some, ParsePids(*text));
    pids.insert(some.begin(), some.end());
  }
  return std::vector<pid_t>(pids.begin(), pids.end());
}

absl::Status SignalAll(const std::function<absl::StatusOr<std::vector<pid_t>>()>& pids,
                       const std::function<int(pid_t, int)>& kill) {
  std::set<pid_t> signalled;
  for (int round = 0; round < kKillRounds; ++round) {
    auto now = pids();
    if (absl::IsNotFound(now.status())) return absl::OkStatus();
    if (!now.ok()) return now.status();
    bool fresh = false;
    for (pid_t pid : *now) {
      if (!signalled.insert(pid).second) continue;
      fresh = true;
      if (kill(pid, SIGKILL) != 0 && errno != ESRCH) return ErrnoStatus(errno, StrCat("kill process ", pid));
    }
    if (!fresh) return absl::OkStatus();
  }
  return absl::UnavailableError(StrCat("processes keep appearing after ", kKillRounds, " rounds of SIGKILL"));
}

}  // namespace keelson::cgroups
