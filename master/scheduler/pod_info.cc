#include "master/scheduler/pod_info.h"

#include <algorithm>

#include "api/object.h"
#include "api/quantity.h"
#include "net/host_ip.h"

namespace keelson::master {

namespace corev1 = ::k8s::core::v1;

void ResourceAmounts::Add(const ResourceAmounts& other) {
  cpu_milli += other.cpu_milli;
  memory_bytes += other.memory_bytes;
  ephemeral_storage_bytes += other.ephemeral_storage_bytes;
  for (const auto& [name, amount] : other.extended) extended[name] += amount;
}

void ResourceAmounts::Sub(const ResourceAmounts& other) {
  cpu_milli -= other.cpu_milli;
  memory_bytes -= other.memory_bytes;
  ephemeral_storage_bytes -= other.ephemeral_storage_bytes;
  for (const auto& [name, amount] : other.extended) extended[name] -= amount;
}

void ResourceAmounts::Max(const ResourceAmounts& other) {
  cpu_milli = std::max(cpu_milli, other.cpu_milli);
  memory_bytes = std::max(memory_bytes, other.memory_bytes);
  ephemeral_storage_bytes = std::max(ephemeral_storage_bytes, other.ephemeral_storage_bytes);
  for (const auto& [name, amount] : other.extended) extended[name] = std::max(extended[name], amount);
}

ResourceAmounts AmountsOf(const QuantityMap& list) {
  ResourceAmounts out;
  for (const auto& [name, quantity] : list) {
    api::Quantity q = api::Quantity::Of(quantity);
    if (name == "cpu") {
      out.cpu_milli = q.MilliValue();
    } else if (name == "memory") {
      out.memory_bytes = q.Value();
    } else if (name == "ephemeral-storage") {
      out.ephemeral_storage_bytes = q.Value();
    } else if (name != "pods") {
      out.extended[name] = q.Value();
    }
  }
  return out;
}

namespace {

using Requests = ResourceAmounts (*)(const corev1::Container& container);

ResourceAmounts AsWritten(const corev1::Container& container) {
  return AmountsOf(container.resources().requests());
}

ResourceAmounts WithDefaults(const corev1::Container& container) {
  const QuantityMap& requests = container.resources().requests();
  ResourceAmounts out = AmountsOf(requests);
  if (!requests.contains("cpu")) out.cpu_milli = kDefaultCpuMilli;
  if (!requests.contains("memory")) out.memory_bytes = kDefaultMemoryBytes;
  return out;
}

ResourceAmounts Total(const corev1::PodSpec& spec, Requests requests) {
  ResourceAmounts running;
  for (const auto& container : spec.containers()) running.Add(requests(container));
  ResourceAmounts sidecars, initialising;
  for (const auto& container : spec.init_containers()) {
    ResourceAmounts step = requests(container);
    if (container.restart_policy() == "Always") {
      running.Add(step);
      sidecars.Add(step);
      step = sidecars;
    } else {
      step.Add(sidecars);
    }
    initialising.Max(step);
  }
  running.Max(initialising);
  const QuantityMap& pod_level = spec.resources().requests();
  if (!pod_level.empty()) {
    ResourceAmounts whole = AmountsOf(pod_level);
    if (pod_level.contains("cpu")) running.cpu_milli = whole.cpu_milli;
    if (pod_level.contains("memory")) running.memory_bytes = whole.memory_bytes;
    for (const auto& [name, amount] : whole.extended) running.extended[name] = amount;
  }
  running.Add(AmountsOf(spec.overhead()));
  return running;
}

}  // namespace

ResourceAmounts PodRequests(const corev1::PodSpec& spec) { return Total(spec, AsWritten); }

std::vector<HostPort> HostPortsOf(const corev1::PodSpec& spec) {
  std::vector<HostPort> out;
  auto collect = [&](const corev1::Container& container) {
    for (const auto& port : container.ports()) {
      int32_t host_port = port.host_port();
      if (host_port == 0 && spec.host_network()) host_port = port.container_port();
      if (host_port <= 0) continue;
      out.push_back({net::CanonicalHostIp(port.host_ip()), port.protocol().empty() ? "TCP" : port.protocol(),
                     host_port});
    }
  };
  for (const auto& container : spec.containers()) collect(container);
  for (const auto& container : spec.init_containers()) {
    if (container.restart_policy() == "Always") collect(container);
  }
  return out;
}

PodInfoPtr MakePodInfo(PodPtr pod) {
  auto info = std::make_shared<PodInfo>();
  info->key = api::NamespacedName(*pod);
  if (const auto* owner = api::ControllerOf(*pod)) info->owner_uid = owner->uid();
  info->requests = PodRequests(pod->spec());
  ResourceAmounts scored = Total(pod->spec(), WithDefaults);
  info->scored_cpu_milli = scored.cpu_milli;
  info->scored_memory_bytes = scored.memory_bytes;
  info->host_ports = HostPortsOf(pod->spec());
  info->pod = std::move(pod);
  return info;
}

}  // namespace keelson::master
