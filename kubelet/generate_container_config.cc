#include "kubelet/generate_container_config.h"

#include <absl/strings/str_split.h>

#include <algorithm>

#include "api/codec.h"
#include "api/sysctl_names.h"
#include "base/status.h"
#include "kubelet/security_context.h"

namespace keelson::kubelet {
namespace {

constexpr char kDefaultTerminationMessagePath[] = "/dev/termination-log";
constexpr size_t kMaxSymlinkNameBytes = 251;  // 255 less ".log"

const std::string* FindEnv(const EnvList& env, std::string_view name) {
  for (const auto& [key, value] : env) {
    if (key == name) return &value;
  }
  return nullptr;
}

absl::StatusOr<criv1::MountPropagation> Propagation(const corev1::VolumeMount& mount, bool privileged) {
  const std::string& mode = mount.mount_propagation();
  if (mode.empty() || mode == "None") return criv1::PROPAGATION_PRIVATE;
  if (mode == "HostToContainer") return criv1::PROPAGATION_HOST_TO_CONTAINER;
  if (mode == "Bidirectional") {
    if (!privileged) {
      return absl::InvalidArgumentError(
          StrCat("volumeMounts ", mount.name(),
                 ": Bidirectional mount propagation is available only to privileged "
                 "containers"));
    }
    return criv1::PROPAGATION_BIDIRECTIONAL;
  }
  return absl::InvalidArgumentError(StrCat("invalid MountPropagation mode: \"", mode, "\""));
}

bool HasMountAt(const corev1::Container& container, std::string_view path) {
  return std::any_of(container.volume_mounts().begin(), container.volume_mounts().end(),
                     [&](const auto& m) { return m.mount_path() == path; });
}

absl::Status AddMounts(const corev1::Container& container, const ContainerInputs& in,
                       criv1::ContainerConfig& out) {
  for (int i = 0; i < container.volume_mounts_size(); ++i) {
    const corev1::VolumeMount& mount = container.volume_mounts(i);
    auto it = in.volumes.by_name.find(mount.name());
    if (it == in.volumes.by_name.end()) {
      return absl::FailedPreconditionError(StrCat("cannot find volume \"", mount.name(),
                                                  "\" to mount into container \"", container.name(), "\""));
    }
    const MountedVolume& volume = it->second;
    criv1::Mount* m = out.add_mounts();
    std::string path = mount.mount_path();
    m->set_container_path(!path.empty() && path[0] == '/' ? path : "/" + path);
    m->set_readonly(mount.read_only() || volume.read_only);
    m->set_selinux_relabel(volume.selinux_relabel);
    ASSIGN_OR_RETURN(auto propagation, Propagation(mount, container.security_context().privileged()));
    m->set_propagation(propagation);
    absl::StatusOr<bool> recursive = ResolveRecursiveReadOnly(mount, in.recursive_read_only);
    if (!recursive.ok()) return Annotate(recursive.status(), "failed to resolve recursive read-only mode");
    m->set_recursive_read_only(*recursive);
    if (!volume.image_ref.empty()) {
      m->mutable_image()->set_image(volume.image_ref);
      m->set_readonly(true);
      ASSIGN_OR_RETURN(std::string sub, ExpandSubPath(mount, in.env));
      m->set_image_sub_path(sub);
      continue;
    }
    auto sub = in.sub_paths.find(i);
    m->set_host_path(sub != in.sub_paths.end() ? sub->second : volume.host_path);
  }
  if (!in.hosts_file.empty() && !HasMountAt(container, "/etc/hosts")) {
    criv1::Mount* m = out.add_mounts();
    m->set_container_path("/etc/hosts");
    m->set_host_path(in.hosts_file);
    m->set_readonly(container.security_context().read_only_root_filesystem());
    m->set_selinux_relabel(true);
  }
  if (!in.termination_log.empty()) {
    criv1::Mount* m = out.add_mounts();
    m->set_container_path(container.termination_message_path().empty()
                              ? kDefaultTerminationMessagePath
                              : container.termination_message_path());
    m->set_host_path(in.termination_log);
    m->set_selinux_relabel(true);
  }
  return absl::OkStatus();
}

void AddAnnotations(const corev1::Pod& pod, const corev1::Container& container, const ContainerInputs& in,
                    criv1::ContainerConfig& out) {
  auto& a = *out.mutable_annotations();
  a[kAnnotationHash] = ContainerHash(container);
  a[kAnnotationRestartCount] = StrCat(in.restart_count);
  a[kAnnotationTerminationMessagePath] = container.termination_message_path().empty()
                                             ? kDefaultTerminationMessagePath
                                             : container.termination_message_path();
  a[kAnnotationTerminationMessagePolicy] =
      container.termination_message_policy().empty() ? "File" : container.termination_message_policy();
  if (pod.metadata().has_deletion_grace_period_seconds()) {
    a[kAnnotationPodDeletionGracePeriod] = StrCat(pod.metadata().deletion_grace_period_seconds());
  }
  if (pod.spec().has_termination_grace_period_seconds()) {
    a[kAnnotationPodTerminationGracePeriod] = StrCat(pod.spec().termination_grace_period_seconds());
  }
  if (container.lifecycle().has_pre_stop()) {
    std::string json;
    api::AppendJsonWithoutType(container.lifecycle().pre_stop(), json);
    a[kAnnotationPreStopHandler] = json;
  }
  if (container.ports_size() > 0) {
    std::string json = "[";
    for (const auto& port : container.ports()) {
      if (json.size() > 1) json += ',';
      api::AppendJsonWithoutType(port, json);
    }
    a[kAnnotationContainerPorts] = json + "]";
  }
}

}  // namespace

std::string PodLogsDirectory(const std::string& pod_logs_dir, std::string_view ns, std::string_view name,
                             std::string_view uid) {
  return StrCat(pod_logs_dir, "/", ns, "_", name, "_", uid);
}

std::string ContainerLogPath(std::string_view container_name, int restart_count) {
  return StrCat(container_name, "/", restart_count, ".log");
}

std::string LegacyLogSymlink(const std::string& container_logs_dir, std::string_view pod, std::string_view ns,
                             std::string_view container, std::string_view id) {
  std::string name = StrCat(pod, "_", ns, "_", container, "-", id);
  if (name.size() > kMaxSymlinkNameBytes) name.resize(kMaxSymlinkNameBytes);
  return StrCat(container_logs_dir, "/", name, ".log");
}

absl::StatusOr<criv1::PodSandboxConfig> GeneratePodSandboxConfig(const corev1::Pod& pod,
                                                                 const SandboxInputs& in) {
  criv1::PodSandboxConfig out;
  const auto& meta = pod.metadata();
  out.mutable_metadata()->set_name(meta.name());
  out.mutable_metadata()->set_namespace_(meta.namespace_());
  out.mutable_metadata()->set_uid(meta.uid());
  out.mutable_metadata()->set_attempt(in.attempt);
  auto& labels = *out.mutable_labels();
  for (const auto& [key, value] : meta.labels()) labels[key] = value;
  labels[kLabelPodName] = meta.name();
  labels[kLabelPodNamespace] = meta.namespace_();
  labels[kLabelPodUid] = meta.uid();
  if (!in.node_name.empty()) labels[kLabelNode] = in.node_name;
  for (const auto& [key, value] : meta.annotations()) (*out.mutable_annotations())[key] = value;
  *out.mutable_dns_config() = in.dns;
  // With host network the runtime keeps the host's UTS namespace: no name to set.
  if (!pod.spec().host_network()) out.set_hostname(in.hostname);
  out.set_log_directory(PodLogsDirectory(in.pod_logs_dir, meta.namespace_(), meta.name(), meta.uid()));
  if (!pod.spec().host_network()) {
    for (criv1::PortMapping& m : MakePortMappings(pod)) *out.add_port_mappings() = std::move(m);
  }
  criv1::LinuxPodSandboxConfig& linux_config = *out.mutable_linux();
  linux_config.set_cgroup_parent(in.cgroup_parent);
  ASSIGN_OR_RETURN(*linux_config.mutable_security_context(), MakeSandboxSecurityContext(pod));
  if (in.user_namespace.has_value()) {
    *linux_config.mutable_security_context()->mutable_namespace_options()->mutable_userns_options() =
        *in.user_namespace;
  }
  for (const auto& sysctl : pod.spec().security_context().sysctls()) {
    (*linux_config.mutable_sysctls())[api::DottedSysctl(sysctl.name())] = sysctl.value();
  }
  *linux_config.mutable_resources() = PodLinuxResources(pod, in.resources);
  if (pod.spec().overhead_size() > 0) {
    auto& overhead = *linux_config.mutable_overhead();
    int64_t milli_cpu = GetQuantity(pod.spec().overhead(), "cpu").MilliValue();
    if (milli_cpu > 0) {
      overhead.set_cpu_shares(MilliCpuToShares(milli_cpu));
      overhead.set_cpu_period(in.resources.cfs_period_us);
      overhead.set_cpu_quota(MilliCpuToQuota(milli_cpu, in.resources.cfs_period_us));
    }
    overhead.set_memory_limit_in_bytes(GetQuantity(pod.spec().overhead(), "memory").Value());
  }
  return out;
}

absl::StatusOr<criv1::ContainerConfig> GenerateContainerConfig(const corev1::Pod& pod,
                                                               const corev1::Container& container,
                                                               const ContainerInputs& in) {
  criv1::ContainerConfig out;
  out.mutable_metadata()->set_name(container.name());
  out.mutable_metadata()->set_attempt(in.restart_count);
  out.mutable_image()->set_image(in.image_ref);
  out.mutable_image()->set_user_specified_image(container.image());
  for (std::string& word : ExpandCommand(container.command(), in.env)) out.add_command(std::move(word));
  for (std::string& word : ExpandCommand(container.args(), in.env)) out.add_args(std::move(word));
  out.set_working_dir(container.working_dir());
  auto& labels = *out.mutable_labels();
  labels[kLabelPodName] = pod.metadata().name();
  labels[kLabelPodNamespace] = pod.metadata().namespace_();
  labels[kLabelPodUid] = PodUid(pod);
  labels[kLabelContainerName] = container.name();
  if (!in.node_name.empty()) labels[kLabelNode] = in.node_name;
  AddAnnotations(pod, container, in, out);
  RETURN_IF_ERROR(AddMounts(container, in, out));
  out.set_log_path(ContainerLogPath(container.name(), in.restart_count));
  out.set_stdin(container.stdin());
  out.set_stdin_once(container.stdin_once());
  out.set_tty(container.tty());
  for (const auto& [name, value] : in.env) {
    criv1::KeyValue* kv = out.add_envs();
    kv->set_key(name);
    kv->set_value(value);
  }
  out.set_stop_signal(StopSignal(container.lifecycle().stop_signal()));
  *out.mutable_linux()->mutable_resources() = ContainerLinuxResources(pod, container, in.resources);
  ContainerUserInputs user;
  user.image_uid = in.image_uid;
  user.image_username = in.image_username;
  user.supplemental_groups = in.volumes.supplemental_groups;
  user.target_container_id = in.target_container_id;
  user.seccomp_default = in.seccomp_default;
  user.seccomp_dir = in.seccomp_dir;
  ASSIGN_OR_RETURN(*out.mutable_linux()->mutable_security_context(),
                   MakeContainerSecurityContext(pod, container, user));
  if (in.user_namespace.has_value()) {
    *out.mutable_linux()->mutable_security_context()->mutable_namespace_options()->mutable_userns_options() =
        *in.user_namespace;
    // Images', too: a runtime maps those itself, and by these.
    for (criv1::Mount& mount : *out.mutable_mounts()) {
      *mount.mutable_uidmappings() = in.user_namespace->uids();
      *mount.mutable_gidmappings() = in.user_namespace->gids();
    }
  }
  return out;
}

bool SupportsRecursiveReadOnly(const criv1::StatusResponse& status, const std::string& handler) {
  return std::any_of(status.runtime_handlers().begin(), status.runtime_handlers().end(),
                     [&](const criv1::RuntimeHandler& known) {
                       return known.name() == handler && known.features().recursive_read_only_mounts();
                     });
}

absl::StatusOr<bool> ResolveRecursiveReadOnly(const corev1::VolumeMount& mount, bool supported) {
  const std::string& mode = mount.recursive_read_only();
  if (mode.empty() || mode == "Disabled") return false;
  const std::string asked =
      StrCat("volume \"", mount.name(), "\" requested recursive read-only mode, but it is not ");
  if (!mount.read_only()) return absl::InvalidArgumentError(asked + "read-only");
  if (!mount.mount_propagation().empty() && mount.mount_propagation() != "None") {
    return absl::InvalidArgumentError(
        StrCat(asked, "compatible with propagation \"", mount.mount_propagation(), "\""));
  }
  if (mode == "IfPossible") return supported;
  if (mode != "Enabled")
    return absl::InvalidArgumentError(StrCat("unknown recursive read-only mode \"", mode, "\""));
  if (!supported) return absl::FailedPreconditionError(asked + "supported by the runtime");
  return true;
}

std::vector<std::string> ExpandCommand(const google::protobuf::RepeatedPtrField<std::string>& words,
                                       const EnvList& env) {
  std::vector<std::string> out;
  for (const std::string& word : words) {
    out.push_back(ExpandVariables(word, [&](std::string_view name) { return FindEnv(env, name); }));
  }
  return out;
}

absl::StatusOr<std::string> ExpandSubPath(const corev1::VolumeMount& mount, const EnvList& env) {
  std::string path = mount.sub_path();
  if (!mount.sub_path_expr().empty()) {
    std::string missing;
    path = ExpandVariables(mount.sub_path_expr(), [&](std::string_view name) {
      const std::string* value = FindEnv(env, name);
      if (value == nullptr) missing = std::string(name);
      return value;
    });
    if (!missing.empty()) {
      return absl::InvalidArgumentError(
          StrCat("subPathExpr ", mount.sub_path_expr(), ": missing value for \"", missing, "\""));
    }
  }
  if (path.empty()) return path;
  if (path[0] == '/')
    return absl::InvalidArgumentError(StrCat("subPath \"", path, "\" must not be an absolute path"));
  for (absl::string_view part : absl::StrSplit(path, '/')) {
    if (part == "..")
      return absl::InvalidArgumentError(StrCat("subPath \"", path, "\" must not contain \"..\""));
  }
  return path;
}

std::string ApplyDefaultImageTag(const std::string& image) {
  if (image.find('@') != std::string::npos) return image;
  size_t slash = image.rfind('/');
  size_t colon = image.rfind(':');
  if (colon != std::string::npos && (slash == std::string::npos || colon > slash)) return image;
  return image + ":latest";
}

criv1::Signal StopSignal(std::string_view name) {
  if (name.empty()) return criv1::SIGNAL_RUNTIME_DEFAULT;
  std::string full = StrCat("SIGNAL_", name);
  size_t sign = full.find('+');
  if (sign != std::string::npos) {
    full.replace(sign, 1, "PLUS");
  } else if ((sign = full.find('-')) != std::string::npos) {
    full.replace(sign, 1, "MINUS");
  }
  criv1::Signal signal = criv1::SIGNAL_RUNTIME_DEFAULT;
  return criv1::Signal_Parse(full, &signal) ? signal : criv1::SIGNAL_RUNTIME_DEFAULT;
}

}  // namespace keelson::kubelet
