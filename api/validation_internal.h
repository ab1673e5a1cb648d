// Shared pieces of the validation units: error constructors and checks of small things. Private to api/.
#pragma once

#include <absl/container/flat_hash_set.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "api/core/v1/endpoints.pb.h"
#include "api/core/v1/pod.pb.h"
#include "api/core/v1/service.pb.h"
#include "api/discovery/v1/discovery.pb.h"
#include "api/meta/v1/meta.pb.h"
#include "api/validation.h"

namespace keelson::api::validation {

using StringSet = absl::flat_hash_set<std::string>;
using NameRule = std::vector<std::string> (*)(std::string_view);

inline const std::vector<std::string> kProtocols = {"SCTP", "TCP", "UDP"};

// "path.name", "path[3]", "path[key]".
std::string Child(const std::string& path, std::string_view name);
std::string Index(const std::string& path, size_t index);
std::string KeyOf(const std::string& path, std::string_view key);

// As it stands in an error: {"a":"b"}, ["a","b"].
std::string MapJson(const google::protobuf::Map<std::string, std::string>& map);
std::string ListJson(const google::protobuf::RepeatedPtrField<std::string>& list);
// 4 or 6; 0 for what is no IP address.
int FamilyOf(const std::string& ip);

class Errors {
 public:
  void Required(std::string field, std::string detail = "");
  void Invalid(std::string field, std::string bad_value, std::string detail);
  void InvalidText(std::string field, std::string_view text, std::string detail);  // bad value in quotes
  void InvalidNumber(std::string field, int64_t number, std::string detail);
  void Duplicate(std::string field, std::string_view text);
  void DuplicateValue(std::string field, std::string bad_value, std::string detail = "");
  void NotFound(std::string field, std::string_view text);
  void Forbidden(std::string field, std::string detail);
  void TooLong(std::string field, size_t max_bytes);
  void TooMany(std::string field, size_t actual, size_t max_items);
  // `supported` sorted, as upstream prints them.
  void NotSupported(std::string field, std::string_view text, const std::vector<std::string>& supported);
  // One InvalidText per message.
  void Messages(const std::string& field, std::string_view text, const std::vector<std::string>& messages);

  void NonNegative(const std::string& field, int64_t value);
  void Port(const std::string& field, int64_t port);
  void OneOf(const std::string& field, const std::string& value, const std::vector<std::string>& supported);
  // As OneOf, but an empty value is one more that is not supported.
  void Supported(const std::string& field, const std::string& value,
                 const std::vector<std::string>& supported);
  // When it is set.
  void Name(const std::string& field, const std::string& name, NameRule rule);
  void Positive(const std::string& field, int64_t value);
  // UIDs and GIDs.
  void Id(const std::string& field, int64_t id);
  // As upstream's fields that are older than its strict rules: any spelling of an address, but no leading
  // zeros and no IPv4-mapped ones; no bits behind the prefix. False: an error was noted.
  bool Ip(const std::string& field, const std::string& ip);
  bool Cidr(const std::string& field, const std::string& cidr);
  // And may be sent traffic to: not unspecified, not loopback, not link-local.
  void EndpointIp(const std::string& field, const std::string& ip);
  // Port name (IANA_SVC_NAME).
  void PortName(const std::string& field, const std::string& name);
  void Labels(const std::string& field, const google::protobuf::Map<std::string, std::string>& labels);

  void Add(FieldErrors errors);
  FieldErrors Take() { return std::move(errors_); }

 private:
  FieldErrors errors_;
};

void ObjectMetadata(const ::k8s::meta::v1::ObjectMeta& meta, bool namespaced, NameRule rule,
                    const std::string& path, Errors& errors);
void ObjectMetadataUpdate(const ::k8s::meta::v1::ObjectMeta& meta, const ::k8s::meta::v1::ObjectMeta& old,
                          const std::string& path, Errors& errors);

// ---- one unit each ----

// validation_pod.cc. Of pods and of templates; what only a new pod or only a template may not have is apart.
void PodSpec(const ::k8s::core::v1::PodSpec& spec, const std::string& path, Errors& errors);
void PodCreate(const ::k8s::core::v1::PodSpec& spec, Errors& errors);
void PodUpdate(const ::k8s::core::v1::Pod& pod, const ::k8s::core::v1::Pod& old, Errors& errors);

// validation_resources.cc. PodResources: the pod's own and its overhead.
void ResourceRequirements(const ::k8s::core::v1::ResourceRequirements& resources, const std::string& path,
                          Errors& errors);
void PodResources(const ::k8s::core::v1::PodSpec& spec, const std::string& path, Errors& errors);

// validation_container.cc: all containers of a pod. `volumes`: the names of its volumes.
void Containers(const ::k8s::core::v1::PodSpec& spec, const StringSet& volumes, const std::string& path,
                Errors& errors);

// validation_volume.cc.
void Volumes(const ::k8s::core::v1::PodSpec& spec, const std::string& path, StringSet* names, Errors& errors);
void FieldRef(const ::k8s::core::v1::ObjectFieldSelector& ref, bool volume, const std::string& path,
              Errors& errors);
void ResourceFieldRef(const ::k8s::core::v1::ResourceFieldSelector& ref, bool volume, const std::string& path,
                      Errors& errors);
// Without "..", the second not absolute either.
void PathWithoutDotDot(const std::string& field, const std::string& path, Errors& errors);
void RelativePath(const std::string& field, const std::string& path, Errors& errors);

// validation_security.cc. `host_users`: the host's users, not those of a user namespace of the pod's own.
void PodSecurity(const ::k8s::core::v1::PodSpec& spec, const std::string& path, Errors& errors);
void ContainerSecurity(const ::k8s::core::v1::SecurityContext& context, bool host_users,
                       const std::string& path, Errors& errors);

// validation_scheduling.cc.
void Scheduling(const ::k8s::core::v1::PodSpec& spec, const std::string& path, Errors& errors);
void Taints(const google::protobuf::RepeatedPtrField<::k8s::core::v1::Taint>& taints, const std::string& path,
            Errors& errors);

// validation_service.cc. `old` is null on create.
void Service(const ::k8s::core::v1::Service& service, const ::k8s::core::v1::Service* old, Errors& errors);
void Endpoints(const ::k8s::core::v1::Endpoints& endpoints, Errors& errors);
void EndpointSlice(const ::k8s::discovery::v1::EndpointSlice& slice, Errors& errors);

}  // namespace keelson::api::validation
