// ContainerGc: removes dead containers (one per container is kept for logs and lastState), dead sandboxes,
// and log folders of pods that are gone. Only what carries our labels.
#pragma once

#include <absl/status/status.h>
#include <absl/time/time.h>

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "base/env.h"
#include "base/task.h"
#include "cri/runtime_service.h"
#include "kubelet/types.h"

namespace keelson::kubelet {

struct GcPlan {
  std::vector<std::string> containers, sandboxes;  // IDs to remove, in this order
};
struct GcFacts {
  std::vector<criv1::PodSandbox> sandboxes;
  std::vector<criv1::Container> containers;
  std::set<std::string> known;       // UIDs the kubelet wants or still works on
  std::set<std::string> terminated;  // of those: nothing of them runs or will
  bool sources_ready = false;        // else no pod may be taken for gone
};
// Pure. Keeps the newest dead container of each name of a known pod, and the newest sandbox of each known
// pod.
GcPlan PlanGarbage(const GcFacts& facts);

class ContainerGc {
 public:
  ContainerGc(Env& env, cri::RuntimeService& runtime, std::string node_name,
              std::function<bool(const std::string& uid)> is_terminated);
  // One round. Errors are logged; the next round tries again.
  Task<void> Collect(std::set<std::string> known, bool sources_ready);

 private:
  bool Ours(const google::protobuf::Map<std::string, std::string>& labels) const;
  void CollectLogs(const std::set<std::string>& known, const std::set<std::string>& in_runtime);
  Env& env_;
  cri::RuntimeService& runtime_;
  const std::string node_name_;
  std::function<bool(const std::string&)> is_terminated_;
};

}  // namespace keelson::kubelet
