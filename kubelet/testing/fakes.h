// Simple stand-ins for the parts of the kubelet that have folders of their own: for tests and the simulation.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "api/status_error.h"
#include "base/env.h"
#include "client/api_client.h"
#include "kubelet/object_cache.h"
#include "kubelet/probe_manager.h"
#include "kubelet/volume_manager.h"

namespace keelson::kubelet {

// Every volume is a folder that nobody makes; failures on demand.
class FakeVolumeManager : public VolumeManager {
 public:
  Task<absl::StatusOr<PodVolumes>> Mount(PodPtr pod) override {
    ++mounts;
    if (!error.ok()) co_return error;
    PodVolumes out;
    for (const auto& v : pod->spec().volumes()) {
      out.by_name[v.name()].host_path = "/fake/" + PodUid(*pod) + "/" + v.name();
    }
    mounted.insert(PodUid(*pod));
    co_return out;
  }
  Task<absl::StatusOr<std::string>> PrepareSubPath(PodPtr pod, std::string container_name, int mount_index,
                                                   std::string volume_name, std::string sub_path) override {
    co_return "/fake/" + PodUid(*pod) + "/" + volume_name + "/" + sub_path;
  }
  Task<absl::Status> Unmount(std::string uid) override {
    mounted.erase(uid);
    co_return absl::OkStatus();
  }
  absl::Status error;  // of every Mount
  int mounts = 0;
  std::set<std::string> mounted;
};

// Verdicts set by the test; for containers of the API's status they are carried over, as the contract says.
class FakeProbeManager : public ProbeManager {
 public:
  void set_status_provider(const PodStatusProvider* provider) override { provider_ = provider; }
  void set_listener(std::function<void(const ProbeEvent&)> listener) override {
    listener_ = std::move(listener);
  }
  void AddPod(const PodPtr& pod) override {
    if (!pods.insert(PodUid(*pod)).second) return;
    for (const auto& s : pod->status().container_statuses()) {
      const size_t type_end = s.container_id().find("://");
      if (type_end == std::string::npos) continue;  // not created yet
      std::string id = s.container_id().substr(type_end + 3);
      if (s.ready()) results_[{ProbeKind::kReadiness, id}] = ProbeResult::kSuccess;
      if (s.started()) results_[{ProbeKind::kStartup, id}] = ProbeResult::kSuccess;
    }
  }
  void StopLivenessAndStartup(const std::string&) override {}
  void RemovePod(const std::string& uid) override { pods.erase(uid); }
  ProbeResult Get(ProbeKind kind, std::string_view container_id) const override {
    auto it = results_.find({kind, std::string(container_id)});
    return it == results_.end() ? ProbeResult::kUnknown : it->second;
  }
  void Set(const std::string& uid, const std::string& container, const std::string& id, ProbeKind kind,
           ProbeResult result) {
    results_[{kind, id}] = result;
    if (listener_) listener_({uid, container, id, kind, result});
  }
  std::set<std::string> pods;

 private:
  const PodStatusProvider* provider_ = nullptr;
  std::function<void(const ProbeEvent&)> listener_;
  std::map<std::pair<ProbeKind, std::string>, ProbeResult> results_;
};

// A GET each time.
class ApiObjectCache : public ObjectCache {
 public:
  explicit ApiObjectCache(client::ApiClient& client) : client_(client) {}
  void RegisterPod(const PodPtr&) override {}
  void UnregisterPod(const std::string&) override {}
  Task<absl::StatusOr<std::shared_ptr<const corev1::ConfigMap>>> GetConfigMap(std::string ns,
                                                                              std::string name) override {
    return client_.Get<corev1::ConfigMap>(std::move(ns), std::move(name));
  }
  Task<absl::StatusOr<std::shared_ptr<const corev1::Secret>>> GetSecret(std::string ns,
                                                                        std::string name) override {
    return client_.Get<corev1::Secret>(std::move(ns), std::move(name));
  }

 private:
  client::ApiClient& client_;
};

}  // namespace keelson::kubelet
