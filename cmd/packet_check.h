// Real packets: two network namespaces are hung on this host as the ptp plugin hangs a pod, and one TCP
// connection is tried on each way a pod needs. Nothing of it is left afterwards, nor when the process is
// killed: the namespaces have no name, and their links go with them (but for an nft table keelson_check_PID,
// whose rules match one source port each).
#pragma once

#include <vector>

#include "cmd/check.h"
#include "cmd/cluster_layout.h"

namespace keelson {

// One finding for each way: open, or closed with the firewall that closes it. Takes milliseconds when all are
// open, kPacketWait otherwise. What keeps the test itself from being made is a warning. Needs root, `nft` and
// the CNI plugins.
std::vector<Finding> CheckPackets(const ClusterLayout& layout);

}  // namespace keelson
