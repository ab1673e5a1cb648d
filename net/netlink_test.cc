#include "net/netlink.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

namespace keelson::net {
namespace {

InterfaceAddress Address(int index, const char* link, const char* cidr) {
  return {index, link, *Cidr::Parse(cidr)};
}

TEST(ChooseNodeAddressTest, FollowsTheDefaultRoute) {
  std::vector<Link> links = {
      {1, "lo", true, true, 65536}, {2, "eth0", true, false, 1500}, {3, "eth1", true, false, 1500}};
  std::vector<InterfaceAddress> addresses = {
      Address(1, "lo", "127.0.0.1/8"), Address(2, "eth0", "10.0.0.5/24"),
      Address(3, "eth1", "192.168.1.5/24"), Address(3, "eth1", "fe80::1/64"),
      Address(3, "eth1", "2001:db8::5/64")};
  Route cheap, dear;
  cheap.gateway = *IpAddress::Parse("192.168.1.1");
  cheap.link_name = "eth1";
  cheap.metric = 10;
  dear.gateway = *IpAddress::Parse("10.0.0.1");
  dear.link_name = "eth0";
  dear.metric = 100;
  EXPECT_EQ(ChooseNodeAddress(links, addresses, {dear, cheap})->ToString(), "192.168.1.5");
  EXPECT_EQ(ChooseNodeAddress(links, addresses, {dear})->ToString(), "10.0.0.5");
  EXPECT_EQ(ChooseNodeAddress(links, addresses, {})->ToString(), "10.0.0.5");
  EXPECT_EQ(ChooseNodeAddress(links, addresses, {}, true)->ToString(), "2001:db8::5");
  cheap.preferred_source = *IpAddress::Parse("192.168.1.77");
  EXPECT_EQ(ChooseNodeAddress(links, addresses, {cheap})->ToString(), "192.168.1.77");
  EXPECT_TRUE(absl::IsNotFound(ChooseNodeAddress(links, {addresses[0]}, {}).status()));
}

TEST(NetlinkTest, SeesLoopback) {
  Netlink netlink = *Netlink::Open();
  auto links = netlink.ListLinks();
  ASSERT_TRUE(links.ok()) << links.status();
  EXPECT_TRUE(
      std::any_of(links->begin(), links->end(), [](const Link& l) { return l.name == "lo" && l.loopback; }));
  EXPECT_TRUE(netlink.ListAddresses().ok());
  EXPECT_TRUE(netlink.ListRoutes().ok());
  EXPECT_TRUE(absl::IsNotFound(netlink.SetLinkUp("no-such-link")));
}

// In a child with a network namespace of its own; the exit code says which step failed.
int ChangeThings() {
  if (::unshare(CLONE_NEWNET) != 0) return 77;
  auto netlink = Netlink::Open();
  if (!netlink.ok()) return 1;
  if (!netlink->SetLinkUp("lo").ok()) return 2;
  Cidr address = *Cidr::Parse("10.96.0.10/32");
  if (!netlink->AddAddress("lo", address).ok()) return 3;
  if (!netlink->AddAddress("lo", address).ok()) return 4;  // again
  auto has = [&](const Cidr& wanted) {
    auto list = netlink->ListAddresses();
    return list.ok() && std::any_of(list->begin(), list->end(), [&](const InterfaceAddress& a) {
             return a.cidr == wanted && a.link_name == "lo";
           });
  };
  if (!has(address)) return 5;
  Cidr v6 = *Cidr::Parse("fd00::10/128");
  absl::Status added_v6 = netlink->AddAddress("lo", v6);
  if (added_v6.ok() && !has(v6)) return 6;
  Route route;
  route.destination = *Cidr::Parse("10.200.0.0/16");
  route.link_name = "lo";
  if (!netlink->AddRoute(route).ok() || !netlink->AddRoute(route).ok()) return 7;
  auto routes = netlink->ListRoutes();
  if (!routes.ok()) return 8;
  if (std::none_of(routes->begin(), routes->end(),
                   [&](const Route& r) { return r.destination == route.destination; }))
    return 9;
  if (!netlink->DeleteRoute(route).ok() || !netlink->DeleteRoute(route).ok()) return 10;
  if (!netlink->DeleteAddress("lo", address).ok()) return 11;
  if (!netlink->DeleteAddress("lo", address).ok()) return 12;
  if (has(address)) return 13;
  return 0;
}

TEST(NetlinkTest, AddsAndDeletesInItsOwnNamespace) {
  pid_t pid = ::fork();
  if (pid == 0) ::_exit(ChangeThings());
  int status = 0;
  ASSERT_EQ(::waitpid(pid, &status, 0), pid);
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == 77) GTEST_SKIP() << "needs CAP_SYS_ADMIN for a network namespace";
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace keelson::net
