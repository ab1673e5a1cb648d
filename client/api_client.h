// ApiClient: the Kubernetes API as a C++ interface. HttpApiClient (client/http_api_client.h) speaks to any
// API server, the master's LocalClient runs the same pipeline in process, FakeApiClient (client/testing)
// serves unit tests.
//
// Objects are shared immutable messages (api/object.h). Errors carry meta.v1.Status (api/status_error.h:
// IsNotFound, IsConflict, IsGone, ...); a server that cannot be reached is Unavailable. One loop; cancelling
// the task ends the call.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "api/object.h"
#include "api/scheme.h"
#include "base/task.h"

namespace keelson::client {

using api::Message;
using api::ObjectPtr;

// Default bound of every call but Watch.
inline constexpr absl::Duration kDefaultCallTimeout = absl::Seconds(30);

struct ListOptions {
  std::string label_selector, field_selector;  // as in the query string; "": all
  std::string resource_version;                // "": most recent; "0": anything the server has
  int64_t limit = 0;                           // 0: everything (the client follows `continue` itself)
  std::string continue_token;
};

struct ObjectList {
  std::vector<ObjectPtr> items;
  std::string resource_version;
  std::string continue_token;  // only with ListOptions::limit
};

enum class WatchEventType { kAdded, kModified, kDeleted, kBookmark };

struct WatchEvent {
  WatchEventType type = WatchEventType::kAdded;
  ObjectPtr object;              // kBookmark: null
  std::string resource_version;  // of the object or bookmark
};

struct WatchOptions {
  std::string label_selector, field_selector;
  std::string resource_version;  // events after this one
  bool bookmarks = true;
  std::optional<int64_t> timeout_s;
};

// One watch stream; destroying it ends the watch.
class Watcher {
 public:
  virtual ~Watcher() = default;
  // Next event. nullopt: the server ended the stream in the ordinary way (watch again from the last
  // resourceVersion). IsGone: the resourceVersion is too old, list again. Unavailable: connection lost.
  virtual Task<absl::StatusOr<std::optional<WatchEvent>>> Next() = 0;
};

enum class PatchType { kJson, kMerge, kStrategicMerge, kApply };

struct DeleteOptions {
  std::optional<int64_t> grace_period_s;
  std::string precondition_uid;
  std::string precondition_resource_version;
  std::string propagation_policy;  // "", "Orphan", "Background", "Foreground"
};

class ApiClient {
 public:
  virtual ~ApiClient() = default;

  // `ns` is "" for cluster-scoped resources, and in List/Watch for all namespaces. `subresource` is "" or
  // "status", "scale", "binding", ... Objects passed in need no apiVersion/kind: the message type says it.
  virtual Task<absl::StatusOr<ObjectPtr>> Get(api::GroupVersionResource gvr, std::string ns,
                                              std::string name) = 0;
  virtual Task<absl::StatusOr<ObjectList>> List(api::GroupVersionResource gvr, std::string ns,
                                                ListOptions options) = 0;
  virtual Task<absl::StatusOr<std::unique_ptr<Watcher>>> Watch(api::GroupVersionResource gvr, std::string ns,
                                                               WatchOptions options) = 0;
  // `name` is used with a subresource only (pods/NAME/binding). Result: what the server stored.
  virtual Task<absl::StatusOr<ObjectPtr>> Create(api::GroupVersionResource gvr, std::string ns,
                                                 ObjectPtr object, std::string name = "",
                                                 std::string subresource = "") = 0;
  // Conflict when metadata.resourceVersion is set and not the current one.
  virtual Task<absl::StatusOr<ObjectPtr>> Update(api::GroupVersionResource gvr, std::string ns,
                                                 ObjectPtr object, std::string subresource = "") = 0;
  // `patch` is the JSON document.
  virtual Task<absl::StatusOr<ObjectPtr>> Patch(api::GroupVersionResource gvr, std::string ns,
                                                std::string name, PatchType type, std::string patch,
                                                std::string subresource = "") = 0;
  virtual Task<absl::Status> Delete(api::GroupVersionResource gvr, std::string ns, std::string name,
                                    DeleteOptions options) = 0;

  // ---- typed forms; T is a generated message whose kind is in the scheme ----
  template <class T>
  Task<absl::StatusOr<std::shared_ptr<const T>>> Get(std::string ns, std::string name) {
    return Cast<T>(Get(api::Scheme::Get().Of(T::default_instance()).gvr(), std::move(ns), std::move(name)));
  }
  template <class T>
  Task<absl::StatusOr<std::shared_ptr<const T>>> Create(T object) {
    std::string ns = object.metadata().namespace_();
    api::GroupVersionResource gvr = api::TypeOf(object).gvr();
    return Cast<T>(Create(std::move(gvr), std::move(ns), std::make_shared<const T>(std::move(object))));
  }
  template <class T>
  Task<absl::StatusOr<std::shared_ptr<const T>>> Update(T object, std::string subresource = "") {
    std::string ns = object.metadata().namespace_();
    api::GroupVersionResource gvr = api::TypeOf(object).gvr();
    return Cast<T>(Update(std::move(gvr), std::move(ns), std::make_shared<const T>(std::move(object)),
                          std::move(subresource)));
  }
  template <class T>
  Task<absl::StatusOr<std::shared_ptr<const T>>> Patch(std::string ns, std::string name, PatchType type,
                                                       std::string patch, std::string subresource = "") {
    return Cast<T>(Patch(api::Scheme::Get().Of(T::default_instance()).gvr(), std::move(ns), std::move(name),
                         type, std::move(patch), std::move(subresource)));
  }
  template <class T>
  Task<absl::Status> Delete(std::string ns, std::string name, DeleteOptions options = {}) {
    return Delete(api::Scheme::Get().Of(T::default_instance()).gvr(), std::move(ns), std::move(name),
                  std::move(options));
  }

 private:
  template <class T>
  static Task<absl::StatusOr<std::shared_ptr<const T>>> Cast(Task<absl::StatusOr<ObjectPtr>> task) {
    absl::StatusOr<ObjectPtr> object = co_await std::move(task);
    if (!object.ok()) co_return object.status();
    auto typed = api::As<T>(*object);
    if (typed == nullptr) co_return absl::InternalError("the server answered with an object of another kind");
    co_return typed;
  }
};

// GVR of a message type.
template <class T>
api::GroupVersionResource GvrOf() {
  return api::Scheme::Get().Of(T::default_instance()).gvr();
}

}  // namespace keelson::client
