// WATCH: where a stream starts. What it says is the front ends' matter.
#include "api/status_error.h"
#include "base/strings.h"
#include "master/apiserver/pipeline.h"

namespace keelson::master {
namespace {

absl::Status ForbiddenOption(std::string field, std::string detail) {
  return api::Invalid("meta.k8s.io", "ListOptions", "",
                      {api::FieldCause("FieldValueForbidden", field, StrCat("Forbidden: ", detail))});
}

absl::Status CheckWatchOptions(const RequestOptions& o) {
  if (o.send_initial_events.has_value()) {
    if (o.resource_version_match != "NotOlderThan") {
      return ForbiddenOption("resourceVersionMatch",
                             "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
    }
  } else if (!o.resource_version_match.empty()) {
    return ForbiddenOption(
        "resourceVersionMatch",
        "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided");
  }
  if (!o.continue_token.empty()) return api::BadRequest("continue is not allowed for watch");
  return absl::OkStatus();
}

}  // namespace

Task<absl::StatusOr<ApiWatch>> Pipeline::Watch(ApiRequest request) {
  absl::Status allowed = Authorize(request);
  if (!allowed.ok()) co_return allowed;
  const ResourceInfo& resource = *request.resource;
  ResourceStorage* storage = StorageOf(resource);
  if (storage == nullptr) co_return api::MethodNotSupported(resource.type->group_resource(), "watch");
  RequestOptions& o = request.options;
  if (!request.name.empty()) {  // /watch/ paths and GET with ?watch of one object
    if (!o.field_selector.empty()) o.field_selector += ",";
    o.field_selector += StrCat("metadata.name=", request.name);
  }
  absl::Status checked = CheckWatchOptions(o);
  if (!checked.ok()) co_return checked;
  absl::StatusOr<Revision> wanted = ParseResourceVersion(o.resource_version);
  if (!wanted.ok()) co_return wanted.status();
  absl::StatusOr<Matcher> matcher = MatcherOf(resource, o, nullptr);
  if (!matcher.ok()) co_return matcher.status();
  if (*wanted > store_.CurrentRevision()) {
    co_return api::Timeout(
        StrCat("Too large resource version: ", *wanted, ", current: ", store_.CurrentRevision()), 1);
  }
  Task<absl::Status> fresh_task = storage->cache().WaitFresh();
  absl::Status fresh = co_await std::move(fresh_task);
  if (!fresh.ok()) co_return api::Timeout(Sv(fresh.message()), 1);

  CacheWatchOptions options;
  options.key_prefix = resource.NamespacePrefix(request.ns);
  options.bookmarks = o.allow_bookmarks;
  options.match = *std::move(matcher);
  const bool initial = o.send_initial_events.value_or(*wanted == 0);
  if (!initial) options.after = *wanted == 0 ? storage->cache().revision() : *wanted;
  options.initial_events_end = o.send_initial_events.value_or(false) && o.allow_bookmarks;
  absl::StatusOr<std::unique_ptr<CacheWatch>> watch = storage->cache().Watch(std::move(options));
  if (!watch.ok()) {
    if (IsCompacted(watch.status())) {
      co_return api::Expired(StrCat("too old resource version: ", *wanted, " (",
                                    storage->cache().oldest_watchable_revision(), ")"));
    }
    co_return api::InternalError(Sv(watch.status().message()));
  }
  ApiWatch out;
  out.resource = &resource;
  out.watch = *std::move(watch);
  out.timeout_s = o.timeout_s;
  co_return out;
}

}  // namespace keelson::master
