// Namespaces, network and files of a pod, seen from its containers. Under cri/testing/with_keelson_cri.
#include <absl/strings/ascii.h>
#include <absl/strings/match.h>
#include <absl/strings/str_split.h>
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>

#include "base/fd.h"
#include "base/status.h"
#include "cri/testing/live_test.h"

namespace keelson::cri {
namespace {

using testing::HasSubstr;
using ServerPodLiveTest = LiveTest;

std::string OwnNamespace(const std::string& kind) {
  std::error_code error;
  return std::filesystem::read_symlink("/proc/self/ns/" + kind, error).string();
}

// ---- namespaces ----

TEST_F(ServerPodLiveTest, PidNamespaces) {
  v1::PodSandboxConfig shared = PodConfig("pid-pod");
  Options(&shared)->set_pid(v1::POD);
  std::string pod = RunPod(shared);
  v1::ContainerConfig a_config = Script("a", kForever), b_config = Script("b", kForever);
  Options(&a_config)->set_pid(v1::POD);
  Options(&b_config)->set_pid(v1::POD);
  std::string a = Start(pod, a_config), b = Start(pod, b_config);
  EXPECT_EQ(Trimmed(Exec(a, "cat /proc/1/comm")), "pause");
  EXPECT_EQ(Exec(a, "readlink /proc/self/ns/pid"), Exec(b, "readlink /proc/self/ns/pid"));
  EXPECT_EQ(Trimmed(Exec(a, "ps -o comm | grep -cx sleep")), "2") << "each sees the other's";
  // One that ends takes its own processes along and nobody else's.
  EXPECT_TRUE(Stop(b, 0).ok());
  EXPECT_EQ(Trimmed(Exec(a, "ps -o comm | grep -cx sleep")), "1");
  EXPECT_EQ(Status(a).state(), v1::CONTAINER_RUNNING);

  // A container of its own in the same pod, one on the host, one beside another.
  std::string own = Start(pod, Script("own", kForever));
  EXPECT_EQ(Trimmed(Exec(own, "cat /proc/1/comm")), "sh");
  v1::ContainerConfig node_config = Script("node", kForever);
  Options(&node_config)->set_pid(v1::NODE);
  std::string node = Start(pod, node_config);
  EXPECT_EQ(Trimmed(Exec(node, "readlink /proc/self/ns/pid")), OwnNamespace("pid"));
  EXPECT_EQ(Trimmed(Exec(node, StrCat("cat /proc/", ::getpid(), "/comm"))),
            Trimmed(ReadFile("/proc/self/comm").value()));
  v1::ContainerConfig target_config = Script("target", kForever);
  Options(&target_config)->set_pid(v1::TARGET);
  Options(&target_config)->set_target_id(own);
  std::string target = Start(pod, target_config);
  EXPECT_EQ(Exec(target, "readlink /proc/self/ns/pid"), Exec(own, "readlink /proc/self/ns/pid"));
  EXPECT_EQ(Trimmed(Exec(target, "cat /proc/1/comm")), "sh");
  EXPECT_TRUE(Stop(target, 0).ok());
  EXPECT_EQ(Status(own).state(), v1::CONTAINER_RUNNING);
  // A target in another pod is none.
  std::string other = RunPod(PodConfig("pid-other"));
  Options(&target_config)->set_target_id(own);
  EXPECT_TRUE(absl::IsInvalidArgument(TryCreate(other, target_config).status()));
  EXPECT_EQ(PodStatus(pod).linux().namespaces().options().pid(), v1::POD);
}

TEST_F(ServerPodLiveTest, AProcessThatLeavesItsContainersSessionEndsWithIt) {
  v1::PodSandboxConfig shared = PodConfig("pid-escape");
  Options(&shared)->set_pid(v1::POD);
  std::string pod = RunPod(shared);
  v1::ContainerConfig config = Script("c", "setsid sleep 4242 & sleep 0.2; exit 0");
  Options(&config)->set_pid(v1::POD);
  std::string id = Start(pod, config);
  EXPECT_EQ(WaitExited(id).exit_code(), 0);
  v1::ContainerConfig look_config = Script("look", kForever);
  Options(&look_config)->set_pid(v1::POD);
  std::string look = Start(pod, look_config);
  EXPECT_EQ(Trimmed(Exec(look, "ps | grep -c '[s]leep 4242' || true")), "0");
}

TEST_F(ServerPodLiveTest, ThePauseProcessHasThePodsSecurityContext) {
  // Of /proc/1/status, its numbers in one line.
  auto pause = [&](const v1::PodSandboxConfig& config) {
    v1::ContainerConfig look = Script("look", kForever);
    Options(&look)->set_pid(v1::POD);
    return Trimmed(Exec(Start(RunPod(config), look),
                        "sed -n 's/^Uid:\t\\([0-9]*\\).*/\\1/p; s/^Gid:\t\\([0-9]*\\).*/\\1/p; "
                        "s/^Groups:\t\\(.*[0-9]\\).*/\\1/p; s/^Seccomp:\t//p' /proc/1/status | xargs"));
  };
  v1::PodSandboxConfig config = PodConfig("pause-default");
  Options(&config)->set_pid(v1::POD);
  EXPECT_EQ(pause(config), "65535 65535 65535 2");
  v1::PodSandboxConfig user = PodConfig("pause-user");
  Options(&user)->set_pid(v1::POD);
  auto* security = user.mutable_linux()->mutable_security_context();
  security->mutable_run_as_user()->set_value(1234);
  security->mutable_run_as_group()->set_value(2345);
  security->add_supplemental_groups(3456);
  security->mutable_seccomp()->set_profile_type(v1::SecurityProfile::Unconfined);
  EXPECT_EQ(pause(user), "1234 2345 2345 3456 0");
  v1::PodSandboxConfig profile = PodConfig("pause-profile");
  Options(&profile)->set_pid(v1::POD);
  const std::string path = dir() + "/allow.json";
  ASSERT_TRUE(WriteFileAtomic(path, R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
      {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]})",
                              0644, false)
                  .ok());
  security = profile.mutable_linux()->mutable_security_context();
  security->mutable_seccomp()->set_profile_type(v1::SecurityProfile::Localhost);
  security->mutable_seccomp()->set_localhost_ref(path);
  EXPECT_EQ(pause(profile), "65535 65535 65535 2");
}

TEST_F(ServerPodLiveTest, AStoppedPauseStopsThePod) {
  v1::PodSandboxConfig shared = PodConfig("pause-dies");
  Options(&shared)->set_pid(v1::POD);
  std::string pod = RunPod(shared);
  v1::ContainerConfig config = Script("c", kForever);
  Options(&config)->set_pid(v1::POD);
  std::string id = Start(pod, config);
  v1::PodSandboxStatusRequest request;
  request.set_pod_sandbox_id(pod);
  request.set_verbose(true);
  auto status = Call(runtime().PodSandboxStatus(request));
  ASSERT_TRUE(status.ok());
  const std::string& info = status->info().at("info");
  int pid = 0;
  ASSERT_EQ(sscanf(info.c_str() + info.find("\"pid\":") + 6, "%d", &pid), 1);
  ASSERT_GT(pid, 1);
  ASSERT_EQ(::kill(pid, SIGKILL), 0);
  absl::Duration limit = env_.clock().Monotonic() + absl::Seconds(20);
  // The pod is not ready as soon as its stop has begun, its containers end in the course of it.
  auto stopped = [&] {
    return PodStatus(pod).state() != v1::SANDBOX_READY && Status(id).state() == v1::CONTAINER_EXITED;
  };
  while (!stopped() && env_.clock().Monotonic() < limit) Sleep(absl::Milliseconds(20));
  EXPECT_EQ(PodStatus(pod).state(), v1::SANDBOX_NOTREADY);
  EXPECT_EQ(Status(id).state(), v1::CONTAINER_EXITED);
}

TEST_F(ServerPodLiveTest, IpcAndUtsNamespaces) {
  std::string pod = RunPod(NetworkPodConfig("ipc-pod"));
  std::string a = Start(pod, Script("a", kForever)), b = Start(pod, Script("b", kForever));
  for (const char* kind : {"ipc", "uts", "net"}) {
    std::string link = StrCat("readlink /proc/self/ns/", kind);
    EXPECT_EQ(Exec(a, link), Exec(b, link)) << kind;
    EXPECT_NE(Trimmed(Exec(a, link)), OwnNamespace(kind)) << kind;
  }
  EXPECT_NE(Exec(a, "readlink /proc/self/ns/mnt"), Exec(b, "readlink /proc/self/ns/mnt"));
  Exec(a, "echo shared > /dev/shm/file");
  EXPECT_EQ(Exec(b, "cat /dev/shm/file"), "shared\n");
  EXPECT_EQ(Trimmed(Exec(a, "df -k /dev/shm | tail -n 1 | awk '{print $2}'")), "65536");
  EXPECT_EQ(Trimmed(Exec(a, "stat -c %a /dev/shm")), "1777");

  v1::PodSandboxConfig node = PodConfig("ipc-node");
  Options(&node)->set_ipc(v1::NODE);
  std::string host = RunPod(node);
  v1::ContainerConfig config = Script("c", kForever);
  Options(&config)->set_ipc(v1::NODE);
  std::string c = Start(host, config);
  for (const char* kind : {"ipc", "uts", "net"}) {
    EXPECT_EQ(Trimmed(Exec(c, StrCat("readlink /proc/self/ns/", kind))), OwnNamespace(kind)) << kind;
  }
  v1::NamespaceOption options = PodStatus(host).linux().namespaces().options();
  EXPECT_EQ(options.ipc(), v1::NODE);
  EXPECT_EQ(options.network(), v1::NODE);
}

// ---- files and sysctls ----

TEST_F(ServerPodLiveTest, HostnameResolvConfAndHosts) {
  v1::PodSandboxConfig config = NetworkPodConfig("names");
  config.set_hostname("web-0");
  config.mutable_dns_config()->add_servers("10.10.10.10");
  config.mutable_dns_config()->add_searches("google.com");
  config.mutable_dns_config()->add_options("ndots:8");
  std::string pod = RunPod(config);
  std::string id = Start(pod, Script("main", kForever));
  EXPECT_EQ(Exec(id, "hostname"), "web-0\n");
  EXPECT_EQ(Exec(id, "cat /etc/hostname"), "web-0\n");
  EXPECT_EQ(Exec(id, "echo $HOSTNAME"), "web-0\n");
  EXPECT_EQ(Exec(id, "cat /etc/resolv.conf"), "search google.com\nnameserver 10.10.10.10\noptions ndots:8\n");
  EXPECT_THAT(Exec(id, "cat /etc/hosts"), HasSubstr("localhost"));
  // Without a wish of its own a pod gets the host's.
  std::string plain = RunPod(NetworkPodConfig("plain"));
  std::string c = Start(plain, Script("main", kForever));
  EXPECT_EQ(Exec(c, "cat /etc/resolv.conf"), ReadFile("/etc/resolv.conf").value());
}

TEST_F(ServerPodLiveTest, Sysctls) {
  v1::PodSandboxConfig config = NetworkPodConfig("sysctls");
  auto& sysctls = *config.mutable_linux()->mutable_sysctls();
  sysctls["kernel.shm_rmid_forced"] = "1";
  sysctls["fs.mqueue.msg_max"] = "100";
  sysctls["net.ipv4.ip_local_port_range"] = "40000 50000";
  sysctls["net.ipv4.conf.eth0.rp_filter"] = "2";
  sysctls["net/ipv4/conf/lo/log_martians"] = "1";
  std::string pod = RunPod(config);
  std::string id = Start(pod, Script("main", kForever));
  EXPECT_EQ(Exec(id, "cat /proc/sys/kernel/shm_rmid_forced"), "1\n");
  EXPECT_EQ(Exec(id, "cat /proc/sys/fs/mqueue/msg_max"), "100\n");
  EXPECT_EQ(Exec(id, "cat /proc/sys/net/ipv4/ip_local_port_range"), "40000\t50000\n");
  EXPECT_EQ(Exec(id, "cat /proc/sys/net/ipv4/conf/eth0/rp_filter"), "2\n");
  EXPECT_EQ(Exec(id, "cat /proc/sys/net/ipv4/conf/lo/log_martians"), "1\n");
  // What every pod gets: low ports and ping for everybody.
  EXPECT_EQ(Exec(id, "cat /proc/sys/net/ipv4/ip_unprivileged_port_start"), "0\n");
  EXPECT_EQ(Exec(id, "cat /proc/sys/net/ipv4/ping_group_range"), "0\t2147483647\n");
  absl::StatusOr<std::string> own = ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start");
  EXPECT_EQ(own.value(), "1024\n") << "the host keeps its own";
}

// ---- network ----

// One line from a TCP server; "" when nothing answers.
std::string ReadLineFrom(const std::string& ip, uint16_t port) {
  const Fd socket = ConnectedTo(ip, SOCK_STREAM, port, /*limit_s=*/5);
  if (socket.get() < 0) return "";
  char buffer[256];
  ssize_t n = ::recv(socket.get(), buffer, sizeof buffer, 0);
  return n > 0 ? std::string(buffer, static_cast<size_t>(n)) : "";
}

std::string Serve(const std::string& word, int port) {
  return StrCat("while true; do echo ", word, " | nc -l -p ", port, "; done");
}

TEST_F(ServerPodLiveTest, AddressAndHostPort) {
  v1::PodSandboxConfig config = NetworkPodConfig("ports");
  v1::PortMapping* mapping = config.add_port_mappings();
  mapping->set_host_port(21500);
  mapping->set_container_port(8080);
  config.add_port_mappings()->set_container_port(9090);  // without a host port: says nothing
  std::string pod = RunPod(config);
  std::string ip = PodStatus(pod).network().ip();
  EXPECT_TRUE(absl::StartsWith(ip, "10.253.0.")) << ip;
  std::string id = Start(pod, Script("web", Serve("hello", 8080)));
  EXPECT_THAT(Exec(id, "ip -4 -o addr show eth0"), HasSubstr(ip));
  EXPECT_THAT(Exec(id, "ip -o link show lo"), HasSubstr("UP"));
  absl::Duration limit = env_.clock().Monotonic() + absl::Seconds(20);
  auto await_line = [&](const std::string& at, uint16_t port) {
    std::string line;
    while ((line = ReadLineFrom(at, port)).empty() && env_.clock().Monotonic() < limit)
      Sleep(absl::Milliseconds(20));
    return line;
  };
  EXPECT_EQ(await_line(ip, 8080), "hello\n");
  EXPECT_EQ(await_line("127.0.0.1", 21500), "hello\n");
  // The port is taken; what is refused leaves nothing, and goes when its owner goes.
  v1::PodSandboxConfig second = NetworkPodConfig("ports-again");
  *second.add_port_mappings() = *mapping;
  absl::Status taken = TryRunPod(second).status();
  EXPECT_EQ(taken.code(), absl::StatusCode::kAlreadyExists) << taken;
  EXPECT_THAT(std::string(taken.message()), HasSubstr("21500"));
  StopPod(pod);
  EXPECT_EQ(PodStatus(pod).network().ip(), ip) << "a stopped pod's address is still told";
  EXPECT_EQ(ReadLineFrom("127.0.0.1", 21500), "");
  EXPECT_TRUE(TryRunPod(second).ok());
}

// A network of one plugin that writes down what it is told, and is ill when there is a file "ill".
class ServerPluginLiveTest : public LiveTest {
 protected:
  void TearDown() override {
    LiveTest::TearDown();
    if (live_ == nullptr) return;
    std::filesystem::remove(Configuration());
    std::filesystem::remove(live_->paths().cni_bin_dir + "/recorder");
  }
  std::string Configuration() const { return live_->paths().cni_conf_dir + "/00-recorder.conflist"; }
  void Configure(const std::string& name) {
    const std::string at = dir() + "/";
    ASSERT_TRUE(
        WriteFileAtomic(
            live_->paths().cni_bin_dir + "/recorder",
            StrCat("#!/bin/sh\ncat >", at, "$CNI_COMMAND\n",
                   "case $CNI_COMMAND in\n"
                   "ADD) echo '{\"cniVersion\":\"1.1.0\",\"ips\":[{\"address\":\"10.253.9.9/24\"}]}';;\n"
                   "STATUS) [ ! -e ",
                   at,
                   "ill ] || { echo '{\"code\":50,\"msg\":\"the agent does not run\"}'; exit 1; };;\n"
                   "esac\n"),
            0755, false)
            .ok());
    ASSERT_TRUE(WriteFileAtomic(Configuration(),
                                StrCat(R"({"cniVersion":"1.1.0","name":")", name, R"(","plugins":[{"type":)",
                                       R"("recorder","capabilities":{"bandwidth":true,"dns":true,)",
                                       R"("portMappings":true}}]})"),
                                0644, false)
                    .ok());
  }
  v1::RuntimeCondition NetworkReady() {
    auto response = Call(runtime().Status(v1::StatusRequest()));
    EXPECT_TRUE(response.ok()) << response.status();
    for (const v1::RuntimeCondition& condition : response->status().conditions()) {
      if (condition.type() == "NetworkReady") return condition;
    }
    return {};
  }
};

TEST_F(ServerPluginLiveTest, GetsWhatThePodAsksFor) {
  Configure("recorder");
  v1::PodSandboxConfig config = NetworkPodConfig("recorded");
  (*config.mutable_annotations())["kubernetes.io/ingress-bandwidth"] = "10M";
  (*config.mutable_annotations())["kubernetes.io/egress-bandwidth"] = "1Ki";
  config.mutable_dns_config()->add_servers("10.96.0.10");
  config.mutable_dns_config()->add_searches("svc.cluster.local");
  v1::PortMapping* mapping = config.add_port_mappings();
  mapping->set_host_port(21501);
  mapping->set_container_port(80);
  std::string pod = RunPod(config);
  EXPECT_EQ(PodStatus(pod).network().ip(), "10.253.9.9");
  const std::string added = ReadFile(dir() + "/ADD").value();
  EXPECT_THAT(added, HasSubstr(R"("bandwidth":{"egressBurst":2147483647,"egressRate":1024,)"
                               R"("ingressBurst":2147483647,"ingressRate":10000000})"));
  EXPECT_THAT(added,
              HasSubstr(R"("dns":{"options":[],"searches":["svc.cluster.local"],"servers":["10.96.0.10"]})"));
  EXPECT_THAT(added, HasSubstr(R"("portMappings":[{"containerPort":80,"hostPort":21501,"protocol":"tcp"}])"));
  StopPod(pod);
  EXPECT_THAT(ReadFile(dir() + "/DEL").value(), HasSubstr("\"ingressRate\":10000000"));
  // What is no amount is refused by the annotation's name, before any plugin runs.
  std::filesystem::remove(dir() + "/ADD");
  (*config.mutable_annotations())["kubernetes.io/egress-bandwidth"] = "1";
  config.mutable_metadata()->set_attempt(7);
  absl::Status refused = TryRunPod(config).status();
  EXPECT_TRUE(absl::IsInvalidArgument(refused)) << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("kubernetes.io/egress-bandwidth"));
  EXPECT_FALSE(std::filesystem::exists(dir() + "/ADD"));
}

TEST_F(ServerPluginLiveTest, SaysWhetherTheNetworkIsReady) {
  Configure("healthy");
  EXPECT_TRUE(NetworkReady().status()) << NetworkReady().message();
  EXPECT_THAT(ReadFile(dir() + "/STATUS").value(), HasSubstr("\"name\":\"healthy\""));
  // Another network, so that the answer is not the one from before.
  ASSERT_TRUE(WriteFileAtomic(dir() + "/ill", "", 0644, false).ok());
  EXPECT_TRUE(NetworkReady().status());
  Configure("ill");
  v1::RuntimeCondition condition = NetworkReady();
  EXPECT_FALSE(condition.status());
  EXPECT_EQ(condition.reason(), "NetworkPluginNotReady");
  EXPECT_THAT(condition.message(), HasSubstr("plugin recorder: the agent does not run"));
  std::filesystem::remove(Configuration());
  EXPECT_TRUE(NetworkReady().status()) << NetworkReady().message();
}

TEST_F(ServerPodLiveTest, PodsReachEachOther) {
  std::string a = RunPod(NetworkPodConfig("a")), b = RunPod(NetworkPodConfig("b"));
  std::string server = Start(a, Script("server", Serve("from-a", 8080)));
  std::string client = Start(b, Script("client", kForever));
  std::string command = StrCat("for i in $(seq 50); do nc -w 2 ", PodStatus(a).network().ip(),
                               " 8080 && exit 0; sleep 0.1; done; exit 1");
  EXPECT_EQ(Exec(client, command), "from-a\n");
  EXPECT_NE(PodStatus(a).network().ip(), PodStatus(b).network().ip());
}

TEST_F(ServerPodLiveTest, ARefusedPodLeavesNothing) {
  auto count = [&] {
    int links = 0;
    absl::StatusOr<std::string> devices = ReadFile("/proc/net/dev");
    for (absl::string_view line : absl::StrSplit(devices.value(), '\n'))
      links += absl::StrContains(line, "veth") ? 1 : 0;
    int files = 0;
    for (const char* dir : {"/sandboxes", "/m/p"}) {
      for (const auto& entry : std::filesystem::directory_iterator(live_->paths().pods_dir + dir)) {
        files += entry.exists() ? 1 : 0;
      }
    }
    return std::make_pair(links, files);
  };
  auto before = count();
  // Refused after the network was there.
  v1::PodSandboxConfig config = NetworkPodConfig("refused");
  (*config.mutable_linux()->mutable_sysctls())["net.ipv4.conf.eth7.rp_filter"] = "2";
  absl::Status status = TryRunPod(config).status();
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), HasSubstr("eth7"));
  EXPECT_EQ(count(), before);
}

TEST_F(ServerPodLiveTest, ManyAtATime) {
  constexpr int kPods = 8;
  struct Runner {
    static Task<void> Go(RuntimeService* runtime, v1::PodSandboxConfig config, std::vector<std::string>* ids,
                         int* failed) {
      v1::RunPodSandboxRequest request;
      *request.mutable_config() = std::move(config);
      Task<absl::StatusOr<v1::RunPodSandboxResponse>> call = runtime->RunPodSandbox(request);
      absl::StatusOr<v1::RunPodSandboxResponse> answer = co_await std::move(call);
      if (answer.ok()) {
        ids->push_back(answer->pod_sandbox_id());
      } else {
        ++*failed;
      }
    }
  };
  std::vector<std::string> ids;
  int failed = 0;
  Scope scope(env_.executor());
  v1::PodSandboxConfig same = NetworkPodConfig("same");
  for (int i = 0; i < kPods; ++i) {
    scope.Spawn("run", Runner::Go(&runtime(), NetworkPodConfig(StrCat("many", i)), &ids, &failed));
    scope.Spawn("run", Runner::Go(&runtime(), same, &ids, &failed));
  }
  while (ids.size() + static_cast<size_t>(failed) < 2 * kPods) Sleep(absl::Milliseconds(10));
  EXPECT_EQ(failed, kPods - 1) << "one of the same name";
  std::set<std::string> addresses;
  for (const std::string& id : ids) addresses.insert(PodStatus(id).network().ip());
  EXPECT_EQ(addresses.size(), ids.size());
  for (const std::string& id : ids) RemovePod(id);
}

}  // namespace
}  // namespace keelson::cri
