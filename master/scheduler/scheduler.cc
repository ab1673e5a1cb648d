#include "master/scheduler/scheduler.h"

#include <google/protobuf/util/message_differencer.h>

#include <algorithm>

#include "api/codec.h"
#include "api/core/v1/misc.pb.h"
#include "api/object.h"
#include "api/status_error.h"
#include "api/time.h"
#include "base/log.h"
#include "base/strings.h"
#include "master/scheduler/scores.h"

namespace keelson::master {

namespace corev1 = ::k8s::core::v1;
using client::ObjectPtr;
using google::protobuf::util::MessageDifferencer;

namespace {

constexpr size_t kMinFeasibleNodes = 100;
constexpr char kScheduledCondition[] = "PodScheduled";

bool IsOurs(const corev1::Pod& pod) {
  const std::string& name = pod.spec().scheduler_name();
  return name.empty() || name == kDefaultSchedulerName;
}

bool IsFinished(const corev1::Pod& pod) {
  return pod.status().phase() == "Succeeded" || pod.status().phase() == "Failed";
}

bool IsAssigned(const corev1::Pod& pod) { return !pod.spec().node_name().empty() && !IsFinished(pod); }

bool WaitsForNode(const corev1::Pod& pod) {
  return pod.spec().node_name().empty() && IsOurs(pod) && !IsFinished(pod) &&
         !pod.metadata().has_deletion_timestamp() && pod.spec().scheduling_gates().empty();
}

// Anything a filter of the node could see.
bool MattersToPods(const corev1::Node& before, const corev1::Node& after) {
  corev1::Node a, b;
  *a.mutable_spec() = before.spec();
  *b.mutable_spec() = after.spec();
  *a.mutable_metadata()->mutable_labels() = before.metadata().labels();
  *b.mutable_metadata()->mutable_labels() = after.metadata().labels();
  *a.mutable_status()->mutable_allocatable() = before.status().allocatable();
  *b.mutable_status()->mutable_allocatable() = after.status().allocatable();
  return !MessageDifferencer::Equals(a, b);
}

const corev1::PodCondition* ScheduledCondition(const corev1::Pod& pod) {
  for (const auto& condition : pod.status().conditions()) {
    if (condition.type() == kScheduledCondition) return &condition;
  }
  return nullptr;
}

}  // namespace

size_t FeasibleNodesToFind(size_t nodes) {
  if (nodes <= kMinFeasibleNodes) return nodes;
  size_t percent = nodes / 125 >= 45 ? 5 : 50 - nodes / 125;
  return std::max(kMinFeasibleNodes, nodes * percent / 100);
}

Scheduler::Scheduler(ControllerContext context)
    : context_(context),
      events_(context.env, context.client, kDefaultSchedulerName, ""),
      queue_(context.env),
      slots_(kMaxBindsInFlight),
      scope_(context.env.executor()) {
  context_.informers.For<corev1::Pod>().AddHandler(
      [this](const ObjectPtr& before, const ObjectPtr& after) { OnPod(before, after); });
  context_.informers.For<corev1::Node>().AddHandler(
      [this](const ObjectPtr& before, const ObjectPtr& after) { OnNode(before, after); });
}

Scheduler::~Scheduler() = default;

void Scheduler::Start() { scope_.Spawn("scheduler", Run()); }

Task<void> Scheduler::Stop() {
  queue_.Shutdown();
  Task<void> close = scope_.Close();
  co_await std::move(close);
  Task<void> stop_events = events_.Stop();
  co_await std::move(stop_events);
}

// The entry of that name is still this pod, not a later one.
bool Scheduler::StillQueued(const PodInfo& pod) const {
  PodInfoPtr queued = queue_.Find(pod.key);
  return queued != nullptr && queued->uid() == pod.uid();
}

void Scheduler::WakeFor(const std::string& node) {
  const NodeInfo* info = cache_.Find(node);
  if (info == nullptr || queue_.unschedulable() == 0) return;
  queue_.Wake([&](const PodInfo& pod) { return !RunFilters(pod, *info).has_value(); });
}

void Scheduler::OnPod(const ObjectPtr& before, const ObjectPtr& after) {
  PodPtr old = api::As<corev1::Pod>(before);
  PodPtr now = api::As<corev1::Pod>(after);
  if (old != nullptr && IsAssigned(*old) && (now == nullptr || !IsAssigned(*now))) {
    cache_.RemovePod(old->metadata().uid());
    WakeFor(old->spec().node_name());
  }
  std::string key = api::NamespacedName(now != nullptr ? *now : *old);
  if (now == nullptr) {
    cache_.RemovePod(old->metadata().uid());  // it may have been assumed
    queue_.Remove(key);
  } else if (IsAssigned(*now)) {
    queue_.Remove(key);
    // A pod's requests and ports are fixed; a status update of a pod that is counted already changes nothing
    // here.
    if (old != nullptr && IsAssigned(*old) && old->metadata().generation() == now->metadata().generation() &&
        now->metadata().generation() != 0) {
      return;
    }
    cache_.SetPod(MakePodInfo(now));
  } else if (!WaitsForNode(*now)) {
    queue_.Remove(key);
  } else if (cache_.IsAssumed(now->metadata().uid())) {
    queue_.Update(MakePodInfo(now));
  } else if (old == nullptr || !WaitsForNode(*old) || !MessageDifferencer::Equals(old->spec(), now->spec()) ||
             old->metadata().uid() != now->metadata().uid()) {
    queue_.Add(MakePodInfo(now));
  } else {
    queue_.Update(MakePodInfo(now));
  }
}

void Scheduler::OnNode(const ObjectPtr& before, const ObjectPtr& after) {
  NodePtr old = api::As<corev1::Node>(before);
  NodePtr now = api::As<corev1::Node>(after);
  if (now == nullptr) return cache_.RemoveNode(old->metadata().name());
  bool matters = old == nullptr || MattersToPods(*old, *now);
  if (matters) {
    cache_.SetNode(now);
    WakeFor(now->metadata().name());
  }
}

const NodeInfo* Scheduler::Choose(const PodInfo& pod, FitError* error) {
  std::string unsupported = UnsupportedField(pod.pod->spec());
  if (!unsupported.empty()) {
    error->SetUnsupported(std::move(unsupported));
    return nullptr;
  }
  const std::vector<const NodeInfo*>& nodes = cache_.nodes();
  size_t wanted = FeasibleNodesToFind(nodes.size());
  std::vector<const NodeInfo*> feasible;
  size_t tried = 0;
  for (; tried < nodes.size() && feasible.size() < wanted; ++tried) {
    const NodeInfo* node = nodes[(next_start_ + tried) % nodes.size()];
    std::optional<Rejection> rejection = RunFilters(pod, *node);
    if (rejection.has_value()) {
      error->Add(*rejection);
    } else {
      feasible.push_back(node);
    }
  }
  if (!nodes.empty()) next_start_ = (next_start_ + tried) % nodes.size();
  if (feasible.empty()) return nullptr;
  if (feasible.size() == 1) return feasible[0];
  std::vector<int64_t> scores = ScoreNodes(pod, feasible);
  size_t best = 0;
  uint64_t ties = 1;
  for (size_t i = 1; i < scores.size(); ++i) {
    if (scores[i] > scores[best]) {
      best = i;
      ties = 1;
    } else if (scores[i] == scores[best] && context_.env.random().Uniform(++ties) == 0) {
      best = i;
    }
  }
  return feasible[best];
}

Task<void> Scheduler::Run() {
  while (true) {
    // A free slot first: however many pods wait, others get the loop between decisions.
    Task<void> slot = slots_.Acquire();
    co_await std::move(slot);
    Task<PodInfoPtr> next = queue_.Next();
    PodInfoPtr pod = co_await std::move(next);
    if (pod == nullptr) co_return;
    FitError error(cache_.nodes().size());
    const NodeInfo* node = Choose(*pod, &error);
    std::string name, reason;
    if (node != nullptr) {
      name = node->name();
      cache_.Assume(pod, name);
    } else {
      queue_.AddUnschedulable(pod->key);
      reason = error.Message(pod->pod->spec());
    }
    scope_.Spawn("bind", Carry(pod, std::move(name), std::move(reason)));
  }
}

Task<void> Scheduler::Carry(PodInfoPtr pod, std::string node, std::string error) {
  Task<void> work;
  if (node.empty()) {
    work = Report(pod, "Unschedulable", std::move(error));
  } else {
    work = Bind(pod, std::move(node));
  }
  co_await std::move(work);
  slots_.Release();
}

Task<void> Scheduler::Bind(PodInfoPtr pod, std::string node) {
  auto binding = std::make_shared<corev1::Binding>();
  binding->mutable_metadata()->set_name(pod->pod->metadata().name());
  binding->mutable_metadata()->set_namespace_(pod->pod->metadata().namespace_());
  binding->mutable_metadata()->set_uid(pod->uid());
  binding->mutable_target()->set_kind("Node");
  binding->mutable_target()->set_name(node);
  Task<absl::StatusOr<ObjectPtr>> create =
      context_.client.Create(client::GvrOf<corev1::Pod>(), pod->pod->metadata().namespace_(), binding,
                             pod->pod->metadata().name(), "binding");
  absl::StatusOr<ObjectPtr> bound = co_await std::move(create);
  if (bound.ok()) {
    if (StillQueued(*pod)) queue_.Remove(pod->key);
    events_.Event(*pod->pod, "Normal", "Scheduled", StrCat("Successfully assigned ", pod->key, " to ", node));
    co_return;
  }
  cache_.Forget(pod->uid());
  WakeFor(node);
  if (!StillQueued(*pod)) co_return;
  if (api::IsNotFound(bound.status())) {
    queue_.Remove(pod->key);  // gone meanwhile; its watch event is on the way
    co_return;
  }
  queue_.AddBackoff(pod->key);
  LogWarning("binding failed, trying again", {{"pod", pod->key}, {"node", node}, {"error", bound.status()}});
  Task<void> report = Report(pod, "SchedulerError", StrCat("binding rejected: ", bound.status().message()));
  co_await std::move(report);
}

Task<void> Scheduler::Report(PodInfoPtr pod, std::string reason, std::string message) {
  events_.Event(*pod->pod, "Warning", "FailedScheduling", message);
  const corev1::PodCondition* current = ScheduledCondition(*pod->pod);
  if (current == nullptr || current->status() != "False" || current->reason() != reason ||
      current->message() != message) {
    corev1::Pod change;
    corev1::PodCondition* condition = change.mutable_status()->add_conditions();
    condition->set_type(kScheduledCondition);
    condition->set_status("False");
    condition->set_reason(reason);
    condition->set_message(message);
    bool same = current != nullptr && current->status() == "False";
    *condition->mutable_last_transition_time() =
        same ? current->last_transition_time() : api::ToApiTime(context_.env.clock().Now());
    std::string patch = StrCat(R"({"metadata":{"uid":")", pod->uid(), R"("},"status":{"conditions":[)",
                               api::EncodeJson(*condition), "]}}");
    Task<absl::StatusOr<PodPtr>> task =
        context_.client.Patch<corev1::Pod>(pod->pod->metadata().namespace_(), pod->pod->metadata().name(),
                                           client::PatchType::kStrategicMerge, std::move(patch), "status");
    absl::StatusOr<PodPtr> patched = co_await std::move(task);
    if (!patched.ok() && !api::IsNotFound(patched.status())) {
      LogWarning("pod condition not written", {{"pod", pod->key}, {"error", patched.status()}});
    }
  }
}

}  // namespace keelson::master
