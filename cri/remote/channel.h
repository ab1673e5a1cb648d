// Channel: unary calls and server streams of any method on one gRPC channel, as Tasks of the loop: CRI's, and
// the health protocol's for probes. The only gRPC user among the clients; its header names no gRPC type.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/time/time.h>
#include <google/protobuf/message.h>

#include <memory>
#include <string>

#include "base/task.h"

namespace keelson::cri {

// One server stream. Destroying it cancels the call.
class MessageStream {
 public:
  virtual ~MessageStream() = default;
  // True: `message` holds the next part. False: the server ended the stream well. One at a time; after a
  // cancelled Receive the next one goes on waiting for the same part. `message` must be of one type all
  // along.
  virtual Task<absl::StatusOr<bool>> Receive(google::protobuf::Message* message) = 0;
};

class GrpcChannel {
 public:
  // `endpoint` as the user gave it, for messages; `socket_path` absolute.
  static std::shared_ptr<GrpcChannel> Open(Executor executor, std::string endpoint, std::string socket_path);
  // A server that is no container runtime, without TLS. Errors carry its code and message alone.
  static std::shared_ptr<GrpcChannel> OpenTcp(Executor executor, const std::string& host_and_port,
                                              const std::string& user_agent);
  virtual ~GrpcChannel() = default;

  // `method`: "/runtime.v1.RuntimeService/Version". `response` is kept alive by the call, even past a
  // cancelled await. Errors carry the server's code and "cri Version: message".
  virtual Task<absl::Status> Call(std::string method, absl::Duration deadline,
                                  std::shared_ptr<google::protobuf::Message> request,
                                  std::shared_ptr<google::protobuf::Message> response) = 0;
  virtual std::unique_ptr<MessageStream> Stream(std::string method, absl::Duration deadline,
                                                std::shared_ptr<google::protobuf::Message> request) = 0;
};

}  // namespace keelson::cri
