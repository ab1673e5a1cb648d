#include "master/controllers/namespace_controller.h"

#include "api/object.h"
#include "api/status_error.h"
#include "base/parallel.h"
#include "base/status.h"
#include "master/controllers/served_resources.h"

namespace keelson::master {

namespace corev1 = ::k8s::core::v1;
using client::ObjectPtr;
using NamespacePtr = std::shared_ptr<const corev1::Namespace>;

namespace {
constexpr char kFinalizer[] = "kubernetes";
constexpr size_t kMaxDeletionsAtOnce = 64;
}  // namespace

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

Task<absl::StatusOr<int>> NamespaceController::EmptyResource(api::GroupVersionResource gvr, std::string ns) {
  Task<absl::StatusOr<client::ObjectList>> task = context_.client.List(gvr, ns, client::ListOptions());
  absl::StatusOr<client::ObjectList> list = co_await std::move(task);
  if (api::IsNotFound(list.status())) co_return 0;  // this server does not have the kind
  if (!list.ok()) co_return list.status();
  auto going = std::make_shared<std::vector<ObjectPtr>>();
  for (const ObjectPtr& object : list->items) {
    if (!api::Meta(*object).has_deletion_timestamp()) going->push_back(object);
  }
  NumberedWork work = [this, gvr, going](size_t number) { return DeleteOne(gvr, (*going)[number]); };
  Task<absl::Status> remove = InParallel(&deletions_, kMaxDeletionsAtOnce, going->size(), std::move(work));
  absl::Status removed = co_await std::move(remove);
  if (!removed.ok()) co_return removed;
  co_return static_cast<int>(list->items.size());
}

Task<absl::StatusOr<int>> NamespaceController::Empty(std::string ns) {
  int remaining = 0;
  for (const api::GroupVersionResource& gvr : NamespacedResources()) {
    CO_ASSIGN_OR_RETURN(int count, EmptyResource(gvr, ns));
    remaining += count;
  }
  co_return remaining;
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
  CO_ASSIGN_OR_RETURN(int before, Empty(key));
  // Most kinds are gone at once: look a second time before waiting.
  int remaining = before;
  if (before > 0) {
    CO_ASSIGN_OR_RETURN(remaining, Empty(key));
  }
  if (remaining > 0) {
    again.after = kRetryPeriod;
    co_return again;
  }
  CO_RETURN_IF_ERROR(Finalize(ns));
  co_return again;
}

}  // namespace keelson::master
