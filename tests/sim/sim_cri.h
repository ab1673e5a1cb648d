// SimCri: the socket between a kubelet and its runtime. A call runs on the runtime's side: a kubelet that
// dies in the middle does not undo it, as with gRPC.
#pragma once

#include <memory>
#include <optional>

#include "cri/testing/fake_runtime.h"

namespace keelson::sim {

class SimCri : public cri::RuntimeService, public cri::ImageService {
 public:
  // Both outlive Close().
  SimCri(Env& env, cri::FakeRuntime& runtime) : runtime_(runtime), scope_(env.executor()) {}
  // Waits until no call runs on the runtime's side.
  Task<void> Close() { return scope_.Close(); }

#define KEELSON_SIM_FORWARD_(Rpc, Request, Response)                               \
  Task<absl::StatusOr<cri::v1::Response>> Rpc(cri::v1::Request request) override { \
    return Forward<cri::v1::Response>(#Rpc, runtime_.Rpc(std::move(request)));     \
  }
  KEELSON_CRI_RUNTIME_UNARY_RPCS(KEELSON_SIM_FORWARD_)
  KEELSON_CRI_RUNTIME_STREAM_RPCS(KEELSON_SIM_FORWARD_)
  KEELSON_CRI_IMAGE_UNARY_RPCS(KEELSON_SIM_FORWARD_)
  KEELSON_CRI_IMAGE_STREAM_RPCS(KEELSON_SIM_FORWARD_)
#undef KEELSON_SIM_FORWARD_
  Task<absl::StatusOr<std::unique_ptr<cri::ContainerEventReader>>> GetContainerEvents(
      cri::v1::GetEventsRequest request) override {
    return runtime_.GetContainerEvents(std::move(request));
  }

 private:
  template <class Response>
  struct Pending {
    std::optional<absl::StatusOr<Response>> result;
    AsyncEvent done;
  };
  template <class Response>
  static Task<void> Serve(Task<absl::StatusOr<Response>> call, std::shared_ptr<Pending<Response>> pending) {
    absl::StatusOr<Response> result = co_await std::move(call);
    pending->result.emplace(std::move(result));
    pending->done.Set();
  }
  template <class Response>
  Task<absl::StatusOr<Response>> Forward(const char* rpc, Task<absl::StatusOr<Response>> call) {
    auto pending = std::make_shared<Pending<Response>>();
    scope_.Spawn(rpc, Serve<Response>(std::move(call), pending));
    Task<void> wait = pending->done.Wait();
    co_await std::move(wait);
    co_return *std::move(pending->result);
  }

  cri::FakeRuntime& runtime_;
  Scope scope_;
};

}  // namespace keelson::sim
