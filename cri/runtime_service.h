// RuntimeService: the Container Runtime Interface v1 as a C++ interface; CRI messages are the vocabulary.
//
// Three implementations: cri/remote (gRPC client), cri/server (our own runtime, later), cri/testing (fake
// with state). All of them belong to one loop: called on it, completed on it.
//
// Rules of every call:
//  - the request is taken by value; the response is the caller's;
//  - an error carries the runtime's own code: NotFound for an unknown ID, DeadlineExceeded when the call's
//  bound
//    passed (the work may still happen: look again), Unavailable while the runtime cannot be reached,
//    Unimplemented for a call an older runtime lacks (containerd 1.6: GetContainerEvents, RuntimeConfig,
//    Stream*);
//  - cancelling the awaiting task cancels the call; the object must outlive the task;
//  - Stop* and Remove* are idempotent: doing it twice, or to what is gone, is success (CRI, runtime.v1);
//  containerd
//    1.6 still answers StopContainer and StopPodSandbox of an unknown ID with NotFound: callers take it for
//    success;
//  - IDs may be abbreviated only where a Filter says so.
#pragma once

#include <absl/status/statusor.h>

#include <memory>
#include <optional>

#include "base/task.h"
#include "cri/proto/runtime/v1/api.pb.h"

namespace keelson::cri {

namespace v1 = ::runtime::v1;

// The events of one GetContainerEvents call. Destroying it ends the call. One Next() at a time.
class ContainerEventReader {
 public:
  virtual ~ContainerEventReader() = default;
  // Waits for the next event, as long as it takes. nullopt: the runtime ended the stream; subscribe again.
  // Events only say "look again": after a gap the caller relists.
  virtual Task<absl::StatusOr<std::optional<v1::ContainerEventResponse>>> Next() = 0;
};

class RuntimeService {
 public:
  virtual ~RuntimeService() = default;

  // ---- runtime ----
  virtual Task<absl::StatusOr<v1::VersionResponse>> Version(v1::VersionRequest request) = 0;
  // Conditions RuntimeReady and NetworkReady; features and handlers.
  virtual Task<absl::StatusOr<v1::StatusResponse>> Status(v1::StatusRequest request) = 0;
  // Hands the pod CIDR to the runtime's network plugin.
  virtual Task<absl::StatusOr<v1::UpdateRuntimeConfigResponse>> UpdateRuntimeConfig(
      v1::UpdateRuntimeConfigRequest request) = 0;
  // The cgroup driver the runtime uses.
  virtual Task<absl::StatusOr<v1::RuntimeConfigResponse>> RuntimeConfig(v1::RuntimeConfigRequest request) = 0;

  // ---- sandboxes ----
  // Creates and starts; READY on success. A sandbox on the host's network must not set a hostname (runc
  // refuses: the UTS namespace is shared). AlreadyExists/InvalidArgument for a second sandbox of the same
  // (name, uid, namespace, attempt).
  virtual Task<absl::StatusOr<v1::RunPodSandboxResponse>> RunPodSandbox(v1::RunPodSandboxRequest request) = 0;
  // Kills what runs in it and gives up the network. Must come before RemovePodSandbox.
  virtual Task<absl::StatusOr<v1::StopPodSandboxResponse>> StopPodSandbox(
      v1::StopPodSandboxRequest request) = 0;
  // Removes it with its containers, killing what still runs.
  virtual Task<absl::StatusOr<v1::RemovePodSandboxResponse>> RemovePodSandbox(
      v1::RemovePodSandboxRequest request) = 0;
  virtual Task<absl::StatusOr<v1::PodSandboxStatusResponse>> PodSandboxStatus(
      v1::PodSandboxStatusRequest request) = 0;
  virtual Task<absl::StatusOr<v1::ListPodSandboxResponse>> ListPodSandbox(
      v1::ListPodSandboxRequest request) = 0;
  // All parts of the stream merged into one response.
  virtual Task<absl::StatusOr<v1::StreamPodSandboxesResponse>> StreamPodSandboxes(
      v1::StreamPodSandboxesRequest request) = 0;
  virtual Task<absl::StatusOr<v1::UpdatePodSandboxResourcesResponse>> UpdatePodSandboxResources(
      v1::UpdatePodSandboxResourcesRequest request) = 0;

  // ---- containers ----
  // The image must be present; CREATED on success.
  virtual Task<absl::StatusOr<v1::CreateContainerResponse>> CreateContainer(
      v1::CreateContainerRequest request) = 0;
  // CREATED -> RUNNING. Starting twice is an error.
  virtual Task<absl::StatusOr<v1::StartContainerResponse>> StartContainer(
      v1::StartContainerRequest request) = 0;
  // The stop signal, `timeout` seconds of grace, then SIGKILL. Returns when the container has exited.
  virtual Task<absl::StatusOr<v1::StopContainerResponse>> StopContainer(v1::StopContainerRequest request) = 0;
  // Kills it first if it runs.
  virtual Task<absl::StatusOr<v1::RemoveContainerResponse>> RemoveContainer(
      v1::RemoveContainerRequest request) = 0;
  virtual Task<absl::StatusOr<v1::ListContainersResponse>> ListContainers(
      v1::ListContainersRequest request) = 0;
  virtual Task<absl::StatusOr<v1::StreamContainersResponse>> StreamContainers(
      v1::StreamContainersRequest request) = 0;
  virtual Task<absl::StatusOr<v1::ContainerStatusResponse>> ContainerStatus(
      v1::ContainerStatusRequest request) = 0;
  virtual Task<absl::StatusOr<v1::UpdateContainerResourcesResponse>> UpdateContainerResources(
      v1::UpdateContainerResourcesRequest request) = 0;
  // After the log file was renamed away. An error when the container does not run.
  virtual Task<absl::StatusOr<v1::ReopenContainerLogResponse>> ReopenContainerLog(
      v1::ReopenContainerLogRequest request) = 0;

  // ---- exec and streaming ----
  // Runs to the end, output in the response (16 MiB at most). `timeout` seconds, 0: none; past it the command
  // is killed and the call is DeadlineExceeded. A non-zero exit code is a result, not an error.
  virtual Task<absl::StatusOr<v1::ExecSyncResponse>> ExecSync(v1::ExecSyncRequest request) = 0;
  // The next three answer with the URL of the runtime's streaming server.
  virtual Task<absl::StatusOr<v1::ExecResponse>> Exec(v1::ExecRequest request) = 0;
  virtual Task<absl::StatusOr<v1::AttachResponse>> Attach(v1::AttachRequest request) = 0;
  virtual Task<absl::StatusOr<v1::PortForwardResponse>> PortForward(v1::PortForwardRequest request) = 0;

  // ---- stats and metrics ----
  virtual Task<absl::StatusOr<v1::ContainerStatsResponse>> ContainerStats(
      v1::ContainerStatsRequest request) = 0;
  virtual Task<absl::StatusOr<v1::ListContainerStatsResponse>> ListContainerStats(
      v1::ListContainerStatsRequest request) = 0;
  virtual Task<absl::StatusOr<v1::StreamContainerStatsResponse>> StreamContainerStats(
      v1::StreamContainerStatsRequest request) = 0;
  virtual Task<absl::StatusOr<v1::PodSandboxStatsResponse>> PodSandboxStats(
      v1::PodSandboxStatsRequest request) = 0;
  virtual Task<absl::StatusOr<v1::ListPodSandboxStatsResponse>> ListPodSandboxStats(
      v1::ListPodSandboxStatsRequest request) = 0;
  virtual Task<absl::StatusOr<v1::StreamPodSandboxStatsResponse>> StreamPodSandboxStats(
      v1::StreamPodSandboxStatsRequest request) = 0;
  virtual Task<absl::StatusOr<v1::ListMetricDescriptorsResponse>> ListMetricDescriptors(
      v1::ListMetricDescriptorsRequest request) = 0;
  virtual Task<absl::StatusOr<v1::ListPodSandboxMetricsResponse>> ListPodSandboxMetrics(
      v1::ListPodSandboxMetricsRequest request) = 0;
  virtual Task<absl::StatusOr<v1::StreamPodSandboxMetricsResponse>> StreamPodSandboxMetrics(
      v1::StreamPodSandboxMetricsRequest request) = 0;

  // ---- checkpoints ----
  virtual Task<absl::StatusOr<v1::CheckpointContainerResponse>> CheckpointContainer(
      v1::CheckpointContainerRequest request) = 0;
  virtual Task<absl::StatusOr<v1::CheckpointPodResponse>> CheckpointPod(v1::CheckpointPodRequest request) = 0;
  virtual Task<absl::StatusOr<v1::RestorePodResponse>> RestorePod(v1::RestorePodRequest request) = 0;

  // ---- events ----
  // Subscribes. Events from before the subscription are not delivered. An older runtime's Unimplemented may
  // come from here or from the first Next().
  virtual Task<absl::StatusOr<std::unique_ptr<ContainerEventReader>>> GetContainerEvents(
      v1::GetEventsRequest request) = 0;
};

}  // namespace keelson::cri
