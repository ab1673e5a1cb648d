// What the steps of a container's life cost, by hand as root: oci_bench [ROUNDS]. Medians in milliseconds of
// runc and crun, with the monitor and, as the bound, with the runtime's commands alone.
#include <absl/strings/numbers.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_split.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <map>

#include "base/log.h"
#include "base/status.h"
#include "cgroups/manager.h"
#include "oci/cgroup_view.h"
#include "oci/monitor.h"
#include "oci/pause_binary.h"
#include "oci/probe.h"

namespace keelson::oci {
namespace {

constexpr int kDefaultRounds = 30;

struct Bench {
  Env* env;
  std::string root, name;
  int rounds;
  OciRuntime* runtime = nullptr;
  ContainerMonitor* monitor = nullptr;
  std::map<std::string, absl::Time> ended;
  std::map<std::string, std::vector<double>> times_ms;
  absl::Duration since;

  std::string Cgroup() const { return StrCat("keelson-test-bench-", ::getpid()); }
  void Begin() { since = env->clock().Monotonic(); }
  void End(const std::string& step) {
    times_ms[step].push_back(absl::ToDoubleMilliseconds(env->clock().Monotonic() - since));
  }
};

absl::Status MakeBundle(const Bench& bench, const std::string& id) {
  std::string dir = StrCat(bench.root, "/b/", id);
  RETURN_IF_ERROR(MakeDirs(dir));
  return WriteFileAtomic(
      dir + "/config.json",
      StrCat(
          R"({"ociVersion":"1.0.2","process":{"user":{"uid":0,"gid":0},"args":["/pause"],"env":[],"cwd":"/"},)",
          R"("root":{"path":")", bench.root,
          R"(/rootfs"},"mounts":[{"destination":"/proc","type":"proc","source":"proc"},)",
          R"({"destination":"/dev","type":"tmpfs","source":"tmpfs"}],"linux":{"cgroupsPath":"/)",
          bench.Cgroup(), "/", id, R"(","namespaces":[{"type":"pid"},{"type":"mount"}]}})"),
      0600, /*durable=*/false);
}

// Private_* and Pss of a process in KiB.
std::string Memory(int pid) {
  auto text = ReadFile(StrCat("/proc/", pid, "/smaps_rollup"));
  std::string out;
  if (!text.ok()) return out;
  for (absl::string_view line : absl::StrSplit(*text, '\n')) {
    if (line.substr(0, 4) == "Pss:" || line.substr(0, 8) == "Private_") StrAppend(&out, " ", line);
  }
  return out;
}

Task<absl::Status> Command(Bench* bench, std::vector<std::string> words) {
  SubprocessOptions run;
  run.argv = {bench->runtime->path()};
  for (const std::string& word : bench->runtime->global_arguments()) run.argv.push_back(word);
  run.argv.insert(run.argv.end(), words.begin(), words.end());
  run.env = RuntimeEnvironment();
  CO_ASSIGN_OR_RETURN(SubprocessResult result, bench->env->subprocess().Run(std::move(run)));
  if (!result.ok()) co_return absl::InternalError(result.stderr_data);
  co_return absl::OkStatus();
}

Task<absl::Status> OneRound(Bench* bench, int round) {
  const std::string process =
      R"({"terminal":false,"user":{"uid":0,"gid":0},"cwd":"/","env":["PATH=/bin"],"args":["/bin/true"]})";
  std::string id = StrCat("with", round), bundle = StrCat(bench->root, "/b/", id);
  CO_RETURN_IF_ERROR_SYNC(MakeBundle(*bench, id));
  MonitorOptions options;
  options.id = id;
  options.name = id;
  options.bundle_dir = bundle;
  options.log_path = StrCat(bench->root, "/", id, ".log");
  bench->Begin();
  CO_ASSIGN_OR_RETURN(MonitoredProcess made, bench->monitor->Create(bench->runtime, options));
  bench->End("1 create (conmon)");
  CO_ASSIGN_OR_RETURN_SYNC(std::unique_ptr<cgroups::Manager> cgroups, cgroups::NewHostManager());
  CO_RETURN_IF_ERROR_SYNC(cgroups->Create(StrCat(bench->Cgroup(), "/pod")));
  bench->Begin();
  CO_RETURN_IF_ERROR_SYNC(cgroups->AddProcess(StrCat(bench->Cgroup(), "/pod"), made.monitor_pid));
  bench->End("1b monitor to its cgroup");
  bench->Begin();
  CO_RETURN_IF_ERROR(bench->runtime->Start(id));
  bench->End("2 start");
  ExecOptions exec;
  exec.process_json = process;
  bench->Begin();
  CO_ASSIGN_OR_RETURN(std::unique_ptr<ExecProcess> command, bench->runtime->Exec(id, exec));
  CO_ASSIGN_OR_RETURN(int code, command->Wait());
  bench->End("3 exec round trip");
  if (code != 0) co_return absl::InternalError("exec failed");
  std::string process_file = StrCat(bundle, "/p.json");
  CO_RETURN_IF_ERROR_SYNC(WriteFileAtomic(process_file, process, 0600, false));
  bench->Begin();
  std::vector<std::string> exec_words = {"exec", "--process", process_file, id};
  CO_RETURN_IF_ERROR(Command(bench, std::move(exec_words)));
  bench->End("3b exec, runtime waits");
  bench->Begin();
  CO_ASSIGN_OR_RETURN(RuntimeState state, bench->runtime->State(id));
  bench->End("4 state");
  if (round == 0) std::cout << bench->name << " conmon KiB:" << Memory(made.monitor_pid) << "\n";
  bench->Begin();
  CO_RETURN_IF_ERROR(bench->runtime->Kill(id, SIGKILL));
  bench->End("5 kill");
  while (bench->ended.count(id) == 0) {
    Task<void> pause = bench->env->clock().Sleep(absl::Microseconds(200));
    co_await std::move(pause);
  }
  bench->End("5b kill to exit report");
  bench->times_ms["5c exit record to report"].push_back(
      absl::ToDoubleMilliseconds(bench->ended[id] - bench->monitor->ReadExit(id)->finished_at));
  bench->Begin();
  CO_RETURN_IF_ERROR(bench->runtime->Delete(id, false));
  bench->End("6 delete");
  bench->monitor->Forget(id);

  std::string bare = StrCat("bare", round);
  CO_RETURN_IF_ERROR_SYNC(MakeBundle(*bench, bare));
  bench->Begin();
  std::vector<std::string> create_words = {"create", "--bundle", StrCat(bench->root, "/b/", bare), bare};
  CO_RETURN_IF_ERROR(Command(bench, std::move(create_words)));
  bench->End("7 create, no monitor");
  CO_RETURN_IF_ERROR(bench->runtime->Start(bare));
  bench->Begin();
  CO_RETURN_IF_ERROR(bench->runtime->Delete(bare, true));
  bench->End("7b delete --force");
  co_return absl::OkStatus();
}

Task<absl::Status> Run(Bench* bench) {
  RuntimeOptions options;
  options.name = bench->name;
  options.state_dir = bench->root + "/state";
  options.run_dir = bench->root + "/run";
  options.cache_dir = bench->root + "/cache";
  bench->Begin();
  CO_ASSIGN_OR_RETURN(std::unique_ptr<OciRuntime> runtime, OpenRuntime(bench->env, options));
  bench->End("0 open with trial");
  bench->Begin();
  CO_ASSIGN_OR_RETURN(std::unique_ptr<OciRuntime> again, OpenRuntime(bench->env, options));
  bench->End("0b open, cached");
  bench->runtime = runtime.get();
  CO_ASSIGN_OR_RETURN_SYNC(std::unique_ptr<ContainerMonitor> monitor,
                           NewConmonMonitor(*bench->env, {"conmon", bench->root + "/mon"}));
  bench->monitor = monitor.get();
  auto note = [bench](const std::string& id, const ContainerExit&) {
    bench->ended[id] = bench->env->clock().Now();
  };
  CO_RETURN_IF_ERROR_SYNC(monitor->WatchExits(note));
  for (int round = 0; round < bench->rounds; ++round) CO_RETURN_IF_ERROR(OneRound(bench, round));
  co_return absl::OkStatus();
}

int Main(int argc, char** argv) {
  int rounds = kDefaultRounds;
  if (argc > 1 && (!absl::SimpleAtoi(argv[1], &rounds) || rounds < 1)) {
    std::cerr << "usage: oci_bench [ROUNDS]\n";
    return 2;
  }
  if (::unshare(CLONE_NEWNS) != 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
    std::cerr << "oci_bench: " << ErrnoStatus(errno, "a mount namespace (needs root)") << "\n";
    return 1;
  }
  auto entered = EnterCgroupView();
  if (!entered.ok()) std::cerr << entered.status() << "\n";
  // A tmpfs, as the run directory of a server is.
  char root[] = "/dev/shm/keelson-test-XXXXXX";
  if (::mkdtemp(root) == nullptr) return 1;
  absl::Status status = MakeDirs(std::string(root) + "/rootfs/bin");
  for (const char* dir : {"/rootfs/proc", "/rootfs/dev"}) status.Update(MakeDirs(std::string(root) + dir));
  status.Update(WriteFileAtomic(std::string(root) + "/rootfs/pause", PauseBinary(), 0755, false));
  std::error_code copied;
  std::filesystem::copy_file("/bin/busybox", std::string(root) + "/rootfs/bin/true", copied);
  for (const char* name : {"crun", "runc"}) {
    RealEnv env{Paths()};
    Bench bench{&env, root, name, rounds};
    if (status.ok()) status = env.RunUntilDone(Run(&bench));
    for (auto& [step, times] : bench.times_ms) {
      std::sort(times.begin(), times.end());
      std::cout << absl::StrFormat("%s %-26s %7.2f ms  (%.2f .. %.2f, %d)\n", name, step,
                                   times[times.size() / 2], times.front(), times.back(), times.size());
    }
    auto cgroups = cgroups::NewHostManager();
    if (cgroups.ok()) status.Update((*cgroups)->Destroy(bench.Cgroup()));
    for (const char* dir : {"/state", "/run", "/cache", "/mon"}) {
      status.Update(RemoveTree(std::string(root) + dir));
    }
  }
  status.Update(RemoveTree(root));
  if (!status.ok()) std::cerr << "oci_bench: " << status << "\n";
  return status.ok() ? 0 : 1;
}

}  // namespace
}  // namespace keelson::oci

int main(int argc, char** argv) { return keelson::oci::Main(argc, argv); }
