#include "kubelet/kubelet.h"

#include <absl/strings/numbers.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_split.h>

#include <algorithm>
#include <filesystem>

#include "api/codec.h"
#include "api/status_error.h"
#include "api/time.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/status.h"
#include "kubelet/pod_admission.h"

namespace keelson::kubelet {
namespace {

namespace fs = std::filesystem;

constexpr absl::Duration kHousekeepingPeriod = absl::Seconds(2);
constexpr absl::Duration kGcPeriod = absl::Minutes(1);
constexpr absl::Duration kImageGcPeriod = absl::Minutes(5);
constexpr absl::Duration kStartRetry = absl::Milliseconds(100);
constexpr absl::Duration kStartRetryMax = absl::Seconds(2);
constexpr size_t kMaxSwapsBytes = 64 << 10;
constexpr char kDeadlineMessage[] = "Pod was active on the node longer than the specified deadline";

// Whether anything but what we write ourselves has changed.
bool SameButStatus(const corev1::Pod& a, const corev1::Pod& b) {
  corev1::Pod x = a, y = b;
  for (auto* p : {&x, &y}) {
    p->clear_status();
    p->mutable_metadata()->clear_resource_version();
    p->mutable_metadata()->clear_managed_fields();
  }
  return api::SerializeDeterministic(x) == api::SerializeDeterministic(y);
}

class QuietGuard {
 public:
  QuietGuard(std::set<std::string>& set, std::string uid) : set_(set), uid_(std::move(uid)) {
    set_.insert(uid_);
  }
  ~QuietGuard() { set_.erase(uid_); }

 private:
  std::set<std::string>& set_;
  const std::string uid_;
};

std::string Text(const absl::Status& status) { return std::string(Sv(status.message())); }

absl::Status CheckSwap(const KubeletOptions& options) {
  const absl::StatusOr<std::string> text = ReadFile(options.proc_root + "/swaps", kMaxSwapsBytes);
  if (!text.ok()) return absl::OkStatus();  // a kernel without swap
  // One line of headings, then one for each.
  std::vector<std::string> lines = absl::StrSplit(*text, '\n', absl::SkipWhitespace());
  if (lines.size() <= 1) return absl::OkStatus();
  lines.erase(lines.begin());
  const std::string swaps = absl::StrJoin(lines, ", ");
  if (options.fail_swap_on) {
    return absl::FailedPreconditionError(
        StrCat("running with swap on is not supported, please disable swap! or set --fail-swap-on flag to "
               "false. /proc/swaps contained: [",
               swaps, "]"));
  }
  LogWarning("the node has swap, and failSwapOn is not set: containers may be swapped", {{"swaps", swaps}});
  return absl::OkStatus();
}

// A pod made of what the runtime's labels say, to stop and clean up what nobody knows.
PodPtr StubFrom(const RuntimePodStatus& status) {
  auto pod = std::make_shared<corev1::Pod>();
  pod->mutable_metadata()->set_uid(status.uid);
  pod->mutable_metadata()->set_name(status.name);
  pod->mutable_metadata()->set_namespace_(status.ns);
  for (const auto& c : status.containers) {
    auto* container = pod->mutable_spec()->add_containers();
    container->set_name(ContainerName(c));
    container->set_image(c.image().image());
    auto it = c.annotations().find(kAnnotationPodTerminationGracePeriod);
    int64_t grace_s = 0;
    if (it != c.annotations().end() && absl::SimpleAtoi(it->second, &grace_s)) {
      pod->mutable_spec()->set_termination_grace_period_seconds(grace_s);
    }
    auto hook = c.annotations().find(kAnnotationPreStopHandler);
    if (hook != c.annotations().end()) {
      absl::Status parsed =
          api::DecodeJsonInto(hook->second, *container->mutable_lifecycle()->mutable_pre_stop());
      if (!parsed.ok()) container->clear_lifecycle();
    }
  }
  return pod;
}

}  // namespace

Kubelet::Kubelet(Env& env, KubeletDeps deps, KubeletOptions options)
    : env_(env), deps_(deps), options_(std::move(options)), scope_(env.executor()) {
  KEELSON_CHECK(deps_.runtime != nullptr && deps_.images != nullptr && deps_.volumes != nullptr &&
                    deps_.probes != nullptr && deps_.objects != nullptr,
                "kubelet without a required dependency");
  PlegOptions pleg;
  pleg.node_name = options_.node_name;
  pleg_ = std::make_unique<Pleg>(env_, *deps_.runtime, cache_, pleg,
                                 [this](const PlegEvent& e) { OnPlegEvent(e); });
  registrar_ = std::make_unique<NodeRegistrar>(env_, deps_.client, *deps_.runtime, *deps_.images, options_,
                                               [this] { return Healthy(); });
  ImageManagerOptions pulls;
  pulls.serialize_pulls = options_.serialize_image_pulls;
  pulls.max_parallel_pulls = options_.max_parallel_image_pulls;
  image_manager_ = std::make_unique<ImageManager>(env_, *deps_.images, deps_.events, deps_.objects, pulls);
  RuntimeManagerDeps runtime;
  runtime.runtime = deps_.runtime;
  runtime.images = image_manager_.get();
  runtime.objects = deps_.objects;
  runtime.volumes = deps_.volumes;
  runtime.events = deps_.events;
  runtime.client = deps_.client;
  runtime.facts = [this] { return Facts(); };
  runtime_ = std::make_unique<RuntimeManager>(env_, std::move(runtime), options_);
  statuses_ = std::make_unique<StatusManager>(env_, deps_.client);
  PodWorkersOptions workers;
  workers.sync_frequency = options_.sync_frequency;
  workers_ = std::make_unique<PodWorkers>(env_, *this, workers);
  gc_ = std::make_unique<ContainerGc>(env_, *deps_.runtime, options_.node_name,
                                      [this](const std::string& uid) { return workers_->IsTerminated(uid); });
  image_gc_ = std::make_unique<ImageGc>(env_, *deps_.runtime, *deps_.images, options_);
  logs_ = std::make_unique<ContainerLogs>(env_, *deps_.runtime, cache_, options_);
  eviction_ = MakeEvictionManager();
  if (deps_.client != nullptr) {
    services_ = std::make_unique<client::Informer>(env_, *deps_.client, client::GvrOf<corev1::Service>());
  }
  auto on_change = [this](const PodPtr& before, const PodPtr& after) { OnPodChange(before, after); };
  if (deps_.client != nullptr) {
    sources_.push_back(NewApiPodSource(env_, *deps_.client, options_.node_name, on_change));
  }
  if (!options_.static_pod_path.empty()) {
    sources_.push_back(NewFilePodSource(env_, options_.static_pod_path, options_.node_name,
                                        options_.file_check_frequency, on_change));
  }
  if (!options_.static_pod_url.empty()) {
    sources_.push_back(NewUrlPodSource(env_, options_.static_pod_url, options_.node_name,
                                       options_.http_check_frequency, on_change));
  }
}

Kubelet::~Kubelet() = default;

std::unique_ptr<EvictionManager> Kubelet::MakeEvictionManager() {
  EvictionDeps deps;
  deps.runtime = deps_.runtime;
  deps.images = deps_.images;
  deps.events = deps_.events;
  deps.qos_tree = options_.cgroups_per_qos ? deps_.qos_tree : nullptr;
  deps.active_pods = [this] {
    std::vector<PodPtr> active;
    for (const auto& [uid, pod] : pods_) {
      if (rejected_.count(uid) == 0 && workers_->Known(uid) && !workers_->IsTerminating(uid))
        active.push_back(pod);
    }
    return active;
  };
  deps.kill = [this](const PodPtr& pod, KillRequest kill) { workers_->KillPod(pod, std::move(kill)); };
  deps.is_terminated = [this](const std::string& uid) {
    return !workers_->Known(uid) || workers_->IsTerminated(uid);
  };
  deps.free_disk = [this] { return FreeDisk(); };
  deps.on_change = [this] { registrar_->Poke(); };
  return std::make_unique<EvictionManager>(env_, std::move(deps), options_);
}

// ---- life ----

absl::Status Kubelet::Start() {
  if (options_.node_name.empty()) return absl::InvalidArgumentError("node name: Required value");
  RETURN_IF_ERROR(CheckSwap(options_));
  RETURN_IF_ERROR(registrar_->Init());
  RETURN_IF_ERROR(MakeDirs(StrCat(env_.paths().kubelet_dir, "/pods"), 0750));
  registrar_->set_pressure([this](NodeHealth* health) {
    health->memory_pressure = eviction_->pressure().memory();
    health->disk_pressure = eviction_->pressure().disk();
    health->pid_pressure = eviction_->pressure().pid();
  });
  eviction_->Measure();
  deps_.probes->set_status_provider(statuses_.get());
  deps_.probes->set_listener([this](const ProbeEvent& e) { OnProbeEvent(e); });
  registrar_->set_on_change([this] {
    for (const auto& [uid, pod] : pods_) workers_->Poke(uid);
  });
  registrar_->Start();
  if (services_ != nullptr) services_->Start();
  started_ = true;
  scope_.Spawn("kubelet", Run());
  return absl::OkStatus();
}

Task<void> Kubelet::Stop() {
  Task<void> own = scope_.Close();
  co_await std::move(own);
  for (size_t i = 0; i < sources_.size(); ++i) {
    if (!sources_started_) break;
    Task<void> stop = sources_[i]->Stop();
    co_await std::move(stop);
  }
  Task<void> workers = workers_->Stop();
  co_await std::move(workers);
  Task<void> cgroups = AwaitCgroupJobs();
  co_await std::move(cgroups);
  Task<void> runtime = runtime_->Stop();
  co_await std::move(runtime);
  Task<void> images = image_manager_->Stop();
  co_await std::move(images);
  Task<void> pleg = pleg_->Stop();
  co_await std::move(pleg);
  Task<void> statuses = statuses_->Stop();
  co_await std::move(statuses);
  if (services_ != nullptr) {
    Task<void> services = services_->Stop();
    co_await std::move(services);
  }
  Task<void> registrar = registrar_->Stop();
  co_await std::move(registrar);
}

// Nothing is decided about pods before it is known what runs.
Task<void> Kubelet::Run() {
  absl::Duration retry = kStartRetry;
  while (true) {
    Task<absl::Status> relist = pleg_->Relist();
    absl::Status listed = co_await std::move(relist);
    if (listed.ok() && registrar_->driver_known()) break;
    if (!listed.ok()) LogWarning("container runtime not reached yet", {{"error", listed}});
    if (listed.ok() && !registrar_->runtime_name().empty()) registrar_->Poke();
    Task<void> sleep = env_.clock().Sleep(retry);
    co_await std::move(sleep);
    retry = std::min(retry * 2, kStartRetryMax);
  }
  Task<void> cgroups = SetUpCgroups();
  co_await std::move(cgroups);
  pleg_->Start();
  for (const auto& source : sources_) source->Start();
  sources_started_ = true;
  scope_.Spawn("housekeeping", HousekeepingLoop());
  scope_.Spawn("garbage", GarbageLoop());
  scope_.Spawn("log-rotation", logs_->Run());
  scope_.Spawn("eviction", eviction_->Run());
  scope_.Spawn("storage-limits", eviction_->RunLimits());
  LogInfo("kubelet running", {{"node", options_.node_name}, {"runtime", registrar_->runtime_name()}});
}

bool Kubelet::SourcesReady() const {
  return sources_started_ &&
         std::all_of(sources_.begin(), sources_.end(), [](const auto& s) { return s->Ready(); });
}

std::set<std::string> Kubelet::KnownUids() const {
  std::set<std::string> out;
  for (const auto& [uid, pod] : pods_) out.insert(uid);
  for (const std::string& uid : cache_.Uids()) {
    if (workers_->Known(uid)) out.insert(uid);
  }
  return out;
}

NodeFacts Kubelet::Facts() const {
  NodeFacts out;
  out.hostname = !options_.hostname.empty()               ? options_.hostname
                 : registrar_->machine().hostname.empty() ? options_.node_name
                                                          : registrar_->machine().hostname;
  out.host_ips = registrar_->node_ips();
  out.allocatable = registrar_->allocatable();
  out.memory_capacity_bytes = registrar_->machine().memory_bytes;
  out.systemd_cgroups = registrar_->systemd_cgroups();
  if (services_ != nullptr) out.services = services_->ListAs<corev1::Service>();
  return out;
}

ProbeLookup Kubelet::Probes() const {
  return [this](ProbeKind kind, std::string_view id) { return deps_.probes->Get(kind, id); };
}

// ---- what the sources say ----

void Kubelet::OnPodChange(const PodPtr& before, const PodPtr& after) {
  const PodPtr& any = after != nullptr ? after : before;
  if (IsMirrorPod(*any)) {
    HandleMirror(before, after);
  } else if (after == nullptr) {
    HandleRemove(before);
  } else if (before == nullptr) {
    HandleAdd(after);
  } else {
    HandleUpdate(before, after);
  }
}

void Kubelet::HandleMirror(const PodPtr& before, const PodPtr& after) {
  const PodPtr& any = after != nullptr ? after : before;
  const std::string full_name = PodFullName(*any);
  if (after != nullptr) {
    mirrors_[full_name] = after;
  } else {
    mirrors_.erase(full_name);
  }
  for (const auto& [uid, pod] : pods_) {
    if (PodFullName(*pod) != full_name || !IsStaticPod(*pod)) continue;
    statuses_->OnApiPod(uid, after);
    // A changed or deleted mirror is made again.
    if (after == nullptr || before == nullptr || !SameButStatus(*before, *after)) workers_->Poke(uid);
  }
}

void Kubelet::Reject(const PodPtr& pod, const std::string& reason, const std::string& message) {
  rejected_.insert(PodUid(*pod));
  if (deps_.events != nullptr) deps_.events->Event(*pod, "Warning", reason, message);
  LogWarning("pod rejected", {{"pod", PodName(*pod)}, {"reason", reason}, {"message", message}});
  corev1::PodStatus status = pod->status();
  status.set_phase("Failed");
  status.set_reason(reason);
  status.set_message(message);
  status.set_qos_class(std::string(QosName(ComputeQos(*pod))));
  if (!status.has_start_time()) *status.mutable_start_time() = api::ToApiTime(env_.clock().Now());
  statuses_->SetPodStatus(pod, std::move(status));
}

void Kubelet::HandleAdd(const PodPtr& pod) {
  const std::string& uid = PodUid(*pod);
  pods_[uid] = pod;
  if (!IsStaticPod(*pod)) {
    statuses_->OnApiPod(uid, pod);
  } else if (auto it = mirrors_.find(PodFullName(*pod)); it != mirrors_.end()) {
    statuses_->OnApiPod(uid, it->second);
  }
  if (!IsDeleting(*pod) && !IsTerminalPhase(pod->status().phase()) && !workers_->IsTerminating(uid)) {
    absl::StatusOr<RuntimePodStatusPtr> running = cache_.Get(uid);
    const bool adopted = running.ok() && !(*running)->sandboxes.empty();
    AdmissionInputs in;
    std::shared_ptr<const corev1::Node> node = registrar_->node();
    in.node = node.get();
    in.allocatable = registrar_->allocatable();
    in.memory_pressure = eviction_->pressure().memory();
    in.disk_pressure = eviction_->pressure().disk();
    in.pid_pressure = eviction_->pressure().pid();
    for (const auto& [other, p] : pods_) {
      if (other != uid && rejected_.count(other) == 0 && !workers_->IsTerminated(other))
        in.others.push_back(p);
    }
    // What runs already was admitted once; a restart of the kubelet evicts nobody.
    std::optional<Rejection> rejection = adopted ? std::nullopt : AdmitPod(*pod, in, options_);
    if (rejection) {
      Reject(pod, rejection->reason, rejection->message);
      return;
    }
  }
  workers_->UpdatePod(pod);
}

void Kubelet::HandleUpdate(const PodPtr& before, const PodPtr& pod) {
  const std::string& uid = PodUid(*pod);
  pods_[uid] = pod;
  if (!IsStaticPod(*pod)) statuses_->OnApiPod(uid, pod);
  if (rejected_.count(uid) > 0 && !IsDeleting(*pod)) return;
  if (pod->spec().readiness_gates_size() == 0 && SameButStatus(*before, *pod)) return;
  workers_->UpdatePod(pod);
}

void Kubelet::HandleRemove(const PodPtr& pod) {
  const std::string& uid = PodUid(*pod);
  pods_.erase(uid);
  rejected_.erase(uid);
  statuses_->OnApiPod(uid, nullptr);
  if (workers_->Known(uid)) workers_->KillPod(pod, {});
  if (workers_->IsTerminated(uid) || !workers_->Known(uid)) statuses_->RemovePod(uid);
}

void Kubelet::OnPlegEvent(const PlegEvent& event) {
  if (quiet_.count(event.pod_uid) == 0) workers_->Poke(event.pod_uid);
}

void Kubelet::OnProbeEvent(const ProbeEvent& event) { workers_->Poke(event.pod_uid); }

// ---- one pod ----

Task<absl::StatusOr<RuntimePodStatusPtr>> Kubelet::RefreshQuietly(std::string uid) {
  QuietGuard quiet(quiet_, uid);
  Task<absl::StatusOr<RuntimePodStatusPtr>> refresh = pleg_->Refresh(uid);
  absl::StatusOr<RuntimePodStatusPtr> status = co_await std::move(refresh);
  co_return status;
}

corev1::PodStatus Kubelet::UpdateStatus(const PodPtr& pod, const RuntimePodStatusPtr& status, bool terminal,
                                        const std::function<void(corev1::PodStatus*)>& change) {
  const std::string& uid = PodUid(*pod);
  StatusInputs in;
  in.runtime = status;
  const corev1::PodStatus* known = statuses_->GetPodStatus(uid);
  in.previous = known != nullptr ? *known : pod->status();
  if (known == nullptr && IsStaticPod(*pod)) {
    auto mirror = mirrors_.find(PodFullName(*pod));
    if (mirror != mirrors_.end()) in.previous = mirror->second->status();
  }
  in.failures = runtime_->Failures(uid);
  in.probes = Probes();
  in.runtime_name = registrar_->runtime_name();
  in.host_ips = registrar_->node_ips();
  in.terminal = terminal;
  in.now = env_.clock().Now();
  std::map<std::string, std::string>& messages = termination_messages_[uid];
  for (const auto& c : status->containers) {
    if (c.state() == criv1::CONTAINER_EXITED && messages.count(c.id()) == 0) {
      messages[c.id()] = runtime_->ReadTerminationMessage(c);
    }
  }
  in.termination_messages = messages;
  // The newest object has conditions (readiness gates) the worker's copy may lack.
  auto newest = pods_.find(uid);
  const PodPtr& source = newest != pods_.end() ? newest->second : pod;
  corev1::PodStatus out = GeneratePodStatus(*source, in);
  if (change) {
    change(&out);
    MergeConditions(in.previous, in.now, &out);
  }
  statuses_->SetPodStatus(source, out);
  return out;
}

Task<absl::Status> Kubelet::EnsureMirror(PodPtr pod) {
  if (deps_.client == nullptr || !IsStaticPod(*pod) || !SourcesReady()) co_return absl::OkStatus();
  auto it = mirrors_.find(PodFullName(*pod));
  std::shared_ptr<const corev1::Node> node = registrar_->node();
  corev1::Pod wanted = MakeMirrorPod(*pod, options_.node_name, node == nullptr ? "" : node->metadata().uid());
  if (it != mirrors_.end()) {
    const PodPtr mirror = it->second;
    auto have = mirror->metadata().annotations().find(kAnnotationConfigMirror);
    auto want = wanted.metadata().annotations().find(kAnnotationConfigMirror);
    if (!IsDeleting(*mirror) && have->second == want->second) co_return absl::OkStatus();
    client::DeleteOptions options;
    options.grace_period_s = 0;
    options.precondition_uid = PodUid(*mirror);
    Task<absl::Status> remove = deps_.client->Delete<corev1::Pod>(mirror->metadata().namespace_(),
                                                                  mirror->metadata().name(), options);
    absl::Status removed = co_await std::move(remove);
    if (!removed.ok() && !api::IsNotFound(removed) && !api::IsConflict(removed)) co_return removed;
  }
  Task<absl::StatusOr<PodPtr>> create = deps_.client->Create<corev1::Pod>(std::move(wanted));
  absl::StatusOr<PodPtr> created = co_await std::move(create);
  if (created.ok()) {
    mirrors_[PodFullName(*pod)] = *created;
    statuses_->OnApiPod(PodUid(*pod), *created);
  } else if (!api::IsAlreadyExists(created.status())) {
    co_return created.status();
  }
  co_return absl::OkStatus();
}

void Kubelet::AddProbes(const PodPtr& pod) {
  auto mirror = IsStaticPod(*pod) ? mirrors_.find(PodFullName(*pod)) : mirrors_.end();
  if (mirror == mirrors_.end()) {
    deps_.probes->AddPod(pod);
    return;
  }
  auto copy = std::make_shared<corev1::Pod>(*pod);
  *copy->mutable_status() = mirror->second->status();
  deps_.probes->AddPod(copy);
}

Task<absl::StatusOr<SyncResult>> Kubelet::SyncPod(PodPtr pod, bool refresh) {
  const std::string uid = PodUid(*pod);
  SyncResult result;
  absl::StatusOr<RuntimePodStatusPtr> status = cache_.Get(uid);
  if (refresh || !status.ok()) {
    Task<absl::StatusOr<RuntimePodStatusPtr>> task = RefreshQuietly(uid);
    status = co_await std::move(task);
    if (!status.ok()) co_return Annotate(status.status(), "ask the runtime");
  }
  // Before anything is said: verdicts of containers that run already are carried over.
  if ((*status)->AnyContainerRunning()) AddProbes(pod);
  corev1::PodStatus told = UpdateStatus(pod, *status, false);
  if (IsTerminalPhase(told.phase())) {
    result.terminal = true;
    co_return result;
  }
  if (pod->spec().has_active_deadline_seconds() && told.has_start_time()) {
    const absl::Time ends =
        api::ToAbsl(told.start_time()) + absl::Seconds(pod->spec().active_deadline_seconds());
    if (env_.clock().Now() >= ends) {
      if (deps_.events != nullptr) {
        deps_.events->Event(*pod, "Normal", "DeadlineExceeded", kDeadlineMessage);
      }
      KillRequest kill;
      kill.status_change = [](corev1::PodStatus* status) {
        status->set_phase("Failed");
        status->set_reason("DeadlineExceeded");
        status->set_message(kDeadlineMessage);
      };
      workers_->KillPod(pod, std::move(kill));
      co_return result;
    }
    result.retry_after = ends - env_.clock().Now();
  }
  if (IsStaticPod(*pod)) {
    Task<absl::Status> mirror = EnsureMirror(pod);
    absl::Status mirrored = co_await std::move(mirror);
    if (!mirrored.ok()) LogWarning("no mirror pod", {{"pod", PodName(*pod)}, {"error", mirrored}});
  }
  const NodeHealth& health = registrar_->health();
  if (!health.network_ready && !pod->spec().host_network() && !(*status)->AnySandboxReady()) {
    if (deps_.events != nullptr) {
      deps_.events->Event(*pod, "Warning", "NetworkNotReady",
                          StrCat("network is not ready: ", health.network_message));
    }
    co_return absl::UnavailableError(StrCat("network is not ready: ", health.network_message));
  }
  // Its variables must not be missing only because we are young.
  if (services_ != nullptr && !services_->synced() && !IsStaticPod(*pod)) {
    co_return absl::UnavailableError(
        "services have not yet been read at least once, cannot construct envvars");
  }
  CO_RETURN_IF_ERROR(EnsureCgroup(pod));
  deps_.objects->RegisterPod(pod);
  Task<absl::StatusOr<PodVolumes>> mount = deps_.volumes->Mount(pod);
  absl::StatusOr<PodVolumes> volumes = co_await std::move(mount);
  if (!volumes.ok()) {
    if (deps_.events != nullptr) deps_.events->Event(*pod, "Warning", "FailedMount", Text(volumes.status()));
    co_return Annotate(volumes.status(), "mount volumes");
  }
  AddProbes(pod);
  PodActions actions = ComputePodActions(*pod, **status, Probes());
  if (actions.Nothing()) co_return result;
  Task<RuntimeSyncResult> act = runtime_->SyncPod(pod, *status, std::move(actions), *std::move(volumes));
  RuntimeSyncResult acted = co_await std::move(act);
  result.retry_after = std::min(result.retry_after.value_or(absl::InfiniteDuration()),
                                acted.retry_after.value_or(absl::InfiniteDuration()));
  if (acted.acted) {
    Task<absl::StatusOr<RuntimePodStatusPtr>> task = RefreshQuietly(uid);
    status = co_await std::move(task);
    if (!status.ok()) co_return Annotate(status.status(), "ask the runtime");
  }
  told = UpdateStatus(pod, *status, false);
  if (!acted.status.ok()) co_return acted.status;
  result.acted = acted.acted;
  result.fresh = true;
  result.terminal = IsTerminalPhase(told.phase());
  co_return result;
}

Task<absl::Status> Kubelet::SyncTerminatingPod(PodPtr pod, KillRequest kill) {
  const std::string uid = PodUid(*pod);
  Task<absl::StatusOr<RuntimePodStatusPtr>> look = RefreshQuietly(uid);
  absl::StatusOr<RuntimePodStatusPtr> status = co_await std::move(look);
  if (!status.ok()) co_return Annotate(status.status(), "ask the runtime");
  const bool known = pods_.count(uid) > 0;
  if (known) UpdateStatus(pod, *status, false, kill.status_change);
  deps_.probes->StopLivenessAndStartup(uid);
  Task<absl::Status> stop = runtime_->KillPod(pod, *status, kill.grace_period_s);
  absl::Status stopped = co_await std::move(stop);
  if (!stopped.ok()) co_return Annotate(stopped, "kill pod");
  deps_.probes->RemovePod(uid);
  Task<absl::StatusOr<RuntimePodStatusPtr>> again = RefreshQuietly(uid);
  status = co_await std::move(again);
  if (!status.ok()) co_return Annotate(status.status(), "ask the runtime");
  if ((*status)->AnyContainerRunning()) {
    co_return absl::InternalError("detected running containers after a successful KillPod");
  }
  if (pods_.count(uid) > 0) UpdateStatus(pod, *status, true, kill.status_change);
  co_return absl::OkStatus();
}

Task<absl::Status> Kubelet::SyncTerminatedPod(PodPtr pod) {
  const std::string uid = PodUid(*pod);
  CO_RETURN_IF_ERROR(deps_.volumes->Unmount(uid));
  deps_.objects->UnregisterPod(uid);
  CO_RETURN_IF_ERROR(RemoveCgroup(pod));
  runtime_->ForgetPod(uid);
  auto newest = pods_.find(uid);
  if (newest != pods_.end()) {
    statuses_->TerminatePod(newest->second);
  } else {
    statuses_->RemovePod(uid);
    absl::Status removed = RemoveTree(runtime_->PodDir(uid));
    if (!removed.ok()) LogWarning("pod folder not removed", {{"pod", PodName(*pod)}, {"error", removed}});
  }
  co_return absl::OkStatus();
}

// ---- upkeep ----

Task<void> Kubelet::HousekeepingLoop() {
  while (true) {
    Task<void> sleep = env_.clock().Sleep(kHousekeepingPeriod);
    co_await std::move(sleep);
    Task<void> once = HousekeepOnce();
    co_await std::move(once);
  }
}

Task<void> Kubelet::HousekeepOnce() {
  if (!SourcesReady()) co_return;
  std::set<std::string> wanted;
  for (const auto& [uid, pod] : pods_) wanted.insert(uid);
  std::map<std::string, PodWorkers::State> known = workers_->SyncKnownPods(wanted);

  // Pods of ours in the runtime that no source and no worker knows.
  for (const std::string& uid : cache_.Uids()) {
    if (known.count(uid) > 0 || wanted.count(uid) > 0) continue;
    absl::StatusOr<RuntimePodStatusPtr> status = cache_.Get(uid);
    if (!status.ok() || !((*status)->AnyContainerRunning() || (*status)->AnySandboxReady())) continue;
    if ((*status)->sandboxes.empty()) continue;
    const auto& labels = (*status)->sandboxes.front().labels();
    auto label = labels.find(kLabelNode);
    if (label == labels.end() || label->second != options_.node_name) continue;
    LogInfo("stopping a pod nobody wants",
            {{"pod", StrCat((*status)->ns, "/", (*status)->name)}, {"pod_uid", uid}});
    workers_->KillOrphan(StubFrom(**status));
    known[uid] = PodWorkers::State::kTerminating;
  }
  std::set<std::string> keep = wanted;
  for (const auto& [uid, state] : known) keep.insert(uid);
  statuses_->RemoveOrphans(keep);
  for (auto it = termination_messages_.begin(); it != termination_messages_.end();) {
    it = keep.count(it->first) == 0 ? termination_messages_.erase(it) : std::next(it);
  }

  // Folders of pods that are gone.
  std::error_code ec;
  std::vector<std::string> orphans;
  for (const auto& entry : fs::directory_iterator(StrCat(env_.paths().kubelet_dir, "/pods"), ec)) {
    std::string uid = entry.path().filename().string();
    if (keep.count(uid) == 0) orphans.push_back(uid);
  }
  for (const std::string& uid : orphans) {
    absl::StatusOr<RuntimePodStatusPtr> status = cache_.Get(uid);
    if (!status.ok() || (*status)->AnyContainerRunning()) continue;
    Task<absl::Status> unmount = deps_.volumes->Unmount(uid);
    absl::Status unmounted = co_await std::move(unmount);
    if (!unmounted.ok()) {
      LogWarning("orphaned pod's volumes still mounted", {{"pod_uid", uid}, {"error", unmounted}});
      continue;
    }
    runtime_->ForgetPod(uid);
    absl::Status removed = RemoveTree(runtime_->PodDir(uid));
    if (!removed.ok()) LogWarning("pod folder not removed", {{"pod_uid", uid}, {"error", removed}});
  }

  Task<void> cgroups = KeepCgroups(keep);
  co_await std::move(cgroups);

  // Mirrors whose static pod is gone.
  std::set<std::string> static_names;
  for (const auto& [uid, pod] : pods_) {
    if (IsStaticPod(*pod)) static_names.insert(PodFullName(*pod));
  }
  std::vector<PodPtr> stale;
  for (const auto& [name, mirror] : mirrors_) {
    if (static_names.count(name) == 0) stale.push_back(mirror);
  }
  for (const PodPtr& mirror : stale) {
    client::DeleteOptions options;
    options.grace_period_s = 0;
    options.precondition_uid = PodUid(*mirror);
    Task<absl::Status> remove = deps_.client->Delete<corev1::Pod>(mirror->metadata().namespace_(),
                                                                  mirror->metadata().name(), options);
    absl::Status removed = co_await std::move(remove);
    if (!removed.ok() && !api::IsNotFound(removed))
      LogWarning("mirror pod not deleted", {{"error", removed}});
  }
  runtime_->CollectBackoff();
}

Task<void> Kubelet::GarbageLoop() {
  absl::Duration last_images = -absl::InfiniteDuration();
  while (true) {
    Task<void> sleep = env_.clock().Sleep(kGcPeriod);
    co_await std::move(sleep);
    Task<void> collect = gc_->Collect(KnownUids(), SourcesReady());
    co_await std::move(collect);
    if (env_.clock().Monotonic() - last_images < kImageGcPeriod) continue;
    last_images = env_.clock().Monotonic();
    Task<absl::Status> images = image_gc_->Collect();
    absl::Status collected = co_await std::move(images);
    if (!collected.ok()) LogWarning("image garbage collection failed", {{"error", collected}});
  }
}

Task<void> Kubelet::FreeDisk() {
  Task<void> collect = gc_->Collect(KnownUids(), SourcesReady());
  co_await std::move(collect);
  Task<absl::Status> images = image_gc_->RemoveUnused();
  absl::Status removed = co_await std::move(images);
  if (!removed.ok()) LogWarning("unused images not removed", {{"error", removed}});
}

// ---- NodeApi ----

std::vector<PodPtr> Kubelet::Pods() const {
  std::vector<PodPtr> out;
  for (const auto& [uid, pod] : pods_) {
    const corev1::PodStatus* status = statuses_->GetPodStatus(uid);
    if (status == nullptr) {
      out.push_back(pod);
      continue;
    }
    auto copy = std::make_shared<corev1::Pod>(*pod);
    *copy->mutable_status() = *status;
    out.push_back(std::move(copy));
  }
  std::sort(out.begin(), out.end(),
            [](const PodPtr& a, const PodPtr& b) { return PodName(*a) < PodName(*b); });
  return out;
}

Task<absl::StatusOr<std::vector<PodPtr>>> Kubelet::RunningPods() {
  std::vector<PodPtr> out;
  for (const std::string& uid : cache_.Uids()) {
    absl::StatusOr<RuntimePodStatusPtr> status = cache_.Get(uid);
    if (!status.ok() || !(*status)->AnyContainerRunning()) continue;
    out.push_back(StubFrom(**status));
  }
  co_return out;
}

PodPtr Kubelet::FindPod(const std::string& ns, const std::string& name, const std::string& uid) const {
  if (!uid.empty()) {
    auto it = pods_.find(uid);
    if (it != pods_.end()) return it->second;
  }
  for (const auto& [id, pod] : pods_) {
    if (pod->metadata().name() != name || pod->metadata().namespace_() != ns) continue;
    if (uid.empty() || IsStaticPod(*pod)) return pod;  // a static pod is asked for by its mirror's UID too
  }
  return nullptr;
}

Task<absl::StatusOr<ContainerLocation>> Kubelet::LocateContainer(std::string ns, std::string pod,
                                                                 std::string uid, std::string container,
                                                                 bool previous) {
  PodPtr found = FindPod(ns, pod, uid);
  if (found == nullptr) co_return absl::NotFoundError(StrCat("pod \"", pod, "\" not found"));
  absl::StatusOr<RuntimePodStatusPtr> status = cache_.Get(PodUid(*found));
  if (!status.ok()) co_return status.status();
  std::vector<const criv1::ContainerStatus*> candidates;
  for (const auto& c : (*status)->containers) {
    if (ContainerName(c) == container) candidates.push_back(&c);
  }
  const criv1::ContainerStatus* hit = nullptr;
  if (previous) {
    if (candidates.size() < 2) {
      co_return absl::InvalidArgumentError(
          StrCat("previous terminated container \"", container, "\" in pod \"", pod, "\" not found"));
    }
    hit = candidates[1];
  } else if (!candidates.empty()) {
    hit = candidates[0];
  } else {
    const corev1::PodStatus* told = statuses_->GetPodStatus(PodUid(*found));
    const corev1::ContainerStatus* s = told == nullptr ? nullptr : FindContainerStatus(*told, container);
    if (s == nullptr) {
      co_return absl::NotFoundError(
          StrCat("container \"", container, "\" in pod \"", pod, "\" is not available"));
    }
    const std::string reason = s->state().waiting().reason();
    if (reason == "ErrImagePull" || reason == "ImagePullBackOff" || reason == "ErrImageNeverPull") {
      co_return absl::InvalidArgumentError(
          StrCat("container \"", container, "\" in pod \"", pod,
                 "\" is waiting to start: trying and failing to pull image"));
    }
    co_return absl::InvalidArgumentError(
        StrCat("container \"", container, "\" in pod \"", pod, "\" is waiting to start: ", reason));
  }
  ContainerLocation out;
  out.pod_uid = PodUid(*found);
  out.container_id = hit->id();
  out.log_path = hit->log_path();
  out.running = hit->state() == criv1::CONTAINER_RUNNING;
  out.restart_count = RestartCount(*hit);
  auto sandbox = (*status)->sandbox_of.find(hit->id());
  if (sandbox != (*status)->sandbox_of.end()) out.sandbox_id = sandbox->second;
  co_return out;
}

Task<absl::StatusOr<std::string>> Kubelet::LocateSandbox(std::string ns, std::string pod, std::string uid) {
  PodPtr found = FindPod(ns, pod, uid);
  if (found == nullptr) co_return absl::NotFoundError(StrCat("pod \"", pod, "\" not found"));
  absl::StatusOr<RuntimePodStatusPtr> status = cache_.Get(PodUid(*found));
  if (!status.ok()) co_return status.status();
  for (const auto& s : (*status)->sandboxes) {
    if (s.state() == criv1::SANDBOX_READY) co_return s.id();
  }
  co_return absl::FailedPreconditionError(StrCat("pod \"", pod, "\" has no ready sandbox"));
}

absl::Status Kubelet::Healthy() const {
  if (!started_) return absl::UnavailableError("not started");
  return cgroups_status_.ok() ? pleg_->Healthy() : cgroups_status_;
}

}  // namespace keelson::kubelet
