// Fields of requests and answers that no other case depends on: what lists and events tell, resources,
// mounts, devices, ports, the older forms of security fields, and the remaining refusals. Under
// cri/testing/with_keelson_cri, once for each OCI runtime.
#include <absl/strings/match.h>
#include <absl/strings/numbers.h>
#include <arpa/inet.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <set>
#include <thread>

#include "base/fd.h"
#include "base/status.h"
#include "cri/testing/cgroup_files.h"
#include "cri/testing/container_test.h"

namespace keelson::cri {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

class ServerFieldsLiveTest : public ContainerTest {
 protected:
  int64_t Now() { return absl::ToUnixNanos(env_.clock().Now()); }
  v1::StatusResponse ServerStatus() {
    auto status = Call(runtime().Status(v1::StatusRequest()));
    EXPECT_TRUE(status.ok()) << status.status();
    return status.ok() ? *status : v1::StatusResponse();
  }
  v1::RuntimeHandlerFeatures HandlerFeatures() {
    const v1::StatusResponse status = ServerStatus();
    for (const auto& handler : status.runtime_handlers()) {
      if (handler.name() == live_->handler()) return handler.features();
    }
    return {};
  }
  absl::Status Update(const std::string& id, const v1::LinuxContainerResources& resources) {
    v1::UpdateContainerResourcesRequest request;
    request.set_container_id(id);
    *request.mutable_linux() = resources;
    return Call(runtime().UpdateContainerResources(request)).status();
  }
};

// ---- lists and statuses ----

TEST_F(ServerFieldsLiveTest, ItemsAndStatusesTellWhatWasAsked) {
  const int64_t before = Now();
  v1::PodSandboxConfig pod_config = PodConfig("items");
  pod_config.mutable_metadata()->set_attempt(3);
  (*pod_config.mutable_labels())["of"] = "the pod";
  (*pod_config.mutable_annotations())["on"] = "the pod";
  const std::string pod = RunPod(pod_config);
  v1::ContainerConfig config = Script("item", kForever);
  config.mutable_metadata()->set_attempt(5);
  config.mutable_image()->set_user_specified_image("keelson.test/as-written:1");
  (*config.mutable_labels())["of"] = "the container";
  (*config.mutable_annotations())["on"] = "the container";
  const std::string id = Start(pod, config);
  const int64_t after = Now();
  v1::ImageStatusRequest image_request;
  image_request.mutable_image()->set_image(live_->busybox());
  auto image = Call(images().ImageStatus(image_request));
  ASSERT_TRUE(image.ok() && image->image().repo_digests_size() == 1);

  v1::ListPodSandboxRequest pods;
  pods.mutable_filter()->set_id(pod);
  auto pod_list = Call(runtime().ListPodSandbox(pods));
  ASSERT_TRUE(pod_list.ok() && pod_list->items_size() == 1);
  const v1::PodSandbox& pod_item = pod_list->items(0);
  EXPECT_EQ(pod_item.metadata().SerializeAsString(), pod_config.metadata().SerializeAsString());
  EXPECT_EQ(pod_item.state(), v1::SANDBOX_READY);
  EXPECT_GE(pod_item.created_at(), before);
  EXPECT_LE(pod_item.created_at(), after);
  EXPECT_EQ(pod_item.labels().at("of"), "the pod");
  EXPECT_EQ(pod_item.annotations().at("on"), "the pod");
  EXPECT_EQ(pod_item.runtime_handler(), live_->handler());

  v1::PodSandboxStatusRequest pod_request;
  pod_request.set_pod_sandbox_id(pod);
  auto pod_answer = Call(runtime().PodSandboxStatus(pod_request));
  ASSERT_TRUE(pod_answer.ok()) << pod_answer.status();
  const v1::PodSandboxStatus& pod_status = pod_answer->status();
  EXPECT_EQ(pod_status.metadata().SerializeAsString(), pod_config.metadata().SerializeAsString());
  EXPECT_EQ(pod_status.created_at(), pod_item.created_at());
  EXPECT_EQ(pod_status.labels().at("of"), "the pod");
  EXPECT_GE(pod_answer->timestamp(), after);
  EXPECT_LE(pod_answer->timestamp(), Now());
  ASSERT_EQ(pod_answer->containers_statuses_size(), 1);
  EXPECT_EQ(pod_answer->containers_statuses(0).id(), id);
  EXPECT_EQ(pod_answer->containers_statuses(0).state(), v1::CONTAINER_RUNNING);

  v1::ListContainersRequest containers;
  containers.mutable_filter()->set_id(id);
  auto list = Call(runtime().ListContainers(containers));
  ASSERT_TRUE(list.ok() && list->containers_size() == 1);
  const v1::Container& item = list->containers(0);
  const v1::ContainerStatus status = Status(id);
  EXPECT_EQ(item.pod_sandbox_id(), pod);
  EXPECT_EQ(item.metadata().SerializeAsString(), config.metadata().SerializeAsString());
  EXPECT_EQ(status.metadata().SerializeAsString(), config.metadata().SerializeAsString());
  EXPECT_EQ(item.image().image(), live_->busybox());
  EXPECT_EQ(item.image().user_specified_image(), "keelson.test/as-written:1");
  EXPECT_EQ(item.image_id(), image->image().id());
  EXPECT_EQ(status.image_id(), image->image().id());
  EXPECT_EQ(item.image_ref(), image->image().repo_digests(0));
  EXPECT_EQ(status.image_ref(), image->image().repo_digests(0));
  EXPECT_GE(item.created_at(), pod_item.created_at());
  EXPECT_LE(item.created_at(), after);
  EXPECT_EQ(status.created_at(), item.created_at());
  EXPECT_EQ(item.labels().at("of"), "the container");
  EXPECT_EQ(status.labels().at("of"), "the container");
  EXPECT_EQ(item.annotations().at("on"), "the container");
  EXPECT_EQ(pod_answer->containers_statuses(0).SerializeAsString(), status.SerializeAsString());
}

// ---- events ----

TEST_F(ServerFieldsLiveTest, EventsCarryThePodAndItsContainers) {
  const int64_t before = Now();
  std::vector<v1::ContainerEventResponse> events;
  bool subscribed = false;
  Scope scope(env_.executor());
  scope.Spawn("events",
              FollowEvents(&runtime(), &subscribed,
                           [&events](const v1::ContainerEventResponse& event) { events.push_back(event); }));
  EXPECT_TRUE(Eventually([&] { return subscribed; }));  // no way out while the task lives
  v1::PodSandboxConfig config = PodConfig("events");
  const std::string pod = RunPod(config);
  const std::string id = Start(pod, Script("c", kForever));
  EXPECT_TRUE(Stop(id, 0).ok());
  EXPECT_TRUE(Remove(id).ok());
  StopPod(pod);
  RemovePod(pod);
  struct Want {
    std::string id;
    v1::ContainerEventType type;
    v1::PodSandboxState pod;
    std::optional<v1::ContainerState> container;  // absent: the pod has none
  };
  const Want wanted[] = {
      {pod, v1::CONTAINER_CREATED_EVENT, v1::SANDBOX_READY, {}},
      {pod, v1::CONTAINER_STARTED_EVENT, v1::SANDBOX_READY, {}},
      {id, v1::CONTAINER_CREATED_EVENT, v1::SANDBOX_READY, v1::CONTAINER_CREATED},
      {id, v1::CONTAINER_STARTED_EVENT, v1::SANDBOX_READY, v1::CONTAINER_RUNNING},
      {id, v1::CONTAINER_STOPPED_EVENT, v1::SANDBOX_READY, v1::CONTAINER_EXITED},
      {id, v1::CONTAINER_DELETED_EVENT, v1::SANDBOX_READY, {}},
      {pod, v1::CONTAINER_STOPPED_EVENT, v1::SANDBOX_NOTREADY, {}},
      {pod, v1::CONTAINER_DELETED_EVENT, v1::SANDBOX_NOTREADY, {}},
  };
  EXPECT_TRUE(Eventually([&] { return events.size() >= std::size(wanted); }));
  scope.Cancel();
  while (scope.live() > 0) Sleep(absl::Milliseconds(1));
  ASSERT_EQ(events.size(), std::size(wanted));
  int64_t last = before;
  for (size_t i = 0; i < events.size(); ++i) {
    const v1::ContainerEventResponse& event = events[i];
    SCOPED_TRACE(event.ShortDebugString());
    EXPECT_EQ(event.container_id(), wanted[i].id);
    EXPECT_EQ(event.container_event_type(), wanted[i].type);
    EXPECT_GE(event.created_at(), last);
    last = event.created_at();
    EXPECT_EQ(event.pod_sandbox_status().id(), pod);
    EXPECT_EQ(event.pod_sandbox_status().metadata().uid(), config.metadata().uid());
    EXPECT_EQ(event.pod_sandbox_status().state(), wanted[i].pod);
    ASSERT_EQ(event.containers_statuses_size(), wanted[i].container.has_value() ? 1 : 0);
    if (!wanted[i].container.has_value()) continue;
    EXPECT_EQ(event.containers_statuses(0).id(), id);
    EXPECT_EQ(event.containers_statuses(0).state(), *wanted[i].container);
    EXPECT_EQ(event.containers_statuses(0).exit_code(),
              *wanted[i].container == v1::CONTAINER_EXITED ? 137 : 0);
  }
  EXPECT_LE(last, Now());
}

// ---- resources ----

TEST_F(ServerFieldsLiveTest, EveryLimitAndItsUpdate) {
  constexpr int64_t kMemory = 32 << 20, kSwap = 16 << 20;
  const bool v2 = CgroupFiles::V2();
  v1::ContainerConfig config = Script("limits", kForever);
  auto* resources = config.mutable_linux()->mutable_resources();
  resources->set_oom_score_adj(321);
  resources->set_cpuset_mems("0");
  resources->set_memory_limit_in_bytes(kMemory);
  resources->set_memory_swap_limit_in_bytes(kMemory + kSwap);
  auto* huge = resources->add_hugepage_limits();
  huge->set_page_size("2MB");
  huge->set_limit(4 << 20);
  (*resources->mutable_unified())["pids.max"] = "55";
  if (v2) (*resources->mutable_unified())["memory.high"] = StrCat(24 << 20);
  std::string id = Create(pod_, config);
  // Of a created container its file is written anew; of a running one its cgroup, below.
  v1::LinuxContainerResources more_pages;
  *more_pages.add_hugepage_limits() = *huge;
  more_pages.mutable_hugepage_limits(0)->set_limit(6 << 20);
  absl::Status updated = Update(id, more_pages);
  EXPECT_TRUE(updated.ok()) << updated;
  ASSERT_TRUE(TryStart(id).ok());
  CgroupFiles files(live_->CgroupOf("", id));
  // What this kernel has no file for cannot be limited, and is named here.
  auto expect = [&](const std::string& controller, const std::string& file, const std::string& want) {
    if (files.Has(controller, file)) {
      EXPECT_EQ(files.Read(controller, file), want) << file;
    } else {
      printf("  this kernel has no %s\n", file.c_str());
    }
  };
  auto expect_swap = [&](int64_t swap) {
    v2 ? expect("memory", "memory.swap.max", StrCat(swap))
       : expect("memory", "memory.memsw.limit_in_bytes", StrCat(kMemory + swap));
  };
  EXPECT_EQ(Trimmed(Exec(id, "cat /proc/1/oom_score_adj")), "321");
  EXPECT_EQ(files.Read("cpuset", "cpuset.mems"), "0");
  EXPECT_EQ(files.Read("pids", "pids.max"), "55");
  if (v2) {
    EXPECT_EQ(files.Read("memory", "memory.high"), StrCat(24 << 20));
  }
  expect_swap(kSwap);
  expect("hugetlb", v2 ? "hugetlb.2MB.max" : "hugetlb.2MB.limit_in_bytes", StrCat(6 << 20));
  v1::LinuxContainerResources told = Status(id).resources().linux();
  EXPECT_EQ(told.oom_score_adj(), 321);
  EXPECT_EQ(told.cpuset_mems(), "0");
  EXPECT_EQ(told.memory_swap_limit_in_bytes(), kMemory + kSwap);
  ASSERT_EQ(told.hugepage_limits_size(), 1);
  EXPECT_EQ(told.hugepage_limits(0).page_size(), "2MB");
  EXPECT_EQ(told.hugepage_limits(0).limit(), 6u << 20);
  EXPECT_EQ(told.unified().at("pids.max"), "55");

  v1::LinuxContainerResources change;
  change.set_memory_swap_limit_in_bytes(kMemory + 2 * kSwap);
  (*change.mutable_unified())["pids.max"] = "66";
  if (v2) (*change.mutable_unified())["memory.high"] = StrCat(28 << 20);
  updated = Update(id, change);
  EXPECT_TRUE(updated.ok()) << updated;
  EXPECT_EQ(files.Read("pids", "pids.max"), "66");
  if (v2) {
    EXPECT_EQ(files.Read("memory", "memory.high"), StrCat(28 << 20));
  }
  expect_swap(2 * kSwap);
  told = Status(id).resources().linux();
  EXPECT_EQ(told.memory_limit_in_bytes(), kMemory);
  EXPECT_EQ(told.memory_swap_limit_in_bytes(), kMemory + 2 * kSwap);
  EXPECT_EQ(told.unified().at("pids.max"), "66");
  more_pages.mutable_hugepage_limits(0)->set_limit(8 << 20);
  updated = Update(id, more_pages);
  EXPECT_TRUE(updated.ok()) << updated;
  expect("hugetlb", v2 ? "hugetlb.2MB.max" : "hugetlb.2MB.limit_in_bytes", StrCat(8 << 20));
  told = Status(id).resources().linux();
  ASSERT_EQ(told.hugepage_limits_size(), 1);
  EXPECT_EQ(told.hugepage_limits(0).limit(), 8u << 20);

  // What only v2 has is refused by name on v1, at both places.
  if (v2) return;
  change.Clear();
  (*change.mutable_unified())["memory.high"] = "1000000";
  v1::ContainerConfig refused = Script("refused", kForever);
  *refused.mutable_linux()->mutable_resources() = change;
  for (const absl::Status& status : {TryCreate(pod_, refused).status(), Update(id, change)}) {
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("memory.high"));
  }
}

// systemd takes back what it was not told when it reloads, which any installation of a package makes it do.
TEST_F(ServerFieldsLiveTest, LimitsOutliveAReloadOfSystemd) {
  if (!live_->paths().systemd) GTEST_SKIP() << "the cgroups are not systemd's";
  constexpr int64_t kMemory = 32 << 20;
  v1::ContainerConfig config = Script("reload", kForever);
  auto* resources = config.mutable_linux()->mutable_resources();
  resources->set_cpu_shares(123);
  resources->set_cpu_quota(25000);
  resources->set_cpu_period(50000);
  resources->set_memory_limit_in_bytes(kMemory);
  resources->set_cpuset_cpus("0");
  (*resources->mutable_unified())["memory.high"] = StrCat(24 << 20);
  (*resources->mutable_unified())["pids.max"] = "77";
  const std::string id = Start(pod_, config);
  CgroupFiles files(live_->CgroupOf("", id));
  auto limits = [&] {
    std::string out;
    for (const char* file : {"cpu.max", "cpu.weight", "cpuset.cpus", "memory.high", "memory.max",
                             "memory.swap.max", "pids.max"}) {
      StrAppend(&out, file, " ", files.Read("", file), "\n");
    }
    return out;
  };
  auto expect = [&](const std::string& wanted) {
    EXPECT_EQ(limits(), wanted);
    SubprocessOptions reload;
    reload.argv = {"systemctl", "daemon-reload"};
    absl::StatusOr<SubprocessResult> result = Call(env_.subprocess().Run(reload));
    ASSERT_TRUE(result.ok() && result->ok()) << result.status();
    EXPECT_EQ(limits(), wanted) << "after a reload";
  };
  expect(StrCat("cpu.max 25000 50000\ncpu.weight 5\ncpuset.cpus 0\nmemory.high ", 24 << 20, "\nmemory.max ",
                kMemory, "\nmemory.swap.max 0\npids.max 77\n"));
  v1::LinuxContainerResources change;
  change.set_cpu_shares(1024);
  change.set_cpu_quota(40000);
  change.set_memory_limit_in_bytes(2 * kMemory);
  (*change.mutable_unified())["pids.max"] = "88";
  absl::Status updated = Update(id, change);
  ASSERT_TRUE(updated.ok()) << updated;
  expect(StrCat("cpu.max 40000 50000\ncpu.weight 39\ncpuset.cpus 0\nmemory.high ", 24 << 20, "\nmemory.max ",
                2 * kMemory, "\nmemory.swap.max 0\npids.max 88\n"));
}

TEST_F(ServerFieldsLiveTest, ResourcesOfThePodAreKept) {
  v1::UpdatePodSandboxResourcesRequest request;
  request.set_pod_sandbox_id(pod_);
  request.mutable_overhead()->set_memory_limit_in_bytes(8388608);
  request.mutable_resources()->set_cpu_shares(777);
  ASSERT_TRUE(Call(runtime().UpdatePodSandboxResources(request)).ok());
  auto info = [&] {
    v1::PodSandboxStatusRequest status;
    status.set_pod_sandbox_id(pod_);
    status.set_verbose(true);
    auto answer = Call(runtime().PodSandboxStatus(status));
    EXPECT_TRUE(answer.ok()) << answer.status();
    return answer.ok() ? answer->info().at("info") : "";
  };
  EXPECT_THAT(info(), HasSubstr(R"("overhead":{"memory_limit_in_bytes":"8388608"})"));
  EXPECT_THAT(info(), HasSubstr(R"("resources":{"cpu_shares":"777"})"));
  // What is not named stays.
  request.clear_overhead();
  request.mutable_resources()->set_cpu_shares(888);
  ASSERT_TRUE(Call(runtime().UpdatePodSandboxResources(request)).ok());
  EXPECT_THAT(info(), HasSubstr(R"("overhead":{"memory_limit_in_bytes":"8388608"})"));
  EXPECT_THAT(info(), HasSubstr(R"("resources":{"cpu_shares":"888"})"));
}

// The pod is what RunPodSandbox was told: who creates a container cannot lead its log elsewhere, nor give it
// namespaces, limits or labels of another pod.
TEST_F(ServerFieldsLiveTest, SandboxConfigOfAContainerChangesNothingOfThePod) {
  v1::PodSandboxConfig config = NetworkPodConfig("as-run");
  config.set_hostname("as-run");
  const std::string pod = RunPod(config);
  v1::CreateContainerRequest request;
  request.set_pod_sandbox_id(pod);
  *request.mutable_config() = Script("c", "hostname; readlink /proc/self/ns/net; sleep 1000");
  *request.mutable_sandbox_config() = config;
  v1::PodSandboxConfig* told = request.mutable_sandbox_config();
  told->set_log_directory(dir() + "/elsewhere");
  told->set_hostname("elsewhere");
  told->mutable_metadata()->set_name("elsewhere");
  (*told->mutable_labels())["of"] = "elsewhere";
  told->mutable_linux()->set_cgroup_parent(live_->CgroupParent("elsewhere"));
  Options(told)->set_network(v1::NODE);
  auto created = Call(runtime().CreateContainer(request));
  ASSERT_TRUE(created.ok()) << created.status();
  const std::string id = created->container_id();
  ASSERT_TRUE(TryStart(id).ok());
  EXPECT_EQ(Exec(id, "hostname"), "as-run\n");
  const std::string network = Exec(id, "readlink /proc/self/ns/net");
  std::error_code error;
  EXPECT_NE(Trimmed(network), std::filesystem::read_symlink("/proc/self/ns/net", error).string());
  EXPECT_TRUE(Eventually([&] { return Log(id) == "as-run\n" + network; })) << Log(id);
  EXPECT_EQ(Status(id).log_path(), StrCat(config.log_directory(), "/", request.config().log_path()));
  EXPECT_FALSE(std::filesystem::exists(dir() + "/elsewhere"));
  EXPECT_FALSE(CgroupFiles(live_->CgroupOf("elsewhere", id)).Has("pids", "pids.max"));
  EXPECT_EQ(PodStatus(pod).metadata().name(), config.metadata().name());
  EXPECT_FALSE(PodStatus(pod).labels().contains("of"));
}

// ---- mounts ----

TEST_F(ServerFieldsLiveTest, MountOptionsAndWhatTheStatusTells) {
  EXPECT_TRUE(ServerStatus().features().mount_options());
  const bool recursive = HandlerFeatures().recursive_read_only_mounts();
  const std::string tool = File("options/tool", "#!/bin/sh\necho ran\n");
  ASSERT_EQ(::chmod(tool.c_str(), 0755), 0);
  v1::ContainerConfig config = Script("options", kForever);
  AddMount(&config, dir() + "/options", "/mnt/plain");
  v1::Mount* no_exec = AddMount(&config, dir() + "/options", "/mnt/noexec");
  for (const char* option : {"noexec", "noatime"}) no_exec->add_mount_options(option);
  AddMount(&config, dir() + "/options", "/mnt/ro")->add_mount_options("ro");
  v1::Mount* labelled = AddMount(&config, dir() + "/options", "/mnt/labelled");
  labelled->set_selinux_relabel(true);
  labelled->set_readonly(true);
  labelled->set_recursive_read_only(recursive);
  const std::string id = Start(pod_, config);
  EXPECT_EQ(Exec(id, "/mnt/plain/tool"), "ran\n");
  EXPECT_THAT(RunIn(id, {"sh", "-c", "/mnt/noexec/tool"}).err, HasSubstr("ermission denied"));
  EXPECT_THAT(Exec(id, "grep ' /mnt/noexec ' /proc/mounts"), HasSubstr("noatime"));
  EXPECT_THAT(RunIn(id, {"touch", "/mnt/ro/x"}).err, HasSubstr("Read-only"));
  EXPECT_THAT(RunIn(id, {"touch", "/mnt/labelled/x"}).err, HasSubstr("Read-only"));
  const v1::ContainerStatus status = Status(id);
  ASSERT_EQ(status.mounts_size(), 4);
  EXPECT_EQ(status.mounts(0).container_path(), "/mnt/plain");
  EXPECT_FALSE(status.mounts(0).selinux_relabel() || status.mounts(0).recursive_read_only());
  EXPECT_THAT(status.mounts(1).mount_options(), ElementsAre("noexec", "noatime"));
  EXPECT_TRUE(status.mounts(3).selinux_relabel());
  EXPECT_EQ(status.mounts(3).recursive_read_only(), recursive);
  // What a kernel would take and we do not is refused by name.
  config.mutable_metadata()->set_name("refused");
  config.mutable_mounts(0)->add_mount_options("size=1m");
  absl::Status refused = TryCreate(pod_, config).status();
  EXPECT_TRUE(absl::IsInvalidArgument(refused)) << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("mounts[0].mount_options: \"size=1m\""));
}

v1::IDMapping Mapping(uint32_t host, uint32_t container, uint32_t length) {
  v1::IDMapping mapping;
  mapping.set_host_id(host);
  mapping.set_container_id(container);
  mapping.set_length(length);
  return mapping;
}

TEST_F(ServerFieldsLiveTest, UserNamespacesMapUsersAndVolumes) {
  const v1::IDMapping mapping = Mapping(1000000, 0, 65536);
  auto set = [&](v1::NamespaceOption* options) {
    options->mutable_userns_options()->set_mode(v1::POD);
    *options->mutable_userns_options()->add_uids() = mapping;
    *options->mutable_userns_options()->add_gids() = mapping;
  };
  v1::PodSandboxConfig pod_config = NetworkPodConfig("mapped"), host_config = PodConfig("mapped-host");
  set(Options(&pod_config));
  set(Options(&host_config));
  const bool offered = HandlerFeatures().user_namespaces();
  EXPECT_EQ(TryRunPod(host_config).ok(), offered && ServerStatus().features().user_namespaces_host_network());
  absl::StatusOr<std::string> pod = TryRunPod(pod_config);
  ASSERT_EQ(pod.ok(), offered) << pod.status();
  if (!offered) GTEST_SKIP() << "the handler offers no user namespaces on this kernel and file system";
  // Where the server keeps its own files: what is on a tmpfs cannot be mapped everywhere.
  const std::string source = live_->paths().state_dir + "/mapped-volume";
  ASSERT_TRUE(MakeDirs(source).ok());
  ASSERT_TRUE(WriteFileAtomic(source + "/file", "of the host\n", 0644, false).ok());
  v1::ContainerConfig config = Script("mapped", kForever);
  set(Options(&config));
  for (const char* path : {"/mnt/mapped", "/mnt/plain"}) AddMount(&config, source, path);
  *config.mutable_mounts(0)->add_uidmappings() = mapping;
  *config.mutable_mounts(0)->add_gidmappings() = mapping;
  const std::string id = Start(*pod, config);
  EXPECT_EQ(Trimmed(Exec(id, "cat /proc/self/uid_map /proc/self/gid_map | tr -s ' '")),
            "0 1000000 65536\n 0 1000000 65536");
  EXPECT_EQ(Trimmed(Exec(id, "stat -c '%u %g' /mnt/mapped/file")), "0 0");
  EXPECT_EQ(Trimmed(Exec(id, "stat -c '%u %g' /mnt/plain/file")), "65534 65534");
  const v1::ContainerStatus status = Status(id);
  ASSERT_EQ(status.mounts_size(), 2);
  ASSERT_EQ(status.mounts(0).uidmappings_size(), 1);
  ASSERT_EQ(status.mounts(0).gidmappings_size(), 1);
  EXPECT_EQ(status.mounts(0).uidmappings(0).SerializeAsString(), mapping.SerializeAsString());
  EXPECT_EQ(status.mounts(0).host_path(), source);
  EXPECT_EQ(status.mounts(1).uidmappings_size(), 0);
  const v1::UserNamespace told = PodStatus(*pod).linux().namespaces().options().userns_options();
  EXPECT_EQ(told.mode(), v1::POD);
  ASSERT_TRUE(told.uids_size() == 1 && told.gids_size() == 1);
  EXPECT_EQ(told.uids(0).SerializeAsString(), mapping.SerializeAsString());
  RemovePod(*pod);
  EXPECT_TRUE(RemoveTree(source).ok());
}

// ---- devices ----

TEST_F(ServerFieldsLiveTest, DevicesByPathFolderAndPermission) {
  ASSERT_TRUE(MakeDirs(dir() + "/nodes/below").ok());
  const std::pair<const char*, unsigned> nodes[] = {{"/null", 3}, {"/below/zero", 5}};
  for (const auto& [name, number] : nodes) {
    ASSERT_EQ(::mknod((dir() + "/nodes" + name).c_str(), S_IFCHR | 0666, makedev(1, number)), 0);
  }
  auto with = [&](const std::string& name, const std::string& host, const std::string& container,
                  const std::string& permissions) {
    v1::ContainerConfig config = Script(name, kForever);
    v1::Device* device = config.add_devices();
    device->set_host_path(host);
    device->set_container_path(container);
    device->set_permissions(permissions);
    return config;
  };
  // A folder stands for all that is below it; another entry beside it.
  v1::ContainerConfig folder = with("folder", dir() + "/nodes", "/dev/ours", "rw");
  v1::Device* beside = folder.add_devices();
  beside->set_host_path("/dev/full");
  beside->set_container_path("/dev/brim");
  EXPECT_EQ(Try(folder,
                "stat -c '%t %T' /dev/ours/null /dev/ours/below/zero /dev/brim; "
                "head -c 3 /dev/ours/below/zero | wc -c"),
            "1 3\n1 5\n1 7\n3");
  // Of a driver nobody else may use (rtc is none of every container's): what is let through differs. Without
  // a driver it is another error, but not this one.
  ASSERT_EQ(::mknod((dir() + "/clock").c_str(), S_IFCHR | 0666, makedev(10, 135)), 0);
  // The runtimes let everybody make nodes; who may use them is what counts.
  struct Case {
    const char* permissions;
    bool read, write;
  };
  for (const Case& test :
       {Case{"", true, true}, Case{"r", true, false}, Case{"w", false, true}, Case{"m", false, false}}) {
    v1::ContainerConfig config = with("clock", dir() + "/clock", "/dev/clock", test.permissions);
    const std::string id = Start(pod_, config);
    auto allowed = [&](const std::string& script) {
      return !absl::StrContains(RunIn(id, {"sh", "-c", script}).err, "not permitted");
    };
    EXPECT_EQ(allowed(": </dev/clock"), test.read) << test.permissions;
    EXPECT_EQ(allowed(": >/dev/clock"), test.write) << test.permissions;
    EXPECT_TRUE(Remove(id).ok());
  }
  absl::Status refused = TryCreate(pod_, with("refused", "/dev/null", "/dev/x", "rx")).status();
  EXPECT_TRUE(absl::IsInvalidArgument(refused)) << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("permissions: \"rx\""));
}

// ---- network ----

// A socket in a pod's network.
Fd SocketIn(const std::string& netns, int type, uint16_t port) {
  Fd out;
  std::thread inside([&] {
    absl::StatusOr<Fd> ns = OpenFile(netns, O_RDONLY);
    if (!ns.ok() || ::setns(ns->get(), CLONE_NEWNET) != 0) return;
    Fd made(::socket(AF_INET, type | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    if (::bind(made.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return;
    if (type == SOCK_STREAM && ::listen(made.get(), 4) != 0) return;
    out = std::move(made);
  });
  inside.join();
  return out;
}

TEST_F(ServerFieldsLiveTest, HostPortsByProtocolAndAddress) {
  constexpr char kGateway[] = "10.253.0.1";  // the host's end of the pod's link
  v1::PodSandboxConfig config = NetworkPodConfig("ports");
  auto map = [&](v1::Protocol protocol, int host, int container, const std::string& ip) {
    v1::PortMapping* mapping = config.add_port_mappings();
    mapping->set_protocol(protocol);
    mapping->set_host_port(host);
    mapping->set_container_port(container);
    mapping->set_host_ip(ip);
  };
  map(v1::UDP, 21510, 8053, "");
  map(v1::TCP, 21511, 8080, "127.0.0.1");
  map(v1::TCP, 21512, 8080, kGateway);
  map(v1::SCTP, 21513, 8090, "");
  const std::string pod = RunPod(config);
  const std::string netns = StrCat(live_->paths().pods_dir, "/sandboxes/", pod, "/ns/net");
  Fd tcp = SocketIn(netns, SOCK_STREAM, 8080), udp = SocketIn(netns, SOCK_DGRAM, 8053);
  ASSERT_TRUE(tcp.valid() && udp.valid());
  timeval limit{10, 0};
  ASSERT_EQ(::setsockopt(udp.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), 0);

  Fd client = ConnectedTo("127.0.0.1", SOCK_DGRAM, 21510);
  ASSERT_EQ(::send(client.get(), "ask", 3, 0), 3);
  char buffer[16];
  sockaddr_in peer{};
  socklen_t peer_size = sizeof peer;
  ASSERT_EQ(::recvfrom(udp.get(), buffer, sizeof buffer, 0, reinterpret_cast<sockaddr*>(&peer), &peer_size),
            3);
  ASSERT_EQ(::sendto(udp.get(), "told", 4, 0, reinterpret_cast<sockaddr*>(&peer), peer_size), 4);
  ASSERT_EQ(::recv(client.get(), buffer, sizeof buffer, 0), 4);
  EXPECT_EQ(std::string(buffer, 4), "told");
  EXPECT_FALSE(ConnectedTo("127.0.0.1", SOCK_STREAM, 21510).valid()) << "UDP alone";

  EXPECT_TRUE(ConnectedTo("127.0.0.1", SOCK_STREAM, 21511).valid());
  EXPECT_FALSE(ConnectedTo(kGateway, SOCK_STREAM, 21511).valid());
  EXPECT_TRUE(ConnectedTo(kGateway, SOCK_STREAM, 21512).valid());
  EXPECT_FALSE(ConnectedTo("127.0.0.1", SOCK_STREAM, 21512).valid());
  // Whether a kernel has the protocol or not (HostPortsLiveTest has associations): the mapping is there.
  SubprocessOptions nft;
  nft.argv = {"nft", "list", "ruleset"};
  absl::StatusOr<SubprocessResult> rules = Call(env_.subprocess().Run(nft));
  ASSERT_TRUE(rules.ok() && rules->ok());
  EXPECT_THAT(rules->stdout_data, testing::ContainsRegex("sctp[^\n]*21513"));
  EXPECT_THAT(rules->stdout_data, Not(testing::ContainsRegex("tcp[^\n]*21513")));

  // The same port of another protocol or address is free, the same of all addresses is not.
  v1::PodSandboxConfig second = NetworkPodConfig("ports-again");
  config.clear_port_mappings();
  map(v1::TCP, 21510, 8080, "");
  map(v1::TCP, 21511, 8080, kGateway);
  *second.mutable_port_mappings() = config.port_mappings();
  EXPECT_TRUE(TryRunPod(second).ok());
  v1::PodSandboxConfig third = NetworkPodConfig("ports-taken");
  config.clear_port_mappings();
  map(v1::UDP, 21510, 8080, "127.0.0.1");
  *third.mutable_port_mappings() = config.port_mappings();
  EXPECT_EQ(TryRunPod(third).status().code(), absl::StatusCode::kAlreadyExists);
}

TEST_F(ServerFieldsLiveTest, PodsGetAddressesOfTheCidrTheServerWasTold) {
  auto tell = [&](const std::string& cidr) {
    v1::UpdateRuntimeConfigRequest request;
    request.mutable_runtime_config()->mutable_network_config()->set_pod_cidr(cidr);
    return Call(runtime().UpdateRuntimeConfig(request)).status();
  };
  const std::string network = live_->paths().cni_conf_dir + "/10-keelson.conflist";
  const std::string before = ReadFile(network).value();
  ASSERT_THAT(before, HasSubstr("10.253.0.0/24"));
  absl::Status told = tell("10.253.77.0/24");
  ASSERT_TRUE(told.ok()) << told;
  EXPECT_THAT(ReadFile(network).value(), HasSubstr("10.253.77.0/24"));
  EXPECT_THAT(PodStatus(RunPod(NetworkPodConfig("told"))).network().ip(), testing::StartsWith("10.253.77."));
  absl::Status refused = tell("10.253.77.0");
  EXPECT_TRUE(absl::IsInvalidArgument(refused)) << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("10.253.77.0"));
  EXPECT_TRUE(tell("").ok()) << "says nothing";
  EXPECT_THAT(ReadFile(network).value(), HasSubstr("10.253.77.0/24"));
  EXPECT_TRUE(tell("10.253.0.0/24").ok());
  EXPECT_EQ(ReadFile(network).value(), before);
}

TEST_F(ServerFieldsLiveTest, EveryAddressOfAPod) {
  const std::string plugin = live_->paths().cni_bin_dir + "/dual";
  const std::string network = live_->paths().cni_conf_dir + "/00-dual.conflist";
  ASSERT_TRUE(WriteFileAtomic(plugin,
                              "#!/bin/sh\ncat >/dev/null\n[ $CNI_COMMAND != ADD ] || echo "
                              "'{\"cniVersion\":\"1.0.0\",\"ips\":[{\"address\":\"10.253.8.8/24\"},"
                              "{\"address\":\"fd00:8::8/64\"},{\"address\":\"10.253.8.9/24\"}]}'\n",
                              0755, false)
                  .ok());
  ASSERT_TRUE(WriteFileAtomic(network, R"({"cniVersion":"1.0.0","name":"dual","plugins":[{"type":"dual"}]})",
                              0644, false)
                  .ok());
  const std::string pod = RunPod(NetworkPodConfig("dual"));
  const v1::PodSandboxNetworkStatus told = PodStatus(pod).network();
  StopPod(pod);
  std::filesystem::remove(network);
  std::filesystem::remove(plugin);
  EXPECT_EQ(told.ip(), "10.253.8.8");
  ASSERT_EQ(told.additional_ips_size(), 2) << told.ShortDebugString();
  EXPECT_EQ(told.additional_ips(0).ip(), "fd00:8::8");
  EXPECT_EQ(told.additional_ips(1).ip(), "10.253.8.9");
}

// ---- security ----

TEST_F(ServerFieldsLiveTest, OlderFormsOfProfiles) {
  constexpr char kMode[] = "grep '^Seccomp:' /proc/self/status | awk '{print $2}'";
  v1::ContainerConfig config = Script("seccomp", kForever);
  Security(&config)->set_seccomp_profile_path("runtime/default");
  EXPECT_EQ(Try(config, kMode), "2");
  Security(&config)->set_seccomp_profile_path("unconfined");
  EXPECT_EQ(Try(config, kMode), "0");
  const std::string profile =
      File("chmod.json", R"({"defaultAction":"SCMP_ACT_ALLOW","syscalls":[)"
                         R"({"names":["chmod","fchmodat"],"action":"SCMP_ACT_ERRNO"}]})");
  Security(&config)->set_seccomp_profile_path("localhost/" + profile);
  EXPECT_THAT(Try(config, "chmod 400 /tmp"), HasSubstr("not permitted"));
  // The newer form goes before it.
  Security(&config)->mutable_seccomp()->set_profile_type(v1::SecurityProfile::Unconfined);
  EXPECT_EQ(Try(config, kMode), "0");
  Security(&config)->clear_seccomp();
  Security(&config)->set_seccomp_profile_path("none/such");
  absl::Status refused = TryCreate(pod_, config).status();
  EXPECT_TRUE(absl::IsInvalidArgument(refused)) << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("seccomp_profile_path"));

  v1::ContainerConfig apparmor = Script("apparmor", kForever);
  Security(&apparmor)->set_apparmor_profile("none/such");
  refused = TryCreate(pod_, apparmor).status();
  EXPECT_TRUE(absl::IsInvalidArgument(refused)) << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("apparmor_profile"));
  Security(&apparmor)->set_apparmor_profile("localhost/keelson-none-such");
  const bool here = std::filesystem::exists("/sys/kernel/security/apparmor/profiles");
  absl::StatusOr<std::string> created = TryCreate(pod_, apparmor);
  refused = created.ok() ? TryStart(*created) : created.status();
  EXPECT_FALSE(refused.ok()) << "a profile that is not loaded";
  EXPECT_THAT(std::string(refused.message()), HasSubstr("keelson-none-such"));
  if (created.ok()) {
    EXPECT_TRUE(Remove(*created).ok());
  }
  if (!here) {
    EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition) << refused;
    printf("  this kernel has no AppArmor\n");
    return;
  }
  Security(&apparmor)->set_apparmor_profile("unconfined");
  EXPECT_EQ(Try(apparmor, "cat /proc/1/attr/current"), "unconfined");
  Security(&apparmor)->set_apparmor_profile("runtime/default");
  EXPECT_THAT(Try(apparmor, "cat /proc/1/attr/current"), Not(HasSubstr("unconfined")));
}

TEST_F(ServerFieldsLiveTest, AmbientCapabilitiesOfAUser) {
  constexpr char kSets[] = "grep -E 'Cap(Inh|Eff|Amb)' /proc/1/status | awk '{print $2}' | sort -u";
  v1::ContainerConfig config = Script("ambient", kForever);
  Security(&config)->mutable_run_as_user()->set_value(1000);
  EXPECT_EQ(Try(config, kSets), "0000000000000000") << "a user has none";
  Security(&config)->mutable_capabilities()->add_add_ambient_capabilities("NET_BIND_SERVICE");
  EXPECT_EQ(Try(config, kSets), "0000000000000400");
  Security(&config)->mutable_capabilities()->add_add_ambient_capabilities("FLY");
  absl::Status refused = TryCreate(pod_, config).status();
  EXPECT_TRUE(absl::IsInvalidArgument(refused)) << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("FLY"));
}

// ---- what is refused ----

TEST_F(ServerFieldsLiveTest, CallsOnTheUnknownAndTheNotRunning) {
  constexpr auto kUnknown = absl::StatusCode::kNotFound, kNotYet = absl::StatusCode::kFailedPrecondition;
  const std::string id =
      Create(pod_, Script("created", StrCat("trap 'exit 7' TERM; echo ready; ", kForever)));
  auto attach = [&](const std::string& container) {
    v1::AttachRequest request;
    request.set_container_id(container);
    request.set_stdout(true);
    return Call(runtime().Attach(request)).status().code();
  };
  auto exec = [&](const std::string& container) {
    v1::ExecRequest request;
    request.set_container_id(container);
    request.add_cmd("true");
    request.set_stdout(true);
    return Call(runtime().Exec(request)).status().code();
  };
  auto reopen = [&](const std::string& container) {
    v1::ReopenContainerLogRequest request;
    request.set_container_id(container);
    return Call(runtime().ReopenContainerLog(request)).status().code();
  };
  const std::string unknown(64, 'f');
  for (const auto& [name, code] : {std::pair(unknown, kUnknown), std::pair(id, kNotYet)}) {
    EXPECT_EQ(attach(name), code) << name;
    EXPECT_EQ(exec(name), code) << name;
    EXPECT_EQ(reopen(name), code) << name;
  }
  v1::PodSandboxStatsRequest stats;
  stats.set_pod_sandbox_id(unknown);
  EXPECT_EQ(Call(runtime().PodSandboxStats(stats)).status().code(), kUnknown);
  v1::UpdatePodSandboxResourcesRequest update;
  update.set_pod_sandbox_id(unknown);
  EXPECT_EQ(Call(runtime().UpdatePodSandboxResources(update)).status().code(), kUnknown);
  // An ID may be abbreviated, but not to a few letters, which come to fit another one.
  v1::ContainerStatusRequest status;
  for (const auto& [length, code] : {std::pair(2u, kUnknown), std::pair(16u, absl::StatusCode::kOk)}) {
    status.set_container_id(id.substr(0, length));
    EXPECT_EQ(Call(runtime().ContainerStatus(status)).status().code(), code) << length;
  }
  // A negative time to wait is none: it is killed, and does not come to its trap.
  ASSERT_TRUE(TryStart(id).ok());
  ASSERT_TRUE(Eventually([&] { return Log(id) == "ready\n"; }));
  EXPECT_TRUE(Stop(id, -5).ok());
  EXPECT_EQ(Status(id).exit_code(), 137);
  EXPECT_EQ(attach(id), kNotYet) << "ended";
  EXPECT_EQ(exec(id), kNotYet) << "ended";
}

TEST_F(ServerFieldsLiveTest, APrefixOfTwoIsRefused) {
  if (std::getenv("KEELSON_IN_GUEST") != nullptr) GTEST_SKIP() << "some hundred pods, and no kernel's affair";
  // IDs are random: of some eighty pods two begin alike.
  std::set<std::string> prefixes;
  std::string shared;
  while (shared.empty()) {
    v1::PodSandboxConfig config = PodConfig("many");
    Options(&config)->set_ipc(v1::NODE);
    const std::string prefix = RunPod(config).substr(0, 3);
    ASSERT_EQ(prefix.size(), 3u);
    if (!prefixes.insert(prefix).second) shared = prefix;
  }
  v1::PodSandboxStatusRequest request;
  request.set_pod_sandbox_id(shared);
  absl::Status ambiguous = Call(runtime().PodSandboxStatus(request)).status();
  EXPECT_TRUE(absl::IsInvalidArgument(ambiguous)) << ambiguous;
  // Not even a success, as of the unknown: it may have been meant.
  v1::StopPodSandboxRequest stop;
  stop.set_pod_sandbox_id(shared);
  EXPECT_TRUE(absl::IsInvalidArgument(Call(runtime().StopPodSandbox(stop)).status()));
  v1::RemovePodSandboxRequest remove;
  remove.set_pod_sandbox_id(shared);
  EXPECT_TRUE(absl::IsInvalidArgument(Call(runtime().RemovePodSandbox(remove)).status()));
  v1::ListPodSandboxRequest list;
  list.mutable_filter()->set_id(shared);
  auto listed = Call(runtime().ListPodSandbox(list));
  ASSERT_TRUE(listed.ok());
  EXPECT_EQ(listed->items_size(), 2) << "a filter takes all it fits";
}

}  // namespace
}  // namespace keelson::cri
