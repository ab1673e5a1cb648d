#include "master/apiserver/pod_status_text.h"

#include <algorithm>

#include "api/time.h"
#include "base/strings.h"
#include "master/apiserver/table.h"

namespace keelson::master {
namespace {

using ::k8s::core::v1::ContainerStateTerminated;
using ::k8s::core::v1::ContainerStatus;
using ::k8s::core::v1::Pod;

std::string TerminatedReason(const ContainerStateTerminated& t, std::string_view prefix) {
  if (!t.reason().empty()) return StrCat(prefix, t.reason());
  if (t.signal() != 0) return StrCat(prefix, "Signal:", t.signal());
  return StrCat(prefix, "ExitCode:", t.exit_code());
}

bool IsRestartable(const Pod& pod, const std::string& name) {
  for (const auto& c : pod.spec().init_containers()) {
    if (c.name() == name) return c.restart_policy() == "Always";
  }
  return false;
}

bool HasReadyCondition(const Pod& pod) {
  for (const auto& c : pod.status().conditions()) {
    if (c.type() == "Ready" && c.status() == "True") return true;
  }
  return false;
}

// Totals while walking the containers.
struct Walk {
  int restarts = 0, restartable_init_restarts = 0;
  int ready = 0, total = 0;
  absl::Time last_restart = absl::InfinitePast(), last_init_restart = absl::InfinitePast();
  std::string reason;
  bool initializing = false;
};

void WalkInit(const Pod& pod, Walk& w) {
  const int count = pod.spec().init_containers_size();
  for (int i = 0; i < pod.status().init_container_statuses_size(); ++i) {
    const ContainerStatus& c = pod.status().init_container_statuses(i);
    const bool restartable = IsRestartable(pod, c.name());
    w.restarts += c.restart_count();
    if (c.last_state().has_terminated()) {
      w.last_restart = std::max(w.last_restart, api::ToAbsl(c.last_state().terminated().finished_at()));
    }
    if (restartable) {
      w.restartable_init_restarts += c.restart_count();
      if (c.last_state().has_terminated()) {
        w.last_init_restart =
            std::max(w.last_init_restart, api::ToAbsl(c.last_state().terminated().finished_at()));
      }
    }
    if (c.state().has_terminated() && c.state().terminated().exit_code() == 0) continue;
    if (restartable && c.has_started() && c.started()) {
      if (c.ready()) ++w.ready;
      continue;
    }
    if (c.state().has_terminated()) {
      w.reason = TerminatedReason(c.state().terminated(), "Init:");
    } else if (c.state().has_waiting() && !c.state().waiting().reason().empty() &&
               c.state().waiting().reason() != "PodInitializing") {
      w.reason = StrCat("Init:", c.state().waiting().reason());
    } else {
      w.reason = StrCat("Init:", i, "/", count);
    }
    w.initializing = true;
    break;
  }
}

void WalkContainers(const Pod& pod, Walk& w) {
  w.restarts = w.restartable_init_restarts;
  w.last_restart = w.last_init_restart;
  bool running = false;
  for (int i = pod.status().container_statuses_size() - 1; i >= 0; --i) {
    const ContainerStatus& c = pod.status().container_statuses(i);
    w.restarts += c.restart_count();
    if (c.last_state().has_terminated()) {
      w.last_restart = std::max(w.last_restart, api::ToAbsl(c.last_state().terminated().finished_at()));
    }
    if (c.state().has_waiting() && !c.state().waiting().reason().empty()) {
      w.reason = c.state().waiting().reason();
    } else if (c.state().has_terminated()) {
      w.reason = TerminatedReason(c.state().terminated(), "");
    } else if (c.ready() && c.state().has_running()) {
      running = true;
      ++w.ready;
    }
  }
  if (w.reason == "Completed" && running) w.reason = HasReadyCondition(pod) ? "Running" : "NotReady";
}

}  // namespace

PodStatusText DescribePod(const Pod& pod, absl::Time now) {
  Walk w;
  w.total = pod.spec().containers_size();
  for (const auto& c : pod.spec().init_containers()) w.total += c.restart_policy() == "Always" ? 1 : 0;
  w.reason = pod.status().reason().empty() ? pod.status().phase() : pod.status().reason();
  bool initialized = false;
  for (const auto& c : pod.status().conditions()) {
    if (c.type() == "PodScheduled" && c.reason() == "SchedulingGated") w.reason = "SchedulingGated";
    if (c.type() == "Initialized" && c.status() == "True") initialized = true;
  }
  WalkInit(pod, w);
  if (!w.initializing || initialized) WalkContainers(pod, w);
  const bool finished = pod.status().phase() == "Succeeded" || pod.status().phase() == "Failed";
  if (pod.metadata().has_deletion_timestamp() && pod.status().reason() == "NodeLost") {
    w.reason = "Unknown";
  } else if (pod.metadata().has_deletion_timestamp() && !finished) {
    w.reason = "Terminating";
  }
  PodStatusText out;
  out.ready = StrCat(w.ready, "/", w.total);
  out.status = w.reason;
  out.restarts = StrCat(w.restarts);
  if (w.restarts > 0 && w.last_restart != absl::InfinitePast()) {
    out.restarts = StrCat(w.restarts, " (", HumanDuration(now - w.last_restart), " ago)");
  }
  return out;
}

}  // namespace keelson::master
