// GrpcServer: any RuntimeService and ImageService served as CRI gRPC on a unix socket: `keelson cri`, and the
// fake in tests of the remote client.
//
// A client that goes away (closed, cancelled, past its deadline) ends its ExecSync, PullImage, Checkpoint*
// and streams. What changes pods and containers is finished, as the records say.
#pragma once

#include <absl/status/statusor.h>

#include <memory>
#include <string>

#include "base/env.h"
#include "cri/image_files.h"
#include "cri/image_service.h"
#include "cri/runtime_service.h"

namespace keelson::cri {

class GrpcServer {
 public:
  // Serves until destroyed; calls run on `env`'s loop. The socket is 0660 from its first moment on. A socket
  // file that nobody serves is replaced; AlreadyExists: somebody does. InvalidArgument: the path is longer
  // than kMaxSocketPathBytes. The umask is changed meanwhile: call it before other threads make files.
  // `files` may be null: then nobody serves that.
  static absl::StatusOr<std::unique_ptr<GrpcServer>> Serve(Env& env, RuntimeService& runtime,
                                                           ImageService& images,
                                                           const std::string& socket_path,
                                                           ImageFilesService* files = nullptr);
  virtual ~GrpcServer() = default;
  // Cancels what is in flight, waits, stops listening. Before destruction.
  virtual Task<void> Close() = 0;
};

}  // namespace keelson::cri
