// StatusManager: keeps the newest status of each pod and brings it to the API server; deletes the API object
// of a pod that was asked to go, once nothing of it is left here. Patches are strategic merges of what
// differs from the API's copy, with the UID as precondition: a pod of the same name created since is never
// touched.
#pragma once

#include <absl/container/flat_hash_map.h>
#include <absl/time/time.h>

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>

#include "api/core/v1/node.pb.h"
#include "base/env.h"
#include "base/task.h"
#include "client/api_client.h"
#include "kubelet/probe_manager.h"
#include "kubelet/types.h"

namespace keelson::kubelet {

// Body of the PATCH from `before` (the API's copy) to `after`; "" when they are the same.
std::string MakeStatusPatch(const std::string& uid, const corev1::PodStatus& before,
                            const corev1::PodStatus& after);
// The same for a NodeStatus; without UID precondition.
std::string MakeNodeStatusPatch(const corev1::NodeStatus& before, const corev1::NodeStatus& after);

class StatusManager : public PodStatusProvider {
 public:
  // `client` null: statuses are kept and go nowhere (a kubelet with static pods only). Both outlive Stop().
  StatusManager(Env& env, client::ApiClient* client);
  ~StatusManager() override;

  // The API's copy, from the informer; for static pods their mirror pod's. Null pod object: it is gone there.
  // Differences are patched again (somebody overwrote the status).
  void OnApiPod(const std::string& uid, PodPtr api_pod);
  // A new status for a pod. Conditions must be merged with the former ones already.
  void SetPodStatus(const PodPtr& pod, corev1::PodStatus status);
  // Nothing of the pod is left on this node: its containers count as ended, and an API object with a deletion
  // timestamp is deleted for good.
  void TerminatePod(const PodPtr& pod);
  // Forgets a pod.
  void RemovePod(const std::string& uid);
  // Forgets all but these.
  void RemoveOrphans(const std::set<std::string>& known);

  const corev1::PodStatus* GetPodStatus(std::string_view uid) const override;
  // Everything said so far has reached the API.
  bool Settled() const;

  Task<void> Stop();

 private:
  struct Entry {
    PodPtr pod;      // as the source has it
    PodPtr api_pod;  // as the API has it: its name and status; null: unknown or none
    corev1::PodStatus status;
    bool finished = false;
    bool dirty = false;
    bool busy = false;     // a coroutine works on it
    bool deleted = false;  // we deleted it
    uint64_t version = 0;
  };
  void Kick(const std::string& uid);
  Task<void> Sync(std::string uid);
  // True: done with this version.
  Task<bool> SyncOnce(std::string uid);

  Env& env_;
  client::ApiClient* client_;
  std::map<std::string, Entry, std::less<>> entries_;
  Semaphore slots_;
  Scope scope_;
};

}  // namespace keelson::kubelet
