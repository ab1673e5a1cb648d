// Helpers of net/'s tests: a peer driven by hand over a socketpair, and a PKI.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <string_view>

#include "base/fake_env.h"
#include "base/fd.h"
#include "net/pki.h"
#include "net/tls.h"

namespace keelson::net {

// The far end of a connection served on a FakeEnv; nothing blocks.
class Peer {
 public:
  Peer(FakeEnv* env, Fd fd) : env_(env), fd_(std::move(fd)) { ::fcntl(fd_.get(), F_SETFL, O_NONBLOCK); }

  void Send(std::string_view bytes) {
    while (!bytes.empty()) {
      ssize_t n = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n > 0) bytes.remove_prefix(static_cast<size_t>(n));
      env_->Settle();
      if (n < 0 && errno != EAGAIN) return;
    }
  }
  // What has arrived so far.
  std::string Receive() {
    std::string out;
    char buffer[65536];
    while (true) {
      env_->Settle();
      ssize_t n = ::recv(fd_.get(), buffer, sizeof buffer, 0);
      if (n > 0) {
        out.append(buffer, static_cast<size_t>(n));
        continue;
      }
      eof_ = eof_ || n == 0 || (n < 0 && errno == ECONNRESET);
      return out;
    }
  }
  std::string Ask(std::string_view bytes) {
    Send(bytes);
    return Receive();
  }
  // True once the server has closed (after a Receive).
  bool eof() {
    Receive();
    return eof_;
  }
  void Close() {
    fd_.reset();
    env_->Settle();
  }
  void HalfClose() {
    ::shutdown(fd_.get(), SHUT_WR);
    env_->Settle();
  }
  int fd() const { return fd_.get(); }

 private:
  FakeEnv* env_;
  Fd fd_;
  bool eof_ = false;
};

inline std::pair<Fd, Fd> SocketPair() {
  int fds[2];
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
  return {Fd(fds[0]), Fd(fds[1])};
}

class TempDir {
 public:
  TempDir() {
    char name[] = "/tmp/keelson-net-test.XXXXXX";
    path_ = ::mkdtemp(name);
  }
  ~TempDir() { EXPECT_TRUE(RemoveTree(path_).ok()); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

struct TestPki {
  explicit TestPki(absl::Time now = absl::Now())
      : ca(*CertificateAuthority::Create("test-ca", now)),
        other_ca(*CertificateAuthority::Create("other-ca", now)) {
    CertificateSpec server_spec;
    server_spec.common_name = "server";
    server_spec.dns_names = {"localhost", "kubernetes.default"};
    server_spec.ip_addresses = {"127.0.0.1", "::1"};
    server_spec.server = true;
    server = *ca.Issue(server_spec, now);
    CertificateSpec client_spec;
    client_spec.common_name = "alice";
    client_spec.organizations = {"system:masters", "dev"};
    client_spec.client = true;
    client = *ca.Issue(client_spec, now);
    stranger = *other_ca.Issue(client_spec, now);
  }
  std::shared_ptr<TlsServerContext> Server(ClientCertificates mode = ClientCertificates::kNone) const {
    TlsServerConfig config;
    config.certificate_pem = server.certificate_pem;
    config.private_key_pem = server.private_key_pem;
    config.client_ca_pem = ca.certificate_pem();
    config.client_certificates = mode;
    return *TlsServerContext::Create(config);
  }
  std::shared_ptr<TlsClientContext> Client(const KeyPair* pair = nullptr) const {
    TlsClientConfig config;
    config.ca_pem = ca.certificate_pem();
    if (pair != nullptr) {
      config.certificate_pem = pair->certificate_pem;
      config.private_key_pem = pair->private_key_pem;
    }
    return *TlsClientContext::Create(config);
  }
  CertificateAuthority ca, other_ca;
  KeyPair server, client, stranger;
};

}  // namespace keelson::net
