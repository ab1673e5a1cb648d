// The whole master in one process: API server on a memory store, all controllers, the scheduler; nodes are
// objects.
#include <gtest/gtest.h>

#include <cstdio>
#include <ctime>
#include <map>

#include "api/codec.h"
#include "api/core/v1/config.pb.h"
#include "api/core/v1/endpoints.pb.h"
#include "api/core/v1/event.pb.h"
#include "api/core/v1/namespace.pb.h"
#include "api/core/v1/node.pb.h"
#include "api/discovery/v1/discovery.pb.h"
#include "base/strings.h"
#include "master/apiserver/testing/fixture.h"
#include "master/controllers/controller_manager.h"
#include "master/scheduler/scheduler.h"

namespace keelson::master {
namespace {

namespace corev1 = ::k8s::core::v1;
using Slice = ::k8s::discovery::v1::EndpointSlice;

class ClusterTest : public ApiServerTest {
 protected:
  ClusterTest() {
    controller_client_ = server_->NewClient("system:kube-controller-manager");
    ControllerManagerOptions options;
    options.advertise_address = "192.0.2.1";
    manager_ = std::make_unique<ControllerManager>(env_, *controller_client_, options);
    manager_->Add([](ControllerContext context) { return std::make_unique<Scheduler>(context); });
    EXPECT_TRUE(env_.Await(manager_->Start()).ok());
    env_.Advance(absl::Seconds(1));
  }
  ~ClusterTest() override {
    env_.AwaitVoid(manager_->Stop());
    manager_.reset();
    controller_client_.reset();
  }
  template <class T>
  T Parse(const std::string& json) {
    auto object = api::DecodeJsonAs<T>(json);
    EXPECT_TRUE(object.ok()) << object.status();
    return *object;
  }
  template <class T>
  void Create(const std::string& json) {
    auto created = env_.Await(client_->Create<T>(Parse<T>(json)));
    EXPECT_TRUE(created.ok()) << created.status();
  }
  template <class T>
  std::shared_ptr<const T> Find(const std::string& ns, const std::string& name) {
    auto found = env_.Await(client_->Get<T>(ns, name));
    return found.ok() ? *found : nullptr;
  }
  template <class T>
  std::vector<std::shared_ptr<const T>> All(const std::string& ns = "") {
    std::vector<std::shared_ptr<const T>> out;
    auto list = env_.Await(client_->List(client::GvrOf<T>(), ns, client::ListOptions()));
    EXPECT_TRUE(list.ok()) << list.status();
    for (const auto& object : list->items) out.push_back(api::As<T>(object));
    return out;
  }
  // Registers a node as a kubelet does: create, then a ready status.
  void Join(const std::string& name) {
    Create<corev1::Node>(StrCat(R"({"metadata":{"name":")", name, R"("}})"));
    auto ready = env_.Await(client_->Patch<corev1::Node>(
        "", name, client::PatchType::kStrategicMerge,
        R"({"status":{"capacity":{"cpu":"64","memory":"256Gi","pods":"110"},"allocatable":{"cpu":"64","memory":"256Gi","pods":"110"},"conditions":[{"type":"Ready","status":"True"}]}})",
        "status"));
    EXPECT_TRUE(ready.ok()) << ready.status();
  }
  void CreateRc(const std::string& ns, int replicas) {
    Create<corev1::ReplicationController>(
        StrCat(R"({"metadata":{"name":"web","namespace":")", ns, R"("},"spec":{"replicas":)", replicas,
               R"(,"selector":{"app":"web"},"template":{"metadata":{"labels":{"app":"web"}},)",
               R"("spec":{"containers":[{"name":"c","image":"i"}]}}}})"));
  }
  int Bound(const std::string& ns) {
    int bound = 0;
    for (const auto& pod : All<corev1::Pod>(ns)) bound += !pod->spec().node_name().empty();
    return bound;
  }
  std::unique_ptr<client::ApiClient> controller_client_;
  std::unique_ptr<ControllerManager> manager_;
};

TEST_F(ClusterTest, BeginsWithNamespacesAccountsAndTheKubernetesService) {
  EXPECT_NE(Find<corev1::ServiceAccount>("kube-system", "default"), nullptr);
  auto service = Find<corev1::Service>("default", "kubernetes");
  ASSERT_NE(service, nullptr);
  EXPECT_EQ(service->spec().cluster_ip(), "10.96.0.1");
  std::string revision = service->metadata().resource_version();
  env_.Advance(absl::Minutes(1));
  // API server and controller agree on it: nobody writes it again.
  EXPECT_EQ(Find<corev1::Service>("default", "kubernetes")->metadata().resource_version(), revision);
  ASSERT_TRUE(env_.Await(client_->Delete<corev1::Service>("default", "kubernetes")).ok());
  env_.Advance(absl::Seconds(1));
  ASSERT_NE(Find<corev1::Service>("default", "kubernetes"), nullptr);
  EXPECT_EQ(Find<corev1::Service>("default", "kubernetes")->spec().cluster_ip(), "10.96.0.1");
  EXPECT_NE(Find<Slice>("default", "kubernetes"), nullptr);
  EXPECT_NE(Find<corev1::Endpoints>("default", "kubernetes"), nullptr);
}

TEST_F(ClusterTest, ANodeJoinsAndGetsItsBlockAndPods) {
  CreateRc("default", 2);
  env_.Advance(absl::Seconds(1));
  EXPECT_EQ(Bound("default"), 0);
  Join("n1");
  env_.Advance(absl::Seconds(3));
  auto node = Find<corev1::Node>("", "n1");
  EXPECT_EQ(node->spec().pod_cidr(), "10.244.0.0/24");
  EXPECT_EQ(node->spec().taints_size(), 0);
  EXPECT_EQ(Bound("default"), 2);
  EXPECT_EQ(Find<corev1::ReplicationController>("default", "web")->status().replicas(), 2);
}

TEST_F(ClusterTest, BackgroundDeletionTakesThePodsOrphaningLeavesThem) {
  CreateRc("default", 3);
  env_.Advance(absl::Seconds(1));
  ASSERT_EQ(All<corev1::Pod>().size(), 3u);
  client::DeleteOptions options;
  options.propagation_policy = "Orphan";
  ASSERT_TRUE(env_.Await(client_->Delete<corev1::ReplicationController>("default", "web", options)).ok());
  env_.Advance(absl::Seconds(1));
  EXPECT_EQ(All<corev1::ReplicationController>().size(), 0u);
  ASSERT_EQ(All<corev1::Pod>().size(), 3u);
  EXPECT_EQ(All<corev1::Pod>()[0]->metadata().owner_references_size(), 0);
  CreateRc("default", 3);  // adopts them
  env_.Advance(absl::Seconds(1));
  ASSERT_EQ(All<corev1::Pod>().size(), 3u);
  options.propagation_policy = "Foreground";
  ASSERT_TRUE(env_.Await(client_->Delete<corev1::ReplicationController>("default", "web", options)).ok());
  env_.Advance(absl::Seconds(1));
  EXPECT_EQ(All<corev1::Pod>().size(), 0u);
  EXPECT_EQ(All<corev1::ReplicationController>().size(), 0u);
}

TEST_F(ClusterTest, ADeletedNamespaceIsEmptiedAndGoes) {
  Create<corev1::Namespace>(R"({"metadata":{"name":"x"}})");
  env_.Advance(absl::Seconds(1));
  EXPECT_NE(Find<corev1::ServiceAccount>("x", "default"), nullptr);
  CreateRc("x", 2);
  Create<corev1::ConfigMap>(R"({"metadata":{"name":"c","namespace":"x"}})");
  env_.Advance(absl::Seconds(1));
  ASSERT_TRUE(env_.Await(client_->Delete<corev1::Namespace>("", "x")).ok());
  env_.Advance(absl::Seconds(10));
  EXPECT_EQ(Find<corev1::Namespace>("", "x"), nullptr);
  EXPECT_EQ(All<corev1::Pod>("x").size(), 0u);
  EXPECT_EQ(All<corev1::ServiceAccount>("x").size(), 0u);
}

TEST_F(ClusterTest, AnEndingNamespaceSaysWhatHoldsItUp) {
  Create<corev1::Namespace>(R"({"metadata":{"name":"x"}})");
  Create<corev1::ConfigMap>(R"({"metadata":{"name":"c","namespace":"x","finalizers":["test/hold"]}})");
  ASSERT_TRUE(env_.Await(client_->Delete<corev1::Namespace>("", "x")).ok());
  env_.Advance(absl::Seconds(10));
  auto ns = Find<corev1::Namespace>("", "x");
  ASSERT_NE(ns, nullptr);
  ASSERT_EQ(ns->status().conditions_size(), 5);
  EXPECT_EQ(ns->status().phase(), "Terminating");
  EXPECT_EQ(ns->status().conditions(3).message(),
            "Some resources are remaining: configmaps. has 1 resource instances");
  EXPECT_EQ(ns->status().conditions(4).message(),
            "Some content in the namespace has finalizers remaining: test/hold in 1 resource instances");
  std::string revision = ns->metadata().resource_version();
  env_.Advance(absl::Seconds(10));
  EXPECT_EQ(Find<corev1::Namespace>("", "x")->metadata().resource_version(), revision);
  ASSERT_TRUE(env_.Await(client_->Patch<corev1::ConfigMap>("x", "c", client::PatchType::kMerge,
                                                           R"({"metadata":{"finalizers":null}})"))
                  .ok());
  env_.Advance(absl::Seconds(10));
  EXPECT_EQ(Find<corev1::Namespace>("", "x"), nullptr);
}

TEST_F(ClusterTest, HandMadeEndpointsAreServed) {
  Create<corev1::Endpoints>(
      R"({"metadata":{"name":"db","namespace":"default"},"subsets":[{"addresses":[{"ip":"192.0.2.9"}],"notReadyAddresses":[{"ip":"192.0.2.10"}],"ports":[{"port":5432}]}]})");
  env_.Advance(absl::Seconds(1));
  Create<corev1::Service>(
      R"({"metadata":{"name":"db","namespace":"default"},"spec":{"ports":[{"port":5432}]}})");
  env_.Advance(absl::Seconds(1));
  auto mirrors = [&] {
    std::vector<std::shared_ptr<const Slice>> out;
    for (const auto& slice : All<Slice>("default")) {
      if (slice->metadata().labels().contains("endpointslice.kubernetes.io/managed-by")) out.push_back(slice);
    }
    return out;
  };
  ASSERT_EQ(mirrors().size(), 1u);
  EXPECT_EQ(mirrors()[0]->endpoints_size(), 2);
  EXPECT_EQ(mirrors()[0]->endpoints(0).addresses(0), "192.0.2.9");
  std::string revision = mirrors()[0]->metadata().resource_version();
  env_.Advance(absl::Minutes(1));
  ASSERT_EQ(mirrors().size(), 1u);  // API server and controller agree on it
  EXPECT_EQ(mirrors()[0]->metadata().resource_version(), revision);
  ASSERT_TRUE(env_.Await(client_->Delete<corev1::Service>("default", "db")).ok());
  env_.Advance(absl::Seconds(2));
  EXPECT_EQ(Find<corev1::Endpoints>("default", "db"), nullptr);
  EXPECT_TRUE(mirrors().empty());
}

TEST_F(ClusterTest, AControllerWithoutItsAccountSaysSo) {
  Create<corev1::ReplicationController>(
      R"({"metadata":{"name":"web","namespace":"default"},"spec":{"replicas":2,"selector":{"app":"web"},"template":{"metadata":{"labels":{"app":"web"}},"spec":{"serviceAccountName":"robot","containers":[{"name":"c","image":"i"}]}}}})");
  env_.Advance(absl::Seconds(2));
  auto status = [&] { return Find<corev1::ReplicationController>("default", "web")->status(); };
  ASSERT_EQ(status().conditions_size(), 1);
  EXPECT_EQ(status().conditions(0).reason(), "FailedCreate");
  EXPECT_NE(status().conditions(0).message().find("error looking up service account default/robot"),
            std::string::npos);
  Create<corev1::ServiceAccount>(R"({"metadata":{"name":"robot","namespace":"default"}})");
  env_.Advance(absl::Minutes(2));
  EXPECT_EQ(status().conditions_size(), 0);
  EXPECT_EQ(status().replicas(), 2);
}

TEST_F(ClusterTest, ThreeThousandPodsOfOneControllerOnAHundredNodes) {
  constexpr int kNodes = 100, kPods = 3000;
  for (int i = 0; i < kNodes; ++i) Join(StrCat("n", i));
  env_.Advance(absl::Seconds(1));
  std::clock_t begin = std::clock();
  CreateRc("default", kPods);
  env_.Settle();  // no time passes at all
  int cpu_ms = static_cast<int>((std::clock() - begin) * 1000 / CLOCKS_PER_SEC);
  std::map<std::string, int> count;
  for (const auto& pod : All<corev1::Pod>("default")) ++count[pod->spec().node_name()];
  EXPECT_EQ(Bound("default"), kPods);
  EXPECT_EQ(count.size(), static_cast<size_t>(kNodes));
  RecordProperty("cpu_ms", cpu_ms);
  printf("RC of %d on %d nodes created, bound and recorded: %d ms of CPU\n", kPods, kNodes, cpu_ms);
}

}  // namespace
}  // namespace keelson::master
