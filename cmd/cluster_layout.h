// Where a one-machine cluster keeps its files, and the numbers it runs with. Pure.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/paths.h"

namespace keelson {

// What `keelson up` was told; defaults are a machine's first cluster.
struct ClusterOptions {
  std::string root;                        // --root
  std::string node_name;                   // "" : host name
  std::string node_ip;                     // "" : address of the default route, else 127.0.0.1
  std::string pod_cidr = "10.244.0.0/16";  // the node takes its first /24
  std::string service_cidr = "10.96.0.0/12";
  std::string cluster_domain = "cluster.local";
  std::string container_runtime = "cri";   // "cri": `keelson cri`; "containerd": a containerd of our own
  std::string cgroup_driver = "auto";      // of `keelson cri`: cgroupfs, systemd, or auto: ChooseCgroupDriver
  std::string container_runtime_endpoint;  // set: a runtime that runs already, and container_runtime counts
                                           // for nothing
  uint16_t secure_port = 6443;
  uint16_t kubelet_port = 10250;
  uint16_t kubelet_healthz_port = 10248;
  uint16_t proxy_healthz_port = 10256;
  uint16_t registry_port = 5000;
  int64_t log_max_bytes = 8 << 20;
};

struct ClusterLayout {
  ClusterOptions options;
  Paths paths;
  std::string executable;  // of keelson, for the children

  // ---- files ----
  std::string pki(const std::string& name) const { return paths.etc_dir + "/pki/" + name; }
  std::string admin_conf() const { return paths.etc_dir + "/admin.conf"; }
  std::string kubelet_conf() const { return paths.etc_dir + "/kubelet.conf"; }
  std::string kubelet_config() const { return paths.etc_dir + "/kubelet.yaml"; }
  std::string proxy_conf() const { return paths.etc_dir + "/proxy.conf"; }
  std::string containerd_config() const { return paths.etc_dir + "/containerd/config.toml"; }
  std::string registry_config() const { return paths.etc_dir + "/registry.yml"; }
  std::string cni_conf_dir() const { return paths.etc_dir + "/cni/net.d"; }
  std::string manifest_dir() const { return paths.etc_dir + "/manifests"; }
  // Written by `keelson up` before anything starts: says that what lies in these folders is ours to remove,
  // and with which options it was made.
  std::string marker_file() const { return paths.etc_dir + "/instance"; }
  std::string lock_file() const { return paths.run_dir + "/up.lock"; }
  std::string pid_file(const std::string& component) const {
    return paths.run_dir + "/" + component + ".pid";
  }
  std::string log_file(const std::string& component) const {
    return paths.log_dir + "/" + component + ".log";
  }
  std::string containerd_socket() const { return paths.run_dir + "/containerd/containerd.sock"; }
  std::string cri_run_dir() const { return paths.run_dir + "/pods"; }
  std::string cri_state_dir() const { return paths.state_dir + "/cri"; }
  std::string cri_socket() const { return paths.run_dir + "/cri/cri.sock"; }
  std::string registries_dir() const { return paths.etc_dir + "/certs.d"; }
  std::string cri_nft_table() const { return nft_table() + "_cri"; }
  // Of pods that name no parent, as the cgroup driver wants it: a path below each hierarchy, or a slice.
  std::string cri_cgroup(bool systemd) const;
  bool systemd_cgroups() const { return options.cgroup_driver == "systemd"; }
  bool own_runtime() const { return options.container_runtime_endpoint.empty(); }
  bool own_cri() const { return own_runtime() && options.container_runtime == "cri"; }
  bool own_containerd() const { return own_runtime() && options.container_runtime == "containerd"; }
  std::string runtime_endpoint() const {
    if (own_cri()) return "unix://" + cri_socket();
    return own_containerd() ? "unix://" + containerd_socket() : options.container_runtime_endpoint;
  }
  std::string server_url() const;     // https://127.0.0.1:6443
  std::string nft_table() const;      // "keelson", or "keelson-NAME" below a root
  std::string node_pod_cidr() const;  // first /24 of pod_cidr
  std::string service_ip(uint64_t n) const;
  std::string dns_ip() const { return service_ip(10); }
};

// cgroupfs or systemd, for what --cgroup-driver says. auto is systemd where systemd makes this host's
// cgroups, for a machine's first cluster on `keelson cri`; the rest has cgroupfs. `made_with`: the driver of
// a cluster that is here already, "" : none. auto stays with it: no container can be made in a pod whose
// cgroup is the other driver's. InvalidArgument names the flag. Pure.
absl::StatusOr<std::string> ChooseCgroupDriver(const ClusterOptions& options, bool systemd_makes_cgroups,
                                               std::string_view made_with);

// The options that TearDown needs as they were, one "name=value" a line.
std::string RenderMarker(const ClusterOptions& options);
// The driver a marker names. Pure.
std::string MarkedCgroupDriver(std::string_view marker);
// Takes them from the marker of a cluster made before, whatever the command line says. False: there is no
// marker, so nothing on this machine is ours.
bool ApplyMarker(ClusterLayout* layout);

// Checks the options (errors name the flag), fills in what was left empty from the machine.
absl::StatusOr<ClusterLayout> MakeClusterLayout(ClusterOptions options);

}  // namespace keelson
