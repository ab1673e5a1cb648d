#include "master/controllers/node_lifecycle_controller.h"

#include <gtest/gtest.h>

#include <set>

#include "api/coordination/v1/coordination.pb.h"
#include "api/core/v1/event.pb.h"
#include "api/time.h"
#include "base/strings.h"
#include "master/controllers/testing.h"

namespace keelson::master {
namespace {

namespace corev1 = ::k8s::core::v1;
using Lease = ::k8s::coordination::v1::Lease;

class NodeLifecycleControllerTest : public ControllerTest {
 protected:
  void SetUp() override {
    controller_ = std::make_unique<NodeLifecycleController>(context());
    StartInformers();
    controller_->Start();
  }
  void TearDown() override {
    env_.AwaitVoid(controller_->Stop());
    ControllerTest::TearDown();
  }
  void PutNode(const std::string& name, const std::string& ready = "True", const std::string& more = "",
               const std::string& spec = "") {
    auto old = api_.FindAs<corev1::Node>(name);
    auto node = *api::DecodeJsonAs<corev1::Node>(
        StrCat(R"({"metadata":{"name":")", name, R"("},"spec":{)", spec,
               R"(},"status":{"conditions":[{"type":"Ready","status":")", ready, R"("})", more, "]}}"));
    *node.mutable_status()->mutable_conditions(0)->mutable_last_heartbeat_time() =
        api::ToApiTime(env_.clock().Now());
    if (old != nullptr && spec.empty()) *node.mutable_spec() = old->spec();
    api_.Put(node);
  }
  void Renew(const std::string& name) {
    Lease lease;
    lease.mutable_metadata()->set_namespace_("kube-node-lease");
    lease.mutable_metadata()->set_name(name);
    *lease.mutable_spec()->mutable_renew_time() = api::ToApiMicroTime(env_.clock().Now());
    api_.Put(lease);
  }
  // `alive` renew their leases every 10 s.
  void Pass(absl::Duration time, const std::vector<std::string>& alive) {
    for (absl::Duration passed; passed < time; passed += absl::Seconds(10)) {
      for (const std::string& name : alive) Renew(name);
      env_.Advance(absl::Seconds(10));
    }
  }
  std::set<std::string> Taints(const std::string& name) {
    std::set<std::string> out;
    for (const auto& taint : api_.FindAs<corev1::Node>(name)->spec().taints()) {
      out.insert(StrCat(taint.key().substr(taint.key().find('/') + 1), ":", taint.effect()));
    }
    return out;
  }
  using Set = std::set<std::string>;
  std::unique_ptr<NodeLifecycleController> controller_;
};

TEST_F(NodeLifecycleControllerTest, ASilentNodeIsUnknownTaintedAndComesBack) {
  PutNode("live");
  PutNode("dead");
  Pass(absl::Seconds(50), {"live"});
  EXPECT_EQ(ReadyStatus(*api_.FindAs<corev1::Node>("dead")), "True");
  Pass(absl::Seconds(10), {"live"});
  auto dead = api_.FindAs<corev1::Node>("dead");
  const auto* ready = FindNodeCondition(*dead, "Ready");
  EXPECT_EQ(ready->status(), "Unknown");
  EXPECT_EQ(ready->reason(), "NodeStatusUnknown");
  EXPECT_EQ(ready->message(), "Kubelet stopped posting node status.");
  EXPECT_EQ(FindNodeCondition(*dead, "DiskPressure")->reason(), "NodeStatusNeverUpdated");
  EXPECT_EQ(Taints("dead"), Set({"unreachable:NoSchedule", "unreachable:NoExecute"}));
  EXPECT_EQ(ReadyStatus(*api_.FindAs<corev1::Node>("live")), "True");
  PutNode("dead");
  env_.Advance(absl::Seconds(6));
  EXPECT_EQ(Taints("dead"), Set({}));
  Pass(absl::Minutes(2), {"live", "dead"});
  EXPECT_EQ(ReadyStatus(*api_.FindAs<corev1::Node>("dead")), "True");
}

TEST_F(NodeLifecycleControllerTest, TaintsFollowConditionsAndKeepForeignOnes) {
  PutNode("other");
  PutNode("n", "False", R"(,{"type":"DiskPressure","status":"True"})",
          R"("unschedulable":true,"taints":[{"key":"mine","effect":"NoSchedule"}])");
  env_.Advance(absl::Seconds(1));
  EXPECT_EQ(Taints("n"), Set({"mine:NoSchedule", "not-ready:NoSchedule", "not-ready:NoExecute",
                              "disk-pressure:NoSchedule", "unschedulable:NoSchedule"}));
  PutNode(
      "n", "True", R"(,{"type":"DiskPressure","status":"False"})",
      R"("taints":[{"key":"mine","effect":"NoSchedule"},{"key":"node.kubernetes.io/disk-pressure","effect":"NoSchedule"}])");
  env_.Advance(absl::Seconds(1));
  EXPECT_EQ(Taints("n"), Set({"mine:NoSchedule"}));
}

TEST_F(NodeLifecycleControllerTest, PodsOfADeadNodeAreMarkedAndEvictedWhenTheirTolerationEnds) {
  PutNode("live");
  PutNode("dead");
  const char* tolerations[] = {
      R"({"key":"node.kubernetes.io/unreachable","operator":"Exists","effect":"NoExecute","tolerationSeconds":300})",
      R"({"operator":"Exists"})", R"({"key":"elsewhere","operator":"Exists"})"};
  const char* names[] = {"later", "never", "atonce"};
  for (int i = 0; i < 3; ++i) {
    PutJson<corev1::Pod>(
        StrCat(R"({"metadata":{"namespace":"d","name":")", names[i],
               R"("},"spec":{"nodeName":"dead","tolerations":[)", tolerations[i],
               R"(]},"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}})"));
  }
  auto leaving = [&](const std::string& name) {
    return api_.FindAs<corev1::Pod>("d/" + name)->metadata().has_deletion_timestamp();
  };
  Pass(absl::Seconds(60), {"live"});
  EXPECT_FALSE(IsPodReady(*api_.FindAs<corev1::Pod>("d/later")));
  EXPECT_TRUE(leaving("atonce"));
  EXPECT_FALSE(leaving("later"));
  Pass(absl::Seconds(270), {"live"});
  EXPECT_FALSE(leaving("later"));
  Pass(absl::Seconds(40), {"live"});
  EXPECT_TRUE(leaving("later"));
  EXPECT_FALSE(leaving("never"));
}

TEST_F(NodeLifecycleControllerTest, NobodyIsEvictedWhileNoNodeIsReady) {
  PutNode("a");
  PutNode("b");
  PutJson<corev1::Pod>(
      R"({"metadata":{"namespace":"d","name":"p"},"spec":{"nodeName":"a"},"status":{"phase":"Running"}})");
  Pass(absl::Minutes(10), {});
  EXPECT_EQ(Taints("a"), Set({"unreachable:NoSchedule"}));
  EXPECT_FALSE(api_.FindAs<corev1::Pod>("d/p")->metadata().has_deletion_timestamp());
}

TEST_F(NodeLifecycleControllerTest, ManyDeadNodesAreEvictedOneAfterTheOther) {
  const std::vector<std::string> live = {"a", "b", "c", "d"};
  const std::vector<std::string> dead = {"x", "y", "z"};
  for (const std::string& name : live) PutNode(name);
  for (const std::string& name : dead) PutNode(name);
  auto evicted = [&] {
    int count = 0;
    for (const std::string& name : dead)
      count += static_cast<int>(Taints(name).count("unreachable:NoExecute"));
    return count;
  };
  Pass(absl::Seconds(60), live);
  for (const std::string& name : dead) EXPECT_EQ(Taints(name).count("unreachable:NoSchedule"), 1u);
  EXPECT_EQ(evicted(), 1);
  Pass(absl::Seconds(10), live);
  EXPECT_EQ(evicted(), 2);
  Pass(absl::Seconds(10), live);
  EXPECT_EQ(evicted(), 3);
}

TEST_F(NodeLifecycleControllerTest, NobodyIsEvictedWhileMostOfASmallZoneIsAway) {
  for (const char* name : {"live", "x", "y", "z"}) PutNode(name);
  Pass(absl::Minutes(10), {"live"});
  for (const char* name : {"x", "y", "z"}) EXPECT_EQ(Taints(name), Set({"unreachable:NoSchedule"}));
  PutNode("x");  // two are no trouble for a zone
  Pass(absl::Seconds(20), {"live", "x"});
  EXPECT_EQ(Taints("x"), Set({}));
  EXPECT_EQ(Taints("y"), Set({"unreachable:NoSchedule", "unreachable:NoExecute"}));
  EXPECT_EQ(Taints("z"), Set({"unreachable:NoSchedule", "unreachable:NoExecute"}));
}

// The master was away for an hour: what it finds is as old, whoever lives.
class NodeLifecycleRestartTest : public NodeLifecycleControllerTest {
 protected:
  void SetUp() override {
    for (const char* name : {"live", "live2", "live3", "dead"}) {
      PutNode(name);
      Renew(name);
    }
    PutNode("unready", "False");
    Renew("unready");
    PutNode("lost", "Unknown");
    env_.Advance(absl::Hours(1));
    NodeLifecycleControllerTest::SetUp();
  }
  std::string Ready(const std::string& name) { return ReadyStatus(*api_.FindAs<corev1::Node>(name)); }
};

TEST_F(NodeLifecycleRestartTest, EveryNodeHasTheWholeGracePeriodToSpeak) {
  Pass(absl::Seconds(50), {"live", "live2", "live3"});
  EXPECT_EQ(Ready("dead"), "True");
  EXPECT_EQ(Ready("unready"), "False");
  EXPECT_EQ(Ready("lost"), "Unknown");
  EXPECT_EQ(Taints("dead"), Set({}));
  Pass(absl::Seconds(10), {"live", "live2", "live3"});
  EXPECT_EQ(Ready("live"), "True");
  EXPECT_EQ(Ready("dead"), "Unknown");
  EXPECT_EQ(Ready("unready"), "Unknown");
  EXPECT_EQ(Taints("live"), Set({}));
  EXPECT_EQ(Taints("dead"), Set({"unreachable:NoSchedule", "unreachable:NoExecute"}));
}

TEST(NodeHealthTest, EvictionRate) {
  const EvictionRates rates;
  struct Row {
    int ready, not_ready;
    double want;
  };
  for (const Row& row : {Row{1, 0, 0.1}, Row{1, 2, 0.1}, Row{1, 3, 0}, Row{3, 3, 0.1}, Row{9, 11, 0},
                         Row{0, 5, 0.1}, Row{22, 28, 0}, Row{22, 29, 0.01}, Row{46, 55, 0.1}}) {
    EXPECT_EQ(EvictionRate(row.ready, row.not_ready, rates), row.want) << row.ready << " " << row.not_ready;
  }
  auto node = api::DecodeJsonAs<corev1::Node>(
      R"({"metadata":{"labels":{"topology.kubernetes.io/zone":"z","topology.kubernetes.io/region":"r"}}})");
  EXPECT_EQ(ZoneOf(*node), "r/z");
}

TEST(NodeHealthTest, EvictionTime) {
  TaintList taints;
  corev1::Taint* taint = taints.Add();
  taint->set_key("k");
  taint->set_effect("NoExecute");
  taint->mutable_time_added()->set_seconds(1000);
  auto time = [&](const std::string& tolerations) {
    auto pod = api::DecodeJsonAs<corev1::Pod>(R"({"spec":{"tolerations":[)" + tolerations + "]}}");
    return EvictionTime(*pod, taints);
  };
  EXPECT_EQ(time(""), absl::InfinitePast());
  EXPECT_EQ(time(R"({"key":"k","operator":"Exists"})"), absl::InfiniteFuture());
  EXPECT_EQ(time(R"({"key":"k","operator":"Exists","tolerationSeconds":30})"), absl::FromUnixSeconds(1030));
  EXPECT_EQ(time(R"({"key":"k","operator":"Exists","tolerationSeconds":0})"), absl::InfinitePast());
  EXPECT_EQ(time(R"({"key":"k","operator":"Exists","effect":"NoSchedule"})"), absl::InfinitePast());
}

}  // namespace
}  // namespace keelson::master
