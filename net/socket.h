// Socket: a non-blocking descriptor with an optional TLS session on it, and the waits for its readiness.
// Internal to net/; the server, the client and the ByteStreams handed out all sit on it. OpenSSL works
// directly on the descriptor, so that an idle connection owns no buffers and a request costs one read and one
// write.
#pragma once

#include <absl/functional/any_invocable.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <boost/asio/posix/basic_stream_descriptor.hpp>
#include <memory>
#include <string>
#include <string_view>

#include "base/env.h"
#include "base/fd.h"
#include "base/task.h"
#include "net/byte_stream.h"
#include "net/tls.h"

struct ssl_st;

namespace keelson::net {

// Results of the Try calls besides a byte count.
inline constexpr ssize_t kWouldBlock = -1;
inline constexpr ssize_t kIoError = -2;  // error() says why

class Socket : public std::enable_shared_from_this<Socket> {
 public:
  static std::shared_ptr<Socket> Make(Executor executor, Fd fd);
  Socket(Executor executor, Fd fd);
  ~Socket();

  // Bytes read; 0 at end of stream; kWouldBlock; kIoError.
  ssize_t TryRead(char* buffer, size_t size);
  // Bytes taken, at least 1; kWouldBlock; kIoError.
  ssize_t TryWrite(std::string_view data);
  // Gathers when plain; with TLS only the first piece is taken.
  ssize_t TryWritev(const iovec* pieces, int count);

  // To be called after the Try call reported kWouldBlock.
  Task<void> WaitReadable();
  Task<void> WaitWritable();
  // Starts watching for input without anyone waiting; on_readable runs once it comes.
  void ArmRead();
  // Ends a WaitReadable early; its caller has a flag to look at.
  void WakeReader() { readable_.Set(); }
  bool read_armed() const { return read_armed_; }
  // Runs before waiters are woken, on every readiness of input.
  void set_on_readable(absl::AnyInvocable<void()> fn) { on_readable_ = std::move(fn); }

  // TLS on top of the connected descriptor. Errors: Unavailable with OpenSSL's reason.
  Task<absl::Status> ServerHandshake(std::shared_ptr<TlsServerContext> context);
  Task<absl::Status> ClientHandshake(std::shared_ptr<TlsClientContext> context, std::string server_name);
  bool tls() const { return ssl_ != nullptr; }
  // Decrypted or undecrypted bytes already taken from the kernel.
  bool has_pending() const;
  // Null without one.
  std::shared_ptr<const PeerCertificate> PeerCert() const;

  // FIN (and close_notify) to the peer; reading goes on.
  void ShutdownWrite();
  // Every later call fails with `reason`; waits end. The first reason stays. Idempotent.
  void Fail(absl::Status reason);
  void Close() { Fail(absl::UnavailableError("connection closed")); }
  bool closed() const { return !descriptor_.is_open(); }
  const absl::Status& error() const { return error_; }
  int fd() { return descriptor_.native_handle(); }
  Executor executor() { return descriptor_.get_executor(); }

 private:
  Task<absl::Status> Handshake();
  void ArmWrite();
  ssize_t SslResult(int result, bool reading);
  ssize_t Errno(int error_number);

  boost::asio::posix::basic_stream_descriptor<Executor> descriptor_;
  ssl_st* ssl_ = nullptr;
  std::shared_ptr<void> context_;  // keeps the TLS context alive
  bool read_armed_ = false, write_armed_ = false;
  bool read_wants_write_ = false, write_wants_read_ = false;
  AsyncEvent readable_, writable_;
  absl::AnyInvocable<void()> on_readable_;
  absl::Status error_;
};

// Closes the socket when it goes.
class SocketOwner {
 public:
  SocketOwner() = default;
  explicit SocketOwner(std::shared_ptr<Socket> socket) : socket_(std::move(socket)) {}
  SocketOwner(SocketOwner&&) noexcept = default;
  SocketOwner& operator=(SocketOwner&& other) noexcept {
    reset();
    socket_ = std::move(other.socket_);
    return *this;
  }
  ~SocketOwner() { reset(); }
  void reset() {
    if (socket_ != nullptr) socket_->Close();
    socket_.reset();
  }
  Socket* operator->() const { return socket_.get(); }
  Socket* get() const { return socket_.get(); }
  explicit operator bool() const { return socket_ != nullptr; }
  const std::shared_ptr<Socket>& shared() const { return socket_; }

 private:
  std::shared_ptr<Socket> socket_;
};

// Contiguous input bytes: filled at the end, taken at the front.
class InputBuffer {
 public:
  std::string_view view() const { return std::string_view(data_.data() + begin_, end_ - begin_); }
  size_t size() const { return end_ - begin_; }
  bool empty() const { return begin_ == end_; }
  void Consume(size_t bytes) {
    begin_ += bytes;
    if (begin_ == end_) begin_ = end_ = 0;
  }
  // One TryRead of at most `want` bytes into the free space.
  ssize_t FillFrom(Socket* socket, size_t want);
  void Append(std::string_view bytes);
  // Gives memory beyond a small block back; for idle connections.
  void Shrink();

 private:
  void Reserve(size_t want);
  std::string data_;
  size_t begin_ = 0, end_ = 0;
};

// ByteStream over an owned socket; `early` was read before.
std::unique_ptr<ByteStream> MakeSocketStream(SocketOwner socket, std::string early);

// Writes everything, waiting as needed. `data` must outlive the wait.
Task<absl::Status> WriteAll(std::shared_ptr<Socket> socket, std::string_view data);

// connect(2) to one address, given as the bytes of a sockaddr. Unavailable, DeadlineExceeded.
Task<absl::StatusOr<SocketOwner>> ConnectSocket(Executor executor, std::string sockaddr_bytes, Clock* clock,
                                                absl::Duration timeout);

}  // namespace keelson::net
