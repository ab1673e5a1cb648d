// For tests of real packets: pods on ptp links and on a bridge, and hosts outside, in network namespaces of
// the test process' own; the machine's rules, links and sysctls stay as they are. Needs root and ip, and nft
// for the rules. Also what such tests need beside it: servers and clients in a namespace, and a loop on a
// thread.
#pragma once

#include <absl/status/status.h>
#include <sys/socket.h>

#include <chrono>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "base/env.h"
#include "base/fd.h"
#include "base/task.h"

namespace keelson::net::testing {

inline constexpr char kHost[] = "";  // this process' own namespace
inline constexpr char kLoopback[] = "127.0.0.1";
inline constexpr int kDialTimeoutMs = 700;

// Of `sh -c`; what it prints is lost.
int Sh(const std::string& command);

// Gives this process (threads made from here on) network and mount namespaces of its own, with an empty /run,
// forwarding switched on and addresses that are usable at once. False: it may not, or nft or ip are missing.
bool EnterOwnNetwork();

// A namespace NAME, known to `ip netns`. Its IPv6 addresses are usable at once.
int AddNamespace(const std::string& name);
// podN at 10.244.0.N and fd24::N behind vethN, as the ptp plugin leaves it: host routes only; the host
// is 10.244.0.1. Fails the test.
void AddPtpPod(int number);
// podN at 10.245.0.N on the bridge br0, as the bridge plugin leaves it.
void AddBridge();
void AddBridgePod(int number);
// A host NAME at IP behind LINK, whose other end is the node's; with IPv6 when `ip6` is given.
void AddOutside(const std::string& name, const std::string& link, const std::string& node,
                const std::string& ip, const std::string& node6 = "", const std::string& ip6 = "");

// Whether this kernel speaks SCTP.
bool HasSctp();

struct Address {
  Address(const std::string& ip, int port);
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  sockaddr_storage storage{};
  socklen_t size = 0;
};

// Runs `work` on a thread inside that namespace.
void In(const std::string& netns, const std::function<void()>& work);
// A socket with kDialTimeoutMs for everything.
Fd NewSocket(int family, int type, int protocol = 0);
// The next bytes, or "refused", "timeout", or the error's text.
std::string Receive(int fd);
std::string Reason(int error);
// "SERVER CLIENT-ADDRESS" of a Server, or as Receive.
std::string Dial(const std::string& netns, const std::string& ip, int port, int type = SOCK_STREAM,
                 int protocol = 0);

// Answers TCP connections, UDP datagrams and, where there is SCTP, its associations, with its name and the
// client's address, until it is destroyed.
class Server {
 public:
  Server(const std::string& netns, std::string name, int port,
         std::vector<std::string> ips = {"0.0.0.0", "::"});
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

 private:
  std::string Answer(const sockaddr_storage& peer) const;
  void Serve(const std::vector<std::string>& ips, int port, const std::function<void()>& ready);

  std::string name_;
  Fd stop_;
  std::thread thread_;
};

template <class Condition>
bool Eventually(Condition condition, int limit_ms = 3000) {
  auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(limit_ms);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return true;
}

// An Env on a thread of its own, as a process would have it, for a test that blocks. What lives on the loop
// is made and destroyed by Do.
class LoopThread {
 public:
  LoopThread();
  ~LoopThread();  // cancels what Wait left, and waits for it
  LoopThread(const LoopThread&) = delete;
  LoopThread& operator=(const LoopThread&) = delete;
  Env& env() { return env_; }
  void Do(const std::function<void()>& work);
  absl::Status Wait(Task<absl::Status> task);

 private:
  RealEnv env_{Paths{}};
  Scope scope_{env_.executor()}, closing_{env_.executor()};
  std::thread loop_;
};

}  // namespace keelson::net::testing
