#include "kubelet/compute_pod_actions.h"

#include <gtest/gtest.h>

namespace keelson::kubelet {
namespace {

using Verdicts = std::map<std::pair<ProbeKind, std::string>, ProbeResult>;

ProbeLookup Lookup(Verdicts v = {}) {
  return [v](ProbeKind kind, std::string_view id) {
    auto it = v.find({kind, std::string(id)});
    return it == v.end() ? ProbeResult::kUnknown : it->second;
  };
}

// A pod with containers a and b, and what the runtime has of it.
struct World {
  corev1::Pod pod;
  RuntimePodStatus status;

  explicit World(std::string policy = "Always") {
    pod.mutable_spec()->set_restart_policy(policy);
    for (const char* name : {"a", "b"}) {
      auto* c = pod.mutable_spec()->add_containers();
      c->set_name(name);
      c->set_image("image:1");
    }
  }
  World& Init(const std::string& name, bool sidecar = false) {
    auto* c = pod.mutable_spec()->add_init_containers();
    c->set_name(name);
    c->set_image("image:1");
    if (sidecar) c->set_restart_policy("Always");
    return *this;
  }
  World& Sandbox(const std::string& id, uint32_t attempt, bool ready = true) {
    criv1::PodSandboxStatus s;
    s.set_id(id);
    s.mutable_metadata()->set_attempt(attempt);
    s.set_state(ready ? criv1::SANDBOX_READY : criv1::SANDBOX_NOTREADY);
    s.mutable_network()->set_ip("10.0.0.2");
    status.sandboxes.insert(status.sandboxes.begin(), s);
    return *this;
  }
  World& Has(const std::string& name, criv1::ContainerState state, int exit_code = 0) {
    criv1::ContainerStatus c;
    c.set_id("id-" + name);
    c.mutable_metadata()->set_name(name);
    c.set_state(state);
    c.set_exit_code(exit_code);
    const corev1::Container* spec = FindContainer(pod, name);
    (*c.mutable_annotations())[kAnnotationHash] = ContainerHash(*spec);
    status.containers.insert(status.containers.begin(), c);
    if (!status.sandboxes.empty()) status.sandbox_of[c.id()] = status.sandboxes.front().id();
    return *this;
  }
  PodActions Compute(Verdicts v = {}) { return ComputePodActions(pod, status, Lookup(std::move(v))); }
};

constexpr auto kRunning = criv1::CONTAINER_RUNNING;
constexpr auto kExited = criv1::CONTAINER_EXITED;
using Ints = std::vector<int>;

TEST(ComputePodActionsTest, NewPodGetsSandboxAndAllContainers) {
  PodActions a = World().Compute();
  EXPECT_TRUE(a.create_sandbox);
  EXPECT_EQ(a.attempt, 0u);
  EXPECT_EQ(a.sandbox_id, "");
  EXPECT_EQ(a.containers_to_start, (Ints{0, 1}));
}

TEST(ComputePodActionsTest, AllRunningIsNothing) {
  EXPECT_TRUE(World().Sandbox("s", 0).Has("a", kRunning).Has("b", kRunning).Compute().Nothing());
}

TEST(ComputePodActionsTest, RestartPolicies) {
  struct Case {
    std::string policy;
    int exit_code;
    Ints start;
    bool kill_pod;
  };
  for (const Case& c :
       {Case{"Always", 0, {1}, false}, Case{"Always", 1, {1}, false}, Case{"OnFailure", 0, {}, false},
        Case{"OnFailure", 1, {1}, false}, Case{"Never", 1, {}, false}}) {
    PodActions a =
        World(c.policy).Sandbox("s", 0).Has("a", kRunning).Has("b", kExited, c.exit_code).Compute();
    EXPECT_EQ(a.containers_to_start, c.start) << c.policy << " " << c.exit_code;
    EXPECT_EQ(a.kill_pod, c.kill_pod);
  }
  EXPECT_TRUE(World("Never").Sandbox("s", 0).Has("a", kExited).Has("b", kExited, 1).Compute().kill_pod);
}

TEST(ComputePodActionsTest, RestartRulesOfOneContainer) {
  World w("Never");
  auto* rule = w.pod.mutable_spec()->mutable_containers(1)->add_restart_policy_rules();
  rule->set_action("Restart");
  rule->mutable_exit_codes()->set_operator_("In");
  rule->mutable_exit_codes()->add_values(42);
  EXPECT_EQ(World(w).Sandbox("s", 0).Has("a", kRunning).Has("b", kExited, 42).Compute().containers_to_start,
            (Ints{1}));
  EXPECT_EQ(World(w).Sandbox("s", 0).Has("a", kRunning).Has("b", kExited, 1).Compute().containers_to_start,
            (Ints{}));
}

TEST(ComputePodActionsTest, DeadSandboxIsReplacedWithNextAttempt) {
  PodActions a = World().Sandbox("s", 3, false).Has("a", kExited).Has("b", kExited).Compute();
  EXPECT_TRUE(a.kill_pod);
  EXPECT_TRUE(a.create_sandbox);
  EXPECT_EQ(a.attempt, 4u);
  EXPECT_EQ(a.containers_to_start, (Ints{0, 1}));
}

TEST(ComputePodActionsTest, NeverPodGetsNoSecondSandbox) {
  PodActions a = World("Never").Sandbox("s", 0, false).Has("a", kExited).Has("b", kExited).Compute();
  EXPECT_TRUE(a.kill_pod);
  EXPECT_FALSE(a.create_sandbox);
}

TEST(ComputePodActionsTest, SandboxWithoutAddressIsReplaced) {
  World w;
  w.Sandbox("s", 0);
  w.status.sandboxes[0].mutable_network()->clear_ip();
  EXPECT_TRUE(w.Compute().create_sandbox);
  w.pod.mutable_spec()->set_host_network(true);
  EXPECT_FALSE(w.Compute().create_sandbox);
}

TEST(ComputePodActionsTest, ChangedImageRestarts) {
  World w;
  w.Sandbox("s", 0).Has("a", kRunning).Has("b", kRunning);
  w.pod.mutable_spec()->mutable_containers(0)->set_image("image:2");
  PodActions a = w.Compute();
  ASSERT_EQ(a.containers_to_kill.size(), 1u);
  EXPECT_EQ(a.containers_to_kill[0].message, "Container a definition changed, will be restarted");
  EXPECT_EQ(a.containers_to_start, (Ints{0}));
}

TEST(ComputePodActionsTest, FailedLivenessKillsByPolicy) {
  World w("Never");
  w.pod.mutable_spec()->mutable_containers(0)->mutable_liveness_probe();
  w.Sandbox("s", 0).Has("a", kRunning).Has("b", kRunning);
  PodActions a = w.Compute({{{ProbeKind::kLiveness, "id-a"}, ProbeResult::kFailure}});
  ASSERT_EQ(a.containers_to_kill.size(), 1u);
  EXPECT_EQ(a.containers_to_kill[0].message, "Container a failed liveness probe");
  EXPECT_EQ(a.containers_to_start, (Ints{}));
  w.pod.mutable_spec()->set_restart_policy("OnFailure");
  EXPECT_EQ(w.Compute({{{ProbeKind::kLiveness, "id-a"}, ProbeResult::kFailure}}).containers_to_start,
            (Ints{0}));
}

TEST(ComputePodActionsTest, InitContainersOneByOne) {
  World w = World().Init("i0").Init("i1");
  PodActions a = w.Compute();
  EXPECT_EQ(a.init_containers_to_start, (Ints{0}));
  EXPECT_EQ(a.containers_to_start, (Ints{}));
  w.Sandbox("s", 0).Has("i0", kRunning);
  EXPECT_TRUE(w.Compute().Nothing());
  w.status.containers[0].set_state(kExited);
  EXPECT_EQ(w.Compute().init_containers_to_start, (Ints{1}));
  w.Has("i1", kExited, 1);
  EXPECT_EQ(w.Compute().init_containers_to_start, (Ints{1}));
  w.pod.mutable_spec()->set_restart_policy("Never");
  EXPECT_TRUE(w.Compute().kill_pod);
  w.status.containers[0].set_exit_code(0);
  EXPECT_EQ(w.Compute().containers_to_start, (Ints{0, 1}));
}

TEST(ComputePodActionsTest, SidecarStartsBeforeTheNextAndStaysUp) {
  World w = World().Init("side", true).Init("i1");
  w.Sandbox("s", 0).Has("side", kRunning);
  EXPECT_EQ(w.Compute().init_containers_to_start, (Ints{1}));
  w.pod.mutable_spec()->mutable_init_containers(0)->mutable_startup_probe();
  EXPECT_TRUE(w.Compute().Nothing());
  EXPECT_EQ(w.Compute({{{ProbeKind::kStartup, "id-side"}, ProbeResult::kSuccess}}).init_containers_to_start,
            (Ints{1}));
  w.Has("i1", kExited).Has("a", kRunning).Has("b", kRunning);
  for (auto& c : w.status.containers) {
    if (c.id() == "id-side") c.set_state(kExited);
  }
  EXPECT_EQ(w.Compute().init_containers_to_start, (Ints{0}));
}

TEST(ComputePodActionsTest, SidecarEndsWithTheLastContainer) {
  World w = World("Never").Init("side", true);
  PodActions a = w.Sandbox("s", 0).Has("side", kExited).Has("a", kExited).Has("b", kExited).Compute();
  EXPECT_TRUE(a.kill_pod);
  EXPECT_EQ(a.init_containers_to_start, (Ints{}));
}

TEST(ComputePodActionsTest, NewSandboxRunsInitAgain) {
  World w = World().Init("i0");
  w.Sandbox("old", 0, false).Has("i0", kExited).Has("a", kExited).Has("b", kExited).Sandbox("new", 1);
  PodActions a = w.Compute();
  EXPECT_FALSE(a.create_sandbox);
  EXPECT_EQ(a.init_containers_to_start, (Ints{0}));
  EXPECT_EQ(a.containers_to_start, (Ints{}));
}

TEST(ComputePodActionsTest, DeletedPodStartsNothing) {
  World w;
  w.pod.mutable_metadata()->mutable_deletion_timestamp()->set_seconds(1);
  EXPECT_FALSE(w.Compute().create_sandbox);
  EXPECT_EQ(w.Sandbox("s", 0).Has("a", kExited, 1).Has("b", kRunning).Compute().containers_to_start,
            (Ints{}));
}

TEST(ComputePodActionsTest, UnknownStateIsKilledFirst) {
  PodActions a = World().Sandbox("s", 0).Has("a", kRunning).Has("b", criv1::CONTAINER_UNKNOWN).Compute();
  ASSERT_EQ(a.containers_to_kill.size(), 1u);
  EXPECT_EQ(a.containers_to_kill[0].id, "id-b");
  EXPECT_EQ(a.containers_to_start, (Ints{1}));
}

}  // namespace
}  // namespace keelson::kubelet
