// QoS class of a pod from its requests and limits (upstream pkg/apis/core/v1/helper/qos as facts).
#pragma once

#include <string_view>

#include "api/core/v1/pod.pb.h"

namespace keelson::master {

// "Guaranteed", "Burstable" or "BestEffort". Expects defaults to be set (requests follow limits).
std::string_view PodQosClass(const ::k8s::core::v1::PodSpec& spec);

}  // namespace keelson::master
