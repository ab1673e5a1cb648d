// POST pods/NAME/eviction: a deletion with the options of the Eviction. No disruption budgets are served, so
// none can stand in the way.
#include "api/policy/v1/policy.pb.h"
#include "api/status_error.h"
#include "base/strings.h"
#include "master/apiserver/pipeline.h"

namespace keelson::master {

Task<absl::StatusOr<ApiResult>> Pipeline::EvictPod(ApiRequest request) {
  const auto* eviction = api::As<::k8s::policy::v1::Eviction>(*request.object);
  if (eviction == nullptr) co_return api::BadRequest("the body must be an Eviction of policy/v1");
  if (!eviction->metadata().name().empty() && eviction->metadata().name() != request.name) {
    co_return api::BadRequest("name in URL does not match name in Eviction object");
  }
  ApiRequest remove = request;
  remove.verb = "delete";
  remove.subresource.clear();
  remove.options.delete_options = eviction->delete_options();
  Task<absl::StatusOr<ApiResult>> task = DeleteObject(remove);
  absl::StatusOr<ApiResult> removed = co_await std::move(task);
  if (!removed.ok()) co_return removed.status();
  auto success = std::make_shared<api::ApiStatus>();
  success->set_status("Success");
  success->set_code(201);
  ApiResult result;
  result.http_code = 201;
  result.object = std::move(success);
  co_return result;
}

}  // namespace keelson::master
