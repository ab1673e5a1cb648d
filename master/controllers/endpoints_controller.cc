#include "master/controllers/endpoints_controller.h"

#include <absl/strings/str_split.h>
#include <google/protobuf/util/message_differencer.h>

#include <algorithm>

#include "api/labels.h"
#include "api/object.h"
#include "api/status_error.h"
#include "base/status.h"
#include "base/strings.h"
#include "master/controllers/slice_writer.h"

namespace keelson::master {

namespace corev1 = ::k8s::core::v1;
using client::ObjectPtr;
using google::protobuf::util::MessageDifferencer;

namespace {

constexpr int kEndpointsWorkers = 5;
constexpr char kSlicesByService[] = "service";

bool MadeByController(const corev1::Endpoints& endpoints) {
  const auto& labels = endpoints.metadata().labels();
  auto it = labels.find(kEndpointsManagedByLabel);
  return it != labels.end() && it->second == kEndpointsManagedBy;
}

// What a change of the pod can mean for endpoints; other changes (annotations, resource use) are no reason to
// look.
bool MattersToEndpoints(const corev1::Pod& before, const corev1::Pod& after) {
  return before.status().pod_ip() != after.status().pod_ip() ||
         before.status().phase() != after.status().phase() || IsPodReady(before) != IsPodReady(after) ||
         before.spec().node_name() != after.spec().node_name() ||
         before.metadata().has_deletion_timestamp() != after.metadata().has_deletion_timestamp() ||
         !api::SameLabels(before.metadata().labels(), after.metadata().labels());
}

}  // namespace

EndpointsController::EndpointsController(ControllerContext context)
    : context_(context),
      services_(context.informers.For<corev1::Service>()),
      pods_(context.informers.For<corev1::Pod>()),
      endpoints_(context.informers.For<corev1::Endpoints>()),
      slices_(context.informers.For<Slice>()),
      loop_(context.env, name(), *this) {
  AddByNamespaceIndex(pods_);
  AddByNamespaceIndex(services_);
  slices_.AddIndex(kSlicesByService, [](const api::Message& object) {
    std::string service = ServiceOfSlice(object, kSliceManagedBy);
    return service.empty() ? std::vector<std::string>() : std::vector<std::string>({service});
  });
  services_.AddHandler([this](const ObjectPtr& before, const ObjectPtr& after) {
    std::string key = api::NamespacedName(after != nullptr ? *after : *before);
    if (after == nullptr) {
      ended_.insert(key);
    } else {
      ended_.erase(key);
    }
    loop_.queue().Add(key);
  });
  pods_.AddHandler([this](const ObjectPtr& before, const ObjectPtr& after) {
    if (before != nullptr && after != nullptr &&
        !MattersToEndpoints(static_cast<const corev1::Pod&>(*before),
                            static_cast<const corev1::Pod&>(*after))) {
      return;
    }
    if (before != nullptr) EnqueueServicesOf(*before);
    if (after != nullptr) EnqueueServicesOf(*after);
  });
  endpoints_.AddHandler([this](const ObjectPtr& before, const ObjectPtr& after) {
    loop_.queue().Add(api::NamespacedName(after != nullptr ? *after : *before));
  });
  slices_.AddHandler([this](const ObjectPtr& before, const ObjectPtr& after) {
    std::string key = ServiceOfSlice(after != nullptr ? *after : *before, kSliceManagedBy);
    if (!key.empty()) loop_.queue().Add(key);
  });
}

EndpointsController::~EndpointsController() = default;
void EndpointsController::Start() { loop_.Start(kEndpointsWorkers); }
Task<void> EndpointsController::Stop() { return loop_.Stop(); }

void EndpointsController::EnqueueServicesOf(const api::Message& pod) {
  const auto& meta = api::Meta(pod);
  for (const ObjectPtr& object : services_.ByIndex(kByNamespace, meta.namespace_())) {
    const auto& service = static_cast<const corev1::Service&>(*object);
    if (api::SelectsNonEmpty(service.spec().selector(), meta.labels())) {
      loop_.queue().Add(api::NamespacedName(service));
    }
  }
}

std::vector<EndpointsController::SlicePtr> EndpointsController::OwnSlices(const std::string& ns,
                                                                          const std::string& service) const {
  std::vector<SlicePtr> out;
  for (const ObjectPtr& object : slices_.ByIndex(kSlicesByService, StrCat(ns, "/", service))) {
    out.push_back(api::As<Slice>(object));
  }
  return out;
}

Task<absl::Status> EndpointsController::Remove(std::string key) {
  std::pair<std::string, std::string> parts = absl::StrSplit(key, absl::MaxSplits('/', 1));
  for (const SlicePtr& slice : OwnSlices(parts.first, parts.second)) {
    Task<absl::Status> remove = context_.client.Delete<Slice>(parts.first, slice->metadata().name());
    absl::Status removed = co_await std::move(remove);
    if (!removed.ok() && !api::IsNotFound(removed)) co_return removed;
  }
  auto endpoints = endpoints_.Get<corev1::Endpoints>(key);
  if (endpoints != nullptr && (ended_.contains(key) || MadeByController(*endpoints))) {
    Task<absl::Status> remove = context_.client.Delete<corev1::Endpoints>(parts.first, parts.second);
    absl::Status removed = co_await std::move(remove);
    if (!removed.ok() && !api::IsNotFound(removed)) co_return removed;
  }
  ended_.erase(key);
  co_return absl::OkStatus();
}

Task<absl::Status> EndpointsController::SyncEndpoints(ServicePtr service, std::string key,
                                                      EndpointGroups groups) {
  corev1::Endpoints desired = DesiredEndpoints(*service, groups);
  auto current = endpoints_.Get<corev1::Endpoints>(key);
  if (current == nullptr) {
    Task<absl::StatusOr<std::shared_ptr<const corev1::Endpoints>>> create =
        context_.client.Create<corev1::Endpoints>(std::move(desired));
    absl::StatusOr<std::shared_ptr<const corev1::Endpoints>> created = co_await std::move(create);
    co_return api::IsAlreadyExists(created.status()) ? absl::OkStatus() : created.status();
  }
  corev1::Endpoints updated = *current;
  *updated.mutable_subsets() = desired.subsets();
  *updated.mutable_metadata()->mutable_labels() = desired.metadata().labels();
  if (MessageDifferencer::Equals(updated, *current)) co_return absl::OkStatus();
  Task<absl::StatusOr<std::shared_ptr<const corev1::Endpoints>>> update =
      context_.client.Update<corev1::Endpoints>(std::move(updated));
  absl::StatusOr<std::shared_ptr<const corev1::Endpoints>> result = co_await std::move(update);
  co_return result.status();
}

Task<absl::Status> EndpointsController::SyncSlices(ServicePtr service, EndpointGroups groups) {
  Task<absl::StatusOr<bool>> write =
      WriteSlices(&context_.client, OwnSlices(service->metadata().namespace_(), service->metadata().name()),
                  DesiredSlices(*service, groups), SliceMetadata::kLabels);
  absl::StatusOr<bool> written = co_await std::move(write);
  co_return written.status();
}

Task<absl::StatusOr<client::Requeue>> EndpointsController::Reconcile(std::string key) {
  ServicePtr service = services_.Get<corev1::Service>(key);
  if (service == nullptr) {
    CO_RETURN_IF_ERROR(Remove(key));
    co_return client::Requeue();
  }
  // Without a selector the endpoints are the user's (the `kubernetes` Service's are the master's).
  if (service->spec().selector().empty() || service->spec().type() == "ExternalName")
    co_return client::Requeue();
  std::vector<PodPtr> pods;
  for (const ObjectPtr& object : pods_.ByIndex(kByNamespace, service->metadata().namespace_())) {
    if (api::SelectsNonEmpty(service->spec().selector(), api::Meta(*object).labels())) {
      pods.push_back(api::As<corev1::Pod>(object));
    }
  }
  EndpointGroups groups = CollectEndpoints(*service, pods);
  CO_RETURN_IF_ERROR(SyncSlices(service, groups));
  CO_RETURN_IF_ERROR(SyncEndpoints(service, key, groups));
  co_return client::Requeue();
}

}  // namespace keelson::master
