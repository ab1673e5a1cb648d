#include "oci/runtime.h"

#include <absl/strings/ascii.h>
#include <absl/strings/match.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_split.h>
#include <dirent.h>
#include <fcntl.h>
#include <simdjson.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstring>
#include <set>
#include <utility>

#include "base/log.h"
#include "base/process.h"
#include "base/status.h"
#include "oci/io.h"
#include "oci/probe.h"
#include "oci/process_tree.h"
#include "oci/runtime_errors.h"

namespace keelson::oci {
namespace {

constexpr size_t kMaxCommandOutputBytes = 256 << 10;
// An orphan that nobody waited for this long is nobody's.
constexpr absl::Duration kOrphanGrace = absl::Seconds(10);
// How often a killed process is asked for its parent.
constexpr absl::Duration kDoomInterval = absl::Milliseconds(20);
constexpr int kMaxDoomTries = 500;
constexpr size_t kMaxProcBytes = 1 << 20;
constexpr size_t kMaxCriuLogBytes = 64 << 20;
// A command that a caller who died left running gets so long before it is killed.
constexpr absl::Duration kOrphanCommandLimit = absl::Seconds(20);
// What was forked by such a caller and is no command yet.
constexpr absl::Duration kForkLimit = absl::Seconds(5), kForkInterval = absl::Milliseconds(2);
constexpr char kScratchPrefix = 'x';

// Children of ours that no code of ours waits for. We are a subreaper, so that a command which the runtime
// starts detached becomes our child; with it come what a runtime leaves behind after a failed exec (crun: its
// half-way child, in the container's PID namespace, whose init cannot end before that one is reaped), orphans
// of containers that run in the host's PID namespace, and the process of a container whose monitor died,
// which is the server's to Adopt(). One for the process, as children are.
class ExecChildren {
 public:
  static ExecChildren& Instance() {
    static auto* const instance = new ExecChildren;
    return *instance;
  }

  // An exec is under way: any new child in another PID namespace may be its command.
  uint64_t Begin() {
    if (in_flight_.empty()) {
      for (int pid : Look()) foreign_.insert(pid);
    }
    in_flight_.insert(++sequence_);
    return sequence_;
  }
  // It has ended; `command`: the child that is its caller's, 0 when it failed. Children that no exec under
  // way can claim any more are adopted, which reaps them as soon as they end.
  // `cut_at`: start of the runtime of an exec that was killed while it started, 0: it was not. Its command
  // may have become our child before the runtime said so (crun's, whose session is not its own): killed, when
  // no other can claim it.
  void End(Env* env, uint64_t sequence, int command, uint64_t cut_at) {
    in_flight_.erase(sequence);
    if (command != 0) owned_.insert(command);
    std::map<int, std::set<uint64_t>> suspects;
    for (int pid : Look()) {
      auto known = suspects_.find(pid);
      std::set<uint64_t> claimants = known != suspects_.end() ? known->second : in_flight_;
      claimants.erase(sequence);
      if (cut_at != 0) cut_at_.emplace(pid, cut_at);
      if (claimants.empty()) {
        owned_.insert(pid);
        KillCut(pid);
        (void)env->subprocess().Adopt(pid);
      } else {
        suspects[pid] = std::move(claimants);
      }
    }
    suspects_ = std::move(suspects);
    Sweep(env);
  }
  // Reaps children in our own PID namespace that have been dead for kOrphanGrace: nearly always a child there
  // is one we spawned, whose end is taken within milliseconds.
  void Sweep(Env* env) {
    absl::Duration now = env->clock().Monotonic();
    for (auto it = spawned_.begin(); it != spawned_.end();) {
      auto [pid, dead_since] = *it;
      siginfo_t info;
      info.si_pid = 0;
      bool dead = ::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
                  info.si_pid == pid;
      if (dead && dead_since == absl::InfiniteDuration()) it->second = now;
      if (dead && now - it->second >= kOrphanGrace && ::waitpid(pid, nullptr, WNOHANG) == pid) {
        it = spawned_.erase(it);
      } else {
        ++it;
      }
    }
  }
  // Those of an exec that was killed while it started become our children when their parents are dead, too:
  // reaped then, so that their container's init can end.
  void Doom(Env* env, const std::vector<ProcessFacts>& killed) {
    for (const ProcessFacts& process : killed) doomed_[process.pid] = process.start_ticks;
    ReapDoomed(env, 0);
  }
  void LookAndSweep(Env* env) {
    (void)Look();
    Sweep(env);
  }

 private:
  void KillCut(int pid) {
    auto cut = cut_at_.find(pid);
    if (cut == cut_at_.end()) return;
    auto facts = ProcessFactsOf(pid);
    // A container's first process is older, and leads its session.
    if (facts.ok() && facts->start_ticks >= cut->second && facts->session != pid) {
      (void)KillProcessTree(pid, facts->session, nullptr);
    }
    cut_at_.erase(cut);
  }

  void ReapDoomed(Env* env, int tries) {
    for (auto it = doomed_.begin(); it != doomed_.end();) {
      auto facts = ProcessFactsOf(it->first);
      bool gone = !facts.ok() || facts->start_ticks != it->second;
      bool ours = !gone && facts->parent == ::getpid();
      if (ours) {
        owned_.insert(it->first);
        foreign_.erase(it->first);
        spawned_.erase(it->first);
        (void)env->subprocess().Adopt(it->first);
      }
      it = gone || ours ? doomed_.erase(it) : std::next(it);
    }
    if (doomed_.empty() || tries >= kMaxDoomTries) return;
    env->clock().Schedule(kDoomInterval, [this, env, tries] { ReapDoomed(env, tries + 1); });
  }

  // The children in other PID namespaces that are neither owned nor foreign; keeps what is known of the
  // others.
  std::vector<int> Look() {
    std::set<int> children = Children();
    auto gone = [&children](int pid) { return children.count(pid) == 0; };
    std::erase_if(owned_, gone);
    std::erase_if(foreign_, gone);
    std::erase_if(cut_at_, [&gone](const auto& entry) { return gone(entry.first); });
    std::erase_if(spawned_, [&gone](const auto& entry) { return gone(entry.first); });
    std::vector<int> out;
    for (int pid : children) {
      if (owned_.count(pid) + foreign_.count(pid) + spawned_.count(pid) != 0) continue;
      if (PidNamespaceDepth(pid) > own_depth_) {
        out.push_back(pid);
      } else {
        spawned_[pid] = absl::InfiniteDuration();
      }
    }
    return out;
  }

  // In how many PID namespaces it has a number, 0 when it is gone. Also right for the dead.
  static int PidNamespaceDepth(int pid) {
    auto status = ReadFile(StrCat("/proc/", pid, "/status"), kMaxProcBytes);
    if (!status.ok()) return 0;
    size_t at = status->find("\nNSpid:");
    if (at == std::string::npos) return 0;
    std::string line = status->substr(at + 7, status->find('\n', at + 1) - at - 7);
    std::vector<absl::string_view> numbers = absl::StrSplit(line, absl::ByAnyChar("\t "), absl::SkipEmpty());
    return static_cast<int>(numbers.size());
  }

  static std::set<int> Children() {
    std::set<int> out;
    std::unique_ptr<DIR, int (*)(DIR*)> tasks(::opendir("/proc/self/task"), ::closedir);
    while (dirent* task = tasks != nullptr ? ::readdir(tasks.get()) : nullptr) {
      auto children = ReadFile(
          StrCat("/proc/self/task/", static_cast<const char*>(task->d_name), "/children"), kMaxProcBytes);
      if (!children.ok()) continue;
      for (absl::string_view word : absl::StrSplit(*children, ' ', absl::SkipEmpty())) {
        int pid = 0;
        if (absl::SimpleAtoi(word, &pid)) out.insert(pid);
      }
    }
    return out;
  }

  const int own_depth_ = PidNamespaceDepth(::getpid());
  uint64_t sequence_ = 0;
  std::set<uint64_t> in_flight_;
  std::set<int> owned_;                         // commands and adopted leftovers
  std::set<int> foreign_;                       // in another PID namespace, and there before any exec
  std::map<int, absl::Duration> spawned_;       // in ours -> since when it is known to be dead
  std::map<int, uint64_t> cut_at_;              // suspects that may be an exec's that was killed
  std::map<int, uint64_t> doomed_;              // killed, not yet our children -> start
  std::map<int, std::set<uint64_t>> suspects_;  // -> execs under way that may claim it
};

// Ends an exec in ExecChildren, also when its coroutine goes away.
struct ExecInFlight {
  explicit ExecInFlight(Env* e) : env(e), sequence(ExecChildren::Instance().Begin()) {}
  ExecInFlight(const ExecInFlight&) = delete;
  ~ExecInFlight() { ExecChildren::Instance().End(env, sequence, command, cut_at); }
  Env* env;
  uint64_t sequence;
  int command = 0;
  uint64_t cut_at = 0;
};
// Removes the scratch files of one command.
struct ScratchFiles {
  explicit ScratchFiles(std::string stem) : base(std::move(stem)) {}
  ScratchFiles(const ScratchFiles&) = delete;
  ~ScratchFiles() {
    for (const char* suffix : {".json", ".pid", ".log", ".sock"}) ::unlink((base + suffix).c_str());
    // runc's own, when it is killed before it renames it.
    size_t name = base.rfind('/') + 1;
    ::unlink(StrCat(base.substr(0, name), ".", base.substr(name), ".pid").c_str());
  }
  std::string json() const { return base + ".json"; }
  std::string pid() const { return base + ".pid"; }
  std::string log() const { return base + ".log"; }
  std::string sock() const { return base + ".sock"; }
  std::string base;
};

absl::Status WriteScratch(const std::string& path, std::string_view data) {
  ASSIGN_OR_RETURN(Fd fd, OpenFile(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
  return WriteAll(fd.get(), data);
}

absl::StatusOr<int> ReadPidFile(const std::string& path) {
  constexpr size_t kMaxPidBytes = 32;
  ASSIGN_OR_RETURN(std::string text, ReadFile(path, kMaxPidBytes));
  int pid = 0;
  if (!absl::SimpleAtoi(absl::StripAsciiWhitespace(text), &pid) || pid <= 0) {
    return absl::InternalError(StrCat(path, ": not a process id"));
  }
  return pid;
}

absl::StatusOr<Fd> ListenConsole(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    return absl::InvalidArgumentError(StrCat("console socket ", path, ": longer than ",
                                             sizeof address.sun_path - 1,
                                             " bytes; choose a shorter run directory"));
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return ErrnoStatus(errno, "socket");
  if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(fd.get(), 1) != 0) {
    return ErrnoStatus(errno, StrCat("console socket ", path));
  }
  return fd;
}

// The pty master a runtime has sent to `listener`; it is there already, the runtime has ended.
absl::StatusOr<Fd> ReceiveConsole(int listener) {
  Fd connection(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!connection.valid()) return ErrnoStatus(errno, "accept on the console socket");
  char name[256];
  iovec data{name, sizeof name};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  if (::recvmsg(connection.get(), &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT) < 0) {
    return ErrnoStatus(errno, "receive the terminal");
  }
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header == nullptr || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS ||
      header->cmsg_len != CMSG_LEN(sizeof(int))) {
    return absl::InternalError("receive the terminal: the runtime sent none");
  }
  int fd = -1;
  std::memcpy(&fd, CMSG_DATA(header), sizeof fd);
  return Fd(fd);
}

int ExitCode(int wait_status) {
  return WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
}

class CliExecProcess : public ExecProcess {
 public:
  // `session`: the one it was started in.
  CliExecProcess(std::unique_ptr<ChildProcess> command, int session, Fd tty)
      : command_(std::move(command)), session_(session), tty_(std::move(tty)) {}

  Task<absl::StatusOr<int>> Wait() override { return WaitFor(command_); }
  absl::Status Kill() override { return command_->Signal(SIGKILL); }
  absl::Status KillTree() override {
    // Its pid is its own as long as it can be signalled.
    RETURN_IF_ERROR(command_->Signal(SIGSTOP));
    absl::Status killed = KillProcessTree(command_->pid(), session_, nullptr);
    if (absl::IsNotFound(killed)) killed = absl::OkStatus();  // dead in between
    return killed;
  }
  int tty_master_fd() const override { return tty_.get(); }

 private:
  static Task<absl::StatusOr<int>> WaitFor(std::shared_ptr<ChildProcess> command) {
    Task<int> wait = command->Wait();
    int status = co_await std::move(wait);
    co_return ExitCode(status);
  }
  std::shared_ptr<ChildProcess> command_;
  int session_;
  Fd tty_;
};

// Ends an exec that is being started: the runtime, what it has begun in the container, and the command that
// it has already left to us. Blocking, milliseconds.
void KillStarting(Env* env, ChildProcess* runtime, const ScratchFiles& files) {
  std::vector<ProcessFacts> killed;
  if (runtime->Signal(SIGSTOP).ok()) (void)KillProcessTree(runtime->pid(), 0, &killed);
  std::erase_if(killed, [runtime](const ProcessFacts& process) { return process.pid == runtime->pid(); });
  // The number is written when the command runs; a command that is ours has us as its parent.
  auto pid = ReadPidFile(files.pid());
  auto facts = pid.ok() ? ProcessFactsOf(*pid) : absl::StatusOr<ProcessFacts>(pid.status());
  if (facts.ok() && facts->parent == ::getpid()) (void)KillProcessTree(*pid, facts->session, &killed);
  ExecChildren::Instance().Doom(env, killed);
}

// Does so when the caller has gone away.
struct KillExecUnlessDone {
  ExecInFlight* in_flight;
  ChildProcess* runtime;
  const ScratchFiles* files;
  uint64_t started = 0;
  bool done = false;
  ~KillExecUnlessDone() {
    if (done) return;
    in_flight->cut_at = started;
    KillStarting(in_flight->env, runtime, *files);
  }
};

class CliRuntime : public OciRuntime {
 public:
  CliRuntime(Env* env, RuntimeOptions options, std::string path, ProbeResult probe)
      : env_(env), options_(std::move(options)), path_(std::move(path)), probe_(std::move(probe)) {}

  const std::string& name() const override { return options_.name; }
  const std::string& path() const override { return path_; }
  const std::string& version() const override { return probe_.version; }
  const RuntimeFeatures& features() const override { return probe_.features; }
  std::vector<std::string> global_arguments() const override {
    std::vector<std::string> out = {"--root", options_.state_dir};
    if (options_.systemd_cgroup) out.push_back("--systemd-cgroup");
    return out;
  }

  Task<absl::Status> Start(std::string id) override { return Simple("start", std::move(id), {}, {}); }
  Task<absl::Status> Kill(std::string id, int signal) override {
    return Simple("kill", std::move(id), {}, {StrCat(signal)});
  }
  Task<absl::Status> Delete(std::string id, bool force) override { return DeleteTask(std::move(id), force); }
  Task<absl::StatusOr<RuntimeState>> State(std::string id) override { return StateTask(std::move(id)); }
  Task<absl::Status> Update(std::string id, std::string resources_json) override {
    return UpdateTask(std::move(id), std::move(resources_json));
  }
  Task<absl::Status> Pause(std::string id) override { return Simple("pause", std::move(id), {}, {}); }
  Task<absl::Status> Resume(std::string id) override { return Simple("resume", std::move(id), {}, {}); }
  Task<absl::Status> CanCheckpoint() override { return CanCheckpointTask(); }
  Task<absl::Status> Checkpoint(std::string id, CheckpointOptions options) override {
    return CheckpointTask(std::move(id), std::move(options));
  }
  Task<absl::StatusOr<std::unique_ptr<ExecProcess>>> Exec(std::string id, ExecOptions options) override {
    return ExecTask(std::move(id), std::move(options));
  }

 private:
  std::vector<std::string> Command(std::vector<std::string> more) const {
    std::vector<std::string> argv = {path_};
    for (std::string& argument : global_arguments()) argv.push_back(std::move(argument));
    for (std::string& argument : more) argv.push_back(std::move(argument));
    return argv;
  }

  // `runtime command OPTIONS id ARGUMENTS`; what it printed.
  Task<absl::StatusOr<std::string>> Run(std::string command, std::string id, std::vector<std::string> options,
                                        std::vector<std::string> arguments) {
    CO_RETURN_IF_ERROR_SYNC(CheckId(id));
    std::vector<std::string> words = {command};
    words.insert(words.end(), options.begin(), options.end());
    words.push_back(id);
    words.insert(words.end(), arguments.begin(), arguments.end());
    SubprocessOptions run;
    run.argv = Command(std::move(words));
    run.env = RuntimeEnvironment();
    run.max_output_bytes = kMaxCommandOutputBytes;
    run.timeout = kRuntimeCommandTimeout;
    Task<absl::StatusOr<SubprocessResult>> running = env_->subprocess().Run(std::move(run));
    absl::StatusOr<SubprocessResult> result = co_await std::move(running);
    if (!result.ok()) co_return Annotate(result.status(), StrCat(name(), " ", command, " ", id));
    if (!result->ok()) co_return RuntimeError(name(), command, id, result->stderr_data);
    co_return std::move(result->stdout_data);
  }

  Task<absl::Status> Simple(std::string command, std::string id, std::vector<std::string> options,
                            std::vector<std::string> arguments) {
    Task<absl::StatusOr<std::string>> running =
        Run(std::move(command), std::move(id), std::move(options), std::move(arguments));
    absl::StatusOr<std::string> out = co_await std::move(running);
    co_return out.status();
  }

  Task<absl::Status> DeleteTask(std::string id, bool force) {
    CO_RETURN_IF_ERROR_SYNC(CheckId(id));
    // Both runtimes make this directory before anything else of a container and remove it last: without it
    // there is nothing to ask a process for.
    struct stat info;
    if (::lstat(StrCat(options_.state_dir, "/", id).c_str(), &info) != 0 && errno == ENOENT) {
      co_return absl::OkStatus();
    }
    std::vector<std::string> options;
    if (force) options.push_back("--force");
    // The root file system, which a runc that was killed while it restored leaves in its way.
    (void)::umount2(StrCat(options_.state_dir, "/", id, "/criu-root").c_str(), MNT_DETACH | UMOUNT_NOFOLLOW);
    Task<absl::Status> deleting = Simple("delete", id, std::move(options), {});
    absl::Status deleted = co_await std::move(deleting);
    if (absl::IsNotFound(deleted)) deleted = absl::OkStatus();
    ExecChildren::Instance().LookAndSweep(env_);
    co_return deleted;
  }

  Task<absl::StatusOr<RuntimeState>> StateTask(std::string id) {
    CO_ASSIGN_OR_RETURN(std::string json, Run("state", id, {}, {}));
    simdjson::dom::parser parser;
    simdjson::dom::element root;
    std::string_view status;
    int64_t pid = 0;
    if (parser.parse(json).get(root) != simdjson::SUCCESS ||
        root["status"].get(status) != simdjson::SUCCESS || root["pid"].get(pid) != simdjson::SUCCESS) {
      co_return absl::InternalError(StrCat(name(), " state ", id, ": not a state: ", json.substr(0, 200)));
    }
    RuntimeState out;
    out.status = std::string(status);
    // crun keeps the number of a process that is gone.
    out.pid = out.status == "stopped" ? 0 : static_cast<int>(pid);
    co_return out;
  }

  Task<absl::Status> UpdateTask(std::string id, std::string resources_json) {
    ScratchFiles files(Stem());
    CO_RETURN_IF_ERROR_SYNC(WriteScratch(files.json(), resources_json));
    std::vector<std::string> options = {"--resources", files.json()};
    Task<absl::Status> updating = Simple("update", id, std::move(options), {});
    absl::Status updated = co_await std::move(updating);
    co_return updated;
  }

  Task<absl::Status> CanCheckpointTask() {
    if (can_checkpoint_) co_return absl::OkStatus();
    SubprocessOptions help;
    help.argv = {path_, "checkpoint", "--help"};
    help.env = RuntimeEnvironment();
    CO_ASSIGN_OR_RETURN(SubprocessResult known, env_->subprocess().Run(std::move(help)));
    if (!known.ok() || !absl::StrContains(known.stdout_data, "--image-path")) {
      co_return absl::UnimplementedError(StrCat("checkpoint: ", name(), " ", version(), " at ", path_,
                                                " is built without criu; runc has it"));
    }
    auto criu = FindProgram("criu");
    if (!criu.ok()) {
      co_return absl::UnimplementedError(
          StrCat("checkpoint: ", name(), " needs criu, which is not installed (package criu)"));
    }
    SubprocessOptions check;
    check.argv = {*criu, "check"};
    check.env = RuntimeEnvironment();
    CO_ASSIGN_OR_RETURN(SubprocessResult checked, env_->subprocess().Run(std::move(check)));
    if (!checked.ok()) {
      co_return absl::UnimplementedError(
          StrCat("checkpoint: `criu check` fails on this machine: ", CriuCause(checked.stderr_data)));
    }
    can_checkpoint_ = true;
    co_return absl::OkStatus();
  }

  Task<absl::Status> CheckpointTask(std::string id, CheckpointOptions options) {
    CO_RETURN_IF_ERROR_SYNC(CheckId(id));
    SubprocessOptions run;
    run.argv = Command({"checkpoint", "--image-path", options.images_dir, "--work-path", options.work_dir,
                        "--leave-running", id});
    run.env = RuntimeEnvironment();
    run.max_output_bytes = kMaxCommandOutputBytes;
    run.timeout = options.timeout;
    Task<absl::StatusOr<SubprocessResult>> running = env_->subprocess().Run(std::move(run));
    absl::StatusOr<SubprocessResult> result = co_await std::move(running);
    if (result.ok() && result->ok()) co_return absl::OkStatus();
    absl::Status failed = result.ok() ? RuntimeError(name(), "checkpoint", id, result->stderr_data)
                                      : Annotate(result.status(), StrCat(name(), " checkpoint ", id));
    auto log = ReadFile(options.work_dir + "/dump.log", kMaxCriuLogBytes);
    if (log.ok() && result.ok()) failed = Annotate(failed, StrCat("criu: ", CriuCause(*log)));
    // One that was cut off leaves it frozen.
    Task<absl::StatusOr<RuntimeState>> look = StateTask(id);
    absl::StatusOr<RuntimeState> state = co_await std::move(look);
    if (state.ok() && state->status == "paused") {
      Task<absl::Status> resume = Resume(id);
      absl::Status resumed = co_await std::move(resume);
      if (!resumed.ok()) LogError("container stays frozen", {{"container", id}, {"error", resumed}});
    }
    co_return failed;
  }

  // The runtime starts the command detached and ends; as its subreaper we become the command's parent, and
  // get its exit status without a runtime process that stays around it.
  Task<absl::StatusOr<std::unique_ptr<ExecProcess>>> ExecTask(std::string id, ExecOptions options) {
    CO_RETURN_IF_ERROR_SYNC(CheckId(id));
    ScratchFiles files(Stem());
    CO_RETURN_IF_ERROR_SYNC(WriteScratch(files.json(), options.process_json));
    SpawnOptions spawn;
    // Its own errors go to the log: stderr is the command's.
    std::vector<std::string> words = {"--log",    files.log(), "--log-format", "json",       "exec",
                                      "--detach", "--process", files.json(),   "--pid-file", files.pid()};
    Fd listener;
    if (options.tty) {
      CO_ASSIGN_OR_RETURN_SYNC(listener, ListenConsole(files.sock()));
      words.push_back("--console-socket");
      words.push_back(files.sock());
    } else {
      spawn.stdin_fd = options.stdin_fd;
      spawn.stdout_fd = options.stdout_fd;
      spawn.stderr_fd = options.stderr_fd;
    }
    words.push_back(id);
    spawn.argv = Command(std::move(words));
    spawn.env = RuntimeEnvironment();
    ExecInFlight in_flight(env_);
    CO_ASSIGN_OR_RETURN_SYNC(std::unique_ptr<ChildProcess> runtime, env_->subprocess().Spawn(spawn));
    KillExecUnlessDone guard{&in_flight, runtime.get(), &files,
                             ProcessStartTicks(runtime->pid()).value_or(1)};
    bool timed_out = false;
    uint64_t timer = env_->clock().Schedule(kRuntimeCommandTimeout, [this, &timed_out, &runtime, &files] {
      timed_out = true;
      KillStarting(env_, runtime.get(), files);
    });
    TimerGuard timer_guard{env_, timer};
    Task<int> wait = runtime->Wait();
    int status = co_await std::move(wait);
    if (timed_out) {
      co_return absl::DeadlineExceededError(
          StrCat(name(), " exec ", id, ": not started after ", absl::FormatDuration(kRuntimeCommandTimeout)));
    }
    guard.done = true;
    if (ExitCode(status) != 0) {
      auto log = ReadFile(files.log(), kMaxCommandOutputBytes);
      co_return RuntimeError(name(), "exec", id, log.ok() ? *log : "");
    }
    CO_ASSIGN_OR_RETURN_SYNC(int pid, ReadPidFile(files.pid()));
    auto command = env_->subprocess().Adopt(pid);
    if (!command.ok()) co_return Annotate(command.status(), StrCat(name(), " exec ", id));
    in_flight.command = pid;
    auto facts = ProcessFactsOf(pid);
    int session = facts.ok() ? facts->session : 0;
    Fd tty;
    if (options.tty) {
      auto received = ReceiveConsole(listener.get());
      if (!received.ok()) {
        (void)KillProcessTree(pid, session, nullptr);
        co_return Annotate(received.status(), StrCat(name(), " exec ", id));
      }
      tty = *std::move(received);
    }
    co_return std::make_unique<CliExecProcess>(*std::move(command), session, std::move(tty));
  }

  struct TimerGuard {
    Env* env;
    uint64_t timer;
    ~TimerGuard() { env->clock().CancelTimer(timer); }
  };

  std::string Stem() {
    return StrCat(options_.run_dir, "/", std::string(1, kScratchPrefix), env_->random().Suffix(10));
  }

  Env* env_;
  RuntimeOptions options_;
  std::string path_;
  ProbeResult probe_;
  bool can_checkpoint_ = false;
};

// Whether a process is a runtime's command on containers of `state_dir`; a monitor's `create` or `restore` is
// not meant.
bool IsCommandOn(int pid, const std::string& state_dir) {
  std::vector<std::string> words = CommandLineOf(pid);
  for (const char* command : {"create", "restore"}) {
    if (std::find(words.begin(), words.end(), command) != words.end()) return false;
  }
  auto root = std::adjacent_find(words.begin(), words.end(), [&](const std::string& a, const std::string& b) {
    return a == "--root" && b == state_dir;
  });
  return root != words.end();
}

// All processes for which `test` holds.
template <class Test>
std::vector<int> ProcessesThat(Test test) {
  std::vector<int> pids = ProcessIds();
  std::erase_if(pids, [&test](int pid) { return !test(pid); });
  return pids;
}

// Whether the process runs what is at `path`, or a copy in memory, which crun makes of itself.
bool RunsProgram(int pid, const std::string& path) {
  const std::string link = StrCat("/proc/", pid, "/exe");  // none: dead, or a thread of the kernel
  struct stat its, wanted;
  if (::stat(link.c_str(), &its) != 0) return false;
  if (::stat(path.c_str(), &wanted) == 0 && its.st_dev == wanted.st_dev && its.st_ino == wanted.st_ino)
    return true;
  char target[PATH_MAX];
  ssize_t n = ::readlink(link.c_str(), target, sizeof target);
  if (n <= 0) return false;
  const std::string_view name(target, static_cast<size_t>(n));
  return name.starts_with("/memfd:") && absl::StrContains(Av(name), Av(path.substr(path.rfind('/') + 1)));
}

// Whether it is what a killed process like ours left between fork and the end of exec: older, and with our
// words, or, while the kernel changes its program for the runtime's, with none.
bool IsUnbornCommand(int pid, const std::vector<std::string>& own_words, const std::string& runtime_path) {
  if (pid == ::getpid()) return false;
  std::vector<std::string> words = CommandLineOf(pid);
  if (words.empty() ? !RunsProgram(pid, "/proc/self/exe") && !RunsProgram(pid, runtime_path)
                    : words != own_words)
    return false;
  return ProcessStartTicks(pid).value_or(UINT64_MAX) <= ProcessStartTicks(::getpid()).value_or(0);
}

// Commands that a caller who was killed left running would cross ours on the same containers.
Task<void> AwaitOrphans(Env* env, std::string state_dir, std::string runtime_path) {
  absl::Duration limit = env->clock().Monotonic() + kForkLimit;
  const std::vector<std::string> own_words = CommandLineOf(::getpid());
  auto unborn = [&](int pid) { return IsUnbornCommand(pid, own_words, runtime_path); };
  while (!ProcessesThat(unborn).empty() && env->clock().Monotonic() < limit) {
    Task<void> nap = env->clock().Sleep(kForkInterval);
    co_await std::move(nap);
  }
  auto command = [&state_dir](int pid) { return IsCommandOn(pid, state_dir); };
  for (int pid : ProcessesThat(command)) {
    absl::StatusOr<std::unique_ptr<ChildProcess>> process = env->subprocess().Adopt(pid);
    if (!process.ok() || !IsCommandOn(pid, state_dir)) continue;
    ChildProcess* orphan = process->get();
    uint64_t timer = env->clock().Schedule(kOrphanCommandLimit, [orphan] { (void)orphan->Signal(SIGKILL); });
    Task<int> wait = orphan->Wait();
    co_await std::move(wait);
    env->clock().CancelTimer(timer);
  }
}

// What such commands were given.
void RemoveScratch(const std::string& dir) {
  std::unique_ptr<DIR, int (*)(DIR*)> open(::opendir(dir.c_str()), ::closedir);
  while (dirent* entry = open != nullptr ? ::readdir(open.get()) : nullptr) {
    bool ours =
        entry->d_name[0] == kScratchPrefix || (entry->d_name[0] == '.' && entry->d_name[1] == kScratchPrefix);
    if (ours) ::unlinkat(::dirfd(open.get()), entry->d_name, 0);
  }
}

}  // namespace

Task<absl::StatusOr<std::unique_ptr<OciRuntime>>> OpenRuntime(Env* env, RuntimeOptions options) {
  if (options.name != "runc" && options.name != "crun") {
    co_return absl::InvalidArgumentError(StrCat("OCI runtime \"", options.name, "\": neither runc nor crun"));
  }
  CO_ASSIGN_OR_RETURN_SYNC(std::string path, FindProgram(options.path.empty() ? options.name : options.path));
  CO_RETURN_IF_ERROR_SYNC(MakeDirs(options.state_dir, 0700));
  CO_RETURN_IF_ERROR_SYNC(MakeDirs(options.run_dir, 0700));
  if (::prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0) co_return ErrnoStatus(errno, "become subreaper");
  Task<void> orphans = AwaitOrphans(env, options.state_dir, path);
  co_await std::move(orphans);
  RemoveScratch(options.run_dir);
  CO_ASSIGN_OR_RETURN(ProbeResult probe, ProbeRuntime(env, options, path));
  std::unique_ptr<OciRuntime> out =
      std::make_unique<CliRuntime>(env, std::move(options), std::move(path), std::move(probe));
  co_return out;
}

}  // namespace keelson::oci
