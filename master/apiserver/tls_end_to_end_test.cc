// The API server behind a real TLS socket, spoken to by the project's own HTTP client in protobuf.
#include <gtest/gtest.h>

#include "api/core/v1/config.pb.h"
#include "api/status_error.h"
#include "base/strings.h"
#include "client/http_api_client.h"
#include "master/apiserver/api_server.h"
#include "master/store/memory_store.h"
#include "net/pki.h"

namespace keelson::master {
namespace {

using ::k8s::core::v1::ConfigMap;

struct Pki {
  net::KeyPair server, client;
  std::string ca_pem;
};

Pki MakePki(absl::Time now) {
  auto ca = *net::CertificateAuthority::Create("test", now);
  net::CertificateSpec server;
  server.common_name = "apiserver";
  server.ip_addresses = {"127.0.0.1"};
  server.server = true;
  net::CertificateSpec client;
  client.common_name = "admin";
  client.organizations = {"system:masters"};
  client.client = true;
  return {*ca.Issue(server, now), *ca.Issue(client, now), ca.certificate_pem()};
}

client::KubeConfig ConfigFor(const Pki& pki, uint16_t port, bool with_certificate);

Task<absl::Status> Talk(client::ApiClient* admin, client::ApiClient* nobody) {
  ConfigMap cm;
  cm.mutable_metadata()->set_name("c");
  cm.mutable_metadata()->set_namespace_("default");
  (*cm.mutable_data())["k"] = "1";
  Task<absl::StatusOr<std::shared_ptr<const ConfigMap>>> create = admin->Create<ConfigMap>(cm);
  absl::StatusOr<std::shared_ptr<const ConfigMap>> created = co_await std::move(create);
  if (!created.ok()) co_return created.status();

  Task<absl::StatusOr<client::ObjectList>> list_task =
      admin->List({"", "v1", "configmaps"}, "", client::ListOptions());
  absl::StatusOr<client::ObjectList> list = co_await std::move(list_task);
  if (!list.ok()) co_return list.status();
  EXPECT_EQ(list->items.size(), 1u);

  client::WatchOptions options;
  options.resource_version = list->resource_version;
  Task<absl::StatusOr<std::unique_ptr<client::Watcher>>> watch_task =
      admin->Watch({"", "v1", "configmaps"}, "", options);
  absl::StatusOr<std::unique_ptr<client::Watcher>> watcher = co_await std::move(watch_task);
  if (!watcher.ok()) co_return watcher.status();
  Task<absl::StatusOr<std::shared_ptr<const ConfigMap>>> patch =
      admin->Patch<ConfigMap>("default", "c", client::PatchType::kMerge, R"({"data":{"k":"2"}})");
  absl::StatusOr<std::shared_ptr<const ConfigMap>> patched = co_await std::move(patch);
  if (!patched.ok()) co_return patched.status();
  Task<absl::StatusOr<std::optional<client::WatchEvent>>> next = (*watcher)->Next();
  absl::StatusOr<std::optional<client::WatchEvent>> event = co_await std::move(next);
  if (!event.ok()) co_return event.status();
  if (!event->has_value()) co_return absl::InternalError("the watch ended");
  EXPECT_EQ((*event)->type, client::WatchEventType::kModified);
  auto seen = api::As<ConfigMap>((*event)->object);
  EXPECT_EQ(seen == nullptr ? "" : seen->data().at("k"), "2");
  watcher->reset();

  Task<absl::Status> remove = admin->Delete<ConfigMap>("default", "c");
  absl::Status removed = co_await std::move(remove);
  if (!removed.ok()) co_return removed;
  Task<absl::StatusOr<std::shared_ptr<const ConfigMap>>> get = admin->Get<ConfigMap>("default", "c");
  absl::StatusOr<std::shared_ptr<const ConfigMap>> gone = co_await std::move(get);
  EXPECT_TRUE(api::IsNotFound(gone.status())) << gone.status();

  Task<absl::StatusOr<std::shared_ptr<const ConfigMap>>> anonymous = nobody->Get<ConfigMap>("default", "c");
  absl::StatusOr<std::shared_ptr<const ConfigMap>> refused = co_await std::move(anonymous);
  EXPECT_TRUE(api::IsUnauthorized(refused.status())) << refused.status();
  co_return absl::OkStatus();
}

Task<absl::Status> Scenario(RealEnv* env) {
  MemoryStore store(*env);
  Pki pki = MakePki(env->clock().Now());
  net::TlsServerConfig config;
  config.certificate_pem = pki.server.certificate_pem;
  config.private_key_pem = pki.server.private_key_pem;
  config.client_ca_pem = pki.ca_pem;
  config.client_certificates = net::ClientCertificates::kOptional;
  auto tls = net::TlsServerContext::Create(config);
  if (!tls.ok()) co_return tls.status();
  auto server = ApiServer::Create(*env, store, ApiServerOptions());
  if (!server.ok()) co_return server.status();
  Task<absl::Status> start = (*server)->Start();
  absl::Status status = co_await std::move(start);
  if (!status.ok()) co_return status;
  net::HttpServer http(env->executor(), &env->clock(), &(*server)->handler(), net::HttpServerOptions());
  net::HttpServer::TcpListen listen;
  listen.address = "127.0.0.1";
  listen.tls = *tls;
  absl::StatusOr<uint16_t> port = http.ListenTcp(listen);
  if (!port.ok()) co_return port.status();
  auto admin = client::NewHttpApiClient(*env, ConfigFor(pki, *port, true));
  auto nobody = client::NewHttpApiClient(*env, ConfigFor(pki, *port, false));
  if (!admin.ok()) co_return admin.status();
  if (!nobody.ok()) co_return nobody.status();
  Task<absl::Status> talk = Talk(admin->get(), nobody->get());
  status = co_await std::move(talk);
  Task<void> close = http.Close();
  co_await std::move(close);
  Task<void> stop = (*server)->Stop();
  co_await std::move(stop);
  Task<void> close_store = store.Close();
  co_await std::move(close_store);
  co_return status;
}

TEST(TlsEndToEnd, ProtobufClient) {
  RealEnv env{Paths()};
  absl::Status status = env.RunUntilDone(Scenario(&env));
  EXPECT_TRUE(status.ok()) << status;
}

client::KubeConfig ConfigFor(const Pki& pki, uint16_t port, bool with_certificate) {
  client::KubeConfig config;
  config.server = StrCat("https://127.0.0.1:", port);
  config.ca_pem = pki.ca_pem;
  if (with_certificate) {
    config.client_certificate_pem = pki.client.certificate_pem;
    config.client_key_pem = pki.client.private_key_pem;
  }
  return config;
}

}  // namespace
}  // namespace keelson::master
