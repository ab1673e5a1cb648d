// Requests and limits of pods and containers, QoS classes, and their CRI and cgroup forms. Pure.
// Sources: upstream's pod resource helpers; KEP-753 (sidecars), KEP-2837 (pod-level resources).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "api/quantity.h"
#include "kubelet/types.h"

namespace keelson::kubelet {

// Resource name -> amount.
using ResourceList = std::map<std::string, api::Quantity>;

enum class QosClass { kGuaranteed, kBurstable, kBestEffort };
// "Guaranteed", "Burstable", "BestEffort".
std::string_view QosName(QosClass qos);

QosClass ComputeQos(const corev1::Pod& pod);

// What the pod as a whole takes from the node: max(init phase, containers + sidecars) + overhead. A limit
// without a request stands for both.
ResourceList PodRequests(const corev1::Pod& pod);
// Only resources every container bounds (cpu, memory), or that are bounded at all (others).
ResourceList PodLimits(const corev1::Pod& pod);

// 1024 shares a core, 2 at least.
int64_t MilliCpuToShares(int64_t milli_cpu);
// Microseconds of `period_us`; 0: no limit. At least 1000 us.
int64_t MilliCpuToQuota(int64_t milli_cpu, int64_t period_us);

// -997 for Guaranteed and node-critical pods, 1000 for BestEffort, between by memory request.
int64_t OomScoreAdj(const corev1::Pod& pod, const corev1::Container& container,
                    int64_t memory_capacity_bytes);

struct ResourceOptions {
  bool cpu_cfs_quota = true;
  int64_t cfs_period_us = 100000;
  int64_t memory_capacity_bytes = 0;
};
criv1::LinuxContainerResources ContainerLinuxResources(const corev1::Pod& pod,
                                                       const corev1::Container& container,
                                                       const ResourceOptions& options);
// The pod's sum, for LinuxPodSandboxConfig.resources and the pod's cgroup. Zero fields: no bound.
criv1::LinuxContainerResources PodLinuxResources(const corev1::Pod& pod, const ResourceOptions& options);

// LinuxPodSandboxConfig.cgroup_parent: "/kubepods/burstable/pod<uid>" with cgroupfs,
// "kubepods-burstable-pod<uid>.slice" with systemd. `root` is Paths::cgroup_root.
std::string PodCgroupParent(const corev1::Pod& pod, std::string_view root, bool systemd);

// Amount of one resource in a requirements map; zero when absent.
api::Quantity GetQuantity(const google::protobuf::Map<std::string, ::k8s::api::resource::Quantity>& map,
                          const std::string& name);

}  // namespace keelson::kubelet
