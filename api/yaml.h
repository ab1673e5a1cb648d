// YAML to JSON as kubectl reads it: YAML 1.1 scalars, anchors, merge keys, several documents.
//
// Duplicate keys are refused. Alias expansion, depth and size are bounded. Errors are InvalidArgument and
// name the line; where a line looks like `nodePort:30001` they say that a space is missing after the colon.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <google/protobuf/message.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "api/codec.h"

namespace keelson::api {

inline constexpr size_t kMaxYamlBytes = 3 * 1024 * 1024;         // text read
inline constexpr size_t kMaxYamlOutputBytes = 16 * 1024 * 1024;  // JSON made of it, aliases expanded
inline constexpr int kMaxYamlDepth = 128;                        // levels
inline constexpr size_t kMaxYamlDocuments = 10000;

struct YamlDocument {
  std::string json;
  int line = 0;  // 1-based line of its first node
};

// Empty documents are left out.
absl::StatusOr<std::vector<YamlDocument>> YamlToJson(std::string_view yaml);
// Exactly one document; JSON text is YAML too.
absl::StatusOr<std::string> YamlDocumentToJson(std::string_view yaml);

// All objects of a manifest file (YAML or JSON). Objects of kind List are not expanded.
absl::StatusOr<std::vector<Decoded>> DecodeManifest(std::string_view text, const DecodeOptions& options = {});
// One document into a message of known type (KubeletConfiguration, kubeconfig).
absl::Status DecodeYamlInto(std::string_view yaml, google::protobuf::Message& message,
                            std::vector<std::string>* strict_errors = nullptr);

// JSON text as block-style YAML (for people and `-o yaml` style dumps). Keys keep their order.
std::string JsonToYaml(std::string_view json);

}  // namespace keelson::api
