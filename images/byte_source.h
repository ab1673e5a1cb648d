// Bytes for a thread that may block: from a file, or from the loop through a bounded pipe.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>

#include "base/task.h"

namespace keelson::images {

class ByteSource {
 public:
  virtual ~ByteSource() = default;
  // At least one byte, 0 at the end. Blocks. After an error only errors follow.
  virtual absl::StatusOr<size_t> Read(char* buffer, size_t size) = 0;
};

// A descriptor that stays the caller's.
class FdSource : public ByteSource {
 public:
  explicit FdSource(int fd) : fd_(fd) {}
  absl::StatusOr<size_t> Read(char* buffer, size_t size) override;

 private:
  int fd_;
};

inline constexpr size_t kPipeBytes = 1 << 20;

// From the loop to one thread that works on the bytes while more are coming. The one place of images/ where
// two threads share state; the loop never waits for the lock longer than a queue operation takes.
class BytePipe : public std::enable_shared_from_this<BytePipe> {
 public:
  BytePipe(Executor executor, size_t capacity_bytes = kPipeBytes)
      : executor_(std::move(executor)), capacity_bytes_(capacity_bytes) {}

  // Loop: waits for room. The reader's error once it has given up.
  Task<absl::Status> Write(std::string piece);
  // Loop: the end (OK) or why it will not come.
  void CloseWrite(absl::Status status);

  // Thread.
  absl::StatusOr<size_t> Read(char* buffer, size_t size);
  void CloseRead(absl::Status status);

 private:
  void WakeWriter();

  Executor executor_;
  const size_t capacity_bytes_;
  AsyncEvent room_;  // the loop's
  std::mutex mutex_;
  std::condition_variable readable_;
  std::deque<std::string> pieces_;
  size_t offset_ = 0;  // taken of the first piece
  size_t bytes_ = 0;
  bool writer_waits_ = false;
  bool write_closed_ = false, read_closed_ = false;
  absl::Status write_status_, read_status_;
};

// The reader's end; closes it when it goes.
class PipeSource : public ByteSource {
 public:
  explicit PipeSource(std::shared_ptr<BytePipe> pipe) : pipe_(std::move(pipe)) {}
  ~PipeSource() override { pipe_->CloseRead(absl::CancelledError("the reader has ended")); }
  absl::StatusOr<size_t> Read(char* buffer, size_t size) override { return pipe_->Read(buffer, size); }

 private:
  std::shared_ptr<BytePipe> pipe_;
};

}  // namespace keelson::images
