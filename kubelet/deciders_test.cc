// Tables for the small pure deciders: statuses, garbage, admission, node status, log rotation, credentials.
#include <absl/strings/escaping.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/fake_env.h"
#include "base/fd.h"
#include "kubelet/container_gc.h"
#include "kubelet/container_logs.h"
#include "kubelet/generate_pod_status.h"
#include "kubelet/host_ports.h"
#include "kubelet/image_gc.h"
#include "kubelet/image_manager.h"
#include "kubelet/node_status.h"
#include "kubelet/pod_admission.h"
#include "kubelet/pod_cache.h"
#include "kubelet/pod_sources.h"

namespace keelson::kubelet {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// ---- phases ----

corev1::ContainerStatus State(const std::string& name, const std::string& what) {
  corev1::ContainerStatus s;
  s.set_name(name);
  if (what == "running") {
    s.mutable_state()->mutable_running();
    s.set_started(true);
  } else if (what == "ok" || what == "failed") {
    s.mutable_state()->mutable_terminated()->set_exit_code(what == "ok" ? 0 : 1);
  } else if (what == "waiting") {
    s.mutable_state()->mutable_waiting();
  } else if (what == "backoff") {
    s.mutable_state()->mutable_waiting();
    s.mutable_last_state()->mutable_terminated()->set_exit_code(1);
  }
  return s;
}

TEST(ComputePhaseTest, Table) {
  struct Case {
    std::string policy, a, b;
    bool terminal;
    std::string want;
  };
  const Case cases[] = {
      {"Always", "running", "running", false, "Running"}, {"Always", "running", "waiting", false, "Pending"},
      {"Always", "running", "backoff", false, "Running"}, {"Always", "ok", "ok", false, "Running"},
      {"Never", "ok", "ok", false, "Succeeded"},          {"Never", "ok", "failed", false, "Failed"},
      {"Never", "ok", "running", false, "Running"},       {"OnFailure", "ok", "failed", false, "Running"},
      {"OnFailure", "ok", "ok", false, "Succeeded"},      {"Always", "failed", "failed", true, "Failed"},
      {"Always", "ok", "ok", true, "Succeeded"},          {"Always", "waiting", "waiting", false, "Pending"},
      {"Always", "waiting", "waiting", true, "Failed"},
  };
  for (const Case& c : cases) {
    corev1::Pod pod;
    pod.mutable_spec()->set_restart_policy(c.policy);
    pod.mutable_spec()->add_containers()->set_name("a");
    pod.mutable_spec()->add_containers()->set_name("b");
    corev1::PodStatus status;
    *status.add_container_statuses() = State("a", c.a);
    *status.add_container_statuses() = State("b", c.b);
    EXPECT_EQ(ComputePhase(pod, status, c.terminal), c.want) << c.policy << " " << c.a << " " << c.b;
  }
}

// A runtime that came back in the middle of a start does not know for a moment whether the container runs.
TEST(GeneratePodStatusTest, AContainerNobodyKnowsHasNotEnded) {
  corev1::Pod pod;
  pod.mutable_metadata()->set_uid("u");
  pod.mutable_spec()->set_restart_policy("Never");
  pod.mutable_spec()->add_containers()->set_name("a");
  auto runtime = std::make_shared<RuntimePodStatus>();
  criv1::ContainerStatus& container = runtime->containers.emplace_back();
  container.set_id("c1");
  container.mutable_metadata()->set_name("a");
  (*container.mutable_labels())["io.kubernetes.container.name"] = "a";
  container.set_state(criv1::CONTAINER_UNKNOWN);
  StatusInputs in;
  in.runtime = runtime;
  corev1::PodStatus status = GeneratePodStatus(pod, in);
  EXPECT_EQ(status.phase(), "Pending");
  ASSERT_EQ(status.container_statuses_size(), 1);
  EXPECT_EQ(status.container_statuses(0).state().waiting().reason(), "ContainerCreating");
  // One that was seen running and is lost has.
  in.previous = status;
  in.previous.mutable_container_statuses(0)->mutable_state()->mutable_running();
  status = GeneratePodStatus(pod, in);
  EXPECT_EQ(status.container_statuses(0).state().terminated().reason(), "ContainerStatusUnknown");
}

TEST(ComputePhaseTest, InitContainers) {
  corev1::Pod pod;
  pod.mutable_spec()->set_restart_policy("Never");
  pod.mutable_spec()->add_init_containers()->set_name("i");
  pod.mutable_spec()->add_containers()->set_name("a");
  corev1::PodStatus status;
  *status.add_init_container_statuses() = State("i", "failed");
  *status.add_container_statuses() = State("a", "waiting");
  EXPECT_EQ(ComputePhase(pod, status, false), "Failed");
  pod.mutable_spec()->set_restart_policy("Always");
  EXPECT_EQ(ComputePhase(pod, status, false), "Pending");
  pod.mutable_spec()->mutable_init_containers(0)->set_restart_policy("Never");
  EXPECT_EQ(ComputePhase(pod, status, false), "Failed");
  pod.mutable_spec()->set_restart_policy("Never");
  pod.mutable_spec()->mutable_init_containers(0)->set_restart_policy("OnFailure");
  EXPECT_EQ(ComputePhase(pod, status, false), "Pending");
  *status.mutable_init_container_statuses(0) = State("i", "backoff");
  EXPECT_EQ(ComputePhase(pod, status, false), "Pending");
}

// A container's own restartPolicy and restartPolicyRules count before the pod's policy.
TEST(ComputePhaseTest, ContainersThatRunAgain) {
  struct Case {
    std::string policy, own, rule;  // rule: restarts exit code 1
    std::string a, b, want;
  };
  const Case cases[] = {
      {"Never", "", "", "failed", "ok", "Failed"},
      {"Never", "OnFailure", "", "failed", "ok", "Running"},
      {"Never", "OnFailure", "", "backoff", "ok", "Running"},
      {"Never", "OnFailure", "", "ok", "ok", "Succeeded"},
      {"Never", "OnFailure", "", "ok", "failed", "Failed"},
      {"Never", "Always", "", "ok", "ok", "Running"},
      {"Never", "Never", "In", "failed", "failed", "Running"},
      {"Never", "Never", "In", "backoff", "ok", "Running"},
      {"Never", "Never", "In", "ok", "ok", "Succeeded"},
      {"Never", "Never", "NotIn", "failed", "ok", "Failed"},
      {"Never", "Never", "NotIn", "ok", "ok", "Running"},
      {"Always", "Never", "", "failed", "ok", "Running"},  // b runs again
      {"OnFailure", "Never", "", "failed", "ok", "Failed"},
  };
  for (const Case& c : cases) {
    corev1::Pod pod;
    pod.mutable_spec()->set_restart_policy(c.policy);
    auto* a = pod.mutable_spec()->add_containers();
    a->set_name("a");
    if (!c.own.empty()) a->set_restart_policy(c.own);
    if (!c.rule.empty()) {
      auto* rule = a->add_restart_policy_rules();
      rule->set_action("Restart");
      rule->mutable_exit_codes()->set_operator_(c.rule);
      rule->mutable_exit_codes()->add_values(1);
    }
    pod.mutable_spec()->add_containers()->set_name("b");
    corev1::PodStatus status;
    *status.add_container_statuses() = State("a", c.a);
    *status.add_container_statuses() = State("b", c.b);
    EXPECT_EQ(ComputePhase(pod, status, false), c.want)
        << c.policy << " " << c.own << " " << c.rule << ": " << c.a << " " << c.b;
    EXPECT_NE(ComputePhase(pod, status, true), "Running");
  }
}

TEST(SetPodConditionsTest, WordsOfUpstream) {
  corev1::Pod pod;
  pod.mutable_spec()->add_containers()->set_name("a");
  pod.mutable_spec()->add_containers()->set_name("b");
  corev1::PodStatus status;
  *status.add_container_statuses() = State("a", "running");
  *status.add_container_statuses() = State("b", "waiting");
  auto* other = status.add_conditions();
  other->set_type("example.com/gate");
  other->set_status("True");
  ApplyProbeResults(
      pod, [](ProbeKind, std::string_view) { return ProbeResult::kUnknown; }, &status);
  SetPodConditions(pod, true, &status);
  EXPECT_EQ(FindCondition(status, "Ready")->reason(), "ContainersNotReady");
  EXPECT_EQ(FindCondition(status, "Ready")->message(), "containers with unready status: [b]");
  EXPECT_EQ(FindCondition(status, "Initialized")->status(), "True");
  EXPECT_NE(FindCondition(status, "example.com/gate"), nullptr);
  pod.mutable_spec()->add_readiness_gates()->set_condition_type("example.com/gate");
  *status.mutable_container_statuses(1) = State("b", "running");
  status.mutable_container_statuses(1)->set_ready(true);
  SetPodConditions(pod, true, &status);
  EXPECT_EQ(FindCondition(status, "Ready")->status(), "True");
}

TEST(MergeConditionsTest, TransitionTimeMovesOnlyWithTheStatus) {
  corev1::PodStatus before, after;
  auto* old = before.add_conditions();
  old->set_type("Ready");
  old->set_status("False");
  old->mutable_last_transition_time()->set_seconds(5);
  auto* now = after.add_conditions();
  now->set_type("Ready");
  now->set_status("False");
  MergeConditions(before, absl::FromUnixSeconds(9), &after);
  EXPECT_EQ(after.conditions(0).last_transition_time().seconds(), 5);
  now->set_status("True");
  MergeConditions(before, absl::FromUnixSeconds(9), &after);
  EXPECT_EQ(after.conditions(0).last_transition_time().seconds(), 9);
}

// ---- garbage ----

criv1::Container Dead(const std::string& id, const std::string& uid, const std::string& name,
                      int64_t created) {
  criv1::Container c;
  c.set_id(id);
  c.set_state(criv1::CONTAINER_EXITED);
  c.set_created_at(created);
  c.set_pod_sandbox_id("s-" + uid);
  (*c.mutable_labels())[kLabelPodUid] = uid;
  (*c.mutable_labels())[kLabelContainerName] = name;
  return c;
}

TEST(PlanGarbageTest, OneDeadContainerIsKept) {
  GcFacts facts;
  facts.known = {"u"};
  facts.sources_ready = true;
  facts.containers = {Dead("old", "u", "web", 1), Dead("new", "u", "web", 3), Dead("mid", "u", "web", 2),
                      Dead("other", "u", "log", 1), Dead("gone", "x", "web", 1)};
  GcPlan plan = PlanGarbage(facts);
  EXPECT_THAT(plan.containers, ::testing::UnorderedElementsAre("old", "mid", "gone"));
  facts.sources_ready = false;
  EXPECT_THAT(PlanGarbage(facts).containers, ::testing::UnorderedElementsAre("old", "mid"));
}

TEST(PlanGarbageTest, SandboxesOfKnownPodsStay) {
  GcFacts facts;
  facts.known = {"u"};
  facts.sources_ready = true;
  for (uint32_t attempt : {0u, 1u}) {
    criv1::PodSandbox s;
    s.set_id("u" + std::to_string(attempt));
    s.set_state(criv1::SANDBOX_NOTREADY);
    s.mutable_metadata()->set_attempt(attempt);
    (*s.mutable_labels())[kLabelPodUid] = "u";
    facts.sandboxes.push_back(s);
  }
  EXPECT_THAT(PlanGarbage(facts).sandboxes, ElementsAre("u0"));
  facts.known.clear();
  EXPECT_THAT(PlanGarbage(facts).sandboxes, ElementsAre("u1", "u0"));
}

TEST(ImageGcTest, ThresholdsAndOrder) {
  EXPECT_EQ(BytesToFree(1000, 200, 85, 80), 0);
  EXPECT_EQ(BytesToFree(1000, 100, 85, 80), 100);
  const absl::Time now = absl::FromUnixSeconds(10000);
  const absl::Time long_ago = now - absl::Hours(1);
  std::vector<ImageRecord> images = {{"used", 50, long_ago, now, true, false},
                                     {"pinned", 50, long_ago, long_ago, false, true},
                                     {"young", 50, now, absl::InfinitePast(), false, false},
                                     {"b", 50, long_ago, long_ago + absl::Minutes(2), false, false},
                                     {"a", 50, long_ago, long_ago, false, false}};
  EXPECT_THAT(PlanImageGc(images, 60, absl::Minutes(2), now), ElementsAre("a", "b"));
  EXPECT_THAT(PlanImageGc(images, 10, absl::Minutes(2), now), ElementsAre("a"));
}

TEST(LogsToRemoveTest, KeepsTheNewest) {
  EXPECT_THAT(LogsToRemove({"1", "2", "3", "4", "5"}, 4), ElementsAre("1", "2"));
  EXPECT_THAT(LogsToRemove({"1"}, 4), IsEmpty());
}

// ---- credentials ----

TEST(CredentialsTest, DockerConfigJson) {
  corev1::Secret secret;
  (*secret.mutable_data())[".dockerconfigjson"] =
      StrCat(R"({"auths":{"https://reg.example.com/v1/":{"auth":")", absl::Base64Escape("joe:secret"),
             R"("},"other":{"username":"x","password":"y"}}})");
  auto found = CredentialsFromSecret(secret, "reg.example.com/app:1");
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].username(), "joe");
  EXPECT_EQ(found[0].password(), "secret");
  EXPECT_THAT(CredentialsFromSecret(secret, "nginx"), IsEmpty());
  EXPECT_EQ(RegistryOf("nginx"), "docker.io");
  EXPECT_EQ(RegistryOf("localhost:5000/a/b"), "localhost:5000");
}

// ---- node ----

TEST(NodeStatusTest, FromATreeOfFiles) {
  std::string root = ::testing::TempDir() + "/node_status";
  for (const char* dir :
       {"/proc/sys/kernel/random", "/proc/net", "/sys/kernel/mm/hugepages/hugepages-2048kB", "/etc"}) {
    ASSERT_TRUE(MakeDirs(root + dir).ok());
  }
  auto put = [&](const std::string& path, const std::string& text) {
    ASSERT_TRUE(WriteFileAtomic(root + path, text, 0644, false).ok());
  };
  put("/proc/cpuinfo", "processor\t: 0\nmodel\t: x\nprocessor\t: 1\n");
  put("/proc/meminfo", "MemTotal:        2097152 kB\nMemFree: 1 kB\n");
  put("/proc/sys/kernel/osrelease", "6.1.0\n");
  put("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "4\n");
  put("/etc/os-release", "NAME=x\nPRETTY_NAME=\"Debian 12\"\n");
  KubeletOptions options;
  options.node_name = "n";
  options.proc_root = root + "/proc";
  options.sys_root = root + "/sys";
  options.host_root = root;
  options.kube_reserved["cpu"] = "500m";
  MachineInfo m = ReadMachineInfo(options, root);
  EXPECT_EQ(m.cpus, 2);
  EXPECT_EQ(m.memory_bytes, int64_t{2} << 30);
  EXPECT_EQ(m.os_image, "Debian 12");
  EXPECT_EQ(m.hugepages_bytes["hugepages-2Mi"], 8 << 20);
  auto allocatable = NodeAllocatable(NodeCapacity(m, options), options);
  ASSERT_TRUE(allocatable.ok());
  EXPECT_EQ(allocatable->count("ephemeral-storage"), 1u);
  KubeletOptions uncounted = options;
  uncounted.local_storage_capacity_isolation = false;
  EXPECT_EQ(NodeCapacity(m, uncounted).count("ephemeral-storage"), 0u);
  EXPECT_EQ((*allocatable)["cpu"].ToString(), "1500m");
  EXPECT_EQ((*allocatable)["memory"].Value(), (int64_t{2} << 30) - (100 << 20));
  EXPECT_EQ((*allocatable)["pods"].Value(), 110);

  NodeStatusInputs in;
  in.machine = m;
  in.node_ips = {"10.0.0.1"};
  in.now = absl::FromUnixSeconds(100);
  corev1::Node node;
  *node.mutable_status() = MakeNodeStatus(options, in, node.status());
  auto ready = [&] {
    for (const auto& c : node.status().conditions()) {
      if (c.type() == "Ready") return c;
    }
    return corev1::NodeCondition();
  };
  EXPECT_EQ(ready().status(), "False");
  EXPECT_EQ(ready().reason(), "KubeletNotReady");
  in.health.runtime_known = in.health.runtime_ready = in.health.network_ready = true;
  in.now = absl::FromUnixSeconds(200);
  *node.mutable_status() = MakeNodeStatus(options, in, node.status());
  EXPECT_EQ(ready().reason(), "KubeletReady");
  EXPECT_EQ(ready().last_transition_time().seconds(), 200);
  in.now = absl::FromUnixSeconds(300);
  *node.mutable_status() = MakeNodeStatus(options, in, node.status());
  EXPECT_EQ(ready().last_transition_time().seconds(), 200);
  EXPECT_EQ(ready().last_heartbeat_time().seconds(), 300);
  options.kube_reserved["cpu"] = "lots";
  EXPECT_THAT(std::string(NodeAllocatable(NodeCapacity(m, options), options).status().message()),
              HasSubstr("cpu"));
}

TEST(AdmissionTest, NodeAffinityAndPods) {
  corev1::Node node;
  node.mutable_metadata()->set_name("n");
  (*node.mutable_metadata()->mutable_labels())["disk"] = "ssd";
  corev1::Pod pod;
  pod.mutable_metadata()->set_uid("new");
  AdmissionInputs in;
  in.node = &node;
  in.allocatable["pods"] = api::Quantity::FromValue(1);
  KubeletOptions options;
  EXPECT_EQ(AdmitPod(pod, in, options), std::nullopt);
  (*pod.mutable_spec()->mutable_node_selector())["disk"] = "hdd";
  EXPECT_EQ(AdmitPod(pod, in, options)->reason, "NodeAffinity");
  (*pod.mutable_spec()->mutable_node_selector())["disk"] = "ssd";
  auto other = std::make_shared<corev1::Pod>();
  other->mutable_metadata()->set_uid("other");
  in.others = {other};
  EXPECT_EQ(AdmitPod(pod, in, options)->reason, "OutOfpods");
  auto* sysctl = pod.mutable_spec()->mutable_security_context()->add_sysctls();
  sysctl->set_name("kernel.msgmax");
  EXPECT_EQ(AdmitPod(pod, in, options)->reason, "SysctlForbidden");
}

TEST(AdmissionTest, SysctlsOfTheHostsNamespaces) {
  KubeletOptions options;
  options.allowed_unsafe_sysctls = {"kernel.msg*", "kernel.sem", "fs.mqueue.*", "net.core.somaxconn"};
  struct Case {
    const char* name;
    bool host_ipc, host_network;
    const char* want;
  } cases[] = {
      {"kernel.shm_rmid_forced", false, true, ""},
      {"kernel.shm_rmid_forced", true, false,
       "forbidden sysctl: \"kernel.shm_rmid_forced\" not allowed with host ipc enabled"},
      {"kernel/shm_rmid_forced", true, false,
       "forbidden sysctl: \"kernel.shm_rmid_forced\" not allowed with host ipc enabled"},
      {"kernel.msgmax", true, false, "forbidden sysctl: \"kernel.msgmax\" not allowed with host ipc enabled"},
      {"kernel.sem", true, false, "forbidden sysctl: \"kernel.sem\" not allowed with host ipc enabled"},
      {"fs.mqueue.msg_max", true, false,
       "forbidden sysctl: \"fs.mqueue.msg_max\" not allowed with host ipc enabled"},
      {"net.core.somaxconn", true, false, ""},
      {"net/core/somaxconn", false, true,
       "forbidden sysctl: \"net.core.somaxconn\" not allowed with host net enabled"},
      {"kernel.shmmax", false, false, "forbidden sysctl: \"kernel.shmmax\" not allowlisted"},
  };
  for (const Case& c : cases) {
    corev1::Pod pod;
    pod.mutable_spec()->set_host_ipc(c.host_ipc);
    pod.mutable_spec()->set_host_network(c.host_network);
    pod.mutable_spec()->mutable_security_context()->add_sysctls()->set_name(c.name);
    const std::optional<Rejection> rejection = AdmitPod(pod, {}, options);
    EXPECT_EQ(rejection ? rejection->message : "", c.want);
  }
}

// ---- host ports ----

// As containerd 1.6 says it, shortened.
constexpr char kContainerdWithoutPortmap[] =
    R"({"PluginDirs":["/usr/lib/cni"],"PluginConfDir":"/etc/cni/net.d","PluginMaxConfNum":1,"Prefix":"eth",)"
    R"("Networks":[{"Config":{"Name":"cni-loopback","CNIVersion":"0.3.1","Plugins":[{"Network":{"type":"loopback",)"
    R"("ipam":{},"dns":{}},"Source":"{}"}],"Source":"{}"},"IFName":"lo"},{"Config":{"Name":"keelson",)"
    R"("CNIVersion":"0.4.0","Plugins":[{"Network":{"type":"ptp","ipam":{"type":"host-local"},"dns":{}},)"
    R"("Source":"{}"}],"Source":"{}"},"IFName":"eth0"}]})";

void AddHostPort(corev1::Pod* pod, int port, const std::string& ip = "",
                 const std::string& protocol = "TCP") {
  if (pod->spec().containers_size() == 0) pod->mutable_spec()->add_containers()->set_name("c");
  auto* p = pod->mutable_spec()->mutable_containers(0)->add_ports();
  p->set_host_port(port);
  p->set_container_port(80);
  p->set_host_ip(ip);
  p->set_protocol(protocol);
}

TEST(HostPortsTest, Conflicts) {
  struct Case {
    const char *a, *b;
    bool same_port, same_protocol, conflict;
  } cases[] = {
      {"", "", true, true, true},
      {"", "", false, true, false},
      {"", "", true, false, false},
      {"", "192.0.2.1", true, true, true},
      {"192.0.2.1", "0.0.0.0", true, true, true},
      {"192.0.2.1", "192.0.2.2", true, true, false},
      {"192.0.2.1", "192.0.2.1", true, true, true},
      {"::", "2001:db8::1", true, true, true},
      {"::", "192.0.2.1", true, true, false},
      {"2001:db8::1", "", true, true, true},
  };
  for (const Case& c : cases) {
    corev1::Pod a, b;
    AddHostPort(&a, 8080, c.a);
    AddHostPort(&b, c.same_port ? 8080 : 8081, c.b, c.same_protocol ? "TCP" : "UDP");
    EXPECT_EQ(HostPortsConflict(a, b), c.conflict) << c.a << " " << c.b;
    EXPECT_EQ(HostPortsConflict(b, a), c.conflict) << c.a << " " << c.b;
    EXPECT_FALSE(HostPortsConflict(a, corev1::Pod()));
  }
}

TEST(AdmissionTest, HostPortsOfOthers) {
  corev1::Pod pod;
  pod.mutable_metadata()->set_uid("new");
  pod.mutable_metadata()->set_name("web");
  AddHostPort(&pod, 8080);
  auto other = std::make_shared<corev1::Pod>();
  other->mutable_metadata()->set_uid("other");
  other->mutable_metadata()->set_name("other");
  AddHostPort(other.get(), 8080, "192.0.2.1");
  AdmissionInputs in;
  in.others = {other};
  KubeletOptions options;
  ASSERT_TRUE(AdmitPod(pod, in, options).has_value());
  EXPECT_EQ(AdmitPod(pod, in, options)->reason, "NodePorts");
  EXPECT_THAT(AdmitPod(pod, in, options)->message, HasSubstr("didn't have free ports"));
  // It is on its way out, is the version before of this static pod, or has ended.
  other->mutable_metadata()->mutable_deletion_timestamp()->set_seconds(1);
  EXPECT_EQ(AdmitPod(pod, in, options), std::nullopt);
  other->mutable_metadata()->clear_deletion_timestamp();
  other->mutable_metadata()->set_name("web");
  EXPECT_EQ(AdmitPod(pod, in, options), std::nullopt);
  other->mutable_metadata()->set_name("other");
  other->mutable_status()->set_phase("Succeeded");
  EXPECT_EQ(AdmitPod(pod, in, options), std::nullopt);
}

TEST(HostPortsTest, NodePortsOfServices) {
  auto service = std::make_shared<corev1::Service>();
  service->mutable_metadata()->set_namespace_("default");
  service->mutable_metadata()->set_name("tomcat");
  auto* port = service->mutable_spec()->add_ports();
  port->set_port(8080);
  port->set_node_port(30001);
  corev1::Pod pod;
  AddHostPort(&pod, 30001, "", "UDP");
  AddHostPort(&pod, 30002);
  EXPECT_TRUE(NodePortConflicts(pod, {service}).empty());
  AddHostPort(&pod, 30001);
  EXPECT_EQ(NodePortConflicts(pod, {service}),
            std::vector<std::string>{
                "hostPort 30001/TCP is also the node port of the service default/tomcat: only one "
                "of them gets the connections"});
  EXPECT_TRUE(NodePortConflicts(pod, {}).empty());
}

TEST(HostPortsTest, WithoutEffectOnContainerdWithoutPortmap) {
  corev1::Pod pod;
  EXPECT_EQ(HostPortsWithoutEffect(pod, kContainerdWithoutPortmap), "");  // it wants none
  AddHostPort(&pod, 8080);
  EXPECT_EQ(HostPortsWithoutEffect(pod, kContainerdWithoutPortmap),
            "hostPort 8080/TCP has no effect: no plugin of the runtime's network configuration "
            "(cni-loopback, keelson) "
            "has the capability portMappings; add the portmap plugin to it");
  std::string with(kContainerdWithoutPortmap);
  const std::string ptp = R"({"type":"ptp",)";
  with.replace(with.find(ptp), ptp.size(), R"({"type":"portmap","capabilities":{"portMappings":true},)");
  EXPECT_EQ(HostPortsWithoutEffect(pod, with), "");
  // Whatever is not understood is no reason to frighten anybody.
  for (const char* text :
       {"", "null", "[]", "{}", "{\"Networks\":1}", "{\"Networks\":[]}", "{\"Networks\":[1]}",
        "{\"Networks\":[{\"Config\":{}}]}", "{\"Networks\":[{\"Config\":{\"Plugins\":3}}]}"}) {
    EXPECT_EQ(HostPortsWithoutEffect(pod, text), "") << text;
  }
  pod.mutable_spec()->set_host_network(true);
  EXPECT_EQ(HostPortsWithoutEffect(pod, kContainerdWithoutPortmap), "");
}

// ---- static pods ----

TEST(StaticPodsTest, NameUidAndMissingSpace) {
  const std::string text =
      "apiVersion: v1\nkind: Pod\nmetadata:\n  name: dns\nspec:\n  containers:\n  - name: c\n    image: "
      "i:1\n";
  auto pods = DecodeStaticPods(text, "n1", "file", "/m/dns.yaml", absl::FromUnixSeconds(1));
  ASSERT_TRUE(pods.ok()) << pods.status();
  EXPECT_EQ((*pods)[0].metadata().name(), "dns-n1");
  EXPECT_EQ((*pods)[0].metadata().uid().size(), 32u);
  EXPECT_TRUE(IsStaticPod((*pods)[0]));
  auto again = DecodeStaticPods(text, "n1", "file", "/m/dns.yaml", absl::FromUnixSeconds(99));
  EXPECT_EQ((*again)[0].metadata().uid(), (*pods)[0].metadata().uid());
  corev1::Pod mirror = MakeMirrorPod((*pods)[0], "n1", "node-uid");
  EXPECT_TRUE(IsMirrorPod(mirror));
  EXPECT_EQ(mirror.metadata().uid(), "");
  EXPECT_FALSE(DecodeStaticPods("kind: Pod\napiVersion: v1\nmetadata: {name: x}\nspec: {bogus: 1}\n", "n1",
                                "file", "f", absl::Now())
                   .ok());
}

TEST(StaticPodsTest, WhatTheApiWouldRefuseIsRefused) {
  const std::string text =
      "apiVersion: v1\nkind: Pod\nmetadata:\n  name: dns\nspec:\n  restartPolicy: Sometimes\n  containers:\n"
      "  - name: c\n";
  auto pods = DecodeStaticPods(text, "n1", "file", "/m/dns.yaml", absl::FromUnixSeconds(1));
  ASSERT_FALSE(pods.ok());
  const std::string message(pods.status().message());
  EXPECT_THAT(message, HasSubstr("/m/dns.yaml: invalid pod default/dns-n1: "));
  EXPECT_THAT(message, HasSubstr("spec.containers[0].image: Required value"));
  EXPECT_THAT(message, HasSubstr("spec.restartPolicy: Unsupported value: \"Sometimes\""));
}

// ---- cache ----

Task<absl::Status> WaitForNewer(PodCache* cache, uint64_t mark, bool* flag) {
  Task<absl::StatusOr<RuntimePodStatusPtr>> task = cache->GetNewerThan("u", mark);
  absl::StatusOr<RuntimePodStatusPtr> got = co_await std::move(task);
  *flag = true;
  co_return got.status();
}

TEST(PodCacheTest, NewerThanWaitsForTheRuntime) {
  FakeEnv env;
  PodCache cache;
  uint64_t before = cache.Mark();
  auto status = std::make_shared<RuntimePodStatus>();
  status->uid = "u";
  cache.Set("u", RuntimePodStatusPtr(status), before);
  EXPECT_TRUE(env.Await(cache.GetNewerThan("u", before - 1)).ok());
  bool done = false;
  Scope scope(env.executor());
  env.clock().Schedule(absl::Seconds(1), [&] { cache.SetGlobal(cache.Mark()); });
  EXPECT_TRUE(env.Await(WaitForNewer(&cache, before, &done)).ok());
  EXPECT_TRUE(done);
  cache.Delete("u", cache.Mark());
  EXPECT_TRUE((*cache.Get("u"))->sandboxes.empty());
}

}  // namespace
}  // namespace keelson::kubelet
