// PUT, and the read-change-check-write loop shared with PATCH and the subresources.
#include "api/core/v1/namespace.pb.h"
#include "api/core/v1/service.pb.h"
#include "api/defaults.h"
#include "api/status_error.h"
#include "base/strings.h"
#include "master/apiserver/pipeline.h"

namespace keelson::master {

using ::k8s::core::v1::Service;

// Identity and optimistic concurrency, on an object of the request's kind.
absl::Status Pipeline::CheckUpdate(const ApiRequest& request, const CachedObject& current,
                                   api::Message& object, bool* unconditional) {
  const api::TypeInfo& type = *request.resource->type;
  auto& meta = api::MutableMeta(object);
  const auto& old = api::Meta(*current.message());
  if (meta.name().empty()) meta.set_name(request.name);
  if (meta.name() != request.name) {
    return api::BadRequest(StrCat("the name of the object (", meta.name(),
                                  ") does not match the name on the URL (", request.name, ")"));
  }
  if (meta.namespace_().empty()) meta.set_namespace_(request.ns);
  if (meta.namespace_() != request.ns) {
    return api::BadRequest(
        "the namespace of the provided object does not match the namespace sent on the request");
  }
  *unconditional = meta.resource_version().empty() || meta.resource_version() == "0";
  if (*unconditional && !request.resource->unconditional_update && request.verb == "update") {
    api::FieldError e;
    e.field = "metadata.resourceVersion";
    e.bad_value = "0";
    e.detail = "must be specified for an update";
    return InvalidError(type, request.name, {e});
  }
  if (!meta.uid().empty() && meta.uid() != old.uid()) {
    return api::Conflict(type.group_resource(), request.name,
                         StrCat("Precondition failed: UID in precondition: ", meta.uid(),
                                ", UID in object meta: ", old.uid()));
  }
  if (!*unconditional && meta.resource_version() != old.resource_version()) {
    return api::Conflict(type.group_resource(), request.name);
  }
  return absl::OkStatus();
}

// Strategy, admission and validation, on objects of the stored kind.
absl::Status Pipeline::FinishUpdate(const ApiRequest& request, const api::Message& old,
                                    api::Message& object) {
  const ResourceInfo& resource = *request.resource;
  const ResourceInfo& stored_as = *resource.storage;
  auto& meta = api::MutableMeta(object);
  const auto& before = api::Meta(old);
  meta.set_uid(before.uid());
  meta.set_resource_version(before.resource_version());
  meta.set_generation(before.generation());
  meta.clear_self_link();
  meta.clear_managed_fields();
  if (before.has_creation_timestamp()) {
    *meta.mutable_creation_timestamp() = before.creation_timestamp();
  } else {
    meta.clear_creation_timestamp();
  }
  if (before.has_deletion_timestamp()) {
    *meta.mutable_deletion_timestamp() = before.deletion_timestamp();
  } else {
    meta.clear_deletion_timestamp();
  }
  if (before.has_deletion_grace_period_seconds()) {
    meta.set_deletion_grace_period_seconds(before.deletion_grace_period_seconds());
  } else {
    meta.clear_deletion_grace_period_seconds();
  }

  AdmissionRequest admission;
  admission.user = &request.user;
  admission.operation = Operation::kUpdate;
  admission.type = resource.type;
  admission.subresource = request.subresource;
  admission.ns = request.ns;
  admission.name = request.name;
  admission.object = &object;
  admission.old_object = &old;
  absl::Status status = admission_.Admit(admission, *this);
  if (!status.ok()) return status;

  api::SetDefaults(&object);
  const bool is_status = request.subresource == "status";
  if (is_status) {
    CopyTopField(object, old, "spec");
    if (stored_as.prepare_status_update != nullptr) stored_as.prepare_status_update(object, old);
  } else {
    if (resource.has_status()) CopyTopField(object, old, "status");
    if (stored_as.prepare_update != nullptr) stored_as.prepare_update(object, old);
    if (resource.tracks_generation && !SameTopField(object, old, "spec"))
      meta.set_generation(before.generation() + 1);
  }
  if (object.GetDescriptor() == Service::descriptor() && !is_status) {
    KeepAllocatedValues(static_cast<Service&>(object), static_cast<const Service&>(old));
  }
  api::FieldErrors errors = api::ValidateUpdate(object, old);
  if (before.has_deletion_timestamp()) {
    for (const std::string& f : meta.finalizers()) {
      if (std::find(before.finalizers().begin(), before.finalizers().end(), f) != before.finalizers().end())
        continue;
      api::FieldError e;
      e.type = api::FieldError::Type::kForbidden;
      e.field = "metadata.finalizers";
      e.detail = StrCat(
          "no new finalizers can be added if the object is being deleted, found new finalizers []string{\"",
          f, "\"}");
      errors.push_back(std::move(e));
      break;
    }
  }
  if (!errors.empty()) return InvalidError(*resource.type, request.name, errors);
  return admission_.Validate(admission, *this);
}

namespace {

// An object whose deletion only waited for its last finalizer.
bool DeletedByUpdate(const api::Message& object) {
  const auto& meta = api::Meta(object);
  if (!meta.has_deletion_timestamp() || !meta.finalizers().empty()) return false;
  if (const auto* ns = api::As<::k8s::core::v1::Namespace>(object)) return ns->spec().finalizers().empty();
  return meta.deletion_grace_period_seconds() == 0;
}

}  // namespace

Task<absl::StatusOr<ApiResult>> Pipeline::WriteUpdate(const ApiRequest& request, CachedObjectPtr current,
                                                      std::shared_ptr<api::Message> object) {
  const ResourceInfo& resource = *request.resource;
  ResourceStorage* storage = StorageOf(resource);
  const bool is_service = object->GetDescriptor() == Service::descriptor() && request.subresource.empty();
  ServiceAllocator::Reservation reservation;
  if (is_service) {
    const auto& old = static_cast<const Service&>(*current->message());
    api::FieldErrors errors =
        allocator_->Reserve(env_.random(), static_cast<Service&>(*object), &old, &reservation);
    if (!errors.empty()) co_return InvalidError(*resource.type, request.name, errors);
  }
  std::vector<std::string> warnings;
  if (request.subresource.empty()) warnings = UnsupportedWarnings(*object);
  if (request.options.dry_run) {
    api::MutableMeta(*object).set_resource_version(StrCat(current->revision()));
    co_return ResultOf(resource, std::move(object), nullptr, 200, std::move(warnings));
  }
  if (DeletedByUpdate(*object)) {
    Task<absl::StatusOr<Revision>> remove = storage->Delete(current->key(), current->revision());
    absl::StatusOr<Revision> revision = co_await std::move(remove);
    if (!revision.ok()) co_return revision.status();
    api::MutableMeta(*object).set_resource_version(StrCat(*revision));
    if (object->GetDescriptor() == Service::descriptor()) {
      allocator_->Release(static_cast<const Service&>(*current->message()), nullptr);
    }
    co_return ResultOf(resource, std::move(object), nullptr, 200);
  }
  Task<absl::StatusOr<api::ObjectPtr>> write = storage->Update(current, std::move(object));
  absl::StatusOr<api::ObjectPtr> stored = co_await std::move(write);
  if (!stored.ok()) co_return stored.status();
  if (is_service) {
    reservation.Keep();
    allocator_->Release(static_cast<const Service&>(*current->message()),
                        static_cast<const Service*>(stored->get()));
  }
  co_return ResultOf(resource, *std::move(stored), nullptr, 200, std::move(warnings));
}

Task<absl::StatusOr<ApiResult>> Pipeline::Modify(const ApiRequest& request, const Change& change,
                                                 bool is_patch) {
  const ResourceInfo& resource = *request.resource;
  ResourceStorage* storage = StorageOf(resource);
  const std::string key = resource.StorageKey(request.ns, request.name);
  for (int attempt = 0;; ++attempt) {
    CachedObjectPtr current = storage->Read(key);
    if (current == nullptr || current->message() == nullptr) {
      co_return api::NotFound(resource.type->group_resource(), request.name);
    }
    api::ObjectPtr base = current->message();
    if (resource.from_storage != nullptr) base = resource.from_storage(*base);
    absl::StatusOr<std::shared_ptr<api::Message>> changed = change(*base);
    if (!changed.ok()) co_return changed.status();
    std::shared_ptr<api::Message> object = *std::move(changed);
    bool unconditional = false;
    absl::Status status = CheckUpdate(request, *current, *object, &unconditional);
    if (!status.ok()) co_return status;
    if (resource.to_storage != nullptr) object = resource.to_storage(*object);
    status = FinishUpdate(request, *current->message(), *object);
    if (!status.ok()) co_return status;

    Task<absl::StatusOr<ApiResult>> write = WriteUpdate(request, current, object);
    absl::StatusOr<ApiResult> result = co_await std::move(write);
    if (result.ok()) co_return result;
    // A patch's resourceVersion comes from the base unless the client wrote one, which CheckUpdate compares.
    const bool retry = (unconditional || is_patch) && attempt < kMaxConflictRetries;
    if (IsConflict(result.status()) && retry) continue;
    if (IsConflict(result.status()) || absl::IsNotFound(result.status()) ||
        absl::IsUnavailable(result.status()) || absl::IsResourceExhausted(result.status())) {
      co_return StoreError(request, result.status(), request.name);
    }
    co_return result;
  }
}

Task<absl::StatusOr<ApiResult>> Pipeline::Update(ApiRequest request) {
  absl::Status allowed = Authorize(request);
  if (!allowed.ok()) co_return allowed;
  if (request.object == nullptr) co_return api::BadRequest("the request has no body");
  if (request.subresource == "finalize") {
    Task<absl::StatusOr<ApiResult>> task = FinalizeNamespace(std::move(request));
    absl::StatusOr<ApiResult> result = co_await std::move(task);
    co_return result;
  }
  if (request.subresource == "scale") {
    Task<absl::StatusOr<ApiResult>> task = ModifyScale(std::move(request));
    absl::StatusOr<ApiResult> result = co_await std::move(task);
    co_return result;
  }
  if (StorageOf(*request.resource) == nullptr ||
      (!request.subresource.empty() && request.subresource != "status")) {
    co_return api::MethodNotSupported(request.resource->type->group_resource(), "update");
  }
  api::ObjectPtr body = request.object;
  Change change = [body](const api::Message&) -> absl::StatusOr<std::shared_ptr<api::Message>> {
    return std::shared_ptr<api::Message>(api::CloneMessage(*body));
  };
  Task<absl::StatusOr<ApiResult>> task = Modify(request, change, false);
  absl::StatusOr<ApiResult> result = co_await std::move(task);
  co_return result;
}

}  // namespace keelson::master
