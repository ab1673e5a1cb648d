// POST.
#include "api/core/v1/namespace.pb.h"
#include "api/core/v1/pod.pb.h"
#include "api/core/v1/service.pb.h"
#include "api/defaults.h"
#include "api/status_error.h"
#include "api/time.h"
#include "base/strings.h"
#include "master/admission/pod_references.h"
#include "master/apiserver/pipeline.h"

namespace keelson::master {

using ::k8s::core::v1::Service;

namespace {

// How long a new pod waits for the `default` account of a namespace that was made just before it; upstream's
// numbers.
constexpr int kDefaultAccountAttempts = 10;
constexpr absl::Duration kDefaultAccountRetry = absl::Milliseconds(150);

bool MissesDefaultAccount(const api::Message& object, const std::string& ns, const ClusterReader& cluster) {
  const auto* pod = api::As<::k8s::core::v1::Pod>(object);
  if (pod == nullptr || IsMirrorPod(*pod)) return false;
  const auto& spec = pod->spec();
  const std::string& account =
      spec.service_account_name().empty() ? spec.service_account() : spec.service_account_name();
  if (!account.empty() && account != kDefaultServiceAccount) return false;
  if (cluster.Read("", "serviceaccounts", ns, kDefaultServiceAccount) != nullptr) return false;
  auto space = api::As<::k8s::core::v1::Namespace>(cluster.Read("", "namespaces", "", ns));
  return space != nullptr && space->status().phase() != "Terminating";
}

}  // namespace

// Name, namespace, uid, creationTimestamp, generation; what clients may not set is cleared or refused.
absl::Status Pipeline::FillNewMeta(const ApiRequest& request, api::Message& object) {
  auto& meta = api::MutableMeta(object);
  if (!meta.resource_version().empty() && meta.resource_version() != "0") {
    return api::BadRequest("resourceVersion should not be set on objects to be created");
  }
  if (request.resource->type->namespaced) {
    if (request.ns.empty()) return api::BadRequest("an empty namespace may not be set during creation");
    if (meta.namespace_().empty()) meta.set_namespace_(request.ns);
    if (meta.namespace_() != request.ns) {
      return api::BadRequest(
          StrCat("the namespace of the provided object does not match the namespace sent on the request"));
    }
  } else {
    meta.clear_namespace_();
  }
  if (!request.name.empty()) {
    if (meta.name().empty()) meta.set_name(request.name);
    if (meta.name() != request.name) {
      return api::BadRequest(StrCat("the name of the object (", meta.name(),
                                    ") does not match the name on the URL (", request.name, ")"));
    }
  }
  meta.clear_resource_version();
  meta.clear_self_link();
  meta.clear_deletion_timestamp();
  meta.clear_deletion_grace_period_seconds();
  meta.clear_managed_fields();
  meta.clear_generation();
  if (request.resource->tracks_generation) meta.set_generation(1);
  *meta.mutable_creation_timestamp() = api::ToApiTime(env_.clock().Now());
  meta.set_uid(env_.random().Uuid());
  if (meta.name().empty() && !meta.generate_name().empty()) {
    constexpr size_t kMaxBase = kMaxGeneratedNameLength - kGeneratedSuffixLength;
    meta.set_name(meta.generate_name().substr(0, kMaxBase) + env_.random().Suffix(kGeneratedSuffixLength));
  }
  return absl::OkStatus();
}

Task<absl::StatusOr<ApiResult>> Pipeline::CreateOnce(const ApiRequest& request,
                                                     std::shared_ptr<api::Message> object) {
  const ResourceInfo& resource = *request.resource;
  const ResourceInfo& stored_as = *resource.storage;
  absl::Status status = FillNewMeta(request, *object);
  if (!status.ok()) co_return status;
  if (resource.to_storage != nullptr) object = resource.to_storage(*object);

  AdmissionRequest admission;
  admission.user = &request.user;
  admission.operation = Operation::kCreate;
  admission.type = resource.type;
  admission.ns = request.ns;
  admission.name = api::Meta(*object).name();
  admission.object = object.get();
  status = admission_.Admit(admission, *this);
  if (!status.ok()) co_return status;

  api::SetDefaults(object.get());
  ClearTopField(*object, resource.has_status() && !stored_as.create_keeps_status ? "status" : "");
  if (stored_as.prepare_create != nullptr) stored_as.prepare_create(*object);
  auto* service =
      object->GetDescriptor() == Service::descriptor() ? static_cast<Service*>(object.get()) : nullptr;
  if (service != nullptr) NormalizeClusterIps(*service);
  const std::string name = api::Meta(*object).name();
  api::FieldErrors errors = api::Validate(*object);
  if (!errors.empty()) co_return InvalidError(*resource.type, name, errors);
  status = admission_.Validate(admission, *this);
  if (!status.ok()) co_return status;

  ServiceAllocator::Reservation reservation;
  if (service != nullptr) {
    errors = allocator_->Reserve(env_.random(), *service, nullptr, &reservation);
    if (!errors.empty()) co_return InvalidError(*resource.type, name, errors);
  }
  ResourceStorage* storage = StorageOf(resource);
  const std::string key = resource.StorageKey(request.ns, name);
  if (request.options.dry_run) {
    if (storage->Read(key) != nullptr) co_return api::AlreadyExists(resource.type->group_resource(), name);
    std::vector<std::string> warnings = UnsupportedWarnings(*object);
    co_return ResultOf(resource, std::move(object), nullptr, 201, std::move(warnings));
  }
  Task<absl::StatusOr<api::ObjectPtr>> write = storage->Create(key, object);
  absl::StatusOr<api::ObjectPtr> stored = co_await std::move(write);
  if (!stored.ok()) co_return StoreError(request, stored.status(), name);
  reservation.Keep();
  std::vector<std::string> warnings = UnsupportedWarnings(**stored);
  co_return ResultOf(resource, *std::move(stored), nullptr, 201, std::move(warnings));
}

Task<absl::StatusOr<ApiResult>> Pipeline::Create(ApiRequest request) {
  absl::Status allowed = Authorize(request);
  if (!allowed.ok()) co_return allowed;
  const ResourceInfo& resource = *request.resource;
  if (request.object == nullptr) co_return api::BadRequest("the request has no body");
  const bool is_binding = resource.type->plural == "bindings" || request.subresource == "binding";
  if (is_binding || request.subresource == "eviction") {
    Task<absl::StatusOr<ApiResult>> task = is_binding ? BindPod(request) : EvictPod(request);
    absl::StatusOr<ApiResult> result = co_await std::move(task);
    co_return result;
  }
  if (!resource.stored() && request.subresource.empty()) co_return Review(request);
  if (!request.subresource.empty() || StorageOf(resource) == nullptr) {
    co_return api::MethodNotSupported(resource.type->group_resource(), "create");
  }

  for (int i = 1; i < kDefaultAccountAttempts && MissesDefaultAccount(*request.object, request.ns, *this);
       ++i) {
    Task<void> sleep = env_.clock().Sleep(kDefaultAccountRetry);
    co_await std::move(sleep);
  }
  const bool generated =
      api::Meta(*request.object).name().empty() && !api::Meta(*request.object).generate_name().empty();
  for (int attempt = 1;; ++attempt) {
    std::shared_ptr<api::Message> object = api::CloneMessage(*request.object);
    Task<absl::StatusOr<ApiResult>> once = CreateOnce(request, object);
    absl::StatusOr<ApiResult> result = co_await std::move(once);
    if (result.ok() || !generated || !api::IsAlreadyExists(result.status())) co_return result;
    if (attempt == kMaxGenerateNameAttempts) {
      co_return api::GenerateNameConflict(resource.type->group_resource(), api::Meta(*object).name(), 1);
    }
  }
}

}  // namespace keelson::master
