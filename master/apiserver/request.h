// One API request, independent of HTTP: what both front ends (http_frontend.h, local_client.h) hand to the
// Pipeline.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "api/meta/v1/options.pb.h"
#include "api/object.h"
#include "api/patch.h"
#include "master/admission/user_info.h"
#include "master/apiserver/registry.h"
#include "master/store/watch_cache.h"

namespace keelson::master {

enum class FieldValidation { kIgnore, kWarn, kStrict };

struct RequestOptions {
  // list, watch, deletecollection
  std::string label_selector, field_selector;
  std::string resource_version;        // also of get
  std::string resource_version_match;  // "", "Exact", "NotOlderThan"
  int64_t limit = 0;
  std::string continue_token;
  bool allow_bookmarks = false;
  std::optional<bool> send_initial_events;
  std::optional<int64_t> timeout_s;
  // writes
  bool dry_run = false;
  std::string field_manager;
  FieldValidation field_validation = FieldValidation::kWarn;
  ::k8s::meta::v1::DeleteOptions delete_options;
};

struct ApiRequest {
  UserInfo user;
  std::string verb;  // "get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"
  const ResourceInfo* resource = nullptr;
  std::string subresource;
  std::string ns;    // "" for cluster scope, or for all namespaces in list and watch
  std::string name;  // "" for list, watch, create, deletecollection
  RequestOptions options;
  api::ObjectPtr object;  // body of create and update
  api::PatchKind patch_kind = api::PatchKind::kMerge;
  std::string patch;  // body of patch, JSON
};

struct ApiResult {
  int http_code = 200;
  api::ObjectPtr
      object;  // of the resource's (or subresource's) kind, resourceVersion set; or a meta.v1 Status
  CachedObjectPtr
      cached;  // set when `object` shows exactly this stored revision: its encodings may be shared
  std::vector<std::string> warnings;
};

struct ApiList {
  const ResourceInfo* resource = nullptr;
  std::vector<CachedObjectPtr> items;
  Revision revision = 0;
  std::string continue_token;
  std::optional<int64_t> remaining;
};

// A watch that has begun. Events are in terms of the stored kind.
struct ApiWatch {
  const ResourceInfo* resource = nullptr;
  std::unique_ptr<CacheWatch> watch;
  std::optional<int64_t> timeout_s;
};

}  // namespace keelson::master
