// LIST: resourceVersion, limit and continue as upstream's API concepts page defines them.
#include <absl/strings/escaping.h>

#include "api/codec.h"
#include "api/status_error.h"
#include "base/strings.h"
#include "master/apiserver/continue_token.h"
#include "master/apiserver/pipeline.h"

namespace keelson::master {
namespace {

constexpr char kContinueExpired[] =
    "The provided continue parameter is too old to display a consistent list result. You can start a new "
    "list "
    "without the continue parameter.";

absl::Status CheckOptions(const ResourceInfo& resource, const RequestOptions& o) {
  auto invalid = [&](std::string field, std::string detail) {
    return api::Invalid("meta.k8s.io", "ListOptions", "",
                        {api::FieldCause("FieldValueForbidden", field, StrCat("Forbidden: ", detail))});
  };
  if (!o.resource_version_match.empty()) {
    if (o.resource_version.empty()) {
      return invalid("resourceVersionMatch",
                     "resourceVersionMatch is forbidden unless resourceVersion is provided");
    }
    if (!o.continue_token.empty()) {
      return invalid("resourceVersionMatch", "resourceVersionMatch is forbidden when continue is provided");
    }
    if (o.resource_version_match != "Exact" && o.resource_version_match != "NotOlderThan") {
      return api::Invalid("meta.k8s.io", "ListOptions", "",
                          {api::FieldCause("FieldValueNotSupported", "resourceVersionMatch",
                                           StrCat("Unsupported value: \"", o.resource_version_match,
                                                  "\": supported values: \"Exact\", \"NotOlderThan\""))});
    }
    if (o.resource_version_match == "Exact" && o.resource_version == "0") {
      return invalid("resourceVersionMatch",
                     "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
    }
  }
  if (!o.continue_token.empty() && !o.resource_version.empty() && o.resource_version != "0") {
    return api::BadRequest("specifying resource version is not allowed when using continue");
  }
  if (o.send_initial_events.has_value()) {
    return invalid("sendInitialEvents", "sendInitialEvents is forbidden for list");
  }
  return absl::OkStatus();
}

}  // namespace

Task<absl::StatusOr<ApiList>> Pipeline::List(ApiRequest request) {
  absl::Status allowed = Authorize(request);
  if (!allowed.ok()) co_return allowed;
  const ResourceInfo& resource = *request.resource;
  ResourceStorage* storage = StorageOf(resource);
  if (storage == nullptr) co_return api::MethodNotSupported(resource.type->group_resource(), "list");
  const RequestOptions& o = request.options;
  absl::Status checked = CheckOptions(resource, o);
  if (!checked.ok()) co_return checked;
  absl::StatusOr<Revision> wanted = ParseResourceVersion(o.resource_version);
  if (!wanted.ok()) co_return wanted.status();
  std::string pinned_name;
  absl::StatusOr<Matcher> matcher = MatcherOf(resource, o, &pinned_name);
  if (!matcher.ok()) co_return matcher.status();

  CacheListOptions options;
  options.key_prefix = resource.NamespacePrefix(request.ns);
  options.limit = o.limit > 0 ? static_cast<size_t>(o.limit) : 0;
  options.match = *std::move(matcher);
  if (!o.continue_token.empty()) {
    absl::StatusOr<ContinueToken> token = ContinueToken::Parse(o.continue_token, options.key_prefix);
    if (!token.ok()) co_return token.status();
    options.start_after = token->start_after;
    options.revision = token->revision;
  } else if (o.resource_version_match == "Exact") {
    options.revision = *wanted;
  } else if (o.resource_version_match.empty() && options.limit > 0 && *wanted > 0) {
    options.revision = *wanted;  // the legacy reading of an exact version together with a limit
  }
  Task<absl::Status> fresh_task = storage->cache().WaitFresh();
  absl::Status fresh = co_await std::move(fresh_task);
  if (!fresh.ok()) co_return api::Timeout(Sv(fresh.message()), 1);
  if (*wanted > store_.CurrentRevision()) {
    co_return api::Timeout(
        StrCat("Too large resource version: ", *wanted, ", current: ", store_.CurrentRevision()), 1);
  }

  const bool continued = !o.continue_token.empty();
  Task<absl::StatusOr<CacheList>> list_task = storage->cache().List(options);
  absl::StatusOr<CacheList> list = co_await std::move(list_task);
  if (!list.ok()) {
    if (IsCompacted(list.status())) {
      if (continued) co_return api::Expired(kContinueExpired);
      co_return api::Expired(StrCat("The resourceVersion for the provided list is too old."));
    }
    if (IsFutureRevision(list.status())) co_return api::Timeout(Sv(list.status().message()), 1);
    co_return StoreError(request, list.status(), "");
  }
  ApiList out;
  out.resource = &resource;
  out.revision = list->revision;
  out.remaining = list->remaining;
  if (list->more && !list->items.empty()) {
    ContinueToken next;
    next.revision = list->revision;
    next.start_after = list->items.back()->key();
    out.continue_token = next.ToString(options.key_prefix);
  } else {
    out.remaining.reset();
  }
  out.items = std::move(list->items);
  co_return out;
}

}  // namespace keelson::master
