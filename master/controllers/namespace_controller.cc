#include "master/controllers/namespace_controller.h"

#include <absl/strings/str_join.h>

#include <algorithm>

#include "api/codec.h"
#include "api/object.h"
#include "api/status_error.h"
#include "api/time.h"
#include "base/parallel.h"
#include "base/status.h"
#include "base/strings.h"
#include "master/controllers/served_resources.h"

namespace keelson::master {

namespace corev1 = ::k8s::core::v1;
using client::ObjectPtr;
using NamespacePtr = std::shared_ptr<const corev1::Namespace>;

namespace {
constexpr char kFinalizer[] = "kubernetes";
constexpr size_t kMaxDeletionsAtOnce = 64;

const corev1::NamespaceCondition* FindNamespaceCondition(const corev1::Namespace& ns, std::string_view type) {
  for (const corev1::NamespaceCondition& condition : ns.status().conditions()) {
    if (condition.type() == type) return &condition;
  }
  return nullptr;
}

// "3 of a, 1 of b", by what `say` makes of each.
template <class Say>
std::string Listed(const std::map<std::string, int>& counts, Say say) {
  std::vector<std::string> parts;
  for (const auto& [name, count] : counts) parts.push_back(say(name, count));
  std::sort(parts.begin(), parts.end());
  return absl::StrJoin(parts, ", ");
}

}  // namespace

std::vector<corev1::NamespaceCondition> DeletionConditions(const NamespaceRemains& remains) {
  std::vector<corev1::NamespaceCondition> out;
  auto add = [&](const char* type, bool status, const char* reason, const std::string& message) {
    corev1::NamespaceCondition& condition = out.emplace_back();
    condition.set_type(type);
    condition.set_status(status ? "True" : "False");
    condition.set_reason(reason);
    condition.set_message(message);
  };
  // The kinds are known beforehand: these two cannot fail here.
  add("NamespaceDeletionDiscoveryFailure", false, "ResourcesDiscovered",
      "All resources successfully discovered");
  add("NamespaceDeletionGroupVersionParsingFailure", false, "ParsedGroupVersions",
      "All legacy kube types successfully parsed");
  if (remains.errors.empty()) {
    add("NamespaceDeletionContentFailure", false, "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization");
  } else {
    std::vector<std::string> texts;
    for (const absl::Status& error : remains.errors) texts.emplace_back(error.message());
    std::sort(texts.begin(), texts.end());
    add("NamespaceDeletionContentFailure", true, "ContentDeletionFailed",
        StrCat("Failed to delete all resource types, ", texts.size(),
               " remaining: ", absl::StrJoin(texts, ", ")));
  }
  if (remains.resources.empty()) {
    add("NamespaceContentRemaining", false, "ContentRemoved", "All content successfully removed");
  } else {
    add("NamespaceContentRemaining", true, "SomeResourcesRemain",
        StrCat("Some resources are remaining: ", Listed(remains.resources, [](const auto& name, int count) {
                 return StrCat(name, " has ", count, " resource instances");
               })));
  }
  if (remains.finalizers.empty()) {
    add("NamespaceFinalizersRemaining", false, "ContentHasNoFinalizers",
        "All content-preserving finalizers finished");
  } else {
    add("NamespaceFinalizersRemaining", true, "SomeFinalizersRemain",
        StrCat("Some content in the namespace has finalizers remaining: ",
               Listed(remains.finalizers, [](const auto& name, int count) {
                 return StrCat(name, " in ", count, " resource instances");
               })));
  }
  return out;
}

NamespaceController::NamespaceController(ControllerContext context)
    : context_(context),
      namespaces_(context.informers.For<corev1::Namespace>()),
      loop_(context.env, name(), *this),
      deletions_(context.env.executor()) {
  namespaces_.AddHandler([this](const ObjectPtr&, const ObjectPtr& after) {
    if (after != nullptr && api::Meta(*after).has_deletion_timestamp())
      loop_.queue().Add(api::Meta(*after).name());
  });
}

void NamespaceController::Start() { loop_.Start(4); }

Task<void> NamespaceController::Stop() {
  Task<void> stop = loop_.Stop();
  co_await std::move(stop);
  Task<void> close = deletions_.Close();
  co_await std::move(close);
}

Task<absl::Status> NamespaceController::DeleteOne(api::GroupVersionResource gvr, ObjectPtr object) {
  const auto& meta = api::Meta(*object);
  client::DeleteOptions options;
  options.precondition_uid = meta.uid();
  options.propagation_policy = "Background";
  Task<absl::Status> remove = context_.client.Delete(gvr, meta.namespace_(), meta.name(), options);
  absl::Status removed = co_await std::move(remove);
  co_return api::IsNotFound(removed) || api::IsConflict(removed) ? absl::OkStatus() : removed;
}

Task<absl::Status> NamespaceController::EmptyResource(api::GroupVersionResource gvr, std::string ns,
                                                      NamespaceRemains* remains) {
  Task<absl::StatusOr<client::ObjectList>> task = context_.client.List(gvr, ns, client::ListOptions());
  absl::StatusOr<client::ObjectList> list = co_await std::move(task);
  if (api::IsNotFound(list.status())) co_return absl::OkStatus();  // this server does not have the kind
  if (!list.ok()) co_return list.status();
  auto going = std::make_shared<std::vector<ObjectPtr>>();
  for (const ObjectPtr& object : list->items) {
    const auto& meta = api::Meta(*object);
    if (!meta.has_deletion_timestamp()) going->push_back(object);
    ++remains->resources[StrCat(gvr.resource, ".", gvr.group)];
    for (const std::string& finalizer : meta.finalizers()) ++remains->finalizers[finalizer];
  }
  NumberedWork work = [this, gvr, going](size_t number) { return DeleteOne(gvr, (*going)[number]); };
  Task<absl::Status> remove = InParallel(&deletions_, kMaxDeletionsAtOnce, going->size(), std::move(work));
  absl::Status removed = co_await std::move(remove);
  co_return removed;
}

Task<void> NamespaceController::Empty(std::string ns, NamespaceRemains* remains) {
  *remains = NamespaceRemains();
  for (const api::GroupVersionResource& gvr : NamespacedResources()) {
    Task<absl::Status> task = EmptyResource(gvr, ns, remains);
    absl::Status emptied = co_await std::move(task);
    if (!emptied.ok()) remains->errors.push_back(emptied);
  }
}

Task<absl::Status> NamespaceController::WriteConditions(NamespacePtr ns, NamespaceRemains remains) {
  std::string list;
  for (corev1::NamespaceCondition& condition : DeletionConditions(remains)) {
    const corev1::NamespaceCondition* known = FindNamespaceCondition(*ns, condition.type());
    if (known != nullptr && known->status() == condition.status() && known->reason() == condition.reason() &&
        known->message() == condition.message()) {
      continue;
    }
    *condition.mutable_last_transition_time() = known != nullptr && known->status() == condition.status()
                                                    ? known->last_transition_time()
                                                    : api::ToApiTime(context_.env.clock().Now());
    StrAppend(&list, list.empty() ? "" : ",", api::EncodeJson(condition));
  }
  if (list.empty()) co_return absl::OkStatus();
  std::string patch =
      StrCat(R"({"metadata":{"uid":")", ns->metadata().uid(), R"("},"status":{"conditions":[)", list, "]}}");
  Task<absl::StatusOr<NamespacePtr>> task = context_.client.Patch<corev1::Namespace>(
      "", ns->metadata().name(), client::PatchType::kStrategicMerge, std::move(patch), "status");
  absl::StatusOr<NamespacePtr> patched = co_await std::move(task);
  co_return api::IsNotFound(patched.status()) ? absl::OkStatus() : patched.status();
}

Task<absl::Status> NamespaceController::Finalize(NamespacePtr ns) {
  auto updated = std::make_shared<corev1::Namespace>(*ns);
  updated->mutable_metadata()->clear_resource_version();
  updated->mutable_spec()->clear_finalizers();
  for (const std::string& finalizer : ns->spec().finalizers()) {
    if (finalizer != kFinalizer) updated->mutable_spec()->add_finalizers(finalizer);
  }
  Task<absl::StatusOr<ObjectPtr>> task =
      context_.client.Update(client::GvrOf<corev1::Namespace>(), std::string(), updated, "finalize");
  absl::StatusOr<ObjectPtr> finalized = co_await std::move(task);
  if (api::IsNotFound(finalized.status())) co_return absl::OkStatus();
  if (!finalized.ok()) co_return finalized.status();
  if (!updated->spec().finalizers().empty()) co_return absl::OkStatus();  // somebody else's turn
  // Most servers have removed it with the last finalizer.
  client::DeleteOptions options;
  options.precondition_uid = ns->metadata().uid();
  Task<absl::Status> remove = context_.client.Delete<corev1::Namespace>("", ns->metadata().name(), options);
  absl::Status removed = co_await std::move(remove);
  co_return api::IsNotFound(removed) || api::IsConflict(removed) ? absl::OkStatus() : removed;
}

Task<absl::StatusOr<client::Requeue>> NamespaceController::Reconcile(std::string key) {
  NamespacePtr ns = namespaces_.Get<corev1::Namespace>(key);
  if (ns == nullptr || !ns->metadata().has_deletion_timestamp()) co_return client::Requeue();
  bool ours = false;
  for (const std::string& finalizer : ns->spec().finalizers()) ours = ours || finalizer == kFinalizer;
  if (!ours) co_return client::Requeue();
  client::Requeue again;
  NamespaceRemains remains;
  Task<void> empty = Empty(key, &remains);
  co_await std::move(empty);
  // Most kinds are gone at once: look a second time before waiting.
  if (!remains.resources.empty() && remains.errors.empty()) {
    Task<void> look = Empty(key, &remains);
    co_await std::move(look);
  }
  CO_RETURN_IF_ERROR(WriteConditions(ns, remains));
  if (!remains.errors.empty()) co_return remains.errors[0];
  if (!remains.resources.empty()) {
    again.after = kRetryPeriod;
    co_return again;
  }
  CO_RETURN_IF_ERROR(Finalize(ns));
  co_return again;
}

}  // namespace keelson::master
