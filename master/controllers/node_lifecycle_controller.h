// Watches over the nodes: a kubelet that renews neither lease nor status for the grace period has its
// conditions set Unknown; taints follow the conditions; pods that do not tolerate a NoExecute taint (any
// more) are evicted, and pods of an unreachable node are marked not ready. While no node at all is ready,
// nobody is evicted: then it is the master that is cut off (upstream's full disruption). Nodes of a zone are
// given their NoExecute taints one after the other, at EvictionRates. Key: the node's name.
#pragma once

#include <absl/container/flat_hash_map.h>

#include <map>
#include <string>

#include "client/reconciler.h"
#include "master/controllers/controller.h"
#include "master/controllers/node_health.h"
#include "master/controllers/pod_ranking.h"

namespace keelson::master {

struct NodeMonitorOptions {
  absl::Duration period = absl::Seconds(5);
  absl::Duration grace_period = absl::Seconds(50);
  absl::Duration startup_grace_period = absl::Seconds(60);  // for a node that never had a Ready condition
  EvictionRates eviction;
};

class NodeLifecycleController : public Controller, public client::Reconciler {
 public:
  explicit NodeLifecycleController(ControllerContext context, NodeMonitorOptions options = {});
  std::string name() const override { return "node-lifecycle-controller"; }
  void Start() override;
  Task<void> Stop() override;
  Task<absl::StatusOr<client::Requeue>> Reconcile(std::string key) override;

 private:
  using NodePtr = std::shared_ptr<const ::k8s::core::v1::Node>;

  void OnNode(const client::ObjectPtr& before, const client::ObjectPtr& after);
  void OnLease(const client::ObjectPtr& before, const client::ObjectPtr& after);
  void OnPod(const client::ObjectPtr& before, const client::ObjectPtr& after);
  bool AnyNodeReady() const;
  // Whether one more node of the zone may be told to send its pods away now.
  bool TakeEvictionToken(const std::string& zone);
  // Each gives the node as it is afterwards.
  Task<absl::StatusOr<NodePtr>> CheckHealth(NodePtr node);
  Task<absl::StatusOr<NodePtr>> SyncTaints(NodePtr node);
  Task<absl::Status> MarkPodsNotReady(NodePtr node);
  // The next eviction that is due.
  Task<absl::StatusOr<absl::Time>> EvictPods(NodePtr node);
  Task<absl::Status> Evict(PodPtr pod);

  ControllerContext context_;
  const NodeMonitorOptions options_;
  client::Informer& nodes_;
  client::Informer& leases_;
  client::Informer& pods_;
  absl::flat_hash_map<std::string, absl::Duration>
      last_sign_;  // node -> when it last gave a sign of life (monotonic)
  // A token each; it grows back at the zone's rate.
  struct ZoneBucket {
    double tokens = 1;
    double rate_per_s = 0;
    absl::Duration filled_at;  // monotonic
  };
  std::map<std::string, ZoneBucket> zones_;
  client::ReconcileLoop loop_;
};

}  // namespace keelson::master
