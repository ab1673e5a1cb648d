#include "master/controllers/replication_controller.h"

#include <algorithm>

#include "api/codec.h"
#include "api/labels.h"
#include "api/object.h"
#include "api/status_error.h"
#include "api/time.h"
#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"

namespace keelson::master {

namespace corev1 = ::k8s::core::v1;
using client::ObjectPtr;

namespace {

constexpr int kReplicationWorkers = 5;
constexpr char kKind[] = "ReplicationController";
constexpr char kReplicaFailure[] = "ReplicaFailure";
constexpr char kOrphans[] = "orphans-by-namespace";

std::string KeyOf(const api::Message& object) { return api::NamespacedName(object); }

// What a change of a pod can mean for its controller. That it was given a node, or an address, means nothing:
// looking through all pods of a large controller for each of those would cost more than making them.
bool MattersToController(const corev1::Pod& before, const corev1::Pod& after) {
  const auto* old_owner = api::ControllerOf(before);
  const auto* owner = api::ControllerOf(after);
  const corev1::PodCondition* old_ready = FindPodCondition(before, "Ready");
  const corev1::PodCondition* ready = FindPodCondition(after, "Ready");
  return before.metadata().uid() != after.metadata().uid() ||
         (old_owner == nullptr ? "" : old_owner->uid()) != (owner == nullptr ? "" : owner->uid()) ||
         before.metadata().has_deletion_timestamp() != after.metadata().has_deletion_timestamp() ||
         before.status().phase() != after.status().phase() || (old_ready == nullptr) != (ready == nullptr) ||
         (ready != nullptr && !api::SameBytes(*old_ready, *ready)) ||
         !api::SameLabels(before.metadata().labels(), after.metadata().labels());
}

int WantedReplicas(const corev1::ReplicationController& rc) {
  return rc.spec().has_replicas() ? rc.spec().replicas() : 1;
}

// Set by the first failure, gone with the next success.
void SetReplicaFailure(const absl::Status& scaled, int diff, absl::Time now,
                       corev1::ReplicationControllerStatus* status) {
  auto& conditions = *status->mutable_conditions();
  auto known = std::find_if(conditions.begin(), conditions.end(),
                            [](const auto& condition) { return condition.type() == kReplicaFailure; });
  if (scaled.ok() && known != conditions.end()) conditions.erase(known);
  if (scaled.ok() || known != conditions.end()) return;
  corev1::ReplicationControllerCondition* condition = conditions.Add();
  condition->set_type(kReplicaFailure);
  condition->set_status("True");
  condition->set_reason(diff < 0 ? "FailedCreate" : "FailedDelete");
  condition->set_message(std::string(scaled.message()));
  *condition->mutable_last_transition_time() = api::ToApiTime(now);
}

// Nothing can be made there any more, and nothing needs to be.
bool NamespaceEnds(const absl::Status& status) {
  if (!api::IsForbidden(status)) return false;
  const api::ApiStatus answer = api::ToApiStatus(status);
  return std::any_of(answer.details().causes().begin(), answer.details().causes().end(),
                     [](const auto& cause) { return cause.reason() == "NamespaceTerminating"; });
}

}  // namespace

corev1::Pod PodFromTemplate(const corev1::ReplicationController& rc) {
  corev1::Pod pod;
  const corev1::PodTemplateSpec& from = rc.spec().template_();
  auto* meta = pod.mutable_metadata();
  meta->set_namespace_(rc.metadata().namespace_());
  meta->set_generate_name(rc.metadata().name() + "-");
  *meta->mutable_labels() = from.metadata().labels();
  *meta->mutable_annotations() = from.metadata().annotations();
  *meta->mutable_finalizers() = from.metadata().finalizers();
  auto* owner = meta->add_owner_references();
  owner->set_api_version("v1");
  owner->set_kind(kKind);
  owner->set_name(rc.metadata().name());
  owner->set_uid(rc.metadata().uid());
  owner->set_controller(true);
  owner->set_block_owner_deletion(true);
  *pod.mutable_spec() = from.spec();
  return pod;
}

corev1::ReplicationControllerStatus ComputeStatus(const corev1::ReplicationController& rc,
                                                  const std::vector<PodPtr>& active,
                                                  const absl::Status& scaled, absl::Time now,
                                                  std::optional<absl::Duration>* again) {
  corev1::ReplicationControllerStatus status;
  int labeled = 0, ready = 0, available = 0;
  absl::Duration min_ready = absl::Seconds(rc.spec().min_ready_seconds());
  for (const PodPtr& pod : active) {
    labeled += api::SelectsNonEmpty(rc.spec().template_().metadata().labels(), pod->metadata().labels());
    ready += IsPodReady(*pod);
    available += IsPodAvailable(*pod, min_ready, now, again);
  }
  status.set_replicas(static_cast<int>(active.size()));
  status.set_fully_labeled_replicas(labeled);
  status.set_ready_replicas(ready);
  status.set_available_replicas(available);
  status.set_observed_generation(rc.metadata().generation());
  *status.mutable_conditions() = rc.status().conditions();
  SetReplicaFailure(scaled, static_cast<int>(active.size()) - WantedReplicas(rc), now, &status);
  return status;
}

ReplicationController::ReplicationController(ControllerContext context)
    : context_(context),
      pods_(context.informers.For<corev1::Pod>()),
      controllers_(context.informers.For<Rc>()),
      expectations_(context.env),
      loop_(context.env, name(), *this),
      calls_(context.env.executor()) {
  AddPodsByControllerIndex(pods_);
  pods_.AddIndex(kOrphans, [](const api::Message& object) {
    const bool orphan = api::ControllerOf(object) == nullptr;
    return orphan ? std::vector<std::string>({api::Meta(object).namespace_()}) : std::vector<std::string>();
  });
  AddByNamespaceIndex(controllers_);
  pods_.AddHandler([this](const ObjectPtr& before, const ObjectPtr& after) { OnPodChange(before, after); });
  controllers_.AddHandler([this](const ObjectPtr& before, const ObjectPtr& after) {
    std::string key = KeyOf(after != nullptr ? *after : *before);
    if (after == nullptr) expectations_.Forget(key);
    loop_.queue().Add(key);
  });
}

ReplicationController::~ReplicationController() = default;
void ReplicationController::Start() { loop_.Start(kReplicationWorkers); }

Task<void> ReplicationController::Stop() {
  Task<void> stop = loop_.Stop();
  co_await std::move(stop);
  Task<void> close = calls_.Close();
  co_await std::move(close);
}

void ReplicationController::EnqueueOwners(const api::Message& pod) {
  const auto& meta = api::Meta(pod);
  if (const auto* owner = api::ControllerOf(pod)) {
    if (owner->kind() == kKind) loop_.queue().Add(StrCat(meta.namespace_(), "/", owner->name()));
    return;
  }
  // An orphan: whoever selects it may adopt it.
  for (const ObjectPtr& object : controllers_.ByIndex(kByNamespace, meta.namespace_())) {
    const auto& rc = static_cast<const Rc&>(*object);
    if (api::SelectsNonEmpty(rc.spec().selector(), meta.labels())) loop_.queue().Add(KeyOf(rc));
  }
}

void ReplicationController::OnPodChange(const ObjectPtr& before, const ObjectPtr& after) {
  if (before != nullptr && after != nullptr &&
      !MattersToController(static_cast<const corev1::Pod&>(*before),
                           static_cast<const corev1::Pod&>(*after))) {
    return;
  }
  const auto* owner = api::ControllerOf(after != nullptr ? *after : *before);
  if (owner != nullptr && owner->kind() == kKind) {
    const auto& meta = api::Meta(after != nullptr ? *after : *before);
    std::string key = StrCat(meta.namespace_(), "/", owner->name());
    bool deleting = after == nullptr || meta.has_deletion_timestamp();
    if (before == nullptr && !deleting) expectations_.CreationObserved(key);
    if (deleting) expectations_.DeletionObserved(key, meta.uid());
  }
  if (before != nullptr) EnqueueOwners(*before);
  if (after != nullptr) EnqueueOwners(*after);
}

Task<absl::Status> ReplicationController::Adopt(RcPtr rc, PodPtr pod) {
  ::k8s::meta::v1::ObjectMeta with_owner = PodFromTemplate(*rc).metadata();
  std::string owner = api::EncodeJson(with_owner.owner_references(0));
  std::string patch =
      StrCat(R"({"metadata":{"uid":")", pod->metadata().uid(), R"(","ownerReferences":[)", owner, "]}}");
  Task<absl::StatusOr<PodPtr>> task =
      context_.client.Patch<corev1::Pod>(pod->metadata().namespace_(), pod->metadata().name(),
                                         client::PatchType::kStrategicMerge, std::move(patch));
  absl::StatusOr<PodPtr> result = co_await std::move(task);
  co_return api::IsNotFound(result.status()) ? absl::OkStatus() : result.status();
}

Task<absl::Status> ReplicationController::Release(RcPtr rc, PodPtr pod) {
  std::string patch =
      StrCat(R"({"metadata":{"uid":")", pod->metadata().uid(),
             R"(","ownerReferences":[{"$patch":"delete","uid":")", rc->metadata().uid(), "\"}]}}");
  Task<absl::StatusOr<PodPtr>> task =
      context_.client.Patch<corev1::Pod>(pod->metadata().namespace_(), pod->metadata().name(),
                                         client::PatchType::kStrategicMerge, std::move(patch));
  absl::StatusOr<PodPtr> result = co_await std::move(task);
  co_return api::IsNotFound(result.status()) ? absl::OkStatus() : result.status();
}

Task<absl::StatusOr<std::vector<PodPtr>>> ReplicationController::ClaimPods(RcPtr rc) {
  std::vector<PodPtr> owned, adopt, release;
  for (const ObjectPtr& object : pods_.ByIndex(kPodsByController, rc->metadata().uid())) {
    PodPtr pod = api::As<corev1::Pod>(object);
    bool matches = api::SelectsNonEmpty(rc->spec().selector(), pod->metadata().labels());
    (matches || pod->metadata().has_deletion_timestamp() ? owned : release).push_back(pod);
  }
  for (const ObjectPtr& object : pods_.ByIndex(kOrphans, rc->metadata().namespace_())) {
    PodPtr pod = api::As<corev1::Pod>(object);
    bool matches = api::SelectsNonEmpty(rc->spec().selector(), pod->metadata().labels());
    if (matches && IsPodActive(*pod)) adopt.push_back(pod);
  }
  for (const PodPtr& pod : adopt) {
    CO_RETURN_IF_ERROR(Adopt(rc, pod));
    owned.push_back(pod);
  }
  for (const PodPtr& pod : release) {
    CO_RETURN_IF_ERROR(Release(rc, pod));
  }
  co_return owned;
}

Task<void> ReplicationController::CreateOne(RcPtr rc, std::string key, std::shared_ptr<const corev1::Pod> pod,
                                            std::shared_ptr<Batch> batch) {
  Task<absl::StatusOr<ObjectPtr>> task =
      context_.client.Create(client::GvrOf<corev1::Pod>(), pod->metadata().namespace_(), pod);
  absl::StatusOr<ObjectPtr> created = co_await std::move(task);
  if (created.ok()) {
    context_.events.Event(*rc, "Normal", "SuccessfulCreate",
                          StrCat("Created pod: ", api::Meta(**created).name()));
    batch->Finish(absl::OkStatus());
    co_return;
  }
  expectations_.CreationObserved(key);
  if (!NamespaceEnds(created.status())) {
    context_.events.Event(*rc, "Warning", "FailedCreate",
                          StrCat("Error creating: ", created.status().message()));
  }
  batch->Finish(created.status());
}

// Slow start: 1, 2, 4, ... calls at a time. An error stops it, since quota or admission would refuse the rest
// as well.
Task<absl::Status> ReplicationController::CreatePods(RcPtr rc, std::string key, int count) {
  auto pod = std::make_shared<const corev1::Pod>(PodFromTemplate(*rc));
  expectations_.ExpectCreations(key, count);
  int left = count;
  for (int size = 1; left > 0; size = std::min(size * 2, kMaxInFlight)) {
    auto batch = std::make_shared<Batch>();
    batch->pending = std::min(size, left);
    left -= batch->pending;
    for (int i = batch->pending; i > 0; --i) calls_.Spawn("create pod", CreateOne(rc, key, pod, batch));
    Task<void> wait = batch->done.Wait();
    co_await std::move(wait);
    if (batch->first_error.ok()) continue;
    for (int i = 0; i < left; ++i) expectations_.CreationObserved(key);
    co_return NamespaceEnds(batch->first_error) ? absl::OkStatus() : batch->first_error;
  }
  co_return absl::OkStatus();
}

Task<void> ReplicationController::DeleteOne(RcPtr rc, std::string key, PodPtr pod,
                                            std::shared_ptr<Batch> batch) {
  client::DeleteOptions options;
  options.precondition_uid = pod->metadata().uid();
  Task<absl::Status> task =
      context_.client.Delete<corev1::Pod>(pod->metadata().namespace_(), pod->metadata().name(), options);
  absl::Status deleted = co_await std::move(task);
  if (deleted.ok()) {
    context_.events.Event(*rc, "Normal", "SuccessfulDelete", StrCat("Deleted pod: ", pod->metadata().name()));
  } else {
    expectations_.DeletionObserved(key, pod->metadata().uid());
    if (api::IsNotFound(deleted)) deleted = absl::OkStatus();
    if (!deleted.ok()) {
      context_.events.Event(*rc, "Warning", "FailedDelete", StrCat("Error deleting: ", deleted.message()));
    }
  }
  batch->Finish(deleted);
}

Task<absl::Status> ReplicationController::DeletePods(RcPtr rc, std::string key, std::vector<PodPtr> pods) {
  for (const PodPtr& pod : pods) expectations_.ExpectDeletion(key, pod->metadata().uid());
  absl::Status result;
  for (size_t next = 0; next < pods.size();) {
    auto batch = std::make_shared<Batch>();
    size_t end = std::min(pods.size(), next + kMaxInFlight);
    batch->pending = static_cast<int>(end - next);
    for (; next < end; ++next) calls_.Spawn("delete pod", DeleteOne(rc, key, pods[next], batch));
    Task<void> wait = batch->done.Wait();
    co_await std::move(wait);
    if (result.ok()) result = batch->first_error;
  }
  co_return result;
}

Task<absl::Status> ReplicationController::Scale(RcPtr rc, std::string key, std::vector<PodPtr> active) {
  int diff = static_cast<int>(active.size()) - WantedReplicas(*rc);
  if (diff < 0) {
    Task<absl::Status> create = CreatePods(rc, key, std::min(-diff, kBurstReplicas));
    co_return co_await std::move(create);
  }
  if (diff > 0) {
    SortForDeletion(&active);
    active.resize(static_cast<size_t>(std::min(diff, kBurstReplicas)));
    Task<absl::Status> remove = DeletePods(rc, key, std::move(active));
    co_return co_await std::move(remove);
  }
  co_return absl::OkStatus();
}

Task<absl::Status> ReplicationController::WriteStatus(RcPtr rc, std::vector<PodPtr> active,
                                                      absl::Status scaled,
                                                      std::optional<absl::Duration>* again) {
  corev1::ReplicationControllerStatus status =
      ComputeStatus(*rc, active, scaled, context_.env.clock().Now(), again);
  if (api::SameBytes(status, rc->status())) co_return absl::OkStatus();
  Rc updated = *rc;
  *updated.mutable_status() = std::move(status);
  Task<absl::StatusOr<RcPtr>> task = context_.client.Update<Rc>(std::move(updated), "status");
  absl::StatusOr<RcPtr> result = co_await std::move(task);
  co_return api::IsNotFound(result.status()) ? absl::OkStatus() : result.status();
}

Task<absl::StatusOr<client::Requeue>> ReplicationController::Reconcile(std::string key) {
  RcPtr rc = controllers_.Get<Rc>(key);
  client::Requeue requeue;
  if (rc == nullptr) {
    expectations_.Forget(key);
    co_return requeue;
  }
  // On its way out it adopts, makes and counts nothing any more. The garbage collector changes its pods one
  // by one.
  if (rc->metadata().has_deletion_timestamp()) co_return requeue;
  bool settled = expectations_.Satisfied(key);
  CO_ASSIGN_OR_RETURN(std::vector<PodPtr> owned, ClaimPods(rc));
  std::vector<PodPtr> active;
  for (const PodPtr& pod : owned) {
    if (IsPodActive(*pod)) active.push_back(pod);
  }
  absl::Status scaled;
  if (settled) {
    Task<absl::Status> scale = Scale(rc, key, active);
    scaled = co_await std::move(scale);
  }
  CO_RETURN_IF_ERROR(WriteStatus(rc, active, scaled, &requeue.after));
  if (!scaled.ok()) co_return scaled;
  // Should an expected event never come (its watch was lost): look again when the expectation has become old.
  if (!expectations_.Satisfied(key) && !requeue.after.has_value()) requeue.after = Expectations::kTimeout;
  co_return requeue;
}

}  // namespace keelson::master
