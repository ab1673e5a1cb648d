// pod_loader: pods on a running cluster, and the CRI calls alone on the same runtime. One JSON line per
// figure.
//
//   pod_loader pods  --kubeconfig F --image I --count N        create -> Running on a watch, one after the
//   other and a burst pod_loader hold  --kubeconfig F --image I --count N        brings the namespace to N
//   running pods and leaves them pod_loader clear --kubeconfig F                            deletes them all
//   and waits until they are gone pod_loader cri   --endpoint unix:///... --image I --count N   RunPodSandbox
//   + CreateContainer + StartContainer pod_loader node  --kubeconfig F                            waits until
//   a node is Ready
#include <stdlib.h>

#include <cstdio>
#include <map>

#include "api/core/v1/namespace.pb.h"
#include "api/core/v1/node.pb.h"
#include "api/core/v1/pod.pb.h"
#include "api/status_error.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"
#include "client/http_api_client.h"
#include "client/informer.h"
#include "client/kubeconfig.h"
#include "cri/remote/remote_runtime.h"
#include "tests/bench/measure.h"

namespace keelson::bench {
namespace {

namespace corev1 = ::k8s::core::v1;
namespace v1 = ::runtime::v1;

constexpr char kNamespace[] = "bench-pods";
constexpr char kCgroupParent[] = "/keelson-bench-cri";
constexpr absl::Duration kLimit = absl::Seconds(180);
constexpr absl::Duration kPoll = absl::Milliseconds(1);

corev1::Pod PodNamed(const std::string& name, const std::string& image) {
  corev1::Pod pod;
  pod.mutable_metadata()->set_name(name);
  pod.mutable_metadata()->set_namespace_(kNamespace);
  corev1::PodSpec& spec = *pod.mutable_spec();
  spec.set_termination_grace_period_seconds(1);
  spec.set_enable_service_links(false);
  corev1::Container& container = *spec.add_containers();
  container.set_name("main");
  container.set_image(image);
  container.set_image_pull_policy("IfNotPresent");
  return pod;
}

// The pods of the namespace as a watch shows them.
class PodWatch {
 public:
  PodWatch(Env* env, client::ApiClient* api)
      : env_(env), informer_(*env, *api, client::GvrOf<corev1::Pod>(), Options()) {
    informer_.AddHandler([this](const client::ObjectPtr&, const client::ObjectPtr& after) {
      if (after == nullptr) return;
      const auto& pod = static_cast<const corev1::Pod&>(*after);
      if (pod.status().phase() != "Running") return;
      running_at_.emplace(pod.metadata().name(), env_->clock().Monotonic());
    });
    informer_.Start();
  }
  client::Informer& informer() { return informer_; }
  const absl::Duration* RunningAt(const std::string& name) const {
    auto it = running_at_.find(name);
    return it == running_at_.end() ? nullptr : &it->second;
  }
  size_t Running() const { return running_at_.size(); }
  void Forget() { running_at_.clear(); }

 private:
  static client::InformerOptions Options() {
    client::InformerOptions options;
    options.ns = kNamespace;
    return options;
  }
  Env* env_;
  client::Informer informer_;
  std::map<std::string, absl::Duration> running_at_;
};

struct Cluster {
  Env* env = nullptr;
  std::unique_ptr<client::ApiClient> api;
  std::string image;
};

Task<absl::Status> Until(Env* env, std::string what, std::function<bool()> done) {
  absl::Duration end = env->clock().Monotonic() + kLimit;
  while (!done()) {
    if (env->clock().Monotonic() > end) co_return absl::DeadlineExceededError(what);
    Task<void> sleep = env->clock().Sleep(kPoll);
    co_await std::move(sleep);
  }
  co_return absl::OkStatus();
}

Task<absl::Status> CreatePod(Cluster* cluster, std::string name) {
  CO_ASSIGN_OR_RETURN([[maybe_unused]] std::shared_ptr<const corev1::Pod> made,
                      cluster->api->Create<corev1::Pod>(PodNamed(name, cluster->image)));
  co_return absl::OkStatus();
}

Task<void> CreateInBurst(Cluster* cluster, std::string name, absl::Status* result) {
  Task<absl::Status> create = CreatePod(cluster, name);
  absl::Status status = co_await std::move(create);
  if (!status.ok()) *result = status;
}

// A new cluster makes the namespace's ServiceAccount a moment after the namespace.
Task<absl::Status> EnsureNamespace(Cluster* cluster) {
  corev1::Namespace ns;
  ns.mutable_metadata()->set_name(kNamespace);
  Task<absl::StatusOr<std::shared_ptr<const corev1::Namespace>>> create =
      cluster->api->Create<corev1::Namespace>(ns);
  absl::StatusOr<std::shared_ptr<const corev1::Namespace>> made = co_await std::move(create);
  if (!made.ok() && !api::IsAlreadyExists(made.status())) co_return made.status();
  Task<void> sleep = cluster->env->clock().Sleep(absl::Milliseconds(300));
  co_await std::move(sleep);
  co_return absl::OkStatus();
}

Task<absl::Status> DeletePods(Cluster* cluster, PodWatch* watch) {
  for (const auto& pod : watch->informer().ListAs<corev1::Pod>()) {
    Task<absl::Status> remove = cluster->api->Delete<corev1::Pod>(kNamespace, pod->metadata().name());
    absl::Status status = co_await std::move(remove);
    if (!status.ok() && !api::IsNotFound(status)) co_return status;
  }
  CO_RETURN_IF_ERROR(
      Until(cluster->env, "pods are not gone", [watch] { return watch->informer().size() == 0; }));
  watch->Forget();
  co_return absl::OkStatus();
}

Task<absl::Status> Sequential(Cluster* cluster, PodWatch* watch, int count) {
  std::vector<double> ms;
  CpuWindow window(cluster->env, 0);
  for (int i = 0; i < count; ++i) {
    std::string name = StrCat("one-", i);
    absl::Duration start = cluster->env->clock().Monotonic();
    CO_RETURN_IF_ERROR(CreatePod(cluster, name));
    CO_RETURN_IF_ERROR(Until(cluster->env, StrCat(name, " is not Running"),
                             [watch, name] { return watch->RunningAt(name) != nullptr; }));
    ms.push_back(absl::ToDoubleMilliseconds(*watch->RunningAt(name) - start));
  }
  window.End();
  Row("pod_running_sequential").Set("pods", count).SetLatencies(ms).Set("seconds", window.wall_s()).Print();
  co_return absl::OkStatus();
}

Task<absl::Status> Burst(Cluster* cluster, PodWatch* watch, int count) {
  Env* env = cluster->env;
  Scope scope(env->executor());
  absl::Status created;
  absl::Duration start = env->clock().Monotonic();
  for (int i = 0; i < count; ++i)
    scope.Spawn("create", CreateInBurst(cluster, StrCat("burst-", i), &created));
  Task<absl::Status> wait = Until(env, "burst is not Running", [watch, count, &created] {
    return !created.ok() || watch->Running() >= static_cast<size_t>(count);
  });
  absl::Status status = co_await std::move(wait);
  Task<void> close = scope.Close();
  co_await std::move(close);
  if (!created.ok()) co_return created;
  if (!status.ok()) co_return status;
  std::vector<double> ms;
  for (int i = 0; i < count; ++i)
    ms.push_back(absl::ToDoubleMilliseconds(*watch->RunningAt(StrCat("burst-", i)) - start));
  Row("pod_running_burst")
      .Set("pods", count)
      .SetLatencies(ms)
      .Set("seconds", Percentile(ms, 1) / 1e3)
      .Print();
  co_return absl::OkStatus();
}

Task<absl::Status> PodRows(Cluster* cluster, int count) {
  CO_RETURN_IF_ERROR(EnsureNamespace(cluster));
  PodWatch watch(cluster->env, cluster->api.get());
  Task<void> synced = watch.informer().WaitForSync();
  co_await std::move(synced);
  Task<absl::Status> clean = DeletePods(cluster, &watch);
  absl::Status status = co_await std::move(clean);
  if (status.ok()) {
    Task<absl::Status> sequential = Sequential(cluster, &watch, count);
    status = co_await std::move(sequential);
  }
  absl::Duration start = cluster->env->clock().Monotonic();
  Task<absl::Status> again = DeletePods(cluster, &watch);
  absl::Status cleaned = co_await std::move(again);
  Row("pods_deleted")
      .Set("pods", count)
      .Set("seconds", absl::ToDoubleSeconds(cluster->env->clock().Monotonic() - start))
      .Print();
  if (status.ok()) status = cleaned;
  if (status.ok()) {
    Task<absl::Status> burst = Burst(cluster, &watch, count);
    status = co_await std::move(burst);
  }
  Task<absl::Status> last = DeletePods(cluster, &watch);
  cleaned = co_await std::move(last);
  Task<void> stop = watch.informer().Stop();
  co_await std::move(stop);
  co_return status.ok() ? cleaned : status;
}

Task<absl::Status> Hold(Cluster* cluster, int count) {
  CO_RETURN_IF_ERROR(EnsureNamespace(cluster));
  PodWatch watch(cluster->env, cluster->api.get());
  Task<void> synced = watch.informer().WaitForSync();
  co_await std::move(synced);
  absl::Status status;
  for (int i = static_cast<int>(watch.informer().size()); status.ok() && i < count; ++i) {
    Task<absl::Status> create = CreatePod(cluster, StrCat("hold-", i));
    status = co_await std::move(create);
  }
  if (status.ok()) {
    Task<absl::Status> wait = Until(cluster->env, "pods are not Running", [&watch, count] {
      return watch.Running() >= static_cast<size_t>(count);
    });
    status = co_await std::move(wait);
  }
  Task<void> stop = watch.informer().Stop();
  co_await std::move(stop);
  co_return status;
}

Task<absl::Status> Clear(Cluster* cluster) {
  PodWatch watch(cluster->env, cluster->api.get());
  Task<void> synced = watch.informer().WaitForSync();
  co_await std::move(synced);
  Task<absl::Status> clean = DeletePods(cluster, &watch);
  absl::Status status = co_await std::move(clean);
  Task<void> stop = watch.informer().Stop();
  co_await std::move(stop);
  co_return status;
}

bool IsReady(const corev1::Node& node) {
  for (const auto& condition : node.status().conditions()) {
    if (condition.type() == "Ready") return condition.status() == "True";
  }
  return false;
}

Task<absl::Status> WaitForNode(Cluster* cluster) {
  client::Informer nodes(*cluster->env, *cluster->api, client::GvrOf<corev1::Node>());
  nodes.Start();
  Task<absl::Status> wait = Until(cluster->env, "no node is Ready", [&nodes] {
    for (const auto& node : nodes.ListAs<corev1::Node>()) {
      if (IsReady(*node)) return true;
    }
    return false;
  });
  absl::Status status = co_await std::move(wait);
  Task<void> stop = nodes.Stop();
  co_await std::move(stop);
  co_return status;
}

// ---- the CRI calls alone ----

struct CriRun {
  Env* env;
  cri::RuntimeService* runtime;
  std::string image, log_dir;
  std::vector<double> ms, sandbox_ms, create_ms, start_ms;
  std::vector<std::string> sandboxes;
  absl::Status status;
  int left = 0;
};

v1::PodSandboxConfig SandboxConfig(CriRun* run, const std::string& name) {
  v1::PodSandboxConfig config;
  config.mutable_metadata()->set_name(name);
  config.mutable_metadata()->set_namespace_(kNamespace);
  config.mutable_metadata()->set_uid(run->env->random().Uuid());
  config.set_hostname(name);
  config.set_log_directory(run->log_dir);
  config.mutable_linux()->set_cgroup_parent(kCgroupParent);
  return config;
}

Task<absl::Status> CriPod(CriRun* run, std::string name) {
  Clock& clock = run->env->clock();
  v1::PodSandboxConfig config = SandboxConfig(run, name);
  absl::Duration start = clock.Monotonic();
  v1::RunPodSandboxRequest sandbox_request;
  *sandbox_request.mutable_config() = config;
  CO_ASSIGN_OR_RETURN(v1::RunPodSandboxResponse sandbox, run->runtime->RunPodSandbox(sandbox_request));
  run->sandboxes.push_back(sandbox.pod_sandbox_id());
  absl::Duration sandbox_end = clock.Monotonic();
  v1::CreateContainerRequest create_request;
  create_request.set_pod_sandbox_id(sandbox.pod_sandbox_id());
  *create_request.mutable_sandbox_config() = config;
  create_request.mutable_config()->mutable_metadata()->set_name("main");
  create_request.mutable_config()->mutable_image()->set_image(run->image);
  create_request.mutable_config()->set_log_path(StrCat(name, ".log"));
  CO_ASSIGN_OR_RETURN(v1::CreateContainerResponse container, run->runtime->CreateContainer(create_request));
  absl::Duration create_end = clock.Monotonic();
  v1::StartContainerRequest start_request;
  start_request.set_container_id(container.container_id());
  CO_ASSIGN_OR_RETURN([[maybe_unused]] v1::StartContainerResponse started,
                      run->runtime->StartContainer(start_request));
  absl::Duration end = clock.Monotonic();
  run->ms.push_back(absl::ToDoubleMilliseconds(end - start));
  run->sandbox_ms.push_back(absl::ToDoubleMilliseconds(sandbox_end - start));
  run->create_ms.push_back(absl::ToDoubleMilliseconds(create_end - sandbox_end));
  run->start_ms.push_back(absl::ToDoubleMilliseconds(end - create_end));
  co_return absl::OkStatus();
}

Task<void> CriPodInBurst(CriRun* run, std::string name) {
  Task<absl::Status> pod = CriPod(run, name);
  absl::Status status = co_await std::move(pod);
  if (!status.ok()) run->status = status;
  --run->left;
}

Task<absl::Status> RemoveSandboxes(CriRun* run) {
  for (const std::string& id : run->sandboxes) {
    v1::StopPodSandboxRequest stop_request;
    stop_request.set_pod_sandbox_id(id);
    CO_ASSIGN_OR_RETURN([[maybe_unused]] v1::StopPodSandboxResponse stopped,
                        run->runtime->StopPodSandbox(stop_request));
    v1::RemovePodSandboxRequest remove_request;
    remove_request.set_pod_sandbox_id(id);
    CO_ASSIGN_OR_RETURN([[maybe_unused]] v1::RemovePodSandboxResponse removed,
                        run->runtime->RemovePodSandbox(remove_request));
  }
  run->sandboxes.clear();
  co_return absl::OkStatus();
}

void PrintCri(const std::string& name, CriRun* run, double wall_s) {
  Row row(name);
  row.Set("pods", run->ms.size()).SetLatencies(run->ms).Set("seconds", wall_s);
  row.Set("run_sandbox_p50_ms", Percentile(run->sandbox_ms, 0.5))
      .Set("create_p50_ms", Percentile(run->create_ms, 0.5));
  row.Set("start_p50_ms", Percentile(run->start_ms, 0.5)).Print();
}

Task<absl::Status> CriCalls(CriRun* run, int count) {
  Env* env = run->env;
  absl::Duration start = env->clock().Monotonic();
  for (int i = 0; i < count; ++i) CO_RETURN_IF_ERROR(CriPod(run, StrCat("cri-", i)));
  PrintCri("cri_sequential", run, absl::ToDoubleSeconds(env->clock().Monotonic() - start));
  CO_RETURN_IF_ERROR(RemoveSandboxes(run));
  for (std::vector<double>* samples : {&run->ms, &run->sandbox_ms, &run->create_ms, &run->start_ms})
    samples->clear();
  Scope scope(env->executor());
  run->left = count;
  start = env->clock().Monotonic();
  for (int i = 0; i < count; ++i) scope.Spawn("pod", CriPodInBurst(run, StrCat("cri-burst-", i)));
  Task<absl::Status> wait = Until(env, "burst of CRI calls", [run] { return run->left == 0; });
  absl::Status status = co_await std::move(wait);
  double wall_s = absl::ToDoubleSeconds(env->clock().Monotonic() - start);
  Task<void> close = scope.Close();
  co_await std::move(close);
  if (status.ok()) status = run->status;
  if (status.ok()) PrintCri("cri_burst", run, wall_s);
  co_return status;
}

Task<absl::Status> CriRows(Env* env, cri::RuntimeService* runtime, std::string image, int count) {
  char log_dir[] = "/tmp/keelson-bench-XXXXXX";
  if (::mkdtemp(log_dir) == nullptr) co_return ErrnoStatus(errno, log_dir);
  CriRun run{env, runtime, image, log_dir};
  Task<absl::Status> calls = CriCalls(&run, count);
  absl::Status status = co_await std::move(calls);
  Task<absl::Status> remove = RemoveSandboxes(&run);
  absl::Status removed = co_await std::move(remove);
  CO_RETURN_IF_ERROR_SYNC(RemoveTree(log_dir));
  co_return status.ok() ? removed : status;
}

absl::Status RunCommand(RealEnv* env, const std::string& command, const Flags& flags) {
  const int count = flags.GetInt("--count", 30);
  if (command == "cri") {
    ASSIGN_OR_RETURN(std::unique_ptr<cri::RemoteRuntime> remote,
                     cri::RemoteRuntime::Create(*env, cri::RemoteOptions{flags.Get("--endpoint")}));
    return env->RunUntilDone(CriRows(env, &remote->runtime(), flags.Get("--image"), count));
  }
  Cluster cluster;
  cluster.env = env;
  cluster.image = flags.Get("--image");
  ASSIGN_OR_RETURN(client::KubeConfig config, client::LoadKubeConfig(flags.Get("--kubeconfig")));
  ASSIGN_OR_RETURN(cluster.api, client::NewHttpApiClient(*env, config));
  if (command == "pods") return env->RunUntilDone(PodRows(&cluster, count));
  if (command == "hold") return env->RunUntilDone(Hold(&cluster, count));
  if (command == "clear") return env->RunUntilDone(Clear(&cluster));
  if (command == "node") return env->RunUntilDone(WaitForNode(&cluster));
  return absl::InvalidArgumentError("usage: pod_loader pods|hold|clear|node|cri ... (see its source)");
}

int Main(int argc, char** argv) {
  std::string command = argc > 1 ? argv[1] : "";
  InitLog(LogOptions{"pod_loader"});
  RealEnv env{Paths()};
  absl::Status status = RunCommand(&env, command, Flags(argc, argv, 2));
  if (status.ok()) return 0;
  std::fprintf(stderr, "pod_loader %s: %s\n", command.c_str(), std::string(status.message()).c_str());
  return 1;
}

}  // namespace
}  // namespace keelson::bench

int main(int argc, char** argv) { return keelson::bench::Main(argc, argv); }
