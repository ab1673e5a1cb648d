#include "master/apiserver/authorizer.h"

#include <gtest/gtest.h>

namespace keelson::master {
namespace {

class NoObjects : public ClusterReader {
 public:
  api::ObjectPtr Read(std::string_view, std::string_view, std::string_view, std::string_view) const override {
    return nullptr;
  }
  void ForEach(std::string_view, std::string_view, std::string_view,
               absl::FunctionRef<bool(const api::Message&)>) const override {}
};

bool May(const UserInfo& user, std::string verb, std::string group, std::string resource, std::string ns = "",
         std::string name = "", std::string subresource = "") {
  AuthAttributes a;
  a.user = &user;
  a.verb = verb;
  a.group = group;
  a.resource = resource;
  a.ns = ns;
  a.name = name;
  a.subresource = subresource;
  return IsAllowed(a, NoObjects());
}

bool MayPath(const UserInfo& user, std::string path) {
  AuthAttributes a;
  a.user = &user;
  a.verb = "get";
  a.path = path;
  return IsAllowed(a, NoObjects());
}

const UserInfo kAdmin{"admin", {"system:masters"}};
const UserInfo kNode{"system:node:n1", {"system:nodes", "system:authenticated"}};
const UserInfo kNoGroup{"system:node:n1", {"system:authenticated"}};
const UserInfo kProxy{"system:kube-proxy", {"system:authenticated"}};
const UserInfo kAnonymous{"system:anonymous", {"system:unauthenticated"}};

TEST(Authorizer, Masters) { EXPECT_TRUE(May(kAdmin, "delete", "x", "y")); }

TEST(Authorizer, Nodes) {
  EXPECT_TRUE(May(kNode, "patch", "", "nodes", "", "n1", "status"));
  EXPECT_FALSE(May(kNode, "patch", "", "nodes", "", "n2", "status"));
  EXPECT_FALSE(May(kNode, "delete", "", "nodes", "", "n1"));
  EXPECT_TRUE(May(kNode, "update", "coordination.k8s.io", "leases", "kube-node-lease", "n1"));
  EXPECT_FALSE(May(kNode, "update", "coordination.k8s.io", "leases", "kube-node-lease", "n2"));
  EXPECT_FALSE(May(kNode, "get", "coordination.k8s.io", "leases", "kube-system", "n1"));
  EXPECT_TRUE(May(kNode, "create", "storage.k8s.io", "csinodes"));
  EXPECT_TRUE(May(kNode, "update", "storage.k8s.io", "csinodes", "", "n1"));
  EXPECT_FALSE(May(kNode, "update", "storage.k8s.io", "csinodes", "", "n2"));
  EXPECT_FALSE(May(kNode, "list", "storage.k8s.io", "csinodes"));
  EXPECT_TRUE(May(kNode, "watch", "storage.k8s.io", "csidrivers"));
  EXPECT_FALSE(May(kNode, "create", "storage.k8s.io", "csidrivers"));
  EXPECT_TRUE(May(kNode, "list", "certificates.k8s.io", "podcertificaterequests"));
  EXPECT_TRUE(May(kNode, "watch", "", "services"));
  EXPECT_TRUE(May(kNode, "create", "", "events", "default"));
  EXPECT_FALSE(May(kNode, "list", "", "secrets", "default"));
  EXPECT_FALSE(May(kNode, "get", "", "secrets", "default", "s"));
  EXPECT_FALSE(May(kNode, "create", "", "services", "default"));
  EXPECT_FALSE(May(kNoGroup, "list", "", "pods"));
}

TEST(Authorizer, ProxyReadsOnly) {
  EXPECT_TRUE(May(kProxy, "watch", "discovery.k8s.io", "endpointslices"));
  EXPECT_TRUE(May(kProxy, "list", "", "nodes"));
  EXPECT_FALSE(May(kProxy, "patch", "", "nodes", "", "n1"));
  EXPECT_FALSE(May(kProxy, "get", "", "secrets", "default", "s"));
}

TEST(Authorizer, Paths) {
  for (const char* path : {"/healthz", "/livez", "/readyz", "/version", "/readyz/store"}) {
    EXPECT_TRUE(MayPath(kAnonymous, path)) << path;
  }
  for (const char* path : {"/", "/api", "/apis", "/openapi/v2", "/metrics"}) {
    EXPECT_FALSE(MayPath(kAnonymous, path)) << path;
  }
  EXPECT_TRUE(MayPath(kNode, "/openapi/v2"));
  EXPECT_FALSE(MayPath(kNode, "/metrics"));
  EXPECT_TRUE(MayPath(kAdmin, "/metrics"));
}

}  // namespace
}  // namespace keelson::master
