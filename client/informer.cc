#include "client/informer.h"

#include <algorithm>
#include <utility>

#include "api/status_error.h"
#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"

namespace keelson::client {

Informer::Informer(Env& env, ApiClient& client, api::GroupVersionResource gvr, InformerOptions options)
    : env_(env),
      client_(client),
      gvr_(std::move(gvr)),
      options_(std::move(options)),
      scope_(env.executor()) {}

Informer::~Informer() = default;

void Informer::AddHandler(ChangeHandler handler) { handlers_.push_back(std::move(handler)); }

void Informer::AddIndex(const std::string& index, IndexFunction function) {
  indexes_[index].function = std::move(function);
}

void Informer::Start() { scope_.Spawn(StrCat("informer ", gvr_.resource), Run()); }

Task<void> Informer::WaitForSync() { return synced_.Wait(); }

Task<void> Informer::Stop() { return scope_.Close(); }

ObjectPtr Informer::GetByKey(const std::string& key) const {
  auto it = objects_.find(key);
  return it == objects_.end() ? nullptr : it->second;
}

std::vector<ObjectPtr> Informer::List() const {
  std::vector<ObjectPtr> out;
  out.reserve(objects_.size());
  for (const auto& [key, object] : objects_) out.push_back(object);
  return out;
}

std::vector<ObjectPtr> Informer::ByIndex(const std::string& index, const std::string& value) const {
  std::vector<ObjectPtr> out;
  auto it = indexes_.find(index);
  KEELSON_CHECK(it != indexes_.end(), "no index ", index);
  auto found = it->second.objects.find(value);
  if (found == it->second.objects.end()) return out;
  out.reserve(found->second.size());
  for (const auto& [key, object] : found->second) out.push_back(object);
  return out;
}

// Takes `before` out of the indexes and puts `after` in; either may be null.
void Informer::Reindex(const std::string& key, const ObjectPtr& before, const ObjectPtr& after) {
  for (auto& [name, index] : indexes_) {
    std::vector<std::string> values;
    if (after != nullptr) values = index.function(*after);
    if (before != nullptr) {
      for (const std::string& value : index.function(*before)) {
        if (std::find(values.begin(), values.end(), value) != values.end()) continue;
        auto it = index.objects.find(value);
        if (it == index.objects.end()) continue;
        it->second.erase(key);
        if (it->second.empty()) index.objects.erase(it);
      }
    }
    for (const std::string& value : values) index.objects[value][key] = after;
  }
}

void Informer::Put(const std::string& key, const ObjectPtr& object) {
  ObjectPtr before = std::exchange(objects_[key], object);
  Reindex(key, before, object);
  for (const ChangeHandler& handler : handlers_) handler(before, object);
}

void Informer::Erase(const std::string& key) {
  auto it = objects_.find(key);
  if (it == objects_.end()) return;
  ObjectPtr before = it->second;
  Reindex(key, before, nullptr);
  objects_.erase(it);
  for (const ChangeHandler& handler : handlers_) handler(before, nullptr);
}

void Informer::Replace(std::vector<ObjectPtr> items) {
  std::map<std::string, ObjectPtr> fresh;
  for (ObjectPtr& item : items) fresh.emplace(api::NamespacedName(*item), std::move(item));
  std::vector<std::string> gone;
  for (const auto& [key, object] : objects_) {
    if (!fresh.contains(key)) gone.push_back(key);
  }
  for (const std::string& key : gone) Erase(key);
  for (const auto& [key, object] : fresh) {
    ObjectPtr before = GetByKey(key);
    if (before != nullptr && api::Meta(*before).uid() != api::Meta(*object).uid()) {
      Erase(key);  // deleted and made again while we were not looking: two changes
    } else if (before != nullptr &&
               api::Meta(*before).resource_version() == api::Meta(*object).resource_version()) {
      continue;
    }
    Put(key, object);
  }
}

Task<absl::Status> Informer::ListOnce() {
  ListOptions list;
  list.label_selector = options_.label_selector;
  list.field_selector = options_.field_selector;
  CO_ASSIGN_OR_RETURN(ObjectList result, client_.List(gvr_, options_.ns, list));
  ++lists_;
  resource_version_ = result.resource_version;
  Replace(std::move(result.items));
  synced_.Set();
  co_return absl::OkStatus();
}

Task<absl::Status> Informer::WatchOnce() {
  WatchOptions watch;
  watch.label_selector = options_.label_selector;
  watch.field_selector = options_.field_selector;
  watch.resource_version = resource_version_;
  CO_ASSIGN_OR_RETURN(std::unique_ptr<Watcher> watcher, client_.Watch(gvr_, options_.ns, watch));
  while (true) {
    CO_ASSIGN_OR_RETURN(std::optional<WatchEvent> event, watcher->Next());
    if (!event.has_value()) co_return absl::OkStatus();
    if (!event->resource_version.empty()) resource_version_ = event->resource_version;
    if (event->type == WatchEventType::kBookmark) continue;
    std::string key = api::NamespacedName(*event->object);
    if (event->type == WatchEventType::kDeleted) {
      Erase(key);
    } else {
      Put(key, event->object);
    }
  }
}

Task<void> Informer::Run() {
  absl::Duration backoff = options_.min_backoff;
  bool must_list = true;
  while (true) {
    absl::Status status;
    if (must_list) {
      Task<absl::Status> list = ListOnce();
      status = co_await std::move(list);
      if (status.ok()) must_list = false;
    }
    if (status.ok()) {
      absl::Duration started = env_.clock().Monotonic();
      Task<absl::Status> watch = WatchOnce();
      status = co_await std::move(watch);
      // A stream that lived for a while was healthy: start the back-off anew.
      if (env_.clock().Monotonic() - started > absl::Seconds(5)) backoff = options_.min_backoff;
      if (status.ok()) {
        // Also the ordinary end pauses for a moment, so that a server that ends every watch at once is not
        // hammered.
        Task<void> pause = env_.clock().Sleep(absl::Milliseconds(10));
        co_await std::move(pause);
        continue;
      }
      if (api::IsGone(status)) {
        must_list = true;
        continue;
      }
    }
    LogWarning("list-watch failed, trying again", {{"resource", gvr_.resource}, {"error", status}});
    if (!absl::IsUnavailable(status) && !absl::IsDeadlineExceeded(status)) must_list = true;
    double jitter = 0.75 + 0.5 * env_.random().Fraction();
    Task<void> pause = env_.clock().Sleep(backoff * jitter);
    co_await std::move(pause);
    backoff = std::min(backoff * 2, options_.max_backoff);
  }
}

}  // namespace keelson::client
