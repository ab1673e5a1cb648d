// CachedObjects: the ConfigMaps and Secrets the pods of this node name, each fetched when first asked for
// after a pod was registered and then once a minute (with jitter) for as long as a pod names it; immutable
// ones once. A server that does not answer leaves the last known object in use. One loop.
#pragma once

#include <absl/time/time.h>

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <tuple>

#include "base/env.h"
#include "base/task.h"
#include "client/api_client.h"
#include "kubelet/object_cache.h"

namespace keelson::kubelet {

inline constexpr absl::Duration kObjectTtl = absl::Minutes(1);

class CachedObjects : public ObjectCache {
 public:
  // `client` null (static pods only): every object is NotFound. Both outlive Stop().
  CachedObjects(Env& env, client::ApiClient* client, absl::Duration ttl = kObjectTtl);
  ~CachedObjects() override;

  void RegisterPod(const PodPtr& pod) override;
  void UnregisterPod(const std::string& uid) override;
  Task<absl::StatusOr<std::shared_ptr<const corev1::ConfigMap>>> GetConfigMap(std::string ns,
                                                                              std::string name) override;
  Task<absl::StatusOr<std::shared_ptr<const corev1::Secret>>> GetSecret(std::string ns,
                                                                        std::string name) override;

  // Called on the loop when a refresh found another version, or none any more. kind: "ConfigMap" or "Secret".
  void set_change_listener(
      std::function<void(const std::string& kind, const std::string& ns, const std::string& name)> fn) {
    on_change_ = std::move(fn);
  }
  size_t size() const { return entries_.size(); }
  Task<void> Stop();

 private:
  struct Key {
    bool secret;
    std::string ns, name;
    auto operator<=>(const Key&) const = default;
  };
  struct Entry {
    std::set<std::string> pods;  // UIDs
    api::ObjectPtr object;       // null: not there, or never fetched
    bool fetched = false;        // since the last registration
    bool immutable = false;
    absl::Duration fetched_at;
    AsyncMutex mutex;
  };
  using EntryPtr = std::shared_ptr<Entry>;

  static std::set<Key> ReferencesOf(const corev1::Pod& pod);
  Task<absl::StatusOr<api::ObjectPtr>> Fetch(Key key);
  Task<absl::StatusOr<api::ObjectPtr>> Get(Key key);
  Task<absl::Status> Refresh(Key key, EntryPtr entry);
  Task<void> RefreshLoop();
  void Drop(const std::string& uid, const Key& key);

  Env& env_;
  client::ApiClient* client_;
  const absl::Duration ttl_;
  std::map<Key, EntryPtr> entries_;
  std::map<std::string, std::set<Key>> pods_;  // UID -> what it names
  std::function<void(const std::string&, const std::string&, const std::string&)> on_change_;
  Scope scope_;
};

}  // namespace keelson::kubelet
