#include "master/apiserver/authorizer.h"

#include <gtest/gtest.h>

#include "api/core/v1/pod.pb.h"
#include "api/fields.h"

namespace keelson::master {
namespace {

using ::k8s::core::v1::Pod;

// Pods of the namespace `default`.
class Pods : public ClusterReader {
 public:
  explicit Pods(std::vector<Pod> pods = {}) {
    for (Pod& pod : pods) pods_.push_back(std::make_shared<Pod>(std::move(pod)));
  }
  api::ObjectPtr Read(std::string_view, std::string_view resource, std::string_view,
                      std::string_view name) const override {
    for (const auto& pod : pods_) {
      if (resource == "pods" && pod->metadata().name() == name) return pod;
    }
    return nullptr;
  }
  void ForEach(std::string_view, std::string_view resource, std::string_view,
               absl::FunctionRef<bool(const api::Message&)> visit) const override {
    for (const auto& pod : pods_) {
      if (resource == "pods" && !visit(*pod)) return;
    }
  }

 private:
  std::vector<std::shared_ptr<Pod>> pods_;
};

Pod PodOf(std::string name, std::string node) {
  Pod pod;
  pod.mutable_metadata()->set_name(std::move(name));
  pod.mutable_spec()->set_node_name(std::move(node));
  return pod;
}

bool May(const UserInfo& user, std::string verb, std::string group, std::string resource, std::string ns = "",
         std::string name = "", std::string subresource = "", const Pods& pods = Pods(),
         std::string node_name = "") {
  AuthAttributes a;
  a.user = &user;
  a.verb = verb;
  a.group = group;
  a.resource = resource;
  a.ns = ns;
  a.name = name;
  a.subresource = subresource;
  a.node_name = node_name;
  return IsAllowed(a, pods);
}

bool MayPath(const UserInfo& user, std::string path) {
  AuthAttributes a;
  a.user = &user;
  a.verb = "get";
  a.path = path;
  return IsAllowed(a, Pods());
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

TEST(Authorizer, ANodeReadsItsOwnNodeAndPods) {
  EXPECT_TRUE(May(kNode, "get", "", "nodes", "", "n1"));
  EXPECT_TRUE(May(kNode, "watch", "", "nodes", "", "n1"));
  EXPECT_FALSE(May(kNode, "get", "", "nodes", "", "n2"));
  EXPECT_FALSE(May(kNode, "list", "", "nodes"));
  const Pods pods({PodOf("mine", "n1"), PodOf("other", "n2"), PodOf("pending", "")});
  EXPECT_TRUE(May(kNode, "get", "", "pods", "default", "mine", "", pods));
  EXPECT_TRUE(May(kNode, "get", "", "pods", "default", "mine", "status", pods));
  EXPECT_TRUE(May(kNode, "get", "", "pods", "default", "gone", "", pods));  // to be told that it is
  EXPECT_FALSE(May(kNode, "get", "", "pods", "default", "other", "", pods));
  EXPECT_TRUE(May(kNode, "watch", "", "pods", "default", "mine", "", pods));
  EXPECT_FALSE(May(kNode, "list", "", "pods", "default", "other", "", pods));
  // By name across all namespaces, and of what is not there yet.
  EXPECT_FALSE(May(kNode, "list", "", "pods", "", "other", "", pods));
  EXPECT_FALSE(May(kNode, "list", "", "pods", "", "mine", "", pods));
  EXPECT_FALSE(May(kNode, "watch", "", "pods", "default", "gone", "", pods));
  EXPECT_TRUE(May(kNode, "list", "", "pods", "", "mine", "", pods, "n1"));
  EXPECT_FALSE(May(kNode, "get", "", "pods", "default", "pending", "status", pods));
  for (const char* verb : {"list", "watch"}) {
    EXPECT_TRUE(May(kNode, verb, "", "pods", "", "", "", pods, "n1")) << verb;
    EXPECT_FALSE(May(kNode, verb, "", "pods", "", "", "", pods, "n2")) << verb;
    EXPECT_FALSE(May(kNode, verb, "", "pods", "", "", "", pods)) << verb;
  }
}

TEST(Authorizer, ANodeReadsWhatItsPodsReference) {
  Pod pod = PodOf("mine", "n1");
  pod.mutable_spec()->add_image_pull_secrets()->set_name("pull");
  pod.mutable_spec()
      ->add_containers()
      ->add_env_from()
      ->mutable_config_map_ref()
      ->mutable_local_object_reference()
      ->set_name("env");
  const Pods pods({pod});
  EXPECT_TRUE(May(kNode, "get", "", "secrets", "default", "pull", "", pods));
  EXPECT_TRUE(May(kNode, "watch", "", "configmaps", "default", "env", "", pods));
  EXPECT_FALSE(May(kNode, "get", "", "secrets", "default", "env", "", pods));
  EXPECT_FALSE(May(kNode, "update", "", "secrets", "default", "pull", "", pods));
  EXPECT_FALSE(May(kNode, "list", "", "secrets", "", "pull", "", pods));  // those of that name everywhere
  // Else a node could write itself a way to any secret.
  (*pod.mutable_metadata()->mutable_annotations())["kubernetes.io/config.mirror"] = "x";
  EXPECT_FALSE(May(kNode, "get", "", "secrets", "default", "pull", "", Pods({pod})));
  // Nor do the pods of others.
  Pod other = PodOf("other", "n2");
  other.mutable_spec()->add_image_pull_secrets()->set_name("pull");
  EXPECT_FALSE(May(kNode, "get", "", "secrets", "default", "pull", "", Pods({other})));
}

TEST(Authorizer, WhatASelectorLimitsTo) {
  AuthAttributes a;
  SetSelected(*api::FieldSelector::Parse("spec.nodeName=n1,status.phase!=Failed"), a);
  EXPECT_EQ(a.node_name, "n1");
  EXPECT_EQ(a.name, "");
  SetSelected(*api::FieldSelector::Parse("metadata.name=n2"), a);
  EXPECT_EQ(a.node_name, "");
  EXPECT_EQ(a.name, "n2");
}

TEST(Authorizer, ProxyReadsOnly) {
  EXPECT_TRUE(May(kProxy, "watch", "discovery.k8s.io", "endpointslices"));
  EXPECT_TRUE(May(kProxy, "list", "", "nodes"));
  EXPECT_FALSE(May(kProxy, "patch", "", "nodes", "", "n1"));
  EXPECT_FALSE(May(kProxy, "get", "", "secrets", "default", "s"));
}

TEST(Authorizer, Paths) {
  for (const char* path : {"/livez", "/readyz", "/version"}) {
    EXPECT_TRUE(MayPath(kAnonymous, path)) << path;
  }
  for (const char* path : {"/", "/api", "/apis", "/openapi/v2", "/metrics", "/healthz", "/readyz/store"}) {
    EXPECT_FALSE(MayPath(kAnonymous, path)) << path;
  }
  EXPECT_TRUE(MayPath(kNode, "/openapi/v2"));
  EXPECT_TRUE(MayPath(kNode, "/healthz"));
  EXPECT_FALSE(MayPath(kNode, "/metrics"));
  EXPECT_TRUE(MayPath(kAdmin, "/metrics"));
}

}  // namespace
}  // namespace keelson::master
