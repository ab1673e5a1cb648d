#include "images/byte_source.h"

#include <unistd.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <cerrno>
#include <cstring>

#include "base/status.h"

namespace keelson::images {

absl::StatusOr<size_t> FdSource::Read(char* buffer, size_t size) {
  while (true) {
    ssize_t n = ::read(fd_, buffer, size);
    if (n >= 0) return static_cast<size_t>(n);
    if (errno != EINTR) return ErrnoStatus(errno, "read");
  }
}

Task<absl::Status> BytePipe::Write(std::string piece) {
  std::shared_ptr<BytePipe> self = shared_from_this();
  while (true) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (read_closed_) co_return read_status_;
      if (bytes_ < capacity_bytes_) {
        bytes_ += piece.size();
        pieces_.push_back(std::move(piece));
        readable_.notify_one();
        co_return absl::OkStatus();
      }
      writer_waits_ = true;
      room_.Reset();
    }
    Task<void> wait = room_.Wait();
    co_await std::move(wait);
  }
}

void BytePipe::CloseWrite(absl::Status status) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (write_closed_) return;
  write_closed_ = true;
  write_status_ = std::move(status);
  readable_.notify_one();
}

void BytePipe::WakeWriter() {
  if (!writer_waits_) return;
  writer_waits_ = false;
  boost::asio::post(executor_, [self = shared_from_this()] { self->room_.Set(); });
}

absl::StatusOr<size_t> BytePipe::Read(char* buffer, size_t size) {
  std::unique_lock<std::mutex> lock(mutex_);
  readable_.wait(lock, [this] { return bytes_ > 0 || write_closed_; });
  if (write_closed_ && !write_status_.ok()) return write_status_;
  size_t done = 0;
  while (done < size && !pieces_.empty()) {
    std::string& front = pieces_.front();
    size_t n = std::min(size - done, front.size() - offset_);
    std::memcpy(buffer + done, front.data() + offset_, n);
    done += n;
    offset_ += n;
    if (offset_ == front.size()) {
      pieces_.pop_front();
      offset_ = 0;
    }
  }
  bytes_ -= done;
  if (bytes_ <= capacity_bytes_ / 2) WakeWriter();
  return done;
}

void BytePipe::CloseRead(absl::Status status) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (read_closed_) return;
  read_closed_ = true;
  read_status_ = std::move(status);
  pieces_.clear();
  bytes_ = offset_ = 0;
  WakeWriter();
}

}  // namespace keelson::images
