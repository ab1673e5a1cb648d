// Where things live on disk. Defaults are upstream's where tools expect them; --root DIR moves all of them
// under DIR (docs/architecture.md), so that several instances run on one machine.
#pragma once

#include <string>

namespace keelson {

struct Paths {
  std::string root;                                        // "" : the defaults below as they are
  std::string state_dir = "/var/lib/keelson";              // stores, images, pki of `keelson up`
  std::string run_dir = "/run/keelson";                    // sockets, pid and lock files
  std::string etc_dir = "/etc/keelson";                    // configuration, kubeconfigs
  std::string log_dir = "/var/log/keelson";                // component logs
  std::string kubelet_dir = "/var/lib/kubelet";            // upstream --root-dir
  std::string pod_logs_dir = "/var/log/pods";              // <ns>_<name>_<uid>/<container>/<n>.log
  std::string container_logs_dir = "/var/log/containers";  // symlinks into pod_logs_dir
  std::string cgroup_root;                                 // parent of "kubepods"; "" : the hierarchy's root

  // All of them under `root`, cgroup_root "keelson-<name of root>". root == "" gives the defaults.
  static Paths WithRoot(const std::string& root);
};

}  // namespace keelson
