// Informer: list-watch of one resource into an indexed, read-only cache of shared objects, with handlers
// called on every change (abstraction 6). Bookmarks move the resourceVersion; 410 Gone and lost streams lead
// to a re-list, which is diffed against the cache, so handlers see each change once. One loop.
#pragma once

#include <absl/container/flat_hash_map.h>
#include <absl/container/flat_hash_set.h>
#include <absl/status/status.h>
#include <absl/time/time.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/env.h"
#include "base/task.h"
#include "client/api_client.h"

namespace keelson::client {

struct InformerOptions {
  std::string ns;  // "": all namespaces
  std::string label_selector, field_selector;
  absl::Duration min_backoff = absl::Milliseconds(100);  // after a failed list or watch, doubling with jitter
  absl::Duration max_backoff = absl::Seconds(10);
};

// Old is null on add, new is null on delete. Called on the loop, must not block; may call Informer's readers.
using ChangeHandler = std::function<void(const ObjectPtr& before, const ObjectPtr& after)>;
// Index values of an object; "node name of a pod" for instance.
using IndexFunction = std::function<std::vector<std::string>(const Message& object)>;

class Informer {
 public:
  // env and client outlive Stop().
  Informer(Env& env, ApiClient& client, api::GroupVersionResource gvr, InformerOptions options = {});
  ~Informer();

  // Before Start().
  void AddHandler(ChangeHandler handler);
  void AddIndex(const std::string& index, IndexFunction function);

  void Start();
  // Returns when the first list is in the cache and its handlers have run.
  Task<void> WaitForSync();
  bool synced() const { return synced_.is_set(); }
  Task<void> Stop();

  // Readers; consistent between co_awaits. Key: "namespace/name", or "name" for cluster-scoped objects.
  ObjectPtr GetByKey(const std::string& key) const;
  template <class T>
  std::shared_ptr<const T> Get(const std::string& key) const {
    return api::As<T>(GetByKey(key));
  }
  std::vector<ObjectPtr> List() const;  // in key order
  template <class T>
  std::vector<std::shared_ptr<const T>> ListAs() const {
    std::vector<std::shared_ptr<const T>> out;
    out.reserve(objects_.size());
    for (const auto& [key, object] : objects_) out.push_back(std::static_pointer_cast<const T>(object));
    return out;
  }
  std::vector<ObjectPtr> ByIndex(const std::string& index, const std::string& value) const;
  size_t size() const { return objects_.size(); }
  const std::string& resource_version() const { return resource_version_; }
  // How often it listed; 1 in an undisturbed life.
  int lists() const { return lists_; }

 private:
  struct Index {
    IndexFunction function;
    absl::flat_hash_map<std::string, std::map<std::string, ObjectPtr>> objects;  // value -> key -> object
  };

  Task<void> Run();
  Task<absl::Status> ListOnce();
  Task<absl::Status> WatchOnce();
  void Replace(std::vector<ObjectPtr> items);
  void Put(const std::string& key, const ObjectPtr& object);
  void Erase(const std::string& key);
  void Reindex(const std::string& key, const ObjectPtr& before, const ObjectPtr& after);

  Env& env_;
  ApiClient& client_;
  const api::GroupVersionResource gvr_;
  const InformerOptions options_;
  Scope scope_;
  std::vector<ChangeHandler> handlers_;
  std::map<std::string, Index> indexes_;
  std::map<std::string, ObjectPtr> objects_;
  std::string resource_version_;
  AsyncEvent synced_;
  int lists_ = 0;
};

}  // namespace keelson::client
