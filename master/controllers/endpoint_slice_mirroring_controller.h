// Mirrors the Endpoints of Services without a selector, which users write by hand, into EndpointSlices: proxy
// and DNS read nothing else. Endpoints with the label endpointslice.kubernetes.io/skip-mirror=true and those
// that are a lock of a leader election are left out. Key: "namespace/name" of the Endpoints, which is the
// Service's. Source: upstream's endpoint slice mirroring controller (KEP-752).
#pragma once

#include <string>
#include <vector>

#include "api/core/v1/endpoints.pb.h"
#include "api/core/v1/service.pb.h"
#include "api/discovery/v1/discovery.pb.h"
#include "client/reconciler.h"
#include "master/controllers/controller.h"

namespace keelson::master {

class EndpointSliceMirroringController : public Controller, public client::Reconciler {
 public:
  explicit EndpointSliceMirroringController(ControllerContext context);
  std::string name() const override { return "endpointslice-mirroring-controller"; }
  void Start() override;
  Task<void> Stop() override;
  Task<absl::StatusOr<client::Requeue>> Reconcile(std::string key) override;

 private:
  using Slice = ::k8s::discovery::v1::EndpointSlice;
  using SlicePtr = std::shared_ptr<const Slice>;
  using EndpointsPtr = std::shared_ptr<const ::k8s::core::v1::Endpoints>;

  // Null: nothing is to be mirrored under this key.
  EndpointsPtr Mirrored(const std::string& key) const;
  void TellOfLosses(const ::k8s::core::v1::Endpoints& endpoints, int invalid, int over);

  ControllerContext context_;
  client::Informer& services_;
  client::Informer& endpoints_;
  client::Informer& slices_;
  client::ReconcileLoop loop_;
};

// Addresses of one subset that are mirrored, and endpoints of one slice.
inline constexpr int kMaxMirroredAddresses = 1000;

struct EndpointsMirror {
  // One per address family and set of ports; without name and resourceVersion.
  std::vector<::k8s::discovery::v1::EndpointSlice> slices;
  int invalid = 0;  // addresses left out: they are no IP addresses
  int over = 0;     // addresses left out: too many
};
// What the slices of these Endpoints should be. Pure.
EndpointsMirror MirrorOf(const ::k8s::core::v1::Endpoints& endpoints);

}  // namespace keelson::master
