// The common model of both OpenAPI versions: named schemas reachable from the served kinds, and operations.
#pragma once

#include <google/protobuf/descriptor.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "api/scheme.h"
#include "master/apiserver/registry.h"

namespace keelson::master {

using Json = nlohmann::ordered_json;

enum class OpenApiVersion { kV2, kV3 };

// "io.k8s.api.core.v1.Pod".
std::string DefinitionName(const google::protobuf::Descriptor& message);

// Schemas of all kinds that `rows` use, by name, in order of name.
Json Definitions(const std::vector<const ResourceInfo*>& rows, OpenApiVersion version);
// The `paths` object of `rows`.
Json Paths(const std::vector<const ResourceInfo*>& rows, OpenApiVersion version);

}  // namespace keelson::master
