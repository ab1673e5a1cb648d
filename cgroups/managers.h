// Factories of the two managers; internal to cgroups/.
#pragma once

#include <absl/status/statusor.h>

#include <memory>

#include "cgroups/manager.h"

namespace keelson::cgroups {

absl::StatusOr<std::unique_ptr<Manager>> NewV1Manager(Layout layout, ManagerOptions options);
absl::StatusOr<std::unique_ptr<Manager>> NewV2Manager(Layout layout, ManagerOptions options);

}  // namespace keelson::cgroups
