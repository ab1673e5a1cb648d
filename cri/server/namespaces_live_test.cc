// Pinned namespaces for real, in a mount and network namespace of this process' own. Needs root.
#include <arpa/inet.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/nsfs.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <functional>
#include <random>
#include <thread>

#include "base/fd.h"
#include "base/strings.h"
#include "cri/server/namespaces.h"

namespace keelson::cri {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

ino_t Inode(const std::string& path) {
  struct stat st;
  return ::stat(path.c_str(), &st) == 0 ? st.st_ino : 0;
}

class NamespacesLiveTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (::geteuid() != 0) return;
    if (::unshare(CLONE_NEWNET | CLONE_NEWNS) != 0) return;
    ASSERT_EQ(::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
    char name[] = "/tmp/keelson-namespaces-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    top_ = name;
    // As /run is: what is bound below is seen in other mount namespaces too.
    ASSERT_EQ(::mount("none", name, "tmpfs", 0, nullptr), 0);
    ASSERT_EQ(::mount("none", name, nullptr, MS_SHARED, nullptr), 0);
  }
  static void TearDownTestSuite() {
    if (top_.empty()) return;
    ::umount2(top_.c_str(), MNT_DETACH);
    ::rmdir(top_.c_str());
  }
  void SetUp() override {
    if (top_.empty()) GTEST_SKIP() << "needs root and mount namespaces";
    dir_ = StrCat(top_, "/", ::testing::UnitTest::GetInstance()->current_test_info()->name());
    threads_before_ = Inodes();
  }
  void TearDown() override {
    if (top_.empty()) return;
    EXPECT_TRUE(UnpinNamespaces(dir_).ok());
    EXPECT_NE(::access(dir_.c_str(), F_OK), 0) << "something is left in " << dir_;
    EXPECT_EQ(Inodes(), threads_before_) << "this process changed its own namespaces";
    EXPECT_EQ(ReadFile("/proc/self/mounts")->find(dir_), std::string::npos);
    // CVE-2020-15257.
    EXPECT_THAT(*ReadFile("/proc/self/net/unix"), Not(HasSubstr("@")));
  }
  static std::vector<ino_t> Inodes() {
    return {Inode("/proc/self/ns/net"), Inode("/proc/self/ns/ipc"), Inode("/proc/self/ns/uts"),
            Inode("/proc/self/ns/user")};
  }
  std::string In(const std::string& what, const std::string& command) {
    std::string out = dir_ + ".out";
    EXPECT_EQ(std::system(StrCat("nsenter ", what, " sh -c '", command, "' >", out, " 2>&1").c_str()), 0)
        << command;
    std::string text = *ReadFile(out);
    ::unlink(out.c_str());
    return text;
  }
  std::string All() const { return StrCat("--net=", dir_, "/net --ipc=", dir_, "/ipc --uts=", dir_, "/uts"); }

  static std::string top_;
  std::string dir_;
  std::vector<ino_t> threads_before_;
};
std::string NamespacesLiveTest::top_;

TEST_F(NamespacesLiveTest, AllThree) {
  PinRequest request{.dir = dir_, .network = true, .ipc = true, .uts = true, .hostname = "web-0"};
  request.sysctls = {{"net.ipv4.ip_unprivileged_port_start", "0"},
                     {"net.ipv4.ping_group_range", "0 2147483647"},
                     {"net/ipv4/conf/all/rp_filter", "2"},
                     {"net.ipv4.conf.eth0.rp_filter", "1"},  // eth0 is not there yet
                     {"kernel.shm_rmid_forced", "1"},
                     {"fs.mqueue.queues_max", "77"},
                     {"kernel.domainname", "cluster"}};
  std::string host_shm = *ReadFile("/proc/sys/kernel/shm_rmid_forced");
  utsname host{};
  ::uname(&host);
  absl::Status pinned = PinNamespaces(request);
  ASSERT_TRUE(pinned.ok()) << pinned;
  EXPECT_EQ(In(All(),
               "cd /proc/sys && cat kernel/hostname kernel/domainname kernel/shm_rmid_forced "
               "fs/mqueue/queues_max net/ipv4/ip_unprivileged_port_start net/ipv4/conf/all/rp_filter"),
            "web-0\ncluster\n1\n77\n0\n2\n");
  EXPECT_THAT(In(All(), "ip -o addr show lo"), HasSubstr("127.0.0.1/8"));
  EXPECT_THAT(In(All(), "ip -o link show lo"), HasSubstr("LOWER_UP"));
  // The host is as it was.
  utsname after{};
  ::uname(&after);
  EXPECT_STREQ(after.nodename, host.nodename);
  EXPECT_EQ(*ReadFile("/proc/sys/kernel/shm_rmid_forced"), host_shm);
  EXPECT_EQ(PinNamespaces(request).code(), absl::StatusCode::kAlreadyExists);
  EXPECT_NE(Inode(dir_ + "/net"), 0u);
  // Once the plugins made the interface.
  Sysctls late = WaitsForInterfaces(request.sysctls);
  EXPECT_EQ(WriteSysctls(dir_, late).code(), absl::StatusCode::kNotFound);
  In(All(), "ip link add eth0 type bridge");
  EXPECT_TRUE(WriteSysctls(dir_, late).ok());
  EXPECT_EQ(In(All(), "cat /proc/sys/net/ipv4/conf/eth0/rp_filter"), "1\n");
}

TEST_F(NamespacesLiveTest, FailureLeavesNothing) {
  std::vector<Sysctls> bad = {{{"net.ipv4.no_such_thing", "1"}},
                              {{"net.ipv4.ip_unprivileged_port_start", "many"}},
                              {{"kernel.shmmax", "1"}, {"vm.swappiness", "1"}}};
  for (const Sysctls& sysctls : bad) {
    absl::Status status =
        PinNamespaces({.dir = dir_, .network = true, .ipc = true, .uts = true, .sysctls = sysctls});
    EXPECT_FALSE(status.ok());
    EXPECT_THAT(std::string(status.message()), HasSubstr("sysctl"));
    EXPECT_NE(::access(dir_.c_str(), F_OK), 0);
  }
  // A folder in the way of the second pin: the first is taken back.
  ASSERT_TRUE(MakeDirs(dir_ + "/ipc/x").ok());
  EXPECT_FALSE(PinNamespaces({.dir = dir_, .network = true, .ipc = true}).ok());
  EXPECT_NE(::access((dir_ + "/net").c_str(), F_OK), 0);
  ASSERT_TRUE(RemoveTree(dir_ + "/ipc").ok());
}

TEST_F(NamespacesLiveTest, OnlyWhatIsAskedFor) {
  ASSERT_TRUE(PinNamespaces({.dir = dir_, .ipc = true, .sysctls = {{"kernel.msgmax", "9000"}}}).ok());
  EXPECT_NE(::access((dir_ + "/net").c_str(), F_OK), 0);
  EXPECT_NE(::access((dir_ + "/uts").c_str(), F_OK), 0);
  EXPECT_EQ(In(StrCat("--ipc=", dir_, "/ipc"), "cat /proc/sys/kernel/msgmax"), "9000\n");
  EXPECT_EQ(WriteSysctls(dir_, {{"net.core.somaxconn", "1"}}).code(), absl::StatusCode::kInvalidArgument);
  // A file that is in the way since a crash is taken over.
  ASSERT_TRUE(UnpinNamespaces(dir_).ok());
  ASSERT_TRUE(MakeDirs(dir_).ok());
  ASSERT_TRUE(WriteFileAtomic(dir_ + "/ipc", "", 0444, false).ok());
  EXPECT_TRUE(PinNamespaces({.dir = dir_, .ipc = true}).ok());
}

TEST_F(NamespacesLiveTest, UnpinWhatIsStackedAndTwice) {
  ASSERT_TRUE(PinNamespaces({.dir = dir_, .network = true}).ok());
  ASSERT_EQ(::mount("/proc/self/ns/net", (dir_ + "/net").c_str(), nullptr, MS_BIND, nullptr), 0);
  EXPECT_TRUE(UnpinNamespaces(dir_).ok());
  EXPECT_TRUE(UnpinNamespaces(dir_).ok());
}

TEST_F(NamespacesLiveTest, UserNamespaceOwnsTheOthers) {
  PinRequest request{.dir = dir_, .network = true, .ipc = true, .uts = true, .hostname = "inner"};
  request.sysctls = {{"net.ipv4.ip_unprivileged_port_start", "0"}, {"kernel.shm_rmid_forced", "1"}};
  request.uid_mappings = {{0, 200000, 65536}};
  request.gid_mappings = {{0, 300000, 65536}};
  absl::Status pinned = PinNamespaces(request);
  ASSERT_TRUE(pinned.ok()) << pinned;
  std::string user = StrCat("--user=", dir_, "/user ");
  EXPECT_EQ(In(user + All(), "cat /proc/self/uid_map /proc/self/gid_map | tr -s \" \""),
            " 0 200000 65536\n 0 300000 65536\n");
  EXPECT_EQ(In(user + All(), "hostname; cat /proc/sys/kernel/shm_rmid_forced"), "inner\n1\n");
  // Root inside may change the network: it is owned by the user namespace.
  In(user + All(), "ip link add d0 type bridge && ip link set d0 up");
  Fd net = *OpenFile(dir_ + "/net", O_RDONLY), owner = Fd(::ioctl(net.get(), NS_GET_USERNS));
  ASSERT_TRUE(owner.valid());
  struct stat st;
  ASSERT_EQ(::fstat(owner.get(), &st), 0);
  EXPECT_EQ(st.st_ino, Inode(dir_ + "/user"));
  // Overlapping mappings: the kernel refuses, nothing stays.
  ASSERT_TRUE(UnpinNamespaces(dir_).ok());
  request.uid_mappings = {{0, 200000, 10}, {5, 300000, 10}};
  EXPECT_FALSE(PinNamespaces(request).ok());
  EXPECT_NE(::access(dir_.c_str(), F_OK), 0);
}

// The process that holds the namespaces until they are bound shares the descriptors of the server. If it
// outlived it, it would hold its locks and its socket for ever, and no server could start again.
TEST_F(NamespacesLiveTest, NothingOutlivesAServerKilledInTheMiddle) {
  constexpr int kKills = 200;
  constexpr int kEndMs = 5000;
  const PinRequest request{
      .dir = dir_, .uts = true, .uid_mappings = {{0, 200000, 10}}, .gid_mappings = {{0, 200000, 10}}};
  std::mt19937 random(1);
  for (int i = 0; i < kKills; ++i) {
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    Fd read_end(ends[0]), write_end(ends[1]);
    pid_t server = ::fork();
    ASSERT_GE(server, 0);
    while (server == 0) {
      if (!PinNamespaces(request).ok() || !UnpinNamespaces(dir_).ok()) ::_exit(1);
    }
    write_end.reset();
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 3000));
    ASSERT_EQ(::kill(server, SIGKILL), 0);
    int status = 0;
    ASSERT_EQ(::waitpid(server, &status, 0), server);
    ASSERT_TRUE(WIFSIGNALED(status)) << "it ended by itself";
    pollfd closed = {read_end.get(), POLLIN, 0};
    ASSERT_EQ(::poll(&closed, 1, kEndMs), 1) << "kill " << i << ": somebody still has its descriptors";
    ASSERT_TRUE(UnpinNamespaces(dir_).ok());
  }
}

// A TCP listener in a namespace, on a thread.
Fd ListenIn(const std::string& netns, int family, uint16_t* port) {
  Fd out;
  std::thread([&] {
    Fd ns = *OpenFile(netns, O_RDONLY);
    ASSERT_EQ(::setns(ns.get(), CLONE_NEWNET), 0);
    out = Fd(::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_storage at{};
    at.ss_family = static_cast<sa_family_t>(family);
    socklen_t size = sizeof at;
    if (family == AF_INET6) {
      int on = 1;
      ::setsockopt(out.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
      reinterpret_cast<sockaddr_in6*>(&at)->sin6_addr = in6addr_loopback;
      size = sizeof(sockaddr_in6);
    } else {
      size = sizeof(sockaddr_in);
    }
    ASSERT_EQ(::bind(out.get(), reinterpret_cast<sockaddr*>(&at), size), 0);
    ASSERT_EQ(::listen(out.get(), 8), 0);
    ASSERT_EQ(::getsockname(out.get(), reinterpret_cast<sockaddr*>(&at), &size), 0);
    *port = ntohs(reinterpret_cast<sockaddr_in*>(&at)->sin_port);
  }).join();
  return out;
}

TEST_F(NamespacesLiveTest, DialIntoThePod) {
  ASSERT_TRUE(PinNamespaces({.dir = dir_, .network = true}).ok());
  for (int family : {AF_INET, AF_INET6}) {
    uint16_t port = 0;
    Fd listener = ListenIn(dir_ + "/net", family, &port);
    ASSERT_NE(port, 0);
    absl::StatusOr<Fd> client = ConnectInNamespace(dir_ + "/net", port, absl::Seconds(5));
    ASSERT_TRUE(client.ok()) << client.status();
    Fd server(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    ASSERT_TRUE(WriteAll(server.get(), "hello").ok());
    server.reset();
    // Its own answer may wait; it is non-blocking.
    EXPECT_NE(::fcntl(client->get(), F_GETFL) & O_NONBLOCK, 0);
    EXPECT_NE(::fcntl(client->get(), F_GETFD) & FD_CLOEXEC, 0);
    ::fcntl(client->get(), F_SETFL, 0);
    EXPECT_EQ(*ReadFd(client->get(), 100), "hello");
  }
  absl::StatusOr<Fd> refused = ConnectInNamespace(dir_ + "/net", 1, absl::Seconds(5));
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("dial localhost:1 inside"));
  EXPECT_EQ(ConnectInNamespace(dir_ + "/nothing", 1, absl::Seconds(5)).status().code(),
            absl::StatusCode::kNotFound);
  // The pod drops packets.
  In(StrCat("--net=", dir_, "/net"),
     "nft add table inet t && nft add chain inet t c "
     "\"{ type filter hook input priority 0; policy drop; }\"");
  EXPECT_EQ(ConnectInNamespace(dir_ + "/net", 1, absl::Milliseconds(50)).status().code(),
            absl::StatusCode::kDeadlineExceeded);
}

TEST_F(NamespacesLiveTest, Counters) {
  ASSERT_TRUE(PinNamespaces({.dir = dir_, .network = true}).ok());
  std::string net = dir_ + "/net";
  EXPECT_TRUE(ReadInterfaceCounters(net)->empty());
  In("--net=" + net,
     "ip link add eth0 type veth peer name lost && ip link set lost up && ip addr add 10.9.9.9/24 dev eth0 "
     "&& ip link set eth0 up && "
     "bash -c \"echo > /dev/udp/10.9.9.1/9\"");
  absl::StatusOr<std::vector<InterfaceCounters>> counters = ReadInterfaceCounters(net);
  ASSERT_TRUE(counters.ok()) << counters.status();
  ASSERT_EQ(counters->size(), 2u);
  for (const InterfaceCounters& c : *counters) {
    EXPECT_TRUE(c.name == "eth0" || c.name == "lost") << c.name;
    if (c.name != "eth0") continue;
    EXPECT_GT(c.tx_bytes, 0u);
  }
  auto many = ReadInterfaceCountersOf({net, dir_ + "/nothing", net});
  ASSERT_EQ(many.size(), 3u);
  EXPECT_TRUE(many[0].ok() && many[2].ok());
  EXPECT_EQ(many[1].status().code(), absl::StatusCode::kNotFound);
}

// Not a benchmark, a figure to look at: what a sandbox pays.
TEST_F(NamespacesLiveTest, Figures) {
  constexpr int kRounds = 30;
  auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < kRounds; ++i) {
    ASSERT_TRUE(PinNamespaces({.dir = dir_,
                               .network = true,
                               .ipc = true,
                               .uts = true,
                               .hostname = "h",
                               .sysctls = {{"net.ipv4.ip_unprivileged_port_start", "0"}}})
                    .ok());
    ASSERT_TRUE(UnpinNamespaces(dir_).ok());
  }
  double us = std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count();
  RecordProperty("pin_and_unpin_us", static_cast<int>(us / kRounds));
  std::printf("pin and unpin: %.0f us\n", us / kRounds);
  ASSERT_TRUE(PinNamespaces({.dir = dir_, .network = true}).ok());
  begin = std::chrono::steady_clock::now();
  for (int i = 0; i < kRounds; ++i) ASSERT_TRUE(ReadInterfaceCounters(dir_ + "/net").ok());
  us = std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count();
  std::printf("interface counters: %.0f us\n", us / kRounds);
}

}  // namespace
}  // namespace keelson::cri
