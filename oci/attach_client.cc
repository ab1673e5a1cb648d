#include "oci/attach_client.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/status.h"
#include "oci/io.h"

namespace keelson::oci {
namespace {

constexpr char kStderrMark = 3;  // first byte of a packet; 2 is stdout

class SeqPacketClient : public AttachClient {
 public:
  SeqPacketClient(Env* env, Fd read_fd, Fd write_fd)
      : env_(env),
        reader_(MakeDescriptor(env, std::move(read_fd))),
        writer_(MakeDescriptor(env, std::move(write_fd))) {}

  Task<absl::StatusOr<std::optional<AttachChunk>>> Read() override { return ReadFrom(env_, reader_); }
  Task<absl::Status> WriteStdin(std::string data) override { return WriteTo(env_, writer_, std::move(data)); }
  void CloseStdin() override { ::shutdown(writer_->native_handle(), SHUT_WR); }

 private:
  static Task<absl::StatusOr<std::optional<AttachChunk>>> ReadFrom(Env* env,
                                                                   std::shared_ptr<Descriptor> socket) {
    std::string packet;
    while (true) {
      packet.resize(kMaxAttachReadBytes);
      ssize_t n = ::recv(socket->native_handle(), packet.data(), packet.size(), MSG_DONTWAIT);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && errno == EAGAIN) {
        CO_RETURN_IF_ERROR(WaitReadable(env, socket, absl::InfiniteDuration()));
        continue;
      }
      if (n <= 0) {
        // A monitor that ends with packets unread resets the connection: the end as well.
        if (n < 0 && errno != ECONNRESET) co_return ErrnoStatus(errno, "read from the attach socket");
        std::optional<AttachChunk> end;
        co_return end;
      }
      if (n == 1) continue;
      AttachChunk chunk;
      chunk.is_stderr = packet[0] == kStderrMark;
      chunk.data = packet.substr(1, static_cast<size_t>(n) - 1);
      std::optional<AttachChunk> out = std::move(chunk);
      co_return out;
    }
  }

  static Task<absl::Status> WriteTo(Env* env, std::shared_ptr<Descriptor> socket, std::string data) {
    size_t done = 0;
    while (done < data.size()) {
      size_t size = std::min(kAttachWriteBytes, data.size() - done);
      ssize_t n = ::send(socket->native_handle(), data.data() + done, size, MSG_DONTWAIT | MSG_NOSIGNAL);
      if (n > 0) {
        done += static_cast<size_t>(n);
      } else if (n < 0 && errno == EAGAIN) {
        CO_RETURN_IF_ERROR(WaitWritable(env, socket, absl::InfiniteDuration()));
      } else if (n < 0 && (errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN)) {
        co_return absl::FailedPreconditionError("write to the container's stdin: it is closed");
      } else if (n < 0 && errno != EINTR) {
        co_return ErrnoStatus(errno, "write to the attach socket");
      }
    }
    co_return absl::OkStatus();
  }

  Env* env_;
  // Two descriptors of one socket, so that a read and a write wait apart.
  std::shared_ptr<Descriptor> reader_, writer_;
};

}  // namespace

Task<absl::StatusOr<std::unique_ptr<AttachClient>>> ConnectAttach(Env* env, std::string socket_path) {
  // By the directory's descriptor: sun_path holds 107 bytes, the path may be longer.
  size_t slash = socket_path.rfind('/');
  if (slash == std::string::npos) co_return absl::InvalidArgumentError("attach socket: not an absolute path");
  CO_ASSIGN_OR_RETURN_SYNC(Fd dir, OpenFile(socket_path.substr(0, slash), O_PATH | O_DIRECTORY));
  std::string path = StrCat("/proc/self/fd/", dir.get(), socket_path.substr(slash));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    co_return absl::InvalidArgumentError("attach socket: name too long");
  std::memcpy(address.sun_path, path.data(), path.size());
  Fd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.valid()) co_return ErrnoStatus(errno, "socket");
  absl::Duration deadline = env->clock().Monotonic() + kAttachConnectTimeout;
  while (::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    if (errno == EINTR) continue;
    if (errno == ECONNREFUSED || errno == ENOENT) {
      co_return absl::NotFoundError("attach: the container has no monitor any more");
    }
    if (errno != EAGAIN) co_return ErrnoStatus(errno, "connect to the attach socket");
    // The monitor's queue of ten connections is full.
    if (env->clock().Monotonic() >= deadline) co_return absl::UnavailableError("attach: the monitor is busy");
    constexpr absl::Duration kRetry = absl::Milliseconds(10);
    Task<void> pause = env->clock().Sleep(kRetry);
    co_await std::move(pause);
  }
  Fd second(::fcntl(socket.get(), F_DUPFD_CLOEXEC, 0));
  if (!second.valid()) co_return ErrnoStatus(errno, "duplicate the attach socket");
  std::unique_ptr<AttachClient> out =
      std::make_unique<SeqPacketClient>(env, std::move(socket), std::move(second));
  co_return out;
}

}  // namespace keelson::oci
