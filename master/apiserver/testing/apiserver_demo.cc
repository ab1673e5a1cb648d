// apiserver_demo DIR PORT: the API server alone over TLS on 127.0.0.1, on a memory store,
// with a fresh authority; writes DIR/kubeconfig for an administrator. For trying kubectl by hand.
#include <absl/strings/numbers.h>

#include <cstdio>

#include "base/fd.h"
#include "base/status.h"
#include "base/strings.h"
#include "master/apiserver/api_server.h"
#include "master/store/memory_store.h"
#include "net/http_server.h"
#include "net/pki.h"
#include "net/tls.h"

namespace keelson::master {
namespace {

absl::Status WriteKubeconfig(const std::string& dir, int port, const net::CertificateAuthority& ca,
                             const char* user, std::vector<std::string> groups, absl::Time now) {
  net::CertificateSpec spec;
  spec.common_name = user;
  spec.organizations = std::move(groups);
  spec.client = true;
  ASSIGN_OR_RETURN(net::KeyPair pair, ca.Issue(spec, now));
  std::string name = user;
  for (char& c : name) c = c == ':' ? '-' : c;
  RETURN_IF_ERROR(WriteFileAtomic(StrCat(dir, "/", name, ".crt"), pair.certificate_pem));
  RETURN_IF_ERROR(WriteFileAtomic(StrCat(dir, "/", name, ".key"), pair.private_key_pem, 0600));
  return WriteFileAtomic(StrCat(dir, "/", name, ".kubeconfig"),
                         StrCat("apiVersion: v1\nkind: Config\ncurrent-context: demo\nclusters:\n- name: "
                                "demo\n  cluster:\n    server: https://127.0.0.1:",
                                port, "\n    certificate-authority: ", dir,
                                "/ca.crt\ncontexts:\n- name: demo\n  context: {cluster: demo, user: demo}\n",
                                "users:\n- name: demo\n  user:\n    client-certificate: ", dir, "/", name,
                                ".crt\n    client-key: ", dir, "/", name, ".key\n"));
}

Task<absl::Status> Serve(Env& env, std::string dir, int port, Store& store) {
  absl::Time now = env.clock().Now();
  absl::StatusOr<net::CertificateAuthority> ca = net::CertificateAuthority::Create("demo", now);
  if (!ca.ok()) co_return ca.status();
  net::CertificateSpec spec;
  spec.common_name = "demo";
  spec.ip_addresses = {"127.0.0.1"};
  spec.dns_names = {"localhost"};
  spec.server = true;
  absl::StatusOr<net::KeyPair> pair = ca->Issue(spec, now);
  if (!pair.ok()) co_return pair.status();
  absl::Status status = WriteFileAtomic(dir + "/ca.crt", ca->certificate_pem());
  if (status.ok()) status = WriteKubeconfig(dir, port, *ca, "admin", {"system:masters"}, now);
  if (status.ok()) status = WriteKubeconfig(dir, port, *ca, "system:node:n1", {"system:nodes"}, now);
  if (!status.ok()) co_return status;
  net::TlsServerConfig config;
  config.certificate_pem = pair->certificate_pem;
  config.private_key_pem = pair->private_key_pem;
  config.client_ca_pem = ca->certificate_pem();
  config.client_certificates = net::ClientCertificates::kOptional;
  auto tls = net::TlsServerContext::Create(config);
  if (!tls.ok()) co_return tls.status();

  ApiServerOptions options;
  options.advertise_address = "127.0.0.1";
  options.advertise_port = static_cast<uint16_t>(port);
  auto server = ApiServer::Create(env, store, options);
  if (!server.ok()) co_return server.status();
  Task<absl::Status> start = (*server)->Start();
  status = co_await std::move(start);
  if (!status.ok()) co_return status;
  net::HttpServer http(env.executor(), &env.clock(), &(*server)->handler(), net::HttpServerOptions());
  net::HttpServer::TcpListen listen;
  listen.address = "127.0.0.1";
  listen.port = static_cast<uint16_t>(port);
  listen.tls = *tls;
  absl::StatusOr<uint16_t> bound = http.ListenTcp(listen);
  if (!bound.ok()) co_return bound.status();
  std::printf("serving on 127.0.0.1:%d\n", *bound);
  std::fflush(stdout);
  for (;;) {
    Task<void> sleep = env.clock().Sleep(absl::Hours(1));
    co_await std::move(sleep);
  }
}

int Main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: apiserver_demo DIR PORT\n");
    return 2;
  }
  int port = 0;
  if (!absl::SimpleAtoi(argv[2], &port)) return 2;
  RealEnv env{Paths()};
  MemoryStore store(env);
  absl::Status status = env.RunUntilDone(Serve(env, argv[1], port, store));
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  return 1;
}

}  // namespace
}  // namespace keelson::master

int main(int argc, char** argv) { return keelson::master::Main(argc, argv); }
