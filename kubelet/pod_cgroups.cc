// Kubelet: the cgroups of its pods, by whichever driver the runtime has (KEP-4033).
#include <memory>
#include <utility>

#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"
#include "kubelet/kubelet.h"
#include "kubelet/node_registrar.h"
#include "kubelet/resources.h"

namespace keelson::kubelet {

namespace {

constexpr absl::Duration kFirstRemovalRetry = absl::Milliseconds(500);
constexpr absl::Duration kLastRemovalRetry = absl::Seconds(10);
constexpr absl::Duration kRemoveRetry = absl::Milliseconds(10);
constexpr int kRemoveAttempts = 50;

cgroups::PodRequirements CgroupRequirements(const corev1::Pod& pod, const KubeletOptions& options) {
  cgroups::PodRequirements out;
  switch (ComputeQos(pod)) {
    case QosClass::kGuaranteed:
      out.qos = cgroups::QosClass::kGuaranteed;
      break;
    case QosClass::kBurstable:
      out.qos = cgroups::QosClass::kBurstable;
      break;
    case QosClass::kBestEffort:
      out.qos = cgroups::QosClass::kBestEffort;
      break;
  }
  ResourceList requests = PodRequests(pod), limits = PodLimits(pod);
  out.cpu_request_milli = requests["cpu"].MilliValue();
  out.cpu_limit_milli = limits["cpu"].MilliValue();
  out.memory_request_bytes = requests["memory"].Value();
  out.memory_limit_bytes = limits["memory"].Value();
  out.pids_limit = options.pod_pids_limit;
  out.enforce_cpu_quota = options.cpu_cfs_quota;
  out.cpu_period_us = absl::ToInt64Microseconds(options.cpu_cfs_quota_period);
  return out;
}

}  // namespace

Task<void> Kubelet::SetUpCgroups() {
  if (deps_.qos_tree == nullptr || !options_.cgroups_per_qos) co_return;
  absl::Duration retry = kFirstRemovalRetry;
  while (true) {
    Task<absl::Status> once = SetUpCgroupsOnce();
    absl::Status status = co_await std::move(once);
    cgroups_status_ = Annotate(status, "set up the cgroup tree");
    if (cgroups_status_.ok()) co_return;
    LogError("no pod can be started", {{"error", cgroups_status_}});
    Task<void> sleep = env_.clock().Sleep(retry);
    co_await std::move(sleep);
    retry = std::min(retry * 2, kLastRemovalRetry);
  }
}

Task<absl::Status> Kubelet::SetUpCgroupsOnce() {
  if (!registrar_->systemd_cgroups()) {
    deps_.qos_tree->UseCgroupfs();
  } else if (deps_.systemd_units == nullptr) {
    deps_.qos_tree->UseSystemd(nullptr);
  } else {
    CO_ASSIGN_OR_RETURN_SYNC(cgroups::SystemdUnits * units, deps_.systemd_units());
    deps_.qos_tree->UseSystemd(units);
  }
  cgroups::Resources all;
  auto memory = registrar_->allocatable().find("memory");
  if (memory != registrar_->allocatable().end() && memory->second.Sign() > 0) {
    all.memory_limit_bytes = memory->second.Value();
  }
  auto change = [all](cgroups::QosTree& tree) { return tree.Setup(all); };
  Task<absl::Status> setup = ChangeCgroups(change);
  absl::Status status = co_await std::move(setup);
  co_return status;
}

Task<absl::Status> Kubelet::ChangeCgroups(std::function<absl::Status(cgroups::QosTree&)> change) {
  cgroups::QosTree* tree = deps_.qos_tree;
  if (!tree->waits_for_systemd()) co_return change(*tree);
  struct Job {
    absl::Status status;
    AsyncEvent done;
  };
  auto job = std::make_shared<Job>();
  ++cgroup_jobs_;
  env_.RunInPool([tree, change, job] { job->status = change(*tree); },
                 [this, job] {
                   --cgroup_jobs_;
                   job->done.Set();
                   cgroup_job_ended_.NotifyAll();
                 });
  Task<void> wait = job->done.Wait();
  co_await std::move(wait);
  co_return job->status;
}

// A job outlives the task that waits for it, and uses what its owner is about to destroy.
Task<void> Kubelet::AwaitCgroupJobs() {
  while (cgroup_jobs_ > 0) {
    Task<void> wait = cgroup_job_ended_.Wait();
    co_await std::move(wait);
  }
}

Task<absl::Status> Kubelet::EnsureCgroup(PodPtr pod) {
  if (deps_.qos_tree == nullptr || !options_.cgroups_per_qos) co_return absl::OkStatus();
  auto change = [uid = PodUid(*pod), needs = CgroupRequirements(*pod, options_)](cgroups::QosTree& tree) {
    return tree.EnsurePod(uid, needs);
  };
  Task<absl::Status> ensure = ChangeCgroups(change);
  absl::Status status = co_await std::move(ensure);
  co_return Annotate(status, "make the pod's cgroup");
}

Task<absl::Status> Kubelet::RemoveCgroup(PodPtr pod) {
  absl::Status status;
  if (deps_.qos_tree == nullptr || !options_.cgroups_per_qos) co_return status;
  auto change = [uid = PodUid(*pod), qos = CgroupRequirements(*pod, options_).qos](cgroups::QosTree& tree) {
    return tree.RemovePod(uid, qos);
  };
  for (int i = 0; i < kRemoveAttempts; ++i) {
    Task<absl::Status> remove = ChangeCgroups(change);
    status = co_await std::move(remove);
    if (!absl::IsFailedPrecondition(status)) break;
    Task<void> sleep = env_.clock().Sleep(kRemoveRetry);  // killed processes are still leaving
    co_await std::move(sleep);
  }
  co_return status;
}

Task<void> Kubelet::KeepCgroups(std::set<std::string> keep) {
  if (deps_.qos_tree == nullptr || !options_.cgroups_per_qos) co_return;
  int64_t burstable_milli = 0;
  for (const auto& [uid, pod] : pods_) {
    if (ComputeQos(*pod) == QosClass::kBurstable && !IsTerminalPhase(pod->status().phase())) {
      burstable_milli += PodRequests(*pod)["cpu"].MilliValue();
    }
  }
  // Listed here, at this moment: those of pods that come while systemd is waited for are no orphans.
  std::vector<std::pair<std::string, cgroups::QosClass>> orphans;
  absl::StatusOr<std::map<std::string, std::string>> found = deps_.qos_tree->ListPods();
  if (found.ok()) {
    for (const auto& [uid, path] : *found) {
      if (keep.contains(uid) || pods_.contains(uid)) continue;
      for (auto qos :
           {cgroups::QosClass::kGuaranteed, cgroups::QosClass::kBurstable, cgroups::QosClass::kBestEffort}) {
        if (path == deps_.qos_tree->PodPath(uid, qos)) orphans.emplace_back(uid, qos);
      }
    }
  }
  auto change = [orphans, burstable_milli](cgroups::QosTree& tree) {
    // What still has processes goes the next time.
    for (const auto& [uid, qos] : orphans) (void)tree.RemovePod(uid, qos);
    return tree.UpdateQosShares(burstable_milli);
  };
  Task<absl::Status> once = ChangeCgroups(change);
  absl::Status status = co_await std::move(once);
  if (!status.ok()) LogWarning("cgroups of pods", {{"error", status}});
}

}  // namespace keelson::kubelet
