#include "client/testing/fake_api_client.h"

#include <absl/strings/numbers.h>

#include <deque>

#include "api/codec.h"
#include "api/core/v1/misc.pb.h"
#include "api/core/v1/pod.pb.h"
#include "api/fields.h"
#include "api/labels.h"
#include "api/patch.h"
#include "api/status_error.h"
#include "api/time.h"
#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"

namespace keelson::client {

namespace corev1 = ::k8s::core::v1;

namespace {

std::string TableName(const api::GroupVersionResource& gvr) { return StrCat(gvr.group, "/", gvr.resource); }

std::string Key(const std::string& ns, const std::string& name) {
  return ns.empty() ? name : StrCat(ns, "/", name);
}

std::string CallName(std::string_view verb, const api::GroupVersionResource& gvr,
                     const std::string& subresource = "") {
  return subresource.empty() ? StrCat(verb, " ", gvr.resource)
                             : StrCat(verb, " ", gvr.resource, "/", subresource);
}

int64_t RevisionOf(const std::string& text) {
  int64_t revision = 0;
  return absl::SimpleAtoi(text, &revision) ? revision : 0;
}

std::string FieldOf(const Message& object, std::string_view field) {
  const auto& meta = api::Meta(object);
  if (field == "metadata.name") return meta.name();
  if (field == "metadata.namespace") return meta.namespace_();
  if (const auto* pod = api::As<corev1::Pod>(object)) {
    if (field == "spec.nodeName") return pod->spec().node_name();
    if (field == "status.phase") return pod->status().phase();
  }
  KEELSON_CHECK(false, "FakeApiClient does not know the field selector ", field);
  return "";
}

struct Selection {
  std::string ns;
  api::LabelSelector labels;
  api::FieldSelector fields;
  bool Matches(const Message& object) const {
    const auto& meta = api::Meta(object);
    if (!ns.empty() && meta.namespace_() != ns) return false;
    if (!labels.Matches(meta.labels())) return false;
    return fields.Matches([&](std::string_view field) { return FieldOf(object, field); });
  }
};

absl::StatusOr<Selection> MakeSelection(const std::string& ns, const std::string& labels,
                                        const std::string& fields) {
  Selection selection;
  selection.ns = ns;
  ASSIGN_OR_RETURN(selection.labels, api::LabelSelector::Parse(labels));
  ASSIGN_OR_RETURN(selection.fields, api::FieldSelector::Parse(fields));
  return selection;
}

}  // namespace

struct FakeApiClient::Stream {
  std::string resource;
  Selection selection;
  std::deque<WatchEvent> events;
  bool ended = false;
  bool gone = false;
  WaitList changed;
};

class FakeWatcher : public Watcher {
 public:
  FakeWatcher(FakeApiClient* client, std::shared_ptr<FakeApiClient::Stream> stream)
      : client_(client), stream_(std::move(stream)) {}
  ~FakeWatcher() override { client_->streams_.erase(stream_); }

  Task<absl::StatusOr<std::optional<WatchEvent>>> Next() override {
    while (stream_->events.empty() && !stream_->ended) {
      Task<void> wait = stream_->changed.Wait();
      co_await std::move(wait);
    }
    if (stream_->gone) co_return api::Expired("too old resource version");
    if (stream_->events.empty()) co_return std::optional<WatchEvent>();
    WatchEvent event = std::move(stream_->events.front());
    stream_->events.pop_front();
    co_return std::optional<WatchEvent>(std::move(event));
  }

 private:
  FakeApiClient* client_;
  std::shared_ptr<FakeApiClient::Stream> stream_;
};

FakeApiClient::FakeApiClient(Env& env) : env_(env) {}
FakeApiClient::~FakeApiClient() = default;

const std::map<std::string, ObjectPtr>& FakeApiClient::Table(const api::GroupVersionResource& gvr) const {
  static const auto* empty = new std::map<std::string, ObjectPtr>();
  auto it = tables_.find(TableName(gvr));
  return it == tables_.end() ? *empty : it->second;
}

absl::Status FakeApiClient::Begin(const std::string& call) {
  ++calls_[call];
  return fault_ ? fault_(call) : absl::OkStatus();
}

int FakeApiClient::calls(const std::string& call) const {
  auto it = calls_.find(call);
  return it == calls_.end() ? 0 : it->second;
}

void FakeApiClient::Publish(const std::string& resource, WatchEventType type, const ObjectPtr& object) {
  WatchEvent event{type, object, api::Meta(*object).resource_version()};
  log_.push_back({resource, event, revision_});
  for (const auto& stream : streams_) {
    if (stream->resource != resource || !stream->selection.Matches(*object)) continue;
    stream->events.push_back(event);
    stream->changed.NotifyAll();
  }
}

ObjectPtr FakeApiClient::Store(std::unique_ptr<Message> object, WatchEventType type) {
  const api::TypeInfo& info = api::TypeOf(*object);
  api::MutableMeta(*object).set_resource_version(StrCat(++revision_));
  ObjectPtr stored(std::move(object));
  auto& table = tables_[TableName(info.gvr())];
  std::string key = api::NamespacedName(*stored);
  if (type == WatchEventType::kDeleted) {
    table.erase(key);
  } else {
    table[key] = stored;
  }
  Publish(TableName(info.gvr()), type, stored);
  return stored;
}

ObjectPtr FakeApiClient::Put(const Message& object) {
  auto copy = api::CloneMessage(object);
  auto& meta = api::MutableMeta(*copy);
  if (meta.uid().empty()) meta.set_uid(env_.random().Uuid());
  if (!meta.has_creation_timestamp()) *meta.mutable_creation_timestamp() = api::ToApiTime(env_.clock().Now());
  bool known = Find(api::TypeOf(object).gvr(), api::NamespacedName(object)) != nullptr;
  return Store(std::move(copy), known ? WatchEventType::kModified : WatchEventType::kAdded);
}

void FakeApiClient::Remove(const api::GroupVersionResource& gvr, const std::string& key) {
  ObjectPtr object = Find(gvr, key);
  if (object != nullptr) Store(api::CloneMessage(*object), WatchEventType::kDeleted);
}

ObjectPtr FakeApiClient::Find(const api::GroupVersionResource& gvr, const std::string& key) const {
  const auto& table = Table(gvr);
  auto it = table.find(key);
  return it == table.end() ? nullptr : it->second;
}

void FakeApiClient::EndWatches(bool gone) {
  if (gone) {
    oldest_ = revision_;
    log_.clear();
  }
  for (const auto& stream : streams_) {
    stream->ended = true;
    stream->gone = gone;
    stream->changed.NotifyAll();
  }
}

Task<absl::StatusOr<ObjectPtr>> FakeApiClient::Get(api::GroupVersionResource gvr, std::string ns,
                                                   std::string name) {
  CO_RETURN_IF_ERROR_SYNC(Begin(CallName("get", gvr)));
  ObjectPtr object = Find(gvr, Key(ns, name));
  if (object == nullptr) co_return api::NotFound(gvr.group_resource(), name);
  co_return object;
}

Task<absl::StatusOr<ObjectList>> FakeApiClient::List(api::GroupVersionResource gvr, std::string ns,
                                                     ListOptions options) {
  CO_RETURN_IF_ERROR_SYNC(Begin(CallName("list", gvr)));
  CO_ASSIGN_OR_RETURN_SYNC(Selection selection,
                           MakeSelection(ns, options.label_selector, options.field_selector));
  ObjectList list;
  for (const auto& [key, object] : Table(gvr)) {
    if (selection.Matches(*object)) list.items.push_back(object);
  }
  list.resource_version = StrCat(revision_);
  co_return list;
}

Task<absl::StatusOr<std::unique_ptr<Watcher>>> FakeApiClient::Watch(api::GroupVersionResource gvr,
                                                                    std::string ns, WatchOptions options) {
  CO_RETURN_IF_ERROR_SYNC(Begin(CallName("watch", gvr)));
  auto stream = std::make_shared<Stream>();
  stream->resource = TableName(gvr);
  CO_ASSIGN_OR_RETURN_SYNC(stream->selection,
                           MakeSelection(ns, options.label_selector, options.field_selector));
  int64_t after = RevisionOf(options.resource_version);
  if (after != 0 && after < oldest_) co_return api::Expired("too old resource version");
  for (const Logged& logged : log_) {
    if (logged.revision > after && logged.resource == stream->resource &&
        stream->selection.Matches(*logged.event.object)) {
      stream->events.push_back(logged.event);
    }
  }
  streams_.insert(stream);
  co_return std::unique_ptr<Watcher>(std::make_unique<FakeWatcher>(this, stream));
}

Task<absl::StatusOr<ObjectPtr>> FakeApiClient::Create(api::GroupVersionResource gvr, std::string ns,
                                                      ObjectPtr object, std::string name,
                                                      std::string subresource) {
  CO_RETURN_IF_ERROR_SYNC(Begin(CallName("create", gvr, subresource)));
  if (subresource == "binding") {
    ObjectPtr current = Find(gvr, Key(ns, name));
    if (current == nullptr) co_return api::NotFound(gvr.group_resource(), name);
    auto copy = api::CloneMessage(*current);
    auto* pod = static_cast<corev1::Pod*>(copy.get());
    const auto* binding = api::As<corev1::Binding>(*object);
    if (!pod->spec().node_name().empty())
      co_return api::Conflict(gvr.group_resource(), name, "already assigned");
    pod->mutable_spec()->set_node_name(binding->target().name());
    co_return Store(std::move(copy), WatchEventType::kModified);
  }
  if (subresource == "eviction") {
    Task<absl::Status> evict = Delete(gvr, ns, name, {});
    absl::Status evicted = co_await std::move(evict);
    if (!evicted.ok()) co_return evicted;
    co_return object;
  }
  auto copy = api::CloneMessage(*object);
  auto& meta = api::MutableMeta(*copy);
  if (!ns.empty()) meta.set_namespace_(ns);
  if (meta.name().empty()) meta.set_name(StrCat(meta.generate_name(), env_.random().Suffix(5)));
  if (Find(gvr, Key(meta.namespace_(), meta.name())) != nullptr) {
    co_return api::AlreadyExists(gvr.group_resource(), meta.name());
  }
  meta.set_uid(env_.random().Uuid());
  meta.set_generation(1);
  *meta.mutable_creation_timestamp() = api::ToApiTime(env_.clock().Now());
  co_return Store(std::move(copy), WatchEventType::kAdded);
}

Task<absl::StatusOr<ObjectPtr>> FakeApiClient::Update(api::GroupVersionResource gvr, std::string ns,
                                                      ObjectPtr object, std::string subresource) {
  CO_RETURN_IF_ERROR_SYNC(Begin(CallName("update", gvr, subresource)));
  const auto& meta = api::Meta(*object);
  ObjectPtr current = Find(gvr, Key(ns.empty() ? meta.namespace_() : ns, meta.name()));
  if (current == nullptr) co_return api::NotFound(gvr.group_resource(), meta.name());
  const std::string& expected = meta.resource_version();
  if (!expected.empty() && expected != api::Meta(*current).resource_version()) {
    co_return api::Conflict(gvr.group_resource(), meta.name());
  }
  auto copy = api::CloneMessage(*object);
  if (subresource == "status") {
    // Only the status is taken over.
    auto merged = api::CloneMessage(*current);
    const auto* field = merged->GetDescriptor()->FindFieldByName("status");
    const auto* reflection = merged->GetReflection();
    reflection->MutableMessage(merged.get(), field)->CopyFrom(reflection->GetMessage(*copy, field));
    copy = std::move(merged);
  }
  bool finished = api::Meta(*copy).has_deletion_timestamp() && api::Meta(*copy).finalizers().empty() &&
                  !api::Meta(*current).finalizers().empty();
  co_return Store(std::move(copy), finished ? WatchEventType::kDeleted : WatchEventType::kModified);
}

Task<absl::StatusOr<ObjectPtr>> FakeApiClient::Patch(api::GroupVersionResource gvr, std::string ns,
                                                     std::string name, PatchType type, std::string text,
                                                     std::string subresource) {
  CO_RETURN_IF_ERROR_SYNC(Begin(CallName("patch", gvr, subresource)));
  ObjectPtr current = Find(gvr, Key(ns, name));
  if (current == nullptr) co_return api::NotFound(gvr.group_resource(), name);
  api::PatchKind kind = type == PatchType::kJson    ? api::PatchKind::kJson
                        : type == PatchType::kMerge ? api::PatchKind::kMerge
                                                    : api::PatchKind::kStrategicMerge;
  CO_ASSIGN_OR_RETURN_SYNC(api::Patch patch, api::Patch::Parse(kind, text));
  CO_ASSIGN_OR_RETURN_SYNC(std::string json,
                           patch.Apply(api::EncodeJson(*current), *current->GetDescriptor()));
  std::unique_ptr<Message> patched(current->New());
  CO_RETURN_IF_ERROR_SYNC(api::DecodeJsonInto(json, *patched));
  const std::string& uid = api::Meta(*patched).uid();
  if (uid != api::Meta(*current).uid()) co_return api::Conflict(gvr.group_resource(), name, "uid mismatch");
  if (api::Meta(*patched).resource_version() != api::Meta(*current).resource_version()) {
    co_return api::Conflict(gvr.group_resource(), name);
  }
  co_return Store(std::move(patched), WatchEventType::kModified);
}

Task<absl::Status> FakeApiClient::Delete(api::GroupVersionResource gvr, std::string ns, std::string name,
                                         DeleteOptions options) {
  CO_RETURN_IF_ERROR_SYNC(Begin(CallName("delete", gvr)));
  ObjectPtr current = Find(gvr, Key(ns, name));
  if (current == nullptr) co_return api::NotFound(gvr.group_resource(), name);
  const auto& meta = api::Meta(*current);
  if (!options.precondition_uid.empty() && options.precondition_uid != meta.uid()) {
    co_return api::Conflict(gvr.group_resource(), name, "the UID in the precondition does not match");
  }
  auto copy = api::CloneMessage(*current);
  const auto* pod = api::As<corev1::Pod>(*current);
  int64_t grace_s = 0;
  if (pod != nullptr && !pod->spec().node_name().empty()) {
    grace_s = options.grace_period_s.value_or(pod->spec().has_termination_grace_period_seconds()
                                                  ? pod->spec().termination_grace_period_seconds()
                                                  : 30);
  }
  if (grace_s > 0 || !meta.finalizers().empty()) {
    if (meta.has_deletion_timestamp()) co_return absl::OkStatus();
    auto& changed = api::MutableMeta(*copy);
    *changed.mutable_deletion_timestamp() = api::ToApiTime(env_.clock().Now() + absl::Seconds(grace_s));
    changed.set_deletion_grace_period_seconds(grace_s);
    Store(std::move(copy), WatchEventType::kModified);
  } else {
    Store(std::move(copy), WatchEventType::kDeleted);
  }
  co_return absl::OkStatus();
}

}  // namespace keelson::client
