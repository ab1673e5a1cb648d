// Pure judgements about pods that several controllers share.
#pragma once

#include <absl/time/time.h>

#include <memory>
#include <optional>
#include <vector>

#include "api/core/v1/pod.pb.h"
#include "api/core/v1/pod_template.pb.h"

namespace keelson::master {

using PodPtr = std::shared_ptr<const ::k8s::core::v1::Pod>;

// Not Succeeded, not Failed, not being deleted.
bool IsPodActive(const ::k8s::core::v1::Pod& pod);
const ::k8s::core::v1::PodCondition* FindPodCondition(const ::k8s::core::v1::Pod& pod, std::string_view type);
bool IsPodReady(const ::k8s::core::v1::Pod& pod);
// Ready for at least `min_ready`. When it is ready but not for long enough, `*again` (may be null) gets the
// remaining time if that is sooner than what it holds.
bool IsPodAvailable(const ::k8s::core::v1::Pod& pod, absl::Duration min_ready, absl::Time now,
                    std::optional<absl::Duration>* again);

// Sorted so that the pods to delete first stand first: unassigned, then Pending, then not ready, lower
// deletion cost, more crowded node, ready for a shorter time, more restarts, younger (upstream's
// ActivePodsWithRanks).
void SortForDeletion(std::vector<PodPtr>* pods);

}  // namespace keelson::master
