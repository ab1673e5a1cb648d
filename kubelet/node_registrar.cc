#include "kubelet/node_registrar.h"

#include <absl/strings/numbers.h>
#include <absl/strings/str_split.h>
#include <sys/statvfs.h>

#include <algorithm>

#include "api/labels.h"
#include "api/status_error.h"
#include "api/time.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/status.h"
#include "kubelet/status_manager.h"

namespace keelson::kubelet {
namespace {

namespace coordv1 = ::k8s::coordination::v1;

constexpr char kLeaseNamespace[] = "kube-node-lease";
constexpr absl::Duration kFirstNodeRetry = absl::Milliseconds(50);
constexpr absl::Duration kLastNodeRetry = absl::Seconds(7);
constexpr absl::Duration kNotReadyPeriod =
    absl::Milliseconds(100);  // until the runtime is ready for the first time
constexpr absl::Duration kImageListPeriod = absl::Seconds(60);

class TimerGuard {
 public:
  TimerGuard(Clock& clock, uint64_t id) : clock_(clock), id_(id) {}
  ~TimerGuard() { clock_.CancelTimer(id_); }

 private:
  Clock& clock_;
  uint64_t id_;
};

// Times apart: whether somebody would want to know at once.
bool Differs(const corev1::NodeStatus& a, const corev1::NodeStatus& b) {
  corev1::NodeStatus x = a, y = b;
  for (auto* s : {&x, &y}) {
    for (auto& c : *s->mutable_conditions()) c.clear_last_heartbeat_time();
    std::sort(s->mutable_conditions()->begin(), s->mutable_conditions()->end(),
              [](const auto& l, const auto& r) { return l.type() < r.type(); });
  }
  std::string sx, sy;
  // Maps have no order of their own on the wire.
  auto same_map = [](const auto& m, const auto& n) {
    if (m.size() != n.size()) return false;
    for (const auto& [key, value] : m) {
      auto it = n.find(key);
      if (it == n.end() || api::Quantity::Of(it->second) != api::Quantity::Of(value)) return false;
    }
    return true;
  };
  if (!same_map(x.capacity(), y.capacity()) || !same_map(x.allocatable(), y.allocatable())) return true;
  x.clear_capacity(), x.clear_allocatable(), y.clear_capacity(), y.clear_allocatable();
  return x.SerializeAsString() != y.SerializeAsString();
}

}  // namespace

NodeRegistrar::NodeRegistrar(Env& env, client::ApiClient* client, cri::RuntimeService& runtime,
                             cri::ImageService& images, const KubeletOptions& options,
                             std::function<absl::Status()> pleg_health)
    : env_(env),
      client_(client),
      runtime_(runtime),
      images_(images),
      options_(options),
      pleg_health_(std::move(pleg_health)),
      scope_(env.executor()) {}

NodeRegistrar::~NodeRegistrar() = default;

absl::Status NodeRegistrar::Init() {
  machine_ = ReadMachineInfo(options_, env_.paths().kubelet_dir);
  node_ips_ = options_.node_ips.empty() ? FindNodeIps(options_.proc_root) : options_.node_ips;
  ASSIGN_OR_RETURN(allocatable_, NodeAllocatable(NodeCapacity(machine_, options_), options_));
  systemd_cgroups_ = options_.cgroup_driver == "systemd";
  last_report_ = env_.clock().Monotonic();
  return absl::OkStatus();
}

void NodeRegistrar::Start() {
  scope_.Spawn("node-status", StatusLoop());
  if (client_ != nullptr) scope_.Spawn("node-lease", LeaseLoop());
}

void NodeRegistrar::Poke() {
  poked_ = true;
  wake_.NotifyAll();
}

Task<void> NodeRegistrar::Stop() {
  Task<void> close = scope_.Close();
  co_await std::move(close);
}

Task<absl::Status> NodeRegistrar::MeasureRuntime() {
  if (runtime_name_.empty()) {
    criv1::VersionRequest request;
    Task<absl::StatusOr<criv1::VersionResponse>> task = runtime_.Version(std::move(request));
    absl::StatusOr<criv1::VersionResponse> version = co_await std::move(task);
    if (!version.ok()) {
      health_.runtime_message = std::string(Sv(version.status().message()));
      co_return version.status();
    }
    runtime_name_ = version->runtime_name();
    runtime_version_ = StrCat(version->runtime_name(), "://", version->runtime_version());
  }
  if (!driver_known_) {
    criv1::RuntimeConfigRequest request;
    Task<absl::StatusOr<criv1::RuntimeConfigResponse>> task = runtime_.RuntimeConfig(std::move(request));
    absl::StatusOr<criv1::RuntimeConfigResponse> config = co_await std::move(task);
    if (config.ok()) {
      const bool systemd = config->linux().cgroup_driver() == criv1::SYSTEMD;
      if (systemd != systemd_cgroups_) {
        LogInfo("the runtime's cgroup driver is taken instead of the configuration's",
                {{"driver", systemd ? "systemd" : "cgroupfs"}});
      }
      systemd_cgroups_ = systemd;
      driver_known_ = true;
    } else if (absl::IsUnimplemented(config.status())) {
      driver_known_ = true;  // an older runtime: the configuration is believed
    }
  }
  criv1::StatusRequest request;
  Task<absl::StatusOr<criv1::StatusResponse>> task = runtime_.Status(std::move(request));
  absl::StatusOr<criv1::StatusResponse> status = co_await std::move(task);
  NodeHealth before = health_;
  if (!status.ok()) {
    health_.runtime_known = true;
    health_.runtime_ready = false;
    health_.runtime_message = std::string(Sv(status.status().message()));
  } else {
    health_.runtime_known = true;
    health_.runtime_ready = health_.network_ready = false;
    for (const auto& c : status->status().conditions()) {
      std::string text = StrCat(c.type(), "=", c.status() ? "true" : "false", " reason:", c.reason(),
                                " message:", c.message());
      if (c.type() == "RuntimeReady") {
        health_.runtime_ready = c.status();
        health_.runtime_message = text;
      } else if (c.type() == "NetworkReady") {
        health_.network_ready = c.status();
        health_.network_message = text;
      }
    }
    handlers_.assign(status->runtime_handlers().begin(), status->runtime_handlers().end());
  }
  if ((before.runtime_ready != health_.runtime_ready || before.network_ready != health_.network_ready) &&
      on_change_) {
    on_change_();
  }
  co_return status.status();
}

Task<absl::Status> NodeRegistrar::Register() {
  corev1::Node wanted;
  wanted.mutable_metadata()->set_name(options_.node_name);
  for (const auto& [key, value] : NodeLabels(options_, machine_))
    (*wanted.mutable_metadata()->mutable_labels())[key] = value;
  (*wanted.mutable_metadata()
        ->mutable_annotations())["volumes.kubernetes.io/controller-managed-attach-detach"] = "true";
  for (const auto& taint : options_.register_with_taints) *wanted.mutable_spec()->add_taints() = taint;
  if (options_.unschedulable) wanted.mutable_spec()->set_unschedulable(true);
  wanted.mutable_spec()->set_provider_id(options_.provider_id);
  NodeStatusInputs in{machine_,    node_ips_, runtime_version_,  health_,
                      image_list_, handlers_, env_.clock().Now()};
  *wanted.mutable_status() = MakeNodeStatus(options_, in, corev1::NodeStatus());
  if (options_.register_node) {
    Task<absl::StatusOr<std::shared_ptr<const corev1::Node>>> create = client_->Create<corev1::Node>(wanted);
    absl::StatusOr<std::shared_ptr<const corev1::Node>> created = co_await std::move(create);
    if (created.ok()) {
      node_ = *created;
      registered_ = true;
      last_report_ = env_.clock().Monotonic();
      LogInfo("node registered", {{"node", options_.node_name}});
      co_return absl::OkStatus();
    }
    if (!api::IsAlreadyExists(created.status())) co_return created.status();
  }
  Task<absl::StatusOr<std::shared_ptr<const corev1::Node>>> get =
      client_->Get<corev1::Node>("", options_.node_name);
  absl::StatusOr<std::shared_ptr<const corev1::Node>> found = co_await std::move(get);
  if (!found.ok()) co_return found.status();
  node_ = *found;
  // The machine may have changed since it was made; other labels, taints and the rest are its owner's now.
  corev1::Node fixed = *node_;
  bool differs = false;
  for (const auto& [key, value] : wanted.metadata().labels()) {
    if (!api::IsNodeDefaultLabel(key)) continue;
    std::string& label = (*fixed.mutable_metadata()->mutable_labels())[key];
    if (label != value) {
      label = value;
      differs = true;
    }
  }
  if (differs && options_.register_node) {
    Task<absl::StatusOr<std::shared_ptr<const corev1::Node>>> update = client_->Update<corev1::Node>(fixed);
    absl::StatusOr<std::shared_ptr<const corev1::Node>> updated = co_await std::move(update);
    if (!updated.ok()) co_return updated.status();
    node_ = *updated;
  }
  registered_ = true;
  Task<absl::Status> write = PatchStatus(/*force=*/true);
  absl::Status written = co_await std::move(write);
  co_return written;
}

Task<absl::Status> NodeRegistrar::WriteStatus() {
  // Always against the newest copy: what others wrote since (their conditions) is not ours to undo, and
  // "Unknown", which the node lifecycle controller writes when we were not heard, is ours to correct at once.
  Task<absl::StatusOr<std::shared_ptr<const corev1::Node>>> get =
      client_->Get<corev1::Node>("", options_.node_name);
  absl::StatusOr<std::shared_ptr<const corev1::Node>> found = co_await std::move(get);
  if (!found.ok()) {
    if (api::IsNotFound(found.status())) registered_ = false;  // deleted: register anew
    co_return found.status();
  }
  node_ = *found;
  Task<absl::Status> patch = PatchStatus(/*force=*/false);
  absl::Status patched = co_await std::move(patch);
  co_return patched;
}

Task<absl::Status> NodeRegistrar::PatchStatus(bool force) {
  const absl::Duration now = env_.clock().Monotonic();
  NodeStatusInputs in{machine_,    node_ips_, runtime_version_,  health_,
                      image_list_, handlers_, env_.clock().Now()};
  corev1::NodeStatus status = MakeNodeStatus(options_, in, node_->status());
  if (!force && now - last_report_ < options_.node_status_report_frequency &&
      !Differs(status, node_->status())) {
    co_return absl::OkStatus();
  }
  std::string patch = MakeNodeStatusPatch(node_->status(), status);
  if (!patch.empty()) {
    Task<absl::StatusOr<std::shared_ptr<const corev1::Node>>> task = client_->Patch<corev1::Node>(
        "", options_.node_name, client::PatchType::kStrategicMerge, patch, "status");
    absl::StatusOr<std::shared_ptr<const corev1::Node>> patched = co_await std::move(task);
    if (!patched.ok()) co_return patched.status();
    node_ = *patched;
  }
  last_report_ = now;
  co_return absl::OkStatus();
}

Task<void> NodeRegistrar::TellPodCidr(std::string cidr) {
  criv1::UpdateRuntimeConfigRequest request;
  request.mutable_runtime_config()->mutable_network_config()->set_pod_cidr(cidr);
  Task<absl::StatusOr<criv1::UpdateRuntimeConfigResponse>> task =
      runtime_.UpdateRuntimeConfig(std::move(request));
  absl::StatusOr<criv1::UpdateRuntimeConfigResponse> response = co_await std::move(task);
  if (response.ok()) {
    pod_cidr_ = cidr;
  } else {
    LogWarning("runtime not told the pod CIDR", {{"cidr", cidr}, {"error", response.status()}});
  }
}

Task<void> NodeRegistrar::StatusLoop() {
  absl::Duration retry = kFirstNodeRetry;
  bool was_ready = false;
  while (true) {
    poked_ = false;
    Task<absl::Status> measure = MeasureRuntime();
    absl::Status measured = co_await std::move(measure);
    if (!measured.ok() && !was_ready) LogDebug("runtime not ready", {{"error", measured}});
    if (pressure_) pressure_(&health_);
    absl::Status pleg = pleg_health_ ? pleg_health_() : absl::OkStatus();
    health_.pleg_message = pleg.ok() || !was_ready ? "" : std::string(Sv(pleg.message()));
    absl::Status status;
    if (client_ != nullptr) {
      const bool known = registered_;
      Task<absl::Status> write = known ? WriteStatus() : Register();
      status = co_await std::move(write);
      if (!status.ok())
        LogWarning("node status not written", {{"node", options_.node_name}, {"error", status}});
      std::string cidr = options_.pod_cidr;
      if (node_ != nullptr && !node_->spec().pod_cidr().empty()) cidr = node_->spec().pod_cidr();
      if (!cidr.empty() && cidr != pod_cidr_) {
        Task<void> tell = TellPodCidr(cidr);
        co_await std::move(tell);
      }
    }
    const bool ready = health_.runtime_ready && health_.network_ready;
    was_ready = was_ready || ready;
    absl::Duration delay = options_.node_status_update_frequency;
    if (!status.ok()) {
      delay = std::min(retry, delay);
      retry = std::min(retry * 2, kLastNodeRetry);
    } else {
      retry = kFirstNodeRetry;
      if (!was_ready) delay = std::min(delay, kNotReadyPeriod);
    }
    if (health_.runtime_ready && env_.clock().Monotonic() - images_read_ > kImageListPeriod) {
      criv1::ListImagesRequest request;
      Task<absl::StatusOr<criv1::ListImagesResponse>> list = images_.ListImages(std::move(request));
      absl::StatusOr<criv1::ListImagesResponse> images = co_await std::move(list);
      if (images.ok()) {
        image_list_.assign(images->images().begin(), images->images().end());
        images_read_ = env_.clock().Monotonic();
      }
    }
    bool fired = false;
    const uint64_t timer = env_.clock().Schedule(delay, [&fired, this] {
      fired = true;
      wake_.NotifyAll();
    });
    TimerGuard guard(env_.clock(), timer);
    while (!fired && !poked_) {
      Task<void> wait = wake_.Wait();
      co_await std::move(wait);
    }
  }
}

Task<absl::Status> NodeRegistrar::RenewLease() {
  const auto now = api::ToApiMicroTime(env_.clock().Now());
  if (lease_ == nullptr) {
    Task<absl::StatusOr<std::shared_ptr<const coordv1::Lease>>> get =
        client_->Get<coordv1::Lease>(kLeaseNamespace, options_.node_name);
    absl::StatusOr<std::shared_ptr<const coordv1::Lease>> found = co_await std::move(get);
    if (found.ok()) {
      lease_ = *found;
    } else if (!api::IsNotFound(found.status())) {
      co_return found.status();
    }
  }
  coordv1::Lease wanted;
  if (lease_ != nullptr) wanted = *lease_;
  wanted.mutable_metadata()->set_name(options_.node_name);
  wanted.mutable_metadata()->set_namespace_(kLeaseNamespace);
  wanted.mutable_spec()->set_holder_identity(options_.node_name);
  wanted.mutable_spec()->set_lease_duration_seconds(options_.node_lease_duration_s);
  *wanted.mutable_spec()->mutable_renew_time() = now;
  if (wanted.metadata().owner_references_size() == 0 && node_ != nullptr) {
    auto* owner = wanted.mutable_metadata()->add_owner_references();
    owner->set_api_version("v1");
    owner->set_kind("Node");
    owner->set_name(options_.node_name);
    owner->set_uid(node_->metadata().uid());
  }
  absl::StatusOr<std::shared_ptr<const coordv1::Lease>> stored = absl::UnknownError("");
  if (lease_ == nullptr) {
    Task<absl::StatusOr<std::shared_ptr<const coordv1::Lease>>> create =
        client_->Create<coordv1::Lease>(wanted);
    stored = co_await std::move(create);
  } else {
    Task<absl::StatusOr<std::shared_ptr<const coordv1::Lease>>> update =
        client_->Update<coordv1::Lease>(wanted);
    stored = co_await std::move(update);
  }
  if (!stored.ok()) {
    lease_ = nullptr;  // look again
    co_return stored.status();
  }
  lease_ = *stored;
  co_return absl::OkStatus();
}

Task<void> NodeRegistrar::LeaseLoop() {
  absl::Duration retry = kFirstNodeRetry;
  while (true) {
    absl::Duration delay = absl::Seconds(options_.node_lease_duration_s) / 4;
    if (!registered_) {
      delay = kNotReadyPeriod;
    } else {
      Task<absl::Status> renew = RenewLease();
      absl::Status renewed = co_await std::move(renew);
      if (renewed.ok()) {
        retry = kFirstNodeRetry;
      } else {
        LogWarning("lease not renewed", {{"node", options_.node_name}, {"error", renewed}});
        delay = std::min(delay, retry);
        retry = std::min(retry * 2, kLastNodeRetry);
      }
    }
    Task<void> sleep = env_.clock().Sleep(delay);
    co_await std::move(sleep);
  }
}

}  // namespace keelson::kubelet
