#include "api/scheme.h"

#include <absl/container/flat_hash_map.h>
#include <absl/strings/ascii.h>
#include <absl/strings/str_split.h>
#include <google/protobuf/descriptor.h>

#include <cstdio>
#include <cstdlib>

#include "api/scheme_types.h"

namespace keelson::api {
namespace {

// Filled once by Scheme::Scheme().
struct Index {
  absl::flat_hash_map<GroupVersionKind, const TypeInfo*> by_kind;
  absl::flat_hash_map<GroupVersionResource, const TypeInfo*> by_resource;
  absl::flat_hash_map<const google::protobuf::Descriptor*, const TypeInfo*> by_descriptor;
};

Index& GetIndex() {
  static auto* index = new Index;
  return *index;
}

bool InEveryGroup(std::string_view kind) {
  return kind == "DeleteOptions" || kind == "CreateOptions" || kind == "UpdateOptions" ||
         kind == "PatchOptions" || kind == "ListOptions" || kind == "GetOptions" || kind == "WatchEvent";
}

std::vector<std::string> SplitList(const char* text) { return absl::StrSplit(text, ',', absl::SkipEmpty()); }

}  // namespace

GroupVersion GroupVersion::Parse(std::string_view api_version) {
  const size_t slash = api_version.find('/');
  if (slash == std::string_view::npos) return {"", std::string(api_version)};
  return {std::string(api_version.substr(0, slash)), std::string(api_version.substr(slash + 1))};
}

const Scheme& Scheme::Get() {
  static const Scheme* scheme = new Scheme;
  return *scheme;
}

Scheme::Scheme() {
  Index& index = GetIndex();
  for (const KindRow& row : KindRows()) {
    auto* info = new TypeInfo;
    info->gvk = {row.group, row.version, row.kind};
    info->api_version = info->gvk.ApiVersion();
    info->plural = row.plural;
    if (!info->plural.empty()) info->singular = absl::AsciiStrToLower(row.kind);
    info->short_names = SplitList(row.short_names);
    info->categories = SplitList(row.categories);
    info->namespaced = row.namespaced;
    info->prototype = row.prototype;
    info->list_prototype = row.list_prototype;
    all_.push_back(info);
    index.by_kind[info->gvk] = info;
    if (!info->plural.empty()) index.by_resource[info->gvr()] = info;
    index.by_descriptor[row.prototype->GetDescriptor()] = info;
  }
  for (const TypeInfo* info : all_) {
    if (info->list_prototype == nullptr) continue;
    const TypeInfo* list = index.by_descriptor[info->list_prototype->GetDescriptor()];
    const_cast<TypeInfo*>(info)->list = list;
    const_cast<TypeInfo*>(list)->item = info;
  }
}

const TypeInfo* Scheme::ByKind(const GroupVersionKind& gvk) const {
  const Index& index = GetIndex();
  auto it = index.by_kind.find(gvk);
  if (it != index.by_kind.end()) return it->second;
  if (!InEveryGroup(gvk.kind)) return nullptr;
  it = index.by_kind.find(GroupVersionKind{"", "v1", gvk.kind});
  return it == index.by_kind.end() ? nullptr : it->second;
}

const TypeInfo* Scheme::ByKind(std::string_view api_version, std::string_view kind) const {
  GroupVersion gv = GroupVersion::Parse(api_version);
  return ByKind(GroupVersionKind{std::move(gv.group), std::move(gv.version), std::string(kind)});
}

const TypeInfo* Scheme::ByResource(const GroupVersionResource& gvr) const {
  const Index& index = GetIndex();
  auto it = index.by_resource.find(gvr);
  return it == index.by_resource.end() ? nullptr : it->second;
}

const TypeInfo* Scheme::ByDescriptor(const google::protobuf::Descriptor* descriptor) const {
  const Index& index = GetIndex();
  auto it = index.by_descriptor.find(descriptor);
  return it == index.by_descriptor.end() ? nullptr : it->second;
}

const TypeInfo& Scheme::Of(const google::protobuf::Message& message) const {
  const TypeInfo* info = ByDescriptor(message.GetDescriptor());
  if (info == nullptr) {
    std::fprintf(stderr, "message %s is no API kind\n", message.GetDescriptor()->full_name().c_str());
    std::abort();
  }
  return *info;
}

}  // namespace keelson::api
