// GET of one object.
#include "api/status_error.h"
#include "base/strings.h"
#include "master/apiserver/pipeline.h"

namespace keelson::master {

// Always the newest state: the cache has everything the store acknowledged, so every resourceVersion that the
// client can know ("", "0", one it has seen) is satisfied.
Task<absl::StatusOr<ApiResult>> Pipeline::Get(ApiRequest request) {
  absl::Status allowed = Authorize(request);
  if (!allowed.ok()) co_return allowed;
  const ResourceInfo& resource = *request.resource;
  if (request.subresource == "scale") {
    Task<absl::StatusOr<ApiResult>> scale = GetScale(std::move(request));
    absl::StatusOr<ApiResult> result = co_await std::move(scale);
    co_return result;
  }
  ResourceStorage* storage = StorageOf(resource);
  if (storage == nullptr || (!request.subresource.empty() && request.subresource != "status")) {
    co_return api::MethodNotSupported(resource.type->group_resource(), request.verb);
  }
  absl::StatusOr<Revision> revision = ParseResourceVersion(request.options.resource_version);
  if (!revision.ok()) co_return revision.status();
  if (*revision > store_.CurrentRevision()) {
    co_return api::Timeout(
        StrCat("Too large resource version: ", *revision, ", current: ", store_.CurrentRevision()), 1);
  }
  CachedObjectPtr object = storage->Read(resource.StorageKey(request.ns, request.name));
  if (object == nullptr || object->message() == nullptr) {
    co_return api::NotFound(resource.type->group_resource(), request.name);
  }
  co_return ResultOf(resource, object->message(), object, 200);
}

}  // namespace keelson::master
