// PATCH: JSON patch, JSON merge patch and strategic merge patch: on the current object itself where that can
// be, else on its JSON form.
#include "api/patch.h"

#include "api/codec.h"
#include "api/status_error.h"
#include "base/strings.h"
#include "master/apiserver/pipeline.h"

namespace keelson::master {
namespace {

absl::Status Unprocessable(std::string_view message) {
  api::ApiStatus status;
  status.set_status("Failure");
  status.set_message(std::string(message));
  status.set_reason("Invalid");
  status.set_code(422);
  status.mutable_details();
  return api::FromApiStatus(std::move(status));
}

// Patched copy of `base`. Errors in the patch are the client's: 400, or 422 where a JSON patch does not
// apply.
absl::StatusOr<std::shared_ptr<api::Message>> PatchMessage(const api::Patch& patch, api::PatchKind kind,
                                                           FieldValidation validation,
                                                           std::vector<std::string>* warnings,
                                                           const api::Message& base) {
  warnings->clear();
  std::shared_ptr<api::Message> copy = api::CloneMessage(base);
  if (patch.ApplyInPlace(copy.get())) return copy;
  absl::StatusOr<std::string> json = patch.Apply(api::EncodeJson(base), *base.GetDescriptor());
  if (!json.ok()) {
    if (kind == api::PatchKind::kJson) return Unprocessable(Sv(json.status().message()));
    return api::BadRequest(Sv(json.status().message()));
  }
  std::shared_ptr<api::Message> object(base.New());
  std::vector<std::string> strict;
  absl::Status status = api::DecodeJsonInto(*json, *object, &strict);
  if (!status.ok()) {
    if (kind == api::PatchKind::kJson) return Unprocessable(Sv(status.message()));
    return status;
  }
  status = CheckStrict(api::TypeOf(base), strict, validation, warnings);
  if (!status.ok()) return status;
  return object;
}

}  // namespace

Task<absl::StatusOr<ApiResult>> Pipeline::Patch(ApiRequest request) {
  absl::Status allowed = Authorize(request);
  if (!allowed.ok()) co_return allowed;
  if (request.subresource == "scale") {
    Task<absl::StatusOr<ApiResult>> scale = ModifyScale(std::move(request));
    absl::StatusOr<ApiResult> result = co_await std::move(scale);
    co_return result;
  }
  const ResourceInfo& resource = *request.resource;
  if (StorageOf(resource) == nullptr || (!request.subresource.empty() && request.subresource != "status")) {
    co_return api::MethodNotSupported(resource.type->group_resource(), "patch");
  }
  absl::StatusOr<api::Patch> parsed = api::Patch::Parse(request.patch_kind, request.patch);
  if (!parsed.ok()) co_return api::BadRequest(Sv(parsed.status().message()));
  auto patch = std::make_shared<api::Patch>(*std::move(parsed));
  auto warnings = std::make_shared<std::vector<std::string>>();
  const api::PatchKind kind = request.patch_kind;
  const FieldValidation validation = request.options.field_validation;
  Change change = [patch, kind, validation, warnings](const api::Message& base) {
    return PatchMessage(*patch, kind, validation, warnings.get(), base);
  };
  Task<absl::StatusOr<ApiResult>> task = Modify(request, change, true);
  absl::StatusOr<ApiResult> result = co_await std::move(task);
  if (result.ok()) result->warnings.insert(result->warnings.begin(), warnings->begin(), warnings->end());
  co_return result;
}

}  // namespace keelson::master
