// A thousand pods and containers made and removed, and what of them is left in the server and on the machine.
//
//   cri/testing/with_keelson_cri KEELSON [--handler H] cri_cycles [CYCLES]
//
// A cycle: RunPodSandbox (a network of its own; every fourth with a host port, every third with a shared PID
// namespace), pull is done before, CreateContainer, StartContainer, ExecSync, ContainerStats, StopContainer,
// RemoveContainer, StopPodSandbox, RemovePodSandbox. After a tenth of the cycles, and at the end, the
// server's descriptors, threads and memory are read: descriptors must be equal, memory may not grow with the
// cycles. Around it all the machine is looked at (kernel_state.h): nothing more may be there than before.
#include <absl/strings/numbers.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_split.h>
#include <stdio.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/env.h"
#include "base/fd.h"
#include "base/status.h"
#include "base/strings.h"
#include "cri/testing/kernel_state.h"
#include "cri/testing/live_server.h"

namespace keelson::cri {
namespace {

constexpr int kDefaultCycles = 50, kMinWarmUp = 10;
// What an allocator and caches may move about, once; a leak of 1 KiB a cycle shows at 1,000 cycles and more.
constexpr int64_t kNoiseKib = 1024;
// gRPC starts threads by load and lets them go after a while; one lost in every cycle is seen all the same.
constexpr int kThreadNoise = 6;
constexpr double kMaxGrowthKibPerCycle = 0.5;
constexpr absl::Duration kSettleLimit = absl::Seconds(10);

struct Figures {
  int descriptors = 0, threads = 0, children = 0;
  int64_t anonymous_kib = 0, pss_kib = 0;
};

int64_t Field(const std::string& text, std::string_view name) {
  size_t at = text.find(name);
  if (at == std::string::npos) return 0;
  int64_t value = 0;
  std::vector<std::string> words =
      absl::StrSplit(text.substr(at + name.size(), 40), absl::ByAnyChar(" \t\n"), absl::SkipEmpty());
  return !words.empty() && absl::SimpleAtoi(words[0], &value) ? value : 0;
}

Figures FiguresOf(int pid) {
  Figures out;
  std::string proc = StrCat("/proc/", pid);
  for (const auto& entry : std::filesystem::directory_iterator(proc + "/fd"))
    out.descriptors += entry.path().empty() ? 0 : 1;
  absl::StatusOr<std::string> status = ReadFile(proc + "/status"), rollup = ReadFile(proc + "/smaps_rollup");
  if (status.ok()) out.threads = static_cast<int>(Field(*status, "Threads:"));
  if (rollup.ok()) {
    out.anonymous_kib = Field(*rollup, "Anonymous:");
    out.pss_kib = Field(*rollup, "Pss:");
  }
  for (const auto& task : std::filesystem::directory_iterator(proc + "/task")) {
    absl::StatusOr<std::string> children = ReadFile(task.path().string() + "/children");
    if (!children.ok()) continue;
    std::vector<std::string> pids = absl::StrSplit(*children, ' ', absl::SkipEmpty());
    out.children += static_cast<int>(pids.size());
  }
  return out;
}

void Print(const char* when, const Figures& f) {
  printf("%-10s %3d descriptors, %2d threads, %d children, %ld KiB anonymous, %ld KiB PSS\n", when,
         f.descriptors, f.threads, f.children, static_cast<long>(f.anonymous_kib),
         static_cast<long>(f.pss_kib));
}

Task<absl::Status> Cycle(LiveServer* live, std::string logs, int number) {
  RuntimeService& runtime = live->runtime();
  v1::RunPodSandboxRequest run;
  v1::PodSandboxConfig* pod = run.mutable_config();
  pod->mutable_metadata()->set_name("cycle");
  pod->mutable_metadata()->set_namespace_("cycles");
  pod->mutable_metadata()->set_uid(StrCat("uid", number));
  pod->set_hostname("cycle");
  pod->set_log_directory(logs);
  auto* options = pod->mutable_linux()->mutable_security_context()->mutable_namespace_options();
  options->set_pid(number % 3 == 0 ? v1::POD : v1::CONTAINER);
  if (number % 4 == 0) {
    auto* port = pod->add_port_mappings();
    port->set_host_port(21100);
    port->set_container_port(80);
  }
  CO_ASSIGN_OR_RETURN(v1::RunPodSandboxResponse sandbox, runtime.RunPodSandbox(run));
  v1::CreateContainerRequest create;
  create.set_pod_sandbox_id(sandbox.pod_sandbox_id());
  auto* config = create.mutable_config();
  config->mutable_metadata()->set_name("c");
  config->mutable_image()->set_image(live->busybox());
  for (const char* word : {"sh", "-c", "echo hello; while true; do sleep 1000; done"})
    config->add_command(word);
  config->set_log_path("c.log");
  *config->mutable_linux()->mutable_security_context()->mutable_namespace_options() = *options;
  CO_ASSIGN_OR_RETURN(v1::CreateContainerResponse container, runtime.CreateContainer(create));
  v1::StartContainerRequest start;
  start.set_container_id(container.container_id());
  CO_ASSIGN_OR_RETURN([[maybe_unused]] v1::StartContainerResponse started, runtime.StartContainer(start));
  v1::ExecSyncRequest exec;
  exec.set_container_id(container.container_id());
  exec.add_cmd("true");
  exec.set_timeout(60);
  CO_ASSIGN_OR_RETURN([[maybe_unused]] v1::ExecSyncResponse executed, runtime.ExecSync(exec));
  v1::ContainerStatsRequest stats;
  stats.set_container_id(container.container_id());
  CO_ASSIGN_OR_RETURN([[maybe_unused]] v1::ContainerStatsResponse measured, runtime.ContainerStats(stats));
  v1::StopContainerRequest stop;
  stop.set_container_id(container.container_id());
  CO_ASSIGN_OR_RETURN([[maybe_unused]] v1::StopContainerResponse stopped, runtime.StopContainer(stop));
  v1::RemoveContainerRequest remove;
  remove.set_container_id(container.container_id());
  CO_ASSIGN_OR_RETURN([[maybe_unused]] v1::RemoveContainerResponse removed, runtime.RemoveContainer(remove));
  v1::StopPodSandboxRequest stop_pod;
  stop_pod.set_pod_sandbox_id(sandbox.pod_sandbox_id());
  CO_ASSIGN_OR_RETURN([[maybe_unused]] v1::StopPodSandboxResponse pod_stopped,
                      runtime.StopPodSandbox(stop_pod));
  v1::RemovePodSandboxRequest remove_pod;
  remove_pod.set_pod_sandbox_id(sandbox.pod_sandbox_id());
  CO_ASSIGN_OR_RETURN([[maybe_unused]] v1::RemovePodSandboxResponse pod_removed,
                      runtime.RemovePodSandbox(remove_pod));
  co_return absl::OkStatus();
}

Task<absl::Status> Run(Env* env, LiveServer* live, int cycles) {
  CO_RETURN_IF_ERROR_SYNC(live->Connect());
  v1::PullImageRequest pull;
  pull.mutable_image()->set_image(live->busybox());
  CO_ASSIGN_OR_RETURN([[maybe_unused]] v1::PullImageResponse pulled, live->images().PullImage(pull));
  const std::string logs = "/tmp/keelson-cycles";
  int warm_up = std::max(kMinWarmUp, cycles / 10);
  CO_ASSIGN_OR_RETURN(KernelState before, LookAround(env, live->paths(), live->server_pid()));
  absl::Duration begin = env->clock().Monotonic();
  Figures first;
  for (int i = 0; i < warm_up + cycles; ++i) {
    if (i == warm_up) {
      first = FiguresOf(live->server_pid());
      Print("warmed up", first);
      begin = env->clock().Monotonic();
    }
    Task<absl::Status> cycle = Cycle(live, logs, i);
    absl::Status status = co_await std::move(cycle);
    if (!status.ok()) co_return Annotate(status, StrCat("cycle ", i));
  }
  absl::Duration took = env->clock().Monotonic() - begin;
  absl::Duration limit = env->clock().Monotonic() + kSettleLimit;
  std::vector<std::string> left;
  Figures last;
  while (true) {
    CO_ASSIGN_OR_RETURN(KernelState after, LookAround(env, live->paths(), live->server_pid()));
    left = Difference({before.things, {}}, after);
    last = FiguresOf(live->server_pid());
    bool settled = left.empty() && last.descriptors <= first.descriptors && last.children <= first.children;
    if (settled || env->clock().Monotonic() > limit) break;
    Task<void> nap = env->clock().Sleep(absl::Milliseconds(100));
    co_await std::move(nap);
  }
  Print("at the end", last);
  printf("%d cycles, %.0f ms each\n", cycles, absl::ToDoubleMilliseconds(took) / cycles);
  CO_RETURN_IF_ERROR_SYNC(RemoveTree(logs));
  if (!left.empty()) co_return absl::InternalError(absl::StrJoin(left, "\n  "));
  int64_t allowed = kNoiseKib + static_cast<int64_t>(kMaxGrowthKibPerCycle * cycles);
  if (last.anonymous_kib > first.anonymous_kib + allowed) {
    co_return absl::InternalError(
        StrCat("memory grew by ", last.anonymous_kib - first.anonymous_kib, " KiB"));
  }
  if (last.descriptors > first.descriptors || last.threads > first.threads + kThreadNoise ||
      last.children > first.children) {
    co_return absl::InternalError("descriptors, threads or children grew");
  }
  co_return absl::OkStatus();
}

int Main(int argc, char** argv) {
  int cycles = kDefaultCycles;
  if (argc > 1 && !absl::SimpleAtoi(argv[1], &cycles)) return 2;
  RealEnv env{Paths()};
  std::unique_ptr<LiveServer> live = LiveServer::FromEnvironment(env);
  if (live == nullptr) {
    printf("# skip run it under cri/testing/with_keelson_cri\n");
    return 77;
  }
  absl::Status status = env.RunUntilDone(Run(&env, live.get(), cycles));
  if (!status.ok()) printf("FAILED: %s\n", status.ToString().c_str());
  return status.ok() ? 0 : 1;
}

}  // namespace
}  // namespace keelson::cri

int main(int argc, char** argv) { return keelson::cri::Main(argc, argv); }
