// One story each, without random faults: what a reader can follow. Bugs that seeds found get a story here.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "base/log.h"
#include "tests/sim/cluster.h"

namespace keelson::sim {
namespace {

using ::testing::IsEmpty;

class Simulation : public ::testing::Test {
 protected:
  void Make(int nodes, uint64_t seed = 1) {
    cluster_ = std::make_unique<Cluster>(ClusterOptions{seed, nodes});
  }
  void TearDown() override {
    if (cluster_ == nullptr) return;
    EXPECT_THAT(cluster_->violations(), IsEmpty()) << cluster_->Dump();
    cluster_.reset();
  }
  std::set<std::string> RunningContainers() {
    std::set<std::string> out;
    for (auto& node : cluster_->nodes()) {
      for (const auto& c : node->runtime().Containers()) {
        if (c.state() == cri::v1::CONTAINER_RUNNING) out.insert(StrCat(node->name(), "/", c.id()));
      }
    }
    return out;
  }
  void Populate() {
    ASSERT_TRUE(cluster_->CreateRc("web", 5).ok());
    ASSERT_TRUE(cluster_->CreateRc("db", 1).ok());
    ASSERT_TRUE(cluster_->CreateService("web").ok());
    ASSERT_TRUE(cluster_->CreateService("db").ok());
    ASSERT_TRUE(cluster_->Converge(absl::Minutes(2)));
  }
  std::unique_ptr<Cluster> cluster_;
};

TEST_F(Simulation, SixPodsAndTwoServicesRunAndThenNothingMoves) {
  Make(3);
  Populate();
  EXPECT_EQ(RunningContainers().size(), 6u);
  cluster_->CheckQuiet();
}

TEST_F(Simulation, NodesAreReadyAtOnce) {
  Make(3);
  EXPECT_TRUE(cluster_->Converge(absl::Seconds(1)));
}

TEST_F(Simulation, DeletedPodIsReplaced) {
  Make(2);
  Populate();
  auto before = cluster_->PodsOf("web");
  ASSERT_TRUE(cluster_->DeletePod(before[0]->metadata().name()).ok());
  cluster_->Run(absl::Seconds(1));
  ASSERT_TRUE(cluster_->Converge(absl::Minutes(2)));
  for (const auto& pod : cluster_->PodsOf("web"))
    EXPECT_NE(pod->metadata().uid(), before[0]->metadata().uid());
}

TEST_F(Simulation, ScalingUpAndDown) {
  Make(3);
  Populate();
  for (int replicas : {12, 0, 3}) {
    ASSERT_TRUE(cluster_->ScaleRc("web", replicas).ok());
    cluster_->Run(absl::Seconds(1));
    ASSERT_TRUE(cluster_->Converge(absl::Minutes(2))) << replicas;
  }
}

TEST_F(Simulation, KilledKubeletsRestartNothing) {
  Make(3);
  Populate();
  const std::set<std::string> before = RunningContainers();
  for (auto& node : cluster_->nodes()) node->CrashKubelet();
  cluster_->Run(absl::Seconds(20));
  for (auto& node : cluster_->nodes()) node->StartKubelet();
  cluster_->Run(absl::Seconds(30));
  ASSERT_TRUE(cluster_->Converge(absl::Minutes(1)));
  EXPECT_EQ(RunningContainers(), before);
  cluster_->CheckQuiet();
}

TEST_F(Simulation, KilledMasterLosesNothing) {
  Make(3);
  Populate();
  const std::set<std::string> before = RunningContainers();
  cluster_->CrashMaster();
  cluster_->Run(absl::Seconds(20));
  cluster_->StartMaster();
  cluster_->Run(absl::Seconds(30));
  ASSERT_TRUE(cluster_->Converge(absl::Minutes(2)));
  EXPECT_EQ(RunningContainers(), before);
  cluster_->CheckQuiet();
}

TEST_F(Simulation, KilledRuntimeRestartsNothing) {
  Make(2);
  Populate();
  const std::set<std::string> before = RunningContainers();
  for (auto& node : cluster_->nodes()) node->runtime().Crash();
  cluster_->Run(absl::Seconds(15));
  for (auto& node : cluster_->nodes()) node->runtime().Restart();
  cluster_->Run(absl::Seconds(30));
  ASSERT_TRUE(cluster_->Converge(absl::Minutes(2)));
  EXPECT_EQ(RunningContainers(), before);
}

// Seeds 18 and 26: a status refused with a conflict was not sent again, a pod ran and stayed Pending, another
// could not be deleted.
TEST_F(Simulation, StatusRefusedWithAConflictIsSentAgain) {
  Make(1);
  ASSERT_TRUE(cluster_->Converge(absl::Minutes(1)));
  ASSERT_TRUE(cluster_->CreateRc("web", 2).ok());
  cluster_->Run(absl::Milliseconds(200), absl::Milliseconds(20));  // bound, not yet running
  cluster_->net().faults.conflict = 1;
  cluster_->Run(absl::Seconds(10));
  cluster_->net().faults.conflict = 0;
  EXPECT_TRUE(cluster_->Converge(absl::Minutes(1)));
}

TEST_F(Simulation, ExitedContainerIsStartedAgain) {
  Make(1);
  Populate();
  const std::set<std::string> before = RunningContainers();
  cri::FakeRuntime& runtime = cluster_->nodes()[0]->runtime();
  for (const auto& c : runtime.Containers()) runtime.ExitContainer(c.id(), 1);
  cluster_->Run(absl::Seconds(1));
  ASSERT_TRUE(cluster_->Converge(absl::Minutes(2)));
  for (const std::string& id : RunningContainers()) EXPECT_EQ(before.count(id), 0u);
}

TEST_F(Simulation, PodsOfADeadNodeRunElsewhereAfterTheirToleration) {
  Make(3);
  ASSERT_TRUE(cluster_->Converge(absl::Minutes(1)));  // all nodes are ready: the pods are spread
  ASSERT_TRUE(cluster_->CreateRc("web", 6, 30).ok());
  ASSERT_TRUE(cluster_->CreateService("web").ok());
  ASSERT_TRUE(cluster_->Converge(absl::Minutes(2)));
  Node& dead = *cluster_->nodes()[1];
  auto on_it = [&] {
    int out = 0;
    for (const auto& pod : cluster_->PodsOf("web")) out += pod->spec().node_name() == dead.name();
    return out;
  };
  const int before = on_it();
  ASSERT_GT(before, 0);
  dead.gone_for_ever = true;
  dead.PowerOff();
  // 50 s without a lease, 30 s of toleration.
  cluster_->Run(absl::Seconds(45));
  EXPECT_EQ(on_it(), before) << "pods left before the node was known to be dead";
  EXPECT_TRUE(cluster_->Converge(absl::Minutes(2)));
  EXPECT_EQ(on_it(), 0);
}

TEST_F(Simulation, NodeThatComesBackStopsWhatWasTakenFromIt) {
  Make(3);
  ASSERT_TRUE(cluster_->CreateRc("web", 6, 10).ok());
  ASSERT_TRUE(cluster_->CreateService("web").ok());
  ASSERT_TRUE(cluster_->Converge(absl::Minutes(2)));
  cluster_->net().CutOff("n1");
  cluster_->Run(absl::Minutes(3));
  EXPECT_EQ(cluster_->PodsOf("web").size(), 6u);
  for (const auto& pod : cluster_->PodsOf("web")) EXPECT_NE(pod->spec().node_name(), "n1");
  cluster_->net().Reconnect("n1");
  cluster_->Run(absl::Minutes(4));  // its watches may hang so long
  EXPECT_TRUE(cluster_->Converge(absl::Minutes(2)));
}

// Seed 1434: a kubelet that saw nothing to tell did not look, so its node stayed unknown for minutes, and its
// pods' ready conditions went to and fro.
TEST_F(Simulation, NodeThatComesBackIsReadyAtOnce) {
  Make(2);
  Populate();
  auto ready = [&](const std::string& name) {
    for (const auto& node : cluster_->All<corev1::Node>()) {
      if (node->metadata().name() != name) continue;
      for (const auto& c : node->status().conditions()) {
        if (c.type() == "Ready") return c.status() == "True";
      }
    }
    return false;
  };
  ASSERT_TRUE(ready("n1"));
  cluster_->Run(absl::Minutes(2));  // all is told, and the report of every five minutes is not due
  cluster_->net().CutOff("n1");
  ASSERT_TRUE(cluster_->RunUntil([&] { return !ready("n1"); }, absl::Minutes(1)));
  cluster_->net().Reconnect("n1");
  // A call that was under way ends after half a minute.
  EXPECT_TRUE(cluster_->RunUntil([&] { return ready("n1"); }, absl::Seconds(45)));
}

// Seed 4733: the next kubelet made a second container while the runtime was still at the first one's start.
TEST_F(Simulation, AStartThatOutlivesItsKubeletDoesNotRunBesideTheNext) {
  Make(1);
  ASSERT_TRUE(cluster_->Converge(absl::Minutes(1)));
  Node& node = *cluster_->nodes()[0];
  node.runtime().SlowCalls("StartContainer", absl::Seconds(40), 2);
  ASSERT_TRUE(cluster_->CreateRc("web", 2).ok());
  ASSERT_TRUE(cluster_->RunUntil([&] { return node.runtime().calls("StartContainer") == 2; },
                                 absl::Seconds(30), absl::Milliseconds(10)));
  node.CrashKubelet();
  node.StartKubelet();
  EXPECT_TRUE(cluster_->Converge(absl::Minutes(1)));
  cluster_->Run(absl::Minutes(1));  // checks at every moment that no container runs twice
  EXPECT_TRUE(cluster_->Converge(absl::Minutes(1)));
  EXPECT_EQ(RunningContainers().size(), 2u);
}

}  // namespace
}  // namespace keelson::sim
