// Adaptation: the NRI plugins of a runtime. It takes their connections, keeps them in the order of their
// indices, and asks each that wants an event, one event at a time. Rules of containerd/nri v0.12
// (pkg/adaptation/adaptation.go):
//
//   - the first plugin that answers with an error ends an event, and its error is the caller's;
//   - a plugin that is late, disconnects or sends what cannot be read is given up, is logged, and the event
//     goes on without it;
//   - a new plugin is told of all pods and containers (Synchronize) while no other event is under way, and
//     gets every event after that: nothing that is made meanwhile is lost to it (BlockSync).
//
// Plugins that are not connected cost nothing; nothing of this exists unless a socket was asked for.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/env.h"
#include "base/task.h"
#include "cri/nri/changes.h"
#include "cri/nri/installed.h"
#include "cri/nri/plugin.h"
#include "cri/nri/proto/nri.pb.h"
#include "net/byte_stream.h"

namespace keelson::cri::nri {

inline constexpr size_t kMaxPlugins = 64;  // connections, registered or not

// What the plugins of a runtime are about.
class Runtime {
 public:
  virtual ~Runtime() = default;
  // Pods and containers as they are.
  virtual Task<pb::SynchronizeRequest> Snapshot() = 0;
  // Sets limits of containers; those that could not be set. Containers that are gone are passed over. An
  // error is the first of one that may not fail; the others have been tried.
  virtual Task<absl::StatusOr<std::vector<pb::ContainerUpdate>>> UpdateContainers(
      std::vector<pb::ContainerUpdate> updates) = 0;
};

struct AdaptationOptions {
  std::string runtime_name, runtime_version;
  Timeouts timeouts;
};

// What CreateContainer's plugins ask for.
struct Creation {
  pb::ContainerAdjustment adjust;
  std::vector<pb::ContainerUpdate> updates;  // of other containers
};

// What UpdateContainer's do.
struct LimitChange {
  bool changed = false;  // `resources` is not what was asked of the runtime
  pb::LinuxResources resources;
  std::vector<pb::ContainerUpdate> updates;
};

class Adaptation {
 public:
  Adaptation(Env* env, AdaptationOptions options);
  ~Adaptation();
  // Before the first connection; outlives it.
  void set_runtime(Runtime* runtime) { runtime_ = runtime; }

  // A new connection, with its session in a task of its own.
  void Connect(std::unique_ptr<net::ByteStream> stream);
  // Starts plugins of the runtime's own; returns when each is among the others, or is given up, which is
  // logged. A program whose session ends is killed.
  Task<void> Start(std::vector<InstalledPlugin> plugins);
  // Whether anybody is to be asked, or is about to be told what there is.
  bool active() const { return !plugins_.empty() || syncing_; }

  // While one of these lives no plugin is told what there is: held from before an event to when what it is
  // about can be seen in a Snapshot, or no longer. Empty ones hold nothing. Many may live at a time, and a
  // plugin that connects waits for all of them; whoever holds one may wait for another's end.
  class SyncBlock {
   public:
    SyncBlock() = default;
    explicit SyncBlock(Adaptation* of) : of_(of) {}
    SyncBlock(SyncBlock&& o) noexcept : of_(std::exchange(o.of_, nullptr)) {}
    SyncBlock& operator=(SyncBlock&& o) noexcept {
      std::swap(of_, o.of_);
      return *this;
    }
    ~SyncBlock();

   private:
    Adaptation* of_ = nullptr;
  };
  // Waits while a plugin is told.
  Task<SyncBlock> BlockSync();

  // Pod events of the pod alone: RUN_, POST_UPDATE_, STOP_, REMOVE_POD_SANDBOX.
  Task<absl::Status> PodEvent(pb::Event event, pb::PodSandbox pod);
  Task<absl::Status> UpdatePodSandbox(pb::UpdatePodSandboxRequest request);
  // Container events without an answer: START_, POST_..., REMOVE_CONTAINER.
  Task<absl::Status> ContainerEvent(pb::Event event, pb::PodSandbox pod, pb::Container container);
  // Its validators have agreed (ValidateContainerAdjustment): PermissionDenied has the reason of one that has
  // not.
  Task<absl::StatusOr<Creation>> CreateContainer(pb::PodSandbox pod, pb::Container container);
  Task<absl::StatusOr<LimitChange>> UpdateContainer(pb::PodSandbox pod, pb::Container container,
                                                    pb::LinuxResources resources);
  // Updates of other containers.
  Task<absl::StatusOr<std::vector<pb::ContainerUpdate>>> StopContainer(pb::PodSandbox pod,
                                                                       pb::Container container);

  // Says good-bye and ends all sessions.
  Task<void> Close();

 private:
  using Plugins = std::vector<std::shared_ptr<Plugin>>;

  std::shared_ptr<Plugin> NewPlugin(std::unique_ptr<net::ByteStream> stream, PluginIdentity identity);
  Task<void> Serve(std::shared_ptr<Plugin> plugin, std::shared_ptr<AsyncEvent> settled);
  Task<void> Attend(std::shared_ptr<ChildProcess> process, std::shared_ptr<Plugin> plugin);
  Task<absl::Status> Synchronize(std::shared_ptr<Plugin> plugin);
  Task<absl::StatusOr<std::vector<pb::ContainerUpdate>>> Unsolicited(std::string plugin,
                                                                     pb::UpdateContainersRequest request);
  Task<AsyncMutex::Guard> Turn();
  // Asks all in turn; for events without an answer.
  Task<absl::Status> RelayToAll(pb::Event event, const google::protobuf::Message* request,
                                google::protobuf::Message* response);
  Task<absl::Status> Validate(pb::ValidateContainerAdjustmentRequest request);
  void Forget(const std::shared_ptr<Plugin>& plugin);
  void EndSync();

  Env* const env_;
  const AdaptationOptions options_;
  Runtime* runtime_ = nullptr;
  Plugins plugins_;  // synchronized, by index
  size_t connections_ = 0;
  bool syncing_ = false;
  size_t blocks_ = 0;  // SyncBlocks that live
  WaitList sync_over_, blocks_over_;
  AsyncMutex turn_;  // one event at a time
  Scope scope_;
};

}  // namespace keelson::cri::nri
