#include "kubelet/container_logs.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "base/log.h"
#include "base/status.h"

namespace keelson::kubelet {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> RotatedFiles(const std::string& log) {
  std::vector<std::string> out;
  std::error_code ec;
  const std::string prefix = fs::path(log).filename().string() + ".";
  for (const auto& entry : fs::directory_iterator(fs::path(log).parent_path(), ec)) {
    std::string name = entry.path().filename().string();
    if (name.rfind(prefix, 0) == 0) out.push_back(entry.path().string());
  }
  std::sort(out.begin(), out.end());  // timestamps sort as text
  return out;
}

}  // namespace

std::vector<std::string> LogsToRemove(std::vector<std::string> rotated, int max_files) {
  const size_t keep = static_cast<size_t>(std::max(max_files - 1, 0));
  if (rotated.size() <= keep) return {};
  rotated.resize(rotated.size() - keep);
  return rotated;
}

ContainerLogs::ContainerLogs(Env& env, cri::RuntimeService& runtime, PodCache& cache,
                             const KubeletOptions& options)
    : env_(env), runtime_(runtime), cache_(cache), options_(options) {}

Task<void> ContainerLogs::Run() {
  while (true) {
    Task<void> sleep = env_.clock().Sleep(options_.container_log_monitor_interval);
    co_await std::move(sleep);
    Task<void> rotate = RotateAll();
    co_await std::move(rotate);
  }
}

Task<void> ContainerLogs::RotateAll() {
  std::vector<std::pair<std::string, std::string>> due;
  for (const std::string& uid : cache_.Uids()) {
    absl::StatusOr<RuntimePodStatusPtr> status = cache_.Get(uid);
    if (!status.ok()) continue;
    for (const auto& c : (*status)->containers) {
      struct stat st;
      if (c.state() != criv1::CONTAINER_RUNNING || c.log_path().empty()) continue;
      if (::lstat(c.log_path().c_str(), &st) != 0 || !S_ISREG(st.st_mode)) continue;
      if (st.st_size >= options_.container_log_max_bytes) due.emplace_back(c.id(), c.log_path());
    }
  }
  for (const auto& [id, path] : due) {
    Task<absl::Status> rotate = RotateOne(id, path);
    absl::Status status = co_await std::move(rotate);
    if (!status.ok()) LogWarning("log not rotated", {{"container", id}, {"error", status}});
  }
}

Task<absl::Status> ContainerLogs::RotateOne(std::string container_id, std::string path) {
  for (const std::string& old : LogsToRemove(RotatedFiles(path), options_.container_log_max_files - 1)) {
    ::unlink(old.c_str());
  }
  const std::string rotated =
      StrCat(path, ".", absl::FormatTime("%Y%m%d-%H%M%S", env_.clock().Now(), absl::UTCTimeZone()));
  if (::rename(path.c_str(), rotated.c_str()) != 0) co_return ErrnoStatus(errno, StrCat("rename ", path));
  criv1::ReopenContainerLogRequest request;
  request.set_container_id(container_id);
  Task<absl::StatusOr<criv1::ReopenContainerLogResponse>> task =
      runtime_.ReopenContainerLog(std::move(request));
  absl::StatusOr<criv1::ReopenContainerLogResponse> response = co_await std::move(task);
  if (!response.ok()) {
    // The runtime still writes to the old inode: give it back its name.
    ::rename(rotated.c_str(), path.c_str());
    co_return response.status();
  }
  co_return absl::OkStatus();
}

}  // namespace keelson::kubelet
