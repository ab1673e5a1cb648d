// ProbeManagerImpl: one worker coroutine per container and probe. A worker looks at the pod's status, probes
// when the container runs, and turns attempts into verdicts by the thresholds. A verdict belongs to a
// container ID: a restarted container starts anew. One loop.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <tuple>

#include "base/env.h"
#include "base/task.h"
#include "client/event_recorder.h"
#include "kubelet/probe_manager.h"
#include "kubelet/probes/prober.h"

namespace keelson::kubelet {

// How often a worker looks whether its container runs by now.
inline constexpr absl::Duration kProbeWaitInterval = absl::Milliseconds(250);
// Probes already due when the kubelet starts are spread over their period, for pods found running within this
// time.
inline constexpr absl::Duration kProbeStartJitterWindow = absl::Seconds(30);

// How attempts become a verdict (failureThreshold, successThreshold). Pure.
class ProbeThresholds {
 public:
  // The new verdict once enough attempts in a row agree; kUnknown: not yet.
  ProbeResult Add(bool success, const corev1::Probe& probe);
  void Reset() { run_ = 0; }

 private:
  bool last_ = false;
  int run_ = 0;  // attempts in a row with result last_
};

class ProbeManagerImpl : public ProbeManager {
 public:
  // All outlive Stop(). `events` null: none are written.
  ProbeManagerImpl(Env& env, std::unique_ptr<Prober> prober, client::EventRecorder* events);
  ~ProbeManagerImpl() override;

  void set_status_provider(const PodStatusProvider* provider) override { provider_ = provider; }
  void set_listener(std::function<void(const ProbeEvent&)> listener) override {
    listener_ = std::move(listener);
  }
  void AddPod(const PodPtr& pod) override;
  void StopLivenessAndStartup(const std::string& uid) override;
  void RemovePod(const std::string& uid) override;
  ProbeResult Get(ProbeKind kind, std::string_view container_id) const override;
  Task<void> Stop();
  size_t workers() const { return workers_.size(); }

 private:
  struct Worker;
  using WorkerPtr = std::shared_ptr<Worker>;
  using WorkerKey = std::tuple<std::string, std::string, ProbeKind>;  // UID, container, kind

  void AddWorker(const PodPtr& pod, const corev1::Container& container, ProbeKind kind,
                 const corev1::Probe& probe);
  void StopWorker(const WorkerPtr& worker);
  Task<void> Run(WorkerPtr worker);
  // One look; how long to wait before the next, or a negative duration: the worker is done.
  Task<absl::Duration> Step(WorkerPtr worker);
  Task<void> Pause(WorkerPtr worker, absl::Duration duration);
  // The event Unhealthy: "Liveness probe <what>".
  void Tell(const WorkerPtr& worker, const std::string& what);
  void Attempted(const WorkerPtr& worker, const ProbeOutcome& outcome);
  void SetResult(const WorkerPtr& worker, ProbeResult result);
  void Forget(ProbeKind kind, const std::string& container_id);

  Env& env_;
  std::unique_ptr<Prober> prober_;
  client::EventRecorder* events_;
  const PodStatusProvider* provider_ = nullptr;
  std::function<void(const ProbeEvent&)> listener_;
  std::map<WorkerKey, WorkerPtr> workers_;
  std::map<std::pair<ProbeKind, std::string>, ProbeResult, std::less<>> results_;  // by container ID
  absl::Duration started_at_;
  Scope scope_;
};

}  // namespace keelson::kubelet
