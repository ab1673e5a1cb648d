// FrameWriter: whole frames from many tasks into one ByteStream, in the order they are given, never torn by a
// cancelled task; what waits in it is bounded. SPDY and WebSocket connections send through one.
#pragma once

#include <absl/status/status.h>

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "base/task.h"
#include "net/byte_stream.h"

namespace keelson::net {

class FrameWriter {
 public:
  FrameWriter(std::shared_ptr<ByteStream> stream, size_t limit_bytes)
      : stream_(std::move(stream)), limit_bytes_(limit_bytes) {}

  // The task that writes, to be spawned once; it ends after Finish() or an error.
  static Task<void> Run(std::shared_ptr<FrameWriter> self);

  // Queues without waiting; dropped after Finish() or an error. Who sends what an outsider asks for (replies
  // to pings) waits for Room() now and then.
  void Put(std::string_view frame);
  // Waits until less than the limit, and what else is allowed, is queued. The error that ended the writer, or
  // FailedPrecondition after Finish().
  Task<absl::Status> Room(size_t beyond_limit_bytes = 0);
  // Waits until all that is queued now or later has been taken by the stream, and after Finish() for the
  // half-close too.
  Task<absl::Status> Drained();
  // Half-closes the stream when all is written.
  void Finish();
  // Drops what is queued; waiters get `status`. Only the first counts.
  void Fail(absl::Status status);
  bool finishing() const { return finish_; }
  // OK while it can take frames.
  const absl::Status& status() const { return status_; }

 private:
  size_t queued_bytes() const { return queue_.size() + writing_bytes_; }

  std::shared_ptr<ByteStream> stream_;
  const size_t limit_bytes_;
  std::string queue_;
  size_t writing_bytes_ = 0;
  bool finish_ = false, finished_ = false;
  absl::Status status_;
  WaitList work_, progress_;
};

}  // namespace keelson::net
