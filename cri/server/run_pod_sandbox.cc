#include <fcntl.h>
#include <sys/stat.h>

#include <mutex>
#include <utility>

#include "base/fd.h"
#include "base/log.h"
#include "base/parallel.h"
#include "base/status.h"
#include "base/strings.h"
#include "cri/cni/cni.h"
#include "cri/server/cgroup_names.h"
#include "cri/server/namespaces.h"
#include "cri/server/request_checks.h"
#include "cri/server/runtime_server.h"
#include "cri/server/sandbox_parts.h"
#include "oci/pause_binary.h"
#include "oci/seccomp.h"
#include "oci/selinux.h"

namespace keelson::cri {

namespace {

constexpr char kShmOptions[] = "mode=1777,size=65536k";  // what docker and containerd give
constexpr size_t kMaxHostFileBytes = 1 << 20;

absl::StatusOr<CniBandwidth> BandwidthOf(const v1::PodSandboxConfig& config) {
  auto annotation = [&](const char* name) -> std::string_view {
    auto it = config.annotations().find(name);
    return it == config.annotations().end() ? std::string_view() : std::string_view(it->second);
  };
  return ParseCniBandwidth(annotation(kIngressBandwidthAnnotation), annotation(kEgressBandwidthAnnotation));
}

// What its containers will mount, in the pod's directory. Blocking.
absl::Status PrepareSandboxFiles(HostKernel* kernel, const std::string& dir,
                                 const v1::PodSandboxConfig& config, const std::string& host_resolv_conf,
                                 const std::string& host_hosts) {
  ASSIGN_OR_RETURN(std::string resolv, ResolvConfOf(config, host_resolv_conf));
  RETURN_IF_ERROR(WriteFileAtomic(dir + "/resolv.conf", resolv, 0644, /*durable=*/false));
  absl::StatusOr<std::string> hosts = ReadFile(host_hosts, kMaxHostFileBytes);
  RETURN_IF_ERROR(
      WriteFileAtomic(dir + "/hosts", hosts.ok() ? *hosts : "127.0.0.1 localhost\n", 0644, false));
  std::string hostname = config.hostname();
  if (hostname.empty()) {
    ASSIGN_OR_RETURN(hostname, ReadFile("/proc/sys/kernel/hostname", 256));
    while (!hostname.empty() && hostname.back() == '\n') hostname.pop_back();
  }
  RETURN_IF_ERROR(WriteFileAtomic(dir + "/hostname", hostname + "\n", 0644, false));
  for (const char* name : {"/resolv.conf", "/hosts", "/hostname"}) {
    if (HasUserNamespace(config)) {  // they are the pod's root's, as without
      const v1::UserNamespace& user = NamespacesOf(config).userns_options();
      if (::lchown((dir + name).c_str(), user.uids(0).host_id(), user.gids(0).host_id()) != 0)
        return ErrnoStatus(errno, StrCat("chown ", dir, name));
    }
  }
  if (!HostIpc(config)) {
    std::string shm = dir + "/shm";
    RETURN_IF_ERROR(MakeDirs(shm, 0700));
    std::string shm_options = kShmOptions;
    if (HasUserNamespace(config)) {
      const v1::UserNamespace& user = NamespacesOf(config).userns_options();
      StrAppend(&shm_options, ",uid=", user.uids(0).host_id(), ",gid=", user.gids(0).host_id());
    }
    RETURN_IF_ERROR(kernel->MountShm(shm, shm_options));
  }
  return absl::OkStatus();
}

// The root of the pause process, one for all sandboxes.
absl::Status EnsurePauseRoot(const std::string& root, bool selinux) {
  // Two pods may be made at once, each in a thread of the pool.
  static std::mutex mutex;
  std::lock_guard lock(mutex);
  struct stat info;
  if (::stat((root + "/pause").c_str(), &info) != 0 ||
      info.st_size != static_cast<off_t>(oci::PauseBinary().size())) {
    for (const char* dir : {"/dev", "/proc", "/sys", "/etc", "/run", "/tmp"}) {
      RETURN_IF_ERROR(MakeDirs(root + dir, 0755));
    }
    RETURN_IF_ERROR(
        WriteFileAtomic(root + "/pause", std::string(oci::PauseBinary()), 0755, /*durable=*/false));
  }
  return selinux ? oci::RelabelOnce(root, oci::kLayersLabel) : absl::OkStatus();
}

// What its security context names is there, also where no pause process runs with it. Blocking.
absl::StatusOr<std::string> PauseSeccompProfile(const v1::LinuxContainerSecurityContext& security) {
  ASSIGN_OR_RETURN(std::string profile, ReadSeccompProfile(security));
  if (profile.empty()) return profile;
  std::vector<std::string> warnings;
  absl::StatusOr<oci::SeccompProfile> parsed =
      oci::ParseSeccompProfile(profile, oci::SeccompContext(), &warnings);
  if (!parsed.ok()) return Annotate(parsed.status(), "security_context.seccomp");
  return profile;
}

}  // namespace

Task<absl::StatusOr<v1::RunPodSandboxResponse>> RuntimeServer::RunPodSandbox(
    v1::RunPodSandboxRequest request) {
  return RunSandbox(std::move(request), /*restoring=*/false);
}

Task<absl::StatusOr<v1::RunPodSandboxResponse>> RuntimeServer::RunSandbox(v1::RunPodSandboxRequest request,
                                                                          bool restoring) {
  CO_RETURN_IF_ERROR_SYNC(CheckPodConfig(request.config()));
  if (!HostNetwork(request.config())) CO_RETURN_IF_ERROR_SYNC(BandwidthOf(request.config()).status());
  CO_RETURN_IF_ERROR_SYNC(
      CheckCgroupParent(request.config().linux().cgroup_parent(), deps_.host.systemd_cgroup));
  CO_ASSIGN_OR_RETURN_SYNC(oci::OciRuntime * runtime, RuntimeFor(request.runtime_handler()));
  if (HasUserNamespace(request.config()) && !options_.user_namespaces) {
    co_return absl::FailedPreconditionError(
        "namespace_options.userns_options: this host has no user namespaces or no ID-mapped mounts (see "
        "Status)");
  }
  std::string key = SandboxNameKey(request.config().metadata());
  auto sandbox = std::make_shared<Sandbox>();
  std::string id = NewId();
  auto [reserved, fresh] = sandbox_names_.try_emplace(key, id);
  if (!fresh) {
    co_return absl::AlreadyExistsError(
        StrCat("pod sandbox ", key, ": the name is taken by ", reserved->second));
  }
  sandbox->record.set_id(id);
  *sandbox->record.mutable_config() = std::move(*request.mutable_config());
  sandbox->record.set_runtime_handler(runtime->name());
  sandbox->record.set_created_at_ns(NowNs());
  sandbox->record.set_boot_id(boot_id_);
  sandbox->record.set_restoring(restoring);
  if (deps_.host.selinux) {
    sandbox->record.set_selinux_level(oci::NewSelinuxLevel(env_.random(), [this](const std::string& level) {
      return std::any_of(sandboxes_.begin(), sandboxes_.end(),
                         [&](const auto& other) { return other.second->record.selinux_level() == level; });
    }));
  }
  sandbox->record.set_network_attached(!HostNetwork(sandbox->record.config()));
  Task<AsyncMutex::Guard> lock = sandbox->mutex.Lock();
  AsyncMutex::Guard guard = co_await std::move(lock);
  absl::Status status = Save(*sandbox);
  if (status.ok()) {
    Task<absl::Status> set_up = SetUpSandbox(sandbox);
    status = co_await std::move(set_up);
  }
  // Until the pod is among the others: a plugin that connects meanwhile learns of it one way or the other.
  std::shared_ptr<void> block;
  if (status.ok() && deps_.nri != nullptr) {
    Task<std::shared_ptr<void>> take = BlockPluginSync();
    block = co_await std::move(take);
    // The pod is not running yet: nothing is created in it, and a restart undoes it.
    Task<absl::Status> tell = TellRun(sandbox);
    status = co_await std::move(tell);
  }
  if (status.ok()) {
    sandbox->record.set_state(records::SANDBOX_RUNNING);
    status = Save(*sandbox);
  }
  if (!status.ok()) {
    if (sandbox->told.made) {
      Task<void> tell = TellRemoved(sandbox);
      co_await std::move(tell);
    }
    Task<absl::Status> undo = TearDownSandbox(sandbox);
    absl::Status undone = co_await std::move(undo);
    if (undone.ok()) undone = store_.RemoveSandbox(id);
    if (!undone.ok()) {
      // Shown as a pod that is not ready: whoever stops or removes it tries again.
      LogError("a failed sandbox is not undone", {{"sandbox", id}, {"error", undone}});
      sandbox->record.set_state(records::SANDBOX_STOPPING);
      absl::Status saved = Save(*sandbox);
      if (!saved.ok()) LogError("sandbox record not written", {{"sandbox", id}, {"error", saved}});
      sandboxes_[id] = sandbox;
      co_return Annotate(status, StrCat("run pod sandbox ", key));
    }
    FreeName(&sandbox_names_, key, id);
    co_return Annotate(status, StrCat("run pod sandbox ", key));
  }
  sandboxes_[id] = sandbox;
  // An exit before this line found no such sandbox.
  if (sandbox->record.has_pause() && !deps_.kernel->IsAlive(sandbox->record.pause())) {
    scope_.Spawn("pause exit", HandlePauseExit(sandbox));
  }
  Publish(v1::CONTAINER_CREATED_EVENT, id, id);
  Publish(v1::CONTAINER_STARTED_EVENT, id, id);
  v1::RunPodSandboxResponse response;
  response.set_pod_sandbox_id(id);
  co_return response;
}

Task<absl::Status> RuntimeServer::SetUpSandbox(std::shared_ptr<Sandbox> sandbox) {
  const v1::PodSandboxConfig& config = sandbox->record.config();
  std::string dir = SandboxDir(sandbox->record.id());
  PinRequest pins;
  pins.dir = dir + "/ns";
  pins.network = !HostNetwork(config);
  pins.ipc = !HostIpc(config);
  pins.uts = !HostNetwork(config);  // a host-network pod is known by the host's name
  if (pins.uts) pins.hostname = config.hostname();
  if (HasUserNamespace(config)) {
    const v1::UserNamespace user = NamespacesOf(config).userns_options();
    for (const v1::IDMapping& m : user.uids())
      pins.uid_mappings.push_back({m.container_id(), m.host_id(), m.length()});
    for (const v1::IDMapping& m : user.gids())
      pins.gid_mappings.push_back({m.container_id(), m.host_id(), m.length()});
  }
  pins.sysctls.insert(config.linux().sysctls().begin(), config.linux().sysctls().end());
  if (pins.network) {
    // As containerd: low ports and ping need no privilege inside a pod.
    pins.sysctls.try_emplace("net.ipv4.ip_unprivileged_port_start", "0");
    pins.sysctls.try_emplace("net.ipv4.ping_group_range", "0 2147483647");
  }
  Sysctls late = WaitsForInterfaces(pins.sysctls);
  auto make_namespaces = [kernel = deps_.kernel, dir, group = MappedRootGroup(config), pins] {
    absl::Status status = MakePodDir(dir, group);
    return status.ok() ? kernel->PinNamespaces(pins) : status;
  };
  Task<absl::Status> namespaces = env_.Blocking<absl::Status>(make_namespaces);
  absl::Status status = co_await std::move(namespaces);
  if (!status.ok()) co_return status;
  auto half = [this, sandbox](size_t number) {
    return number == 0 ? SetUpInside(sandbox) : AttachNetwork(sandbox);
  };
  Task<absl::Status> both = InParallel(&scope_, 2, pins.network ? 2 : 1, half);
  status = co_await std::move(both);
  if (!status.ok()) co_return status;
  if (pins.network && !late.empty()) {
    auto write = [kernel = deps_.kernel, ns = pins.dir, late] { return kernel->WriteSysctls(ns, late); };
    Task<absl::Status> written = env_.Blocking<absl::Status>(write);
    status = co_await std::move(written);
    if (!status.ok()) co_return status;
  }
  co_return absl::OkStatus();
}

// The pod's files, then its pause process: nothing of them waits for the network.
Task<absl::Status> RuntimeServer::SetUpInside(std::shared_ptr<Sandbox> sandbox) {
  const v1::PodSandboxConfig& config = sandbox->record.config();
  bool pause = options_.always_pause || SharesPid(config);
  if (pause) attach_warmer_.Warm();
  // An unknown label is said by name, before a pause process or a container fails on it.
  CO_ASSIGN_OR_RETURN_SYNC(oci::SelinuxLabels labels,
                           oci::SelinuxLabelsOf({}, config, deps_.host, sandbox->record.selinux_level()));
  CO_RETURN_IF_ERROR_SYNC(oci::CheckSelinuxLabels(labels));
  auto seccomp_profile = std::make_shared<std::string>();
  auto prepare = [kernel = deps_.kernel, dir = SandboxDir(sandbox->record.id()), config,
                  security = PauseConfig(config).linux().security_context(), seccomp_profile,
                  resolv = options_.host_resolv_conf, hosts = options_.host_hosts]() -> absl::Status {
    ASSIGN_OR_RETURN(*seccomp_profile, PauseSeccompProfile(security));
    return PrepareSandboxFiles(kernel, dir, config, resolv, hosts);
  };
  Task<absl::Status> files = env_.Blocking<absl::Status>(prepare);
  absl::Status status = co_await std::move(files);
  if (!status.ok()) co_return status;
  if (pause || config.linux().security_context().has_apparmor()) {
    CO_RETURN_IF_ERROR(EnsureApparmor(PauseConfig(config).linux().security_context()));
  }
  if (!pause) co_return absl::OkStatus();
  Task<absl::Status> start = StartPause(sandbox, *seccomp_profile);
  status = co_await std::move(start);
  co_return status;
}

HostPortSandbox RuntimeServer::HostPortsOf(const records::Sandbox& record) {
  HostPortSandbox ports;
  ports.pod_name = StrCat(record.config().metadata().namespace_(), "/", record.config().metadata().name());
  ports.ips.assign(record.ips().begin(), record.ips().end());
  for (const v1::PortMapping& mapping : record.config().port_mappings()) {
    if (mapping.host_port() <= 0) continue;
    HostPort port;
    port.protocol = mapping.protocol() == v1::UDP ? "udp" : mapping.protocol() == v1::SCTP ? "sctp" : "tcp";
    port.host_ip = mapping.host_ip();
    port.host_port = static_cast<uint16_t>(mapping.host_port());
    port.container_port = static_cast<uint16_t>(mapping.container_port());
    ports.ports.push_back(std::move(port));
  }
  return ports;
}

CniAttachment RuntimeServer::AttachmentOf(const Sandbox& sandbox) const {
  const v1::PodSandboxConfig& config = sandbox.record.config();
  CniAttachment attachment;
  attachment.container_id = sandbox.record.id();
  attachment.netns_path = SandboxDir(sandbox.record.id()) + "/ns/" + kNetNamespace;
  attachment.pod_name = config.metadata().name();
  attachment.pod_namespace = config.metadata().namespace_();
  attachment.pod_uid = config.metadata().uid();
  attachment.cgroup_path = config.linux().cgroup_parent();
  // Checked when the pod came.
  const CniBandwidth bandwidth = BandwidthOf(config).value_or(CniBandwidth());
  attachment.ingress_rate_bits = bandwidth.ingress_rate_bits;
  attachment.egress_rate_bits = bandwidth.egress_rate_bits;
  const v1::DNSConfig& dns = config.dns_config();
  attachment.dns_servers.assign(dns.servers().begin(), dns.servers().end());
  attachment.dns_searches.assign(dns.searches().begin(), dns.searches().end());
  attachment.dns_options.assign(dns.options().begin(), dns.options().end());
  for (const HostPort& port : HostPortsOf(sandbox.record).ports) {
    attachment.port_mappings.push_back({port.host_port, port.container_port, port.protocol, port.host_ip});
  }
  return attachment;
}

Task<absl::Status> RuntimeServer::AttachNetwork(std::shared_ptr<Sandbox> sandbox) {
  CniAttachment attachment = AttachmentOf(*sandbox);
  const bool limited = attachment.ingress_rate_bits != 0 || attachment.egress_rate_bits != 0;
  if (limited && !deps_.cni->HasCapability("bandwidth")) {
    LogWarning("the pod's bandwidth annotations have no effect: no plugin of the network takes bandwidth",
               {{"pod", StrCat(attachment.pod_namespace, "/", attachment.pod_name)}});
  }
  CO_ASSIGN_OR_RETURN(CniResult result, deps_.cni->Add(std::move(attachment)));
  if (result.ips.empty()) co_return absl::InternalError("the network plugin gave the pod no address");
  sandbox->record.mutable_ips()->Assign(result.ips.begin(), result.ips.end());
  HostPortSandbox ports = HostPortsOf(sandbox->record);
  // A plugin of the network's own that takes host ports has them from the ADD.
  bool by_plugin = deps_.cni->HasCapability("portMappings");
  if (!ports.ports.empty() && !by_plugin) {
    CO_RETURN_IF_ERROR(deps_.host_ports->Add(sandbox->record.id(), ports));
  }
  co_return absl::OkStatus();
}

Task<absl::Status> RuntimeServer::StartPause(std::shared_ptr<Sandbox> sandbox, std::string seccomp_profile) {
  const v1::PodSandboxConfig& config = sandbox->record.config();
  const std::string& id = sandbox->record.id();
  CO_ASSIGN_OR_RETURN_SYNC(oci::OciRuntime * runtime, RuntimeFor(sandbox->record.runtime_handler()));
  std::string root = options_.run_dir + "/pause";
  std::string bundle = SandboxDir(id) + "/pause";
  std::string ns = SandboxDir(id) + "/ns/";
  v1::ContainerConfig pause = PauseConfig(config);
  oci::SpecInput input;
  input.id = id;
  input.container = &pause;
  input.sandbox = &config;
  input.sandbox_id = id;
  CO_ASSIGN_OR_RETURN_SYNC(input.user, PauseUser(config));
  input.seccomp_localhost_profile = std::move(seccomp_profile);
  input.rootfs_path = root;
  if (!HostNetwork(config)) {
    input.namespaces.network = ns + kNetNamespace;
    input.namespaces.uts = ns + kUtsNamespace;
  }
  if (!HostIpc(config)) {
    input.namespaces.ipc = ns + kIpcNamespace;
    input.shm_path = SandboxDir(id) + "/shm";
  }
  if (HasUserNamespace(config)) input.namespaces.user = ns + kUserNamespace;
  input.namespaces.pid_host = NamespacesOf(config).pid() == v1::NODE;
  input.cgroups_path = OciCgroupsPath(config.linux().cgroup_parent(), options_.default_cgroup_parent, id);
  input.selinux_level = sandbox->record.selinux_level();
  input.host = deps_.host;
  input.features = runtime->features();
  input.runtime_handler = runtime->name();
  CO_ASSIGN_OR_RETURN_SYNC(oci::SpecOutput spec, oci::GenerateSpec(input));
  Warn(id, spec.warnings);
  auto write = [root, bundle, json = std::move(spec.config_json), selinux = deps_.host.selinux] {
    absl::Status status = EnsurePauseRoot(root, selinux);
    if (status.ok()) status = MakeDirs(bundle, 0700);
    if (status.ok()) status = WriteFileAtomic(bundle + "/config.json", json, 0600, /*durable=*/false);
    return status;
  };
  Task<absl::Status> written = env_.Blocking<absl::Status>(write);
  absl::Status status = co_await std::move(written);
  if (!status.ok()) co_return Annotate(status, "pause process");
  oci::MonitorOptions monitor;
  monitor.id = id;
  monitor.name = SandboxNameKey(config.metadata());
  monitor.bundle_dir = bundle;
  Task<absl::StatusOr<oci::MonitoredProcess>> create = deps_.monitor->Create(runtime, monitor);
  absl::StatusOr<oci::MonitoredProcess> process = co_await std::move(create);
  if (!process.ok()) co_return Annotate(process.status(), "create pause process");
  sandbox->record.mutable_pause()->set_pid(process->pid);
  sandbox->record.mutable_pause()->set_start_ticks(process->pid_start_ticks);
  sandbox->record.mutable_pause_monitor()->set_pid(process->monitor_pid);
  sandbox->record.mutable_pause_monitor()->set_start_ticks(process->monitor_start_ticks);
  Task<absl::Status> start = runtime->Start(id);
  status = co_await std::move(start);
  co_return Annotate(status, "start pause process");
}

}  // namespace keelson::cri
