// Removes connection tracking entries that lead nowhere: a UDP client keeps one flow alive by sending, so the
// rules never see it again, and its packets go on to an endpoint that is gone.
#pragma once

#include <absl/status/statusor.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "net/address.h"

namespace keelson::net {

// One kind of UDP flow (IPv4) to forget.
struct StaleFlow {
  IpAddress vip;       // original destination; unspecified: any (a node port)
  uint16_t port = 0;   // original destination port
  IpAddress endpoint;  // where it was sent to; unspecified: nowhere, there was no endpoint before
  friend bool operator==(const StaleFlow&, const StaleFlow&) = default;
};

// Dumps the calling thread's namespace's IPv4 table and deletes the UDP flows named. Blocking: run it in the
// pool. Returns how many were deleted. PermissionDenied without CAP_NET_ADMIN.
absl::StatusOr<size_t> DeleteStaleFlows(const std::vector<StaleFlow>& flows);

}  // namespace keelson::net
