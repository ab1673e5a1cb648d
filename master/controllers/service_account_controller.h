// Gives every living namespace its ServiceAccount `default`. Key: the namespace's name.
#pragma once

#include <string>

#include "client/reconciler.h"
#include "master/controllers/controller.h"

namespace keelson::master {

class ServiceAccountController : public Controller, public client::Reconciler {
 public:
  explicit ServiceAccountController(ControllerContext context);
  std::string name() const override { return "service-account-controller"; }
  void Start() override;
  Task<void> Stop() override;
  Task<absl::StatusOr<client::Requeue>> Reconcile(std::string key) override;

 private:
  ControllerContext context_;
  client::Informer& namespaces_;
  client::Informer& accounts_;
  client::ReconcileLoop loop_;
};

}  // namespace keelson::master
