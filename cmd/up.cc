#include "cmd/up.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "api/core/v1/node.pb.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"
#include "client/http_api_client.h"
#include "client/informer.h"
#include "client/kubeconfig.h"
#include "cmd/check.h"
#include "cmd/cluster_pki.h"
#include "cmd/containerd_files.h"
#include "cmd/down.h"
#include "cmd/signals.h"
#include "cmd/supervisor.h"

namespace keelson {

namespace corev1 = ::k8s::core::v1;

namespace {

constexpr absl::Duration kReadyLimit = absl::Minutes(3);

// Progress for people: stdout, and the pipe of the one who waits for us.
class Progress {
 public:
  explicit Progress(int fd) : fd_(fd) {}
  void Say(const std::string& line) {
    LogInfo(line);
    if (fd_ >= 0 && !WriteAll(fd_, line + "\n").ok()) fd_ = -1;  // the one who waited is gone
  }
  void Finish(const std::string& line) {
    Say(line);
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }

 private:
  int fd_;
};

ComponentSpec Component(const ClusterLayout& layout, const std::string& name, std::vector<std::string> argv) {
  ComponentSpec spec;
  spec.name = name;
  spec.argv = std::move(argv);
  spec.pid_file = layout.pid_file(name);
  spec.log_file = layout.log_file(name);
  spec.log_max_bytes = layout.options.log_max_bytes;
  return spec;
}

}  // namespace

ComponentSpec RuntimeComponent(const ClusterLayout& layout) {
  if (layout.own_containerd()) {
    return Component(layout, "containerd", {"containerd", "--config", layout.containerd_config()});
  }
  std::vector<std::string> argv = {layout.executable,  "cri",
                                   "--listen",         layout.cri_socket(),
                                   "--state-dir",      layout.cri_state_dir(),
                                   "--run-dir",        layout.cri_run_dir(),
                                   "--cni-conf-dir",   layout.cni_conf_dir(),
                                   "--registries-dir", layout.registries_dir(),
                                   "--cgroup-driver",  layout.options.cgroup_driver,
                                   "--cgroup-parent",  layout.cri_cgroup(layout.systemd_cgroups()),
                                   "--nft-table",      layout.cri_nft_table()};
  if (!layout.options.root.empty()) {
    argv.push_back("--root");
    argv.push_back(layout.options.root);
  }
  return Component(layout, "cri", std::move(argv));
}

namespace {

std::vector<ComponentSpec> Components(const ClusterLayout& layout) {
  const ClusterOptions& o = layout.options;
  std::vector<ComponentSpec> specs;
  std::vector<std::string> root;
  if (!o.root.empty()) root = {"--root", o.root};
  auto ours = [&](const std::string& name, std::vector<std::string> args) {
    std::vector<std::string> argv = {layout.executable, name};
    argv.insert(argv.end(), root.begin(), root.end());
    argv.insert(argv.end(), args.begin(), args.end());
    specs.push_back(Component(layout, name, std::move(argv)));
  };
  ours("master", {"--secure-port", StrCat(o.secure_port), "--advertise-address", o.node_ip,
                  "--service-cluster-ip-range", o.service_cidr, "--cluster-cidr", o.pod_cidr});
  if (layout.own_runtime()) {
    // Without a registry of our own every image comes from where its name says.
    if (::access("/usr/bin/docker-registry", X_OK) == 0) {
      specs.push_back(Component(layout, "registry", {"docker-registry", "serve", layout.registry_config()}));
    }
    specs.push_back(RuntimeComponent(layout));
  }
  ours("kubelet", {"--config", layout.kubelet_config(), "--kubeconfig", layout.kubelet_conf(),
                   "--hostname-override", o.node_name, "--node-ip", o.node_ip});
  ours("proxy",
       {"--kubeconfig", layout.proxy_conf(), "--hostname-override", o.node_name, "--cluster-cidr", o.pod_cidr,
        "--service-cluster-ip-range", o.service_cidr, "--cluster-domain", o.cluster_domain, "--healthz-port",
        StrCat(o.proxy_healthz_port), "--nft-table", layout.nft_table()});
  return specs;
}

// Ready, and said so by a kubelet that ran at `since`: the store remembers what an earlier one said.
bool IsReady(const corev1::Node& node, absl::Time since) {
  for (const auto& condition : node.status().conditions()) {
    if (condition.type() != "Ready") continue;
    return condition.status() == "True" &&
           condition.last_heartbeat_time().seconds() >= absl::ToUnixSeconds(since);
  }
  return false;
}

Task<void> Expire(Env* env, AsyncEvent* event, bool* expired) {
  Task<void> sleep = env->clock().Sleep(kReadyLimit);
  co_await std::move(sleep);
  *expired = true;
  event->Set();
}

Task<void> EndWait(AsyncEvent* stop, AsyncEvent* event) {
  Task<void> wait = stop->Wait();
  co_await std::move(wait);
  event->Set();
}

Task<void> AnnounceSync(Env* env, client::Informer* nodes, Progress* progress, absl::Duration start) {
  Task<void> synced = nodes->WaitForSync();
  co_await std::move(synced);
  progress->Say(StrCat("API server answers after ",
                       absl::ToInt64Milliseconds(env->clock().Monotonic() - start), " ms"));
}

// Until the Node object says Ready, by a kubelet that ran at `since`; Cancelled when `stop` is set first.
Task<absl::Status> WaitForNode(Env* env, ClusterLayout layout, Progress* progress, AsyncEvent* stop,
                               absl::Time since) {
  CO_ASSIGN_OR_RETURN_SYNC(client::KubeConfig config, client::LoadKubeConfig(layout.admin_conf()));
  CO_ASSIGN_OR_RETURN_SYNC(std::unique_ptr<client::ApiClient> client, client::NewHttpApiClient(*env, config));
  client::InformerOptions options;
  options.field_selector = StrCat("metadata.name=", layout.options.node_name);
  options.min_backoff = absl::Milliseconds(20);
  options.max_backoff = absl::Milliseconds(200);
  client::Informer nodes(*env, *client, client::GvrOf<corev1::Node>(), options);
  AsyncEvent ready;
  bool expired = false, seen = false;
  absl::Duration start = env->clock().Monotonic();
  auto elapsed = [&] { return StrCat(absl::ToInt64Milliseconds(env->clock().Monotonic() - start), " ms"); };
  nodes.AddHandler([&](const client::ObjectPtr&, const client::ObjectPtr& after) {
    const auto* node = after != nullptr ? api::As<corev1::Node>(*after) : nullptr;
    if (node == nullptr) return;
    if (!seen) progress->Say(StrCat("node ", node->metadata().name(), " registered after ", elapsed()));
    seen = true;
    if (IsReady(*node, since)) ready.Set();
  });
  Scope scope(env->executor());
  scope.Spawn("ready limit", Expire(env, &ready, &expired));
  scope.Spawn("stop", EndWait(stop, &ready));
  nodes.Start();
  scope.Spawn("announce API server", AnnounceSync(env, &nodes, progress, start));
  Task<void> wait = ready.Wait();
  co_await std::move(wait);
  Task<void> close = scope.Close();
  co_await std::move(close);
  Task<void> stop_nodes = nodes.Stop();
  co_await std::move(stop_nodes);
  if (stop->is_set()) co_return absl::CancelledError("told to stop before the node was Ready");
  if (expired) {
    co_return absl::DeadlineExceededError(StrCat("node ", layout.options.node_name, " is not Ready after ",
                                                 absl::FormatDuration(kReadyLimit), ": see ",
                                                 layout.log_file("kubelet")));
  }
  progress->Say(StrCat("node ", layout.options.node_name, " is Ready after ", elapsed()));
  co_return absl::OkStatus();
}

// Starts adopted components anew whose executable was built or installed anew, one after the other. The pods
// go on: none of the components is the parent of a container. One that does not come back well is reported
// and left to the supervisor.
Task<void> RestartReplaced(Env* env, ClusterLayout layout, Supervisor* supervisor, Progress* progress,
                           AsyncEvent* stop) {
  Progress quiet(-1);
  std::vector<ComponentSpec> specs = Components(layout);
  for (const ComponentSpec& spec : specs) {
    if (stop->is_set() || !supervisor->replaced(spec.name)) continue;
    absl::Time since = spec.name == "kubelet" ? env->clock().Now() : absl::InfinitePast();
    Task<void> restart = supervisor->Restart(spec.name);
    co_await std::move(restart);
    progress->Say(StrCat(spec.name, " restarted: its executable is a new one"));
    Task<absl::Status> wait = WaitForNode(env, layout, &quiet, stop, since);
    absl::Status status = co_await std::move(wait);
    if (!status.ok()) progress->Say(StrCat("after its restart: ", status.message()));
  }
}

// Renews certificates while the cluster runs; the components take them up on their own.
Task<void> KeepPki(Env* env, ClusterLayout layout) {
  constexpr absl::Duration kInterval = absl::Hours(6);
  while (true) {
    Task<void> pause = env->clock().Sleep(kInterval);
    co_await std::move(pause);
    absl::Status status = EnsureClusterPki(layout, env->clock().Now());
    if (!status.ok()) LogError("certificates not renewed", {{"error", status}});
  }
}

Task<absl::Status> Up(Env* env, ClusterLayout layout, int ready_fd) {
  absl::Time begin = env->clock().Now();
  Progress progress(ready_fd);
  Scope scope(env->executor());
  AsyncEvent stop;
  scope.Spawn("signals", WatchSignals(env, &stop));
  Supervisor supervisor(*env);
  absl::Status status = EnsureClusterPki(layout, env->clock().Now());
  if (status.ok()) status = WriteFileAtomic(layout.marker_file(), RenderMarker(layout.options));
  if (status.ok()) status = EnsureClusterFiles(layout);
  for (const ComponentSpec& spec : Components(layout)) {
    if (status.ok()) status = supervisor.Start(spec);
  }
  if (status.ok()) {
    absl::Time since = supervisor.adopted("kubelet") ? absl::InfinitePast() : begin;
    Task<absl::Status> wait = WaitForNode(env, layout, &progress, &stop, since);
    status = co_await std::move(wait);
  }
  if (status.ok()) {
    Task<void> restart = RestartReplaced(env, layout, &supervisor, &progress, &stop);
    co_await std::move(restart);
  }
  if (status.ok()) {
    progress.Finish("ready");
    scope.Spawn("keep PKI", KeepPki(env, layout));
    Task<void> wait = stop.Wait();
    co_await std::move(wait);
  } else {
    progress.Finish(StrCat("failed: ", status.message()));
  }
  Task<void> release = supervisor.Release();
  co_await std::move(release);
  Task<absl::Status> down = TearDown(env, layout);
  absl::Status torn = co_await std::move(down);
  Task<void> close = scope.Close();
  co_await std::move(close);
  co_return status.ok() ? torn : status;
}

// Exclusive for as long as the descriptor lives. AlreadyExists: another `keelson up` holds it.
absl::StatusOr<Fd> Lock(const ClusterLayout& layout) {
  RETURN_IF_ERROR(MakeDirs(layout.paths.run_dir));
  ASSIGN_OR_RETURN(Fd fd, OpenFile(layout.lock_file(), O_RDWR | O_CREAT, 0600));
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) return absl::AlreadyExistsError("`keelson up` is already running here");
    return ErrnoStatus(errno, StrCat("lock ", layout.lock_file()));
  }
  return fd;
}

Task<absl::Status> WaitOnly(Env* env, ClusterLayout layout) {
  Progress progress(STDOUT_FILENO);
  AsyncEvent never;
  Task<absl::Status> wait = WaitForNode(env, layout, &progress, &never, absl::InfinitePast());
  co_return co_await std::move(wait);
}

}  // namespace

absl::Status RunUp(const ClusterLayout& layout, int ready_fd) {
  // The components must not hold the pipe open, or the one who waits would wait for them.
  if (ready_fd >= 0) ::fcntl(ready_fd, F_SETFD, FD_CLOEXEC);
  auto findings = CheckHost(layout);
  std::string text = FormatFindings(findings, /*with_ok=*/false);
  if (!text.empty()) std::fputs(text.c_str(), stderr);
  if (HasErrors(findings)) {
    Progress(ready_fd).Finish(StrCat("failed: this host cannot run a cluster yet:\n", text));
    return absl::FailedPreconditionError(
        "this host cannot run a cluster yet, see above (`keelson check` shows it again)");
  }
  auto lock = Lock(layout);
  if (!lock.ok()) {
    Progress(ready_fd).Finish(StrCat("failed: ", lock.status().message()));
    return lock.status();
  }
  ASSIGN_OR_RETURN(ProcessIdentity self, IdentifyProcess(::getpid()));
  RETURN_IF_ERROR(WritePidFile(layout.pid_file("up"), self));
  RealEnv env(layout.paths);
  absl::Status status = env.RunUntilDone(Up(&env, layout, ready_fd));
  ::unlink(layout.pid_file("up").c_str());
  return status;
}

absl::Status RunUpDetached(const ClusterLayout& layout, const std::vector<std::string>& argv) {
  {
    auto lock = Lock(layout);
    if (absl::IsAlreadyExists(lock.status())) {
      std::puts("the cluster is up already, waiting until its node is Ready");
      RealEnv env(layout.paths);
      return env.RunUntilDone(WaitOnly(&env, layout));
    }
    RETURN_IF_ERROR(lock.status());
  }
  int pipe_fds[2];
  if (::pipe2(pipe_fds, O_CLOEXEC) != 0) return ErrnoStatus(errno, "pipe2");
  Fd reader(pipe_fds[0]), writer(pipe_fds[1]);
  RETURN_IF_ERROR(MakeDirs(layout.paths.log_dir));
  ASSIGN_OR_RETURN(Fd log, OpenFile(layout.log_file("up"), O_WRONLY | O_CREAT | O_APPEND, 0640));
  RealEnv env(layout.paths);
  SpawnOptions spawn;
  spawn.argv = argv;
  spawn.stdout_fd = log.get();
  spawn.stderr_fd = log.get();
  spawn.extra_fds = {writer.get()};
  ASSIGN_OR_RETURN(std::unique_ptr<ChildProcess> child, env.subprocess().Spawn(spawn));
  writer.reset();
  std::string last;
  FILE* lines = ::fdopen(reader.release(), "r");
  char line[4096];
  while (std::fgets(line, sizeof line, lines) != nullptr) {
    last = line;
    if (last != "ready\n") std::fputs(line, stdout);
    std::fflush(stdout);
  }
  std::fclose(lines);
  if (last == "ready\n") return absl::OkStatus();
  return absl::UnavailableError(StrCat("the cluster did not come up, see ", layout.log_file("up")));
}

}  // namespace keelson
