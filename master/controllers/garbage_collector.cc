#include "master/controllers/garbage_collector.h"

#include <absl/strings/numbers.h>

#include <algorithm>

#include "api/codec.h"
#include "api/object.h"
#include "api/status_error.h"
#include "base/log.h"
#include "base/parallel.h"
#include "base/status.h"
#include "base/strings.h"
#include "master/controllers/served_resources.h"

namespace keelson::master {

using client::ObjectPtr;
using ::k8s::meta::v1::ObjectMeta;

namespace {

constexpr int kCollectorWorkers = 20;
constexpr size_t kMaxOrphaningsAtOnce = 64;  // of one owner
constexpr char kByOwner[] = "owner-uid";
constexpr char kOrphanFinalizer[] = "orphan";
constexpr char kForegroundFinalizer[] = "foregroundDeletion";

bool Has(const ObjectMeta& meta, std::string_view finalizer) {
  return std::find(meta.finalizers().begin(), meta.finalizers().end(), finalizer) != meta.finalizers().end();
}

bool IsDeleting(const ObjectMeta& meta, std::string_view finalizer) {
  return meta.has_deletion_timestamp() && Has(meta, finalizer);
}

// NotFound and Conflict mean that the object changed or went: its event is on the way.
absl::Status Settled(const absl::Status& status) {
  return api::IsNotFound(status) || api::IsConflict(status) ? absl::OkStatus() : status;
}

std::string JsonString(std::string_view text) {
  std::string out;
  api::AppendJsonString(text, out);
  return out;
}

}  // namespace

GarbageCollector::GarbageCollector(ControllerContext context)
    : context_(context), loop_(context.env, name(), *this), calls_(context.env.executor()) {
  ForEachCollectedInformer(
      context.informers, [this](const api::GroupVersionResource& gvr, client::Informer& informer) {
        size_t number = resources_.size();
        resources_.push_back({gvr, &informer});
        informer.AddIndex(kByOwner, [](const api::Message& object) {
          std::vector<std::string> out;
          for (const auto& owner : api::Meta(object).owner_references()) out.push_back(owner.uid());
          return out;
        });
        informer.AddHandler([this, number](const ObjectPtr& before, const ObjectPtr& after) {
          OnChange(number, before, after);
        });
      });
}

void GarbageCollector::Start() { loop_.Start(kCollectorWorkers); }

Task<void> GarbageCollector::Stop() {
  Task<void> stop = loop_.Stop();
  co_await std::move(stop);
  Task<void> close = calls_.Close();
  co_await std::move(close);
}

void GarbageCollector::Enqueue(const Place& place) {
  loop_.queue().Add(StrCat(place.resource, " ", place.key));
}

void GarbageCollector::EnqueueDependents(const std::string& uid) {
  for (const Place& dependent : DependentsOf(uid)) Enqueue(dependent);
}

std::vector<GarbageCollector::Place> GarbageCollector::DependentsOf(const std::string& uid) const {
  std::vector<Place> out;
  for (size_t i = 0; i < resources_.size(); ++i) {
    for (const ObjectPtr& object : resources_[i].informer->ByIndex(kByOwner, uid)) {
      out.push_back({i, api::NamespacedName(*object)});
    }
  }
  return out;
}

ObjectPtr GarbageCollector::ObjectAt(const Place& place) const {
  return resources_[place.resource].informer->GetByKey(place.key);
}

ObjectPtr GarbageCollector::ObjectOf(const std::string& uid) const {
  auto it = by_uid_.find(uid);
  return it == by_uid_.end() ? nullptr : it->second.object;
}

void GarbageCollector::OnChange(size_t resource, const ObjectPtr& before, const ObjectPtr& after) {
  const ObjectMeta& meta = api::Meta(after != nullptr ? *after : *before);
  Place place{resource, api::NamespacedName(after != nullptr ? *after : *before)};
  if (after == nullptr) {
    by_uid_.erase(meta.uid());
    EnqueueDependents(meta.uid());
  } else {
    // The key is text of the object it stands for: a new object, a new key.
    by_uid_.erase(meta.uid());
    by_uid_.emplace(meta.uid(), Known{resource, after});
    bool deleting =
        meta.has_deletion_timestamp() && (Has(meta, kOrphanFinalizer) || Has(meta, kForegroundFinalizer));
    if (deleting) Enqueue(place);
    bool changed =
        before == nullptr || api::Meta(*before).owner_references_size() != meta.owner_references_size() ||
        !std::equal(meta.owner_references().begin(), meta.owner_references().end(),
                    api::Meta(*before).owner_references().begin(),
                    [](const OwnerReference& a, const OwnerReference& b) { return a.uid() == b.uid(); });
    if (changed && meta.owner_references_size() > 0) Enqueue(place);
  }
  // An owner that waits for this object may be done.
  for (const ObjectPtr& object : {before, after}) {
    if (object == nullptr) continue;
    for (const OwnerReference& reference : api::Meta(*object).owner_references()) {
      auto owner = by_uid_.find(reference.uid());
      if (owner == by_uid_.end()) continue;
      const auto& [number, found] = owner->second;
      if (IsDeleting(api::Meta(*found), kForegroundFinalizer)) Enqueue({number, api::NamespacedName(*found)});
    }
  }
}

Task<absl::Status> GarbageCollector::RemoveOwners(Place place, ObjectPtr object,
                                                  std::vector<std::string> uids) {
  std::string list;
  for (const std::string& uid : uids) {
    StrAppend(&list, list.empty() ? "" : ",", R"({"$patch":"delete","uid":)", JsonString(uid), "}");
  }
  const ObjectMeta& meta = api::Meta(*object);
  std::string patch = StrCat(R"({"metadata":{"uid":")", meta.uid(), R"(","ownerReferences":[)", list, "]}}");
  Task<absl::StatusOr<ObjectPtr>> task =
      context_.client.Patch(resources_[place.resource].gvr, meta.namespace_(), meta.name(),
                            client::PatchType::kStrategicMerge, patch);
  absl::StatusOr<ObjectPtr> patched = co_await std::move(task);
  co_return Settled(patched.status());
}

Task<absl::Status> GarbageCollector::RemoveFinalizer(Place place, ObjectPtr object, std::string finalizer) {
  const ObjectMeta& meta = api::Meta(*object);
  std::string list;
  for (const std::string& kept : meta.finalizers()) {
    if (kept != finalizer) StrAppend(&list, list.empty() ? "" : ",", JsonString(kept));
  }
  // The list is replaced as a whole: only on top of the one that was looked at.
  std::string patch = StrCat(R"({"metadata":{"resourceVersion":")", meta.resource_version(),
                             R"(","finalizers":[)", list, "]}}");
  Task<absl::StatusOr<ObjectPtr>> task = context_.client.Patch(
      resources_[place.resource].gvr, meta.namespace_(), meta.name(), client::PatchType::kMerge, patch);
  absl::StatusOr<ObjectPtr> patched = co_await std::move(task);
  co_return api::IsNotFound(patched.status()) ? absl::OkStatus() : patched.status();
}

Task<absl::Status> GarbageCollector::Delete(Place place, ObjectPtr object, std::string policy) {
  const ObjectMeta& meta = api::Meta(*object);
  client::DeleteOptions options;
  options.precondition_uid = meta.uid();
  options.precondition_resource_version = meta.resource_version();
  options.propagation_policy = policy;
  LogDebug("collecting", {{"resource", resources_[place.resource].gvr.resource}, {"object", place.key}});
  Task<absl::Status> task =
      context_.client.Delete(resources_[place.resource].gvr, meta.namespace_(), meta.name(), options);
  absl::Status removed = co_await std::move(task);
  // A conflict means that it changed meanwhile, perhaps its owners: look at the new one.
  co_return api::IsNotFound(removed) ? absl::OkStatus() : removed;
}

Task<absl::Status> GarbageCollector::OrphanOne(Place dependent, std::string owner_uid) {
  ObjectPtr current = ObjectAt(dependent);
  if (current == nullptr) co_return absl::OkStatus();
  CO_RETURN_IF_ERROR(RemoveOwners(dependent, current, std::vector<std::string>(1, owner_uid)));
  co_return absl::OkStatus();
}

Task<absl::Status> GarbageCollector::Orphan(Place place, ObjectPtr object) {
  std::string uid = api::Meta(*object).uid();
  auto dependents = std::make_shared<const std::vector<Place>>(DependentsOf(uid));
  NumberedWork work = [this, dependents, uid](size_t number) {
    return OrphanOne((*dependents)[number], uid);
  };
  CO_RETURN_IF_ERROR(InParallel(&calls_, kMaxOrphaningsAtOnce, dependents->size(), std::move(work)));
  CO_RETURN_IF_ERROR(RemoveFinalizer(place, object, kOrphanFinalizer));
  co_return absl::OkStatus();
}

Task<absl::Status> GarbageCollector::DeleteDependentsFirst(Place place, ObjectPtr object) {
  const std::string& uid = api::Meta(*object).uid();
  bool blocked = false;
  for (const Place& dependent : DependentsOf(uid)) {
    ObjectPtr current = ObjectAt(dependent);
    if (current == nullptr) continue;
    for (const OwnerReference& owner : api::Meta(*current).owner_references()) {
      if (owner.uid() != uid || !owner.block_owner_deletion()) continue;
      blocked = true;
      if (!IsDeleting(api::Meta(*current), kForegroundFinalizer)) Enqueue(dependent);
    }
  }
  if (blocked) co_return absl::OkStatus();
  CO_RETURN_IF_ERROR(RemoveFinalizer(place, object, kForegroundFinalizer));
  co_return absl::OkStatus();
}

// Asks the server: the cache may be behind, or the owner of a kind without an informer.
Task<absl::StatusOr<bool>> GarbageCollector::IsAbsent(OwnerReference owner, std::string ns) {
  if (absent_.contains(owner.uid())) co_return true;
  const api::TypeInfo* type = api::Scheme::Get().ByKind(owner.api_version(), owner.kind());
  if (type == nullptr || type->plural.empty()) co_return false;  // not ours to judge
  if (type->namespaced && ns.empty()) co_return false;  // invalid: a cluster-wide object cannot be owned so
  Task<absl::StatusOr<ObjectPtr>> get =
      context_.client.Get(type->gvr(), type->namespaced ? ns : "", owner.name());
  absl::StatusOr<ObjectPtr> live = co_await std::move(get);
  if (!live.ok() && !api::IsNotFound(live.status())) co_return live.status();
  bool absent = !live.ok() || api::Meta(**live).uid() != owner.uid();
  if (absent && absent_.size() >= kMaxAbsentOwners) absent_.clear();
  if (absent) absent_.insert(owner.uid());
  co_return absent;
}

Task<absl::StatusOr<GarbageCollector::Owners>> GarbageCollector::Classify(ObjectPtr object) {
  Owners out;
  for (const OwnerReference& owner : api::Meta(*object).owner_references()) {
    ObjectPtr known = ObjectOf(owner.uid());
    if (known != nullptr) {
      bool waits = owner.block_owner_deletion() && IsDeleting(api::Meta(*known), kForegroundFinalizer);
      if (waits) {
        out.waiting.push_back(owner.uid());
      } else {
        out.solid = true;
      }
      continue;
    }
    CO_ASSIGN_OR_RETURN(bool absent, IsAbsent(owner, api::Meta(*object).namespace_()));
    if (absent) {
      out.dangling.push_back(owner.uid());
    } else {
      out.solid = true;
    }
  }
  co_return out;
}

Task<absl::Status> GarbageCollector::Collect(Place place, ObjectPtr object) {
  const ObjectMeta& meta = api::Meta(*object);
  if (meta.owner_references().empty() || meta.has_deletion_timestamp()) co_return absl::OkStatus();
  CO_ASSIGN_OR_RETURN(Owners owners, Classify(object));
  if (owners.solid) {
    std::vector<std::string> lost = owners.dangling;
    lost.insert(lost.end(), owners.waiting.begin(), owners.waiting.end());
    if (lost.empty()) co_return absl::OkStatus();
    CO_RETURN_IF_ERROR(RemoveOwners(place, object, lost));
    co_return absl::OkStatus();
  }
  std::string policy = "Background";
  if (!owners.waiting.empty() && !DependentsOf(meta.uid()).empty()) policy = "Foreground";
  if (Has(meta, kOrphanFinalizer)) policy = "Orphan";
  if (Has(meta, kForegroundFinalizer)) policy = "Foreground";
  CO_RETURN_IF_ERROR(Delete(place, object, policy));
  co_return absl::OkStatus();
}

Task<absl::StatusOr<client::Requeue>> GarbageCollector::Reconcile(std::string key) {
  size_t space = key.find(' ');
  Place place;
  KEELSON_CHECK(space != std::string::npos && absl::SimpleAtoi(key.substr(0, space), &place.resource), "key ",
                key);
  place.key = key.substr(space + 1);
  ObjectPtr object = ObjectAt(place);
  if (object == nullptr) co_return client::Requeue();
  const ObjectMeta& meta = api::Meta(*object);
  if (IsDeleting(meta, kOrphanFinalizer)) {
    CO_RETURN_IF_ERROR(Orphan(place, object));
  } else if (IsDeleting(meta, kForegroundFinalizer)) {
    CO_RETURN_IF_ERROR(DeleteDependentsFirst(place, object));
  } else {
    CO_RETURN_IF_ERROR(Collect(place, object));
  }
  co_return client::Requeue();
}

}  // namespace keelson::master
