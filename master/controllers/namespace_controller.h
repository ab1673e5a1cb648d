// Empties a namespace that is being deleted, then takes its finalizer away, which removes it. Key: its name.
#pragma once

#include <string>

#include "api/core/v1/namespace.pb.h"
#include "client/reconciler.h"
#include "master/controllers/controller.h"

namespace keelson::master {

class NamespaceController : public Controller, public client::Reconciler {
 public:
  static constexpr absl::Duration kRetryPeriod = absl::Seconds(1);  // while pods still end

  explicit NamespaceController(ControllerContext context);
  std::string name() const override { return "namespace-controller"; }
  void Start() override;
  Task<void> Stop() override;
  Task<absl::StatusOr<client::Requeue>> Reconcile(std::string key) override;

 private:
  // Asks for everything to go; how many objects were still there.
  Task<absl::StatusOr<int>> Empty(std::string ns);
  Task<absl::StatusOr<int>> EmptyResource(api::GroupVersionResource gvr, std::string ns);
  Task<absl::Status> DeleteOne(api::GroupVersionResource gvr, client::ObjectPtr object);
  Task<absl::Status> Finalize(std::shared_ptr<const ::k8s::core::v1::Namespace> ns);
  ControllerContext context_;
  client::Informer& namespaces_;
  client::ReconcileLoop loop_;
  Scope deletions_;
};

}  // namespace keelson::master
