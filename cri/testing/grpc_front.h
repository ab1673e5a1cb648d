// GrpcFront: any RuntimeService and ImageService served as CRI gRPC on a unix socket, for tests of the remote
// client.
#pragma once

#include <absl/status/statusor.h>

#include <memory>
#include <string>

#include "base/env.h"
#include "cri/image_service.h"
#include "cri/runtime_service.h"

namespace keelson::cri {

class GrpcFront {
 public:
  // Serves until destroyed; calls run on `env`'s loop. An old socket file is replaced.
  static absl::StatusOr<std::unique_ptr<GrpcFront>> Serve(Env& env, RuntimeService& runtime,
                                                          ImageService& images,
                                                          const std::string& socket_path);
  virtual ~GrpcFront() = default;
  // Cancels what is in flight, waits, stops listening. Before destruction.
  virtual Task<void> Close() = 0;
};

}  // namespace keelson::cri
