#include "kubelet/probes/probe_manager_impl.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "api/time.h"
#include "base/log.h"
#include "base/strings.h"
#include "kubelet/compute_pod_actions.h"
#include "kubelet/generate_pod_status.h"

namespace keelson::kubelet {
namespace {

constexpr absl::Duration kDone = -absl::Seconds(1);

const char* NameOf(ProbeKind kind) {
  switch (kind) {
    case ProbeKind::kStartup:
      return "Startup";
    case ProbeKind::kReadiness:
      return "Readiness";
    case ProbeKind::kLiveness:
      return "Liveness";
  }
  return "";
}

// Before the first verdict about a container that has just come up.
ProbeResult Initial(ProbeKind kind) {
  switch (kind) {
    case ProbeKind::kStartup:
      return ProbeResult::kUnknown;
    case ProbeKind::kReadiness:
      return ProbeResult::kFailure;
    case ProbeKind::kLiveness:
      return ProbeResult::kSuccess;
  }
  return ProbeResult::kUnknown;
}

absl::Duration Period(const corev1::Probe& probe) {
  return absl::Seconds(std::max(1, probe.period_seconds()));
}

absl::Time StartedAt(const corev1::ContainerStatus& status) {
  const auto& t = status.state().running().started_at();
  return absl::FromUnixSeconds(t.seconds()) + absl::Nanoseconds(t.nanos());
}

}  // namespace

ProbeResult ProbeThresholds::Add(bool success, const corev1::Probe& probe) {
  run_ = run_ > 0 && success == last_ ? run_ + 1 : 1;
  last_ = success;
  int needed = std::max(1, success ? probe.success_threshold() : probe.failure_threshold());
  if (run_ < needed) return ProbeResult::kUnknown;
  return success ? ProbeResult::kSuccess : ProbeResult::kFailure;
}

struct ProbeManagerImpl::Worker {
  PodPtr pod;
  corev1::Container container;
  corev1::Probe probe;
  ProbeKind kind;
  std::string container_id;  // the one results are about
  ProbeThresholds thresholds;
  bool on_hold = false;  // a verdict that leads to a restart is out
  bool stopped = false;
  bool complained = false;  // that it cannot be run
  AsyncEvent wake;
};

ProbeManagerImpl::ProbeManagerImpl(Env& env, std::unique_ptr<Prober> prober, client::EventRecorder* events)
    : env_(env),
      prober_(std::move(prober)),
      events_(events),
      started_at_(env.clock().Monotonic()),
      scope_(env.executor()) {}

ProbeManagerImpl::~ProbeManagerImpl() = default;

Task<void> ProbeManagerImpl::Stop() {
  Task<void> close = scope_.Close();
  co_await std::move(close);
  workers_.clear();
}

void ProbeManagerImpl::AddPod(const PodPtr& pod) {
  auto add_all = [&](const corev1::Container& container) {
    if (container.has_startup_probe())
      AddWorker(pod, container, ProbeKind::kStartup, container.startup_probe());
    if (container.has_readiness_probe())
      AddWorker(pod, container, ProbeKind::kReadiness, container.readiness_probe());
    if (container.has_liveness_probe())
      AddWorker(pod, container, ProbeKind::kLiveness, container.liveness_probe());
  };
  for (const auto& container : pod->spec().containers()) add_all(container);
  for (const auto& container : pod->spec().init_containers()) {
    if (IsRestartableInit(container)) add_all(container);
  }
}

void ProbeManagerImpl::AddWorker(const PodPtr& pod, const corev1::Container& container, ProbeKind kind,
                                 const corev1::Probe& probe) {
  WorkerKey key{PodUid(*pod), container.name(), kind};
  if (workers_.contains(key)) return;
  auto worker = std::make_shared<Worker>();
  worker->pod = pod;
  worker->container = container;
  worker->probe = probe;
  worker->kind = kind;
  // What the API remembers about the container it names; worth something if that one still runs.
  const corev1::ContainerStatus* known = FindContainerStatus(pod->status(), container.name());
  if (known != nullptr && known->has_state() && known->state().has_running()) {
    worker->container_id = std::string(TrimIdScheme(known->container_id()));
    bool good = kind == ProbeKind::kReadiness ? known->ready()
                : kind == ProbeKind::kStartup ? known->started()
                                              : true;
    results_[{kind, worker->container_id}] = good ? ProbeResult::kSuccess : Initial(kind);
  }
  workers_[key] = worker;
  scope_.Spawn(StrCat(NameOf(kind), " probe of ", PodName(*pod), "/", container.name()), Run(worker));
}

void ProbeManagerImpl::StopWorker(const WorkerPtr& worker) {
  worker->stopped = true;
  worker->wake.Set();
}

void ProbeManagerImpl::StopLivenessAndStartup(const std::string& uid) {
  for (auto it = workers_.lower_bound(WorkerKey{uid, "", ProbeKind::kStartup});
       it != workers_.end() && std::get<0>(it->first) == uid;) {
    if (it->second->kind == ProbeKind::kReadiness) {
      ++it;
      continue;
    }
    // Nothing shall be restarted any more, nor count as never started.
    if (!it->second->container_id.empty())
      results_[{it->second->kind, it->second->container_id}] = ProbeResult::kSuccess;
    StopWorker(it->second);
    ++it;
  }
}

void ProbeManagerImpl::RemovePod(const std::string& uid) {
  for (auto it = workers_.lower_bound(WorkerKey{uid, "", ProbeKind::kStartup});
       it != workers_.end() && std::get<0>(it->first) == uid;) {
    StopWorker(it->second);
    Forget(it->second->kind, it->second->container_id);
    it = workers_.erase(it);
  }
}

void ProbeManagerImpl::Forget(ProbeKind kind, const std::string& container_id) {
  results_.erase({kind, container_id});
}

ProbeResult ProbeManagerImpl::Get(ProbeKind kind, std::string_view container_id) const {
  auto found = results_.find({kind, std::string(container_id)});
  return found == results_.end() ? ProbeResult::kUnknown : found->second;
}

void ProbeManagerImpl::SetResult(const WorkerPtr& worker, ProbeResult result) {
  ProbeResult& slot = results_[{worker->kind, worker->container_id}];
  if (slot == result) return;
  slot = result;
  if (!listener_) return;
  ProbeEvent event;
  event.pod_uid = PodUid(*worker->pod);
  event.container_name = worker->container.name();
  event.container_id = worker->container_id;
  event.kind = worker->kind;
  event.result = result;
  listener_(event);
}

Task<void> ProbeManagerImpl::Pause(WorkerPtr worker, absl::Duration duration) {
  worker->wake.Reset();
  uint64_t timer = env_.clock().Schedule(duration, [worker] { worker->wake.Set(); });
  Task<void> wait = worker->wake.Wait();
  co_await std::move(wait);
  env_.clock().CancelTimer(timer);
}

Task<void> ProbeManagerImpl::Run(WorkerPtr worker) {
  // Pods found running at start would all be probed at once.
  if (!worker->container_id.empty() && env_.clock().Monotonic() - started_at_ < kProbeStartJitterWindow) {
    Task<void> jitter = Pause(worker, Period(worker->probe) * env_.random().Fraction());
    co_await std::move(jitter);
  }
  while (!worker->stopped) {
    Task<absl::Duration> step = Step(worker);
    absl::Duration next = co_await std::move(step);
    if (next < absl::ZeroDuration()) co_return;
    if (worker->stopped) co_return;
    Task<void> pause = Pause(worker, next);
    co_await std::move(pause);
  }
}

Task<absl::Duration> ProbeManagerImpl::Step(WorkerPtr worker) {
  const absl::Duration period = Period(worker->probe);
  const absl::Duration soon = std::min(period, kProbeWaitInterval);
  const corev1::PodStatus* status =
      provider_ == nullptr ? nullptr : provider_->GetPodStatus(PodUid(*worker->pod));
  if (status == nullptr) co_return soon;
  if (IsTerminalPhase(status->phase())) co_return kDone;
  const corev1::ContainerStatus* container = FindContainerStatus(*status, worker->container.name());
  if (container == nullptr || container->container_id().empty()) co_return soon;
  std::string id(TrimIdScheme(container->container_id()));
  if (id != worker->container_id) {
    Forget(worker->kind, worker->container_id);
    worker->container_id = id;
    worker->on_hold = false;
    worker->thresholds.Reset();
    SetResult(worker, Initial(worker->kind));
  } else if (!results_.contains({worker->kind, id})) {
    SetResult(worker, Initial(worker->kind));
  }
  if (worker->on_hold) co_return soon;  // until the container was restarted
  if (!container->state().has_running()) {
    // A container that was created and not yet started keeps its first verdict: it is the same ID that will
    // run.
    if (container->state().has_terminated()) SetResult(worker, ProbeResult::kFailure);
    bool over =
        container->state().has_terminated() && worker->pod->spec().restart_policy() == "Never" &&
        !RestartsAfterExit(worker->container, *worker->pod, container->state().terminated().exit_code());
    co_return over ? kDone : soon;
  }
  absl::Duration delay =
      StartedAt(*container) + absl::Seconds(worker->probe.initial_delay_seconds()) - env_.clock().Now();
  if (delay > absl::ZeroDuration()) co_return std::min(delay, std::max(period, absl::Seconds(1)));
  if (worker->kind == ProbeKind::kStartup && container->started()) co_return soon;
  if (worker->kind != ProbeKind::kStartup && !container->started()) co_return soon;
  std::string pod_ip = status->pod_ip();
  Task<absl::StatusOr<ProbeOutcome>> attempt =
      prober_->Probe(worker->pod, worker->container, worker->probe, pod_ip, worker->container_id);
  absl::StatusOr<ProbeOutcome> outcome = co_await std::move(attempt);
  if (worker->stopped) co_return kDone;
  if (!outcome.ok()) {
    Tell(worker, StrCat("errored and resulted in unknown state: ", Sv(outcome.status().message())));
    // Logged once while it lasts: the runtime's absence is everybody's.
    if (!std::exchange(worker->complained, true)) {
      LogWarning("probe could not be run", {{"pod", PodName(*worker->pod)},
                                            {"container", worker->container.name()},
                                            {"probe", NameOf(worker->kind)},
                                            {"error", outcome.status()}});
    }
    co_return period;
  }
  worker->complained = false;
  Attempted(worker, *outcome);
  co_return period;
}

void ProbeManagerImpl::Tell(const WorkerPtr& worker, const std::string& what) {
  if (events_ == nullptr) return;
  events_->Event(*worker->pod, "Warning", "Unhealthy", StrCat(NameOf(worker->kind), " probe ", what),
                 StrCat("spec.containers{", worker->container.name(), "}"));
}

void ProbeManagerImpl::Attempted(const WorkerPtr& worker, const ProbeOutcome& outcome) {
  if (!outcome.success) Tell(worker, StrCat("failed: ", outcome.message));
  ProbeResult verdict = worker->thresholds.Add(outcome.success, worker->probe);
  if (verdict == ProbeResult::kUnknown) return;
  if (verdict == ProbeResult::kFailure && worker->kind != ProbeKind::kReadiness) {
    worker->on_hold = true;
    worker->thresholds.Reset();
  }
  SetResult(worker, verdict);
}

}  // namespace keelson::kubelet
