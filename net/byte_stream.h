// ByteStream: a duplex, ordered byte pipe between tasks of one loop. Sockets, TLS sessions and upgraded HTTP
// connections are ByteStreams; SPDY and WebSocket are written against this interface only.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstddef>
#include <string_view>

#include "base/task.h"

namespace keelson::net {

// One reader task and one writer task may use a stream at the same time, never two of the same kind.
// A cancelled Read or Write throws operation_aborted and leaves the stream usable only for Close().
class ByteStream {
 public:
  virtual ~ByteStream() = default;
  // At least one byte, as soon as there is one; 0 at the peer's end of stream. `buffer` must outlive the
  // wait. Unavailable: connection lost. DeadlineExceeded: a timeout of the owner.
  virtual Task<absl::StatusOr<size_t>> Read(char* buffer, size_t size) = 0;
  // Returns when all of `data` was taken by the kernel (back-pressure). `data` must outlive the wait.
  virtual Task<absl::Status> Write(std::string_view data) = 0;
  // Half-close: the peer reads end of stream, we may still read.
  virtual Task<absl::Status> CloseWrite() = 0;
  // Drops the connection; pending Reads and Writes end with Unavailable. Idempotent.
  virtual void Close() = 0;
};

}  // namespace keelson::net
