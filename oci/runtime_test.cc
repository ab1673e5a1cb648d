// The pure parts of the runtime driver, and the driver on a FakeEnv whose runc and crun answer with recorded
// text.
#include "oci/runtime.h"

#include <absl/strings/match.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>

#include "base/fake_env.h"
#include "base/process.h"
#include "oci/cgroup_view.h"
#include "oci/io.h"
#include "oci/pause_binary.h"
#include "oci/probe.h"
#include "oci/runtime_errors.h"

namespace keelson::oci {
namespace {

using absl::StatusCode;

// ---- runtime_errors.h: as runc 1.1.5 and crun 1.8.1 wrote it ----

struct ErrorCase {
  const char *runtime, *command, *output;
  StatusCode code;
  const char* message;
};

TEST(RuntimeErrors, BecomeOneVocabulary) {
  const ErrorCase cases[] = {
      {"runc", "create",
       R"(time="2026-11-25T08:14:34Z" level=error msg="runc create failed: unable to start container process: exec: \"/nope\": stat /nope: no such file or directory")",
       StatusCode::kInvalidArgument, "exec: \"/nope\": no such file or directory"},
      {"runc", "exec",
       R"({"level":"error","msg":"exec failed: unable to start container process: exec: \"/nope\": stat /nope: no such file or directory","time":"2026-11-25T08:14:33Z"})",
       StatusCode::kInvalidArgument, "exec: \"/nope\": no such file or directory"},
      {"runc", "exec",
       R"(time="2026-11-25T08:14:33Z" level=error msg="exec failed: unable to start container process: exec: \"nope\": executable file not found in $PATH")",
       StatusCode::kInvalidArgument, "exec: \"nope\": executable file not found in $PATH"},
      {"runc", "create",
       R"(time="2026-11-25T08:14:35Z" level=error msg="runc create failed: unable to start container process: exec: \"/proc\": permission denied")",
       StatusCode::kInvalidArgument, "exec: \"/proc\": permission denied"},
      {"runc", "exec",
       R"(time="2026-11-25T08:14:33Z" level=error msg="exec failed: unable to start container process: chdir to cwd (\"/nodir\") set in config.json failed: no such file or directory")",
       StatusCode::kInvalidArgument, "working directory \"/nodir\": no such file or directory"},
      {"runc", "create",
       R"(time="2026-11-25T08:14:37Z" level=error msg="runc create failed: unable to start container process: error during container init: mkdir /proc/self/fd/8: not a directory")",
       StatusCode::kInvalidArgument, "working directory \"/proc/self/fd/8\": not a directory"},
      {"runc", "create",
       R"(container_linux.go:380: starting container process caused: exec: "/nope": stat /nope: no such file or directory)",
       StatusCode::kInvalidArgument, "exec: \"/nope\": no such file or directory"},
      {"runc", "kill", R"(time="2026-11-25T08:04:03Z" level=error msg="container does not exist")",
       StatusCode::kNotFound, "no such container"},
      {"runc", "kill", R"(time="2026-11-25T08:14:34Z" level=error msg="container not running")",
       StatusCode::kNotFound, "the container has ended"},
      {"runc", "kill",
       R"(time="2026-11-25T08:14:34Z" level=error msg="unable to signal init: invalid argument")",
       StatusCode::kInvalidArgument, "no such signal"},
      {"runc", "pause", R"(time="2026-11-25T08:14:34Z" level=error msg="container not running")",
       StatusCode::kFailedPrecondition, "the container does not run"},
      {"runc", "resume", R"(time="2026-11-25T08:14:34Z" level=error msg="container not paused")",
       StatusCode::kFailedPrecondition, "the container is not paused"},
      {"runc", "exec",
       R"x(time="2026-11-25T08:14:34Z" level=error msg="exec failed: cannot exec in a paused container (use --ignore-paused to override)")x",
       StatusCode::kFailedPrecondition, "the container is paused"},
      {"runc", "exec",
       R"(time="2026-11-25T08:14:34Z" level=error msg="exec failed: cannot exec in a stopped container")",
       StatusCode::kFailedPrecondition, "the container does not run"},
      {"runc", "start",
       R"(time="2026-11-25T08:14:33Z" level=error msg="cannot start an already running container")",
       StatusCode::kFailedPrecondition, "the container was started before"},
      {"runc", "start",
       R"(time="2026-11-25T08:14:34Z" level=error msg="cannot start a container that has stopped")",
       StatusCode::kFailedPrecondition, "the container does not run"},
      {"runc", "create",
       R"(time="2026-11-25T08:14:33Z" level=error msg="runc create failed: container with given ID already exists")",
       StatusCode::kAlreadyExists, "the container exists already"},
      {"runc", "delete",
       R"(time="2026-11-25T08:14:34Z" level=error msg="cannot delete container t1 that is not stopped: running")",
       StatusCode::kFailedPrecondition, "the container still runs"},
      {"runc", "update",
       "time=\"2026-11-25T08:14:34Z\" level=warning msg=\"Setting back cgroup configs failed due to error: "
       "unable to "
       "set memory limit\"\ntime=\"2026-11-25T08:14:34Z\" level=error msg=\"unable to set memory limit to 1 "
       "(current "
       "usage: 274432, peak usage: 2523136)\"\n",
       StatusCode::kFailedPrecondition,
       "the memory limit is below what the container uses: unable to set memory limit to 1 (current usage: "
       "274432, "
       "peak usage: 2523136)"},
      {"runc", "create",
       "time=\"2026-11-25T08:14:38Z\" level=fatal msg=\"nsexec[25778]: failed to update "
       "/proc/self/oom_score_adj: "
       "Permission denied\"\ntime=\"2026-11-25T08:14:38Z\" level=error msg=\"runc create failed: unable to "
       "start "
       "container process: can't get final child's PID from pipe: EOF\"\n",
       StatusCode::kPermissionDenied,
       "a lower oom_score_adj than the server's needs CAP_SYS_RESOURCE: failed to update "
       "/proc/self/oom_score_adj: Permission denied"},
      {"runc", "create",
       R"(time="2026-11-25T08:14:37Z" level=error msg="runc create failed: unable to start container process: error during container init: error mounting \"/nosource\" to rootfs at \"/proc\": stat /nosource: no such file or directory")",
       StatusCode::kInternal,
       "error mounting \"/nosource\" to rootfs at \"/proc\": stat /nosource: no such file or directory"},
      {"crun", "create", "executable file `/nope` not found in $PATH: No such file or directory\n",
       StatusCode::kInvalidArgument, "exec: \"/nope\": no such file or directory"},
      {"crun", "exec",
       R"({"msg":"executable file `nope` not found in $PATH: No such file or directory","level":"error","time":"2026-11-25T08:30:00.000000Z"})",
       StatusCode::kInvalidArgument, "exec: \"nope\": executable file not found in $PATH"},
      {"crun", "exec", "open executable: Operation not permitted\n", StatusCode::kInvalidArgument,
       "exec: operation not permitted"},
      {"crun", "exec", "exec: Exec format error\n", StatusCode::kInvalidArgument, "exec: exec format error"},
      {"crun", "exec", "chdir `/nodir`: No such file or directory\n", StatusCode::kInvalidArgument,
       "working directory \"/nodir\": no such file or directory"},
      {"crun", "kill", "error opening file `/run/s/nope/status`: No such file or directory\n",
       StatusCode::kNotFound, "no such container"},
      {"crun", "delete", "cannot open directory '/run/s/nope': No such file or directory\n",
       StatusCode::kNotFound, "no such container"},
      {"crun", "kill", "kill container: No such process\n", StatusCode::kNotFound, "the container has ended"},
      {"crun", "kill", "send signal to pidfd: Invalid argument\n", StatusCode::kInvalidArgument,
       "no such signal"},
      {"crun", "exec", "setns(pid=25947, CLONE_NEWUSER): No such process\nfail startup\n",
       StatusCode::kFailedPrecondition, "the container does not run"},
      {"crun", "exec", "the container `t1` is not running: No such process\n",
       StatusCode::kFailedPrecondition, "the container does not run"},
      {"crun", "exec", "the container `t1` is paused\n", StatusCode::kFailedPrecondition,
       "the container is paused"},
      {"crun", "start", "cannot open `/run/s/t1/exec.fifo`: No such file or directory\n",
       StatusCode::kFailedPrecondition, "the container was started before"},
      {"crun", "create", "container `t1` already exists\n", StatusCode::kAlreadyExists,
       "the container exists already"},
      {"crun", "delete", "the container `t1` is not in `created` or `stopped` state\n",
       StatusCode::kFailedPrecondition, "the container still runs"},
      {"crun", "update", "writing file `memory.limit_in_bytes`: Device or resource busy\n",
       StatusCode::kFailedPrecondition,
       "the memory limit is below what the container uses: writing file `memory.limit_in_bytes`: Device or "
       "resource "
       "busy"},
      {"crun", "create", "cgroups in hybrid mode not supported, drop all controllers from cgroupv2\n",
       StatusCode::kFailedPrecondition,
       "this runtime wants a mount namespace without the unified cgroup hierarchy: cgroups in hybrid mode "
       "not "
       "supported, drop all controllers from cgroupv2"},
      {"crun", "start", "", StatusCode::kInternal, "failed without a message"},
      {"crun", "start", "one thing\n\nand another\n", StatusCode::kInternal, "one thing; and another"},
  };
  for (const ErrorCase& c : cases) {
    absl::Status status = RuntimeError(c.runtime, c.command, "ID", c.output);
    EXPECT_EQ(status.code(), c.code) << c.output;
    EXPECT_EQ(status.message(), std::string(c.runtime) + " " + c.command + " ID: " + c.message) << c.output;
  }
}

TEST(RuntimeErrors, MessageIsBounded) {
  std::string long_line(1 << 20, 'x');
  EXPECT_EQ(RuntimeMessage(long_line).size(), kMaxRuntimeMessageBytes);
  EXPECT_EQ(RuntimeMessage("time=\"x\" level=warning msg=\"only that\"\n"), "");
}

TEST(SyncMessage, IsReadAsConmonWritesIt) {
  struct {
    const char* line;
    int value;
    const char* message;
  } const cases[] = {
      {"{\"data\": 4711}", 4711, ""},
      {"{\"pid\": 12}", 12, ""},
      {R"({"data": -1, "message": "time=\"x\" level=error msg=\"a\"\n\tb\u007fc \\d"})", -1,
       "time=\"x\" level=error msg=\"a\"\n\tb\x7f"
       "c \\d"},
      {"{\"data\": -1, \"message\": \"not \xff utf-8\"}", -1, "not \xff utf-8"},
      {"{\"data\": -1, \"message\": \"cut off", -1, "cut off"},
      {"{\"data\": -1, \"message\": ", -1, ""},
      {R"({"data":-1,"message":"\/run \u00e4 \u20ac \u12"})", -1, "/run \xc3\xa4 \xe2\x82\xac u12"},
  };
  for (const auto& c : cases) {
    auto got = ParseSyncMessage(c.line);
    ASSERT_TRUE(got.ok()) << c.line;
    EXPECT_EQ(got->value, c.value) << c.line;
    EXPECT_EQ(got->message, c.message) << c.line;
  }
  for (const char* bad : {"", "{}", "{\"data\": }", "{\"data\": \"1\"}", "{\"data\": 99999999999}"}) {
    EXPECT_FALSE(ParseSyncMessage(bad).ok()) << bad;
  }
  EXPECT_TRUE(
      absl::IsResourceExhausted(ParseSyncMessage(std::string(kMaxSyncMessageBytes + 1, ' ')).status()));
}

// ---- vulnerabilities.cc ----

bool Has(const std::string& name, const std::string& version, const std::string& cve) {
  for (const std::string& line : KnownVulnerabilities(name, version)) {
    if (absl::StrContains(line, name + " " + version + ": " + cve)) return true;
  }
  return false;
}

TEST(Vulnerabilities, FollowTheVersion) {
  struct {
    const char *name, *version, *cve;
    bool affected;
  } const cases[] = {
      {"runc", "1.0.0-rc6", "CVE-2019-5736", true},
      {"runc", "1.0.0-rc7", "CVE-2019-5736", false},
      {"runc", "1.0.0", "CVE-2019-5736", false},
      {"runc", "1.1.5+ds1", "CVE-2019-5736", false},
      // Debian 12 repaired this one, and this one only, under the old number.
      {"runc", "1.1.5+ds1", "CVE-2024-21626", true},
      {"runc", "1.1.5+ds1-1+deb12u1", "CVE-2024-21626", false},
      {"runc", "1.1.5+ds1-1+deb12u1", "CVE-2025-31133", true},
      {"runc", "1.1.5+ds1-1+deb12u1", "CVE-2025-52565", true},
      {"runc", "1.1.5+ds1-1+deb12u1", "CVE-2025-52881", true},
      {"runc", "1.1.11", "CVE-2024-21626", true},
      {"runc", "1.1.12", "CVE-2024-21626", false},
      {"runc", "1.0.0-rc92", "CVE-2024-21626", false},
      {"runc", "1.0.0-rc93", "CVE-2024-21626", true},
      {"runc", "1.1.12", "CVE-2025-31133", true},
      {"runc", "1.2.7", "CVE-2025-31133", true},
      {"runc", "1.2.8", "CVE-2025-31133", false},
      {"runc", "1.3.2", "CVE-2025-52881", true},
      {"runc", "1.3.3", "CVE-2025-52881", false},
      {"runc", "1.4.0-rc.2", "CVE-2025-52565", true},
      {"runc", "1.4.0-rc.3", "CVE-2025-52565", false},
      {"runc", "1.4.0", "CVE-2025-52565", false},
      {"runc", "1.3.5", "CVE-2026-41579", true},
      {"runc", "1.3.6", "CVE-2026-41579", false},
      {"runc", "1.2.0-rc.2", "CVE-2024-45310", true},
      {"runc", "1.2.0", "CVE-2024-45310", false},
      {"crun", "0.10.4", "CVE-2019-18837", true},
      {"crun", "1.4.3", "CVE-2022-27650", true},
      {"crun", "1.8.1", "CVE-2022-27650", false},
      {"crun", "1.8.1", "CVE-2025-24965", true},
      {"crun", "1.20", "CVE-2025-24965", false},
      {"crun", "1.8.1", "CVE-2026-30892", false},
      {"crun", "1.19", "CVE-2026-30892", true},
      {"crun", "1.8.1", "CVE-2025-31133", false},
      {"crun", "1.8.1", "CVE-2024-21626", false},
  };
  for (const auto& c : cases)
    EXPECT_EQ(Has(c.name, c.version, c.cve), c.affected) << c.name << c.version << c.cve;
  EXPECT_TRUE(KnownVulnerabilities("crun", "9.0").empty());
  EXPECT_TRUE(KnownVulnerabilities("runc", "").empty());
  EXPECT_TRUE(KnownVulnerabilities("youki", "0.0.1").empty());
}

// ---- probe.h ----

TEST(Probe, Version) {
  EXPECT_EQ(
      *ParseRuntimeVersion("runc", "runc version 1.1.5+ds1\ncommit: 1.1.5+ds1-1+deb12u1\nspec: 1.0.2-dev\n"),
      "1.1.5+ds1-1+deb12u1");
  EXPECT_EQ(*ParseRuntimeVersion("runc", "runc version 1.3.3\ncommit: v1.3.3-0-gd842d771\nspec: 1.2.1\n"),
            "1.3.3");
  EXPECT_EQ(*ParseRuntimeVersion("crun", "crun version 1.8.1\ncommit: f8a096be\nrundir: /run/crun\n"),
            "1.8.1");
  EXPECT_FALSE(ParseRuntimeVersion("crun", "runc version 1.1.5\n").ok());
  EXPECT_FALSE(ParseRuntimeVersion("crun", "crun version UNKNOWN\n").ok());
  EXPECT_FALSE(ParseRuntimeVersion("crun", "").ok());
}

TEST(Probe, Features) {
  EXPECT_TRUE(ListsSeccompNotify(
      R"({"linux":{"seccomp":{"enabled":true,"actions":["SCMP_ACT_LOG","SCMP_ACT_NOTIFY"]}}})"));
  EXPECT_FALSE(ListsSeccompNotify(R"({"linux":{"seccomp":{"enabled":true,"actions":["SCMP_ACT_LOG"]}}})"));
  EXPECT_FALSE(ListsSeccompNotify("unknown command"));
  EXPECT_FALSE(ListsSeccompNotify(R"({"linux":[]})"));

  const std::string ro = "10 1 0:6 / /ro ro,relatime - devtmpfs devtmpfs rw\n";
  const std::string pts = "11 10 0:7 / /ro/pts ro,relatime - devpts devpts rw\n";
  const std::string pts_rw = "11 10 0:7 / /ro/pts rw,relatime - devpts devpts rw\n";
  const std::string id = "12 1 8:1 /x /id rw,relatime,idmapped - ext4 /dev/vda rw\n";
  const std::string other = "13 1 8:1 /x /root rw,relatime - ext4 /dev/vda rw\nshort line\n\n";
  EXPECT_TRUE(FeaturesOfTrial(ro + pts + other).recursive_read_only);
  EXPECT_FALSE(FeaturesOfTrial(ro + pts_rw).recursive_read_only);
  EXPECT_FALSE(FeaturesOfTrial(other).recursive_read_only);
  EXPECT_TRUE(FeaturesOfTrial(ro + id).idmapped_mounts);
  EXPECT_FALSE(FeaturesOfTrial("12 1 8:1 /x /id rw,relatime - ext4 /dev/vda rw\n").idmapped_mounts);
}

TEST(Probe, RecordRoundTrip) {
  ProbeResult result{"1.1.5+ds1", {true, false, true}};
  auto back = DecodeProbe(EncodeProbe(result));
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(EncodeProbe(*back), EncodeProbe(result));
  EXPECT_FALSE(DecodeProbe("version=1\n").ok());
  EXPECT_FALSE(DecodeProbe("").ok());
}

TEST(Probe, FindsPrograms) {
  EXPECT_EQ(*FindProgram("/bin/sh"), "/bin/sh");
  EXPECT_TRUE(FindProgram("sh").ok());
  EXPECT_TRUE(absl::IsNotFound(FindProgram("keelson-no-such-program").status()));
  EXPECT_FALSE(FindProgram("/no/such").ok());
}

// ---- io.h, cgroup_view.h, pause_binary.h ----

TEST(Io, StartTicks) {
  EXPECT_EQ(
      ParseProcessFacts("42 (a) b (c)) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1000 200\n")
          ->start_ticks,
      98765u);
  EXPECT_FALSE(ParseProcessFacts("").ok());
  EXPECT_FALSE(ParseProcessFacts("42 (a) S 1 2").ok());
  EXPECT_TRUE(ProcessStartTicks(::getpid()).ok());
  EXPECT_TRUE(absl::IsNotFound(ProcessStartTicks(1 << 30).status()));
}

TEST(Io, Ids) {
  for (const char* good : {"a", "0123abc", "A_b.c-d"}) EXPECT_TRUE(CheckId(good).ok()) << good;
  for (const char* bad : {"", "-a", ".", "..", "a/b", "a b", "a\n", "\xc3\xa4"})
    EXPECT_FALSE(CheckId(bad).ok()) << bad;
  EXPECT_FALSE(CheckId(std::string(kMaxIdBytes + 1, 'a')).ok());
}

TEST(CgroupView, FindsWhatToUnmount) {
  const char* hybrid =
      "27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
      "31 23 0:28 / /sys/fs/cgroup rw,relatime shared:9 - tmpfs tmpfs rw\n"
      "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n"
      "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime master:2 - cgroup2 cgroup2 rw\n";
  CgroupMounts mounts = FindCgroupMounts(hybrid);
  EXPECT_TRUE(mounts.hybrid);
  EXPECT_TRUE(mounts.root_shared);
  EXPECT_EQ(mounts.unified, "/sys/fs/cgroup/unified");
  EXPECT_EQ(mounts.parent, "/sys/fs/cgroup");
  // Only v2, only v1, and a root mounted over by a private one.
  EXPECT_FALSE(
      FindCgroupMounts("27 1 0:1 / / rw - ext4 a rw\n28 27 0:2 / /sys/fs/cgroup rw - cgroup2 c rw\n").hybrid);
  EXPECT_FALSE(
      FindCgroupMounts("27 1 0:1 / / rw - ext4 a rw\n28 27 0:2 / /sys/fs/cgroup/cpu rw - cgroup c rw\n")
          .hybrid);
  EXPECT_FALSE(
      FindCgroupMounts("1 1 0:1 / / rw shared:1 - rootfs r rw\n2 1 0:2 / / rw - ext4 a rw\n").root_shared);
  EXPECT_FALSE(FindCgroupMounts("").hybrid);
}

TEST(PauseBinary, IsAStaticProgram) {
  EXPECT_TRUE(absl::StartsWith(std::string(PauseBinary().substr(0, 4)),
                               "\x7f"
                               "ELF"));
  EXPECT_LT(PauseBinary().size(), 16u << 10);
}

// ---- the driver ----

class DriverTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/keelson-test-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    root_ = name;
    env_.set_run_handler([this](const SubprocessOptions& options) { return Answer(options); });
  }
  void TearDown() override { EXPECT_TRUE(RemoveTree(root_).ok()); }

  absl::StatusOr<SubprocessResult> Answer(const SubprocessOptions& options) {
    std::string line;
    for (size_t i = 1; i < options.argv.size(); ++i) line += (i > 1 ? " " : "") + options.argv[i];
    lines_.push_back(line);
    SubprocessResult out;
    out.exit_code = 0;
    if (line == "--version") {
      out.stdout_data = "crun version 1.8.1\n+SYSTEMD +SECCOMP\n";
    } else if (line == "features" || absl::StrContains(line, " create ")) {
      out.exit_code = 1;
      out.stderr_data = "unknown command\n";
    } else {
      out.exit_code = exit_code_;
      out.stderr_data = stderr_;
      out.stdout_data = stdout_;
    }
    return out;
  }

  std::unique_ptr<OciRuntime> Open(bool systemd = false) {
    RuntimeOptions options;
    options.name = "crun";
    options.path = "/bin/true";
    options.state_dir = root_ + "/state";
    options.run_dir = root_ + "/run";
    options.cache_dir = root_ + "/cache";
    options.systemd_cgroup = systemd;
    auto runtime = env_.Await(OpenRuntime(&env_, options));
    EXPECT_TRUE(runtime.ok()) << runtime.status();
    lines_.clear();
    return *std::move(runtime);
  }

  FakeEnv env_;
  std::string root_;
  std::vector<std::string> lines_;
  int exit_code_ = 0;
  std::string stdout_, stderr_;
};

TEST_F(DriverTest, ProbeFailureLeavesFeaturesOffAndNothingBehind) {
  auto runtime = Open();
  EXPECT_EQ(runtime->version(), "1.8.1");
  EXPECT_FALSE(runtime->features().recursive_read_only);
  EXPECT_FALSE(runtime->features().idmapped_mounts);
  EXPECT_TRUE(runtime->features().seccomp_notify);
  EXPECT_TRUE(std::filesystem::is_empty(root_ + "/run"));
  EXPECT_FALSE(std::filesystem::exists(root_ + "/cache")) << "a failed trial is not remembered";
}

TEST_F(DriverTest, CommandLines) {
  auto runtime = Open();
  std::string global = "--root " + root_ + "/state ";
  std::filesystem::create_directory(root_ + "/state/c1");
  EXPECT_TRUE(env_.Await(runtime->Start("c1")).ok());
  EXPECT_TRUE(env_.Await(runtime->Kill("c1", 15)).ok());
  EXPECT_TRUE(env_.Await(runtime->Delete("c1", false)).ok());
  EXPECT_TRUE(env_.Await(runtime->Delete("c1", true)).ok());
  EXPECT_TRUE(env_.Await(runtime->Pause("c1")).ok());
  EXPECT_TRUE(env_.Await(runtime->Resume("c1")).ok());
  EXPECT_EQ(lines_, (std::vector<std::string>{global + "start c1", global + "kill c1 15",
                                              global + "delete c1", global + "delete --force c1",
                                              global + "pause c1", global + "resume c1"}));
  lines_.clear();
  EXPECT_TRUE(env_.Await(runtime->Update("c1", "{}")).ok());
  ASSERT_EQ(lines_.size(), 1u);
  EXPECT_TRUE(absl::StartsWith(lines_[0], global + "update --resources " + root_ + "/run/"));
  EXPECT_TRUE(std::filesystem::is_empty(root_ + "/run"));
  EXPECT_EQ(Open(true)->global_arguments(),
            (std::vector<std::string>{"--root", root_ + "/state", "--systemd-cgroup"}));
}

TEST_F(DriverTest, RefusesNamesThatAreOptionsOrPaths) {
  auto runtime = Open();
  for (const char* id : {"--all", "../x", ""}) {
    EXPECT_TRUE(absl::IsInvalidArgument(env_.Await(runtime->Start(id))));
    EXPECT_TRUE(absl::IsInvalidArgument(env_.Await(runtime->Exec(id, {})).status()));
  }
  EXPECT_TRUE(lines_.empty());
}

TEST_F(DriverTest, State) {
  auto runtime = Open();
  stdout_ = R"({"ociVersion":"1.0.0","id":"c1","pid":25947,"status":"running","systemd-scope":""})";
  auto state = env_.Await(runtime->State("c1"));
  ASSERT_TRUE(state.ok());
  EXPECT_EQ(state->status, "running");
  EXPECT_EQ(state->pid, 25947);
  stdout_ = R"({"pid":25947,"status":"stopped"})";
  EXPECT_EQ(env_.Await(runtime->State("c1"))->pid, 0);
  for (const char* bad : {"", "[]", R"({"pid":1})", R"({"pid":"1","status":"running"})"}) {
    stdout_ = bad;
    EXPECT_TRUE(absl::IsInternal(env_.Await(runtime->State("c1")).status())) << bad;
  }
}

TEST_F(DriverTest, Errors) {
  auto runtime = Open();
  exit_code_ = 1;
  stderr_ = "error opening file `/run/s/c1/status`: No such file or directory\n";
  EXPECT_TRUE(absl::IsNotFound(env_.Await(runtime->Kill("c1", 9))));
  EXPECT_TRUE(absl::IsNotFound(env_.Await(runtime->State("c1")).status()));
  lines_.clear();
  EXPECT_TRUE(env_.Await(runtime->Delete("c1", false)).ok()) << "gone is success";
  EXPECT_TRUE(lines_.empty()) << "no state, no process to ask";
  std::filesystem::create_directory(root_ + "/state/c1");
  EXPECT_TRUE(env_.Await(runtime->Delete("c1", false)).ok()) << "gone meanwhile is success";
  EXPECT_EQ(lines_.size(), 1u);
  stderr_ = "the container `c1` is not in `created` or `stopped` state\n";
  EXPECT_TRUE(absl::IsFailedPrecondition(env_.Await(runtime->Delete("c1", false))));
}

TEST(OpenRuntimeTest, RefusesOthers) {
  FakeEnv env;
  RuntimeOptions options;
  options.name = "youki";
  EXPECT_TRUE(absl::IsInvalidArgument(env.Await(OpenRuntime(&env, options)).status()));
  options.name = "crun";
  options.path = "/no/such/crun";
  EXPECT_TRUE(absl::IsNotFound(env.Await(OpenRuntime(&env, options)).status()));
}

}  // namespace
}  // namespace keelson::oci
