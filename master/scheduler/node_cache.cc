#include "master/scheduler/node_cache.h"

#include "api/quantity.h"
#include "net/host_ip.h"

namespace keelson::master {

void NodeInfo::SetNode(NodePtr node) {
  node_ = std::move(node);
  if (node_ == nullptr) return;
  const QuantityMap& list =
      node_->status().allocatable().empty() ? node_->status().capacity() : node_->status().allocatable();
  allocatable_ = AmountsOf(list);
  auto pods = list.find("pods");
  allowed_pods_ = pods == list.end() ? 0 : api::Quantity::Of(pods->second).Value();
}

void NodeInfo::AddPod(const PodInfoPtr& pod) {
  if (!pods_.emplace(pod->uid(), pod).second) return;
  requested_.Add(pod->requests);
  scored_cpu_milli_ += pod->scored_cpu_milli;
  scored_memory_bytes_ += pod->scored_memory_bytes;
  if (!pod->owner_uid.empty()) ++owners_[pod->owner_uid];
  for (const HostPort& port : pod->host_ports) ++ports_[port];
}

void NodeInfo::RemovePod(const PodInfo& pod) {
  if (pods_.erase(pod.uid()) == 0) return;
  requested_.Sub(pod.requests);
  scored_cpu_milli_ -= pod.scored_cpu_milli;
  scored_memory_bytes_ -= pod.scored_memory_bytes;
  auto owner = owners_.find(pod.owner_uid);
  if (owner != owners_.end() && --owner->second == 0) owners_.erase(owner);
  for (const HostPort& port : pod.host_ports) {
    auto it = ports_.find(port);
    if (it != ports_.end() && --it->second == 0) ports_.erase(it);
  }
}

int64_t NodeInfo::PodsOfOwner(const std::string& uid) const {
  auto it = owners_.find(uid);
  return it == owners_.end() ? 0 : it->second;
}

bool NodeInfo::HasPortConflict(const HostPort& wanted) const {
  for (const auto& [used, count] : ports_) {
    if (used.port != wanted.port || used.protocol != wanted.protocol) continue;
    if (net::HostIpsOverlap(used.ip, wanted.ip)) return true;
  }
  return false;
}

void NodeCache::Rebuild() {
  nodes_.clear();
  for (const auto& [name, info] : by_name_) {
    if (info->node() != nullptr) nodes_.push_back(info.get());
  }
}

void NodeCache::SetNode(NodePtr node) {
  auto& slot = by_name_[node->metadata().name()];
  if (slot == nullptr) slot = std::make_unique<NodeInfo>();
  bool fresh = slot->node() == nullptr;
  slot->SetNode(std::move(node));
  if (fresh) Rebuild();
}

void NodeCache::RemoveNode(const std::string& name) {
  auto it = by_name_.find(name);
  if (it == by_name_.end()) return;
  it->second->SetNode(nullptr);
  if (it->second->pod_count() == 0) by_name_.erase(it);
  Rebuild();
}

void NodeCache::Leave(const Place& place) {
  auto it = by_name_.find(place.node);
  if (it == by_name_.end()) return;
  it->second->RemovePod(*place.pod);
  if (it->second->node() == nullptr && it->second->pod_count() == 0) by_name_.erase(it);
}

void NodeCache::SetPod(const PodInfoPtr& pod) {
  RemovePod(pod->uid());
  const std::string& node = pod->pod->spec().node_name();
  auto& slot = by_name_[node];
  if (slot == nullptr) slot = std::make_unique<NodeInfo>();
  slot->AddPod(pod);
  places_[pod->uid()] = Place{node, pod, false};
}

void NodeCache::RemovePod(const std::string& uid) {
  auto it = places_.find(uid);
  if (it == places_.end()) return;
  Place place = std::move(it->second);
  places_.erase(it);
  Leave(place);
}

void NodeCache::Assume(const PodInfoPtr& pod, const std::string& node) {
  RemovePod(pod->uid());
  auto& slot = by_name_[node];
  if (slot == nullptr) slot = std::make_unique<NodeInfo>();
  slot->AddPod(pod);
  places_[pod->uid()] = Place{node, pod, true};
}

void NodeCache::Forget(const std::string& uid) {
  if (IsAssumed(uid)) RemovePod(uid);
}

bool NodeCache::IsAssumed(const std::string& uid) const {
  auto it = places_.find(uid);
  return it != places_.end() && it->second.assumed;
}

const NodeInfo* NodeCache::Find(const std::string& name) const {
  auto it = by_name_.find(name);
  return it == by_name_.end() || it->second->node() == nullptr ? nullptr : it->second.get();
}

}  // namespace keelson::master
