#include "master/apiserver/resource_storage.h"

#include "api/codec.h"
#include "base/status.h"
#include "base/strings.h"

namespace keelson::master {
namespace {

DecodeFn DecoderOf(const ResourceInfo& resource) {
  const api::Message* prototype = resource.type->prototype;
  return [prototype](std::string_view key, const std::string& bytes,
                     Revision revision) -> absl::StatusOr<MessagePtr> {
    std::shared_ptr<api::Message> object(prototype->New());
    absl::StatusOr<::k8s::runtime::Unknown> envelope = api::UnwrapProtobuf(bytes);
    if (!envelope.ok()) return Annotate(envelope.status(), StrCat("stored object ", key));
    if (!object->ParseFromString(envelope->raw())) {
      return absl::DataLossError(
          StrCat("stored object ", key, " does not parse as ", prototype->GetTypeName()));
    }
    api::MutableMeta(*object).set_resource_version(StrCat(revision));
    return MessagePtr(std::move(object));
  };
}

WatchCacheOptions CacheOptions(const ResourceInfo& resource, absl::Duration bookmark_interval) {
  WatchCacheOptions options;
  options.prefix = resource.storage_prefix;
  options.decode = DecoderOf(resource);
  options.bookmark_interval = bookmark_interval;
  return options;
}

}  // namespace

std::string EncodeForStore(api::Message& object) {
  api::MutableMeta(object).clear_resource_version();
  api::MutableMeta(object).clear_self_link();
  return api::EncodeProtobuf(object);
}

ResourceStorage::ResourceStorage(Env& env, Store& store, const ResourceInfo& resource,
                                 absl::Duration bookmark_interval)
    : store_(store), resource_(resource), cache_(env, store, CacheOptions(resource, bookmark_interval)) {}

CachedObjectPtr ResourceStorage::Read(const std::string& key) {
  cache_.CatchUp();
  return cache_.Get(key);
}

Task<absl::StatusOr<api::ObjectPtr>> ResourceStorage::Create(std::string key,
                                                             std::shared_ptr<api::Message> object) {
  auto bytes = std::make_shared<const std::string>(EncodeForStore(*object));
  Task<absl::StatusOr<Revision>> write = store_.Create(std::move(key), std::move(bytes));
  absl::StatusOr<Revision> revision = co_await std::move(write);
  if (!revision.ok()) co_return revision.status();
  api::MutableMeta(*object).set_resource_version(StrCat(*revision));
  co_return api::ObjectPtr(std::move(object));
}

Task<absl::StatusOr<api::ObjectPtr>> ResourceStorage::Update(CachedObjectPtr current,
                                                             std::shared_ptr<api::Message> object) {
  auto bytes = std::make_shared<const std::string>(EncodeForStore(*object));
  if (*bytes == *current->bytes()) {
    api::MutableMeta(*object).set_resource_version(StrCat(current->revision()));
    co_return api::ObjectPtr(std::move(object));
  }
  Task<absl::StatusOr<Revision>> write = store_.Update(current->key(), current->revision(), std::move(bytes));
  absl::StatusOr<Revision> revision = co_await std::move(write);
  if (!revision.ok()) co_return revision.status();
  api::MutableMeta(*object).set_resource_version(StrCat(*revision));
  co_return api::ObjectPtr(std::move(object));
}

}  // namespace keelson::master
