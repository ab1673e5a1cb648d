// NRI plugins on a real kernel and real OCI runtimes: what they are told, and what becomes of what they ask
// for. Under cri/testing/with_keelson_cri --no-server --nri; each case has a server of its own, on the loop
// of the test's plugins.
#include <absl/strings/match.h>
#include <absl/strings/str_split.h>
#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <cstdlib>

#include "base/fd.h"
#include "base/status.h"
#include "cri/nri/testing/test_plugin.h"
#include "cri/testing/cgroup_files.h"
#include "cri/testing/live_test.h"
#include "net/socket.h"

namespace keelson::cri {
namespace {

namespace pb = ::nri::pkg::api::v1alpha1;
using nri::TestPlugin;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;

Task<absl::Status> CloseScope(Scope* scope) {
  Task<void> close = scope->Close();
  co_await std::move(close);
  co_return absl::OkStatus();
}

Task<absl::Status> WaitFor(AsyncEvent* event) {
  Task<void> wait = event->Wait();
  co_await std::move(wait);
  co_return absl::OkStatus();
}

template <class Response>
Task<void> Finish(Task<absl::StatusOr<Response>> call, std::optional<absl::StatusOr<Response>>* out,
                  AsyncEvent* done) {
  absl::StatusOr<Response> answer = co_await std::move(call);
  *out = std::move(answer);
  done->Set();
}

class NriLiveTest : public LiveTest {
 protected:
  void SetUp() override {
    LiveTest::SetUp();
    if (live_ == nullptr || HasFailure()) return;
    if (live_->paths().nri_socket.empty()) GTEST_SKIP() << "runs with --nri";
  }
  void TearDown() override {
    EXPECT_TRUE(env_.RunUntilDone(CloseScope(&scope_)).ok());
    plugins_.clear();
    LiveTest::TearDown();
  }
  TestPlugin* Add(const std::string& index = "10", const std::string& name = "test") {
    plugins_.push_back(std::make_unique<TestPlugin>(&env_, index, name));
    return plugins_.back().get();
  }
  // Connected, and told what there is.
  TestPlugin* Connect(TestPlugin* plugin) {
    Dial(plugin);
    EXPECT_TRUE(Eventually([&] { return plugin->synchronized; }));
    return plugin;
  }
  void Dial(TestPlugin* plugin) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    live_->paths().nri_socket.copy(address.sun_path, sizeof address.sun_path - 1);
    Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0) << errno;
    net::SocketOwner socket(net::Socket::Make(env_.executor(), std::move(fd)));
    plugin->Connect(&scope_, net::MakeSocketStream(std::move(socket), ""));
  }
  // A plugin that adjusts every container so.
  TestPlugin* Adjusting(const std::string& adjust, const std::string& index = "10") {
    TestPlugin* plugin = Add(index);
    Adjust(plugin, adjust);
    return Connect(plugin);
  }
  static void Adjust(TestPlugin* plugin, const std::string& adjust) {
    pb::CreateContainerResponse response;
    ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(adjust, response.mutable_adjust())) << adjust;
    plugin->on_create = [response](const auto&) { return response; };
  }
  // A call whose answer is not waited for: Answer(...) does.
  template <class Response>
  struct Begun {
    std::optional<absl::StatusOr<Response>> answer;
    AsyncEvent done;
  };
  template <class Response>
  std::unique_ptr<Begun<Response>> Begin(Task<absl::StatusOr<Response>> call) {
    auto begun = std::make_unique<Begun<Response>>();
    scope_.Spawn("call", Finish(std::move(call), &begun->answer, &begun->done));
    return begun;
  }
  template <class Response>
  absl::StatusOr<Response> Answer(Begun<Response>* begun) {
    EXPECT_TRUE(env_.RunUntilDone(WaitFor(&begun->done)).ok());
    return *begun->answer;
  }
  absl::Status KillServer() { return env_.RunUntilDone(live_->Kill()); }
  void StartServer() {
    ASSERT_TRUE(live_->Spawn().ok());
    absl::Status up = env_.RunUntilDone(live_->WaitUntilUp());
    ASSERT_TRUE(up.ok()) << up;
  }
  v1::RunPodSandboxRequest RunRequest(const v1::PodSandboxConfig& config) {
    v1::RunPodSandboxRequest request;
    *request.mutable_config() = config;
    return request;
  }
  std::vector<std::string> PodIds() {
    auto list = Call(runtime().ListPodSandbox({}));
    std::vector<std::string> ids;
    if (list.ok()) {
      for (const auto& pod : list->items()) ids.push_back(pod.id());
    }
    return ids;
  }
  std::vector<std::string> ContainerIds() {
    auto list = Call(runtime().ListContainers({}));
    std::vector<std::string> ids;
    if (list.ok()) {
      for (const auto& container : list->containers()) ids.push_back(container.id());
    }
    return ids;
  }

  Scope scope_{env_.executor()};
  std::vector<std::unique_ptr<TestPlugin>> plugins_;
};

TEST_F(NriLiveTest, TheSocketIsRootsAlone) {
  const std::string path = live_->paths().nri_socket;
  struct stat info;
  ASSERT_EQ(::stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0600u);
  ASSERT_EQ(::stat(path.substr(0, path.rfind('/')).c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0700u);
}

TEST_F(NriLiveTest, EveryEventInItsOrder) {
  TestPlugin* plugin = Connect(Add());
  v1::PodSandboxConfig config = NetworkPodConfig("p");
  (*config.mutable_labels())["app"] = "web";
  (*config.mutable_annotations())["note"] = "here";
  config.mutable_linux()->set_cgroup_parent(live_->CgroupParent("pods"));
  std::string pod = RunPod(config);
  const pb::PodSandbox told = plugin->last_pod;
  EXPECT_EQ(told.id(), pod);
  EXPECT_EQ(told.uid(), config.metadata().uid());
  EXPECT_EQ(told.namespace_(), "live");
  EXPECT_EQ(told.labels().at("app"), "web");
  EXPECT_EQ(told.annotations().at("note"), "here");
  EXPECT_EQ(told.runtime_handler(), live_->handler());
  EXPECT_EQ(told.linux().cgroup_parent(), live_->CgroupParent("pods"));
  ASSERT_EQ(told.ips_size(), 1);
  EXPECT_EQ(told.ips(0), PodStatus(pod).network().ip());
  ASSERT_EQ(told.linux().namespaces_size(), 3);
  struct stat info;
  EXPECT_EQ(::stat(told.linux().namespaces(0).path().c_str(), &info), 0) << told.linux().namespaces(0).path();

  v1::ContainerConfig script = Script("c", kForever);
  (*script.mutable_labels())["l"] = "1";
  (*script.mutable_annotations())["a"] = "2";
  auto* env = script.add_envs();
  env->set_key("GREETING");
  env->set_value("hello");
  script.mutable_linux()->mutable_resources()->set_cpu_shares(512);
  std::string id = Create(pod, script);
  const pb::Container created = plugin->last_container;
  EXPECT_EQ(created.id(), id);
  EXPECT_EQ(created.pod_sandbox_id(), pod);
  EXPECT_EQ(created.state(), pb::CONTAINER_CREATED);
  EXPECT_EQ(created.labels().at("l"), "1");
  EXPECT_EQ(created.annotations().at("a"), "2");
  EXPECT_THAT(created.env(), Contains("GREETING=hello"));
  EXPECT_THAT(created.args(), ElementsAre("sh", "-c", kForever));
  EXPECT_GT(created.mounts_size(), 5);
  EXPECT_EQ(created.linux().resources().cpu().shares().value(), 512u);
  EXPECT_THAT(created.linux().cgroups_path(), HasSubstr(id));
  ASSERT_TRUE(TryStart(id).ok());
  EXPECT_EQ(plugin->last_container.state(), pb::CONTAINER_RUNNING);
  EXPECT_EQ(static_cast<int>(plugin->last_container.pid()), Pid(id));
  v1::UpdateContainerResourcesRequest update;
  update.set_container_id(id);
  update.mutable_linux()->set_cpu_shares(600);
  ASSERT_TRUE(Call(runtime().UpdateContainerResources(update)).ok());
  EXPECT_EQ(plugin->last_container.linux().resources().cpu().shares().value(), 600u);
  v1::UpdatePodSandboxResourcesRequest resize;
  resize.set_pod_sandbox_id(pod);
  resize.mutable_resources()->set_cpu_shares(700);
  ASSERT_TRUE(Call(runtime().UpdatePodSandboxResources(resize)).ok());
  EXPECT_EQ(plugin->last_pod.linux().pod_resources().cpu().shares().value(), 700u);
  ASSERT_TRUE(Stop(id, 0).ok());
  StopPod(pod);
  StopPod(pod);
  RemovePod(pod);
  EXPECT_THAT(plugin->told,
              ElementsAre("RunPodSandbox p", "CreateContainer p/c", "ValidateContainerAdjustment p/c",
                          "PostCreateContainer p/c", "StartContainer p/c", "PostStartContainer p/c",
                          "UpdateContainer p/c", "PostUpdateContainer p/c", "UpdatePodSandbox p",
                          "PostUpdatePodSandbox p", "StopContainer p/c", "StopPodSandbox p",
                          "RemoveContainer p/c", "RemovePodSandbox p"));
}

TEST_F(NriLiveTest, AContainersOwnEndAndAPodsEnd) {
  TestPlugin* plugin = Connect(Add());
  std::string pod = RunPod(PodConfig("p"));
  std::string ends = Start(pod, Script("ends", "exit 3"));
  EXPECT_TRUE(Eventually([&] { return plugin->Count("StopContainer p/ends") == 1; }));
  EXPECT_EQ(plugin->last_container.exit_code(), 3);
  EXPECT_EQ(plugin->last_container.state(), pb::CONTAINER_STOPPED);
  Start(pod, Script("killed", kForever));
  Create(pod, Script("unstarted", kForever));
  plugin->told.clear();
  // Containers are stopped and told of before the pod is.
  StopPod(pod);
  EXPECT_THAT(plugin->told, ElementsAre("StopContainer p/killed", "StopPodSandbox p"));
  plugin->told.clear();
  RemovePod(pod);
  EXPECT_EQ(plugin->Count("StopContainer p/unstarted"), 1u);
  EXPECT_EQ(plugin->Count("StopContainer p/killed"), 0u);
  for (const char* name : {"ends", "killed", "unstarted"}) {
    EXPECT_EQ(plugin->Count(StrCat("RemoveContainer p/", name)), 1u) << name;
  }
  EXPECT_EQ(plugin->told.back(), "RemovePodSandbox p");
}

TEST_F(NriLiveTest, WhatAdjustmentsDoInside) {
  ASSERT_TRUE(MakeDirs(dir() + "/shared").ok());
  ASSERT_TRUE(WriteFileAtomic(dir() + "/shared/file", "from the host", 0644, false).ok());
  Adjusting(StrCat(R"(annotations { key: "by" value: "plugin" }
      env { key: "ADDED" value: "yes" } env { key: "-DROPPED" } env { key: "CHANGED" value: "new" }
      args: "sh" args: "-c" args: ")",
                   kForever, R"("
      mounts { destination: "/inner" type: "bind" source: ")",
                   dir(), R"(/shared" options: "rbind" options: "ro" }
      mounts { destination: "-/dropped" }
      rlimits { type: "RLIMIT_NOFILE" hard: 77 soft: 66 }
      linux { oom_score_adj { value: 444 }
              devices { path: "/dev/added" type: "c" major: 1 minor: 5 file_mode { value: 438 } }
              sysctl { key: "net.ipv4.conf.default.forwarding" value: "1" }
              seccomp_policy { default_action: "SCMP_ACT_ALLOW" syscalls { names: "mkdir" names: "mkdirat" action: "SCMP_ACT_ERRNO" } } })"));
  std::string pod = RunPod(NetworkPodConfig("p"));
  v1::ContainerConfig config = Script("c", "exit 7");
  for (const char* name : {"DROPPED", "CHANGED"}) {
    auto* env = config.add_envs();
    env->set_key(name);
    env->set_value("old");
  }
  ASSERT_TRUE(MakeDirs(dir() + "/dropped").ok());
  auto* mount = config.add_mounts();
  mount->set_host_path(dir() + "/dropped");
  mount->set_container_path("/dropped");
  std::string id = Start(pod, config);
  EXPECT_EQ(Trimmed(Exec(id, "echo $ADDED,$DROPPED,$CHANGED")), "yes,,new");
  EXPECT_EQ(Exec(id, "cat /inner/file"), "from the host");
  EXPECT_THAT(Exec(id, "touch /inner/x 2>&1 || true"), HasSubstr("Read-only"));
  EXPECT_EQ(Trimmed(Exec(id, "grep -c ' /dropped ' /proc/self/mountinfo || true")), "0");
  EXPECT_EQ(Trimmed(Exec(id, "grep 'open files' /proc/1/limits | tr -s ' ' | cut -d' ' -f4,5")), "66 77");
  EXPECT_EQ(Trimmed(Exec(id, "cat /proc/1/oom_score_adj")), "444");
  EXPECT_EQ(Trimmed(Exec(id, "head -c 3 /dev/added | od -An -tx1")), "00 00 00");
  EXPECT_EQ(Trimmed(Exec(id, "cat /proc/sys/net/ipv4/conf/default/forwarding")), "1");
  EXPECT_THAT(Exec(id, "mkdir /tmp/x 2>&1 || true"), HasSubstr("not permitted"));
  absl::StatusOr<std::string> spec =
      ReadFile(StrCat(live_->paths().pods_dir, "/containers/", id, "/config.json"), 1 << 20);
  ASSERT_TRUE(spec.ok());
  EXPECT_THAT(*spec, HasSubstr(R"("by":"plugin")"));
}

TEST_F(NriLiveTest, HooksRun) {
  ASSERT_TRUE(
      WriteFileAtomic(dir() + "/hook", StrCat("#!/bin/sh\necho $1 $WHAT >>", dir(), "/hooks\n"), 0755, false)
          .ok());
  auto hook = [&](const std::string& name) {
    return StrCat(name, " { path: \"", dir(), "/hook\" args: \"hook\" args: \"", name,
                  "\" env: \"WHAT=ran\" timeout { value: 10 } } ");
  };
  Adjusting(StrCat("hooks { ", hook("create_runtime"), hook("poststart"), hook("poststop"), "}"));
  std::string id = Start(RunPod(PodConfig("p")), Script("c", kForever));
  EXPECT_EQ(ReadFile(dir() + "/hooks").value_or(""), "create_runtime ran\npoststart ran\n");
  ASSERT_TRUE(Remove(id).ok());
  EXPECT_THAT(ReadFile(dir() + "/hooks").value_or(""), HasSubstr("poststop ran\n"));
}

TEST_F(NriLiveTest, LimitsAtCreationAndLater) {
  TestPlugin* plugin = Adjusting(
      R"(linux { resources { cpu { shares { value: 300 } quota { value: 20000 } period { value: 100000 } }
      memory { limit { value: 67108864 } } pids { limit: 33 } } })");
  v1::PodSandboxConfig config = PodConfig("p");
  config.mutable_linux()->set_cgroup_parent(live_->CgroupParent("pods"));
  std::string pod = RunPod(config);
  std::string id = Start(pod, Script("c", kForever));
  CgroupFiles files(live_->CgroupOf("pods", id));
  const bool v2 = CgroupFiles::V2();
  auto memory = [&] { return files.Read("memory", v2 ? "memory.max" : "memory.limit_in_bytes"); };
  EXPECT_EQ(memory(), "67108864");
  EXPECT_EQ(files.Read("pids", "pids.max"), "33");
  if (!v2) EXPECT_EQ(files.Read("cpu", "cpu.shares"), "300");
  v1::ContainerStatus status = Status(id);
  EXPECT_EQ(status.resources().linux().cpu_shares(), 300);
  EXPECT_EQ(status.resources().linux().memory_limit_in_bytes(), 67108864);
  // The kubelet's update, which the plugin changes.
  plugin->on_update = [](const pb::UpdateContainerRequest& request) {
    pb::UpdateContainerResponse response;
    pb::ContainerUpdate* update = response.add_update();
    update->set_container_id(request.container().id());
    update->mutable_linux()->mutable_resources()->mutable_memory()->mutable_limit()->set_value(
        request.linux_resources().memory().limit().value() + (1 << 20));
    return response;
  };
  v1::UpdateContainerResourcesRequest update;
  update.set_container_id(id);
  update.mutable_linux()->set_memory_limit_in_bytes(80 << 20);
  ASSERT_TRUE(Call(runtime().UpdateContainerResources(update)).ok());
  EXPECT_EQ(memory(), StrCat(81 << 20));
  // A limit of swap that the caller gave is for the caller's limit of memory.
  update.mutable_linux()->set_memory_swap_limit_in_bytes(80 << 20);
  ASSERT_TRUE(Call(runtime().UpdateContainerResources(update)).ok());
  EXPECT_EQ(memory(), StrCat(81 << 20));
  EXPECT_NE(Status(id).resources().linux().memory_swap_limit_in_bytes(), 80 << 20);
  // The plugin's own.
  pb::UpdateContainersRequest own;
  pb::ContainerUpdate* one = own.add_update();
  one->set_container_id(id);
  one->mutable_linux()->mutable_resources()->mutable_memory()->mutable_limit()->set_value(90 << 20);
  nri::CallResult result;
  struct Caller {
    static Task<absl::Status> Run(TestPlugin* plugin, std::string payload, nri::CallResult* out) {
      Task<nri::CallResult> call = plugin->Call("UpdateContainers", std::move(payload));
      *out = co_await std::move(call);
      co_return absl::OkStatus();
    }
  };
  ASSERT_TRUE(env_.RunUntilDone(Caller::Run(plugin, own.SerializeAsString(), &result)).ok());
  EXPECT_TRUE(result.status.ok()) << result.status;
  EXPECT_EQ(memory(), StrCat(90 << 20));
  // One that is gone is passed over. What cannot be set is named, and the others get their limits.
  pb::ContainerUpdate* next = own.add_update();
  *next = *one;
  one->set_container_id("nobody");
  next->mutable_linux()->mutable_resources()->mutable_memory()->mutable_limit()->set_value(91 << 20);
  ASSERT_TRUE(env_.RunUntilDone(Caller::Run(plugin, own.SerializeAsString(), &result)).ok());
  EXPECT_TRUE(result.status.ok()) << result.status;
  EXPECT_EQ(memory(), StrCat(91 << 20));
  one->set_container_id(id);
  one->mutable_linux()->mutable_resources()->mutable_memory()->mutable_swappiness()->set_value(1);
  next->mutable_linux()->mutable_resources()->mutable_memory()->mutable_limit()->set_value(92 << 20);
  ASSERT_TRUE(env_.RunUntilDone(Caller::Run(plugin, own.SerializeAsString(), &result)).ok());
  EXPECT_TRUE(absl::IsUnimplemented(result.status)) << result.status;
  EXPECT_EQ(memory(), StrCat(92 << 20));
  one->mutable_linux()->mutable_resources()->mutable_memory()->clear_swappiness();
  // Of another, while one is created; and one that cannot be is named and undoes the creation.
  plugin->on_create = [&](const auto&) {
    pb::CreateContainerResponse response;
    *response.add_update() = *one;
    return response;
  };
  one->set_container_id(id);
  one->mutable_linux()->mutable_resources()->mutable_memory()->mutable_limit()->set_value(95 << 20);
  EXPECT_TRUE(TryCreate(pod, Script("d", kForever)).ok());
  EXPECT_EQ(memory(), StrCat(95 << 20));
  one->mutable_linux()->mutable_resources()->add_devices()->set_access("r");
  size_t before = ContainerIds().size();
  absl::Status failed = TryCreate(pod, Script("e", kForever)).status();
  EXPECT_THAT(std::string(failed.message()), HasSubstr(StrCat("container ", id, " by an nri plugin")));
  EXPECT_THAT(std::string(failed.message()), HasSubstr("resources.devices"));
  EXPECT_EQ(ContainerIds().size(), before);
}

TEST_F(NriLiveTest, ACgroupOfThePluginsChoice) {
  if (live_->paths().systemd) GTEST_SKIP() << "paths";
  TestPlugin* plugin = Add();
  const std::string parent = live_->CgroupParent("pods");
  plugin->on_create = [&](const pb::CreateContainerRequest& request) {
    pb::CreateContainerResponse response;
    response.mutable_adjust()->mutable_linux()->set_cgroups_path(
        StrCat(parent, "/", request.container().id()));
    return response;
  };
  Connect(plugin);
  std::string id = Start(RunPod(PodConfig("p")), Script("c", kForever));
  const CgroupFiles chosen(live_->CgroupOf("pods", id));
  EXPECT_TRUE(chosen.Has("pids", "cgroup.procs"));
  EXPECT_FALSE(CgroupFiles(live_->CgroupOf("", id)).Has("pids", "cgroup.procs"));
  v1::ContainerStatsRequest stats;
  stats.set_container_id(id);
  auto read = Call(runtime().ContainerStats(stats));
  ASSERT_TRUE(read.ok());
  EXPECT_GT(read->stats().memory().usage_bytes().value(), 0u) << "figures are from there";
  ASSERT_TRUE(Remove(id).ok());
  EXPECT_FALSE(chosen.Has("pids", "cgroup.procs"));
}

TEST_F(NriLiveTest, DevicesByTheirNames) {
  const std::string& folder = live_->paths().cdi_dirs.front();
  ASSERT_TRUE(MakeDirs(folder).ok());
  ASSERT_TRUE(WriteFileAtomic(folder + "/v.json",
                              R"({"cdiVersion":"0.6.0","kind":"vendor.com/thing","devices":[
      {"name":"one","containerEdits":{"env":["THING=one"]}},{"name":"two","containerEdits":{"env":["OTHER=two"]}}]})",
                              0644, false)
                  .ok());
  TestPlugin* plugin =
      Adjusting(R"(CDI_devices { name: "vendor.com/thing=two" } env { key: "OWN" value: "3" })");
  std::string pod = RunPod(PodConfig("p"));
  v1::ContainerConfig config = Script("c", kForever);
  config.add_cdi_devices()->set_name("vendor.com/thing=one");
  std::string id = Start(pod, config);
  EXPECT_EQ(plugin->last_container.cdi_devices(0).name(), "vendor.com/thing=one");
  EXPECT_EQ(Trimmed(Exec(id, "echo $THING,$OTHER,$OWN")), "one,two,3");
  Adjust(plugin, R"(CDI_devices { name: "vendor.com/thing=three" })");
  absl::Status missing = TryCreate(pod, Script("d", kForever)).status();
  EXPECT_TRUE(absl::IsNotFound(missing)) << missing;
  EXPECT_THAT(std::string(missing.message()), HasSubstr("vendor.com/thing=three"));
  ASSERT_TRUE(RemoveTree(folder).ok());
}

TEST_F(NriLiveTest, WhatIsRefusedLeavesNothing) {
  TestPlugin* plugin = Connect(Add());
  std::string pod = RunPod(PodConfig("p"));
  v1::ContainerConfig config = Script("c", kForever);
  auto refused = [&](const std::string& adjust, absl::StatusCode code, const std::string& field) {
    Adjust(plugin, adjust);
    plugin->told.clear();
    absl::Status status = TryCreate(pod, config).status();
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(field));
    // Told, so that it gives back what it holds for it.
    EXPECT_THAT(plugin->told, ElementsAre("CreateContainer p/c", "ValidateContainerAdjustment p/c",
                                          "StopContainer p/c", "RemoveContainer p/c"));
    EXPECT_TRUE(ContainerIds().empty());
  };
  refused("linux { scheduler { policy: LINUX_SCHED_FIFO } }", absl::StatusCode::kUnimplemented,
          "adjust.linux.scheduler");
  refused("linux { resources { rdt_class { value: 'x' } } }", absl::StatusCode::kUnimplemented,
          "linux.resources.rdt_class");
  refused("linux { cgroups_path: '/elsewhere' }", absl::StatusCode::kInvalidArgument,
          "adjust.linux.cgroups_path");
  refused("mounts { destination: '/m' type: 'bind' source: '/nowhere' options: 'rbind' options: 'rshared' }",
          absl::StatusCode::kInvalidArgument, "/nowhere");
  Adjust(plugin, "");
  EXPECT_TRUE(TryCreate(pod, config).ok()) << "its name is free";
}

TEST_F(NriLiveTest, TwoPluginsOneField) {
  Adjusting(R"(env { key: "E" value: "1" })", "10");
  TestPlugin* second = Adjusting(R"(env { key: "E" value: "2" })", "20");
  std::string pod = RunPod(PodConfig("p"));
  absl::Status status = TryCreate(pod, Script("c", kForever)).status();
  EXPECT_TRUE(absl::IsAlreadyExists(status)) << status;
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("nri plugins \"20-test\" and \"10-test\" both set Env E"));
  second->Disconnect();
  EXPECT_TRUE(Eventually([&] { return TryCreate(pod, Script("c", kForever)).ok(); }));
}

TEST_F(NriLiveTest, ErrorsOfPlugins) {
  TestPlugin* plugin = Add();
  for (const char* method :
       {"RunPodSandbox", "StartContainer", "StopContainer", "StopPodSandbox", "RemoveContainer",
        "RemovePodSandbox", "PostCreateContainer", "PostStartContainer"}) {
    plugin->errors[method] = absl::FailedPreconditionError(StrCat("no ", method));
  }
  plugin->error_times = {{"RunPodSandbox", 1}, {"StartContainer", 1}};
  Connect(plugin);
  v1::PodSandboxConfig config = PodConfig("p");
  absl::Status run = TryRunPod(config).status();
  EXPECT_THAT(std::string(run.message()), HasSubstr("nri plugin 10-test: RunPodSandbox: no RunPodSandbox"));
  EXPECT_TRUE(PodIds().empty());
  EXPECT_EQ(plugin->told.back(), "RemovePodSandbox p");
  std::string pod = RunPod(config);  // the same name
  std::string id = Create(pod, Script("c", kForever));
  absl::Status start = TryStart(id);
  EXPECT_THAT(std::string(start.message()), HasSubstr("no StartContainer"));
  EXPECT_EQ(Status(id).state(), v1::CONTAINER_CREATED);
  EXPECT_TRUE(TryStart(id).ok());
  // Nobody is kept from stopping and removing.
  EXPECT_TRUE(Stop(id, 0).ok());
  EXPECT_TRUE(Remove(id).ok());
  RemovePod(pod);
  EXPECT_TRUE(PodIds().empty());
}

TEST_F(NriLiveTest, APluginThatHangsIsGivenUp) {
  TestPlugin* plugin = Add();
  plugin->holds["RunPodSandbox"] = std::make_shared<AsyncEvent>();
  Connect(plugin);
  TestPlugin* other = Connect(Add("20"));
  std::string pod = RunPod(PodConfig("p"));
  EXPECT_FALSE(pod.empty());
  EXPECT_FALSE(plugin->connected());
  EXPECT_EQ(other->Count("RunPodSandbox p"), 1u);
  EXPECT_THAT(ReadFile(live_->paths().log, 16 << 20).value_or(""), HasSubstr("nri plugin is given up"));
}

// During RunPodSandbox's hook nobody sees the pod, and a server that is killed then undoes it.
TEST_F(NriLiveTest, KilledInTheHookOfAPod) {
  TestPlugin* plugin = Connect(Add());
  std::string before = RunPod(NetworkPodConfig("before"));
  std::string running = Start(before, Script("c", kForever));
  plugin->holds["RunPodSandbox"] = std::make_shared<AsyncEvent>();
  v1::PodSandboxConfig config = NetworkPodConfig("half");
  auto begun = Begin(runtime().RunPodSandbox(RunRequest(config)));
  ASSERT_TRUE(Eventually([&] { return plugin->Count("RunPodSandbox half") == 1; }));
  const std::string half = plugin->last_pod.id();
  EXPECT_THAT(PodIds(), ElementsAre(before));
  EXPECT_TRUE(absl::IsNotFound(TryCreate(half, Script("early", kForever)).status()));
  EXPECT_EQ(::access(StrCat(live_->paths().pods_dir, "/sandboxes/", half).c_str(), F_OK), 0);
  ASSERT_TRUE(KillServer().ok());
  EXPECT_FALSE(Answer(begun.get()).ok());
  StartServer();
  EXPECT_THAT(PodIds(), ElementsAre(before));
  EXPECT_NE(::access(StrCat(live_->paths().pods_dir, "/sandboxes/", half).c_str(), F_OK), 0);
  // Whoever connects is told of what was recovered.
  TestPlugin* again = Connect(Add());
  ASSERT_EQ(again->known.pods_size(), 1);
  EXPECT_EQ(again->known.pods(0).id(), before);
  ASSERT_EQ(again->known.containers_size(), 1);
  EXPECT_EQ(again->known.containers(0).id(), running);
  EXPECT_EQ(again->known.containers(0).state(), pb::CONTAINER_RUNNING);
  EXPECT_THAT(again->known.containers(0).args(), ElementsAre("sh", "-c", kForever));
  EXPECT_TRUE(TryRunPod(config).ok()) << "its name is free";
}

// The same for a container, whose pod is there.
TEST_F(NriLiveTest, KilledInTheHookOfAContainer) {
  TestPlugin* plugin = Add();
  plugin->holds["CreateContainer"] = std::make_shared<AsyncEvent>();
  Connect(plugin);
  std::string pod = RunPod(PodConfig("p"));
  v1::CreateContainerRequest request;
  request.set_pod_sandbox_id(pod);
  *request.mutable_config() = Script("half", kForever);
  *request.mutable_sandbox_config() = PodConfig("p");
  auto begun = Begin(runtime().CreateContainer(request));
  ASSERT_TRUE(Eventually([&] { return plugin->Count("CreateContainer p/half") == 1; }));
  EXPECT_TRUE(ContainerIds().empty());
  ASSERT_TRUE(KillServer().ok());
  EXPECT_FALSE(Answer(begun.get()).ok());
  StartServer();
  EXPECT_TRUE(ContainerIds().empty());
  EXPECT_TRUE(TryCreate(pod, request.config()).ok()) << "its name is free";
}

// Programs in the folder of plugins run as long as the server does.
TEST_F(NriLiveTest, PluginsThatTheServerStarts) {
  const char* program = std::getenv("KEELSON_TEST_NRI_PLUGIN");
  if (program == nullptr) GTEST_SKIP() << "KEELSON_TEST_NRI_PLUGIN names no program";
  const std::string folder = live_->paths().nri_plugins;
  const std::string configs = folder.substr(0, folder.rfind('-')) + "-conf";
  ASSERT_TRUE(MakeDirs(folder, 0755).ok());
  ASSERT_TRUE(MakeDirs(configs, 0755).ok());
  absl::StatusOr<std::string> bytes = ReadFile(program, 256 << 20);
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  ASSERT_TRUE(WriteFileAtomic(folder + "/05-env", *bytes, 0755, false).ok());
  ASSERT_TRUE(WriteFileAtomic(folder + "/06-broken", "#!/bin/sh\nexit 3\n", 0755, false).ok());
  ASSERT_TRUE(WriteFileAtomic(configs + "/env.conf", "setting", 0644, false).ok());
  ASSERT_TRUE(KillServer().ok());
  StartServer();
  std::string pod = RunPod(PodConfig("p"));
  EXPECT_EQ(Trimmed(Exec(Start(pod, Script("c", kForever)), "echo $ENV_PLUGIN")), "05-env:setting");
  // It is one of ours: its end is not the server's, and the server's is its own.
  auto running = [&] {
    auto ids = FolderNames("/proc");
    return std::count_if(ids->begin(), ids->end(), [&](const std::string& id) {
      return ReadFile(StrCat("/proc/", id, "/cmdline")).value_or("").starts_with(folder);
    });
  };
  EXPECT_EQ(running(), 1);
  ASSERT_TRUE(KillServer().ok());
  EXPECT_TRUE(Eventually([&] { return running() == 0; }));
  ASSERT_TRUE(WriteFileAtomic(folder + "/bad", "x", 0755, false).ok());
  ASSERT_TRUE(live_->Spawn().ok());
  EXPECT_TRUE(Eventually([&] { return live_->Ended(); })) << "a name that is none is refused at the start";
  ASSERT_TRUE(RemoveTree(folder).ok());
  ASSERT_TRUE(RemoveTree(configs).ok());
  StartServer();
}

// A container that was never started stays in a pod that is stopped: nobody is shown it without its pod.
TEST_F(NriLiveTest, AStoppedPodIsShown) {
  std::string pod = RunPod(PodConfig("p"));
  ASSERT_TRUE(TryCreate(pod, Script("c", kForever)).ok());
  v1::StopPodSandboxRequest stop;
  stop.set_pod_sandbox_id(pod);
  ASSERT_TRUE(Call(runtime().StopPodSandbox(stop)).ok());
  TestPlugin* plugin = Connect(Add());
  ASSERT_EQ(plugin->known.containers_size(), 1);
  ASSERT_EQ(plugin->known.pods_size(), 1);
  EXPECT_EQ(plugin->known.containers(0).pod_sandbox_id(), plugin->known.pods(0).id());
}

// A plugin that connects in the middle of a creation learns of the container, one way or the other.
TEST_F(NriLiveTest, NoContainerIsLostToAPluginThatConnects) {
  TestPlugin* first = Add("00");
  auto hold = std::make_shared<AsyncEvent>();
  first->holds["CreateContainer"] = hold;
  Connect(first);
  std::string pod = RunPod(PodConfig("p"));
  v1::CreateContainerRequest request;
  request.set_pod_sandbox_id(pod);
  *request.mutable_config() = Script("c", kForever);
  auto begun = Begin(runtime().CreateContainer(request));
  ASSERT_TRUE(Eventually([&] { return first->Count("CreateContainer p/c") == 1; }));
  TestPlugin* late = Add("10");
  Dial(late);
  ASSERT_TRUE(Eventually([&] { return late->registration.ok(); }));
  Sleep(absl::Milliseconds(100));
  EXPECT_FALSE(late->synchronized) << "it waits";
  hold->Set();
  ASSERT_TRUE(Answer(begun.get()).ok());
  ASSERT_TRUE(Eventually([&] { return late->synchronized; }));
  ASSERT_EQ(late->known.containers_size(), 1);
  EXPECT_EQ(late->known.containers(0).name(), "c");
}

}  // namespace
}  // namespace keelson::cri
