// UserNamespaces: the range of the node's IDs each pod with hostUsers: false lives in (KEP-127). Ranges of
// two pods never meet; each is kept in the pod's folder, in upstream's form (file "userns"), so that a pod
// keeps its own over restarts of the kubelet. On the loop.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "cri/proto/runtime/v1/api.pb.h"
#include "kubelet/types.h"

namespace keelson::kubelet {

inline constexpr uint32_t kUserNamespaceIds = 65536;  // of one pod
inline constexpr uint64_t kAllIds = 1ull << 32;

struct IdRange {
  uint64_t first = 0, length = 0;
};

// What the kubelet may hand out: the one range of user "kubelet" in /etc/subuid and /etc/subgid where that
// user exists, else all IDs but the first 65536. InvalidArgument, in upstream's words: the range is not made
// of whole pods, or too short for `max_pods`. Pure: texts of the three files.
absl::StatusOr<IdRange> UserNamespaceIdRange(std::string_view passwd, std::string_view subuid,
                                             std::string_view subgid, int32_t max_pods);

// The file of one pod: mappings of users and groups, one each and the same, that begin with root.
std::string RenderUserNamespaceFile(uint32_t first_id);
absl::StatusOr<uint32_t> ParseUserNamespaceFile(std::string_view json);

// Refusal of a pod with hostUsers: false by what the runtime says it can, in upstream's words.
absl::Status CheckRuntimeUserNamespaces(const criv1::StatusResponse& status, const std::string& handler);

class UserNamespaces {
 public:
  // `pods_dir`: <kubelet_dir>/pods. `host_root` has etc/passwd, etc/subuid and etc/subgid.
  UserNamespaces(std::string pods_dir, std::string host_root, int32_t max_pods);

  static bool Wanted(const corev1::Pod& pod);
  // The pod's range, taken now if it has none. Nothing else may be in its place: the file is on the disk
  // before this returns. ResourceExhausted: every range is taken.
  absl::StatusOr<criv1::UserNamespace> Get(const std::string& uid);
  // Of a pod whose containers are gone. Unknown is success.
  void Release(const std::string& uid);

 private:
  // At the first use: ranges of the pods on the disk. What is broken is an error of the pod it belongs to.
  absl::Status Load();
  absl::StatusOr<std::optional<uint32_t>> Read(const std::string& uid) const;
  absl::Status Record(const std::string& uid, uint32_t first_id);
  std::string FileOf(const std::string& uid) const;

  const std::string pods_dir_, host_root_;
  const int32_t max_pods_;
  bool loaded_ = false;
  IdRange range_;
  uint64_t next_ = 0;                      // where to look first: a freed range is used again late
  std::map<uint32_t, std::string> by_id_;  // first ID -> UID
  std::map<std::string, uint32_t> by_pod_;
};

}  // namespace keelson::kubelet
