// Which pods stand behind a Service, and on which ports. Pure; the Endpoints and EndpointSlice controllers
// share it.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "api/core/v1/endpoints.pb.h"
#include "api/core/v1/service.pb.h"
#include "api/discovery/v1/discovery.pb.h"
#include "api/object.h"
#include "master/controllers/pod_ranking.h"

namespace keelson::master {

struct ServiceEndpoint {
  std::string ip;
  std::string node_name, hostname;
  std::string pod_namespace, pod_name, pod_uid;
  bool ready = false;    // gets traffic
  bool serving = false;  // its readiness, deletion aside
  bool terminating = false;
};

// One Service port as the pods of a group serve it.
struct ResolvedPort {
  std::string name, protocol, app_protocol;
  int32_t port = 0;
  auto operator<=>(const ResolvedPort&) const = default;
};

// Pods that resolve every named port to the same numbers. An empty list of ports stands for a headless
// Service without ports.
using EndpointGroups = std::map<std::vector<ResolvedPort>, std::vector<ServiceEndpoint>>;

// `pods`: those of the Service's namespace that match its selector. Pods without an address or in a final
// phase are left out, and a named target port a pod does not have is left out of that pod's group.
EndpointGroups CollectEndpoints(const ::k8s::core::v1::Service& service, const std::vector<PodPtr>& pods);

inline constexpr char kServiceNameLabel[] = "kubernetes.io/service-name";
inline constexpr char kSliceManagedByLabel[] = "endpointslice.kubernetes.io/managed-by";
inline constexpr char kSliceManagedBy[] =
    "endpointslice-controller.k8s.io";  // those of Services with a selector
// "namespace/name" of the Service a slice is for; "" for a slice that somebody else than `manager` manages.
std::string ServiceOfSlice(const api::Message& slice, std::string_view manager);
void AddPorts(const std::vector<ResolvedPort>& ports, ::k8s::discovery::v1::EndpointSlice* slice);

// At most this many endpoints in one EndpointSlice (upstream's default).
inline constexpr size_t kMaxEndpointsPerSlice = 100;
// The slices a Service should have: without name and resourceVersion, at least one.
std::vector<::k8s::discovery::v1::EndpointSlice> DesiredSlices(const ::k8s::core::v1::Service& service,
                                                               const EndpointGroups& groups);
// Label and value that tell Endpoints made by a controller from those a user has written.
inline constexpr char kEndpointsManagedByLabel[] = "endpoints.kubernetes.io/managed-by";
inline constexpr char kEndpointsManagedBy[] = "endpoint-controller";
// The Endpoints object a Service should have.
::k8s::core::v1::Endpoints DesiredEndpoints(const ::k8s::core::v1::Service& service,
                                            const EndpointGroups& groups);

}  // namespace keelson::master
