// Gives every Node its block of pod addresses: spec.podCIDR and podCIDRs, a /24 of the cluster's CIDR each,
// none overlapping another. What nodes carry already is kept, so blocks survive restarts. Key: the node's
// name.
#pragma once

#include <absl/container/flat_hash_map.h>

#include <set>
#include <string>

#include "api/core/v1/node.pb.h"
#include "client/reconciler.h"
#include "master/controllers/controller.h"
#include "net/address.h"

namespace keelson::master {

// Blocks of one CIDR, lowest free first. Pure bookkeeping.
class CidrPool {
 public:
  CidrPool(net::Cidr cluster, int node_prefix_length);
  // Marks every block that overlaps `cidr`; outside the cluster's CIDR it is nothing to us.
  void Occupy(const net::Cidr& cidr);
  void Release(const net::Cidr& cidr);
  // ResourceExhausted when all are taken.
  absl::StatusOr<net::Cidr> Allocate();

 private:
  std::pair<uint64_t, uint64_t> Range(const net::Cidr& cidr) const;  // [first, last)
  net::Cidr cluster_;
  int prefix_;
  uint64_t blocks_;
  std::set<uint64_t> taken_;
};

using NodePtr = std::shared_ptr<const ::k8s::core::v1::Node>;

class NodeIpamController : public Controller, public client::Reconciler {
 public:
  static constexpr int kNodePrefixLength = 24;  // 254 pods a node

  // CHECK-fails for a cluster CIDR that cannot be read: the command line has been validated before.
  NodeIpamController(ControllerContext context, const std::string& cluster_cidr);
  std::string name() const override { return "node-ipam-controller"; }
  void Start() override;
  Task<void> Stop() override;
  Task<absl::StatusOr<client::Requeue>> Reconcile(std::string key) override;

 private:
  void OnNode(const client::ObjectPtr& before, const client::ObjectPtr& after);
  ControllerContext context_;
  client::Informer& nodes_;
  CidrPool pool_;
  client::ReconcileLoop loop_;
};

}  // namespace keelson::master
