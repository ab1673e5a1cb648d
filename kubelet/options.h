// KubeletOptions: everything the kubelet core is told at start. kubelet/config fills it from flags and a
// KubeletConfiguration; defaults are upstream's.
#pragma once

#include <absl/time/time.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "api/core/v1/common.pb.h"

namespace keelson::kubelet {

struct KubeletOptions {
  std::string node_name;              // metadata.name of the Node; required
  std::string hostname;               // address of type Hostname; "" : node_name
  std::vector<std::string> node_ips;  // addresses of type InternalIP, primary first; empty: found from routes
  std::map<std::string, std::string> node_labels;
  std::vector<::k8s::core::v1::Taint> register_with_taints;
  bool register_node = true;
  bool unschedulable = false;
  std::string provider_id;
  int32_t kubelet_port = 10250;
  std::string runtime_class_handler;  // RunPodSandbox runtime_handler of pods without runtimeClassName
  std::map<std::string, std::string>
      runtime_handlers;  // runtimeClassName -> handler, for clusters without RuntimeClass

  // ---- pod sources ----
  std::string static_pod_path;  // folder or file; "" : off
  std::string static_pod_url;   // http(s); "" : off
  absl::Duration file_check_frequency = absl::Seconds(20);
  absl::Duration http_check_frequency = absl::Seconds(20);

  // ---- pods ----
  int32_t max_pods = 110;
  int32_t pods_per_core = 0;  // 0: no such bound
  absl::Duration sync_frequency = absl::Minutes(1);
  absl::Duration max_container_restart_period = absl::Minutes(5);
  std::vector<std::string> cluster_dns;
  std::string cluster_domain = "cluster.local";
  std::string resolv_conf = "/etc/resolv.conf";  // "" : pods inherit nothing
  std::string pod_cidr;  // told to the runtime; "" : what the Node's spec.podCIDR says
  bool seccomp_default = false;
  std::vector<std::string> allowed_unsafe_sysctls;  // names, or prefixes ending in '*'
  bool cpu_cfs_quota = true;
  absl::Duration cpu_cfs_quota_period = absl::Milliseconds(100);
  int64_t pod_pids_limit = -1;                       // -1: unlimited
  std::string master_service_namespace = "default";  // of the services every pod's environment names

  // ---- images ----
  bool serialize_image_pulls = true;     // false: up to max_parallel_image_pulls of different images at once
  int32_t max_parallel_image_pulls = 0;  // 0: unlimited; counts only when not serialised
  absl::Duration image_minimum_gc_age = absl::Minutes(2);
  int32_t image_gc_high_threshold_percent = 85;
  int32_t image_gc_low_threshold_percent = 80;
  int32_t node_status_max_images = 50;  // -1: all

  // ---- cgroups ----
  bool cgroups_per_qos = true;
  std::string cgroup_driver = "cgroupfs";  // what to believe where the runtime does not tell

  // ---- node status ----
  absl::Duration node_status_update_frequency = absl::Seconds(10);
  absl::Duration node_status_report_frequency = absl::Minutes(5);
  int32_t node_lease_duration_s = 40;
  std::map<std::string, std::string> kube_reserved, system_reserved;  // resource -> quantity
  // Hard eviction signals, as text: "memory.available" -> "100Mi", "nodefs.available" -> "10%". Taken from
  // allocatable and the thresholds of the pressure conditions.
  std::map<std::string, std::string> eviction_hard = {{"memory.available", "100Mi"},
                                                      {"nodefs.available", "10%"},
                                                      {"nodefs.inodesFree", "5%"},
                                                      {"imagefs.available", "15%"},
                                                      {"imagefs.inodesFree", "5%"}};
  // Soft ones, how long each must be crossed before a pod goes for it, and the most such a pod is given to
  // end.
  std::map<std::string, std::string> eviction_soft;
  std::map<std::string, absl::Duration> eviction_soft_grace;
  int64_t eviction_max_pod_grace_period_s = 0;
  // What must be free above a threshold, too, once a pod had to go for it.
  std::map<std::string, std::string> eviction_minimum_reclaim;
  absl::Duration eviction_pressure_transition_period = absl::Minutes(5);
  // Count what pods have on the node's disk: emptyDir.sizeLimit and limits of ephemeral-storage are enforced.
  bool local_storage_capacity_isolation = true;

  // Not to start on a node with swap. Upstream's default is true; here only who asks for it is refused: the
  // default says it in the log.
  bool fail_swap_on = false;

  // ---- container logs ----
  int64_t container_log_max_bytes = 10 << 20;
  int32_t container_log_max_files = 5;
  absl::Duration container_log_monitor_interval = absl::Seconds(10);

  // ---- roots read for facts about the machine; tests put trees of their own there ----
  std::string proc_root = "/proc";
  std::string sys_root = "/sys";
  std::string host_root = "/";  // /etc/machine-id, /etc/os-release, /etc/hosts
};

}  // namespace keelson::kubelet
