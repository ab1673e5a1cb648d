#include "cri/server/namespaces.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace keelson::cri {
namespace {

using ::testing::HasSubstr;

TEST(Namespaces, SysctlPath) {
  struct Row {
    const char *name, *path;  // "": refused
  } rows[] = {
      {"net.ipv4.ip_unprivileged_port_start", "net/ipv4/ip_unprivileged_port_start"},
      {"net/ipv4/ip_forward", "net/ipv4/ip_forward"},
      {"net.ipv4.conf.eth0/100.rp_filter", "net/ipv4/conf/eth0.100/rp_filter"},
      {"net/ipv4/conf/eth0.100/rp_filter", "net/ipv4/conf/eth0.100/rp_filter"},
      {"kernel.shm_rmid_forced", "kernel/shm_rmid_forced"},
      {"", ""},
      {"net", ""},
      {"net.", ""},
      {".net", ""},
      {"net..ipv4", ""},
      {"net/../kernel/core_pattern", ""},
      {"net.//.kernel.core_pattern", ""},
      {"net./.kernel", ""},
      {"/proc/sys/net", ""},
      {"net.ipv4.ip forward", ""},
      {"net.ipv4.x\n", ""},
  };
  for (const Row& row : rows) {
    absl::StatusOr<std::string> path = SysctlPath(row.name);
    EXPECT_EQ(path.ok() ? *path : "", row.path) << row.name;
  }
  EXPECT_FALSE(SysctlPath("net." + std::string(300, 'a')).ok());
}

TEST(Namespaces, SysctlsNeedTheirNamespace) {
  struct Row {
    const char* name;
    bool network, ipc, uts;
    const char* words;  // "": fine
  } rows[] = {
      {"net.ipv4.tcp_syncookies", true, false, false, ""},
      {"net.ipv4.tcp_syncookies", false, true, true, "host's network"},
      {"kernel.shmmax", false, true, false, ""},
      {"kernel.msgmax", true, false, true, "host's IPC"},
      {"kernel.sem", false, true, false, ""},
      {"fs.mqueue.queues_max", false, true, false, ""},
      {"kernel.domainname", false, false, true, ""},
      {"kernel.hostname", true, true, false, "host's UTS"},
      {"kernel.core_pattern", true, true, true, "whole host"},
      {"kernel.semaphore", true, true, true, "whole host"},
      {"vm.swappiness", true, true, true, "whole host"},
      {"fs.file-max", true, true, true, "whole host"},
      {"fs.mqueue", true, true, true, "whole host"},
      {"net.//.//.sys", true, true, true, "no valid name"},
  };
  for (const Row& row : rows) {
    PinRequest request{.network = row.network, .ipc = row.ipc, .uts = row.uts, .sysctls = {{row.name, "1"}}};
    absl::Status status = CheckSysctls(request);
    EXPECT_EQ(status.ok(), *row.words == '\0') << row.name << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(row.words));
  }
  PinRequest request{.network = true, .sysctls = {{"net.x.y", std::string(5000, '1')}}};
  EXPECT_FALSE(CheckSysctls(request).ok());
}

TEST(Namespaces, SysctlsOfAnInterfaceWait) {
  Sysctls all = {{"net.ipv4.conf.eth0.rp_filter", "0"},   {"net.ipv4.conf.all.rp_filter", "0"},
                 {"net.ipv6.neigh.eth0.gc_stale", "1"},   {"net.ipv4.conf.default.x", "1"},
                 {"net/ipv6/conf/eth0.7/accept_ra", "1"}, {"net.core.somaxconn", "1"},
                 {"net.ipv4.conf.lo.rp_filter", "1"}};
  Sysctls waiting = WaitsForInterfaces(all);
  EXPECT_EQ(waiting, (Sysctls{{"net.ipv4.conf.eth0.rp_filter", "0"},
                              {"net.ipv6.neigh.eth0.gc_stale", "1"},
                              {"net/ipv6/conf/eth0.7/accept_ra", "1"}}));
}

TEST(Namespaces, BadRequestsTouchNothing) {
  EXPECT_FALSE(PinNamespaces({.dir = "relative", .network = true}).ok());
  EXPECT_FALSE(PinNamespaces({.dir = "/nonexistent/a", .hostname = "h"}).ok());
  EXPECT_FALSE(PinNamespaces({.dir = "/nonexistent/a", .uts = true, .hostname = std::string(65, 'h')}).ok());
  EXPECT_FALSE(PinNamespaces({.dir = "/nonexistent/a", .uts = true, .hostname = "a b"}).ok());
  EXPECT_FALSE(PinNamespaces({.dir = "/nonexistent/a", .uid_mappings = {{0, 100000, 65536}}}).ok());
  EXPECT_FALSE(PinNamespaces({.dir = "/nonexistent/a",
                              .uid_mappings = {{0, 4294967295u, 65536}},
                              .gid_mappings = {{0, 100000, 65536}}})
                   .ok());
  EXPECT_TRUE(UnpinNamespaces("/nonexistent/a").ok());
}

TEST(Namespaces, NetDev) {
  absl::StatusOr<std::vector<InterfaceCounters>> got = ParseNetDev(
      "Inter-|   Receive                                                |  Transmit\n"
      " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo "
      "colls "
      "carrier compressed\n"
      "    lo:     100       1    0    0    0     0          0         0      100       1    0    0    0     "
      "0       "
      "0          0\n"
      "  eth0:18446744073709551615  12    3    4    0     0          0         0      500       6    7    8  "
      "  0     "
      "0       0          0\n");
  ASSERT_TRUE(got.ok()) << got.status();
  ASSERT_EQ(got->size(), 1u);
  const InterfaceCounters& c = got->front();
  EXPECT_EQ(c.name, "eth0");
  EXPECT_EQ(c.rx_bytes, UINT64_MAX);
  EXPECT_EQ(c.rx_packets, 12u);
  EXPECT_EQ(c.rx_errors, 3u);
  EXPECT_EQ(c.rx_dropped, 4u);
  EXPECT_EQ(c.tx_bytes, 500u);
  EXPECT_EQ(c.tx_packets, 6u);
  EXPECT_EQ(c.tx_errors, 7u);
  EXPECT_EQ(c.tx_dropped, 8u);
  EXPECT_FALSE(ParseNetDev("").ok());
  EXPECT_FALSE(ParseNetDev("a\nbytes\neth0: 1 2 3\n").ok());
  EXPECT_FALSE(ParseNetDev("a\nbytes\neth0: 1 2 3 4 5 6 7 8 x 10 11 12\n").ok());
}

}  // namespace
}  // namespace keelson::cri
