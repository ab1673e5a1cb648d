// cri_loader: a CRI runtime alone, by our own client. One JSON line per figure. All commands take
// --endpoint unix:///... and, where they make pods, --image I --cgroup-parent /C [--pid pod].
//
//   cri_loader pods  --row R --count N   N pods one after the other (R_sequential), `--exec "WORDS"` in the
//   last
//                                        (R_exec), stop and remove (R_delete), N pods at once (R_burst)
//   cri_loader hold  --count N           brings the runtime to N pods and leaves them
//   cri_loader clear                     removes every pod
//   cri_loader cycles --count N          makes and removes N pods, one after the other
//   cri_loader pull  --row R --image I   pulls and unpacks
#include <absl/strings/str_split.h>
#include <stdlib.h>

#include <cstdio>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"
#include "cri/remote/remote_runtime.h"
#include "tests/bench/measure.h"

namespace keelson::bench {
namespace {

namespace v1 = ::runtime::v1;

constexpr int64_t kGraceS = 10;  // the containers obey SIGTERM: it is never waited for

struct Pod {
  std::string sandbox, container;
};

struct CriRun {
  Env* env = nullptr;
  cri::RuntimeService* runtime = nullptr;
  cri::ImageService* images = nullptr;
  std::string row, image, cgroup_parent, log_dir;
  std::vector<std::string> exec;
  bool shared_pid = false;
  std::vector<double> total_ms, sandbox_ms, create_ms, start_ms;
  std::vector<double> delete_ms, stop_ms, stop_sandbox_ms, remove_ms;
  std::vector<Pod> pods;
  // Of a burst: its first failure, how many are not done, and the end of the last.
  absl::Status status;
  int left = 0;
  AsyncEvent all_done;
};

absl::Duration Now(CriRun* run) { return run->env->clock().Monotonic(); }
double Ms(absl::Duration d) { return absl::ToDoubleMilliseconds(d); }

v1::NamespaceOption Namespaces(const CriRun& run) {
  v1::NamespaceOption out;
  out.set_pid(run.shared_pid ? v1::POD : v1::CONTAINER);  // a kubelet's default
  return out;
}

v1::PodSandboxConfig SandboxConfig(CriRun* run, const std::string& name) {
  v1::PodSandboxConfig config;
  config.mutable_metadata()->set_name(name);
  config.mutable_metadata()->set_namespace_("bench");
  config.mutable_metadata()->set_uid(run->env->random().Uuid());
  config.set_hostname(name);
  config.set_log_directory(run->log_dir);
  config.mutable_linux()->set_cgroup_parent(run->cgroup_parent);
  *config.mutable_linux()->mutable_security_context()->mutable_namespace_options() = Namespaces(*run);
  return config;
}

Task<absl::Status> MakePod(CriRun* run, std::string name) {
  v1::PodSandboxConfig config = SandboxConfig(run, name);
  absl::Duration start = Now(run);
  v1::RunPodSandboxRequest sandbox_request;
  *sandbox_request.mutable_config() = config;
  CO_ASSIGN_OR_RETURN(v1::RunPodSandboxResponse sandbox, run->runtime->RunPodSandbox(sandbox_request));
  absl::Duration sandbox_end = Now(run);
  v1::CreateContainerRequest create;
  create.set_pod_sandbox_id(sandbox.pod_sandbox_id());
  *create.mutable_sandbox_config() = config;
  create.mutable_config()->mutable_metadata()->set_name("main");
  create.mutable_config()->mutable_image()->set_image(run->image);
  create.mutable_config()->set_log_path(StrCat(name, ".log"));
  *create.mutable_config()->mutable_linux()->mutable_security_context()->mutable_namespace_options() =
      Namespaces(*run);
  CO_ASSIGN_OR_RETURN(v1::CreateContainerResponse container, run->runtime->CreateContainer(create));
  absl::Duration create_end = Now(run);
  v1::StartContainerRequest start_request;
  start_request.set_container_id(container.container_id());
  CO_ASSIGN_OR_RETURN([[maybe_unused]] v1::StartContainerResponse started,
                      run->runtime->StartContainer(start_request));
  absl::Duration end = Now(run);
  run->pods.push_back({sandbox.pod_sandbox_id(), container.container_id()});
  run->total_ms.push_back(Ms(end - start));
  run->sandbox_ms.push_back(Ms(sandbox_end - start));
  run->create_ms.push_back(Ms(create_end - sandbox_end));
  run->start_ms.push_back(Ms(end - create_end));
  co_return absl::OkStatus();
}

// The order of a kubelet: the container with its grace, then the sandbox, then what is left of both.
Task<absl::Status> DeletePod(CriRun* run, Pod pod) {
  absl::Duration start = Now(run);
  if (!pod.container.empty()) {
    v1::StopContainerRequest stop;
    stop.set_container_id(pod.container);
    stop.set_timeout(kGraceS);
    CO_ASSIGN_OR_RETURN([[maybe_unused]] v1::StopContainerResponse stopped,
                        run->runtime->StopContainer(stop));
  }
  absl::Duration stopped_at = Now(run);
  v1::StopPodSandboxRequest stop_sandbox;
  stop_sandbox.set_pod_sandbox_id(pod.sandbox);
  CO_ASSIGN_OR_RETURN([[maybe_unused]] v1::StopPodSandboxResponse stopped_sandbox,
                      run->runtime->StopPodSandbox(stop_sandbox));
  absl::Duration sandbox_at = Now(run);
  if (!pod.container.empty()) {
    v1::RemoveContainerRequest remove;
    remove.set_container_id(pod.container);
    CO_ASSIGN_OR_RETURN([[maybe_unused]] v1::RemoveContainerResponse removed,
                        run->runtime->RemoveContainer(remove));
  }
  v1::RemovePodSandboxRequest remove_sandbox;
  remove_sandbox.set_pod_sandbox_id(pod.sandbox);
  CO_ASSIGN_OR_RETURN([[maybe_unused]] v1::RemovePodSandboxResponse removed_sandbox,
                      run->runtime->RemovePodSandbox(remove_sandbox));
  run->delete_ms.push_back(Ms(Now(run) - start));
  run->stop_ms.push_back(Ms(stopped_at - start));
  run->stop_sandbox_ms.push_back(Ms(sandbox_at - stopped_at));
  run->remove_ms.push_back(Ms(Now(run) - sandbox_at));
  co_return absl::OkStatus();
}

Task<absl::Status> DeletePods(CriRun* run) {
  while (!run->pods.empty()) {
    Pod pod = run->pods.back();
    run->pods.pop_back();
    CO_RETURN_IF_ERROR(DeletePod(run, pod));
  }
  co_return absl::OkStatus();
}

Task<void> MakeInBurst(CriRun* run, std::string name) {
  Task<absl::Status> make = MakePod(run, std::move(name));
  absl::Status status = co_await std::move(make);
  run->status.Update(status);
  if (--run->left == 0) run->all_done.Set();
}

void Clear(CriRun* run) {
  for (std::vector<double>* samples :
       {&run->total_ms, &run->sandbox_ms, &run->create_ms, &run->start_ms, &run->delete_ms, &run->stop_ms,
        &run->stop_sandbox_ms, &run->remove_ms})
    samples->clear();
}

void PrintPods(const std::string& name, CriRun* run, const CpuWindow& window) {
  Row row(name);
  row.Set("pods", run->total_ms.size()).SetLatencies(run->total_ms).Set("seconds", window.wall_s());
  row.Set("run_sandbox_p50_ms", Percentile(run->sandbox_ms, 0.5));
  row.Set("create_p50_ms", Percentile(run->create_ms, 0.5));
  row.Set("start_p50_ms", Percentile(run->start_ms, 0.5));
  row.Print();
}

Task<absl::Status> ExecRow(CriRun* run, int count) {
  std::vector<double> ms;
  for (int i = 0; i < count; ++i) {
    v1::ExecSyncRequest request;
    request.set_container_id(run->pods.back().container);
    request.mutable_cmd()->Assign(run->exec.begin(), run->exec.end());
    absl::Duration start = Now(run);
    CO_ASSIGN_OR_RETURN(v1::ExecSyncResponse response, run->runtime->ExecSync(request));
    if (response.exit_code() != 0) co_return absl::InternalError(StrCat("exec: ", response.exit_code()));
    ms.push_back(Ms(Now(run) - start));
  }
  Row(run->row + "_exec").Set("calls", count).SetLatencies(ms).Print();
  co_return absl::OkStatus();
}

Task<absl::Status> PodRows(CriRun* run, int count) {
  // The first one pays for what is made once (cgroup parents, page cache).
  CO_RETURN_IF_ERROR(MakePod(run, "warm"));
  CO_RETURN_IF_ERROR(DeletePods(run));
  Clear(run);
  CpuWindow sequential(run->env, 0);
  for (int i = 0; i < count; ++i) CO_RETURN_IF_ERROR(MakePod(run, StrCat("one-", i)));
  sequential.End();
  PrintPods(run->row + "_sequential", run, sequential);
  if (!run->exec.empty()) CO_RETURN_IF_ERROR(ExecRow(run, count));
  CO_RETURN_IF_ERROR(DeletePods(run));
  Row(run->row + "_delete")
      .Set("pods", count)
      .SetLatencies(run->delete_ms)
      .Set("stop_p50_ms", Percentile(run->stop_ms, 0.5))
      .Set("stop_sandbox_p50_ms", Percentile(run->stop_sandbox_ms, 0.5))
      .Set("remove_p50_ms", Percentile(run->remove_ms, 0.5))
      .Print();
  Clear(run);
  CpuWindow burst(run->env, 0);
  Scope scope(run->env->executor());
  run->left = count;
  for (int i = 0; i < count; ++i) scope.Spawn("pod", MakeInBurst(run, StrCat("burst-", i)));
  Task<void> all = run->all_done.Wait();
  co_await std::move(all);
  burst.End();
  Task<void> close = scope.Close();
  co_await std::move(close);
  if (run->status.ok()) PrintPods(run->row + "_burst", run, burst);
  co_return run->status;
}

Task<absl::StatusOr<std::vector<Pod>>> PodsThere(CriRun* run) {
  CO_ASSIGN_OR_RETURN(v1::ListPodSandboxResponse sandboxes,
                      run->runtime->ListPodSandbox(v1::ListPodSandboxRequest()));
  CO_ASSIGN_OR_RETURN(v1::ListContainersResponse containers,
                      run->runtime->ListContainers(v1::ListContainersRequest()));
  std::vector<Pod> out;
  for (const auto& sandbox : sandboxes.items()) {
    Pod pod{sandbox.id(), ""};
    for (const auto& container : containers.containers()) {
      if (container.pod_sandbox_id() == sandbox.id()) pod.container = container.id();
    }
    out.push_back(std::move(pod));
  }
  co_return out;
}

Task<absl::Status> Hold(CriRun* run, int count) {
  CO_ASSIGN_OR_RETURN(std::vector<Pod> there, PodsThere(run));
  for (int i = static_cast<int>(there.size()); i < count; ++i) {
    CO_RETURN_IF_ERROR(MakePod(run, StrCat("hold-", i)));
  }
  co_return absl::OkStatus();
}

Task<absl::Status> RemoveAll(CriRun* run) {
  CO_ASSIGN_OR_RETURN(run->pods, PodsThere(run));
  CO_RETURN_IF_ERROR(DeletePods(run));
  co_return absl::OkStatus();
}

Task<absl::Status> Cycles(CriRun* run, int count) {
  CpuWindow window(run->env, 0);
  for (int i = 0; i < count; ++i) {
    CO_RETURN_IF_ERROR(MakePod(run, StrCat("cycle-", i)));
    CO_RETURN_IF_ERROR(DeletePods(run));
  }
  window.End();
  Row(run->row).Set("cycles", count).Set("seconds", window.wall_s()).Print();
  co_return absl::OkStatus();
}

Task<absl::Status> Pull(CriRun* run) {
  v1::PullImageRequest request;
  request.mutable_image()->set_image(run->image);
  CpuWindow window(run->env, 0);
  CO_ASSIGN_OR_RETURN([[maybe_unused]] v1::PullImageResponse pulled, run->images->PullImage(request));
  window.End();
  Row(run->row).Set("seconds", window.wall_s()).Print();
  co_return absl::OkStatus();
}

Task<absl::Status> RunCommand(CriRun* run, std::string command, int count) {
  if (command == "hold") CO_RETURN_IF_ERROR(Hold(run, count));
  if (command == "clear") CO_RETURN_IF_ERROR(RemoveAll(run));
  if (command == "cycles") CO_RETURN_IF_ERROR(Cycles(run, count));
  if (command == "pull") CO_RETURN_IF_ERROR(Pull(run));
  if (command == "pods") {
    Task<absl::Status> rows = PodRows(run, count);
    absl::Status status = co_await std::move(rows);
    Task<absl::Status> remove = RemoveAll(run);
    absl::Status removed = co_await std::move(remove);
    co_return status.ok() ? removed : status;
  }
  co_return absl::OkStatus();
}

absl::Status Run(RealEnv* env, const std::string& command, const Flags& flags) {
  ASSIGN_OR_RETURN(std::unique_ptr<cri::RemoteRuntime> remote,
                   cri::RemoteRuntime::Create(*env, cri::RemoteOptions{flags.Get("--endpoint")}));
  CriRun run;
  run.env = env;
  run.runtime = &remote->runtime();
  run.images = &remote->images();
  run.row = flags.Get("--row", "cri");
  run.image = flags.Get("--image");
  run.cgroup_parent = flags.Get("--cgroup-parent", "/keelson-bench-cri");
  run.exec = absl::StrSplit(flags.Get("--exec"), ' ', absl::SkipEmpty());
  run.shared_pid = flags.Get("--pid") == "pod";
  run.log_dir = flags.Get("--log-dir", "/tmp/keelson-bench-logs");
  return env->RunUntilDone(RunCommand(&run, command, flags.GetInt("--count", 30)));
}

int Main(int argc, char** argv) {
  std::string command = argc > 1 ? argv[1] : "";
  InitLog(LogOptions{"cri_loader"});
  RealEnv env{Paths()};
  absl::Status status = Run(&env, command, Flags(argc, argv, 2));
  if (status.ok()) return 0;
  std::fprintf(stderr, "cri_loader %s: %s\n", command.c_str(), std::string(status.message()).c_str());
  return 1;
}

}  // namespace
}  // namespace keelson::bench

int main(int argc, char** argv) { return keelson::bench::Main(argc, argv); }
