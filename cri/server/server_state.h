// Sandbox and Container: a record on disk plus what belongs to this process only. And the pure helpers on
// records that several RPCs share.
#pragma once

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/env.h"
#include "base/task.h"
#include "cri/server/records.pb.h"

namespace keelson::cri {

inline constexpr size_t kMaxConfigJsonBytes = 16 << 20;  // of a bundle

namespace v1 = ::runtime::v1;

struct CpuSample {
  absl::Time at;
  uint64_t usage_ns = 0;
  std::optional<uint64_t> nano_cores;  // the rate up to `at`
};

// What a container wrote, as last measured.
struct LayerUsage {
  absl::Time at;
  uint64_t used_bytes = 0, inodes = 0;
};

struct Container;

// What NRI's plugins were told, each once.
struct PluginsTold {
  bool made = false, stopped = false, removed = false;
};

struct Sandbox {
  records::Sandbox record;
  std::map<std::string, std::shared_ptr<Container>> creating;  // by ID: CreateContainer under way
  AsyncMutex mutex;                                            // one change at a time
  bool removed = false;  // its record is gone; for those who waited for the mutex
  PluginsTold told;
  CpuSample cpu;
};

// A fact that comes true once, and those who wait for it or for something else.
class ExitSignal {
 public:
  bool is_set() const { return set_; }
  void Set();
  // An event that is set with this one; the caller may set it for reasons of its own.
  std::shared_ptr<AsyncEvent> Watch();

 private:
  bool set_ = false;
  std::vector<std::weak_ptr<AsyncEvent>> watchers_;
};

// Runs `fn` on the loop after `after`, unless it goes away before.
class LoopTimer {
 public:
  LoopTimer(Env* env, absl::Duration after, absl::AnyInvocable<void()> fn)
      : env_(env), id_(env->clock().Schedule(after, std::move(fn))) {}
  ~LoopTimer() { env_->clock().CancelTimer(id_); }
  LoopTimer(const LoopTimer&) = delete;
  LoopTimer& operator=(const LoopTimer&) = delete;

 private:
  Env* env_;
  uint64_t id_;
};

// Texts that are said once. When there are too many it forgets them all.
class OnceSet {
 public:
  explicit OnceSet(size_t most) : most_(most) {}
  // Whether it is new.
  bool Add(const std::string& text) {
    if (texts_.size() >= most_ && !texts_.contains(text)) texts_.clear();
    return texts_.insert(text).second;
  }

 private:
  const size_t most_;
  std::set<std::string> texts_;
};

struct Container {
  records::Container record;
  bool unresolved = false;  // an earlier server began to start it, and what became of it is not known yet
  AsyncMutex mutex;
  ExitSignal exit;  // set in CONTAINER_EXITED
  bool removed = false;
  PluginsTold told;
  CpuSample cpu;
  std::optional<LayerUsage> layer;
  std::string rootfs_diff;  // to be restored: the tar its writable layer begins with
};

// "name_namespace_uid_attempt": what may exist once.
std::string SandboxNameKey(const v1::PodSandboxMetadata& metadata);
std::string ContainerNameKey(const v1::ContainerMetadata& metadata, const v1::PodSandboxMetadata& pod);

v1::PodSandboxState StateOf(const records::Sandbox& record);
v1::ContainerState StateOf(const Container& container);

// Namespace options with CRI's defaults filled in.
const v1::NamespaceOption& NamespacesOf(const v1::PodSandboxConfig& config);
const v1::NamespaceOption& NamespacesOf(const v1::ContainerConfig& config);
bool HostNetwork(const v1::PodSandboxConfig& config);
bool HostIpc(const v1::PodSandboxConfig& config);
bool SharesPid(const v1::PodSandboxConfig& config);  // PID mode POD
bool Privileged(const v1::PodSandboxConfig& config);
std::vector<int64_t> SupplementalGroupsOf(const v1::ContainerConfig& config);  // sorted, each once
bool HasUserNamespace(const v1::PodSandboxConfig& config);                     // userns mode POD

// The host's ID of the group that is 0 in the pod's user namespace; nullopt without one. Pure.
std::optional<uint32_t> MappedRootGroup(const v1::PodSandboxConfig& config);

// An own directory of a sandbox or container: nobody but root passes (what is mounted below has the image's
// modes, setuid programs among it), and the root of the pod's user namespace where it has one. Blocking.
absl::Status MakePodDir(const std::string& dir, std::optional<uint32_t> group);

// Every label of `selector` with its value. Pure.
using ProtoMap = google::protobuf::Map<std::string, std::string>;
bool Selects(const ProtoMap& selector, const ProtoMap& labels);
// An empty filter ID fits all; else a prefix.
inline bool FitsId(std::string_view filter, std::string_view id) {
  return id.substr(0, filter.size()) == filter;
}

// The parts of an answer.
template <class T>
void MoveInto(std::vector<T> from, google::protobuf::RepeatedPtrField<T>* to) {
  to->Assign(std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
}

// A path for a log: relative, no "..", not empty components. InvalidArgument.
absl::Status CheckLogPath(std::string_view log_path);

// The text of resolv.conf(5). InvalidArgument: a line break in a value, or more than resolv.conf can hold.
absl::StatusOr<std::string> RenderResolvConf(const v1::DNSConfig& dns);

// pid with its start time; nullopt when there is none. `proc_root`: "/proc".
std::optional<uint64_t> ProcessStartTicks(int pid, const std::string& proc_root = "/proc");
bool IsAlive(const records::Process& process, const std::string& proc_root = "/proc");

}  // namespace keelson::cri
