// replicationcontrollers/NAME/scale: an autoscaling/v1 Scale is a view of spec.replicas and status.
#include "api/autoscaling/v1/autoscaling.pb.h"
#include "api/codec.h"
#include "api/core/v1/replication_controller.pb.h"
#include "api/labels.h"
#include "api/status_error.h"
#include "base/strings.h"
#include "master/apiserver/pipeline.h"

namespace keelson::master {

using ::k8s::autoscaling::v1::Scale;
using ::k8s::core::v1::ReplicationController;

namespace {

std::shared_ptr<Scale> ScaleOf(const ReplicationController& rc) {
  auto scale = std::make_shared<Scale>();
  auto& meta = *scale->mutable_metadata();
  meta.set_name(rc.metadata().name());
  meta.set_namespace_(rc.metadata().namespace_());
  meta.set_uid(rc.metadata().uid());
  meta.set_resource_version(rc.metadata().resource_version());
  *meta.mutable_creation_timestamp() = rc.metadata().creation_timestamp();
  scale->mutable_spec()->set_replicas(rc.spec().replicas());
  scale->mutable_status()->set_replicas(rc.status().replicas());
  scale->mutable_status()->set_selector(api::LabelSelector::FromMap(rc.spec().selector()).ToString());
  return scale;
}

}  // namespace

Task<absl::StatusOr<ApiResult>> Pipeline::GetScale(ApiRequest request) {
  const ResourceInfo& resource = *request.resource;
  CachedObjectPtr current = StorageOf(resource)->Read(resource.StorageKey(request.ns, request.name));
  if (current == nullptr || current->message() == nullptr) {
    co_return api::NotFound(resource.type->group_resource(), request.name);
  }
  ApiResult result;
  result.object = ScaleOf(static_cast<const ReplicationController&>(*current->message()));
  co_return result;
}

// PUT and PATCH alike: the new Scale is computed against the current one, then written into the RC.
Task<absl::StatusOr<ApiResult>> Pipeline::ModifyScale(ApiRequest request) {
  std::shared_ptr<const Scale> body;
  std::shared_ptr<api::Patch> patch;
  if (request.verb == "patch") {
    absl::StatusOr<api::Patch> parsed = api::Patch::Parse(request.patch_kind, request.patch);
    if (!parsed.ok()) co_return api::BadRequest(Sv(parsed.status().message()));
    patch = std::make_shared<api::Patch>(*std::move(parsed));
  } else {
    if (api::As<Scale>(*request.object) == nullptr)
      co_return api::BadRequest("the body must be a Scale of autoscaling/v1");
    body = std::static_pointer_cast<const Scale>(request.object);
  }
  Change change = [body, patch](const api::Message& base) -> absl::StatusOr<std::shared_ptr<api::Message>> {
    auto rc = std::make_shared<ReplicationController>(static_cast<const ReplicationController&>(base));
    Scale wanted;
    if (patch != nullptr) {
      std::shared_ptr<Scale> now = ScaleOf(*rc);
      absl::StatusOr<std::string> json = patch->Apply(api::EncodeJson(*now), *Scale::descriptor());
      if (!json.ok()) return api::BadRequest(Sv(json.status().message()));
      absl::Status status = api::DecodeJsonInto(*json, wanted);
      if (!status.ok()) return status;
    } else {
      wanted = *body;
    }
    if (wanted.spec().replicas() < 0) {
      return api::Invalid("autoscaling", "Scale", wanted.metadata().name(),
                          {api::FieldCause("FieldValueInvalid", "spec.replicas",
                                           StrCat("Invalid value: ", wanted.spec().replicas(),
                                                  ": must be greater than or equal to 0"))});
    }
    if (!wanted.metadata().uid().empty()) rc->mutable_metadata()->set_uid(wanted.metadata().uid());
    rc->mutable_metadata()->set_resource_version(wanted.metadata().resource_version());
    rc->mutable_spec()->set_replicas(wanted.spec().replicas());
    return std::shared_ptr<api::Message>(rc);
  };
  ApiRequest inner = request;
  inner.subresource.clear();
  const bool is_patch = patch != nullptr;
  Task<absl::StatusOr<ApiResult>> task = Modify(inner, change, is_patch);
  absl::StatusOr<ApiResult> written = co_await std::move(task);
  if (!written.ok()) co_return written.status();
  ApiResult result;
  result.object = ScaleOf(static_cast<const ReplicationController&>(*written->object));
  co_return result;
}

}  // namespace keelson::master
