// Cni: network plugins by the CNI 1.0 exec protocol (conflist, ADD, DEL, CHECK, results cached). Sources: CNI
// SPEC.md 1.0.0, conventions.md (capability arguments portMappings, bandwidth, ips, dns).
#pragma once

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/env.h"

namespace keelson::cri {

struct CniPortMapping {
  int32_t host_port = 0, container_port = 0;
  std::string protocol;  // "tcp", "udp", "sctp"
  std::string host_ip;
};

struct CniAttachment {
  std::string container_id;  // the sandbox
  std::string netns_path;
  std::string interface = "eth0";
  std::string pod_name, pod_namespace, pod_uid;
  std::vector<CniPortMapping> port_mappings;             // capability portMappings
  uint64_t ingress_rate_bits = 0, egress_rate_bits = 0;  // capability bandwidth; 0: none
  std::string cgroup_path;                               // capability cgroupPath
};

struct CniResult {
  std::vector<std::string> ips;  // without prefix; the first is the pod's primary address
  std::string json;              // as the last plugin gave it
  std::string network_name;
};

inline constexpr absl::Duration kCniTimeout = absl::Minutes(4);
inline constexpr size_t kMaxCniResultBytes = 1 << 20;

// Pure parsers of untrusted text: fuzzed.
absl::StatusOr<CniResult> ParseCniResult(std::string_view json);

struct CniOptions {
  std::string conf_dir;               // the first of *.conflist, *.conf, *.json by name counts
  std::vector<std::string> bin_dirs;  // "/opt/cni/bin", "/usr/lib/cni"
  std::string cache_dir;              // one file per attachment: what DEL needs, also after a restart
};

class Cni {
 public:
  virtual ~Cni() = default;
  // OK when there is a network configuration whose plugins exist; else FailedPrecondition with what is
  // missing and where. Cheap; the directory is watched.
  virtual absl::Status Ready() const = 0;
  // Runs the plugins in order; on failure DEL is run before it returns. Cached before it returns.
  virtual Task<absl::StatusOr<CniResult>> Add(CniAttachment attachment) = 0;
  // Plugins in reverse order, with the configuration the ADD had. Success when there is nothing (any more).
  virtual Task<absl::Status> Del(CniAttachment attachment) = 0;
  virtual Task<absl::Status> Check(CniAttachment attachment) = 0;
  // Gives up the attachments whose sandbox is not among `valid_container_ids`.
  virtual Task<absl::Status> GarbageCollect(std::vector<std::string> valid_container_ids) = 0;
  // Writes a conflist for this pod CIDR (UpdateRuntimeConfig) when a template is configured; else nothing.
  virtual absl::Status SetPodCidr(const std::string& cidr) = 0;
};

absl::StatusOr<std::unique_ptr<Cni>> NewCni(Env& env, CniOptions options);

}  // namespace keelson::cri
