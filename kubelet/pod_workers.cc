#include "kubelet/pod_workers.h"

#include <algorithm>

#include "base/log.h"
#include "base/status.h"

namespace keelson::kubelet {

struct PodWorkers::Worker {
  explicit Worker(Executor executor) : step_scope(std::make_unique<Scope>(std::move(executor))) {}

  std::string uid, full_name;
  PodPtr pod;  // the newest
  State state = State::kSyncing;
  KillRequest kill;
  std::optional<int64_t> effective_grace_s;
  bool orphan = false;
  bool started = false;    // its coroutine exists
  bool dirty = false;      // an update the coroutine has not taken yet
  bool refresh = false;    // the last step changed the runtime
  bool cancelled = false;  // the running step was cut short by a more urgent order
  bool finished = false;   // terminated and cleaned up; the coroutine has ended
  int failures = 0;
  std::unique_ptr<Scope>
      step_scope;  // of the running step, cancellable on its own; Stop() closes it at the end
  WaitList wake;
  AsyncEvent step_done;
  // Result of the step.
  absl::Status status;
  SyncResult result;
};

PodWorkers::PodWorkers(Env& env, PodSyncer& syncer, PodWorkersOptions options)
    : env_(env), syncer_(syncer), options_(options), scope_(env.executor()) {}

PodWorkers::~PodWorkers() = default;

std::shared_ptr<PodWorkers::Worker> PodWorkers::Ensure(const PodPtr& pod) {
  auto& slot = workers_[PodUid(*pod)];
  if (slot == nullptr) {
    slot = std::make_shared<Worker>(env_.executor());
    slot->uid = PodUid(*pod);
    slot->full_name = PodFullName(*pod);
  }
  return slot;
}

void PodWorkers::UpdatePod(PodPtr pod) {
  if (stopping_) return;
  std::shared_ptr<Worker> worker = Ensure(pod);
  worker->pod = pod;
  worker->orphan = false;
  worker->dirty = true;
  if (worker->state == State::kSyncing && (IsDeleting(*pod) || IsTerminalPhase(pod->status().phase()))) {
    StartTerminating(*worker);
  } else if (worker->state == State::kTerminating && IsDeleting(*pod)) {
    // The API may shorten the grace period of a deletion under way.
    int64_t grace_s =
        EffectiveGracePeriodS(*pod, worker->kill.grace_period_s ? &*worker->kill.grace_period_s : nullptr);
    if (worker->effective_grace_s && grace_s < *worker->effective_grace_s) StartTerminating(*worker);
  }
  MaybeStart(worker);
  worker->wake.NotifyAll();
}

void PodWorkers::KillPod(PodPtr pod, KillRequest kill) {
  if (stopping_) return;
  std::shared_ptr<Worker> worker = Ensure(pod);
  if (worker->pod == nullptr) worker->pod = pod;
  worker->dirty = true;
  if (worker->state == State::kTerminated) return;
  if (kill.status_change) worker->kill.status_change = std::move(kill.status_change);
  bool shorter = false;
  if (kill.grace_period_s) {
    shorter = !worker->effective_grace_s || *kill.grace_period_s < *worker->effective_grace_s;
    if (shorter) worker->kill.grace_period_s = kill.grace_period_s;
  }
  if (worker->state == State::kSyncing || shorter) StartTerminating(*worker);
  MaybeStart(worker);
  worker->wake.NotifyAll();
}

void PodWorkers::KillOrphan(PodPtr stub) {
  if (stopping_ || Known(PodUid(*stub))) return;
  std::shared_ptr<Worker> worker = Ensure(stub);
  worker->pod = stub;
  worker->orphan = true;
  worker->dirty = true;
  StartTerminating(*worker);
  MaybeStart(worker);
}

void PodWorkers::StartTerminating(Worker& worker) {
  worker.state = State::kTerminating;
  worker.effective_grace_s =
      EffectiveGracePeriodS(*worker.pod, worker.kill.grace_period_s ? &*worker.kill.grace_period_s : nullptr);
  worker.dirty = true;
  // Whatever step is under way (a long pull, a longer grace) gives way.
  worker.cancelled = true;
  worker.step_done.Set();
}

void PodWorkers::Poke(const std::string& uid) {
  auto it = workers_.find(uid);
  if (it == workers_.end()) return;
  it->second->dirty = true;
  it->second->wake.NotifyAll();
}

bool PodWorkers::MayStartStatic(const Worker& worker) {
  if (!IsStaticPod(*worker.pod)) return true;
  auto it = running_static_.find(worker.full_name);
  if (it != running_static_.end() && it->second != worker.uid) return false;
  running_static_[worker.full_name] = worker.uid;
  return true;
}

void PodWorkers::MaybeStart(const std::shared_ptr<Worker>& worker) {
  if (worker->started || stopping_ || !MayStartStatic(*worker)) return;
  worker->started = true;
  scope_.Spawn("pod-worker", Run(worker));
}

Task<void> PodWorkers::WaitForWork(std::shared_ptr<Worker> worker, absl::Duration at_most) {
  if (worker->dirty) co_return;
  std::weak_ptr<Worker> weak = worker;
  const uint64_t timer = env_.clock().Schedule(at_most, [weak] {
    std::shared_ptr<Worker> w = weak.lock();
    if (w == nullptr) return;
    w->dirty = true;
    w->wake.NotifyAll();
  });
  while (!worker->dirty) {
    Task<void> wait = worker->wake.Wait();
    co_await std::move(wait);
  }
  env_.clock().CancelTimer(timer);
}

Task<void> PodWorkers::Step(std::shared_ptr<Worker> worker) {
  PodPtr pod = worker->pod;
  if (worker->state == State::kSyncing) {
    const bool refresh = worker->refresh;
    Task<absl::StatusOr<SyncResult>> task = syncer_.SyncPod(pod, refresh);
    absl::StatusOr<SyncResult> result = co_await std::move(task);
    worker->status = result.status();
    if (result.ok()) worker->result = *result;
  } else if (worker->state == State::kTerminating) {
    KillRequest kill = worker->kill;
    Task<absl::Status> task = syncer_.SyncTerminatingPod(pod, kill);
    worker->status = co_await std::move(task);
  } else {
    Task<absl::Status> task = syncer_.SyncTerminatedPod(pod);
    worker->status = co_await std::move(task);
  }
  worker->step_done.Set();
}

Task<void> PodWorkers::Run(std::shared_ptr<Worker> worker) {
  while (!worker->finished) {
    worker->dirty = false;
    worker->cancelled = false;
    worker->step_done.Reset();
    worker->result = SyncResult();
    worker->status = absl::OkStatus();
    const State state = worker->state;
    worker->step_scope->Spawn("pod-step", Step(worker));
    Task<void> wait = worker->step_done.Wait();
    co_await std::move(wait);
    if (worker->cancelled) {
      Task<void> close = worker->step_scope->Close();
      co_await std::move(close);
      worker->step_scope = std::make_unique<Scope>(env_.executor());
      worker->refresh = true;
      continue;
    }
    absl::Duration delay = AfterStep(*worker, state);
    if (worker->finished) break;
    if (delay > absl::ZeroDuration()) {
      Task<void> idle = WaitForWork(worker, delay);
      co_await std::move(idle);
    }
  }
  Task<void> close = worker->step_scope->Close();
  co_await std::move(close);
  auto it = running_static_.find(worker->full_name);
  if (it != running_static_.end() && it->second == worker->uid) running_static_.erase(it);
  std::vector<std::shared_ptr<Worker>> waiting;
  for (const auto& [uid, other] : workers_) {
    if (!other->started) waiting.push_back(other);
  }
  for (const auto& other : waiting) MaybeStart(other);
}

// Moves the state on; the time until the next step, zero for at once.
absl::Duration PodWorkers::AfterStep(Worker& worker, State state) {
  if (!worker.status.ok()) {
    ++worker.failures;
    worker.refresh = true;
    absl::Duration delay = options_.first_error_backoff * (1 << std::min(worker.failures - 1, 8));
    delay = std::min(delay, options_.error_backoff);
    LogWarning("pod sync failed", {{"pod", PodName(*worker.pod)},
                                   {"pod_uid", worker.uid},
                                   {"error", worker.status},
                                   {"retry_s", absl::ToDoubleSeconds(delay)}});
    return delay;
  }
  worker.failures = 0;
  switch (state) {
    case State::kSyncing:
      worker.refresh = worker.result.acted && !worker.result.fresh;
      if (worker.result.terminal) {
        worker.state = State::kTerminating;
        worker.effective_grace_s = EffectiveGracePeriodS(*worker.pod, nullptr);
        return absl::ZeroDuration();
      }
      if (worker.result.acted) return absl::ZeroDuration();
      // Spread over time, so that all pods of a node do not come due together.
      return std::min(options_.sync_frequency * (1 + 0.5 * env_.random().Fraction()),
                      worker.result.retry_after.value_or(absl::InfiniteDuration()));
    case State::kTerminating:
      worker.state = State::kTerminated;
      return absl::ZeroDuration();
    case State::kTerminated:
      worker.finished = true;
      return absl::ZeroDuration();
  }
  return options_.sync_frequency;
}

std::map<std::string, PodWorkers::State> PodWorkers::SyncKnownPods(const std::set<std::string>& wanted) {
  std::map<std::string, State> known;
  for (auto it = workers_.begin(); it != workers_.end();) {
    std::shared_ptr<Worker> worker = it->second;
    if (wanted.count(it->first) == 0) {
      if (worker->finished || !worker->started) {
        it = workers_.erase(it);
        continue;
      }
      if (worker->state == State::kSyncing) {
        StartTerminating(*worker);
        worker->wake.NotifyAll();
      }
    }
    known[it->first] = worker->state;
    ++it;
  }
  return known;
}

bool PodWorkers::CouldHaveRunningContainers(const std::string& uid) const {
  auto it = workers_.find(uid);
  return it != workers_.end() && it->second->state != State::kTerminated;
}

bool PodWorkers::IsTerminating(const std::string& uid) const {
  auto it = workers_.find(uid);
  return it != workers_.end() && it->second->state != State::kSyncing;
}

bool PodWorkers::IsTerminated(const std::string& uid) const {
  auto it = workers_.find(uid);
  return it != workers_.end() && it->second->state == State::kTerminated;
}

Task<void> PodWorkers::Stop() {
  stopping_ = true;
  Task<void> close = scope_.Close();
  co_await std::move(close);
  for (auto& [uid, worker] : workers_) {
    std::shared_ptr<Worker> keep = worker;
    Task<void> steps = keep->step_scope->Close();
    co_await std::move(steps);
  }
}

}  // namespace keelson::kubelet
