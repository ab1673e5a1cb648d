#include "master/controllers/pod_gc_controller.h"

#include <algorithm>
#include <map>

#include "api/codec.h"
#include "api/core/v1/node.pb.h"
#include "api/object.h"
#include "api/status_error.h"
#include "api/time.h"
#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"
#include "master/controllers/node_health.h"

namespace keelson::master {

namespace corev1 = ::k8s::core::v1;

namespace {

constexpr char kNodeGone[] = "PodGC: node no longer exists";

bool IsTerminated(const corev1::Pod& pod) {
  return pod.status().phase() == "Succeeded" || pod.status().phase() == "Failed";
}

// Its kubelet will not end anything: the administrator says so, and it is silent. Whom the taint makes leave
// is the node lifecycle controller's to decide.
bool IsOutOfService(const corev1::Node& node) {
  const auto& taints = node.spec().taints();
  return ReadyStatus(node) != "True" && std::any_of(taints.begin(), taints.end(), [](const auto& taint) {
           return taint.key() == "node.kubernetes.io/out-of-service";
         });
}

}  // namespace

std::vector<PodPtr> ExcessTerminatedPods(std::vector<PodPtr> pods, size_t threshold) {
  std::erase_if(pods, [](const PodPtr& pod) {
    return !IsTerminated(*pod) || pod->metadata().has_deletion_timestamp();
  });
  if (pods.size() <= threshold) return {};
  auto created = [](const PodPtr& pod) { return api::ToAbsl(pod->metadata().creation_timestamp()); };
  std::stable_sort(pods.begin(), pods.end(),
                   [&](const PodPtr& a, const PodPtr& b) { return created(a) < created(b); });
  pods.resize(pods.size() - threshold);
  return pods;
}

PodGcController::PodGcController(ControllerContext context, size_t terminated_threshold)
    : context_(context),
      terminated_threshold_(terminated_threshold),
      pods_(context.informers.For<corev1::Pod>()),
      nodes_(context.informers.For<corev1::Node>()),
      loop_(context.env, name(), *this) {}

void PodGcController::Start() {
  loop_.queue().Add("sweep");
  loop_.Start(1);
}

Task<void> PodGcController::Stop() { return loop_.Stop(); }

// Asks the server, once the cache has missed the node for the quarantine.
Task<absl::StatusOr<bool>> PodGcController::NodeIsGone(std::string node) {
  absl::Duration now = context_.env.clock().Monotonic();
  auto [it, fresh] = missing_since_.try_emplace(node, now);
  if (now - it->second < kQuarantine) co_return false;
  Task<absl::StatusOr<std::shared_ptr<const corev1::Node>>> get = context_.client.Get<corev1::Node>("", node);
  absl::StatusOr<std::shared_ptr<const corev1::Node>> live = co_await std::move(get);
  if (api::IsNotFound(live.status())) co_return true;
  if (!live.ok()) co_return live.status();
  co_return false;
}

Task<absl::Status> PodGcController::Remove(PodPtr pod, bool mark_failed, std::string disruption) {
  const std::string& ns = pod->metadata().namespace_();
  const std::string& name = pod->metadata().name();
  LogInfo("collecting pod", {{"pod", api::NamespacedName(*pod)}, {"node", pod->spec().node_name()}});
  if (mark_failed && !IsTerminated(*pod)) {
    std::string patch =
        StrCat(R"({"metadata":{"uid":")", pod->metadata().uid(), R"("},"status":{"phase":"Failed")");
    if (!disruption.empty()) {
      corev1::PodCondition condition;
      condition.set_type("DisruptionTarget");
      condition.set_status("True");
      condition.set_reason("DeletionByPodGC");
      condition.set_message(disruption);
      *condition.mutable_last_transition_time() = api::ToApiTime(context_.env.clock().Now());
      StrAppend(&patch, R"(,"conditions":[)", api::EncodeJson(condition), "]");
    }
    StrAppend(&patch, "}}");
    Task<absl::StatusOr<PodPtr>> mark = context_.client.Patch<corev1::Pod>(
        ns, name, client::PatchType::kStrategicMerge, std::move(patch), "status");
    absl::StatusOr<PodPtr> marked = co_await std::move(mark);
    if (!marked.ok()) co_return api::IsNotFound(marked.status()) ? absl::OkStatus() : marked.status();
  }
  client::DeleteOptions options;
  options.precondition_uid = pod->metadata().uid();
  options.grace_period_s = 0;
  Task<absl::Status> remove = context_.client.Delete<corev1::Pod>(ns, name, options);
  absl::Status removed = co_await std::move(remove);
  co_return api::IsNotFound(removed) || api::IsConflict(removed) ? absl::OkStatus() : removed;
}

Task<absl::StatusOr<client::Requeue>> PodGcController::Reconcile(std::string key) {
  std::vector<PodPtr> pods = pods_.ListAs<corev1::Pod>();
  for (const PodPtr& pod : ExcessTerminatedPods(pods, terminated_threshold_)) {
    CO_RETURN_IF_ERROR(Remove(pod, false));
  }
  std::map<std::string, std::vector<PodPtr>> orphans;
  for (const PodPtr& pod : pods) {
    const std::string& node = pod->spec().node_name();
    auto known = nodes_.Get<corev1::Node>(node);
    if (node.empty()) {
      if (!pod->metadata().has_deletion_timestamp()) continue;
      CO_RETURN_IF_ERROR(Remove(pod, true));
    } else if (known == nullptr) {
      orphans[node].push_back(pod);
    } else if (pod->metadata().has_deletion_timestamp() && IsOutOfService(*known)) {
      CO_RETURN_IF_ERROR(Remove(pod, true));
    }
  }
  absl::erase_if(missing_since_, [&](const auto& entry) { return !orphans.contains(entry.first); });
  for (const auto& [node, left] : orphans) {
    CO_ASSIGN_OR_RETURN(bool gone, NodeIsGone(node));
    if (!gone) continue;
    for (const PodPtr& pod : left) {
      CO_RETURN_IF_ERROR(Remove(pod, true, kNodeGone));
    }
  }
  client::Requeue again;
  again.after = kPeriod;
  co_return again;
}

}  // namespace keelson::master
