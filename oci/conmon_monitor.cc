// ContainerMonitor on conmon 2.1. Per container one conmon, our child (--sync: it forks only the runtime),
// which outlives us: init takes it over when we go.
//
//   <run_dir>/exits/ID   exit code as text; written by rename, its time stamp is the end
//   <run_dir>/p/ID/      conmon's persist directory: "exit" again, "oom" after an OOM kill. It is there from
//                        Create to Forget and so also tells that the id is in use
//   <run_dir>/a/SHORT    symlink to the bundle, through which the attach socket has a short path
//   <run_dir>/t/         conmon's temporary console sockets
//   <bundle>/            attach, ctl, winsz, pidfile, log-path
#include <absl/strings/ascii.h>
#include <absl/strings/numbers.h>
#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <set>
#include <utility>

#include "base/log.h"
#include "base/process.h"
#include "base/status.h"
#include "cgroups/manager.h"
#include "oci/io.h"
#include "oci/monitor.h"
#include "oci/probe.h"
#include "oci/runtime_errors.h"

namespace keelson::oci {
namespace {

constexpr absl::Duration kReopenTimeout = absl::Seconds(10);
constexpr absl::Duration kRestoreTimeout = absl::Minutes(10);  // all of its memory is read
constexpr absl::Duration kRestoreGrace = absl::Seconds(20);    // for one whose caller died
constexpr size_t kMaxRestoreLogBytes = 64 << 20;
constexpr char kRestoreLog[] = "restore.log";  // criu's, in the bundle
constexpr size_t kMaxSocketPathBytes = 107;
constexpr size_t kShortIdBytes = 32;
constexpr size_t kMaxRunDirBytes = kMaxSocketPathBytes - kShortIdBytes - (sizeof("/a//attach") - 1);
constexpr size_t kMaxLogPathBytes = 4096;
constexpr int kMaxTerminalSize = 1000;  // what conmon takes
constexpr int kSyncPipeFd = 3;          // the first of SpawnOptions::extra_fds

// At most kShortIdBytes; the id itself where it fits, else its beginning and an FNV-1a hash of all of it.
std::string ShortId(std::string_view id) {
  if (id.size() <= kShortIdBytes) return std::string(id);
  uint64_t hash = 0xcbf29ce484222325;
  for (unsigned char c : id) hash = (hash ^ c) * 0x100000001b3;
  constexpr size_t kHexBytes = 16;
  return StrCat(id.substr(0, kShortIdBytes - kHexBytes), absl::Hex(hash, absl::kZeroPad16));
}

// Events of one inotify descriptor, read without waiting: calls `each(name, mask)`. False when it is empty.
template <class Each>
bool DrainInotify(int fd, Each each) {
  alignas(inotify_event) char buffer[16384];
  bool any = false;
  while (true) {
    ssize_t n = ::read(fd, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return any;
    any = true;
    for (ssize_t at = 0; at < n;) {
      const auto* event = reinterpret_cast<const inotify_event*>(buffer + at);
      each(event->len > 0 ? std::string_view(event->name) : std::string_view(), event->mask);
      at += static_cast<ssize_t>(sizeof(inotify_event) + event->len);
    }
  }
}

// conmon opens the log itself, by name. Its last component is checked here: whoever may write to the pod's
// log directory must not lead it elsewhere. The directory is the caller's to check.
absl::Status CheckLogPath(const std::string& path) {
  if (path.empty()) return absl::OkStatus();
  if (path[0] != '/' || path.size() > kMaxLogPathBytes) {
    return absl::InvalidArgumentError(StrCat("log path ", path, ": not an absolute path"));
  }
  if (path.find_first_of(":\n") != std::string::npos) {
    return absl::InvalidArgumentError(StrCat("log path ", path, ": conmon takes no path with a colon"));
  }
  for (const std::string& name : {path, path + ".tmp"}) {
    struct stat st;
    if (::lstat(name.c_str(), &st) == 0 && !S_ISREG(st.st_mode)) {
      return absl::PermissionDeniedError(StrCat("log path ", name, ": not a regular file"));
    }
  }
  return absl::OkStatus();
}

// Kills the monitor, and with it the runtime it runs, when Create ends early.
struct KillMonitorUnlessDone {
  ChildProcess* child;
  bool done = false;
  ~KillMonitorUnlessDone() {
    if (!done) (void)child->Signal(SIGKILL);
  }
};

class ConmonMonitor : public ContainerMonitor {
 public:
  ConmonMonitor(Env& env, ConmonOptions options, std::unique_ptr<cgroups::Manager> cgroups)
      : env_(&env), options_(std::move(options)), cgroups_(std::move(cgroups)) {}
  ~ConmonMonitor() override {
    boost::system::error_code ignored;
    if (watch_ != nullptr) watch_->inotify->close(ignored);
    if (watch_ != nullptr) watch_->on_exit = nullptr;
  }

  Task<absl::StatusOr<MonitoredProcess>> Create(OciRuntime* runtime, MonitorOptions options) override {
    return CreateTask(runtime, std::move(options));
  }

  std::optional<ContainerExit> ReadExit(const std::string& id) override {
    if (!CheckId(id).ok()) return std::nullopt;
    return ReadExitIn(options_.run_dir, id);
  }

  Task<absl::Status> KillInterrupted(std::string id) override {
    // Rare: only a start that the server's death cut in two is looked for among all processes. The runtime
    // that a monitor runs is killed with it, but not before it: it is waited for, too, and what was just
    // forked comes up in the next round.
    for (std::vector<int> pids = CreatorsOf(id); !pids.empty(); pids = CreatorsOf(id)) {
      for (int pid : pids) {
        absl::StatusOr<std::unique_ptr<ChildProcess>> process = env_->subprocess().Adopt(pid);
        // Its command line once more, now that the pid cannot become another's.
        if (!process.ok() || !IsCreatorOf(pid, id)) continue;
        if (IsRestore(pid, id)) {
          // criu takes its mounts back, if it may end by itself.
          ChildProcess* restore = process->get();
          uint64_t timer =
              env_->clock().Schedule(kRestoreGrace, [restore] { (void)restore->Signal(SIGKILL); });
          Task<int> wait = restore->Wait();
          co_await std::move(wait);
          env_->clock().CancelTimer(timer);
          continue;
        }
        absl::Status killed = (*process)->Signal(SIGKILL);
        if (!killed.ok() && !absl::IsNotFound(killed)) {
          co_return Annotate(killed, StrCat("kill monitor of ", id));
        }
        Task<int> wait = (*process)->Wait();
        co_await std::move(wait);
      }
    }
    co_return absl::OkStatus();
  }

  void Forget(const std::string& id) override {
    if (!CheckId(id).ok()) return;
    ::unlink(ExitPath(options_.run_dir, id).c_str());
    ::unlink(AttachLink(id).c_str());
    if (watch_ != nullptr) watch_->known.erase(id);
    absl::Status removed = RemoveTree(PersistDir(options_.run_dir, id));
    if (!removed.ok()) LogWarning("monitor records stay", {{"container", id}, {"error", removed}});
  }

  Task<absl::Status> ReopenLog(std::string bundle_dir) override {
    return ReopenTask(env_, std::move(bundle_dir));
  }

  Task<absl::Status> ResizeTerminal(std::string bundle_dir, uint16_t rows, uint16_t columns) override {
    int height = std::min<int>(rows, kMaxTerminalSize), width = std::min<int>(columns, kMaxTerminalSize);
    co_return Control(bundle_dir, StrCat("1 ", height, " ", width, "\n"));
  }

  std::string AttachSocketPath(const std::string& id) const override { return AttachLink(id) + "/attach"; }

  absl::Status WatchExits(ExitCallback on_exit) override {
    Fd fd(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
    if (!fd.valid()) return ErrnoStatus(errno, "inotify");
    std::string dir = options_.run_dir + "/exits";
    if (::inotify_add_watch(fd.get(), dir.c_str(), IN_MOVED_TO | IN_ONLYDIR) < 0) {
      return ErrnoStatus(errno, StrCat("watch ", dir));
    }
    auto watch = std::make_shared<Watch>();
    watch->run_dir = options_.run_dir;
    watch->on_exit = std::move(on_exit);
    watch->known = Records(dir);
    watch->inotify = MakeDescriptor(env_, std::move(fd));
    if (watch_ != nullptr) {
      boost::system::error_code ignored;
      watch_->inotify->close(ignored);
    }
    watch_ = watch;
    Next(std::move(watch));
    return absl::OkStatus();
  }

 private:
  struct Watch {
    std::string run_dir;
    ExitCallback on_exit;
    std::set<std::string> known;  // reported, or there before the watch
    std::shared_ptr<Descriptor> inotify;
  };

  // Whether process `pid` is a monitor of ours for container `id`, or the runtime that makes it, by its
  // arguments.
  bool IsCreatorOf(int pid, const std::string& id) const {
    std::string exits = options_.run_dir + "/exits";
    std::vector<std::string> argv = CommandLineOf(pid);
    bool ours = false, its = false, creates = false;
    for (size_t i = 0; i + 1 < argv.size(); ++i) {
      ours = ours || (argv[i] == "--exit-dir" && argv[i + 1] == exits);
      its = its || (argv[i] == "--cid" && argv[i + 1] == id);
      creates = creates || argv[i] == "create" || argv[i] == "restore";
    }
    return (ours && its) || (creates && argv.back() == id);
  }

  // The runtime alone, not its monitor.
  static bool IsRestore(int pid, const std::string& id) {
    std::vector<std::string> argv = CommandLineOf(pid);
    return !argv.empty() && argv.back() == id && std::find(argv.begin(), argv.end(), "restore") != argv.end();
  }

  std::vector<int> CreatorsOf(const std::string& id) const {
    std::vector<int> out;
    for (int pid : ProcessIds()) {
      if (IsCreatorOf(pid, id)) out.push_back(pid);
    }
    return out;
  }

  static std::string ExitPath(const std::string& run_dir, const std::string& id) {
    return StrCat(run_dir, "/exits/", id);
  }
  static std::string PersistDir(const std::string& run_dir, const std::string& id) {
    return StrCat(run_dir, "/p/", id);
  }
  std::string AttachLink(const std::string& id) const { return StrCat(options_.run_dir, "/a/", ShortId(id)); }

  static std::optional<ContainerExit> ReadExitIn(const std::string& run_dir, const std::string& id) {
    constexpr size_t kMaxExitBytes = 32;
    auto fd = OpenFile(ExitPath(run_dir, id), O_RDONLY | O_NOFOLLOW);
    struct stat st;
    if (!fd.ok() || ::fstat(fd->get(), &st) != 0) return std::nullopt;
    auto text = ReadFd(fd->get(), kMaxExitBytes);
    ContainerExit out;
    if (!text.ok() || !absl::SimpleAtoi(absl::StripAsciiWhitespace(*text), &out.exit_code))
      return std::nullopt;
    out.finished_at = absl::TimeFromTimespec(st.st_mtim);
    // The notice comes for every cgroup below the one that ran out, so also to containers that nobody killed.
    out.oom_killed =
        out.exit_code != 0 && ::access(StrCat(PersistDir(run_dir, id), "/oom").c_str(), F_OK) == 0;
    return out;
  }

  // Names in the exit directory; conmon's temporary ones (ID.XXXXXX) do no harm.
  static std::set<std::string> Records(const std::string& dir) {
    std::set<std::string> out;
    auto names = FolderNames(dir);
    for (const std::string& name : names.ok() ? *names : std::vector<std::string>()) {
      if (name[0] != '.') out.insert(name);
    }
    return out;
  }

  static void Next(std::shared_ptr<Watch> watch) {
    Descriptor& inotify = *watch->inotify;
    inotify.async_wait(Descriptor::wait_read, [watch](boost::system::error_code error) {
      if (error || !watch->inotify->is_open() || !watch->on_exit) return;
      std::set<std::string> ended;
      bool overflow = false;
      DrainInotify(watch->inotify->native_handle(), [&](std::string_view name, uint32_t mask) {
        overflow = overflow || (mask & IN_Q_OVERFLOW) != 0;
        if (!name.empty()) ended.insert(std::string(name));
      });
      if (overflow) ended = Records(watch->run_dir + "/exits");
      for (const std::string& id : ended) {
        std::optional<ContainerExit> exit = ReadExitIn(watch->run_dir, id);
        if (!exit || !watch->known.insert(id).second) continue;
        ExitCallback report = watch->on_exit;
        report(id, *exit);
        if (!watch->on_exit) return;  // it destroyed the monitor
      }
      Next(watch);
    });
  }

  SpawnOptions Conmon(const OciRuntime& runtime, const MonitorOptions& options, int sync_fd) const {
    SpawnOptions spawn;
    std::vector<std::string>& argv = spawn.argv;
    argv = {options_.path, "--api-version", "1", "--sync"};
    auto add = [&argv](std::string name, std::string value) {
      argv.push_back(std::move(name));
      argv.push_back(std::move(value));
    };
    add("--cid", options.id);
    add("--cuuid", ShortId(options.id));
    add("--name", options.name.empty() ? options.id : options.name);
    add("--runtime", runtime.path());
    for (const std::string& argument : runtime.global_arguments())
      argv.push_back(StrCat("--runtime-arg=", argument));
    add("--bundle", options.bundle_dir);
    add("--container-pidfile", options.bundle_dir + "/pidfile");
    add("--exit-dir", options_.run_dir + "/exits");
    add("--persist-dir", PersistDir(options_.run_dir, options.id));
    add("--socket-dir-path", options_.run_dir + "/a");
    add("--log-path", options.log_path.empty() ? "none" : StrCat("k8s-file:", options.log_path));
    add("--log-level", "error");
    argv.push_back("--log-size-max=-1");  // rotation is the kubelet's
    argv.push_back("--no-sync-log");      // an fsync would hold every exit back
    if (options.stdin_open) argv.push_back("--stdin");
    if (options.stdin_open && !options.stdin_once) argv.push_back("--leave-stdin-open");
    if (options.tty) argv.push_back("--terminal");
    if (!options.restore_from.empty()) add("--restore", options.restore_from);
    spawn.env = RuntimeEnvironment();
    spawn.env.push_back(StrCat("TMPDIR=", options_.run_dir, "/t"));
    spawn.env.push_back(StrCat("_OCI_SYNCPIPE=", kSyncPipeFd));
    spawn.cwd = options.bundle_dir;
    spawn.extra_fds = {sync_fd};
    return spawn;
  }

  Task<absl::StatusOr<MonitoredProcess>> CreateTask(OciRuntime* runtime, MonitorOptions options) {
    std::string context = StrCat("create container ", options.id);
    absl::Status checked = CheckId(options.id);
    if (checked.ok()) checked = CheckLogPath(options.log_path);
    if (!checked.ok()) co_return Annotate(checked, context);
    std::string persist = PersistDir(options_.run_dir, options.id);
    if (::mkdir(persist.c_str(), 0700) != 0) {
      if (errno == EEXIST) co_return absl::AlreadyExistsError(StrCat(context, ": the id is in use"));
      co_return ErrnoStatus(errno, StrCat(context, ": ", persist));
    }
    Task<absl::StatusOr<MonitoredProcess>> starting = StartTask(runtime, options);
    absl::StatusOr<MonitoredProcess> started = co_await std::move(starting);
    if (!started.ok()) {
      // A runtime that was killed, or crun after some failures, leaves its state.
      if (!absl::IsAlreadyExists(started.status())) {
        Task<absl::Status> deleting = runtime->Delete(options.id, /*force=*/true);
        absl::Status deleted = co_await std::move(deleting);
        if (!deleted.ok())
          LogWarning("half-made container stays", {{"container", options.id}, {"error", deleted}});
      }
      Forget(options.id);
    }
    co_return started;
  }

  Task<absl::StatusOr<MonitoredProcess>> StartTask(OciRuntime* runtime, MonitorOptions options) {
    std::string context = StrCat("create container ", options.id);
    CO_RETURN_IF_ERROR_SYNC(
        WriteFileAtomic(options.bundle_dir + "/log-path", options.log_path, 0600, /*durable=*/false));
    // Of a create that was cut off; runc insists on making its temporary one anew.
    for (const char* name : {"pidfile", ".pidfile", "ctl", "winsz", "attach", kRestoreLog}) {
      ::unlink(StrCat(options.bundle_dir, "/", name).c_str());
    }
    int fds[2];
    if (::pipe2(fds, O_CLOEXEC) != 0) co_return ErrnoStatus(errno, context);
    Fd write_end(fds[1]);
    auto sync = MakeDescriptor(env_, Fd(fds[0]));
    SpawnOptions spawn = Conmon(*runtime, options, write_end.get());
    auto spawned = env_->subprocess().Spawn(spawn);
    if (!spawned.ok()) co_return Annotate(spawned.status(), context);
    std::unique_ptr<ChildProcess> conmon = *std::move(spawned);
    KillMonitorUnlessDone guard{conmon.get()};
    write_end.reset();

    const bool restore = !options.restore_from.empty();
    Task<absl::StatusOr<std::string>> reading =
        ReadLine(env_, sync, kMaxSyncMessageBytes, restore ? kRestoreTimeout : kRuntimeCommandTimeout);
    absl::StatusOr<std::string> line = co_await std::move(reading);
    if (!line.ok()) co_return Annotate(line.status(), StrCat(context, ": waiting for ", runtime->name()));
    if (line->empty()) {
      co_return absl::InternalError(
          StrCat(context, ": the monitor ended without a word; see its log options: ", options_.path,
                 " with log ", options.log_path));
    }
    CO_ASSIGN_OR_RETURN_SYNC(SyncMessage message, ParseSyncMessage(*line));
    if (message.value <= 0) {
      if (!restore) co_return RuntimeError(runtime->name(), "create", options.id, message.message);
      absl::Status failed = RuntimeError(runtime->name(), "restore", options.id, message.message);
      auto log = ReadFile(StrCat(options.bundle_dir, "/", kRestoreLog), kMaxRestoreLogBytes);
      co_return log.ok() ? Annotate(failed, StrCat("criu: ", CriuCause(*log))) : failed;
    }

    MonitoredProcess out;
    out.pid = message.value;
    out.monitor_pid = conmon->pid();
    // 0 when it has gone already: the exit record tells the rest.
    out.pid_start_ticks = ProcessStartTicks(out.pid).value_or(0);
    out.monitor_start_ticks = ProcessStartTicks(out.monitor_pid).value_or(0);
    if (!options.cgroup_parent.empty() && cgroups_ != nullptr) {
      // Only now: the runtime's own memory does not count against the pod's limit.
      absl::Status moved = cgroups_->AddProcess(options.cgroup_parent, out.monitor_pid);
      if (!moved.ok()) {
        LogWarning("the monitor stays in the server's cgroup", {{"container", options.id}, {"error", moved}});
      }
    }
    guard.done = true;
    co_return out;
  }

  static absl::Status Control(const std::string& bundle_dir, std::string_view line) {
    std::string path = bundle_dir + "/ctl";
    // Without a reader the open fails: there is no monitor any more.
    Fd fd(::open(path.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW));
    if (!fd.valid()) {
      if (errno == ENXIO || errno == ENOENT) return absl::FailedPreconditionError("the container has ended");
      return ErrnoStatus(errno, StrCat("open ", path));
    }
    ssize_t n = ::write(fd.get(), line.data(), line.size());
    if (n < 0) return ErrnoStatus(errno, StrCat("write ", path));
    return absl::OkStatus();
  }

  static Task<absl::Status> ReopenTask(Env* env, std::string bundle_dir) {
    CO_ASSIGN_OR_RETURN_SYNC(std::string log_path, ReadFile(bundle_dir + "/log-path", kMaxLogPathBytes));
    if (log_path.empty()) co_return absl::OkStatus();
    CO_RETURN_IF_ERROR_SYNC(CheckLogPath(log_path));
    size_t slash = log_path.rfind('/');
    std::string dir = log_path.substr(0, slash), name = log_path.substr(slash + 1);
    Fd inotify(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
    if (!inotify.valid()) co_return ErrnoStatus(errno, "inotify");
    if (::inotify_add_watch(inotify.get(), dir.c_str(), IN_MOVED_TO | IN_ONLYDIR) < 0) {
      co_return ErrnoStatus(errno, StrCat("watch ", dir));
    }
    // conmon makes NAME.tmp and renames it over NAME.
    CO_RETURN_IF_ERROR_SYNC(Control(bundle_dir, "2 0 0\n"));
    auto events = MakeDescriptor(env, std::move(inotify));
    absl::Duration deadline = env->clock().Monotonic() + kReopenTimeout;
    for (bool reopened = false; !reopened;) {
      Task<absl::Status> waiting = WaitReadable(env, events, deadline - env->clock().Monotonic());
      absl::Status waited = co_await std::move(waiting);
      if (!waited.ok())
        co_return Annotate(waited, StrCat("reopen ", log_path, ": the monitor does not answer"));
      DrainInotify(events->native_handle(),
                   [&](std::string_view moved, uint32_t) { reopened = reopened || moved == name; });
    }
    co_return absl::OkStatus();
  }

  Env* env_;
  ConmonOptions options_;
  std::unique_ptr<cgroups::Manager> cgroups_;
  std::shared_ptr<Watch> watch_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ContainerMonitor>> NewConmonMonitor(Env& env, ConmonOptions options) {
  auto path = FindProgram(options.path);
  if (!path.ok()) return Annotate(path.status(), "container monitor");
  options.path = *std::move(path);
  if (options.run_dir.empty() || options.run_dir[0] != '/') {
    return absl::InvalidArgumentError("container monitor: the run directory is not an absolute path");
  }
  if (options.run_dir.size() > kMaxRunDirBytes) {
    return absl::InvalidArgumentError(StrCat("container monitor: the run directory ", options.run_dir,
                                             " is longer than ", kMaxRunDirBytes,
                                             " bytes; the paths of sockets below it would not fit"));
  }
  for (const char* sub : {"/exits", "/p", "/a", "/t"}) RETURN_IF_ERROR(MakeDirs(options.run_dir + sub, 0700));
  // Without cgroups the monitors stay where we are.
  auto cgroups = cgroups::NewHostManager();
  return std::make_unique<ConmonMonitor>(
      env, std::move(options), cgroups.ok() ? *std::move(cgroups) : std::unique_ptr<cgroups::Manager>());
}

}  // namespace keelson::oci
