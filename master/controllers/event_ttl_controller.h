// Deletes Events an hour after they last happened (upstream: the lease on their key).
#pragma once

#include <string>

#include "api/core/v1/event.pb.h"
#include "client/reconciler.h"
#include "master/controllers/controller.h"

namespace keelson::master {

class EventTtlController : public Controller, public client::Reconciler {
 public:
  static constexpr absl::Duration kTimeToLive = absl::Hours(1);
  static constexpr absl::Duration kPeriod = absl::Minutes(5);

  explicit EventTtlController(ControllerContext context);
  std::string name() const override { return "event-ttl-controller"; }
  void Start() override;
  Task<void> Stop() override;
  // One sweep; the key has no meaning.
  Task<absl::StatusOr<client::Requeue>> Reconcile(std::string key) override;

 private:
  ControllerContext context_;
  client::ReconcileLoop loop_;
};

// When the event last happened. Pure.
absl::Time LastSeen(const ::k8s::core::v1::Event& event);

}  // namespace keelson::master
