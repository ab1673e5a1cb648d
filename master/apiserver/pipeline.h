// Pipeline: the API server without HTTP. Every request of every front end runs here: authorization,
// admission, strategy, validation, storage. One file per verb (get.cc, list.cc, watch.cc, create.cc,
// update.cc, patch.cc, delete.cc, delete_collection.cc), one per subresource with rules of its own
// (pod_binding.cc, scale.cc, ...).
//
// Threading: one loop, the store's. Tasks must have ended before the Pipeline goes away.
#pragma once

#include <absl/container/flat_hash_map.h>
#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "api/validation.h"
#include "base/env.h"
#include "base/task.h"
#include "master/admission/admission.h"
#include "master/apiserver/registry.h"
#include "master/apiserver/request.h"
#include "master/apiserver/resource_storage.h"
#include "master/apiserver/service_allocator.h"

namespace keelson::master {

struct PipelineOptions {
  std::string service_cidr = "10.96.0.0/12";
  std::string cluster_dns;                           // as ApiServerOptions
  int node_port_min = 30000, node_port_max = 32767;  // inclusive
  absl::Duration bookmark_interval = absl::Minutes(1);
};

inline constexpr int kMaxConflictRetries = 5;       // patch and unconditional update; upstream's number
inline constexpr int kMaxGenerateNameAttempts = 8;  // upstream's number
inline constexpr size_t kMaxDeletionsAtOnce = 64;   // of one collection
inline constexpr size_t kGeneratedSuffixLength = 5;
inline constexpr size_t kMaxGeneratedNameLength = 63;
inline constexpr int64_t kMaxWatchTimeoutSeconds = 3600;
inline constexpr int64_t kMinWatchTimeoutSeconds =
    1800;  // when the client names none: random up to twice that

class Pipeline : public ClusterReader {
 public:
  // env and store outlive Stop(). InvalidArgument: service CIDR or node port range.
  static absl::StatusOr<std::unique_ptr<Pipeline>> Create(Env& env, Store& store, PipelineOptions options);
  ~Pipeline() override;

  // Fills the caches and the allocators. Once.
  Task<absl::Status> Start();
  Task<void> Stop();
  bool started() const { return started_; }

  // ---- verbs; each authorizes the request first ----
  Task<absl::StatusOr<ApiResult>> Get(ApiRequest request);
  Task<absl::StatusOr<ApiList>> List(ApiRequest request);
  Task<absl::StatusOr<ApiWatch>> Watch(ApiRequest request);
  Task<absl::StatusOr<ApiResult>> Create(ApiRequest request);
  Task<absl::StatusOr<ApiResult>> Update(ApiRequest request);
  Task<absl::StatusOr<ApiResult>> Patch(ApiRequest request);
  Task<absl::StatusOr<ApiResult>> Delete(ApiRequest request);
  Task<absl::StatusOr<ApiResult>> DeleteCollection(ApiRequest request);

  // Forbidden for what the request's user may not do; ServiceUnavailable before Start() and after Stop().
  absl::Status Authorize(const ApiRequest& request) const;

  // ---- ClusterReader ----
  api::ObjectPtr Read(std::string_view group, std::string_view resource, std::string_view ns,
                      std::string_view name) const override;
  void ForEach(std::string_view group, std::string_view resource, std::string_view ns,
               absl::FunctionRef<bool(const api::Message&)> visit) const override;

  ResourceStorage* StorageOf(const ResourceInfo& resource) const;
  Env& env() { return env_; }
  Store& store() { return store_; }
  const PipelineOptions& options() const { return options_; }
  ServiceAllocator& allocator() { return *allocator_; }

 private:
  Pipeline(Env& env, Store& store, PipelineOptions options, std::unique_ptr<ServiceAllocator> allocator);

  // What an update is made from: `base` (the current object, of the request's kind) to the new one.
  using Change = std::function<absl::StatusOr<std::shared_ptr<api::Message>>(const api::Message& base)>;

  // create.cc
  absl::Status FillNewMeta(const ApiRequest& request, api::Message& object);
  Task<absl::StatusOr<ApiResult>> CreateOnce(const ApiRequest& request, std::shared_ptr<api::Message> object);
  // update.cc: read, change, check, write; again on a conflict when the change did not name a
  // resourceVersion.
  Task<absl::StatusOr<ApiResult>> Modify(const ApiRequest& request, const Change& change, bool is_patch);
  absl::Status CheckUpdate(const ApiRequest& request, const CachedObject& current, api::Message& object,
                           bool* unconditional);
  absl::Status FinishUpdate(const ApiRequest& request, const api::Message& old, api::Message& object);
  Task<absl::StatusOr<ApiResult>> WriteUpdate(const ApiRequest& request, CachedObjectPtr current,
                                              std::shared_ptr<api::Message> object);
  // delete.cc
  Task<absl::StatusOr<ApiResult>> DeleteObject(const ApiRequest& request);
  Task<absl::Status> DeleteOneOf(std::shared_ptr<const ApiRequest> collection, CachedObjectPtr item);
  Task<absl::StatusOr<ApiResult>> RemoveNow(const ApiRequest& request, CachedObjectPtr current,
                                            std::shared_ptr<api::Message> last);
  // namespace.cc
  Task<absl::StatusOr<ApiResult>> DeleteNamespace(const ApiRequest& request, CachedObjectPtr current);
  Task<absl::StatusOr<ApiResult>> FinalizeNamespace(ApiRequest request);
  // pod_binding.cc, pod_eviction.cc, scale.cc, reviews.cc
  Task<absl::StatusOr<ApiResult>> BindPod(ApiRequest request);
  Task<absl::StatusOr<ApiResult>> EvictPod(ApiRequest request);
  Task<absl::StatusOr<ApiResult>> GetScale(ApiRequest request);
  Task<absl::StatusOr<ApiResult>> ModifyScale(ApiRequest request);
  absl::StatusOr<ApiResult> Review(const ApiRequest& request);

  // The error for a stored object's key: NotFound, AlreadyExists, Conflict, or what the store said.
  absl::Status StoreError(const ApiRequest& request, const absl::Status& status, std::string_view name) const;
  // Object of the request's kind for a stored one.
  ApiResult ResultOf(const ResourceInfo& resource, api::ObjectPtr stored, CachedObjectPtr cached,
                     int http_code, std::vector<std::string> warnings = {}) const;

  Env& env_;
  Store& store_;
  const PipelineOptions options_;
  AdmissionChain admission_;
  std::unique_ptr<ServiceAllocator> allocator_;
  absl::flat_hash_map<const ResourceInfo*, std::unique_ptr<ResourceStorage>> storages_;
  bool started_ = false;
  Scope scope_;  // the parts of requests that run side by side; after what they use
};

// Matcher of a request's selectors, null when both are empty. `name`: set when the field selector pins
// metadata.name. BadRequest for what does not parse or a field the resource cannot select by.
absl::StatusOr<Matcher> MatcherOf(const ResourceInfo& resource, const RequestOptions& options,
                                  std::string* name);
// resourceVersion of a query. BadRequest unless "", or a decimal number.
absl::StatusOr<Revision> ParseResourceVersion(std::string_view text);
// What fieldValidation says about unknown and duplicate fields: an error, warnings appended, or nothing.
absl::Status CheckStrict(const api::TypeInfo& type, const std::vector<std::string>& strict_errors,
                         FieldValidation validation, std::vector<std::string>* warnings);
// One warning for each field that is set and that nothing acts on.
std::vector<std::string> UnsupportedWarnings(const api::Message& object);
// 422 with one cause per error.
absl::Status InvalidError(const api::TypeInfo& type, std::string_view name, const api::FieldErrors& errors);

}  // namespace keelson::master
