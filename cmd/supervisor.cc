#include "cmd/supervisor.h"

#include <absl/strings/numbers.h>
#include <absl/strings/str_split.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>

#include "base/fd.h"
#include "base/log.h"
#include "base/process.h"
#include "base/status.h"
#include "base/strings.h"

namespace keelson {

namespace {

constexpr absl::Duration kMaxBackoff = absl::Seconds(10);
constexpr absl::Duration kHealthyAfter = absl::Seconds(5);
constexpr absl::Duration kLogCheckInterval = absl::Seconds(60);
constexpr size_t kMaxStatBytes = 4096;

std::string Describe(int wait_status) {
  if (WIFSIGNALED(wait_status)) return StrCat("signal ", WTERMSIG(wait_status));
  return StrCat("exit code ", WEXITSTATUS(wait_status));
}

}  // namespace

absl::StatusOr<ProcessIdentity> IdentifyProcess(int pid, const std::string& proc_root) {
  ASSIGN_OR_RETURN(ProcessFacts facts, ProcessFactsOf(pid, proc_root));
  if (facts.dead) return absl::NotFoundError(StrCat("process ", pid, " has ended"));
  return ProcessIdentity{pid, facts.start_ticks};
}

absl::StatusOr<ProcessIdentity> ReadPidFile(const std::string& path) {
  ASSIGN_OR_RETURN(std::string text, ReadFile(path, kMaxStatBytes));
  std::vector<std::string> parts = absl::StrSplit(text, absl::ByAnyChar(" \n"), absl::SkipEmpty());
  ProcessIdentity identity;
  if (parts.size() != 2 || !absl::SimpleAtoi(parts[0], &identity.pid) ||
      !absl::SimpleAtoi(parts[1], &identity.start_time_ticks) || identity.pid <= 0) {
    return absl::NotFoundError(StrCat(path, ": not a pid file of ours"));
  }
  return identity;
}

absl::Status WritePidFile(const std::string& path, const ProcessIdentity& identity) {
  return WriteFileAtomic(path, StrCat(identity.pid, " ", identity.start_time_ticks, "\n"), 0644,
                         /*durable=*/false);
}

absl::StatusOr<std::unique_ptr<ChildProcess>> AdoptFromPidFile(Env& env, const std::string& path,
                                                               const std::string& proc_root) {
  ASSIGN_OR_RETURN(ProcessIdentity expected, ReadPidFile(path));
  // First the pidfd, then the identity: afterwards the descriptor cannot come to mean another process.
  ASSIGN_OR_RETURN(std::unique_ptr<ChildProcess> process, env.subprocess().Adopt(expected.pid));
  auto actual = IdentifyProcess(expected.pid, proc_root);
  if (!actual.ok() || actual->start_time_ticks != expected.start_time_ticks) {
    return absl::NotFoundError(StrCat("process ", expected.pid, " of ", path, " has ended"));
  }
  return process;
}

bool ExecutableReplaced(int pid, const std::string& argv0, const std::string& proc_root) {
  const std::string link = StrCat(proc_root, "/", pid, "/exe");
  std::string path = argv0;
  if (path.find('/') == std::string::npos) {  // it was found in PATH; the kernel knows where
    char target[PATH_MAX + 1];
    ssize_t length = ::readlink(link.c_str(), target, PATH_MAX);
    if (length <= 0) return false;
    path.assign(target, static_cast<size_t>(length));
    constexpr std::string_view kDeleted = " (deleted)";
    if (path.ends_with(kDeleted)) path.resize(path.size() - kDeleted.size());
  }
  struct stat running, named;
  if (::stat(link.c_str(), &running) != 0 || ::stat(path.c_str(), &named) != 0) return false;
  return running.st_dev != named.st_dev || running.st_ino != named.st_ino;
}

Task<void> StopProcess(Env* env, std::shared_ptr<ChildProcess> process, absl::Duration grace) {
  if (!process->Signal(SIGTERM).ok()) co_return;
  uint64_t timer = env->clock().Schedule(grace, [process] { (void)process->Signal(SIGKILL); });
  Task<int> wait = process->Wait();
  co_await std::move(wait);
  env->clock().CancelTimer(timer);
}

struct Supervisor::Component {
  ComponentSpec spec;
  std::shared_ptr<ChildProcess> process;
  absl::Duration started;
  absl::Duration backoff;
  int restarts = 0;
  bool adopted = false;
  bool stopping = false;
  bool restarting = false;  // it ends because we want it anew
  AsyncEvent launched;      // set after each attempt to launch it
};

Supervisor::Supervisor(Env& env) : env_(env), scope_(env.executor()) {
  scope_.Spawn("trim logs", TrimLogs());
}
Supervisor::~Supervisor() = default;

absl::Status Supervisor::Launch(Component& component) {
  const ComponentSpec& spec = component.spec;
  ASSIGN_OR_RETURN(Fd log, OpenFile(spec.log_file, O_WRONLY | O_CREAT | O_APPEND, 0640));
  SpawnOptions options;
  options.argv = spec.argv;
  options.env = spec.env;
  options.stdout_fd = log.get();
  options.stderr_fd = log.get();
  ASSIGN_OR_RETURN(std::unique_ptr<ChildProcess> process, env_.subprocess().Spawn(options));
  component.process = std::move(process);
  component.started = env_.clock().Monotonic();
  component.adopted = false;
  auto identity = IdentifyProcess(component.process->pid());
  if (identity.ok()) RETURN_IF_ERROR(WritePidFile(spec.pid_file, *identity));
  LogInfo("component started", {{"name", spec.name}, {"pid", component.process->pid()}});
  return absl::OkStatus();
}

absl::Status Supervisor::Start(ComponentSpec spec) {
  auto component = std::make_shared<Component>();
  component->spec = std::move(spec);
  component->backoff = component->spec.min_backoff;
  auto running = AdoptFromPidFile(env_, component->spec.pid_file);
  if (running.ok()) {
    component->process = *std::move(running);
    component->adopted = true;
    component->started = env_.clock().Monotonic();
    LogInfo("component adopted", {{"name", component->spec.name}, {"pid", component->process->pid()}});
  } else {
    RETURN_IF_ERROR(Annotate(Launch(*component), StrCat("start ", component->spec.name)));
  }
  components_.push_back(component);
  scope_.Spawn(component->spec.name, Keep(component));
  return absl::OkStatus();
}

Task<void> Supervisor::Keep(std::shared_ptr<Component> component) {
  while (true) {
    if (component->process != nullptr) {
      Task<int> wait = component->process->Wait();
      int wait_status = co_await std::move(wait);
      component->process.reset();
      if (component->stopping) co_return;
      ++component->restarts;
      if (component->restarting) {
        component->restarting = false;
        absl::Status launched = Launch(*component);
        component->launched.Set();
        if (launched.ok()) continue;
        LogError("component cannot be started", {{"name", component->spec.name}, {"error", launched}});
      }
      absl::Duration lived = env_.clock().Monotonic() - component->started;
      LogWarning("component ended, starting it again", {{"name", component->spec.name},
                                                        {"how", Describe(wait_status)},
                                                        {"lived", absl::FormatDuration(lived)},
                                                        {"log", component->spec.log_file}});
      // One that ran well comes back at once: every millisecond without it is somebody's failed request.
      if (lived >= kHealthyAfter) component->backoff = absl::ZeroDuration();
    }
    if (component->backoff > absl::ZeroDuration()) {
      Task<void> pause = env_.clock().Sleep(component->backoff);
      co_await std::move(pause);
    }
    component->backoff = std::clamp(component->backoff * 2, component->spec.min_backoff, kMaxBackoff);
    if (component->stopping) co_return;
    absl::Status launched = Launch(*component);
    if (!launched.ok()) {
      LogError("component cannot be started", {{"name", component->spec.name}, {"error", launched}});
    }
  }
}

Task<void> Supervisor::StopComponent(std::string name) {
  std::shared_ptr<Component> component = Find(name);
  if (component == nullptr) co_return;
  component->stopping = true;
  if (component->process != nullptr) {
    Task<void> stop = StopProcess(&env_, component->process, component->spec.stop_grace);
    co_await std::move(stop);
  }
  ::unlink(component->spec.pid_file.c_str());
}

Task<void> Supervisor::Restart(std::string name) {
  std::shared_ptr<Component> component = Find(name);
  if (component == nullptr || component->process == nullptr) co_return;
  LogInfo("component restarted on demand", {{"name", name}, {"pid", component->process->pid()}});
  component->restarting = true;
  component->launched.Reset();
  Task<void> stop = StopProcess(&env_, component->process, component->spec.stop_grace);
  co_await std::move(stop);
  Task<void> wait = component->launched.Wait();
  co_await std::move(wait);
}

bool Supervisor::replaced(const std::string& name) const {
  std::shared_ptr<Component> component = Find(name);
  return component != nullptr && component->process != nullptr &&
         ExecutableReplaced(component->process->pid(), component->spec.argv[0]);
}

Task<void> Supervisor::Release() { return scope_.Close(); }

Task<void> Supervisor::TrimLogs() {
  while (true) {
    Task<void> pause = env_.clock().Sleep(kLogCheckInterval);
    co_await std::move(pause);
    for (const auto& component : components_) {
      struct stat st;
      const std::string& path = component->spec.log_file;
      if (::stat(path.c_str(), &st) != 0 || st.st_size <= component->spec.log_max_bytes) continue;
      // The writer appends, so truncating under it is safe; what falls between copy and cut is lost.
      auto text = ReadFile(path, static_cast<size_t>(st.st_size) + (1 << 20));
      if (text.ok()) (void)WriteFileAtomic(path + ".1", *text, 0640, /*durable=*/false);
      if (::truncate(path.c_str(), 0) != 0) LogWarning("log not cut", {{"file", path}});
    }
  }
}

std::shared_ptr<Supervisor::Component> Supervisor::Find(const std::string& name) const {
  for (const auto& component : components_) {
    if (component->spec.name == name) return component;
  }
  return nullptr;
}

int Supervisor::pid(const std::string& name) const {
  std::shared_ptr<Component> component = Find(name);
  return component != nullptr && component->process != nullptr ? component->process->pid() : 0;
}

int Supervisor::restarts(const std::string& name) const {
  std::shared_ptr<Component> component = Find(name);
  return component != nullptr ? component->restarts : 0;
}

bool Supervisor::adopted(const std::string& name) const {
  std::shared_ptr<Component> component = Find(name);
  return component != nullptr && component->adopted;
}

}  // namespace keelson
