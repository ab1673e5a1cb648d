// ApiClient over HTTP/1.1 and TLS, Kubernetes protobuf on the wire with JSON as the fallback for errors.
#pragma once

#include <memory>

#include "base/env.h"
#include "client/api_client.h"
#include "client/kubeconfig.h"

namespace keelson::client {

struct HttpApiClientOptions {
  std::string user_agent = "keelson";
  absl::Duration watch_timeout = absl::Minutes(7);  // asked of the server per watch, jittered by a fifth
  absl::Duration watch_idle =
      absl::Minutes(3);  // no event nor bookmark for so long: the stream is taken for dead
};

// env outlives the client; the client outlives its calls. InvalidArgument when the kubeconfig's server or
// certificates do not parse.
absl::StatusOr<std::unique_ptr<ApiClient>> NewHttpApiClient(Env& env, const KubeConfig& config,
                                                            HttpApiClientOptions options = {});

}  // namespace keelson::client
