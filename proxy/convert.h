// API objects -> what the proxy keeps of them. Pure.
#pragma once

#include "proxy/service_map.h"

namespace k8s::core::v1 {
class Service;
}
namespace k8s::discovery::v1 {
class EndpointSlice;
}

namespace keelson::proxy {

ServiceInfo ServiceInfoOf(const ::k8s::core::v1::Service& service);
SliceInfo SliceInfoOf(const ::k8s::discovery::v1::EndpointSlice& slice);

// False for objects another implementation serves (label service.kubernetes.io/service-proxy-name).
bool IsOurs(const ::k8s::core::v1::Service& service);

}  // namespace keelson::proxy
