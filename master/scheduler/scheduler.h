// Scheduler: binds every pod of ours (schedulerName default-scheduler, no node yet) to the best node. A
// decision is made without waiting on anything and assumed at once; its binding then runs beside the next
// decisions. Source: upstream's scheduling framework for plugin names, order, weights, back-off and the
// wording of events.
#pragma once

#include <string>
#include <vector>

#include "api/core/v1/node.pb.h"
#include "base/task.h"
#include "master/controllers/controller.h"
#include "master/scheduler/fit_error.h"
#include "master/scheduler/node_cache.h"
#include "master/scheduler/scheduling_queue.h"

namespace keelson::master {

inline constexpr char kDefaultSchedulerName[] = "default-scheduler";

class Scheduler : public Controller {
 public:
  static constexpr size_t kMaxBindsInFlight = 256;

  // Before the informers start. Its events are of component "default-scheduler", not the context's.
  explicit Scheduler(ControllerContext context);
  ~Scheduler() override;
  std::string name() const override { return "scheduler"; }
  void Start() override;
  Task<void> Stop() override;

  const NodeCache& cache() const { return cache_; }
  const SchedulingQueue& queue() const { return queue_; }

 private:
  void OnPod(const client::ObjectPtr& before, const client::ObjectPtr& after);
  void OnNode(const client::ObjectPtr& before, const client::ObjectPtr& after);
  bool StillQueued(const PodInfo& pod) const;
  void WakeFor(const std::string& node);
  Task<void> Run();
  // The chosen node, or nullptr with `error` filled.
  const NodeInfo* Choose(const PodInfo& pod, FitError* error);
  // Carries a decision out and gives its slot back; `node` is "" when there was none, `error` says why.
  Task<void> Carry(PodInfoPtr pod, std::string node, std::string error);
  Task<void> Bind(PodInfoPtr pod, std::string node);
  Task<void> Report(PodInfoPtr pod, std::string reason, std::string message);

  ControllerContext context_;
  client::EventRecorder events_;
  NodeCache cache_;
  SchedulingQueue queue_;
  Semaphore slots_;
  size_t next_start_ = 0;  // node the search starts at, so that large clusters are used all round
  Scope scope_;
};

// How many feasible nodes are enough to choose from (upstream's percentageOfNodesToScore, adaptive). Pure.
size_t FeasibleNodesToFind(size_t nodes);

}  // namespace keelson::master
