// POST pods/NAME/binding and /bindings: the scheduler's decision. A pod is bound once.
#include "api/core/v1/misc.pb.h"
#include "api/core/v1/pod.pb.h"
#include "api/status_error.h"
#include "api/time.h"
#include "base/strings.h"
#include "master/apiserver/pipeline.h"

namespace keelson::master {

using ::k8s::core::v1::Binding;
using ::k8s::core::v1::Pod;

namespace {

// Sets spec.nodeName and the PodScheduled condition; the reason why not otherwise.
absl::Status Assign(Pod& pod, const Binding& binding, absl::Time now) {
  const api::GroupResource pods{"", "pods"};
  const std::string& name = pod.metadata().name();
  if (!binding.metadata().uid().empty() && binding.metadata().uid() != pod.metadata().uid()) {
    return api::Conflict(pods, name,
                         StrCat("Precondition failed: UID in precondition: ", binding.metadata().uid(),
                                ", UID in object meta: ", pod.metadata().uid()));
  }
  if (pod.metadata().has_deletion_timestamp()) {
    return api::Conflict({"", "pods/binding"}, name,
                         StrCat("pod ", name, " is being deleted, cannot be assigned to a host"));
  }
  if (!pod.spec().node_name().empty()) {
    return api::Conflict(
        {"", "pods/binding"}, name,
        StrCat("pod ", name, " is already assigned to node \"", pod.spec().node_name(), "\""));
  }
  if (!pod.spec().scheduling_gates().empty()) {
    return api::Conflict({"", "pods/binding"}, name,
                         StrCat("pod ", name, " has non-empty .spec.schedulingGates"));
  }
  pod.mutable_spec()->set_node_name(binding.target().name());
  for (const auto& [k, v] : binding.metadata().annotations())
    (*pod.mutable_metadata()->mutable_annotations())[k] = v;
  ::k8s::core::v1::PodCondition* scheduled = nullptr;
  for (auto& c : *pod.mutable_status()->mutable_conditions()) {
    if (c.type() == "PodScheduled") scheduled = &c;
  }
  if (scheduled == nullptr) scheduled = pod.mutable_status()->add_conditions();
  if (scheduled->status() != "True") *scheduled->mutable_last_transition_time() = api::ToApiTime(now);
  scheduled->set_type("PodScheduled");
  scheduled->set_status("True");
  scheduled->clear_reason();
  scheduled->clear_message();
  return absl::OkStatus();
}

}  // namespace

Task<absl::StatusOr<ApiResult>> Pipeline::BindPod(ApiRequest request) {
  const auto* binding = api::As<Binding>(*request.object);
  if (binding == nullptr) co_return api::BadRequest("the body must be a Binding");
  const std::string name = request.name.empty() ? binding->metadata().name() : request.name;
  if (!binding->metadata().name().empty() && binding->metadata().name() != name) {
    co_return api::BadRequest("name in URL does not match name in Binding object");
  }
  if (name.empty()) co_return api::BadRequest("name must be provided");
  if (!binding->target().kind().empty() && binding->target().kind() != "Node" &&
      binding->target().kind() != "Minion") {
    co_return api::Invalid("", "Binding", name,
                           {api::FieldCause("FieldValueNotSupported", "target.kind",
                                            StrCat("Unsupported value: \"", binding->target().kind(),
                                                   "\": supported values: \"Node\", \"<empty>\""))});
  }
  if (binding->target().name().empty()) {
    co_return api::Invalid("", "Binding", name,
                           {api::FieldCause("FieldValueRequired", "target.name", "Required value")});
  }
  const ResourceInfo& pods = *Registry::Get().Find("", "pods");
  ResourceStorage* storage = StorageOf(pods);
  for (int attempt = 0;; ++attempt) {
    CachedObjectPtr current = storage->Read(pods.StorageKey(request.ns, name));
    if (current == nullptr || current->message() == nullptr) co_return api::NotFound({"", "pods"}, name);
    auto pod = std::make_shared<Pod>(static_cast<const Pod&>(*current->message()));
    absl::Status status = Assign(*pod, *binding, env_.clock().Now());
    if (!status.ok()) co_return status;
    if (!request.options.dry_run) {
      Task<absl::StatusOr<api::ObjectPtr>> write = storage->Update(current, pod);
      absl::StatusOr<api::ObjectPtr> stored = co_await std::move(write);
      if (!stored.ok()) {
        if (IsConflict(stored.status()) && attempt < kMaxConflictRetries) continue;
        co_return StoreError(request, stored.status(), name);
      }
    }
    auto success = std::make_shared<api::ApiStatus>();
    success->set_status("Success");
    success->set_code(201);
    ApiResult result;
    result.http_code = 201;
    result.object = std::move(success);
    co_return result;
  }
}

}  // namespace keelson::master
