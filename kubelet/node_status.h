// The Node object: what the machine has, what pods may use of it, and how it is. Reading and composing only;
// who writes it when is node_registrar.h. Reasons and messages as upstream's.
#pragma once

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "api/core/v1/node.pb.h"
#include "cri/proto/runtime/v1/api.pb.h"
#include "kubelet/options.h"
#include "kubelet/resources.h"

namespace keelson::kubelet {

// Facts that do not change while the machine runs.
struct MachineInfo {
  int cpus = 1;
  int64_t memory_bytes = 0;
  int64_t ephemeral_storage_bytes = 0;             // of the filesystem below the kubelet's folder
  std::map<std::string, int64_t> hugepages_bytes;  // "hugepages-2Mi" -> bytes
  std::string machine_id, system_uuid, boot_id, kernel_version, os_image, hostname;
  std::string architecture = "amd64";
  std::string operating_system = "linux";
};
// From the roots in `options` (tests give trees of their own); `kubelet_dir` for the disk.
MachineInfo ReadMachineInfo(const KubeletOptions& options, const std::string& kubelet_dir);

// The host's addresses pods and clients use: those of the interface with the default route, IPv4 first.
std::vector<std::string> FindNodeIps(const std::string& proc_root);

// What changes, as last measured.
struct NodeHealth {
  bool runtime_known = false;  // Status() answered once
  bool runtime_ready = false;
  bool network_ready = false;
  std::string runtime_message, network_message;  // why not
  std::string pleg_message;                      // "" : healthy
  bool memory_pressure = false, disk_pressure = false, pid_pressure = false;
};

struct NodeStatusInputs {
  MachineInfo machine;
  std::vector<std::string> node_ips;
  std::string runtime_version;  // "containerd://1.6.20"
  NodeHealth health;
  std::vector<criv1::Image> images;
  std::vector<criv1::RuntimeHandler> runtime_handlers;
  absl::Time now;
};

ResourceList NodeCapacity(const MachineInfo& machine, const KubeletOptions& options);
// Capacity less kubeReserved, systemReserved and hard eviction thresholds. InvalidArgument names a bad
// quantity.
absl::StatusOr<ResourceList> NodeAllocatable(const ResourceList& capacity, const KubeletOptions& options);
// A threshold "100Mi" or "10%" of `total` as an amount.
absl::StatusOr<int64_t> ThresholdBytes(const std::string& text, int64_t total);

// Labels kubernetes.io/hostname, os, arch (and the beta ones), and the configured.
std::map<std::string, std::string> NodeLabels(const KubeletOptions& options, const MachineInfo& machine);

// Transition times are kept from `before` where the status is the same; conditions of others too.
::k8s::core::v1::NodeStatus MakeNodeStatus(const KubeletOptions& options, const NodeStatusInputs& inputs,
                                           const ::k8s::core::v1::NodeStatus& before);

}  // namespace keelson::kubelet
