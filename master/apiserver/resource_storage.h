// ResourceStorage: the objects of one resource: a WatchCache for reading and the Store for writing, with the
// codec between messages and stored bytes (the Kubernetes protobuf envelope, without resourceVersion).
#pragma once

#include <memory>
#include <string>

#include "api/object.h"
#include "base/env.h"
#include "base/task.h"
#include "master/apiserver/registry.h"
#include "master/store/store.h"
#include "master/store/watch_cache.h"

namespace keelson::master {

class ResourceStorage {
 public:
  ResourceStorage(Env& env, Store& store, const ResourceInfo& resource, absl::Duration bookmark_interval);

  Task<absl::Status> Start() { return cache_.Start(); }
  Task<void> Stop() { return cache_.Stop(); }
  const ResourceInfo& resource() const { return resource_; }
  WatchCache& cache() { return cache_; }
  const WatchCache& cache() const { return cache_; }

  // Everything acknowledged so far is visible; null when absent.
  CachedObjectPtr Read(const std::string& key);
  // As Read, for const readers that tolerate a cache behind by what is queued.
  CachedObjectPtr Peek(const std::string& key) const { return cache_.Get(key); }

  // The object as stored, resourceVersion set. Errors of the Store.
  Task<absl::StatusOr<api::ObjectPtr>> Create(std::string key, std::shared_ptr<api::Message> object);
  // `current` is what the decision was made on. An object that encodes to the same bytes is not written.
  Task<absl::StatusOr<api::ObjectPtr>> Update(CachedObjectPtr current, std::shared_ptr<api::Message> object);
  Task<absl::StatusOr<Revision>> Delete(std::string key, Revision expected) {
    return store_.Delete(std::move(key), expected);
  }

 private:
  Store& store_;
  const ResourceInfo& resource_;
  WatchCache cache_;
};

// Deterministic bytes of `object` without its resourceVersion (which is taken out of the message, too).
std::string EncodeForStore(api::Message& object);
// The same of an object that nobody may change.
std::string EncodeForStoreAgain(const api::Message& object);

}  // namespace keelson::master
