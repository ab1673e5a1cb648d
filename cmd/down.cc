#include "cmd/down.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>

#include "base/fd.h"
#include "base/log.h"
#include "base/mounts.h"
#include "base/status.h"
#include "base/strings.h"
#include "cgroups/conversions.h"
#include "cgroups/manager.h"
#include "cgroups/systemd_units.h"
#include "client/api_client.h"
#include "client/http_api_client.h"
#include "cmd/supervisor.h"
#include "cmd/up.h"
#include "cri/remote/remote_runtime.h"
#include "net/address.h"
#include "proxy/proxy.h"

namespace keelson {
namespace {

constexpr absl::Duration kStopGrace = absl::Seconds(10);
constexpr absl::Duration kRuntimeStart = absl::Seconds(20);
constexpr size_t kParallelSandboxes = 8;

Task<void> StopByPidFile(Env* env, std::string path) {
  auto process = AdoptFromPidFile(*env, path);
  if (process.ok()) {
    std::shared_ptr<ChildProcess> shared = *std::move(process);
    Task<void> stop = StopProcess(env, shared, kStopGrace);
    co_await std::move(stop);
  }
  ::unlink(path.c_str());
}

// Monitors (conmon, shims) keep containers alive without their runtime: pods are removed through the runtime
// only.
bool RuntimeHasTasks(const ClusterLayout& layout) {
  std::error_code ignored;
  if (layout.own_cri()) {
    std::filesystem::path records = layout.cri_state_dir() + "/sandboxes";
    return std::filesystem::exists(records, ignored) && !std::filesystem::is_empty(records, ignored);
  }
  std::filesystem::path tasks = layout.paths.run_dir + "/containerd/io.containerd.runtime.v2.task/k8s.io";
  return std::filesystem::exists(tasks, ignored) && !std::filesystem::is_empty(tasks, ignored);
}

Task<absl::Status> WaitForRuntime(Env* env, cri::RuntimeService* runtime, absl::Duration limit) {
  absl::Duration end = env->clock().Monotonic() + limit;
  while (true) {
    Task<absl::StatusOr<cri::v1::VersionResponse>> call = runtime->Version(cri::v1::VersionRequest());
    absl::StatusOr<cri::v1::VersionResponse> version = co_await std::move(call);
    if (version.ok() || env->clock().Monotonic() > end) co_return version.status();
    Task<void> pause = env->clock().Sleep(absl::Milliseconds(50));
    co_await std::move(pause);
  }
}

Task<void> RemoveSandbox(cri::RuntimeService* runtime, std::string id, Semaphore* permits, int* left) {
  Task<void> acquire = permits->Acquire();
  co_await std::move(acquire);
  cri::v1::StopPodSandboxRequest stop_request;
  stop_request.set_pod_sandbox_id(id);
  Task<absl::StatusOr<cri::v1::StopPodSandboxResponse>> stop = runtime->StopPodSandbox(stop_request);
  absl::StatusOr<cri::v1::StopPodSandboxResponse> stopped = co_await std::move(stop);
  if (!stopped.ok()) LogWarning("sandbox not stopped", {{"id", id}, {"error", stopped.status()}});
  cri::v1::RemovePodSandboxRequest remove_request;
  remove_request.set_pod_sandbox_id(id);
  Task<absl::StatusOr<cri::v1::RemovePodSandboxResponse>> remove = runtime->RemovePodSandbox(remove_request);
  absl::StatusOr<cri::v1::RemovePodSandboxResponse> removed = co_await std::move(remove);
  if (!removed.ok()) LogWarning("sandbox not removed", {{"id", id}, {"error", removed.status()}});
  permits->Release();
  --*left;
}

Task<absl::Status> RemoveAllSandboxes(Env* env, cri::RuntimeService* runtime) {
  CO_ASSIGN_OR_RETURN(cri::v1::ListPodSandboxResponse list,
                      runtime->ListPodSandbox(cri::v1::ListPodSandboxRequest()));
  Semaphore permits(kParallelSandboxes);
  Scope scope(env->executor());
  int left = list.items_size();
  for (const auto& sandbox : list.items()) {
    scope.Spawn("remove sandbox", RemoveSandbox(runtime, sandbox.id(), &permits, &left));
  }
  while (left > 0) {
    Task<void> pause = env->clock().Sleep(absl::Milliseconds(20));
    co_await std::move(pause);
  }
  Task<void> close = scope.Close();
  co_await std::move(close);
  CO_ASSIGN_OR_RETURN(list, runtime->ListPodSandbox(cri::v1::ListPodSandboxRequest()));
  if (list.items_size() > 0) {
    co_return absl::InternalError(StrCat(list.items_size(), " pod sandboxes could not be removed"));
  }
  co_return absl::OkStatus();
}

Task<absl::Status> RemovePods(Env* env, ClusterLayout layout) {
  if (!layout.own_runtime())
    co_return absl::OkStatus();  // somebody else's runtime: the kubelet's pods stay its own
  const std::string name = layout.own_cri() ? "cri" : "containerd";
  auto running = AdoptFromPidFile(*env, layout.pid_file(name));
  if (!running.ok() && !RuntimeHasTasks(layout)) co_return absl::OkStatus();
  Supervisor supervisor(*env);
  if (!running.ok()) {
    absl::Status started = supervisor.Start(RuntimeComponent(layout));
    if (!started.ok())
      LogWarning("runtime not started for the clean-up", {{"name", name}, {"error", started}});
  }
  auto remote = cri::RemoteRuntime::Create(*env, cri::RemoteOptions{layout.runtime_endpoint()});
  absl::Status status = remote.status();
  if (status.ok()) {
    Task<absl::Status> wait = WaitForRuntime(env, &(*remote)->runtime(), kRuntimeStart);
    status = co_await std::move(wait);
  }
  if (status.ok()) {
    Task<absl::Status> remove = RemoveAllSandboxes(env, &(*remote)->runtime());
    status = co_await std::move(remove);
  }
  Task<void> release = supervisor.Release();
  co_await std::move(release);
  co_return status;
}

absl::Status UnmountAll(const ClusterLayout& layout) {
  ASSIGN_OR_RETURN(std::string mountinfo, ReadFile("/proc/self/mountinfo", kMaxMountInfoBytes));
  std::vector<std::string> mounts =
      MountPointsBelow(mountinfo, {layout.paths.kubelet_dir, layout.paths.state_dir, layout.paths.run_dir});
  std::reverse(mounts.begin(), mounts.end());  // later mounts lie over earlier ones
  absl::Status result;
  for (const std::string& mount : mounts) {
    if (::umount2(mount.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) != 0 && errno != EINVAL && errno != ENOENT) {
      result = ErrnoStatus(errno, StrCat("unmount ", mount));
    }
  }
  return result;
}

absl::Status RemoveCgroups(Clock& clock, const ClusterLayout& layout) {
  ASSIGN_OR_RETURN(std::unique_ptr<cgroups::Manager> manager, cgroups::NewHostManager());
  std::string pods = layout.paths.cgroup_root.empty() ? "kubepods" : layout.paths.cgroup_root + "/kubepods";
  absl::Status result;
  auto collect = [&result](const absl::Status& step) {
    if (result.ok()) result = step;
  };
  collect(manager->Destroy(pods));
  if (layout.own_cri()) collect(manager->Destroy(layout.cri_cgroup(/*systemd=*/false)));
  // Whichever driver the options say: they may have been others when the pods were made.
  if (layout.paths.cgroup_root.empty() && layout.own_cri() &&
      cgroups::SystemdMakesCgroups(manager->layout().mode)) {
    ASSIGN_OR_RETURN(std::unique_ptr<cgroups::SystemdUnits> units,
                     cgroups::NewSystemdUnits(clock, /*v2=*/true));
    for (const std::string& slice : {cgroups::ToSystemdPath(pods), layout.cri_cgroup(/*systemd=*/true)}) {
      collect(units->StopSlice(slice));
    }
  }
  if (!layout.paths.cgroup_root.empty()) collect(manager->Destroy(layout.paths.cgroup_root));
  return result;
}

// The proxy's clean-up speaks to no API server; this client is never called.
class NoClient : public client::ApiClient {
 public:
  template <class T>
  static Task<absl::StatusOr<T>> Refuse() {
    co_return absl::FailedPreconditionError("no API server during clean-up");
  }
  Task<absl::StatusOr<client::ObjectPtr>> Get(api::GroupVersionResource, std::string, std::string) override {
    return Refuse<client::ObjectPtr>();
  }
  Task<absl::StatusOr<client::ObjectList>> List(api::GroupVersionResource, std::string,
                                                client::ListOptions) override {
    return Refuse<client::ObjectList>();
  }
  Task<absl::StatusOr<std::unique_ptr<client::Watcher>>> Watch(api::GroupVersionResource, std::string,
                                                               client::WatchOptions) override {
    return Refuse<std::unique_ptr<client::Watcher>>();
  }
  Task<absl::StatusOr<client::ObjectPtr>> Create(api::GroupVersionResource, std::string, client::ObjectPtr,
                                                 std::string, std::string) override {
    return Refuse<client::ObjectPtr>();
  }
  Task<absl::StatusOr<client::ObjectPtr>> Update(api::GroupVersionResource, std::string, client::ObjectPtr,
                                                 std::string) override {
    return Refuse<client::ObjectPtr>();
  }
  Task<absl::StatusOr<client::ObjectPtr>> Patch(api::GroupVersionResource, std::string, std::string,
                                                client::PatchType, std::string, std::string) override {
    return Refuse<client::ObjectPtr>();
  }
  Task<absl::Status> Delete(api::GroupVersionResource, std::string, std::string,
                            client::DeleteOptions) override {
    co_return absl::FailedPreconditionError("no API server during clean-up");
  }
};

Task<absl::Status> RemoveDataplane(Env* env, ClusterLayout layout) {
  NoClient client;
  proxy::ProxyOptions options;
  options.node_name = layout.options.node_name;
  options.table = layout.nft_table();
  CO_ASSIGN_OR_RETURN_SYNC(options.dns_address, net::IpAddress::Parse(layout.dns_ip()));
  CO_ASSIGN_OR_RETURN_SYNC(net::Cidr pods, net::Cidr::Parse(layout.node_pod_cidr()));
  options.node_pod_cidrs = {pods};
  proxy::Proxy proxy(*env, client, options);
  Task<absl::Status> cleanup = proxy.Cleanup();
  absl::Status status = co_await std::move(cleanup);
  Task<void> stop = proxy.Stop();
  co_await std::move(stop);
  co_return status;
}

void Collect(absl::Status step, const char* what, absl::Status* result) {
  if (step.ok()) return;
  LogError("clean-up step failed", {{"step", what}, {"error", step}});
  if (result->ok()) *result = Annotate(step, what);
}

}  // namespace

Task<absl::Status> TearDown(Env* env, ClusterLayout layout) {
  absl::Status result;
  // The kubelet first, or it would start again what is removed.
  Task<void> kubelet = StopByPidFile(env, layout.pid_file("kubelet"));
  co_await std::move(kubelet);
  Task<absl::Status> pods = RemovePods(env, layout);
  absl::Status removed = co_await std::move(pods);
  Collect(removed, "remove pods", &result);
  for (const char* name : {"proxy", "master", "cri", "containerd", "registry"}) {
    Task<void> stop = StopByPidFile(env, layout.pid_file(name));
    co_await std::move(stop);
  }
  Task<absl::Status> dataplane = RemoveDataplane(env, layout);
  absl::Status cleaned = co_await std::move(dataplane);
  Collect(cleaned, "remove nft table and DNS address", &result);
  Collect(UnmountAll(layout), "unmount", &result);
  Collect(RemoveCgroups(env->clock(), layout), "remove cgroups", &result);
  Collect(RemoveTree(layout.paths.run_dir + "/containerd"), "remove sockets", &result);
  for (const std::string& dir : {layout.cri_run_dir(), layout.paths.run_dir + "/cri"}) {
    Collect(RemoveTree(dir), "remove the runtime's files", &result);
  }
  co_return result;
}

namespace {

Task<absl::Status> AskUp(Env* env, std::shared_ptr<ChildProcess> up) {
  CO_RETURN_IF_ERROR_SYNC(up->Signal(SIGTERM));
  Task<int> wait = up->Wait();
  co_await std::move(wait);
  co_return absl::OkStatus();
}

bool IsMountPoint(const std::string& path) {
  struct statx info = {};
  return ::statx(AT_FDCWD, path.c_str(), AT_SYMLINK_NOFOLLOW, 0, &info) == 0 &&
         (info.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
}

}  // namespace

absl::Status RunDown(const ClusterLayout& given, bool purge) {
  ClusterLayout layout = given;
  RealEnv env(layout.paths);
  if (!ApplyMarker(&layout)) {
    // Another kubelet's pods may lie under the same upstream paths: without our mark nothing is touched.
    std::puts("no cluster of `keelson up` on this machine, nothing to do");
    return absl::OkStatus();
  }
  auto up = AdoptFromPidFile(env, layout.pid_file("up"));
  if (up.ok()) {
    std::shared_ptr<ChildProcess> shared = *std::move(up);
    RETURN_IF_ERROR(env.RunUntilDone(AskUp(&env, shared)));
  }
  // What `up` left, or all of it when there was none: every step is a no-op when there is nothing to do.
  absl::Status status = env.RunUntilDone(TearDown(&env, layout));
  ::unlink(layout.pid_file("up").c_str());
  if (!purge || !status.ok()) return status;
  for (const std::string& dir :
       {layout.paths.kubelet_dir, layout.paths.state_dir, layout.paths.run_dir, layout.paths.etc_dir,
        layout.paths.log_dir, layout.paths.pod_logs_dir, layout.paths.container_logs_dir}) {
    absl::Status removed = RemoveTree(dir);
    // A disk of its own: everything on it is gone, the mount is not ours.
    if (!removed.ok() && IsMountPoint(dir) && std::filesystem::is_empty(dir)) continue;
    RETURN_IF_ERROR(removed);
  }
  return absl::OkStatus();
}

}  // namespace keelson
