// What a `keelson cri` holds of pods on the disk and in the kernel, as a list of words that can be compared
// with what its answers say there should be. For tests, in the namespaces of with_keelson_cri.
#pragma once

#include <absl/status/statusor.h>

#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/env.h"
#include "cri/runtime_service.h"
#include "cri/testing/live_server.h"

namespace keelson::cri {

// One word each, ID in full: "sandbox-record ID", "mount containers/ID/rootfs", "monitor ID", "process-of
// ID", "cgroup ID", "oci-state ID", "address ID", "veth 0", "host-port 21000", "rootfs ID", ... What fits no
// kind is listed as "stray ...".
struct KernelState {
  std::set<std::string> things;
};
Task<absl::StatusOr<KernelState>> LookAround(Env* env, LivePaths paths, int server_pid);

struct ExpectedState {
  std::set<std::string> must, may;
};
// By the answers alone. `host_ports`: of each sandbox, from 21000 up.
ExpectedState ExpectedOf(const std::vector<v1::PodSandboxStatus>& sandboxes,
                         const std::vector<v1::ContainerStatus>& containers,
                         const std::map<std::string, int>& host_ports);

// Lines "missing X" and "left X"; empty: all is as it should be.
std::vector<std::string> Difference(const ExpectedState& expected, const KernelState& actual);

}  // namespace keelson::cri
