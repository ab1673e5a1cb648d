// Scheme: which protobuf message stands for which kind and resource.
//
// Built once at first use from the table hack/update-protos writes; immutable afterwards, any thread.
#pragma once

#include <google/protobuf/message.h>

#include <string>
#include <string_view>
#include <vector>

namespace keelson::api {

struct GroupVersion {
  std::string group;  // "" is the core group
  std::string version;
  // "v1" or "apps/v1".
  std::string ToString() const { return group.empty() ? version : group + "/" + version; }
  bool operator==(const GroupVersion&) const = default;
  // "v1" -> {"", "v1"}, "apps/v1" -> {"apps", "v1"}; more slashes stay in the version.
  static GroupVersion Parse(std::string_view api_version);
};

struct GroupVersionKind {
  std::string group;
  std::string version;
  std::string kind;
  std::string ApiVersion() const { return group.empty() ? version : group + "/" + version; }
  // "apps/v1, Kind=Deployment", as upstream prints it ("/v1, Kind=Pod" for the core group).
  std::string ToString() const { return group + "/" + version + ", Kind=" + kind; }
  bool operator==(const GroupVersionKind&) const = default;
  template <typename H>
  friend H AbslHashValue(H h, const GroupVersionKind& k) {
    return H::combine(std::move(h), k.group, k.version, k.kind);
  }
};

struct GroupResource {
  std::string group;
  std::string resource;
  // "pods", "deployments.apps".
  std::string ToString() const { return group.empty() ? resource : resource + "." + group; }
  bool operator==(const GroupResource&) const = default;
};

struct GroupVersionResource {
  std::string group;
  std::string version;
  std::string resource;  // plural
  std::string ApiVersion() const { return group.empty() ? version : group + "/" + version; }
  GroupResource group_resource() const { return {group, resource}; }
  bool operator==(const GroupVersionResource&) const = default;
  template <typename H>
  friend H AbslHashValue(H h, const GroupVersionResource& r) {
    return H::combine(std::move(h), r.group, r.version, r.resource);
  }
};

// One kind. Lives for ever; compare by address.
struct TypeInfo {
  GroupVersionKind gvk;
  std::string api_version;  // gvk.ApiVersion()
  std::string plural;       // "pods"; "" when not a resource of its own (lists, Status, options, Scale, ...)
  std::string singular;     // "pod"
  std::vector<std::string> short_names;
  std::vector<std::string> categories;
  bool namespaced = true;
  const google::protobuf::Message* prototype = nullptr;       // default instance; New() makes an empty one
  const google::protobuf::Message* list_prototype = nullptr;  // PodList; nullptr when there is none
  const TypeInfo* list = nullptr;                             // of list_prototype
  const TypeInfo* item = nullptr;                             // of a list: the kind it lists

  GroupVersionResource gvr() const { return {gvk.group, gvk.version, plural}; }
  GroupResource group_resource() const { return {gvk.group, plural}; }
};

class Scheme {
 public:
  static const Scheme& Get();

  // nullptr when unknown. Names are case-sensitive. Kinds that live in every group and version upstream
  // (DeleteOptions, CreateOptions, ListOptions, ...) are found under any.
  const TypeInfo* ByKind(const GroupVersionKind& gvk) const;
  const TypeInfo* ByKind(std::string_view api_version, std::string_view kind) const;
  const TypeInfo* ByResource(const GroupVersionResource& gvr) const;
  const TypeInfo* ByDescriptor(const google::protobuf::Descriptor* descriptor) const;
  // CHECK-fails for a message that is no kind.
  const TypeInfo& Of(const google::protobuf::Message& message) const;
  template <typename T>
  const TypeInfo& Of() const {
    return Of(T::default_instance());
  }

  // In the order of the table.
  const std::vector<const TypeInfo*>& all() const { return all_; }

 private:
  Scheme();
  std::vector<const TypeInfo*> all_;
};

}  // namespace keelson::api
