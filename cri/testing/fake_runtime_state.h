// The records of FakeRuntime; only its own .cc files include this.
#pragma once

#include <memory>
#include <string>
#include <type_traits>
#include <utility>

#include "base/status.h"
#include "cri/testing/fake_runtime.h"

namespace keelson::cri {

inline constexpr size_t kEventQueueEvents = 1000;  // per subscriber; one that falls behind is cut off
inline constexpr int32_t kKilledExitCode = 137;

struct FakeRuntime::Sandbox {
  v1::PodSandboxConfig config;
  v1::PodSandboxStatus status;
};

struct FakeRuntime::Container {
  v1::ContainerConfig config;
  v1::ContainerStatus status;
  std::string sandbox_id;
  ContainerBehavior behavior;
  std::shared_ptr<AsyncEvent> exited = std::make_shared<AsyncEvent>();  // waiters keep it
  v1::ContainerStats stats;
  bool has_stats = false;
};

struct FakeRuntime::ImageRecord {
  v1::Image image;
};

struct FakeRuntime::RegistryImage {
  uint64_t size_bytes = 1 << 20;
  absl::Duration latency;
};

struct FakeRuntime::Subscription {
  Channel<v1::ContainerEventResponse> events{kEventQueueEvents};
};

// What Arrive() decided about one call; read again when its effect is done.
struct FakeRuntime::Fate {
  absl::Status lost_answer;  // non-OK: the caller gets this although the work was done
};

template <class Request, class Response>
Task<absl::StatusOr<Response>> FakeRuntime::Serve(
    std::string rpc, absl::Duration latency, Request request,
    absl::StatusOr<Response> (FakeRuntime::*handler)(const Request&)) {
  auto fate = std::make_shared<Fate>();
  Task<absl::Status> arrive = Arrive(std::move(rpc), latency, fate);
  absl::Status arrived = co_await std::move(arrive);
  if (!arrived.ok()) co_return arrived;
  if constexpr (std::is_same_v<Request, v1::StopContainerRequest>) {
    CO_RETURN_IF_ERROR(StopCourse(request.container_id(), request.timeout()));
  } else if constexpr (std::is_same_v<Request, v1::PullImageRequest>) {
    CO_RETURN_IF_ERROR(PullCourse(request.image().image()));
  } else if constexpr (std::is_same_v<Request, v1::ExecSyncRequest>) {
    CO_RETURN_IF_ERROR(ExecCourse(request.timeout()));
  }
  absl::StatusOr<Response> response = (this->*handler)(request);
  if (!fate->lost_answer.ok()) co_return fate->lost_answer;
  co_return response;
}

}  // namespace keelson::cri
