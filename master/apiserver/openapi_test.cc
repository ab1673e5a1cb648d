#include "master/apiserver/openapi.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "master/apiserver/openapi_model.h"

namespace keelson::master {
namespace {

// Every reference of the document leads somewhere.
void CheckReferences(const Json& node, const Json& document) {
  if (node.is_object()) {
    if (auto it = node.find("$ref"); it != node.end() && it->is_string()) {
      std::string pointer = it->get<std::string>().substr(1);
      EXPECT_TRUE(document.contains(Json::json_pointer(pointer))) << pointer;
    }
    for (const auto& [key, value] : node.items()) CheckReferences(value, document);
  } else if (node.is_array()) {
    for (const Json& value : node) CheckReferences(value, document);
  }
}

TEST(OpenApi, V2) {
  Json doc = Json::parse(OpenApiV2Json());
  CheckReferences(doc, doc);
  const Json& rc = doc["definitions"]["io.k8s.api.core.v1.ReplicationController"];
  EXPECT_EQ(rc["x-kubernetes-group-version-kind"].dump(),
            R"([{"group":"","kind":"ReplicationController","version":"v1"}])");
  EXPECT_EQ(rc["properties"]["spec"]["$ref"], "#/definitions/io.k8s.api.core.v1.ReplicationControllerSpec");
  EXPECT_TRUE(rc["properties"].contains("apiVersion"));
  const Json& volume = doc["definitions"]["io.k8s.api.core.v1.Volume"]["properties"];
  EXPECT_TRUE(volume.contains("emptyDir"));  // inline struct
  EXPECT_EQ(doc["definitions"]["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"]
               ["x-kubernetes-patch-merge-key"],
            "name");
  EXPECT_EQ(doc["definitions"]["io.k8s.apimachinery.pkg.util.intstr.IntOrString"]["format"], "int-or-string");
}

TEST(OpenApi, FieldValidationOnPostAndPatch) {
  Json v2 = Json::parse(OpenApiV2Json()), v3 = Json::parse(OpenApiV3Json("api/v1"));
  auto has = [](const Json& operation) {
    for (const Json& p : operation.at("parameters")) {
      if (p.at("name") == "fieldValidation" && p.at("in") == "query") return true;
    }
    return false;
  };
  for (const Json* doc : {&v2, &v3}) {
    const Json& paths = doc->at("paths");
    EXPECT_TRUE(has(paths.at("/api/v1/namespaces/{namespace}/pods").at("post")));
    const Json& patch = paths.at("/api/v1/namespaces/{namespace}/pods/{name}").at("patch");
    EXPECT_TRUE(has(patch));
    EXPECT_EQ(patch.at("x-kubernetes-group-version-kind").at("kind"), "Pod");
    std::set<std::string> ids;
    for (const auto& [url, path] : paths.items()) {
      for (const char* method : {"get", "put", "post", "delete", "patch"}) {
        if (!path.contains(method)) continue;
        EXPECT_TRUE(ids.insert(path[method]["operationId"]).second) << path[method]["operationId"];
      }
    }
  }
}

TEST(OpenApi, V3IsClosed) {
  for (const char* gv :
       {"api/v1", "apis/discovery.k8s.io/v1", "apis/coordination.k8s.io/v1", "apis/events.k8s.io/v1"}) {
    Json doc = Json::parse(OpenApiV3Json(gv));
    CheckReferences(doc, doc);
  }
}

TEST(OpenApi, ServesFormsAndCaches) {
  OpenApi openapi;
  net::HttpRequest request;
  request.method = "GET";
  request.target = *net::HttpTarget::Parse("/openapi/v2");
  request.headers.Add("Accept", "application/com.github.proto-openapi.spec.v2@v1.0+protobuf");
  auto proto = openapi.Serve(request);
  ASSERT_TRUE(proto.ok());
  std::string body = proto->body.Flatten();
  EXPECT_EQ(body.substr(0, 5), std::string("\x0a\x03") + "2.0");  // swagger: "2.0"
  request.headers.Set("If-None-Match", std::string(proto->headers.Get("Etag")));
  EXPECT_EQ(openapi.Serve(request)->status, 304);
  request.target = *net::HttpTarget::Parse("/openapi/v3");
  Json index = Json::parse(openapi.Serve(request)->body.Flatten());
  std::string url = index["paths"]["api/v1"]["serverRelativeURL"];
  EXPECT_TRUE(url.starts_with("/openapi/v3/api/v1?hash="));
  request.target = *net::HttpTarget::Parse(url);
  request.headers = {};
  request.headers.Add("Accept-Encoding", "gzip");
  auto v3 = openapi.Serve(request);
  ASSERT_TRUE(v3.ok());
  EXPECT_EQ(v3->headers.Get("Content-Encoding"), "gzip");
  request.target = *net::HttpTarget::Parse("/openapi/v3/apis/none/v1");
  EXPECT_FALSE(openapi.Serve(request).ok());
}

}  // namespace
}  // namespace keelson::master
