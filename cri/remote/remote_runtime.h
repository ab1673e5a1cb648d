// RemoteRuntime: the CRI services of a runtime behind a unix socket, over gRPC (containerd, CRI-O, keelson
// cri).
//
// Results come back on the Env's loop; gRPC's own threads never touch state of ours. A lost connection fails
// the calls in flight with Unavailable and is re-established with back-off; nothing is retried here: callers
// reconcile.
#pragma once

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <cstddef>
#include <memory>
#include <string>

#include "base/env.h"
#include "cri/image_service.h"
#include "cri/runtime_service.h"

namespace keelson::cri {

// Upstream's runtimeRequestTimeout.
inline constexpr absl::Duration kCallDeadline = absl::Minutes(2);
// Pulls end by the runtime's own no-progress timeout long before.
inline constexpr absl::Duration kPullDeadline = absl::Hours(1);
// RunPodSandbox waits for network plugins: twice a call, as upstream.
inline constexpr absl::Duration kRunSandboxDeadline = absl::Minutes(4);
// ExecSync without a timeout of its own.
inline constexpr absl::Duration kUnboundedExecDeadline = absl::Hours(1);
// What ExecSync and StopContainer get above the timeout in the request.
inline constexpr absl::Duration kGraceAboveRequestTimeout = absl::Minutes(2);
// An event stream ends after this, as if the runtime had ended it; the caller subscribes again.
inline constexpr absl::Duration kEventStreamAge = absl::Hours(6);
// Upstream's bound for one message, both ways.
inline constexpr int kMaxMessageBytes = 16 << 20;
// All parts of one Stream* call together.
inline constexpr size_t kMaxStreamedBytes = 256 << 20;
// Reconnecting, as upstream.
inline constexpr absl::Duration kReconnectBackoffMin = absl::Milliseconds(100);
inline constexpr absl::Duration kReconnectBackoffMax = absl::Seconds(3);
inline constexpr absl::Duration kConnectTimeout = absl::Seconds(5);
inline constexpr size_t kMaxSocketPathBytes = 107;  // sockaddr_un

struct RemoteOptions {
  std::string endpoint;        // "unix:///run/containerd/containerd.sock"; a bare absolute path is taken too
  std::string image_endpoint;  // "" : the same
  absl::Duration call_deadline = kCallDeadline;  // KubeletConfiguration.runtimeRequestTimeout
  absl::Duration pull_deadline = kPullDeadline;
};

class RemoteRuntime {
 public:
  // Does not wait for the runtime: the first call connects. InvalidArgument for an endpoint that is not a
  // unix socket. `env` must outlive it.
  static absl::StatusOr<std::unique_ptr<RemoteRuntime>> Create(Env& env, RemoteOptions options);
  virtual ~RemoteRuntime() =
      default;  // cancels what is in flight and waits (milliseconds) for gRPC to let go

  virtual RuntimeService& runtime() = 0;
  virtual ImageService& images() = 0;
};

// The path of a unix endpoint.
absl::StatusOr<std::string> SocketPathOf(const std::string& endpoint);

}  // namespace keelson::cri
