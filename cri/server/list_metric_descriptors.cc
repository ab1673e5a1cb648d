#include <iterator>

#include "cri/server/metrics.h"
#include "cri/server/runtime_server.h"

namespace keelson::cri {

Task<absl::StatusOr<v1::ListMetricDescriptorsResponse>> RuntimeServer::ListMetricDescriptors(
    v1::ListMetricDescriptorsRequest request) {
  const cgroups::Layout& layout = deps_.cgroups->layout();
  MetricFeatures features;
  features.pressure = layout.mode == cgroups::Mode::kV2;
  features.hugetlb = layout.mode == cgroups::Mode::kV2 || layout.v1_mounts.contains("hugetlb");
  std::vector<v1::MetricDescriptor> descriptors = MetricDescriptors(features);
  v1::ListMetricDescriptorsResponse response;
  MoveInto(std::move(descriptors), response.mutable_descriptors());
  co_return response;
}

}  // namespace keelson::cri
