// Cni: network plugins by the CNI exec protocol (conflist, ADD, DEL, CHECK, GC, STATUS; results cached).
// Sources: CNI SPEC.md 1.1.0, conventions.md (capability arguments portMappings, bandwidth, dns, cgroupPath).
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
  // Capability dns: what the pod's resolv.conf says.
  std::vector<std::string> dns_servers, dns_searches, dns_options;
};

// The pod's share of the network, from its annotations kubernetes.io/{ingress,egress}-bandwidth: bits per
// second as quantities, "" for none. InvalidArgument, with the annotation's name, for what is none or not
// within upstream's limits of 1k and 1P.
inline constexpr char kIngressBandwidthAnnotation[] = "kubernetes.io/ingress-bandwidth";
inline constexpr char kEgressBandwidthAnnotation[] = "kubernetes.io/egress-bandwidth";
struct CniBandwidth {
  uint64_t ingress_rate_bits = 0, egress_rate_bits = 0;
};
absl::StatusOr<CniBandwidth> ParseCniBandwidth(std::string_view ingress, std::string_view egress);

struct CniResult {
  std::vector<std::string> ips;  // without prefix; the first is the pod's primary address
  std::string json;              // as the last plugin gave it
  std::string network_name;
};

inline constexpr absl::Duration kCniTimeout = absl::Minutes(4);
// How long an answer to STATUS is good for; while pods are being attached, up to the second.
inline constexpr absl::Duration kCniStatusInterval = absl::Seconds(10);
inline constexpr absl::Duration kCniStatusBusyInterval = absl::Minutes(1);
inline constexpr absl::Duration kCniStatusTimeout = absl::Seconds(10);
inline constexpr size_t kMaxCniResultBytes = 1 << 20;

// Pure parsers of untrusted text: fuzzed.
absl::StatusOr<CniResult> ParseCniResult(std::string_view json);

struct CniOptions {
  std::string conf_dir;               // the first of *.conflist, *.conf, *.json by name counts
  std::vector<std::string> bin_dirs;  // "/opt/cni/bin", "/usr/lib/cni"
  std::string cache_dir;              // one file per attachment: what DEL needs, also after a restart
  std::string proc_root = "/proc";    // where plugins of a killed server are looked for
  std::string conf_template;          // file; SetPodCidr fills it in (config.h: FillCniTemplate); empty: none
};

class Cni {
 public:
  virtual ~Cni() = default;
  // OK when there is a network configuration whose plugins exist; else FailedPrecondition with what is
  // missing and where. Cheap; the directory is watched.
  virtual absl::Status Ready() const = 0;
  // The same, and what the plugins themselves say to STATUS where the network's version has it (1.1.0): the
  // words of the first that is not ready. Answers are kept for kCniStatusInterval; one question at a time,
  // and who comes meanwhile gets the answer before. A plugin that does not know the command says nothing.
  virtual Task<absl::Status> AskStatus() = 0;
  // Runs the plugins in order; on failure DEL is run before it returns. Cached before it returns. What an
  // earlier ADD of the same attachment left is removed first. Cancelled half way (or killed): the record it
  // leaves lets Del or GarbageCollect undo it. Unavailable: the plugin asks to be tried again.
  virtual Task<absl::StatusOr<CniResult>> Add(CniAttachment attachment) = 0;
  // Plugins in reverse order, with the configuration the ADD had; all of them, though one fails (the first
  // error is returned, and the attachment stays known). Success when there is nothing (any more). Without a
  // record but with a live namespace at netns_path: with the configuration of today.
  virtual Task<absl::Status> Del(CniAttachment attachment) = 0;
  // NotFound: not attached. Unimplemented: the configuration's version is older than CHECK.
  virtual Task<absl::Status> Check(CniAttachment attachment) = 0;
  // Gives up the attachments whose sandbox is not among `valid_container_ids`; those whose Add runs
  // meanwhile are left alone. Networks of version 1.1.0 get the GC command too.
  virtual Task<absl::Status> GarbageCollect(std::vector<std::string> valid_container_ids) = 0;
  // Writes a conflist for this pod CIDR (UpdateRuntimeConfig) when a template is configured; else nothing.
  // `cidr`: one block, or two comma-separated. A configuration that came from elsewhere is left alone.
  virtual absl::Status SetPodCidr(const std::string& cidr) = 0;
  // Whether a plugin of today's configuration declares the capability ("portMappings": then host ports are
  // the plugin's, and HostPorts must stay out).
  virtual bool HasCapability(std::string_view capability) const { return false; }
};

// One at a time on a cache_dir: what an interrupted write of one before left there is removed.
absl::StatusOr<std::unique_ptr<Cni>> NewCni(Env& env, CniOptions options);

}  // namespace keelson::cri
