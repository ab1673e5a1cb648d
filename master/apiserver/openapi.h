// OpenAPI: the schemas of everything served, made from the message descriptors and the registry at first use
// and kept compressed. v2 as JSON and as protobuf (kubectl 1.20), v3 per group and version.
#pragma once

#include <absl/status/statusor.h>

#include <map>
#include <memory>
#include <string>

#include "net/http_message.h"

namespace keelson::master {

class OpenApi {
 public:
  // "/openapi/v2", "/openapi/v3", "/openapi/v3/api/v1", "/openapi/v3/apis/GROUP/VERSION". UnknownPath for
  // others.
  absl::StatusOr<net::HttpResponse> Serve(const net::HttpRequest& request);

 private:
  struct Document {
    net::SharedBytes gzip;
    std::string etag;
  };
  // The document of that name, made by `make` at first use.
  const Document& Get(const std::string& name, std::string (*make)(const std::string& name));
  net::HttpResponse Respond(const net::HttpRequest& request, const Document& document,
                            std::string content_type);
  std::map<std::string, Document> documents_;
};

// Uncompressed documents, for tests.
std::string OpenApiV2Json();
std::string OpenApiV2Protobuf();
// `group_version` as in the URL: "api/v1", "apis/discovery.k8s.io/v1".
std::string OpenApiV3Json(const std::string& group_version);

}  // namespace keelson::master
