#include "cri/server/pipes.h"

#include <fcntl.h>
#include <unistd.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/posix/basic_stream_descriptor.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/write.hpp>
#include <utility>

#include "base/status.h"

namespace keelson::cri {

namespace asio = boost::asio;
using boost::system::error_code;
using Descriptor = asio::posix::basic_stream_descriptor<Executor>;

namespace {

constexpr size_t kReadBytes = 32 << 10;

bool IsEnd(const error_code& error) {
  // A terminal's master reads EIO once its other side is closed.
  return error == asio::error::eof || error == error_code(EIO, boost::system::system_category()) ||
         error == asio::error::operation_aborted || error == asio::error::bad_descriptor;
}

}  // namespace

absl::StatusOr<Pipe> MakePipe() {
  int fds[2];
  if (::pipe2(fds, O_CLOEXEC) != 0) return ErrnoStatus(errno, "pipe2");
  return Pipe{Fd(fds[0]), Fd(fds[1])};
}

struct LoopFd::State {
  State(Executor executor, int fd) : descriptor(std::move(executor), fd) {}
  Descriptor descriptor;
};

LoopFd::LoopFd(Executor executor, Fd fd)
    : state_(std::make_shared<State>(std::move(executor), fd.release())) {
  error_code ignored;
  state_->descriptor.non_blocking(true, ignored);
}

LoopFd::~LoopFd() { Close(); }

void LoopFd::Close() {
  error_code ignored;
  if (state_->descriptor.is_open()) state_->descriptor.close(ignored);
}

int LoopFd::get() const {
  return state_->descriptor.is_open() ? const_cast<Descriptor&>(state_->descriptor).native_handle() : -1;
}

namespace {

Task<absl::StatusOr<std::string>> ReadSome(std::shared_ptr<LoopFd::State> state) {
  std::string data(kReadBytes, '\0');
  error_code error;
  auto buffer = asio::buffer(data);
  auto token = asio::redirect_error(asio::use_awaitable, error);
  Task<size_t> read = state->descriptor.async_read_some(buffer, token);
  size_t size = co_await std::move(read);
  if (IsEnd(error)) co_return std::string();
  if (error) co_return absl::UnavailableError("read: " + error.message());
  data.resize(size);
  co_return data;
}

Task<absl::Status> WriteWhole(std::shared_ptr<LoopFd::State> state, std::string data) {
  error_code error;
  auto buffer = asio::buffer(data);
  auto token = asio::redirect_error(asio::use_awaitable, error);
  Task<size_t> write = asio::async_write(state->descriptor, buffer, token);
  co_await std::move(write);
  if (error) co_return absl::UnavailableError("write: " + error.message());
  co_return absl::OkStatus();
}

}  // namespace

Task<absl::StatusOr<std::string>> LoopFd::Read() { return ReadSome(state_); }
Task<absl::Status> LoopFd::Write(std::string data) { return WriteWhole(state_, std::move(data)); }

struct OutputCollector::State : std::enable_shared_from_this<OutputCollector::State> {
  State(Executor executor, int fd, size_t limit) : descriptor(std::move(executor), fd), max_bytes(limit) {}

  void Next() {
    descriptor.async_read_some(
        asio::buffer(buffer),
        [self = shared_from_this()](error_code error, size_t size) { self->Take(error, size); });
  }
  void Take(error_code error, size_t size) {
    size_t room = max_bytes - output.size();
    output.append(buffer.data(), std::min(room, size));
    if (!error) return Next();
    finished = true;
    done->Set();
  }

  Descriptor descriptor;
  size_t max_bytes;
  std::string buffer = std::string(kReadBytes, '\0');
  std::string output;
  bool finished = false;
  std::shared_ptr<AsyncEvent> done = std::make_shared<AsyncEvent>();
};

OutputCollector::OutputCollector(Executor executor, Fd fd, size_t max_bytes)
    : state_(std::make_shared<State>(std::move(executor), fd.release(), max_bytes)) {
  error_code ignored;
  state_->descriptor.non_blocking(true, ignored);
  state_->Next();
}

OutputCollector::~OutputCollector() {
  error_code ignored;
  state_->descriptor.close(ignored);
}

bool OutputCollector::finished() const { return state_->finished; }
std::shared_ptr<AsyncEvent> OutputCollector::done() const { return state_->done; }
std::string OutputCollector::TakeOutput() { return std::move(state_->output); }

}  // namespace keelson::cri
