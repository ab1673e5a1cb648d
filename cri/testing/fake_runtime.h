// FakeRuntime: both CRI services with state, for unit tests and the simulation (CONTRIBUTING, rule 6).
//
// It behaves as a CRI v1 runtime does at its interface: sandboxes and containers with states and timestamps
// of the Env's clock, images with pull time, exits programmed by the test, events, filters. Faults are
// injected per RPC. Crash() and Restart() are the daemon's: containers live on, as with shims. One loop; no
// threads, no files.
#pragma once

#include <absl/container/flat_hash_map.h>
#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/env.h"
#include "base/task.h"
#include "cri/image_service.h"
#include "cri/rpcs.h"
#include "cri/runtime_service.h"

namespace keelson::cri {

// What happens to one call. `status` non-OK: the caller gets it; with `after_effect` the runtime did the work
// and only the answer was lost. `delay` comes first in either case.
struct Fault {
  absl::Duration delay = absl::ZeroDuration();
  absl::Status status;
  bool after_effect = false;
};

// How the program in a container behaves; decided when it starts.
struct ContainerBehavior {
  std::optional<absl::Duration> exits_after;         // nullopt: runs until stopped
  int exit_code = 0;                                 // of that exit
  absl::Duration stop_takes = absl::ZeroDuration();  // from the stop signal to the exit with stop_exit_code
  int stop_exit_code = 143;
  bool ignores_stop_signal = false;  // then SIGKILL after the grace period, exit code 137
  absl::Status start_error;          // non-OK: StartContainer fails with it, EXITED with 128
};

struct FakeRuntimeOptions {
  std::string runtime_name = "fake";
  std::string runtime_version = "1.0.0";
  bool supports_events = true;          // false: as containerd 1.6
  bool supports_runtime_config = true;  // false: as containerd 1.6
  bool supports_stream_lists = true;    // the Stream* RPCs
  v1::CgroupDriver cgroup_driver = v1::CGROUPFS;
  std::map<std::string, std::string> status_info;  // of a verbose Status
  // Sandboxes get a.b.c.2, .3, ... of this /16 until UpdateRuntimeConfig brings a pod CIDR. Freed ones come
  // back last.
  std::string pod_cidr = "10.88.0.0/16";
  // Time each call takes before its effect.
  absl::Duration run_sandbox_latency = absl::ZeroDuration();
  absl::Duration create_latency = absl::ZeroDuration();
  absl::Duration start_latency = absl::ZeroDuration();
  absl::Duration pull_latency = absl::ZeroDuration();  // of images without their own
  bool pull_unknown_images = true;  // false: PullImage of what AddRegistryImage did not name is NotFound
  // A use no correct kubelet makes (starting a container twice, two running containers of one name in a
  // sandbox) aborts the test. false: it is answered as a runtime does, and recorded in misuses().
  bool abort_on_misuse = true;
};

class FakeRuntime : public RuntimeService, public ImageService {
 public:
  // `env` must outlive it. No call may be in flight at destruction.
  explicit FakeRuntime(Env& env, FakeRuntimeOptions options = {});
  ~FakeRuntime() override;

  // Of a verbose Status, from now on.
  void set_status_info(std::map<std::string, std::string> info) { options_.status_info = std::move(info); }

  void set_cgroup_driver(v1::CgroupDriver driver) { options_.cgroup_driver = driver; }
  // Whether its handler has user namespaces, from now on.
  void set_user_namespaces(bool has) { user_namespaces_ = has; }
  // Whether it has recursive read-only mounts.
  void set_recursive_read_only(bool has) { recursive_read_only_ = has; }

  // ---- what the test programs ----
  // The nth call from now of `rpc` (1: the next) meets `fault`. Several may be set.
  void FailCall(std::string_view rpc, int nth, absl::Status status, bool after_effect = false);
  // Each of the next `calls` calls of `rpc` takes `delay` longer.
  void SlowCalls(std::string_view rpc, absl::Duration delay, int calls = 1);
  // Asked for every call that meets no fault set above; for seeded faults. Null: none.
  void set_fault_hook(std::function<Fault(std::string_view rpc)> hook) { fault_hook_ = std::move(hook); }
  // Decides at StartContainer. Default: runs until stopped.
  using BehaviorHook =
      std::function<ContainerBehavior(const v1::ContainerConfig&, const v1::PodSandboxConfig&)>;
  void set_behavior_hook(BehaviorHook hook) { behavior_hook_ = std::move(hook); }
  // Answers ExecSync in a running container. Default: exit code 0, no output.
  using ExecHandler = std::function<absl::StatusOr<v1::ExecSyncResponse>(
      const v1::ContainerConfig&, const std::vector<std::string>& cmd)>;
  void set_exec_handler(ExecHandler handler) { exec_handler_ = std::move(handler); }
  // How long each exec takes; past the request's timeout it is DeadlineExceeded.
  void set_exec_latency(absl::Duration latency) { exec_latency_ = latency; }

  // A registry image: pullable under `reference`, taking `latency`.
  void AddRegistryImage(std::string reference, uint64_t size_bytes, absl::Duration latency);
  // Every pull of `reference` fails with it; OkStatus() ends that.
  void SetPullError(std::string reference, absl::Status status);
  // Present without a pull.
  void AddLocalImage(std::string reference, uint64_t size_bytes = 1 << 20);

  // A running container's main process ends now. False when it does not run.
  bool ExitContainer(std::string_view container_id, int exit_code, std::string reason = "",
                     std::string message = "");
  // A sandbox dies on its own: NOTREADY, its running containers exit with 137. False when it is not READY.
  bool KillSandbox(std::string_view sandbox_id);
  void SetCondition(std::string type, bool status, std::string reason = "", std::string message = "");
  void SetContainerStats(std::string_view container_id, v1::ContainerStats stats);

  // ---- the daemon's life ----
  // Calls in flight and later ones are Unavailable, event streams end; containers keep running and exiting.
  void Crash();
  void Restart() { up_ = true; }
  bool up() const { return up_; }
  // The machine loses power: everything stops, nothing runs; images and records stay. Restart() follows.
  void Reboot();

  // ---- what the test reads ----
  std::vector<v1::PodSandboxStatus> Sandboxes() const;  // in order of creation
  std::vector<v1::ContainerStatus> Containers() const;  // in order of creation
  std::optional<v1::ContainerStatus> FindContainer(std::string_view container_id) const;
  // The newest container of that name in a pod (namespace/name), "" when there is none.
  std::string ContainerId(std::string_view pod_namespace, std::string_view pod_name,
                          std::string_view container_name) const;
  std::optional<v1::ContainerConfig> Config(std::string_view container_id) const;
  std::optional<v1::PodSandboxConfig> SandboxConfig(std::string_view sandbox_id) const;
  std::string SandboxOf(std::string_view container_id) const;
  bool HasImage(std::string_view reference) const;
  // Calls that arrived, faults included.
  int calls(std::string_view rpc) const;
  int pulls(std::string_view reference) const;
  const std::vector<std::string>& misuses() const { return misuses_; }
  // OK unless the state itself is one no correct kubelet produces: two READY sandboxes of one pod UID, or two
  // running containers of one name in a pod. For the simulation, after each step.
  absl::Status CheckInvariants() const;

  // ---- RuntimeService and ImageService ----
#define KEELSON_FAKE_DECLARE_(Rpc, Request, Response) \
  Task<absl::StatusOr<v1::Response>> Rpc(v1::Request request) override;
  KEELSON_CRI_RUNTIME_UNARY_RPCS(KEELSON_FAKE_DECLARE_)
  KEELSON_CRI_RUNTIME_STREAM_RPCS(KEELSON_FAKE_DECLARE_)
  KEELSON_CRI_IMAGE_UNARY_RPCS(KEELSON_FAKE_DECLARE_)
  KEELSON_CRI_IMAGE_STREAM_RPCS(KEELSON_FAKE_DECLARE_)
#undef KEELSON_FAKE_DECLARE_
  Task<absl::StatusOr<std::unique_ptr<ContainerEventReader>>> GetContainerEvents(
      v1::GetEventsRequest request) override;

 private:
  struct Sandbox;
  struct Container;
  struct ImageRecord;
  struct RegistryImage;
  struct Subscription;
  class EventReader;
  struct Fate;

  template <class Request, class Response>
  Task<absl::StatusOr<Response>> Serve(std::string rpc, absl::Duration latency, Request request,
                                       absl::StatusOr<Response> (FakeRuntime::*handler)(const Request&));
  Task<absl::Status> Arrive(std::string rpc, absl::Duration latency, std::shared_ptr<Fate> fate);
  Task<absl::Status> Delay(absl::Duration duration);
  // What takes time between a call's arrival and its effect.
  Task<absl::Status> StopCourse(std::string container_id, int64_t timeout_s);
  Task<absl::Status> PullCourse(std::string reference);
  Task<absl::Status> ExecCourse(int64_t timeout_s);
  absl::Duration LatencyOf(std::string_view rpc) const;
  Fault NextFault(const std::string& rpc);

#define KEELSON_FAKE_HANDLER_(Rpc, Request, Response) \
  absl::StatusOr<v1::Response> Do##Rpc(const v1::Request& request);
  KEELSON_CRI_RUNTIME_UNARY_RPCS(KEELSON_FAKE_HANDLER_)
  KEELSON_CRI_RUNTIME_STREAM_RPCS(KEELSON_FAKE_HANDLER_)
  KEELSON_CRI_IMAGE_UNARY_RPCS(KEELSON_FAKE_HANDLER_)
  KEELSON_CRI_IMAGE_STREAM_RPCS(KEELSON_FAKE_HANDLER_)
#undef KEELSON_FAKE_HANDLER_

  Sandbox* FindSandbox(std::string_view id) const;
  Container* Find(std::string_view id) const;
  ImageRecord* FindImage(std::string_view reference_or_id) const;
  ImageRecord& StoreImage(const std::string& reference, uint64_t size_bytes);
  std::string NewId();
  std::string NextIp();
  bool IpInUse(const std::string& ip) const;
  int64_t NowNs() const;
  void MarkExited(Container& container, int exit_code, std::string reason, std::string message);
  void StopSandbox(Sandbox& sandbox);
  void DropContainer(std::string id);
  void Publish(v1::ContainerEventType type, const std::string& id, const Sandbox& sandbox);
  void Misuse(std::string what);
  v1::ContainerStats StatsOf(const Container& container) const;
  v1::PodSandboxStats StatsOf(const Sandbox& sandbox) const;

  Env& env_;
  FakeRuntimeOptions options_;
  bool up_ = true;
  uint64_t epoch_ = 0;  // counts crashes
  std::vector<std::unique_ptr<Sandbox>> sandboxes_;
  std::vector<std::unique_ptr<Container>> containers_;
  std::vector<std::unique_ptr<ImageRecord>> images_;
  std::map<std::string, RegistryImage, std::less<>> registry_;
  std::map<std::string, absl::Status, std::less<>> pull_errors_;
  bool user_namespaces_ = false;
  bool recursive_read_only_ = false;
  std::map<std::string, v1::RuntimeCondition, std::less<>> conditions_;
  std::map<std::string, std::list<std::pair<int, Fault>>, std::less<>> faults_;  // rpc -> (nth call, fault)
  std::map<std::string, std::pair<int, absl::Duration>, std::less<>> slow_;      // rpc -> (calls left, delay)
  std::map<std::string, int, std::less<>> calls_, pulls_;
  std::function<Fault(std::string_view)> fault_hook_;
  BehaviorHook behavior_hook_;
  ExecHandler exec_handler_;
  absl::Duration exec_latency_ = absl::ZeroDuration();
  std::list<std::weak_ptr<Subscription>> subscriptions_;
  std::list<AsyncEvent*> delays_;  // waits a crash ends
  std::vector<std::string> misuses_;
  uint32_t next_host_ = 1;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // timers look at it
};

}  // namespace keelson::cri
