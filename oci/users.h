// Who a container's process runs as: the user of the CRI or the image, resolved by the image's own
// /etc/passwd and /etc/group, which are opened inside its root only. Pure parsers; untrusted input.
#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace keelson::oci {

struct ProcessUser {
  uint32_t uid = 0, gid = 0;
  std::vector<uint32_t> additional_gids;  // sorted, unique; always contains gid (CVE-2022-2989)
  std::string home = "/";                 // of the passwd entry
  std::string username;                   // "" when the uid has no entry
};

enum class SupplementalGroupsPolicy { kMerge, kStrict };  // KEP-3619

struct UserRequest {
  std::optional<int64_t> run_as_user;  // CRI: first choice
  std::string run_as_username;         // CRI: second
  std::string image_user;              // ImageConfig.user: last
  std::optional<int64_t> run_as_group;
  std::vector<int64_t> supplemental_groups;
  SupplementalGroupsPolicy policy = SupplementalGroupsPolicy::kMerge;
};

struct PasswdEntry {
  std::string name, home;
  uint32_t uid = 0, gid = 0;
};
struct GroupEntry {
  std::string name;
  uint32_t gid = 0;
  std::vector<std::string> members;
};
inline constexpr size_t kMaxPasswdBytes = 4 << 20;
// Malformed lines are skipped, as libc does.
std::vector<PasswdEntry> ParsePasswd(std::string_view text);
std::vector<GroupEntry> ParseGroup(std::string_view text);

// Pure. InvalidArgument: a name without an entry, a group without a user, a number out of range.
absl::StatusOr<ProcessUser> ResolveUser(const UserRequest& request, std::string_view passwd,
                                        std::string_view group);
// Reads etc/passwd and etc/group below the directory `rootfs_fd` (RESOLVE_IN_ROOT; regular files only);
// missing is empty.
absl::StatusOr<ProcessUser> ResolveUserIn(const UserRequest& request, int rootfs_fd);

}  // namespace keelson::oci
