#include "net/http_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"
#include "net/address.h"
#include "net/http_server_impl.h"
#include "net/proc_ports.h"

namespace keelson::net {

namespace {

constexpr int kListenBacklog = 1024;
constexpr int kAcceptsBeforeYield = 64;
constexpr absl::Duration kAcceptBackoff = absl::Milliseconds(100);  // out of descriptors
// Deadlines are looked at no more often than this.
constexpr absl::Duration kSweepInterval = absl::Milliseconds(500);
constexpr int kKeepaliveIdleS = 30;

std::string PeerAddress(const sockaddr_storage& storage) {
  char text[INET6_ADDRSTRLEN] = "";
  if (storage.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(storage);
    ::inet_ntop(AF_INET, &v4.sin_addr, text, sizeof text);
    return JoinHostPort(text, ntohs(v4.sin_port));
  }
  if (storage.ss_family == AF_INET6) {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(storage);
    if (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr)) {
      ::inet_ntop(AF_INET, v6.sin6_addr.s6_addr + 12, text, sizeof text);
    } else {
      ::inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof text);
    }
    return JoinHostPort(text, ntohs(v6.sin6_port));
  }
  return "unix";
}

void SetTcpOptions(int fd) {
  int on = 1;
  int idle_s = kKeepaliveIdleS;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  ::setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  ::setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
  ::setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &idle_s, sizeof idle_s);
}

Task<void> AcceptLoop(std::shared_ptr<HttpServer::Impl> server, HttpServer::Impl::Listener* listener) {
  std::shared_ptr<Socket> socket = listener->socket.shared();
  int accepted = 0;
  while (!socket->closed()) {
    sockaddr_storage peer{};
    socklen_t size = sizeof peer;
    int fd = ::accept4(socket->fd(), reinterpret_cast<sockaddr*>(&peer), &size, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) {
      if (peer.ss_family != AF_UNIX) SetTcpOptions(fd);
      server->AddConnection(Fd(fd), listener->tls, PeerAddress(peer));
      if (++accepted % kAcceptsBeforeYield != 0) continue;
    }
    int error_number = fd >= 0 ? EAGAIN : errno;
    if (error_number == EMFILE || error_number == ENFILE || error_number == ENOBUFS ||
        error_number == ENOMEM) {
      LogWarning("cannot accept connections",
                 {{"server", server->options.name}, {"error", std::strerror(error_number)}});
      Task<void> sleep = server->clock->Sleep(kAcceptBackoff);
      co_await std::move(sleep);
    } else if (error_number == EAGAIN) {
      Task<void> wait = socket->WaitReadable();
      co_await std::move(wait);
    }
  }
}

// Destroys connections whose task has ended: a Scope may only go when it is empty.
Task<void> Reap(std::shared_ptr<HttpServer::Impl> server) {
  while (true) {
    Task<void> wait = server->ended_event.Wait();
    co_await std::move(wait);
    server->ended_event.Reset();
    std::vector<Connection*> ended = std::move(server->ended);
    server->ended.clear();
    for (Connection* connection : ended) {
      Task<void> close = connection->scope().Close();
      co_await std::move(close);
      server->connections.remove_if([&](const auto& c) { return c.get() == connection; });
    }
    server->stats.connections = server->connections.size();
    if (server->connections.empty()) server->connections_empty.Set();
  }
}

}  // namespace

HttpServer::Impl::Impl(Executor executor_in, Clock* clock_in, HttpHandler* handler_in,
                       HttpServerOptions options_in)
    : executor(executor_in),
      clock(clock_in),
      handler(handler_in),
      options(std::move(options_in)),
      scope(executor_in) {
  parser_limits.max_header_bytes = options.max_header_bytes;
  parser_limits.max_headers = options.max_headers;
  parser_limits.max_body_bytes = options.max_body_bytes;
}

void HttpServer::Impl::AddConnection(Fd fd, std::shared_ptr<TlsServerContext> tls_context,
                                     std::string peer_address) {
  ++stats.accepted_total;
  if (closing) return;
  if (connections.size() >= options.max_connections && !EvictIdle()) {
    ++stats.refused_total;
    if (stats.refused_total % 1000 == 1) {
      LogWarning("too many connections", {{"server", options.name}, {"limit", options.max_connections}});
    }
    return;
  }
  connections.push_back(
      std::make_unique<Connection>(this, std::move(fd), std::move(tls_context), std::move(peer_address)));
  stats.connections = connections.size();
  connections.back()->Start();
}

bool HttpServer::Impl::EvictIdle() {
  Connection* oldest = nullptr;
  for (const auto& connection : connections) {
    if (connection->idle() && (oldest == nullptr || connection->idle_since() < oldest->idle_since())) {
      oldest = connection.get();
    }
  }
  if (oldest == nullptr) return false;
  oldest->Cancel();
  return true;
}

void HttpServer::Impl::ConnectionEnded(Connection* connection) {
  ended.push_back(connection);
  ended_event.Set();
}

void HttpServer::Impl::WakeSweepBy(absl::Duration deadline) {
  if (sweep_timer != 0 && sweep_at <= deadline) return;
  if (sweep_timer != 0) clock->CancelTimer(sweep_timer);
  sweep_at = deadline;
  sweep_timer = clock->Schedule(deadline - clock->Monotonic(), [this] {
    sweep_timer = 0;
    Sweep();
  });
}

void HttpServer::Impl::Sweep() {
  absl::Duration now = clock->Monotonic();
  absl::Duration next = absl::InfiniteDuration();
  for (const auto& connection : connections) {
    connection->CheckDeadline(now);
    next = std::min(next, connection->deadline());
  }
  if (next != absl::InfiniteDuration()) WakeSweepBy(std::max(next, now + kSweepInterval));
}

const std::string& HttpServer::Impl::DateHeader() {
  int64_t second = absl::ToUnixSeconds(clock->Now());
  if (second != date_second) {
    date_second = second;
    date_header = absl::FormatTime("Date: %a, %d %b %Y %H:%M:%S GMT\r\n", absl::FromUnixSeconds(second),
                                   absl::UTCTimeZone());
  }
  return date_header;
}

namespace {

void StartListener(const std::shared_ptr<HttpServer::Impl>& impl,
                   std::unique_ptr<HttpServer::Impl::Listener> listener) {
  impl->listeners.push_back(std::move(listener));
  impl->scope.Spawn("http accept", AcceptLoop(impl, impl->listeners.back().get()));
}

}  // namespace

HttpServer::HttpServer(Executor executor, Clock* clock, HttpHandler* handler, HttpServerOptions options)
    : impl_(std::make_shared<Impl>(std::move(executor), clock, handler, std::move(options))) {
  impl_->scope.Spawn("http reaper", Reap(impl_));
}

HttpServer::~HttpServer() { KEELSON_CHECK(impl_->closed, "HttpServer destroyed before Close()"); }

namespace {

absl::Status BindError(int error_number, const std::string& where, uint16_t port) {
  if (error_number != EADDRINUSE) return ErrnoStatus(error_number, StrCat("listen on ", where));
  auto owner = FindPortOwner(port);
  std::string who = owner.ok() && owner->has_value() ? StrCat(" by ", (*owner)->ToString()) : std::string();
  return absl::AlreadyExistsError(
      StrCat("listen on ", where, ": port ", static_cast<int>(port), " is in use", who));
}

}  // namespace

absl::StatusOr<uint16_t> HttpServer::ListenTcp(const TcpListen& listen) {
  ASSIGN_OR_RETURN(IpAddress address, IpAddress::Parse(listen.address));
  sockaddr_storage storage{};
  socklen_t size = 0;
  std::string bytes = address.ToBytes();
  if (address.is_v4()) {
    auto& v4 = reinterpret_cast<sockaddr_in&>(storage);
    v4.sin_family = AF_INET;
    v4.sin_port = htons(listen.port);
    std::memcpy(&v4.sin_addr, bytes.data(), 4);
    size = sizeof v4;
  } else {
    auto& v6 = reinterpret_cast<sockaddr_in6&>(storage);
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(listen.port);
    std::memcpy(&v6.sin6_addr, bytes.data(), 16);
    size = sizeof v6;
  }
  std::string where = JoinHostPort(listen.address, listen.port);
  Fd fd(::socket(storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return ErrnoStatus(errno, StrCat("listen on ", where));
  int on = 1, off = 0;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (listen.reuse_port) ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
  if (address.is_v6()) ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&storage), size) != 0)
    return BindError(errno, where, listen.port);
  if (::listen(fd.get(), kListenBacklog) != 0) return BindError(errno, where, listen.port);
  sockaddr_storage bound{};
  socklen_t bound_size = sizeof bound;
  ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&bound), &bound_size);
  uint16_t port = ntohs(address.is_v4() ? reinterpret_cast<sockaddr_in&>(bound).sin_port
                                        : reinterpret_cast<sockaddr_in6&>(bound).sin6_port);
  auto listener = std::make_unique<Impl::Listener>(impl_->executor, std::move(fd));
  listener->tls = listen.tls;
  StartListener(impl_, std::move(listener));
  return port;
}

absl::Status HttpServer::ListenUnix(const std::string& path, unsigned mode) {
  sockaddr_un address{};
  if (path.size() >= sizeof address.sun_path) {
    return absl::ResourceExhaustedError(StrCat("listen on ", path, ": unix socket paths end at 107 bytes"));
  }
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  struct stat existing;
  if (::lstat(path.c_str(), &existing) == 0 && S_ISSOCK(existing.st_mode)) {
    Fd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (::connect(probe.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 ||
        errno == EAGAIN) {
      return absl::AlreadyExistsError(StrCat("listen on ", path, ": another process listens there"));
    }
    ::unlink(path.c_str());
  }
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return ErrnoStatus(errno, StrCat("listen on ", path));
  // fchmod before bind decides the mode of the file, so that it is never open wider.
  ::fchmod(fd.get(), mode);
  if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      ::chmod(path.c_str(), mode) != 0 || ::listen(fd.get(), kListenBacklog) != 0) {
    return ErrnoStatus(errno, StrCat("listen on ", path));
  }
  auto listener = std::make_unique<Impl::Listener>(impl_->executor, std::move(fd));
  listener->unix_path = path;
  StartListener(impl_, std::move(listener));
  return absl::OkStatus();
}

void HttpServer::Serve(Fd socket, std::shared_ptr<TlsServerContext> tls) {
  impl_->AddConnection(std::move(socket), std::move(tls), "unix");
}

void HttpServer::SetTls(std::shared_ptr<TlsServerContext> tls) {
  for (auto& listener : impl_->listeners) {
    if (listener->tls != nullptr) listener->tls = tls;
  }
}

Task<void> HttpServer::Close() {
  std::shared_ptr<Impl> impl = impl_;
  if (impl->closed) co_return;
  impl->closing = true;
  for (auto& listener : impl->listeners) {
    listener->socket->Close();
    if (!listener->unix_path.empty()) ::unlink(listener->unix_path.c_str());
  }
  for (const auto& connection : impl->connections) connection->BeginClose();
  uint64_t drain = impl->clock->Schedule(impl->options.drain_timeout, [impl] {
    for (const auto& connection : impl->connections) connection->Cancel();
  });
  while (!impl->connections.empty()) {
    impl->connections_empty.Reset();
    Task<void> wait = impl->connections_empty.Wait();
    co_await std::move(wait);
  }
  impl->clock->CancelTimer(drain);
  if (impl->sweep_timer != 0) impl->clock->CancelTimer(impl->sweep_timer);
  impl->sweep_timer = 0;
  Task<void> close = impl->scope.Close();
  co_await std::move(close);
  impl->listeners.clear();
  impl->closed = true;
}

HttpServerStats HttpServer::stats() const { return impl_->stats; }

Task<absl::Status> RecordingResponseWriter::Send(HttpResponse response) {
  status = response.status;
  headers = std::move(response.headers);
  body = response.body.Flatten();
  co_return absl::OkStatus();
}

Task<absl::Status> RecordingResponseWriter::StartStream(int status_in, HttpHeaders headers_in) {
  status = status_in;
  headers = std::move(headers_in);
  co_return absl::OkStatus();
}

Task<absl::Status> RecordingResponseWriter::Write(SharedBytes piece) {
  HttpBody pieces(std::move(piece));
  return WriteBody(std::move(pieces));
}

Task<absl::Status> RecordingResponseWriter::WriteBody(HttpBody pieces_in) {
  if (!next_write.ok()) co_return next_write;
  pieces.push_back(pieces_in.Flatten());
  body += pieces.back();
  co_return absl::OkStatus();
}

Task<absl::StatusOr<std::unique_ptr<ByteStream>>> RecordingResponseWriter::Hijack(int, HttpHeaders) {
  co_return absl::UnimplementedError("RecordingResponseWriter cannot be upgraded");
}

}  // namespace keelson::net
