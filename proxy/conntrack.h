// Removes connection tracking entries that lead nowhere: a UDP client keeps one flow alive by sending, so the
// rules never see it again, and its packets go on to an endpoint that is gone.
#pragma once

#include <absl/status/statusor.h>

#include <cstddef>
#include <vector>

#include "proxy/service_map.h"

namespace keelson::proxy {

// Dumps the calling thread's namespace's IPv4 table and deletes the UDP flows named. Blocking: run it in the
// pool. Returns how many were deleted. PermissionDenied without CAP_NET_ADMIN.
absl::StatusOr<size_t> DeleteStaleFlows(const std::vector<StaleFlow>& flows);

}  // namespace keelson::proxy
