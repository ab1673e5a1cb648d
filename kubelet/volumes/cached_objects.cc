#include "kubelet/volumes/cached_objects.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "api/status_error.h"
#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"
#include "kubelet/environment.h"

namespace keelson::kubelet {
namespace {

bool IsImmutable(const api::ObjectPtr& object) {
  if (auto map = api::As<corev1::ConfigMap>(object)) return map->immutable();
  if (auto secret = api::As<corev1::Secret>(object)) return secret->immutable();
  return false;
}

std::string VersionOf(const api::ObjectPtr& object) {
  return object == nullptr ? "" : api::Meta(*object).resource_version();
}

}  // namespace

CachedObjects::CachedObjects(Env& env, client::ApiClient* client, absl::Duration ttl)
    : env_(env), client_(client), ttl_(ttl), scope_(env.executor()) {
  scope_.Spawn("refresh configmaps and secrets", RefreshLoop());
}

CachedObjects::~CachedObjects() = default;

Task<void> CachedObjects::Stop() {
  Task<void> close = scope_.Close();
  co_await std::move(close);
}

std::set<CachedObjects::Key> CachedObjects::ReferencesOf(const corev1::Pod& pod) {
  std::set<Key> keys;
  const std::string& ns = pod.metadata().namespace_();
  auto add = [&](bool secret, const std::string& name) {
    if (!name.empty()) keys.insert(Key{secret, ns, name});
  };
  auto add_container = [&](const corev1::Container& container) {
    // kubelet::ReferencesOf, of environment.h.
    EnvReferences references = ::keelson::kubelet::ReferencesOf(container);
    for (const std::string& name : references.config_maps) add(false, name);
    for (const std::string& name : references.secrets) add(true, name);
  };
  for (const auto& container : pod.spec().init_containers()) add_container(container);
  for (const auto& container : pod.spec().containers()) add_container(container);
  for (const auto& container : pod.spec().ephemeral_containers())
    add_container(EphemeralAsContainer(container));
  for (const auto& reference : pod.spec().image_pull_secrets()) add(true, reference.name());
  for (const auto& volume : pod.spec().volumes()) {
    const auto& source = volume.volume_source();
    if (source.has_config_map()) add(false, source.config_map().local_object_reference().name());
    if (source.has_secret()) add(true, source.secret().secret_name());
    for (const auto& projection : source.projected().sources()) {
      if (projection.has_config_map()) add(false, projection.config_map().local_object_reference().name());
      if (projection.has_secret()) add(true, projection.secret().local_object_reference().name());
    }
  }
  return keys;
}

void CachedObjects::RegisterPod(const PodPtr& pod) {
  const std::string& uid = PodUid(*pod);
  std::set<Key> wanted = ReferencesOf(*pod);
  std::set<Key>& known = pods_[uid];
  for (const Key& key : wanted) {
    EntryPtr& entry = entries_[key];
    if (entry == nullptr) entry = std::make_shared<Entry>();
    // New to this pod: what was fetched for another may be older than this pod.
    if (entry->pods.insert(uid).second && !entry->immutable) entry->fetched = false;
  }
  std::set<Key> before = std::exchange(known, wanted);
  for (const Key& key : before) {
    if (!wanted.contains(key)) Drop(uid, key);
  }
  if (wanted.empty()) pods_.erase(uid);
}

void CachedObjects::UnregisterPod(const std::string& uid) {
  auto pod = pods_.find(uid);
  if (pod == pods_.end()) return;
  for (const Key& key : pod->second) Drop(uid, key);
  pods_.erase(pod);
}

void CachedObjects::Drop(const std::string& uid, const Key& key) {
  auto entry = entries_.find(key);
  if (entry == entries_.end()) return;
  entry->second->pods.erase(uid);
  if (entry->second->pods.empty()) entries_.erase(entry);
}

Task<absl::StatusOr<api::ObjectPtr>> CachedObjects::Fetch(Key key) {
  if (client_ == nullptr) {
    co_return absl::NotFoundError(StrCat(key.secret ? "secret" : "configmap", " \"", key.name,
                                         "\" not found: this kubelet has no API server"));
  }
  auto gvr = key.secret ? client::GvrOf<corev1::Secret>() : client::GvrOf<corev1::ConfigMap>();
  Task<absl::StatusOr<api::ObjectPtr>> get = client_->Get(gvr, key.ns, key.name);
  co_return co_await std::move(get);
}

// Under the entry's mutex.
Task<absl::Status> CachedObjects::Refresh(Key key, EntryPtr entry) {
  Task<absl::StatusOr<api::ObjectPtr>> fetch = Fetch(key);
  absl::StatusOr<api::ObjectPtr> object = co_await std::move(fetch);
  if (!object.ok() && !api::IsNotFound(object.status())) co_return object.status();
  std::string before = VersionOf(entry->object);
  bool had = entry->object != nullptr || entry->fetched;
  entry->object = object.ok() ? *object : nullptr;
  entry->immutable = object.ok() && IsImmutable(*object);
  entry->fetched = true;
  entry->fetched_at = env_.clock().Monotonic();
  if (had && before != VersionOf(entry->object) && on_change_) {
    on_change_(key.secret ? "Secret" : "ConfigMap", key.ns, key.name);
  }
  co_return object.ok() ? absl::OkStatus() : object.status();
}

Task<absl::StatusOr<api::ObjectPtr>> CachedObjects::Get(Key key) {
  auto found = entries_.find(key);
  if (found == entries_.end()) {
    Task<absl::StatusOr<api::ObjectPtr>> fetch = Fetch(key);
    co_return co_await std::move(fetch);
  }
  EntryPtr entry = found->second;
  Task<AsyncMutex::Guard> lock = entry->mutex.Lock();
  AsyncMutex::Guard guard = co_await std::move(lock);
  // An object that was not there is asked for again each time: whoever waits for it waits for its creation.
  if (!entry->fetched || entry->object == nullptr) {
    Task<absl::Status> refresh = Refresh(key, entry);
    absl::Status status = co_await std::move(refresh);
    if (!status.ok()) co_return status;
  }
  co_return entry->object;
}

Task<absl::StatusOr<std::shared_ptr<const corev1::ConfigMap>>> CachedObjects::GetConfigMap(std::string ns,
                                                                                           std::string name) {
  Key key{false, std::move(ns), std::move(name)};
  CO_ASSIGN_OR_RETURN(api::ObjectPtr object, Get(key));
  co_return api::As<corev1::ConfigMap>(object);
}

Task<absl::StatusOr<std::shared_ptr<const corev1::Secret>>> CachedObjects::GetSecret(std::string ns,
                                                                                     std::string name) {
  Key key{true, std::move(ns), std::move(name)};
  CO_ASSIGN_OR_RETURN(api::ObjectPtr object, Get(key));
  co_return api::As<corev1::Secret>(object);
}

Task<void> CachedObjects::RefreshLoop() {
  while (true) {
    // Looks four times per TTL, so that an object is at most a quarter late.
    Task<void> sleep = env_.clock().Sleep(ttl_ / 4);
    co_await std::move(sleep);
    std::vector<Key> due;
    absl::Duration now = env_.clock().Monotonic();
    for (const auto& [key, entry] : entries_) {
      if (entry->fetched && !entry->immutable && now - entry->fetched_at >= ttl_) due.push_back(key);
    }
    for (const Key& key : due) {
      auto found = entries_.find(key);
      if (found == entries_.end()) continue;
      EntryPtr entry = found->second;
      Task<AsyncMutex::Guard> lock = entry->mutex.Lock();
      AsyncMutex::Guard guard = co_await std::move(lock);
      Task<absl::Status> refresh = Refresh(key, entry);
      absl::Status status = co_await std::move(refresh);
      if (!status.ok() && !api::IsNotFound(status)) {
        LogWarning("cannot refresh, the last known version stays in use",
                   {{"object", StrCat(key.secret ? "secret " : "configmap ", key.ns, "/", key.name)},
                    {"error", status}});
      }
    }
  }
}

}  // namespace keelson::kubelet
