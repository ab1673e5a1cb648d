// Namespaces end in two steps: DELETE marks, and once the namespace controller has emptied it, PUT /finalize
// takes the last finalizer away.
#include "api/core/v1/namespace.pb.h"
#include "api/status_error.h"
#include "api/time.h"
#include "base/strings.h"
#include "master/apiserver/pipeline.h"

namespace keelson::master {

using ::k8s::core::v1::Namespace;

Task<absl::StatusOr<ApiResult>> Pipeline::DeleteNamespace(const ApiRequest& request,
                                                          CachedObjectPtr current) {
  auto ns = std::make_shared<Namespace>(static_cast<const Namespace&>(*current->message()));
  if (ns->metadata().has_deletion_timestamp()) {
    if (!ns->spec().finalizers().empty()) {
      co_return api::Conflict(
          request.resource->type->group_resource(), request.name,
          "The system is ensuring all content is removed from this namespace.  Upon completion, "
          "this namespace will automatically be purged by the system.");
    }
    if (ns->metadata().finalizers().empty()) {
      Task<absl::StatusOr<ApiResult>> remove = RemoveNow(request, current, ns);
      absl::StatusOr<ApiResult> result = co_await std::move(remove);
      co_return result;
    }
    co_return ResultOf(*request.resource, current->message(), current, 200);
  }
  *ns->mutable_metadata()->mutable_deletion_timestamp() = api::ToApiTime(env_.clock().Now());
  ns->mutable_status()->set_phase("Terminating");
  if (request.options.dry_run) co_return ResultOf(*request.resource, ns, nullptr, 200);
  Task<absl::StatusOr<api::ObjectPtr>> write = StorageOf(*request.resource)->Update(current, ns);
  absl::StatusOr<api::ObjectPtr> stored = co_await std::move(write);
  if (!stored.ok()) co_return stored.status();
  co_return ResultOf(*request.resource, *std::move(stored), nullptr, 200);
}

// Changes spec.finalizers only.
Task<absl::StatusOr<ApiResult>> Pipeline::FinalizeNamespace(ApiRequest request) {
  const ResourceInfo& resource = *request.resource;
  const auto* body = api::As<Namespace>(*request.object);
  if (body == nullptr) co_return api::BadRequest("the body of finalize must be a Namespace");
  ResourceStorage* storage = StorageOf(resource);
  for (int attempt = 0;; ++attempt) {
    CachedObjectPtr current = storage->Read(resource.StorageKey("", request.name));
    if (current == nullptr) co_return api::NotFound(resource.type->group_resource(), request.name);
    auto ns = std::make_shared<Namespace>(static_cast<const Namespace&>(*current->message()));
    const std::string& wanted = body->metadata().resource_version();
    if (!wanted.empty() && wanted != ns->metadata().resource_version()) {
      co_return api::Conflict(resource.type->group_resource(), request.name);
    }
    *ns->mutable_spec()->mutable_finalizers() = body->spec().finalizers();
    Task<absl::StatusOr<ApiResult>> write = WriteUpdate(request, current, ns);
    absl::StatusOr<ApiResult> result = co_await std::move(write);
    if (result.ok()) co_return result;
    if (IsConflict(result.status()) && wanted.empty() && attempt < kMaxConflictRetries) continue;
    co_return StoreError(request, result.status(), request.name);
  }
}

}  // namespace keelson::master
