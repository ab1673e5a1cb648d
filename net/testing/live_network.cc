#include "net/testing/live_network.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <unistd.h>

#include <boost/asio/post.hpp>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <future>
#include <memory>
#include <utility>

#include "base/log.h"
#include "base/strings.h"

namespace keelson::net::testing {
namespace {

void Enter(const std::string& netns) {
  if (netns.empty()) return;
  Fd fd(open(("/run/netns/" + netns).c_str(), O_RDONLY | O_CLOEXEC));
  KEELSON_CHECK(setns(fd.get(), CLONE_NEWNET) == 0, "setns ", netns, ": ", strerror(errno));
}

Task<void> Finish(Task<absl::Status> task, std::promise<absl::Status>* done) {
  absl::Status status = co_await std::move(task);
  done->set_value(status);
}

Task<void> Close(Scope* scope, std::promise<void>* closed) {
  Task<void> close = scope->Close();
  co_await std::move(close);
  closed->set_value();
}

}  // namespace

int Sh(const std::string& command) { return std::system(("{ " + command + "; } >/dev/null 2>&1").c_str()); }

bool EnterOwnNetwork() {
  if (geteuid() != 0 || unshare(CLONE_NEWNET | CLONE_NEWNS) != 0) return false;
  if (mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return false;
  if (mount("none", "/run", "tmpfs", 0, nullptr) != 0) return false;
  if (Sh("nft list tables") != 0 || Sh("ip link set lo up") != 0) return false;
  Sh("echo 0 > /proc/sys/net/bridge/bridge-nf-call-iptables");
  return Sh("echo 1 > /proc/sys/net/ipv4/ip_forward && echo 1 > /proc/sys/net/ipv6/conf/all/forwarding") ==
             0 &&
         Sh("echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad") == 0;
}

int AddNamespace(const std::string& name) {
  return Sh(StrCat("ip netns add ", name, " && ip netns exec ", name,
                   " sh -c 'echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad'"));
}

void AddPtpPod(int number) {
  std::string n = std::to_string(number), ns = "pod" + n, ip = "10.244.0." + n, ip6 = "fd24::" + n;
  ASSERT_EQ(AddNamespace(ns), 0);
  ASSERT_EQ(Sh(StrCat("ip link add veth", n, " type veth peer name eth0 netns ", ns)), 0);
  ASSERT_EQ(Sh(StrCat("ip addr add 10.244.0.1/32 dev veth", n, " && ip addr add fd24::1/128 dev veth", n,
                      " nodad && ip link set veth", n, " up")),
            0);
  ASSERT_EQ(
      Sh(StrCat("ip -n ", ns, " link set lo up && ip -n ", ns, " addr add ", ip, "/32 dev eth0 && ip -n ", ns,
                " addr add ", ip6, "/128 dev eth0 nodad && ip -n ", ns, " link set eth0 up")),
      0);
  ASSERT_EQ(
      Sh(StrCat("ip -n ", ns, " route add 10.244.0.1 dev eth0 && ip -n ", ns,
                " route add default via 10.244.0.1 && ip -n ", ns, " route add fd24::1 dev eth0 && ip -n ",
                ns, " route add default via fd24::1 dev eth0")),
      0);
  ASSERT_EQ(Sh(StrCat("ip route add ", ip, "/32 dev veth", n, " && ip route add ", ip6, "/128 dev veth", n)),
            0);
}

void AddBridge() {
  ASSERT_EQ(Sh("ip link add br0 type bridge && ip addr add 10.245.0.1/24 dev br0 && ip link set br0 up"), 0);
}

void AddBridgePod(int number) {
  std::string n = std::to_string(number), ns = "pod" + n;
  ASSERT_EQ(AddNamespace(ns), 0);
  ASSERT_EQ(Sh(StrCat("ip link add veth", n, " type veth peer name eth0 netns ", ns, " && ip link set veth",
                      n, " master br0 && ip link set veth", n, " up")),
            0);
  ASSERT_EQ(Sh(StrCat("ip -n ", ns, " link set lo up && ip -n ", ns, " addr add 10.245.0.", n,
                      "/24 dev eth0 && ip -n ", ns, " link set eth0 up && ip -n ", ns,
                      " route add default via 10.245.0.1")),
            0);
}

void AddOutside(const std::string& name, const std::string& link, const std::string& node,
                const std::string& ip, const std::string& node6, const std::string& ip6) {
  ASSERT_EQ(AddNamespace(name), 0);
  ASSERT_EQ(Sh(StrCat("ip link add ", link, " type veth peer name eth0 netns ", name)), 0);
  ASSERT_EQ(Sh(StrCat("ip addr add ", node, "/24 dev ", link, " && ip link set ", link, " up")), 0);
  ASSERT_EQ(Sh(StrCat("ip -n ", name, " addr add ", ip, "/24 dev eth0 && ip -n ", name,
                      " link set eth0 up && ip -n ", name, " link set lo up && ip -n ", name,
                      " route add default via ", node)),
            0);
  if (ip6.empty()) return;
  ASSERT_EQ(Sh(StrCat("ip addr add ", node6, "/64 dev ", link, " nodad && ip -n ", name, " addr add ", ip6,
                      "/64 dev eth0 nodad && ip -n ", name, " route add default via ", node6)),
            0);
}

bool HasSctp() { return Fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_SCTP)).valid(); }

Address::Address(const std::string& ip, int port) {
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&storage);
  auto* v4 = reinterpret_cast<sockaddr_in*>(&storage);
  const bool is_v6 = ip.find(':') != std::string::npos;
  storage.ss_family = is_v6 ? AF_INET6 : AF_INET;
  size = is_v6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
  if (is_v6) {
    v6->sin6_port = htons(static_cast<uint16_t>(port));
    KEELSON_CHECK(inet_pton(AF_INET6, ip.c_str(), &v6->sin6_addr) == 1, ip);
  } else {
    v4->sin_port = htons(static_cast<uint16_t>(port));
    KEELSON_CHECK(inet_pton(AF_INET, ip.c_str(), &v4->sin_addr) == 1, ip);
  }
}

void In(const std::string& netns, const std::function<void()>& work) {
  std::thread([&] {
    Enter(netns);
    work();
  }).join();
}

Fd NewSocket(int family, int type, int protocol) {
  Fd fd(socket(family, type | SOCK_CLOEXEC, protocol));
  timeval timeout{.tv_sec = 0, .tv_usec = kDialTimeoutMs * 1000};
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
  setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
  return fd;
}

std::string Reason(int error) {
  if (error == ECONNREFUSED) return "refused";
  if (error == EAGAIN || error == EINPROGRESS || error == ETIMEDOUT) return "timeout";
  return strerror(error);
}

std::string Receive(int fd) {
  char buffer[2048];
  ssize_t n = recv(fd, buffer, sizeof(buffer), 0);
  return n < 0 ? Reason(errno) : std::string(buffer, static_cast<size_t>(n));
}

std::string Dial(const std::string& netns, const std::string& ip, int port, int type, int protocol) {
  std::string out;
  In(netns, [&] {
    Address to(ip, port);
    Fd fd = NewSocket(to.storage.ss_family, type, protocol);
    if (connect(fd.get(), to.get(), to.size) != 0 || (type == SOCK_DGRAM && send(fd.get(), "?", 1, 0) != 1)) {
      out = Reason(errno);
      return;
    }
    out = Receive(fd.get());
  });
  return out;
}

Server::Server(const std::string& netns, std::string name, int port, std::vector<std::string> ips)
    : name_(std::move(name)), stop_(eventfd(0, EFD_CLOEXEC)) {
  std::promise<void> ready;
  thread_ = std::thread([this, netns, ips, port, &ready] {
    Enter(netns);
    Serve(ips, port, [&ready] { ready.set_value(); });
  });
  ready.get_future().wait();
}

Server::~Server() {
  eventfd_write(stop_.get(), 1);
  thread_.join();
}

void Server::Serve(const std::vector<std::string>& ips, int port, const std::function<void()>& ready) {
  struct Kind {
    int type, protocol;
  };
  std::vector<Kind> kinds = {{SOCK_STREAM, 0}, {SOCK_DGRAM, 0}};
  if (HasSctp()) kinds.push_back({SOCK_STREAM, IPPROTO_SCTP});
  std::vector<Fd> sockets;
  std::vector<bool> is_stream = {false};
  std::vector<pollfd> polls = {{stop_.get(), POLLIN, 0}};
  for (const std::string& ip : ips) {
    for (const Kind& kind : kinds) {
      Address at(ip, port);
      Fd fd(socket(at.storage.ss_family, kind.type | SOCK_CLOEXEC, kind.protocol));
      int on = 1;
      setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
      if (at.storage.ss_family == AF_INET6) setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
      KEELSON_CHECK(bind(fd.get(), at.get(), at.size) == 0, "bind ", name_, ": ", strerror(errno));
      if (kind.type == SOCK_STREAM) listen(fd.get(), 128);
      polls.push_back({fd.get(), POLLIN, 0});
      is_stream.push_back(kind.type == SOCK_STREAM);
      sockets.push_back(std::move(fd));
    }
  }
  ready();
  while (poll(polls.data(), polls.size(), -1) > 0 && (polls[0].revents & POLLIN) == 0) {
    for (size_t i = 1; i < polls.size(); ++i) {
      if ((polls[i].revents & POLLIN) == 0) continue;
      sockaddr_storage peer{};
      socklen_t size = sizeof(peer);
      auto* address = reinterpret_cast<sockaddr*>(&peer);
      if (is_stream[i]) {
        Fd connection(accept4(polls[i].fd, address, &size, SOCK_CLOEXEC));
        if (connection.valid()) WriteAll(connection.get(), Answer(peer)).IgnoreError();
      } else {
        char buffer[512];
        if (recvfrom(polls[i].fd, buffer, sizeof(buffer), 0, address, &size) < 0) continue;
        std::string answer = Answer(peer);
        sendto(polls[i].fd, answer.data(), answer.size(), 0, address, size);
      }
    }
  }
}

std::string Server::Answer(const sockaddr_storage& peer) const {
  char text[INET6_ADDRSTRLEN] = "";
  if (peer.ss_family == AF_INET6) {
    inet_ntop(AF_INET6, &reinterpret_cast<const sockaddr_in6&>(peer).sin6_addr, text, sizeof(text));
  } else {
    inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in&>(peer).sin_addr, text, sizeof(text));
  }
  return StrCat(name_, " ", text);
}

LoopThread::LoopThread() {
  loop_ = std::thread([this] { env_.Run(); });
}

LoopThread::~LoopThread() {
  std::promise<void> closed;
  boost::asio::post(env_.executor(), [&] { closing_.Spawn("close", Close(&scope_, &closed)); });
  closed.get_future().wait();
  for (bool live = true; live;) Do([&] { live = closing_.live() != 0; });
  env_.Stop();
  loop_.join();
}

void LoopThread::Do(const std::function<void()>& work) {
  std::promise<void> done;
  boost::asio::post(env_.executor(), [&] {
    work();
    done.set_value();
  });
  done.get_future().wait();
}

absl::Status LoopThread::Wait(Task<absl::Status> task) {
  std::promise<absl::Status> done;
  auto shared = std::make_shared<Task<absl::Status>>(std::move(task));
  boost::asio::post(env_.executor(),
                    [&, shared] { scope_.Spawn("call", Finish(std::move(*shared), &done)); });
  return done.get_future().get();
}

}  // namespace keelson::net::testing
