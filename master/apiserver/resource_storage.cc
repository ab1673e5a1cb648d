#include "master/apiserver/resource_storage.h"

#include "api/codec.h"
#include "base/log.h"
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
  options.encode = EncodeForStoreAgain;
  options.stamp = [](api::Message& object, Revision revision) {
    api::MutableMeta(object).set_resource_version(StrCat(revision));
  };
  options.bookmark_interval = bookmark_interval;
  return options;
}

}  // namespace

std::string EncodeForStore(api::Message& object) {
  api::MutableMeta(object).clear_resource_version();
  api::MutableMeta(object).clear_self_link();
  return api::EncodeProtobuf(object);
}

// The metadata comes first in every kind: only that is copied.
std::string EncodeForStoreAgain(const api::Message& object) {
  constexpr char kMetadataTag = '\x0a';  // field 1, bytes
  const std::string raw = api::SerializeDeterministic(object);
  ::k8s::meta::v1::ObjectMeta meta = api::Meta(object);
  const size_t meta_bytes = meta.ByteSizeLong();
  meta.clear_resource_version();
  meta.clear_self_link();
  const std::string stored_meta = api::SerializeDeterministic(meta);
  size_t rest = 1;  // after the tag and the length
  while (rest < raw.size() && (raw[rest] & 0x80) != 0) ++rest;
  rest += 1 + meta_bytes;
  KEELSON_CHECK(raw.size() >= rest && raw[0] == kMetadataTag, "metadata is not the first field of ",
                object.GetTypeName());
  std::string stored(1, kMetadataTag);
  size_t length = stored_meta.size();
  for (; length >= 0x80; length >>= 7) stored.push_back(static_cast<char>(length | 0x80));
  stored.push_back(static_cast<char>(length));
  stored.append(stored_meta).append(raw, rest);
  const api::TypeInfo& type = api::TypeOf(object);
  return api::WrapProtobuf(type.api_version, type.gvk.kind, stored);
}

ResourceStorage::ResourceStorage(Env& env, Store& store, const ResourceInfo& resource,
                                 absl::Duration bookmark_interval)
    : store_(store), resource_(resource), cache_(env, store, CacheOptions(resource, bookmark_interval)) {}

CachedObjectPtr ResourceStorage::Read(const std::string& key) {
  cache_.CatchUp();
  return cache_.Get(key);
}

namespace {

// Hands the object of a write to the cache while the write is under way.
class Handover {
 public:
  Handover(WatchCache& cache, Bytes bytes, std::shared_ptr<api::Message> object)
      : cache_(cache), bytes_(std::move(bytes)), object_(std::move(object)) {
    cache_.Expect(bytes_, object_);
  }
  ~Handover() {
    if (object_ != nullptr) cache_.Withdraw(bytes_);
  }
  Handover(const Handover&) = delete;
  Handover& operator=(const Handover&) = delete;
  const Bytes& bytes() const { return bytes_; }

  // The object as the write at `revision` stored it.
  api::ObjectPtr Finish(Revision revision) {
    if (cache_.Withdraw(bytes_)) api::MutableMeta(*object_).set_resource_version(StrCat(revision));
    return api::ObjectPtr(std::exchange(object_, nullptr));
  }

 private:
  WatchCache& cache_;
  const Bytes bytes_;
  std::shared_ptr<api::Message> object_;
};

}  // namespace

Task<absl::StatusOr<api::ObjectPtr>> ResourceStorage::Create(std::string key,
                                                             std::shared_ptr<api::Message> object) {
  auto bytes = std::make_shared<const std::string>(EncodeForStore(*object));
  Handover handover(cache_, std::move(bytes), std::move(object));
  Task<absl::StatusOr<Revision>> write = store_.Create(std::move(key), handover.bytes());
  absl::StatusOr<Revision> revision = co_await std::move(write);
  if (!revision.ok()) co_return revision.status();
  co_return handover.Finish(*revision);
}

Task<absl::StatusOr<api::ObjectPtr>> ResourceStorage::Update(CachedObjectPtr current,
                                                             std::shared_ptr<api::Message> object) {
  auto bytes = std::make_shared<const std::string>(EncodeForStore(*object));
  if (cache_.HasBytes(*current, *bytes)) {
    api::MutableMeta(*object).set_resource_version(StrCat(current->revision()));
    co_return api::ObjectPtr(std::move(object));
  }
  Handover handover(cache_, std::move(bytes), std::move(object));
  Task<absl::StatusOr<Revision>> write = store_.Update(current->key(), current->revision(), handover.bytes());
  absl::StatusOr<Revision> revision = co_await std::move(write);
  if (!revision.ok()) co_return revision.status();
  co_return handover.Finish(*revision);
}

}  // namespace keelson::master
