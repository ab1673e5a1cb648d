#include "master/controllers/replication_controller.h"

#include <gtest/gtest.h>

#include <set>

#include "api/core/v1/event.pb.h"
#include "api/status_error.h"
#include "base/strings.h"
#include "master/controllers/testing.h"

namespace keelson::master {
namespace {

namespace corev1 = ::k8s::core::v1;

class ReplicationControllerTest : public ControllerTest {
 protected:
  void Start(int replicas) {
    controller_ = std::make_unique<ReplicationController>(context());
    StartInformers();
    controller_->Start();
    PutRc(replicas);
    Run();
  }
  void TearDown() override {
    env_.AwaitVoid(controller_->Stop());
    ControllerTest::TearDown();
  }
  void PutRc(int replicas) {
    auto old = api_.FindAs<corev1::ReplicationController>("d/web");
    auto rc = api::DecodeJsonAs<corev1::ReplicationController>(
        R"({"metadata":{"name":"web","namespace":"d"},"spec":{"selector":{"app":"web"},"template":{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}})");
    ASSERT_TRUE(rc.ok());
    if (old != nullptr) *rc = *old;
    rc->mutable_spec()->set_replicas(replicas);
    api_.Put(*rc);
  }
  void Run() { env_.Advance(absl::Seconds(2)); }
  std::vector<PodPtr> Pods() const { return api_.All<corev1::Pod>(); }
  std::unique_ptr<ReplicationController> controller_;
};

TEST_F(ReplicationControllerTest, CreatesAndReportsStatus) {
  Start(3);
  ASSERT_EQ(Pods().size(), 3u);
  for (const PodPtr& pod : Pods()) {
    EXPECT_EQ(pod->metadata().generate_name(), "web-");
    EXPECT_EQ(api::ControllerOf(*pod)->name(), "web");
    SetPod(api::NamespacedName(*pod), "n1", "Running", true);
  }
  Run();
  auto rc = api_.FindAs<corev1::ReplicationController>("d/web");
  EXPECT_EQ(rc->status().replicas(), 3);
  EXPECT_EQ(rc->status().ready_replicas(), 3);
  EXPECT_EQ(rc->status().available_replicas(), 3);
  EXPECT_EQ(api_.calls("create pods"), 3);
  std::set<std::string> reasons;
  for (const auto& event : api_.All<corev1::Event>()) reasons.insert(event->reason());
  EXPECT_EQ(reasons, std::set<std::string>({"SuccessfulCreate"}));
}

TEST_F(ReplicationControllerTest, ReplacesADeletedPodAndAFailedOne) {
  Start(2);
  api_.Remove(client::GvrOf<corev1::Pod>(), api::NamespacedName(*Pods()[0]));
  Run();
  EXPECT_EQ(Pods().size(), 2u);
  SetPod(api::NamespacedName(*Pods()[0]), "n1", "Failed", false);
  Run();
  EXPECT_EQ(Pods().size(), 3u);  // the failed one stays for its logs
}

TEST_F(ReplicationControllerTest, ScalesDownTheLeastUsefulFirst) {
  Start(3);
  std::string keep = api::NamespacedName(*Pods()[1]);
  SetPod(keep, "n1", "Running", true);
  SetPod(api::NamespacedName(*Pods()[0]), "n1", "Running", false);
  PutRc(1);
  Run();
  std::vector<std::string> alive;
  for (const PodPtr& pod : Pods()) {
    if (IsPodActive(*pod)) alive.push_back(api::NamespacedName(*pod));
  }
  EXPECT_EQ(alive, std::vector<std::string>({keep}));
}

TEST_F(ReplicationControllerTest, AdoptsOrphansAndReleasesStrangers) {
  PutJson<corev1::Pod>(R"({"metadata":{"name":"orphan","namespace":"d","labels":{"app":"web"}}})");
  Start(2);
  EXPECT_EQ(Pods().size(), 2u);  // the orphan counts
  auto orphan = api_.FindAs<corev1::Pod>("d/orphan");
  ASSERT_NE(api::ControllerOf(*orphan), nullptr);
  corev1::Pod relabeled = *orphan;
  (*relabeled.mutable_metadata()->mutable_labels())["app"] = "other";
  api_.Put(relabeled);
  Run();
  EXPECT_EQ(api::ControllerOf(*api_.FindAs<corev1::Pod>("d/orphan")), nullptr);
  EXPECT_EQ(Pods().size(), 3u);
}

TEST_F(ReplicationControllerTest, AFailedCreateIsRetriedAndNeverDoubled) {
  int failures = 3;
  api_.set_fault([&](const std::string& call) {
    return call == "create pods" && failures-- > 0 ? absl::UnavailableError("down") : absl::OkStatus();
  });
  Start(5);
  env_.Advance(absl::Minutes(2));
  EXPECT_EQ(Pods().size(), 5u);
}

TEST_F(ReplicationControllerTest, ReplicaFailureComesAndGoes) {
  bool refuse = true;
  std::string refused = "create pods";
  api_.set_fault([&](const std::string& call) {
    return call == refused && refuse ? api::Forbidden({"", "pods"}, "web-", "no room") : absl::OkStatus();
  });
  Start(2);
  auto conditions = [&] {
    return api_.FindAs<corev1::ReplicationController>("d/web")->status().conditions();
  };
  ASSERT_EQ(conditions().size(), 1);
  const corev1::ReplicationControllerCondition condition = conditions()[0];
  EXPECT_EQ(condition.type(), "ReplicaFailure");
  EXPECT_EQ(condition.status(), "True");
  EXPECT_EQ(condition.reason(), "FailedCreate");
  EXPECT_EQ(condition.message(), "pods \"web-\" is forbidden: no room");
  EXPECT_NE(condition.last_transition_time().seconds(), 0);
  refuse = false;
  env_.Advance(absl::Minutes(2));
  EXPECT_EQ(Pods().size(), 2u);
  EXPECT_EQ(conditions().size(), 0);
  refuse = true;
  refused = "delete pods";
  PutRc(1);
  Run();
  ASSERT_EQ(conditions().size(), 1);
  EXPECT_EQ(conditions()[0].reason(), "FailedDelete");
}

TEST_F(ReplicationControllerTest, AnEndingNamespaceIsNoFailure) {
  api_.set_fault([&](const std::string& call) {
    api::ApiStatus status = api::ToApiStatus(api::Forbidden({"", "pods"}, "web-", "it ends"));
    status.mutable_details()->add_causes()->set_reason("NamespaceTerminating");
    return call == "create pods" ? api::FromApiStatus(std::move(status)) : absl::OkStatus();
  });
  Start(2);
  EXPECT_EQ(api_.FindAs<corev1::ReplicationController>("d/web")->status().conditions_size(), 0);
  EXPECT_TRUE(api_.All<corev1::Event>().empty());
}

TEST(PodRankingTest, AvailabilityWaitsForMinReady) {
  corev1::Pod pod;
  auto* ready = pod.mutable_status()->add_conditions();
  ready->set_type("Ready");
  ready->set_status("True");
  ready->mutable_last_transition_time()->set_seconds(1000);
  std::optional<absl::Duration> again;
  EXPECT_FALSE(IsPodAvailable(pod, absl::Seconds(10), absl::FromUnixSeconds(1004), &again));
  EXPECT_EQ(*again, absl::Seconds(6));
  EXPECT_TRUE(IsPodAvailable(pod, absl::Seconds(10), absl::FromUnixSeconds(1010), nullptr));
}

}  // namespace
}  // namespace keelson::master
