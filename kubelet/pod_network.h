// Names and name resolution of a pod: hostname, DNS configuration, the managed /etc/hosts. Pure text in, text
// out.
#pragma once

#include <absl/status/statusor.h>

#include <string>
#include <string_view>
#include <vector>

#include "kubelet/types.h"

namespace keelson::kubelet {

// A resolv.conf as resolv.conf(5) has it; unknown lines are dropped.
struct ResolvConf {
  std::vector<std::string> servers, searches, options;
};
ResolvConf ParseResolvConf(std::string_view text);

struct DnsInputs {
  std::vector<std::string> cluster_dns;
  std::string cluster_domain;
  ResolvConf host;
  std::vector<std::string> warnings;  // filled: to be said as event (DNSConfigForming, MissingClusterDNS)
};
// By dnsPolicy (ClusterFirst, ClusterFirstWithHostNet, Default, None) and dnsConfig. InvalidArgument: unknown
// policy.
absl::StatusOr<criv1::DNSConfig> MakeDnsConfig(const corev1::Pod& pod, DnsInputs& inputs);

struct PodHostname {
  std::string hostname;
  std::string fqdn;  // "" without subdomain
};
// Host network: the node's. setHostnameAsFQDN over 64 bytes is InvalidArgument.
absl::StatusOr<PodHostname> MakeHostname(const corev1::Pod& pod, std::string_view node_hostname,
                                         std::string_view cluster_domain);

// Text of /etc/hosts. `host_file` is the host's own, used with host network.
std::string MakeHostsFile(const corev1::Pod& pod, const std::vector<std::string>& pod_ips,
                          const PodHostname& name, std::string_view host_file);

// spec.containers[].ports with a hostPort, and nothing else.
std::vector<criv1::PortMapping> MakePortMappings(const corev1::Pod& pod);

}  // namespace keelson::kubelet
