// ServiceAllocator: cluster IPs and node ports of Services. The Services themselves are the record; the sets
// here are rebuilt from them by Repair() and kept by Reserve/Release. One loop.
#pragma once

#include <absl/container/flat_hash_set.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "api/core/v1/service.pb.h"
#include "api/validation.h"
#include "base/env.h"
#include "master/admission/admission.h"

namespace keelson::master {

class ServiceAllocator {
 public:
  // InvalidArgument for a CIDR that is not an IPv4 network of /8 to /30, or an empty port range.
  static absl::StatusOr<std::unique_ptr<ServiceAllocator>> Create(std::string_view cidr, int port_min,
                                                                  int port_max);

  // The address of the cluster DNS, which the proxy serves itself: no Service is given it. "": the tenth of
  // the network (none when that is smaller), as the proxy takes it. InvalidArgument: not an IPv4 address.
  absl::Status SetDnsAddress(std::string_view ip);

  // What one write has taken; given back on destruction unless Keep() was called.
  class Reservation {
   public:
    Reservation() = default;
    Reservation(Reservation&& o) noexcept;
    Reservation& operator=(Reservation&& o) noexcept;
    ~Reservation();
    void Keep();

   private:
    friend class ServiceAllocator;
    ServiceAllocator* owner_ = nullptr;
    std::vector<uint32_t> ips_;
    std::vector<int> ports_;
  };

  // Fills clusterIP(s), ipFamilies and node ports that `service` needs and does not name; takes those it
  // names. `old` is null on create; what old already has is neither taken nor checked again. A non-empty list
  // of errors means that nothing was taken.
  api::FieldErrors Reserve(Random& random, ::k8s::core::v1::Service& service,
                           const ::k8s::core::v1::Service* old, Reservation* out);
  // After a write that gave them up: what `before` has and `after` (null: deleted) has not.
  void Release(const ::k8s::core::v1::Service& before, const ::k8s::core::v1::Service* after);
  // Recomputes both sets from the Services there are and what is reserved and not yet kept.
  void Repair(const ClusterReader& cluster);

  bool InRange(std::string_view ip) const;
  size_t used_ips() const { return ips_.size(); }
  size_t used_ports() const { return ports_.size(); }

 private:
  ServiceAllocator() = default;
  absl::StatusOr<uint32_t> PickIp(Random& random) const;
  int PickPort(Random& random) const;  // 0: none left

  std::string cidr_;
  uint32_t first_ = 0, last_ = 0;  // usable addresses, host order
  uint32_t dns_ = 0;               // 0: none
  uint32_t static_end_ = 0;        // addresses below are given out last: room for explicit ones
  int port_min_ = 0, port_max_ = 0, port_static_end_ = 0;
  absl::flat_hash_set<uint32_t> ips_, pending_ips_;
  absl::flat_hash_set<int> ports_, pending_ports_;
};

// On an update: fields the client left out that the API server has filled in before are taken over, fields
// the new type has not are dropped where the client did not change them (upstream's patchAllocatedValues and
// dropTypeDependentFields).
void KeepAllocatedValues(::k8s::core::v1::Service& service, const ::k8s::core::v1::Service& old);
// clusterIP and clusterIPs follow one another.
void NormalizeClusterIps(::k8s::core::v1::Service& service);

}  // namespace keelson::master
