// Keeps each ReplicationController at its number of pods: adopts matching orphans, releases pods that match
// no more, creates (slow start: 1, 2, 4, ...) and deletes (SortForDeletion), writes status. Key:
// "namespace/name". Source: the ReplicationController API's contract; upstream's replica set controller for
// batch sizes and events.
#pragma once

#include <string>
#include <vector>

#include "api/core/v1/replication_controller.pb.h"
#include "client/reconciler.h"
#include "master/controllers/controller.h"
#include "master/controllers/expectations.h"
#include "master/controllers/pod_ranking.h"

namespace keelson::master {

class ReplicationController : public Controller, public client::Reconciler {
 public:
  static constexpr int kBurstReplicas = 500;  // pods created or deleted in one pass
  static constexpr int kMaxInFlight = 256;    // calls at a time of one pass

  explicit ReplicationController(ControllerContext context);
  ~ReplicationController() override;
  std::string name() const override { return "replication-controller"; }
  void Start() override;
  Task<void> Stop() override;
  Task<absl::StatusOr<client::Requeue>> Reconcile(std::string key) override;

 private:
  using Rc = ::k8s::core::v1::ReplicationController;
  using RcPtr = std::shared_ptr<const Rc>;

  void OnPodChange(const client::ObjectPtr& before, const client::ObjectPtr& after);
  void EnqueueOwners(const api::Message& pod);
  Task<absl::StatusOr<std::vector<PodPtr>>> ClaimPods(RcPtr rc);
  Task<absl::Status> Adopt(RcPtr rc, PodPtr pod);
  Task<absl::Status> Release(RcPtr rc, PodPtr pod);
  Task<absl::Status> Scale(RcPtr rc, std::string key, std::vector<PodPtr> active);
  // Calls under way together. Shared with them, so that a cancelled waiter leaves nothing dangling.
  struct Batch {
    int pending = 0;
    absl::Status first_error;
    AsyncEvent done;
    void Finish(const absl::Status& status) {
      if (first_error.ok()) first_error = status;
      if (--pending == 0) done.Set();
    }
  };
  Task<absl::Status> CreatePods(RcPtr rc, std::string key, int count);
  Task<void> CreateOne(RcPtr rc, std::string key, std::shared_ptr<const ::k8s::core::v1::Pod> pod,
                       std::shared_ptr<Batch> batch);
  Task<void> DeleteOne(RcPtr rc, std::string key, PodPtr pod, std::shared_ptr<Batch> batch);
  Task<absl::Status> DeletePods(RcPtr rc, std::string key, std::vector<PodPtr> pods);
  Task<absl::Status> WriteStatus(RcPtr rc, std::vector<PodPtr> active, absl::Status scaled,
                                 std::optional<absl::Duration>* again);

  ControllerContext context_;
  client::Informer& pods_;
  client::Informer& controllers_;
  Expectations expectations_;
  client::ReconcileLoop loop_;
  Scope calls_;
};

// The pod a template makes. Pure.
::k8s::core::v1::Pod PodFromTemplate(const ::k8s::core::v1::ReplicationController& rc);
// Status for the active pods. Condition ReplicaFailure follows `scaled`, the outcome of making or deleting
// pods; others are kept. Pure.
::k8s::core::v1::ReplicationControllerStatus ComputeStatus(const ::k8s::core::v1::ReplicationController& rc,
                                                           const std::vector<PodPtr>& active,
                                                           const absl::Status& scaled, absl::Time now,
                                                           std::optional<absl::Duration>* again);

}  // namespace keelson::master
