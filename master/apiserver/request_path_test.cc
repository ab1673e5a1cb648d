#include "master/apiserver/request_path.h"

#include <gtest/gtest.h>

#include "base/strings.h"

namespace keelson::master {
namespace {

std::string Parse(std::string_view path) {
  RequestPath p;
  if (!ParseRequestPath(path, &p)) return "none";
  return StrCat(p.group, "|", p.version, "|", p.watch ? "w" : "", "|", p.ns, "|", p.resource, "|", p.name,
                "|", p.subresource);
}

TEST(RequestPath, Forms) {
  EXPECT_EQ(Parse("/api/v1/pods"), "|v1|||pods||");
  EXPECT_EQ(Parse("/api/v1/namespaces/d/pods/a/log"), "|v1||d|pods|a|log");
  EXPECT_EQ(Parse("/api/v1/namespaces/d"), "|v1|||namespaces|d|");
  EXPECT_EQ(Parse("/api/v1/namespaces/d/finalize"), "|v1|||namespaces|d|finalize");
  EXPECT_EQ(Parse("/api/v1/namespaces/d/status"), "|v1|||namespaces|d|status");
  EXPECT_EQ(Parse("/api/v1/watch/namespaces/d/pods"), "|v1|w|d|pods||");
  EXPECT_EQ(Parse("/apis/coordination.k8s.io/v1/namespaces/n/leases/x"),
            "coordination.k8s.io|v1||n|leases|x|");
  EXPECT_EQ(Parse("/api/v1/nodes/"), "|v1|||nodes||");
}

TEST(RequestPath, NotResources) {
  for (const char* path : {"/", "", "/api", "/api/v1", "/apis/g/v1", "/version", "/api//v1/pods",
                           "/api/v1/watch", "/api/v1/namespaces/d/pods/a/log/x", "/metrics"}) {
    EXPECT_EQ(Parse(path), "none") << path;
  }
}

}  // namespace
}  // namespace keelson::master
