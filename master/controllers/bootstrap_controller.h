// Keeps what every cluster has: the four system namespaces and the Service default/kubernetes with the
// endpoints of this master. Made at start, made again when somebody deletes or changes them. Keys:
// "namespace/<name>", "service".
#pragma once

#include <cstdint>
#include <string>

#include "api/core/v1/endpoints.pb.h"
#include "api/core/v1/service.pb.h"
#include "api/discovery/v1/discovery.pb.h"
#include "client/reconciler.h"
#include "master/controllers/controller.h"

namespace keelson::master {

struct BootstrapOptions {
  std::string service_cidr;       // its first address is the Service's ClusterIP
  std::string advertise_address;  // "": no kubernetes Service
  uint16_t secure_port = 6443;
};

class BootstrapController : public Controller, public client::Reconciler {
 public:
  BootstrapController(ControllerContext context, BootstrapOptions options);
  std::string name() const override { return "bootstrap-controller"; }
  void Start() override;
  Task<void> Stop() override;
  Task<absl::StatusOr<client::Requeue>> Reconcile(std::string key) override;

 private:
  Task<absl::Status> KeepNamespace(std::string name);
  Task<absl::Status> KeepService();
  template <class T>
  Task<absl::Status> CreateOrUpdate(T wanted, bool (*adjust)(const T& wanted, T* current));

  ControllerContext context_;
  const BootstrapOptions options_;
  client::Informer& namespaces_;
  client::Informer& services_;
  client::Informer& endpoints_;
  client::Informer& slices_;
  client::ReconcileLoop loop_;
};

// Pure. The ClusterIP is InvalidArgument when the CIDR cannot be read or holds no address.
absl::StatusOr<::k8s::core::v1::Service> KubernetesService(const BootstrapOptions& options);
::k8s::core::v1::Endpoints KubernetesEndpoints(const BootstrapOptions& options);
::k8s::discovery::v1::EndpointSlice KubernetesEndpointSlice(const BootstrapOptions& options);

}  // namespace keelson::master
