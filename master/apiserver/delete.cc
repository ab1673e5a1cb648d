// DELETE: preconditions, graceful deletion of pods, finalizers and propagation policies (upstream
// registry/generic/registry/store.go and rest/delete.go as facts).
#include <algorithm>

#include "api/core/v1/pod.pb.h"
#include "api/core/v1/service.pb.h"
#include "api/status_error.h"
#include "api/time.h"
#include "base/strings.h"
#include "master/apiserver/pipeline.h"

namespace keelson::master {
namespace {

using ::k8s::core::v1::Pod;
using ::k8s::meta::v1::DeleteOptions;
using ::k8s::meta::v1::ObjectMeta;

constexpr char kOrphanFinalizer[] = "orphan";
constexpr char kForegroundFinalizer[] = "foregroundDeletion";

absl::Status CheckDeleteOptions(const ResourceInfo& resource, const std::string& name,
                                const DeleteOptions& o) {
  auto invalid = [&](std::string field, std::string message) {
    return api::Invalid("meta.k8s.io", "DeleteOptions", "",
                        {api::FieldCause("FieldValueInvalid", field, message)});
  };
  if (o.has_propagation_policy()) {
    if (o.has_orphan_dependents()) {
      return invalid("propagationPolicy",
                     StrCat("Invalid value: \"", o.propagation_policy(),
                            "\": orphanDependents and deletionPropagation cannot be both set"));
    }
    const std::string& p = o.propagation_policy();
    if (p != "Orphan" && p != "Background" && p != "Foreground") {
      return api::Invalid(
          "meta.k8s.io", "DeleteOptions", "",
          {api::FieldCause(
              "FieldValueNotSupported", "propagationPolicy",
              StrCat("Unsupported value: \"", p,
                     "\": supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\""))});
    }
  }
  return absl::OkStatus();
}

absl::Status CheckPreconditions(const ResourceInfo& resource, const ObjectMeta& meta,
                                const DeleteOptions& o) {
  const auto& p = o.preconditions();
  if (p.has_uid() && p.uid() != meta.uid()) {
    return api::Conflict(
        resource.type->group_resource(), meta.name(),
        StrCat("Precondition failed: UID in precondition: ", p.uid(), ", UID in object meta: ", meta.uid()));
  }
  if (p.has_resource_version() && p.resource_version() != meta.resource_version()) {
    return api::Conflict(
        resource.type->group_resource(), meta.name(),
        StrCat("Precondition failed: ResourceVersion in precondition: ", p.resource_version(),
               ", ResourceVersion in object meta: ", meta.resource_version()));
  }
  return absl::OkStatus();
}

// Seconds a pod is given; 0: it goes at once.
int64_t PodGracePeriod(const Pod& pod, const DeleteOptions& o) {
  int64_t grace = o.has_grace_period_seconds() ? o.grace_period_seconds()
                  : pod.spec().has_termination_grace_period_seconds()
                      ? pod.spec().termination_grace_period_seconds()
                      : 30;
  if (pod.spec().node_name().empty()) grace = 0;
  if (pod.status().phase() == "Failed" || pod.status().phase() == "Succeeded") grace = 0;
  return grace < 0 ? 1 : grace;
}

enum class Grace {
  kNow,      // delete, or wait for finalizers only
  kBegun,    // `meta` was changed: deletionTimestamp set or moved forward
  kPending,  // already under way, nothing to change
};

// Decides and applies graceful deletion to `pod`.
Grace BeginGraceful(Pod& pod, const DeleteOptions& o, absl::Time now) {
  auto& meta = *pod.mutable_metadata();
  if (meta.has_deletion_timestamp()) {
    if (!meta.has_deletion_grace_period_seconds()) return Grace::kNow;
    if (!o.has_grace_period_seconds())
      return meta.deletion_grace_period_seconds() > 0 ? Grace::kPending : Grace::kNow;
    const int64_t period = std::max<int64_t>(o.grace_period_seconds(), 0);
    if (period == 0) {
      meta.set_deletion_grace_period_seconds(0);
      return Grace::kNow;
    }
    if (period >= meta.deletion_grace_period_seconds()) return Grace::kPending;
    const absl::Time moved = api::ToAbsl(meta.deletion_timestamp()) -
                             absl::Seconds(meta.deletion_grace_period_seconds()) + absl::Seconds(period);
    *meta.mutable_deletion_timestamp() = api::ToApiTime(moved);
    meta.set_deletion_grace_period_seconds(period);
    return Grace::kBegun;
  }
  const int64_t grace = PodGracePeriod(pod, o);
  if (grace == 0) return Grace::kNow;
  *meta.mutable_deletion_timestamp() = api::ToApiTime(now + absl::Seconds(grace));
  meta.set_deletion_grace_period_seconds(grace);
  if (meta.generation() > 0) meta.set_generation(meta.generation() + 1);
  return Grace::kBegun;
}

bool HasFinalizer(const ObjectMeta& meta, std::string_view name) {
  return std::find(meta.finalizers().begin(), meta.finalizers().end(), name) != meta.finalizers().end();
}

// The garbage collector's two finalizers follow the policy. True when they changed.
bool ApplyPropagation(const ResourceInfo& resource, const DeleteOptions& o, ObjectMeta& meta) {
  bool orphan = false, foreground = false;
  if (o.has_orphan_dependents()) {
    orphan = o.orphan_dependents();
  } else if (o.has_propagation_policy()) {
    orphan = o.propagation_policy() == "Orphan";
    foreground = o.propagation_policy() == "Foreground";
  } else if (HasFinalizer(meta, kOrphanFinalizer) || HasFinalizer(meta, kForegroundFinalizer)) {
    return false;
  } else {
    orphan = resource.orphans_by_default;
  }
  if (orphan == HasFinalizer(meta, kOrphanFinalizer) &&
      foreground == HasFinalizer(meta, kForegroundFinalizer)) {
    return false;
  }
  std::vector<std::string> finalizers;
  for (const std::string& f : meta.finalizers()) {
    if (f != kOrphanFinalizer && f != kForegroundFinalizer) finalizers.push_back(f);
  }
  if (orphan) finalizers.push_back(kOrphanFinalizer);
  if (foreground) finalizers.push_back(kForegroundFinalizer);
  meta.clear_finalizers();
  for (std::string& f : finalizers) meta.add_finalizers(std::move(f));
  return true;
}

}  // namespace

Task<absl::StatusOr<ApiResult>> Pipeline::RemoveNow(const ApiRequest& request, CachedObjectPtr current,
                                                    std::shared_ptr<api::Message> last) {
  const ResourceInfo& resource = *request.resource;
  if (!request.options.dry_run) {
    Task<absl::StatusOr<Revision>> remove = StorageOf(resource)->Delete(current->key(), current->revision());
    absl::StatusOr<Revision> revision = co_await std::move(remove);
    if (!revision.ok()) co_return revision.status();
    api::MutableMeta(*last).set_resource_version(StrCat(*revision));
    if (const auto* service = api::As<::k8s::core::v1::Service>(*current->message())) {
      allocator_->Release(*service, nullptr);
    }
  }
  if (resource.returns_deleted_object) co_return ResultOf(resource, std::move(last), nullptr, 200);
  auto status = std::make_shared<api::ApiStatus>();
  status->set_status("Success");
  auto* details = status->mutable_details();
  details->set_name(api::Meta(*last).name());
  details->set_group(resource.type->gvk.group);
  details->set_kind(resource.type->plural);
  details->set_uid(api::Meta(*last).uid());
  ApiResult result;
  result.object = std::move(status);
  co_return result;
}

// One object, of which request.name, ns and options say everything. Retries while others change it, unless
// the client pinned a resourceVersion.
Task<absl::StatusOr<ApiResult>> Pipeline::DeleteObject(const ApiRequest& request) {
  const ResourceInfo& resource = *request.resource;
  const DeleteOptions& o = request.options.delete_options;
  ResourceStorage* storage = StorageOf(resource);
  const std::string key = resource.StorageKey(request.ns, request.name);
  for (int attempt = 0;; ++attempt) {
    CachedObjectPtr current = storage->Read(key);
    if (current == nullptr || current->message() == nullptr) {
      co_return api::NotFound(resource.type->group_resource(), request.name);
    }
    absl::Status status = CheckPreconditions(resource, api::Meta(*current->message()), o);
    if (!status.ok()) co_return status;
    AdmissionRequest admission;
    admission.user = &request.user;
    admission.operation = Operation::kDelete;
    admission.type = resource.type;
    admission.ns = request.ns;
    admission.name = request.name;
    admission.old_object = current->message().get();
    status = admission_.Admit(admission, *this);
    if (status.ok()) status = admission_.Validate(admission, *this);
    if (!status.ok()) co_return status;

    Task<absl::StatusOr<ApiResult>> step;
    if (resource.type->plural == "namespaces" && resource.type->gvk.group.empty()) {
      step = DeleteNamespace(request, current);
    } else {
      std::shared_ptr<api::Message> object = api::CloneMessage(*current->message());
      ObjectMeta& meta = api::MutableMeta(*object);
      Grace grace = Grace::kNow;
      if (object->GetDescriptor() == Pod::descriptor()) {
        grace = BeginGraceful(static_cast<Pod&>(*object), o, env_.clock().Now());
      }
      const bool propagation_changed = ApplyPropagation(resource, o, meta);
      const bool finalizers_pending = !meta.finalizers().empty();
      if (grace == Grace::kPending && !propagation_changed) {
        co_return ResultOf(resource, current->message(), current, 200);
      }
      if (grace == Grace::kNow && !finalizers_pending) {
        step = RemoveNow(request, current, std::move(object));
      } else {
        if (!meta.has_deletion_timestamp()) {
          *meta.mutable_deletion_timestamp() = api::ToApiTime(env_.clock().Now());
          if (meta.generation() > 0) meta.set_generation(meta.generation() + 1);
        }
        if (!meta.has_deletion_grace_period_seconds()) meta.set_deletion_grace_period_seconds(0);
        if (request.options.dry_run) co_return ResultOf(resource, std::move(object), nullptr, 200);
        Task<absl::StatusOr<api::ObjectPtr>> write = storage->Update(current, std::move(object));
        absl::StatusOr<api::ObjectPtr> stored = co_await std::move(write);
        if (stored.ok()) co_return ResultOf(resource, *std::move(stored), nullptr, 200);
        if (IsConflict(stored.status()) && !o.preconditions().has_resource_version() &&
            attempt < kMaxConflictRetries) {
          continue;
        }
        co_return StoreError(request, stored.status(), request.name);
      }
    }
    absl::StatusOr<ApiResult> result = co_await std::move(step);
    if (result.ok()) co_return result;
    if (IsConflict(result.status()) && !o.preconditions().has_resource_version() &&
        attempt < kMaxConflictRetries)
      continue;
    if (IsConflict(result.status()) || absl::IsNotFound(result.status()) ||
        absl::IsUnavailable(result.status()) || absl::IsResourceExhausted(result.status())) {
      co_return StoreError(request, result.status(), request.name);
    }
    co_return result;
  }
}

Task<absl::StatusOr<ApiResult>> Pipeline::Delete(ApiRequest request) {
  absl::Status allowed = Authorize(request);
  if (!allowed.ok()) co_return allowed;
  const ResourceInfo& resource = *request.resource;
  if (StorageOf(resource) == nullptr || !request.subresource.empty() || !resource.HasVerb("delete")) {
    co_return api::MethodNotSupported(resource.type->group_resource(), "delete");
  }
  absl::Status checked = CheckDeleteOptions(resource, request.name, request.options.delete_options);
  if (!checked.ok()) co_return checked;
  Task<absl::StatusOr<ApiResult>> task = DeleteObject(request);
  absl::StatusOr<ApiResult> result = co_await std::move(task);
  co_return result;
}

}  // namespace keelson::master
