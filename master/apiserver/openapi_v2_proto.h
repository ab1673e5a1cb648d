// The OpenAPI v2 document as protobuf (package openapi.v2, ../shared/api/openapi-v2.tsv), written straight
// from the JSON model: kubectl 1.20 reads no other form.
#pragma once

#include <string>

#include "master/apiserver/openapi_model.h"

namespace keelson::master {

std::string EncodeOpenApiV2(const Json& document);

}  // namespace keelson::master
