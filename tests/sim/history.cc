#include "tests/sim/history.h"

#include <absl/strings/numbers.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "api/codec.h"
#include "api/core/v1/pod.pb.h"
#include "base/log.h"
#include "base/strings.h"

namespace keelson::sim {
namespace {

namespace corev1 = ::k8s::core::v1;

constexpr char kPods[] = "/registry/pods/";

bool Tracing() {
  static const bool on = std::getenv("KEELSON_SIM_TRACE") != nullptr;
  return on;
}

// "/registry/pods/default/web-1" -> "/registry/pods/".
std::string PrefixOf(const std::string& key) {
  size_t end = key.find('/', 1);                               // after "/registry"
  if (end != std::string::npos) end = key.find('/', end + 1);  // after the resource
  return end == std::string::npos ? key : key.substr(0, end + 1);
}

// Objects are stored as the API's protobuf, with or without its envelope.
absl::StatusOr<corev1::Pod> DecodePod(const std::string& bytes) {
  corev1::Pod pod;
  if (api::IsProtobufEnvelope(bytes)) {
    absl::StatusOr<::k8s::runtime::Unknown> unknown = api::UnwrapProtobuf(bytes);
    if (!unknown.ok()) return unknown.status();
    if (pod.ParseFromString(unknown->raw())) return pod;
  } else if (pod.ParseFromString(bytes)) {
    return pod;
  }
  return absl::DataLossError("a stored pod does not parse");
}

}  // namespace

History::History(Env& env, master::Store& store, std::function<void(std::string)> violation)
    : env_(env), violation_(std::move(violation)) {
  absl::StatusOr<std::unique_ptr<master::StoreWatch>> watch = store.Watch("/", last_);
  KEELSON_CHECK(watch.ok(), watch.status().ToString());
  watch_ = *std::move(watch);
}

void History::Drain() {
  while (true) {
    std::optional<absl::StatusOr<master::WatchBatch>> batch = watch_->TryNext();
    if (!batch.has_value()) return;
    if (!batch->ok()) {
      violation_(StrCat("the observer's watch ended: ", batch->status().ToString()));
      return;
    }
    for (const master::StoreEvent& event : (*batch)->events) Add(event);
    if ((*batch)->events.empty()) return;
  }
}

void History::Add(const master::StoreEvent& event) {
  if (event.revision != last_ + 1) violation_(StrCat("store revision ", event.revision, " after ", last_));
  last_ = event.revision;
  auto mix = [this](std::string_view bytes) {
    for (unsigned char c : bytes) hash_ = (hash_ ^ c) * 1099511628211u;
  };
  mix(event.key);
  mix(StrCat(event.revision, static_cast<int>(event.type)));
  if (event.value != nullptr) mix(*event.value);
  const std::string prefix = PrefixOf(event.key);
  written_[prefix].push_back(event.revision);
  if (prefix != "/registry/events/" && prefix != "/registry/leases/" && prefix != "/registry/minions/" &&
      prefix != "/registry/nodes/") {
    ++writes_that_matter_;
  }
  if (Tracing()) {
    static const char* const kNames[] = {"created", "modified", "deleted"};
    std::fprintf(stderr, "%12.3f  %6lld %s %s\n", absl::ToDoubleSeconds(env_.clock().Monotonic()),
                 static_cast<long long>(event.revision), kNames[static_cast<int>(event.type)],
                 event.key.c_str());
  }
  if (prefix == kPods) AddPod(event);
}

void History::AddPod(const master::StoreEvent& event) {
  if (event.value == nullptr) return;
  absl::StatusOr<corev1::Pod> pod = DecodePod(*event.value);
  if (!pod.ok()) {
    violation_(StrCat(event.key, ": ", pod.status().ToString()));
    return;
  }
  SeenPod& seen = pods_[pod->metadata().uid()];
  if (seen.name.empty()) seen.name = pod->metadata().name();
  if (seen.name != pod->metadata().name()) violation_(StrCat("one UID for ", seen.name, " and ", event.key));
  const std::string& node = pod->spec().node_name();
  if (!seen.node.empty() && node != seen.node) {
    violation_(StrCat("pod ", seen.name, " was bound to ", seen.node, " and then to \"", node, "\""));
  }
  seen.node = node;
  const std::string& phase = pod->status().phase();
  if (!seen.final_phase.empty() && phase != seen.final_phase) {
    violation_(StrCat("pod ", seen.name, " was ", seen.final_phase, " and then ", phase));
  }
  if (phase == "Succeeded" || phase == "Failed") seen.final_phase = phase;
  for (const auto& c : pod->status().container_statuses()) {
    // The simulation's pods have one container. Once it may go back: the last write of a kubelet that was
    // killed can be done after the first one of the next, which sees it and writes again.
    if (c.restart_count() >= seen.restarts) {
      seen.restarts = c.restart_count();
      seen.writes_below = 0;
    } else if (++seen.writes_below > 1) {
      violation_(
          StrCat("restartCount of ", seen.name, " went from ", seen.restarts, " to ", c.restart_count()));
    }
  }
}

master::Revision History::Before(const std::string& prefix, master::Revision revision) {
  Drain();
  const std::vector<master::Revision>& all = written_[prefix];
  auto it = std::lower_bound(all.begin(), all.end(), revision);
  return it == all.begin() ? 0 : *std::prev(it);
}

std::string History::NodeOf(const std::string& pod_uid) const {
  auto it = pods_.find(pod_uid);
  return it == pods_.end() ? "" : it->second.node;
}

}  // namespace keelson::sim
