// Random stories of one RuntimeServer: clients that call as they like, calls of the world below that fail or
// take long, containers that end by themselves, monitors that are killed, and the server, or the whole
// machine, stopped between any two of the server's effects and started anew. What must hold is checked all
// along, and at rest nothing may be there that does not belong to a sandbox or container that the server
// lists.
//
//   KEELSON_SIM_SECONDS=60   for how long seeds are tried (default below)
//   KEELSON_SIM_SEED=N       exactly this one, step by step on stderr
//   KEELSON_SIM_FIRST=N      the first seed; else 1
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "base/fd.h"
#include "base/log.h"
#include "base/strings.h"
#include "cri/server/pod_checkpoint.h"
#include "tests/sim/runtime_plugins.h"
#include "tests/sim/runtime_world.h"
#include "tests/sim/seed_runner.h"

namespace keelson::sim {
namespace {

namespace v1 = cri::v1;

constexpr int kDefaultSeconds = 30;
constexpr int kMinSteps = 20, kMaxSteps = 80;
constexpr int kMaxSandboxes = 6;
constexpr absl::Duration kRest = absl::Seconds(30);
// The longest of the server's own waits (SIGKILL to the end) and of the world's delays, many times over.
constexpr absl::Duration kCallLimit = absl::Minutes(30);
constexpr char kHostNetwork[] = "host-network";  // a label
constexpr int kLostExitCode = 255, kStartErrorExitCode = 128;

// Errors that the server tells of are part of the stories.
constexpr LogLevel kSilent{static_cast<int>(LogLevel::kError) + 1};

// One server process and the calls to it.
struct Life {
  explicit Life(RuntimeWorld* world) : generation(world), calls(world->env().executor()) {}
  Generation generation;
  std::unique_ptr<RuntimePlugins> plugins;  // null: a server without NRI
  std::unique_ptr<cri::RuntimeServer> server;
  std::unique_ptr<cri::ContainerEventReader> events;
  Scope calls;
  bool recovered = false;
  // Of each ID, in this life: what events said, and what they must have said.
  std::map<std::string, std::vector<v1::ContainerEventType>> seen;
  std::set<std::pair<std::string, v1::ContainerEventType>> wanted;
};

struct SandboxModel {
  bool acknowledged = false, stop_begun = false, stopped = false, remove_begun = false, removed = false;
  bool not_ready = false;       // was seen so
  v1::PodSandboxConfig config;  // of an acknowledged one
};

struct ContainerModel {
  std::string sandbox;
  bool acknowledged = false;
  bool remove_begun = false, removed = false;
  bool started = false;  // acknowledged
  int starts_begun = 0, starts_ended = 0;
  v1::ContainerState seen = v1::CONTAINER_CREATED;
  v1::ContainerConfig config;  // of an acknowledged one
  std::string from;            // the container whose checkpoint it was created from
};

// An acknowledged checkpoint of a pod.
struct ArchiveModel {
  std::string path;
  v1::PodSandboxConfig pod;
  std::vector<v1::ContainerConfig> containers;
  std::map<std::string, std::string> ids;  // by name
};

// An acknowledged checkpoint of one container.
struct CheckpointModel {
  std::string path, id;
  v1::ContainerConfig config;
};

// A life without chance: at most one death and one failed call.
struct Mishap {
  int die_at = 0;       // the so-many-th step that touches the world; 0: none
  bool reboot = false;  // and the machine with it
  int fail_at = 0;      // the so-many-th call of the world
  bool fail_after_effect = false;
};

class Story {
 public:
  Story(uint64_t seed, bool tell, bool scripted = false, bool plugins = false)
      : world_(seed, tell), scripted_(scripted), plugins_(scripted ? plugins : world_.Below(2) == 0) {
    Start();
  }
  ~Story() { Bury(); }

  void Play() {
    world_.fault_rate = Below(3) == 0 ? 0 : 0.01 * Below(15);
    world_.slow = Below(2) == 0;
    const int steps = kMinSteps + Below(kMaxSteps - kMinSteps + 1);
    for (int i = 0; i < steps && violations_.empty(); ++i) {
      if (plugins_ && Below(4) == 0) life_->plugins->Mishap();
      Step();
      static constexpr absl::Duration kPauses[] = {absl::Milliseconds(1), absl::Milliseconds(15),
                                                   absl::Milliseconds(100), absl::Seconds(1),
                                                   absl::Seconds(12)};
      world_.env().Advance(kPauses[Below(5)] * (1 + Below(8)) / 4);
      if (life_->generation.dead()) Start();
      Observe();
      if (violations_.empty() && Below(12) == 0) Rest();
    }
    if (violations_.empty()) Rest();
    if (violations_.empty()) RemoveAll();
  }

  // From RunPodSandbox to RemovePodSandbox, each call again until it has done what it is for, as a kubelet
  // does. False: the mishap did not come to pass, there are not so many steps.
  bool PlayUsual(const Mishap& mishap) {
    if (mishap.die_at > 0) life_->generation.DieAfter(mishap.die_at);
    reboot_ = mishap.reboot;
    world_.fail_at = mishap.fail_at;
    world_.fail_after_effect = mishap.fail_after_effect;
    const std::string pod = UsualPod("pod-0");
    const std::string first = UsualContainer(pod, "c0"), second = UsualContainer(pod, "c1");
    Call(CallExec(this, life_, first));
    Call(CallUpdate(this, life_, first));
    // A dead server's folder moves here, and the bundles name the old one: their containers are refused, as
    // those of an older server are.
    Until(
        "a checkpoint", [&] { return !archives_.empty() || world_.generation() > 0; },
        [&] { return CallCheckpoint(this, life_, pod, ++archives_begun_); });
    Until(
        "a checkpoint of c0", [&] { return !checkpoints_.empty() || world_.generation() > 0; },
        [&] { return CallCheckpointContainer(this, life_, first, ++archives_begun_); });
    if (!checkpoints_.empty() && violations_.empty()) UsualContainer(pod, "again", &checkpoints_[0]);
    world_.ExitContainer(second, 3);
    Until(
        "the end of c1", [&] { return StateOf(second) == v1::CONTAINER_EXITED; },
        [&] { return CallStop(this, life_, second, 0); });
    Until(
        "a restored pod", [&] { return archives_.empty() || Named("restored") != nullptr; },
        [&] { return NextForRestored(); });
    Until(
        "the end of c0", [&] { return StateOf(first) == v1::CONTAINER_EXITED; },
        [&] { return CallStop(this, life_, first, 1); });
    Until(
        "c1 removed", [&] { return StatusOf(second).id().empty(); },
        [&] { return CallRemove(this, life_, second); });
    Until(
        "the pod stopped", [&] { return sandboxes_[pod].stopped; },
        [&] { return CallStopSandbox(this, life_, pod); });
    if (violations_.empty() && world_.boot() > 1) AgainAfterReboot();
    const bool came = world_.generation() > 0 || (mishap.fail_at > 0 && world_.fail_at == 0);
    if (violations_.empty()) Rest();
    if (violations_.empty()) RemoveAll();
    return came;
  }

  // A server that is told to end in the middle of a checkpoint leaves no container frozen.
  void PlayToldToEnd() {
    const std::string pod = UsualPod("pod-0"), first = UsualContainer(pod, "c0");
    if (!violations_.empty()) return;
    Spawn("checkpoint", CallCheckpointContainer(this, life_, first, ++archives_begun_));
    if (!world_.env().RunUntil([&] { return world_.containers[first].frozen; }, kCallLimit))
      return Violation("it is not frozen for its checkpoint");
    world_.env().AwaitVoid(life_->server->ThawAll());
    if (world_.containers[first].frozen) Violation("it stays frozen");
    Rest();
    if (!checkpoints_.empty()) Violation("a checkpoint of a container that ran on");
    if (violations_.empty()) RemoveAll();
  }

  // criu puts what it restores elsewhere: nothing of the pod stays, and no container runs.
  void PlayMisplaced(bool RuntimeWorld::*how) {
    const std::string pod = UsualPod("pod-0"), first = UsualContainer(pod, "c0");
    Until(
        "a checkpoint", [&] { return !archives_.empty(); },
        [&] { return CallCheckpoint(this, life_, pod, ++archives_begun_); });
    Until(
        "a checkpoint of c0", [&] { return !checkpoints_.empty(); },
        [&] { return CallCheckpointContainer(this, life_, first, ++archives_begun_); });
    if (!violations_.empty()) return;
    world_.*how = true;
    Call(CallRestore(this, life_, archives_[0], "restored", 1));
    if (Named("restored") != nullptr || Named("restored", /*ready=*/false) != nullptr)
      Violation("a misplaced pod is there");
    Call(CallCreateFrom(this, life_, pod, "again", checkpoints_[0]));
    for (const v1::Container& c : Containers()) {
      if (c.metadata().name() != "again") continue;
      Call(CallStart(this, life_, c.id()));
      if (StateOf(c.id()) != v1::CONTAINER_EXITED || StatusOf(c.id()).reason() != "StartError")
        Violation("a misplaced container is there");
    }
    Rest();
    if (violations_.empty()) RemoveAll();
  }

  const std::vector<std::string>& violations() const { return violations_; }
  uint64_t hash() const { return world_.hash(); }

 private:
  int Below(int bound) { return world_.Below(bound); }
  void Violation(const std::string& what) {
    world_.Note("VIOLATION " + what);
    violations_.push_back(StrCat(absl::FormatDuration(world_.env().clock().Monotonic()), ": ", what));
  }
  bool Dead() const { return life_->generation.dead(); }

  // ---- the server's lives ----

  void Bury() {
    if (life_ == nullptr) return;
    life_->generation.DieAfter(0);
    world_.env().AwaitVoid(life_->calls.Close());
    if (life_->server != nullptr) world_.env().AwaitVoid(life_->server->Close());
    if (life_->plugins != nullptr) world_.env().AwaitVoid(life_->plugins->Close());
    life_->events = nullptr;
    life_->server = nullptr;
    world_.env().Settle();
    // Timers of its jobs may still fire.
    buried_.push_back(std::move(life_));
  }

  static Task<void> Recover(std::shared_ptr<Life> life, std::shared_ptr<absl::Status> out) {
    Task<absl::Status> recover = life->server->Recover();
    *out = co_await std::move(recover);
    life->recovered = true;
  }

  static Task<void> ReadEvents(std::shared_ptr<Life> life) {
    while (true) {
      auto next = life->events->Next();
      absl::StatusOr<std::optional<v1::ContainerEventResponse>> event = co_await std::move(next);
      if (!event.ok() || !event->has_value()) co_return;
      if (!life->generation.dead())
        life->seen[(*event)->container_id()].push_back((*event)->container_event_type());
    }
  }

  // Until one has recovered; it may die on the way.
  void Start() {
    do {
      Bury();
      if (life_begun_ && std::exchange(reboot_, false)) Reboot();
      life_begun_ = true;
      life_ = std::make_shared<Life>(&world_);
      world_.Note(StrCat("server ", life_->generation.number(), " starts"));
      cri::RuntimeServerDeps deps = life_->generation.Deps();
      if (plugins_) {
        life_->plugins = std::make_unique<RuntimePlugins>(&world_, &life_->generation, deps.env);
        deps.nri = life_->plugins->adaptation();
      }
      auto server = cri::RuntimeServer::Create(std::move(deps), life_->generation.Options());
      KEELSON_CHECK(server.ok(), server.status().ToString());
      life_->server = *std::move(server);
      if (!scripted_ && Below(5) == 0) life_->generation.DieAfter(1 + Below(30));
      auto status = std::make_shared<absl::Status>();
      life_->calls.Spawn("recover", Recover(life_, status));
      bool ended = world_.env().RunUntil([&] { return life_->recovered || Dead(); }, kCallLimit);
      if (!ended) Violation("Recover does not end");
      if (!status->ok() && !Dead()) Violation("Recover: " + status->ToString());
    } while (Dead() && violations_.empty());
    auto subscribe = world_.env().Await(life_->server->GetContainerEvents({}));
    life_->events = *std::move(subscribe);
    life_->calls.Spawn("events", ReadEvents(life_));
    world_.Note("server recovered");
    if (plugins_) life_->plugins->Connect();
    // What was acknowledged to nobody is learned from the list.
    Learn();
  }

  void Reboot() {
    world_.Reboot();
    for (const auto& [id, model] : containers_) {
      if (model.seen != v1::CONTAINER_EXITED) world_.truths[id].end_unseen = true;
    }
  }

  // ---- looking ----

  std::vector<v1::Container> Containers() {
    auto list = world_.env().Await(life_->server->ListContainers({}));
    return {list->containers().begin(), list->containers().end()};
  }
  std::vector<v1::PodSandbox> Sandboxes() {
    auto list = world_.env().Await(life_->server->ListPodSandbox({}));
    return {list->items().begin(), list->items().end()};
  }
  v1::ContainerStatus StatusOf(const std::string& id) {
    v1::ContainerStatusRequest request;
    request.set_container_id(id);
    auto status = world_.env().Await(life_->server->ContainerStatus(request));
    return status.ok() ? status->status() : v1::ContainerStatus();
  }

  void Learn() {
    if (Dead()) return;
    for (const v1::PodSandbox& s : Sandboxes()) sandboxes_.try_emplace(s.id());
    for (const v1::Container& c : Containers()) {
      auto [it, fresh] = containers_.try_emplace(c.id());
      if (fresh) it->second.sandbox = c.pod_sandbox_id();
      if (fresh && world_.boot() > 1) world_.truths[c.id()].end_unseen = true;
      // A start that was under way when the server died has ended one way or the other.
      it->second.starts_ended = it->second.starts_begun;
    }
  }

  // What must hold at any time.
  void Observe() {
    if (Dead()) return;
    std::set<std::string> sandboxes, containers;
    for (const v1::PodSandbox& s : Sandboxes()) {
      sandboxes.insert(s.id());
      SandboxModel& model = sandboxes_[s.id()];
      if (model.removed) Violation(StrCat("sandbox ", s.id(), " is back"));
      if (s.state() == v1::SANDBOX_NOTREADY) model.not_ready = true;
      if (s.state() == v1::SANDBOX_READY && model.not_ready)
        Violation(StrCat("sandbox ", s.id(), " is ready again"));
    }
    for (const v1::Container& c : Containers()) {
      containers.insert(c.id());
      ContainerModel& model = containers_[c.id()];
      model.sandbox = c.pod_sandbox_id();
      if (model.removed) Violation(StrCat("container ", c.id(), " is back"));
      const bool known = c.state() != v1::CONTAINER_UNKNOWN;  // a server that does not know yet says so
      if (known && c.state() < model.seen) {
        Violation(StrCat("container ", c.id(), " went from ", v1::ContainerState_Name(model.seen), " to ",
                         v1::ContainerState_Name(c.state())));
      }
      if (known) model.seen = c.state();
      if (model.started && c.state() == v1::CONTAINER_CREATED)
        Violation(StrCat("container ", c.id(), " was started, but is not"));
      if (!sandboxes.contains(c.pod_sandbox_id())) Violation(StrCat("container ", c.id(), " has no sandbox"));
      const SimTruth& truth = world_.truths[c.id()];
      if (truth.starts > 1) Violation(StrCat("container ", c.id(), " ran ", truth.starts, " times"));
      if (truth.starts > 0 && !model.from.empty() && truth.restored_from != model.from)
        Violation(StrCat("container ", c.id(), " is not restored from ", model.from));
      CheckStatus(c.id(), truth);
    }
    for (const auto& [id, model] : sandboxes_) {
      if (model.acknowledged && !model.remove_begun && !sandboxes.contains(id))
        Violation(StrCat("sandbox ", id, " is lost"));
    }
    for (const auto& [id, model] : containers_) {
      if (model.acknowledged && !model.remove_begun && !sandboxes_[model.sandbox].remove_begun &&
          !containers.contains(id))
        Violation(StrCat("container ", id, " is lost"));
    }
    if (plugins_) {
      // Those that could not be undone, or are half removed, are nothing to plugins.
      std::vector<v1::Container> whole = Containers();
      std::erase_if(whole, [this](const v1::Container& c) {
        const ContainerModel& model = containers_[c.id()];
        return !model.acknowledged || model.remove_begun || sandboxes_[model.sandbox].remove_begun;
      });
      for (const std::string& wrong : life_->plugins->Check(Sandboxes(), whole)) Violation(wrong);
    }
    for (const auto& [id, model] : containers_) {
      int inits = 0;
      for (const auto& [pid, process] : world_.processes)
        inits += process->alive && process->id == id && process->kind == SimProcess::Kind::kInit;
      if (inits > 1) Violation(StrCat("container ", id, " has ", inits, " processes"));
    }
  }

  void CheckStatus(const std::string& id, const SimTruth& truth) {
    v1::ContainerStatus status = StatusOf(id);
    if (status.id().empty() || status.state() != v1::CONTAINER_EXITED) return;
    if (status.finished_at() < status.started_at())
      Violation(StrCat("container ", id, " ended before it began"));
    const int code = status.exit_code();
    if (status.reason() == "StartError") {
      if (code != kStartErrorExitCode) Violation(StrCat("container ", id, ": StartError with ", code));
      return;
    }
    if (code == kLostExitCode && truth.end_unseen) return;
    if (!truth.exit_code.has_value()) {
      Violation(StrCat("container ", id, " is said to have ended with ", code, ", but lives"));
    } else if (*truth.exit_code != code) {
      Violation(StrCat("container ", id, " ended with ", *truth.exit_code, ", not ", code));
    }
  }

  // With no mishaps and no calls: the lists are what is there, and nothing else is there.
  void Rest() {
    const double faults = std::exchange(world_.fault_rate, 0);
    while (violations_.empty()) {
      Life* life = life_.get();
      bool ended =
          world_.env().RunUntil([&] { return calls_under_way_ == 0 || life->generation.dead(); }, kCallLimit);
      if (!ended) Violation(StrCat("calls do not end: ", calls_under_way_));
      world_.env().Advance(kRest);
      if (!Dead()) break;
      Start();
    }
    if (!violations_.empty()) return;
    world_.Note("rest");
    Observe();
    std::set<std::string> known, ready;
    for (const v1::PodSandbox& s : Sandboxes()) {
      known.insert(s.id());
      if (s.state() == v1::SANDBOX_READY) {
        ready.insert(s.id());
        if (!s.labels().contains(kHostNetwork) && !world_.attachments.contains(s.id()))
          Violation(StrCat("sandbox ", s.id(), " is ready without a network"));
      }
    }
    for (const v1::Container& c : Containers()) {
      known.insert(c.id());
      const bool runs = c.state() == v1::CONTAINER_RUNNING;
      if (runs && !world_.InitAlive(c.id())) Violation(StrCat("container ", c.id(), " is said to run"));
      if (!runs && world_.InitAlive(c.id()))
        Violation(
            StrCat("container ", c.id(), " runs and is said to be ", v1::ContainerState_Name(c.state())));
      if (runs && sandboxes_[c.pod_sandbox_id()].stopped)
        Violation(StrCat("container ", c.id(), " runs in a stopped sandbox"));
    }
    for (const auto& [id, container] : world_.containers) {
      if (container.frozen) Violation(StrCat("container ", id, " stays frozen"));
    }
    auto scratch = FolderNames(world_.folder() + "/state/checkpoints");
    if (scratch.ok() && !scratch->empty()) Violation("left of a checkpoint: " + scratch->front());
    auto images = FolderNames(world_.folder() + "/state/restores");
    for (const std::string& id : images.ok() ? *images : std::vector<std::string>()) {
      if (StateOf(id) != v1::CONTAINER_CREATED || StatusOf(id).id().empty())
        Violation(StrCat("images of container ", id, " stay"));
    }
    for (const std::string& resource : world_.Resources("")) {
      bool owned = false;
      for (const std::string& id : known) owned = owned || resource.find(id) != resource.npos;
      if (!owned) Violation("left over: " + resource);
    }
    for (const auto& [id, model] : sandboxes_) {
      if (!model.stopped) continue;
      if (world_.attachments.contains(id)) Violation(StrCat("stopped sandbox ", id, " has a network"));
      if (world_.host_ports.contains(id)) Violation(StrCat("stopped sandbox ", id, " has host ports"));
    }
    CheckEvents();
    world_.fault_rate = faults;
  }

  void CheckEvents() {
    for (const auto& [id, type] : life_->wanted) {
      const auto& seen = life_->seen[id];
      if (std::find(seen.begin(), seen.end(), type) == seen.end())
        Violation(StrCat("no ", v1::ContainerEventType_Name(type), " of ", id));
    }
    for (const auto& [id, seen] : life_->seen) {
      for (size_t i = 1; i < seen.size(); ++i) {
        if (seen[i] <= seen[i - 1]) {
          Violation(StrCat("events of ", id, ": ", v1::ContainerEventType_Name(seen[i]), " after ",
                           v1::ContainerEventType_Name(seen[i - 1])));
        }
      }
    }
  }

  void RemoveAll() {
    world_.fault_rate = 0;
    for (int round = 0; round < 3; ++round) {
      if (Dead()) Start();
      for (const v1::PodSandbox& s : Sandboxes()) {
        Spawn("remove", CallRemoveSandbox(this, life_, s.id()));
      }
      Rest();
      if (!violations_.empty()) return;
    }
    for (const std::string& resource : world_.Resources("")) Violation("not removed: " + resource);
    for (const char* dir : {"/run/sandboxes", "/run/containers", "/state/sandboxes", "/state/containers"}) {
      std::error_code ignored;
      for (const auto& entry : std::filesystem::directory_iterator(world_.folder() + dir, ignored))
        Violation(StrCat("file not removed: ", dir, "/", entry.path().filename().string()));
    }
  }

  // ---- the calls ----

  // Counts a call while it is under way, and drops its answer when the server died.
  struct UnderWay {
    explicit UnderWay(Story* s) : story(s) { ++story->calls_under_way_; }
    ~UnderWay() { --story->calls_under_way_; }
    Story* story;
  };
  bool Answered(const std::shared_ptr<Life>& life, const char* rpc, const std::string& id,
                const absl::Status& status) {
    if (life->generation.dead()) return false;
    world_.Note(StrCat(rpc, " ", id.substr(0, 6), ": ", absl::StatusCodeToString(status.code())));
    return true;
  }
  void Spawn(const char* name, Task<void> call) { life_->calls.Spawn(name, std::move(call)); }

  static Task<void> CallRun(Story* story, std::shared_ptr<Life> life, v1::PodSandboxConfig config) {
    UnderWay under_way(story);
    v1::RunPodSandboxRequest request;
    *request.mutable_config() = config;
    auto call = life->server->RunPodSandbox(request);
    absl::StatusOr<v1::RunPodSandboxResponse> response = co_await std::move(call);
    const std::string id = response.ok() ? response->pod_sandbox_id() : "";
    if (!story->Answered(life, "RunPodSandbox", id, response.status()) || !response.ok()) co_return;
    story->sandboxes_[id].acknowledged = true;
    story->sandboxes_[id].config = config;
    life->wanted.insert({id, v1::CONTAINER_CREATED_EVENT});
    life->wanted.insert({id, v1::CONTAINER_STARTED_EVENT});
  }

  static Task<void> CallCreate(Story* story, std::shared_ptr<Life> life, std::string sandbox,
                               v1::ContainerConfig config) {
    UnderWay under_way(story);
    v1::CreateContainerRequest request;
    request.set_pod_sandbox_id(sandbox);
    *request.mutable_config() = config;
    auto call = life->server->CreateContainer(request);
    absl::StatusOr<v1::CreateContainerResponse> response = co_await std::move(call);
    const std::string id = response.ok() ? response->container_id() : "";
    if (!story->Answered(life, "CreateContainer", id, response.status()) || !response.ok()) co_return;
    story->containers_[id].sandbox = sandbox;
    story->containers_[id].acknowledged = true;
    story->containers_[id].config = config;
    life->wanted.insert({id, v1::CONTAINER_CREATED_EVENT});
  }

  static Task<void> CallStart(Story* story, std::shared_ptr<Life> life, std::string id) {
    UnderWay under_way(story);
    ++story->containers_[id].starts_begun;
    v1::StartContainerRequest request;
    request.set_container_id(id);
    auto call = life->server->StartContainer(request);
    absl::StatusOr<v1::StartContainerResponse> response = co_await std::move(call);
    if (!story->Answered(life, "StartContainer", id, response.status())) co_return;
    ++story->containers_[id].starts_ended;
    if (!response.ok()) co_return;
    if (story->containers_[id].started) story->Violation(StrCat("container ", id, " was started twice"));
    story->containers_[id].started = story->containers_[id].acknowledged = true;
    life->wanted.insert({id, v1::CONTAINER_STARTED_EVENT});
  }

  static Task<void> CallStop(Story* story, std::shared_ptr<Life> life, std::string id, int64_t timeout) {
    UnderWay under_way(story);
    const int starts = story->containers_[id].starts_begun;
    const bool starting = story->containers_[id].starts_ended != starts;
    v1::StopContainerRequest request;
    request.set_container_id(id);
    request.set_timeout(timeout);
    auto call = life->server->StopContainer(request);
    absl::StatusOr<v1::StopContainerResponse> response = co_await std::move(call);
    if (!story->Answered(life, "StopContainer", id, response.status()) || !response.ok()) co_return;
    if (starting || story->containers_[id].starts_begun != starts) co_return;
    if (story->world_.InitAlive(id)) story->Violation(StrCat("container ", id, " was stopped, but runs"));
    if (life->wanted.contains({id, v1::CONTAINER_STARTED_EVENT}))
      life->wanted.insert({id, v1::CONTAINER_STOPPED_EVENT});
  }

  static Task<void> CallRemove(Story* story, std::shared_ptr<Life> life, std::string id) {
    UnderWay under_way(story);
    story->containers_[id].remove_begun = true;
    v1::RemoveContainerRequest request;
    request.set_container_id(id);
    auto call = life->server->RemoveContainer(request);
    absl::StatusOr<v1::RemoveContainerResponse> response = co_await std::move(call);
    if (!story->Answered(life, "RemoveContainer", id, response.status()) || !response.ok()) co_return;
    story->containers_[id].removed = true;
    for (const std::string& resource : story->world_.Resources(id)) {
      // A command that was executed in it may need a moment more.
      if (!resource.starts_with("exec "))
        story->Violation("left over right after RemoveContainer: " + resource);
    }
  }

  static Task<void> CallStopSandbox(Story* story, std::shared_ptr<Life> life, std::string id) {
    UnderWay under_way(story);
    story->sandboxes_[id].stop_begun = true;
    v1::StopPodSandboxRequest request;
    request.set_pod_sandbox_id(id);
    auto call = life->server->StopPodSandbox(request);
    absl::StatusOr<v1::StopPodSandboxResponse> response = co_await std::move(call);
    if (!story->Answered(life, "StopPodSandbox", id, response.status()) || !response.ok()) co_return;
    story->sandboxes_[id].stopped = true;
    if (story->world_.attachments.contains(id))
      story->Violation(StrCat("sandbox ", id, " was stopped and has a network"));
  }

  static Task<void> CallRemoveSandbox(Story* story, std::shared_ptr<Life> life, std::string id) {
    UnderWay under_way(story);
    story->sandboxes_[id].stop_begun = story->sandboxes_[id].remove_begun = true;
    v1::RemovePodSandboxRequest request;
    request.set_pod_sandbox_id(id);
    auto call = life->server->RemovePodSandbox(request);
    absl::StatusOr<v1::RemovePodSandboxResponse> response = co_await std::move(call);
    if (!story->Answered(life, "RemovePodSandbox", id, response.status()) || !response.ok()) co_return;
    story->sandboxes_[id].stopped = story->sandboxes_[id].removed = true;
    for (const std::string& resource : story->world_.Resources(id))
      story->Violation("left over right after RemovePodSandbox: " + resource);
  }

  static Task<void> CallExec(Story* story, std::shared_ptr<Life> life, std::string id) {
    UnderWay under_way(story);
    v1::ExecSyncRequest request;
    request.set_container_id(id);
    request.add_cmd("true");
    request.set_timeout(story->Below(3));
    auto call = life->server->ExecSync(request);
    absl::StatusOr<v1::ExecSyncResponse> response = co_await std::move(call);
    if (!story->Answered(life, "ExecSync", id, response.status()) || !response.ok()) co_return;
    const int pid = std::atoi(response->stdout().substr(4).c_str());
    auto process = story->world_.processes.find(pid);
    if (process == story->world_.processes.end() || process->second->code != response->exit_code())
      story->Violation(StrCat("exec in ", id, ": \"", response->stdout(), "\", ", response->exit_code()));
  }

  static Task<void> CallUpdate(Story* story, std::shared_ptr<Life> life, std::string id) {
    UnderWay under_way(story);
    v1::UpdateContainerResourcesRequest request;
    request.set_container_id(id);
    request.mutable_linux()->set_cpu_shares(2 + story->Below(1000));
    auto call = life->server->UpdateContainerResources(request);
    absl::StatusOr<v1::UpdateContainerResourcesResponse> response = co_await std::move(call);
    (void)story->Answered(life, "UpdateContainerResources", id, response.status());
  }

  static Task<void> CallCheckpoint(Story* story, std::shared_ptr<Life> life, std::string id, int number) {
    UnderWay under_way(story);
    const std::string folder = story->world_.root() + "/archives";
    ArchiveModel archive;
    archive.path = StrCat(folder, "/", number, ".tar");
    archive.pod = story->sandboxes_[id].config;
    if (!MakeDirs(folder).ok()) co_return;
    v1::CheckpointPodRequest request;
    request.set_pod_sandbox_id(id);
    request.set_output_path(archive.path);
    auto call = life->server->CheckpointPod(request);
    absl::StatusOr<v1::CheckpointPodResponse> response = co_await std::move(call);
    if (!story->Answered(life, "CheckpointPod", id, response.status())) co_return;
    const bool there = std::filesystem::exists(archive.path);
    if (there != response.ok())
      story->Violation(StrCat("CheckpointPod: ", response.status().ToString(), ", archive ", there));
    if (!there) co_return;
    const std::string opened = StrCat(folder, "/", number);
    absl::StatusOr<Fd> fd = cri::OpenCheckpointArchive(archive.path);
    if (!fd.ok() || !MakeDirs(opened).ok()) co_return story->Violation("archive: " + fd.status().ToString());
    absl::StatusOr<cri::PodCheckpointFacts> facts = cri::UnpackPodArchive(fd->get(), opened);
    if (!facts.ok()) co_return story->Violation("archive: " + facts.status().ToString());
    for (size_t i = 0; i < facts->containers.size(); ++i) {
      const cri::CheckpointedContainer& container = facts->containers[i];
      absl::StatusOr<std::string> image = ReadFile(StrCat(opened, "/", i, "/checkpoint/inventory.img"));
      if (!image.ok() || *image != container.id)
        story->Violation(StrCat("archive has not container ", container.id));
      archive.containers.push_back(story->containers_[container.id].config);
      archive.ids[container.name] = container.id;
    }
    story->archives_.push_back(archive);
  }

  static Task<void> CallCheckpointContainer(Story* story, std::shared_ptr<Life> life, std::string id,
                                            int number) {
    UnderWay under_way(story);
    const std::string folder = story->world_.root() + "/archives";
    CheckpointModel checkpoint{StrCat(folder, "/", number, ".tar"), id, story->containers_[id].config};
    if (!MakeDirs(folder).ok()) co_return;
    v1::CheckpointContainerRequest request;
    request.set_container_id(id);
    request.set_location(checkpoint.path);
    auto call = life->server->CheckpointContainer(request);
    absl::StatusOr<v1::CheckpointContainerResponse> response = co_await std::move(call);
    if (!story->Answered(life, "CheckpointContainer", id, response.status())) co_return;
    const bool there = std::filesystem::exists(checkpoint.path);
    if (there != response.ok())
      story->Violation(StrCat("CheckpointContainer: ", response.status().ToString(), ", archive ", there));
    if (response.ok()) story->checkpoints_.push_back(checkpoint);
  }

  static Task<void> CallCreateFrom(Story* story, std::shared_ptr<Life> life, std::string sandbox,
                                   std::string name, CheckpointModel checkpoint) {
    UnderWay under_way(story);
    v1::CreateContainerRequest request;
    request.set_pod_sandbox_id(sandbox);
    *request.mutable_config() = checkpoint.config;
    request.mutable_config()->mutable_metadata()->set_name(name);
    request.mutable_config()->mutable_image()->set_image(checkpoint.path);
    auto call = life->server->CreateContainer(request);
    absl::StatusOr<v1::CreateContainerResponse> response = co_await std::move(call);
    const std::string id = response.ok() ? response->container_id() : "";
    if (!story->Answered(life, "CreateContainer", id, response.status()) || !response.ok()) co_return;
    ContainerModel& model = story->containers_[id];
    model.sandbox = sandbox;
    model.acknowledged = true;
    model.config = checkpoint.config;
    model.from = checkpoint.id;
    life->wanted.insert({id, v1::CONTAINER_CREATED_EVENT});
  }

  static Task<void> CallRestore(Story* story, std::shared_ptr<Life> life, ArchiveModel archive,
                                std::string name, uint32_t attempt) {
    UnderWay under_way(story);
    v1::RestorePodRequest request;
    request.set_checkpoint_path(archive.path);
    *request.mutable_config() = archive.pod;
    request.mutable_config()->mutable_metadata()->set_name(name);
    request.mutable_config()->mutable_metadata()->set_attempt(attempt);
    request.mutable_config()->clear_port_mappings();
    for (const v1::ContainerConfig& config : archive.containers) *request.add_container_configs() = config;
    auto call = life->server->RestorePod(request);
    absl::StatusOr<v1::RestorePodResponse> response = co_await std::move(call);
    const std::string id = response.ok() ? response->pod_sandbox_id() : "";
    if (!story->Answered(life, "RestorePod", id, response.status()) || !response.ok()) co_return;
    story->sandboxes_[id].acknowledged = true;
    story->sandboxes_[id].config = request.config();
    life->wanted.insert({id, v1::CONTAINER_STARTED_EVENT});
    if (response->restored_containers_size() != static_cast<int>(archive.ids.size()))
      story->Violation(StrCat("RestorePod: ", response->restored_containers_size(), " containers"));
    for (int i = 0; i < response->restored_containers_size(); ++i) {
      const v1::RestoredContainer& restored = response->restored_containers(i);
      ContainerModel& model = story->containers_[restored.container_id()];
      model.sandbox = id;
      model.acknowledged = model.started = true;
      model.config = request.container_configs(i);
      life->wanted.insert({restored.container_id(), v1::CONTAINER_STARTED_EVENT});
      if (story->world_.truths[restored.container_id()].restored_from != archive.ids[restored.name()])
        story->Violation(StrCat("container ", restored.container_id(), " is not restored from ",
                                archive.ids[restored.name()]));
    }
  }

  // ---- a usual life ----

  void Call(Task<void> call) {
    Spawn("call", std::move(call));
    std::shared_ptr<Life> life = life_;
    bool ended =
        world_.env().RunUntil([&] { return calls_under_way_ == 0 || life->generation.dead(); }, kCallLimit);
    if (!ended) Violation("a call does not end");
    if (Dead()) Start();
    Observe();
  }

  bool Interrupted() const { return world_.boot() > 1 && !again_; }

  // Pods and containers of the same names run once more.
  void AgainAfterReboot() {
    again_ = true;
    for (const v1::Container& c : Containers()) {
      if (StateOf(c.id()) == v1::CONTAINER_RUNNING)
        Violation(StrCat("container ", c.id(), " ran through a reboot"));
    }
    if (Named("pod-0") != nullptr) Violation("a pod is ready after a reboot");
    const std::string pod = UsualPod("pod-0");
    UsualContainer(pod, "c0");
    UsualContainer(pod, "c1");
  }

  // More often than there are mishaps.
  template <class Condition, class MakeCall>
  void Until(const char* what, Condition holds, MakeCall call) {
    constexpr int kAttempts = 6;
    for (int i = 0; i < kAttempts && violations_.empty(); ++i) {
      // After a reboot nothing runs any more that this could be true of.
      if (holds() || Interrupted()) return;
      Call(call());
      // An exit record, or a retry of the server's own, may be on its way.
      world_.env().Advance(absl::Seconds(1));
      if (Dead()) Start();
    }
    if (violations_.empty() && !Interrupted() && !holds()) Violation(StrCat("never came: ", what));
  }

  v1::ContainerState StateOf(const std::string& id) { return StatusOf(id).state(); }

  // The sandbox of this name that is ready, or is not; kept until the next call of this.
  const v1::PodSandbox* Named(const std::string& name, bool ready = true) {
    listed_ = Sandboxes();
    for (const v1::PodSandbox& sandbox : listed_) {
      if (sandbox.metadata().name() == name && (sandbox.state() == v1::SANDBOX_READY) == ready)
        return &sandbox;
    }
    return nullptr;
  }

  std::string UsualPod(const std::string& name) {
    Until(
        name.c_str(), [&] { return Named(name) != nullptr && sandboxes_[Named(name)->id()].acknowledged; },
        [&] { return NextForPod(name); });
    const v1::PodSandbox* pod = Named(name);
    return pod == nullptr ? "" : pod->id();
  }

  std::string UsualContainer(const std::string& pod, const std::string& name,
                             const CheckpointModel* from = nullptr) {
    std::string id;
    Until(
        name.c_str(),
        [&] {
          id.clear();
          for (const v1::Container& c : Containers()) {
            if (c.pod_sandbox_id() == pod && c.metadata().name() == name) id = c.id();
          }
          return !id.empty() && StateOf(id) == v1::CONTAINER_RUNNING && containers_[id].acknowledged;
        },
        [&] { return NextForContainer(pod, name, id, from); });
    return id;
  }

  // The call that brings one nearer to running. One that nobody has heard of, or that failed, is removed
  // first.
  Task<void> NextForPod(const std::string& name) {
    for (bool ready : {false, true}) {
      if (Named(name, ready) != nullptr) return CallRemoveSandbox(this, life_, Named(name, ready)->id());
    }
    v1::PodSandboxConfig config = ConfigOfPod(name);
    config.add_port_mappings()->set_host_port(8000);
    config.mutable_port_mappings(0)->set_container_port(80);
    return CallRun(this, life_, config);
  }
  Task<void> NextForContainer(const std::string& pod, const std::string& name, const std::string& id,
                              const CheckpointModel* from) {
    if (id.empty() && from != nullptr) return CallCreateFrom(this, life_, pod, name, *from);
    if (id.empty()) return CallCreate(this, life_, pod, ConfigOfContainer(name));
    if (!containers_[id].acknowledged || StateOf(id) == v1::CONTAINER_EXITED)
      return CallRemove(this, life_, id);
    return CallStart(this, life_, id);
  }
  Task<void> NextForRestored() {
    const v1::PodSandbox* half = Named("restored", /*ready=*/false);
    if (half != nullptr) return CallRemoveSandbox(this, life_, half->id());
    return CallRestore(this, life_, archives_[0], "restored", 1);
  }

  // ---- the user ----

  template <class Map>
  std::string Any(const Map& map) {
    if (map.empty()) return "none";
    return std::next(map.begin(), Below(static_cast<int>(map.size())))->first;
  }

  v1::PodSandboxConfig ConfigOfPod(const std::string& name) {
    v1::PodSandboxConfig config;
    config.mutable_metadata()->set_name(name);
    config.mutable_metadata()->set_namespace_("default");
    config.mutable_metadata()->set_uid("uid-" + name);
    config.set_hostname(name);
    config.set_log_directory(StrCat(world_.root(), "/logs/", name));
    config.mutable_linux()->mutable_security_context()->mutable_namespace_options()->set_pid(v1::CONTAINER);
    return config;
  }

  v1::PodSandboxConfig PodConfig() {
    v1::PodSandboxConfig config = ConfigOfPod(StrCat("pod-", Below(kMaxSandboxes)));
    config.mutable_metadata()->set_attempt(Below(2));
    auto* options = config.mutable_linux()->mutable_security_context()->mutable_namespace_options();
    if (Below(3) == 0) options->set_pid(v1::POD);
    if (Below(6) == 0) {
      options->set_network(v1::NODE);
      config.clear_hostname();
      (*config.mutable_labels())[kHostNetwork] = "";
    } else if (Below(3) == 0) {
      v1::PortMapping* port = config.add_port_mappings();
      port->set_host_port(8000 + Below(4));
      port->set_container_port(80);
    }
    return config;
  }

  v1::ContainerConfig ConfigOfContainer(const std::string& name) {
    v1::ContainerConfig config;
    config.mutable_metadata()->set_name(name);
    config.mutable_image()->set_image("registry.test/app:1");
    config.add_command("/app");
    config.set_log_path(name + "/0.log");
    config.mutable_linux()->mutable_security_context()->mutable_namespace_options()->set_pid(v1::CONTAINER);
    return config;
  }

  v1::ContainerConfig Config() {
    v1::ContainerConfig config = ConfigOfContainer(StrCat("c", Below(4)));
    config.mutable_metadata()->set_attempt(Below(3));
    if (Below(2) == 0) config.clear_log_path();
    if (Below(3) == 0)
      config.mutable_linux()->mutable_security_context()->mutable_namespace_options()->set_pid(v1::NODE);
    return config;
  }

  void Step() {
    // Several calls at a time, often on the same thing.
    const int calls = 1 + Below(4);
    const std::string sandbox = Any(sandboxes_), container = Any(containers_);
    for (int i = 0; i < calls; ++i) {
      const std::string s = Below(2) == 0 ? sandbox : Any(sandboxes_);
      const std::string c = Below(2) == 0 ? container : Any(containers_);
      switch (Below(26)) {
        case 0:
        case 1:
        case 2:
          Spawn("run", CallRun(this, life_, PodConfig()));
          break;
        case 3:
        case 4:
        case 5:
        case 6:
          if (sandboxes_.contains(s)) Spawn("create", CallCreate(this, life_, s, Config()));
          break;
        case 7:
        case 8:
        case 9:
        case 10:
          if (containers_.contains(c)) Spawn("start", CallStart(this, life_, c));
          break;
        case 11:
        case 12:
          if (containers_.contains(c)) Spawn("stop", CallStop(this, life_, c, Below(3)));
          break;
        case 13:
          if (containers_.contains(c)) Spawn("remove", CallRemove(this, life_, c));
          break;
        case 14:
          if (sandboxes_.contains(s)) Spawn("stop pod", CallStopSandbox(this, life_, s));
          break;
        case 15:
          if (sandboxes_.contains(s)) Spawn("remove pod", CallRemoveSandbox(this, life_, s));
          break;
        case 16:
          if (containers_.contains(c)) Spawn("exec", CallExec(this, life_, c));
          break;
        case 17:
          if (containers_.contains(c)) Spawn("update", CallUpdate(this, life_, c));
          break;
        case 18:
        case 19:
          for (const std::string& id : world_.RunningIds()) {
            if (Below(3) == 0) world_.ExitContainer(id, Below(3));
          }
          break;
        case 20:
          if (Below(3) == 0 && !world_.RunningIds().empty())
            world_.KillMonitor(world_.RunningIds()[Below(static_cast<int>(world_.RunningIds().size()))]);
          break;
        case 21:
          if (Below(2) == 0) life_->generation.DieAfter(Below(25));
          reboot_ = Below(4) == 0;
          break;
        case 22:
          if (sandboxes_.contains(s)) Spawn("checkpoint", CallCheckpoint(this, life_, s, ++archives_begun_));
          break;
        case 23:
          if (!archives_.empty()) {
            const ArchiveModel& archive =
                archives_[static_cast<size_t>(Below(static_cast<int>(archives_.size())))];
            Spawn("restore", CallRestore(this, life_, archive, archive.pod.metadata().name(),
                                         static_cast<uint32_t>(2 + Below(2))));
          }
          break;
        case 24:
          if (containers_.contains(c))
            Spawn("checkpoint", CallCheckpointContainer(this, life_, c, ++archives_begun_));
          break;
        case 25:
          if (!checkpoints_.empty() && sandboxes_.contains(s)) {
            const int which = Below(static_cast<int>(checkpoints_.size()));
            Spawn("create from a checkpoint", CallCreateFrom(this, life_, s, StrCat("from-", Below(3)),
                                                             checkpoints_[static_cast<size_t>(which)]));
          }
          break;
      }
    }
  }

  RuntimeWorld world_;
  const bool scripted_;  // no deaths by chance
  bool life_begun_ = false;
  const bool plugins_;
  bool reboot_ = false;  // at the next death
  bool again_ = false;
  std::vector<std::shared_ptr<Life>> buried_;
  std::shared_ptr<Life> life_;
  std::map<std::string, SandboxModel> sandboxes_;
  std::map<std::string, ContainerModel> containers_;
  std::vector<ArchiveModel> archives_;
  std::vector<CheckpointModel> checkpoints_;
  std::vector<v1::PodSandbox> listed_;
  int archives_begun_ = 0;
  int calls_under_way_ = 0;
  std::vector<std::string> violations_;
};

// The hash of all that happened; violations are failures that name the seed.
uint64_t PlaySeed(uint64_t seed, bool tell) {
  const char* replay = NameSeed(seed);
  Story story(seed, tell);
  story.Play();
  if (!story.violations().empty()) {
    std::string all;
    for (const std::string& v : story.violations()) StrAppend(&all, "  ", v, "\n");
    ADD_FAILURE() << "seed " << seed << "\n" << all << replay;
  }
  return story.hash();
}

class RuntimeServerSeeds : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    SetUpSeeds(Setting("KEELSON_SIM_SEED", -1) >= 0 ? LogLevel::kError : kSilent);
  }
};

// The same life with a mishap at every place there is: a server that is killed, a call that fails before or
// after its effect. How many places there were.
int PlayUsualWith(int Mishap::*place, bool fail_after_effect, bool reboot = false, bool plugins = false) {
  for (int at = 1;; ++at) {
    Mishap mishap;
    mishap.reboot = reboot;
    mishap.*place = at;
    mishap.fail_after_effect = fail_after_effect;
    Story story(1, Setting("KEELSON_SIM_TELL", 0) == at, /*scripted=*/true, plugins);
    const bool came = story.PlayUsual(mishap);
    for (const std::string& v : story.violations())
      ADD_FAILURE() << "place " << at << " (KEELSON_SIM_TELL=" << at << " tells it): " << v;
    if (!came || ::testing::Test::HasFailure()) return at;
  }
}

TEST_F(RuntimeServerSeeds, AUsualLifeWithTheServerKilledAtEveryStep) {
  EXPECT_GT(PlayUsualWith(&Mishap::die_at, false), 100);
}
// What a plugin is asked is a step, too: the server dies in its hook.
TEST_F(RuntimeServerSeeds, AUsualLifeBesideAPluginWithTheServerKilledAtEveryStep) {
  EXPECT_GT(PlayUsualWith(&Mishap::die_at, false, /*reboot=*/false, /*plugins=*/true), 120);
}
TEST_F(RuntimeServerSeeds, AUsualLifeWithTheMachineRebootedAtEveryStep) {
  EXPECT_GT(PlayUsualWith(&Mishap::die_at, false, /*reboot=*/true), 100);
}
TEST_F(RuntimeServerSeeds, AUsualLifeWithEachCallFailingOnce) {
  EXPECT_GT(PlayUsualWith(&Mishap::fail_at, false), 20);
}
TEST_F(RuntimeServerSeeds, AUsualLifeWithEachCallFailingAfterItsEffect) {
  EXPECT_GT(PlayUsualWith(&Mishap::fail_at, true), 20);
}

TEST_F(RuntimeServerSeeds, WhatIsRestoredElsewhereIsUndone) {
  for (bool RuntimeWorld::*how : {&RuntimeWorld::misplaces_restored, &RuntimeWorld::misplaces_cgroups}) {
    Story story(1, Setting("KEELSON_SIM_TELL", 0) == 1, /*scripted=*/true);
    story.PlayMisplaced(how);
    EXPECT_EQ(story.violations(), std::vector<std::string>());
  }
}

TEST_F(RuntimeServerSeeds, AServerThatIsToldToEndLeavesNothingFrozen) {
  Story story(1, Setting("KEELSON_SIM_TELL", 0) == 1, /*scripted=*/true);
  story.PlayToldToEnd();
  EXPECT_EQ(story.violations(), std::vector<std::string>());
}

TEST_F(RuntimeServerSeeds, SameSeedSameHistory) {
  for (uint64_t seed : {7, 8, 9}) {
    const uint64_t first = PlaySeed(seed, false);
    EXPECT_EQ(PlaySeed(seed, false), first) << "seed " << seed << " depends on something else, too";
  }
}

TEST_F(RuntimeServerSeeds, AllInvariantsHold) { PlaySeeds(kDefaultSeconds, PlaySeed); }

}  // namespace
}  // namespace keelson::sim
