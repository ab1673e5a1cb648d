// PodInfo: what scheduling needs to know of a pod, computed once per pod object. Pure, immutable.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "api/core/v1/pod.pb.h"
#include "api/core/v1/pod_template.pb.h"
#include "master/controllers/pod_ranking.h"

namespace keelson::master {

// Amounts of the resources the scheduler counts. `extended`: everything that is not one of the named four.
struct ResourceAmounts {
  int64_t cpu_milli = 0;
  int64_t memory_bytes = 0;
  int64_t ephemeral_storage_bytes = 0;
  std::map<std::string, int64_t> extended;

  void Add(const ResourceAmounts& other);
  void Sub(const ResourceAmounts& other);
  void Max(const ResourceAmounts& other);
  bool operator==(const ResourceAmounts&) const = default;
};

using QuantityMap = google::protobuf::Map<std::string, ::k8s::api::resource::Quantity>;
// `pods` is left out.
ResourceAmounts AmountsOf(const QuantityMap& list);

// What the pod occupies on its node: containers and sidecars together, or the largest step of its
// initialisation if that is more, plus overhead; spec.resources overrules for what it names (KEP-753,
// KEP-688, KEP-2837).
ResourceAmounts PodRequests(const ::k8s::core::v1::PodSpec& spec);

struct HostPort {
  std::string ip;        // net::CanonicalHostIp
  std::string protocol;  // "TCP" when unset
  int32_t port = 0;
  auto operator<=>(const HostPort&) const = default;
};
std::vector<HostPort> HostPortsOf(const ::k8s::core::v1::PodSpec& spec);

// Assumed for scoring for a container that requests none (upstream's values).
inline constexpr int64_t kDefaultCpuMilli = 100;
inline constexpr int64_t kDefaultMemoryBytes = 200 << 20;

struct PodInfo {
  PodPtr pod;
  std::string key;        // "namespace/name"
  std::string owner_uid;  // controlling owner; "" when none
  ResourceAmounts requests;
  int64_t scored_cpu_milli = 0, scored_memory_bytes = 0;  // requests, with the defaults above filled in
  std::vector<HostPort> host_ports;

  const std::string& uid() const { return pod->metadata().uid(); }
  int32_t priority() const { return pod->spec().priority(); }
};
using PodInfoPtr = std::shared_ptr<const PodInfo>;

PodInfoPtr MakePodInfo(PodPtr pod);

}  // namespace keelson::master
