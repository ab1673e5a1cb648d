// CheckpointPod and RestorePod. Under cri/testing/with_keelson_cri, with --no-server also through kills of
// the server; what needs a working criu is skipped without one, with the reason.
#include <absl/strings/match.h>
#include <absl/strings/numbers.h>
#include <gmock/gmock.h>
#include <sys/stat.h>

#include <filesystem>

#include "base/fd.h"
#include "cri/testing/checkpoint_fixture.h"

namespace keelson::cri {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// What it was told is in its memory, in a file, and in the pod's shared memory; it says so when it gets a
// signal. It also has a connection to itself.
constexpr char kKeep[] =
    "secret=of-$$-$HOSTNAME-memory; trap 'echo secret $secret' USR1; "
    "echo written >/kept; echo more >/data/more; rm /data/file; echo shared >/dev/shm/kept; mkfifo /tmp/f; "
    "nc -ll -p 8000 -e cat & "
    "(exec 6<>/tmp/f; until grep -q ':1F40 .* 0A ' /proc/net/tcp /proc/net/tcp6; do sleep 0.1; done; "
    "exec nc 127.0.0.1 8000 <&6) & "
    "while true; do sleep 0.1; done";

class PodCheckpointLiveTest : public CheckpointFixture {
 protected:
  void TearDown() override {
    if (live_ == nullptr) return;
    for (const std::string& pod : restored_) RemovePod(pod);
    CheckpointFixture::TearDown();
  }

  absl::Status Checkpoint(const std::string& pod, const std::string& path,
                          std::vector<std::string> ids = {}) {
    return Call(runtime().CheckpointPod(CheckpointRequest(pod, path, std::move(ids)))).status();
  }
  static v1::CheckpointPodRequest CheckpointRequest(const std::string& pod, const std::string& path,
                                                    std::vector<std::string> ids = {}) {
    v1::CheckpointPodRequest request;
    request.set_pod_sandbox_id(pod);
    request.set_output_path(path);
    for (const std::string& id : ids) request.add_container_ids(id);
    return request;
  }
  static v1::RestorePodRequest RestoreRequest(const std::string& path, const v1::PodSandboxConfig& config,
                                              const std::vector<v1::ContainerConfig>& containers) {
    v1::RestorePodRequest request;
    request.set_checkpoint_path(path);
    *request.mutable_config() = config;
    for (const v1::ContainerConfig& container : containers) *request.add_container_configs() = container;
    return request;
  }
  absl::StatusOr<v1::RestorePodResponse> Restore(const std::string& path, const v1::PodSandboxConfig& config,
                                                 const std::vector<v1::ContainerConfig>& containers) {
    auto response = Call(runtime().RestorePod(RestoreRequest(path, config, containers)));
    if (response.ok()) restored_.push_back(response->pod_sandbox_id());
    return response;
  }
  bool HasConnection(const std::string& id) {
    // Established: state 01 in the kernel's table.
    return absl::StrContains(Exec(id, "cat /proc/net/tcp"), " 01 ");
  }

  std::vector<std::string> restored_;
};

// Skips with the reason where this host cannot.
#define CHECKPOINT_OR_SKIP(pod, path)                              \
  do {                                                             \
    absl::Status made = Checkpoint(pod, path);                     \
    if (absl::IsUnimplemented(made)) {                             \
      EXPECT_THAT(std::string(made.message()), HasSubstr("criu")); \
      EXPECT_TRUE(absl::IsNotFound(ReadFile(path).status()));      \
      GTEST_SKIP() << made.message();                              \
    }                                                              \
    ASSERT_TRUE(made.ok()) << made;                                \
  } while (false)

TEST_F(PodCheckpointLiveTest, BadRequestsAreRefusedByField) {
  const v1::PodSandboxConfig config = PodConfig("pod-bad");
  const v1::ContainerConfig forever = Script("main", "exec sleep 1000");
  std::string pod = RunPod(config), other = RunPod(PodConfig("pod-other"));
  const std::string path = dir() + "/a.tar";
  EXPECT_TRUE(absl::IsNotFound(Checkpoint("0123456789abcdef", path)));
  EXPECT_EQ(Checkpoint(pod, path).code(), absl::StatusCode::kFailedPrecondition) << "nothing runs";
  std::string id = Start(pod, forever), others = Start(other, Script("main", "exec sleep 1000"));
  auto field = [](const absl::Status& status, const std::string& name) {
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(name));
  };
  field(Checkpoint(pod, ""), "output_path");
  field(Checkpoint(pod, "here.tar"), "output_path");
  field(Checkpoint(pod, path, {id, id}), "container_ids[1]");
  field(Checkpoint(pod, path, {others}), "container_ids[0]");
  EXPECT_TRUE(absl::IsNotFound(Checkpoint(pod, path, {"0123456789abcdef"})));
  v1::CheckpointPodRequest options = CheckpointRequest(pod, path);
  (*options.mutable_options())["x"] = "y";
  field(Call(runtime().CheckpointPod(options)).status(), "options[\"x\"]");

  field(Restore("", config, {forever}).status(), "checkpoint_path");
  field(Restore(dir() + "/../a.tar", config, {forever}).status(), "checkpoint_path");
  field(Restore(path, config, {}).status(), "container_configs");
  field(Restore(path, config, {v1::ContainerConfig()}).status(), "container_configs[0].metadata.name");
  v1::RestorePodRequest request = RestoreRequest(path, config, {forever});
  request.set_runtime_handler("none");
  EXPECT_TRUE(absl::IsInvalidArgument(Call(runtime().RestorePod(request)).status()));
  request = RestoreRequest(path, config, {forever});
  (*request.mutable_options())["x"] = "y";  // there is none that is known
  field(Call(runtime().RestorePod(request)).status(), "options[\"x\"]");
  request = RestoreRequest(path, config, {forever});
  request.clear_config();
  field(Call(runtime().RestorePod(request)).status(), "config: required");
  v1::PodSandboxConfig shared = config;
  shared.mutable_linux()->mutable_security_context()->mutable_namespace_options()->set_pid(v1::POD);
  EXPECT_TRUE(absl::IsUnimplemented(Restore(path, shared, {forever}).status()));
  EXPECT_EQ(Pods(), 2u);
}

TEST_F(PodCheckpointLiveTest, ARestoredPodGoesOnWhereItWas) {
  const v1::PodSandboxConfig config = NetworkPodConfig("pod-restore");
  const v1::ContainerConfig count = Script("count", kCount);
  v1::ContainerConfig keep = Script("keep", kKeep);
  keep.mutable_image()->set_image(live_->user_image());  // /data is a volume
  keep.mutable_linux()->mutable_security_context()->mutable_run_as_user()->set_value(0);
  std::string pod = RunPod(config);
  std::string counter = Start(pod, count), keeper = Start(pod, keep);
  const std::string path = dir() + "/pod.tar";
  Await([&] { return HasConnection(keeper); });
  Exec(keeper, "kill -USR1 1");
  Await([&] { return absl::StrContains(Log(keeper), "secret "); });
  const std::string secret = Log(keeper);
  const int least = AwaitCount(counter, 5).back();
  CHECKPOINT_OR_SKIP(pod, path);
  struct stat info;
  ASSERT_EQ(::stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0600u);
  // It runs on, its connections too; and again, over the first.
  const int most = AwaitCount(counter, least + 5).back();
  EXPECT_TRUE(HasConnection(keeper));
  ASSERT_TRUE(Checkpoint(pod, dir() + "/one.tar", {counter}).ok());
  ASSERT_TRUE(Checkpoint(pod, dir() + "/one.tar", {counter}).ok());
  RemovePod(pod);

  // By the name of the OCI runtime; without one the default is asked, below.
  v1::RestorePodRequest named = RestoreRequest(path, NetworkPodConfig("pod-restore"), {count, keep});
  named.set_runtime_handler(live_->handler());
  auto by_name = Call(runtime().RestorePod(named));
  ASSERT_TRUE(by_name.ok()) << by_name.status();
  EXPECT_EQ(PodStatus(by_name->pod_sandbox_id()).runtime_handler(), live_->handler());
  RemovePod(by_name->pod_sandbox_id());

  v1::PodSandboxConfig again = NetworkPodConfig("pod-restore");
  auto restored = Restore(path, again, {count, keep});
  ASSERT_TRUE(restored.ok()) << restored.status();
  ASSERT_EQ(restored->restored_containers_size(), 2);
  EXPECT_EQ(restored->restored_containers(0).name(), "count");
  counter = restored->restored_containers(0).container_id();
  keeper = restored->restored_containers(1).container_id();
  EXPECT_EQ(PodStatus(restored->pod_sandbox_id()).state(), v1::SANDBOX_READY);
  EXPECT_EQ(Status(counter).state(), v1::CONTAINER_RUNNING);
  std::vector<int> counted = AwaitCount(counter, most + 3);
  EXPECT_GT(counted.front(), least);
  EXPECT_LE(counted.front(), most + 1);
  // What it remembers, wrote, removed and shared, and its own network.
  Exec(keeper, "kill -USR1 1");
  Await([&] { return Log(keeper) == secret; });
  EXPECT_EQ(Exec(keeper, "cat /kept; test ! -e /data/file && cat /data/more /dev/shm/kept"),
            "written\nmore\nshared\n");
  EXPECT_EQ(Exec(counter, "cat /dev/shm/kept"), "shared\n");
  EXPECT_FALSE(HasConnection(keeper)) << "closed: it was of another address";
  EXPECT_TRUE(absl::StrContains(Exec(keeper, "cat /proc/net/tcp /proc/net/tcp6"), ":1F40 ")) << "it listens";
  const std::string ip = PodStatus(restored->pod_sandbox_id()).network().ip();
  EXPECT_FALSE(ip.empty());
  EXPECT_TRUE(absl::StrContains(Exec(keeper, "ip addr"), ip));
  EXPECT_EQ(Exec(keeper, "cat /proc/self/cgroup | cut -d: -f3 | sort -u"), "/\n") << "a cgroup namespace";
  // A restored pod is a pod: checkpointed again, its containers stopped one by one.
  ASSERT_TRUE(Checkpoint(restored->pod_sandbox_id(), dir() + "/second.tar").ok());
  EXPECT_EQ(Status(keeper).state(), v1::CONTAINER_RUNNING);
  ASSERT_TRUE(Stop(keeper, 0).ok());
  EXPECT_EQ(Status(keeper).exit_code(), 137);
  ASSERT_TRUE(Remove(keeper).ok());
  Exec(counter, "true");
  StopPod(restored->pod_sandbox_id());
  EXPECT_EQ(Status(counter).exit_code(), 137);
}

TEST_F(PodCheckpointLiveTest, AFailedRestoreLeavesNothing) {
  const v1::PodSandboxConfig config = NetworkPodConfig("pod-fails");
  const v1::ContainerConfig first = Script("first", kCount);
  v1::ContainerConfig second = Script("second", "exec 3>/extra/open; while true; do sleep 0.1; done");
  ASSERT_TRUE(MakeDirs(dir() + "/extra", 0755).ok());
  v1::Mount* mount = second.add_mounts();
  mount->set_container_path("/extra");
  mount->set_host_path(dir() + "/extra");
  std::string pod = RunPod(config);
  std::string id = Start(pod, first), other = Start(pod, second);
  AwaitCount(id, 1);
  Await([&] { return ReadFile(dir() + "/extra/open").ok(); });
  const std::string path = dir() + "/pod.tar";
  CHECKPOINT_OR_SKIP(pod, path);
  RemovePod(pod);
  EXPECT_EQ(Pods(), 0u);

  // The file it has open is not there: the first container runs already when the second fails.
  ASSERT_TRUE(RemoveTree(dir() + "/extra/open").ok());
  auto failed = Restore(path, config, {first, second});
  EXPECT_FALSE(failed.ok());
  EXPECT_THAT(std::string(failed.status().message()), HasSubstr("container_configs[1]"));
  EXPECT_THAT(std::string(failed.status().message()), HasSubstr("criu"));
  EXPECT_EQ(Pods(), 0u);
  auto list = Call(runtime().ListContainers(v1::ListContainersRequest()));
  ASSERT_TRUE(list.ok());
  EXPECT_EQ(list->containers_size(), 0);

  // Archives and requests that do not fit each other.
  v1::PodSandboxConfig on_host = PodConfig("pod-fails");
  EXPECT_THAT(Restore(path, on_host, {first, second}).status().ToString(),
              HasSubstr("namespace_options.network"));
  EXPECT_THAT(Restore(path, config, {first}).status().ToString(), HasSubstr("\"second\""));
  v1::ContainerConfig renamed = first, terminal = first, image = first, absent = first;
  renamed.mutable_metadata()->set_name("else");
  EXPECT_THAT(Restore(path, config, {renamed, second}).status().ToString(),
              HasSubstr("container_configs[0].metadata"));
  terminal.set_tty(true);
  EXPECT_THAT(Restore(path, config, {terminal, second}).status().ToString(),
              HasSubstr("container_configs[0]: tty"));
  v1::ContainerConfig otherwise = first;
  otherwise.add_args("more");
  EXPECT_THAT(Restore(path, config, {otherwise, second}).status().ToString(),
              AllOf(HasSubstr("container_configs[0]: "), HasSubstr("command, args: ")));
  otherwise = first;
  otherwise.set_stdin(true);
  EXPECT_THAT(Restore(path, config, {otherwise, second}).status().ToString(),
              HasSubstr("container_configs[0]: stdin"));
  otherwise = first;
  otherwise.mutable_linux()->mutable_security_context()->add_supplemental_groups(7);
  EXPECT_THAT(Restore(path, config, {otherwise, second}).status().ToString(),
              HasSubstr("container_configs[0]: linux.security_context.supplemental_groups: 7"));
  otherwise = first;
  otherwise.mutable_linux()->mutable_security_context()->mutable_capabilities()->add_drop_capabilities("ALL");
  EXPECT_THAT(Restore(path, config, {otherwise, second}).status().ToString(),
              AllOf(HasSubstr("container_configs[0]: "), HasSubstr("linux.security_context.capabilities")));
  EXPECT_EQ(Pods(), 0u);
  image.mutable_image()->set_image(live_->user_image());
  EXPECT_THAT(Restore(path, config, {image, second}).status().ToString(),
              HasSubstr("container_configs[0].image"));
  absent.mutable_image()->set_image("keelson.local/none:1");
  EXPECT_TRUE(absl::IsNotFound(Restore(path, config, {absent, second}).status()));
  // Hostile ones.
  ASSERT_EQ(::chmod(path.c_str(), 0666), 0);
  EXPECT_EQ(Restore(path, config, {first, second}).status().code(), absl::StatusCode::kFailedPrecondition);
  ASSERT_TRUE(WriteFileAtomic(dir() + "/hostile.tar", std::string(4096, 'x'), 0600, false).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(Restore(dir() + "/hostile.tar", config, {first, second}).status()));
  std::string cut = ReadFile(path, 256 << 20).value();
  cut.resize(cut.size() / 2);
  ASSERT_TRUE(WriteFileAtomic(dir() + "/cut.tar", cut, 0600, false).ok());
  EXPECT_FALSE(Restore(dir() + "/cut.tar", config, {first, second}).ok());
  EXPECT_FALSE(Restore(dir() + "/none.tar", config, {first, second}).ok());
  EXPECT_EQ(Pods(), 0u);
}

TEST_F(PodCheckpointLiveTest, KillsOfTheServerAreSurvived) {
  if (!live_->Own()) GTEST_SKIP() << "runs with --no-server";
  const v1::PodSandboxConfig config = NetworkPodConfig("pod-kill");
  const v1::ContainerConfig count = Script("count", kCount), other = Script("other", kCount);
  std::string pod = RunPod(config);
  std::string counter = Start(pod, count);
  Start(pod, other);
  const std::string path = dir() + "/pod.tar";
  AwaitCount(counter, 2);
  CHECKPOINT_OR_SKIP(pod, path);

  // While the containers are frozen: they run on, and there is no archive.
  const std::string scratch = live_->paths().state_dir + "/checkpoints";
  auto dumping = [&] {
    std::error_code error;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(scratch, error)) {
      if (entry.path().filename() == "dump.log") return true;
    }
    return false;
  };
  auto cut = KillDuring(runtime().CheckpointPod(CheckpointRequest(pod, dir() + "/cut.tar")), dumping);
  EXPECT_FALSE(cut.ok());
  EXPECT_TRUE(absl::IsNotFound(ReadFile(dir() + "/cut.tar").status()));
  AwaitCount(counter, Counted(counter).back() + 3);
  EXPECT_EQ(Status(counter).state(), v1::CONTAINER_RUNNING);
  EXPECT_TRUE(Checkpoint(pod, dir() + "/after.tar").ok());
  RemovePod(pod);

  // While a container is being restored: nothing of the pod is left, and its name is free.
  auto restoring = [&] {
    std::error_code error;
    for (const auto& entry :
         std::filesystem::directory_iterator(live_->paths().pods_dir + "/containers", error)) {
      if (std::filesystem::exists(entry.path() / "restore.log", error)) return true;
    }
    return false;
  };
  auto half = KillDuring(
      runtime().RestorePod(RestoreRequest(path, NetworkPodConfig("pod-kill"), {count, other})), restoring);
  EXPECT_FALSE(half.ok());
  EXPECT_EQ(Pods(), 0u);

  // After it: a container as any other.
  auto restored = Restore(path, NetworkPodConfig("pod-kill"), {count, other});  // its logs are its own
  ASSERT_TRUE(restored.ok()) << restored.status();
  counter = restored->restored_containers(0).container_id();
  const int before = AwaitCount(counter, 1).back();
  const int pid = Pid(counter);
  Restart();
  EXPECT_EQ(Status(counter).state(), v1::CONTAINER_RUNNING);
  EXPECT_EQ(Pid(counter), pid);
  AwaitCount(counter, before + 3);
  ASSERT_TRUE(Stop(counter, 0).ok());
  EXPECT_EQ(Status(counter).exit_code(), 137);
}

TEST_F(PodCheckpointLiveTest, ATerminalIsRestored) {
  const v1::PodSandboxConfig config = PodConfig("pod-tty");
  v1::ContainerConfig tty = Script("tty", kCount);
  tty.set_tty(true);
  std::string pod = RunPod(config);
  std::string id = Start(pod, tty);
  const std::string path = dir() + "/pod.tar";
  Await([&] { return absl::StrContains(Log(id), "3"); });
  CHECKPOINT_OR_SKIP(pod, path);
  RemovePod(pod);
  auto restored = Restore(path, PodConfig("pod-tty"), {tty});
  ASSERT_TRUE(restored.ok()) << restored.status();
  id = restored->restored_containers(0).container_id();
  Await([&] { return !Log(id).empty(); });
  int first = 0;
  EXPECT_TRUE(absl::SimpleAtoi(Log(id).substr(0, Log(id).find('\r')), &first)) << Log(id);
  EXPECT_GE(first, 3);
  ASSERT_TRUE(Stop(id, 0).ok());
}

}  // namespace
}  // namespace keelson::cri
