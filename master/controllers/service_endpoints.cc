#include "master/controllers/service_endpoints.h"

#include <algorithm>

#include "api/int_or_string.h"
#include "base/strings.h"

namespace keelson::master {

namespace corev1 = ::k8s::core::v1;
namespace discoveryv1 = ::k8s::discovery::v1;

namespace {

constexpr char kHeadlessLabel[] = "service.kubernetes.io/headless";

// 0: the pod has no such port.
int32_t TargetPort(const corev1::ServicePort& port, const corev1::Pod& pod) {
  const auto& target = port.target_port();
  if (api::IsInt(target)) return target.int_val() != 0 ? target.int_val() : port.port();
  auto find = [&](const auto& containers) -> int32_t {
    for (const auto& container : containers) {
      for (const auto& candidate : container.ports()) {
        if (candidate.name() == target.str_val() && candidate.protocol() == port.protocol())
          return candidate.container_port();
      }
    }
    return 0;
  };
  int32_t number = find(pod.spec().containers());
  return number != 0 ? number : find(pod.spec().init_containers());
}

void SetPodReference(const ServiceEndpoint& endpoint, corev1::ObjectReference* reference) {
  reference->set_kind("Pod");
  reference->set_namespace_(endpoint.pod_namespace);
  reference->set_name(endpoint.pod_name);
  reference->set_uid(endpoint.pod_uid);
}

void CopyLabels(const corev1::Service& service, google::protobuf::Map<std::string, std::string>* labels) {
  for (const auto& [key, value] : service.metadata().labels()) {
    if (key != kServiceNameLabel && key != kSliceManagedByLabel && key != kHeadlessLabel)
      (*labels)[key] = value;
  }
  if (service.spec().cluster_ip() == "None") (*labels)[kHeadlessLabel] = "";
}

}  // namespace

EndpointGroups CollectEndpoints(const corev1::Service& service, const std::vector<PodPtr>& pods) {
  EndpointGroups groups;
  for (const PodPtr& pod : pods) {
    if (pod->status().pod_ip().empty()) continue;
    if (pod->status().phase() == "Succeeded" || pod->status().phase() == "Failed") continue;
    ServiceEndpoint endpoint;
    endpoint.ip = pod->status().pod_ip();
    endpoint.node_name = pod->spec().node_name();
    endpoint.pod_namespace = pod->metadata().namespace_();
    endpoint.pod_name = pod->metadata().name();
    endpoint.pod_uid = pod->metadata().uid();
    endpoint.serving = IsPodReady(*pod);
    endpoint.terminating = pod->metadata().has_deletion_timestamp();
    endpoint.ready =
        service.spec().publish_not_ready_addresses() || (endpoint.serving && !endpoint.terminating);
    if (!pod->spec().hostname().empty() && pod->spec().subdomain() == service.metadata().name()) {
      endpoint.hostname = pod->spec().hostname();
    }
    std::vector<ResolvedPort> ports;
    for (const auto& port : service.spec().ports()) {
      int32_t number = TargetPort(port, *pod);
      if (number != 0) ports.push_back({port.name(), port.protocol(), port.app_protocol(), number});
    }
    if (ports.empty() && !service.spec().ports().empty()) continue;
    groups[ports].push_back(std::move(endpoint));
  }
  for (auto& [ports, endpoints] : groups) {
    std::sort(endpoints.begin(), endpoints.end(),
              [](const ServiceEndpoint& a, const ServiceEndpoint& b) { return a.pod_name < b.pod_name; });
  }
  return groups;
}

std::string ServiceOfSlice(const api::Message& slice, std::string_view manager) {
  const auto& labels = api::Meta(slice).labels();
  auto managed = labels.find(kSliceManagedByLabel);
  auto service = labels.find(kServiceNameLabel);
  if (managed == labels.end() || managed->second != manager || service == labels.end()) return "";
  return StrCat(api::Meta(slice).namespace_(), "/", service->second);
}

void AddPorts(const std::vector<ResolvedPort>& ports, discoveryv1::EndpointSlice* slice) {
  for (const ResolvedPort& port : ports) {
    auto* out = slice->add_ports();
    out->set_name(port.name);
    out->set_protocol(port.protocol);
    out->set_port(port.port);
    if (!port.app_protocol.empty()) out->set_app_protocol(port.app_protocol);
  }
}

std::vector<discoveryv1::EndpointSlice> DesiredSlices(const corev1::Service& service,
                                                      const EndpointGroups& groups) {
  discoveryv1::EndpointSlice base;
  auto* meta = base.mutable_metadata();
  meta->set_namespace_(service.metadata().namespace_());
  meta->set_generate_name(service.metadata().name() + "-");
  CopyLabels(service, meta->mutable_labels());
  (*meta->mutable_labels())[kServiceNameLabel] = service.metadata().name();
  (*meta->mutable_labels())[kSliceManagedByLabel] = kSliceManagedBy;
  auto* owner = meta->add_owner_references();
  owner->set_api_version("v1");
  owner->set_kind("Service");
  owner->set_name(service.metadata().name());
  owner->set_uid(service.metadata().uid());
  owner->set_controller(true);
  owner->set_block_owner_deletion(true);
  base.set_address_type("IPv4");

  std::vector<discoveryv1::EndpointSlice> slices;
  for (const auto& [ports, endpoints] : groups) {
    for (size_t start = 0; start < endpoints.size(); start += kMaxEndpointsPerSlice) {
      discoveryv1::EndpointSlice& slice = slices.emplace_back(base);
      AddPorts(ports, &slice);
      size_t end = std::min(endpoints.size(), start + kMaxEndpointsPerSlice);
      for (size_t i = start; i < end; ++i) {
        const ServiceEndpoint& endpoint = endpoints[i];
        auto* out = slice.add_endpoints();
        out->add_addresses(endpoint.ip);
        out->mutable_conditions()->set_ready(endpoint.ready);
        out->mutable_conditions()->set_serving(endpoint.serving);
        out->mutable_conditions()->set_terminating(endpoint.terminating);
        if (!endpoint.node_name.empty()) out->set_node_name(endpoint.node_name);
        if (!endpoint.hostname.empty()) out->set_hostname(endpoint.hostname);
        SetPodReference(endpoint, out->mutable_target_ref());
      }
    }
  }
  if (slices.empty()) slices.push_back(base);  // says "known, nobody there"
  return slices;
}

corev1::Endpoints DesiredEndpoints(const corev1::Service& service, const EndpointGroups& groups) {
  corev1::Endpoints endpoints;
  auto* meta = endpoints.mutable_metadata();
  meta->set_namespace_(service.metadata().namespace_());
  meta->set_name(service.metadata().name());
  CopyLabels(service, meta->mutable_labels());
  (*meta->mutable_labels())[kEndpointsManagedByLabel] = kEndpointsManagedBy;
  for (const auto& [ports, members] : groups) {
    corev1::EndpointSubset subset;
    for (const ServiceEndpoint& member : members) {
      if (member.terminating && !member.ready) continue;
      auto* address = member.ready ? subset.add_addresses() : subset.add_not_ready_addresses();
      address->set_ip(member.ip);
      if (!member.node_name.empty()) address->set_node_name(member.node_name);
      address->set_hostname(member.hostname);
      SetPodReference(member, address->mutable_target_ref());
    }
    if (subset.addresses().empty() && subset.not_ready_addresses().empty()) continue;
    for (const ResolvedPort& port : ports) {
      auto* out = subset.add_ports();
      out->set_name(port.name);
      out->set_port(port.port);
      out->set_protocol(port.protocol);
      if (!port.app_protocol.empty()) out->set_app_protocol(port.app_protocol);
    }
    *endpoints.add_subsets() = std::move(subset);
  }
  return endpoints;
}

}  // namespace keelson::master
