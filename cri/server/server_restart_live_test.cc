// What a restarted server says of a start that an earlier one began, while it cannot ask the OCI runtime.
// Under cri/testing/with_keelson_cri with --no-server.
#include <absl/strings/str_split.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>

#include "base/fd.h"
#include "cri/testing/live_test.h"

namespace keelson::cri {
namespace {

using testing::HasSubstr;

constexpr char kBlind[] = "it does not see";

// The OCI runtime of the server is a script: the true one, which at the test's word waits before it starts a
// container, or does not answer how one is.
class ServerRestartLiveTest : public LiveTest {
 protected:
  void SetUp() override {
    char pattern[] = "/tmp/keelson-runtime-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern), nullptr);
    folder_ = pattern;
    const char* path = std::getenv("PATH");
    path_ = path != nullptr ? path : "";
    for (const char* name : {"crun", "runc"}) Wrap(name);
    ASSERT_EQ(::setenv("PATH", StrCat(folder_, ":", path_).c_str(), 1), 0);
    LiveTest::SetUp();
    if (live_ == nullptr || HasFailure()) return;
    if (!live_->Own()) GTEST_SKIP() << "runs with --no-server";
  }
  void TearDown() override {
    LiveTest::TearDown();
    ::setenv("PATH", path_.c_str(), 1);
    std::error_code error;
    std::filesystem::remove_all(folder_, error);
  }
  void Wrap(const std::string& name) {
    const std::string script =
        StrCat("#!/bin/sh\ncd ", folder_, "\nfor word in \"$@\"; do\n  case $word in\n",
               "    start) if [ -p hold ]; then : >reached; read -r line <hold; fi ;;\n",
               "    state) if [ -e blind ]; then echo '", kBlind, "' >&2; exit 1; fi ;;\n",
               "  esac\ndone\nexec ", True(name), " \"$@\"\n");
    ASSERT_TRUE(WriteFileAtomic(StrCat(folder_, "/", name), script, 0755, false).ok());
  }
  std::string True(const std::string& name) {
    for (absl::string_view folder : absl::StrSplit(path_, ':', absl::SkipEmpty())) {
      std::string path = StrCat(Sv(folder), "/", name);
      if (std::filesystem::exists(path)) return path;
    }
    return "false";  // this host has the other alone
  }
  bool Exists(const std::string& name) { return std::filesystem::exists(StrCat(folder_, "/", name)); }
  // A container whose start goes on without the server that began it, and the next one cannot see how far it
  // came, until See().
  std::string CutStart(const std::string& pod) {
    const std::string id = Create(pod, Script("c", StrCat("echo ran; ", kForever)));
    EXPECT_EQ(::mkfifo(Path("hold").c_str(), 0600), 0);
    v1::StartContainerRequest start;
    start.set_container_id(id);
    auto cut = KillDuring(
        runtime().StartContainer(start), [&] { return Exists("reached"); },
        [&] {
          EXPECT_TRUE(WriteFileAtomic(Path("blind"), "", 0600, false).ok());
          Fd hold = OpenFile(Path("hold"), O_RDWR).value();
          EXPECT_EQ(::unlink(Path("hold").c_str()), 0);
          EXPECT_TRUE(WriteAll(hold.get(), "go on\n").ok());
        });
    EXPECT_FALSE(cut.ok());
    EXPECT_EQ(Status(id).state(), v1::CONTAINER_UNKNOWN);
    return id;
  }
  void See() { EXPECT_EQ(::unlink(Path("blind").c_str()), 0); }
  v1::ContainerStatus WaitStopped(const std::string& id) {
    EXPECT_TRUE(Stop(id, 0).ok());
    return Status(id);
  }
  std::string Path(const std::string& name) { return StrCat(folder_, "/", name); }

 private:
  std::string folder_, path_;
};

TEST_F(ServerRestartLiveTest, AStartOfWhichNothingIsKnownIsUnknownAndNeverHappensTwice) {
  const std::string pod = RunPod(PodConfig("restart"));
  const std::string id = CutStart(pod);
  v1::ListContainersRequest list;
  list.mutable_filter()->mutable_state()->set_state(v1::CONTAINER_UNKNOWN);
  auto unknown = Call(runtime().ListContainers(list));
  ASSERT_TRUE(unknown.ok() && unknown->containers_size() == 1);
  EXPECT_EQ(unknown->containers(0).id(), id);
  EXPECT_EQ(unknown->containers(0).state(), v1::CONTAINER_UNKNOWN);
  absl::Status again = TryStart(id);
  EXPECT_TRUE(absl::IsFailedPrecondition(again)) << again;
  EXPECT_THAT(std::string(again.message()), HasSubstr("CONTAINER_UNKNOWN"));
  EXPECT_EQ(PodStatus(pod).state(), v1::SANDBOX_READY);
  EXPECT_TRUE(Eventually([&] { return Log(id) == "ran\n"; })) << Log(id);
  EXPECT_EQ(Status(id).state(), v1::CONTAINER_UNKNOWN);
  // It is asked again and again.
  See();
  EXPECT_TRUE(Eventually([&] { return Status(id).state() == v1::CONTAINER_RUNNING; }));
  EXPECT_EQ(Log(id), "ran\n");
  EXPECT_EQ(WaitStopped(id).exit_code(), 137);
  EXPECT_EQ(Log(id), "ran\n");
}

// A kubelet stops what is unknown before it makes it anew.
TEST_F(ServerRestartLiveTest, WhatIsUnknownIsStoppedOrSaidNotToBe) {
  const std::string id = CutStart(RunPod(PodConfig("restart")));
  EXPECT_TRUE(Eventually([&] { return Log(id) == "ran\n"; })) << Log(id);
  for (const absl::Status& status : {Stop(id, 0), Remove(id)}) {
    EXPECT_FALSE(status.ok());
    EXPECT_THAT(std::string(status.message()), HasSubstr(kBlind));
  }
  EXPECT_EQ(Status(id).state(), v1::CONTAINER_UNKNOWN);
  See();
  EXPECT_EQ(WaitStopped(id).exit_code(), 137);
  EXPECT_EQ(Log(id), "ran\n");
}

// Killed before it told, or of an older version: systemd would take the limit back at its next reload.
TEST_F(ServerRestartLiveTest, SystemdIsToldOfLimitsThatItDoesNotKnow) {
  if (!live_->paths().systemd) GTEST_SKIP() << "the cgroups are not systemd's";
  constexpr int64_t kMemory = 32 << 20;
  v1::ContainerConfig config = Script("limits", kForever);
  config.mutable_linux()->mutable_resources()->set_memory_limit_in_bytes(kMemory);
  const std::string id = Start(RunPod(PodConfig("restart")), config);
  const std::string scope = StrCat("keelson-", id, ".scope");
  auto systemctl = [&](std::vector<std::string> words) {
    SubprocessOptions options;
    options.argv = std::move(words);
    options.argv.insert(options.argv.begin(), "systemctl");
    absl::StatusOr<SubprocessResult> result = Call(env_.subprocess().Run(options));
    EXPECT_TRUE(result.ok() && result->ok()) << options.argv[1];
    return result.ok() ? result->stdout_data : "";
  };
  auto known = [&] { return systemctl({"show", "--property=MemoryMax", "--value", scope}); };
  EXPECT_EQ(known(), StrCat(kMemory, "\n"));
  systemctl({"set-property", "--runtime", scope, "MemoryMax=infinity"});
  EXPECT_EQ(known(), "infinity\n");
  EXPECT_TRUE(env_.RunUntilDone(live_->Kill()).ok());
  SpawnServer();
  EXPECT_TRUE(Eventually([&] { return known() == StrCat(kMemory, "\n"); })) << known();
  EXPECT_EQ(ReadFile(StrCat("/sys/fs/cgroup/", live_->CgroupOf("", id), "/memory.max")).value_or(""),
            StrCat(kMemory, "\n"));
}

}  // namespace
}  // namespace keelson::cri
