// A seccomp profile of the administrator: an error, or a profile within its bounds that is the same when its
// conditions are resolved once more.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "oci/seccomp.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace keelson::oci;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const SeccompContext context{{"CAP_SYS_CHROOT", "CAP_SYS_ADMIN"}, "amd64", 6, 1};
  std::vector<std::string> warnings;
  absl::StatusOr<SeccompProfile> profile = ParseSeccompProfile(text, context, &warnings);
  if (!profile.ok()) return 0;
  if (profile->rules.size() > kMaxSeccompRules) abort();
  for (const SeccompRule& rule : profile->rules) {
    if (rule.names.empty() || rule.action.empty() || rule.args.size() > 6) abort();
    for (const SeccompArg& arg : rule.args) {
      if (arg.index > 5 || arg.op.empty()) abort();
    }
  }
  RuntimeSpec spec;
  spec.seccomp = *profile;
  if (RenderSpec(spec).empty()) abort();
  return 0;
}
