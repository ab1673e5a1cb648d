// Writes the EndpointSlices that are wanted over those that are there. The controllers of slices share it.
#pragma once

#include <absl/status/statusor.h>

#include <memory>
#include <vector>

#include "api/discovery/v1/discovery.pb.h"
#include "base/task.h"
#include "client/api_client.h"

namespace keelson::master {

// Which of a slice's metadata is its controller's; of the rest a slice keeps what it has.
enum class SliceMetadata { kLabels, kLabelsAnnotationsAndOwners };

// Makes `wanted` of `existing`: a slice of the same family and ports is taken over, else one of that family
// that fits nothing that is wanted; what is missing is made, what is left is deleted. True: a slice was made
// or changed. `client` must outlive the task.
Task<absl::StatusOr<bool>> WriteSlices(
    client::ApiClient* client,
    std::vector<std::shared_ptr<const ::k8s::discovery::v1::EndpointSlice>> existing,
    std::vector<::k8s::discovery::v1::EndpointSlice> wanted, SliceMetadata metadata);

}  // namespace keelson::master
