// DELETE of a collection: a list, then many deletions at once, which the store commits in groups. Objects
// gone meanwhile are no error.
#include "api/status_error.h"
#include "base/parallel.h"
#include "base/strings.h"
#include "master/apiserver/pipeline.h"

namespace keelson::master {

Task<absl::Status> Pipeline::DeleteOneOf(std::shared_ptr<const ApiRequest> collection, CachedObjectPtr item) {
  ApiRequest one = *collection;
  one.name = api::Meta(*item->message()).name();
  one.ns = api::Meta(*item->message()).namespace_();
  Task<absl::StatusOr<ApiResult>> task = DeleteObject(one);
  absl::StatusOr<ApiResult> result = co_await std::move(task);
  co_return api::IsNotFound(result.status()) ? absl::OkStatus() : result.status();
}

Task<absl::StatusOr<ApiResult>> Pipeline::DeleteCollection(ApiRequest request) {
  absl::Status allowed = Authorize(request);
  if (!allowed.ok()) co_return allowed;
  const ResourceInfo& resource = *request.resource;
  if (StorageOf(resource) == nullptr || !resource.HasVerb("deletecollection")) {
    co_return api::MethodNotSupported(resource.type->group_resource(), "deletecollection");
  }
  ApiRequest list_request = request;
  list_request.verb = "list";
  list_request.user.groups.push_back(std::string(kGroupMasters));  // authorized above, as deletecollection
  Task<absl::StatusOr<ApiList>> list_task = List(std::move(list_request));
  absl::StatusOr<ApiList> list = co_await std::move(list_task);
  if (!list.ok()) co_return list.status();
  std::erase_if(list->items, [](const CachedObjectPtr& item) { return item->message() == nullptr; });
  auto collection = std::make_shared<const ApiRequest>(std::move(request));
  auto items = std::make_shared<const std::vector<CachedObjectPtr>>(std::move(list->items));
  NumberedWork work = [this, collection, items](size_t number) {
    return DeleteOneOf(collection, (*items)[number]);
  };
  Task<absl::Status> remove = InParallel(&scope_, kMaxDeletionsAtOnce, items->size(), std::move(work));
  absl::Status removed = co_await std::move(remove);
  if (!removed.ok()) co_return removed;
  auto status = std::make_shared<api::ApiStatus>();
  status->set_status("Success");
  auto* details = status->mutable_details();
  details->set_group(resource.type->gvk.group);
  details->set_kind(resource.type->plural);
  ApiResult result;
  result.object = std::move(status);
  co_return result;
}

}  // namespace keelson::master
