#include "kubelet/generate_pod_status.h"

#include <absl/strings/str_join.h>

#include <algorithm>
#include <set>

#include "api/time.h"
#include "kubelet/resources.h"

namespace keelson::kubelet {
namespace {

using Statuses = google::protobuf::RepeatedPtrField<corev1::ContainerStatus>;

constexpr const char* kOwnedConditions[] = {"PodScheduled", "Initialized", "ContainersReady", "Ready",
                                            "PodReadyToStartContainers"};

bool Owned(std::string_view type) {
  return std::any_of(std::begin(kOwnedConditions), std::end(kOwnedConditions),
                     [&](const char* owned) { return type == owned; });
}

::k8s::meta::v1::Time FromNanos(int64_t nanos) { return api::ToApiTime(absl::FromUnixNanos(nanos)); }

corev1::ContainerStatus* FindMutable(Statuses* statuses, std::string_view name) {
  for (auto& s : *statuses) {
    if (s.name() == name) return &s;
  }
  return nullptr;
}

const corev1::ContainerStatus* FindIn(const Statuses& statuses, std::string_view name) {
  for (const auto& s : statuses) {
    if (s.name() == name) return &s;
  }
  return nullptr;
}

// What a runtime's container looks like to the API, `ready` and `started` apart.
// `old`: what was told of the container before, or null.
corev1::ContainerStatus Convert(const criv1::ContainerStatus& from, const corev1::ContainerStatus* old,
                                const StatusInputs& in) {
  corev1::ContainerStatus out;
  out.set_name(ContainerName(from));
  out.set_restart_count(RestartCount(from));
  const std::string& user_image = from.image().user_specified_image();
  out.set_image(from.image().image().empty() ? user_image : from.image().image());
  out.set_image_id(from.image_ref().empty() ? from.image_id() : from.image_ref());
  out.set_container_id(StrCat(in.runtime_name, "://", from.id()));
  switch (from.state()) {
    case criv1::CONTAINER_RUNNING:
      *out.mutable_state()->mutable_running()->mutable_started_at() = FromNanos(from.started_at());
      break;
    case criv1::CONTAINER_CREATED:
      out.mutable_state()->mutable_waiting();
      break;
    case criv1::CONTAINER_UNKNOWN:
      // A runtime that came back in the middle of a start and does not know yet: nothing has ended.
      if (old == nullptr || !old->state().has_running()) {
        out.mutable_state()->mutable_waiting();
        break;
      }
      [[fallthrough]];
    default: {
      auto& t = *out.mutable_state()->mutable_terminated();
      const bool unknown = from.state() != criv1::CONTAINER_EXITED;
      t.set_exit_code(unknown ? 137 : from.exit_code());
      t.set_reason(unknown ? "ContainerStatusUnknown" : from.reason());
      if (t.reason().empty()) t.set_reason(t.exit_code() == 0 ? "Completed" : "Error");
      auto message = in.termination_messages.find(from.id());
      t.set_message(message != in.termination_messages.end() ? message->second : from.message());
      if (unknown) t.set_message("The container could not be located when the pod was terminated");
      if (from.started_at() > 0) *t.mutable_started_at() = FromNanos(from.started_at());
      if (from.finished_at() > 0) *t.mutable_finished_at() = FromNanos(from.finished_at());
      t.set_container_id(out.container_id());
    }
  }
  return out;
}

void SetResources(const corev1::Container& c, corev1::ContainerStatus& status) {
  if (c.resources().requests_size() > 0) *status.mutable_allocated_resources() = c.resources().requests();
  if (c.resources().requests_size() > 0 || c.resources().limits_size() > 0) {
    *status.mutable_resources() = c.resources();
    status.mutable_resources()->clear_claims();
  }
}

// Mounts of a container. Which of them are read-only with all below them, the runtime tells (`current`, null:
// it has none) or was told before (`old`).
void SetMounts(const corev1::Container& c, const criv1::ContainerStatus* current,
               const corev1::ContainerStatus* old, corev1::ContainerStatus& status) {
  std::set<std::string> recursive;
  if (current != nullptr) {
    for (const criv1::Mount& m : current->mounts()) {
      if (m.recursive_read_only()) recursive.insert(m.container_path());
    }
  } else if (old != nullptr) {
    for (const auto& m : old->volume_mounts()) {
      if (m.recursive_read_only() == "Enabled") recursive.insert(m.mount_path());
    }
  }
  for (const auto& m : c.volume_mounts()) {
    auto* out = status.add_volume_mounts();
    out->set_name(m.name());
    out->set_mount_path(m.mount_path());
    out->set_read_only(m.read_only());
    if (m.read_only())
      out->set_recursive_read_only(recursive.contains(m.mount_path()) ? "Enabled" : "Disabled");
  }
}

// One container's status.
corev1::ContainerStatus StatusOf(const corev1::Pod& pod, const corev1::Container& c, const Statuses& previous,
                                 const std::string& default_reason, bool init, const StatusInputs& in) {
  corev1::ContainerStatus out;
  const corev1::ContainerStatus* old = FindIn(previous, c.name());
  const criv1::ContainerStatus *current = nullptr, *last = nullptr;
  for (const auto& s : in.runtime->containers) {
    if (ContainerName(s) != c.name()) continue;
    (current == nullptr ? current : last) = &s;
    if (last != nullptr) break;
  }
  if (current != nullptr) {
    out = Convert(*current, old, in);
    if (out.state().has_waiting()) out.mutable_state()->mutable_waiting()->set_reason(default_reason);
    if (last != nullptr && last->state() == criv1::CONTAINER_EXITED) {
      *out.mutable_last_state() = Convert(*last, nullptr, in).state();
    } else if (last == nullptr && old != nullptr && old->restart_count() == out.restart_count() &&
               old->container_id() == out.container_id()) {
      *out.mutable_last_state() = old->last_state();  // its predecessor was collected
    }
  } else if (old != nullptr && old->state().has_terminated()) {
    out = *old;  // collected after its end was told
    out.clear_volume_mounts();
  } else if (old != nullptr && old->state().has_running() && (!init || in.terminal)) {
    // It ran once and is nowhere: nobody knows how it ended.
    out.set_name(c.name());
    out.set_image(old->image());
    out.set_image_id(old->image_id());
    out.set_restart_count(old->restart_count());
    corev1::ContainerState ended;
    auto& t = *ended.mutable_terminated();
    t.set_exit_code(137);
    t.set_reason("ContainerStatusUnknown");
    t.set_message(IsDeleting(pod) || in.terminal
                      ? "The container could not be located when the pod was terminated"
                      : "The container could not be located when the pod was deleted.  The container used to "
                        "be Running");
    t.set_container_id(old->container_id());
    *t.mutable_started_at() = old->state().running().started_at();
    if (IsDeleting(pod) || in.terminal) {
      *out.mutable_state() = ended;
    } else {
      *out.mutable_last_state() = ended;
      out.set_restart_count(old->restart_count() + 1);
      out.mutable_state()->mutable_waiting()->set_reason(default_reason);
    }
  } else {
    out.set_name(c.name());
    out.set_image(c.image());
    out.mutable_state()->mutable_waiting()->set_reason(default_reason);
    if (old != nullptr) {
      out.set_restart_count(old->restart_count());
      *out.mutable_last_state() = old->last_state();
      if (!old->image().empty()) out.set_image(old->image());
      out.set_image_id(old->image_id());
    }
  }
  // A container that was counted and never started is gone again; the count stays.
  if (old != nullptr && old->restart_count() > out.restart_count())
    out.set_restart_count(old->restart_count());
  // Waiting to be started again: the reason is more telling than how it ended.
  auto failure = in.failures.find(c.name());
  if (failure != in.failures.end() && !in.terminal && !out.state().has_running() &&
      ShouldContainerBeRestarted(c, pod, *in.runtime)) {
    if (out.state().has_terminated()) *out.mutable_last_state() = out.state();
    out.mutable_state()->Clear();
    out.mutable_state()->mutable_waiting()->set_reason(failure->second.reason);
    out.mutable_state()->mutable_waiting()->set_message(failure->second.message);
  }
  // Nothing will start it any more.
  if (in.terminal && out.state().has_waiting() && current == nullptr &&
      !IsTerminalPhase(in.previous.phase())) {
    auto& t = *out.mutable_state()->mutable_terminated();
    if (out.last_state().has_terminated()) {
      t = out.last_state().terminated();
      out.clear_last_state();
    } else {
      t.set_exit_code(137);
      t.set_reason("ContainerStatusUnknown");
      t.set_message("The container could not be located when the pod was terminated");
    }
    out.mutable_state()->clear_waiting();
  }
  SetResources(c, out);
  SetMounts(c, current, old, out);
  return out;
}

bool AllInitDone(const corev1::Pod& pod, const StatusInputs& in) {
  return PodHasInitialized(pod, *in.runtime, in.probes);
}

void AddCondition(corev1::PodStatus* status, std::string_view type, bool value, int64_t generation,
                  std::string_view reason = "", std::string_view message = "") {
  corev1::PodCondition* c = status->add_conditions();
  c->set_type(std::string(type));
  c->set_status(value ? "True" : "False");
  c->set_reason(std::string(reason));
  c->set_message(std::string(message));
  c->set_observed_generation(generation);
}

std::string NameList(const char* what, const std::vector<std::string>& names) {
  return StrCat(what, ": [", absl::StrJoin(names, " "), "]");
}

struct Verdict {
  bool ok = false;
  std::string reason, message;
};

Verdict ContainersReady(const corev1::Pod& pod, const corev1::PodStatus& status) {
  if (status.container_statuses_size() == 0 && pod.spec().containers_size() > 0) {
    return {false, "UnknownContainerStatuses", ""};
  }
  std::vector<std::string> unknown, unready;
  for (const auto& c : pod.spec().init_containers()) {
    if (!IsRestartableInit(c)) continue;
    const auto* s = FindIn(status.init_container_statuses(), c.name());
    if (s == nullptr) {
      unknown.push_back(c.name());
    } else if (!s->ready()) {
      unready.push_back(c.name());
    }
  }
  for (const auto& c : pod.spec().containers()) {
    const auto* s = FindIn(status.container_statuses(), c.name());
    if (s == nullptr) {
      unknown.push_back(c.name());
    } else if (!s->ready()) {
      unready.push_back(c.name());
    }
  }
  if (status.phase() == "Succeeded" && unknown.empty()) return {false, "PodCompleted", ""};
  if (status.phase() == "Failed" && unknown.empty()) return {false, "PodFailed", ""};
  std::vector<std::string> messages;
  if (!unknown.empty()) messages.push_back(NameList("containers with unknown status", unknown));
  if (!unready.empty()) messages.push_back(NameList("containers with unready status", unready));
  if (!messages.empty()) return {false, "ContainersNotReady", absl::StrJoin(messages, ", ")};
  return {true, "", ""};
}

Verdict Ready(const corev1::Pod& pod, const corev1::PodStatus& status, const Verdict& containers) {
  if (!containers.ok) return containers;
  std::vector<std::string> messages;
  for (const auto& gate : pod.spec().readiness_gates()) {
    const corev1::PodCondition* c = FindCondition(pod.status(), gate.condition_type());
    if (c == nullptr) c = FindCondition(status, gate.condition_type());
    if (c == nullptr) {
      messages.push_back(StrCat("corresponding condition of pod readiness gate \"", gate.condition_type(),
                                "\" does not exist."));
    } else if (c->status() != "True") {
      messages.push_back(StrCat("the status of pod readiness gate \"", gate.condition_type(),
                                "\" is not \"True\", but ", c->status()));
    }
  }
  if (!messages.empty()) return {false, "ReadinessGatesNotReady", absl::StrJoin(messages, ", ")};
  return {true, "", ""};
}

Verdict Initialized(const corev1::Pod& pod, const corev1::PodStatus& status) {
  if (pod.spec().init_containers_size() == 0) return {true, "", ""};
  for (const auto& s : status.container_statuses()) {
    if (s.state().has_running() || s.state().has_terminated() || s.last_state().has_terminated())
      return {true, "", ""};
  }
  if (status.init_container_statuses_size() == 0) return {false, "UnknownContainerStatuses", ""};
  std::vector<std::string> unknown, incomplete;
  for (const auto& c : pod.spec().init_containers()) {
    const auto* s = FindIn(status.init_container_statuses(), c.name());
    if (s == nullptr) {
      unknown.push_back(c.name());
    } else if (IsRestartableInit(c) ? !s->started() : !s->ready()) {
      incomplete.push_back(c.name());
    }
  }
  if (status.phase() == "Succeeded" && unknown.empty()) return {true, "PodCompleted", ""};
  std::vector<std::string> messages;
  if (!unknown.empty()) messages.push_back(NameList("containers with unknown status", unknown));
  if (!incomplete.empty()) messages.push_back(NameList("containers with incomplete status", incomplete));
  if (!messages.empty()) return {false, "ContainersNotInitialized", absl::StrJoin(messages, ", ")};
  return {true, "", ""};
}

void SetAddresses(const corev1::Pod& pod, const StatusInputs& in, corev1::PodStatus& out) {
  for (const std::string& ip : in.host_ips) out.add_host_ips()->set_ip(ip);
  if (!in.host_ips.empty()) out.set_host_ip(in.host_ips.front());
  std::vector<std::string> ips = in.runtime->ips;
  if (pod.spec().host_network() && !in.runtime->sandboxes.empty()) ips = in.host_ips;
  if (ips.empty()) {
    // A pod that has ended keeps the address it had.
    for (const auto& ip : in.previous.pod_ips()) ips.push_back(ip.ip());
    bool waiting_for_new =
        in.runtime->sandboxes.empty() && !in.terminal && !IsTerminalPhase(in.previous.phase());
    if (waiting_for_new && in.runtime->containers.empty()) ips.clear();
  }
  for (const std::string& ip : ips) out.add_pod_ips()->set_ip(ip);
  if (!ips.empty()) out.set_pod_ip(ips.front());
}

}  // namespace

std::string_view TrimIdScheme(std::string_view id) {
  size_t at = id.find("://");
  return at == std::string_view::npos ? id : id.substr(at + 3);
}

const corev1::PodCondition* FindCondition(const corev1::PodStatus& status, std::string_view type) {
  for (const auto& c : status.conditions()) {
    if (c.type() == type) return &c;
  }
  return nullptr;
}

const corev1::ContainerStatus* FindContainerStatus(const corev1::PodStatus& status, std::string_view name) {
  if (const auto* s = FindIn(status.container_statuses(), name)) return s;
  if (const auto* s = FindIn(status.init_container_statuses(), name)) return s;
  return FindIn(status.ephemeral_container_statuses(), name);
}

std::string ComputePhase(const corev1::Pod& pod, const corev1::PodStatus& status, bool terminal) {
  int pending_init = 0, failed_init = 0, failed_init_for_good = 0;
  int unknown = 0, running = 0, waiting = 0, stopped = 0, stopped_for_good = 0, succeeded = 0;
  auto init_ended = [&](const corev1::Container& c, int exit_code) {
    if (exit_code == 0) return;
    ++failed_init;
    if (!RestartsAfterExit(c, pod, exit_code)) ++failed_init_for_good;
  };
  auto ended = [&](const corev1::Container& c, int exit_code) {
    ++stopped;
    if (!RestartsAfterExit(c, pod, exit_code)) ++stopped_for_good;
  };
  for (const auto& c : pod.spec().init_containers()) {
    const auto* s = FindIn(status.init_container_statuses(), c.name());
    if (s == nullptr) {
      ++pending_init;
      continue;
    }
    const bool sidecar = IsRestartableInit(c);
    const auto& state = s->state();
    if (state.has_running()) {
      if (!sidecar || !s->started()) ++pending_init;
    } else if (state.has_terminated()) {
      if (!sidecar) init_ended(c, state.terminated().exit_code());
    } else if (state.has_waiting()) {
      if (s->last_state().has_terminated()) {
        if (!sidecar) init_ended(c, s->last_state().terminated().exit_code());
      } else {
        ++pending_init;
      }
    } else {
      ++pending_init;
    }
  }
  for (const auto& c : pod.spec().containers()) {
    const auto* s = FindIn(status.container_statuses(), c.name());
    if (s == nullptr) {
      ++unknown;
    } else if (s->state().has_running()) {
      ++running;
    } else if (s->state().has_terminated()) {
      ended(c, s->state().terminated().exit_code());
      if (s->state().terminated().exit_code() == 0) ++succeeded;
    } else if (s->state().has_waiting()) {
      if (s->last_state().has_terminated()) {
        ended(c, s->last_state().terminated().exit_code());
      } else {
        ++waiting;
      }
    } else {
      ++unknown;
    }
  }
  if (failed_init_for_good > 0) return "Failed";
  const bool ran = running + stopped > 0;
  if (pending_init > 0 && !ran && !terminal) return "Pending";
  if (waiting > 0 && !terminal) return "Pending";
  if (running > 0 && unknown == 0) return "Running";
  if (running == 0 && stopped > 0 && unknown == 0) {
    if (terminal) return stopped == succeeded && failed_init == 0 ? "Succeeded" : "Failed";
    if (stopped_for_good < stopped) return "Running";  // one at least runs again
    return stopped == succeeded ? "Succeeded" : "Failed";
  }
  if (terminal) return "Failed";
  return "Pending";
}

void ApplyProbeResults(const corev1::Pod& pod, const ProbeLookup& probes, corev1::PodStatus* status) {
  auto apply = [&](const corev1::Container& c, corev1::ContainerStatus& s) {
    const std::string_view id = TrimIdScheme(s.container_id());
    const bool running = s.state().has_running();
    const bool started =
        running && (!c.has_startup_probe() || probes(ProbeKind::kStartup, id) == ProbeResult::kSuccess);
    s.set_started(started);
    s.set_ready(started &&
                (!c.has_readiness_probe() || probes(ProbeKind::kReadiness, id) == ProbeResult::kSuccess));
  };
  for (const auto& c : pod.spec().containers()) {
    if (auto* s = FindMutable(status->mutable_container_statuses(), c.name())) apply(c, *s);
  }
  for (const auto& c : pod.spec().init_containers()) {
    auto* s = FindMutable(status->mutable_init_container_statuses(), c.name());
    if (s == nullptr) continue;
    if (IsRestartableInit(c)) {
      apply(c, *s);
    } else {
      s->set_started(s->state().has_running());
      s->set_ready(s->state().has_terminated() && s->state().terminated().exit_code() == 0);
    }
  }
}

void SetPodConditions(const corev1::Pod& pod, bool sandbox_ready, corev1::PodStatus* status) {
  // Readiness gates look at the conditions of others, so the verdicts come first.
  Verdict initialized = Initialized(pod, *status);
  Verdict containers = ContainersReady(pod, *status);
  Verdict ready = Ready(pod, *status, containers);
  google::protobuf::RepeatedPtrField<corev1::PodCondition> others;
  for (const auto& c : status->conditions()) {
    if (!Owned(c.type())) *others.Add() = c;
  }
  status->clear_conditions();
  const int64_t generation = pod.metadata().generation();
  AddCondition(status, "PodReadyToStartContainers", sandbox_ready, generation);
  AddCondition(status, "Initialized", initialized.ok, generation, initialized.reason, initialized.message);
  AddCondition(status, "Ready", ready.ok, generation, ready.reason, ready.message);
  AddCondition(status, "ContainersReady", containers.ok, generation, containers.reason, containers.message);
  AddCondition(status, "PodScheduled", true, generation);
  for (auto& c : others) *status->add_conditions() = std::move(c);
}

void MergeConditions(const corev1::PodStatus& before, absl::Time now, corev1::PodStatus* status) {
  for (auto& c : *status->mutable_conditions()) {
    if (!Owned(c.type()) && c.has_last_transition_time()) continue;  // its owner keeps the time
    const corev1::PodCondition* old = FindCondition(before, c.type());
    if (old != nullptr && old->status() == c.status() && old->has_last_transition_time()) {
      *c.mutable_last_transition_time() = old->last_transition_time();
    } else if (!c.has_last_transition_time() || api::IsZero(c.last_transition_time()) || old != nullptr) {
      *c.mutable_last_transition_time() = api::ToApiTime(now);
    }
  }
}

corev1::PodStatus GeneratePodStatus(const corev1::Pod& pod, const StatusInputs& in) {
  corev1::PodStatus out;
  const bool has_init = pod.spec().init_containers_size() > 0;
  const std::string waiting_reason =
      has_init && !AllInitDone(pod, in) ? "PodInitializing" : "ContainerCreating";
  for (const auto& c : pod.spec().init_containers()) {
    *out.add_init_container_statuses() = StatusOf(pod, c, in.previous.init_container_statuses(),
                                                  has_init ? "PodInitializing" : waiting_reason, true, in);
  }
  for (const auto& c : pod.spec().containers()) {
    *out.add_container_statuses() =
        StatusOf(pod, c, in.previous.container_statuses(), waiting_reason, false, in);
  }
  for (const auto& e : pod.spec().ephemeral_containers()) {
    *out.add_ephemeral_container_statuses() =
        StatusOf(pod, EphemeralAsContainer(e), in.previous.ephemeral_container_statuses(),
                 "ContainerCreating", false, in);
  }
  std::sort(out.mutable_container_statuses()->begin(), out.mutable_container_statuses()->end(),
            [](const auto& a, const auto& b) { return a.name() < b.name(); });
  ApplyProbeResults(pod, in.probes, &out);

  // A terminal phase is for ever; so are the words that came with it.
  if (IsTerminalPhase(in.previous.phase())) {
    out.set_phase(in.previous.phase());
  } else {
    out.set_phase(ComputePhase(pod, out, in.terminal));
  }
  if (IsTerminalPhase(out.phase())) {
    out.set_reason(in.previous.reason());
    out.set_message(in.previous.message());
  }
  SetAddresses(pod, in, out);
  out.set_qos_class(pod.status().qos_class().empty() ? std::string(QosName(ComputeQos(pod)))
                                                     : pod.status().qos_class());
  out.set_observed_generation(pod.metadata().generation());
  if (in.previous.has_start_time()) {
    *out.mutable_start_time() = in.previous.start_time();
  } else if (pod.status().has_start_time()) {
    *out.mutable_start_time() = pod.status().start_time();
  } else {
    *out.mutable_start_time() = api::ToApiTime(in.now);
  }
  out.set_nominated_node_name(pod.status().nominated_node_name());
  // Conditions of others live in the API's copy.
  *out.mutable_conditions() = pod.status().conditions();
  const auto& sandboxes = in.runtime->sandboxes;
  const bool sandbox_ready = !sandboxes.empty() && sandboxes.front().state() == criv1::SANDBOX_READY &&
                             (pod.spec().host_network() || !sandboxes.front().has_network() ||
                              !sandboxes.front().network().ip().empty());
  SetPodConditions(pod, sandbox_ready && !in.terminal, &out);
  MergeConditions(in.previous.conditions_size() > 0 ? in.previous : pod.status(), in.now, &out);
  return out;
}

}  // namespace keelson::kubelet
