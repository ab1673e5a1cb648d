#include "tests/sim/cluster.h"

#include <absl/strings/str_format.h>
#include <absl/strings/str_join.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "api/core/v1/endpoints.pb.h"
#include "api/core/v1/node.pb.h"
#include "api/core/v1/replication_controller.pb.h"
#include "api/core/v1/service.pb.h"
#include "base/log.h"
#include "base/strings.h"
#include "master/scheduler/scheduler.h"

namespace keelson::sim {
namespace {

namespace fs = std::filesystem;

constexpr int kMaxMasterStarts = 100;
constexpr size_t kMaxViolations = 20;                    // the first ones tell the story
constexpr absl::Duration kCallBound = absl::Minutes(2);  // of a user's call, simulated

// Facts of a machine as the kubelet reads them: the same on every machine the test runs on.
void WriteMachine(const std::string& folder) {
  std::map<std::string, std::string> files = {
      {"proc/meminfo", "MemTotal:        8388608 kB\nMemAvailable:    7340032 kB\n"},
      {"proc/cpuinfo", "processor\t: 0\n\nprocessor\t: 1\n\nprocessor\t: 2\n\nprocessor\t: 3\n"},
      {"proc/sys/kernel/random/boot_id", "00000000-0000-4000-8000-000000000001\n"},
      {"proc/sys/kernel/osrelease", "6.1.0\n"},
      {"proc/sys/kernel/hostname", "sim\n"},
      {"host/etc/machine-id", "0123456789abcdef0123456789abcdef\n"},
      {"host/etc/os-release", "PRETTY_NAME=\"Simulated\"\n"},
      {"host/etc/hosts", "127.0.0.1 localhost\n"},
  };
  for (const auto& [path, text] : files) {
    const fs::path file = fs::path(folder) / path;
    fs::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
}

std::string NewFolder() {
  static int count = 0;
  const char* base = fs::exists("/dev/shm") ? "/dev/shm" : "/tmp";
  return StrCat(base, "/keelson-sim-", ::getpid(), "-", ++count);
}

cri::FakeRuntimeOptions RuntimeOptions(int number, uint64_t seed) {
  cri::FakeRuntimeOptions out;
  out.abort_on_misuse = false;  // Check() reports it with the seed
  out.pod_cidr = StrCat("10.", 100 + number, ".0.0/16");
  out.supports_events = seed % 2 == 0;  // every other cluster has an older runtime
  out.run_sandbox_latency = absl::Milliseconds(40);
  out.create_latency = absl::Milliseconds(15);
  out.start_latency = absl::Milliseconds(15);
  out.pull_latency = absl::Milliseconds(300);
  return out;
}

const corev1::PodCondition* Find(const corev1::Pod& pod, std::string_view type) {
  for (const auto& c : pod.status().conditions()) {
    if (c.type() == type) return &c;
  }
  return nullptr;
}

bool IsReady(const corev1::Pod& pod) {
  const corev1::PodCondition* c = Find(pod, "Ready");
  return c != nullptr && c->status() == "True";
}

bool IsDeleting(const corev1::Pod& pod) { return pod.metadata().has_deletion_timestamp(); }

bool HasEnded(const corev1::Pod& pod) {
  return pod.status().phase() == "Succeeded" || pod.status().phase() == "Failed";
}

std::string LabelOf(const corev1::Pod& pod, const std::string& key) {
  auto it = pod.metadata().labels().find(key);
  return it == pod.metadata().labels().end() ? "" : it->second;
}

}  // namespace

// ---- Node ----

struct Node::Process {
  std::unique_ptr<SimClient> client;
  std::unique_ptr<client::EventRecorder> events;
  kubelet::FakeVolumeManager volumes;
  std::unique_ptr<kubelet::FakeProbeManager> probes;
  std::unique_ptr<kubelet::ApiObjectCache> objects;
  std::unique_ptr<kubelet::Kubelet> kubelet;
};

Node::Node(FakeEnv& env, SimNetwork& net, int number, const std::string& folder, uint64_t seed)
    : shared_env_(env),
      net_(net),
      name_(StrCat("n", number)),
      folder_(StrCat(folder, "/", name_)),
      env_(env, Paths::WithRoot(folder_)),
      runtime_(env_, RuntimeOptions(number, seed)),
      cri_(env_, runtime_),
      random_(seed * 1000 + number) {
  fs::create_directories(folder_);
  WriteMachine(folder_);
  runtime_.set_fault_hook([this](std::string_view) { return DrawFault(); });
}

Node::~Node() = default;

kubelet::Kubelet& Node::kubelet() { return *process_->kubelet; }

cri::Fault Node::DrawFault() {
  cri::Fault fault;
  if (cri_fault_rate <= 0) return fault;
  auto chance = [this] { return static_cast<double>(random_() >> 11) * 0x1.0p-53 < cri_fault_rate; };
  if (chance()) fault.delay = absl::Milliseconds(random_() % 15000);
  if (chance()) {
    fault.status = absl::UnknownError("simulated failure of the runtime");
    fault.after_effect = random_() % 2 == 0;
  }
  return fault;
}

void Node::StartKubelet() {
  if (process_ != nullptr || !powered_) return;
  process_ = std::make_unique<Process>();
  Process& p = *process_;
  p.client =
      net_.NewClient(name_, {StrCat(master::kUserNodePrefix, name_),
                             {std::string(master::kGroupNodes), std::string(master::kGroupAuthenticated)}});
  p.events = std::make_unique<client::EventRecorder>(env_, *p.client, "kubelet", name_);
  p.probes = std::make_unique<kubelet::FakeProbeManager>();
  p.objects = std::make_unique<kubelet::ApiObjectCache>(*p.client);
  kubelet::KubeletDeps deps;
  deps.client = p.client.get();
  deps.runtime = &cri_;
  deps.images = &cri_;
  deps.volumes = &p.volumes;
  deps.probes = p.probes.get();
  deps.objects = p.objects.get();
  deps.events = p.events.get();
  kubelet::KubeletOptions options;
  options.node_name = name_;
  options.node_ips = {StrCat("192.0.2.", 10 + name_.back() - '0')};
  options.resolv_conf = "";
  options.eviction_hard.clear();
  options.cgroups_per_qos = false;
  options.proc_root = folder_ + "/proc";
  options.sys_root = folder_ + "/sys";
  options.host_root = folder_ + "/host";
  p.kubelet = std::make_unique<kubelet::Kubelet>(env_, deps, options);
  absl::Status started = p.kubelet->Start();
  KEELSON_CHECK(started.ok(), started.ToString());
}

void Node::CrashKubelet() {
  if (process_ == nullptr) return;
  shared_env_.AwaitVoid(process_->kubelet->Stop());
  shared_env_.AwaitVoid(process_->events->Stop());
  process_.reset();
}

void Node::PowerOff() {
  net_.CutOff(name_);
  CrashKubelet();
  runtime_.Reboot();
  powered_ = false;
}

void Node::PowerOn() {
  if (powered_) return;
  powered_ = true;
  net_.Reconnect(name_);
  runtime_.Restart();
  StartKubelet();
}

void Node::Stop() {
  CrashKubelet();
  shared_env_.AwaitVoid(cri_.Close());
}

// ---- Cluster ----

Cluster::Cluster(ClusterOptions options)
    : options_(options),
      folder_(NewFolder()),
      env_(options.seed),
      store_(env_),
      net_(env_, options.seed, [this](std::string what) { Violation(std::move(what)); }) {
  history_ =
      std::make_unique<History>(env_, store_, [this](std::string what) { Violation(std::move(what)); });
  admin_ = net_.NewClient("admin", {"admin", {std::string(master::kGroupMasters)}});
  for (int i = 1; i <= options_.nodes; ++i) {
    nodes_.push_back(std::make_unique<Node>(env_, net_, i, folder_, options_.seed));
  }
  StartMaster();
  for (auto& node : nodes_) node->StartKubelet();
}

Cluster::~Cluster() {
  for (auto& node : nodes_) node->Stop();
  CrashMaster();
  nodes_.clear();
  history_.reset();
  env_.AwaitVoid(store_.Close());
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
}

void Cluster::StartMaster() {
  if (server_ != nullptr) return;
  master::ApiServerOptions options;
  options.advertise_address = "192.0.2.1";
  // As its supervisor does: a master whose store refuses at the wrong moment ends and is started again.
  for (int attempt = 1;; ++attempt) {
    absl::StatusOr<std::unique_ptr<master::ApiServer>> server =
        master::ApiServer::Create(env_, store_, options);
    KEELSON_CHECK(server.ok(), server.status().ToString());
    server_ = *std::move(server);
    absl::Status started = env_.Await(server_->Start());
    if (started.ok()) break;
    KEELSON_CHECK(attempt < kMaxMasterStarts, "master start: ", started.ToString());
    env_.AwaitVoid(server_->Stop());
    server_.reset();
    env_.Advance(absl::Seconds(1));
  }
  net_.Serve(server_.get(), history_.get());
  controllers_client_ =
      net_.NewClient("master", {"system:kube-controller-manager", {std::string(master::kGroupMasters)}});
  master::ControllerManagerOptions manager;
  manager.advertise_address = "192.0.2.1";
  controllers_ = std::make_unique<master::ControllerManager>(env_, *controllers_client_, manager);
  controllers_->Add(
      [](master::ControllerContext context) { return std::make_unique<master::Scheduler>(context); });
  absl::Status managed = env_.Await(controllers_->Start());
  KEELSON_CHECK(managed.ok(), "controllers start: ", managed.ToString());
}

void Cluster::CrashMaster() {
  if (server_ == nullptr) return;
  env_.AwaitVoid(net_.Unserve());
  env_.AwaitVoid(controllers_->Stop());
  controllers_.reset();
  controllers_client_.reset();
  env_.AwaitVoid(server_->Stop());
  server_.reset();
}

void Cluster::Violation(std::string what) {
  if (violations_.size() >= kMaxViolations) return;
  violations_.push_back(absl::StrFormat("%.3f s, revision %d: %s",
                                        absl::ToDoubleSeconds(env_.clock().Monotonic()),
                                        history_ == nullptr ? 0 : history_->revision(), what));
}

// ---- the user ----

absl::Status Cluster::CreateRc(const std::string& name, int replicas, int64_t toleration_s) {
  corev1::ReplicationController rc;
  rc.mutable_metadata()->set_name(name);
  rc.mutable_metadata()->set_namespace_("default");
  rc.mutable_spec()->set_replicas(replicas);
  (*rc.mutable_spec()->mutable_selector())["app"] = name;
  auto* pod = rc.mutable_spec()->mutable_template_();
  (*pod->mutable_metadata()->mutable_labels())["app"] = name;
  auto* container = pod->mutable_spec()->add_containers();
  container->set_name("main");
  container->set_image(StrCat("example.com/", name, ":1"));
  (*container->mutable_resources()->mutable_requests())["cpu"].set_string("100m");
  container->add_ports()->set_container_port(8080);
  if (toleration_s >= 0) {
    for (const char* key : {"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"}) {
      auto* toleration = pod->mutable_spec()->add_tolerations();
      toleration->set_key(key);
      toleration->set_operator_("Exists");
      toleration->set_effect("NoExecute");
      toleration->set_toleration_seconds(toleration_s);
    }
  }
  return env_.Await(admin_->Create<corev1::ReplicationController>(std::move(rc)), kCallBound).status();
}

absl::Status Cluster::ScaleRc(const std::string& name, int replicas) {
  return env_
      .Await(admin_->Patch<corev1::ReplicationController>("default", name, client::PatchType::kMerge,
                                                          StrCat("{\"spec\":{\"replicas\":", replicas, "}}")),
             kCallBound)
      .status();
}

absl::Status Cluster::CreateService(const std::string& name) {
  corev1::Service service;
  service.mutable_metadata()->set_name(name);
  service.mutable_metadata()->set_namespace_("default");
  (*service.mutable_spec()->mutable_selector())["app"] = name;
  service.mutable_spec()->add_ports()->set_port(80);
  service.mutable_spec()->mutable_ports(0)->mutable_target_port()->set_int_val(8080);
  return env_.Await(admin_->Create<corev1::Service>(std::move(service)), kCallBound).status();
}

absl::Status Cluster::DeletePod(const std::string& name, std::optional<int64_t> grace_s) {
  client::DeleteOptions options;
  options.grace_period_s = grace_s;
  return env_.Await(admin_->Delete<corev1::Pod>("default", name, options), kCallBound);
}

std::vector<std::shared_ptr<const corev1::Pod>> Cluster::PodsOf(const std::string& rc) {
  std::vector<std::shared_ptr<const corev1::Pod>> out;
  for (auto& pod : All<corev1::Pod>()) {
    if (LabelOf(*pod, "app") == rc && !IsDeleting(*pod) && !HasEnded(*pod)) out.push_back(pod);
  }
  return out;
}

// ---- time ----

void Cluster::Run(absl::Duration duration, absl::Duration step) {
  const absl::Duration end = env_.clock().Monotonic() + duration;
  while (env_.clock().Monotonic() < end) {
    env_.Advance(std::min(step, end - env_.clock().Monotonic()));
    Check();
  }
}

bool Cluster::RunUntil(const std::function<bool()>& done, absl::Duration limit, absl::Duration step) {
  const absl::Duration end = env_.clock().Monotonic() + limit;
  while (!done()) {
    if (env_.clock().Monotonic() >= end || !violations_.empty()) return false;
    env_.Advance(step);
    Check();
  }
  return true;
}

bool Cluster::Converge(absl::Duration limit) {
  const bool done = RunUntil([this] { return NotYet().empty(); }, limit);
  if (!done && violations_.empty()) {
    Violation(StrCat("not converged within ", absl::FormatDuration(limit), ": ", NotYet()));
  }
  return done;
}

int Cluster::StartCalls() {
  int calls = 0;
  for (auto& node : nodes_) {
    for (const char* rpc : {"RunPodSandbox", "CreateContainer", "StartContainer",
                            "StopContainer"}) {  // not what garbage collection does
      calls += node->runtime().calls(rpc);
    }
  }
  return calls;
}

void Cluster::CheckQuiet(absl::Duration duration) {
  Run(absl::Seconds(30));  // records of what is over are removed for a while
  history_->Drain();
  const uint64_t writes = history_->writes_that_matter();
  const int calls = StartCalls();
  Run(duration);
  history_->Drain();
  if (history_->writes_that_matter() != writes) {
    Violation(StrCat(history_->writes_that_matter() - writes, " writes while nothing happens"));
  }
  if (StartCalls() != calls)
    Violation(StrCat(StartCalls() - calls, " calls of runtimes while nothing happens"));
}

// ---- what must hold ----

void Cluster::Check() {
  history_->Drain();
  std::map<std::string, std::string> place;  // pod UID -> node with a ready sandbox of it
  for (auto& node : nodes_) {
    absl::Status sane = node->runtime().CheckInvariants();
    if (!sane.ok()) Violation(StrCat(node->name(), ": ", sane.ToString()));
    for (const std::string& misuse : node->runtime().misuses()) Violation(StrCat(node->name(), ": ", misuse));
    std::set<std::pair<std::string, uint32_t>> attempts;
    for (const auto& sandbox : node->runtime().Sandboxes()) {
      const auto& meta = sandbox.metadata();
      if (!attempts.insert({meta.uid(), meta.attempt()}).second) {
        Violation(StrCat(node->name(), ": two sandboxes of ", meta.name(), " attempt ", meta.attempt()));
      }
      if (history_->NodeOf(meta.uid()) != node->name()) {
        Violation(
            StrCat(node->name(), " runs ", meta.name(), ", bound to \"", history_->NodeOf(meta.uid()), "\""));
      }
      if (sandbox.state() != cri::v1::SANDBOX_READY) continue;
      auto [it, fresh] = place.emplace(meta.uid(), node->name());
      if (!fresh) Violation(StrCat(meta.name(), " runs on ", it->second, " and ", node->name()));
    }
  }
}

std::string Cluster::NotYet() {
  if (!master_runs()) return "the master is down";
  for (auto& node : nodes_) {
    std::string why = NotYetNode(*node);
    if (!why.empty()) return why;
  }
  std::string why = NotYetRcs();
  return why.empty() ? NotYetEndpoints() : why;
}

std::string Cluster::NotYetNode(Node& node) {
  if (node.gone_for_ever) return NotYetGone(node.name());
  bool ready = false;
  for (const auto& object : All<corev1::Node>()) {
    if (object->metadata().name() != node.name()) continue;
    for (const auto& c : object->status().conditions()) ready |= c.type() == "Ready" && c.status() == "True";
    for (const auto& taint : object->spec().taints()) {
      if (taint.key().rfind("node.kubernetes.io/", 0) == 0)
        return StrCat(node.name(), " has taint ", taint.key());
    }
  }
  if (!ready) return StrCat("node ", node.name(), " is not ready");
  // Every running thing belongs to a pod of the API, and every pod's status is what runs.
  std::map<std::string, std::shared_ptr<const corev1::Pod>> wanted;
  for (const auto& pod : All<corev1::Pod>()) {
    if (pod->spec().node_name() == node.name()) wanted[pod->metadata().uid()] = pod;
  }
  std::map<std::string, std::string> running;  // pod UID -> container ID
  for (const auto& sandbox : node.runtime().Sandboxes()) {
    const std::string& uid = sandbox.metadata().uid();
    if (sandbox.state() != cri::v1::SANDBOX_READY) continue;
    if (wanted.count(uid) == 0) return StrCat(node.name(), " still runs ", sandbox.metadata().name());
    running[uid] = "";
  }
  for (const auto& container : node.runtime().Containers()) {
    if (container.state() != cri::v1::CONTAINER_RUNNING) continue;
    auto sandbox = node.runtime().SandboxConfig(node.runtime().SandboxOf(container.id()));
    if (!sandbox.has_value()) return StrCat("container ", container.id(), " without a sandbox");
    const std::string& uid = sandbox->metadata().uid();
    if (wanted.count(uid) == 0)
      return StrCat(node.name(), " still runs a container of ", sandbox->metadata().name());
    running[uid] = StrCat("fake://", container.id());
  }
  for (const auto& [uid, pod] : wanted) {
    const std::string& name = pod->metadata().name();
    if (IsDeleting(*pod)) return StrCat(name, " is still being deleted on ", node.name());
    if (HasEnded(*pod)) continue;
    if (!IsReady(*pod)) return StrCat(name, " is not ready on ", node.name());
    if (pod->status().container_statuses_size() != 1) return StrCat(name, " has no container status");
    const std::string& told = pod->status().container_statuses(0).container_id();
    if (running[uid] != told) return StrCat(name, " says it is ", told, ", \"", running[uid], "\" runs");
  }
  return "";
}

// Its silence has been noticed: a node whose last word was "not ready" is called unknown later than one that
// was ready.
std::string Cluster::NotYetGone(const std::string& name) {
  for (const auto& object : All<corev1::Node>()) {
    if (object->metadata().name() != name) continue;
    for (const auto& c : object->status().conditions()) {
      if (c.type() == "Ready" && c.status() != "Unknown")
        return StrCat("lost node ", name, " is said to be known");
    }
  }
  for (const auto& pod : All<corev1::Pod>()) {
    if (pod->spec().node_name() == name && IsReady(*pod)) {
      return StrCat(pod->metadata().name(), " is said to be ready on the lost node ", name);
    }
  }
  return "";
}

std::string Cluster::NotYetRcs() {
  for (const auto& pod : All<corev1::Pod>()) {
    if (pod->spec().node_name().empty()) return StrCat(pod->metadata().name(), " is not bound");
  }
  std::set<std::string> usable;
  for (auto& node : nodes_) {
    if (!node->gone_for_ever) usable.insert(node->name());
  }
  for (const auto& rc : All<corev1::ReplicationController>()) {
    const std::string& name = rc->metadata().name();
    std::vector<std::shared_ptr<const corev1::Pod>> pods = PodsOf(name);
    if (static_cast<int>(pods.size()) != rc->spec().replicas()) {
      return StrCat("rc ", name, " has ", pods.size(), " pods of ", rc->spec().replicas());
    }
    for (const auto& pod : pods) {
      if (!IsReady(*pod)) return StrCat(pod->metadata().name(), " is not ready");
      if (usable.count(pod->spec().node_name()) == 0) {
        return StrCat(pod->metadata().name(), " is on ", pod->spec().node_name(), ", which is gone");
      }
    }
    const auto& s = rc->status();
    if (s.replicas() != rc->spec().replicas() || s.ready_replicas() != rc->spec().replicas() ||
        s.observed_generation() != rc->metadata().generation()) {
      return StrCat("rc ", name, "'s status says ", s.replicas(), " and ", s.ready_replicas(),
                    " ready, generation ", s.observed_generation(), " of ", rc->metadata().generation());
    }
  }
  return "";
}

std::string Cluster::NotYetEndpoints() {
  std::map<std::string, std::set<std::string>> have;
  for (const auto& e : All<corev1::Endpoints>()) {
    for (const auto& subset : e->subsets()) {
      for (const auto& address : subset.addresses()) have[e->metadata().name()].insert(address.ip());
    }
  }
  for (const auto& service : All<corev1::Service>()) {
    const std::string& name = service->metadata().name();
    if (service->spec().selector_size() == 0) continue;
    std::set<std::string> want;
    for (const auto& pod : PodsOf(name)) {
      if (IsReady(*pod)) want.insert(pod->status().pod_ip());
    }
    if (have[name] != want) {
      return StrCat("endpoints of ", name, " are {", absl::StrJoin(have[name], " "), "}, ready pods {",
                    absl::StrJoin(want, " "), "}");
    }
  }
  return "";
}

std::string Cluster::Dump() {
  std::string out;
  for (const auto& pod : All<corev1::Pod>()) {
    const auto& s = pod->status();
    StrAppend(&out, "pod ", pod->metadata().name(), " on ", pod->spec().node_name(), " ", s.phase(),
              IsReady(*pod) ? " ready" : "", IsDeleting(*pod) ? " deleting" : "", " ", s.pod_ip(),
              " restarts ", s.container_statuses_size() > 0 ? s.container_statuses(0).restart_count() : -1,
              " uid ", pod->metadata().uid(), "\n");
  }
  for (auto& node : nodes_) {
    StrAppend(&out, node->name(), node->powered() ? "" : " off", node->kubelet_runs() ? "" : " no kubelet",
              net_.IsCutOff(node->name()) ? " cut off" : "", node->runtime().up() ? "" : " runtime down",
              "\n");
    for (const auto& s : node->runtime().Sandboxes()) {
      StrAppend(&out, "  sandbox ", s.metadata().name(), " attempt ", s.metadata().attempt(), " ",
                cri::v1::PodSandboxState_Name(s.state()), " uid ", s.metadata().uid(), "\n");
    }
    for (const auto& c : node->runtime().Containers()) {
      StrAppend(&out, "  container ", c.id(), " of ", node->runtime().SandboxOf(c.id()), " attempt ",
                c.metadata().attempt(), " ", cri::v1::ContainerState_Name(c.state()), "\n");
    }
  }
  return out;
}

}  // namespace keelson::sim
