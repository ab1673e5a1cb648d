#include "kubelet/compute_pod_actions.h"

#include <algorithm>

namespace keelson::kubelet {
namespace {

using Kill = ContainerToKill;

bool Exited(const criv1::ContainerStatus& s) { return s.state() == criv1::CONTAINER_EXITED; }
bool Running(const criv1::ContainerStatus& s) { return s.state() == criv1::CONTAINER_RUNNING; }
bool Succeeded(const criv1::ContainerStatus* s) { return s != nullptr && Exited(*s) && s->exit_code() == 0; }

bool StartupPassed(const corev1::Container& c, const criv1::ContainerStatus& s, const ProbeLookup& probes) {
  return !c.has_startup_probe() || probes(ProbeKind::kStartup, s.id()) == ProbeResult::kSuccess;
}

bool AnyRegularContainerCreated(const corev1::Pod& pod, const RuntimePodStatus& status) {
  return std::any_of(pod.spec().containers().begin(), pod.spec().containers().end(),
                     [&](const auto& c) { return status.FindActive(c.name()) != nullptr; });
}

std::string KillMessage(const corev1::Container& c, bool init, std::string_view what, bool restart) {
  return StrCat(init ? "Init container " : "Container ", c.name(), " ", what,
                restart ? ", will be restarted" : "");
}

// A failed startup or liveness probe of a running container; false: none.
bool ProbeKill(const corev1::Container& c, const criv1::ContainerStatus& s, const ProbeLookup& probes,
               bool init, bool restart, PodActions& actions) {
  if (c.has_startup_probe() && probes(ProbeKind::kStartup, s.id()) == ProbeResult::kFailure) {
    actions.containers_to_kill.push_back(
        {s.id(), c.name(), KillMessage(c, init, "failed startup probe", restart), Kill::Reason::kStartup});
    return true;
  }
  if (c.has_liveness_probe() && probes(ProbeKind::kLiveness, s.id()) == ProbeResult::kFailure) {
    actions.containers_to_kill.push_back(
        {s.id(), c.name(), KillMessage(c, init, "failed liveness probe", restart), Kill::Reason::kLiveness});
    return true;
  }
  return false;
}

// A container whose definition changed under it. The hash comes from its annotation; without one nothing is
// said.
bool Changed(const corev1::Container& c, const criv1::ContainerStatus& s) {
  auto it = s.annotations().find(kAnnotationHash);
  return it != s.annotations().end() && it->second != ContainerHash(c);
}

// A container in an unknown state may run: kill before starting it again.
void KillUnknown(const corev1::Container& c, const criv1::ContainerStatus& s, PodActions& actions) {
  if (s.state() != criv1::CONTAINER_UNKNOWN) return;
  actions.containers_to_kill.push_back(
      {s.id(), c.name(),
       StrCat("Container ", c.name(), " is in unknown state, try killing it before restart"),
       Kill::Reason::kUnknownState});
}

// Sidecars of a pod whose init phase is over: kept running for ever.
void KeepSidecars(const corev1::Pod& pod, const RuntimePodStatus& status, const ProbeLookup& probes,
                  PodActions& actions) {
  for (int i = 0; i < pod.spec().init_containers_size(); ++i) {
    const corev1::Container& c = pod.spec().init_containers(i);
    if (!IsRestartableInit(c)) continue;
    const criv1::ContainerStatus* s = status.FindActive(c.name());
    if (s != nullptr && Running(*s)) {
      if (Changed(c, *s)) {
        actions.containers_to_kill.push_back(
            {s->id(), c.name(), KillMessage(c, true, "definition changed", true), Kill::Reason::kChanged});
        actions.init_containers_to_start.push_back(i);
      } else if (ProbeKill(c, *s, probes, true, true, actions)) {
        actions.init_containers_to_start.push_back(i);
      }
      continue;
    }
    if (s != nullptr) KillUnknown(c, *s, actions);
    actions.init_containers_to_start.push_back(i);
  }
}

enum class InitState { kDone, kWaiting, kFailed };

// The init phase: one after the other, a sidecar counting as done once it has started.
InitState AdvanceInit(const corev1::Pod& pod, const RuntimePodStatus& status, const ProbeLookup& probes,
                      PodActions& actions) {
  const int n = pod.spec().init_containers_size();
  int last_seen = -1;  // what came before it was done, even if its record is gone
  for (int i = 0; i < n; ++i) {
    if (status.FindActive(pod.spec().init_containers(i).name()) != nullptr) last_seen = i;
  }
  for (int i = 0; i < n; ++i) {
    const corev1::Container& c = pod.spec().init_containers(i);
    const bool sidecar = IsRestartableInit(c);
    const criv1::ContainerStatus* s = status.FindActive(c.name());
    if (s == nullptr) {
      if (i < last_seen && !sidecar) continue;
      actions.init_containers_to_start.push_back(i);
      if (i < last_seen) continue;  // a sidecar lost while later ones run: start it, look on
      return InitState::kWaiting;
    }
    if (Running(*s)) {
      if (!sidecar) return InitState::kWaiting;
      if (ProbeKill(c, *s, probes, true, true, actions)) {
        actions.init_containers_to_start.push_back(i);
        return InitState::kWaiting;
      }
      if (!StartupPassed(c, *s, probes)) return InitState::kWaiting;
      continue;
    }
    if (!sidecar && Succeeded(s)) continue;
    if (!sidecar && Exited(*s) && !RestartsAfterExit(c, pod, s->exit_code())) return InitState::kFailed;
    KillUnknown(c, *s, actions);
    actions.init_containers_to_start.push_back(i);
    if (sidecar && i < last_seen) continue;
    return InitState::kWaiting;
  }
  return InitState::kDone;
}

// What to start in a sandbox that does not exist yet.
PodActions FromNothing(const corev1::Pod& pod, const RuntimePodStatus& status,
                       const SandboxDecision& sandbox) {
  PodActions actions;
  actions.kill_pod = true;
  actions.create_sandbox = true;
  actions.attempt = sandbox.attempt;
  actions.sandbox_id = sandbox.sandbox_id;
  const bool never = pod.spec().restart_policy() == "Never";
  const bool any_policy_of_container =
      std::any_of(pod.spec().containers().begin(), pod.spec().containers().end(),
                  [](const auto& c) { return c.has_restart_policy(); });
  if (IsDeleting(pod) ||
      (never && !any_policy_of_container && sandbox.attempt != 0 && !status.containers.empty())) {
    // It ran once and shall not run again.
    actions.create_sandbox = false;
    return actions;
  }
  std::vector<int> start;
  for (int i = 0; i < pod.spec().containers_size(); ++i) {
    const corev1::Container& c = pod.spec().containers(i);
    const criv1::ContainerStatus* s = status.Find(c.name());
    if (s != nullptr && Exited(*s) && !RestartsAfterExit(c, pod, s->exit_code())) continue;
    start.push_back(i);
  }
  if (start.empty()) {
    // All have ended as they should, unless the init phase of this pod never was.
    bool init_pending = pod.spec().init_containers_size() > 0 && status.containers.empty();
    if (!init_pending) {
      actions.create_sandbox = false;
      return actions;
    }
  }
  if (pod.spec().init_containers_size() > 0) {
    actions.init_containers_to_start.push_back(0);
  } else {
    actions.containers_to_start = std::move(start);
  }
  return actions;
}

}  // namespace

bool RestartsAfterExit(const corev1::Container& container, const corev1::Pod& pod, int exit_code) {
  for (const auto& rule : container.restart_policy_rules()) {
    if (!rule.has_exit_codes() || rule.action() != "Restart") continue;
    const auto& values = rule.exit_codes().values();
    bool in = std::find(values.begin(), values.end(), exit_code) != values.end();
    if (in == (rule.exit_codes().operator_() == "In")) return true;
  }
  const std::string& policy =
      container.has_restart_policy() ? container.restart_policy() : pod.spec().restart_policy();
  if (policy == "Never") return false;
  if (policy == "OnFailure") return exit_code != 0;
  return true;
}

bool ShouldContainerBeRestarted(const corev1::Container& container, const corev1::Pod& pod,
                                const RuntimePodStatus& status) {
  if (IsDeleting(pod)) return false;
  const criv1::ContainerStatus* s = status.Find(container.name());
  if (s == nullptr) return true;
  if (Running(*s)) return false;
  if (!Exited(*s)) return true;  // created but never started, or unknown
  const corev1::Container* init = FindInitContainer(pod, container.name());
  if (init != nullptr && !IsRestartableInit(*init)) {
    return s->exit_code() != 0 && RestartsAfterExit(container, pod, s->exit_code());
  }
  return RestartsAfterExit(container, pod, s->exit_code());
}

bool PodHasInitialized(const corev1::Pod& pod, const RuntimePodStatus& status, const ProbeLookup& probes) {
  if (pod.spec().init_containers_size() == 0 || AnyRegularContainerCreated(pod, status)) return true;
  PodActions scratch;
  return AdvanceInit(pod, status, probes, scratch) == InitState::kDone;
}

SandboxDecision DecideSandbox(const corev1::Pod& pod, const RuntimePodStatus& status) {
  if (status.sandboxes.empty()) return {true, 0, ""};
  const criv1::PodSandboxStatus& latest = status.sandboxes.front();
  const uint32_t next = latest.metadata().attempt() + 1;
  size_t ready = std::count_if(status.sandboxes.begin(), status.sandboxes.end(),
                               [](const auto& s) { return s.state() == criv1::SANDBOX_READY; });
  if (ready > 1) return {true, next, latest.id()};
  if (latest.state() != criv1::SANDBOX_READY) return {true, next, latest.id()};
  if (latest.has_linux()) {
    bool node_network = latest.linux().namespaces().options().network() == criv1::NODE;
    if (node_network != pod.spec().host_network()) return {true, next, ""};
  }
  if (!pod.spec().host_network() && latest.has_network() && latest.network().ip().empty()) {
    return {true, next, latest.id()};
  }
  return {false, latest.metadata().attempt(), latest.id()};
}

PodActions ComputePodActions(const corev1::Pod& pod, const RuntimePodStatus& status,
                             const ProbeLookup& probes) {
  SandboxDecision sandbox = DecideSandbox(pod, status);
  if (sandbox.changed) return FromNothing(pod, status, sandbox);

  PodActions actions;
  actions.attempt = sandbox.attempt;
  actions.sandbox_id = sandbox.sandbox_id;
  for (int i = 0; i < pod.spec().ephemeral_containers_size(); ++i) {
    const auto& c = pod.spec().ephemeral_containers(i).ephemeral_container_common();
    if (status.Find(c.name()) == nullptr) actions.ephemeral_containers_to_start.push_back(i);
  }

  if (pod.spec().init_containers_size() > 0) {
    if (AnyRegularContainerCreated(pod, status)) {
      KeepSidecars(pod, status, probes, actions);
    } else {
      switch (AdvanceInit(pod, status, probes, actions)) {
        case InitState::kDone:
          break;
        case InitState::kWaiting:
          return actions;
        case InitState::kFailed: {
          PodActions failed;
          failed.attempt = sandbox.attempt;
          failed.sandbox_id = sandbox.sandbox_id;
          failed.kill_pod = true;
          return failed;
        }
      }
    }
  }

  int kept = 0;
  for (int i = 0; i < pod.spec().containers_size(); ++i) {
    const corev1::Container& c = pod.spec().containers(i);
    const criv1::ContainerStatus* s = status.Find(c.name());
    if (s == nullptr || !Running(*s)) {
      if (ShouldContainerBeRestarted(c, pod, status)) {
        if (s != nullptr) KillUnknown(c, *s, actions);
        actions.containers_to_start.push_back(i);
      }
      continue;
    }
    if (Changed(c, *s)) {
      actions.containers_to_kill.push_back(
          {s->id(), c.name(), KillMessage(c, false, "definition changed", true), Kill::Reason::kChanged});
      actions.containers_to_start.push_back(i);
      continue;
    }
    // A probe's verdict ends a container as a failure would.
    const bool restart = RestartsAfterExit(c, pod, /*exit_code=*/137);
    if (ProbeKill(c, *s, probes, false, restart, actions)) {
      if (restart) actions.containers_to_start.push_back(i);
      continue;
    }
    ++kept;
  }
  if (kept == 0 && actions.containers_to_start.empty()) {
    actions.kill_pod = true;  // all have ended for good: sidecars and sandbox go too
    actions.init_containers_to_start.clear();
  }
  return actions;
}

}  // namespace keelson::kubelet
