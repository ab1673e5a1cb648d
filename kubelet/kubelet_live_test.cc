// The kubelet on a real runtime: KEELSON_TEST_CRI_ENDPOINT=unix:///run/containerd/containerd.sock, with
// KEELSON_TEST_CRI_IMAGE an image that is present and runs until SIGTERM (default:
// registry.k8s.io/pause:3.9). API server, volumes and probes are the fakes; the cgroup root is
// /keelson-kubelet-live.
#include <absl/strings/numbers.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include "api/core/v1/event.pb.h"
#include "api/node/v1/node.pb.h"
#include "api/time.h"
#include "base/env.h"
#include "base/status.h"
#include "client/testing/fake_api_client.h"
#include "cri/remote/remote_runtime.h"
#include "kubelet/generate_pod_status.h"
#include "kubelet/kubelet.h"
#include "kubelet/testing/fakes.h"

namespace keelson::kubelet {
namespace {

// Of one step. An emulated processor that others use as well is slow.
constexpr absl::Duration kLimit = absl::Minutes(3);
constexpr int kDefaultPods = 10;
constexpr int kBurstFactor = 3;  // so many times the pods at once

// KEELSON_TEST_KUBELET_PODS: fewer, where a processor is emulated.
int PodCount() {
  const char* text = ::getenv("KEELSON_TEST_KUBELET_PODS");
  int pods = 0;
  return text != nullptr && absl::SimpleAtoi(text, &pods) && pods > 0 ? pods : kDefaultPods;
}

class KubeletLiveTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* endpoint = ::getenv("KEELSON_TEST_CRI_ENDPOINT");
    if (endpoint == nullptr)
      GTEST_SKIP() << "KEELSON_TEST_CRI_ENDPOINT names no runtime (unix:///path/of/the.sock)";
    const char* image = ::getenv("KEELSON_TEST_CRI_IMAGE");
    if (image != nullptr) image_ = image;
    char pattern[] = "/tmp/keelson-kubelet-live-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern), nullptr);
    root_ = pattern;
    Paths paths = Paths::WithRoot(root_);
    paths.cgroup_root = "keelson-kubelet-live";
    env_ = std::make_unique<RealEnv>(paths);
    cri::RemoteOptions options;
    options.endpoint = endpoint;
    auto remote = cri::RemoteRuntime::Create(*env_, options);
    ASSERT_TRUE(remote.ok()) << remote.status();
    remote_ = *std::move(remote);
    auto manager = cgroups::NewHostManager();
    ASSERT_TRUE(manager.ok()) << manager.status();
    cgroups_ = *std::move(manager);
    qos_tree_ =
        std::make_unique<cgroups::QosTree>(*cgroups_, cgroups::QosTreeOptions{paths.cgroup_root, false});
    api_ = std::make_unique<client::FakeApiClient>(*env_);
    objects_ = std::make_unique<ApiObjectCache>(*api_);
  }
  void Start() {
    probes_ = std::make_unique<FakeProbeManager>();
    events_ = std::make_unique<client::EventRecorder>(*env_, *api_, "kubelet", "live");
    KubeletOptions options;
    options.node_name = "live";
    options.eviction_hard.clear();  // the disk of whoever runs this may be fuller than a node's should be
    KubeletDeps deps;
    deps.client = api_.get();
    deps.runtime = &remote_->runtime();
    deps.images = &remote_->images();
    deps.volumes = &volumes_;
    deps.probes = probes_.get();
    deps.objects = objects_.get();
    deps.events = events_.get();
    deps.qos_tree = qos_tree_.get();
    deps.systemd_units = [this]() -> absl::StatusOr<cgroups::SystemdUnits*> {
      if (systemd_ == nullptr) {
        const bool v2 = cgroups_->layout().mode == cgroups::Mode::kV2;
        ASSIGN_OR_RETURN(systemd_, cgroups::NewSystemdUnits(env_->clock(), v2));
      }
      return systemd_.get();
    };
    kubelet_ = std::make_unique<Kubelet>(*env_, deps, options);
    ASSERT_TRUE(kubelet_->Start().ok());
  }
  Task<absl::Status> StopAll() {
    Task<void> kubelet = kubelet_->Stop();
    co_await std::move(kubelet);
    Task<void> events = events_->Stop();
    co_await std::move(events);
    co_return absl::OkStatus();
  }
  void Stop() {
    ASSERT_TRUE(env_->RunUntilDone(StopAll()).ok());
    kubelet_.reset();
    events_.reset();
    probes_.reset();
  }
  void TearDown() override {
    if (kubelet_ != nullptr) Stop();
    remote_.reset();
    if (systemd_ != nullptr) {
      EXPECT_TRUE(systemd_->StopSlice("keelson_kubelet_live.slice").ok());
    }
    if (cgroups_ != nullptr) {
      EXPECT_TRUE(cgroups_->Destroy("keelson-kubelet-live").ok());
    }
    std::filesystem::remove_all(root_);
  }
  Task<absl::Status> CollectAll() {
    Task<void> collect = kubelet_->CollectGarbage();
    co_await std::move(collect);
    criv1::ListPodSandboxRequest request;
    (*request.mutable_filter()->mutable_label_selector())[kLabelNode] = "live";
    CO_ASSIGN_OR_RETURN(criv1::ListPodSandboxResponse left,
                        remote_->runtime().ListPodSandbox(std::move(request)));
    if (left.items_size() > 0) co_return absl::InternalError(StrCat(left.items_size(), " sandboxes left"));
    co_return absl::OkStatus();
  }
  // Handler by name of the pod.
  static Task<absl::Status> CollectHandlers(Task<absl::StatusOr<criv1::ListPodSandboxResponse>> list,
                                            std::map<std::string, std::string>* used) {
    absl::StatusOr<criv1::ListPodSandboxResponse> listed = co_await std::move(list);
    if (!listed.ok()) co_return listed.status();
    for (const auto& item : listed->items()) (*used)[item.metadata().name()] = item.runtime_handler();
    co_return absl::OkStatus();
  }
  Task<absl::Status> Poll(std::function<bool()> done, absl::Duration limit) {
    const absl::Duration end = env_->clock().Monotonic() + limit;
    while (!done()) {
      if (env_->clock().Monotonic() > end) co_return absl::DeadlineExceededError("not in time");
      Task<void> sleep = env_->clock().Sleep(absl::Milliseconds(2));
      co_await std::move(sleep);
    }
    co_return absl::OkStatus();
  }
  // Milliseconds until done; fails the test past the limit.
  double Until(std::function<bool()> done, absl::Duration limit = kLimit) {
    const absl::Duration start = env_->clock().Monotonic();
    absl::Status status = env_->RunUntilDone(Poll(std::move(done), limit));
    EXPECT_TRUE(status.ok()) << status;
    return absl::ToDoubleMilliseconds(env_->clock().Monotonic() - start);
  }
  // Workers forget pods that are gone at the next clean-up; then everything is garbage.
  void WaitForCleanUp() {
    const absl::Duration later = env_->clock().Monotonic() + absl::Seconds(3);
    Until([&] { return env_->clock().Monotonic() > later; });
  }
  corev1::Pod MakePod(const std::string& name) {
    corev1::Pod pod;
    pod.mutable_metadata()->set_name(name);
    pod.mutable_metadata()->set_namespace_("default");
    pod.mutable_metadata()->set_uid(env_->random().Uuid());
    pod.mutable_spec()->set_node_name("live");
    pod.mutable_spec()->set_restart_policy("Always");
    pod.mutable_spec()->set_dns_policy("Default");
    pod.mutable_spec()->set_termination_grace_period_seconds(5);
    auto* c = pod.mutable_spec()->add_containers();
    c->set_name("main");
    c->set_image(image_);
    c->set_image_pull_policy("IfNotPresent");
    pod.mutable_status()->set_phase("Pending");
    return pod;
  }
  std::shared_ptr<const corev1::Pod> Get(const std::string& name) {
    return api_->FindAs<corev1::Pod>("default/" + name);
  }
  bool Ready(const std::string& name) {
    auto pod = Get(name);
    const corev1::PodCondition* c = pod == nullptr ? nullptr : FindCondition(pod->status(), "Ready");
    return c != nullptr && c->status() == "True";
  }
  void Delete(const std::string& name) {
    // A graceful deletion as an API server records it.
    corev1::Pod pod = *Get(name);
    *pod.mutable_metadata()->mutable_deletion_timestamp() =
        api::ToApiTime(env_->clock().Now() + absl::Seconds(5));
    pod.mutable_metadata()->set_deletion_grace_period_seconds(5);
    api_->Put(pod);
  }

  std::string image_ = "registry.k8s.io/pause:3.9", root_;
  std::unique_ptr<RealEnv> env_;
  std::unique_ptr<cgroups::Manager> cgroups_;
  std::unique_ptr<cgroups::SystemdUnits> systemd_;  // when the runtime asks for it
  std::unique_ptr<cgroups::QosTree> qos_tree_;
  std::unique_ptr<cri::RemoteRuntime> remote_;
  std::unique_ptr<client::FakeApiClient> api_;
  std::unique_ptr<ApiObjectCache> objects_;
  FakeVolumeManager volumes_;
  std::unique_ptr<FakeProbeManager> probes_;
  std::unique_ptr<client::EventRecorder> events_;
  std::unique_ptr<Kubelet> kubelet_;
};

TEST_F(KubeletLiveTest, PodsRunSurviveARestartAndGo) {
  const int pods = PodCount(), burst = kBurstFactor * pods;
  Start();
  double ready_ms = Until([&] {
    auto node = api_->FindAs<corev1::Node>("live");
    if (node == nullptr) return false;
    for (const auto& c : node->status().conditions()) {
      if (c.type() == "Ready" && c.status() == "True") return true;
    }
    return false;
  });
  RecordProperty("node_ready_ms", std::to_string(ready_ms));
  std::printf("node ready after %.0f ms\n", ready_ms);
  std::vector<double> start_ms, stop_ms;
  for (int i = 0; i < pods; ++i) {
    const std::string name = "p" + std::to_string(i);
    api_->Put(MakePod(name));
    start_ms.push_back(Until([&] { return Ready(name); }));
  }
  std::sort(start_ms.begin(), start_ms.end());
  std::printf("pod ready: p50 %.0f ms, max %.0f ms\n", start_ms[pods / 2], start_ms.back());
  const auto before = Get("p0")->status();
  EXPECT_FALSE(before.pod_ip().empty());
  EXPECT_EQ(before.container_statuses(0).restart_count(), 0);
  EXPECT_FALSE(before.container_statuses(0).image_id().empty());

  EXPECT_TRUE(cgroups_->Exists(qos_tree_->PodPath(PodUid(*Get("p0")), cgroups::QosClass::kBestEffort)));
  EXPECT_FALSE(
      cgroups_->Pids(qos_tree_->PodPath(PodUid(*Get("p0")), cgroups::QosClass::kBestEffort), true)->empty());

  Stop();
  Start();
  bool flipped = false;
  const absl::Duration until = env_->clock().Monotonic() + absl::Seconds(4);
  Until([&] {
    for (int i = 0; i < pods; ++i) flipped = flipped || !Ready("p" + std::to_string(i));
    return flipped || env_->clock().Monotonic() > until;
  });
  EXPECT_FALSE(flipped);
  EXPECT_EQ(Get("p0")->status().container_statuses(0).container_id(),
            before.container_statuses(0).container_id());

  for (int i = 0; i < pods; ++i) {
    const std::string name = "p" + std::to_string(i);
    Delete(name);
    stop_ms.push_back(Until([&] { return Get(name) == nullptr; }));
  }
  std::sort(stop_ms.begin(), stop_ms.end());
  std::printf("pod deleted: p50 %.0f ms, max %.0f ms\n", stop_ms[pods / 2], stop_ms.back());
  for (int i = 0; i < burst; ++i) api_->Put(MakePod("burst" + std::to_string(i)));
  double burst_ms = Until([&] {
    for (int i = 0; i < burst; ++i) {
      if (!Ready("burst" + std::to_string(i))) return false;
    }
    return true;
  });
  std::printf("burst of %d ready after %.0f ms\n", burst, burst_ms);
  for (int i = 0; i < burst; ++i) Delete("burst" + std::to_string(i));
  Until([&] {
    for (int i = 0; i < burst; ++i) {
      if (Get("burst" + std::to_string(i)) != nullptr) return false;
    }
    return true;
  });
  auto left = qos_tree_->ListPods();
  EXPECT_TRUE(left.ok() && left->empty()) << "pod cgroups left";
  WaitForCleanUp();
  ASSERT_TRUE(env_->RunUntilDone(CollectAll()).ok());
}

TEST_F(KubeletLiveTest, PodsOfRuntimeClasses) {
  Start();
  std::set<std::string> handlers;
  Until([&] {
    auto node = api_->FindAs<corev1::Node>("live");
    if (node == nullptr) return false;
    for (const auto& handler : node->status().runtime_handlers()) {
      if (!handler.name().empty()) handlers.insert(handler.name());
    }
    return node->status().conditions_size() > 0;
  });
  if (handlers.empty()) GTEST_SKIP() << "the runtime names no handlers";
  for (const std::string& handler : handlers) {
    ::k8s::node::v1::RuntimeClass c;
    c.mutable_metadata()->set_name("class-of-" + handler);
    c.set_handler(handler);
    api_->Put(c);
    corev1::Pod pod = MakePod(handler);
    pod.mutable_spec()->set_runtime_class_name(c.metadata().name());
    api_->Put(pod);
  }
  Until([&] {
    return std::all_of(handlers.begin(), handlers.end(), [&](const auto& name) { return Ready(name); });
  });
  criv1::ListPodSandboxRequest request;
  (*request.mutable_filter()->mutable_label_selector())[kLabelNode] = "live";
  std::map<std::string, std::string> used;
  Task<absl::StatusOr<criv1::ListPodSandboxResponse>> list =
      remote_->runtime().ListPodSandbox(std::move(request));
  ASSERT_TRUE(env_->RunUntilDone(CollectHandlers(std::move(list), &used)).ok());
  EXPECT_EQ(used.size(), handlers.size());
  for (const auto& [name, handler] : used) EXPECT_EQ(name, handler);
  for (const std::string& handler : handlers) {
    Delete(handler);
    Until([&] { return Get(handler) == nullptr; });
  }
  WaitForCleanUp();
  ASSERT_TRUE(env_->RunUntilDone(CollectAll()).ok());
}

// containerd with a network whose configuration has no portmap plugin:
// KEELSON_TEST_HOST_PORTS=without-effect.
TEST_F(KubeletLiveTest, HostPortsWithoutEffectAreTold) {
  const char* expected = ::getenv("KEELSON_TEST_HOST_PORTS");
  if (expected == nullptr)
    GTEST_SKIP() << "KEELSON_TEST_HOST_PORTS says nothing of host ports of this runtime";
  Start();
  corev1::Pod pod = MakePod("host-port");
  auto* port = pod.mutable_spec()->mutable_containers(0)->add_ports();
  port->set_container_port(80);
  port->set_host_port(21502);
  api_->Put(pod);
  Until([&] { return Ready("host-port"); });
  auto told = [&] {
    for (const auto& event : api_->All<corev1::Event>()) {
      if (event->reason() == "HostPortNotSupported") return event->message();
    }
    return std::string();
  };
  if (std::string(expected) == "without-effect") {
    Until([&] { return !told().empty(); });
    std::printf("%s\n", told().c_str());
    EXPECT_EQ(told().rfind("hostPort 21502/TCP has no effect", 0), 0u);
  } else {
    EXPECT_EQ(told(), "");
  }
  Delete("host-port");
  Until([&] { return Get("host-port") == nullptr; });
  WaitForCleanUp();
  ASSERT_TRUE(env_->RunUntilDone(CollectAll()).ok());
}

}  // namespace
}  // namespace keelson::kubelet
