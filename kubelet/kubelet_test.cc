// The kubelet as a whole on the fake runtime, the fake API server and the fake clock.
#include "kubelet/kubelet.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <set>

#include "api/node/v1/node.pb.h"
#include "base/fake_env.h"
#include "base/fd.h"
#include "cgroups/testing/fake_tree.h"
#include "client/testing/fake_api_client.h"
#include "cri/testing/fake_runtime.h"
#include "kubelet/generate_pod_status.h"
#include "kubelet/host_ports.h"
#include "kubelet/testing/fakes.h"

namespace keelson::kubelet {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string TempRoot() {
  std::string path = ::testing::TempDir() + "/kubelet_test_XXXXXX";
  return ::mkdtemp(path.data()) == nullptr ? "" : path;
}

corev1::Pod MakePod(const std::string& name, const std::string& restart_policy = "Always") {
  corev1::Pod pod;
  auto& meta = *pod.mutable_metadata();
  meta.set_name(name);
  meta.set_namespace_("default");
  meta.set_uid("uid-" + name);
  pod.mutable_spec()->set_node_name("n1");
  pod.mutable_spec()->set_restart_policy(restart_policy);
  pod.mutable_spec()->set_termination_grace_period_seconds(30);
  auto* c = pod.mutable_spec()->add_containers();
  c->set_name("web");
  c->set_image("nginx:1.25");
  pod.mutable_status()->set_phase("Pending");
  return pod;
}

class KubeletTest : public ::testing::Test {
 protected:
  KubeletTest()
      : root_(TempRoot()), env_(1, Paths::WithRoot(root_)), runtime_(env_), api_(env_), objects_(api_) {
    options_.node_name = "n1";
    options_.node_ips = {"10.0.0.1"};
    options_.cluster_dns = {"10.96.0.10"};
    options_.resolv_conf = "";
    options_.eviction_hard.clear();
    api_.set_fault([this](const std::string& call) { return fault_ ? fault_(call) : absl::OkStatus(); });
  }
  ~KubeletTest() override {
    StopKubelet();
    std::filesystem::remove_all(root_);
  }
  void StartKubelet() {
    probes_ = std::make_unique<FakeProbeManager>();
    events_ = std::make_unique<client::EventRecorder>(env_, api_, "kubelet", "n1");
    KubeletDeps deps;
    deps.client = &api_;
    deps.runtime = &runtime_;
    deps.images = &runtime_;
    deps.volumes = &volumes_;
    deps.probes = probes_.get();
    deps.objects = &objects_;
    deps.events = events_.get();
    deps.qos_tree = qos_tree_.get();
    deps.systemd_units = systemd_units_;
    kubelet_ = std::make_unique<Kubelet>(env_, deps, options_);
    ASSERT_TRUE(kubelet_->Start().ok());
  }
  // As kill -9 would: nothing is told to anybody.
  void StopKubelet() {
    if (kubelet_ == nullptr) return;
    env_.AwaitVoid(kubelet_->Stop());
    env_.AwaitVoid(events_->Stop());
    kubelet_.reset();
    events_.reset();
    probes_.reset();
  }
  std::shared_ptr<const corev1::Pod> Get(const std::string& name) {
    return api_.FindAs<corev1::Pod>("default/" + name);
  }
  std::string Phase(const std::string& name) {
    auto pod = Get(name);
    return pod == nullptr ? "absent" : pod->status().phase();
  }
  bool Ready(const std::string& name) {
    auto pod = Get(name);
    const corev1::PodCondition* c = pod == nullptr ? nullptr : FindCondition(pod->status(), "Ready");
    return c != nullptr && c->status() == "True";
  }
  bool Until(const std::function<bool()>& done, absl::Duration limit = absl::Minutes(2)) {
    return env_.RunUntil(done, limit);
  }
  std::vector<std::string> Events(const std::string& reason) {
    std::vector<std::string> out;
    for (const auto& e : api_.All<corev1::Event>()) {
      if (e->reason() == reason) out.push_back(e->message());
    }
    return out;
  }
  std::string WaitingReason(const std::string& name) {
    auto pod = Get(name);
    if (pod == nullptr || pod->status().container_statuses_size() == 0) return "";
    return pod->status().container_statuses(0).state().waiting().reason();
  }

  std::string root_;
  FakeEnv env_;
  cri::FakeRuntime runtime_;
  client::FakeApiClient api_;
  std::function<absl::Status(const std::string&)> fault_;
  FakeVolumeManager volumes_;
  ApiObjectCache objects_;
  KubeletOptions options_;
  std::unique_ptr<cgroups::QosTree> qos_tree_;  // null: none
  std::function<absl::StatusOr<cgroups::SystemdUnits*>()> systemd_units_;
  std::unique_ptr<FakeProbeManager> probes_;
  std::unique_ptr<client::EventRecorder> events_;
  std::unique_ptr<Kubelet> kubelet_;
};

TEST_F(KubeletTest, PodRunsAndIsReported) {
  StartKubelet();
  api_.Put(MakePod("web"));
  ASSERT_TRUE(Until([&] { return Ready("web"); }, absl::Seconds(5)));
  auto pod = Get("web");
  EXPECT_EQ(pod->status().phase(), "Running");
  EXPECT_EQ(pod->status().qos_class(), "BestEffort");
  EXPECT_EQ(pod->status().host_ip(), "10.0.0.1");
  EXPECT_EQ(pod->status().pod_ip(), "10.88.0.2");
  ASSERT_EQ(pod->status().container_statuses_size(), 1);
  const auto& c = pod->status().container_statuses(0);
  EXPECT_TRUE(c.ready());
  EXPECT_TRUE(c.started());
  EXPECT_EQ(c.restart_count(), 0);
  EXPECT_THAT(c.container_id(), HasSubstr("fake://"));
  EXPECT_TRUE(pod->status().has_start_time());
  for (const char* reason : {"Pulling", "Pulled", "Created", "Started"}) {
    EXPECT_TRUE(Until([&] { return !Events(reason).empty(); })) << reason;
  }
  auto config = runtime_.SandboxConfig(runtime_.Sandboxes()[0].id());
  EXPECT_EQ(config->labels().at("io.kubernetes.pod.uid"), "uid-web");
  EXPECT_THAT(config->linux().cgroup_parent(), ::testing::EndsWith("/kubepods/besteffort/poduid-web"));
}

// The slices that were asked for, and are not stopped.
class FakeUnits : public cgroups::SystemdUnits {
 public:
  absl::Status EnsureSlice(std::string name, cgroups::Resources) override {
    slices.insert(name);
    return absl::OkStatus();
  }
  absl::Status SetLimits(std::string, cgroups::Resources) override { return absl::OkStatus(); }
  absl::Status StopSlice(std::string name) override {
    slices.erase(name);
    return absl::OkStatus();
  }
  std::set<std::string> slices;
};

TEST_F(KubeletTest, TheRuntimesCgroupDriverIsTaken) {
  cgroups::FakeTree host(cgroups::V1Host());
  cgroups::ManagerOptions fake;
  fake.fake_tree = true;
  fake.kill = [](pid_t, int) { return 0; };
  auto manager = cgroups::NewManager(*cgroups::Discover({host.root()}), fake);
  ASSERT_TRUE(manager.ok()) << manager.status();
  qos_tree_ = std::make_unique<cgroups::QosTree>(**manager, cgroups::QosTreeOptions{});
  FakeUnits units;
  bool booted = false;
  systemd_units_ = [&]() -> absl::StatusOr<cgroups::SystemdUnits*> {
    if (!booted) return absl::FailedPreconditionError("not booted with systemd");
    return &units;
  };
  runtime_.set_cgroup_driver(criv1::SYSTEMD);
  StartKubelet();
  api_.Put(MakePod("web"));
  ASSERT_TRUE(Until([&] { return !kubelet_->Healthy().ok(); }));
  EXPECT_FALSE(Until([&] { return !runtime_.Sandboxes().empty(); }, absl::Seconds(30)))
      << "no pod without its cgroup";
  EXPECT_THAT(std::string(Sv(kubelet_->Healthy().message())), HasSubstr("not booted with systemd"));

  booted = true;
  ASSERT_TRUE(Until([&] { return Ready("web"); }));
  EXPECT_TRUE(kubelet_->Healthy().ok()) << kubelet_->Healthy();
  const std::string slice = runtime_.SandboxConfig(runtime_.Sandboxes()[0].id())->linux().cgroup_parent();
  EXPECT_THAT(slice, ::testing::EndsWith("kubepods-besteffort-poduid_web.slice"));
  EXPECT_TRUE(units.slices.contains("kubepods-besteffort-poduid_web.slice"));
  EXPECT_TRUE(units.slices.contains("kubepods-burstable.slice"));
  StopKubelet();
  qos_tree_.reset();
}

TEST_F(KubeletTest, NodeIsRegisteredReadyAndLeased) {
  StartKubelet();
  ASSERT_TRUE(Until(
      [&] {
        auto node = api_.FindAs<corev1::Node>("n1");
        if (node == nullptr) return false;
        for (const auto& c : node->status().conditions()) {
          if (c.type() == "Ready" && c.status() == "True") return true;
        }
        return false;
      },
      absl::Milliseconds(300)));
  ASSERT_TRUE(
      Until([&] { return api_.FindAs<::k8s::coordination::v1::Lease>("kube-node-lease/n1") != nullptr; }));
  auto first = api_.FindAs<::k8s::coordination::v1::Lease>("kube-node-lease/n1")->spec().renew_time();
  env_.Advance(absl::Seconds(11));
  auto second = api_.FindAs<::k8s::coordination::v1::Lease>("kube-node-lease/n1")->spec().renew_time();
  EXPECT_GE(second.seconds() - first.seconds(), 9);
}

TEST_F(KubeletTest, DeletedPodIsStoppedAndRemoved) {
  StartKubelet();
  api_.Put(MakePod("web"));
  ASSERT_TRUE(Until([&] { return Ready("web"); }));
  client::DeleteOptions options;
  options.grace_period_s = 30;
  ASSERT_TRUE(env_.Await(api_.Delete<corev1::Pod>("default", "web", options)).ok());
  ASSERT_TRUE(Until([&] { return Phase("web") == "absent"; }));
  for (const auto& c : runtime_.Containers()) EXPECT_NE(c.state(), criv1::CONTAINER_RUNNING);
  for (const auto& s : runtime_.Sandboxes()) EXPECT_EQ(s.state(), criv1::SANDBOX_NOTREADY);
  EXPECT_TRUE(volumes_.mounted.empty());
  env_.Advance(absl::Minutes(3));  // garbage collection
  EXPECT_TRUE(runtime_.Containers().empty());
  EXPECT_TRUE(runtime_.Sandboxes().empty());
  EXPECT_FALSE(std::filesystem::exists(env_.paths().kubelet_dir + "/pods/uid-web"));
}

TEST_F(KubeletTest, CrashingContainerBacksOff) {
  runtime_.set_behavior_hook([](const auto&, const auto&) {
    cri::ContainerBehavior b;
    b.exits_after = absl::Seconds(1);
    b.exit_code = 1;
    return b;
  });
  StartKubelet();
  api_.Put(MakePod("web"));
  ASSERT_TRUE(Until([&] { return WaitingReason("web") == "CrashLoopBackOff"; }));
  auto pod = Get("web");
  EXPECT_EQ(pod->status().phase(), "Running");
  EXPECT_EQ(pod->status().container_statuses(0).last_state().terminated().exit_code(), 1);
  env_.Advance(absl::Minutes(5));
  pod = Get("web");
  int restarts = pod->status().container_statuses(0).restart_count();
  EXPECT_GE(restarts, 4);  // at 1, 11, 32, 73, 154 s ...
  EXPECT_LE(restarts, 6);
}

TEST_F(KubeletTest, KilledKubeletRestartsNothingAndFlipsNothing) {
  StartKubelet();
  corev1::Pod pod = MakePod("web");
  pod.mutable_spec()
      ->mutable_containers(0)
      ->mutable_readiness_probe()
      ->mutable_probe_handler()
      ->mutable_exec();
  api_.Put(pod);
  ASSERT_TRUE(Until([&] { return Phase("web") == "Running"; }));
  std::string id = runtime_.ContainerId("default", "web", "web");
  EXPECT_FALSE(Ready("web"));
  probes_->Set("uid-web", "web", id, ProbeKind::kReadiness, ProbeResult::kSuccess);
  ASSERT_TRUE(Until([&] { return Ready("web"); }));
  StopKubelet();
  bool flipped = false;
  StartKubelet();
  EXPECT_FALSE(Until(
      [&] {
        flipped = flipped || !Ready("web");
        return flipped;
      },
      absl::Seconds(30)));
  EXPECT_EQ(runtime_.ContainerId("default", "web", "web"), id);
  EXPECT_EQ(runtime_.Containers().size(), 1u);
  EXPECT_EQ(runtime_.Sandboxes().size(), 1u);
}

TEST_F(KubeletTest, ContainerKilledIsRestarted) {
  StartKubelet();
  api_.Put(MakePod("web"));
  ASSERT_TRUE(Until([&] { return Ready("web"); }));
  std::string id = runtime_.ContainerId("default", "web", "web");
  runtime_.ExitContainer(id, 137);
  ASSERT_TRUE(
      Until([&] { return Ready("web") && Get("web")->status().container_statuses(0).restart_count() == 1; }));
  EXPECT_NE(runtime_.ContainerId("default", "web", "web"), id);
  EXPECT_EQ(Get("web")->status().container_statuses(0).last_state().terminated().exit_code(), 137);
}

TEST_F(KubeletTest, DeadSandboxIsReplacedWithNextAttempt) {
  StartKubelet();
  api_.Put(MakePod("web"));
  ASSERT_TRUE(Until([&] { return Ready("web"); }));
  runtime_.KillSandbox(runtime_.Sandboxes()[0].id());
  ASSERT_TRUE(Until([&] { return runtime_.Sandboxes().back().metadata().attempt() == 1 && Ready("web"); }));
  EXPECT_FALSE(Until([&] { return Events("SandboxChanged").size() > 1; }, absl::Seconds(5)));
}

TEST_F(KubeletTest, NeverPodSucceeds) {
  runtime_.set_behavior_hook([](const auto&, const auto&) {
    cri::ContainerBehavior b;
    b.exits_after = absl::Seconds(3);
    return b;
  });
  StartKubelet();
  api_.Put(MakePod("job", "Never"));
  ASSERT_TRUE(Until([&] { return Phase("job") == "Succeeded"; }));
  env_.Advance(absl::Minutes(2));
  EXPECT_EQ(Phase("job"), "Succeeded");
  EXPECT_EQ(runtime_.calls("StartContainer"), 1);
  auto pod = Get("job");
  EXPECT_EQ(pod->status().container_statuses(0).state().terminated().reason(), "Completed");
  EXPECT_EQ(FindCondition(pod->status(), "Ready")->reason(), "PodCompleted");
}

TEST_F(KubeletTest, ImagePullFailureIsToldAndRecovers) {
  runtime_.SetPullError("nginx:1.25", absl::NotFoundError("no such image"));
  StartKubelet();
  api_.Put(MakePod("web"));
  ASSERT_TRUE(Until([&] { return WaitingReason("web") == "ErrImagePull"; }));
  ASSERT_TRUE(Until([&] { return WaitingReason("web") == "ImagePullBackOff"; }));
  EXPECT_EQ(Phase("web"), "Pending");
  runtime_.SetPullError("nginx:1.25", absl::OkStatus());
  ASSERT_TRUE(Until([&] { return Ready("web"); }));
}

TEST_F(KubeletTest, InitContainersRunInOrderThenSidecarStays) {
  runtime_.set_behavior_hook([](const criv1::ContainerConfig& c, const auto&) {
    cri::ContainerBehavior b;
    if (c.metadata().name().rfind("init", 0) == 0) b.exits_after = absl::Seconds(2);
    return b;
  });
  corev1::Pod pod = MakePod("web");
  for (const char* name : {"init-a", "sidecar", "init-b"}) {
    auto* c = pod.mutable_spec()->add_init_containers();
    c->set_name(name);
    c->set_image("busybox:1");
    if (std::string(name) == "sidecar") c->set_restart_policy("Always");
  }
  StartKubelet();
  api_.Put(pod);
  ASSERT_TRUE(Until([&] { return Ready("web"); }));
  std::vector<std::string> order;
  for (const auto& c : runtime_.Containers()) order.push_back(c.metadata().name());
  EXPECT_EQ(order, (std::vector<std::string>{"init-a", "sidecar", "init-b", "web"}));
  EXPECT_EQ(FindCondition(Get("web")->status(), "Initialized")->status(), "True");
  runtime_.ExitContainer(runtime_.ContainerId("default", "web", "sidecar"), 1);
  ASSERT_TRUE(Until([&] {
    return runtime_.FindContainer(runtime_.ContainerId("default", "web", "sidecar"))->state() ==
           criv1::CONTAINER_RUNNING;
  }));
  EXPECT_EQ(runtime_.calls("StartContainer"), 5);
}

TEST_F(KubeletTest, PodTooLargeIsRejected) {
  corev1::Pod pod = MakePod("big");
  (*pod.mutable_spec()->mutable_containers(0)->mutable_resources()->mutable_requests())["cpu"].set_string(
      "100000");
  StartKubelet();
  api_.Put(pod);
  ASSERT_TRUE(Until([&] { return Phase("big") == "Failed"; }));
  EXPECT_EQ(Get("big")->status().reason(), "OutOfcpu");
  EXPECT_TRUE(runtime_.Sandboxes().empty());
}

TEST_F(KubeletTest, UnsupportedFieldIsRefusedByName) {
  corev1::Pod pod = MakePod("dra");
  pod.mutable_spec()->add_resource_claims()->set_name("gpu");
  StartKubelet();
  api_.Put(pod);
  ASSERT_TRUE(Until([&] { return Phase("dra") == "Failed"; }));
  EXPECT_THAT(Get("dra")->status().message(), HasSubstr("spec.resourceClaims"));
}

TEST_F(KubeletTest, TheRuntimeClassesHandlerIsAskedFor) {
  ::k8s::node::v1::RuntimeClass light;
  light.mutable_metadata()->set_name("light");
  light.set_handler("crun");
  api_.Put(light);
  corev1::Pod pod = MakePod("light");
  pod.mutable_spec()->set_runtime_class_name("light");
  StartKubelet();
  api_.Put(pod);
  ASSERT_TRUE(Until([&] { return Phase("light") == "Running"; }));
  EXPECT_EQ(runtime_.Sandboxes().at(0).runtime_handler(), "crun");
  // One that is not there yet: the pod waits for it.
  corev1::Pod heavy = MakePod("heavy");
  heavy.mutable_spec()->set_runtime_class_name("heavy");
  api_.Put(heavy);
  ASSERT_TRUE(Until([&] { return !Events("FailedCreatePodSandBox").empty(); }));
  EXPECT_THAT(Events("FailedCreatePodSandBox").at(0),
              HasSubstr("failed to get sandbox runtime: RuntimeClass \"heavy\" not found"));
  light.mutable_metadata()->set_name("heavy");
  light.set_handler("runc");
  api_.Put(light);
  ASSERT_TRUE(Until([&] { return Phase("heavy") == "Running"; }));
  // Without an API server the class known from before serves.
  fault_ = [](const std::string& call) {
    return call == "get runtimeclasses" ? absl::UnavailableError("cut off") : absl::OkStatus();
  };
  pod.mutable_metadata()->set_name("again");
  pod.mutable_metadata()->set_uid("again-uid");
  api_.Put(pod);
  ASSERT_TRUE(Until([&] { return Phase("again") == "Running"; }));
}

TEST_F(KubeletTest, HostUsersFalseGivesThePodIdsOfItsOwn) {
  runtime_.set_user_namespaces(true);
  corev1::Pod pod = MakePod("mapped");
  pod.mutable_spec()->set_host_users(false);
  StartKubelet();
  api_.Put(pod);
  ASSERT_TRUE(Until([&] { return Phase("mapped") == "Running"; }));
  auto config = runtime_.SandboxConfig(runtime_.Sandboxes()[0].id());
  const auto& users = config->linux().security_context().namespace_options().userns_options();
  EXPECT_EQ(users.mode(), criv1::POD);
  ASSERT_EQ(users.uids_size(), 1);
  EXPECT_GE(users.uids(0).host_id(), 65536u);
  EXPECT_EQ(users.uids(0).length(), 65536u);
  EXPECT_EQ(users.gids(0).host_id(), users.uids(0).host_id());
}

TEST_F(KubeletTest, HostUsersFalseWaitsWhereTheRuntimeCannot) {
  corev1::Pod pod = MakePod("mapped");
  pod.mutable_spec()->set_host_users(false);
  StartKubelet();
  api_.Put(pod);
  ASSERT_TRUE(Until([&] { return !Events("FailedCreatePodSandBox").empty(); }));
  EXPECT_THAT(Events("FailedCreatePodSandBox")[0],
              HasSubstr("can't set `spec.hostUsers: false`, runtime does not support user namespaces"));
  EXPECT_TRUE(runtime_.Sandboxes().empty());
  EXPECT_EQ(Phase("mapped"), "Pending");
}

TEST_F(KubeletTest, HostPortsThatDoNothingOrMeetAServiceAreTold) {
  runtime_.set_status_info(
      {{kContainerdNetworkInfo,
        R"({"Networks":[{"Config":{"Name":"pods","Plugins":[{"Network":{"type":"ptp"}}]}}]})"}});
  corev1::Service service;
  service.mutable_metadata()->set_namespace_("default");
  service.mutable_metadata()->set_name("tomcat");
  service.mutable_spec()->add_ports()->set_node_port(30001);
  api_.Put(service);
  corev1::Pod pod = MakePod("web");
  auto* port = pod.mutable_spec()->mutable_containers(0)->add_ports();
  port->set_container_port(80);
  port->set_host_port(30001);
  api_.Put(pod);
  StartKubelet();
  ASSERT_TRUE(Until([&] { return Phase("web") == "Running"; }));
  ASSERT_TRUE(Until([&] { return !Events("HostPortNotSupported").empty(); }));
  EXPECT_THAT(Events("HostPortNotSupported"), ElementsAre(HasSubstr("hostPort 30001/TCP has no effect")));
  EXPECT_THAT(Events("HostPortConflict"), ElementsAre(HasSubstr("service default/tomcat")));
  // A second one is not taken.
  corev1::Pod second = pod;
  second.mutable_metadata()->set_name("second");
  second.mutable_metadata()->set_uid("second-uid");
  api_.Put(second);
  ASSERT_TRUE(Until([&] { return Phase("second") == "Failed"; }));
  EXPECT_EQ(Get("second")->status().reason(), "NodePorts");
}

TEST_F(KubeletTest, StaticPodRunsWithMirror) {
  options_.static_pod_path = root_ + "/manifests";
  ASSERT_TRUE(MakeDirs(options_.static_pod_path).ok());
  ASSERT_TRUE(WriteFileAtomic(options_.static_pod_path + "/dns.yaml",
                              "apiVersion: v1\nkind: Pod\nmetadata:\n  name: dns\nspec:\n  containers:\n"
                              "  - name: dns\n    image: dns:1\n")
                  .ok());
  StartKubelet();
  ASSERT_TRUE(Until([&] { return Ready("dns-n1"); }));
  EXPECT_TRUE(IsMirrorPod(*Get("dns-n1")));
  std::filesystem::remove(options_.static_pod_path + "/dns.yaml");
  ASSERT_TRUE(Until([&] { return Phase("dns-n1") == "absent"; }));
  ASSERT_TRUE(Until([&] {
    return runtime_.Sandboxes().empty() || runtime_.Sandboxes()[0].state() != criv1::SANDBOX_READY;
  }));
}

TEST_F(KubeletTest, OrphanOfOursIsStoppedOthersAreLeft) {
  StartKubelet();
  api_.Put(MakePod("web"));
  ASSERT_TRUE(Until([&] { return Ready("web"); }));
  StopKubelet();
  api_.Remove(client::GvrOf<corev1::Pod>(), "default/web");
  criv1::RunPodSandboxRequest other;
  other.mutable_config()->mutable_metadata()->set_name("foreign");
  other.mutable_config()->mutable_metadata()->set_uid("foreign");
  other.mutable_config()->mutable_metadata()->set_namespace_("default");
  (*other.mutable_config()->mutable_labels())[kLabelPodUid] = "foreign";
  (*other.mutable_config()->mutable_labels())[kLabelNode] = "n2";
  ASSERT_TRUE(env_.Await(runtime_.RunPodSandbox(other)).ok());
  StartKubelet();
  ASSERT_TRUE(Until([&] {
    for (const auto& c : runtime_.Containers()) {
      if (c.state() == criv1::CONTAINER_RUNNING) return false;
    }
    return true;
  }));
  env_.Advance(absl::Minutes(3));
  ASSERT_EQ(runtime_.Sandboxes().size(), 1u);
  EXPECT_EQ(runtime_.Sandboxes()[0].metadata().uid(), "foreign");
  EXPECT_EQ(runtime_.Sandboxes()[0].state(), criv1::SANDBOX_READY);
}

TEST_F(KubeletTest, RuntimeCrashLosesNothing) {
  StartKubelet();
  api_.Put(MakePod("web"));
  ASSERT_TRUE(Until([&] { return Ready("web"); }));
  std::string id = runtime_.ContainerId("default", "web", "web");
  runtime_.Crash();
  env_.Advance(absl::Seconds(20));
  runtime_.Restart();
  env_.Advance(absl::Seconds(30));
  EXPECT_TRUE(Ready("web"));
  EXPECT_EQ(runtime_.ContainerId("default", "web", "web"), id);
}

TEST_F(KubeletTest, SlowPullDoesNotHoldUpDeletion) {
  runtime_.AddRegistryImage("nginx:1.25", 1 << 20, absl::Minutes(10));
  StartKubelet();
  api_.Put(MakePod("web"));
  ASSERT_TRUE(Until([&] { return WaitingReason("web") == "ContainerCreating"; }));
  env_.Advance(absl::Seconds(2));
  client::DeleteOptions options;
  ASSERT_TRUE(env_.Await(api_.Delete<corev1::Pod>("default", "web", options)).ok());
  EXPECT_TRUE(Until([&] { return Phase("web") == "absent"; }, absl::Seconds(10)));
}

TEST_F(KubeletTest, ActiveDeadlineEndsThePod) {
  corev1::Pod pod = MakePod("slow", "Never");
  pod.mutable_spec()->set_active_deadline_seconds(20);
  StartKubelet();
  api_.Put(pod);
  ASSERT_TRUE(Until([&] { return Ready("slow"); }));
  ASSERT_TRUE(Until([&] { return Phase("slow") == "Failed"; }, absl::Seconds(25)));
  EXPECT_EQ(Get("slow")->status().reason(), "DeadlineExceeded");
  for (const auto& c : runtime_.Containers()) EXPECT_NE(c.state(), criv1::CONTAINER_RUNNING);
}

TEST_F(KubeletTest, MissingConfigMapHoldsThePodAndRecovers) {
  corev1::Pod pod = MakePod("web");
  auto* from = pod.mutable_spec()->mutable_containers(0)->add_env_from();
  from->mutable_config_map_ref()->mutable_local_object_reference()->set_name("settings");
  StartKubelet();
  api_.Put(pod);
  ASSERT_TRUE(Until([&] { return WaitingReason("web") == "CreateContainerConfigError"; }));
  EXPECT_EQ(Get("web")->status().container_statuses(0).state().waiting().message(),
            "configmap \"settings\" not found");
  corev1::ConfigMap map;
  map.mutable_metadata()->set_name("settings");
  map.mutable_metadata()->set_namespace_("default");
  (*map.mutable_data())["COLOR"] = "green";
  api_.Put(map);
  ASSERT_TRUE(Until([&] { return Ready("web"); }));
  bool found = false;
  const criv1::ContainerConfig config = *runtime_.Config(runtime_.ContainerId("default", "web", "web"));
  for (const auto& env : config.envs()) {
    found = found || (env.key() == "COLOR" && env.value() == "green");
  }
  EXPECT_TRUE(found);
}

TEST_F(KubeletTest, ServiceVariablesReachTheContainer) {
  corev1::Service service;
  service.mutable_metadata()->set_name("mysql");
  service.mutable_metadata()->set_namespace_("default");
  service.mutable_spec()->set_cluster_ip("10.96.0.20");
  service.mutable_spec()->add_ports()->set_port(3306);
  api_.Put(service);
  StartKubelet();
  api_.Put(MakePod("web"));
  ASSERT_TRUE(Until([&] { return Ready("web"); }));
  std::map<std::string, std::string> env;
  const criv1::ContainerConfig config = *runtime_.Config(runtime_.ContainerId("default", "web", "web"));
  for (const auto& e : config.envs()) env[e.key()] = e.value();
  EXPECT_EQ(env["MYSQL_SERVICE_HOST"], "10.96.0.20");
  EXPECT_EQ(env["MYSQL_SERVICE_PORT"], "3306");
}

TEST_F(KubeletTest, ThirtyPodsAtOnce) {
  StartKubelet();
  for (int i = 0; i < 30; ++i) api_.Put(MakePod("p" + std::to_string(i)));
  ASSERT_TRUE(Until([&] {
    for (int i = 0; i < 30; ++i) {
      if (!Ready("p" + std::to_string(i))) return false;
    }
    return true;
  }));
  EXPECT_TRUE(runtime_.CheckInvariants().ok());
  EXPECT_EQ(runtime_.calls("StartContainer"), 30);
}

TEST_F(KubeletTest, RandomFaultsNeverStartTwice) {
  StartKubelet();
  uint64_t calls = 0;
  runtime_.set_fault_hook([&](std::string_view rpc) {
    cri::Fault fault;
    if (++calls % 7 == 3) {
      fault.status = absl::UnavailableError("injected");
      fault.after_effect = calls % 2 == 0;
    }
    return fault;
  });
  for (int i = 0; i < 5; ++i) api_.Put(MakePod("p" + std::to_string(i)));
  auto all_ready = [&] {
    EXPECT_TRUE(runtime_.CheckInvariants().ok());
    for (int i = 0; i < 5; ++i) {
      if (!Ready("p" + std::to_string(i))) return false;
    }
    return true;
  };
  EXPECT_TRUE(Until(all_ready, absl::Minutes(30)));
  EXPECT_TRUE(runtime_.misuses().empty());
}

TEST_F(KubeletTest, StreamingUrlsComeFromTheRuntime) {
  StartKubelet();
  api_.Put(MakePod("web"));
  ASSERT_TRUE(Until([&] { return Ready("web"); }, absl::Seconds(5)));
  StreamRequest request;
  request.command = {"ls", "-l"};
  request.with_stdout = true;
  auto exec = env_.Await(kubelet_->ExecUrl("default", "web", "", "web", request));
  ASSERT_TRUE(exec.ok()) << exec.status();
  EXPECT_THAT(*exec, HasSubstr("/exec/"));
  auto attach = env_.Await(kubelet_->AttachUrl("default", "web", "uid-web", "web", request));
  ASSERT_TRUE(attach.ok()) << attach.status();
  EXPECT_THAT(*attach, HasSubstr("/attach/"));
  auto forward = env_.Await(kubelet_->PortForwardUrl("default", "web", "uid-web", {80}));
  ASSERT_TRUE(forward.ok()) << forward.status();
  EXPECT_THAT(*forward, HasSubstr("/portforward/"));
  auto missing = env_.Await(kubelet_->ExecUrl("default", "web", "", "other", request));
  EXPECT_TRUE(absl::IsNotFound(missing.status())) << missing.status();
  // A pod made anew under the name is another one.
  missing = env_.Await(kubelet_->ExecUrl("default", "web", "uid-before", "web", request));
  EXPECT_TRUE(absl::IsNotFound(missing.status())) << missing.status();
  missing = env_.Await(kubelet_->PortForwardUrl("default", "none", "", {}));
  EXPECT_TRUE(absl::IsNotFound(missing.status())) << missing.status();
  EXPECT_TRUE(env_.Await(kubelet_->RunCommand("default", "web", "", "web", {"true"})).ok());
}

TEST_F(KubeletTest, LivenessFailureRestarts) {
  corev1::Pod pod = MakePod("web");
  pod.mutable_spec()
      ->mutable_containers(0)
      ->mutable_liveness_probe()
      ->mutable_probe_handler()
      ->mutable_exec();
  StartKubelet();
  api_.Put(pod);
  ASSERT_TRUE(Until([&] { return Ready("web"); }));
  probes_->Set("uid-web", "web", runtime_.ContainerId("default", "web", "web"), ProbeKind::kLiveness,
               ProbeResult::kFailure);
  ASSERT_TRUE(
      Until([&] { return Ready("web") && Get("web")->status().container_statuses(0).restart_count() == 1; }));
  ASSERT_TRUE(Until([&] { return !Events("Killing").empty(); }));
  EXPECT_EQ(Events("Killing")[0], "Container web failed liveness probe, will be restarted");
}

TEST_F(KubeletTest, TheGreedyPodGoesWhenMemoryIsShort) {
  options_.proc_root = root_ + "/proc";
  options_.eviction_hard = {{"memory.available", "100Mi"}};
  auto set_available = [&](const char* kib) {
    ASSERT_TRUE(MakeDirs(options_.proc_root).ok());
    ASSERT_TRUE(WriteFileAtomic(options_.proc_root + "/meminfo",
                                StrCat("MemTotal: 4000000 kB\nMemAvailable: ", kib, " kB\n"))
                    .ok());
  };
  auto under_pressure = [&] {
    auto node = api_.FindAs<corev1::Node>("n1");
    for (const auto& c : node->status().conditions()) {
      if (c.type() == "MemoryPressure") return c.status() == "True";
    }
    return false;
  };
  set_available("500000");
  StartKubelet();
  corev1::Pod modest = MakePod("modest");
  (*modest.mutable_spec()->mutable_containers(0)->mutable_resources()->mutable_requests())["memory"]
      .set_string("1Gi");
  api_.Put(modest);
  api_.Put(MakePod("greedy"));
  ASSERT_TRUE(Until([&] { return Ready("modest") && Ready("greedy"); }));
  EXPECT_FALSE(under_pressure());

  set_available("50000");
  ASSERT_TRUE(Until([&] { return Phase("greedy") == "Failed"; }, absl::Seconds(15)));
  api_.Put(MakePod("late"));
  ASSERT_TRUE(Until([&] { return Phase("late") == "Failed"; }, absl::Seconds(5)));
  set_available("500000");
  EXPECT_EQ(Get("late")->status().message(), "The node had condition: [MemoryPressure]. ");
  auto greedy = Get("greedy");
  EXPECT_EQ(greedy->status().reason(), "Evicted");
  EXPECT_THAT(greedy->status().message(),
              HasSubstr("The node was low on resource: memory. Threshold quantity: 100Mi, available: "
                        "50000Ki. Container web was using "));
  const corev1::PodCondition* target = FindCondition(greedy->status(), "DisruptionTarget");
  ASSERT_NE(target, nullptr);
  EXPECT_EQ(target->reason(), "TerminationByKubelet");
  EXPECT_TRUE(Until([&] { return !Events("Evicted").empty(); }));
  EXPECT_TRUE(Until(under_pressure));
  EXPECT_EQ(Phase("modest"), "Running");
  EXPECT_TRUE(Until([&] { return !under_pressure(); }, absl::Minutes(6)));
  EXPECT_EQ(Phase("modest"), "Running");
}

// ---- a pod's own limits on the node's disk ----

TEST_F(KubeletTest, APodBeyondItsSizeLimitIsEvicted) {
  StartKubelet();
  for (const char* name : {"greedy", "modest", "unlimited"}) {
    corev1::Pod pod = MakePod(name);
    auto* volume = pod.mutable_spec()->add_volumes();
    volume->set_name("data");
    auto* source = volume->mutable_volume_source()->mutable_empty_dir();
    if (std::string(name) != "unlimited") source->mutable_size_limit()->set_string("1Mi");
    const std::string folder =
        StrCat(env_.paths().kubelet_dir, "/pods/uid-", name, "/volumes/kubernetes.io~empty-dir/data");
    ASSERT_TRUE(MakeDirs(folder).ok());
    const size_t bytes = std::string(name) == "modest" ? 64 << 10 : 2 << 20;
    ASSERT_TRUE(WriteFileAtomic(folder + "/file", std::string(bytes, 'x'), 0644, false).ok());
    // Another name of the same blocks is no other use.
    if (std::string(name) == "modest") {
      for (int i = 0; i < 30; ++i)
        std::filesystem::create_hard_link(folder + "/file", StrCat(folder, "/link", i));
    }
    api_.Put(pod);
  }
  ASSERT_TRUE(Until([&] { return Phase("greedy") == "Failed"; }, absl::Seconds(30)));
  EXPECT_EQ(Get("greedy")->status().reason(), "Evicted");
  EXPECT_EQ(Get("greedy")->status().message(),
            "Usage of EmptyDir volume \"data\" exceeds the limit \"1Mi\". ");
  EXPECT_EQ(FindCondition(Get("greedy")->status(), "DisruptionTarget"), nullptr);
  ASSERT_TRUE(Until([&] { return !Events("Evicted").empty(); }));
  EXPECT_EQ(Events("Evicted")[0], Get("greedy")->status().message());
  env_.Advance(absl::Seconds(30));
  EXPECT_TRUE(Ready("modest"));
  EXPECT_TRUE(Ready("unlimited"));
  EXPECT_EQ(runtime_.calls("ListContainerStats"), 0);
}

TEST_F(KubeletTest, APodBeyondItsEphemeralStorageIsEvicted) {
  StartKubelet();
  for (const char* name : {"layer", "logs", "modest"}) {
    corev1::Pod pod = MakePod(name);
    (*pod.mutable_spec()->mutable_containers(0)->mutable_resources()->mutable_limits())["ephemeral-storage"]
        .set_string("1Mi");
    auto* other = pod.mutable_spec()->add_containers();
    other->set_name("other");
    other->set_image("nginx:1.25");
    (*other->mutable_resources()->mutable_limits())["ephemeral-storage"].set_string("1Gi");
    api_.Put(pod);
  }
  ASSERT_TRUE(Until([&] { return Ready("layer") && Ready("logs") && Ready("modest"); }, absl::Seconds(8)));
  criv1::ContainerStats stats;
  stats.mutable_writable_layer()->mutable_used_bytes()->set_value(2 << 20);
  runtime_.SetContainerStats(runtime_.ContainerId("default", "layer", "web"), stats);
  stats.mutable_writable_layer()->mutable_used_bytes()->set_value(512 << 10);
  runtime_.SetContainerStats(runtime_.ContainerId("default", "modest", "web"), stats);
  ASSERT_TRUE(WriteFileAtomic(StrCat(env_.paths().pod_logs_dir, "/default_logs_uid-logs/web/0.log"),
                              std::string(2 << 20, 'x'), 0644, false)
                  .ok());
  ASSERT_TRUE(
      Until([&] { return Phase("layer") == "Failed" && Phase("logs") == "Failed"; }, absl::Seconds(45)));
  for (const char* name : {"layer", "logs"}) {
    EXPECT_EQ(Get(name)->status().reason(), "Evicted");
    EXPECT_EQ(Get(name)->status().message(),
              "Container web exceeded its local ephemeral storage limit \"1Mi\". ");
  }
  env_.Advance(absl::Seconds(30));
  EXPECT_TRUE(Ready("modest"));
}

TEST_F(KubeletTest, WithoutLocalStorageIsolationNothingIsCounted) {
  options_.local_storage_capacity_isolation = false;
  StartKubelet();
  corev1::Pod pod = MakePod("web");
  (*pod.mutable_spec()->mutable_containers(0)->mutable_resources()->mutable_limits())["ephemeral-storage"]
      .set_string("1");
  api_.Put(pod);
  ASSERT_TRUE(Until([&] { return Ready("web"); }));
  env_.Advance(absl::Minutes(1));
  EXPECT_TRUE(Ready("web"));
  EXPECT_EQ(runtime_.calls("ListContainerStats"), 0);
}

// ---- a container's own restart policy ----

TEST_F(KubeletTest, RestartPolicyRulesBringTheLastContainerBack) {
  std::map<std::string, int> starts;
  runtime_.set_behavior_hook([&](const criv1::ContainerConfig& config, const auto&) {
    cri::ContainerBehavior b;
    if (++starts[config.metadata().name()] == 1) {
      b.exits_after = absl::Seconds(1);
      b.exit_code = 42;
    }
    return b;
  });
  corev1::Pod pod = MakePod("job", "Never");
  auto* init = pod.mutable_spec()->add_init_containers();
  init->set_name("init");
  init->set_image("busybox:1");
  init->set_restart_policy("OnFailure");
  auto* web = pod.mutable_spec()->mutable_containers(0);
  web->set_restart_policy("Never");
  auto* rule = web->add_restart_policy_rules();
  rule->set_action("Restart");
  rule->mutable_exit_codes()->set_operator_("In");
  rule->mutable_exit_codes()->add_values(42);
  StartKubelet();
  api_.Put(pod);
  ASSERT_TRUE(Until([&] { return starts["init"] == 2; })) << Phase("job");
  ASSERT_TRUE(runtime_.ExitContainer(runtime_.ContainerId("default", "job", "init"), 0));
  ASSERT_TRUE(Until([&] { return starts["web"] == 2 && Ready("job"); })) << Phase("job");
  EXPECT_EQ(Get("job")->status().container_statuses(0).restart_count(), 1);
  // Any other code is the end.
  ASSERT_TRUE(runtime_.ExitContainer(runtime_.ContainerId("default", "job", "web"), 1));
  ASSERT_TRUE(Until([&] { return Phase("job") == "Failed"; }));
  EXPECT_EQ(starts["web"], 2);
}

// ---- lifecycle ----

corev1::LifecycleHandler Exec(const std::string& command) {
  corev1::LifecycleHandler handler;
  handler.mutable_exec()->add_command(command);
  return handler;
}

TEST_F(KubeletTest, HooksRunBeforeReadyAndBeforeTheStop) {
  std::vector<std::string> ran;
  runtime_.set_exec_handler([&](const criv1::ContainerConfig&, const std::vector<std::string>& command) {
    ran.push_back(command.at(0));
    criv1::ExecSyncResponse response;
    if (command.at(0) == "fails") response.set_exit_code(3);
    return response;
  });
  corev1::Pod pod = MakePod("web");
  auto* lifecycle = pod.mutable_spec()->mutable_containers(0)->mutable_lifecycle();
  *lifecycle->mutable_post_start() = Exec("begin");
  *lifecycle->mutable_pre_stop() = Exec("end");
  lifecycle->set_stop_signal("SIGUSR1");
  StartKubelet();
  api_.Put(pod);
  ASSERT_TRUE(Until([&] { return Ready("web"); }));
  EXPECT_THAT(ran, ElementsAre("begin"));
  const std::string id = runtime_.ContainerId("default", "web", "web");
  EXPECT_EQ(runtime_.Config(id)->stop_signal(), criv1::SIGNAL_SIGUSR1);
  client::DeleteOptions options;
  ASSERT_TRUE(env_.Await(api_.Delete<corev1::Pod>("default", "web", options)).ok());
  ASSERT_TRUE(Until([&] { return Phase("web") == "absent"; }));
  EXPECT_THAT(ran, ElementsAre("begin", "end"));

  // One that fails: the container is stopped and the pod says why; a failing preStop holds up nothing.
  corev1::Pod failing = MakePod("failing");
  lifecycle = failing.mutable_spec()->mutable_containers(0)->mutable_lifecycle();
  *lifecycle->mutable_post_start() = Exec("fails");
  *lifecycle->mutable_pre_stop() = Exec("fails");
  api_.Put(failing);
  ASSERT_TRUE(Until([&] { return !Events("FailedPostStartHook").empty(); }));
  // PostStartHookError until the back-off is told.
  ASSERT_TRUE(Until([&] { return WaitingReason("failing") == "CrashLoopBackOff"; }));
  ASSERT_TRUE(Until([&] { return !Events("FailedPreStopHook").empty(); }));
  EXPECT_THAT(Events("FailedPostStartHook")[0], HasSubstr("command 'fails' exited with 3"));
}

TEST_F(KubeletTest, ASleepHookHoldsTheStopUp) {
  corev1::Pod pod = MakePod("web");
  pod.mutable_spec()
      ->mutable_containers(0)
      ->mutable_lifecycle()
      ->mutable_pre_stop()
      ->mutable_sleep()
      ->set_seconds(7);
  StartKubelet();
  api_.Put(pod);
  ASSERT_TRUE(Until([&] { return Ready("web"); }));
  const std::string id = runtime_.ContainerId("default", "web", "web");
  client::DeleteOptions options;
  options.grace_period_s = 30;
  ASSERT_TRUE(env_.Await(api_.Delete<corev1::Pod>("default", "web", options)).ok());
  env_.Advance(absl::Seconds(6));
  EXPECT_EQ(runtime_.FindContainer(id)->state(), criv1::CONTAINER_RUNNING);
  ASSERT_TRUE(Until([&] { return Phase("web") == "absent"; }, absl::Seconds(4)));
}

TEST_F(KubeletTest, TcpSocketIsNoLifecycleHandler) {
  corev1::Pod pod = MakePod("web");
  auto* lifecycle = pod.mutable_spec()->mutable_containers(0)->mutable_lifecycle();
  lifecycle->mutable_post_start()->mutable_tcp_socket()->mutable_port()->set_int_val(80);
  lifecycle->mutable_pre_stop()->mutable_tcp_socket()->mutable_port()->set_int_val(80);
  StartKubelet();
  api_.Put(pod);
  ASSERT_TRUE(Until([&] { return !Events("FailedPostStartHook").empty(); }));
  EXPECT_THAT(Events("FailedPostStartHook")[0], HasSubstr("invalid handler: tcpSocket"));
  ASSERT_TRUE(Until([&] { return !Events("FailedPreStopHook").empty(); }));
  EXPECT_THAT(Events("FailedPreStopHook")[0], HasSubstr("invalid handler: tcpSocket"));
}

// ---- recursive read-only mounts ----

TEST_F(KubeletTest, RecursiveReadOnlyIsAskedOfTheHandlerAndTold) {
  corev1::Pod pod = MakePod("web");
  for (const char* mode : {"IfPossible", "Enabled", "Disabled"}) {
    auto* volume = pod.mutable_spec()->add_volumes();
    volume->set_name(mode);
    volume->mutable_volume_source()->mutable_empty_dir();
    auto* mount = pod.mutable_spec()->mutable_containers(0)->add_volume_mounts();
    mount->set_name(mode);
    mount->set_mount_path(StrCat("/", mode));
    mount->set_read_only(true);
    mount->set_recursive_read_only(mode);
  }
  StartKubelet();
  api_.Put(pod);
  ASSERT_TRUE(Until([&] { return WaitingReason("web") == "CreateContainerConfigError"; }));
  EXPECT_EQ(
      Get("web")->status().container_statuses(0).state().waiting().message(),
      "failed to resolve recursive read-only mode: volume \"Enabled\" requested recursive read-only mode, "
      "but it is not supported by the runtime");
  runtime_.set_recursive_read_only(true);
  ASSERT_TRUE(Until([&] { return Ready("web"); }));
  std::vector<std::string> told;
  for (const auto& mount : Get("web")->status().container_statuses(0).volume_mounts())
    told.push_back(mount.recursive_read_only());
  EXPECT_THAT(told, ElementsAre("Enabled", "Enabled", "Disabled"));
  // On a runtime without them the modest wish is met as far as it goes.
  runtime_.set_recursive_read_only(false);
  pod.mutable_metadata()->set_name("modest");
  pod.mutable_metadata()->set_uid("uid-modest");
  pod.mutable_spec()->mutable_containers(0)->mutable_volume_mounts()->DeleteSubrange(1, 2);
  api_.Put(pod);
  ASSERT_TRUE(Until([&] { return Ready("modest"); }));
  EXPECT_EQ(Get("modest")->status().container_statuses(0).volume_mounts(0).recursive_read_only(), "Disabled");
  EXPECT_FALSE(
      runtime_.Config(runtime_.ContainerId("default", "modest", "web"))->mounts(0).recursive_read_only());
}

// ---- swap ----

TEST_F(KubeletTest, SwapIsRefusedWhereAskedFor) {
  options_.proc_root = root_ + "/proc";
  ASSERT_TRUE(MakeDirs(options_.proc_root).ok());
  auto start = [&](const std::string& swaps, bool fail) {
    EXPECT_TRUE(WriteFileAtomic(options_.proc_root + "/swaps", swaps, 0644, false).ok());
    options_.fail_swap_on = fail;
    KubeletDeps deps;
    deps.runtime = &runtime_;
    deps.images = &runtime_;
    deps.volumes = &volumes_;
    FakeProbeManager probes;
    deps.probes = &probes;
    deps.objects = &objects_;
    Kubelet kubelet(env_, deps, options_);
    absl::Status started = kubelet.Start();
    env_.AwaitVoid(kubelet.Stop());
    return started;
  };
  const std::string none = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";
  const std::string some = none + "/dev/dm-1   partition\t16760828\t0\t-2\n";
  EXPECT_TRUE(start(none, true).ok());
  EXPECT_TRUE(start(some, false).ok());
  const absl::Status refused = start(some, true);
  EXPECT_THAT(
      std::string(refused.message()),
      HasSubstr("running with swap on is not supported, please disable swap! or set --fail-swap-on flag "
                "to false. /proc/swaps contained: [/dev/dm-1"));
}

TEST_F(KubeletTest, ASoftThresholdWaitsForItsGrace) {
  options_.proc_root = root_ + "/proc";
  options_.eviction_soft = {{"memory.available", "100Mi"}};
  options_.eviction_soft_grace = {{"memory.available", absl::Seconds(60)}};
  options_.eviction_max_pod_grace_period_s = 20;
  ASSERT_TRUE(MakeDirs(options_.proc_root).ok());
  auto set_available = [&](const char* kib) {
    ASSERT_TRUE(WriteFileAtomic(options_.proc_root + "/meminfo",
                                StrCat("MemTotal: 4000000 kB\nMemAvailable: ", kib, " kB\n"))
                    .ok());
  };
  runtime_.set_behavior_hook([](const auto&, const auto&) {
    cri::ContainerBehavior b;
    b.ignores_stop_signal = true;
    return b;
  });
  set_available("500000");
  StartKubelet();
  api_.Put(MakePod("web"));
  ASSERT_TRUE(Until([&] { return Ready("web"); }));
  set_available("50000");
  env_.Advance(absl::Seconds(55));
  EXPECT_EQ(Phase("web"), "Running");
  ASSERT_TRUE(Until([&] { return Phase("web") == "Failed"; }, absl::Seconds(30)));
  EXPECT_EQ(Get("web")->status().reason(), "Evicted");
  const std::string id = runtime_.ContainerId("default", "web", "web");
  env_.Advance(absl::Seconds(15));
  EXPECT_EQ(runtime_.FindContainer(id)->state(), criv1::CONTAINER_RUNNING);
  set_available("500000");
  ASSERT_TRUE(Until([&] { return runtime_.FindContainer(id)->state() == criv1::CONTAINER_EXITED; },
                    absl::Seconds(10)));
}

}  // namespace
}  // namespace keelson::kubelet
