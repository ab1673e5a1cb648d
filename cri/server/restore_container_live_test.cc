// CreateContainer from a checkpoint of CheckpointContainer: an archive, and an image that was made from one.
// Under cri/testing/with_keelson_cri --no-server; what needs a working criu is skipped without one, with the
// reason.
#include <absl/strings/match.h>
#include <absl/strings/str_split.h>
#include <gmock/gmock.h>
#include <sys/stat.h>

#include <filesystem>

#include "base/fd.h"
#include "cri/testing/checkpoint_fixture.h"
#include "images/digest.h"
#include "images/testing/test_images.h"

namespace keelson::cri {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr size_t kMostArchiveBytes = 256 << 20;

Task<absl::Status> CloseServer(images::FakeRegistry* registry) {
  Task<void> close = registry->Close();
  co_await std::move(close);
  co_return absl::OkStatus();
}

class CreateFromCheckpointLiveTest : public CheckpointFixture {
 protected:
  void SetUp() override {
    CheckpointFixture::SetUp();
    if (live_ != nullptr && !live_->Own()) GTEST_SKIP() << "runs with --no-server";
  }
  absl::Status Checkpoint(const std::string& id, const std::string& path) {
    v1::CheckpointContainerRequest request;
    request.set_container_id(id);
    request.set_location(path);
    return Call(runtime().CheckpointContainer(request)).status();
  }
  // As `config` says, but its image is the checkpoint, and its log one of its own, as each attempt's is.
  v1::ContainerConfig From(const std::string& image, v1::ContainerConfig config) {
    config.set_log_path(StrCat("from-", ++logs_, ".log"));
    config.mutable_image()->set_image(image);
    config.mutable_image()->set_user_specified_image("what/was:asked");
    return config;
  }
  absl::Status Refused(const std::string& pod, const v1::ContainerConfig& config) {
    absl::StatusOr<std::string> created = TryCreate(pod, config);
    EXPECT_FALSE(created.ok());
    return created.status();
  }
  size_t Containers() {
    auto list = Call(runtime().ListContainers(v1::ListContainersRequest()));
    EXPECT_TRUE(list.ok()) << list.status();
    return list.ok() ? static_cast<size_t>(list->containers_size()) : 0;
  }
  // Of the first process, as the host sees it.
  std::string CgroupFile(int pid) { return ReadFile(StrCat("/proc/", pid, "/cgroup")).value_or(""); }
  std::string Rewritten(const std::string& archive, const std::string& from, const std::string& to) {
    // Of the same length: sizes are in headers, and config.dump is the first file.
    EXPECT_EQ(from.size(), to.size());
    std::string bytes = ReadFile(archive, kMostArchiveBytes).value();
    const size_t end = bytes.find("spec.dump");
    size_t count = 0;
    for (size_t at = bytes.find(from); at < end; at = bytes.find(from, at + 1), ++count)
      bytes.replace(at, from.size(), to);
    EXPECT_GT(count, 0u) << from;
    const std::string path = archive + "-rewritten";
    EXPECT_TRUE(WriteFileAtomic(path, bytes, 0600, false).ok());
    return path;
  }

 private:
  int logs_ = 0;
};

// Skips with the reason where this host cannot, after a look at what CreateContainer says of it there.
#define CHECKPOINT_CONTAINER_OR_SKIP(id, path)                                    \
  do {                                                                            \
    absl::Status made = Checkpoint(id, path);                                     \
    if (absl::IsUnimplemented(made)) {                                            \
      absl::Status refused = Refused(pod, From(path, Script("refused", kCount))); \
      EXPECT_TRUE(absl::IsUnimplemented(refused)) << refused;                     \
      EXPECT_THAT(std::string(refused.message()), HasSubstr("criu"));             \
      GTEST_SKIP() << made.message();                                             \
    }                                                                             \
    ASSERT_TRUE(made.ok()) << made;                                               \
  } while (false)

TEST_F(CreateFromCheckpointLiveTest, ItGoesOnInAnotherPodAsTheRequestSays) {
  const std::string old_folder = dir() + "/old", new_folder = dir() + "/new", path = dir() + "/a.tar";
  ASSERT_TRUE(MakeDirs(old_folder, 0755).ok());
  ASSERT_TRUE(MakeDirs(new_folder, 0755).ok());
  v1::ContainerConfig config =
      Script("count",
             "echo written >/kept; rm /data/file; echo more >/data/more; exec 5>>/grows; n=0; "
             "while true; do n=$((n+1)); echo $n; echo $n >&5; sleep 0.1; done");
  config.mutable_image()->set_image(live_->user_image());  // /data is a volume
  Security(&config)->mutable_run_as_user()->set_value(0);
  v1::Mount* mount = config.add_mounts();
  mount->set_container_path("/mnt");
  mount->set_host_path(old_folder);
  std::string pod = RunPod(NetworkPodConfig("from-old"));
  std::string id = Start(pod, config);
  AwaitCount(id, 3);
  const std::string base = Status(id).image_id(), base_ref = Status(id).image_ref();
  CHECKPOINT_CONTAINER_OR_SKIP(id, path);
  const int most = AwaitCount(id, Counted(id).back() + 3).back();
  RemovePod(pod);

  config.mutable_mounts(0)->set_host_path(new_folder);
  config.mutable_metadata()->set_name("again");
  (*config.mutable_labels())["label"] = "new";
  (*config.mutable_annotations())["annotation"] = "new";
  config.mutable_linux()->mutable_resources()->set_memory_limit_in_bytes(200 << 20);
  v1::PodSandboxConfig pod_config = NetworkPodConfig("from-new");
  pod_config.mutable_linux()->set_cgroup_parent(live_->CgroupParent("pods"));
  pod = RunPod(pod_config);
  // The archive is not needed after this.
  id = Create(pod, From(path, config));
  ASSERT_FALSE(id.empty());
  ASSERT_TRUE(RemoveTree(path).ok());
  v1::ContainerStatus status = Status(id);
  EXPECT_EQ(status.state(), v1::CONTAINER_CREATED);
  EXPECT_EQ(status.image_id(), base);
  EXPECT_EQ(status.image_ref(), base_ref);
  EXPECT_EQ(status.image().image(), live_->user_image());
  EXPECT_EQ(status.image().user_specified_image(), live_->user_image());
  EXPECT_EQ(status.metadata().name(), "again");
  EXPECT_EQ(status.labels().at("label"), "new");
  EXPECT_EQ(status.annotations().at("annotation"), "new");
  EXPECT_EQ(status.annotations().at("restored"), "true");
  EXPECT_EQ(status.annotations().at("checkpointImage"), "what/was:asked");
  EXPECT_FALSE(status.annotations().at("checkpointedAt").empty());
  EXPECT_EQ(status.mounts(0).host_path(), new_folder);
  ASSERT_TRUE(TryStart(id).ok());
  EXPECT_EQ(Status(id).state(), v1::CONTAINER_RUNNING);
  const std::vector<int> counted = AwaitCount(id, most + 3);
  EXPECT_GE(counted.front(), 3);
  EXPECT_LE(counted.front(), most + 1);
  EXPECT_EQ(Exec(id, "cat /kept /data/more; test ! -e /data/file"), "written\nmore\n");
  Exec(id, "echo here >/mnt/file");
  EXPECT_TRUE(ReadFile(new_folder + "/file").ok());
  EXPECT_FALSE(ReadFile(old_folder + "/file").ok());
  // An open file that grows is as long as its writer remembers.
  const std::vector<std::string> lines = absl::StrSplit(Exec(id, "cat /grows"), '\n', absl::SkipEmpty());
  for (size_t i = 0; i < lines.size(); ++i) EXPECT_EQ(lines[i], StrCat(i + 1));
  // Its network and its cgroup are those of the new pod, as the request limits it.
  EXPECT_THAT(Exec(id, "ip addr"), HasSubstr(PodStatus(pod).network().ip()));
  const std::string cgroup = live_->CgroupOf("pods", id);
  EXPECT_THAT(CgroupFile(Pid(id)), HasSubstr(cgroup));
  absl::StatusOr<std::string> limit = ReadFile(StrCat("/sys/fs/cgroup/", cgroup, "/memory.max"));
  if (!limit.ok()) limit = ReadFile(StrCat("/sys/fs/cgroup/memory/", cgroup, "/memory.limit_in_bytes"));
  EXPECT_EQ(Trimmed(limit.value_or("none")), StrCat(200 << 20));
  EXPECT_FALSE(std::filesystem::exists(live_->paths().state_dir + "/restores/" + id));

  // A container as any other: checkpointed again, stopped, and another attempt in its place.
  ASSERT_TRUE(Checkpoint(id, path).ok());
  EXPECT_EQ(Status(id).state(), v1::CONTAINER_RUNNING);
  ASSERT_TRUE(Stop(id, 0).ok());
  EXPECT_EQ(Status(id).exit_code(), 137);
  EXPECT_EQ(Status(id).reason(), "Error");
  config.mutable_metadata()->set_attempt(1);
  v1::ContainerConfig bare = From(path, config);
  bare.clear_command();  // as a pod that names an image alone
  bare.clear_args();
  const std::string second = Create(pod, bare);
  ASSERT_TRUE(TryStart(second).ok());
  EXPECT_GT(AwaitCount(second, most + 4).front(), most);
  ASSERT_TRUE(Remove(id).ok());
  ASSERT_TRUE(Remove(second).ok());
}

TEST_F(CreateFromCheckpointLiveTest, WhatDoesNotFitIsNamedAndNothingStays) {
  const std::string path = dir() + "/a.tar";
  const v1::ContainerConfig config = Script("count", kCount);
  std::string pod = RunPod(NetworkPodConfig("from-bad"));
  const std::string id = Start(pod, config);
  const std::string base = Status(id).image_id(), base_ref = Status(id).image_ref();
  AwaitCount(id, 2);
  CHECKPOINT_CONTAINER_OR_SKIP(id, path);
  ASSERT_TRUE(Stop(id, 0).ok());
  ASSERT_TRUE(Remove(id).ok());

  auto refused = [&](const v1::ContainerConfig& wanted, absl::StatusCode code, const std::string& why) {
    absl::Status status = Refused(pod, From(path, wanted));
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(why));
  };
  constexpr absl::StatusCode kInvalid = absl::StatusCode::kInvalidArgument;
  v1::ContainerConfig other = config;
  other.set_command(0, "/bin/ash");
  refused(other, kInvalid, "command, args: \"/bin/ash\"");
  other = config;
  other.set_tty(true);
  refused(other, kInvalid, "tty: true; the container in the checkpoint has false");
  other = config;
  other.set_stdin(true);
  refused(other, kInvalid, "config: stdin");
  other = config;
  Security(&other)->add_supplemental_groups(7);
  refused(other, kInvalid, "supplemental_groups: 7");
  other = config;
  Security(&other)->mutable_run_as_user()->set_value(1000);
  refused(other, kInvalid, "run_as_user: 1000");
  other = config;
  Security(&other)->mutable_capabilities()->add_drop_capabilities("ALL");
  refused(other, kInvalid, "capabilities");
  other = config;
  other.add_mounts()->set_container_path("/mnt");
  other.mutable_mounts(0)->set_host_path(dir());
  refused(other, kInvalid, "mounts[/mnt]: the container in the checkpoint has none there");
  other = config;
  Options(&other)->set_pid(v1::NODE);
  refused(other, absl::StatusCode::kUnimplemented, "namespace_options.pid");
  const std::string on_host = RunPod(PodConfig("from-bad-host"));
  EXPECT_THAT(Refused(on_host, From(path, config)).ToString(), HasSubstr("namespace_options"));
  EXPECT_TRUE(absl::IsNotFound(Refused("0123456789abcdef", From(path, config))));

  // The image it was made on: not here, another one, or here by another name.
  const std::string absent = base_ref.substr(0, base_ref.size() - 8) + "00000000";
  const std::string other_id = base.substr(0, base.size() - 8) + "00000000";
  const std::string moved = Rewritten(path, base_ref, absent);
  const std::string by_id = Create(pod, From(moved, config));
  EXPECT_EQ(Status(by_id).image_id(), base);
  EXPECT_TRUE(absl::IsAlreadyExists(Refused(pod, From(path, config)))) << "its name is taken";
  ASSERT_TRUE(Remove(by_id).ok());
  absl::Status status = Refused(pod, From(Rewritten(moved, base, other_id), config));
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("rootfsImageRef"), HasSubstr(absent)));
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  status = Refused(pod, From(Rewritten(path, base, other_id), config));
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("the checkpoint was made on " + other_id));
  status = Refused(pod, From(Rewritten(path, "rootfsImageRef\": \"", "rootfsImageRef\":7\""), config));
  EXPECT_THAT(std::string(status.message()), HasSubstr("config.dump: is no JSON"));

  // Hostile ones, and what is no archive.
  auto named = [&](const std::string& image, absl::StatusCode code) {
    absl::Status answer = Refused(pod, From(image, config));
    EXPECT_EQ(answer.code(), code) << answer;
    EXPECT_THAT(std::string(answer.message()), HasSubstr("config.image.image \"" + image));
  };
  named(dir() + "/none.tar", absl::StatusCode::kNotFound);
  named(dir() + "/../a.tar", kInvalid);
  named(dir(), absl::StatusCode::kFailedPrecondition);
  std::string bytes = ReadFile(path, kMostArchiveBytes).value();
  ASSERT_TRUE(WriteFileAtomic(dir() + "/x.tar", std::string(4096, 'x'), 0600, false).ok());
  named(dir() + "/x.tar", kInvalid);
  ASSERT_TRUE(WriteFileAtomic(dir() + "/cut.tar", bytes.substr(0, bytes.size() / 2), 0600, false).ok());
  EXPECT_FALSE(TryCreate(pod, From(dir() + "/cut.tar", config)).ok());
  images::TarEntry link;
  link.name = "checkpoint/core-1.img";
  link.type = '2';
  link.link = "/etc/shadow";
  ASSERT_TRUE(WriteFileAtomic(dir() + "/link.tar", images::MakeTar({link}), 0600, false).ok());
  named(dir() + "/link.tar", kInvalid);
  ASSERT_EQ(::chmod(path.c_str(), 0622), 0);
  named(path, absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(Containers(), 0u);
  EXPECT_TRUE(std::filesystem::is_empty(live_->paths().state_dir + "/restores"));

  // What criu finds wrong fails the start, which leaves a container that has ended and can be removed.
  ASSERT_EQ(::chmod(path.c_str(), 0600), 0);
  const size_t magic = bytes.rfind("ustar", bytes.find("checkpoint/inventory.img") + 512) + 255;
  ASSERT_LT(magic, bytes.size());
  for (size_t i = 0; i < 8; ++i) bytes[magic + i] = 'x';
  ASSERT_TRUE(WriteFileAtomic(dir() + "/broken.tar", bytes, 0600, false).ok());
  const std::string broken = Create(pod, From(dir() + "/broken.tar", config));
  absl::Status started = TryStart(broken);
  EXPECT_FALSE(started.ok());
  EXPECT_THAT(std::string(started.message()), HasSubstr("criu"));
  EXPECT_EQ(Status(broken).state(), v1::CONTAINER_EXITED);
  EXPECT_EQ(Status(broken).reason(), "StartError");
  EXPECT_TRUE(std::filesystem::is_empty(live_->paths().state_dir + "/restores"));
  ASSERT_TRUE(Remove(broken).ok());
}

TEST_F(CreateFromCheckpointLiveTest, OfAnImageWhereTheServerLetsIt) {
  const std::string path = dir() + "/a.tar";
  const v1::ContainerConfig config = Script("count", kCount);
  std::string pod = RunPod(NetworkPodConfig("from-image"));
  std::string id = Start(pod, config);
  const std::string base = Status(id).image_id(), base_ref = Status(id).image_ref();
  const int least = AwaitCount(id, 3).back();
  CHECKPOINT_CONTAINER_OR_SKIP(id, path);
  ASSERT_TRUE(Stop(id, 0).ok());
  ASSERT_TRUE(Remove(id).ok());

  // As buildah makes it: its one layer has the files of the archive, its manifest the annotation.
  images::FakeRegistry registry(&env_);
  const std::string name = StrCat("127.0.0.1:", registry.Listen(), "/checkpoint:1");
  auto offer = [&](const std::string& tar, const std::string& tag) {
    images::TestImage image = images::MakeImage({tar});
    image.manifest.replace(image.manifest.size() - 1, 1,
                           R"(,"annotations":{"org.criu.checkpoint.container.name":"count"}})");
    image.manifest_digest = images::DigestOf(image.manifest);
    registry.Add("checkpoint", tag, image);
  };
  offer(ReadFile(path, kMostArchiveBytes).value(), "1");
  images::TarEntry link;
  link.name = "config.dump";
  link.type = '2';
  link.link = "/etc/passwd";
  offer(images::MakeTar({link}), "hostile");
  const std::string hostile = name.substr(0, name.size() - 1) + "hostile";
  for (const std::string& image : {name, hostile}) {
    v1::PullImageRequest pull;
    pull.mutable_image()->set_image(image);
    auto pulled = Call(images().PullImage(pull));
    ASSERT_TRUE(pulled.ok()) << pulled.status();
  }
  absl::Status off = Refused(pod, From(name, config));
  EXPECT_EQ(off.code(), absl::StatusCode::kFailedPrecondition) << off;
  EXPECT_THAT(std::string(off.message()), HasSubstr("--restore-from-images"));

  Restart({"--restore-from-images"});
  absl::Status refused = Refused(pod, From(hostile, config));
  EXPECT_TRUE(absl::IsInvalidArgument(refused)) << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("config.dump: is no plain file"));
  auto remove_image = [&](const std::string& image) {
    v1::RemoveImageRequest remove;
    remove.mutable_image()->set_image(image);
    EXPECT_TRUE(Call(images().RemoveImage(remove)).ok());
  };
  // As on another node, whose kubelet knows of one image only: the other is pulled by its digest.
  remove_image(base);
  id = Create(pod, From(name, config));
  EXPECT_EQ(Status(id).image_id(), base);
  EXPECT_EQ(Status(id).image_ref(), base_ref);
  remove_image(name);  // it is needed no more
  remove_image(hostile);
  ASSERT_TRUE(TryStart(id).ok());
  EXPECT_GE(AwaitCount(id, least + 3).front(), least);
  EXPECT_EQ(Containers(), 1u);
  ASSERT_TRUE(Stop(id, 0).ok());
  EXPECT_EQ(Status(id).exit_code(), 137);
  EXPECT_TRUE(env_.RunUntilDone(CloseServer(&registry)).ok());
}

TEST_F(CreateFromCheckpointLiveTest, KillsOfTheServerAreSurvived) {
  const std::string path = dir() + "/a.tar";
  v1::ContainerConfig config = Script("count", kCount);
  std::string pod = RunPod(NetworkPodConfig("from-kill"));
  std::string id = Start(pod, config);
  const int least = AwaitCount(id, 3).back();
  CHECKPOINT_CONTAINER_OR_SKIP(id, path);
  ASSERT_TRUE(Stop(id, 0).ok());
  ASSERT_TRUE(Remove(id).ok());

  // While it is being created: nothing of it is left, and its name is free.
  v1::CreateContainerRequest create;
  create.set_pod_sandbox_id(pod);
  *create.mutable_config() = From(path, config);
  const std::string scratch = live_->paths().state_dir + "/checkpoints";
  auto unpacking = [&] {
    std::error_code error;
    return std::filesystem::exists(scratch, error) && !std::filesystem::is_empty(scratch, error);
  };
  EXPECT_FALSE(KillDuring(runtime().CreateContainer(create), unpacking).ok());
  EXPECT_EQ(Containers(), 0u);

  // Between its creation and its start.
  id = Create(pod, From(path, config));
  Restart();
  EXPECT_EQ(Status(id).state(), v1::CONTAINER_CREATED);
  ASSERT_TRUE(TryStart(id).ok());
  const int most = AwaitCount(id, least + 3).back();
  const int pid = Pid(id);
  Restart();
  EXPECT_EQ(Status(id).state(), v1::CONTAINER_RUNNING);
  EXPECT_EQ(Pid(id), pid);
  AwaitCount(id, most + 3);
  ASSERT_TRUE(Stop(id, 0).ok());
  ASSERT_TRUE(Remove(id).ok());

  // While it is restored: it runs, or has ended; never a second time from the same images.
  id = Create(pod, From(path, config));
  auto restoring = [&] {
    return std::filesystem::exists(StrCat(live_->paths().pods_dir, "/containers/", id, "/restore.log"));
  };
  v1::StartContainerRequest start;
  start.set_container_id(id);
  EXPECT_FALSE(KillDuring(runtime().StartContainer(start), restoring).ok());
  const v1::ContainerStatus status = Status(id);
  if (status.state() == v1::CONTAINER_RUNNING) {
    AwaitCount(id, least + 3);
  } else {
    EXPECT_EQ(status.state(), v1::CONTAINER_EXITED) << v1::ContainerState_Name(status.state());
    EXPECT_EQ(status.reason(), "StartError");
    EXPECT_THAT(status.message(), HasSubstr("the server ended while it was restored"));
  }
  EXPECT_TRUE(std::filesystem::is_empty(live_->paths().state_dir + "/restores"));
  ASSERT_TRUE(Remove(id).ok());
  config.mutable_metadata()->set_attempt(2);
  id = Create(pod, From(path, config));
  ASSERT_TRUE(TryStart(id).ok());
  AwaitCount(id, least + 3);
}

}  // namespace
}  // namespace keelson::cri
