#include "master/scheduler/scores.h"

#include <gtest/gtest.h>

#include "api/codec.h"

namespace keelson::master {
namespace {

namespace corev1 = ::k8s::core::v1;

PodInfoPtr Pod(const std::string& uid, const std::string& cpu, const std::string& memory,
               const std::string& owner = "") {
  corev1::Pod pod;
  pod.mutable_metadata()->set_uid(uid);
  if (!owner.empty()) {
    auto* reference = pod.mutable_metadata()->add_owner_references();
    reference->set_uid(owner);
    reference->set_controller(true);
  }
  auto& requests = *pod.mutable_spec()->add_containers()->mutable_resources()->mutable_requests();
  requests["cpu"].set_string(cpu);
  requests["memory"].set_string(memory);
  return MakePodInfo(std::make_shared<const corev1::Pod>(std::move(pod)));
}

NodeInfo NamedNode(const std::string& name) {
  corev1::Node node;
  node.mutable_metadata()->set_name(name);
  (*node.mutable_metadata()->mutable_labels())["disk"] = name;
  auto& allocatable = *node.mutable_status()->mutable_allocatable();
  allocatable["cpu"].set_string("4");
  allocatable["memory"].set_string("4Gi");
  allocatable["pods"].set_string("110");
  NodeInfo info;
  info.SetNode(std::make_shared<const corev1::Node>(std::move(node)));
  return info;
}

TEST(ScoresTest, LeastAllocatedAndBalanced) {
  NodeInfo node = NamedNode("n");
  EXPECT_EQ(ScoreLeastAllocated(*Pod("p", "1", "1Gi"), node), 75);
  EXPECT_EQ(ScoreBalancedAllocation(*Pod("p", "1", "1Gi"), node), 100);
  EXPECT_EQ(ScoreBalancedAllocation(*Pod("p", "4", "0"), node), 50);
  node.AddPod(Pod("there", "2", "2Gi"));
  EXPECT_EQ(ScoreLeastAllocated(*Pod("p", "1", "1Gi"), node), 25);
  EXPECT_EQ(ScoreLeastAllocated(*Pod("p", "3", "1Gi"), node), 12);  // cpu is over: 0 of 100
}

TEST(ScoresTest, Normalize) {
  std::vector<int64_t> raw = {0, 5, 10};
  Normalize(false, &raw);
  EXPECT_EQ(raw, (std::vector<int64_t>{0, 50, 100}));
  raw = {0, 5, 10};
  Normalize(true, &raw);
  EXPECT_EQ(raw, (std::vector<int64_t>{100, 50, 0}));
  raw = {0, 0};
  Normalize(true, &raw);
  EXPECT_EQ(raw, (std::vector<int64_t>{100, 100}));
}

TEST(ScoresTest, PodsOfOneOwnerAreSpread) {
  NodeInfo a = NamedNode("a"), b = NamedNode("b");
  a.AddPod(Pod("1", "100m", "100Mi", "rc"));
  b.AddPod(Pod("2", "100m", "100Mi", "other"));
  std::vector<int64_t> scores = ScoreNodes(*Pod("3", "100m", "100Mi", "rc"), {&a, &b});
  EXPECT_LT(scores[0], scores[1]);
}

TEST(ScoresTest, PreferredAffinityAndSoftTaints) {
  NodeInfo a = NamedNode("a"), b = NamedNode("b");
  corev1::Pod pod;
  auto* preferred = pod.mutable_spec()
                        ->mutable_affinity()
                        ->mutable_node_affinity()
                        ->add_preferred_during_scheduling_ignored_during_execution();
  preferred->set_weight(10);
  auto* expression = preferred->mutable_preference()->add_match_expressions();
  expression->set_key("disk");
  expression->set_operator_("In");
  expression->add_values("b");
  std::vector<int64_t> scores = ScoreNodes(*MakePodInfo(std::make_shared<const corev1::Pod>(pod)), {&a, &b});
  EXPECT_EQ(scores[1] - scores[0], 200);
  corev1::Node tainted = *b.node();
  tainted.mutable_spec()->add_taints()->set_effect("PreferNoSchedule");
  b.SetNode(std::make_shared<const corev1::Node>(tainted));
  scores = ScoreNodes(*Pod("p", "1", "1Gi"), {&a, &b});
  EXPECT_EQ(scores[0] - scores[1], 300);
}

}  // namespace
}  // namespace keelson::master
