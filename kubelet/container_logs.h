// ContainerLogs: rotates the log files of running containers when they outgrow their bound: <n>.log is
// renamed with a timestamp, the runtime reopens it, older ones are compressed away by count. Names as
// upstream's: 0.log, 0.log.20261122-202021, at most container_log_max_files in all.
#pragma once

#include <absl/status/status.h>
#include <absl/time/time.h>

#include <string>
#include <vector>

#include "base/env.h"
#include "base/task.h"
#include "cri/runtime_service.h"
#include "kubelet/options.h"
#include "kubelet/pod_cache.h"

namespace keelson::kubelet {

class ContainerLogs {
 public:
  ContainerLogs(Env& env, cri::RuntimeService& runtime, PodCache& cache, const KubeletOptions& options);
  // Every container_log_monitor_interval, until cancelled.
  Task<void> Run();
  // Looks at every running container once.
  Task<void> RotateAll();

 private:
  Task<absl::Status> RotateOne(std::string container_id, std::string path);
  Env& env_;
  cri::RuntimeService& runtime_;
  PodCache& cache_;
  const KubeletOptions& options_;
};

// Rotated files of `log` (newest last) that are too many when `max_files` (the live one included) are kept.
std::vector<std::string> LogsToRemove(std::vector<std::string> rotated, int max_files);

}  // namespace keelson::kubelet
