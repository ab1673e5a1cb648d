#include "kubelet/user_namespaces.h"

#include <absl/strings/match.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_split.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/fd.h"
#include "base/json_guard.h"
#include "base/log.h"
#include "base/status.h"

namespace keelson::kubelet {
namespace {

using Json = nlohmann::json;

constexpr absl::string_view kUser = "kubelet";
constexpr char kFileName[] = "userns";
constexpr size_t kMaxFileBytes = 4096, kMaxHostFileBytes = 4 << 20;
constexpr int kMaxDepth = 4;

bool HasUser(std::string_view passwd) {
  const std::vector<absl::string_view> lines = absl::StrSplit(Av(passwd), '\n');
  return std::any_of(lines.begin(), lines.end(), [](absl::string_view line) {
    return absl::StartsWith(line, kUser) && line.substr(kUser.size(), 1) == ":";
  });
}

absl::StatusOr<IdRange> SubordinateRange(std::string_view text, std::string_view file) {
  std::vector<IdRange> ranges;
  for (const absl::string_view line : absl::StrSplit(Av(text), '\n')) {
    const std::vector<absl::string_view> parts = absl::StrSplit(line, ':');
    if (parts[0] != kUser) continue;
    IdRange range;
    if (parts.size() != 3 || !absl::SimpleAtoi(parts[1], &range.first) ||
        !absl::SimpleAtoi(parts[2], &range.length) || range.first >= kAllIds ||
        range.length > kAllIds - range.first) {
      return absl::InvalidArgumentError(StrCat(file, ": \"", Sv(line), "\" is not USER:FIRST:COUNT"));
    }
    ranges.push_back(range);
  }
  if (ranges.size() != 1) {
    return absl::InvalidArgumentError(
        StrCat(file, ": user kubelet has ", ranges.size(), " ranges, want exactly one"));
  }
  return ranges[0];
}

absl::StatusOr<std::string> ReadOrEmpty(const std::string& path) {
  absl::StatusOr<std::string> text = ReadFile(path, kMaxHostFileBytes);
  return absl::IsNotFound(text.status()) ? "" : text;
}

absl::Status BadFile(std::string_view what) {
  return absl::DataLossError(StrCat("invalid user namespace mappings file: ", what));
}

// [{"hostId":F,"containerId":0,"length":65536}]
absl::StatusOr<uint32_t> FirstIdOf(const Json& json, const char* name) {
  auto list = json.find(name);
  if (list == json.end() || !list->is_array() || list->size() != 1 || !(*list)[0].is_object()) {
    return BadFile(StrCat(name, ": want one mapping"));
  }
  uint64_t values[3] = {};
  const char* fields[] = {"hostId", "containerId", "length"};
  for (int i = 0; i < 3; ++i) {
    auto field = (*list)[0].find(fields[i]);
    if (field == (*list)[0].end() || !field->is_number_unsigned()) {
      return BadFile(StrCat(name, ".", fields[i], ": want a number"));
    }
    values[i] = field->get<uint64_t>();
  }
  if (values[1] != 0) return BadFile(StrCat(name, ": ID 0 must be mapped"));
  if (values[2] != kUserNamespaceIds) return BadFile(StrCat("wrong user namespace length ", values[2]));
  if (values[0] % kUserNamespaceIds != 0 || values[0] == 0 || values[0] >= kAllIds) {
    return BadFile(StrCat("wrong user namespace offset specified ", values[0]));
  }
  return static_cast<uint32_t>(values[0]);
}

}  // namespace

absl::StatusOr<IdRange> UserNamespaceIdRange(std::string_view passwd, std::string_view subuid,
                                             std::string_view subgid, int32_t max_pods) {
  IdRange range{kUserNamespaceIds, kAllIds - kUserNamespaceIds};
  if (HasUser(passwd)) {
    ASSIGN_OR_RETURN(range, SubordinateRange(subuid, "/etc/subuid"));
    ASSIGN_OR_RETURN(const IdRange groups, SubordinateRange(subgid, "/etc/subgid"));
    if (groups.first != range.first || groups.length != range.length) {
      return absl::InvalidArgumentError("mismatched subuids and subgids for user \"kubelet\"");
    }
  }
  if (range.first % kUserNamespaceIds != 0) {
    return absl::InvalidArgumentError(
        StrCat("kubelet user assigned ID ", range.first, " is not a multiple of ", kUserNamespaceIds));
  }
  if (range.first < kUserNamespaceIds) {
    return absl::InvalidArgumentError(
        StrCat("kubelet user assigned ID ", range.first, " must be greater or equal to ", kUserNamespaceIds));
  }
  if (range.length % kUserNamespaceIds != 0) {
    return absl::InvalidArgumentError(StrCat("kubelet user assigned IDs length ", range.length,
                                             " is not a multiple of ", kUserNamespaceIds));
  }
  if (static_cast<int64_t>(range.length / kUserNamespaceIds) < max_pods) {
    return absl::InvalidArgumentError(
        StrCat("kubelet user assigned IDs are not enough to support ", max_pods, " pods"));
  }
  return range;
}

std::string RenderUserNamespaceFile(uint32_t first_id) {
  const std::string mapping =
      StrCat(R"([{"hostId":)", first_id, R"(,"containerId":0,"length":)", kUserNamespaceIds, "}]");
  return StrCat(R"({"uidMappings":)", mapping, R"(,"gidMappings":)", mapping, "}");
}

absl::StatusOr<uint32_t> ParseUserNamespaceFile(std::string_view text) {
  if (text.size() > kMaxFileBytes || JsonDeeperThan(text, kMaxDepth)) return BadFile("too large");
  const Json json = Json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return BadFile("no JSON object");
  ASSIGN_OR_RETURN(const uint32_t users, FirstIdOf(json, "uidMappings"));
  ASSIGN_OR_RETURN(const uint32_t groups, FirstIdOf(json, "gidMappings"));
  if (users != groups) return BadFile("GID and UID mapping should be identical");
  return users;
}

absl::Status CheckRuntimeUserNamespaces(const criv1::StatusResponse& status, const std::string& handler) {
  std::string text = "can't set `spec.hostUsers: false`, runtime does not support user namespaces";
  if (!handler.empty()) {
    text = StrCat("can't set `spec.hostUsers: false`, RuntimeClass handler \"", handler,
                  "\" does not support user namespaces");
  }
  if (status.runtime_handlers().empty()) {
    return absl::FailedPreconditionError(text + ": it tells nothing of its handlers");
  }
  for (const criv1::RuntimeHandler& known : status.runtime_handlers()) {
    if (known.name() != handler) continue;
    return known.features().user_namespaces() ? absl::OkStatus() : absl::FailedPreconditionError(text);
  }
  return absl::FailedPreconditionError(StrCat(text, ": the handler \"", handler, "\" is not known"));
}

UserNamespaces::UserNamespaces(std::string pods_dir, std::string host_root, int32_t max_pods)
    : pods_dir_(std::move(pods_dir)), host_root_(std::move(host_root)), max_pods_(max_pods) {}

bool UserNamespaces::Wanted(const corev1::Pod& pod) {
  return pod.spec().has_host_users() && !pod.spec().host_users();
}

std::string UserNamespaces::FileOf(const std::string& uid) const {
  return StrCat(pods_dir_, "/", uid, "/", kFileName);
}

absl::StatusOr<std::optional<uint32_t>> UserNamespaces::Read(const std::string& uid) const {
  absl::StatusOr<std::string> text = ReadFile(FileOf(uid), kMaxFileBytes);
  if (absl::IsNotFound(text.status())) return std::optional<uint32_t>();
  if (!text.ok()) return text.status();
  ASSIGN_OR_RETURN(const uint32_t first_id, ParseUserNamespaceFile(*text));
  return std::optional<uint32_t>(first_id);
}

absl::Status UserNamespaces::Record(const std::string& uid, uint32_t first_id) {
  if (first_id < range_.first || first_id - range_.first >= range_.length) {
    return absl::FailedPreconditionError(StrCat("id ", first_id, " is out of range"));
  }
  auto [place, fresh] = by_id_.try_emplace(first_id, uid);
  if (!fresh && place->second != uid) {
    return absl::FailedPreconditionError(StrCat("range picked for pod \"", uid, "\" already taken"));
  }
  by_pod_[uid] = first_id;
  return absl::OkStatus();
}

absl::Status UserNamespaces::Load() {
  if (loaded_) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::string passwd, ReadOrEmpty(host_root_ + "/etc/passwd"));
  ASSIGN_OR_RETURN(const std::string subuid, ReadOrEmpty(host_root_ + "/etc/subuid"));
  ASSIGN_OR_RETURN(const std::string subgid, ReadOrEmpty(host_root_ + "/etc/subgid"));
  ASSIGN_OR_RETURN(range_, UserNamespaceIdRange(passwd, subuid, subgid, max_pods_));
  next_ = range_.first;
  // A pod that is overlooked would share its range with another.
  absl::StatusOr<std::vector<std::string>> uids = FolderNames(pods_dir_);
  if (absl::IsNotFound(uids.status())) uids.emplace();
  RETURN_IF_ERROR(uids.status());
  for (const std::string& uid : *uids) {
    absl::StatusOr<std::optional<uint32_t>> known = Read(uid);
    absl::Status status = known.status();
    if (!status.ok() && !absl::IsDataLoss(status)) return status;
    if (status.ok() && known->has_value()) status = Record(uid, **known);
    if (!status.ok()) LogWarning("user namespace of a pod", {{"pod_uid", uid}, {"error", status}});
  }
  loaded_ = true;
  return absl::OkStatus();
}

absl::StatusOr<criv1::UserNamespace> UserNamespaces::Get(const std::string& uid) {
  RETURN_IF_ERROR(Annotate(Load(), "user namespaces"));
  auto known = by_pod_.find(uid);
  if (known == by_pod_.end()) {
    // A file that cannot be taken is not written over: containers may live in its range.
    ASSIGN_OR_RETURN(const std::optional<uint32_t> before, Read(uid));
    if (before.has_value()) RETURN_IF_ERROR(Record(uid, *before));
    known = by_pod_.find(uid);
  }
  if (known == by_pod_.end()) {
    const uint64_t ranges = range_.length / kUserNamespaceIds;
    uint64_t tried = 0;
    while (tried < ranges && by_id_.count(static_cast<uint32_t>(next_)) > 0) {
      next_ += kUserNamespaceIds;
      if (next_ >= range_.first + range_.length) next_ = range_.first;
      ++tried;
    }
    if (tried == ranges) {
      return absl::ResourceExhaustedError("could not find an empty slot to allocate a user namespace");
    }
    const auto first_id = static_cast<uint32_t>(next_);
    next_ += kUserNamespaceIds;
    if (next_ >= range_.first + range_.length) next_ = range_.first;
    RETURN_IF_ERROR(MakeDirs(StrCat(pods_dir_, "/", uid), 0750));
    RETURN_IF_ERROR(WriteFileAtomic(FileOf(uid), RenderUserNamespaceFile(first_id), 0600));
    RETURN_IF_ERROR(Record(uid, first_id));
    known = by_pod_.find(uid);
  }
  criv1::UserNamespace out;
  out.set_mode(criv1::POD);
  for (criv1::IDMapping* mapping : {out.add_uids(), out.add_gids()}) {
    mapping->set_host_id(known->second);
    mapping->set_container_id(0);
    mapping->set_length(kUserNamespaceIds);
  }
  return out;
}

void UserNamespaces::Release(const std::string& uid) {
  auto known = by_pod_.find(uid);
  if (known == by_pod_.end()) return;
  ::unlink(FileOf(uid).c_str());
  by_id_.erase(known->second);
  by_pod_.erase(known);
}

}  // namespace keelson::kubelet
