// What is to be said about a pod's host ports. Pure.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "api/core/v1/service.pb.h"
#include "kubelet/types.h"

namespace keelson::kubelet {

// Whether a host port of `pod` cannot be had beside those of `other`: the scheduler's NodePorts filter. The
// same number and protocol on addresses that overlap (net/host_ip.h).
bool HostPortsConflict(const corev1::Pod& pod, const corev1::Pod& other);

// A line for each host port that is also the node port of a service: the rules of both are in place, and only
// one of them gets the connections. Upstream looks for this nowhere.
std::vector<std::string> NodePortConflicts(
    const corev1::Pod& pod, const std::vector<std::shared_ptr<const corev1::Service>>& services);

// Why the host ports of `pod` have no effect; "" when they have, or when it cannot be known.
// `cni_config_json`: what containerd says of its network plugins (info "cniconfig" of a verbose Status); a
// runtime that says nothing of the kind has ways of its own, as `keelson cri` and CRI-O.
inline constexpr char kContainerdNetworkInfo[] = "cniconfig";
std::string HostPortsWithoutEffect(const corev1::Pod& pod, std::string_view cni_config_json);

}  // namespace keelson::kubelet
