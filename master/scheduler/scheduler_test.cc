#include "master/scheduler/scheduler.h"

#include <gtest/gtest.h>

#include <chrono>
#include <map>

#include "api/core/v1/event.pb.h"
#include "api/status_error.h"
#include "base/strings.h"
#include "master/controllers/testing.h"

namespace keelson::master {
namespace {

namespace corev1 = ::k8s::core::v1;

class SchedulerTest : public ControllerTest {
 protected:
  void Start() {
    scheduler_ = std::make_unique<Scheduler>(context());
    StartInformers();
    scheduler_->Start();
    Run();
  }
  void TearDown() override {
    env_.AwaitVoid(scheduler_->Stop());
    ControllerTest::TearDown();
  }
  void Run(absl::Duration time = absl::Seconds(2)) { env_.Advance(time); }
  void PutNode(const std::string& name, const std::string& cpu = "4", const std::string& spec = "{}") {
    PutJson<corev1::Node>(StrCat(R"({"metadata":{"name":")", name, R"("},"spec":)", spec,
                                 R"(,"status":{"allocatable":{"cpu":")", cpu,
                                 R"(","memory":"8Gi","pods":"110"}}})"));
  }
  void PutPod(const std::string& name, const std::string& cpu = "100m", const std::string& more = "") {
    PutJson<corev1::Pod>(
        StrCat(R"({"metadata":{"name":")", name,
               R"(","namespace":"d"},"spec":{"containers":[{"name":"c","resources":{"requests":{"cpu":")",
               cpu, R"("}}}])", more, "}}"));
  }
  std::string NodeOf(const std::string& name) {
    return api_.FindAs<corev1::Pod>("d/" + name)->spec().node_name();
  }
  std::vector<std::string> Messages(const std::string& reason) {
    std::vector<std::string> out;
    for (const auto& event : api_.All<corev1::Event>()) {
      if (event->reason() == reason) out.push_back(event->message());
    }
    return out;
  }
  std::unique_ptr<Scheduler> scheduler_;
};

TEST_F(SchedulerTest, BindsAndSaysSo) {
  PutNode("n1");
  Start();
  PutPod("p");
  Run();
  EXPECT_EQ(NodeOf("p"), "n1");
  EXPECT_EQ(Messages("Scheduled"), std::vector<std::string>({"Successfully assigned d/p to n1"}));
  EXPECT_EQ(api_.All<corev1::Event>()[0]->source().component(), "default-scheduler");
  EXPECT_EQ(scheduler_->queue().size(), 0u);
  EXPECT_EQ(scheduler_->cache().Find("n1")->pod_count(), 1);
}

TEST_F(SchedulerTest, LeavesOthersPodsAlone) {
  PutNode("n1");
  Start();
  PutPod("theirs", "1", R"(,"schedulerName":"mine")");
  PutPod("gated", "1", R"(,"schedulingGates":[{"name":"x"}])");
  Run();
  EXPECT_EQ(NodeOf("theirs"), "");
  EXPECT_EQ(NodeOf("gated"), "");
  EXPECT_EQ(api_.calls("create pods/binding"), 0);
}

TEST_F(SchedulerTest, UnschedulableIsExplainedAndWokenByANode) {
  PutNode("n1", "1");
  PutNode("n2", "4", R"({"taints":[{"key":"k","effect":"NoSchedule"}]})");
  Start();
  PutPod("big", "2");
  Run();
  auto pod = api_.FindAs<corev1::Pod>("d/big");
  const std::string message =
      "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint {k: }. preemption: 0/2 "
      "nodes are "
      "available: 2 Preemption is not helpful for scheduling.";
  ASSERT_EQ(pod->status().conditions_size(), 1);
  EXPECT_EQ(pod->status().conditions(0).type(), "PodScheduled");
  EXPECT_EQ(pod->status().conditions(0).status(), "False");
  EXPECT_EQ(pod->status().conditions(0).reason(), "Unschedulable");
  EXPECT_EQ(pod->status().conditions(0).message(), message);
  EXPECT_EQ(Messages("FailedScheduling"), std::vector<std::string>({message}));
  Run(absl::Seconds(60));
  EXPECT_EQ(api_.calls("patch pods/status"), 1);  // its own patch wakes nobody
  PutNode("n3", "4");
  Run();
  EXPECT_EQ(NodeOf("big"), "n3");
}

TEST_F(SchedulerTest, WokenByARemovedTaintAndByAPodThatLeaves) {
  PutNode("n1", "2", R"({"taints":[{"key":"k","effect":"NoSchedule"}]})");
  Start();
  PutPod("first", "2");
  Run();
  EXPECT_EQ(NodeOf("first"), "");
  PutNode("n1", "2");
  Run();
  EXPECT_EQ(NodeOf("first"), "n1");
  PutPod("second", "2");
  Run();
  EXPECT_EQ(NodeOf("second"), "");
  api_.Remove(client::GvrOf<corev1::Pod>(), "d/first");
  Run();
  EXPECT_EQ(NodeOf("second"), "n1");
}

TEST_F(SchedulerTest, AFailedBindIsForgottenAndTriedAgain) {
  PutNode("n1", "1");
  Start();
  int failures = 2;
  api_.set_fault([&](const std::string& call) {
    return call == "create pods/binding" && failures-- > 0 ? absl::UnavailableError("down")
                                                           : absl::OkStatus();
  });
  PutPod("p", "1");
  Run(absl::Seconds(1) / 2);
  EXPECT_EQ(NodeOf("p"), "");
  EXPECT_EQ(scheduler_->cache().Find("n1")->pod_count(), 0);
  Run(absl::Seconds(10));
  EXPECT_EQ(NodeOf("p"), "n1");
  EXPECT_EQ(api_.calls("create pods/binding"), 3);
}

TEST_F(SchedulerTest, NoNodes) {
  Start();
  PutPod("p");
  Run();
  EXPECT_EQ(Messages("FailedScheduling"), std::vector<std::string>({"no nodes available to schedule pods"}));
}

TEST_F(SchedulerTest, FinishedPodsFreeTheirNode) {
  PutNode("n1", "1");
  Start();
  PutPod("job", "1");
  Run();
  PutPod("next", "1");
  Run();
  EXPECT_EQ(NodeOf("next"), "");
  SetPod("d/job", "n1", "Succeeded", false);
  Run();
  EXPECT_EQ(NodeOf("next"), "n1");
}

TEST_F(SchedulerTest, SpreadsThreeThousandPodsOfOneControllerOverAHundredNodes) {
  constexpr int kNodes = 100, kPods = 3000;
  for (int i = 0; i < kNodes; ++i) PutNode(StrCat("n", i), "64");
  Start();
  auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < kPods; ++i) {
    PutJson<corev1::Pod>(StrCat(
        R"({"metadata":{"name":"p)", i,
        R"(","namespace":"d","ownerReferences":[{"apiVersion":"v1","kind":"ReplicationController","name":"web","uid":"u","controller":true}]},"spec":{"containers":[{"name":"c"}]}})"));
  }
  auto stored = std::chrono::steady_clock::now();
  env_.Settle();
  auto end = std::chrono::steady_clock::now();
  std::map<std::string, int> count;
  for (const auto& pod : api_.All<corev1::Pod>()) ++count[pod->spec().node_name()];
  EXPECT_EQ(count.size(), static_cast<size_t>(kNodes));
  for (const auto& [node, pods] : count) EXPECT_EQ(pods, kPods / kNodes) << node;
  using Ms = std::chrono::milliseconds;
  RecordProperty("store_ms", static_cast<int>(std::chrono::duration_cast<Ms>(stored - begin).count()));
  RecordProperty("schedule_ms", static_cast<int>(std::chrono::duration_cast<Ms>(end - stored).count()));
  printf("3000 pods on 100 nodes: %d ms (storing them: %d ms)\n",
         static_cast<int>(std::chrono::duration_cast<Ms>(end - stored).count()),
         static_cast<int>(std::chrono::duration_cast<Ms>(stored - begin).count()));
}

}  // namespace
}  // namespace keelson::master
