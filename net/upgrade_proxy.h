// ProxyUpgrade: continues a request for an upgrade at another server and hands the bytes through, whatever
// they are. The kubelet does so towards the runtime, the API server towards the kubelet.
#pragma once

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <optional>
#include <string>

#include "base/env.h"
#include "net/http_client.h"
#include "net/http_server.h"
#include "net/remote_command.h"

namespace keelson::net {

// Longest that nothing may go over an exec, attach or port-forward (upstream's
// streamingConnectionIdleTimeout).
inline constexpr absl::Duration kStreamingIdleTimeout = absl::Hours(4);
inline constexpr size_t kMaxRefusalBytes = 64 << 10;

// What the other server said instead of 101.
struct UpgradeRefusal {
  int status = 0;
  std::string body;
};

struct UpgradeProxy {
  HttpClient* client = nullptr;
  Scope* scope = nullptr;  // for the task of one direction
  Clock* clock = nullptr;
  absl::Duration idle = kStreamingIdleTimeout;
};

// Asks for the upgrade: the request's method, the headers of UpgradeForward. With `protocol`, SPDY and this
// subprotocol instead of what the client asked for. Unavailable: not reachable.
Task<absl::StatusOr<HttpUpgrade>> OpenUpgrade(UpgradeProxy proxy, HttpEndpoint endpoint, std::string target,
                                              HttpRequest request, std::string protocol = "");

// `request` has passed CheckUpgrade. nullopt: done, the connection was upgraded and has ended. Otherwise
// nothing has been sent yet.
Task<absl::StatusOr<std::optional<UpgradeRefusal>>> ProxyUpgrade(UpgradeProxy proxy, HttpEndpoint endpoint,
                                                                 std::string target, HttpRequest request,
                                                                 ResponseWriter* writer);

}  // namespace keelson::net
