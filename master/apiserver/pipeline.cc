#include "master/apiserver/pipeline.h"

#include "api/codec.h"
#include "api/fields.h"
#include "api/labels.h"
#include "api/status_error.h"
#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"
#include "master/apiserver/authorizer.h"

namespace keelson::master {
namespace {

AuthAttributes AttributesOf(const ApiRequest& request) {
  AuthAttributes a;
  a.user = &request.user;
  a.verb = request.verb;
  a.group = request.resource->type->gvk.group;
  a.resource = request.resource->type->plural;
  a.subresource = request.subresource;
  a.ns = request.ns;
  a.name = request.name;
  if (a.name.empty() && (request.verb == "list" || request.verb == "watch")) {
    absl::StatusOr<api::FieldSelector> fields = api::FieldSelector::Parse(request.options.field_selector);
    if (fields.ok()) SetSelected(*fields, a);
  }
  return a;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Pipeline>> Pipeline::Create(Env& env, Store& store, PipelineOptions options) {
  absl::StatusOr<std::unique_ptr<ServiceAllocator>> allocator =
      ServiceAllocator::Create(options.service_cidr, options.node_port_min, options.node_port_max);
  if (!allocator.ok()) return allocator.status();
  RETURN_IF_ERROR((*allocator)->SetDnsAddress(options.cluster_dns));
  return std::unique_ptr<Pipeline>(new Pipeline(env, store, std::move(options), *std::move(allocator)));
}

Pipeline::Pipeline(Env& env, Store& store, PipelineOptions options,
                   std::unique_ptr<ServiceAllocator> allocator)
    : env_(env),
      store_(store),
      options_(std::move(options)),
      admission_(DefaultAdmissionChain()),
      allocator_(std::move(allocator)),
      scope_(env.executor()) {
  for (const auto& row : Registry::Get().all()) {
    if (!row->stored() || row->storage != row.get()) continue;
    storages_[row.get()] = std::make_unique<ResourceStorage>(env_, store_, *row, options_.bookmark_interval);
  }
}

Pipeline::~Pipeline() = default;

Task<absl::Status> Pipeline::Start() {
  for (const auto& row : Registry::Get().all()) {
    ResourceStorage* storage = StorageOf(*row);
    if (storage == nullptr || storage->cache().started()) continue;
    Task<absl::Status> start = storage->Start();
    absl::Status status = co_await std::move(start);
    if (!status.ok()) co_return Annotate(status, StrCat("load ", row->type->plural));
  }
  allocator_->Repair(*this);
  started_ = true;
  co_return absl::OkStatus();
}

Task<void> Pipeline::Stop() {
  started_ = false;
  Task<void> close = scope_.Close();
  co_await std::move(close);
  for (auto& [row, storage] : storages_) {
    if (!storage->cache().started()) continue;
    Task<void> stop = storage->Stop();
    co_await std::move(stop);
  }
}

ResourceStorage* Pipeline::StorageOf(const ResourceInfo& resource) const {
  auto it = storages_.find(resource.storage);
  return it == storages_.end() ? nullptr : it->second.get();
}

absl::Status Pipeline::Authorize(const ApiRequest& request) const {
  if (!started_) return api::ServiceUnavailable("the API server is starting or stopping; try again");
  if (request.user.IsMaster()) return absl::OkStatus();
  AuthAttributes attributes = AttributesOf(request);
  return IsAllowed(attributes, *this) ? absl::OkStatus() : ForbiddenError(attributes);
}

api::ObjectPtr Pipeline::Read(std::string_view group, std::string_view resource, std::string_view ns,
                              std::string_view name) const {
  const ResourceInfo* row = Registry::Get().Find(group, resource);
  ResourceStorage* storage = row == nullptr ? nullptr : StorageOf(*row);
  if (storage == nullptr) return nullptr;
  CachedObjectPtr object = storage->Read(row->StorageKey(ns, name));
  return object == nullptr ? nullptr : object->message();
}

void Pipeline::ForEach(std::string_view group, std::string_view resource, std::string_view ns,
                       absl::FunctionRef<bool(const api::Message&)> visit) const {
  const ResourceInfo* row = Registry::Get().Find(group, resource);
  ResourceStorage* storage = row == nullptr ? nullptr : StorageOf(*row);
  if (storage == nullptr) return;
  storage->cache().CatchUp();
  CacheListOptions options;
  options.key_prefix = row->NamespacePrefix(ns);
  CacheList list = storage->cache().ListNow(options);
  for (const CachedObjectPtr& item : list.items) {
    if (item->message() != nullptr && !visit(*item->message())) return;
  }
}

absl::Status Pipeline::StoreError(const ApiRequest& request, const absl::Status& status,
                                  std::string_view name) const {
  api::GroupResource resource = request.resource->type->group_resource();
  if (IsConflict(status)) return api::Conflict(resource, name);
  if (absl::IsAlreadyExists(status)) return api::AlreadyExists(resource, name);
  if (absl::IsNotFound(status)) return api::NotFound(resource, name);
  if (absl::IsInvalidArgument(status)) return api::BadRequest(Sv(status.message()));
  if (absl::IsUnavailable(status) || absl::IsResourceExhausted(status)) {
    return api::ServiceUnavailable(Sv(status.message()));
  }
  return api::InternalError(Sv(status.message()));
}

std::vector<std::string> UnsupportedWarnings(const api::Message& object) {
  std::vector<std::string> warnings;
  for (const api::UnimplementedField& field : api::UnimplementedFields(object)) {
    warnings.push_back(StrCat(field.path, ": Keelson does not implement this field; ",
                              field.refused ? "its kubelet refuses the pod" : "it has no effect"));
  }
  return warnings;
}

ApiResult Pipeline::ResultOf(const ResourceInfo& resource, api::ObjectPtr stored, CachedObjectPtr cached,
                             int http_code, std::vector<std::string> warnings) const {
  ApiResult result;
  result.warnings = std::move(warnings);
  result.http_code = http_code;
  result.cached = std::move(cached);
  result.object =
      resource.from_storage == nullptr ? std::move(stored) : api::ObjectPtr(resource.from_storage(*stored));
  return result;
}

absl::StatusOr<Revision> ParseResourceVersion(std::string_view text) {
  if (text.empty()) return Revision{0};
  uint64_t value = 0;
  for (char c : text) {
    if (c < '0' || c > '9' || value > (uint64_t{1} << 58)) {
      return api::BadRequest(
          StrCat("Invalid value: \"", text, "\": strconv.ParseUint: parsing \"", text, "\": invalid syntax"));
    }
    value = value * 10 + static_cast<uint64_t>(c - '0');
  }
  return static_cast<Revision>(value);
}

absl::Status InvalidError(const api::TypeInfo& type, std::string_view name, const api::FieldErrors& errors) {
  std::vector<api::StatusCause> causes;
  causes.reserve(errors.size());
  for (const api::FieldError& e : errors) causes.push_back(api::FieldCause(e.reason(), e.field, e.Body()));
  return api::Invalid(type.gvk.group, type.gvk.kind, name, std::move(causes));
}

absl::Status CheckStrict(const api::TypeInfo& type, const std::vector<std::string>& strict_errors,
                         FieldValidation validation, std::vector<std::string>* warnings) {
  if (strict_errors.empty() || validation == FieldValidation::kIgnore) return absl::OkStatus();
  if (validation == FieldValidation::kStrict) return api::StrictError(type, strict_errors);
  warnings->insert(warnings->end(), strict_errors.begin(), strict_errors.end());
  return absl::OkStatus();
}

absl::StatusOr<Matcher> MatcherOf(const ResourceInfo& resource, const RequestOptions& options,
                                  std::string* name) {
  if (options.label_selector.empty() && options.field_selector.empty()) return Matcher();
  absl::StatusOr<api::LabelSelector> labels = api::LabelSelector::Parse(options.label_selector);
  if (!labels.ok())
    return api::BadRequest(StrCat("unable to parse requirement: ", Sv(labels.status().message())));
  absl::StatusOr<api::FieldSelector> fields = api::FieldSelector::Parse(options.field_selector);
  if (!fields.ok()) return api::BadRequest(Sv(fields.status().message()));

  using Getter = std::function<std::string(const api::Message&)>;
  std::vector<std::pair<api::FieldRequirement, Getter>> wanted;
  for (const api::FieldRequirement& requirement : fields->requirements()) {
    Getter get;
    if (requirement.field == "metadata.name") {
      get = [](const api::Message& m) { return api::Meta(m).name(); };
    } else if (requirement.field == "metadata.namespace" && resource.type->namespaced) {
      get = [](const api::Message& m) { return api::Meta(m).namespace_(); };
    } else {
      for (const SelectableField& field : resource.selectable) {
        if (field.path == requirement.field) get = field.get;
      }
    }
    if (get == nullptr) {
      return api::BadRequest(StrCat("field label not supported: ", requirement.field));
    }
    wanted.emplace_back(requirement, std::move(get));
  }
  if (name != nullptr) *name = fields->RequiresExactMatch("metadata.name").value_or("");
  return Matcher([labels = *std::move(labels), wanted = std::move(wanted)](const CachedObject& object) {
    if (object.message() == nullptr) return false;
    const api::Message& m = *object.message();
    if (!labels.Matches(api::Meta(m).labels())) return false;
    for (const auto& [requirement, get] : wanted) {
      if ((get(m) == requirement.value) != requirement.equal) return false;
    }
    return true;
  });
}

}  // namespace keelson::master
