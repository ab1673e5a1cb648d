#include "proxy/dns/server.h"

#include <algorithm>
#include <array>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/udp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <cctype>
#include <list>
#include <map>
#include <tuple>
#include <utility>

#include "base/log.h"
#include "base/strings.h"
#include "proxy/dns/answer.h"
#include "proxy/dns/cache.h"
#include "proxy/dns/upstreams.h"

namespace keelson::proxy::dns {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using asio::ip::udp;
using boost::system::error_code;
using IoResult = std::tuple<error_code, size_t>;

constexpr auto kTuple = asio::as_tuple(asio::use_awaitable);
constexpr absl::Duration kReloadUpstreams = absl::Seconds(10);

asio::ip::address ToAsio(const net::IpAddress& ip) {
  std::string bytes = ip.ToBytes();
  if (ip.is_v6()) {
    asio::ip::address_v6::bytes_type v6;
    std::copy(bytes.begin(), bytes.end(), v6.begin());
    return asio::ip::address_v6(v6);
  }
  asio::ip::address_v4::bytes_type v4;
  std::copy(bytes.begin(), bytes.end(), v4.begin());
  return asio::ip::address_v4(v4);
}

net::IpAddress FromAsio(const asio::ip::address& address) {
  auto from = [](const auto& bytes) {
    return *net::IpAddress::FromBytes(
        std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
  };
  return address.is_v4() ? from(address.to_v4().to_bytes()) : from(address.to_v6().to_bytes());
}

bool SameQuestion(std::string_view query, std::string_view response) {
  // Id, and the question's bytes without regard to case: what a blind forger would have to guess.
  if (response.size() < 12 || query.size() < 12) return false;
  if (query[0] != response[0] || query[1] != response[1] || (response[2] & 0x80) == 0) return false;
  if (response[4] == 0 && response[5] == 0) return true;  // FORMERR without question
  size_t end = 12;
  while (end < query.size() && query[end] != 0) end += 1 + static_cast<uint8_t>(query[end]);
  end += 5;
  if (end > query.size() || end > response.size()) return false;
  auto same = [](char a, char b) {
    return std::tolower(static_cast<uint8_t>(a)) == std::tolower(static_cast<uint8_t>(b));
  };
  return std::equal(query.begin() + 12, query.begin() + static_cast<ptrdiff_t>(end), response.begin() + 12,
                    same);
}

// Cancels a socket's wait when the time is up. Lives on the waiting coroutine's frame.
template <class Socket>
class Deadline {
 public:
  Deadline(Clock& clock, Socket& socket, absl::Duration after) : clock_(clock) {
    timer_ = clock.Schedule(after, [this, &socket] {
      fired_ = true;
      error_code ignored;
      socket.close(ignored);
    });
  }
  ~Deadline() {
    if (!fired_) clock_.CancelTimer(timer_);
  }
  Deadline(const Deadline&) = delete;

 private:
  Clock& clock_;
  uint64_t timer_;
  bool fired_ = false;
};

}  // namespace

struct DnsServer::Impl {
  // One question under way upstream.
  struct Forward {
    AsyncEvent done;
    size_t waiters = 0;
    std::string response;  // "": no resolver answered
  };
  using ForwardPtr = std::shared_ptr<Forward>;

  Impl(Env& e, DnsServerOptions o)
      : env(e),
        options(std::move(o)),
        udp_socket(e.executor()),
        acceptor(e.executor()),
        scope(e.executor()) {}

  Env& env;
  DnsServerOptions options;
  udp::socket udp_socket;
  tcp::acceptor acceptor;
  Scope scope;
  std::shared_ptr<const DnsRecords> records;
  std::vector<net::IpAddress> upstreams;
  absl::Duration upstreams_loaded_at = -absl::InfiniteDuration();
  AnswerCache cache;
  std::map<std::string, ForwardPtr> forwards;
  std::map<net::IpAddress, size_t> forwards_of, tcp_of;
  size_t forwards_live = 0, tcp_live = 0;
  DnsServerStats stats;

  absl::Status Bind();
  bool Allowed(const net::IpAddress& client) const;
  bool HaveUpstreams();
  bool TakeForward(const net::IpAddress& client);
  void ReleaseForward(const net::IpAddress& client);
  void SendUdp(const std::string& wire, const udp::endpoint& to);
  // What to do with a query; counts it.
  DnsReply Decide(std::string_view query, bool is_tcp);

  Task<void> ServeUdp();
  Task<void> ForwardUdp(std::string query, DnsReply reply, udp::endpoint client);
  Task<void> ServeTcp();
  Task<void> ServeConnection(std::shared_ptr<tcp::socket> socket, net::IpAddress client);
  // The whole answer to a query that is not ours alone.
  Task<std::string> Resolve(std::string query, DnsReply reply, bool is_tcp);
  Task<std::string> AskShared(std::string key, std::string query, bool is_tcp);
  Task<std::string> AskUpstreams(std::string query, bool is_tcp);
  Task<std::string> AskUdp(net::IpAddress upstream, std::string query);
  Task<std::string> AskTcp(net::IpAddress upstream, std::string query);
};

absl::Status DnsServer::Impl::Bind() {
  error_code ec;
  auto failed = [&](std::string_view what) {
    std::string message =
        StrCat("dns server: ", what, " ", options.listen.ToString(), ":", options.port, ": ", ec.message());
    if (ec == asio::error::address_in_use) return absl::AlreadyExistsError(message);
    if (ec.value() == EADDRNOTAVAIL) return absl::NotFoundError(message);
    if (ec.value() == EACCES) return absl::PermissionDeniedError(message);
    return absl::InternalError(message);
  };
  udp::endpoint at(ToAsio(options.listen), options.port);
  if (udp_socket.open(at.protocol(), ec); ec) return failed("open UDP");
  if (udp_socket.bind(at, ec); ec) return failed("bind UDP");
  udp_socket.non_blocking(true, ec);
  options.port = udp_socket.local_endpoint(ec).port();
  tcp::endpoint tcp_at(at.address(), options.port);
  if (acceptor.open(tcp_at.protocol(), ec); ec) return failed("open TCP");
  acceptor.set_option(tcp::acceptor::reuse_address(true), ec);
  if (acceptor.bind(tcp_at, ec); ec) return failed("bind TCP");
  if (acceptor.listen(static_cast<int>(options.max_tcp_connections), ec); ec) return failed("listen TCP");
  return absl::OkStatus();
}

bool DnsServer::Impl::Allowed(const net::IpAddress& client) const {
  if (client == options.listen) return true;
  return std::any_of(options.allow.begin(), options.allow.end(),
                     [&](const net::Cidr& cidr) { return cidr.Contains(client); });
}

bool DnsServer::Impl::HaveUpstreams() {
  absl::Duration now = env.clock().Monotonic();
  if (now - upstreams_loaded_at >= kReloadUpstreams) {
    std::vector<net::IpAddress> loaded = LoadUpstreams(options.resolv_conf, {options.listen});
    // Others may know other names.
    if (loaded != upstreams) cache.Clear();
    upstreams = std::move(loaded);
    upstreams_loaded_at = now;
  }
  return !upstreams.empty();
}

bool DnsServer::Impl::TakeForward(const net::IpAddress& client) {
  if (forwards_live >= options.max_forwards) return false;
  size_t& of_client = forwards_of[client];
  if (of_client >= options.max_forwards_per_client) return false;
  ++of_client;
  ++forwards_live;
  return true;
}

void DnsServer::Impl::ReleaseForward(const net::IpAddress& client) {
  --forwards_live;
  auto found = forwards_of.find(client);
  if (found != forwards_of.end() && --found->second == 0) forwards_of.erase(found);
}

void DnsServer::Impl::SendUdp(const std::string& wire, const udp::endpoint& to) {
  if (wire.empty()) return;
  // A full socket buffer loses the answer, as a full network would; the client asks again.
  error_code ec;
  udp_socket.send_to(asio::buffer(wire), to, 0, ec);
}

DnsReply DnsServer::Impl::Decide(std::string_view query, bool is_tcp) {
  ++stats.queries;
  if (records == nullptr) {
    ++stats.failed;
    DnsReply reply{.action = DnsReply::kRespond, .wire = ServerFailure(query)};
    if (reply.wire.empty()) reply.action = DnsReply::kDrop;
    return reply;
  }
  AnswerOptions how{.tcp = is_tcp, .can_forward = HaveUpstreams(), .rotation = env.random().Uniform(1 << 16)};
  DnsReply reply = Answer(query, *records, how);
  if (reply.action == DnsReply::kDrop) ++stats.dropped;
  if (reply.action == DnsReply::kRespond) ++stats.answered;
  return reply;
}

Task<void> DnsServer::Impl::ServeUdp() {
  std::array<char, kMaxQueryBytes + 1> buffer;
  while (true) {
    udp::endpoint from;
    asio::mutable_buffer into = asio::buffer(buffer);
    Task<IoResult> receive = udp_socket.async_receive_from(into, from, kTuple);
    IoResult result = co_await std::move(receive);
    if (scope.closing() || !udp_socket.is_open()) co_return;
    if (std::get<0>(result)) continue;  // an ICMP error of an earlier answer
    net::IpAddress client = FromAsio(from.address());
    if (!Allowed(client)) {
      ++stats.dropped;
      continue;
    }
    std::string_view query(buffer.data(), std::get<1>(result));
    DnsReply reply = Decide(query, false);
    if (reply.action == DnsReply::kRespond) {
      SendUdp(reply.wire, from);
    } else if (reply.action != DnsReply::kDrop) {
      if (TakeForward(client)) {
        scope.Spawn("dns forward", ForwardUdp(std::string(query), std::move(reply), from));
      } else {
        ++stats.failed;
        SendUdp(ServerFailure(query), from);
      }
    }
  }
}

Task<void> DnsServer::Impl::ForwardUdp(std::string query, DnsReply reply, udp::endpoint client) {
  Task<std::string> resolve = Resolve(std::move(query), std::move(reply), false);
  std::string wire = co_await std::move(resolve);
  ReleaseForward(FromAsio(client.address()));
  SendUdp(wire, client);
}

Task<std::string> DnsServer::Impl::Resolve(std::string query, DnsReply reply, bool is_tcp) {
  ++stats.forwarded;
  bool chase = reply.action == DnsReply::kChase;
  std::string ask = chase ? reply.chase_query : query;
  // The transport is part of the key: an answer cut for UDP must not reach a client that came by TCP.
  std::string key = QueryKey(ask, is_tcp);
  if (key.empty()) {
    ++stats.failed;
    co_return ServerFailure(query);
  }
  std::string answer;
  if (std::optional<std::string> kept = cache.Get(key, env.clock().Monotonic()); kept.has_value()) {
    ++stats.from_cache;
    answer = *std::move(kept);
  } else {
    Task<std::string> task = AskShared(key, std::move(ask), is_tcp);
    answer = co_await std::move(task);
  }
  if (answer.empty()) {
    ++stats.failed;
    co_return ServerFailure(query);
  }
  if (chase) co_return MergeChase(reply.wire, answer, is_tcp);
  AddressTo(query, &answer);
  // Its size is what the client's own EDNS record allowed: the query went upstream unchanged.
  co_return answer;
}

Task<std::string> DnsServer::Impl::AskShared(std::string key, std::string query, bool is_tcp) {
  auto found = forwards.find(key);
  if (found != forwards.end()) {
    ForwardPtr shared = found->second;
    if (shared->waiters >= options.max_waiters_per_forward) co_return "";
    ++shared->waiters;
    Task<void> wait = shared->done.Wait();
    co_await std::move(wait);
    co_return shared->response;
  }
  ForwardPtr mine = std::make_shared<Forward>();
  forwards.emplace(key, mine);
  Task<std::string> ask = AskUpstreams(std::move(query), is_tcp);
  mine->response = co_await std::move(ask);
  cache.Put(key, mine->response, env.clock().Monotonic());
  forwards.erase(key);
  mine->done.Set();
  co_return mine->response;
}

Task<std::string> DnsServer::Impl::AskUpstreams(std::string query, bool is_tcp) {
  std::vector<net::IpAddress> servers = upstreams;
  for (int round = 0; round < options.upstream_tries; ++round) {
    for (const net::IpAddress& server : servers) {
      uint16_t id = static_cast<uint16_t>(env.random().Next());
      query[0] = static_cast<char>(id >> 8);
      query[1] = static_cast<char>(id);
      Task<std::string> ask = is_tcp ? AskTcp(server, query) : AskUdp(server, query);
      std::string answer = co_await std::move(ask);
      if (!answer.empty()) co_return answer;
    }
  }
  co_return "";
}

Task<std::string> DnsServer::Impl::AskUdp(net::IpAddress upstream, std::string query) {
  // A socket of its own: the kernel draws a fresh source port, and only this upstream is heard.
  udp::socket socket(env.executor());
  error_code ec;
  udp::endpoint to(ToAsio(upstream), options.upstream_port);
  if (socket.connect(to, ec); ec) co_return "";
  if (socket.send(asio::buffer(query), 0, ec); ec) co_return "";
  Deadline<udp::socket> deadline(env.clock(), socket, options.upstream_timeout);
  std::string buffer(kMaxTcpResponseBytes, '\0');
  while (true) {
    asio::mutable_buffer into = asio::buffer(buffer);
    Task<IoResult> receive = socket.async_receive(into, kTuple);
    IoResult result = co_await std::move(receive);
    if (std::get<0>(result)) co_return "";
    std::string_view answer(buffer.data(), std::get<1>(result));
    if (SameQuestion(query, answer)) co_return std::string(answer);
  }
}

Task<std::string> DnsServer::Impl::AskTcp(net::IpAddress upstream, std::string query) {
  tcp::socket socket(env.executor());
  error_code opened;
  tcp::endpoint to(ToAsio(upstream), options.upstream_port);
  if (socket.open(to.protocol(), opened); opened) co_return "";
  Deadline<tcp::socket> deadline(env.clock(), socket, options.upstream_timeout);
  Task<std::tuple<error_code>> connect = socket.async_connect(to, kTuple);
  std::tuple<error_code> connected = co_await std::move(connect);
  if (std::get<0>(connected)) co_return "";
  std::string framed{static_cast<char>(query.size() >> 8), static_cast<char>(query.size())};
  framed += query;
  asio::const_buffer out = asio::buffer(framed);
  Task<IoResult> write = asio::async_write(socket, out, kTuple);
  IoResult written = co_await std::move(write);
  if (std::get<0>(written)) co_return "";
  std::array<uint8_t, 2> prefix;
  asio::mutable_buffer into_prefix = asio::buffer(prefix);
  Task<IoResult> read_prefix = asio::async_read(socket, into_prefix, kTuple);
  IoResult prefix_read = co_await std::move(read_prefix);
  if (std::get<0>(prefix_read)) co_return "";
  std::string answer(static_cast<size_t>(prefix[0]) << 8 | prefix[1], '\0');
  asio::mutable_buffer into = asio::buffer(answer);
  Task<IoResult> read = asio::async_read(socket, into, kTuple);
  IoResult got = co_await std::move(read);
  if (std::get<0>(got) || !SameQuestion(query, answer)) co_return "";
  co_return answer;
}

Task<void> DnsServer::Impl::ServeTcp() {
  while (true) {
    auto socket = std::make_shared<tcp::socket>(env.executor());
    Task<std::tuple<error_code>> accept = acceptor.async_accept(*socket, kTuple);
    std::tuple<error_code> result = co_await std::move(accept);
    if (scope.closing() || !acceptor.is_open()) co_return;
    error_code ec = std::get<0>(result);
    if (ec) {
      // Out of descriptors: wait rather than spin.
      Task<void> pause = env.clock().Sleep(absl::Milliseconds(100));
      co_await std::move(pause);
      continue;
    }
    tcp::endpoint peer = socket->remote_endpoint(ec);
    if (ec) continue;
    net::IpAddress client = FromAsio(peer.address());
    if (!Allowed(client) || tcp_live >= options.max_tcp_connections ||
        tcp_of[client] >= options.max_tcp_connections_per_client) {
      ++stats.dropped;
      continue;
    }
    ++tcp_live;
    ++tcp_of[client];
    scope.Spawn("dns tcp", ServeConnection(socket, client));
  }
}

Task<void> DnsServer::Impl::ServeConnection(std::shared_ptr<tcp::socket> socket, net::IpAddress client) {
  // Counts are given back however the connection ends, also by cancellation.
  struct Leave {
    Impl* impl;
    net::IpAddress client;
    ~Leave() {
      --impl->tcp_live;
      auto found = impl->tcp_of.find(client);
      if (found != impl->tcp_of.end() && --found->second == 0) impl->tcp_of.erase(found);
    }
  } leave{this, client};
  while (true) {
    std::string query;
    {
      Deadline<tcp::socket> deadline(env.clock(), *socket, options.tcp_idle_timeout);
      std::array<uint8_t, 2> prefix;
      asio::mutable_buffer into_prefix = asio::buffer(prefix);
      Task<IoResult> read_prefix = asio::async_read(*socket, into_prefix, kTuple);
      IoResult prefix_read = co_await std::move(read_prefix);
      if (std::get<0>(prefix_read)) co_return;
      size_t size = static_cast<size_t>(prefix[0]) << 8 | prefix[1];
      if (size > kMaxQueryBytes) co_return;
      query.resize(size);
      asio::mutable_buffer into = asio::buffer(query);
      Task<IoResult> read = asio::async_read(*socket, into, kTuple);
      IoResult got = co_await std::move(read);
      if (std::get<0>(got)) co_return;
    }
    DnsReply reply = Decide(query, true);
    if (reply.action == DnsReply::kDrop) co_return;
    std::string wire = reply.wire;
    if (reply.action != DnsReply::kRespond) {
      if (!TakeForward(client)) co_return;
      Task<std::string> resolve = Resolve(query, reply, true);
      wire = co_await std::move(resolve);
      ReleaseForward(client);
    }
    if (wire.empty() || wire.size() > kMaxTcpResponseBytes) co_return;
    std::string framed{static_cast<char>(wire.size() >> 8), static_cast<char>(wire.size())};
    framed += wire;
    Deadline<tcp::socket> deadline(env.clock(), *socket, options.tcp_idle_timeout);
    asio::const_buffer out = asio::buffer(framed);
    Task<IoResult> write = asio::async_write(*socket, out, kTuple);
    IoResult written = co_await std::move(write);
    if (std::get<0>(written)) co_return;
  }
}

DnsServer::DnsServer(Env& env, DnsServerOptions options)
    : impl_(std::make_unique<Impl>(env, std::move(options))) {}
DnsServer::~DnsServer() = default;

absl::Status DnsServer::Start() {
  // Any port: the one that UDP was given may be somebody's on TCP.
  constexpr int kAnyPortTries = 16;
  const bool any_port = impl_->options.port == 0;
  for (int i = 1;; ++i) {
    absl::Status bound = impl_->Bind();
    if (bound.ok()) break;
    // Leave no half: the next Start() tries both again.
    error_code ignored;
    impl_->udp_socket.close(ignored);
    impl_->acceptor.close(ignored);
    if (!any_port || !absl::IsAlreadyExists(bound) || i == kAnyPortTries) return bound;
    impl_->options.port = 0;
  }
  impl_->scope.Spawn("dns udp", impl_->ServeUdp());
  impl_->scope.Spawn("dns tcp accept", impl_->ServeTcp());
  return absl::OkStatus();
}

void DnsServer::SetRecords(std::shared_ptr<const DnsRecords> records) { impl_->records = std::move(records); }

Task<void> DnsServer::Stop() {
  error_code ignored;
  impl_->udp_socket.close(ignored);
  impl_->acceptor.close(ignored);
  Task<void> close = impl_->scope.Close();
  co_await std::move(close);
}

uint16_t DnsServer::port() const { return impl_->options.port; }
DnsServerStats DnsServer::stats() const { return impl_->stats; }

}  // namespace keelson::proxy::dns
