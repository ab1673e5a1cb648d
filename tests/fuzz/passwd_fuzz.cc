// /etc/passwd and /etc/group of an image, split at the first NUL; the image's user is the first line. Any
// bytes: an error, or a user whose primary group is among its groups and whose name is an entry.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "oci/users.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace keelson::oci;
  std::string_view text(reinterpret_cast<const char*>(data), size);
  UserRequest request;
  const size_t line = std::min(text.find('\n'), text.size());
  request.image_user = std::string(text.substr(0, line));
  text.remove_prefix(line);
  const size_t nul = std::min(text.find('\0'), text.size());
  const std::string_view passwd = text.substr(0, nul), group = text.substr(nul);
  for (const auto policy : {SupplementalGroupsPolicy::kMerge, SupplementalGroupsPolicy::kStrict}) {
    request.policy = policy;
    absl::StatusOr<ProcessUser> user = ResolveUser(request, passwd, group);
    if (!user.ok()) continue;
    const auto& gids = user->additional_gids;
    if (!std::binary_search(gids.begin(), gids.end(), user->gid)) abort();
    if (std::adjacent_find(gids.begin(), gids.end()) != gids.end()) abort();
    if (policy == SupplementalGroupsPolicy::kStrict && gids.size() != 1) abort();
    if (user->home.empty() || user->home[0] != '/') abort();
    if (user->uid == 0xffffffff || user->gid == 0xffffffff) abort();
  }
  for (const PasswdEntry& entry : ParsePasswd(text)) {
    if (entry.name.empty() || entry.name.find(':') != std::string::npos) abort();
  }
  for (const GroupEntry& entry : ParseGroup(text)) {
    if (entry.name.empty()) abort();
  }
  return 0;
}
