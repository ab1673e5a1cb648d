// Which Linux capabilities a container's process has (capabilities(7), CRI Capability). Pure.
#pragma once

#include <absl/status/statusor.h>

#include <string>
#include <string_view>
#include <vector>

#include "cri/proto/runtime/v1/api.pb.h"
#include "oci/runtime_spec.h"

namespace keelson::oci {

// All that this code knows, by the kernel's number: "CAP_CHOWN" is 0.
const std::vector<std::string>& AllCapabilities();
// What a container has that asks for nothing: 14 names, as every other CRI runtime gives.
const std::vector<std::string>& DefaultCapabilities();
// Number of "CAP_CHOWN", "chown", "Cap_Chown"; -1 when there is none.
int CapabilityNumber(std::string_view name);

struct CapabilityRequest {
  ::runtime::v1::Capability change;
  bool privileged = false;             // all the host has; `change` does not count
  int last_capability = 40;            // of the kernel
  uint64_t host_capabilities = ~0ull;  // bit set of what may be handed out
};

// Order as in the other CRI runtimes: ALL of add, ALL of drop, names of add and of add_ambient, names of
// drop. Inheritable equals ambient, so it is empty unless ambient ones are asked for: what an exec'd program
// inherits is not more than what it was given (CVE-2022-24769). InvalidArgument: a name nobody knows;
// FailedPrecondition: one that the kernel lacks or the server itself may not hand out.
// `missing`: default capabilities the host does not have, left out; for a warning.
absl::StatusOr<CapabilitySets> ResolveCapabilities(const CapabilityRequest& request,
                                                   std::vector<std::string>* missing);

}  // namespace keelson::oci
