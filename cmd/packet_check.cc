#include "cmd/packet_check.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <thread>
#include <utility>

#include "base/env.h"
#include "base/fd.h"
#include "base/status.h"
#include "base/strings.h"
#include "cmd/host_network.h"

namespace keelson {
namespace {

using Severity = Finding::Severity;

constexpr absl::Duration kPacketWait = absl::Seconds(2);  // the kernel repeats a lost SYN after one
constexpr absl::Duration kProgramTimeout = absl::Seconds(10);
constexpr size_t kMaxErrorBytes = 300;
constexpr uint16_t kNodePort = 32767;
constexpr char kPlugins[] = "/usr/lib/cni";
constexpr char kIpForward[] = "/proc/sys/net/ipv4/ip_forward";

// Runs `make` on a thread of its own, because a network namespace belongs to a thread.
absl::StatusOr<Fd> OnThread(absl::AnyInvocable<absl::StatusOr<Fd>()> make) {
  absl::StatusOr<Fd> result = absl::InternalError("not run");
  std::thread thread([&] { result = make(); });
  thread.join();
  return result;
}

absl::StatusOr<Fd> NewNamespace() {
  return OnThread([]() -> absl::StatusOr<Fd> {
    if (::unshare(CLONE_NEWNET) != 0) return ErrnoStatus(errno, "make a network namespace");
    return OpenFile("/proc/thread-self/ns/net", O_RDONLY);
  });
}

// A socket stays in the namespace it was made in, whoever uses it. netns < 0: this one.
absl::StatusOr<Fd> TcpSocket(int netns) {
  return OnThread([netns]() -> absl::StatusOr<Fd> {
    if (netns >= 0 && ::setns(netns, CLONE_NEWNET) != 0) return ErrnoStatus(errno, "enter a namespace");
    Fd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!socket.valid()) return ErrnoStatus(errno, "socket");
    return socket;
  });
}

sockaddr_in SocketAddress(const net::IpAddress& address, uint16_t port) {
  sockaddr_in out{};
  out.sin_family = AF_INET;
  out.sin_addr.s_addr = htonl(address.v4());
  out.sin_port = htons(port);
  return out;
}

absl::StatusOr<uint16_t> BindAnyPort(const Fd& socket, const net::IpAddress& address) {
  sockaddr_in name = SocketAddress(address, 0);
  socklen_t size = sizeof name;
  if (::bind(socket.get(), reinterpret_cast<sockaddr*>(&name), size) != 0 ||
      ::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&name), &size) != 0) {
    return ErrnoStatus(errno, StrCat("bind to ", address.ToString()));
  }
  return ntohs(name.sin_port);
}

struct Listener {
  Fd socket;
  net::IpAddress address;
  uint16_t port = 0;
};

absl::StatusOr<Listener> Listen(int netns, const net::IpAddress& address) {
  Listener listener;
  listener.address = address;
  ASSIGN_OR_RETURN(listener.socket, TcpSocket(netns));
  ASSIGN_OR_RETURN(listener.port, BindAnyPort(listener.socket, address));
  if (::listen(listener.socket.get(), 8) != 0) return ErrnoStatus(errno, "listen");
  return listener;
}

// One way a packet takes.
struct Way {
  std::string what;
  std::string hook;  // whose chains are asked when it is closed
  Fd socket;
  uint16_t source_port = 0;
  net::IpAddress to;
  uint16_t port = 0;
  int error = ETIMEDOUT;  // 0: open
};

absl::StatusOr<Way> MakeWay(const char* what, const char* hook, int netns, const net::IpAddress& to,
                            uint16_t port) {
  Way way;
  way.what = what;
  way.hook = hook;
  way.to = to;
  way.port = port;
  ASSIGN_OR_RETURN(way.socket, TcpSocket(netns));
  ASSIGN_OR_RETURN(way.source_port, BindAnyPort(way.socket, net::IpAddress()));
  return way;
}

// Connects all of them at once.
void Connect(Env& env, std::vector<Way>* ways) {
  std::vector<pollfd> waiting;
  for (const Way& way : *ways) {
    sockaddr_in to = SocketAddress(way.to, way.port);
    (void)::connect(way.socket.get(), reinterpret_cast<sockaddr*>(&to), sizeof to);
    waiting.push_back({way.socket.get(), POLLOUT, 0});
  }
  absl::Duration end = env.clock().Monotonic() + kPacketWait;
  size_t left = waiting.size();
  while (left > 0) {
    absl::Duration rest = end - env.clock().Monotonic();
    if (rest <= absl::ZeroDuration()) break;
    int ready = ::poll(waiting.data(), waiting.size(), static_cast<int>(absl::ToInt64Milliseconds(rest)) + 1);
    if (ready < 0 && errno != EINTR) break;
    for (size_t i = 0; i < waiting.size(); ++i) {
      if (waiting[i].fd < 0 || waiting[i].revents == 0) continue;
      socklen_t size = sizeof(int);
      ::getsockopt(waiting[i].fd, SOL_SOCKET, SO_ERROR, &(*ways)[i].error, &size);
      waiting[i].fd = -1;
      --left;
    }
  }
}

// Addresses of the two pods and the host's end of their links: the last ones of the pods' block, which the
// nodes get last.
struct TestAddresses {
  net::Cidr subnet;
  net::IpAddress gateway, pods[2];
};

absl::StatusOr<TestAddresses> ChooseAddresses(const ClusterLayout& layout) {
  ASSIGN_OR_RETURN(net::Cidr block, net::Cidr::Parse(layout.options.pod_cidr));
  if (!block.is_v4()) return absl::UnimplementedError("IPv6 pods are not tried");
  if (block.size() < 16) return absl::UnimplementedError(StrCat(block.ToString(), " is too small"));
  TestAddresses out;
  ASSIGN_OR_RETURN(out.subnet, net::Cidr::Make(block.last(), std::max(block.prefix_length(), 24)));
  out.subnet = out.subnet.Masked();
  ASSIGN_OR_RETURN(out.gateway, block.last().Plus(-1));
  ASSIGN_OR_RETURN(out.pods[0], block.last().Plus(-2));
  ASSIGN_OR_RETURN(out.pods[1], block.last().Plus(-3));
  return out;
}

class PacketCheck {
 public:
  PacketCheck(Env& env, const ClusterLayout& layout) : env_(env), layout_(layout) {
    table_ = StrCat("keelson_check_", ::getpid());
  }

  Task<absl::Status> Run(std::vector<Finding>* findings) {
    auto forwarding = ReadFile(kIpForward);
    Task<absl::Status> run = RunInDir(findings);
    absl::Status status = co_await std::move(run);
    if (table_made_) {
      Task<absl::StatusOr<std::string>> remove = Program({"nft", "delete", "table", "ip", table_}, "");
      absl::StatusOr<std::string> removed = co_await std::move(remove);
      if (status.ok()) status = removed.status();
    }
    for (int i = 0; i < 2; ++i) {
      if (!added_[i]) continue;
      Task<absl::Status> remove = Plugin("DEL", i);
      absl::Status removed = co_await std::move(remove);
      if (status.ok()) status = removed;
    }
    // The plugin turns it on; a check leaves the host as it was.
    if (forwarding.ok() && forwarding->starts_with("0")) {
      auto file = OpenFile(kIpForward, O_WRONLY);
      if (file.ok()) (void)WriteAll(file->get(), "0\n");
    }
    if (!dir_.empty()) (void)RemoveTree(dir_);
    co_return status;
  }

 private:
  // stdout of a program that succeeded; otherwise an error with what it said.
  Task<absl::StatusOr<std::string>> Program(std::vector<std::string> argv, std::string input,
                                            std::vector<std::string> env = {}) {
    SubprocessOptions options;
    options.argv = argv;
    options.env = std::move(env);
    options.stdin_data = std::move(input);
    options.timeout = kProgramTimeout;
    options.max_output_bytes = 16 << 20;
    Task<absl::StatusOr<SubprocessResult>> run = env_.subprocess().Run(options);
    absl::StatusOr<SubprocessResult> result = co_await std::move(run);
    if (!result.ok()) co_return Annotate(result.status(), argv[0]);
    if (result->ok()) co_return result->stdout_data;
    std::string said = StrCat(result->stdout_data, result->stderr_data).substr(0, kMaxErrorBytes);
    co_return absl::UnavailableError(StrCat(argv[0], ": ", said));
  }

  // The ptp plugin as a runtime calls it (CNI specification 0.4), each pod with one address to choose from.
  Task<absl::Status> Plugin(std::string command, int pod) {
    std::string address = addresses_.pods[pod].ToString();
    std::string config =
        StrCat(R"({"cniVersion":"0.4.0","name":"keelson-check","type":"ptp","ipMasq":false,"mtu":1500,)",
               R"("ipam":{"type":"host-local","dataDir":")", dir_, R"(","ranges":[[{"subnet":")",
               addresses_.subnet.ToString(), R"(","rangeStart":")", address, R"(","rangeEnd":")", address,
               R"(","gateway":")", addresses_.gateway.ToString(), R"("}]],"routes":[{"dst":"0.0.0.0/0"}]}})");
    std::vector<std::string> env = {StrCat("CNI_COMMAND=", command),
                                    StrCat("CNI_CONTAINERID=", table_, "_", pod),
                                    StrCat("CNI_NETNS=/proc/", ::getpid(), "/fd/", netns_[pod].get()),
                                    "CNI_IFNAME=eth0",
                                    StrCat("CNI_PATH=", kPlugins),
                                    "PATH=/usr/sbin:/usr/bin:/sbin:/bin"};
    Task<absl::StatusOr<std::string>> run = Program({StrCat(kPlugins, "/ptp")}, config, env);
    absl::StatusOr<std::string> result = co_await std::move(run);
    co_return result.status();
  }

  Task<absl::Status> RunInDir(std::vector<Finding>* findings) {
    CO_ASSIGN_OR_RETURN_SYNC(addresses_, ChooseAddresses(layout_));
    char dir[] = "/tmp/keelson-check-XXXXXX";
    if (::mkdtemp(dir) == nullptr) co_return ErrnoStatus(errno, "make a folder in /tmp");
    dir_ = dir;
    for (int i = 0; i < 2; ++i) {
      CO_ASSIGN_OR_RETURN_SYNC(netns_[i], NewNamespace());
      added_[i] = true;  // half of it may be there after an error
      CO_RETURN_IF_ERROR(Plugin("ADD", i));
    }
    CO_ASSIGN_OR_RETURN_SYNC(net::IpAddress host, net::IpAddress::Parse(layout_.options.node_ip));
    if (!host.is_v4() || host.is_loopback()) host = addresses_.gateway;
    std::vector<Way> ways;
    absl::Status made = MakeWays(host, &ways);
    if (!made.ok()) co_return made;
    Task<absl::StatusOr<std::string>> load = Program({"nft", "-f", "-"}, NodePortRules(host, ways));
    absl::StatusOr<std::string> loaded = co_await std::move(load);
    if (!loaded.ok()) co_return loaded.status();
    table_made_ = true;
    Connect(env_, &ways);
    for (const Way& way : ways) {
      Task<void> report = Report(&way, findings);
      co_await std::move(report);
    }
    co_return absl::OkStatus();
  }

  absl::Status MakeWays(const net::IpAddress& host, std::vector<Way>* ways) {
    int a = netns_[0].get(), b = netns_[1].get();
    ASSIGN_OR_RETURN(pod_listener_, Listen(a, addresses_.pods[0]));
    ASSIGN_OR_RETURN(host_listener_, Listen(-1, host));
    const Listener& pod = pod_listener_;
    ASSIGN_OR_RETURN(Way pod_to_pod, MakeWay("pod to pod", "forward", b, pod.address, pod.port));
    ASSIGN_OR_RETURN(Way host_to_pod, MakeWay("host to pod", "output", -1, pod.address, pod.port));
    ASSIGN_OR_RETURN(Way pod_to_host, MakeWay("pod to host", "input", b, host, host_listener_.port));
    ASSIGN_OR_RETURN(Way pod_to_port, MakeWay("pod to NodePort", "forward", b, host, kNodePort));
    ASSIGN_OR_RETURN(Way host_to_port, MakeWay("host to NodePort", "output", -1, host, kNodePort));
    for (Way* way : {&pod_to_pod, &host_to_pod, &pod_to_host, &pod_to_port, &host_to_port}) {
      ways->push_back(std::move(*way));
    }
    return absl::OkStatus();
  }

  // What the proxy does to a NodePort's packets, for our two connections alone.
  std::string NodePortRules(const net::IpAddress& host, const std::vector<Way>& ways) const {
    std::string rules[2];
    for (const Way& way : ways) {
      if (way.port != kNodePort) continue;
      StrAppend(&rules[way.hook == "output" ? 1 : 0], "    ip daddr ", host.ToString(), " tcp sport ",
                way.source_port, " tcp dport ", kNodePort, " dnat to ", pod_listener_.address.ToString(), ":",
                pod_listener_.port, "\n");
    }
    return StrCat("table ip ", table_, " {\n  chain pre {\n    type nat hook prerouting priority -110;\n",
                  rules[0], "  }\n  chain out {\n    type nat hook output priority -110;\n", rules[1],
                  "  }\n}\n");
  }

  Task<void> Report(const Way* way, std::vector<Finding>* findings) {
    std::string what = StrCat("packets ", way->what);
    if (way->error == 0) {
      findings->push_back({Severity::kOk, what, "pass", ""});
      co_return;
    }
    // Between pod and host the answer goes through the other one's chains.
    std::vector<std::pair<std::string, FirewallSuspect>> suspects;
    std::vector<std::string> hooks = {way->hook};
    if (way->hook == "output") hooks.push_back("input");
    if (way->hook == "input") hooks.push_back("output");
    for (const std::string& hook : hooks) {
      Task<std::vector<FirewallSuspect>> ask = Suspects(hook);
      std::vector<FirewallSuspect> found = co_await std::move(ask);
      for (FirewallSuspect& suspect : found) suspects.emplace_back(hook, std::move(suspect));
    }
    std::string found = way->error == ETIMEDOUT ? StrCat("no answer in ", absl::FormatDuration(kPacketWait))
                                                : std::string(::strerror(way->error));
    std::string fix;
    for (const auto& [hook, suspect] : suspects) {
      StrAppend(&found, "; ", suspect.owner, " refuses in ", suspect.chain);
      StrAppend(&fix, fix.empty() ? "" : "\n              ",
                FirewallFix(suspect, hook, layout_.options.pod_cidr));
    }
    if (suspects.empty()) {
      fix = StrCat("no chain refuses by default; look for ", layout_.options.pod_cidr,
                   " in `nft list ruleset` and `iptables-save`, and at rp_filter");
    }
    findings->push_back({Severity::kError, what, found, fix});
  }

  Task<std::vector<FirewallSuspect>> Suspects(std::string hook) {
    Task<absl::StatusOr<std::string>> nft = Program({"nft", "-s", "list", "ruleset"}, "");
    absl::StatusOr<std::string> ruleset = co_await std::move(nft);
    std::vector<FirewallSuspect> suspects;
    if (ruleset.ok()) suspects = SuspectsInNft(*ruleset, hook);
    auto legacy = ReadFile("/proc/net/ip_tables_names");
    if (legacy.ok() && !legacy->empty()) {
      Task<absl::StatusOr<std::string>> save = Program({"iptables-legacy-save", "-t", "filter"}, "");
      absl::StatusOr<std::string> rules = co_await std::move(save);
      if (rules.ok()) {
        std::vector<FirewallSuspect> more = SuspectsInIptables(*rules, hook);
        suspects.insert(suspects.end(), more.begin(), more.end());
      }
    }
    co_return suspects;
  }

  Env& env_;
  const ClusterLayout& layout_;
  std::string table_, dir_;
  bool table_made_ = false, added_[2] = {};
  TestAddresses addresses_;
  Fd netns_[2];
  Listener pod_listener_, host_listener_;
};

}  // namespace

std::vector<Finding> CheckPackets(const ClusterLayout& layout) {
  RealEnv env(layout.paths);
  std::vector<Finding> findings;
  PacketCheck check(env, layout);
  absl::Status status = env.RunUntilDone(check.Run(&findings));
  if (!status.ok()) {
    findings.push_back({Severity::kWarning, "packets", StrCat("not tried: ", status.message()),
                        "pods may not reach each other; mend this and run `keelson check` again"});
  }
  return findings;
}

}  // namespace keelson
