// The RPCs of CRI v1 as X-macros, for code that treats all of them alike: the gRPC client, the fake's
// injection and the test server. X(Rpc, Request, Response); message names without namespace.
#pragma once

#define KEELSON_CRI_RUNTIME_UNARY_RPCS(X)                                                           \
  X(Version, VersionRequest, VersionResponse)                                                       \
  X(Status, StatusRequest, StatusResponse)                                                          \
  X(UpdateRuntimeConfig, UpdateRuntimeConfigRequest, UpdateRuntimeConfigResponse)                   \
  X(RuntimeConfig, RuntimeConfigRequest, RuntimeConfigResponse)                                     \
  X(RunPodSandbox, RunPodSandboxRequest, RunPodSandboxResponse)                                     \
  X(StopPodSandbox, StopPodSandboxRequest, StopPodSandboxResponse)                                  \
  X(RemovePodSandbox, RemovePodSandboxRequest, RemovePodSandboxResponse)                            \
  X(PodSandboxStatus, PodSandboxStatusRequest, PodSandboxStatusResponse)                            \
  X(ListPodSandbox, ListPodSandboxRequest, ListPodSandboxResponse)                                  \
  X(UpdatePodSandboxResources, UpdatePodSandboxResourcesRequest, UpdatePodSandboxResourcesResponse) \
  X(CreateContainer, CreateContainerRequest, CreateContainerResponse)                               \
  X(StartContainer, StartContainerRequest, StartContainerResponse)                                  \
  X(StopContainer, StopContainerRequest, StopContainerResponse)                                     \
  X(RemoveContainer, RemoveContainerRequest, RemoveContainerResponse)                               \
  X(ListContainers, ListContainersRequest, ListContainersResponse)                                  \
  X(ContainerStatus, ContainerStatusRequest, ContainerStatusResponse)                               \
  X(UpdateContainerResources, UpdateContainerResourcesRequest, UpdateContainerResourcesResponse)    \
  X(ReopenContainerLog, ReopenContainerLogRequest, ReopenContainerLogResponse)                      \
  X(ExecSync, ExecSyncRequest, ExecSyncResponse)                                                    \
  X(Exec, ExecRequest, ExecResponse)                                                                \
  X(Attach, AttachRequest, AttachResponse)                                                          \
  X(PortForward, PortForwardRequest, PortForwardResponse)                                           \
  X(ContainerStats, ContainerStatsRequest, ContainerStatsResponse)                                  \
  X(ListContainerStats, ListContainerStatsRequest, ListContainerStatsResponse)                      \
  X(PodSandboxStats, PodSandboxStatsRequest, PodSandboxStatsResponse)                               \
  X(ListPodSandboxStats, ListPodSandboxStatsRequest, ListPodSandboxStatsResponse)                   \
  X(ListMetricDescriptors, ListMetricDescriptorsRequest, ListMetricDescriptorsResponse)             \
  X(ListPodSandboxMetrics, ListPodSandboxMetricsRequest, ListPodSandboxMetricsResponse)             \
  X(CheckpointContainer, CheckpointContainerRequest, CheckpointContainerResponse)                   \
  X(CheckpointPod, CheckpointPodRequest, CheckpointPodResponse)                                     \
  X(RestorePod, RestorePodRequest, RestorePodResponse)

// Server streams whose parts are merged into one response.
#define KEELSON_CRI_RUNTIME_STREAM_RPCS(X)                                              \
  X(StreamPodSandboxes, StreamPodSandboxesRequest, StreamPodSandboxesResponse)          \
  X(StreamContainers, StreamContainersRequest, StreamContainersResponse)                \
  X(StreamContainerStats, StreamContainerStatsRequest, StreamContainerStatsResponse)    \
  X(StreamPodSandboxStats, StreamPodSandboxStatsRequest, StreamPodSandboxStatsResponse) \
  X(StreamPodSandboxMetrics, StreamPodSandboxMetricsRequest, StreamPodSandboxMetricsResponse)

#define KEELSON_CRI_IMAGE_UNARY_RPCS(X)                   \
  X(ListImages, ListImagesRequest, ListImagesResponse)    \
  X(ImageStatus, ImageStatusRequest, ImageStatusResponse) \
  X(PullImage, PullImageRequest, PullImageResponse)       \
  X(RemoveImage, RemoveImageRequest, RemoveImageResponse) \
  X(ImageFsInfo, ImageFsInfoRequest, ImageFsInfoResponse)

#define KEELSON_CRI_IMAGE_STREAM_RPCS(X) X(StreamImages, StreamImagesRequest, StreamImagesResponse)
