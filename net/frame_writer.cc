#include "net/frame_writer.h"

#include <utility>

namespace keelson::net {
namespace {

// However the task ends, nobody waits for it any longer.
class EndOfWriter {
 public:
  explicit EndOfWriter(FrameWriter* writer) : writer_(writer) {}
  ~EndOfWriter() { writer_->Fail(absl::UnavailableError("connection closed")); }

 private:
  FrameWriter* writer_;
};

}  // namespace

Task<void> FrameWriter::Run(std::shared_ptr<FrameWriter> self) {
  EndOfWriter end(self.get());
  while (self->status_.ok()) {
    if (self->queue_.empty() && !self->finish_) {
      Task<void> wait = self->work_.Wait();
      co_await std::move(wait);
      continue;
    }
    if (self->queue_.empty()) {
      Task<absl::Status> close = self->stream_->CloseWrite();
      absl::Status status = co_await std::move(close);
      self->finished_ = true;
      if (!status.ok()) self->Fail(status);
      self->progress_.NotifyAll();
      co_return;
    }
    std::string out = std::exchange(self->queue_, std::string());
    self->writing_bytes_ = out.size();
    Task<absl::Status> write = self->stream_->Write(out);
    absl::Status status = co_await std::move(write);
    self->writing_bytes_ = 0;
    if (!status.ok()) self->Fail(status);
    self->progress_.NotifyAll();
  }
}

void FrameWriter::Put(std::string_view frame) {
  if (finish_ || !status_.ok()) return;
  queue_.append(frame);
  work_.NotifyAll();
}

Task<absl::Status> FrameWriter::Room(size_t beyond_limit_bytes) {
  while (status_.ok() && !finish_ && queued_bytes() >= limit_bytes_ + beyond_limit_bytes) {
    Task<void> wait = progress_.Wait();
    co_await std::move(wait);
  }
  if (status_.ok() && finish_) co_return absl::FailedPreconditionError("connection is being closed");
  co_return status_;
}

Task<absl::Status> FrameWriter::Drained() {
  while (status_.ok() && (queued_bytes() != 0 || (finish_ && !finished_))) {
    Task<void> wait = progress_.Wait();
    co_await std::move(wait);
  }
  if (finished_) co_return absl::OkStatus();
  co_return status_;
}

void FrameWriter::Finish() {
  finish_ = true;
  work_.NotifyAll();
  progress_.NotifyAll();
}

void FrameWriter::Fail(absl::Status status) {
  if (!status_.ok()) return;
  status_ = std::move(status);
  queue_.clear();
  work_.NotifyAll();
  progress_.NotifyAll();
}

}  // namespace keelson::net
