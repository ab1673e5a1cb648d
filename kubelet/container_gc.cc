#include "kubelet/container_gc.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <map>

#include "base/fd.h"
#include "base/log.h"

namespace keelson::kubelet {
namespace {

namespace fs = std::filesystem;

constexpr int kDeadContainersKept = 1;

std::string Label(const google::protobuf::Map<std::string, std::string>& labels, const char* key) {
  auto it = labels.find(key);
  return it == labels.end() ? "" : it->second;
}

template <class T>
bool NewerFirst(const T& a, const T& b) {
  if (a.created_at() != b.created_at()) return a.created_at() > b.created_at();
  return a.metadata().attempt() > b.metadata().attempt();
}

}  // namespace

GcPlan PlanGarbage(const GcFacts& facts) {
  GcPlan plan;
  std::vector<criv1::Container> containers = facts.containers;
  std::sort(containers.begin(), containers.end(), NewerFirst<criv1::Container>);
  std::map<std::string, int> dead;             // "uid/name" -> seen
  std::map<std::string, int> left_in_sandbox;  // containers that stay
  for (const auto& c : containers) {
    const std::string uid = Label(c.labels(), kLabelPodUid);
    const std::string key = uid + "/" + Label(c.labels(), kLabelContainerName);
    const bool gone = facts.sources_ready && facts.known.count(uid) == 0;
    // One that was created and never started belongs to a start under way, unless a newer one exists.
    const bool is_dead = c.state() == criv1::CONTAINER_EXITED ||
                         (c.state() == criv1::CONTAINER_CREATED && (gone || dead.count(key) > 0));
    if (!is_dead) {
      dead.try_emplace(key, 0);
      ++left_in_sandbox[c.pod_sandbox_id()];
      continue;
    }
    if (gone || ++dead[key] > kDeadContainersKept) {
      plan.containers.push_back(c.id());
    } else {
      ++left_in_sandbox[c.pod_sandbox_id()];
    }
  }
  std::vector<criv1::PodSandbox> sandboxes = facts.sandboxes;
  std::sort(sandboxes.begin(), sandboxes.end(), NewerFirst<criv1::PodSandbox>);
  std::set<std::string> seen;
  for (const auto& s : sandboxes) {
    const std::string uid = Label(s.labels(), kLabelPodUid);
    const bool newest = seen.insert(uid).second;
    if (s.state() == criv1::SANDBOX_READY) continue;
    const bool gone = facts.sources_ready && facts.known.count(uid) == 0;
    if (left_in_sandbox[s.id()] > 0 && !gone) continue;
    if (gone || !newest || facts.terminated.count(uid) > 0) plan.sandboxes.push_back(s.id());
  }
  return plan;
}

ContainerGc::ContainerGc(Env& env, cri::RuntimeService& runtime, std::string node_name,
                         std::function<bool(const std::string& uid)> is_terminated)
    : env_(env),
      runtime_(runtime),
      node_name_(std::move(node_name)),
      is_terminated_(std::move(is_terminated)) {}

bool ContainerGc::Ours(const google::protobuf::Map<std::string, std::string>& labels) const {
  return Label(labels, kLabelNode) == node_name_ && !Label(labels, kLabelPodUid).empty();
}

Task<void> ContainerGc::Collect(std::set<std::string> known, bool sources_ready) {
  GcFacts facts;
  facts.known = std::move(known);
  facts.sources_ready = sources_ready;
  for (const std::string& uid : facts.known) {
    if (is_terminated_(uid)) facts.terminated.insert(uid);
  }
  criv1::ListPodSandboxRequest list_pods;
  Task<absl::StatusOr<criv1::ListPodSandboxResponse>> pods_task =
      runtime_.ListPodSandbox(std::move(list_pods));
  absl::StatusOr<criv1::ListPodSandboxResponse> pods = co_await std::move(pods_task);
  criv1::ListContainersRequest list;
  Task<absl::StatusOr<criv1::ListContainersResponse>> containers_task =
      runtime_.ListContainers(std::move(list));
  absl::StatusOr<criv1::ListContainersResponse> containers = co_await std::move(containers_task);
  if (!pods.ok() || !containers.ok()) co_return;
  std::set<std::string> in_runtime;
  for (const auto& s : pods->items()) {
    in_runtime.insert(Label(s.labels(), kLabelPodUid));
    if (Ours(s.labels())) facts.sandboxes.push_back(s);
  }
  for (const auto& c : containers->containers()) {
    if (Ours(c.labels())) facts.containers.push_back(c);
  }
  GcPlan plan = PlanGarbage(facts);
  for (const std::string& id : plan.containers) {
    criv1::RemoveContainerRequest request;
    request.set_container_id(id);
    Task<absl::StatusOr<criv1::RemoveContainerResponse>> task = runtime_.RemoveContainer(std::move(request));
    absl::StatusOr<criv1::RemoveContainerResponse> removed = co_await std::move(task);
    if (!removed.ok())
      LogWarning("dead container not removed", {{"container", id}, {"error", removed.status()}});
  }
  for (const std::string& id : plan.sandboxes) {
    criv1::StopPodSandboxRequest stop;
    stop.set_pod_sandbox_id(id);
    Task<absl::StatusOr<criv1::StopPodSandboxResponse>> stopping = runtime_.StopPodSandbox(std::move(stop));
    absl::StatusOr<criv1::StopPodSandboxResponse> stopped = co_await std::move(stopping);
    if (!stopped.ok()) {
      LogWarning("dead sandbox not stopped", {{"sandbox", id}, {"error", stopped.status()}});
      continue;
    }
    criv1::RemovePodSandboxRequest request;
    request.set_pod_sandbox_id(id);
    Task<absl::StatusOr<criv1::RemovePodSandboxResponse>> task =
        runtime_.RemovePodSandbox(std::move(request));
    absl::StatusOr<criv1::RemovePodSandboxResponse> removed = co_await std::move(task);
    if (!removed.ok()) LogWarning("dead sandbox not removed", {{"sandbox", id}, {"error", removed.status()}});
  }
  if (sources_ready) CollectLogs(facts.known, in_runtime);
}

// Log folders <ns>_<name>_<uid> of pods nobody knows, and links in container_logs_dir that point nowhere.
void ContainerGc::CollectLogs(const std::set<std::string>& known, const std::set<std::string>& in_runtime) {
  std::error_code ec;
  // Of several kubelets on one machine each has a folder of its own only with --root; without, a foreign
  // pod's folder must stay: nobody but us names them there, so the runtime's list of all sandboxes decides
  // too.
  for (const auto& entry : fs::directory_iterator(env_.paths().pod_logs_dir, ec)) {
    std::string name = entry.path().filename().string();
    size_t at = name.rfind('_');
    if (at == std::string::npos) continue;
    std::string uid = name.substr(at + 1);
    if (known.count(uid) > 0 || in_runtime.count(uid) > 0) continue;
    absl::Status removed = RemoveTree(entry.path().string());
    if (!removed.ok()) LogWarning("logs not removed", {{"path", entry.path().string()}, {"error", removed}});
  }
  for (const auto& entry : fs::directory_iterator(env_.paths().container_logs_dir, ec)) {
    std::error_code link_ec;
    if (!fs::is_symlink(entry.path(), link_ec) || fs::exists(entry.path(), link_ec)) continue;
    ::unlink(entry.path().c_str());
  }
}

}  // namespace keelson::kubelet
