#include "master/controllers/node_lifecycle_controller.h"

#include <algorithm>

#include "api/codec.h"
#include "api/coordination/v1/coordination.pb.h"
#include "api/object.h"
#include "api/status_error.h"
#include "api/time.h"
#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"

namespace keelson::master {

namespace corev1 = ::k8s::core::v1;
using client::ObjectPtr;
using Lease = ::k8s::coordination::v1::Lease;

namespace {

constexpr int kNodeWorkers = 8;
constexpr char kLeaseNamespace[] = "kube-node-lease";
constexpr char kPodsByNode[] = "node";

// The kubelet has written its status: a heartbeat of its own, not an Unknown of ours.
bool StatusRenewed(const corev1::Node& before, const corev1::Node& after) {
  const corev1::NodeCondition* old = FindNodeCondition(before, "Ready");
  const corev1::NodeCondition* now = FindNodeCondition(after, "Ready");
  if (now == nullptr || now->status() == "Unknown") return false;
  if (old == nullptr || old->status() != now->status()) return true;
  return api::ToAbsl(old->last_heartbeat_time()) != api::ToAbsl(now->last_heartbeat_time());
}

}  // namespace

NodeLifecycleController::NodeLifecycleController(ControllerContext context, NodeMonitorOptions options)
    : context_(context),
      options_(options),
      nodes_(context.informers.For<corev1::Node>()),
      leases_(context.informers.For<Lease>()),
      pods_(context.informers.For<corev1::Pod>()),
      loop_(context.env, name(), *this) {
  pods_.AddIndex(kPodsByNode, [](const api::Message& object) {
    const std::string& node = static_cast<const corev1::Pod&>(object).spec().node_name();
    return node.empty() ? std::vector<std::string>() : std::vector<std::string>({node});
  });
  nodes_.AddHandler([this](const ObjectPtr& before, const ObjectPtr& after) { OnNode(before, after); });
  leases_.AddHandler([this](const ObjectPtr& before, const ObjectPtr& after) { OnLease(before, after); });
  pods_.AddHandler([this](const ObjectPtr& before, const ObjectPtr& after) { OnPod(before, after); });
}

void NodeLifecycleController::Start() { loop_.Start(kNodeWorkers); }
Task<void> NodeLifecycleController::Stop() { return loop_.Stop(); }

void NodeLifecycleController::OnNode(const ObjectPtr& before, const ObjectPtr& after) {
  const std::string& node = api::Meta(after != nullptr ? *after : *before).name();
  if (after == nullptr) {
    last_sign_.erase(node);
    return;
  }
  if (before == nullptr ||
      StatusRenewed(static_cast<const corev1::Node&>(*before), static_cast<const corev1::Node&>(*after))) {
    last_sign_[node] = context_.env.clock().Monotonic();
  }
  loop_.queue().Add(node);
}

void NodeLifecycleController::OnLease(const ObjectPtr& before, const ObjectPtr& after) {
  if (after == nullptr || api::Meta(*after).namespace_() != kLeaseNamespace) return;
  auto renewed = [](const ObjectPtr& lease) {
    return api::ToAbsl(static_cast<const Lease&>(*lease).spec().renew_time());
  };
  if (before != nullptr && renewed(before) == renewed(after)) return;
  last_sign_[api::Meta(*after).name()] = context_.env.clock().Monotonic();
}

// A pod that lands on a tainted node may have to leave it again.
void NodeLifecycleController::OnPod(const ObjectPtr& before, const ObjectPtr& after) {
  if (after == nullptr) return;
  const std::string& node = static_cast<const corev1::Pod&>(*after).spec().node_name();
  if (node.empty() ||
      (before != nullptr && static_cast<const corev1::Pod&>(*before).spec().node_name() == node))
    return;
  auto info = nodes_.Get<corev1::Node>(node);
  if (info == nullptr) return;
  for (const corev1::Taint& taint : info->spec().taints()) {
    if (taint.effect() == "NoExecute") return loop_.queue().Add(node);
  }
}

// A sign of life must be recent: when the master is cut off, all nodes are silent before the first is called
// so.
bool NodeLifecycleController::AnyNodeReady() const {
  absl::Duration recent = context_.env.clock().Monotonic() - options_.grace_period / 2;
  for (const ObjectPtr& object : nodes_.List()) {
    auto sign = last_sign_.find(api::Meta(*object).name());
    if (sign == last_sign_.end() || sign->second < recent) continue;
    if (ReadyStatus(static_cast<const corev1::Node&>(*object)) == "True") return true;
  }
  return false;
}

bool NodeLifecycleController::TakeEvictionToken(const std::string& zone) {
  const absl::Duration now = context_.env.clock().Monotonic();
  int ready = 0, not_ready = 0;
  for (const ObjectPtr& object : nodes_.List()) {
    const auto& node = static_cast<const corev1::Node&>(*object);
    if (ZoneOf(node) != zone) continue;
    // One that is silent counts before its own turn comes to be called so: many often fall silent together.
    auto sign = last_sign_.find(node.metadata().name());
    const bool silent = sign != last_sign_.end() && now - sign->second > options_.grace_period;
    ++(ReadyStatus(node) == "True" && !silent ? ready : not_ready);
  }
  const double rate = EvictionRate(ready, not_ready, options_.eviction);
  ZoneBucket& bucket = zones_[zone];
  if (rate != bucket.rate_per_s) {
    LogInfo("eviction rate of a zone",
            {{"zone", zone}, {"ready", ready}, {"not_ready", not_ready}, {"nodes_per_s", rate}});
  }
  bucket.tokens = std::min(1.0, bucket.tokens + rate * absl::ToDoubleSeconds(now - bucket.filled_at));
  bucket.filled_at = now;
  bucket.rate_per_s = rate;
  constexpr double kRounding = 1e-6;
  if (rate <= 0 || bucket.tokens < 1 - kRounding) return false;
  bucket.tokens = 0;
  return true;
}

Task<absl::StatusOr<NodeLifecycleController::NodePtr>> NodeLifecycleController::CheckHealth(NodePtr node) {
  const std::string& name = node->metadata().name();
  absl::Duration now = context_.env.clock().Monotonic();
  auto sign = last_sign_.try_emplace(name, now).first;
  absl::Duration grace = ReadyStatus(*node).empty() ? options_.startup_grace_period : options_.grace_period;
  if (now - sign->second <= grace) co_return node;
  std::vector<corev1::NodeCondition> conditions = SilentConditions(*node, context_.env.clock().Now());
  if (conditions.empty()) co_return node;
  std::string list;
  for (const corev1::NodeCondition& condition : conditions) {
    StrAppend(&list, list.empty() ? "" : ",", api::EncodeJson(condition));
  }
  if (ReadyStatus(*node) == "True") {
    context_.events.Event(*node, "Normal", "NodeNotReady",
                          StrCat("Node ", name, " status is now: NodeNotReady"));
  }
  LogWarning("node has fallen silent",
             {{"node", name}, {"silent_s", absl::ToInt64Seconds(now - sign->second)}});
  std::string patch = StrCat(R"({"metadata":{"uid":")", node->metadata().uid(),
                             R"("},"status":{"conditions":[)", list, "]}}");
  Task<absl::StatusOr<NodePtr>> task = context_.client.Patch<corev1::Node>(
      "", name, client::PatchType::kStrategicMerge, std::move(patch), "status");
  absl::StatusOr<NodePtr> patched = co_await std::move(task);
  co_return patched;
}

Task<absl::StatusOr<NodeLifecycleController::NodePtr>> NodeLifecycleController::SyncTaints(NodePtr node) {
  bool evict = AnyNodeReady();
  const bool takes_token = evict && LacksEvictionTaint(*node);
  const std::string zone = ZoneOf(*node);
  if (takes_token) evict = TakeEvictionToken(zone);
  TaintList desired = DesiredTaints(*node, evict, context_.env.clock().Now());
  if (SameTaints(desired, node->spec().taints())) co_return node;
  std::string list;
  for (const corev1::Taint& taint : desired)
    StrAppend(&list, list.empty() ? "" : ",", api::EncodeJson(taint));
  // The list is replaced as a whole: only on top of the one that was looked at.
  std::string patch = StrCat(R"({"metadata":{"resourceVersion":")", node->metadata().resource_version(),
                             R"("},"spec":{"taints":[)", list, "]}}");
  Task<absl::StatusOr<NodePtr>> task = context_.client.Patch<corev1::Node>(
      "", node->metadata().name(), client::PatchType::kMerge, std::move(patch));
  absl::StatusOr<NodePtr> patched = co_await std::move(task);
  if (takes_token && evict && !patched.ok()) zones_[zone].tokens = 1;  // not used
  co_return patched;
}

Task<absl::Status> NodeLifecycleController::MarkPodsNotReady(NodePtr node) {
  for (const ObjectPtr& object : pods_.ByIndex(kPodsByNode, node->metadata().name())) {
    PodPtr pod = api::As<corev1::Pod>(object);
    std::optional<corev1::PodCondition> condition = NotReadyCondition(*pod, context_.env.clock().Now());
    if (!condition.has_value()) continue;
    context_.events.Event(*pod, "Warning", "NodeNotReady", "Node is not ready");
    std::string patch = StrCat(R"({"metadata":{"uid":")", pod->metadata().uid(),
                               R"("},"status":{"conditions":[)", api::EncodeJson(*condition), "]}}");
    Task<absl::StatusOr<PodPtr>> task =
        context_.client.Patch<corev1::Pod>(pod->metadata().namespace_(), pod->metadata().name(),
                                           client::PatchType::kStrategicMerge, std::move(patch), "status");
    absl::StatusOr<PodPtr> patched = co_await std::move(task);
    if (!patched.ok() && !api::IsNotFound(patched.status())) co_return patched.status();
  }
  co_return absl::OkStatus();
}

Task<absl::Status> NodeLifecycleController::Evict(PodPtr pod) {
  const std::string& ns = pod->metadata().namespace_();
  const std::string& name = pod->metadata().name();
  context_.events.Event(*pod, "Normal", "TaintManagerEviction",
                        StrCat("Marking for deletion Pod ", api::NamespacedName(*pod)));
  corev1::PodCondition condition;
  condition.set_type("DisruptionTarget");
  condition.set_status("True");
  condition.set_reason("DeletionByTaintManager");
  condition.set_message("Taint manager: deleting due to NoExecute taint");
  *condition.mutable_last_transition_time() = api::ToApiTime(context_.env.clock().Now());
  std::string patch = StrCat(R"({"metadata":{"uid":")", pod->metadata().uid(),
                             R"("},"status":{"conditions":[)", api::EncodeJson(condition), "]}}");
  Task<absl::StatusOr<PodPtr>> mark = context_.client.Patch<corev1::Pod>(
      ns, name, client::PatchType::kStrategicMerge, std::move(patch), "status");
  absl::StatusOr<PodPtr> marked = co_await std::move(mark);
  if (api::IsNotFound(marked.status())) co_return absl::OkStatus();
  if (!marked.ok()) co_return marked.status();
  client::DeleteOptions options;
  options.precondition_uid = pod->metadata().uid();
  Task<absl::Status> remove = context_.client.Delete<corev1::Pod>(ns, name, options);
  absl::Status removed = co_await std::move(remove);
  co_return api::IsNotFound(removed) || api::IsConflict(removed) ? absl::OkStatus() : removed;
}

Task<absl::StatusOr<absl::Time>> NodeLifecycleController::EvictPods(NodePtr node) {
  absl::Time next = absl::InfiniteFuture();
  bool tainted = std::any_of(node->spec().taints().begin(), node->spec().taints().end(),
                             [](const corev1::Taint& taint) { return taint.effect() == "NoExecute"; });
  if (!tainted) co_return next;
  for (const ObjectPtr& object : pods_.ByIndex(kPodsByNode, node->metadata().name())) {
    PodPtr pod = api::As<corev1::Pod>(object);
    if (!IsPodActive(*pod)) continue;
    absl::Time due = EvictionTime(*pod, node->spec().taints());
    if (due <= context_.env.clock().Now()) {
      CO_RETURN_IF_ERROR(Evict(pod));
    } else {
      next = std::min(next, due);
    }
  }
  co_return next;
}

Task<absl::StatusOr<client::Requeue>> NodeLifecycleController::Reconcile(std::string key) {
  client::Requeue again;
  NodePtr node = nodes_.Get<corev1::Node>(key);
  if (node == nullptr) co_return again;
  Task<absl::StatusOr<NodePtr>> check = CheckHealth(node);
  absl::StatusOr<NodePtr> result = co_await std::move(check);
  if (result.ok()) {
    Task<absl::StatusOr<NodePtr>> taint = SyncTaints(*result);
    result = co_await std::move(taint);
  }
  if (api::IsNotFound(result.status())) co_return again;
  if (!result.ok()) co_return result.status();
  node = *std::move(result);
  if (ReadyStatus(*node) == "Unknown") {
    CO_RETURN_IF_ERROR(MarkPodsNotReady(node));
  }
  CO_ASSIGN_OR_RETURN(absl::Time next, EvictPods(node));
  again.after = std::clamp(next - context_.env.clock().Now(), absl::ZeroDuration(), options_.period);
  co_return again;
}

}  // namespace keelson::master
