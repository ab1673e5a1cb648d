#include "net/http_client.h"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cstring>
#include <list>
#include <map>
#include <optional>
#include <vector>

#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"
#include "net/address.h"
#include "net/http_parser.h"
#include "net/socket.h"

namespace keelson::net {

namespace {

constexpr size_t kResponseReadBytes = 16 << 10;
// Bodies up to this size travel in one write with the head.
constexpr size_t kInlineBodyBytes = 16 << 10;
constexpr int kMaxInterimResponses = 8;
constexpr size_t kMaxAddressesTried = 8;

using SockaddrBytes = std::string;

SockaddrBytes TcpSockaddr(const IpAddress& address, uint16_t port) {
  std::string bytes = address.ToBytes();
  if (address.is_v4()) {
    sockaddr_in v4{};
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
    std::memcpy(&v4.sin_addr, bytes.data(), 4);
    return SockaddrBytes(reinterpret_cast<const char*>(&v4), sizeof v4);
  }
  sockaddr_in6 v6{};
  v6.sin6_family = AF_INET6;
  v6.sin6_port = htons(port);
  std::memcpy(&v6.sin6_addr, bytes.data(), 16);
  return SockaddrBytes(reinterpret_cast<const char*>(&v6), sizeof v6);
}

absl::StatusOr<std::vector<SockaddrBytes>> ResolveBlocking(const std::string& host, uint16_t port) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_ADDRCONFIG;
  addrinfo* list = nullptr;
  int error = ::getaddrinfo(host.c_str(), nullptr, &hints, &list);
  if (error == EAI_NONAME || error == EAI_NODATA) {
    hints.ai_flags = 0;  // a host with only loopback has no "configured" address
    error = ::getaddrinfo(host.c_str(), nullptr, &hints, &list);
  }
  if (error != 0) return absl::UnavailableError(StrCat("resolve ", host, ": ", ::gai_strerror(error)));
  std::vector<SockaddrBytes> out;
  for (addrinfo* entry = list; entry != nullptr && out.size() < kMaxAddressesTried; entry = entry->ai_next) {
    if (entry->ai_family != AF_INET && entry->ai_family != AF_INET6) continue;
    SockaddrBytes bytes(reinterpret_cast<const char*>(entry->ai_addr), entry->ai_addrlen);
    uint16_t net_port = htons(port);  // at the same offset in both families
    std::memcpy(bytes.data() + offsetof(sockaddr_in, sin_port), &net_port, sizeof net_port);
    out.push_back(std::move(bytes));
  }
  ::freeaddrinfo(list);
  if (out.empty()) return absl::UnavailableError(StrCat("resolve ", host, ": no address"));
  return out;
}

Task<absl::StatusOr<std::vector<SockaddrBytes>>> Addresses(Env* env, HttpEndpoint endpoint) {
  std::vector<SockaddrBytes> out;
  if (!endpoint.unix_path.empty()) {
    sockaddr_un address{};
    if (endpoint.unix_path.size() >= sizeof address.sun_path) {
      co_return absl::InvalidArgumentError(StrCat("unix socket path over 107 bytes: ", endpoint.unix_path));
    }
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, endpoint.unix_path.data(), endpoint.unix_path.size());
    out.emplace_back(reinterpret_cast<const char*>(&address), sizeof address);
    co_return out;
  }
  auto literal = IpAddress::Parse(endpoint.host);
  if (literal.ok()) {
    out.push_back(TcpSockaddr(*literal, endpoint.port));
    co_return out;
  }
  using Result = absl::StatusOr<std::vector<SockaddrBytes>>;
  absl::AnyInvocable<Result()> work = [host = endpoint.host, port = endpoint.port] {
    return ResolveBlocking(host, port);
  };
  Task<Result> resolve = env->Blocking<Result>(std::move(work));
  Result result = co_await std::move(resolve);
  co_return result;
}

std::string EndpointName(const HttpEndpoint& endpoint) {
  return endpoint.unix_path.empty() ? JoinHostPort(endpoint.host, endpoint.port) : endpoint.unix_path;
}

// Fails a socket when the time is over; forgets it when destroyed.
class SocketDeadline {
 public:
  SocketDeadline(Clock* clock, absl::Duration after, std::shared_ptr<Socket> socket, const char* what)
      : clock_(clock) {
    if (after == absl::InfiniteDuration()) return;
    id_ = clock->Schedule(
        after, [socket = std::move(socket), what] { socket->Fail(absl::DeadlineExceededError(what)); });
  }
  SocketDeadline(const SocketDeadline&) = delete;
  SocketDeadline& operator=(const SocketDeadline&) = delete;
  ~SocketDeadline() {
    if (id_ != 0) clock_->CancelTimer(id_);
  }

 private:
  Clock* clock_;
  uint64_t id_ = 0;
};

// Asks a proxy for a tunnel to the endpoint; the socket then speaks to the endpoint itself.
Task<absl::Status> OpenTunnel(std::shared_ptr<Socket> socket, HttpEndpoint endpoint) {
  std::string target = JoinHostPort(endpoint.host, endpoint.port);
  std::string head = StrCat("CONNECT ", target, " HTTP/1.1\r\nHost: ", target, "\r\n");
  if (!endpoint.proxy_authorization.empty()) {
    StrAppend(&head, "Proxy-Authorization: ", endpoint.proxy_authorization, "\r\n");
  }
  head += "\r\n";
  Task<absl::Status> write = WriteAll(socket, head);
  absl::Status status = co_await std::move(write);
  if (!status.ok()) co_return status;
  // An answer to CONNECT has no body, as one to HEAD.
  ResponseParser parser(ParserLimits(), /*head_request=*/true);
  InputBuffer input;
  while (parser.state() == ResponseParser::State::kHeaders) {
    ssize_t n = input.FillFrom(socket.get(), kResponseReadBytes);
    if (n == 0) co_return absl::UnavailableError("the proxy closed the connection");
    if (n == kIoError) co_return socket->error();
    if (n == kWouldBlock) {
      Task<void> wait = socket->WaitReadable();
      co_await std::move(wait);
      continue;
    }
    input.Consume(parser.Put(input.view()));
  }
  if (parser.state() == ResponseParser::State::kError) {
    co_return absl::UnavailableError(StrCat("the proxy's answer: ", parser.error_message()));
  }
  if (parser.status() / 100 != 2) {
    co_return absl::UnavailableError(StrCat("the proxy refused the tunnel with ", parser.status()));
  }
  if (!input.empty()) co_return absl::UnavailableError("the proxy sent bytes nobody asked for");
  co_return absl::OkStatus();
}

Task<absl::StatusOr<SocketOwner>> Dial(Env* env, HttpEndpoint endpoint, absl::Duration timeout) {
  std::string name = EndpointName(endpoint);
  absl::Duration deadline = env->clock().Monotonic() + timeout;
  HttpEndpoint first = endpoint;
  if (!endpoint.proxy_host.empty()) {
    first.host = endpoint.proxy_host;
    first.port = endpoint.proxy_port;
    name = StrCat(name, " through proxy ", EndpointName(first));
  }
  auto resolve = Addresses(env, first);
  auto addresses = co_await std::move(resolve);
  if (!addresses.ok()) co_return addresses.status();
  absl::Status last = absl::UnavailableError("no address");
  for (const SockaddrBytes& address : *addresses) {
    absl::Duration left = deadline - env->clock().Monotonic();
    if (left <= absl::ZeroDuration()) {
      last = absl::DeadlineExceededError("connection timed out");
      break;
    }
    auto dial = ConnectSocket(env->executor(), address, &env->clock(), left);
    auto connected = co_await std::move(dial);
    if (!connected.ok()) {
      last = connected.status();
      continue;
    }
    SocketOwner socket = *std::move(connected);
    if (endpoint.tls == nullptr) co_return std::move(socket);
    SocketDeadline timer(&env->clock(), deadline - env->clock().Monotonic(), socket.shared(),
                         "TLS handshake timed out");
    if (!endpoint.proxy_host.empty()) {
      auto tunnel = OpenTunnel(socket.shared(), endpoint);
      absl::Status opened = co_await std::move(tunnel);
      if (!opened.ok()) {
        last = opened;
        continue;
      }
    }
    std::string server_name = endpoint.tls_server_name.empty() ? endpoint.host : endpoint.tls_server_name;
    auto handshake = socket->ClientHandshake(endpoint.tls, std::move(server_name));
    absl::Status status = co_await std::move(handshake);
    if (status.ok()) co_return std::move(socket);
    last = status;
  }
  co_return Annotate(last, StrCat("connect to ", name));
}

bool ValidFieldValue(std::string_view value) {
  return value.find_first_of(std::string_view("\r\n\0", 3)) == std::string_view::npos;
}

absl::Status CheckRequest(const HttpClientRequest& request) {
  for (char c : request.target) {
    if (static_cast<unsigned char>(c) <= ' ' || c == 0x7f) {
      return absl::InvalidArgumentError("HTTP request target: space or control byte");
    }
  }
  if (request.method.empty() || !std::all_of(request.method.begin(), request.method.end(),
                                             [](char c) { return c >= 'A' && c <= 'Z'; })) {
    return absl::InvalidArgumentError("HTTP request method: must be upper-case letters");
  }
  for (const auto& [name, value] : request.headers) {
    if (name.empty() || name.find_first_of(" :\t") != std::string::npos || !ValidFieldValue(name) ||
        !ValidFieldValue(value)) {
      return absl::InvalidArgumentError(StrCat("HTTP header ", name, ": line break or bad name"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

HttpEndpoint HttpEndpoint::FromUrl(const HttpUrl& url, std::shared_ptr<TlsClientContext> tls) {
  HttpEndpoint out;
  out.host = url.host;
  out.port = url.port;
  if (url.tls) out.tls = std::move(tls);
  return out;
}

// ---- the pool ----

struct HttpClient::Impl : std::enable_shared_from_this<HttpClient::Impl> {
  struct Idle {
    SocketOwner socket;
    absl::Duration since;
  };
  struct Pool {
    std::list<Idle> idle;  // newest first
    size_t open = 0;       // idle and in use
    WaitList waiters;
  };

  Impl(Env* env_in, HttpClientOptions options_in) : env(env_in), options(std::move(options_in)) {}

  Pool& PoolOf(const std::string& key) {
    std::unique_ptr<Pool>& pool = pools[key];
    if (pool == nullptr) pool = std::make_unique<Pool>();
    return *pool;
  }
  void SchedulePrune();
  void Prune();

  Env* env;
  HttpClientOptions options;
  std::map<std::string, std::unique_ptr<Pool>> pools;
  bool prune_scheduled = false;
  bool destroyed = false;
  HttpClientStats stats;
};

namespace {

// One connection in use; without GiveBack it is closed.
class Lease {
 public:
  Lease() = default;
  Lease(std::shared_ptr<HttpClient::Impl> client, std::string key)
      : client_(std::move(client)), key_(std::move(key)) {
    ++client_->PoolOf(key_).open;
    ++client_->stats.open;
  }
  Lease(Lease&&) noexcept = default;
  Lease& operator=(Lease&& other) noexcept {
    Drop();
    client_ = std::move(other.client_);
    key_ = std::move(other.key_);
    socket = std::move(other.socket);
    reused = other.reused;
    return *this;
  }
  ~Lease() { Drop(); }

  void GiveBack() {
    if (client_ == nullptr) return;
    auto& pool = client_->PoolOf(key_);
    if (client_->destroyed || socket->closed() || socket->has_pending() ||
        pool.idle.size() >= client_->options.max_idle_per_endpoint) {
      Drop();
      return;
    }
    pool.idle.push_front({std::move(socket), client_->env->clock().Monotonic()});
    ++client_->stats.idle;
    client_->SchedulePrune();
    pool.waiters.NotifyOne();
    client_.reset();
  }
  // An upgraded connection: no longer the pool's.
  SocketOwner Detach() {
    SocketOwner out = std::move(socket);
    Drop();
    return out;
  }

  SocketOwner socket;
  bool reused = false;

 private:
  void Drop() {
    socket.reset();
    if (client_ == nullptr) return;
    auto& pool = client_->PoolOf(key_);
    --pool.open;
    --client_->stats.open;
    pool.waiters.NotifyOne();
    client_.reset();
  }

  std::shared_ptr<HttpClient::Impl> client_;
  std::string key_;
};

using ClientPtr = std::shared_ptr<HttpClient::Impl>;

std::string PoolKey(const HttpEndpoint& endpoint) {
  return StrCat(endpoint.unix_path, "|", endpoint.host, "|", static_cast<int>(endpoint.port), "|",
                reinterpret_cast<uintptr_t>(endpoint.tls.get()), "|", endpoint.tls_server_name, "|",
                endpoint.proxy_host, "|", static_cast<int>(endpoint.proxy_port), "|",
                endpoint.proxy_authorization);
}

// An idle connection that still looks alive, taken out of the pool.
std::optional<SocketOwner> TakeIdle(const ClientPtr& client, HttpClient::Impl::Pool* pool) {
  while (!pool->idle.empty()) {
    SocketOwner socket = std::move(pool->idle.front().socket);
    pool->idle.pop_front();
    --client->stats.idle;
    char byte;
    if (socket->TryRead(&byte, 1) == kWouldBlock) return socket;
    // Closed by the server, or bytes nobody asked for.
    socket.reset();
    --pool->open;
    --client->stats.open;
  }
  return std::nullopt;
}

Task<absl::StatusOr<Lease>> Acquire(ClientPtr client, HttpEndpoint endpoint, absl::Duration deadline,
                                    bool fresh) {
  std::string key = PoolKey(endpoint);
  Clock& clock = client->env->clock();
  while (true) {
    if (client->destroyed) co_return absl::UnavailableError("HTTP client closed");
    auto& pool = client->PoolOf(key);
    std::optional<SocketOwner> idle;
    if (!fresh) idle = TakeIdle(client, &pool);
    if (idle.has_value()) {
      Lease lease(client, key);
      --pool.open;  // it was counted while idle
      --client->stats.open;
      lease.socket = *std::move(idle);
      lease.reused = true;
      ++client->stats.reused_total;
      co_return std::move(lease);
    }
    if (pool.open < client->options.max_connections_per_endpoint) break;
    absl::Duration left = deadline - clock.Monotonic();
    if (left <= absl::ZeroDuration()) {
      co_return absl::DeadlineExceededError(StrCat("waiting for a connection to ", EndpointName(endpoint)));
    }
    uint64_t timer = 0;
    if (left != absl::InfiniteDuration()) {
      timer = clock.Schedule(left, [client, key] { client->PoolOf(key).waiters.NotifyAll(); });
    }
    Task<void> wait = pool.waiters.Wait();
    co_await std::move(wait);
    if (timer != 0) clock.CancelTimer(timer);
  }
  Lease lease(client, key);
  absl::Duration timeout = std::min(client->options.connect_timeout, deadline - clock.Monotonic());
  auto dial = Dial(client->env, std::move(endpoint), timeout);
  auto socket = co_await std::move(dial);
  if (!socket.ok()) co_return socket.status();
  ++client->stats.connects_total;
  lease.socket = *std::move(socket);
  co_return std::move(lease);
}

std::string RequestHead(const HttpClientOptions& options, const HttpEndpoint& endpoint,
                        const HttpClientRequest& request) {
  std::string out;
  out.reserve(512);
  bool by_proxy = !endpoint.proxy_host.empty() && endpoint.tls == nullptr;
  StrAppend(&out, request.method, " ");
  if (by_proxy) StrAppend(&out, "http://", JoinHostPort(endpoint.host, endpoint.port));
  StrAppend(&out, request.target, " HTTP/1.1\r\n");
  if (by_proxy && !endpoint.proxy_authorization.empty()) {
    StrAppend(&out, "Proxy-Authorization: ", endpoint.proxy_authorization, "\r\n");
  }
  if (!request.headers.Has("Host")) {
    std::string host = endpoint.host.empty() ? "localhost" : endpoint.host;
    bool default_port = endpoint.port == 0 || endpoint.port == (endpoint.tls != nullptr ? 443 : 80);
    if (default_port && host.find(':') != std::string::npos) host = StrCat("[", host, "]");
    StrAppend(&out, "Host: ", default_port ? host : JoinHostPort(host, endpoint.port), "\r\n");
  }
  if (!options.user_agent.empty() && !request.headers.Has("User-Agent")) {
    StrAppend(&out, "User-Agent: ", options.user_agent, "\r\n");
  }
  for (const auto& [name, value] : request.headers) StrAppend(&out, name, ": ", value, "\r\n");
  if (request.body != nullptr || request.method == "POST" || request.method == "PUT" ||
      request.method == "PATCH") {
    StrAppend(&out, "Content-Length: ", request.body == nullptr ? size_t{0} : request.body->size(), "\r\n");
  }
  out += "\r\n";
  return out;
}

Task<absl::Status> WriteRequest(std::shared_ptr<Socket> socket, std::string head, SharedBytes body) {
  bool separate = body != nullptr && body->size() > kInlineBodyBytes;
  if (body != nullptr && !separate) head += *body;
  Task<absl::Status> write = WriteAll(socket, head);
  absl::Status status = co_await std::move(write);
  if (!status.ok() || !separate) co_return status;
  Task<absl::Status> write_body = WriteAll(socket, *body);
  status = co_await std::move(write_body);
  co_return status;
}

// Connection, parser and unparsed input of one exchange.
class Exchange : public HttpResponseStream {
 public:
  Exchange(Clock* clock, Lease lease, ParserLimits limits, bool head_request)
      : clock_(clock), lease_(std::move(lease)), limits_(limits), head_request_(head_request) {}

  int status() const override { return parser_->status(); }
  const HttpHeaders& headers() const override { return parser_->headers(); }

  // Until the final response's head is there. `got_bytes`: the server had begun to answer.
  Task<absl::Status> ReadHead(bool* got_bytes) {
    std::shared_ptr<Socket> socket = lease_.socket.shared();
    for (int interim = 0; interim <= kMaxInterimResponses; ++interim) {
      parser_ = std::make_unique<ResponseParser>(limits_, head_request_);
      while (parser_->state() == ResponseParser::State::kHeaders) {
        if (!input_.empty()) {
          *got_bytes = true;
          input_.Consume(parser_->Put(input_.view()));
          if (parser_->state() != ResponseParser::State::kHeaders) break;
        }
        Task<absl::Status> fill = Fill(socket);
        absl::Status status = co_await std::move(fill);
        if (!status.ok()) co_return status;
        if (eof_ && parser_->state() == ResponseParser::State::kHeaders) {
          co_return absl::UnavailableError("connection closed before the response");
        }
      }
      if (parser_->state() == ResponseParser::State::kError)
        co_return absl::InternalError(parser_->error_message());
      if (parser_->status() >= 200 || parser_->status() == 101) co_return absl::OkStatus();
    }
    co_return absl::InternalError("too many interim responses");
  }

  Task<absl::StatusOr<std::string>> Read(absl::Duration idle_timeout) override {
    std::shared_ptr<Socket> socket = lease_.socket.shared();
    std::optional<SocketDeadline> deadline;
    while (true) {
      if (!input_.empty() && parser_->state() == ResponseParser::State::kBody) {
        input_.Consume(parser_->Put(input_.view()));
      }
      if (!parser_->body().empty()) {
        std::string out = std::move(parser_->body());
        parser_->body().clear();
        Finish();
        co_return out;
      }
      if (parser_->state() == ResponseParser::State::kError) {
        lease_ = Lease();
        co_return absl::UnavailableError(parser_->error_message());
      }
      if (parser_->state() == ResponseParser::State::kDone) {
        Finish();
        co_return std::string();
      }
      if (socket == nullptr) co_return absl::UnavailableError("response stream is dead");
      if (!deadline.has_value())
        deadline.emplace(clock_, idle_timeout, socket, "no data within the idle timeout");
      Task<absl::Status> fill = Fill(socket);
      absl::Status status = co_await std::move(fill);
      if (!status.ok()) {
        lease_ = Lease();
        co_return status;
      }
      if (eof_) parser_->PutEof();
    }
  }

  Task<absl::StatusOr<std::string>> ReadAll(size_t max_bytes, absl::Duration idle_timeout) override {
    std::string out;
    while (true) {
      Task<absl::StatusOr<std::string>> read = Read(idle_timeout);
      absl::StatusOr<std::string> piece = co_await std::move(read);
      if (!piece.ok()) co_return piece.status();
      if (piece->empty()) co_return out;
      if (out.size() + piece->size() > max_bytes) {
        lease_ = Lease();
        co_return absl::ResourceExhaustedError(
            StrCat("response body over the limit of ", max_bytes, " bytes"));
      }
      if (out.empty()) {
        out = *std::move(piece);
      } else {
        out += *piece;
      }
    }
  }

  std::unique_ptr<ByteStream> TakeStream() {
    std::string early(input_.view());
    return MakeSocketStream(lease_.Detach(), std::move(early));
  }
  const std::shared_ptr<Socket>& socket() const { return lease_.socket.shared(); }
  bool reused() const { return lease_.reused; }

 private:
  Task<absl::Status> Fill(std::shared_ptr<Socket> socket) {
    while (true) {
      ssize_t n = input_.FillFrom(socket.get(), kResponseReadBytes);
      if (n > 0) co_return absl::OkStatus();
      if (n == 0) {
        eof_ = true;
        co_return absl::OkStatus();
      }
      if (n == kIoError) co_return socket->error();
      Task<void> wait = socket->WaitReadable();
      co_await std::move(wait);
    }
  }

  // The body has ended: the connection is the pool's again.
  void Finish() {
    if (parser_->state() != ResponseParser::State::kDone || !lease_.socket) return;
    if (parser_->keep_alive() && input_.empty()) {
      lease_.GiveBack();
    } else {
      lease_ = Lease();
    }
  }

  Clock* clock_;
  Lease lease_;
  ParserLimits limits_;
  bool head_request_;
  bool eof_ = false;
  InputBuffer input_;
  std::unique_ptr<ResponseParser> parser_;
};

bool Repeatable(const std::string& method) {
  return method == "GET" || method == "HEAD" || method == "OPTIONS";
}

// Sends the request and reads the response's head.
Task<absl::StatusOr<std::unique_ptr<Exchange>>> Begin(ClientPtr client, HttpEndpoint endpoint,
                                                      HttpClientRequest request, absl::Duration deadline,
                                                      bool upgrade) {
  CO_RETURN_IF_ERROR_SYNC(CheckRequest(request));
  Clock& clock = client->env->clock();
  ParserLimits limits;
  limits.max_header_bytes = client->options.max_header_bytes;
  std::string head = RequestHead(client->options, endpoint, request);
  std::string what =
      StrCat(request.method, " ", EndpointName(endpoint), request.target.substr(0, request.target.find('?')));
  bool fresh = upgrade;
  while (true) {
    Task<absl::StatusOr<Lease>> acquire = Acquire(client, endpoint, deadline, fresh);
    absl::StatusOr<Lease> lease = co_await std::move(acquire);
    if (!lease.ok()) co_return Annotate(lease.status(), what);
    auto exchange = std::make_unique<Exchange>(&clock, *std::move(lease), limits, request.method == "HEAD");
    std::shared_ptr<Socket> socket = exchange->socket();
    SocketDeadline timer(&clock, deadline - clock.Monotonic(), socket, "deadline exceeded");
    Task<absl::Status> write = WriteRequest(socket, head, request.body);
    absl::Status written = co_await std::move(write);
    // A server may answer (413, 401) and close without reading all: look for the answer even so.
    bool got_bytes = false;
    Task<absl::Status> read = exchange->ReadHead(&got_bytes);
    absl::Status status = co_await std::move(read);
    if (status.ok()) co_return std::move(exchange);
    if (!fresh && exchange->reused() && !got_bytes && Repeatable(request.method) &&
        absl::IsUnavailable(status)) {
      fresh = true;
      continue;
    }
    if (!written.ok() && !absl::IsDeadlineExceeded(status)) status = written;
    co_return Annotate(status, what);
  }
}

absl::Duration DeadlineOf(Clock& clock, absl::Duration timeout) {
  if (timeout == absl::ZeroDuration() || timeout == absl::InfiniteDuration()) return absl::InfiniteDuration();
  return clock.Monotonic() + timeout;
}

Task<absl::StatusOr<HttpClientResponse>> DoRequest(ClientPtr client, HttpEndpoint endpoint,
                                                   HttpClientRequest request) {
  Clock& clock = client->env->clock();
  absl::Duration deadline = DeadlineOf(clock, request.timeout);
  auto begin = Begin(client, std::move(endpoint), std::move(request), deadline, false);
  auto exchange = co_await std::move(begin);
  if (!exchange.ok()) co_return exchange.status();
  HttpClientResponse out;
  out.status = (*exchange)->status();
  out.headers = (*exchange)->headers();
  std::optional<SocketDeadline> timer;
  timer.emplace(&clock, deadline - clock.Monotonic(), (*exchange)->socket(), "deadline exceeded");
  auto read = (*exchange)->ReadAll(client->options.max_body_bytes, absl::InfiniteDuration());
  auto body = co_await std::move(read);
  if (!body.ok()) co_return body.status();
  out.body = *std::move(body);
  co_return out;
}

Task<absl::StatusOr<std::unique_ptr<HttpResponseStream>>> OpenRequest(ClientPtr client, HttpEndpoint endpoint,
                                                                      HttpClientRequest request) {
  absl::Duration deadline = DeadlineOf(client->env->clock(), request.timeout);
  auto begin = Begin(client, std::move(endpoint), std::move(request), deadline, false);
  auto exchange = co_await std::move(begin);
  if (!exchange.ok()) co_return exchange.status();
  co_return std::unique_ptr<HttpResponseStream>(*std::move(exchange));
}

Task<absl::StatusOr<HttpUpgrade>> UpgradeRequest(ClientPtr client, HttpEndpoint endpoint,
                                                 HttpClientRequest request) {
  Clock& clock = client->env->clock();
  absl::Duration deadline = DeadlineOf(clock, request.timeout);
  auto begin = Begin(client, std::move(endpoint), std::move(request), deadline, true);
  auto exchange = co_await std::move(begin);
  if (!exchange.ok()) co_return exchange.status();
  HttpUpgrade out;
  out.status = (*exchange)->status();
  out.headers = (*exchange)->headers();
  if (out.status == 101) {
    out.stream = (*exchange)->TakeStream();
    co_return std::move(out);
  }
  std::optional<SocketDeadline> timer;
  timer.emplace(&clock, deadline - clock.Monotonic(), (*exchange)->socket(), "deadline exceeded");
  auto read = (*exchange)->ReadAll(client->options.max_body_bytes, absl::InfiniteDuration());
  auto body = co_await std::move(read);
  if (body.ok()) out.body = *std::move(body);
  co_return std::move(out);
}

Task<absl::StatusOr<std::unique_ptr<ByteStream>>> ConnectStream(Env* env, HttpEndpoint endpoint,
                                                                absl::Duration timeout) {
  auto dial = Dial(env, std::move(endpoint), timeout);
  auto socket = co_await std::move(dial);
  if (!socket.ok()) co_return socket.status();
  co_return MakeSocketStream(*std::move(socket), std::string());
}

}  // namespace

void HttpClient::Impl::SchedulePrune() {
  if (prune_scheduled) return;
  prune_scheduled = true;
  env->clock().Schedule(options.idle_timeout, [weak = weak_from_this()] {
    auto self = weak.lock();
    if (self != nullptr) self->Prune();
  });
}

void HttpClient::Impl::Prune() {
  prune_scheduled = false;
  absl::Duration now = env->clock().Monotonic();
  bool left = false;
  for (auto it = pools.begin(); it != pools.end();) {
    Pool& pool = *it->second;
    while (!pool.idle.empty() && now - pool.idle.back().since >= options.idle_timeout) {
      pool.idle.pop_back();
      --pool.open;
      --stats.idle;
      --stats.open;
    }
    left = left || !pool.idle.empty();
    it = pool.open == 0 && pool.waiters.empty() ? pools.erase(it) : std::next(it);
  }
  if (left) SchedulePrune();
}

HttpClient::HttpClient(Env* env, HttpClientOptions options)
    : impl_(std::make_shared<Impl>(env, std::move(options))) {}

HttpClient::~HttpClient() {
  impl_->destroyed = true;
  CloseIdle();
}

void HttpClient::CloseIdle() {
  for (auto& [key, pool] : impl_->pools) {
    pool->open -= pool->idle.size();
    impl_->stats.open -= pool->idle.size();
    impl_->stats.idle -= pool->idle.size();
    pool->idle.clear();
    pool->waiters.NotifyAll();
  }
}

HttpClientStats HttpClient::stats() const { return impl_->stats; }

Task<absl::StatusOr<HttpClientResponse>> HttpClient::Do(HttpEndpoint endpoint, HttpClientRequest request) {
  return DoRequest(impl_, std::move(endpoint), std::move(request));
}

Task<absl::StatusOr<std::unique_ptr<HttpResponseStream>>> HttpClient::Open(HttpEndpoint endpoint,
                                                                           HttpClientRequest request) {
  return OpenRequest(impl_, std::move(endpoint), std::move(request));
}

Task<absl::StatusOr<HttpUpgrade>> HttpClient::Upgrade(HttpEndpoint endpoint, HttpClientRequest request) {
  return UpgradeRequest(impl_, std::move(endpoint), std::move(request));
}

Task<absl::StatusOr<std::unique_ptr<ByteStream>>> Connect(Env* env, HttpEndpoint endpoint,
                                                          absl::Duration timeout) {
  return ConnectStream(env, std::move(endpoint), timeout);
}

}  // namespace keelson::net
