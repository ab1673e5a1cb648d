// Descriptors of processes on the loop: pipes and terminals that are read and written without blocking it.
#pragma once

#include <absl/status/statusor.h>

#include <memory>
#include <string>
#include <string_view>

#include "base/env.h"
#include "base/fd.h"
#include "base/task.h"

namespace keelson::cri {

struct Pipe {
  Fd read, write;
};
absl::StatusOr<Pipe> MakePipe();

// One end, taken over and made non-blocking. One Read and one Write at a time.
class LoopFd {
 public:
  LoopFd(Executor executor, Fd fd);
  ~LoopFd();
  LoopFd(const LoopFd&) = delete;
  LoopFd& operator=(const LoopFd&) = delete;

  // What is there, as soon as something is; "" at the end (a terminal whose other side is gone ends, too).
  Task<absl::StatusOr<std::string>> Read();
  // Returns when all was taken. Unavailable: nobody reads any more.
  Task<absl::Status> Write(std::string data);
  // Ends pending calls.
  void Close();
  int get() const;

  struct State;

 private:
  std::shared_ptr<State> state_;
};

// Reads a descriptor to its end into memory, up to a bound; what is beyond is read and dropped. `done` may be
// awaited; destroying it stops reading.
class OutputCollector {
 public:
  OutputCollector(Executor executor, Fd fd, size_t max_bytes);
  ~OutputCollector();
  OutputCollector(const OutputCollector&) = delete;
  OutputCollector& operator=(const OutputCollector&) = delete;

  bool finished() const;
  // Set at the end of the output; the caller may set it for reasons of its own.
  std::shared_ptr<AsyncEvent> done() const;
  std::string TakeOutput();

  struct State;

 private:
  std::shared_ptr<State> state_;
};

}  // namespace keelson::cri
