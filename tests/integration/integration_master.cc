// integration_master DIR PORT: API server and controllers on DIR/store.db, TLS on 127.0.0.1:PORT (0: any)
// with DIR/{ca.crt,server.crt,server.key}. Writes its port to DIR/port once requests are answered. Lives
// until killed.
#include <stdlib.h>

#include <cstdio>

#include "base/env.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"
#include "master/apiserver/api_server.h"
#include "master/controllers/controller_manager.h"
#include "master/store/sqlite_store.h"
#include "net/http_server.h"
#include "net/tls.h"

namespace keelson {
namespace {

Task<absl::Status> Serve(Env* env, std::string dir, uint16_t port) {
  constexpr size_t kMaxPemBytes = 1 << 20;
  net::TlsServerConfig config;
  config.client_certificates = net::ClientCertificates::kOptional;
  CO_ASSIGN_OR_RETURN_SYNC(config.certificate_pem, ReadFile(dir + "/server.crt", kMaxPemBytes));
  CO_ASSIGN_OR_RETURN_SYNC(config.private_key_pem, ReadFile(dir + "/server.key", kMaxPemBytes));
  CO_ASSIGN_OR_RETURN_SYNC(config.client_ca_pem, ReadFile(dir + "/ca.crt", kMaxPemBytes));
  CO_ASSIGN_OR_RETURN_SYNC(auto tls, net::TlsServerContext::Create(config));
  CO_ASSIGN_OR_RETURN_SYNC(auto store, master::OpenSqliteStore(*env, dir + "/store.db"));
  CO_ASSIGN_OR_RETURN_SYNC(auto server, master::ApiServer::Create(*env, *store, master::ApiServerOptions()));
  Task<absl::Status> start = server->Start();
  absl::Status started = co_await std::move(start);
  if (!started.ok()) co_return started;
  net::HttpServer http(env->executor(), &env->clock(), &server->handler(), net::HttpServerOptions());
  net::HttpServer::TcpListen listen;
  listen.address = "127.0.0.1";
  listen.port = port;
  listen.tls = tls;
  CO_ASSIGN_OR_RETURN_SYNC(uint16_t bound, http.ListenTcp(listen));
  std::unique_ptr<client::ApiClient> client = server->NewClient("system:kube-controller-manager");
  master::ControllerManager controllers(*env, *client, master::ControllerManagerOptions());
  Task<absl::Status> manage = controllers.Start();
  absl::Status managed = co_await std::move(manage);
  if (!managed.ok()) co_return managed;
  CO_RETURN_IF_ERROR_SYNC(WriteFileAtomic(dir + "/port", StrCat(bound)));
  while (true) {
    Task<void> sleep = env->clock().Sleep(absl::Hours(1));
    co_await std::move(sleep);
  }
}

}  // namespace
}  // namespace keelson

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  keelson::LogOptions log;
  log.level = keelson::LogLevel::kWarning;
  keelson::InitLog(log);
  keelson::RealEnv env{keelson::Paths()};
  absl::Status status =
      env.RunUntilDone(keelson::Serve(&env, argv[1], static_cast<uint16_t>(::strtoul(argv[2], nullptr, 10))));
  fprintf(stderr, "integration_master: %s\n", status.ToString().c_str());
  return 1;
}
