#include <absl/strings/str_split.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <optional>
#include <set>
#include <utility>

#include "base/fd.h"
#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"
#include "cri/server/cgroup_names.h"
#include "cri/server/container_checkpoint.h"
#include "cri/server/namespaces.h"
#include "cri/server/request_checks.h"
#include "cri/server/runtime_server.h"
#include "images/overlay.h"
#include "oci/cdi.h"
#include "oci/cgroup_view.h"
#include "oci/selinux.h"
#include "oci/signals.h"

namespace keelson::cri {

namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxSeccompProfileBytes = 1 << 20;
constexpr int kMaxDeviceNodes = 4096;
constexpr absl::Duration kVolumeCopyLimit = absl::Minutes(5);

void AddDevice(const std::string& path, const std::string& container_path, const struct stat& info,
               std::vector<oci::HostDevice>* out) {
  oci::HostDevice device;
  device.path = container_path;
  device.type = S_ISBLK(info.st_mode) ? 'b' : 'c';
  device.major = ::major(info.st_rdev);
  device.minor = ::minor(info.st_rdev);
  device.mode = info.st_mode & 07777;
  device.uid = info.st_uid;
  device.gid = info.st_gid;
  out->push_back(std::move(device));
}

bool IsDevice(const struct stat& info) { return S_ISCHR(info.st_mode) || S_ISBLK(info.st_mode); }

// The nodes of a host path: one, or those below a directory.
absl::StatusOr<std::vector<oci::HostDevice>> DevicesAt(const std::string& host_path,
                                                       const std::string& container_path) {
  std::vector<oci::HostDevice> out;
  struct stat info;
  if (::stat(host_path.c_str(), &info) != 0) return ErrnoStatus(errno, StrCat("device ", host_path));
  if (IsDevice(info)) {
    AddDevice(host_path, container_path, info, &out);
    return out;
  }
  if (!S_ISDIR(info.st_mode))
    return absl::InvalidArgumentError(StrCat("device ", host_path, ": is no device node"));
  std::error_code error;
  for (auto it =
           fs::recursive_directory_iterator(host_path, fs::directory_options::skip_permission_denied, error);
       !error && it != fs::recursive_directory_iterator(); it.increment(error)) {
    std::string path = it->path().string();
    // What belongs to other mounts of /dev is no device of the host's.
    std::string name = path.substr(host_path.size());
    if (name == "/pts" || name == "/shm" || name == "/fd" || name == "/mqueue" || name == "/.lxc" ||
        name == "/.lxd-mounts" || name == "/.udev") {
      it.disable_recursion_pending();
      continue;
    }
    if (name == "/console" || ::lstat(path.c_str(), &info) != 0 || !IsDevice(info)) continue;
    AddDevice(path, container_path + name, info, &out);
    if (out.size() >= kMaxDeviceNodes) break;
  }
  return out;
}

// What of the host a specification needs, looked up off the loop.
struct HostInputs {
  std::vector<std::vector<oci::HostDevice>> devices;  // of ContainerConfig.devices, in their order
  std::vector<oci::HostDevice> all_devices;
  std::string seccomp_profile;
  oci::ProcessUser user;
  oci::CdiEdits cdi;
  oci::CdiHostNodes cdi_nodes;
};

absl::Status LookUpCdiDevices(const v1::ContainerConfig& config, const std::vector<std::string>& dirs,
                              HostInputs* inputs) {
  ASSIGN_OR_RETURN(std::vector<std::string> names, oci::CdiDevicesOf(config));
  if (names.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(std::vector<oci::CdiFile> files, oci::ReadCdiFiles(dirs));
  ASSIGN_OR_RETURN(inputs->cdi, oci::ResolveCdiDevices(files, dirs, names));
  ASSIGN_OR_RETURN(inputs->cdi_nodes, oci::LookUpCdiHost(inputs->cdi));
  return absl::OkStatus();
}

absl::StatusOr<HostInputs> LookUpHost(const v1::ContainerConfig& config, const std::string& image_user,
                                      const std::string& rootfs, const std::vector<std::string>& cdi_dirs) {
  HostInputs inputs;
  RETURN_IF_ERROR(LookUpCdiDevices(config, cdi_dirs, &inputs));
  const auto& security = config.linux().security_context();
  for (const v1::Device& device : config.devices()) {
    ASSIGN_OR_RETURN(inputs.devices.emplace_back(), DevicesAt(device.host_path(), device.container_path()));
  }
  if (security.privileged()) {
    ASSIGN_OR_RETURN(inputs.all_devices, DevicesAt("/dev", "/dev"));
  }
  ASSIGN_OR_RETURN(inputs.seccomp_profile, ReadSeccompProfile(security));
  oci::UserRequest request;
  if (security.has_run_as_user()) request.run_as_user = security.run_as_user().value();
  request.run_as_username = security.run_as_username();
  request.image_user = image_user;
  if (security.has_run_as_group()) request.run_as_group = security.run_as_group().value();
  request.supplemental_groups.assign(security.supplemental_groups().begin(),
                                     security.supplemental_groups().end());
  request.policy = security.supplemental_groups_policy() == v1::Strict
                       ? oci::SupplementalGroupsPolicy::kStrict
                       : oci::SupplementalGroupsPolicy::kMerge;
  ASSIGN_OR_RETURN(Fd root, OpenFile(rootfs, O_PATH | O_DIRECTORY));
  ASSIGN_OR_RETURN(inputs.user, oci::ResolveUserIn(request, root.get()));
  return inputs;
}

// Sources of the container's mounts: symlinks followed once, here; missing ones are made; propagation is
// possible.
absl::Status PrepareMountSources(v1::ContainerConfig* config) {
  std::string mountinfo;
  for (v1::Mount& mount : *config->mutable_mounts()) {
    if (mount.host_path().empty()) {
      return absl::InvalidArgumentError(StrCat("mounts[", mount.container_path(), "].host_path: required"));
    }
    if (mount.has_image()) continue;  // resolved inside the image
    std::error_code error;
    fs::path real = fs::canonical(mount.host_path(), error);
    if (error == std::errc::no_such_file_or_directory) {
      RETURN_IF_ERROR(
          Annotate(MakeDirs(mount.host_path(), 0755), StrCat("mount source ", mount.host_path())));
      real = fs::canonical(mount.host_path(), error);
    }
    if (error) {
      return absl::InvalidArgumentError(StrCat("mount source ", mount.host_path(), ": ", error.message()));
    }
    mount.set_host_path(real.string());
    if (mount.propagation() == v1::PROPAGATION_PRIVATE) continue;
    if (mountinfo.empty()) {
      ASSIGN_OR_RETURN(mountinfo, oci::ReadHostMountinfo());
    }
    RETURN_IF_ERROR(oci::CheckPropagation(mountinfo, mount.host_path(), mount.propagation()));
  }
  return absl::OkStatus();
}

absl::Status RelabelMountSources(const v1::ContainerConfig& config, const std::string& label) {
  for (const v1::Mount& mount : config.mounts()) {
    if (!mount.selinux_relabel() || mount.has_image()) continue;
    RETURN_IF_ERROR(Annotate(oci::Relabel(mount.host_path(), label),
                             StrCat("mounts[", mount.container_path(), "].selinux_relabel")));
  }
  return absl::OkStatus();
}

// What of the pod's folder its containers mount, and its /dev/shm unless that is the host's: the container
// that was made last can read it, also where it names a level of its own.
absl::Status LabelPodFiles(const std::string& sandbox_dir, bool host_ipc, const std::string& selinux_label) {
  if (selinux_label.empty()) return absl::OkStatus();
  for (const char* name : {"/resolv.conf", "/hosts", "/hostname", "/shm"}) {
    if (host_ipc && std::string_view(name) == "/shm") continue;
    RETURN_IF_ERROR(oci::Relabel(sandbox_dir + name, selinux_label));
  }
  return absl::OkStatus();
}

// In a user namespace nobody takes these flags off a mount of the host's, and runc 1.1 leaves them out when
// it makes one read-only: EPERM. Named as options they stay.
absl::Status KeepLockedFlags(const std::string& path, v1::Mount* mount) {
  struct statvfs info;
  if (::statvfs(path.c_str(), &info) != 0) return ErrnoStatus(errno, StrCat("statvfs ", path));
  constexpr std::pair<unsigned long, const char*> kFlags[] = {
      {ST_NOSUID, "nosuid"}, {ST_NODEV, "nodev"}, {ST_NOEXEC, "noexec"}};
  for (const auto& [flag, name] : kFlags) {
    const auto& there = mount->mount_options();
    if ((info.f_flag & flag) != 0 && std::find(there.begin(), there.end(), name) == there.end()) {
      mount->add_mount_options(name);
    }
  }
  return absl::OkStatus();
}

// Volumes that ask for ID mappings (those of the pod: CheckIdMappings) are bound with the pod's user
// namespace below the container's directory, where the OCI runtime takes them from: not every one can map
// itself.
absl::Status MapMountSources(const std::string& dir, const std::string& userns_path,
                             v1::ContainerConfig* config) {
  int n = 0;
  for (v1::Mount& mount : *config->mutable_mounts()) {
    if (mount.uidmappings_size() == 0 && mount.gidmappings_size() == 0) continue;
    if (mount.has_image()) {  // its layers are mapped already
      mount.clear_uidmappings();
      mount.clear_gidmappings();
      continue;
    }
    struct stat info;
    std::string at = StrCat(dir, "/volume", n++);
    if (::stat(mount.host_path().c_str(), &info) != 0)
      return ErrnoStatus(errno, StrCat("stat ", mount.host_path()));
    if (S_ISDIR(info.st_mode)) {
      RETURN_IF_ERROR(MakeDirs(at, 0700));
    } else {
      RETURN_IF_ERROR(OpenFile(at, O_WRONLY | O_CREAT, 0600).status());
    }
    RETURN_IF_ERROR(images::MountIdMapped(mount.host_path(), at, userns_path));
    RETURN_IF_ERROR(KeepLockedFlags(at, &mount));
    mount.set_host_path(at);
    mount.clear_uidmappings();
    mount.clear_gidmappings();
  }
  return absl::OkStatus();
}

// Known to the sandbox while it is being made: whoever removes the sandbox waits for it.
class Creating {
 public:
  Creating(std::shared_ptr<Sandbox> sandbox, const std::shared_ptr<Container>& container)
      : sandbox_(std::move(sandbox)), id_(container->record.id()) {
    sandbox_->creating[id_] = container;
  }
  ~Creating() { sandbox_->creating.erase(id_); }
  Creating(const Creating&) = delete;
  Creating& operator=(const Creating&) = delete;

 private:
  const std::shared_ptr<Sandbox> sandbox_;
  const std::string id_;
};

// Those of the image that no mount of the container covers.
std::vector<std::string> VolumesToMake(const oci::ImageConfig& image, const v1::ContainerConfig& config) {
  std::set<std::string> mounted;
  for (const v1::Mount& mount : config.mounts()) {
    std::string path = std::filesystem::path(mount.container_path() + "/").lexically_normal().string();
    mounted.insert(path.substr(0, path.size() - 1));
  }
  std::vector<std::string> out;
  std::copy_if(image.volumes.begin(), image.volumes.end(), std::back_inserter(out),
               [&](const std::string& path) { return !mounted.contains(path); });
  return out;
}

}  // namespace

absl::StatusOr<std::string> ReadSeccompProfile(const v1::LinuxContainerSecurityContext& security) {
  std::string path;
  if (security.has_seccomp()) {
    if (security.seccomp().profile_type() == v1::SecurityProfile::Localhost)
      path = security.seccomp().localhost_ref();
  } else if (security.seccomp_profile_path().starts_with("localhost/")) {
    path = security.seccomp_profile_path().substr(std::string_view("localhost/").size());
  }
  if (path.empty() || security.privileged()) return std::string();
  if (path[0] != '/')
    return absl::InvalidArgumentError(StrCat("seccomp profile \"", path, "\": want an absolute path"));
  absl::StatusOr<std::string> text = ReadFile(path, kMaxSeccompProfileBytes);
  if (!text.ok()) return Annotate(text.status(), StrCat("seccomp profile ", path));
  return text;
}

absl::Status PrepareLog(const std::string& log_directory, const std::string& log_path) {
  RETURN_IF_ERROR(MakeDirs(log_directory, 0755));
  ASSIGN_OR_RETURN(Fd dir, OpenFile(log_directory, O_PATH | O_DIRECTORY));
  std::vector<std::string> parts = absl::StrSplit(log_path, '/');
  for (size_t i = 0; i + 1 < parts.size(); ++i) {
    if (::mkdirat(dir.get(), parts[i].c_str(), 0755) != 0 && errno != EEXIST) {
      return ErrnoStatus(errno, StrCat("make ", parts[i], " below ", log_directory));
    }
    ASSIGN_OR_RETURN(dir, OpenBeneath(dir.get(), parts[i], O_PATH | O_DIRECTORY | O_NOFOLLOW));
  }
  absl::StatusOr<Fd> log =
      OpenBeneath(dir.get(), parts.back(), O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK, 0640);
  if (!log.ok()) return Annotate(log.status(), StrCat("log ", log_directory, "/", log_path));
  struct stat info;
  if (::fstat(log->get(), &info) != 0 || !S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(StrCat("log ", log_directory, "/", log_path, ": is no regular file"));
  }
  return absl::OkStatus();
}

Task<absl::StatusOr<v1::CreateContainerResponse>> RuntimeServer::CreateContainer(
    v1::CreateContainerRequest request) {
  CO_ASSIGN_OR_RETURN_SYNC(std::shared_ptr<Sandbox> sandbox, FindSandbox(request.pod_sandbox_id()));
  CO_RETURN_IF_ERROR_SYNC(CheckNotRestoring(sandbox->record));
  if (IsCheckpoint(request.config().image())) {
    CO_RETURN_IF_ERROR_SYNC(CheckContainerConfig(request.config()));
    Task<absl::StatusOr<v1::CreateContainerResponse>> restore = CreateFromCheckpoint(std::move(request));
    co_return co_await std::move(restore);
  }
  Task<absl::StatusOr<v1::CreateContainerResponse>> create = CreateContainerOn(std::move(request), "");
  co_return co_await std::move(create);
}

Task<absl::StatusOr<v1::CreateContainerResponse>> RuntimeServer::CreateContainerOn(
    v1::CreateContainerRequest request, std::string checkpoint) {
  CO_ASSIGN_OR_RETURN_SYNC(std::shared_ptr<Sandbox> sandbox, FindSandbox(request.pod_sandbox_id()));
  CO_RETURN_IF_ERROR_SYNC(CheckContainerConfig(request.config()));
  CO_RETURN_IF_ERROR_SYNC(CheckIdMappings(request.config(), sandbox->record.config()));
  CO_RETURN_IF_ERROR_SYNC(CheckImageHandlers(request.config()));
  auto not_running = [&] {
    return absl::FailedPreconditionError(StrCat("pod sandbox ", sandbox->record.id(), " is not running"));
  };
  if (sandbox->record.state() != records::SANDBOX_RUNNING) co_return not_running();
  // The pod may be of a time when the server had the other driver.
  CO_RETURN_IF_ERROR_SYNC(
      CheckCgroupParent(sandbox->record.config().linux().cgroup_parent(), deps_.host.systemd_cgroup));
  attach_warmer_.Warm();  // it is started soon
  std::string key = ContainerNameKey(request.config().metadata(), sandbox->record.config().metadata());
  auto container = std::make_shared<Container>();
  if (!checkpoint.empty()) {
    struct stat info;
    const std::string diff = StrCat(checkpoint, "/", kRootfsDiffName);
    if (::lstat(diff.c_str(), &info) == 0) container->rootfs_diff = diff;
    container->record.set_from_checkpoint(true);
  }
  std::string id = NewId();
  auto [reserved, fresh] = container_names_.try_emplace(key, id);
  if (!fresh) {
    co_return absl::AlreadyExistsError(
        StrCat("container ", key, ": the name is taken by ", reserved->second));
  }
  records::Container& record = container->record;
  record.set_id(id);
  record.set_sandbox_id(sandbox->record.id());
  *record.mutable_config() = std::move(*request.mutable_config());
  record.set_runtime_handler(sandbox->record.runtime_handler());
  record.set_created_at_ns(NowNs());
  record.set_boot_id(boot_id_);
  record.set_cgroup_path(ContainerCgroupPath(sandbox->record.config().linux().cgroup_parent(),
                                             options_.default_cgroup_parent, id));
  *record.mutable_resources() = record.config().linux().resources();
  Creating creating(sandbox, container);
  Task<AsyncMutex::Guard> lock = container->mutex.Lock();
  AsyncMutex::Guard guard = co_await std::move(lock);
  absl::Status status = Save(*container);
  std::shared_ptr<void> block;
  if (status.ok()) {
    Task<absl::Status> set_up = SetUpContainer(container, sandbox, &block);
    status = co_await std::move(set_up);
  }
  if (status.ok() && !checkpoint.empty()) {
    Task<absl::Status> prepare = PrepareRestore(container, checkpoint);
    status = co_await std::move(prepare);
  }
  // The pod may have been stopped in between: nothing is added to it then.
  if (status.ok() && sandbox->record.state() != records::SANDBOX_RUNNING) status = not_running();
  if (status.ok()) {
    record.set_state(records::CONTAINER_CREATED);
    status = Save(*container);
  }
  if (!status.ok()) {
    if (container->told.made) {
      Task<void> tell = TellRemoved(container);
      co_await std::move(tell);
    }
    Task<absl::Status> undo = TearDownContainer(container);
    absl::Status undone = co_await std::move(undo);
    if (undone.ok()) undone = store_.RemoveContainer(id);
    if (!undone.ok()) {
      // Known from now on, so that whoever removes it or its pod tries again; nobody can start it.
      LogError("a failed container is not undone", {{"container", id}, {"error", undone}});
      record.set_removing(true);
      absl::Status saved = Save(*container);
      if (!saved.ok()) LogError("container record not written", {{"container", id}, {"error", saved}});
      containers_[id] = container;
      co_return Annotate(status, StrCat("create container ", key));
    }
    FreeName(&container_names_, key, id);
    co_return Annotate(status, StrCat("create container ", key));
  }
  containers_[id] = container;
  Publish(v1::CONTAINER_CREATED_EVENT, id, record.sandbox_id());
  block = nullptr;
  if (PluginsListen()) {
    Task<void> tell = TellMade(Made::kCreated, container);
    co_await std::move(tell);
  }
  v1::CreateContainerResponse response;
  response.set_container_id(id);
  co_return response;
}

Task<absl::Status> RuntimeServer::SetUpContainer(std::shared_ptr<Container> container,
                                                 std::shared_ptr<Sandbox> sandbox,
                                                 std::shared_ptr<void>* block) {
  records::Container& record = container->record;
  const v1::PodSandboxConfig& pod = sandbox->record.config();
  const std::string& id = record.id();
  const std::string dir = ContainerDir(id);
  CO_ASSIGN_OR_RETURN_SYNC(oci::OciRuntime * runtime, RuntimeFor(record.runtime_handler()));

  const images::ImageRecord* image = deps_.images->Find(record.config().image().image());
  if (image == nullptr) {
    co_return absl::NotFoundError(
        StrCat("image \"", record.config().image().image(), "\" is not here: pull it first"));
  }
  record.set_image_id(image->id);
  record.set_image_ref(image->repo_digests.empty() ? image->id : image->repo_digests.front());
  oci::ImageConfig image_config = image->config;
  std::string stop_signal = oci::SignalName(record.config().stop_signal());
  if (stop_signal.empty())
    stop_signal = image_config.stop_signal.empty() ? "SIGTERM" : image_config.stop_signal;
  // An image may name a signal that does not exist: not worth refusing the container.
  record.set_stop_signal(oci::ParseSignal(stop_signal).ok() ? stop_signal : "SIGTERM");

  // `image` is not looked at below: a pull may replace it at any await.
  auto make_dir = [dir, group = MappedRootGroup(pod)] { return MakePodDir(dir, group); };
  Task<absl::Status> made = env_.Blocking<absl::Status>(make_dir);
  absl::Status status = co_await std::move(made);
  if (!status.ok()) co_return status;
  images::RootfsOptions rootfs;
  rootfs.key = id;
  rootfs.image_id = record.image_id();
  rootfs.mount_path = dir + "/rootfs";
  rootfs.layer_tar = container->rootfs_diff;
  std::string userns_path = StrCat(SandboxDir(sandbox->record.id()), "/ns/", kUserNamespace);
  if (HasUserNamespace(pod)) rootfs.userns_path = userns_path;
  CO_ASSIGN_OR_RETURN_SYNC(oci::SelinuxLabels labels,
                           oci::SelinuxLabelsOf(record.config().linux().security_context(), pod, deps_.host,
                                                sandbox->record.selinux_level()));
  CO_RETURN_IF_ERROR_SYNC(oci::CheckSelinuxLabels(labels));  // before the runtime fails on them
  rootfs.selinux_label = labels.mount;
  CO_RETURN_IF_ERROR(deps_.images->MountRootfs(rootfs));
  CO_ASSIGN_OR_RETURN(std::vector<std::string> image_paths,
                      MountImageVolumes(container, HasUserNamespace(pod) ? userns_path : "", labels.mount));

  if (!record.config().log_path().empty() && !pod.log_directory().empty()) {
    record.set_log_path(StrCat(pod.log_directory(), "/", record.config().log_path()));
  }
  // Mounts of images have a host path by now, which the configuration must not keep.
  auto config = std::make_shared<v1::ContainerConfig>(record.config());
  size_t next_image = 0;
  for (v1::Mount& mount : *config->mutable_mounts()) {
    if (mount.has_image()) mount.set_host_path(image_paths[next_image++]);
  }
  auto* security = config->mutable_linux()->mutable_security_context();
  if (options_.seccomp_default && !security->privileged() && !security->has_seccomp() &&
      security->seccomp_profile_path().empty()) {
    security->mutable_seccomp()->set_profile_type(v1::SecurityProfile::RuntimeDefault);
  }
  auto inputs = std::make_shared<HostInputs>();
  auto look_up = [config, inputs, rootfs, user = image_config.user, log_directory = pod.log_directory(),
                  log = record.log_path().empty() ? "" : record.config().log_path(), dir, userns_path,
                  cdi_dirs = options_.cdi_spec_dirs, label = labels.mount, host_ipc = HostIpc(pod),
                  sandbox_dir = SandboxDir(sandbox->record.id())]() -> absl::Status {
    RETURN_IF_ERROR(PrepareMountSources(config.get()));
    if (!label.empty()) RETURN_IF_ERROR(RelabelMountSources(*config, label));
    RETURN_IF_ERROR(LabelPodFiles(sandbox_dir, host_ipc, label));
    RETURN_IF_ERROR(MapMountSources(dir, userns_path, config.get()));
    if (!log.empty()) RETURN_IF_ERROR(PrepareLog(log_directory, log));
    ASSIGN_OR_RETURN(*inputs, LookUpHost(*config, user, rootfs.mount_path, cdi_dirs));
    return absl::OkStatus();
  };
  Task<absl::Status> looked_up = env_.Blocking<absl::Status>(look_up);
  status = co_await std::move(looked_up);
  if (!status.ok()) co_return status;

  std::string sandbox_dir = SandboxDir(sandbox->record.id());
  std::string ns = sandbox_dir + "/ns/";
  oci::SpecInput input;
  input.id = id;
  input.container = config.get();
  input.sandbox = &pod;
  input.sandbox_id = sandbox->record.id();
  input.image = std::move(image_config);
  input.user = inputs->user;
  CO_RETURN_IF_ERROR_SYNC(oci::ApplyCdiEdits(inputs->cdi, inputs->cdi_nodes, &input));
  auto* user = record.mutable_user()->mutable_linux();
  user->set_uid(input.user.uid);
  user->set_gid(input.user.gid);
  user->mutable_supplemental_groups()->Assign(input.user.additional_gids.begin(),
                                              input.user.additional_gids.end());
  input.rootfs_path = rootfs.mount_path;
  v1::NamespaceOption namespaces = NamespacesOf(*config);
  if (!HostNetwork(pod)) {
    input.namespaces.network = ns + kNetNamespace;
    input.namespaces.uts = ns + kUtsNamespace;
  }
  if (!HostIpc(pod)) input.namespaces.ipc = ns + kIpcNamespace;
  if (HasUserNamespace(pod)) input.namespaces.user = ns + kUserNamespace;
  record.set_own_pid_namespace(false);
  switch (namespaces.pid()) {
    case v1::POD:
      if (!sandbox->record.has_pause()) {
        co_return absl::FailedPreconditionError(
            "namespace_options.pid: POD, but the sandbox was made without a shared PID namespace");
      }
      input.namespaces.pid = StrCat("/proc/", sandbox->record.pause().pid(), "/ns/pid");
      break;
    case v1::NODE:
      input.namespaces.pid_host = true;
      break;
    case v1::TARGET: {
      CO_ASSIGN_OR_RETURN_SYNC(std::shared_ptr<Container> target,
                               FindRunningContainer(namespaces.target_id()));
      if (target->record.sandbox_id() != record.sandbox_id()) {
        co_return absl::InvalidArgumentError("namespace_options.target_id: that container is in another pod");
      }
      input.namespaces.pid = StrCat("/proc/", target->record.init().pid(), "/ns/pid");
      break;
    }
    default:
      record.set_own_pid_namespace(true);
  }
  input.cgroups_path = OciCgroupsPath(pod.linux().cgroup_parent(), options_.default_cgroup_parent, id);
  input.hostname = pod.hostname();
  input.resolv_conf_path = sandbox_dir + "/resolv.conf";
  input.hostname_path = sandbox_dir + "/hostname";
  input.hosts_path = sandbox_dir + "/hosts";
  if (!HostIpc(pod)) {
    input.shm_path = sandbox_dir + "/shm";
  } else {
    input.shm_path = "/dev/shm";
  }
  input.devices = std::move(inputs->devices);
  input.all_host_devices = std::move(inputs->all_devices);
  input.seccomp_localhost_profile = std::move(inputs->seccomp_profile);
  input.selinux_level = sandbox->record.selinux_level();
  input.host = deps_.host;
  input.features = runtime->features();
  input.runtime_handler = runtime->name();
  input.criu_config_path = CriuConfigPath(id);
  CO_ASSIGN_OR_RETURN(input.image_volume_paths,
                      MakeVolumes(id, rootfs.mount_path, VolumesToMake(input.image, *config), labels.mount));
  CO_RETURN_IF_ERROR(EnsureApparmor(config->linux().security_context()));
  CO_ASSIGN_OR_RETURN_SYNC(oci::SpecOutput spec, oci::GenerateSpec(input));
  Warn(id, spec.warnings);
  if (deps_.nri != nullptr) {
    Task<std::shared_ptr<void>> take = BlockPluginSync();
    *block = co_await std::move(take);
    // A pod that was stopped meanwhile gets no container, and plugins hear of none.
    if (PluginsListen() && sandbox->record.state() == records::SANDBOX_RUNNING) {
      CO_ASSIGN_OR_RETURN(spec.config_json, AdjustByPlugins(container, sandbox, &input, inputs->user,
                                                            std::move(spec.config_json)));
    }
  }
  auto write = [dir, json = std::move(spec.config_json)] {
    return WriteFileAtomic(dir + "/config.json", json, 0600, /*durable=*/false);
  };
  Task<absl::Status> written = env_.Blocking<absl::Status>(write);
  status = co_await std::move(written);
  co_return status;
}

namespace {

// Where `path` leads inside the directory `root`, on the host. Neither ".." nor a link leads out of it.
absl::StatusOr<std::string> ResolveBeneath(const std::string& root, const std::string& path) {
  ASSIGN_OR_RETURN(Fd top, OpenFile(root, O_PATH | O_DIRECTORY));
  ASSIGN_OR_RETURN(Fd at, OpenBeneath(top.get(), path, O_PATH));
  std::error_code error;
  std::string real = fs::read_symlink(StrCat("/proc/self/fd/", at.get()), error).string();
  if (error) return absl::UnavailableError(StrCat("resolve ", path, ": ", error.message()));
  std::string real_root = fs::read_symlink(StrCat("/proc/self/fd/", top.get()), error).string();
  if (error || !real.starts_with(real_root + "/")) {
    return absl::PermissionDeniedError(StrCat(path, ": leads out of the image"));
  }
  return real;
}

// One VOLUME: a directory like the image's, which it may not have. True: there is something in the image's to
// copy.
absl::StatusOr<bool> MakeVolume(const std::string& at, const std::string& rootfs, const std::string& volume,
                                std::string* source) {
  RETURN_IF_ERROR(MakeDirs(at, 0755));
  ASSIGN_OR_RETURN(Fd root, OpenFile(rootfs, O_PATH | O_DIRECTORY));
  std::string relative = volume.substr(std::min(volume.find_first_not_of('/'), volume.size()));
  if (relative.empty())
    return absl::InvalidArgumentError(StrCat("image VOLUME \"", volume, "\": names the root"));
  absl::StatusOr<Fd> dir = OpenInRoot(root.get(), relative, O_RDONLY | O_DIRECTORY);
  // Owners are those of the pod's user namespace, if it has one: a missing directory is its root's.
  struct stat info;
  if (::fstat(dir.ok() ? dir->get() : root.get(), &info) != 0)
    return ErrnoStatus(errno, StrCat("stat ", volume));
  if (::chown(at.c_str(), info.st_uid, info.st_gid) != 0) return ErrnoStatus(errno, StrCat("chown ", at));
  if (!dir.ok()) return false;
  if (::chmod(at.c_str(), info.st_mode & 07777) != 0) return ErrnoStatus(errno, StrCat("chmod ", at));
  std::error_code error;
  *source = fs::read_symlink(StrCat("/proc/self/fd/", dir->get()), error).string();
  bool empty = fs::is_empty(*source, error);
  return !error && !empty && source->starts_with(rootfs + "/");
}

}  // namespace

Task<absl::StatusOr<std::map<std::string, std::string>>> RuntimeServer::MakeVolumes(
    std::string id, std::string rootfs, std::vector<std::string> volumes, std::string selinux_label) {
  std::map<std::string, std::string> paths;
  for (const std::string& volume : volumes) {
    std::string at = StrCat(VolumesDir(id), "/", paths.size());
    auto source = std::make_shared<std::string>();
    auto make = [at, rootfs, volume, source] { return MakeVolume(at, rootfs, volume, source.get()); };
    Task<absl::StatusOr<bool>> made = env_.Blocking<absl::StatusOr<bool>>(make);
    absl::StatusOr<bool> copy = co_await std::move(made);
    if (!copy.ok()) co_return Annotate(copy.status(), "image volumes");
    if (*copy) {
      SubprocessOptions options;
      options.argv = {"cp", "-a", "--reflink=auto", *source + "/.", at};
      options.timeout = kVolumeCopyLimit;
      CO_ASSIGN_OR_RETURN(SubprocessResult result, env_.subprocess().Run(options));
      if (!result.ok()) {
        co_return absl::UnavailableError(StrCat("copy image volume ", volume, ": ", result.stderr_data));
      }
    }
    if (!selinux_label.empty()) {
      auto relabel = [at, selinux_label] { return oci::Relabel(at, selinux_label); };
      Task<absl::Status> relabelled = env_.Blocking<absl::Status>(relabel);
      absl::Status status = co_await std::move(relabelled);
      if (!status.ok()) co_return Annotate(status, "image volumes");
    }
    paths[volume] = at;
  }
  co_return paths;
}

Task<absl::StatusOr<std::vector<std::string>>> RuntimeServer::MountImageVolumes(
    std::shared_ptr<Container> container, std::string userns_path, std::string selinux_label) {
  records::Container& record = container->record;
  const std::string dir = ContainerDir(record.id());
  std::vector<std::string> paths;
  for (v1::Mount& mount : *record.mutable_config()->mutable_mounts()) {
    if (!mount.has_image()) continue;
    std::string what = StrCat("mounts[", mount.container_path(), "]");
    const images::ImageRecord* image = deps_.images->Find(mount.image().image());
    if (image == nullptr) {
      co_return absl::NotFoundError(
          StrCat(what, ".image: \"", mount.image().image(), "\" is not here: pull it first"));
    }
    if (!mount.image_sub_path().empty()) CO_RETURN_IF_ERROR_SYNC(CheckLogPath(mount.image_sub_path()));
    mount.mutable_image()->set_image_ref(image->id);  // whatever has the name later
    images::RootfsOptions rootfs;
    rootfs.key = StrCat(record.id(), "-image", paths.size());
    rootfs.image_id = image->id;
    rootfs.mount_path = StrCat(dir, "/image", paths.size());
    rootfs.readonly = true;
    rootfs.userns_path = userns_path;
    rootfs.selinux_label = selinux_label;
    record.add_image_mount_keys(rootfs.key);
    CO_RETURN_IF_ERROR_SYNC(Save(*container));
    CO_RETURN_IF_ERROR(deps_.images->MountRootfs(rootfs));
    if (mount.image_sub_path().empty()) {
      paths.push_back(rootfs.mount_path);
      continue;
    }
    auto resolve = [path = rootfs.mount_path, sub = mount.image_sub_path()] {
      return ResolveBeneath(path, sub);
    };
    Task<absl::StatusOr<std::string>> resolved = env_.Blocking<absl::StatusOr<std::string>>(resolve);
    absl::StatusOr<std::string> path = co_await std::move(resolved);
    if (!path.ok()) {
      co_return Annotate(path.status(), StrCat(what, ".image_sub_path \"", mount.image_sub_path(), "\""));
    }
    paths.push_back(*std::move(path));
  }
  co_return paths;
}

}  // namespace keelson::cri
