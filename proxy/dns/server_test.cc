// Real sockets on loopback, the real loop: two servers, one asking the other.
#include "proxy/dns/server.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <cstdlib>

#include "base/fd.h"
#include "base/status.h"
#include "proxy/testing/builders.h"

namespace keelson::proxy::dns {
namespace {

std::string QueryFor(const std::string& name) {
  std::string wire("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00", 12);
  size_t from = 0;
  while (from < name.size()) {
    size_t dot = std::min(name.find('.', from), name.size());
    wire.push_back(static_cast<char>(dot - from));
    wire += name.substr(from, dot - from);
    from = dot + 1;
  }
  return wire + std::string("\0\0\1\0\1", 5);
}

// Blocking client; "" on timeout. Runs in the pool.
std::string Ask(const std::string& query, const char* server, uint16_t port, bool is_tcp,
                const char* from = nullptr) {
  Fd fd(socket(AF_INET, (is_tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC, 0));
  timeval timeout{.tv_sec = 5};
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
  sockaddr_in to{.sin_family = AF_INET, .sin_port = htons(port)};
  inet_pton(AF_INET, server, &to.sin_addr);
  if (from != nullptr) {
    sockaddr_in source{.sin_family = AF_INET};
    inet_pton(AF_INET, from, &source.sin_addr);
    if (bind(fd.get(), reinterpret_cast<sockaddr*>(&source), sizeof(source)) != 0) return "";
  }
  if (connect(fd.get(), reinterpret_cast<sockaddr*>(&to), sizeof(to)) != 0) return "";
  std::string out = query;
  if (is_tcp)
    out = std::string{static_cast<char>(query.size() >> 8), static_cast<char>(query.size())} + query;
  if (!WriteAll(fd.get(), out).ok()) return "";
  std::string buffer(65536, '\0');
  size_t got = 0, want = 1;
  while (got < want) {
    ssize_t n = recv(fd.get(), buffer.data() + got, buffer.size() - got, 0);
    if (n <= 0) return "";
    got += static_cast<size_t>(n);
    if (!is_tcp) break;
    want = got < 2 ? 2 : 2 + (static_cast<uint8_t>(buffer[0]) << 8 | static_cast<uint8_t>(buffer[1]));
  }
  return buffer.substr(is_tcp ? 2 : 0, got - (is_tcp ? 2 : 0));
}

int Rcode(const std::string& wire) { return wire.size() < 12 ? -1 : wire[3] & 0xf; }
int Answers(const std::string& wire) { return wire.size() < 12 ? -1 : static_cast<uint8_t>(wire[7]); }

std::shared_ptr<const DnsRecords> RecordsOf(const std::string& domain, const std::string& name,
                                            const std::string& ip) {
  ServiceInfos services = {Service("default", name, ip, {{"", Protocol::kTcp, 80}})};
  ServiceInfo external{.ns = "default", .name = "outside", .external_name = "far.default.svc.upstream.test"};
  services["default/outside"] = external;
  DnsOptions options;
  options.domain = domain;
  return std::make_shared<const DnsRecords>(BuildDnsRecords(services, {}, options, 1));
}

class DnsServerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char path[] = "/tmp/keelson-resolv-XXXXXX";
    close(mkstemp(path));
    resolv_conf_ = path;
    ASSERT_TRUE(
        WriteFileAtomic(resolv_conf_, "nameserver 127.0.0.2\nnameserver 127.0.0.1\n", 0644, false).ok());
    DnsServerOptions upstream;
    upstream.listen = *net::IpAddress::Parse("127.0.0.1");
    upstream.port = 0;
    upstream.resolv_conf = "/nonexistent";
    upstream_ = std::make_unique<DnsServer>(env_, upstream);
    ASSERT_TRUE(upstream_->Start().ok());
    upstream_->SetRecords(RecordsOf("upstream.test", "far", "192.0.2.9"));

    DnsServerOptions ours;
    ours.listen = *net::IpAddress::Parse("127.0.0.2");
    ours.port = 0;
    ours.resolv_conf = resolv_conf_;
    ours.upstream_port = upstream_->port();
    ours.allow = {*net::Cidr::Parse("127.0.0.0/8")};
    ours_ = std::make_unique<DnsServer>(env_, ours);
    ASSERT_TRUE(ours_->Start().ok());
  }
  void TearDown() override {
    if (ours_ == nullptr) return;  // SetUp() said why
    ASSERT_TRUE(env_.RunUntilDone(StopAll()).ok());
    unlink(resolv_conf_.c_str());
  }
  Task<absl::Status> StopAll() {
    Task<void> a = ours_->Stop();
    co_await std::move(a);
    Task<void> b = upstream_->Stop();
    co_await std::move(b);
    co_return absl::OkStatus();
  }
  Task<absl::Status> AskTask(std::string name, bool is_tcp, std::string* out) {
    uint16_t port = ours_->port();
    absl::AnyInvocable<std::string()> work = [=] { return Ask(QueryFor(name), "127.0.0.2", port, is_tcp); };
    Task<std::string> ask = env_.Blocking<std::string>(std::move(work));
    *out = co_await std::move(ask);
    co_return absl::OkStatus();
  }
  std::string AskOurs(const std::string& name, bool is_tcp) {
    std::string out;
    EXPECT_TRUE(env_.RunUntilDone(AskTask(name, is_tcp, &out)).ok());
    return out;
  }

  static Task<absl::Status> StopOne(DnsServer* server) {
    Task<void> stop = server->Stop();
    co_await std::move(stop);
    co_return absl::OkStatus();
  }
  Task<absl::Status> AskStranger(uint16_t port, std::string* out) {
    // TCP, because the closed connection says at once that nothing will come.
    absl::AnyInvocable<std::string()> work = [=] {
      return Ask(QueryFor("web.default.svc.cluster.local"), "127.0.0.3", port, true, "127.0.0.9");
    };
    Task<std::string> ask = env_.Blocking<std::string>(std::move(work));
    *out = co_await std::move(ask);
    co_return absl::OkStatus();
  }
  std::string AskAsStranger(uint16_t port) {
    std::string out = "unset";
    EXPECT_TRUE(env_.RunUntilDone(AskStranger(port, &out)).ok());
    return out;
  }

  RealEnv env_{Paths{}};
  std::unique_ptr<DnsServer> upstream_, ours_;
  std::string resolv_conf_;
};

TEST_F(DnsServerTest, AnswersForwardsAndChasesOverUdpAndTcp) {
  EXPECT_EQ(Rcode(AskOurs("web.default.svc.cluster.local", false)), 2);  // no records yet
  ours_->SetRecords(RecordsOf("cluster.local", "web", "10.96.0.7"));
  for (bool is_tcp : {false, true}) {
    std::string answer = AskOurs("web.default.svc.cluster.local", is_tcp);
    EXPECT_EQ(Rcode(answer), 0);
    EXPECT_EQ(Answers(answer), 1);
    EXPECT_EQ(answer.substr(0, 2), "\x12\x34");
    EXPECT_EQ(Rcode(AskOurs("no.default.svc.cluster.local", is_tcp)), 3);
    // 127.0.0.2 in the resolv.conf is ourselves and is skipped.
    answer = AskOurs("far.default.svc.upstream.test", is_tcp);
    EXPECT_EQ(Rcode(answer), 0);
    EXPECT_EQ(Answers(answer), 1);
    EXPECT_EQ(answer.substr(0, 2), "\x12\x34");
    EXPECT_EQ(answer.substr(answer.size() - 4), std::string("\xc0\x00\x02\x09", 4));
    answer = AskOurs("outside.default.svc.cluster.local", is_tcp);
    EXPECT_EQ(Answers(answer), 2);
    // Nobody knows it: the upstream has no upstream of its own.
    EXPECT_EQ(Rcode(AskOurs("www.example.com", is_tcp)), 2);
  }
  EXPECT_EQ(ours_->stats().forwarded, 6u);
}

TEST_F(DnsServerTest, WhatWasAskedBeforeIsNotAskedAgain) {
  ours_->SetRecords(RecordsOf("cluster.local", "web", "10.96.0.7"));
  std::string first = AskOurs("far.default.svc.upstream.test", false);
  std::string again = AskOurs("FAR.default.svc.upstream.test", false);
  EXPECT_EQ(Answers(again), 1);
  EXPECT_EQ(again.substr(again.size() - 4), first.substr(first.size() - 4));
  EXPECT_NE(again.find("FAR"), std::string::npos);  // as it was asked
  // A denial is kept too; a failure is not.
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(Rcode(AskOurs("no.default.svc.upstream.test", false)), 3);
    EXPECT_EQ(Rcode(AskOurs("www.example.com", false)), 2);
  }
  EXPECT_EQ(upstream_->stats().queries, 1 + 1 + 2u);
  EXPECT_EQ(ours_->stats().from_cache, 2u);
}

TEST_F(DnsServerTest, PortInUseIsNamed) {
  DnsServerOptions again;
  again.listen = *net::IpAddress::Parse("127.0.0.2");
  again.port = ours_->port();
  DnsServer second(env_, again);
  EXPECT_EQ(second.Start().code(), absl::StatusCode::kAlreadyExists);
  again.listen = *net::IpAddress::Parse("192.0.2.77");
  DnsServer nowhere(env_, again);
  EXPECT_EQ(nowhere.Start().code(), absl::StatusCode::kNotFound);
}

// Clients outside `allow` are dropped unread.
TEST_F(DnsServerTest, StrangersGetNothing) {
  DnsServerOptions closed;
  closed.listen = *net::IpAddress::Parse("127.0.0.3");
  closed.port = 0;
  DnsServer server(env_, closed);
  ASSERT_TRUE(server.Start().ok());
  server.SetRecords(RecordsOf("cluster.local", "web", "10.96.0.7"));
  EXPECT_EQ(AskAsStranger(server.port()), "");
  EXPECT_EQ(server.stats().dropped, 1u);
  ASSERT_TRUE(env_.RunUntilDone(StopOne(&server)).ok());
}

}  // namespace
}  // namespace keelson::proxy::dns
