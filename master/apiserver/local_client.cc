#include "master/apiserver/local_client.h"

#include <deque>

#include "api/status_error.h"
#include "base/strings.h"

namespace keelson::master {
namespace {

using client::DeleteOptions;
using client::ListOptions;
using client::ObjectList;
using client::PatchType;
using client::WatchEvent;
using client::WatchEventType;
using client::WatchOptions;

api::ObjectPtr View(const ResourceInfo& resource, const CachedObject& object) {
  if (resource.from_storage == nullptr) return object.message();
  return api::ObjectPtr(resource.from_storage(*object.message()));
}

class LocalWatcher : public client::Watcher {
 public:
  LocalWatcher(Env& env, ApiWatch watch) : env_(env), watch_(std::move(watch)) {
    if (!watch_.timeout_s.has_value() || *watch_.timeout_s <= 0) return;
    CacheWatch* raw = watch_.watch.get();
    timer_ = env_.clock().Schedule(absl::Seconds(*watch_.timeout_s), [raw] { raw->Stop(); });
  }
  ~LocalWatcher() override {
    if (timer_ != 0) env_.clock().CancelTimer(timer_);
  }

  Task<absl::StatusOr<std::optional<WatchEvent>>> Next() override {
    while (queue_.empty()) {
      Task<absl::StatusOr<std::vector<CacheWatchEvent>>> next = watch_.watch->Next();
      absl::StatusOr<std::vector<CacheWatchEvent>> events = co_await std::move(next);
      if (!events.ok()) {
        if (IsCompacted(events.status())) co_return api::Expired(Sv(events.status().message()));
        co_return std::optional<WatchEvent>();  // too slow, timed out or stopped: watch again
      }
      for (const CacheWatchEvent& event : *events) Add(event);
    }
    std::optional<WatchEvent> event(std::move(queue_.front()));
    queue_.pop_front();
    co_return event;
  }

 private:
  void Add(const CacheWatchEvent& event) {
    WatchEvent out;
    out.resource_version = StrCat(event.revision);
    switch (event.type) {
      case CacheWatchEvent::kAdded:
        out.type = WatchEventType::kAdded;
        break;
      case CacheWatchEvent::kModified:
        out.type = WatchEventType::kModified;
        break;
      case CacheWatchEvent::kDeleted:
        out.type = WatchEventType::kDeleted;
        break;
      case CacheWatchEvent::kBookmark:
        out.type = WatchEventType::kBookmark;
        break;
    }
    if (event.type != CacheWatchEvent::kBookmark) {
      if (event.object == nullptr || event.object->message() == nullptr) return;
      out.object = View(*watch_.resource, *event.object);
    }
    queue_.push_back(std::move(out));
  }

  Env& env_;
  ApiWatch watch_;
  uint64_t timer_ = 0;
  std::deque<WatchEvent> queue_;
};

class LocalClient : public client::ApiClient {
 public:
  LocalClient(Pipeline& pipeline, UserInfo user) : pipeline_(pipeline), user_(std::move(user)) {}

  Task<absl::StatusOr<api::ObjectPtr>> Get(api::GroupVersionResource gvr, std::string ns,
                                           std::string name) override {
    absl::StatusOr<ApiRequest> request = Request("get", gvr, ns, name, "");
    if (!request.ok()) co_return request.status();
    Task<absl::StatusOr<ApiResult>> task = pipeline_.Get(*std::move(request));
    absl::StatusOr<ApiResult> result = co_await std::move(task);
    co_return ObjectOf(std::move(result));
  }

  Task<absl::StatusOr<ObjectList>> List(api::GroupVersionResource gvr, std::string ns,
                                        ListOptions options) override {
    absl::StatusOr<ApiRequest> request = Request("list", gvr, ns, "", "");
    if (!request.ok()) co_return request.status();
    RequestOptions& o = request->options;
    o.label_selector = std::move(options.label_selector);
    o.field_selector = std::move(options.field_selector);
    o.resource_version = std::move(options.resource_version);
    o.limit = options.limit;
    o.continue_token = std::move(options.continue_token);
    Task<absl::StatusOr<ApiList>> task = pipeline_.List(*std::move(request));
    absl::StatusOr<ApiList> list = co_await std::move(task);
    if (!list.ok()) co_return list.status();
    ObjectList out;
    out.resource_version = StrCat(list->revision);
    out.continue_token = list->continue_token;
    out.items.reserve(list->items.size());
    for (const CachedObjectPtr& item : list->items) {
      if (item->message() != nullptr) out.items.push_back(View(*list->resource, *item));
    }
    co_return out;
  }

  Task<absl::StatusOr<std::unique_ptr<client::Watcher>>> Watch(api::GroupVersionResource gvr, std::string ns,
                                                               WatchOptions options) override {
    absl::StatusOr<ApiRequest> request = Request("watch", gvr, ns, "", "");
    if (!request.ok()) co_return request.status();
    RequestOptions& o = request->options;
    o.label_selector = std::move(options.label_selector);
    o.field_selector = std::move(options.field_selector);
    o.resource_version = std::move(options.resource_version);
    o.allow_bookmarks = options.bookmarks;
    o.timeout_s = options.timeout_s;
    Task<absl::StatusOr<ApiWatch>> task = pipeline_.Watch(*std::move(request));
    absl::StatusOr<ApiWatch> watch = co_await std::move(task);
    if (!watch.ok()) co_return watch.status();
    std::unique_ptr<client::Watcher> watcher =
        std::make_unique<LocalWatcher>(pipeline_.env(), *std::move(watch));
    co_return watcher;
  }

  Task<absl::StatusOr<api::ObjectPtr>> Create(api::GroupVersionResource gvr, std::string ns,
                                              api::ObjectPtr object, std::string name,
                                              std::string subresource) override {
    absl::StatusOr<ApiRequest> request = Request("create", gvr, ns, name, subresource);
    if (!request.ok()) co_return request.status();
    request->object = std::move(object);
    Task<absl::StatusOr<ApiResult>> task = pipeline_.Create(*std::move(request));
    absl::StatusOr<ApiResult> result = co_await std::move(task);
    co_return ObjectOf(std::move(result));
  }

  Task<absl::StatusOr<api::ObjectPtr>> Update(api::GroupVersionResource gvr, std::string ns,
                                              api::ObjectPtr object, std::string subresource) override {
    absl::StatusOr<ApiRequest> request = Request("update", gvr, ns, api::Meta(*object).name(), subresource);
    if (!request.ok()) co_return request.status();
    request->object = std::move(object);
    Task<absl::StatusOr<ApiResult>> task = pipeline_.Update(*std::move(request));
    absl::StatusOr<ApiResult> result = co_await std::move(task);
    co_return ObjectOf(std::move(result));
  }

  Task<absl::StatusOr<api::ObjectPtr>> Patch(api::GroupVersionResource gvr, std::string ns, std::string name,
                                             PatchType type, std::string patch,
                                             std::string subresource) override {
    absl::StatusOr<ApiRequest> request = Request("patch", gvr, ns, name, subresource);
    if (!request.ok()) co_return request.status();
    switch (type) {
      case PatchType::kJson:
        request->patch_kind = api::PatchKind::kJson;
        break;
      case PatchType::kMerge:
        request->patch_kind = api::PatchKind::kMerge;
        break;
      case PatchType::kStrategicMerge:
        request->patch_kind = api::PatchKind::kStrategicMerge;
        break;
      case PatchType::kApply:
        co_return api::UnsupportedMediaType(
            "application/json-patch+json, application/merge-patch+json, "
            "application/strategic-merge-patch+json");
    }
    request->patch = std::move(patch);
    Task<absl::StatusOr<ApiResult>> task = pipeline_.Patch(*std::move(request));
    absl::StatusOr<ApiResult> result = co_await std::move(task);
    co_return ObjectOf(std::move(result));
  }

  Task<absl::Status> Delete(api::GroupVersionResource gvr, std::string ns, std::string name,
                            DeleteOptions options) override {
    absl::StatusOr<ApiRequest> request = Request("delete", gvr, ns, name, "");
    if (!request.ok()) co_return request.status();
    auto& o = request->options.delete_options;
    if (options.grace_period_s.has_value()) o.set_grace_period_seconds(*options.grace_period_s);
    if (!options.precondition_uid.empty()) o.mutable_preconditions()->set_uid(options.precondition_uid);
    if (!options.precondition_resource_version.empty()) {
      o.mutable_preconditions()->set_resource_version(options.precondition_resource_version);
    }
    if (!options.propagation_policy.empty()) o.set_propagation_policy(options.propagation_policy);
    Task<absl::StatusOr<ApiResult>> task = pipeline_.Delete(*std::move(request));
    absl::StatusOr<ApiResult> result = co_await std::move(task);
    co_return result.status();
  }

 private:
  absl::StatusOr<ApiRequest> Request(std::string verb, const api::GroupVersionResource& gvr,
                                     const std::string& ns, const std::string& name,
                                     const std::string& subresource) const {
    ApiRequest request;
    request.user = user_;
    request.verb = std::move(verb);
    request.resource = Registry::Get().Find(gvr);
    if (request.resource == nullptr) return api::UnknownPath();
    if (!subresource.empty() && request.resource->FindSubresource(subresource) == nullptr)
      return api::UnknownPath();
    request.subresource = subresource;
    if (request.resource->type->namespaced) request.ns = ns;
    request.name = name;
    return request;
  }

  static absl::StatusOr<api::ObjectPtr> ObjectOf(absl::StatusOr<ApiResult> result) {
    if (!result.ok()) return result.status();
    return std::move(result->object);
  }

  Pipeline& pipeline_;
  const UserInfo user_;
};

}  // namespace

std::unique_ptr<client::ApiClient> NewLocalClient(Pipeline& pipeline, UserInfo user) {
  return std::make_unique<LocalClient>(pipeline, std::move(user));
}

}  // namespace keelson::master
