#include "net/socket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cstring>

#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"
#include "net/address.h"
#include "net/openssl_util.h"

namespace keelson::net {

namespace asio = boost::asio;
using boost::system::error_code;

namespace {

constexpr size_t kSmallInputBytes = 4 << 10;
constexpr size_t kReadsBeforeYield = 32;  // of one stream, so that a fast peer does not hold the loop

// ---- BIO on a descriptor: send with MSG_NOSIGNAL, which OpenSSL's own socket BIO cannot do ----

int BioFd(BIO* bio) { return static_cast<int>(reinterpret_cast<intptr_t>(BIO_get_data(bio))); }

bool Retryable(int error_number) {
  return error_number == EAGAIN || error_number == EWOULDBLOCK || error_number == EINTR;
}

int BioWrite(BIO* bio, const char* data, int size) {
  BIO_clear_retry_flags(bio);
  ssize_t n = ::send(BioFd(bio), data, static_cast<size_t>(size), MSG_NOSIGNAL);
  if (n < 0 && Retryable(errno)) BIO_set_retry_write(bio);
  return static_cast<int>(n);
}

int BioRead(BIO* bio, char* data, int size) {
  BIO_clear_retry_flags(bio);
  ssize_t n = ::recv(BioFd(bio), data, static_cast<size_t>(size), 0);
  if (n < 0 && Retryable(errno)) BIO_set_retry_read(bio);
  if (n == 0) BIO_set_flags(bio, BIO_FLAGS_IN_EOF);
  return static_cast<int>(n);
}

long BioControl(BIO* bio, int command, long, void*) {
  switch (command) {
    case BIO_CTRL_FLUSH:
      return 1;
    case BIO_CTRL_EOF:
      return BIO_test_flags(bio, BIO_FLAGS_IN_EOF) != 0;
    default:
      return 0;
  }
}

BIO_METHOD* SocketBioMethod() {
  static BIO_METHOD* method = [] {
    BIO_METHOD* m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "keelson socket");
    BIO_meth_set_write(m, &BioWrite);
    BIO_meth_set_read(m, &BioRead);
    BIO_meth_set_ctrl(m, &BioControl);
    return m;
  }();
  return method;
}

void AttachBio(SSL* ssl, int fd) {
  BIO* bio = BIO_new(SocketBioMethod());
  BIO_set_data(bio, reinterpret_cast<void*>(static_cast<intptr_t>(fd)));
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl, bio, bio);
}

}  // namespace

std::shared_ptr<Socket> Socket::Make(Executor executor, Fd fd) {
  return std::make_shared<Socket>(std::move(executor), std::move(fd));
}

Socket::Socket(Executor executor, Fd fd) : descriptor_(std::move(executor), fd.release()) {
  descriptor_.native_non_blocking(true);
}

Socket::~Socket() { SSL_free(ssl_); }

ssize_t Socket::Errno(int error_number) {
  if (Retryable(error_number)) return kWouldBlock;
  if (error_.ok()) {
    error_ = absl::UnavailableError(StrCat("connection lost: ", std::strerror(error_number)));
  }
  return kIoError;
}

ssize_t Socket::SslResult(int result, bool reading) {
  int error_number = errno;
  switch (SSL_get_error(ssl_, result)) {
    case SSL_ERROR_WANT_READ:
      (reading ? read_wants_write_ : write_wants_read_) = !reading;
      return kWouldBlock;
    case SSL_ERROR_WANT_WRITE:
      (reading ? read_wants_write_ : write_wants_read_) = reading;
      return kWouldBlock;
    case SSL_ERROR_ZERO_RETURN:
      if (reading) return 0;
      break;
    case SSL_ERROR_SYSCALL:
      if (reading && error_number == 0) return 0;
      if (error_.ok()) {
        error_ = absl::UnavailableError(StrCat("connection lost: ", std::strerror(error_number)));
      }
      return kIoError;
    default:
      break;
  }
  if (error_.ok()) error_ = absl::UnavailableError(OpensslError("TLS"));
  ERR_clear_error();
  return kIoError;
}

ssize_t Socket::TryRead(char* buffer, size_t size) {
  if (!error_.ok()) return kIoError;
  if (ssl_ != nullptr) {
    ERR_clear_error();
    errno = 0;
    int n = SSL_read(ssl_, buffer, static_cast<int>(std::min<size_t>(size, 1 << 30)));
    return n > 0 ? n : SslResult(n, true);
  }
  ssize_t n = ::read(descriptor_.native_handle(), buffer, size);
  return n >= 0 ? n : Errno(errno);
}

ssize_t Socket::TryWrite(std::string_view data) {
  iovec piece{const_cast<char*>(data.data()), data.size()};
  return TryWritev(&piece, 1);
}

ssize_t Socket::TryWritev(const iovec* pieces, int count) {
  if (!error_.ok()) return kIoError;
  if (ssl_ != nullptr) {
    ERR_clear_error();
    errno = 0;
    int n =
        SSL_write(ssl_, pieces[0].iov_base, static_cast<int>(std::min<size_t>(pieces[0].iov_len, 1 << 30)));
    return n > 0 ? n : SslResult(n, false);
  }
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(pieces);
  message.msg_iovlen = static_cast<size_t>(count);
  ssize_t n = ::sendmsg(descriptor_.native_handle(), &message, MSG_NOSIGNAL);
  return n >= 0 ? n : Errno(errno);
}

void Socket::ArmRead() {
  if (read_armed_ || !descriptor_.is_open()) return;
  read_armed_ = true;
  descriptor_.async_wait(asio::posix::descriptor_base::wait_read, [self = shared_from_this()](error_code) {
    self->read_armed_ = false;
    if (self->on_readable_ && self->descriptor_.is_open()) self->on_readable_();
    self->readable_.Set();
  });
}

void Socket::ArmWrite() {
  if (write_armed_ || !descriptor_.is_open()) return;
  write_armed_ = true;
  descriptor_.async_wait(asio::posix::descriptor_base::wait_write, [self = shared_from_this()](error_code) {
    self->write_armed_ = false;
    self->writable_.Set();
  });
}

Task<void> Socket::WaitReadable() {
  if (closed() || !error_.ok()) co_return;
  bool other = read_wants_write_;
  read_wants_write_ = false;
  AsyncEvent* event = other ? &writable_ : &readable_;
  event->Reset();
  if (other) {
    ArmWrite();
  } else {
    ArmRead();
  }
  Task<void> wait = event->Wait();
  co_await std::move(wait);
}

Task<void> Socket::WaitWritable() {
  if (closed() || !error_.ok()) co_return;
  bool other = write_wants_read_;
  write_wants_read_ = false;
  AsyncEvent* event = other ? &readable_ : &writable_;
  event->Reset();
  if (other) {
    ArmRead();
  } else {
    ArmWrite();
  }
  Task<void> wait = event->Wait();
  co_await std::move(wait);
}

bool Socket::has_pending() const { return ssl_ != nullptr && SSL_has_pending(ssl_) == 1; }

Task<absl::Status> Socket::Handshake() {
  auto self = shared_from_this();
  while (true) {
    if (!error_.ok()) co_return error_;
    ERR_clear_error();
    errno = 0;
    int result = SSL_do_handshake(ssl_);
    if (result == 1) co_return absl::OkStatus();
    int error_number = errno;
    int error = SSL_get_error(ssl_, result);
    if (error == SSL_ERROR_WANT_READ) {
      Task<void> wait = WaitReadable();
      co_await std::move(wait);
    } else if (error == SSL_ERROR_WANT_WRITE) {
      Task<void> wait = WaitWritable();
      co_await std::move(wait);
    } else {
      long verify = SSL_get_verify_result(ssl_);
      std::string reason;
      if (error == SSL_ERROR_SYSCALL) {
        reason = error_number == 0 ? "closed by the peer" : std::strerror(error_number);
      } else if (verify != X509_V_OK) {
        reason = X509_verify_cert_error_string(verify);
      } else {
        unsigned long code = ERR_peek_last_error();
        const char* text = code == 0 ? nullptr : ERR_reason_error_string(code);
        reason = text == nullptr ? "closed by the peer" : text;
      }
      ERR_clear_error();
      // The peer may still wait for our alert, which SSL_do_handshake has sent.
      co_return absl::UnavailableError(StrCat("TLS handshake: ", reason));
    }
  }
}

Task<absl::Status> Socket::ServerHandshake(std::shared_ptr<TlsServerContext> context) {
  ssl_ = SSL_new(context->native());
  KEELSON_CHECK(ssl_ != nullptr, "SSL_new");
  context_ = context;
  AttachBio(ssl_, descriptor_.native_handle());
  SSL_set_accept_state(ssl_);
  return Handshake();
}

Task<absl::Status> Socket::ClientHandshake(std::shared_ptr<TlsClientContext> context,
                                           std::string server_name) {
  ssl_ = SSL_new(context->native());
  KEELSON_CHECK(ssl_ != nullptr, "SSL_new");
  context_ = context;
  AttachBio(ssl_, descriptor_.native_handle());
  SSL_set_connect_state(ssl_);
  X509_VERIFY_PARAM* param = SSL_get0_param(ssl_);
  if (IpAddress::Parse(server_name).ok()) {
    X509_VERIFY_PARAM_set1_ip_asc(param, server_name.c_str());
  } else if (!server_name.empty()) {
    SSL_set_tlsext_host_name(ssl_, server_name.c_str());
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    X509_VERIFY_PARAM_set1_host(param, server_name.data(), server_name.size());
  }
  return Handshake();
}

std::shared_ptr<const PeerCertificate> Socket::PeerCert() const {
  if (ssl_ == nullptr) return nullptr;
  X509* certificate = SSL_get0_peer_certificate(ssl_);
  if (certificate == nullptr) return nullptr;
  auto out = std::make_shared<PeerCertificate>();
  const X509_NAME* subject = X509_get_subject_name(certificate);
  out->common_name = SubjectCommonName(subject);
  out->organizations = SubjectOrganizations(subject);
  out->fingerprint_sha256 = FingerprintSha256(certificate);
  out->not_after = TimeOf(X509_get0_notAfter(certificate));
  long verify = SSL_get_verify_result(ssl_);
  out->verified = verify == X509_V_OK;
  if (!out->verified) out->verify_error = X509_verify_cert_error_string(verify);
  return out;
}

void Socket::ShutdownWrite() {
  if (closed()) return;
  if (ssl_ != nullptr && SSL_is_init_finished(ssl_) == 1) {
    ERR_clear_error();
    SSL_shutdown(ssl_);
    ERR_clear_error();
  }
  ::shutdown(descriptor_.native_handle(), SHUT_WR);
}

void Socket::Fail(absl::Status reason) {
  if (error_.ok()) {
    if (ssl_ != nullptr && !closed() && SSL_is_init_finished(ssl_) == 1) {
      ERR_clear_error();
      SSL_shutdown(ssl_);  // best effort; the socket buffer may be full
      ERR_clear_error();
    }
    error_ = std::move(reason);
  }
  on_readable_ = nullptr;
  if (!closed()) {
    error_code ignored;
    descriptor_.close(ignored);
  }
  readable_.Set();
  writable_.Set();
}

// ---- InputBuffer ----

void InputBuffer::Reserve(size_t want) {
  if (data_.size() - end_ >= want) return;
  if (begin_ > 0) {
    std::memmove(data_.data(), data_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  if (data_.size() - end_ < want)
    data_.resize(std::max(end_ + want, std::min<size_t>(data_.size() * 2, 1 << 20)));
}

ssize_t InputBuffer::FillFrom(Socket* socket, size_t want) {
  Reserve(want);
  ssize_t n = socket->TryRead(data_.data() + end_, data_.size() - end_);
  if (n > 0) end_ += static_cast<size_t>(n);
  return n;
}

void InputBuffer::Append(std::string_view bytes) {
  Reserve(bytes.size());
  std::memcpy(data_.data() + end_, bytes.data(), bytes.size());
  end_ += bytes.size();
}

void InputBuffer::Shrink() {
  if (empty() && data_.size() > kSmallInputBytes) {
    data_ = std::string();
    begin_ = end_ = 0;
  }
}

// ---- ByteStream over a socket ----

Task<absl::Status> WriteAll(std::shared_ptr<Socket> socket, std::string_view data) {
  while (!data.empty()) {
    ssize_t n = socket->TryWrite(data);
    if (n > 0) {
      data.remove_prefix(static_cast<size_t>(n));
    } else if (n == kWouldBlock) {
      Task<void> wait = socket->WaitWritable();
      co_await std::move(wait);
    } else {
      co_return socket->error();
    }
  }
  co_return absl::OkStatus();
}

namespace {

class SocketStream : public ByteStream {
 public:
  SocketStream(SocketOwner socket, std::string early)
      : socket_(std::move(socket)), early_(std::move(early)) {}

  Task<absl::StatusOr<size_t>> Read(char* buffer, size_t size) override {
    if (!early_.empty()) {
      size_t n = std::min(size, early_.size());
      std::memcpy(buffer, early_.data(), n);
      early_.erase(0, n);
      co_return n;
    }
    std::shared_ptr<Socket> socket = socket_.shared();
    if (++reads_ % kReadsBeforeYield == 0) {
      auto yield = asio::post(socket->executor(), asio::use_awaitable);
      co_await std::move(yield);
    }
    while (true) {
      ssize_t n = socket->TryRead(buffer, size);
      if (n >= 0) co_return static_cast<size_t>(n);
      if (n == kIoError) co_return socket->error();
      Task<void> wait = socket->WaitReadable();
      co_await std::move(wait);
      reads_ = 0;
    }
  }

  Task<absl::Status> Write(std::string_view data) override { return WriteAll(socket_.shared(), data); }

  Task<absl::Status> CloseWrite() override {
    socket_->ShutdownWrite();
    co_return absl::OkStatus();
  }

  void Close() override { socket_->Close(); }

 private:
  SocketOwner socket_;
  std::string early_;
  size_t reads_ = 0;
};

}  // namespace

std::unique_ptr<ByteStream> MakeSocketStream(SocketOwner socket, std::string early) {
  return std::make_unique<SocketStream>(std::move(socket), std::move(early));
}

namespace {

// Fails a socket when the time is over; forgets it when destroyed.
class ConnectTimer {
 public:
  ConnectTimer(Clock* clock, absl::Duration timeout, std::shared_ptr<Socket> socket) : clock_(clock) {
    id_ = clock->Schedule(timeout, [socket = std::move(socket)] {
      socket->Fail(absl::DeadlineExceededError("connection timed out"));
    });
  }
  ~ConnectTimer() { clock_->CancelTimer(id_); }

 private:
  Clock* clock_;
  uint64_t id_;
};

}  // namespace

Task<absl::StatusOr<SocketOwner>> ConnectSocket(Executor executor, std::string sockaddr_bytes, Clock* clock,
                                                absl::Duration timeout) {
  const sockaddr* address = reinterpret_cast<const sockaddr*>(sockaddr_bytes.data());
  Fd fd(::socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) co_return ErrnoStatus(errno, "socket");
  if (address->sa_family != AF_UNIX) {
    int on = 1;
    ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    ::setsockopt(fd.get(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    int idle_s = 30;
    ::setsockopt(fd.get(), IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
    ::setsockopt(fd.get(), IPPROTO_TCP, TCP_KEEPINTVL, &idle_s, sizeof idle_s);
  }
  int result = ::connect(fd.get(), address, static_cast<socklen_t>(sockaddr_bytes.size()));
  if (result != 0 && errno != EINPROGRESS) {
    co_return absl::UnavailableError(StrCat("connect: ", std::strerror(errno)));
  }
  bool pending = result != 0;
  SocketOwner socket(Socket::Make(executor, std::move(fd)));
  if (pending) {
    ConnectTimer timer(clock, timeout, socket.shared());
    Task<void> wait = socket->WaitWritable();
    co_await std::move(wait);
    if (!socket->error().ok()) co_return socket->error();
    int error_number = 0;
    socklen_t size = sizeof error_number;
    ::getsockopt(socket->fd(), SOL_SOCKET, SO_ERROR, &error_number, &size);
    if (error_number != 0) co_return absl::UnavailableError(StrCat("connect: ", std::strerror(error_number)));
  }
  co_return std::move(socket);
}

}  // namespace keelson::net
