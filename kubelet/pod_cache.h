// PodCache: the newest RuntimePodStatus of each pod, with a way to wait for one newer than a moment. Filled
// by the PLEG. Moments are marks of a counter, not times: two things at one clock tick still have an order.
#pragma once

#include <absl/container/flat_hash_map.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/task.h"
#include "kubelet/types.h"

namespace keelson::kubelet {

class PodCache {
 public:
  // A new mark, later than all before.
  uint64_t Mark() { return ++counter_; }

  // The last known status; an empty one for an unknown pod.
  absl::StatusOr<RuntimePodStatusPtr> Get(const std::string& uid) const;
  // Waits until what is known of the pod was asked of the runtime after `mark`. A pod the runtime does not
  // have is an empty status, known as soon as a full relist began after `mark`.
  Task<absl::StatusOr<RuntimePodStatusPtr>> GetNewerThan(std::string uid, uint64_t mark);

  // `mark` was taken before the runtime was asked. Older than what is there: ignored.
  void Set(const std::string& uid, absl::StatusOr<RuntimePodStatusPtr> status, uint64_t mark);
  void Delete(const std::string& uid, uint64_t mark);
  // Everything not Set since is unchanged as of `mark`.
  void SetGlobal(uint64_t mark);
  std::vector<std::string> Uids() const;

 private:
  struct Entry {
    absl::StatusOr<RuntimePodStatusPtr> status;
    uint64_t mark = 0;
  };
  bool Known(const std::string& uid, uint64_t mark) const;

  uint64_t counter_ = 0;
  uint64_t global_ = 0;
  std::map<std::string, Entry> entries_;
  WaitList changed_;
};

}  // namespace keelson::kubelet
