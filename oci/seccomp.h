// Seccomp filters of containers: the RuntimeDefault profile and the reader of Localhost profiles. Both come
// out in the runtime-spec's form (config-linux.md, seccomp). Pure.
#pragma once

#include <absl/status/statusor.h>

#include <string>
#include <string_view>
#include <vector>

#include "oci/runtime_spec.h"

namespace keelson::oci {

// What a profile depends on.
struct SeccompContext {
  std::vector<std::string> capabilities;  // of the bounding set, with CAP_
  std::string architecture = "amd64";     // as Go and image configs name it
  int kernel_major = 6, kernel_minor = 1;
};

inline constexpr uint32_t kErrnoPerm = 1;    // EPERM: a call that is known and denied
inline constexpr uint32_t kErrnoNoSys = 38;  // ENOSYS: a call this profile has not heard of

// RuntimeDefault. Every system call the table knows is allowed, denied (EPERM) or left to a capability; what
// it does not know, newer than this code, answers ENOSYS, so that a libc falls back to an older call. clone3
// without CAP_SYS_ADMIN is ENOSYS too: its flags lie in memory, where a filter cannot look.
SeccompProfile DefaultSeccompProfile(const SeccompContext& context);

// True when the table of the default profile knows the call, whatever it says about it.
bool DefaultProfileKnows(std::string_view syscall);

inline constexpr size_t kMaxSeccompProfileBytes = 1 << 20;
inline constexpr size_t kMaxSeccompRules = 4096;
inline constexpr size_t kMaxSeccompNames = 65536;  // over all rules

// A Localhost profile in the runtime-spec's form or in Docker's, whose archMap, includes and excludes are
// resolved with `context`. InvalidArgument names the member that is wrong. Calls that libseccomp here does
// not know are kept (the OCI runtime leaves them out) and named in `warnings`.
absl::StatusOr<SeccompProfile> ParseSeccompProfile(std::string_view json, const SeccompContext& context,
                                                   std::vector<std::string>* warnings);

// Names in `profile` that libseccomp resolves on no architecture; sorted, unique.
std::vector<std::string> UnknownSyscalls(const SeccompProfile& profile);

}  // namespace keelson::oci
