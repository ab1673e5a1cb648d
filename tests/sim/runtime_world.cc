#include "tests/sim/runtime_world.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <utility>

#include "base/fd.h"
#include "base/status.h"
#include "base/strings.h"

namespace keelson::sim {

namespace fs = std::filesystem;

namespace {

constexpr int kKilled = 128 + SIGKILL, kTerminated = 128 + SIGTERM;
constexpr absl::Duration kShort = absl::Milliseconds(40), kLong = absl::Seconds(8);
constexpr char kImage[] = "registry.test/app:1";
constexpr std::string_view kCreate = "create ";
constexpr char kImagesFile[] = "inventory.img";  // in a checkpoint: the container's ID

std::string NewFolder() {
  static int count = 0;
  const char* base = fs::exists("/dev/shm") ? "/dev/shm" : "/tmp";
  return StrCat(base, "/keelson-sim-runtime-", ::getpid(), "-", ++count);
}

std::string Short(std::string_view id) { return std::string(id.substr(0, 6)); }

absl::Status Fault(const std::string& what) {
  return absl::UnavailableError(StrCat("simulated: ", what, " failed"));
}

}  // namespace

// ---- the world ----

RuntimeWorld::RuntimeWorld(uint64_t seed, bool tell)
    : env_(seed), random_(seed * 7919 + 1), tell_(tell), root_(NewFolder()) {
  fs::create_directories(root_);
}

RuntimeWorld::~RuntimeWorld() {
  std::error_code ignored;
  fs::remove_all(root_, ignored);
}

std::string RuntimeWorld::folder() const { return StrCat(root_, "/g", generation_); }

void RuntimeWorld::Note(const std::string& what) {
  std::string line = StrCat(absl::ToInt64Microseconds(env_.clock().Monotonic()), " ", what);
  for (unsigned char c : line) hash_ = (hash_ ^ c) * 0x100000001b3;
  if (tell_) std::fprintf(stderr, "%s\n", line.c_str());
}

absl::Duration RuntimeWorld::Delay(absl::Duration most) {
  return absl::Microseconds(Below(static_cast<int>(absl::ToInt64Microseconds(most)) + 1));
}

std::string RuntimeWorld::Relative(const std::string& path) const {
  std::string_view rest = std::string_view(path).substr(std::min(path.size(), root_.size() + 1));
  size_t slash = rest.find('/');
  return slash == rest.npos ? std::string() : std::string(rest.substr(slash + 1));
}

std::string RuntimeWorld::Today(const std::string& path) const {
  return StrCat(folder(), "/", Relative(path));
}

std::shared_ptr<SimProcess> RuntimeWorld::Spawn(SimProcess::Kind kind, const std::string& id,
                                                const std::string& cgroup) {
  auto process = std::make_shared<SimProcess>();
  process->pid = next_pid_++;
  process->start_ticks = static_cast<uint64_t>(process->pid) * 10;
  process->kind = kind;
  process->id = id;
  process->cgroup = cgroup;
  processes[process->pid] = process;
  if (kind != SimProcess::Kind::kMonitor) cgroup_pids[cgroup].insert(process->pid);
  return process;
}

void RuntimeWorld::EndProcess(int pid, int code) {
  auto it = processes.find(pid);
  if (it == processes.end() || !it->second->alive) return;
  std::shared_ptr<SimProcess> process = it->second;
  process->alive = false;
  process->code = code;
  process->ended.Set();
  if (auto group = cgroup_pids.find(process->cgroup); group != cgroup_pids.end()) group->second.erase(pid);
  const std::string id = process->id;
  if (process->kind == SimProcess::Kind::kMonitor) {
    SimTruth& truth = truths[id];
    auto monitor = monitors.find(id);
    if (monitor == monitors.end() || !monitor->second.exit.has_value()) truth.end_unseen = true;
    // The server is its subreaper: what the monitor leaves becomes the server's child.
    for (auto& [other_pid, other] : processes) {
      if (other->id == id && other->kind == SimProcess::Kind::kInit && other->alive && current_ != nullptr &&
          !current_->dead())
        other->child_of_server = generation_;
    }
    return;
  }
  if (process->kind == SimProcess::Kind::kExec) return;
  Note(StrCat("end ", Short(id), " with ", code));
  truths[id].exit_code = code;
  if (auto container = containers.find(id); container != containers.end()) {
    container->second.status = "stopped";
    container->second.frozen = false;
  }
  for (auto& [other_pid, other] : std::map(processes)) {
    if (other->id == id && other->kind == SimProcess::Kind::kExec) EndProcess(other_pid, kKilled);
  }
  absl::Time at = env_.clock().Now();
  env_.clock().Schedule(Delay(kShort), [this, id, code, at] { WriteExit(id, code, at); });
}

void RuntimeWorld::WriteExit(std::string id, int code, absl::Time at) {
  auto monitor = monitors.find(id);
  if (monitor == monitors.end()) return;
  const int pid = monitor->second.monitor_pid;
  auto process = processes.find(pid);
  if (process == processes.end() || !process->second->alive) return;
  oci::ContainerExit exit;
  exit.exit_code = code;
  exit.finished_at = at;
  monitor->second.exit = exit;
  Note(StrCat("exit record ", Short(id)));
  if (current_ != nullptr && !current_->dead() && current_->on_exit) {
    env_.clock().Schedule(Delay(kShort), [this, id, exit, generation = generation_] {
      if (generation != generation_ || current_ == nullptr || current_->dead()) return;
      oci::ExitCallback report = current_->on_exit;
      report(id, exit);
    });
  }
  env_.clock().Schedule(Delay(kShort), [this, pid] { EndProcess(pid, 0); });
}

void RuntimeWorld::Signal(int pid, int signal) {
  auto it = processes.find(pid);
  if (it == processes.end() || !it->second->alive) return;
  if (signal == SIGKILL) {
    if (std::exchange(it->second->dying, true)) return;
    env_.clock().Schedule(Delay(kShort), [this, pid] { EndProcess(pid, kKilled); });
    return;
  }
  // Not all listen.
  if (Below(3) == 0) return;
  const int code = Below(2) == 0 ? 0 : kTerminated;
  env_.clock().Schedule(Delay(absl::Seconds(5)), [this, pid, code] { EndProcess(pid, code); });
}

void RuntimeWorld::ExitContainer(const std::string& id, int code) {
  auto container = containers.find(id);
  if (container != containers.end() && container->second.status == "running" && !container->second.frozen)
    EndProcess(container->second.pid, code);
}

void RuntimeWorld::KillMonitor(const std::string& id) {
  auto monitor = monitors.find(id);
  if (monitor != monitors.end()) EndProcess(monitor->second.monitor_pid, kKilled);
}

void RuntimeWorld::Reboot() {
  Note("reboot");
  ++boot_;
  orphan_creates.clear();
  for (auto& [pid, process] : processes) process->alive = false;
  containers.clear();
  monitors.clear();
  host_ports.clear();
  cgroup_pids.clear();
  pins.clear();
  shm_mounts.clear();
  std::error_code ignored;
  fs::remove_all(folder() + "/run", ignored);
}

void RuntimeWorld::EndUnheard(const std::string& short_id) {
  for (auto& [id, monitor] : std::map(monitors)) {
    if (Short(id) != short_id) continue;
    const int fate = Below(3);
    if (fate > 0) EndProcess(monitor.monitor_pid, 1);
    if (fate > 1) EndProcess(containers[id].pid, kKilled);
  }
}

bool RuntimeWorld::InitAlive(const std::string& id) const {
  for (const auto& [pid, process] : processes) {
    if (process->id == id && process->kind == SimProcess::Kind::kInit && process->alive) return true;
  }
  return false;
}

std::vector<std::string> RuntimeWorld::RunningIds() const {
  std::vector<std::string> out;
  for (const auto& [id, container] : containers) {
    if (container.status == "running" && InitAlive(id)) out.push_back(id);
  }
  return out;
}

std::vector<std::string> RuntimeWorld::Resources(std::string_view id) const {
  std::vector<std::string> out;
  auto add = [&](std::string_view kind, const std::string& name) {
    if (id.empty() || name.find(id) != std::string::npos) out.push_back(StrCat(kind, " ", name));
  };
  for (const auto& [pid, process] : processes) {
    if (!process->alive) continue;
    static constexpr const char* kKinds[] = {"process of", "monitor process of", "exec process of"};
    add(kKinds[static_cast<int>(process->kind)], process->id);
  }
  for (const auto& [name, container] : containers) add("OCI container", name);
  for (const auto& [name, monitor] : monitors) add("monitor record", name);
  for (const auto& [name, ips] : attachments) add("network attachment", name);
  for (const auto& [name, path] : rootfs) add("root file system", name);
  for (const auto& [name, ports] : host_ports) add("host ports", name);
  for (const auto& [path, pids] : cgroup_pids) add("cgroup", path);
  for (const auto& [dir, names] : pins) add("namespaces", dir);
  for (const std::string& dir : shm_mounts) add("shm", dir);
  return out;
}

// ---- the interfaces ----

namespace {

class SimChild : public ChildProcess {
 public:
  SimChild(Generation* generation, std::shared_ptr<SimProcess> process)
      : generation_(generation), process_(std::move(process)) {}
  int pid() const override { return process_->pid; }
  Task<int> Wait() override { return Result(generation_, process_); }
  absl::Status Signal(int signal) override {
    if (!process_->alive) return absl::NotFoundError("ended");
    if (generation_->Step()) generation_->world().Signal(process_->pid, signal);
    return absl::OkStatus();
  }

 private:
  static Task<int> Result(Generation* generation, std::shared_ptr<SimProcess> process) {
    Task<void> wait = process->ended.Wait();
    co_await std::move(wait);
    if (process->child_of_server != generation->number()) co_return 0;
    co_return process->code > 128 ? process->code - 128 : W_EXITCODE(process->code, 0);
  }
  Generation* generation_;
  std::shared_ptr<SimProcess> process_;
};

class SimSubprocess : public Subprocess {
 public:
  explicit SimSubprocess(Generation* generation) : generation_(generation) {}
  Task<absl::StatusOr<SubprocessResult>> Run(SubprocessOptions options) override {
    co_return absl::NotFoundError(options.argv.front());
  }
  absl::StatusOr<std::unique_ptr<ChildProcess>> Spawn(const SpawnOptions&) override {
    return absl::UnimplementedError("spawn");
  }
  absl::StatusOr<std::unique_ptr<ChildProcess>> Adopt(int pid) override {
    RuntimeWorld& world = generation_->world();
    auto it = world.processes.find(pid);
    if (generation_->dead() || it == world.processes.end() || !it->second->alive)
      return absl::NotFoundError(StrCat("no process ", pid));
    return std::make_unique<SimChild>(generation_, it->second);
  }

 private:
  Generation* generation_;
};

class SimEnv : public Env {
 public:
  explicit SimEnv(Generation* generation) : generation_(generation), subprocess_(generation) {}
  Executor executor() override { return base().executor(); }
  Clock& clock() override { return base().clock(); }
  Random& random() override { return base().random(); }
  Subprocess& subprocess() override { return subprocess_; }
  const Paths& paths() const override { return generation_->world().env().paths(); }
  // A job begins and ends when it likes. One that a death cuts off has been done wholly or not at all.
  void RunInPool(absl::AnyInvocable<void()> work, absl::AnyInvocable<void()> done) override {
    if (!generation_->Step()) return;
    auto job = std::make_shared<Job>();
    job->work = std::move(work);
    job->done = std::move(done);
    RuntimeWorld& world = generation_->world();
    base().clock().Schedule(world.Delay(kShort / 8), [this, job] {
      if (!generation_->Step()) return;
      job->work();
      if (!generation_->Step()) return;
      base().clock().Schedule(generation_->world().Delay(kShort / 8), [this, job] {
        if (!generation_->dead()) job->done();
      });
    });
  }

 private:
  struct Job {
    absl::AnyInvocable<void()> work, done;
  };
  FakeEnv& base() { return generation_->world().env(); }
  Generation* generation_;
  SimSubprocess subprocess_;
};

class SimKernel : public cri::HostKernel {
 public:
  explicit SimKernel(Generation* generation) : generation_(generation), world_(generation->world()) {}
  absl::StatusOr<std::string> BootId() override { return StrCat("boot-", world_.boot()); }
  bool IsAlive(const cri::records::Process& process) override {
    auto it = world_.processes.find(process.pid());
    return it != world_.processes.end() && it->second->alive &&
           it->second->start_ticks == process.start_ticks();
  }
  absl::Status Signal(const cri::records::Process& process, int signal) override {
    if (!IsAlive(process)) return absl::NotFoundError("ended");
    if (generation_->Step()) world_.Signal(process.pid(), signal);
    return absl::OkStatus();
  }
  bool IsIn(const cri::records::Process& process, const char*, const std::string& path) override {
    return IsAlive(process) && IsPinned(path) && !world_.misplaces_restored;
  }
  std::string ApparmorProfile(const cri::records::Process&) override { return ""; }
  bool IsOwnChild(int pid) override {
    auto it = world_.processes.find(pid);
    return it != world_.processes.end() && it->second->child_of_server == generation_->number();
  }

  absl::Status PinNamespaces(const cri::PinRequest& request) override {
    if (!generation_->Step()) return Fault("pin");
    const std::string dir = world_.Relative(request.dir);
    if (world_.pins.contains(dir)) return absl::AlreadyExistsError(dir);
    if (world_.Chance(world_.fault_rate)) return Fault("pin namespaces");
    std::set<std::string> names;
    if (request.network) names.insert(cri::kNetNamespace);
    if (request.ipc) names.insert(cri::kIpcNamespace);
    if (request.uts) names.insert(cri::kUtsNamespace);
    RETURN_IF_ERROR(MakeDirs(request.dir, 0711));
    if (!names.empty()) world_.pins[dir] = names;
    return absl::OkStatus();
  }
  absl::Status UnpinNamespaces(const std::string& dir) override {
    if (!generation_->Step()) return Fault("unpin");
    if (world_.Chance(world_.fault_rate)) return Fault("unpin namespaces");
    world_.pins.erase(world_.Relative(dir));
    return absl::OkStatus();
  }
  absl::Status WriteSysctls(const std::string&, const cri::Sysctls&) override { return absl::OkStatus(); }
  bool IsPinned(const std::string& path) override {
    const std::string relative = world_.Relative(path);
    const size_t slash = relative.rfind('/');
    auto it = world_.pins.find(relative.substr(0, slash));
    return it != world_.pins.end() && it->second.contains(relative.substr(slash + 1));
  }
  absl::Status MountShm(const std::string& dir, const std::string&) override {
    if (!generation_->Step()) return Fault("mount");
    if (world_.Chance(world_.fault_rate)) return Fault("mount shm");
    world_.shm_mounts.insert(world_.Relative(dir));
    return absl::OkStatus();
  }
  absl::Status Unmount(const std::string& path) override {
    if (!generation_->Step()) return Fault("unmount");
    world_.shm_mounts.erase(world_.Relative(path));
    return absl::OkStatus();
  }

 private:
  Generation* generation_;
  RuntimeWorld& world_;
};

class SimCgroups : public cgroups::Manager {
 public:
  explicit SimCgroups(Generation* generation) : generation_(generation), world_(generation->world()) {}
  const cgroups::Layout& layout() const override { return layout_; }
  absl::Status Create(std::string_view) override { return absl::OkStatus(); }
  absl::Status Destroy(std::string_view path) override {
    if (!generation_->Step()) return Fault("rmdir");
    auto it = world_.cgroup_pids.find(std::string(path));
    if (it == world_.cgroup_pids.end()) return absl::OkStatus();
    if (!it->second.empty() || world_.Chance(world_.fault_rate))
      return absl::FailedPreconditionError("cgroup is busy");
    world_.cgroup_pids.erase(it);
    return absl::OkStatus();
  }
  bool Exists(std::string_view path) override { return world_.cgroup_pids.contains(std::string(path)); }
  absl::StatusOr<std::vector<std::string>> Children(std::string_view) override {
    return std::vector<std::string>();
  }
  absl::Status Apply(std::string_view, const cgroups::Resources&) override { return absl::OkStatus(); }
  absl::StatusOr<cgroups::Stats> ReadStats(std::string_view, cgroups::StatsDetail) override {
    return absl::NotFoundError("no figures");
  }
  absl::StatusOr<std::vector<pid_t>> Pids(std::string_view path, bool) override {
    auto it = world_.cgroup_pids.find(std::string(path));
    if (it == world_.cgroup_pids.end()) return absl::NotFoundError("no such cgroup");
    if (world_.misplaces_cgroups) return std::vector<pid_t>();
    return std::vector<pid_t>(it->second.begin(), it->second.end());
  }
  absl::Status AddProcess(std::string_view, pid_t) override { return absl::OkStatus(); }
  absl::Status KillAll(std::string_view path) override {
    if (!generation_->Step()) return Fault("kill");
    auto it = world_.cgroup_pids.find(std::string(path));
    if (it == world_.cgroup_pids.end()) return absl::NotFoundError("no such cgroup");
    for (int pid : std::set(it->second)) world_.Signal(pid, SIGKILL);
    return absl::OkStatus();
  }
  absl::Status Freeze(std::string_view, bool) override { return absl::UnimplementedError("freeze"); }
  absl::StatusOr<bool> Frozen(std::string_view) override { return false; }

 private:
  Generation* generation_;
  RuntimeWorld& world_;
  cgroups::Layout layout_;
};

class SimExec : public oci::ExecProcess {
 public:
  SimExec(Generation* generation, std::shared_ptr<SimProcess> process)
      : generation_(generation), process_(std::move(process)) {}
  Task<absl::StatusOr<int>> Wait() override { return Result(process_); }
  absl::Status Kill() override { return KillTree(); }
  absl::Status KillTree() override {
    if (!process_->alive) return absl::NotFoundError("ended");
    if (generation_->Step()) generation_->world().Signal(process_->pid, SIGKILL);
    return absl::OkStatus();
  }
  int tty_master_fd() const override { return -1; }

 private:
  static Task<absl::StatusOr<int>> Result(std::shared_ptr<SimProcess> process) {
    Task<void> wait = process->ended.Wait();
    co_await std::move(wait);
    co_return process->code;
  }
  Generation* generation_;
  std::shared_ptr<SimProcess> process_;
};

class SimRuntime : public oci::OciRuntime {
 public:
  explicit SimRuntime(Generation* generation) : generation_(generation), world_(generation->world()) {}
  const std::string& name() const override { return name_; }
  const std::string& path() const override { return name_; }
  const std::string& version() const override { return name_; }
  const oci::RuntimeFeatures& features() const override { return features_; }
  std::vector<std::string> global_arguments() const override { return {}; }

  Task<absl::Status> Start(std::string id) override {
    auto effect = [world = &world_, id]() -> absl::Status {
      auto it = world->containers.find(id);
      if (it == world->containers.end()) return absl::NotFoundError(StrCat("no container ", id));
      if (it->second.status != "created") return absl::InternalError(StrCat(id, " is ", it->second.status));
      it->second.status = "running";
      ++world->truths[id].starts;
      return absl::OkStatus();
    };
    return generation_->Do(StrCat("start ", Short(id)), effect);
  }
  Task<absl::Status> Kill(std::string id, int signal) override {
    co_return absl::UnimplementedError(StrCat("kill ", id, " ", signal));
  }
  Task<absl::Status> Delete(std::string id, bool force) override {
    auto effect = [world = &world_, id]() -> absl::Status {
      auto it = world->containers.find(id);
      if (it == world->containers.end()) return absl::OkStatus();
      world->EndProcess(it->second.pid, kKilled);
      const std::string cgroup = it->second.cgroup;
      world->containers.erase(it);
      auto group = world->cgroup_pids.find(cgroup);
      if (group != world->cgroup_pids.end() && group->second.empty()) world->cgroup_pids.erase(group);
      return absl::OkStatus();
    };
    return generation_->Do(StrCat("delete ", Short(id)), effect);
  }
  Task<absl::StatusOr<oci::RuntimeState>> State(std::string id) override { return StateOf(generation_, id); }
  Task<absl::Status> Update(std::string id, std::string) override {
    auto effect = [world = &world_, id]() -> absl::Status {
      return world->containers.contains(id) ? absl::OkStatus() : absl::NotFoundError(id);
    };
    return generation_->Do(StrCat("update ", Short(id)), effect);
  }
  Task<absl::Status> Pause(std::string id) override { return Freeze(std::move(id), true); }
  Task<absl::Status> Resume(std::string id) override { return Freeze(std::move(id), false); }
  Task<absl::Status> CanCheckpoint() override { co_return absl::OkStatus(); }
  Task<absl::Status> Checkpoint(std::string id, oci::CheckpointOptions options) override {
    auto effect = [world = &world_, id, options]() -> absl::Status {
      auto it = world->containers.find(id);
      if (it == world->containers.end()) return absl::NotFoundError(id);
      if (it->second.status != "running") return absl::FailedPreconditionError(StrCat(id, " does not run"));
      return WriteFileAtomic(StrCat(world->Today(options.images_dir), "/", kImagesFile), id, 0600, false);
    };
    return generation_->Do(StrCat("checkpoint ", Short(id)), effect);
  }
  Task<absl::StatusOr<std::unique_ptr<oci::ExecProcess>>> Exec(std::string id,
                                                               oci::ExecOptions options) override {
    return ExecIn(generation_, std::move(id), options.stdout_fd);
  }

 private:
  Task<absl::Status> Freeze(std::string id, bool frozen) {
    auto effect = [world = &world_, id, frozen]() -> absl::Status {
      auto it = world->containers.find(id);
      if (it == world->containers.end()) return absl::NotFoundError(id);
      if (it->second.status != "running" || it->second.frozen == frozen)
        return absl::FailedPreconditionError(StrCat(id, " is not ", frozen ? "running" : "frozen"));
      it->second.frozen = frozen;
      return absl::OkStatus();
    };
    return generation_->Do(StrCat(frozen ? "pause " : "resume ", Short(id)), effect);
  }

  static Task<absl::StatusOr<oci::RuntimeState>> StateOf(Generation* generation, std::string id) {
    auto state = std::make_shared<oci::RuntimeState>();
    auto effect = [world = &generation->world(), id, state]() -> absl::Status {
      auto it = world->containers.find(id);
      if (it == world->containers.end()) return absl::NotFoundError(id);
      state->status = it->second.status;
      state->pid = it->second.pid;
      return absl::OkStatus();
    };
    Task<absl::Status> ask = generation->Do(StrCat("state ", Short(id)), effect);
    absl::Status status = co_await std::move(ask);
    if (!status.ok()) co_return status;
    co_return *state;
  }

  static Task<absl::StatusOr<std::unique_ptr<oci::ExecProcess>>> ExecIn(Generation* generation,
                                                                        std::string id, int out) {
    auto process = std::make_shared<std::shared_ptr<SimProcess>>();
    auto effect = [world = &generation->world(), id, process]() -> absl::Status {
      auto it = world->containers.find(id);
      if (it == world->containers.end() || it->second.status != "running") return absl::NotFoundError(id);
      *process = world->Spawn(SimProcess::Kind::kExec, id, it->second.cgroup);
      world->env().clock().Schedule(world->Delay(absl::Seconds(3)),
                                    [world, pid = (*process)->pid] { world->EndProcess(pid, pid % 3); });
      return absl::OkStatus();
    };
    Task<absl::Status> start = generation->Do(StrCat("exec ", Short(id)), effect);
    absl::Status status = co_await std::move(start);
    // What has been started of a command that failed to start is killed.
    if (!status.ok() && *process != nullptr) generation->world().EndProcess((*process)->pid, kKilled);
    if (!status.ok()) co_return status;
    (void)WriteAll(out, StrCat("pid ", (*process)->pid));
    std::unique_ptr<oci::ExecProcess> exec = std::make_unique<SimExec>(generation, *process);
    co_return exec;
  }

  Generation* generation_;
  RuntimeWorld& world_;
  const std::string name_ = "crun";
  oci::RuntimeFeatures features_;
};

class SimMonitors : public oci::ContainerMonitor {
 public:
  explicit SimMonitors(Generation* generation) : generation_(generation), world_(generation->world()) {}

  Task<absl::StatusOr<oci::MonitoredProcess>> Create(oci::OciRuntime*, oci::MonitorOptions options) override {
    return CreateTask(generation_, std::move(options));
  }
  std::optional<oci::ContainerExit> ReadExit(const std::string& id) override {
    auto it = world_.monitors.find(id);
    if (generation_->dead() || it == world_.monitors.end()) return std::nullopt;
    return it->second.exit;
  }
  Task<absl::Status> KillInterrupted(std::string id) override {
    auto effect = [world = &world_, id]() -> absl::Status {
      world->orphan_creates.erase(StrCat(kCreate, Short(id)));
      world->KillMonitor(id);
      return absl::OkStatus();
    };
    return generation_->Do(StrCat("kill interrupted ", Short(id)), effect);
  }
  void Forget(const std::string& id) override {
    if (!generation_->Step()) return;
    world_.monitors.erase(id);
  }
  Task<absl::Status> ReopenLog(std::string) override { co_return absl::OkStatus(); }
  Task<absl::Status> ResizeTerminal(std::string, uint16_t, uint16_t) override { co_return absl::OkStatus(); }
  std::string AttachSocketPath(const std::string& id) const override { return id; }
  absl::Status WatchExits(oci::ExitCallback on_exit) override {
    generation_->on_exit = std::move(on_exit);
    return absl::OkStatus();
  }

 private:
  // linux.cgroupsPath of the bundle.
  static absl::StatusOr<std::string> CgroupOf(const std::string& bundle) {
    ASSIGN_OR_RETURN(std::string json, ReadFile(bundle + "/config.json"));
    constexpr std::string_view kKey = "\"cgroupsPath\"";
    size_t at = json.find(kKey);
    if (at == json.npos) return absl::InternalError("the bundle names no cgroup");
    size_t begin = json.find('"', at + kKey.size()) + 1;
    std::string path = json.substr(begin, json.find('"', begin) - begin);
    return path.starts_with('/') ? path.substr(1) : path;
  }

  static Task<absl::StatusOr<oci::MonitoredProcess>> CreateTask(Generation* generation,
                                                                oci::MonitorOptions options) {
    RuntimeWorld* world = &generation->world();
    const std::string id = options.id;
    absl::StatusOr<std::string> cgroup = CgroupOf(options.bundle_dir);
    if (!cgroup.ok()) co_return cgroup.status();
    if (world->monitors.contains(id)) co_return absl::AlreadyExistsError(StrCat(id, ": the id is in use"));
    if (generation->Step()) world->monitors[id] = SimMonitor();
    auto made = std::make_shared<oci::MonitoredProcess>();
    auto effect = [world, id, made, cgroup = *cgroup, from = options.restore_from]() -> absl::Status {
      if (world->containers.contains(id)) return absl::InternalError(StrCat(id, " exists already"));
      std::string restored;
      if (!from.empty()) {
        ASSIGN_OR_RETURN(restored, ReadFile(StrCat(world->Today(from), "/", kImagesFile)));
      }
      std::shared_ptr<SimProcess> init = world->Spawn(SimProcess::Kind::kInit, id, cgroup);
      std::shared_ptr<SimProcess> monitor = world->Spawn(SimProcess::Kind::kMonitor, id, "");
      world->containers[id] = SimContainer{from.empty() ? "created" : "running", false, init->pid, cgroup};
      if (!from.empty()) ++world->truths[id].starts;
      world->truths[id].restored_from = restored;
      world->monitors[id].monitor_pid = monitor->pid;
      made->pid = init->pid;
      made->pid_start_ticks = init->start_ticks;
      made->monitor_pid = monitor->pid;
      made->monitor_start_ticks = monitor->start_ticks;
      return absl::OkStatus();
    };
    Task<absl::Status> create = generation->Do(StrCat(kCreate, Short(id)), effect);
    absl::Status status = co_await std::move(create);
    if (!status.ok()) {
      // It leaves no process; some runtimes leave the cgroup.
      if (made->pid != 0) world->EndProcess(made->monitor_pid, kKilled);
      if (made->pid != 0) world->EndProcess(made->pid, kKilled);
      world->containers.erase(id);
      world->monitors.erase(id);
      if (world->Below(2) == 0) {
        world->cgroup_pids.erase(*cgroup);
      } else {
        world->cgroup_pids[*cgroup];
      }
      co_return status;
    }
    co_return *made;
  }

  Generation* generation_;
  RuntimeWorld& world_;
};

class SimCni : public cri::Cni {
 public:
  explicit SimCni(Generation* generation) : generation_(generation), world_(generation->world()) {}
  absl::Status Ready() const override { return absl::OkStatus(); }
  Task<absl::Status> AskStatus() override { co_return absl::OkStatus(); }
  Task<absl::StatusOr<cri::CniResult>> Add(cri::CniAttachment attachment) override {
    return AddTask(generation_, std::move(attachment));
  }
  Task<absl::Status> Del(cri::CniAttachment attachment) override {
    auto effect = [world = &world_, id = attachment.container_id]() -> absl::Status {
      world->attachments.erase(id);
      return absl::OkStatus();
    };
    return generation_->Do(StrCat("DEL ", Short(attachment.container_id)), effect);
  }
  Task<absl::Status> Check(cri::CniAttachment) override { co_return absl::OkStatus(); }
  Task<absl::Status> GarbageCollect(std::vector<std::string> valid) override {
    auto effect = [world = &world_, valid]() -> absl::Status {
      std::erase_if(world->attachments, [&](const auto& entry) {
        return std::find(valid.begin(), valid.end(), entry.first) == valid.end();
      });
      return absl::OkStatus();
    };
    return generation_->Do("GC", effect);
  }
  absl::Status SetPodCidr(const std::string&) override { return absl::OkStatus(); }

 private:
  static Task<absl::StatusOr<cri::CniResult>> AddTask(Generation* generation, cri::CniAttachment attachment) {
    RuntimeWorld* world = &generation->world();
    const std::string id = attachment.container_id;
    auto effect = [world, id]() -> absl::Status {
      const int n = world->next_address++;
      world->attachments[id] = {StrCat("10.0.", n / 250, ".", n % 250 + 1)};
      return absl::OkStatus();
    };
    Task<absl::Status> add = generation->Do(StrCat("ADD ", Short(id)), effect);
    absl::Status status = co_await std::move(add);
    // A failed ADD is taken back, unless that fails, too.
    if (!status.ok() && world->Below(3) != 0) world->attachments.erase(id);
    if (!status.ok()) co_return status;
    cri::CniResult result;
    result.ips = world->attachments[id];
    co_return result;
  }
  Generation* generation_;
  RuntimeWorld& world_;
};

class SimHostPorts : public cri::HostPorts {
 public:
  explicit SimHostPorts(Generation* generation) : generation_(generation), world_(generation->world()) {}
  Task<absl::Status> Sync(cri::HostPortState state) override {
    auto effect = [world = &world_, state]() -> absl::Status {
      world->host_ports = state;
      return absl::OkStatus();
    };
    return generation_->Do("sync host ports", effect);
  }
  Task<absl::Status> Add(std::string id, cri::HostPortSandbox sandbox) override {
    return AddTask(generation_, std::move(id), std::move(sandbox));
  }
  Task<absl::Status> Remove(std::string id) override {
    auto effect = [world = &world_, id]() -> absl::Status {
      world->host_ports.erase(id);
      return absl::OkStatus();
    };
    return generation_->Do(StrCat("remove host ports ", Short(id)), effect);
  }

 private:
  static Task<absl::Status> AddTask(Generation* generation, std::string id, cri::HostPortSandbox sandbox) {
    RuntimeWorld* world = &generation->world();
    auto effect = [world, id, sandbox]() -> absl::Status {
      RETURN_IF_ERROR(cri::CheckHostPorts(world->host_ports, sandbox));
      world->host_ports[id] = sandbox;
      return absl::OkStatus();
    };
    Task<absl::Status> add = generation->Do(StrCat("add host ports ", Short(id)), effect);
    absl::Status status = co_await std::move(add);
    if (!status.ok()) world->host_ports.erase(id);  // nothing is held on failure
    co_return status;
  }
  Generation* generation_;
  RuntimeWorld& world_;
};

class SimImages : public images::ImageStore {
 public:
  explicit SimImages(Generation* generation) : generation_(generation), world_(generation->world()) {
    image_.id = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    image_.repo_tags = {kImage};
    image_.config.cmd = {"/app"};
    image_.config.os = "linux";
    image_.config.architecture = "amd64";
  }
  Task<absl::StatusOr<std::string>> Pull(std::string, images::PullOptions) override { co_return image_.id; }
  const images::ImageRecord* Find(std::string_view name) const override {
    return name == kImage || name == image_.id ? &image_ : nullptr;
  }
  std::vector<const images::ImageRecord*> List() const override { return {&image_}; }
  Task<absl::Status> Remove(std::string) override { co_return absl::OkStatus(); }
  Task<absl::Status> MountRootfs(images::RootfsOptions options) override {
    auto effect = [world = &world_, options]() -> absl::Status {
      RETURN_IF_ERROR(MakeDirs(world->Today(options.mount_path), 0755));
      world->rootfs[options.key] = world->Relative(options.mount_path);
      return absl::OkStatus();
    };
    return generation_->Do(StrCat("mount ", Short(options.key)), effect);
  }
  Task<absl::Status> RemoveRootfs(std::string key, std::string path) override {
    auto effect = [world = &world_, key, path]() -> absl::Status {
      auto it = world->rootfs.find(key);
      if (it == world->rootfs.end()) return absl::OkStatus();
      if (it->second != world->Relative(path)) return absl::InternalError(StrCat(key, " is not at ", path));
      world->rootfs.erase(it);
      return absl::OkStatus();
    };
    return generation_->Do(StrCat("unmount ", Short(key)), effect);
  }
  std::string RootfsLayer(const std::string&) const override { return ""; }
  std::vector<std::string> RootfsKeys() const override {
    std::vector<std::string> out;
    for (const auto& [key, path] : world_.rootfs) out.push_back(key);
    return out;
  }
  Task<absl::StatusOr<images::UsageBytes>> RootfsUsage(std::string) override {
    co_return images::UsageBytes();
  }
  Task<absl::StatusOr<images::UsageBytes>> Usage() override { co_return images::UsageBytes(); }
  const std::string& mount_point() const override { return world_.root(); }
  Task<absl::StatusOr<std::vector<std::string>>> Import(std::string) override {
    co_return absl::UnimplementedError("import");
  }
  Task<absl::Status> Export(std::string, std::string, bool) override {
    co_return absl::UnimplementedError("export");
  }

 private:
  Generation* generation_;
  RuntimeWorld& world_;
  images::ImageRecord image_;
};

}  // namespace

// ---- a generation ----

struct Generation::Fakes {
  explicit Fakes(Generation* g)
      : env(g), kernel(g), cgroups(g), runtime(g), monitors(g), cni(g), host_ports(g), images(g) {}
  SimEnv env;
  SimKernel kernel;
  SimCgroups cgroups;
  SimRuntime runtime;
  SimMonitors monitors;
  SimCni cni;
  SimHostPorts host_ports;
  SimImages images;
};

Generation::Generation(RuntimeWorld* world)
    : world_(*world), number_(world->generation_), fakes_(std::make_unique<Fakes>(this)) {
  world_.current_ = this;
}

Generation::~Generation() {
  if (world_.current_ == this) world_.current_ = nullptr;
}

cri::RuntimeServerDeps Generation::Deps() {
  cri::RuntimeServerDeps deps;
  deps.env = &fakes_->env;
  deps.images = &fakes_->images;
  deps.cni = &fakes_->cni;
  deps.host_ports = &fakes_->host_ports;
  deps.cgroups = &fakes_->cgroups;
  deps.monitor = &fakes_->monitors;
  deps.kernel = &fakes_->kernel;
  deps.runtimes = {{"crun", &fakes_->runtime}};
  return deps;
}

cri::RuntimeServerOptions Generation::Options() const {
  cri::RuntimeServerOptions options;
  options.state_dir = StrCat(world_.root(), "/g", number_, "/state");
  options.run_dir = StrCat(world_.root(), "/g", number_, "/run");
  options.default_handler = "crun";
  options.default_cgroup_parent = "keelson-cri";
  options.host_resolv_conf = options.host_hosts = "/dev/null";
  return options;
}

void Generation::DieAfter(int steps) {
  if (dead_) return;
  if (steps == 0) return Die();
  countdown_ = steps;
}

bool Generation::Step() {
  if (!dead_ && countdown_ > 0 && --countdown_ == 0) Die();
  return !dead_;
}

void Generation::Die() {
  dead_ = true;
  on_exit = nullptr;
  // What the server writes from now on it writes beside.
  const std::string before = world_.folder();
  ++world_.generation_;
  world_.Note(StrCat("server ", number_, " dies"));
  std::error_code ignored;
  fs::rename(before, world_.folder(), ignored);
  for (auto& [pid, process] : world_.processes) {
    if (process->child_of_server == number_) process->child_of_server = 0;
  }
  // Commands it has left running: never begun, done before the next server looks, or (a monitor that makes a
  // container) still on their way then.
  for (Pending& pending : std::exchange(pending_, {})) {
    const int what = world_.Below(3);
    if (what == 0 || pending.effect == nullptr) continue;
    auto finish = [world = &world_, pending] {
      absl::Status done = pending.effect();
      world->Note(StrCat("left behind: ", pending.what, done.ok() ? "" : " in vain"));
      if (done.ok() && pending.what.starts_with(kCreate))
        world->EndUnheard(pending.what.substr(kCreate.size()));
    };
    if (what == 1 || !pending.what.starts_with(kCreate)) {
      finish();
      continue;
    }
    world_.orphan_creates[pending.what] = finish;
    world_.env().clock().Schedule(world_.Delay(absl::Seconds(2)), [world = &world_, what = pending.what] {
      auto node = world->orphan_creates.extract(what);
      if (!node.empty()) node.mapped()();
    });
  }
}

namespace {

// Takes a call off the list, however it ends.
template <class List>
struct TakeOff {
  List* list;
  typename List::iterator at;
  const bool* dead;
  ~TakeOff() {
    if (!*dead) list->erase(at);
  }
};

}  // namespace

Task<absl::Status> Generation::Do(std::string what, std::function<absl::Status()> effect, bool faults) {
  absl::Status status;
  if (Step()) {
    pending_.push_back(Pending{what, effect});
    auto at = std::prev(pending_.end());
    TakeOff<std::list<Pending>> take_off{&pending_, at, &dead_};
    Task<void> before =
        world_.env().clock().Sleep(world_.Delay(world_.slow && world_.Chance(0.1) ? kLong : kShort));
    co_await std::move(before);
    if (Step()) {
      const bool wanted = faults && world_.fail_at > 0 && --world_.fail_at == 0;
      const bool fails = faults && (world_.Chance(world_.fault_rate) || wanted);
      const bool first = fails && (wanted ? !world_.fail_after_effect : world_.Below(2) == 0);
      if (!first) status = effect();
      if (fails && status.ok()) status = Fault(what);
      at->effect = nullptr;
      world_.Note(StrCat(what, status.ok() ? "" : first ? " failed" : " failed, done"));
      if (Step()) {
        Task<void> after = world_.env().clock().Sleep(world_.Delay(kShort / 4));
        co_await std::move(after);
      }
    }
  }
  if (dead_) {
    Task<void> never = Never();
    co_await std::move(never);
  }
  co_return status;
}

}  // namespace keelson::sim
