#include "net/stream_util.h"

#include <algorithm>
#include <string>

#include "base/strings.h"

namespace keelson::net {
namespace {

constexpr size_t kCopyBytes = 32 << 10;

class IdleStream : public ByteStream {
 public:
  IdleStream(Clock& clock, std::unique_ptr<ByteStream> stream, absl::Duration idle)
      : clock_(clock), stream_(std::move(stream)), idle_(idle), last_(clock.Monotonic()) {
    Arm(idle_);
  }
  ~IdleStream() override {
    if (timer_ != 0) clock_.CancelTimer(timer_);
  }
  Task<absl::StatusOr<size_t>> Read(char* buffer, size_t size) override {
    Task<absl::StatusOr<size_t>> read = stream_->Read(buffer, size);
    absl::StatusOr<size_t> n = co_await std::move(read);
    last_ = clock_.Monotonic();
    if (timed_out_) co_return TimedOut();
    co_return n;
  }
  // Only a write that got through counts: a peer that takes nothing is idle.
  Task<absl::Status> Write(std::string_view data) override {
    Task<absl::Status> write = stream_->Write(data);
    absl::Status status = co_await std::move(write);
    last_ = clock_.Monotonic();
    if (timed_out_) co_return TimedOut();
    co_return status;
  }
  Task<absl::Status> CloseWrite() override { return stream_->CloseWrite(); }
  void Close() override { stream_->Close(); }

 private:
  absl::Status TimedOut() const {
    return absl::DeadlineExceededError(StrCat("connection was idle for ", absl::FormatDuration(idle_)));
  }
  void Arm(absl::Duration after) {
    if (idle_ == absl::InfiniteDuration()) return;
    timer_ = clock_.Schedule(after, [this] {
      timer_ = 0;
      absl::Duration left = idle_ - (clock_.Monotonic() - last_);
      if (left > absl::ZeroDuration()) return Arm(left);
      timed_out_ = true;
      stream_->Close();
    });
  }

  Clock& clock_;
  std::unique_ptr<ByteStream> stream_;
  const absl::Duration idle_;
  absl::Duration last_;
  uint64_t timer_ = 0;
  bool timed_out_ = false;
};

// ---- Splice ----

struct Joint {
  std::unique_ptr<ByteStream> a, b;
  Clock* clock;
  absl::Duration idle, last;
  uint64_t timer = 0;
  bool half_closed = false, closed = false;
  AsyncEvent other_done;

  ~Joint() { Close(); }
  void Close() {
    if (timer != 0) clock->CancelTimer(timer);
    timer = 0;
    if (closed) return;
    closed = true;
    a->Close();
    b->Close();
  }
  absl::Duration limit() const { return half_closed ? std::min(idle, kSpliceLinger) : idle; }
  void Touch() { last = clock->Monotonic(); }
  void Arm() {
    if (timer != 0) clock->CancelTimer(timer);
    timer = 0;
    if (closed || limit() == absl::InfiniteDuration()) return;
    absl::Duration left = limit() - (clock->Monotonic() - last);
    if (left <= absl::ZeroDuration()) return Close();
    timer = clock->Schedule(left, [this] {
      timer = 0;
      Arm();
    });
  }
};

// One direction. End of stream is handed on; anything else ends both.
Task<void> Copy(std::shared_ptr<Joint> joint, bool forward) {
  ByteStream* from = forward ? joint->a.get() : joint->b.get();
  ByteStream* to = forward ? joint->b.get() : joint->a.get();
  auto buffer = std::make_unique<char[]>(kCopyBytes);
  for (;;) {
    Task<absl::StatusOr<size_t>> read = from->Read(buffer.get(), kCopyBytes);
    absl::StatusOr<size_t> n = co_await std::move(read);
    joint->Touch();
    if (!n.ok()) break;
    if (*n == 0) {
      const bool last = joint->half_closed;
      joint->half_closed = true;
      joint->Arm();
      Task<absl::Status> half = to->CloseWrite();
      absl::Status status = co_await std::move(half);
      if (last || !status.ok()) break;
      co_return;
    }
    Task<absl::Status> write = to->Write(std::string_view(buffer.get(), *n));
    absl::Status status = co_await std::move(write);
    joint->Touch();
    if (!status.ok()) break;
  }
  joint->Close();
}

class SetAtEnd {
 public:
  explicit SetAtEnd(std::shared_ptr<Joint> joint) : joint_(std::move(joint)) {}
  ~SetAtEnd() { joint_->other_done.Set(); }

 private:
  std::shared_ptr<Joint> joint_;
};

Task<void> CopyBack(std::shared_ptr<Joint> joint) {
  SetAtEnd end(joint);
  Task<void> copy = Copy(joint, false);
  co_await std::move(copy);
}

class CloseAtEnd {
 public:
  explicit CloseAtEnd(std::shared_ptr<Joint> joint) : joint_(std::move(joint)) {}
  ~CloseAtEnd() { joint_->Close(); }

 private:
  std::shared_ptr<Joint> joint_;
};

// ---- memory ----

struct Pipe {
  std::string bytes;
  bool ended = false;   // the writer's half-close
  bool closed = false;  // either end is gone
  size_t capacity_bytes;
  WaitList readable, writable;
  void Close() {
    closed = true;
    readable.NotifyAll();
    writable.NotifyAll();
  }
};

class MemoryStream : public ByteStream {
 public:
  MemoryStream(std::shared_ptr<Pipe> in, std::shared_ptr<Pipe> out)
      : in_(std::move(in)), out_(std::move(out)) {}
  ~MemoryStream() override { Close(); }
  Task<absl::StatusOr<size_t>> Read(char* buffer, size_t size) override {
    std::shared_ptr<Pipe> in = in_;
    while (in->bytes.empty()) {
      if (in->ended && !own_closed_) co_return size_t{0};
      if (in->closed) co_return absl::UnavailableError("connection closed");
      Task<void> wait = in->readable.Wait();
      co_await std::move(wait);
    }
    size_t n = in->bytes.copy(buffer, size);
    in->bytes.erase(0, n);
    in->writable.NotifyAll();
    co_return n;
  }
  Task<absl::Status> Write(std::string_view data) override {
    std::shared_ptr<Pipe> out = out_;
    while (!data.empty()) {
      if (out->closed || out->ended) co_return absl::UnavailableError("connection closed");
      size_t room = out->capacity_bytes - out->bytes.size();
      if (room == 0) {
        Task<void> wait = out->writable.Wait();
        co_await std::move(wait);
        continue;
      }
      out->bytes.append(data.substr(0, room));
      data.remove_prefix(std::min(room, data.size()));
      out->readable.NotifyAll();
    }
    co_return absl::OkStatus();
  }
  Task<absl::Status> CloseWrite() override {
    out_->ended = true;
    out_->readable.NotifyAll();
    co_return absl::OkStatus();
  }
  // The other end reads what was written, then the end.
  void Close() override {
    if (own_closed_) return;
    own_closed_ = true;
    out_->ended = true;
    out_->readable.NotifyAll();
    out_->writable.NotifyAll();
    in_->bytes.clear();
    in_->Close();
  }

 private:
  std::shared_ptr<Pipe> in_, out_;
  bool own_closed_ = false;
};

}  // namespace

std::shared_ptr<ByteStream> WithIdleTimeout(Clock& clock, std::unique_ptr<ByteStream> stream,
                                            absl::Duration idle) {
  return std::make_shared<IdleStream>(clock, std::move(stream), idle);
}

Task<void> Splice(Scope* scope, Clock* clock, std::unique_ptr<ByteStream> a, std::unique_ptr<ByteStream> b,
                  absl::Duration idle) {
  auto joint = std::make_shared<Joint>();
  joint->a = std::move(a);
  joint->b = std::move(b);
  joint->clock = clock;
  joint->idle = idle;
  joint->Touch();
  joint->Arm();
  CloseAtEnd close(joint);
  if (scope->closing()) co_return;
  scope->Spawn("splice", CopyBack(joint));
  Task<void> copy = Copy(joint, true);
  co_await std::move(copy);
  Task<void> wait = joint->other_done.Wait();
  co_await std::move(wait);
}

std::pair<std::unique_ptr<ByteStream>, std::unique_ptr<ByteStream>> MemoryStreamPair(size_t capacity_bytes) {
  auto one = std::make_shared<Pipe>(), two = std::make_shared<Pipe>();
  one->capacity_bytes = two->capacity_bytes = capacity_bytes;
  return {std::make_unique<MemoryStream>(one, two), std::make_unique<MemoryStream>(two, one)};
}

}  // namespace keelson::net
