// Containers of runc and crun under conmon, on the real kernel. The whole test runs in a mount namespace of
// its own, in the cgroup view the server has; cgroups are keelson-test-<pid>/*, files below
// /tmp/keelson-test-*.
#include <absl/strings/match.h>
#include <absl/strings/str_split.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "base/log.h"
#include "base/process.h"
#include "base/status.h"
#include "cgroups/manager.h"
#include "oci/attach_client.h"
#include "oci/cgroup_view.h"
#include "oci/io.h"
#include "oci/monitor.h"
#include "oci/pause_binary.h"
#include "oci/probe.h"
#include "oci/runtime.h"

namespace keelson::oci {
namespace {

namespace fs = std::filesystem;

const std::string& Cgroup() {
  static const auto* const name = new std::string(StrCat("keelson-test-", ::getpid()));
  return *name;
}

template <class T>
Task<absl::Status> StoreInto(Task<T> task, std::optional<T>* out) {
  T value = co_await std::move(task);
  out->emplace(std::move(value));
  co_return absl::OkStatus();
}

Task<absl::Status> PollUntil(Env* env, std::function<bool()> done, bool* result) {
  for (int i = 0; i < 4000 && !done(); ++i) {
    Task<void> pause = env->clock().Sleep(absl::Milliseconds(2));
    co_await std::move(pause);
  }
  *result = done();
  co_return absl::OkStatus();
}

struct Pipe {
  Fd read_end, write_end;
  Pipe() {
    int fds[2];
    if (::pipe2(fds, O_CLOEXEC) == 0) {
      read_end = Fd(fds[0]);
      write_end = Fd(fds[1]);
    }
  }
  std::string ReadAll() {
    write_end.reset();
    return ReadFd(read_end.get(), 16 << 20).value_or("");
  }
};

std::string Quoted(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) {
    StrAppend(&out, out.empty() ? "\"" : ",\"");
    for (char c : word) {
      if (c == '"' || c == '\\') out.push_back('\\');
      out.push_back(c);
    }
    out.push_back('"');
  }
  return "[" + out + "]";
}

struct Shape {
  bool tty = false;
  std::string cwd = "/";
  std::string resources = "{}";
  int uid = 0;
  bool host_pid = false;
};

std::string ProcessJson(const std::vector<std::string>& command, const Shape& shape) {
  return StrCat(R"({"terminal":)", shape.tty ? "true" : "false", R"(,"user":{"uid":)", shape.uid,
                R"(,"gid":)", shape.uid, R"(},"cwd":")", shape.cwd,
                R"(","env":["PATH=/bin"],"noNewPrivileges":true,"args":)", Quoted(command), "}");
}

class LiveTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root";
    if (!FindProgram(GetParam()).ok()) GTEST_SKIP() << GetParam() << " is not installed";
    if (!FindProgram("conmon").ok()) GTEST_SKIP() << "conmon is not installed";
    if (::access("/bin/busybox", X_OK) != 0) GTEST_SKIP() << "busybox-static is not installed";
    char name[] = "/tmp/keelson-test-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    root_ = name;
    MakeRootfs();
    OpenAll();
  }
  void TearDown() override {
    for (const std::string& id : made_) {
      EXPECT_TRUE(Await(runtime_->Delete(id, true)).ok());
      MonitoredProcess process = processes_[id];
      EXPECT_TRUE(Until([&] {
        return process.monitor_pid == 0 || Gone(process.monitor_pid, process.monitor_start_ticks);
      })) << id
          << ": the monitor stays";
      monitor_->Forget(id);
    }
    monitor_.reset();
    runtime_.reset();
    if (root_.empty()) return;
    auto cgroups = cgroups::NewHostManager();
    if (cgroups.ok() && cgroups_used_) {
      absl::Status gone;
      Until([&] { return (gone = (*cgroups)->Destroy(Cgroup())).ok(); });
      EXPECT_TRUE(gone.ok()) << gone;
    }
    absl::Status removed = RemoveTree(root_);
    EXPECT_TRUE(removed.ok()) << removed;
  }

  void MakeRootfs() {
    std::string bin = root_ + "/rootfs/bin";
    for (const char* dir : {"/rootfs/bin", "/rootfs/proc", "/rootfs/dev", "/rootfs/tmp", "/logs", "/b"}) {
      ASSERT_TRUE(MakeDirs(root_ + dir).ok());
    }
    fs::copy_file("/bin/busybox", bin + "/busybox");
    for (const char* name : {"sh", "sleep", "cat", "ls", "echo", "id", "kill", "stty", "head", "wc", "dd",
                             "tail", "readlink", "pwd", "true", "yes", "seq", "tty"}) {
      fs::create_symlink("busybox", bin + "/" + name);
    }
  }

  void OpenAll() {
    RuntimeOptions options;
    options.name = GetParam();
    options.state_dir = root_ + "/state";
    options.run_dir = root_ + "/run";
    options.cache_dir = root_ + "/cache";
    auto runtime = Await(OpenRuntime(&env_, options));
    ASSERT_TRUE(runtime.ok()) << runtime.status();
    runtime_ = *std::move(runtime);
    auto monitor = NewConmonMonitor(env_, {"conmon", root_ + "/mon"});
    ASSERT_TRUE(monitor.ok()) << monitor.status();
    monitor_ = *std::move(monitor);
    ASSERT_TRUE(monitor_
                    ->WatchExits([this](const std::string& id, const ContainerExit& exit) {
                      exits_[id] = exit;
                      seen_at_[id] = env_.clock().Now();
                    })
                    .ok());
  }

  template <class T>
  T Await(Task<T> task) {
    std::optional<T> out;
    absl::Status ran = env_.RunUntilDone(StoreInto<T>(std::move(task), &out));
    KEELSON_CHECK(ran.ok() && out.has_value(), "task ended early: ", ran.ToString());
    return *std::move(out);
  }
  bool Until(std::function<bool()> done) {
    bool result = false;
    (void)env_.RunUntilDone(PollUntil(&env_, std::move(done), &result));
    return result;
  }
  static bool Gone(int pid, uint64_t ticks) {
    auto now = ProcessStartTicks(pid);
    return !now.ok() || *now != ticks;
  }

  std::string Bundle(const std::string& id) const { return root_ + bundles_ + id; }
  std::string LogPath(const std::string& id) const { return root_ + "/logs/" + id + ".log"; }
  std::string Log(const std::string& id) const { return ReadFile(LogPath(id)).value_or(""); }

  std::string ConfigJson(const std::string& id, const std::vector<std::string>& command, const Shape& shape) {
    return StrCat(
        R"({"ociVersion":"1.0.2","process":)", ProcessJson(command, shape), R"(,"root":{"path":")", root_,
        R"(/rootfs"},"hostname":"test","mounts":[{"destination":"/proc","type":"proc","source":"proc"},)",
        R"({"destination":"/dev","type":"tmpfs","source":"tmpfs","options":["nosuid","mode=755"]},)",
        R"({"destination":"/dev/pts","type":"devpts","source":"devpts","options":["newinstance","ptmxmode=0666"]}],)",
        R"("linux":{"cgroupsPath":"/)", Cgroup(), "/", id, R"(","resources":)", shape.resources,
        R"(,"namespaces":[)", shape.host_pid ? "" : R"({"type":"pid"},)",
        R"({"type":"mount"},{"type":"ipc"},{"type":"uts"},{"type":"network"}]}})");
  }

  absl::StatusOr<MonitoredProcess> Create(const std::string& id, const std::vector<std::string>& command,
                                          const Shape& shape = {}, MonitorOptions options = {}) {
    cgroups_used_ = true;
    RETURN_IF_ERROR(MakeDirs(Bundle(id)));
    RETURN_IF_ERROR(WriteFileAtomic(Bundle(id) + "/config.json", ConfigJson(id, command, shape)));
    options.id = id;
    options.name = id;
    options.bundle_dir = Bundle(id);
    options.log_path = options.log_path == "none" ? "" : LogPath(id);
    options.tty = shape.tty;
    auto created = Await(monitor_->Create(runtime_.get(), options));
    if (created.ok()) {
      made_.push_back(id);
      processes_[id] = *created;
    }
    return created;
  }
  void Run(const std::string& id, const std::vector<std::string>& command, const Shape& shape = {},
           MonitorOptions options = {}) {
    auto created = Create(id, command, shape, options);
    ASSERT_TRUE(created.ok()) << created.status();
    absl::Status started = Await(runtime_->Start(id));
    ASSERT_TRUE(started.ok()) << started;
  }
  bool Ended(const std::string& id) {
    return Until([&] { return exits_.count(id) != 0; });
  }

  struct Output {
    absl::Status status;
    int exit_code = -1;
    std::string out, err;
  };
  Output Exec(const std::string& id, const std::vector<std::string>& command, std::string input = "",
              const Shape& shape = {}) {
    Pipe in, out, err;
    ExecOptions options;
    options.process_json = ProcessJson(command, shape);
    options.stdin_fd = in.read_end.get();
    options.stdout_fd = out.write_end.get();
    options.stderr_fd = err.write_end.get();
    Output result;
    auto process = Await(runtime_->Exec(id, options));
    in.read_end.reset();
    if (!process.ok()) {
      result.status = process.status();
      return result;
    }
    EXPECT_TRUE(WriteAll(in.write_end.get(), input).ok());
    in.write_end.reset();
    auto code = Await((*process)->Wait());
    EXPECT_TRUE(code.ok());
    result.exit_code = code.value_or(-1);
    result.out = out.ReadAll();
    result.err = err.ReadAll();
    return result;
  }

  RealEnv env_{Paths()};
  std::string root_;
  std::string bundles_ = "/b/";
  std::unique_ptr<OciRuntime> runtime_;
  std::unique_ptr<ContainerMonitor> monitor_;
  std::vector<std::string> made_;
  std::map<std::string, MonitoredProcess> processes_;
  std::map<std::string, ContainerExit> exits_;
  std::map<std::string, absl::Time> seen_at_;
  bool cgroups_used_ = false;
};

std::vector<std::string> Shell(const std::string& script) { return {"/bin/sh", "-c", script}; }

// "2026-01-02T03:04:05.123456789+00:00 stdout F text" -> "stdout F text"
std::vector<std::string> LogLines(const std::string& log) {
  std::vector<std::string> out;
  for (absl::string_view line : absl::StrSplit(log, '\n', absl::SkipEmpty())) {
    std::pair<absl::string_view, absl::string_view> parts = absl::StrSplit(line, absl::MaxSplits(' ', 1));
    absl::Time time;
    EXPECT_TRUE(absl::ParseTime(absl::RFC3339_full, parts.first, &time, nullptr)) << line;
    out.emplace_back(parts.second);
  }
  return out;
}

TEST_P(LiveTest, RunsToItsExitAndLogsInCriFormat) {
  auto created = Create("c1", Shell("echo out; echo err >&2; printf part; exit 3"));
  ASSERT_TRUE(created.ok()) << created.status();
  EXPECT_GT(created->pid, 0);
  EXPECT_EQ(ProcessStartTicks(created->pid).value_or(0), created->pid_start_ticks);
  EXPECT_EQ(ProcessStartTicks(created->monitor_pid).value_or(0), created->monitor_start_ticks);
  auto state = Await(runtime_->State("c1"));
  ASSERT_TRUE(state.ok()) << state.status();
  EXPECT_EQ(state->status, "created");
  EXPECT_EQ(state->pid, created->pid);
  EXPECT_FALSE(monitor_->ReadExit("c1").has_value());

  absl::Time before = env_.clock().Now();
  ASSERT_TRUE(Await(runtime_->Start("c1")).ok());
  ASSERT_TRUE(Ended("c1"));
  EXPECT_EQ(exits_["c1"].exit_code, 3);
  EXPECT_FALSE(exits_["c1"].oom_killed);
  EXPECT_GE(exits_["c1"].finished_at, before - absl::Milliseconds(20));
  EXPECT_LE(exits_["c1"].finished_at, seen_at_["c1"]);
  EXPECT_LT(seen_at_["c1"] - exits_["c1"].finished_at, absl::Milliseconds(500));
  EXPECT_EQ(monitor_->ReadExit("c1")->exit_code, 3);
  std::vector<std::string> lines = LogLines(Log("c1"));
  std::set<std::string> set(lines.begin(), lines.end());
  EXPECT_EQ(set, (std::set<std::string>{"stdout F out", "stderr F err", "stdout P part"})) << Log("c1");
  EXPECT_EQ(Await(runtime_->State("c1"))->status, "stopped");
  EXPECT_TRUE(absl::IsNotFound(Await(runtime_->Kill("c1", SIGTERM))));
  absl::Status again = Await(runtime_->Start("c1"));
  EXPECT_TRUE(absl::IsFailedPrecondition(again)) << again;
  EXPECT_TRUE(Await(runtime_->Delete("c1", false)).ok());
  EXPECT_TRUE(Await(runtime_->Delete("c1", false)).ok());
  EXPECT_TRUE(absl::IsNotFound(Await(runtime_->State("c1")).status()));
  monitor_->Forget("c1");
  EXPECT_FALSE(monitor_->ReadExit("c1").has_value());
}

TEST_P(LiveTest, KillAndDelete) {
  Run("k1", {"/bin/sleep", "1000"});
  absl::Status refused = Await(runtime_->Delete("k1", false));
  EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
  absl::Status odd = Await(runtime_->Kill("k1", 99));
  EXPECT_TRUE(absl::IsInvalidArgument(odd)) << odd;
  ASSERT_TRUE(Await(runtime_->Kill("k1", SIGKILL)).ok());
  ASSERT_TRUE(Ended("k1"));
  EXPECT_EQ(exits_["k1"].exit_code, 137);
  EXPECT_FALSE(exits_["k1"].oom_killed);

  Run("k2", {"/bin/sleep", "1000"});
  ASSERT_TRUE(Await(runtime_->Delete("k2", true)).ok());
  ASSERT_TRUE(Ended("k2"));
  EXPECT_EQ(exits_["k2"].exit_code, 137);
  EXPECT_TRUE(Await(runtime_->Delete("none", true)).ok());
  EXPECT_TRUE(Await(runtime_->Delete("none", false)).ok());
  EXPECT_TRUE(absl::IsNotFound(Await(runtime_->Kill("none", SIGTERM))));
  EXPECT_TRUE(absl::IsNotFound(Await(runtime_->Start("none"))));
}

TEST_P(LiveTest, FailedCreateLeavesNothingAndSaysWhy) {
  auto missing = Create("f1", {"/nope"});
  EXPECT_TRUE(absl::IsInvalidArgument(missing.status())) << missing.status();
  EXPECT_TRUE(absl::StrContains(missing.status().message(), "exec: \"/nope\": no such file or directory"))
      << missing.status();
  auto in_path = Create("f2", {"nope"});
  EXPECT_TRUE(
      absl::StrContains(in_path.status().message(), "exec: \"nope\": executable file not found in $PATH"))
      << in_path.status();
  // A working directory that names one of the runtime's descriptors (CVE-2024-21626). Whatever number it had.
  for (int fd = 3; fd < 12; ++fd) {
    std::string id = StrCat("f3-", fd);
    Shape leak;
    leak.cwd = StrCat("/proc/self/fd/", fd);
    auto led_out = Create(id, {"/bin/pwd"}, leak);
    if (!led_out.ok()) continue;
    ASSERT_TRUE(Await(runtime_->Start(id)).ok());
    ASSERT_TRUE(Ended(id));
    EXPECT_NE(exits_[id].exit_code, 0) << fd << ": " << Log(id);
  }
  // One id at a time.
  Run("f4", {"/bin/sleep", "1000"});
  auto twice = Await(monitor_->Create(runtime_.get(), {"f4", "f4", Bundle("f4"), LogPath("f4")}));
  EXPECT_TRUE(absl::IsAlreadyExists(twice.status())) << twice.status();
  EXPECT_EQ(Await(runtime_->State("f4"))->status, "running");
  for (const char* id : {"f1", "f2"}) {
    EXPECT_TRUE(absl::IsNotFound(Await(runtime_->State(id)).status()));
    EXPECT_FALSE(fs::exists(root_ + "/mon/p/" + id));
  }
  fs::create_symlink("/etc/keelson-test-never", LogPath("f5"));
  auto symlink = Create("f5", {"/bin/true"});
  EXPECT_TRUE(absl::IsPermissionDenied(symlink.status())) << symlink.status();
}

TEST_P(LiveTest, FilesOfACreateThatWasCutOffAreNotInTheWay) {
  fs::create_directories(Bundle("r1"));
  for (const char* name : {"/pidfile", "/.pidfile", "/ctl", "/winsz"}) {
    ASSERT_TRUE(WriteFileAtomic(Bundle("r1") + name, "1", 0600, false).ok());
  }
  auto created = Create("r1", {"/bin/true"});
  ASSERT_TRUE(created.ok()) << created.status();
  ASSERT_TRUE(Await(runtime_->Start("r1")).ok());
  EXPECT_TRUE(Ended("r1"));
}

TEST_P(LiveTest, OomKillIsToldApart) {
  Shape small;
  small.resources = R"({"memory":{"limit":16777216,"swap":16777216}})";
  // The program itself, then a child of its shell: both are told by the exit code and the notice.
  Run("o1", {"/bin/dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1"}, small);
  ASSERT_TRUE(Ended("o1"));
  EXPECT_EQ(exits_["o1"].exit_code, 137);
  EXPECT_TRUE(exits_["o1"].oom_killed);
  Run("o2", Shell("dd if=/dev/zero of=/dev/null bs=200M count=1; exit 0"), small);
  ASSERT_TRUE(Ended("o2"));
  EXPECT_EQ(exits_["o2"].exit_code, 0);
  EXPECT_FALSE(exits_["o2"].oom_killed) << "the container itself ended well";
  Run("o3", Shell("a=xxxxxxxxxxxxxxxx; while true; do a=$a$a; done"), small);
  ASSERT_TRUE(Ended("o3"));
  EXPECT_EQ(exits_["o3"].exit_code, 137);
  EXPECT_TRUE(exits_["o3"].oom_killed);
  EXPECT_TRUE(monitor_->ReadExit("o3")->oom_killed);
}

TEST_P(LiveTest, ExecWithPipes) {
  Run("e1", {"/bin/sleep", "1000"});
  Output echo = Exec("e1", Shell("cat; echo err >&2; exit 7"), "hello");
  ASSERT_TRUE(echo.status.ok()) << echo.status;
  EXPECT_EQ(echo.exit_code, 7);
  EXPECT_EQ(echo.out, "hello");
  EXPECT_EQ(echo.err, "err\n");
  Output killed = Exec("e1", Shell("kill -9 $$"));
  EXPECT_EQ(killed.exit_code, 137);
  Output count = Exec("e1", {"/bin/wc", "-c"}, "");
  EXPECT_EQ(count.out, "0\n");
  Output user =
      Exec("e1", Shell("id -u; echo again >/dev/stderr; echo more >/proc/self/fd/1"), "", {.uid = 1234});
  EXPECT_EQ(user.out, "1234\nmore\n") << user.err;

  Output missing = Exec("e1", {"/nope"});
  EXPECT_TRUE(absl::IsInvalidArgument(missing.status)) << missing.status;
  EXPECT_TRUE(absl::StrContains(missing.status.message(), "exec: \"/nope\": no such file or directory"))
      << missing.status;
  Output in_path = Exec("e1", {"nope"});
  EXPECT_TRUE(
      absl::StrContains(in_path.status.message(), "exec: \"nope\": executable file not found in $PATH"))
      << in_path.status;
  Output cwd = Exec("e1", {"/bin/pwd"}, "", {.cwd = "/nodir"});
  EXPECT_TRUE(absl::IsInvalidArgument(cwd.status)) << cwd.status;
  EXPECT_TRUE(absl::IsNotFound(Exec("none", {"/bin/true"}).status));

  ASSERT_TRUE(Await(runtime_->Kill("e1", SIGKILL)).ok());
  ASSERT_TRUE(Ended("e1"));
  Output late = Exec("e1", {"/bin/true"});
  EXPECT_TRUE(absl::IsFailedPrecondition(late.status)) << late.status;
  EXPECT_TRUE(fs::is_empty(root_ + "/run")) << "scratch files stay";
}

TEST_P(LiveTest, ExecIsKilledOnDemand) {
  Run("x1", {"/bin/sleep", "1000"});
  Pipe out;
  ExecOptions options;
  options.process_json = ProcessJson(Shell("echo up; exec sleep 999"), {});
  options.stdout_fd = out.write_end.get();
  auto process = Await(runtime_->Exec("x1", options));
  ASSERT_TRUE(process.ok()) << process.status();
  char byte;
  ASSERT_EQ(::read(out.read_end.get(), &byte, 1), 1);
  ASSERT_TRUE((*process)->Kill().ok());
  EXPECT_EQ(Await((*process)->Wait()).value_or(-1), 137);
  EXPECT_EQ(Await((*process)->Wait()).value_or(-1), 137) << "awaitable again";
  EXPECT_TRUE(absl::IsNotFound((*process)->Kill()));
  EXPECT_EQ(out.ReadAll(), "p\n") << "the command itself is gone, not only the runtime";
  EXPECT_EQ(Await(runtime_->State("x1"))->status, "running");
}

// The processes of a cgroup, for a failure's message.
std::string Describe(const std::string& cgroup) {
  auto cgroups = cgroups::NewHostManager();
  std::string out;
  if (!cgroups.ok()) return out;
  for (pid_t pid : (*cgroups)->Pids(cgroup, true).value_or(std::vector<pid_t>())) {
    std::string words = ReadFile(StrCat("/proc/", pid, "/cmdline"), 4096).value_or("");
    std::replace(words.begin(), words.end(), '\0', ' ');
    StrAppend(&out, words, "; ", ReadFile(StrCat("/proc/", pid, "/stat"), 4096).value_or(""));
  }
  return out;
}

// It ignores SIGTERM, its children are in sessions of their own or orphaned in its: all of them end.
TEST_P(LiveTest, ExecIsKilledWithAllItStarted) {
  Run("x2", {"/bin/sleep", "1000"});
  auto cgroups = cgroups::NewHostManager();
  ASSERT_TRUE(cgroups.ok());
  auto count = [&] { return (*cgroups)->Pids(Cgroup() + "/x2", true).value_or(std::vector<pid_t>()).size(); };
  ASSERT_EQ(count(), 1u);
  Pipe out;
  ExecOptions options;
  options.process_json = ProcessJson(Shell("trap '' TERM; sleep 999 & setsid sleep 998 & (sleep 997 &); sh "
                                           "-c 'trap \"\" TERM; sleep 996; true' &"
                                           " echo up; wait"),
                                     {});
  options.stdout_fd = out.write_end.get();
  auto process = Await(runtime_->Exec("x2", options));
  ASSERT_TRUE(process.ok()) << process.status();
  char byte;
  ASSERT_EQ(::read(out.read_end.get(), &byte, 1), 1);
  ASSERT_TRUE(Until([&] { return count() == 7; })) << count();
  absl::Status killed = (*process)->KillTree();
  EXPECT_TRUE(killed.ok()) << killed;
  EXPECT_EQ(Await((*process)->Wait()).value_or(-1), 137);
  EXPECT_TRUE(Until([&] { return count() == 1; })) << Describe(Cgroup() + "/x2");
  EXPECT_TRUE(absl::IsNotFound((*process)->KillTree()));
  EXPECT_EQ(Await(runtime_->State("x2"))->status, "running");
}

Task<void> ExecAndForget(OciRuntime* runtime, std::string id, ExecOptions options, bool* answered) {
  Task<absl::StatusOr<std::unique_ptr<ExecProcess>>> exec = runtime->Exec(id, std::move(options));
  absl::StatusOr<std::unique_ptr<ExecProcess>> process = co_await std::move(exec);
  *answered = true;
  if (process.ok()) (void)(*process)->KillTree();
}

Task<absl::Status> CancelledExec(RealEnv* env, OciRuntime* runtime, std::string id, ExecOptions options,
                                 absl::Duration after) {
  Scope scope(env->executor());
  bool answered = false;
  scope.Spawn("exec", ExecAndForget(runtime, id, std::move(options), &answered));
  Task<void> nap = env->clock().Sleep(after);
  co_await std::move(nap);
  Task<void> close = scope.Close();
  co_await std::move(close);
  co_return absl::OkStatus();
}

// At whatever moment the caller leaves, nothing goes on in the container.
TEST_P(LiveTest, AnExecThatIsCancelledWhileItStartsLeavesNothing) {
  Run("x3", {"/bin/sleep", "1000"});
  auto cgroups = cgroups::NewHostManager();
  ASSERT_TRUE(cgroups.ok());
  auto count = [&] { return (*cgroups)->Pids(Cgroup() + "/x3", true).value_or(std::vector<pid_t>()).size(); };
  for (int ms = 0; ms <= 60; ms += 4) {
    ExecOptions options;
    options.process_json = ProcessJson(Shell("trap '' TERM; sleep 995 & wait"), {});
    absl::Status ran = env_.RunUntilDone(
        CancelledExec(&env_, runtime_.get(), "x3", std::move(options), absl::Milliseconds(ms)));
    ASSERT_TRUE(ran.ok()) << ran;
    EXPECT_TRUE(Until([&] { return count() == 1; }))
        << "after " << ms << " ms: " << Describe(Cgroup() + "/x3");
  }
  EXPECT_TRUE(fs::is_empty(root_ + "/run")) << "scratch files stay";
  EXPECT_EQ(Exec("x3", Shell("exit 3")).exit_code, 3);
}

// What a program writes to its terminal until it ends or `until` was seen.
std::string ReadTerminal(int fd, const std::string& until) {
  std::string out;
  char buffer[4096];
  pollfd poll_fd{fd, POLLIN, 0};
  while (out.find(until) == std::string::npos && ::poll(&poll_fd, 1, 5000) > 0) {
    ssize_t n = ::read(fd, buffer, sizeof buffer);
    if (n <= 0) break;
    out.append(buffer, static_cast<size_t>(n));
  }
  return out;
}

TEST_P(LiveTest, ExecWithTerminal) {
  Run("t1", {"/bin/sleep", "1000"});
  ExecOptions options;
  options.tty = true;
  options.process_json =
      ProcessJson(Shell("stty size; read x; stty size; echo got $x; exit 5"), {.tty = true});
  auto process = Await(runtime_->Exec("t1", options));
  ASSERT_TRUE(process.ok()) << process.status();
  int fd = (*process)->tty_master_fd();
  ASSERT_GE(fd, 0);
  EXPECT_TRUE((::fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
  std::string first = ReadTerminal(fd, "\n");
  EXPECT_FALSE(first.empty());
  winsize size{40, 120, 0, 0};
  ASSERT_EQ(::ioctl(fd, TIOCSWINSZ, &size), 0);
  ASSERT_TRUE(WriteAll(fd, "word\n").ok());
  std::string out = ReadTerminal(fd, "got word");
  EXPECT_TRUE(absl::StrContains(out, "40 120")) << out;
  EXPECT_TRUE(absl::StrContains(out, "got word")) << out;
  EXPECT_EQ(Await((*process)->Wait()).value_or(-1), 5);
}

TEST_P(LiveTest, NoDescriptorsLeak) {
  // One that a library of ours forgot to mark.
  Fd careless(::open("/tmp", O_RDONLY | O_DIRECTORY));
  // ls itself has the directory open: 3.
  Run("l1", Shell("ls /proc/self/fd; exec sleep 1000"));
  ASSERT_TRUE(Until([&] { return absl::StrContains(Log("l1"), "F 3"); })) << Log("l1");
  EXPECT_EQ(LogLines(Log("l1")),
            (std::vector<std::string>{"stdout F 0", "stdout F 1", "stdout F 2", "stdout F 3"}));
  std::string init = StrCat("/proc/", processes_["l1"].pid, "/fd");
  ASSERT_TRUE(
      Until([&] { return std::distance(fs::directory_iterator(init), fs::directory_iterator()) == 3; }));
  Output exec = Exec("l1", {"/bin/ls", "/proc/self/fd"});
  EXPECT_EQ(exec.out, "0\n1\n2\n3\n");
  for (int fd = 3; fd < 12; ++fd) {
    Output led_out =
        Exec("l1", {"/bin/readlink", "/proc/self/cwd"}, "", {.cwd = StrCat("/proc/self/fd/", fd)});
    EXPECT_FALSE(led_out.status.ok()) << fd << ": " << led_out.out;
  }
  // The monitor has none of ours either.
  for (const auto& entry : fs::directory_iterator(StrCat("/proc/", processes_["l1"].monitor_pid, "/fd"))) {
    std::error_code error;
    EXPECT_NE(fs::read_symlink(entry.path(), error), "/tmp") << entry.path();
  }
}

Task<absl::Status> ReadUntil(AttachClient* client, std::string what, std::string* out, std::string* err) {
  while (out->find(what) == std::string::npos) {
    CO_ASSIGN_OR_RETURN(std::optional<AttachChunk> chunk, client->Read());
    if (!chunk) break;
    (chunk->is_stderr ? err : out)->append(chunk->data);
  }
  co_return absl::OkStatus();
}

TEST_P(LiveTest, AttachReadsAndWrites) {
  MonitorOptions options;
  options.stdin_open = true;
  Run("a1", Shell("while read x; do echo out $x; echo err $x >&2; done; echo end"), {}, options);
  EXPECT_LE(monitor_->AttachSocketPath("a1").size(), 107u);
  {
    auto client = Await(ConnectAttach(&env_, monitor_->AttachSocketPath("a1")));
    ASSERT_TRUE(client.ok()) << client.status();
    ASSERT_TRUE(Await((*client)->WriteStdin("one\n")).ok());
    std::string out, err;
    ASSERT_TRUE(Await(ReadUntil(client->get(), "out one\n", &out, &err)).ok());
    EXPECT_EQ(out, "out one\n");
  }
  // stdin_once is off: the container goes on, and a second client may come, also after a half-close.
  auto client = Await(ConnectAttach(&env_, monitor_->AttachSocketPath("a1")));
  ASSERT_TRUE(client.ok()) << client.status();
  ASSERT_TRUE(Await((*client)->WriteStdin("two\n")).ok());
  (*client)->CloseStdin();
  std::string out, err;
  ASSERT_TRUE(Await(ReadUntil(client->get(), "out two\n", &out, &err)).ok());
  EXPECT_TRUE(absl::StrContains(out, "out two\n")) << out;
  EXPECT_FALSE(absl::StrContains(out, "end")) << out;
  ASSERT_TRUE(Await(runtime_->Kill("a1", SIGKILL)).ok());
  ASSERT_TRUE(Await(ReadUntil(client->get(), "never", &out, &err)).ok()) << "ends with the container";
  EXPECT_TRUE(absl::StrContains(err, "err two\n")) << err;
  ASSERT_TRUE(Ended("a1"));
  auto late = Await(ConnectAttach(&env_, monitor_->AttachSocketPath("a1")));
  EXPECT_TRUE(absl::IsNotFound(late.status())) << late.status();
}

TEST_P(LiveTest, AttachOnceEndsStdinWithTheClient) {
  MonitorOptions options;
  options.stdin_open = options.stdin_once = true;
  Run("s1", Shell("wc -c; echo end"), {}, options);
  auto client = Await(ConnectAttach(&env_, monitor_->AttachSocketPath("s1")));
  ASSERT_TRUE(client.ok()) << client.status();
  std::string big(3 << 20, 'x');
  ASSERT_TRUE(Await((*client)->WriteStdin(big)).ok());
  (*client)->CloseStdin();
  std::string out, err;
  ASSERT_TRUE(Await(ReadUntil(client->get(), "end\n", &out, &err)).ok());
  EXPECT_EQ(out, StrCat(big.size(), "\nend\n"));
  ASSERT_TRUE(Ended("s1"));
  EXPECT_EQ(exits_["s1"].exit_code, 0);
}

TEST_P(LiveTest, TerminalIsResized) {
  MonitorOptions options;
  options.stdin_open = true;
  Run("w1", Shell("while read x; do stty size; done"), {.tty = true}, options);
  auto client = Await(ConnectAttach(&env_, monitor_->AttachSocketPath("w1")));
  ASSERT_TRUE(client.ok()) << client.status();
  absl::Status resized = Await(monitor_->ResizeTerminal(Bundle("w1"), 33, 111));
  ASSERT_TRUE(resized.ok()) << resized;
  // The fifo and the socket are read in no fixed order: ask until it is seen.
  std::string out, err;
  for (int i = 0; i < 50 && !absl::StrContains(out, "33 111"); ++i) {
    out.clear();
    ASSERT_TRUE(Await((*client)->WriteStdin("\n")).ok());
    ASSERT_TRUE(Await(ReadUntil(client->get(), "1", &out, &err)).ok());
  }
  EXPECT_TRUE(absl::StrContains(out, "33 111")) << out;
}

TEST_P(LiveTest, LogIsReopened) {
  MonitorOptions options;
  options.stdin_open = true;
  Run("r1", Shell("while read x; do echo $x; done"), {}, options);
  auto client = Await(ConnectAttach(&env_, monitor_->AttachSocketPath("r1")));
  ASSERT_TRUE(client.ok()) << client.status();
  std::string out, err;
  ASSERT_TRUE(Await((*client)->WriteStdin("before\n")).ok());
  ASSERT_TRUE(Await(ReadUntil(client->get(), "before\n", &out, &err)).ok());
  fs::rename(LogPath("r1"), LogPath("r1") + ".old");
  absl::Status reopened = Await(monitor_->ReopenLog(Bundle("r1")));
  ASSERT_TRUE(reopened.ok()) << reopened;
  EXPECT_TRUE(fs::exists(LogPath("r1")));
  ASSERT_TRUE(Await((*client)->WriteStdin("after\n")).ok());
  ASSERT_TRUE(Await(ReadUntil(client->get(), "after\n", &out, &err)).ok());
  ASSERT_TRUE(Until([&] { return !Log("r1").empty(); }));
  EXPECT_EQ(LogLines(Log("r1")), std::vector<std::string>{"stdout F after"});
  EXPECT_EQ(LogLines(ReadFile(LogPath("r1") + ".old").value_or("")),
            std::vector<std::string>{"stdout F before"});
  ASSERT_TRUE(Await(runtime_->Delete("r1", true)).ok());
  ASSERT_TRUE(Ended("r1"));
  Until([&] { return Gone(processes_["r1"].monitor_pid, processes_["r1"].monitor_start_ticks); });
  absl::Status late = Await(monitor_->ReopenLog(Bundle("r1")));
  EXPECT_TRUE(absl::IsFailedPrecondition(late)) << late;
}

TEST_P(LiveTest, PauseResumeUpdate) {
  Run("p1", {"/bin/sleep", "1000"});
  ASSERT_TRUE(Await(runtime_->Pause("p1")).ok());
  // crun does not wait until cgroup v1 has frozen all there is.
  EXPECT_TRUE(Until([&] { return Await(runtime_->State("p1"))->status == "paused"; }));
  Output paused = Exec("p1", {"/bin/true"});
  EXPECT_TRUE(absl::IsFailedPrecondition(paused.status)) << paused.status;
  ASSERT_TRUE(Await(runtime_->Resume("p1")).ok());
  EXPECT_EQ(Await(runtime_->State("p1"))->status, "running");

  absl::Status updated =
      Await(runtime_->Update("p1", R"({"cpu":{"shares":512},"memory":{"limit":67108864}})"));
  ASSERT_TRUE(updated.ok()) << updated;
  auto cgroups = cgroups::NewHostManager();
  ASSERT_TRUE(cgroups.ok());
  auto stats = (*cgroups)->ReadStats(Cgroup() + "/p1");
  ASSERT_TRUE(stats.ok()) << stats.status();
  EXPECT_EQ(stats->memory->limit_bytes.value_or(0), 67108864u);
  absl::Status small = Await(runtime_->Update("p1", R"({"memory":{"limit":1}})"));
  if ((*cgroups)->layout().mode != cgroups::Mode::kV2) {
    EXPECT_FALSE(small.ok());
    return;
  }
  // v2 takes a limit below what is used and kills who does not get below it.
  ASSERT_TRUE(small.ok()) << small;
  ASSERT_TRUE(Ended("p1"));
  EXPECT_EQ(exits_["p1"].exit_code, 137);
}

TEST_P(LiveTest, ExitIsReadThoughNobodyWatched) {
  monitor_.reset();
  {
    auto monitor = NewConmonMonitor(env_, {"conmon", root_ + "/mon"});
    ASSERT_TRUE(monitor.ok());
    monitor_ = *std::move(monitor);
  }
  Run("n1", Shell("exit 9"));
  ASSERT_TRUE(Until([&] { return monitor_->ReadExit("n1").has_value(); }));
  EXPECT_EQ(monitor_->ReadExit("n1")->exit_code, 9);
  EXPECT_TRUE(exits_.empty());
  // A watch that starts now reports only what comes.
  ASSERT_TRUE(
      monitor_->WatchExits([this](const std::string& id, const ContainerExit& exit) { exits_[id] = exit; })
          .ok());
  Run("n2", Shell("exit 8"));
  ASSERT_TRUE(Ended("n2"));
  EXPECT_EQ(exits_.size(), 1u);
}

TEST_P(LiveTest, MonitorOutlivesItsServer) {
  int pids[2];
  ASSERT_EQ(::pipe2(pids, O_CLOEXEC), 0);
  pid_t server = ::fork();
  ASSERT_GE(server, 0);
  if (server == 0) {
    // A second server on the same directories; it dies without a word.
    ::prctl(PR_SET_CHILD_SUBREAPER, 0);
    auto created = Create("m1", Shell("sleep 0.3; echo alive; exit 6"));
    if (!created.ok() || !Await(runtime_->Start("m1")).ok()) ::_exit(1);
    (void)!::write(pids[1], &*created, sizeof *created);
    ::kill(::getpid(), SIGKILL);
  }
  MonitoredProcess process;
  ASSERT_EQ(::read(pids[0], &process, sizeof process), static_cast<ssize_t>(sizeof process));
  int status = 0;
  ASSERT_EQ(::waitpid(server, &status, 0), server);
  EXPECT_TRUE(WIFSIGNALED(status));
  cgroups_used_ = true;
  made_.push_back("m1");
  processes_["m1"] = process;
  EXPECT_FALSE(Gone(process.monitor_pid, process.monitor_start_ticks));
  ASSERT_TRUE(Ended("m1"));
  EXPECT_EQ(exits_["m1"].exit_code, 6);
  EXPECT_EQ(LogLines(Log("m1")), std::vector<std::string>{"stdout F alive"});
  // Re-parented to us, the next subreaper.
  ::waitpid(process.monitor_pid, nullptr, 0);
}

TEST_P(LiveTest, MonitorMovesToItsCgroup) {
  auto cgroups = cgroups::NewHostManager();
  ASSERT_TRUE(cgroups.ok());
  std::string parent = Cgroup() + "/pod";
  ASSERT_TRUE((*cgroups)->Create(parent).ok());
  MonitorOptions options;
  options.cgroup_parent = parent;
  Run("g1", {"/bin/sleep", "1000"}, {}, options);
  EXPECT_EQ((*cgroups)->Pids(parent, false).value_or(std::vector<pid_t>()),
            std::vector<pid_t>{processes_["g1"].monitor_pid});
}

TEST_P(LiveTest, ProbedFeatures) {
  EXPECT_FALSE(runtime_->version().empty());
  EXPECT_TRUE(runtime_->features().recursive_read_only);
  EXPECT_TRUE(runtime_->features().seccomp_notify);
  std::string version = runtime_->version();
  if (absl::StartsWith(version, "1.1.")) {
    EXPECT_FALSE(runtime_->features().idmapped_mounts);
  }
  EXPECT_FALSE(fs::is_empty(root_ + "/cache"));
  std::cout << GetParam() << " " << version << " idmapped_mounts=" << runtime_->features().idmapped_mounts
            << "\n";
  // A second start reads the record, and only that: this one says so.
  std::string record = fs::directory_iterator(root_ + "/cache")->path();
  ASSERT_TRUE(WriteFileAtomic(record, EncodeProbe({"9.9", {false, true, false}})).ok());
  RuntimeOptions options;
  options.name = GetParam();
  options.state_dir = root_ + "/state2";
  options.run_dir = root_ + "/run2";
  options.cache_dir = root_ + "/cache";
  auto again = Await(OpenRuntime(&env_, options));
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ((*again)->version(), "9.9");
  EXPECT_TRUE((*again)->features().idmapped_mounts);
}

TEST_P(LiveTest, LongBundlePathsAndNoLog) {
  bundles_ = StrCat("/b/", std::string(100, 'x'), "/", std::string(100, 'y'), "/");
  MonitorOptions options;
  options.stdin_open = true;
  options.log_path = "none";
  std::string id(64, 'a');
  Run(id, Shell("while read x; do echo got $x; done"), {}, options);
  EXPECT_LE(monitor_->AttachSocketPath(id).size(), 107u);
  auto client = Await(ConnectAttach(&env_, monitor_->AttachSocketPath(id)));
  ASSERT_TRUE(client.ok()) << client.status();
  ASSERT_TRUE(Await((*client)->WriteStdin("it\n")).ok());
  std::string out, err;
  ASSERT_TRUE(Await(ReadUntil(client->get(), "got it\n", &out, &err)).ok());
  // By the socket's full path as well.
  auto direct = Await(ConnectAttach(&env_, Bundle(id) + "/attach"));
  EXPECT_TRUE(direct.ok()) << direct.status();
  EXPECT_TRUE(Await(monitor_->ReopenLog(Bundle(id))).ok());
  EXPECT_FALSE(fs::exists(LogPath(id)));
}

TEST_P(LiveTest, HostPidContainerLeavesNoProcess) {
  Shape shape;
  shape.host_pid = true;
  Run("h1", Shell("sleep 1001 & sleep 1002 & wait"), shape);
  auto cgroups = cgroups::NewHostManager();
  ASSERT_TRUE(cgroups.ok());
  std::string cgroup = Cgroup() + "/h1";
  ASSERT_TRUE(
      Until([&] { return (*cgroups)->Pids(cgroup, true).value_or(std::vector<pid_t>()).size() == 3; }));
  Output exec = Exec("h1", Shell("sleep 1003 >/dev/null 2>&1 & exit 4"), "", shape);
  EXPECT_EQ(exec.exit_code, 4) << exec.status;
  ASSERT_TRUE(Await(runtime_->Kill("h1", SIGKILL)).ok());
  ASSERT_TRUE(Ended("h1"));
  EXPECT_EQ(exits_["h1"].exit_code, 137);
  absl::Status deleted = Await(runtime_->Delete("h1", true));
  EXPECT_TRUE(deleted.ok()) << deleted;
  // runc does not wait for those it has killed and leaves the cgroup where they are not gone yet.
  EXPECT_TRUE(Until([&] { return (*cgroups)->Destroy(cgroup).ok(); }));
}

// A monitor that is killed: the container goes on and becomes ours, its status is not lost.
TEST_P(LiveTest, ContainerOfADeadMonitorIsAdopted) {
  Run("d1", Shell("trap 'exit 5' TERM; while true; do sleep 0.05; done"));
  MonitoredProcess process = processes_["d1"];
  ASSERT_EQ(::kill(process.monitor_pid, SIGKILL), 0);
  ASSERT_TRUE(Until([&] { return Gone(process.monitor_pid, process.monitor_start_ticks); }));
  EXPECT_EQ(Exec("d1", Shell("exit 3")).exit_code, 3);
  EXPECT_TRUE(absl::IsInvalidArgument(Exec("d1", {"/nope"}).status));
  auto adopted = env_.subprocess().Adopt(process.pid);
  ASSERT_TRUE(adopted.ok()) << adopted.status();
  ASSERT_TRUE(Await(runtime_->Kill("d1", SIGTERM)).ok());
  int status = Await((*adopted)->Wait());
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 5) << status;
  EXPECT_FALSE(monitor_->ReadExit("d1").has_value());
}

struct Round {
  OciRuntime* runtime;
  ContainerMonitor* monitor;
  MonitorOptions options;
  std::string good_process, bad_process;
  std::map<std::string, ContainerExit>* exits;
};

// One container's life: two execs at once, one of which fails, then its end.
Task<absl::Status> Live(Env* env, Round round) {
  CO_ASSIGN_OR_RETURN(MonitoredProcess process, round.monitor->Create(round.runtime, round.options));
  (void)process;
  std::string id = round.options.id;
  CO_RETURN_IF_ERROR(round.runtime->Start(id));
  for (int i = 0; i < 3; ++i) {
    ExecOptions bad;
    bad.process_json = round.bad_process;
    Task<absl::StatusOr<std::unique_ptr<ExecProcess>>> failing = round.runtime->Exec(id, bad);
    absl::StatusOr<std::unique_ptr<ExecProcess>> failed = co_await std::move(failing);
    if (!absl::IsInvalidArgument(failed.status())) co_return absl::InternalError("the bad command ran");
    ExecOptions good;
    good.process_json = round.good_process;
    CO_ASSIGN_OR_RETURN(std::unique_ptr<ExecProcess> exec, round.runtime->Exec(id, good));
    CO_ASSIGN_OR_RETURN(int code, exec->Wait());
    if (code != 7) co_return absl::InternalError(StrCat("exec ended with ", code));
  }
  CO_RETURN_IF_ERROR(round.runtime->Kill(id, SIGKILL));
  for (int i = 0; i < 4000 && round.exits->count(id) == 0; ++i) {
    Task<void> pause = env->clock().Sleep(absl::Milliseconds(2));
    co_await std::move(pause);
  }
  if (round.exits->count(id) == 0) co_return absl::InternalError("no exit seen");
  CO_RETURN_IF_ERROR(round.runtime->Delete(id, false));
  co_return absl::OkStatus();
}

Task<void> LiveInto(Env* env, Round round, absl::Status* out, int* left, AsyncEvent* all) {
  Task<absl::Status> living = Live(env, std::move(round));
  *out = co_await std::move(living);
  if (--*left == 0) all->Set();
}

Task<absl::Status> LiveTogether(Env* env, std::vector<Round> rounds, std::vector<absl::Status>* out) {
  Scope scope(env->executor());
  AsyncEvent all;
  int left = static_cast<int>(rounds.size());
  out->resize(rounds.size());
  for (size_t i = 0; i < rounds.size(); ++i) {
    scope.Spawn("container", LiveInto(env, rounds[i], &(*out)[i], &left, &all));
  }
  Task<void> wait = all.Wait();
  co_await std::move(wait);
  Task<void> close = scope.Close();
  co_await std::move(close);
  co_return absl::OkStatus();
}

size_t OpenDescriptors() {
  return static_cast<size_t>(
      std::distance(fs::directory_iterator("/proc/self/fd"), fs::directory_iterator()));
}

std::set<std::string> OwnChildren() {
  std::string text = ReadFile(StrCat("/proc/self/task/", ::getpid(), "/children")).value_or("?");
  return absl::StrSplit(text, ' ', absl::SkipEmpty());
}

TEST_P(LiveTest, ManyAtOnceLeaveNothing) {
  cgroups_used_ = true;
  std::vector<Round> rounds;
  for (int i = 0; i < 12; ++i) {
    std::string id = StrCat("many", i);
    ASSERT_TRUE(MakeDirs(Bundle(id)).ok());
    ASSERT_TRUE(
        WriteFileAtomic(Bundle(id) + "/config.json", ConfigJson(id, {"/bin/sleep", "1000"}, {})).ok());
    rounds.push_back({runtime_.get(),
                      monitor_.get(),
                      {id, id, Bundle(id), LogPath(id)},
                      ProcessJson(Shell("exit 7"), {}),
                      ProcessJson({"/nope"}, {}),
                      &exits_});
  }
  std::vector<absl::Status> results;
  size_t descriptors = OpenDescriptors();
  // Orphans of an earlier test may wait for their time.
  std::set<std::string> before = OwnChildren();
  ASSERT_TRUE(env_.RunUntilDone(LiveTogether(&env_, rounds, &results)).ok());
  for (const absl::Status& status : results) EXPECT_TRUE(status.ok()) << status;
  EXPECT_TRUE(Until([&before] {
    std::set<std::string> now = OwnChildren();
    return std::includes(before.begin(), before.end(), now.begin(), now.end());
  }));
  for (int i = 0; i < 12; ++i) monitor_->Forget(StrCat("many", i));
  EXPECT_EQ(OpenDescriptors(), descriptors);
  for (const char* dir : {"/run", "/state", "/mon/exits", "/mon/p", "/mon/a", "/mon/t"}) {
    EXPECT_TRUE(fs::is_empty(root_ + dir)) << dir;
  }
}

// ---- the cgroup view ----

bool Mounted(const std::string& path) {
  auto text = ReadFile("/proc/self/mountinfo");
  return text.ok() && absl::StrContains(*text, StrCat(" ", path, " "));
}

// The steps of two processes, one byte each way.
struct Turns {
  Pipe to_server, to_host;
  static void Give(Pipe& pipe) { (void)!::write(pipe.write_end.get(), "x", 1); }
  static bool Take(Pipe& pipe) {
    char byte;
    pollfd poll_fd{pipe.read_end.get(), POLLIN, 0};
    return ::poll(&poll_fd, 1, 10000) > 0 && ::read(pipe.read_end.get(), &byte, 1) == 1;
  }
};

#define REQUIRE(condition, code)                        \
  do {                                                  \
    if (!(condition)) {                                 \
      std::cerr << #condition << ": " << errno << "\n"; \
      ::_exit(code);                                    \
    }                                                   \
  } while (false)

void ServerInView(const std::string& base, const std::string& unified, Turns* turns) {
  auto entered = EnterCgroupView();
  if (!entered.ok()) std::cerr << entered.status() << "\n";
  REQUIRE(entered.ok() && *entered, 30);
  REQUIRE(!Mounted(unified), 31);
  auto again = EnterCgroupView();
  REQUIRE(again.ok() && !*again, 32);  // nothing is left to do
  // A Bidirectional volume: a mount below a shared one.
  REQUIRE(::mount("server", (base + "/from-server").c_str(), "tmpfs", 0, nullptr) == 0, 33);
  Turns::Give(turns->to_host);
  REQUIRE(Turns::Take(turns->to_server), 34);
  REQUIRE(Mounted(base + "/from-host"), 35);
  REQUIRE(::umount((base + "/from-server").c_str()) == 0, 36);
  Turns::Give(turns->to_host);
  ::_exit(0);
}

void HostWithServer(const std::string& base) {
  const std::string unified = "/sys/fs/cgroup/unified";
  REQUIRE(::unshare(CLONE_NEWNS) == 0, 10);
  REQUIRE(::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0, 11);
  if (!Mounted(unified)) REQUIRE(::mount("cgroup2", unified.c_str(), "cgroup2", 0, nullptr) == 0, 12);
  // The worst case: everything below is shared on its own already.
  REQUIRE(::mount(nullptr, "/sys/fs/cgroup", nullptr, MS_REC | MS_SHARED, nullptr) == 0, 13);
  Turns turns;
  pid_t server = ::fork();
  REQUIRE(server >= 0, 14);
  if (server == 0) ServerInView(base, unified, &turns);
  REQUIRE(Turns::Take(turns.to_host), 15);
  REQUIRE(Mounted(base + "/from-server"), 16);
  REQUIRE(Mounted(unified), 17);
  REQUIRE(FindCgroupMounts(*ReadFile("/proc/self/mountinfo")).root_shared, 18);
  REQUIRE(::mount("host", (base + "/from-host").c_str(), "tmpfs", 0, nullptr) == 0, 19);
  Turns::Give(turns.to_server);
  REQUIRE(Turns::Take(turns.to_host), 20);
  REQUIRE(!Mounted(base + "/from-server"), 21);
  int status = 0;
  REQUIRE(::waitpid(server, &status, 0) == server, 22);
  ::_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 23);
}

TEST(CgroupViewLiveTest, MountsTravelBothWaysAndTheHostKeepsItsHierarchy) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  if (::access("/sys/fs/cgroup/unified", F_OK) != 0) GTEST_SKIP() << "not a hybrid cgroup host";
  char base[] = "/tmp/keelson-test-XXXXXX";
  ASSERT_NE(::mkdtemp(base), nullptr);
  for (const char* dir : {"/from-server", "/from-host"}) ASSERT_TRUE(MakeDirs(std::string(base) + dir).ok());
  pid_t host = ::fork();
  ASSERT_GE(host, 0);
  if (host == 0) HostWithServer(base);
  int status = 0;
  ASSERT_EQ(::waitpid(host, &status, 0), host);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status << " " << WEXITSTATUS(status);
  EXPECT_FALSE(Mounted(std::string(base) + "/from-host"));
  EXPECT_TRUE(RemoveTree(base).ok());
}

INSTANTIATE_TEST_SUITE_P(Runtimes, LiveTest, testing::Values("runc", "crun"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace keelson::oci

// One process, before any thread: a stand-in for the host's mount namespace, then the view.
int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (::geteuid() == 0 && ::unshare(CLONE_NEWNS) == 0) {
    ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
    auto entered = keelson::oci::EnterCgroupView();
    if (!entered.ok()) std::cerr << entered.status() << "\n";
  }
  return RUN_ALL_TESTS();
}
