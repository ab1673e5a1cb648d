// Keeps the Endpoints and EndpointSlices of every Service with a selector equal to the pods behind it. One
// reconciler for both, so that they never tell different stories. A Service that goes takes its Endpoints
// along, a user's as well; a user's without a Service are left alone. Key: the Service's "namespace/name".
#pragma once

#include <absl/container/flat_hash_set.h>

#include <string>
#include <vector>

#include "api/core/v1/endpoints.pb.h"
#include "api/core/v1/service.pb.h"
#include "api/discovery/v1/discovery.pb.h"
#include "client/reconciler.h"
#include "master/controllers/controller.h"
#include "master/controllers/service_endpoints.h"

namespace keelson::master {

class EndpointsController : public Controller, public client::Reconciler {
 public:
  explicit EndpointsController(ControllerContext context);
  ~EndpointsController() override;
  std::string name() const override { return "endpoints-controller"; }
  void Start() override;
  Task<void> Stop() override;
  Task<absl::StatusOr<client::Requeue>> Reconcile(std::string key) override;

 private:
  using ServicePtr = std::shared_ptr<const ::k8s::core::v1::Service>;
  using Slice = ::k8s::discovery::v1::EndpointSlice;
  using SlicePtr = std::shared_ptr<const Slice>;

  void EnqueueServicesOf(const api::Message& pod);
  std::vector<SlicePtr> OwnSlices(const std::string& ns, const std::string& service) const;
  Task<absl::Status> Remove(std::string key);
  Task<absl::Status> SyncEndpoints(ServicePtr service, std::string key, EndpointGroups groups);
  Task<absl::Status> SyncSlices(ServicePtr service, EndpointGroups groups);

  ControllerContext context_;
  client::Informer& services_;
  client::Informer& pods_;
  client::Informer& endpoints_;
  client::Informer& slices_;
  absl::flat_hash_set<std::string> ended_;  // keys of Services that were deleted, until they are cleared up
  client::ReconcileLoop loop_;
};

}  // namespace keelson::master
