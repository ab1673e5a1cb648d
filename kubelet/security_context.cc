#include "kubelet/security_context.h"

#include <algorithm>

#include "base/status.h"

namespace keelson::kubelet {
namespace {

// What is hidden in /proc and /sys unless procMount is Unmasked (the usual list of container runtimes).
constexpr const char* kMaskedPaths[] = {
    "/proc/asound",      "/proc/acpi",          "/proc/interrupts", "/proc/kcore",
    "/proc/keys",        "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
    "/proc/sched_debug", "/proc/scsi",          "/sys/firmware",    "/sys/devices/virtual/powercap"};
constexpr const char* kReadonlyPaths[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
                                          "/proc/sysrq-trigger"};

absl::StatusOr<criv1::SecurityProfile> Seccomp(const corev1::SeccompProfile* profile, bool privileged,
                                               bool seccomp_default, const std::string& dir,
                                               std::string_view field) {
  criv1::SecurityProfile out;
  out.set_profile_type(criv1::SecurityProfile::Unconfined);
  if (profile == nullptr) {
    if (seccomp_default && !privileged) out.set_profile_type(criv1::SecurityProfile::RuntimeDefault);
    return out;
  }
  if (profile->type() == "RuntimeDefault") {
    out.set_profile_type(criv1::SecurityProfile::RuntimeDefault);
  } else if (profile->type() == "Localhost") {
    if (profile->localhost_profile().empty()) {
      return absl::InvalidArgumentError(StrCat(field, ".localhostProfile must be set if type is Localhost"));
    }
    out.set_profile_type(criv1::SecurityProfile::Localhost);
    out.set_localhost_ref(profile->localhost_profile().front() == '/'
                              ? profile->localhost_profile()
                              : StrCat(dir, "/", profile->localhost_profile()));
  } else if (profile->type() != "Unconfined") {
    return absl::InvalidArgumentError(StrCat(field, ".type: unsupported value \"", profile->type(), "\""));
  }
  return out;
}

void SetAppArmor(const corev1::AppArmorProfile& profile, criv1::LinuxContainerSecurityContext& out) {
  if (profile.type() == "RuntimeDefault") {
    out.mutable_apparmor()->set_profile_type(criv1::SecurityProfile::RuntimeDefault);
    out.set_apparmor_profile("runtime/default");
  } else if (profile.type() == "Unconfined") {
    out.mutable_apparmor()->set_profile_type(criv1::SecurityProfile::Unconfined);
    out.set_apparmor_profile("unconfined");
  } else if (profile.type() == "Localhost") {
    out.mutable_apparmor()->set_profile_type(criv1::SecurityProfile::Localhost);
    out.mutable_apparmor()->set_localhost_ref(profile.localhost_profile());
    out.set_apparmor_profile(StrCat("localhost/", profile.localhost_profile()));
  }
}

void SetSeLinux(const corev1::SELinuxOptions& from, criv1::SELinuxOption* to) {
  to->set_user(from.user());
  to->set_role(from.role());
  to->set_type(from.type());
  to->set_level(from.level());
}

bool AnyPrivileged(const corev1::Pod& pod) {
  auto privileged = [](const auto& c) { return c.security_context().privileged(); };
  return std::any_of(pod.spec().containers().begin(), pod.spec().containers().end(), privileged) ||
         std::any_of(pod.spec().init_containers().begin(), pod.spec().init_containers().end(), privileged);
}

template <class Out>
void AddPodGroups(const corev1::Pod& pod, Out& out) {
  const auto& psc = pod.spec().security_context();
  if (psc.has_fs_group()) out.add_supplemental_groups(psc.fs_group());
  for (int64_t group : psc.supplemental_groups()) out.add_supplemental_groups(group);
  if (psc.supplemental_groups_policy() == "Strict") out.set_supplemental_groups_policy(criv1::Strict);
}

absl::Status CheckNonRoot(const corev1::Pod& pod, const corev1::Container& c, const ContainerUserInputs& in) {
  const auto& psc = pod.spec().security_context();
  const auto& sc = c.security_context();
  bool required = sc.has_run_as_non_root() ? sc.run_as_non_root() : psc.run_as_non_root();
  if (!required) return absl::OkStatus();
  std::string who = StrCat("(pod: \"", pod.metadata().name(), "_", pod.metadata().namespace_(), "(",
                           PodUid(pod), ")\", container: ", c.name(), ")");
  if (sc.has_run_as_user() || psc.has_run_as_user()) {
    int64_t uid = sc.has_run_as_user() ? sc.run_as_user() : psc.run_as_user();
    if (uid == 0)
      return absl::InvalidArgumentError(StrCat("container's runAsUser breaks non-root policy ", who));
    return absl::OkStatus();
  }
  if (in.image_uid == 0) {
    return absl::InvalidArgumentError(StrCat("container has runAsNonRoot and image will run as root ", who));
  }
  if (in.image_uid < 0 && !in.image_username.empty()) {
    return absl::InvalidArgumentError(StrCat("container has runAsNonRoot and image has non-numeric user (",
                                             in.image_username, "), cannot verify user is non-root ", who));
  }
  if (in.image_uid < 0) {
    return absl::InvalidArgumentError(StrCat("container has runAsNonRoot and image will run as root ", who));
  }
  return absl::OkStatus();
}

}  // namespace

criv1::NamespaceOption PodNamespaces(const corev1::Pod& pod) {
  criv1::NamespaceOption out;
  const auto& spec = pod.spec();
  out.set_network(spec.host_network() ? criv1::NODE : criv1::POD);
  out.set_ipc(spec.host_ipc() ? criv1::NODE : criv1::POD);
  out.set_pid(spec.host_pid() ? criv1::NODE : spec.share_process_namespace() ? criv1::POD : criv1::CONTAINER);
  return out;
}

absl::StatusOr<criv1::LinuxSandboxSecurityContext> MakeSandboxSecurityContext(const corev1::Pod& pod) {
  criv1::LinuxSandboxSecurityContext out;
  const auto& psc = pod.spec().security_context();
  out.set_privileged(AnyPrivileged(pod));
  *out.mutable_namespace_options() = PodNamespaces(pod);
  // The pause process is none of the pod's programs: a profile made for those need not let it run.
  out.mutable_seccomp()->set_profile_type(criv1::SecurityProfile::RuntimeDefault);
  if (psc.has_run_as_user()) out.mutable_run_as_user()->set_value(psc.run_as_user());
  // CRI has no group without a user: that one is of containers, whose users come from elsewhere.
  if (psc.has_run_as_user() && psc.has_run_as_group()) {
    out.mutable_run_as_group()->set_value(psc.run_as_group());
  }
  AddPodGroups(pod, out);
  if (psc.has_se_linux_options()) SetSeLinux(psc.se_linux_options(), out.mutable_selinux_options());
  return out;
}

absl::StatusOr<criv1::LinuxContainerSecurityContext> MakeContainerSecurityContext(
    const corev1::Pod& pod, const corev1::Container& container, const ContainerUserInputs& inputs) {
  RETURN_IF_ERROR(CheckNonRoot(pod, container, inputs));
  criv1::LinuxContainerSecurityContext out;
  const auto& psc = pod.spec().security_context();
  const auto& sc = container.security_context();
  out.set_privileged(sc.privileged());
  *out.mutable_namespace_options() = PodNamespaces(pod);
  if (!inputs.target_container_id.empty()) {
    out.mutable_namespace_options()->set_pid(criv1::TARGET);
    out.mutable_namespace_options()->set_target_id(inputs.target_container_id);
  }
  const corev1::SeccompProfile* seccomp = sc.has_seccomp_profile()    ? &sc.seccomp_profile()
                                          : psc.has_seccomp_profile() ? &psc.seccomp_profile()
                                                                      : nullptr;
  ASSIGN_OR_RETURN(*out.mutable_seccomp(), Seccomp(seccomp, sc.privileged(), inputs.seccomp_default,
                                                   inputs.seccomp_dir, "securityContext.seccompProfile"));
  if (sc.has_app_armor_profile()) {
    SetAppArmor(sc.app_armor_profile(), out);
  } else if (psc.has_app_armor_profile()) {
    SetAppArmor(psc.app_armor_profile(), out);
  }
  if (sc.has_se_linux_options()) {
    SetSeLinux(sc.se_linux_options(), out.mutable_selinux_options());
  } else if (psc.has_se_linux_options()) {
    SetSeLinux(psc.se_linux_options(), out.mutable_selinux_options());
  }

  if (sc.has_run_as_user()) {
    out.mutable_run_as_user()->set_value(sc.run_as_user());
  } else if (psc.has_run_as_user()) {
    out.mutable_run_as_user()->set_value(psc.run_as_user());
  } else if (inputs.image_uid >= 0) {
    out.mutable_run_as_user()->set_value(inputs.image_uid);
  } else {
    out.set_run_as_username(inputs.image_username);
  }
  if (sc.has_run_as_group()) {
    out.mutable_run_as_group()->set_value(sc.run_as_group());
  } else if (psc.has_run_as_group()) {
    out.mutable_run_as_group()->set_value(psc.run_as_group());
  }
  AddPodGroups(pod, out);
  for (int64_t group : inputs.supplemental_groups) out.add_supplemental_groups(group);

  for (const std::string& c : sc.capabilities().add()) out.mutable_capabilities()->add_add_capabilities(c);
  for (const std::string& c : sc.capabilities().drop()) out.mutable_capabilities()->add_drop_capabilities(c);
  out.set_readonly_rootfs(sc.read_only_root_filesystem());
  out.set_no_new_privs(sc.has_allow_privilege_escalation() && !sc.allow_privilege_escalation());
  if (sc.proc_mount() != "Unmasked") {
    for (const char* path : kMaskedPaths) out.add_masked_paths(path);
    for (const char* path : kReadonlyPaths) out.add_readonly_paths(path);
  }
  return out;
}

}  // namespace keelson::kubelet
