#include "kubelet/runtime_manager.h"

#include <absl/strings/numbers.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "api/codec.h"
#include "api/status_error.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/status.h"
#include "kubelet/generate_container_config.h"
#include "kubelet/host_ports.h"

namespace keelson::kubelet {
namespace {

namespace fs = std::filesystem;

constexpr absl::Duration kMinGrace = absl::Seconds(2);          // left to a container after its hook
constexpr absl::Duration kConfigErrorRetry = absl::Seconds(5);  // a ConfigMap may appear
constexpr size_t kMaxTerminationMessageBytes = 4096;  // upstream: MaxContainerTerminationMessageLength
constexpr size_t kMaxTerminationLogTailBytes = 2048;
constexpr int kMaxTerminationLogLines = 80;

std::string Text(const absl::Status& status) { return std::string(Sv(status.message())); }

// The host's file, or "" when it cannot be read.
std::string ReadOrEmpty(const std::string& path) {
  absl::StatusOr<std::string> text = ReadFile(path, 1 << 20);
  return text.ok() ? *text : "";
}

}  // namespace

struct KillJoin {
  int left = 0;
  AsyncEvent done;
  absl::Status status;
};

struct RuntimeManager::Round {
  PodPtr pod;
  RuntimePodStatusPtr status;
  PodActions actions;
  PodVolumes volumes;
  NodeFacts facts;
  std::string sandbox_id;
  std::string handler;  // the runtime's, of the sandbox
  criv1::PodSandboxConfig sandbox_config;
  std::optional<criv1::UserNamespace> user_namespace;
  std::vector<std::string> pod_ips;
  PodHostname name;
  RuntimeSyncResult result;

  void RetryAfter(absl::Duration d) {
    result.retry_after = std::min(result.retry_after.value_or(absl::InfiniteDuration()), d);
  }
};

RuntimeManager::RuntimeManager(Env& env, RuntimeManagerDeps deps, const KubeletOptions& options)
    : env_(env),
      deps_(std::move(deps)),
      options_(options),
      hooks_(env, *deps_.runtime),
      runtime_classes_(deps_.client, options.runtime_handlers),
      user_namespaces_(StrCat(env.paths().kubelet_dir, "/pods"), options.host_root, options.max_pods),
      backoff_(absl::Seconds(10), options.max_container_restart_period),
      scope_(env.executor()) {}

RuntimeManager::~RuntimeManager() = default;

Task<void> RuntimeManager::Stop() {
  Task<void> close = scope_.Close();
  co_await std::move(close);
}

std::string RuntimeManager::PodDir(const std::string& uid) const {
  return StrCat(env_.paths().kubelet_dir, "/pods/", uid);
}

void RuntimeManager::Event(const corev1::Pod& pod, const char* type, const char* reason,
                           const std::string& message, const std::string& container) {
  if (deps_.events == nullptr) return;
  deps_.events->Event(pod, type, reason, message,
                      container.empty() ? "" : ContainerFieldPath(pod, container));
}

ResourceOptions RuntimeManager::Resources(const NodeFacts& facts) const {
  ResourceOptions out;
  out.cpu_cfs_quota = options_.cpu_cfs_quota;
  out.cfs_period_us = absl::ToInt64Microseconds(options_.cpu_cfs_quota_period);
  out.memory_capacity_bytes = facts.memory_capacity_bytes;
  return out;
}

const std::map<std::string, StartFailure>& RuntimeManager::Failures(const std::string& uid) const {
  static const std::map<std::string, StartFailure> kNone;
  auto it = failures_.find(uid);
  return it == failures_.end() ? kNone : it->second;
}

void RuntimeManager::ForgetPod(const std::string& uid) {
  failures_.erase(uid);
  backoff_.ForgetPrefix(uid + "/");
  deps_.images->ForgetPod(uid);
  user_namespaces_.Release(uid);
  for (auto it = holds_.lower_bound(uid + "/"); it != holds_.end() && it->first.rfind(uid + "/", 0) == 0;) {
    it = holds_.erase(it);
  }
}

void RuntimeManager::CollectBackoff() {
  backoff_.Collect(env_.clock().Now());
  deps_.images->CollectBackoff();
}

void RuntimeManager::Fail(Round& round, const corev1::Container& container, std::string reason,
                          std::string message, absl::Duration retry_after) {
  const std::string& uid = PodUid(*round.pod);
  round.RetryAfter(retry_after);
  holds_[StrCat(uid, "/", container.name())] = {env_.clock().Now() + retry_after, ContainerHash(container)};
  failures_[uid][container.name()] = {std::move(reason), std::move(message)};
}

// ---- sandbox ----

// Once a sandbox: what its user would otherwise only find out by connections that do not come.
Task<void> RuntimeManager::TellOfHostPorts(std::shared_ptr<Round> round) {
  const corev1::Pod& pod = *round->pod;
  for (const std::string& text : NodePortConflicts(pod, round->facts.services))
    Event(pod, "Warning", "HostPortConflict", text);
  if (pod.spec().host_network() || round->sandbox_config.port_mappings_size() == 0) co_return;
  criv1::StatusRequest ask;
  ask.set_verbose(true);
  Task<absl::StatusOr<criv1::StatusResponse>> task = deps_.runtime->Status(std::move(ask));
  absl::StatusOr<criv1::StatusResponse> status = co_await std::move(task);
  if (!status.ok()) co_return;
  auto config = status->info().find(kContainerdNetworkInfo);
  if (config == status->info().end()) co_return;
  const std::string text = HostPortsWithoutEffect(pod, config->second);
  if (!text.empty()) Event(pod, "Warning", "HostPortNotSupported", text);
}

Task<absl::Status> RuntimeManager::EnsureUserNamespace(std::shared_ptr<Round> round, std::string handler) {
  if (!UserNamespaces::Wanted(*round->pod)) co_return absl::OkStatus();
  if (round->actions.create_sandbox) {
    CO_ASSIGN_OR_RETURN(criv1::StatusResponse status, deps_.runtime->Status(criv1::StatusRequest()));
    CO_RETURN_IF_ERROR_SYNC(CheckRuntimeUserNamespaces(status, handler));
  }
  CO_ASSIGN_OR_RETURN_SYNC(round->user_namespace, user_namespaces_.Get(PodUid(*round->pod)));
  co_return absl::OkStatus();
}

Task<absl::Status> RuntimeManager::EnsureSandbox(std::shared_ptr<Round> round) {
  const corev1::Pod& pod = *round->pod;
  std::string handler = options_.runtime_class_handler;
  if (round->actions.create_sandbox && pod.spec().has_runtime_class_name() &&
      !pod.spec().runtime_class_name().empty()) {
    Task<absl::StatusOr<std::string>> look = runtime_classes_.HandlerOf(pod.spec().runtime_class_name());
    absl::StatusOr<std::string> found = co_await std::move(look);
    if (!found.ok()) co_return Annotate(found.status(), "failed to get sandbox runtime");
    handler = *std::move(found);
  }
  if (!round->actions.create_sandbox) {
    for (const criv1::PodSandboxStatus& sandbox : round->status->sandboxes) {
      if (sandbox.id() == round->actions.sandbox_id) handler = sandbox.runtime_handler();
    }
  }
  round->handler = handler;
  CO_RETURN_IF_ERROR(EnsureUserNamespace(round, handler));
  CO_ASSIGN_OR_RETURN_SYNC(round->name, MakeHostname(pod, round->facts.hostname, options_.cluster_domain));
  DnsInputs dns;
  dns.cluster_dns = options_.cluster_dns;
  dns.cluster_domain = options_.cluster_domain;
  if (!options_.resolv_conf.empty()) dns.host = ParseResolvConf(ReadOrEmpty(options_.resolv_conf));
  SandboxInputs in;
  in.attempt = round->actions.attempt;
  in.hostname = round->name.hostname;
  CO_ASSIGN_OR_RETURN_SYNC(in.dns, MakeDnsConfig(pod, dns));
  in.pod_logs_dir = env_.paths().pod_logs_dir;
  in.node_name = options_.node_name;
  in.resources = Resources(round->facts);
  in.user_namespace = round->user_namespace;
  if (options_.cgroups_per_qos) {
    in.cgroup_parent = PodCgroupParent(pod, env_.paths().cgroup_root, round->facts.systemd_cgroups);
  }
  CO_ASSIGN_OR_RETURN_SYNC(round->sandbox_config, GeneratePodSandboxConfig(pod, in));
  round->sandbox_id = round->actions.sandbox_id;
  round->pod_ips = round->status->ips;
  if (round->actions.create_sandbox) {
    for (const std::string& warning : dns.warnings) Event(pod, "Warning", "DNSConfigForming", warning);
    CO_RETURN_IF_ERROR_SYNC(MakeDirs(round->sandbox_config.log_directory(), 0755));
    criv1::RunPodSandboxRequest request;
    *request.mutable_config() = round->sandbox_config;
    request.set_runtime_handler(handler);
    round->result.acted = true;
    CO_ASSIGN_OR_RETURN(criv1::RunPodSandboxResponse response,
                        deps_.runtime->RunPodSandbox(std::move(request)));
    round->sandbox_id = response.pod_sandbox_id();
    criv1::PodSandboxStatusRequest ask;
    ask.set_pod_sandbox_id(round->sandbox_id);
    CO_ASSIGN_OR_RETURN(criv1::PodSandboxStatusResponse answer,
                        deps_.runtime->PodSandboxStatus(std::move(ask)));
    round->pod_ips.clear();
    if (!answer.status().network().ip().empty()) round->pod_ips.push_back(answer.status().network().ip());
    for (const auto& ip : answer.status().network().additional_ips()) round->pod_ips.push_back(ip.ip());
    Task<void> tell = TellOfHostPorts(round);
    co_await std::move(tell);
  }
  if (pod.spec().host_network()) round->pod_ips = round->facts.host_ips;
  co_return absl::OkStatus();
}

Task<RuntimeSyncResult> RuntimeManager::SyncPod(PodPtr pod, RuntimePodStatusPtr status, PodActions actions,
                                                PodVolumes volumes) {
  auto round = std::make_shared<Round>();
  round->pod = pod;
  round->status = status;
  round->actions = actions;
  round->volumes = std::move(volumes);
  round->facts = deps_.facts();
  RuntimeSyncResult& result = round->result;

  if (actions.kill_pod) {
    if (actions.create_sandbox && !actions.sandbox_id.empty()) {
      Event(*pod, "Normal", "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.");
    }
    if (status->AnyContainerRunning() || status->AnySandboxReady() ||
        (actions.create_sandbox && !status->sandboxes.empty())) {
      result.acted = true;
      Task<absl::Status> kill = KillPod(pod, status, std::nullopt);
      result.status = co_await std::move(kill);
      if (!result.status.ok()) co_return result;
    }
    if (!actions.create_sandbox) co_return result;
  }
  if (!actions.containers_to_kill.empty()) {
    auto join = std::make_shared<KillJoin>();
    std::string ip = status->ips.empty() ? "" : status->ips.front();
    for (const ContainerToKill& kill : actions.containers_to_kill) {
      int64_t grace_s = EffectiveGracePeriodS(*pod, nullptr);
      const corev1::Container* c = FindContainer(*pod, kill.name);
      if (c != nullptr && kill.reason == ContainerToKill::Reason::kLiveness &&
          c->liveness_probe().has_termination_grace_period_seconds()) {
        grace_s = c->liveness_probe().termination_grace_period_seconds();
      }
      if (c != nullptr && kill.reason == ContainerToKill::Reason::kStartup &&
          c->startup_probe().has_termination_grace_period_seconds()) {
        grace_s = c->startup_probe().termination_grace_period_seconds();
      }
      ++join->left;
      scope_.Spawn("kill-container",
                   KillOne(pod, kill.id, kill.name, kill.message, absl::Seconds(grace_s), true, ip, join));
    }
    result.acted = true;
    Task<void> wait = join->done.Wait();
    co_await std::move(wait);
    if (!join->status.ok()) {
      result.status = join->status;
      co_return result;
    }
  }
  Task<absl::Status> ensure = EnsureSandbox(round);
  absl::Status sandbox = co_await std::move(ensure);
  if (!sandbox.ok()) {
    if (actions.create_sandbox) {
      Event(*pod, "Warning", "FailedCreatePodSandBox",
            StrCat("Failed to create pod sandbox: ", Text(sandbox)));
    }
    result.status = Annotate(sandbox, "create sandbox");
    co_return result;
  }
  for (int i : actions.ephemeral_containers_to_start) {
    const corev1::EphemeralContainer& e = pod->spec().ephemeral_containers(i);
    std::string target;
    if (!e.target_container_name().empty()) {
      const criv1::ContainerStatus* t = status->Find(e.target_container_name());
      if (t != nullptr) target = t->id();
    }
    Task<bool> start = StartContainer(round, EphemeralAsContainer(e), target);
    co_await std::move(start);
  }
  for (int i : actions.init_containers_to_start) {
    const corev1::Container& c = pod->spec().init_containers(i);
    Task<bool> start = StartContainer(round, c, "");
    const bool started = co_await std::move(start);
    if (!started && !IsRestartableInit(c)) break;
  }
  for (int i : actions.containers_to_start) {
    Task<bool> start = StartContainer(round, pod->spec().containers(i), "");
    co_await std::move(start);
  }
  co_return result;
}

// ---- starting ----

int RuntimeManager::NextRestartCount(const Round& round, const corev1::Container& container) const {
  const criv1::ContainerStatus* last = round.status->Find(container.name());
  if (last != nullptr) return RestartCount(*last) + 1;
  // Its records were collected: the log folder remembers.
  std::error_code ec;
  int highest = -1;
  for (const auto& entry :
       fs::directory_iterator(StrCat(round.sandbox_config.log_directory(), "/", container.name()), ec)) {
    std::string name = entry.path().filename().string();
    int number = 0;
    if (absl::SimpleAtoi(name.substr(0, name.find('.')), &number)) highest = std::max(highest, number);
  }
  return highest + 1;
}

absl::StatusOr<std::string> RuntimeManager::WriteHostsFile(const Round& round) {
  if (round.pod_ips.empty()) return std::string();
  std::string path = PodDir(PodUid(*round.pod)) + "/etc-hosts";
  std::string host = round.pod->spec().host_network() ? ReadOrEmpty(options_.host_root + "/etc/hosts") : "";
  std::string text = MakeHostsFile(*round.pod, round.pod_ips, round.name, host);
  // Bound into containers by inode: write through, never rename over.
  ASSIGN_OR_RETURN(Fd fd, OpenFile(path, O_WRONLY | O_CREAT | O_TRUNC, 0644));
  RETURN_IF_ERROR(WriteAll(fd.get(), text));
  ::fchmod(fd.get(), 0644);
  return path;
}

absl::StatusOr<std::string> RuntimeManager::MakeTerminationLog(const corev1::Pod& pod,
                                                               const corev1::Container& container,
                                                               const std::string& key) {
  std::string dir = StrCat(PodDir(PodUid(pod)), "/containers/", container.name());
  RETURN_IF_ERROR(MakeDirs(dir, 0750));
  std::string path = StrCat(dir, "/", key);
  ASSIGN_OR_RETURN(Fd fd, OpenFile(path, O_WRONLY | O_CREAT, 0666));
  ::fchmod(fd.get(), 0666);  // whoever the container runs as
  return path;
}

Task<absl::StatusOr<EnvInputs>> RuntimeManager::GatherEnv(PodPtr pod, corev1::Container container) {
  EnvInputs out;
  EnvReferences refs = ReferencesOf(container);
  const std::string ns = pod->metadata().namespace_();
  std::vector<std::string> config_maps(refs.config_maps.begin(), refs.config_maps.end());
  for (const std::string& name : config_maps) {
    Task<absl::StatusOr<std::shared_ptr<const corev1::ConfigMap>>> task =
        deps_.objects->GetConfigMap(ns, name);
    absl::StatusOr<std::shared_ptr<const corev1::ConfigMap>> object = co_await std::move(task);
    if (object.ok()) {
      out.config_maps[name] = *object;
    } else if (!api::IsNotFound(object.status())) {
      co_return object.status();
    }
  }
  std::vector<std::string> secrets(refs.secrets.begin(), refs.secrets.end());
  for (const std::string& name : secrets) {
    Task<absl::StatusOr<std::shared_ptr<const corev1::Secret>>> task = deps_.objects->GetSecret(ns, name);
    absl::StatusOr<std::shared_ptr<const corev1::Secret>> object = co_await std::move(task);
    if (object.ok()) {
      out.secrets[name] = *object;
    } else if (!api::IsNotFound(object.status())) {
      co_return object.status();
    }
  }
  co_return out;
}

Task<absl::StatusOr<bool>> RuntimeManager::HasRecursiveReadOnly(std::shared_ptr<Round> round,
                                                                corev1::Container container) {
  const auto& mounts = container.volume_mounts();
  const bool wanted = std::any_of(mounts.begin(), mounts.end(), [](const corev1::VolumeMount& mount) {
    return !mount.recursive_read_only().empty() && mount.recursive_read_only() != "Disabled";
  });
  if (!wanted) co_return false;
  CO_ASSIGN_OR_RETURN(criv1::StatusResponse status, deps_.runtime->Status(criv1::StatusRequest()));
  co_return SupportsRecursiveReadOnly(status, round->handler);
}

Task<absl::StatusOr<criv1::ContainerConfig>> RuntimeManager::MakeConfig(std::shared_ptr<Round> round,
                                                                        corev1::Container container,
                                                                        EnsuredImage image,
                                                                        std::string target_id) {
  CO_ASSIGN_OR_RETURN(EnvInputs env_inputs, GatherEnv(round->pod, container));
  env_inputs.service_env =
      ServiceEnvironment(ServicesFor(*round->pod, round->facts.services, options_.master_service_namespace));
  env_inputs.allocatable = round->facts.allocatable;
  // fieldRef sees the addresses of now, which the API may not know yet.
  corev1::Pod with_status = *round->pod;
  corev1::PodStatus& s = *with_status.mutable_status();
  s.clear_pod_ips();
  s.clear_host_ips();
  for (const std::string& ip : round->pod_ips) s.add_pod_ips()->set_ip(ip);
  for (const std::string& ip : round->facts.host_ips) s.add_host_ips()->set_ip(ip);
  s.set_pod_ip(round->pod_ips.empty() ? "" : round->pod_ips.front());
  s.set_host_ip(round->facts.host_ips.empty() ? "" : round->facts.host_ips.front());

  ContainerInputs in;
  CO_ASSIGN_OR_RETURN_SYNC(in.env, MakeEnvironment(with_status, container, env_inputs));
  in.restart_count = NextRestartCount(*round, container);
  in.image_ref = image.image_ref;
  in.image_uid = image.uid;
  in.image_username = image.username;
  in.volumes = round->volumes;
  in.target_container_id = target_id;
  in.node_name = options_.node_name;
  in.seccomp_default = options_.seccomp_default;
  in.seccomp_dir = StrCat(env_.paths().kubelet_dir, "/seccomp");
  in.resources = Resources(round->facts);
  in.user_namespace = round->user_namespace;
  CO_ASSIGN_OR_RETURN(in.recursive_read_only, HasRecursiveReadOnly(round, container));
  in.now = env_.clock().Now();
  for (int i = 0; i < container.volume_mounts_size(); ++i) {
    const corev1::VolumeMount& mount = container.volume_mounts(i);
    CO_ASSIGN_OR_RETURN_SYNC(std::string sub, ExpandSubPath(mount, in.env));
    auto volume = in.volumes.by_name.find(mount.name());
    if (sub.empty() || volume == in.volumes.by_name.end() || !volume->second.image_ref.empty()) continue;
    Task<absl::StatusOr<std::string>> task =
        deps_.volumes->PrepareSubPath(round->pod, container.name(), i, mount.name(), sub);
    absl::StatusOr<std::string> path = co_await std::move(task);
    if (!path.ok()) {
      co_return Annotate(path.status(), StrCat("failed to prepare subPath for volumeMount \"", mount.name(),
                                               "\" of container \"", container.name(), "\""));
    }
    in.sub_paths[i] = *path;
  }
  CO_RETURN_IF_ERROR_SYNC(MakeDirs(PodDir(PodUid(*round->pod)), 0750));
  CO_ASSIGN_OR_RETURN_SYNC(in.hosts_file, WriteHostsFile(*round));
  CO_ASSIGN_OR_RETURN_SYNC(
      in.termination_log,
      MakeTerminationLog(*round->pod, container,
                         absl::StrCat(absl::Hex(env_.random().Next(), absl::kZeroPad8)).substr(0, 8)));
  co_return GenerateContainerConfig(*round->pod, container, in);
}

// A start that was not answered, to this kubelet or to one before it, can still be under way: its container
// would run beside the next one.
Task<absl::Status> RuntimeManager::RemoveUnstarted(std::shared_ptr<Round> round, std::string container_name) {
  for (const criv1::ContainerStatus& status : round->status->containers) {
    const bool unstarted = status.state() == criv1::CONTAINER_CREATED ||
                           (status.state() == criv1::CONTAINER_UNKNOWN && status.started_at() == 0);
    if (ContainerName(status) != container_name || !unstarted) continue;
    criv1::RemoveContainerRequest request;
    request.set_container_id(status.id());
    Task<absl::StatusOr<criv1::RemoveContainerResponse>> remove =
        deps_.runtime->RemoveContainer(std::move(request));
    absl::StatusOr<criv1::RemoveContainerResponse> removed = co_await std::move(remove);
    if (!removed.ok() && !absl::IsNotFound(removed.status())) {
      co_return Annotate(removed.status(),
                         StrCat("remove container ", status.id(), ", which was created and not started"));
    }
  }
  co_return absl::OkStatus();
}

// True when it runs now.
Task<bool> RuntimeManager::StartContainer(std::shared_ptr<Round> round, corev1::Container container,
                                          std::string target_id) {
  const PodPtr pod = round->pod;
  const std::string uid = PodUid(*pod);
  const std::string hash = ContainerHash(container);
  const std::string key = StrCat(uid, "/", container.name());
  const absl::Time now = env_.clock().Now();

  auto hold = holds_.find(key);
  if (hold != holds_.end() && hold->second.until > now && hold->second.hash == hash) {
    round->RetryAfter(hold->second.until - now);
    co_return false;
  }
  const criv1::ContainerStatus* last = round->status->Find(container.name());
  if (last != nullptr && last->state() == criv1::CONTAINER_EXITED) {
    const std::string backoff_key = StrCat(key, "/", hash);
    const absl::Time ended = absl::FromUnixNanos(last->finished_at());
    absl::Duration left = backoff_.Remaining(backoff_key, ended, now);
    if (left > absl::ZeroDuration()) {
      const std::string who = StrCat(container.name(), " in pod ", pod->metadata().name(), "_",
                                     pod->metadata().namespace_(), "(", uid, ")");
      Event(*pod, "Warning", "BackOff", StrCat("Back-off restarting failed container ", who),
            container.name());
      failures_[uid][container.name()] = {
          "CrashLoopBackOff",
          StrCat("back-off ", absl::FormatDuration(backoff_.Get(backoff_key)),
                 " restarting failed container=", container.name(), " pod=", pod->metadata().name(), "_",
                 pod->metadata().namespace_(), "(", uid, ")")};
      round->RetryAfter(left);
      co_return false;
    }
    backoff_.Next(backoff_key, ended, now);
  }
  Task<EnsuredImage> ensure = deps_.images->Ensure(pod, container, round->sandbox_config);
  EnsuredImage image = co_await std::move(ensure);
  if (!image.reason.empty()) {
    Fail(*round, container, image.reason, image.message, image.retry_after);
    co_return false;
  }
  Task<absl::StatusOr<criv1::ContainerConfig>> make = MakeConfig(round, container, image, target_id);
  absl::StatusOr<criv1::ContainerConfig> config = co_await std::move(make);
  if (!config.ok()) {
    Event(*pod, "Warning", "Failed", StrCat("Error: ", Text(config.status())), container.name());
    Fail(*round, container, "CreateContainerConfigError", Text(config.status()), kConfigErrorRetry);
    co_return false;
  }
  round->result.acted = true;
  Task<absl::Status> clear = RemoveUnstarted(round, container.name());
  absl::Status cleared = co_await std::move(clear);
  if (!cleared.ok()) {
    Fail(*round, container, "CreateContainerError", Text(cleared), kConfigErrorRetry);
    co_return false;
  }
  const std::string log_dir = StrCat(round->sandbox_config.log_directory(), "/", container.name());
  absl::Status dirs = MakeDirs(log_dir, 0755);
  if (!dirs.ok()) LogWarning("no folder for container logs", {{"path", log_dir}, {"error", dirs}});
  criv1::CreateContainerRequest create;
  create.set_pod_sandbox_id(round->sandbox_id);
  *create.mutable_config() = *config;
  *create.mutable_sandbox_config() = round->sandbox_config;
  Task<absl::StatusOr<criv1::CreateContainerResponse>> creating =
      deps_.runtime->CreateContainer(std::move(create));
  absl::StatusOr<criv1::CreateContainerResponse> created = co_await std::move(creating);
  const std::string failure_key = StrCat(key, "/start");
  if (!created.ok()) {
    Event(*pod, "Warning", "Failed", StrCat("Error: ", Text(created.status())), container.name());
    backoff_.Next(failure_key, now, now);
    Fail(*round, container, "CreateContainerError", Text(created.status()), backoff_.Get(failure_key));
    co_return false;
  }
  const std::string id = created->container_id();
  Event(*pod, "Normal", "Created", StrCat("Created container: ", container.name()), container.name());
  criv1::StartContainerRequest start;
  start.set_container_id(id);
  Task<absl::StatusOr<criv1::StartContainerResponse>> starting =
      deps_.runtime->StartContainer(std::move(start));
  absl::StatusOr<criv1::StartContainerResponse> started = co_await std::move(starting);
  if (!started.ok()) {
    Event(*pod, "Warning", "Failed", StrCat("Error: ", Text(started.status())), container.name());
    backoff_.Next(failure_key, now, now);
    Fail(*round, container, "RunContainerError", Text(started.status()), backoff_.Get(failure_key));
    co_return false;
  }
  Event(*pod, "Normal", "Started", StrCat("Started container ", container.name()), container.name());
  backoff_.Forget(failure_key);
  holds_.erase(key);
  failures_[uid].erase(container.name());
  if (!env_.paths().container_logs_dir.empty() && MakeDirs(env_.paths().container_logs_dir, 0755).ok()) {
    std::string link = LegacyLogSymlink(env_.paths().container_logs_dir, pod->metadata().name(),
                                        pod->metadata().namespace_(), container.name(), id);
    std::string target = StrCat(round->sandbox_config.log_directory(), "/", config->log_path());
    ::unlink(link.c_str());
    if (::symlink(target.c_str(), link.c_str()) != 0) LogDebug("no log link", {{"path", link}});
  }
  if (container.lifecycle().has_post_start()) {
    std::string ip = round->pod_ips.empty() ? "" : round->pod_ips.front();
    Task<absl::Status> hook =
        hooks_.Run(pod, container, id, container.lifecycle().post_start(), ip, absl::Hours(24));
    absl::Status hooked = co_await std::move(hook);
    if (!hooked.ok()) {
      Event(*pod, "Warning", "FailedPostStartHook", StrCat("PostStartHook failed: ", Text(hooked)),
            container.name());
      auto join = std::make_shared<KillJoin>();
      join->left = 1;
      scope_.Spawn("kill-container",
                   KillOne(pod, id, container.name(), "FailedPostStartHook",
                           absl::Seconds(EffectiveGracePeriodS(*pod, nullptr)), true, ip, join));
      Task<void> wait = join->done.Wait();
      co_await std::move(wait);
      failures_[uid][container.name()] = {"PostStartHookError", Text(hooked)};
      co_return false;
    }
  }
  co_return true;
}

// ---- killing ----

Task<void> RuntimeManager::KillOne(PodPtr pod, std::string id, std::string name, std::string message,
                                   absl::Duration grace, bool hook, std::string pod_ip,
                                   std::shared_ptr<KillJoin> join) {
  const absl::Duration began = env_.clock().Monotonic();
  const corev1::Container* spec = FindContainer(*pod, name);
  Event(*pod, "Normal", "Killing", message.empty() ? StrCat("Stopping container ", name) : message, name);
  if (hook && spec != nullptr && spec->lifecycle().has_pre_stop() && grace > absl::ZeroDuration()) {
    Task<absl::Status> run = hooks_.Run(pod, *spec, id, spec->lifecycle().pre_stop(), pod_ip, grace);
    absl::Status ran = co_await std::move(run);
    if (!ran.ok()) {
      Event(*pod, "Warning", "FailedPreStopHook", StrCat("PreStopHook failed: ", Text(ran)), name);
    }
    absl::Duration left = grace - (env_.clock().Monotonic() - began);
    grace = std::max(left, kMinGrace);
  }
  criv1::StopContainerRequest request;
  request.set_container_id(id);
  request.set_timeout(absl::ToInt64Seconds(absl::Ceil(grace, absl::Seconds(1))));
  Task<absl::StatusOr<criv1::StopContainerResponse>> task = deps_.runtime->StopContainer(std::move(request));
  absl::StatusOr<criv1::StopContainerResponse> response = co_await std::move(task);
  if (!response.ok() && !absl::IsNotFound(response.status())) {
    join->status = Annotate(response.status(), StrCat("stop container ", name));
  }
  if (--join->left == 0) join->done.Set();
}

Task<absl::Status> RuntimeManager::KillPod(PodPtr pod, RuntimePodStatusPtr status,
                                           std::optional<int64_t> grace_s) {
  const absl::Duration began = env_.clock().Monotonic();
  absl::Duration grace = absl::Seconds(EffectiveGracePeriodS(*pod, grace_s ? &*grace_s : nullptr));
  if (grace_s && *grace_s == 0) grace = absl::ZeroDuration();
  const std::string ip = status->ips.empty() ? "" : status->ips.front();
  auto running = [](const criv1::ContainerStatus& c) {
    return c.state() == criv1::CONTAINER_RUNNING || c.state() == criv1::CONTAINER_UNKNOWN;
  };
  auto join = std::make_shared<KillJoin>();
  std::map<std::string, std::vector<std::string>> sidecars;  // name -> ids
  for (const auto& c : status->containers) {
    if (!running(c)) continue;
    const corev1::Container* init = FindInitContainer(*pod, ContainerName(c));
    if (init != nullptr && IsRestartableInit(*init)) {
      sidecars[ContainerName(c)].push_back(c.id());
      continue;
    }
    ++join->left;
    scope_.Spawn("kill-container", KillOne(pod, c.id(), ContainerName(c), "", grace, true, ip, join));
  }
  if (join->left > 0) {
    Task<void> wait = join->done.Wait();
    co_await std::move(wait);
  }
  absl::Status result = join->status;
  for (int i = pod->spec().init_containers_size() - 1; i >= 0; --i) {
    auto it = sidecars.find(pod->spec().init_containers(i).name());
    if (it == sidecars.end()) continue;
    absl::Duration left = std::max(grace - (env_.clock().Monotonic() - began), std::min(grace, kMinGrace));
    auto each = std::make_shared<KillJoin>();
    each->left = static_cast<int>(it->second.size());
    for (const std::string& id : it->second) {
      scope_.Spawn("kill-container", KillOne(pod, id, it->first, "", left, true, ip, each));
    }
    Task<void> wait = each->done.Wait();
    co_await std::move(wait);
    result.Update(each->status);
  }
  if (!result.ok()) co_return result;
  std::vector<std::string> sandboxes;
  for (const auto& s : status->sandboxes) sandboxes.push_back(s.id());
  for (const std::string& id : sandboxes) {
    criv1::StopPodSandboxRequest request;
    request.set_pod_sandbox_id(id);
    Task<absl::StatusOr<criv1::StopPodSandboxResponse>> task =
        deps_.runtime->StopPodSandbox(std::move(request));
    absl::StatusOr<criv1::StopPodSandboxResponse> response = co_await std::move(task);
    if (!response.ok() && !absl::IsNotFound(response.status())) {
      Event(*pod, "Warning", "FailedKillPod", StrCat("error killing pod: ", Text(response.status())));
      result.Update(Annotate(response.status(), "stop sandbox"));
    }
  }
  co_return result;
}

// ---- termination messages ----

std::string RuntimeManager::ReadTerminationMessage(const criv1::ContainerStatus& status) const {
  auto annotation = [&](const char* key) {
    auto it = status.annotations().find(key);
    return it == status.annotations().end() ? std::string() : it->second;
  };
  const std::string path = annotation(kAnnotationTerminationMessagePath);
  std::string message;
  for (const auto& mount : status.mounts()) {
    if (path.empty() || mount.container_path() != path) continue;
    absl::StatusOr<Fd> fd = OpenFile(mount.host_path(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    if (!fd.ok()) continue;
    std::string buffer(kMaxTerminationMessageBytes, '\0');
    ssize_t n = ::read(fd->get(), buffer.data(), buffer.size());
    if (n > 0) message.assign(buffer, 0, n);
  }
  const bool fallback = annotation(kAnnotationTerminationMessagePolicy) == "FallbackToLogsOnError" &&
                        (status.exit_code() != 0 || status.reason() == "OOMKilled");
  if (message.empty() && fallback && !status.log_path().empty()) {
    std::ifstream log(status.log_path(), std::ios::ate | std::ios::binary);
    if (log) {
      auto size = static_cast<int64_t>(log.tellg());
      int64_t from = std::max<int64_t>(size - static_cast<int64_t>(kMaxTerminationLogTailBytes) * 2, 0);
      log.seekg(from);
      std::vector<std::string> lines;
      std::string line;
      bool cut = from > 0;
      while (std::getline(log, line)) {
        if (cut) {  // the first one is a fragment
          cut = false;
          continue;
        }
        // CRI log line: time, stream, tag, text.
        size_t at = 0;
        for (int i = 0; i < 3 && at != std::string::npos; ++i) at = line.find(' ', at + (i > 0));
        lines.push_back(at == std::string::npos ? line : line.substr(at + 1));
      }
      size_t first = lines.size() > kMaxTerminationLogLines ? lines.size() - kMaxTerminationLogLines : 0;
      for (size_t i = first; i < lines.size(); ++i) StrAppend(&message, lines[i], "\n");
      if (message.size() > kMaxTerminationLogTailBytes)
        message.erase(0, message.size() - kMaxTerminationLogTailBytes);
    }
  }
  if (message.empty()) message = status.message();
  return message;
}

}  // namespace keelson::kubelet
