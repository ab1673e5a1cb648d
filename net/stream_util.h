// Small pieces around ByteStream: one-shot timers, an idle timeout, copying both ways, a pair in memory.
#pragma once

#include <absl/time/time.h>

#include <cstddef>
#include <memory>
#include <utility>

#include "base/env.h"
#include "base/task.h"
#include "net/byte_stream.h"

namespace keelson::net {

// Runs `fn` once after `after` unless it is destroyed before.
class OneShotTimer {
 public:
  OneShotTimer(Clock& clock, absl::Duration after, absl::AnyInvocable<void()> fn)
      : clock_(clock), id_(clock.Schedule(after, std::move(fn))) {}
  ~OneShotTimer() { clock_.CancelTimer(id_); }
  OneShotTimer(const OneShotTimer&) = delete;
  OneShotTimer& operator=(const OneShotTimer&) = delete;

 private:
  Clock& clock_;
  const uint64_t id_;
};

// `stream`, closed once no byte has been read or written for `idle`; then Read and Write are
// DeadlineExceeded. The clock outlives the stream.
std::shared_ptr<ByteStream> WithIdleTimeout(Clock& clock, std::unique_ptr<ByteStream> stream,
                                            absl::Duration idle);

// Once one direction of a Splice has ended, the other has so long without a byte before both are closed.
inline constexpr absl::Duration kSpliceLinger = absl::Seconds(30);

// Copies bytes both ways until both have ended or one has failed, end of stream as half-close; then both are
// closed. `idle`: closed when neither has moved for so long. Its second task runs in `scope`.
Task<void> Splice(Scope* scope, Clock* clock, std::unique_ptr<ByteStream> a, std::unique_ptr<ByteStream> b,
                  absl::Duration idle);

// Two connected streams in memory; each direction holds at most `capacity_bytes`.
std::pair<std::unique_ptr<ByteStream>, std::unique_ptr<ByteStream>> MemoryStreamPair(
    size_t capacity_bytes = 64 << 10);

}  // namespace keelson::net
