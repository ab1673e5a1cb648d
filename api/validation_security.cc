// Security contexts of pods and containers.
#include <absl/strings/ascii.h>
#include <absl/strings/str_split.h>

#include "api/codec.h"
#include "api/sysctl_names.h"
#include "api/validation_internal.h"
#include "base/strings.h"

namespace keelson::api::validation {

namespace corev1 = ::k8s::core::v1;

namespace {

constexpr size_t kMaxSysctlBytes = 253;
constexpr size_t kMaxProfileBytes = 4095;
const std::vector<std::string> kProfileTypes = {"Localhost", "RuntimeDefault", "Unconfined"};

// A seccomp or AppArmor profile up to what its localhostProfile must look like. True: it has one to look at.
template <class Profile>
bool ProfileType(const Profile& profile, const char* field, const char* kind, const std::string& path,
                 Errors& errors) {
  const std::string local = Child(path, "localhostProfile");
  if (profile.type().empty()) {
    errors.Required(Child(path, "type"), StrCat("type is required when ", field, " is set"));
  } else {
    errors.Supported(Child(path, "type"), profile.type(), kProfileTypes);
  }
  if (profile.type() == "Localhost") {
    if (!profile.has_localhost_profile()) {
      errors.Required(local, StrCat("must be set when ", kind, " type is Localhost"));
    }
    return profile.has_localhost_profile();
  }
  if (profile.has_localhost_profile()) {
    errors.Invalid(local, EncodeJson(profile), StrCat("can only be set when ", kind, " type is Localhost"));
  }
  return false;
}

template <class Context>  // of a pod or of a container
void Profiles(const Context& context, const std::string& path, Errors& errors) {
  if (context.has_seccomp_profile()) {
    const std::string here = Child(path, "seccompProfile");
    if (ProfileType(context.seccomp_profile(), "seccompProfile", "seccomp", here, errors)) {
      RelativePath(Child(here, "localhostProfile"), context.seccomp_profile().localhost_profile(), errors);
    }
  }
  if (!context.has_app_armor_profile()) return;
  const std::string here = Child(path, "appArmorProfile");
  if (!ProfileType(context.app_armor_profile(), "appArmorProfile", "AppArmor", here, errors)) return;
  const std::string& name = context.app_armor_profile().localhost_profile();
  const std::string field = Child(here, "localhostProfile");
  if (absl::StripAsciiWhitespace(name) != name) {
    errors.InvalidText(field, name, "must not be padded with whitespace");
  } else if (name.empty()) {
    errors.Required(field, "must be set when AppArmor type is Localhost");
  }
  if (name.size() > kMaxProfileBytes) errors.TooLong(field, kMaxProfileBytes);
}

template <class Context>
void Ids(const Context& context, const std::string& path, Errors& errors) {
  if (context.has_run_as_user()) errors.Id(Child(path, "runAsUser"), context.run_as_user());
  if (context.has_run_as_group()) errors.Id(Child(path, "runAsGroup"), context.run_as_group());
}

bool IsSysctlName(const std::string& name) {
  if (name.size() > kMaxSysctlBytes) return false;
  for (absl::string_view segment : absl::StrSplit(name, absl::ByAnyChar("./"))) {
    auto alphanumeric = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
    if (segment.empty() || !alphanumeric(segment.front()) || !alphanumeric(segment.back())) return false;
    for (char c : segment) {
      if (!alphanumeric(c) && c != '-' && c != '_') return false;
    }
  }
  return true;
}

void Sysctls(const corev1::PodSpec& spec, const std::string& path, Errors& errors) {
  StringSet names;
  const auto& sysctls = spec.security_context().sysctls();
  for (int i = 0; i < sysctls.size(); ++i) {
    const std::string& name = sysctls[i].name();
    const std::string field = Child(Index(path, static_cast<size_t>(i)), "name");
    if (name.empty()) {
      errors.Required(field);
    } else if (!IsSysctlName(name)) {
      errors.InvalidText(field, name,
                         StrCat("must have at most ", kMaxSysctlBytes,
                                " characters and match regex "
                                "^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$"));
    } else if (!names.insert(name).second) {
      errors.Duplicate(field, name);
    }
    const std::string dotted = DottedSysctl(name);
    if (spec.host_network() && IsNetworkSysctl(dotted)) {
      errors.InvalidText(field, name, "may not be specified when 'hostNetwork' is true");
    } else if (spec.host_ipc() && IsIpcSysctl(dotted)) {
      errors.InvalidText(field, name, "may not be specified when 'hostIPC' is true");
    }
  }
}

}  // namespace

void PodSecurity(const corev1::PodSpec& spec, const std::string& path, Errors& errors) {
  const auto& context = spec.security_context();
  const std::string here = Child(path, "securityContext");
  if (context.has_fs_group()) errors.Id(Child(here, "fsGroup"), context.fs_group());
  Ids(context, here, errors);
  for (int i = 0; i < context.supplemental_groups_size(); ++i) {
    errors.Id(Index(Child(here, "supplementalGroups"), static_cast<size_t>(i)),
              context.supplemental_groups(i));
  }
  Sysctls(spec, Child(here, "sysctls"), errors);
  if (context.has_fs_group_change_policy()) {
    errors.Supported(Child(here, "fsGroupChangePolicy"), context.fs_group_change_policy(),
                     {"Always", "OnRootMismatch"});
  }
  Profiles(context, here, errors);
  if (context.has_supplemental_groups_policy()) {
    errors.Supported(Child(here, "supplementalGroupsPolicy"), context.supplemental_groups_policy(),
                     {"Merge", "Strict"});
  }
  if (context.has_se_linux_change_policy()) {
    errors.Supported(Child(here, "seLinuxChangePolicy"), context.se_linux_change_policy(),
                     {"MountOption", "Recursive"});
  }
  if (spec.share_process_namespace() && spec.host_pid()) {
    errors.Invalid(Child(path, "shareProcessNamespace"), "true",
                   "ShareProcessNamespace and HostPID cannot both be enabled");
  }
}

void ContainerSecurity(const corev1::SecurityContext& context, bool host_users, const std::string& path,
                       Errors& errors) {
  Ids(context, path, errors);
  if (context.has_proc_mount()) {
    const std::string& proc_mount = context.proc_mount();
    errors.Supported(Child(path, "procMount"), proc_mount, {"Default", "Unmasked"});
    if (host_users && proc_mount == "Unmasked") {
      errors.InvalidText(Child(path, "procMount"), proc_mount, "`hostUsers` must be false to use `Unmasked`");
    }
  }
  Profiles(context, path, errors);
  if (!context.has_allow_privilege_escalation() || context.allow_privilege_escalation()) return;
  if (context.privileged()) {
    errors.Invalid(path, EncodeJson(context),
                   "cannot set `allowPrivilegeEscalation` to false and `privileged` to true");
  }
  for (const std::string& capability : context.capabilities().add()) {
    if (capability != "CAP_SYS_ADMIN") continue;
    errors.Invalid(path, EncodeJson(context),
                   "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN");
  }
}

}  // namespace keelson::api::validation
