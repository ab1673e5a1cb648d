#include "kubelet/status_manager.h"

#include <absl/strings/numbers.h>

#include <algorithm>

#include "api/status_error.h"
#include "base/log.h"
#include "base/status.h"

namespace keelson::kubelet {
namespace {

constexpr size_t kParallelPatches = 8;
constexpr absl::Duration kFirstPatchRetry = absl::Milliseconds(200);
constexpr absl::Duration kLastPatchRetry = absl::Seconds(10);

class SlotGuard {
 public:
  explicit SlotGuard(Semaphore& slots) : slots_(slots) {}
  ~SlotGuard() { slots_.Release(); }

 private:
  Semaphore& slots_;
};

bool SameStatus(const corev1::PodStatus& a, const corev1::PodStatus& b) {
  return a.SerializeAsString() == b.SerializeAsString();
}

// The informer may tell of a state from before our own last patch.
bool OlderThan(const corev1::Pod& pod, const PodPtr& known) {
  int64_t a = 0, b = 0;
  return known != nullptr && PodUid(pod) == PodUid(*known) &&
         absl::SimpleAtoi(pod.metadata().resource_version(), &a) &&
         absl::SimpleAtoi(known->metadata().resource_version(), &b) && a < b;
}

// Containers that were never seen to end have ended now.
void EndContainers(google::protobuf::RepeatedPtrField<corev1::ContainerStatus>* statuses) {
  for (auto& s : *statuses) {
    s.set_ready(false);
    s.set_started(false);
    if (s.state().has_terminated()) continue;
    if (s.state().has_waiting() && s.last_state().has_terminated()) {
      corev1::ContainerState last = s.last_state();
      *s.mutable_state() = last;
      s.clear_last_state();
      continue;
    }
    s.mutable_state()->Clear();
    auto& t = *s.mutable_state()->mutable_terminated();
    t.set_reason("ContainerStatusUnknown");
    t.set_message("The container could not be located when the pod was terminated");
    t.set_exit_code(137);
  }
}

}  // namespace

StatusManager::StatusManager(Env& env, client::ApiClient* client)
    : env_(env), client_(client), slots_(kParallelPatches), scope_(env.executor()) {}
StatusManager::~StatusManager() = default;

void StatusManager::OnApiPod(const std::string& uid, PodPtr api_pod) {
  auto it = entries_.find(uid);
  if (it == entries_.end()) {
    if (api_pod == nullptr) return;
    Entry& entry = entries_[uid];
    entry.api_pod = api_pod;
    return;
  }
  if (api_pod != nullptr && OlderThan(*api_pod, it->second.api_pod)) return;
  it->second.api_pod = std::move(api_pod);
  if (it->second.pod == nullptr || it->second.api_pod == nullptr) return;
  it->second.dirty = true;
  Kick(uid);
}

void StatusManager::SetPodStatus(const PodPtr& pod, corev1::PodStatus status) {
  const std::string& uid = PodUid(*pod);
  Entry& entry = entries_[uid];
  const bool first = entry.pod == nullptr;
  entry.pod = pod;
  if (entry.api_pod == nullptr && !IsStaticPod(*pod)) entry.api_pod = pod;
  if (!first && SameStatus(entry.status, status)) return;
  entry.status = std::move(status);
  ++entry.version;
  entry.dirty = true;
  Kick(uid);
}

void StatusManager::TerminatePod(const PodPtr& pod) {
  auto it = entries_.find(PodUid(*pod));
  if (it == entries_.end() || it->second.pod == nullptr) {
    SetPodStatus(pod, pod->status());
    it = entries_.find(PodUid(*pod));
  }
  Entry& entry = it->second;
  entry.pod = pod;
  corev1::PodStatus status = entry.status;
  EndContainers(status.mutable_container_statuses());
  for (auto& s : *status.mutable_init_container_statuses()) {
    // One that never ran in a pod that failed before is left as it was.
    if (s.state().has_waiting() && !s.last_state().has_terminated()) continue;
    const bool ready = s.ready() && s.state().has_terminated();
    google::protobuf::RepeatedPtrField<corev1::ContainerStatus> one;
    *one.Add() = s;
    EndContainers(&one);
    s = one.Get(0);
    s.set_ready(ready);
  }
  EndContainers(status.mutable_ephemeral_container_statuses());
  entry.finished = true;
  entry.status = std::move(status);
  ++entry.version;
  entry.dirty = true;
  Kick(PodUid(*pod));
}

void StatusManager::RemovePod(const std::string& uid) { entries_.erase(uid); }

void StatusManager::RemoveOrphans(const std::set<std::string>& known) {
  for (auto it = entries_.begin(); it != entries_.end();) {
    it = known.count(it->first) == 0 && !it->second.busy ? entries_.erase(it) : std::next(it);
  }
}

const corev1::PodStatus* StatusManager::GetPodStatus(std::string_view uid) const {
  auto it = entries_.find(uid);
  return it == entries_.end() || it->second.pod == nullptr ? nullptr : &it->second.status;
}

bool StatusManager::Settled() const {
  return std::none_of(entries_.begin(), entries_.end(),
                      [](const auto& e) { return e.second.dirty || e.second.busy; });
}

void StatusManager::Kick(const std::string& uid) {
  Entry& entry = entries_[uid];
  if (client_ == nullptr || entry.busy || entry.deleted || entry.pod == nullptr || entry.api_pod == nullptr) {
    if (!entry.busy) entry.dirty = false;
    return;
  }
  entry.busy = true;
  scope_.Spawn("pod-status", Sync(uid));
}

Task<void> StatusManager::Sync(std::string uid) {
  absl::Duration retry = kFirstPatchRetry;
  while (true) {
    auto it = entries_.find(uid);
    if (it == entries_.end()) co_return;
    if (!it->second.dirty) {
      it->second.busy = false;
      co_return;
    }
    it->second.dirty = false;
    Task<bool> once = SyncOnce(uid);
    const bool ok = co_await std::move(once);
    if (ok) {
      retry = kFirstPatchRetry;
      continue;
    }
    if (auto again = entries_.find(uid); again != entries_.end()) again->second.dirty = true;
    Task<void> sleep = env_.clock().Sleep(retry);
    co_await std::move(sleep);
    retry = std::min(retry * 2, kLastPatchRetry);
  }
}

Task<bool> StatusManager::SyncOnce(std::string uid) {
  Task<void> acquire = slots_.Acquire();
  co_await std::move(acquire);
  SlotGuard slot(slots_);
  auto it = entries_.find(uid);
  if (it == entries_.end() || it->second.api_pod == nullptr) co_return true;
  const PodPtr api_pod = it->second.api_pod;
  const std::string ns = api_pod->metadata().namespace_(), name = api_pod->metadata().name();
  const std::string api_uid = PodUid(*api_pod);
  std::string patch = MakeStatusPatch(api_uid, api_pod->status(), it->second.status);
  if (!patch.empty()) {
    Task<absl::StatusOr<std::shared_ptr<const corev1::Pod>>> task =
        client_->Patch<corev1::Pod>(ns, name, client::PatchType::kStrategicMerge, patch, "status");
    absl::StatusOr<std::shared_ptr<const corev1::Pod>> patched = co_await std::move(task);
    it = entries_.find(uid);
    if (it == entries_.end()) co_return true;
    if (!patched.ok()) {
      if (api::IsNotFound(patched.status())) {
        // Gone. What the informer says next decides.
        if (it->second.api_pod == api_pod) it->second.api_pod = nullptr;
        co_return true;
      }
      // Another pod of that name, or a server that gave up racing other writers. The informer need not have
      // news, so this is tried again until it has.
      if (api::IsConflict(patched.status())) co_return false;
      LogWarning("pod status not accepted", {{"pod", StrCat(ns, "/", name)}, {"error", patched.status()}});
      co_return api::IsInvalid(patched.status());
    }
    // The informer may be ahead already.
    if (it->second.api_pod == api_pod && PodUid(**patched) == api_uid) it->second.api_pod = *patched;
  }
  Entry& entry = it->second;
  if (entry.api_pod == nullptr || !entry.finished || !IsDeleting(*entry.api_pod) ||
      IsMirrorPod(*entry.api_pod)) {
    co_return true;
  }
  client::DeleteOptions options;
  options.grace_period_s = 0;
  options.precondition_uid = api_uid;
  Task<absl::Status> task = client_->Delete<corev1::Pod>(ns, name, options);
  absl::Status deleted = co_await std::move(task);
  if (deleted.ok() || api::IsNotFound(deleted) || api::IsConflict(deleted)) {
    if (auto e = entries_.find(uid); e != entries_.end()) e->second.deleted = true;
    co_return true;
  }
  LogWarning("pod not deleted from the API", {{"pod", StrCat(ns, "/", name)}, {"error", deleted}});
  co_return false;
}

Task<void> StatusManager::Stop() {
  Task<void> close = scope_.Close();
  co_await std::move(close);
}

}  // namespace keelson::kubelet
