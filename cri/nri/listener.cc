#include "cri/nri/listener.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "base/fd.h"
#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"
#include "net/socket.h"

namespace keelson::cri::nri {

namespace {

constexpr int kBacklog = 16;
// When there are no descriptors left, or memory.
constexpr absl::Duration kAcceptPause = absl::Seconds(1);

// Removes a socket that nobody serves.
absl::Status ClearPath(const std::string& path, const sockaddr_un& address) {
  struct stat info;
  if (::lstat(path.c_str(), &info) != 0) return absl::OkStatus();
  if (!S_ISSOCK(info.st_mode)) return absl::FailedPreconditionError(StrCat(path, ": it is no socket"));
  Fd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!probe.valid()) return ErrnoStatus(errno, "socket");
  if (::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 ||
      errno == EAGAIN) {
    return absl::AlreadyExistsError(StrCat(path, ": another runtime listens there"));
  }
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) return ErrnoStatus(errno, StrCat("remove ", path));
  return absl::OkStatus();
}

absl::Status PrepareFolder(const std::string& folder) {
  RETURN_IF_ERROR(MakeDirs(folder, 0700));
  struct stat info;
  if (::stat(folder.c_str(), &info) != 0) return ErrnoStatus(errno, StrCat("stat ", folder));
  if (info.st_uid != ::geteuid() || (info.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    return absl::FailedPreconditionError(StrCat(
        folder,
        ": others than root can write there, and plugins would find a socket of theirs: choose another "
        "folder, or chown root it and chmod go-w it"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckSocketPath(const std::string& path) {
  if (!path.starts_with('/') || path.ends_with('/') || path.find('\0') != std::string::npos) {
    return absl::InvalidArgumentError(StrCat("\"", path, "\": want the absolute path of a socket"));
  }
  if (path.size() <= kMaxSocketPathBytes) return absl::OkStatus();
  return absl::InvalidArgumentError(
      StrCat(path, ": the path of a Unix socket ends at ", kMaxSocketPathBytes, " bytes"));
}

absl::StatusOr<std::unique_ptr<Listener>> Listener::Open(Env* env, const std::string& path) {
  RETURN_IF_ERROR(CheckSocketPath(path));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, path.size());
  RETURN_IF_ERROR(PrepareFolder(path.substr(0, std::max<size_t>(path.rfind('/'), 1))));
  RETURN_IF_ERROR(ClearPath(path, address));
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return ErrnoStatus(errno, "socket");
  // The mode of the socket is that of its file from the first moment on.
  if (::fchmod(fd.get(), 0600) != 0 ||
      ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::chmod(path.c_str(), 0600) != 0 || ::listen(fd.get(), kBacklog) != 0) {
    return ErrnoStatus(errno, StrCat("listen on ", path));
  }
  return std::unique_ptr<Listener>(
      new Listener(env, path, net::Socket::Make(env->executor(), std::move(fd))));
}

Listener::~Listener() {
  socket_->Close();
  ::unlink(path_.c_str());
}

Task<void> Listener::Run(std::function<void(std::unique_ptr<net::ByteStream>)> connected) {
  while (!socket_->closed()) {
    Fd fd(::accept4(socket_->fd(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (fd.valid()) {
      connected(
          net::MakeSocketStream(net::SocketOwner(net::Socket::Make(env_->executor(), std::move(fd))), ""));
      continue;
    }
    if (errno == EINTR || errno == ECONNABORTED) continue;
    if (errno == EAGAIN) {
      Task<void> wait = socket_->WaitReadable();
      co_await std::move(wait);
      continue;
    }
    LogError("nri plugins cannot connect for a while", {{"error", ErrnoStatus(errno, "accept")}});
    Task<void> nap = env_->clock().Sleep(kAcceptPause);
    co_await std::move(nap);
  }
}

}  // namespace keelson::cri::nri
