// FitError: why no node takes a pod, in the sentence upstream writes into events and the PodScheduled
// condition.
#pragma once

#include <map>
#include <string>

#include "master/scheduler/filters.h"

namespace keelson::master {

class FitError {
 public:
  explicit FitError(size_t nodes) : nodes_(nodes) {}
  void Add(const Rejection& rejection);
  // The pod asks for what the scheduler cannot do; no node was tried.
  void SetUnsupported(std::string field) { unsupported_ = std::move(field); }
  // "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable. preemption: 0/3 nodes are
  // ...".
  std::string Message(const ::k8s::core::v1::PodSpec& spec) const;

 private:
  size_t nodes_;
  std::map<std::string, int> reasons_;
  int unresolvable_ = 0, resolvable_ = 0;
  std::string unsupported_;
};

}  // namespace keelson::master
