#include "master/admission/admission.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>

#include "api/core/v1/config.pb.h"
#include "api/core/v1/namespace.pb.h"
#include "api/core/v1/node.pb.h"
#include "api/core/v1/pod.pb.h"
#include "api/node/v1/node.pb.h"
#include "api/scheduling/v1/scheduling.pb.h"
#include "api/status_error.h"
#include "base/strings.h"

namespace keelson::master {
namespace {

using ::k8s::core::v1::Namespace;
using ::k8s::core::v1::Node;
using ::k8s::core::v1::Pod;
using ::k8s::core::v1::ServiceAccount;
using ::k8s::scheduling::v1::PriorityClass;

// Objects by "resource/ns/name".
class FakeCluster : public ClusterReader {
 public:
  template <class T>
  void Add(T object) {
    const auto& m = object.metadata();
    objects_[StrCat(api::TypeOf(object).plural, "/", m.namespace_(), "/", m.name())] =
        api::Share(std::move(object));
  }
  api::ObjectPtr Read(std::string_view, std::string_view resource, std::string_view ns,
                      std::string_view name) const override {
    auto it = objects_.find(StrCat(resource, "/", ns, "/", name));
    return it == objects_.end() ? nullptr : it->second;
  }
  void ForEach(std::string_view, std::string_view resource, std::string_view,
               absl::FunctionRef<bool(const api::Message&)> visit) const override {
    for (const auto& [key, object] : objects_) {
      if (key.starts_with(StrCat(resource, "/")) && !visit(*object)) return;
    }
  }

 private:
  std::map<std::string, api::ObjectPtr> objects_;
};

class AdmissionTest : public ::testing::Test {
 protected:
  AdmissionTest() {
    Namespace ns;
    ns.mutable_metadata()->set_name("default");
    cluster_.Add(ns);
    cluster_.Add(Account("default"));
  }
  static ServiceAccount Account(const std::string& name) {
    ServiceAccount account;
    account.mutable_metadata()->set_namespace_("default");
    account.mutable_metadata()->set_name(name);
    return account;
  }
  absl::Status Create(Pod& pod) {
    AdmissionRequest request;
    request.user = &user_;
    request.type = &api::TypeOf(pod);
    request.ns = "default";
    request.name = "p";
    request.object = &pod;
    return DefaultAdmissionChain().Admit(request, cluster_);
  }
  UserInfo user_{"admin", {"system:masters"}};
  FakeCluster cluster_;
};

TEST_F(AdmissionTest, OrderIsUpstreams) {
  std::string names;
  for (std::string_view name : DefaultAdmissionChain().names()) StrAppend(&names, name, " ");
  EXPECT_EQ(names,
            "NamespaceLifecycle ServiceAccount NodeRestriction TaintNodesByCondition Priority "
            "DefaultTolerationSeconds RuntimeClass ");
}

TEST_F(AdmissionTest, TolerationsOfThePodWin) {
  Pod pod;
  auto* t = pod.mutable_spec()->add_tolerations();
  t->set_key("node.kubernetes.io/not-ready");
  t->set_operator_("Exists");
  t->set_effect("NoExecute");
  t->set_toleration_seconds(5);
  ASSERT_TRUE(Create(pod).ok());
  ASSERT_EQ(pod.spec().tolerations_size(), 2);
  EXPECT_EQ(pod.spec().tolerations(0).toleration_seconds(), 5);
  EXPECT_EQ(pod.spec().tolerations(1).key(), "node.kubernetes.io/unreachable");
  Pod tolerates_all;
  tolerates_all.mutable_spec()->add_tolerations()->set_operator_("Exists");
  ASSERT_TRUE(Create(tolerates_all).ok());
  EXPECT_EQ(tolerates_all.spec().tolerations_size(), 1);
}

TEST_F(AdmissionTest, PriorityFollowsTheClass) {
  PriorityClass high;
  high.mutable_metadata()->set_name("high");
  high.set_value(1000);
  high.set_preemption_policy("Never");
  cluster_.Add(high);
  Pod pod;
  pod.mutable_spec()->set_priority_class_name("high");
  ASSERT_TRUE(Create(pod).ok());
  EXPECT_EQ(pod.spec().priority(), 1000);
  EXPECT_EQ(pod.spec().preemption_policy(), "Never");
  Pod unknown;
  unknown.mutable_spec()->set_priority_class_name("low");
  absl::Status status = Create(unknown);
  EXPECT_EQ(api::ToApiStatus(status).message(),
            "pods \"p\" is forbidden: no PriorityClass with name low was found");
  Pod own;
  own.mutable_spec()->set_priority(7);
  EXPECT_TRUE(api::IsForbidden(Create(own)));
  high.mutable_metadata()->set_name("default");
  high.set_global_default(true);
  cluster_.Add(high);
  Pod plain;
  ASSERT_TRUE(Create(plain).ok());
  EXPECT_EQ(plain.spec().priority_class_name(), "default");
}

TEST_F(AdmissionTest, RuntimeClassMustExistAndIsTakenOver) {
  Pod pod;
  pod.mutable_spec()->set_runtime_class_name("light");
  absl::Status status = Create(pod);
  EXPECT_TRUE(api::IsForbidden(status));
  EXPECT_EQ(status.message(), "pods \"p\" is forbidden: pod rejected: RuntimeClass \"light\" not found");

  ::k8s::node::v1::RuntimeClass light;
  light.mutable_metadata()->set_name("light");
  light.set_handler("crun");
  cluster_.Add(light);
  Pod plain = pod;
  ASSERT_TRUE(Create(plain).ok());
  EXPECT_TRUE(plain.spec().overhead().empty());

  (*light.mutable_overhead()->mutable_pod_fixed())["memory"].set_string("8Mi");
  (*light.mutable_scheduling()->mutable_node_selector())["runtime"] = "crun";
  auto* toleration = light.mutable_scheduling()->add_tolerations();
  toleration->set_key("runtime");
  toleration->set_operator_("Exists");
  cluster_.Add(light);
  Pod whole = pod;
  *whole.mutable_spec()->add_tolerations() = *toleration;
  ASSERT_TRUE(Create(whole).ok());
  EXPECT_EQ(whole.spec().overhead().at("memory").string(), "8Mi");
  EXPECT_EQ(whole.spec().node_selector().at("runtime"), "crun");
  EXPECT_EQ(std::count_if(whole.spec().tolerations().begin(), whole.spec().tolerations().end(),
                          [](const auto& t) { return t.key() == "runtime"; }),
            1);
  Pod same = pod;
  (*same.mutable_spec()->mutable_overhead())["memory"].set_string("8192Ki");
  EXPECT_TRUE(Create(same).ok());
  Pod other = pod;
  (*other.mutable_spec()->mutable_overhead())["memory"].set_string("9Mi");
  EXPECT_NE(Create(other).message().find("doesn't match RuntimeClass's defined Overhead"), std::string::npos);
  Pod elsewhere = pod;
  (*elsewhere.mutable_spec()->mutable_node_selector())["runtime"] = "runc";
  EXPECT_NE(
      Create(elsewhere).message().find("conflict: runtimeClass.scheduling.nodeSelector[runtime] = crun"),
      std::string::npos);
  Pod none;
  (*none.mutable_spec()->mutable_overhead())["memory"].set_string("9Mi");
  EXPECT_NE(Create(none).message().find("without corresponding RuntimeClass"), std::string::npos);
}

TEST_F(AdmissionTest, MirrorPodsKeepTheirAccount) {
  Pod pod;
  (*pod.mutable_metadata()->mutable_annotations())["kubernetes.io/config.mirror"] = "x";
  ASSERT_TRUE(Create(pod).ok());
  EXPECT_EQ(pod.spec().service_account_name(), "");
}

// What NodeRestriction says to the node n1.
class NodeRestrictionTest : public ::testing::Test {
 protected:
  NodeRestrictionTest() {
    Node node;
    node.mutable_metadata()->set_name("n1");
    node.mutable_metadata()->set_uid("u1");
    cluster_.Add(node);
    pod_.mutable_spec()->set_node_name("n1");
    (*pod_.mutable_metadata()->mutable_annotations())["kubernetes.io/config.mirror"] = "x";
    auto* owner = pod_.mutable_metadata()->add_owner_references();
    owner->set_api_version("v1");
    owner->set_kind("Node");
    owner->set_name("n1");
    owner->set_uid("u1");
    owner->set_controller(true);
  }
  std::string Says(Operation operation, api::Message& object, const api::Message* old = nullptr,
                   std::string subresource = "") {
    AdmissionRequest request;
    request.user = &user_;
    request.type = &api::TypeOf(object);
    request.operation = operation;
    request.subresource = std::move(subresource);
    request.ns = "default";
    request.name = "n1";
    request.object = &object;
    request.old_object = old;
    return std::string(NewNodeRestriction()->Admit(request, cluster_).message());
  }
  std::string SaysToPod(absl::FunctionRef<void(Pod&)> change) {
    Pod pod = pod_;
    change(pod);
    return Says(Operation::kCreate, pod);
  }
  UserInfo user_{"system:node:n1", {"system:nodes", "system:authenticated"}};
  FakeCluster cluster_;
  Pod pod_;
};

TEST_F(NodeRestrictionTest, MirrorPodsAreTheNodesAndReferenceNothing) {
  EXPECT_EQ(SaysToPod([](Pod&) {}), "");
  struct Case {
    std::string says;
    std::function<void(Pod&)> change;
  };
  for (const Case& c : std::initializer_list<Case>{
           {"can only create mirror pods", [](Pod& p) { p.mutable_metadata()->clear_annotations(); }},
           {"spec.nodeName set to itself", [](Pod& p) { p.mutable_spec()->set_node_name("n2"); }},
           {"an owner reference set to itself",
            [](Pod& p) { p.mutable_metadata()->clear_owner_references(); }},
           {"an owner reference set to itself",
            [](Pod& p) { p.mutable_metadata()->mutable_owner_references(0)->set_name("n2"); }},
           {"a controller owner reference",
            [](Pod& p) { p.mutable_metadata()->mutable_owner_references(0)->set_controller(false); }},
           {"must not set blockOwnerDeletion",
            [](Pod& p) {
              p.mutable_metadata()->mutable_owner_references(0)->set_block_owner_deletion(true);
            }},
           {"UID mismatch", [](Pod& p) { p.mutable_metadata()->mutable_owner_references(0)->set_uid("u0"); }},
           {"reference a service account", [](Pod& p) { p.mutable_spec()->set_service_account_name("a"); }},
           {"reference secrets", [](Pod& p) { p.mutable_spec()->add_image_pull_secrets()->set_name("s"); }},
           {"reference secrets",
            [](Pod& p) {
              p.mutable_spec()
                  ->add_volumes()
                  ->mutable_volume_source()
                  ->mutable_csi()
                  ->mutable_node_publish_secret_ref()
                  ->set_name("s");
            }},
           {"reference secrets",
            [](Pod& p) {
              p.mutable_spec()
                  ->add_volumes()
                  ->mutable_volume_source()
                  ->mutable_projected()
                  ->add_sources()
                  ->mutable_secret()
                  ->mutable_local_object_reference()
                  ->set_name("s");
            }},
           {"reference configmaps",
            [](Pod& p) {
              p.mutable_spec()
                  ->add_init_containers()
                  ->add_env()
                  ->mutable_value_from()
                  ->mutable_config_map_key_ref()
                  ->mutable_local_object_reference()
                  ->set_name("c");
            }},
           {"reference configmaps",
            [](Pod& p) {
              p.mutable_spec()
                  ->add_containers()
                  ->add_env_from()
                  ->mutable_config_map_ref()
                  ->mutable_local_object_reference()
                  ->set_name("c");
            }},
           {"reference persistentvolumeclaims",
            [](Pod& p) {
              p.mutable_spec()
                  ->add_volumes()
                  ->mutable_volume_source()
                  ->mutable_persistent_volume_claim()
                  ->set_claim_name("c");
            }},
           {"reference resourceclaims",
            [](Pod& p) { p.mutable_spec()->add_resource_claims()->set_name("c"); }},
       }) {
    EXPECT_THAT(SaysToPod(c.change), ::testing::HasSubstr(c.says));
  }
}

TEST_F(NodeRestrictionTest, TheStatusOfAPodDoesNotRelabelIt) {
  Pod pod = pod_;
  (*pod.mutable_metadata()->mutable_labels())["app"] = "a";
  Pod changed = pod;
  changed.mutable_status()->set_phase("Running");
  EXPECT_EQ(Says(Operation::kUpdate, changed, &pod, "status"), "");
  (*changed.mutable_metadata()->mutable_labels())["app"] = "b";
  EXPECT_THAT(Says(Operation::kUpdate, changed, &pod, "status"),
              ::testing::HasSubstr("cannot update labels through pod status"));
}

TEST_F(NodeRestrictionTest, LabelsOfANode) {
  Node old;
  old.mutable_metadata()->set_name("n1");
  (*old.mutable_metadata()->mutable_labels())["node-restriction.kubernetes.io/kept"] = "1";
  auto says = [&](std::string label) {
    Node now = old;
    (*now.mutable_metadata()->mutable_labels())[label] = "2";
    return Says(Operation::kUpdate, now, &old);
  };
  for (const char* label : {"kubernetes.io/hostname", "beta.kubernetes.io/os", "topology.kubernetes.io/zone",
                            "example.com/x", "rack", "node.kubernetes.io/y", "a.kubelet.kubernetes.io/z"}) {
    EXPECT_EQ(says(label), "") << label;
  }
  for (const char* label :
       {"node-restriction.kubernetes.io/kept", "node-restriction.kubernetes.io/new", "kubernetes.io/role",
        "node-role.kubernetes.io/control-plane", "x.k8s.io/y", "a.node-restriction.kubernetes.io/z"}) {
    EXPECT_THAT(says(label), ::testing::HasSubstr(StrCat("not allowed to modify labels: ", label)));
  }
  Node without = old;
  without.mutable_metadata()->clear_labels();
  EXPECT_THAT(Says(Operation::kUpdate, without, &old),
              ::testing::HasSubstr("node-restriction.kubernetes.io/kept"));
  EXPECT_THAT(Says(Operation::kCreate, old), ::testing::HasSubstr("not allowed to set the following labels"));
  Node owned = old;
  owned.mutable_metadata()->add_owner_references()->set_name("x");
  EXPECT_THAT(Says(Operation::kUpdate, owned, &old),
              ::testing::HasSubstr("not allowed to modify ownerReferences"));
  Node tainted = old;
  tainted.mutable_spec()->add_taints()->set_key("x");
  EXPECT_THAT(Says(Operation::kUpdate, tainted, &old), ::testing::HasSubstr("not allowed to modify taints"));
}

TEST_F(AdmissionTest, TheServiceAccountMustExist) {
  Pod pod;
  pod.mutable_spec()->set_service_account_name("robot");
  absl::Status status = Create(pod);
  EXPECT_TRUE(api::IsForbidden(status));
  EXPECT_EQ(status.message(),
            "pods \"p\" is forbidden: error looking up service account default/robot: serviceaccount "
            "\"robot\" not found");
  cluster_.Add(Account("robot"));
  EXPECT_TRUE(Create(pod).ok());
  Pod old;  // the field's former name
  old.mutable_spec()->set_service_account("robot");
  ASSERT_TRUE(Create(old).ok());
  EXPECT_EQ(old.spec().service_account_name(), "robot");
}

TEST_F(AdmissionTest, PullSecretsOfTheAccountUnlessThePodHasItsOwn) {
  ServiceAccount account = Account("robot");
  account.add_image_pull_secrets()->set_name("registry");
  cluster_.Add(account);
  Pod pod;
  pod.mutable_spec()->set_service_account_name("robot");
  Pod own = pod, mirror = pod;
  ASSERT_TRUE(Create(pod).ok());
  ASSERT_EQ(pod.spec().image_pull_secrets_size(), 1);
  EXPECT_EQ(pod.spec().image_pull_secrets(0).name(), "registry");
  own.mutable_spec()->add_image_pull_secrets()->set_name("mine");
  ASSERT_TRUE(Create(own).ok());
  ASSERT_EQ(own.spec().image_pull_secrets_size(), 1);
  EXPECT_EQ(own.spec().image_pull_secrets(0).name(), "mine");
  (*mirror.mutable_metadata()->mutable_annotations())["kubernetes.io/config.mirror"] = "x";
  ASSERT_TRUE(Create(mirror).ok());
  EXPECT_EQ(mirror.spec().image_pull_secrets_size(), 0);
}

TEST_F(AdmissionTest, NothingNewInAnEndingNamespace) {
  Namespace ns;
  ns.mutable_metadata()->set_name("default");
  ns.mutable_status()->set_phase("Terminating");
  cluster_.Add(ns);
  Pod pod;
  absl::Status status = Create(pod);
  EXPECT_TRUE(api::IsForbidden(status));
  EXPECT_EQ(api::ToApiStatus(status).details().causes(0).reason(), "NamespaceTerminating");
}

}  // namespace
}  // namespace keelson::master
