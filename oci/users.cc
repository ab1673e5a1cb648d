#include "oci/users.h"

#include <absl/strings/match.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_split.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>

#include "base/fd.h"
#include "base/status.h"

namespace keelson::oci {
namespace {

// (uid_t)-1 means "leave as it is" to the kernel; it is nobody's number.
constexpr int64_t kMaxId = 0xfffffffeLL;
constexpr uint32_t kRootId = 0;

std::optional<uint32_t> ParseId(std::string_view text) {
  if (text.empty() || text.size() > 10) return std::nullopt;
  uint64_t value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    value = value * 10 + static_cast<uint64_t>(c - '0');
  }
  if (value > static_cast<uint64_t>(kMaxId)) return std::nullopt;
  return static_cast<uint32_t>(value);
}

bool AllDigits(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

// Calls fn(fields) for each line with at least `min_fields` fields. Lines of NIS ("+", "-") and comments are
// no entries.
template <class Fn>
void ForEachEntry(std::string_view text, size_t min_fields, Fn fn) {
  while (!text.empty()) {
    const size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    if (line.empty() || line.front() == '#' || line.front() == '+' || line.front() == '-') continue;
    const std::vector<absl::string_view> fields = absl::StrSplit(Av(line), ':');
    if (fields.size() < min_fields || fields[0].empty()) continue;
    fn(fields);
  }
}

const PasswdEntry* FindByUid(const std::vector<PasswdEntry>& entries, uint32_t uid) {
  auto it = std::find_if(entries.begin(), entries.end(), [&](const PasswdEntry& e) { return e.uid == uid; });
  return it == entries.end() ? nullptr : &*it;
}

const PasswdEntry* FindByName(const std::vector<PasswdEntry>& entries, std::string_view name) {
  auto it =
      std::find_if(entries.begin(), entries.end(), [&](const PasswdEntry& e) { return e.name == name; });
  return it == entries.end() ? nullptr : &*it;
}

// The request's user and group as texts, a number or a name each, with where they came from for messages.
struct Wanted {
  std::string user, group;  // group "" : the user's own
  std::string field;
};

absl::Status CheckRange(int64_t id, std::string_view field) {
  if (id >= 0 && id <= kMaxId) return absl::OkStatus();
  return absl::InvalidArgumentError(StrCat(field, ": ", id, " is out of range 0..", kMaxId));
}

absl::StatusOr<Wanted> WantedOf(const UserRequest& request) {
  Wanted wanted;
  if (request.run_as_user.has_value()) {
    RETURN_IF_ERROR(CheckRange(*request.run_as_user, "security_context.run_as_user"));
    wanted = {std::to_string(*request.run_as_user), "", "security_context.run_as_user"};
  } else if (!request.run_as_username.empty()) {
    if (request.run_as_username.find(':') != std::string::npos) {
      return absl::InvalidArgumentError(
          StrCat("security_context.run_as_username: \"", request.run_as_username, "\" contains a colon"));
    }
    wanted = {request.run_as_username, "", "security_context.run_as_username"};
  }
  if (request.run_as_group.has_value()) {
    if (wanted.user.empty()) {
      return absl::InvalidArgumentError(
          StrCat("security_context.run_as_group: group ", *request.run_as_group, " without a user"));
    }
    RETURN_IF_ERROR(CheckRange(*request.run_as_group, "security_context.run_as_group"));
    wanted.group = std::to_string(*request.run_as_group);
  }
  if (wanted.user.empty()) {
    const std::string_view image_user = request.image_user;
    const size_t colon = image_user.find(':');
    wanted.user = image_user.substr(0, colon);
    if (colon != std::string_view::npos) wanted.group = image_user.substr(colon + 1);
    if (wanted.user.empty()) wanted.user = "0";
    wanted.field = "the image's user";
  }
  return wanted;
}

absl::Status ResolvePrimary(const Wanted& wanted, const std::vector<PasswdEntry>& passwd, ProcessUser* user) {
  const PasswdEntry* entry = nullptr;
  if (AllDigits(wanted.user)) {
    const std::optional<uint32_t> uid = ParseId(wanted.user);
    if (!uid.has_value()) {
      return absl::InvalidArgumentError(StrCat(wanted.field, ": uid ", wanted.user, " is out of range"));
    }
    user->uid = *uid;
    entry = FindByUid(passwd, *uid);
  } else {
    entry = FindByName(passwd, wanted.user);
    if (entry == nullptr) {
      return absl::InvalidArgumentError(
          StrCat(wanted.field, ": no user \"", wanted.user, "\" in the image's /etc/passwd"));
    }
    user->uid = entry->uid;
  }
  user->gid = kRootId;
  if (entry != nullptr) {
    user->gid = entry->gid;
    user->username = entry->name;
    if (absl::StartsWith(entry->home, "/")) user->home = entry->home;
  }
  return absl::OkStatus();
}

absl::Status ResolveGroup(const Wanted& wanted, const std::vector<GroupEntry>& groups, ProcessUser* user) {
  if (wanted.group.empty()) return absl::OkStatus();
  if (AllDigits(wanted.group)) {
    const std::optional<uint32_t> gid = ParseId(wanted.group);
    if (!gid.has_value()) {
      return absl::InvalidArgumentError(StrCat(wanted.field, ": gid ", wanted.group, " is out of range"));
    }
    user->gid = *gid;
    return absl::OkStatus();
  }
  for (const GroupEntry& entry : groups) {
    if (entry.name != wanted.group) continue;
    user->gid = entry.gid;
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      StrCat(wanted.field, ": no group \"", wanted.group, "\" in the image's /etc/group"));
}

// Text of a regular file below the root, "" when there is none. Looked at before it is opened: an image may
// put a device or a FIFO there.
absl::StatusOr<std::string> ReadInRoot(int rootfs_fd, const std::string& path) {
  absl::StatusOr<Fd> place = OpenInRoot(rootfs_fd, path, O_PATH);
  if (absl::IsNotFound(place.status())) return std::string();
  if (!place.ok()) return Annotate(place.status(), StrCat("open ", path, " of the image"));
  struct stat st = {};
  if (fstat(place->get(), &st) != 0) return ErrnoStatus(errno, StrCat("stat ", path, " of the image"));
  if (!S_ISREG(st.st_mode)) {
    return absl::InvalidArgumentError(StrCat(path, " of the image is not a regular file"));
  }
  ASSIGN_OR_RETURN(Fd file, OpenFile(StrCat("/proc/self/fd/", place->get()), O_RDONLY | O_NONBLOCK));
  absl::StatusOr<std::string> text = ReadFd(file.get(), kMaxPasswdBytes);
  if (!text.ok()) return Annotate(text.status(), StrCat("read ", path, " of the image"));
  return text;
}

}  // namespace

std::vector<PasswdEntry> ParsePasswd(std::string_view text) {
  std::vector<PasswdEntry> entries;
  // name:password:uid:gid:gecos:home:shell
  ForEachEntry(text, 4, [&](const std::vector<absl::string_view>& fields) {
    const std::optional<uint32_t> uid = ParseId(Sv(fields[2])), gid = ParseId(Sv(fields[3]));
    if (!uid.has_value() || !gid.has_value()) return;
    std::string home = fields.size() > 5 ? std::string(fields[5]) : std::string();
    entries.push_back({std::string(fields[0]), std::move(home), *uid, *gid});
  });
  return entries;
}

std::vector<GroupEntry> ParseGroup(std::string_view text) {
  std::vector<GroupEntry> entries;
  // name:password:gid:member,member
  ForEachEntry(text, 3, [&](const std::vector<absl::string_view>& fields) {
    const std::optional<uint32_t> gid = ParseId(Sv(fields[2]));
    if (!gid.has_value()) return;
    GroupEntry entry{std::string(fields[0]), *gid, {}};
    if (fields.size() > 3) entry.members = absl::StrSplit(fields[3], ',', absl::SkipEmpty());
    entries.push_back(std::move(entry));
  });
  return entries;
}

absl::StatusOr<ProcessUser> ResolveUser(const UserRequest& request, std::string_view passwd,
                                        std::string_view group) {
  ASSIGN_OR_RETURN(const Wanted wanted, WantedOf(request));
  const std::vector<GroupEntry> groups = ParseGroup(group);
  ProcessUser user;
  RETURN_IF_ERROR(ResolvePrimary(wanted, ParsePasswd(passwd), &user));
  RETURN_IF_ERROR(ResolveGroup(wanted, groups, &user));

  // The primary group is always among the additional ones: a process that gave up its primary group could
  // otherwise get past a file that denies just this group (CVE-2022-2989 and its kin).
  user.additional_gids.push_back(user.gid);
  for (const int64_t gid : request.supplemental_groups) {
    RETURN_IF_ERROR(CheckRange(gid, "security_context.supplemental_groups"));
    user.additional_gids.push_back(static_cast<uint32_t>(gid));
  }
  if (request.policy == SupplementalGroupsPolicy::kMerge && !user.username.empty()) {
    for (const GroupEntry& entry : groups) {
      if (std::find(entry.members.begin(), entry.members.end(), user.username) != entry.members.end()) {
        user.additional_gids.push_back(entry.gid);
      }
    }
  }
  std::sort(user.additional_gids.begin(), user.additional_gids.end());
  user.additional_gids.erase(std::unique(user.additional_gids.begin(), user.additional_gids.end()),
                             user.additional_gids.end());
  return user;
}

absl::StatusOr<ProcessUser> ResolveUserIn(const UserRequest& request, int rootfs_fd) {
  ASSIGN_OR_RETURN(const std::string passwd, ReadInRoot(rootfs_fd, "etc/passwd"));
  ASSIGN_OR_RETURN(const std::string group, ReadInRoot(rootfs_fd, "etc/group"));
  return ResolveUser(request, passwd, group);
}

}  // namespace keelson::oci
