// Shared pieces of the validation units: error constructors and checks of small things. Private to api/.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "api/core/v1/pod.pb.h"
#include "api/meta/v1/meta.pb.h"
#include "api/validation.h"

namespace keelson::api::validation {

// "path.name", "path[3]", "path[key]".
std::string Child(const std::string& path, std::string_view name);
std::string Index(const std::string& path, size_t index);
std::string KeyOf(const std::string& path, std::string_view key);

class Errors {
 public:
  void Required(std::string field, std::string detail = "");
  void Invalid(std::string field, std::string bad_value, std::string detail);
  void InvalidText(std::string field, std::string_view text, std::string detail);  // bad value in quotes
  void InvalidNumber(std::string field, int64_t number, std::string detail);
  void Duplicate(std::string field, std::string_view text);
  void NotFound(std::string field, std::string_view text);
  void Forbidden(std::string field, std::string detail);
  void TooLong(std::string field, size_t max_bytes);
  // `supported` sorted, as upstream prints them.
  void NotSupported(std::string field, std::string_view text, const std::vector<std::string>& supported);
  // One InvalidText per message.
  void Messages(const std::string& field, std::string_view text, const std::vector<std::string>& messages);

  void NonNegative(const std::string& field, int64_t value);
  void Port(const std::string& field, int64_t port);
  void OneOf(const std::string& field, const std::string& value, const std::vector<std::string>& supported);
  // Port name (IANA_SVC_NAME).
  void PortName(const std::string& field, const std::string& name);
  void Labels(const std::string& field, const google::protobuf::Map<std::string, std::string>& labels);

  FieldErrors Take() { return std::move(errors_); }

 private:
  FieldErrors errors_;
};

using NameRule = std::vector<std::string> (*)(std::string_view);
void ObjectMetadata(const ::k8s::meta::v1::ObjectMeta& meta, bool namespaced, NameRule rule,
                    const std::string& path, Errors& errors);
void ObjectMetadataUpdate(const ::k8s::meta::v1::ObjectMeta& meta, const ::k8s::meta::v1::ObjectMeta& old,
                          const std::string& path, Errors& errors);

void PodSpec(const ::k8s::core::v1::PodSpec& spec, const std::string& path, Errors& errors);
void PodUpdate(const ::k8s::core::v1::Pod& pod, const ::k8s::core::v1::Pod& old, Errors& errors);
void ResourceRequirements(const ::k8s::core::v1::ResourceRequirements& resources, const std::string& path,
                          Errors& errors);

}  // namespace keelson::api::validation
