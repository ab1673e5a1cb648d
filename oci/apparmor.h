// AppArmor profiles of containers: which the kernel has, and the one that RuntimeDefault means.
#pragma once

#include <absl/status/status.h>

#include <string>
#include <string_view>

#include "base/env.h"
#include "base/task.h"

namespace keelson::oci {

inline constexpr std::string_view kDefaultApparmorProfile = "keelson-default";

// Its text, for apparmor_parser(8).
std::string DefaultApparmorProfileText();

// `loaded`: /sys/kernel/security/apparmor/profiles, a line "NAME (MODE)" for each.
bool ListsApparmorProfile(std::string_view loaded, std::string_view name);

struct ApparmorOptions {
  std::string profiles_file = "/sys/kernel/security/apparmor/profiles";
  std::string parser = "apparmor_parser";  // looked for in PATH, then in /sbin, where Debian has it
};

// Of a host that has AppArmor.
class Apparmor {
 public:
  explicit Apparmor(Env& env, ApparmorOptions options = {}) : env_(env), options_(std::move(options)) {}

  // Gives the kernel this version's kDefaultApparmorProfile, also in place of another. FailedPrecondition
  // says what to install where there is no parser.
  Task<absl::Status> LoadDefault();
  // Before a container is given the profile `name` ("": none). The default one is loaded once more where
  // somebody has removed it, as aa-remove-unknown(8) does; FailedPrecondition: any other that the kernel does
  // not have. Where the kernel's list cannot be read (securityfs not mounted) the OCI runtime will tell.
  Task<absl::Status> Ensure(std::string name);

 private:
  Env& env_;
  const ApparmorOptions options_;
};

}  // namespace keelson::oci
