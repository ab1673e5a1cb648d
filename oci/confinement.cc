// Seccomp, AppArmor and SELinux of a container.
#include <absl/strings/match.h>
#include <absl/strings/strip.h>

#include <algorithm>

#include "base/status.h"
#include "oci/selinux.h"
#include "oci/spec_parts.h"

namespace keelson::oci {
namespace {

using ProfileType = criv1::SecurityProfile::ProfileType;

constexpr std::string_view kSeccompField = "security_context.seccomp";
constexpr std::string_view kApparmorField = "security_context.apparmor";
constexpr size_t kMaxApparmorName = 256;

struct Profile {
  bool set = false;
  ProfileType type = criv1::SecurityProfile::Unconfined;
  std::string name;  // of Localhost
};

// The message, or else the text of older kubelets: "", "runtime/default", "unconfined", "localhost/NAME".
absl::StatusOr<Profile> ProfileOf(bool present, const criv1::SecurityProfile& profile,
                                  const std::string& text, std::string_view field,
                                  std::string_view text_field) {
  if (present) {
    if (!criv1::SecurityProfile::ProfileType_IsValid(profile.profile_type())) {
      return absl::InvalidArgumentError(
          StrCat(field, ".profile_type: unknown value ", static_cast<int>(profile.profile_type())));
    }
    if (profile.profile_type() == criv1::SecurityProfile::Localhost && profile.localhost_ref().empty()) {
      return absl::InvalidArgumentError(StrCat(field, ".localhost_ref: is missing"));
    }
    return Profile{true, profile.profile_type(), profile.localhost_ref()};
  }
  if (text.empty()) return Profile{};
  if (text == "unconfined") return Profile{true, criv1::SecurityProfile::Unconfined, ""};
  if (text == "runtime/default" || text == "docker/default") {
    return Profile{true, criv1::SecurityProfile::RuntimeDefault, ""};
  }
  absl::string_view name = text;
  if (!absl::ConsumePrefix(&name, "localhost/") || name.empty()) {
    return absl::InvalidArgumentError(
        StrCat("security_context.", text_field, ": unknown profile \"", text, "\""));
  }
  return Profile{true, criv1::SecurityProfile::Localhost, std::string(name)};
}

absl::StatusOr<Profile> SeccompProfileOf(const criv1::LinuxContainerSecurityContext& security) {
  return ProfileOf(security.has_seccomp(), security.seccomp(), security.seccomp_profile_path(), kSeccompField,
                   "seccomp_profile_path");
}

absl::Status BuildSeccomp(const SpecInput& input, RuntimeSpec* spec, Warnings* warnings) {
  const auto& security = input.container->linux().security_context();
  ASSIGN_OR_RETURN(const Profile profile, SeccompProfileOf(security));
  if (security.privileged() || profile.type == criv1::SecurityProfile::Unconfined) return absl::OkStatus();
  const SeccompContext context{spec->process.capabilities.bounding, input.host.architecture,
                               input.host.kernel_major, input.host.kernel_minor};
  if (profile.type == criv1::SecurityProfile::RuntimeDefault) {
    if (input.host.seccomp) {
      spec->seccomp = DefaultSeccompProfile(context);
    } else {
      warnings->push_back("seccomp: the kernel has none, RuntimeDefault does not apply");
    }
    return absl::OkStatus();
  }
  if (!input.host.seccomp) {
    return absl::FailedPreconditionError(
        StrCat(kSeccompField, ": profile ", profile.name, ": the kernel has no seccomp"));
  }
  absl::StatusOr<SeccompProfile> parsed =
      ParseSeccompProfile(input.seccomp_localhost_profile, context, warnings);
  if (!parsed.ok()) return Annotate(parsed.status(), StrCat(kSeccompField, ": ", profile.name));
  if (!parsed->listener_path.empty() && !input.features.seccomp_notify) {
    return absl::InvalidArgumentError(StrCat(kSeccompField, ": ", profile.name, ": runtime handler \"",
                                             input.runtime_handler, "\" does not support SCMP_ACT_NOTIFY"));
  }
  spec->seccomp = *std::move(parsed);
  return absl::OkStatus();
}

bool IsPlainName(std::string_view name, size_t max) {
  return !name.empty() && name.size() <= max &&
         std::all_of(name.begin(), name.end(), [](char c) { return c > ' ' && c < 0x7f; });
}

absl::Status BuildApparmor(const SpecInput& input, RuntimeSpec* spec, Warnings* warnings) {
  const auto& security = input.container->linux().security_context();
  ASSIGN_OR_RETURN(spec->process.apparmor_profile, ApparmorProfileOf(security, input.host));
  // Asked for, in either form, and none: it was RuntimeDefault.
  const bool asked = security.has_apparmor() || !security.apparmor_profile().empty();
  if (asked && spec->process.apparmor_profile.empty() && input.host.apparmor && !security.privileged()) {
    warnings->push_back("apparmor: no default profile is loaded, RuntimeDefault does not apply");
  }
  return absl::OkStatus();
}

absl::Status BuildSelinux(const SpecInput& input, RuntimeSpec* spec) {
  ASSIGN_OR_RETURN(SelinuxLabels labels, SelinuxLabelsOf(input.container->linux().security_context(),
                                                         *input.sandbox, input.host, input.selinux_level));
  spec->process.selinux_label = std::move(labels.process);
  spec->mount_label = std::move(labels.mount);
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckSeccompField(const criv1::LinuxContainerSecurityContext& security) {
  return SeccompProfileOf(security).status();
}

absl::StatusOr<std::string> ApparmorProfileOf(const criv1::LinuxContainerSecurityContext& security,
                                              const HostFacts& host) {
  ASSIGN_OR_RETURN(const Profile profile,
                   ProfileOf(security.has_apparmor(), security.apparmor(), security.apparmor_profile(),
                             kApparmorField, "apparmor_profile"));
  if (profile.type == criv1::SecurityProfile::Localhost) {
    if (!host.apparmor) {
      return absl::FailedPreconditionError(
          StrCat(kApparmorField, ": profile ", profile.name, ": the host has no AppArmor"));
    }
    // CRI: without the prefix; the deprecated field had it, and kubelets send both forms.
    const std::string name(absl::StripPrefix(profile.name, "localhost/"));
    if (!IsPlainName(name, kMaxApparmorName)) {
      return absl::InvalidArgumentError(StrCat(kApparmorField, ".localhost_ref: \"", name, "\" is no name"));
    }
    return name;
  }
  if (!host.apparmor || security.privileged()) return "";
  if (profile.set && profile.type == criv1::SecurityProfile::Unconfined) return "unconfined";
  // RuntimeDefault, which is also what a container on an AppArmor host gets that says nothing.
  return host.apparmor_default_profile;
}

absl::Status BuildConfinement(const SpecInput& input, RuntimeSpec* spec, Warnings* warnings) {
  RETURN_IF_ERROR(BuildSeccomp(input, spec, warnings));
  RETURN_IF_ERROR(BuildApparmor(input, spec, warnings));
  return BuildSelinux(input, spec);
}

}  // namespace keelson::oci
