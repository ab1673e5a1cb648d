// Empties a namespace that is being deleted, tells in its conditions what holds it up, then takes its
// finalizer away, which removes it. Key: its name.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "api/core/v1/namespace.pb.h"
#include "client/reconciler.h"
#include "master/controllers/controller.h"

namespace keelson::master {

// What the last look into an ending namespace has found.
struct NamespaceRemains {
  std::map<std::string, int> resources;   // "pods." and "leases.coordination.k8s.io" -> objects
  std::map<std::string, int> finalizers;  // name -> objects that have it
  std::vector<absl::Status> errors;       // of kinds that could not be listed or deleted
};
// The conditions of its status that say so, in upstream's words; without times. Pure.
std::vector<::k8s::core::v1::NamespaceCondition> DeletionConditions(const NamespaceRemains& remains);

class NamespaceController : public Controller, public client::Reconciler {
 public:
  static constexpr absl::Duration kRetryPeriod = absl::Seconds(1);  // while pods still end

  explicit NamespaceController(ControllerContext context);
  std::string name() const override { return "namespace-controller"; }
  void Start() override;
  Task<void> Stop() override;
  Task<absl::StatusOr<client::Requeue>> Reconcile(std::string key) override;

 private:
  // Asks for everything to go and says what was still there. An error with one kind keeps no other from
  // going.
  Task<void> Empty(std::string ns, NamespaceRemains* remains);
  Task<absl::Status> EmptyResource(api::GroupVersionResource gvr, std::string ns, NamespaceRemains* remains);
  Task<absl::Status> WriteConditions(std::shared_ptr<const ::k8s::core::v1::Namespace> ns,
                                     NamespaceRemains remains);
  Task<absl::Status> DeleteOne(api::GroupVersionResource gvr, client::ObjectPtr object);
  Task<absl::Status> Finalize(std::shared_ptr<const ::k8s::core::v1::Namespace> ns);
  ControllerContext context_;
  client::Informer& namespaces_;
  client::ReconcileLoop loop_;
  Scope deletions_;
};

}  // namespace keelson::master
