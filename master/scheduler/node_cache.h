// NodeCache: the scheduler's view of nodes and the pods on them, kept incrementally: each change costs what
// it changes, never O(nodes * pods). A pod whose binding is under way is "assumed" on its node and counts
// there. One loop; decisions are made without waiting, so the cache itself is the snapshot they need.
#pragma once

#include <absl/container/flat_hash_map.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "api/core/v1/node.pb.h"
#include "master/scheduler/pod_info.h"

namespace keelson::master {

using NodePtr = std::shared_ptr<const ::k8s::core::v1::Node>;

// One node with what its pods take. Pods may be known before their node and stay after it.
class NodeInfo {
 public:
  void SetNode(NodePtr node);
  void AddPod(const PodInfoPtr& pod);
  void RemovePod(const PodInfo& pod);

  const NodePtr& node() const { return node_; }
  const std::string& name() const { return node_->metadata().name(); }
  const ResourceAmounts& allocatable() const { return allocatable_; }
  int64_t allowed_pods() const { return allowed_pods_; }
  const ResourceAmounts& requested() const { return requested_; }
  int64_t scored_cpu_milli() const { return scored_cpu_milli_; }
  int64_t scored_memory_bytes() const { return scored_memory_bytes_; }
  int64_t pod_count() const { return static_cast<int64_t>(pods_.size()); }
  const absl::flat_hash_map<std::string, PodInfoPtr>& pods() const { return pods_; }  // by uid
  // Pods of the controlling owner `uid` here.
  int64_t PodsOfOwner(const std::string& uid) const;
  // A pod here has the port, on this address or where one of the two is all addresses.
  bool HasPortConflict(const HostPort& wanted) const;

 private:
  NodePtr node_;
  ResourceAmounts allocatable_, requested_;
  int64_t allowed_pods_ = 0, scored_cpu_milli_ = 0, scored_memory_bytes_ = 0;
  absl::flat_hash_map<std::string, PodInfoPtr> pods_;
  absl::flat_hash_map<std::string, int64_t> owners_;
  std::map<HostPort, int> ports_;
};

class NodeCache {
 public:
  void SetNode(NodePtr node);
  void RemoveNode(const std::string& name);
  // Counts the pod on spec.nodeName, moving it from wherever it was counted or assumed.
  void SetPod(const PodInfoPtr& pod);
  void RemovePod(const std::string& uid);
  // Counts the pod on `node` until SetPod, RemovePod or Forget.
  void Assume(const PodInfoPtr& pod, const std::string& node);
  // Takes an assumed pod away again; a confirmed one stays.
  void Forget(const std::string& uid);
  bool IsAssumed(const std::string& uid) const;

  // Nodes that exist, in order of name.
  const std::vector<const NodeInfo*>& nodes() const { return nodes_; }
  const NodeInfo* Find(const std::string& name) const;  // nullptr when the node does not exist
  size_t pod_count() const { return places_.size(); }

 private:
  struct Place {
    std::string node;
    PodInfoPtr pod;
    bool assumed = false;
  };
  void Rebuild();
  void Leave(const Place& place);
  std::map<std::string, std::unique_ptr<NodeInfo>> by_name_;
  std::vector<const NodeInfo*> nodes_;
  absl::flat_hash_map<std::string, Place> places_;  // by pod uid
};

}  // namespace keelson::master
